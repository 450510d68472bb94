//! The gateway as processes of their own: killed, paused, their connections reset; measured by what they write to the disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use spool_gateway::{Config, Deps, Gateway};
use spool_kit::{Clock, Ids, Stop, Store, StoreConfig, web};
use spool_nats::{Log, Target};
use spool_proto::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{App, KIB, World, eventually, pattern};

const MIB: usize = 1 << 20;
const PIECE: usize = 8 * MIB;

/// A gateway process. Killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

/// What a gateway process needs to know.
const VARIABLES: [&str; 4] = ["SPOOL_TEST_URL", "SPOOL_TEST_PASSWORD", "SPOOL_TEST_OBJECTS", "SPOOL_TEST_PORT_FILE"];

impl Process {
    async fn start(world: &World, name: &str) -> Self {
        let target = world.server.target(Role::Gateway.name());
        let port_file = world.dir.path().join(format!("{name}.port"));
        let objects = world.dir.path().join("objects");
        let values = [target.url, target.password, text(&objects), text(&port_file)];
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::serve", "--ignored", "--nocapture"])
            .envs(VARIABLES.into_iter().zip(values))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the gateway process listens", async || port_file.exists()).await;
        let address = std::fs::read_to_string(&port_file).unwrap().parse().unwrap();
        Self { child, address }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and gone.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Not a test: the process that the tests of this file start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is started by the tests of this file as a process of its own"]
async fn serve() {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let [url, password, objects, port_file] = VARIABLES.map(|name| std::env::var(name).unwrap());
    let user = Role::Gateway.name().to_owned();
    let log = Log::connect(&Target { url, user: user.clone(), password, role: user }).await.unwrap();
    let store = Store::open(&StoreConfig::directory(objects)).await.unwrap();
    let (ids, stop) = (Ids::random(), Stop::new());
    let deps = Deps { log, store, clock: Clock::system(), ids: ids.clone(), stop: stop.clone() };
    let gateway = Gateway::new(Config::default(), deps).await.unwrap();
    let router = web::shell(gateway.routes(), ids);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port_file = PathBuf::from(port_file);
    let draft = port_file.with_extension("draft");
    std::fs::write(&draft, listener.local_addr().unwrap().to_string()).unwrap();
    std::fs::rename(draft, port_file).unwrap();
    let server = async { axum::serve(listener, router).await.unwrap() };
    tokio::select! {
        () = server => {}
        ended = gateway.run(stop) => ended.unwrap(),
    }
}

/// A connection that sends exactly what it is told to, when it is told to.
struct Connection(TcpStream);

impl Connection {
    async fn patch(to: &Process, location: &str, offset: usize, announced: usize) -> Self {
        let mut stream = TcpStream::connect(to.address).await.unwrap();
        let head = format!(
            "PATCH {location} HTTP/1.1\r\nHost: test\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n\
             Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.unwrap();
    }

    async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// The status of the answer; 0 when there is none.
    async fn status(mut self) -> u16 {
        let mut head = Vec::new();
        let mut buffer = [0; 1024];
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match self.0.read(&mut buffer).await {
                Ok(0) | Err(_) => return 0,
                Ok(length) => head.extend_from_slice(&buffer[..length]),
            }
        }
        let head = String::from_utf8(head).unwrap();
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }

    /// Ends it the hard way: whatever the other side has not read is lost.
    fn reset(self) {
        self.0.set_zero_linger().unwrap();
    }
}

async fn offset(app: &App, location: &str) -> usize {
    app.head(location).await.offset() as usize
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_cut_five_times_arrives_whole_through_other_processes() {
    let world = World::new().await;
    let app = world.app_with(Config { piece: Config::default().piece, ..world.config() }).await;
    let bytes = pattern(5 * PIECE + 3 * MIB);
    let created = app.create(bytes.len(), "").await;
    let location = created.location();
    let mut gateway = Process::start(&world, "first").await;
    let mut at = 0;
    // Where each attempt is cut, inside a piece, and whether its gateway is killed or its connection reset.
    let cuts = [
        (PIECE + 3 * MIB, true),
        (2 * PIECE + MIB, false),
        (3 * PIECE + 7 * MIB, true),
        (4 * PIECE + 5, false),
        (5 * PIECE + MIB, true),
    ];
    for (index, (cut, kill)) in cuts.into_iter().enumerate() {
        // A request whose connection was reset may store its last bytes after somebody asked for the offset. The next one is
        // then refused, and its client asks again.
        let connection = loop {
            let mut connection = Connection::patch(&gateway, &location, at, bytes.len() - at).await;
            if connection.try_send(&bytes[at..cut]).await.is_ok() {
                break connection;
            }
            let (before, now) = (at, offset(&app, &location).await);
            assert!(now > before && now <= cut, "refused at {before}, and {now} is stored");
            at = now;
        };
        let pieces = cut / PIECE * PIECE;
        eventually("the full pieces are stored", async || offset(&app, &location).await >= pieces).await;
        let next = Process::start(&world, &format!("next-{index}")).await;
        let last = std::mem::replace(&mut gateway, next);
        if kill {
            last.kill();
            drop(connection);
        } else {
            connection.reset();
        }
        at = offset(&app, &location).await;
        let again = cut - at;
        println!("cut {index} at {cut}: {again} bytes are sent again");
        assert!(again <= PIECE, "{again}");
    }
    let mut connection = Connection::patch(&gateway, &location, at, bytes.len() - at).await;
    connection.send(&bytes[at..]).await;
    assert_eq!(connection.status().await, 204);
    assert_eq!(app.source(&created.asset()).await, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_paused_in_a_request_wakes_up_to_nothing() {
    let world = World::new().await;
    let app = world.app_with(Config { piece: Config::default().piece, ..world.config() }).await;
    let bytes = pattern(2 * PIECE + MIB);
    let created = app.create(bytes.len(), "").await;
    let location = created.location();
    let (first, second) = (Process::start(&world, "first").await, Process::start(&world, "second").await);
    let mut paused = Connection::patch(&first, &location, 0, bytes.len()).await;
    paused.send(&bytes[..PIECE + MIB]).await;
    eventually("a piece is stored", async || offset(&app, &location).await == PIECE).await;
    first.signal(Signal::STOP);

    let mut successor = Connection::patch(&second, &location, PIECE, PIECE / 2).await;
    successor.send(&bytes[PIECE..PIECE + PIECE / 2]).await;
    assert_eq!(successor.status().await, 204);
    let stood = offset(&app, &location).await;
    assert_eq!(stood, PIECE + PIECE / 2);

    first.signal(Signal::CONT);
    // Other bytes than the successor's, enough to fill the piece that it still believes in.
    paused.send(&vec![0xee; PIECE]).await;
    assert_eq!(paused.status().await, 409);
    assert_eq!(offset(&app, &location).await, stood);
    let mut rest = Connection::patch(&second, &location, stood, bytes.len() - stood).await;
    rest.send(&bytes[stood..]).await;
    assert_eq!(rest.status().await, 204);
    assert_eq!(app.source(&created.asset()).await, bytes);
}

/// Bytes that a process had written to the disk.
fn written(pid: u32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_64_kib_write_at_most_2_2_times_their_bytes_to_the_disk() {
    const SIZE: usize = 2 * PIECE;
    let world = World::new().await;
    let app = world.app_with(Config { piece: Config::default().piece, ..world.config() }).await;
    let bytes: Bytes = pattern(SIZE);
    let created = app.create(bytes.len(), "").await;
    let location = created.location();
    let gateway = Process::start(&world, "one").await;
    let nats = world.server.servers()[0].pid().unwrap();
    let (store_before, log_before) = (written(gateway.child.id()), written(nats));
    for (index, part) in bytes.chunks(64 * KIB).enumerate() {
        let mut connection = Connection::patch(&gateway, &location, index * 64 * KIB, part.len()).await;
        connection.send(part).await;
        assert_eq!(connection.status().await, 204);
    }
    let ratio = |bytes: u64| bytes as f64 / SIZE as f64;
    let (store, log) = (ratio(written(gateway.child.id()) - store_before), ratio(written(nats) - log_before));
    println!("64 KiB requests write {store:.2} (store) + {log:.2} (log) = {:.2} times their bytes", store + log);
    assert!(store + log <= 2.2, "{store:.2} + {log:.2}");
    assert_eq!(app.source(&created.asset()).await, bytes);
}
