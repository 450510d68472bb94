//! Start-up and end of a process that runs roles, the same for all of them and for both ways to run:
//! configuration → telemetry → bind → NATS → store → roles → ready → run → drain → stop.
//!
//! Only this module installs a subscriber or a signal handler. What is opened here is closed here, in the opposite order.

mod descriptors;
mod door;
mod http;
mod keys;
mod lock;
mod roles;
mod signals;
pub(crate) mod telemetry;
mod time;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spool_kit::{Clock, Ids, Stop, Store, StoreConfig};
use spool_nats::provision::{self, ProvisionError};
use spool_nats::server::{ADMIN, GaveUp, Server, ServerConfig, find_server};
use spool_nats::streams::Shape;
use spool_nats::{ConnectError, Log, Target};
use spool_proto::Role;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::cli::{Run, Up};
use crate::client::Out;
use crate::config::{self, Config};
use crate::exit::{Exit, Failure};

use self::door::Door;
use self::keys::Keys;
use self::lock::Lock;
use self::roles::Running;
use self::signals::Signals;

/// How often a process that starts looks whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long what was cut may take to go away before it is dropped where it stands.
/// Above the time in which a transcoder hands its orders back.
const CUT_LIMIT: Duration = Duration::from_secs(10);

/// `spool up`: every role, a NATS and a store of its own.
pub(crate) async fn up(out: Out, options: &Up) -> Result<(), Failure> {
    let mut config = config::load(options.config.as_deref())?;
    if let Some(url) = &config.nats.url {
        let sentence =
            format!("nats.url is {url}, but `spool up` starts a NATS of its own; use `spool run` with that one");
        return Err(Failure::new(Exit::Config, sentence));
    }
    config.data = options.data.clone().unwrap_or(config.data);
    config.listen = options.listen.unwrap_or(config.listen);
    let data = make_directory(&config.data)?;
    config.data.clone_from(&data);
    config.store.get_or_insert_with(|| StoreConfig::directory(data.join("objects")));
    let binary = find_server(options.nats_server.as_deref())
        .map_err(|error| Failure::from_error(Exit::Config, "`spool up` needs a nats-server", error))?;
    let lock = Lock::take(&data)?;
    let roles = built_in().collect::<Vec<_>>();
    run_roles(
        out,
        config,
        &roles,
        Some(Embedded { binary, directory: data.join("nats"), keys: Keys::of(&data) }),
        Some(lock),
    )
    .await
}

/// `spool run ROLE…`: some roles against what is there.
pub(crate) async fn run(out: Out, options: &Run) -> Result<(), Failure> {
    let mut config = config::load(options.config.as_deref())?;
    config.listen = options.listen.unwrap_or(config.listen);
    if let Some(role) = options.roles.iter().find(|role| !built_in().any(|built| built == **role)) {
        let sentence = format!("this spool was built without the {role}; build it with `--features {role}`");
        return Err(Failure::new(Exit::Config, sentence));
    }
    let roles: Vec<Role> = Role::ALL.into_iter().filter(|role| options.roles.contains(role)).collect();
    // The roles that keep something on this machine need a directory nobody else uses.
    let keeps = roles.iter().any(|role| matches!(role, Role::Projector | Role::Transcoder));
    let lock = if keeps {
        config.data = make_directory(&config.data)?;
        Some(Lock::take(&config.data)?)
    } else {
        None
    };
    if config.store.is_none() {
        let sentence =
            "the section store is missing: [store.dir] with a path, or [store.s3]; only `spool up` has a default";
        return Err(Failure::new(Exit::Config, sentence));
    }
    run_roles(out, config, &roles, None, lock).await
}

/// The roles that this build holds, in the order they start.
fn built_in() -> impl Iterator<Item = Role> {
    Role::ALL.into_iter().filter(|role| *role != Role::Transcoder || cfg!(feature = "transcoder"))
}

fn make_directory(path: &Path) -> Result<PathBuf, Failure> {
    let about = |error| Failure::from_error(Exit::Config, format!("use the data directory {}", path.display()), error);
    std::fs::create_dir_all(path).map_err(about)?;
    path.canonicalize().map_err(about)
}

/// The nats-server to start.
struct Embedded {
    binary: PathBuf,
    directory: PathBuf,
    keys: Keys,
}

