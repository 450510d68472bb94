//! A real log, a real store and a projector for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use tower_service::Service as _;

use spool_kit::{Clock, Ids, Store, StoreConfig, web};
use spool_nats::testing::TestServer;
use spool_nats::{Appended, Log};
use spool_proto::event::Body as FactBody;
use spool_proto::{Draft, Fact, Role};

use crate::{Config, Deps, Projector, sample};

pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) store: Store,
    pub(crate) root: tempfile::TempDir,
    logs: BTreeMap<&'static str, Log>,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).expect("text")
    }
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let server = TestServer::start().await;
        let root = tempfile::tempdir().expect("a directory");
        let store = Store::open(&StoreConfig::directory(root.path().join("objects"))).await.expect("a store");
        let mut logs = BTreeMap::new();
        for role in Role::ALL {
            logs.insert(role.name(), server.log(role).await);
        }
        Self { server, store, root, logs }
    }

    pub(crate) fn log(&self, role: Role) -> &Log {
        &self.logs[role.name()]
    }

    pub(crate) fn view_root(&self) -> PathBuf {
        self.root.path().join("view")
    }

    pub(crate) fn config(&self) -> Config {
        Config { directory: self.view_root(), ..Config::default() }
    }

    pub(crate) fn projector(&self, config: Config) -> Projector {
        let deps = Deps { log: self.log(Role::Projector).clone(), store: self.store.clone(), clock: Clock::system() };
        Projector::new(config, deps).expect("a projector")
    }

    /// Appends facts as the roles that may; their sequences are the log's own.
    pub(crate) async fn append(&self, facts: &[Fact]) -> u64 {
        let mut last = 0;
        for fact in facts {
            let slot = fact.slot.clone().expect("a known slot");
            let FactBody::Known(event) = fact.body.clone() else { panic!("a known fact") };
            let writer = slot.row().writers[0];
            let (tenant, asset) = (fact.tenant.clone(), fact.asset.clone());
            let draft = Draft { tenant, asset, slot, event, cause: fact.cause.clone(), actor: fact.actor.clone() };
            match self.log(writer).append(&draft).await.expect("appended") {
                Appended::Written { sequence } => last = sequence,
                Appended::Exists(fact) => panic!("{fact:?} stands already"),
            }
        }
        last
    }

    /// Puts the texts of `facts`, as the gateway does before it names them.
    pub(crate) async fn put_texts(&self, facts: &[Fact]) {
        let texts = sample::texts();
        for fact in facts {
            let Some(spool_proto::Event::Described(described)) = fact.event() else { continue };
            let Some(text) = texts.get(&described.token) else { continue };
            let log = self.log(Role::Gateway);
            log.put_text(&fact.tenant, &fact.asset, &described.token, text).await.expect("put");
        }
    }
}

/// Steps until there is nothing to do.
pub(crate) async fn settle(projector: &mut Projector) {
    while projector.step().await.expect("a step") {}
}

/// The routes as a process serves them.
pub(crate) fn app(projector: &Projector) -> Router {
    web::shell(projector.routes(), Ids::seeded(1))
}

/// Sends a request; the answer before its body is read.
pub(crate) async fn open(app: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> axum::response::Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::empty()).expect("a request");
    app.clone().into_service().call(request).await.expect("infallible")
}

pub(crate) async fn send(app: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let (parts, body) = open(app, method, path, headers).await.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) async fn get(app: &Router, path: &str) -> Answer {
    send(app, "GET", path, &[]).await
}

/// Copies a directory as it lies on the disk: what a process that is killed at this moment leaves.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
