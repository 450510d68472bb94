//! `DATA/keys/nats.toml`: what other programs on this machine need to reach the nats-server of `spool up`.
//!
//! It is a configuration, so that Spool's own commands take it: `spool streams check --config DATA/keys/nats.toml`. A
//! program that hands in videos by message finds the address and the password of the user `ingest` there. The passwords
//! stay over restarts; the address does if the setting `nats.port` says so. Only the owner of the directory can read it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use spool_nats::server::Server;

use crate::exit::{Exit, Failure};

const HEAD: &str = "# Written by `spool up` at each start: its nats-server, for programs on this machine.\n\
                    # A password is kept over restarts; delete its line and the next start makes another.\n";

/// The file.
#[derive(Debug)]
pub(super) struct Keys(PathBuf);

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Written {
    nats: Nats,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Nats {
    passwords: BTreeMap<String, String>,
}

impl Keys {
    /// Those of a data directory.
    pub(super) fn of(data: &Path) -> Self {
        Self(data.join("keys/nats.toml"))
    }

    /// The passwords of the last start; none when there was none. A file that can't be understood is written anew.
    pub(super) fn passwords(&self) -> BTreeMap<String, String> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        toml::from_str::<Written>(&text)
            .unwrap_or_else(|error| {
                tracing::warn!(file = %self.0.display(), %error, "unreadable; every password is made anew");
                Written::default()
            })
            .nats
            .passwords
    }

    /// Writes what holds for this start.
    pub(super) fn write(&self, server: &Server) -> Result<(), Failure> {
        let mut text = format!("{HEAD}[nats]\nurl = \"{}\"\n\n[nats.passwords]\n", server.url());
        for (user, password) in server.passwords() {
            text.push_str(&format!("{user} = \"{password}\"\n"));
        }
        self.replace(&text)
            .map_err(|error| Failure::from_error(Exit::Config, format!("write {}", self.0.display()), error))
    }

    /// Whole or not at all, and never readable by others in between.
    fn replace(&self, text: &str) -> std::io::Result<()> {
        let directory = self.0.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let half_made = self.0.with_extension("part");
        // One that a crash left may have other rights.
        if let Err(error) = fs::remove_file(&half_made)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file: File = File::options().write(true).create_new(true).mode(0o600).open(&half_made)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(half_made, &self.0)
    }
}
