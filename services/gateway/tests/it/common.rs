//! A gateway of a test's own: a real nats-server, a directory as store, the routes as the process serves them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use spool_gateway::{Config, Deps, Gateway};
use spool_kit::{Clock, Ids, Stop, Store, StoreConfig, web};
use spool_nats::Log;
use spool_nats::testing::TestServer;
use spool_proto::id::UploadId;
use spool_proto::{Asset, AssetId, Event, Fact, Role, Slot, TenantId};
use tower_service::Service as _;

pub(crate) const KIB: usize = 1 << 10;

/// A server, a store, a clock.
pub(crate) struct World {
    pub(crate) server: TestServer,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Clock,
    /// Another store than a directory.
    pub(crate) store: Option<StoreConfig>,
    ids: Ids,
}

/// One gateway on it.
pub(crate) struct App {
    pub(crate) gateway: Gateway,
    pub(crate) router: Router,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) stop: Stop,
}

/// What a client got.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn code(&self) -> String {
        if self.body.is_empty() {
            return String::new();
        }
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn offset(&self) -> u64 {
        self.headers.get("upload-offset").unwrap_or_else(|| panic!("no offset: {self:?}")).parse().unwrap()
    }

    pub(crate) fn location(&self) -> String {
        self.headers.get("location").unwrap_or_else(|| panic!("no location: {self:?}")).clone()
    }

    pub(crate) fn asset(&self) -> AssetId {
        match self.headers.get("spool-asset") {
            Some(text) => text.parse().unwrap(),
            None => self.json()["id"].as_str().unwrap().parse().unwrap(),
        }
    }

    pub(crate) fn upload(&self) -> UploadId {
        self.location().rsplit('/').next().unwrap().parse().unwrap()
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(TestServer::start().await)
    }

    pub(crate) fn on(server: TestServer) -> Self {
        let clock = Clock::manual(Clock::system().now());
        Self { server, dir: tempfile::tempdir().unwrap(), clock, store: None, ids: Ids::random() }
    }

    /// Small pieces, so that small uploads have many; everything else as an operator gets it.
    pub(crate) fn config(&self) -> Config {
        let root = self.root();
        std::fs::create_dir_all(&root).unwrap();
        Config { piece: spool_kit::units::Bytes(64 << 10), roots: vec![root], ..Config::default() }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    pub(crate) fn store_config(&self) -> StoreConfig {
        self.store.clone().unwrap_or_else(|| StoreConfig::directory(self.dir.path().join("objects")))
    }

    pub(crate) async fn app(&self) -> App {
        self.app_with(self.config()).await
    }

    pub(crate) async fn app_with(&self, config: Config) -> App {
        self.app_on(config, self.server.log(Role::Gateway).await).await
    }

    /// On a connection of its own.
    pub(crate) async fn app_on(&self, config: Config, log: Log) -> App {
        let store = Store::open(&self.store_config()).await.unwrap();
        let stop = Stop::new();
        let deps = Deps {
            log: log.clone(),
            store: store.clone(),
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            stop: stop.clone(),
        };
        let gateway = Gateway::new(config, deps).await.unwrap();
        let router = web::shell(gateway.routes(), self.ids.clone());
        App { gateway, router, log, store, stop }
    }
}

