//! The configuration: one file, one struct a role, unknown keys refused, units in the text (`"10m"`, `"64MiB"`).
//!
//! Every key has a default, so that `spool up` needs no file. `spool.example.toml` beside this crate shows every key with
//! its default, and is a test. A variable `SPOOL__SECTION__KEY` overrides `section.key`; see [`env`].

mod env;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use spool_kit::store::{Secret, StoreConfig};
use spool_kit::units::Span;

use crate::exit::{Exit, Failure};

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Address of the HTTP listener.
    pub(crate) listen: SocketAddr,
    /// Directory of `spool up`: log, objects, view. In `spool run` the view and the plugin registry.
    pub(crate) data: PathBuf,
    /// How long what runs may go on after the first signal.
    pub(crate) grace: Span,
    /// Who has one of these may use the API. None: anyone on this machine, nobody from elsewhere.
    pub(crate) tokens: Vec<Secret>,
    /// The HTTP listener.
    pub(crate) http: Http,
    /// Logs.
    pub(crate) log: Logs,
    /// The log of facts.
    pub(crate) nats: Nats,
    /// The object store; `spool up` takes the directory `objects` under `data` when absent.
    pub(crate) store: Option<StoreConfig>,
    /// The doors and commands.
    pub(crate) gateway: spool_gateway::Config,
    /// What is owed next.
    pub(crate) planner: spool_planner::Config,
    /// Inspecting and encoding.
    #[cfg(feature = "transcoder")]
    pub(crate) transcoder: spool_transcoder::shell::Config,
    /// Inspecting and encoding: not in this build. Taken unseen, so that one file serves machines with and without it.
    #[cfg(not(feature = "transcoder"))]
    pub(crate) transcoder: toml::Table,
    /// When something becomes watchable.
    pub(crate) publisher: spool_publisher::Config,
    /// The view and the reads.
    pub(crate) projector: spool_projector::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7070)),
            data: PathBuf::from("spool-data"),
            grace: Span::secs(25),
            tokens: Vec::new(),
            http: Http::default(),
            log: Logs::default(),
            nats: Nats::default(),
            store: None,
            gateway: Default::default(),
            planner: Default::default(),
            transcoder: Default::default(),
            publisher: Default::default(),
            projector: Default::default(),
        }
    }
}

/// The HTTP listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Http {
    /// Connections at the same time; more wait to be taken.
    pub(crate) max_connections: usize,
    /// How long a client may take to send the headers of a request, the wait between two requests included.
    pub(crate) header_timeout: Span,
}

impl Default for Http {
    fn default() -> Self {
        Self { max_connections: 1024, header_timeout: Span::secs(60) }
    }
}

/// Logs, on standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Logs {
    /// What is logged: a level, or levels by target, `info,spool_gateway=debug`.
    pub(crate) filter: String,
    /// How.
    pub(crate) format: LogFormat,
}

impl Default for Logs {
    fn default() -> Self {
        Self { filter: "info,async_nats=warn".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The NATS that `spool run` and `spool streams` use. `spool up` starts its own, of which only `port` speaks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nats {
    /// `nats://host:4222`, or several with commas between.
    pub(crate) url: Option<String>,
    /// Replicas of every stream: 1, or 3 on a cluster.
    pub(crate) replicas: u8,
    /// Port on loopback of the nats-server that `spool up` starts; any free one when absent.
    pub(crate) port: Option<u16>,
    /// Passwords by user: the roles that run here, and `admin` for `spool streams`.
    pub(crate) passwords: BTreeMap<String, Secret>,
}

impl Default for Nats {
    fn default() -> Self {
        Self { url: None, replicas: 1, port: None, passwords: BTreeMap::new() }
    }
}

/// The configuration of `file`, or the defaults, with the overrides of this process's environment.
pub(crate) fn load(file: Option<&Path>) -> Result<Config, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::from_error(Exit::Config, format!("read the configuration {}", path.display()), error)
        })?,
        None => String::new(),
    };
    let name = file.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
    read(&name, &text, std::env::vars())
}

