//! The roles of this process: made, run, and watched until they end.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use spool_kit::{Stop, Store};
use spool_nats::Log;
use spool_nats::server::ServerDisk;
use spool_proto::Role;
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

use crate::config::Config;
use crate::exit::{Exit, Failure};

use super::Deps;

type BoxError = Box<dyn Error + Send + Sync>;

/// Running roles.
pub(super) struct Running {
    tasks: JoinSet<(Role, Result<(), BoxError>)>,
    routes: Router,
    ready: Ready,
}

/// How long a health check waits for the store.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// Can the process do what it is for?
#[derive(Clone)]
pub(super) struct Ready {
    logs: Vec<(Role, Log)>,
    view: Option<spool_projector::Handle>,
    disk: Option<ServerDisk>,
    store: Store,
}

impl Ready {
    /// What is not ready, the object store too, as the first words of a sentence.
    pub(super) async fn look_around(&self) -> Result<(), String> {
        self.look()?;
        if self.logs.iter().all(|(role, _)| *role == Role::Planner) {
            return Ok(());
        }
        match self.store.answers(STORE_ANSWERS_WITHIN).await {
            true => Ok(()),
            false => Err(format!("The object store, which gave no answer within {STORE_ANSWERS_WITHIN:?},")),
        }
    }

    /// What is not ready, as the first words of a sentence.
    pub(super) fn look(&self) -> Result<(), String> {
        if let Some((role, _)) = self.logs.iter().find(|(_, log)| !log.is_connected()) {
            return Err(format!("NATS, as {role},"));
        }
        if self.disk.as_ref().is_some_and(ServerDisk::is_full) {
            return Err("The log, whose disk is full,".to_owned());
        }
        match &self.view {
            Some(view) if !view.is_ready() => Err("The view, which is still being folded,".to_owned()),
            Some(_) | None => Ok(()),
        }
    }
}

/// How a role came to its end.
pub(super) struct Ended(Result<(Role, Result<(), BoxError>), JoinError>);

impl Ended {
    /// A role that ends while nobody asked it to is a failure, also when it says nothing of one.
    pub(super) fn failure(self, was_asked: bool) -> Option<Failure> {
        match self.0 {
            Ok((role, Ok(()))) if was_asked => {
                tracing::debug!(%role, "ended");
                None
            }
            Ok((role, Ok(()))) => Some(Failure::new(Exit::Broken, format!("the {role} ended by itself"))),
            Ok((role, Err(error))) => Some(Failure::from_error(Exit::Broken, format!("the {role} broke"), error)),
            Err(error) => Some(Failure::from_error(Exit::Broken, "a role panicked", error)),
        }
    }
}

impl Running {
    /// Makes the roles and sets them going.
    pub(super) async fn begin(config: &Config, roles: &[Role], deps: Deps, stop: &Stop) -> Result<Self, Failure> {
        let ready = Ready { logs: deps.logs.clone(), view: None, disk: None, store: deps.store.clone() };
        let mut running = Self { tasks: JoinSet::new(), routes: Router::new(), ready };
        for role in roles {
            let log = deps.logs.iter().find(|(of, _)| of == role).map(|(_, log)| log.clone());
            // One is made for every role that is to run, by the same list.
            let Some(log) = log else {
                return Err(Failure::new(Exit::Broken, format!("the {role} has no connection")));
            };
            running
                .add(*role, log, config, &deps, stop)
                .await
                .map_err(|error| Failure::from_error(Exit::Config, format!("start the {role}"), error))?;
        }
        Ok(running)
    }

    async fn add(&mut self, role: Role, log: Log, config: &Config, deps: &Deps, stop: &Stop) -> Result<(), BoxError> {
        let (store, clock, ids) = (deps.store.clone(), deps.clock.clone(), deps.ids.clone());
        let stop = stop.clone();
        match role {
            Role::Gateway => {
                let deps = spool_gateway::Deps { log, store, clock, ids, stop: stop.clone() };
                let gateway = spool_gateway::Gateway::new(config.gateway.clone(), deps).await?;
                self.routes = std::mem::take(&mut self.routes).merge(gateway.routes());
                self.spawn(role, async move { gateway.run(stop).await.map_err(BoxError::from) });
            }
            Role::Planner => {
                let deps = spool_planner::Deps { log, clock };
                let planner = spool_planner::Planner::new(config.planner.clone(), deps).await?;
                self.spawn(role, async move { planner.run(stop).await.map_err(BoxError::from) });
            }
            Role::Transcoder => self.add_transcoder(log, config, deps, stop).await?,
            Role::Publisher => {
                let deps = spool_publisher::Deps { log, store, ids };
                let publisher = spool_publisher::Publisher::new(config.publisher.clone(), deps).await?;
                self.spawn(role, async move { publisher.run(stop).await.map_err(BoxError::from) });
            }
            Role::Projector => {
                let mut settings = config.projector.clone();
                settings.directory = config.data.join(settings.directory);
                let projector = spool_projector::Projector::new(settings, spool_projector::Deps { log, store, clock })?;
                self.routes = std::mem::take(&mut self.routes).merge(projector.routes());
                self.ready.view = Some(projector.handle());
                self.spawn(role, async move { projector.run(stop).await.map_err(BoxError::from) });
            }
        }
        Ok(())
    }

    #[cfg(feature = "transcoder")]
    async fn add_transcoder(&mut self, log: Log, config: &Config, deps: &Deps, stop: Stop) -> Result<(), BoxError> {
        use spool_transcoder::shell;
        let deps = shell::Deps {
            log,
            store: deps.store.clone(),
            clock: deps.clock.clone(),
            ids: deps.ids.clone(),
            holder: holder(),
            // Not by path: a spool that was replaced by a newer one while it runs must not start children of that one.
            child: vec!["/proc/self/exe".into(), crate::CHILD.into()],
            registry_dir: config.data.join("registry"),
        };
        let transcoder = shell::Transcoder::new(config.transcoder.clone(), deps).await?;
        self.spawn(Role::Transcoder, async move {
            transcoder.run(stop).await;
            Ok(())
        });
        Ok(())
    }

    #[cfg(not(feature = "transcoder"))]
    #[expect(clippy::unused_async, reason = "the same shape as in a build with the media path")]
    async fn add_transcoder(&mut self, _: Log, _: &Config, _: &Deps, _: Stop) -> Result<(), BoxError> {
        Err("this spool was built without it".into())
    }

    fn spawn(&mut self, role: Role, work: impl Future<Output = Result<(), BoxError>> + Send + 'static) {
        let span = tracing::info_span!("role", role = role.name());
        self.tasks.spawn(async move { (role, work.await) }.instrument(span));
    }

    /// The routes of all of them.
    pub(super) fn routes(&self) -> Router {
        self.routes.clone()
    }

    pub(super) fn ready(&self) -> Ready {
        self.ready.clone()
    }

    /// The disk of the child server belongs to what must be well.
    pub(super) fn with_disk(mut self, disk: Option<ServerDisk>) -> Self {
        self.ready.disk = disk;
        self
    }

    pub(super) fn is_ready(&self) -> Result<(), String> {
        self.ready.look()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next role that ends; for ever while none does.
    pub(super) async fn next(&mut self) -> Ended {
        match self.tasks.join_next().await {
            Some(ended) => Ended(ended),
            None => std::future::pending().await,
        }
    }

    /// Waits for what was cut; what does not go in time is dropped where it stands.
    pub(super) async fn end_within(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::error!(left = self.tasks.len(), "dropping roles that did not end after the cut");
        }
    }
}

/// This process, for those who ask who works on something.
#[cfg(feature = "transcoder")]
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}