pub(crate) const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
pub(crate) const BYTES: (&str, &str) = ("content-type", "application/offset+octet-stream");

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// Bytes that differ from piece to piece.
pub(crate) fn pattern(length: usize) -> Bytes {
    let mut state = 0x9e37_79b9_u32;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

impl App {
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().call(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers = headers.collect();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: parts.status.as_u16(), headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    /// Begins an upload of `length` bytes.
    pub(crate) async fn create(&self, length: usize, metadata: &str) -> Reply {
        let length = length.to_string();
        let mut headers = vec![TUS, ("upload-length", length.as_str())];
        if !metadata.is_empty() {
            headers.push(("upload-metadata", metadata));
        }
        let reply = self.send("POST", "/v1/uploads", &headers, Body::empty()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply
    }

    pub(crate) async fn head(&self, location: &str) -> Reply {
        self.send("HEAD", location, &[TUS], Body::empty()).await
    }

    pub(crate) async fn patch(&self, location: &str, offset: u64, body: impl Into<Body>) -> Reply {
        let offset = offset.to_string();
        self.send("PATCH", location, &[TUS, BYTES, ("upload-offset", &offset)], body).await
    }

    /// A whole upload in one request; its asset.
    pub(crate) async fn upload(&self, bytes: &Bytes, metadata: &str) -> AssetId {
        let created = self.create(bytes.len(), metadata).await;
        let reply = self.patch(&created.location(), 0, bytes.clone()).await;
        assert_eq!((reply.status, reply.offset()), (204, bytes.len() as u64), "{reply:?}");
        created.asset()
    }

    pub(crate) async fn fact(&self, asset: &AssetId, slot: Slot) -> Option<Fact> {
        self.log.read_slot(&tenant(), asset, &slot).await.unwrap()
    }

    pub(crate) async fn facts(&self, asset: &AssetId) -> Vec<Fact> {
        self.log.read_asset(&tenant(), asset, None).await.unwrap()
    }

    pub(crate) async fn state(&self, asset: &AssetId) -> Asset {
        Asset::fold(&self.facts(asset).await).expect("facts")
    }

    /// The kinds of an asset's facts, in order.
    pub(crate) async fn kinds(&self, asset: &AssetId) -> Vec<&'static str> {
        self.facts(asset).await.iter().map(|fact| fact.event().map_or("unknown", |event| event.kind().name())).collect()
    }

    /// The whole source of an asset, as the fact names it, with its digest checked.
    pub(crate) async fn source(&self, asset: &AssetId) -> Bytes {
        use futures_util::TryStreamExt as _;
        let fact = self.fact(asset, Slot::UploadOutcome).await.expect("an outcome");
        let Some(Event::SourceStored(stored)) = fact.event() else { panic!("{fact:?}") };
        let reader = spool_kit::SourceReader::new(self.store.clone(), &tenant(), asset, &stored.source);
        let parts: Vec<Bytes> = reader.stream(0..stored.source.size_bytes).try_collect().await.unwrap();
        let bytes = Bytes::from(parts.concat());
        assert_eq!(spool_proto::id::Sha256::of(&bytes), stored.source.sha256);
        bytes
    }

    /// Every object in the store, sorted.
    pub(crate) async fn objects(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let listed: Vec<_> = self.store.list("").try_collect().await.unwrap();
        let mut names: Vec<_> = listed.into_iter().map(|listed| listed.name).collect();
        names.sort();
        names
    }

    /// Steps until `holds`. A message that was just published may not be there for the next fetch yet.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        eventually(what, async || {
            self.gateway.step().await.unwrap();
            holds().await
        })
        .await;
    }

    /// Steps until the outcome of an asset's upload stands and there is nothing left to do.
    pub(crate) async fn until_ended(&self, asset: &AssetId) {
        self.until("the upload ends", async || self.fact(asset, Slot::UploadOutcome).await.is_some()).await;
        self.settle().await;
    }

    /// Steps until this many messages are parked.
    pub(crate) async fn until_parked(&self, count: usize) {
        self.until("the messages are parked", async || self.log.list_parked(0, 100).await.unwrap().len() == count)
            .await;
    }

    /// Steps until there is nothing left to do.
    pub(crate) async fn settle(&self) {
        for _ in 0..100 {
            if !self.gateway.step().await.unwrap() {
                return;
            }
        }
        panic!("the gateway does not come to rest");
    }
}

/// A body that gives what is sent to it, and ends when the sender goes.
pub(crate) fn channel() -> (tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    });
    (sender, Body::from_stream(stream))
}

/// Polls until `holds`; fails late and says what it waited for.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