/// The one start-up function of all roles.
async fn run_roles(
    out: Out,
    mut config: Config,
    roles: &[Role],
    embedded: Option<Embedded>,
    lock: Option<Lock>,
) -> Result<(), Failure> {
    telemetry::install(&config.log)?;
    config.http.max_connections = descriptors::connections(config.http.max_connections);
    let mut signals = Signals::install()?;
    let (listener, address) = bind(&config).await?;
    if let Some(lock) = &lock {
        lock.note(address);
    }
    let stop = Stop::new();
    let door = Arc::new(Door::new(Ids::random(), embedded.as_ref().map(|embedded| embedded.directory.clone())));
    let front = tokio::spawn(door::serve(listener, Arc::clone(&door), config.http.clone(), stop.clone()));
    tracing::info!(%address, roles = ?roles.iter().map(|r| r.name()).collect::<Vec<_>>(), pid = std::process::id(), "starting");

    let started = tokio::select! {
        started = start(&config, roles, embedded) => started,
        // Nothing runs yet, so there is nothing to finish.
        () = signals.next() => Err(Failure::new(Exit::Cut, "stopped while starting")),
    };
    let timekeeper = started.as_ref().ok().and_then(|(_, deps)| deps.keep_time(&stop));
    let (mut server, result) = match started {
        Err(failure) => (None, Err(failure)),
        Ok((server, deps)) => match Running::begin(&config, roles, deps, &stop).await {
            Err(failure) => (server, Err(failure)),
            Ok(running) => {
                let running = running.with_disk(server.as_ref().map(Server::disk));
                door.open(http::routes(&config, roles, &running, &stop));
                let process = Process { out, address, config: &config, roles, server: server.as_ref(), stop: &stop };
                let result = process.attend(running, &mut signals).await;
                (server, result)
            }
        },
    };
    stop.cut();
    if let Err(error) = front.await {
        tracing::error!(error = &error as &dyn std::error::Error, "the listener broke");
    }
    // The last connections go before the server does, so that none tries to come back.
    drop(door);
    if let Some(timekeeper) = timekeeper {
        timekeeper.abort();
        let _aborted = timekeeper.await;
    }
    if let Some(server) = server.take() {
        server.stop().await;
    }
    drop(lock);
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(failure) => tracing::error!(exit = failure.exit.number(), because = ?failure.chain(), "stopped"),
    }
    result
}

async fn bind(config: &Config) -> Result<(TcpListener, SocketAddr), Failure> {
    config.may_listen(config.listen)?;
    let about = |error| Failure::from_error(Exit::Config, format!("listen at {}", config.listen), error);
    let listener = TcpListener::bind(config.listen).await.map_err(about)?;
    let address = listener.local_addr().map_err(about)?;
    Ok((listener, address))
}

/// What the roles stand on: a connection each, the store, time and ids.
struct Deps {
    logs: Vec<(Role, Log)>,
    store: Store,
    clock: Clock,
    ids: Ids,
}

impl Deps {
    /// Keeps the clock set, beside the roles.
    fn keep_time(&self, stop: &Stop) -> Option<JoinHandle<()>> {
        let (_, log) = self.logs.first()?;
        Some(tokio::spawn(time::keep(self.clock.clone(), log.clone(), stop.clone())))
    }
}

async fn start(config: &Config, roles: &[Role], embedded: Option<Embedded>) -> Result<(Option<Server>, Deps), Failure> {
    let server = match embedded {
        Some(embedded) => Some(start_nats(embedded, config).await?),
        None => None,
    };
    let mut logs = Vec::new();
    for role in roles {
        let target = match &server {
            Some(server) => server.target(role.name()),
            None => target(config, role.name())?,
        };
        logs.push((*role, connect(&target).await?));
    }
    let store = config.store.as_ref().ok_or_else(|| Failure::new(Exit::Config, "the section store is missing"))?;
    let store = Store::open(store)
        .await
        .map_err(|error| Failure::from_error(Exit::Unreachable, "the object store can't be used", error))?;
    let clock = Clock::system();
    if let Some((_, log)) = logs.first() {
        // Where it can't be asked no role starts either, and each says why.
        let _asked_again = time::set(&clock, log).await;
    }
    Ok((server, Deps { logs, store, clock, ids: Ids::random() }))
}

