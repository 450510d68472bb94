//! `DATA/keys/nats.toml`: what other programs on this machine need to reach the nats-server of `spool up`.
//!
//! It is a configuration, so that Spool's own commands take it: `spool streams check --config DATA/keys/nats.toml`. A
//! program that hands in videos by message finds the address and the password of the user `ingest` there. The passwords
//! stay over restarts; the address does if the setting `nats.port` says so. Only the owner of the directory can read it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
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

    /// The passwords of the last start; none only where there is no file. Whoever has one of them would lose it with a
    /// new set, so a file that can't be read or understood ends the start.
    pub(super) fn passwords(&self) -> Result<BTreeMap<String, String>, Failure> {
        let about = |error: Box<dyn Error + Send + Sync>| {
            let file = self.0.display();
            let sentence =
                format!("read the passwords in {file}; mend it, or remove it and every password is made anew");
            Failure::from_error(Exit::Config, sentence, error)
        };
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(about(error.into())),
        };
        let written: Written = toml::from_str(&text).map_err(|error| about(error.into()))?;
        Ok(written.nats.passwords)
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
            && error.kind() != ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&half_made)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(half_made, &self.0)?;
        // The name is kept by the directory: without this a power cut may bring the old passwords back, or none.
        File::open(directory)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_made_anew_only_where_there_is_no_file() {
        let data = tempfile::tempdir().expect("a directory");
        let keys = Keys::of(data.path());
        assert_eq!(keys.passwords().expect("none yet"), BTreeMap::new());
        keys.replace("[nats]\nurl = \"x\"\n[nats.passwords]\ningest = \"p\"\n").expect("written");
        assert_eq!(keys.passwords().expect("those of the last start")["ingest"], "p");
        keys.replace("[nats.passwords\n").expect("written");
        let damaged = keys.passwords().expect_err("no configuration");
        assert_eq!(damaged.exit, Exit::Config);
        assert!(damaged.sentence.contains("keys/nats.toml; mend it"), "{}", damaged.sentence);
        // What can't be read at all: a directory, since rights do not stop a test that runs as root.
        fs::remove_file(&keys.0).expect("removed");
        fs::create_dir(&keys.0).expect("a directory in its place");
        assert_eq!(keys.passwords().expect_err("can't be read").exit, Exit::Config);
    }
}
