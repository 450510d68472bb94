//! A real server for tests: a directory of its own, all users, streams applied.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use spool_proto::Role;

use crate::access::{ADMIN, INGEST_USER};
use crate::server::{CLUSTER_CONF, Server, ServerConfig, find_server, passwords};
use crate::streams::Shape;
use crate::{Log, Target, provision};

pub mod again;

/// How long a test's server may take for anything before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that is not there yet is asked again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A server (or three) of a test's own. Gone when dropped.
pub struct TestServer {
    servers: Vec<Server>,
    shape: Shape,
    // Last: the servers go before their directory.
    _dir: tempfile::TempDir,
}

impl TestServer {
    /// One server, one replica. Panics when there is none to be had: a test that can't run here fails.
    pub async fn start() -> TestServer {
        TestServer::with(Shape::default()).await
    }

    /// Three servers, three replicas.
    pub async fn cluster() -> TestServer {
        TestServer::with(Shape { replicas: 3, ..Shape::default() }).await
    }

    /// Of this shape; three servers where it says three replicas.
    pub async fn with(shape: Shape) -> TestServer {
        let test = TestServer::empty(shape).await;
        let admin = test.admin().await;
        // A cluster elects its leaders first; what it answers until then passes.
        let deadline = Instant::now() + PATIENCE;
        loop {
            match provision::apply(&admin, &test.shape).await {
                Ok(()) => return test,
                Err(error) if Instant::now() > deadline => panic!("provision the test's server: {error:?}"),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Of this shape, with nothing applied.
    pub async fn empty(shape: Shape) -> TestServer {
        let dir = tempfile::Builder::new().prefix("spool-nats-").tempdir().expect("a temporary directory");
        let binary = find_server(None).unwrap_or_else(|error| panic!("{error}"));
        let config = |name: &str| ServerConfig {
            binary: binary.clone(),
            dir: dir.path().join(name),
            port: None,
            passwords: BTreeMap::new(),
        };
        let servers = match shape.replicas {
            1 => vec![Server::start(config("one")).await.unwrap_or_else(|error| panic!("{error:?}"))],
            _ => three(config).await,
        };
        TestServer { servers, shape, _dir: dir }
    }

    /// A new connection of a role.
    pub async fn log(&self, role: Role) -> Log {
        self.connect(role.name()).await
    }

    /// A new connection of admin.
    pub async fn admin(&self) -> Log {
        self.connect(ADMIN).await
    }

    /// A new connection of a publisher outside.
    pub async fn publisher(&self) -> Log {
        self.connect(INGEST_USER).await
    }

    async fn connect(&self, user: &str) -> Log {
        let target = self.target(user);
        Log::connect(&target).await.unwrap_or_else(|error| panic!("connect as {user}: {error:?}"))
    }

    /// Where to connect as a user (a role's name, `admin`, `ingest`); every server of a cluster.
    pub fn target(&self, user: &str) -> Target {
        let urls: Vec<_> = self.servers.iter().map(Server::url).collect();
        Target { url: urls.join(","), ..self.servers[0].target(user) }
    }

    /// What it was made with.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The servers, one or three.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Kills the first server with SIGKILL, and returns when it is back, on the same port and directory.
    pub async fn kill_and_restart(&self) {
        let server = &self.servers[0];
        let before = server.restarts();
        let pid = server.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        let pid = pid.expect("the server runs");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill the server");
        eventually("the server is back", || server.restarts() > before && server.pid().is_some()).await;
    }
}

/// Polls until `holds`; fails the test when that takes too long.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Three servers that know each other, with the same passwords.
async fn three(config: impl Fn(&str) -> ServerConfig) -> Vec<Server> {
    let passwords = passwords(&BTreeMap::new()).unwrap_or_else(|error| panic!("{error:?}"));
    let between = "pbetween";
    // Bound to find three free ports, and given back for the servers; another process may take one in between, which fails this test by name.
    let free: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let ports: Vec<_> = free.iter().map(|port| port.local_addr().expect("a bound port").port()).collect();
    drop(free);
    let mut servers = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let name = format!("nats-{}", index + 1);
        let mut environment = BTreeMap::from([
            ("SPOOL_NATS_NAME".to_owned(), name.clone()),
            ("SPOOL_NATS_CLUSTER_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            ("SPOOL_NATS_PASSWORD_ROUTES".to_owned(), between.to_owned()),
        ]);
        for (index, port) in ports.iter().enumerate() {
            let route = format!("nats://routes:{between}@127.0.0.1:{port}");
            environment.insert(format!("SPOOL_NATS_ROUTE_{}", index + 1), route);
        }
        let server = Server::launch(config(&name), CLUSTER_CONF, passwords.clone(), environment).await;
        servers.push(server.unwrap_or_else(|error| panic!("{error:?}")));
    }
    servers
}