async fn start_nats(embedded: Embedded, config: &Config) -> Result<Server, Failure> {
    let Embedded { binary, directory: dir, keys } = embedded;
    let settings = ServerConfig { binary, dir, port: config.nats.port, passwords: keys.passwords()? };
    let server = Server::start(settings).await.map_err(|error| {
        Failure::from_error(Exit::Unreachable, "the nats-server of `spool up` did not start", error)
    })?;
    keys.write(&server)?;
    let admin = connect(&server.target(ADMIN)).await?;
    provision::apply(&admin, &shape(config))
        .await
        .map_err(|error| Failure::from_error(exit_of(&error), "set up the streams", error))?;
    Ok(server)
}

fn exit_of(error: &ProvisionError) -> Exit {
    match error {
        ProvisionError::NoRoom { .. } => Exit::Config,
        ProvisionError::Failed { .. } | ProvisionError::Different(_) => Exit::Broken,
    }
}

/// Where a NATS user connects to, by the configuration.
pub(crate) fn target(config: &Config, user: &str) -> Result<Target, Failure> {
    Ok(Target {
        url: config.nats_url()?.to_owned(),
        user: user.to_owned(),
        password: config.password(user)?.to_owned(),
        role: user.to_owned(),
    })
}

/// Connects; the log crate tries again for a bounded while.
async fn connect(target: &Target) -> Result<Log, Failure> {
    Log::connect(target).await.map_err(|error| unconnected(target, error))
}

/// What is told when there is no connection to NATS.
pub(crate) fn unconnected(target: &Target, error: ConnectError) -> Failure {
    Failure::from_error(Exit::Unreachable, format!("connect to NATS as {}", target.user), error)
}

/// What streams and consumers are to look like.
pub(crate) fn shape(config: &Config) -> Shape {
    Shape { replicas: config.nats.replicas, ..Shape::default() }
}

/// A process that runs roles, as it is told and asked.
struct Process<'a> {
    out: Out,
    address: SocketAddr,
    config: &'a Config,
    roles: &'a [Role],
    server: Option<&'a Server>,
    stop: &'a Stop,
}

impl Process<'_> {
    /// Waits until ready, says so, and stays until all has ended.
    async fn attend(&self, mut running: Running, signals: &mut Signals) -> Result<(), Failure> {
        let (stop, grace) = (self.stop, self.config.grace);
        let mut result = Ok(());
        let mut told = false;
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut deadline = None;
        while !running.is_empty() {
            tokio::select! {
                () = signals.next() => {
                    if stop.is_finishing() {
                        tracing::warn!("second signal: cutting what still runs");
                        break;
                    }
                    tracing::info!(%grace, "stopping: what runs may finish");
                    stop.finish();
                    deadline = Some(tokio::time::Instant::now() + grace.0);
                }
                () = until(deadline) => {
                    tracing::warn!(%grace, "the grace period is over: cutting what still runs");
                    break;
                }
                ended = running.next() => {
                    if let Some(failure) = ended.failure(stop.is_finishing()) {
                        result = Err(failure);
                        stop.finish();
                        deadline.get_or_insert(tokio::time::Instant::now() + grace.0);
                    }
                }
                why = gave_up(self.server), if !stop.is_finishing() => {
                    result = Err(Failure::new(Exit::Unreachable, why.to_string()));
                    stop.finish();
                    deadline = Some(tokio::time::Instant::now() + grace.0);
                }
                _ = look.tick(), if !told => {
                    if running.is_ready().is_ok() {
                        told = true;
                        self.say_ready();
                    }
                }
            }
        }
        if running.is_empty() {
            return result;
        }
        stop.cut();
        running.end_within(CUT_LIMIT).await;
        result.and(Err(Failure::new(
            Exit::Cut,
            "stopped before all that ran had ended; it is taken up again at the next start",
        )))
    }

    fn say_ready(&self) {
        let address = format!("http://{}", self.address);
        let names: Vec<&str> = self.roles.iter().map(|role| role.name()).collect();
        tracing::info!(server = address, "ready");
        self.out.say(&json!({"event": "ready", "server": address, "pid": std::process::id(), "roles": names}), || {
            let push = if address.ends_with(":7070") { String::new() } else { format!(" --server {address}") };
            format!("Spool is ready at {address} ({})\npush a video:  spool push FILE --wait{push}", names.join(", "))
        });
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn gave_up(server: Option<&Server>) -> GaveUp {
    match server {
        Some(server) => server.gave_up().await,
        None => std::future::pending().await,
    }
}