/// The configuration that `text` and the variables add up to. `name` is what complaints call the text.
fn read(name: &str, text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Config, Failure> {
    let refuse = |sentence: String, error: toml::de::Error| {
        let first_line = |text: &str| text.trim_end().to_owned();
        Failure::new(Exit::Config, format!("{sentence}\n{}", first_line(&error.to_string())))
    };
    // Alone first: its complaints name the line.
    let config: Config = toml::from_str(text).map_err(|error| refuse(format!("{name} can't be used:"), error))?;
    let overrides = env::overrides(variables);
    let config = if overrides.is_empty() {
        config
    } else {
        let names: Vec<&str> = overrides.iter().map(|o| o.variable.as_str()).collect();
        let complain = format!("{name} with {} of the environment can't be used:", names.join(", "));
        let mut table: toml::Table = toml::from_str(text).map_err(|error| refuse(complain.clone(), error))?;
        for one in overrides {
            env::put(&mut table, &one)?;
        }
        table.try_into().map_err(|error| refuse(complain, error))?
    };
    judge(&config).map_err(|sentence| Failure::new(Exit::Config, format!("{name} can't be used: {sentence}")))?;
    Ok(config)
}

/// What no type says.
fn judge(config: &Config) -> Result<(), String> {
    let known = |user: &String| {
        let others = [spool_nats::server::ADMIN, spool_nats::server::INGEST_USER];
        spool_proto::Role::ALL.iter().any(|role| role.name() == user) || others.contains(&user.as_str())
    };
    if let Some(user) = config.nats.passwords.keys().find(|user| !known(user)) {
        return Err(format!("nats.passwords.{user}: there is no such user; the users are the roles, admin and ingest"));
    }
    // What an unset variable of a compose file turns into. The server would take it for the password of everyone.
    if let Some((user, _)) = config.nats.passwords.iter().find(|(_, password)| password.0.is_empty()) {
        return Err(format!("nats.passwords.{user} is empty"));
    }
    if ![1, 3, 5].contains(&config.nats.replicas) {
        return Err(format!("nats.replicas is {}; it can be 1, 3 or 5", config.nats.replicas));
    }
    if config.tokens.iter().any(|token| token.0.len() < SHORTEST_TOKEN) {
        return Err(format!("tokens: a token has at least {SHORTEST_TOKEN} characters"));
    }
    if config.http.max_connections == 0 {
        return Err("http.max_connections is 0, so nobody could connect".to_owned());
    }
    config.gateway.judge()?;
    #[cfg(feature = "transcoder")]
    config.transcoder.judge()?;
    config.projector.judge()
}

/// A token shorter than this can be guessed.
const SHORTEST_TOKEN: usize = 16;

impl Config {
    /// May this process listen at `address`? Without tokens only this machine may connect.
    pub(crate) fn may_listen(&self, address: SocketAddr) -> Result<(), Failure> {
        if address.ip().is_loopback() || !self.tokens.is_empty() {
            return Ok(());
        }
        let sentence = format!(
            "{address} can be reached from other machines, and the setting `tokens` is missing; \
             set it (in the file, or SPOOL__TOKENS='[\"…\"]'), or listen on 127.0.0.1"
        );
        Err(Failure::new(Exit::Config, sentence))
    }

    /// The password of a NATS user.
    pub(crate) fn password(&self, user: &str) -> Result<&str, Failure> {
        let missing = || {
            let variable = format!("SPOOL__NATS__PASSWORDS__{}", user.to_uppercase());
            Failure::new(Exit::Config, format!("the setting nats.passwords.{user} is missing (or {variable})"))
        };
        self.nats.passwords.get(user).map(|secret| secret.0.as_str()).ok_or_else(missing)
    }

    /// The address of NATS.
    pub(crate) fn nats_url(&self) -> Result<&str, Failure> {
        let missing = "the setting nats.url is missing (or SPOOL__NATS__URL); \
                       for the NATS that `spool up` starts: --config DATA/keys/nats.toml";
        self.nats.url.as_deref().ok_or_else(|| Failure::new(Exit::Config, missing))
    }
}

#[cfg(test)]
mod tests;
