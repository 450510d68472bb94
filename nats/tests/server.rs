//! The child server: kept up, gone with its parent, never two on one log in silence; and a log that was damaged on disk.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{asset, registered, tenant};
use spool_nats::server::{ADMIN, GaveUp, Server, ServerConfig, ServerError, find_server};
use spool_nats::streams::Shape;
use spool_nats::testing::{TestServer, eventually};
use spool_nats::{Appended, Log, ReplayError, Wait, provision};
use spool_proto::Role;

fn config(dir: &Path) -> ServerConfig {
    ServerConfig {
        binary: find_server(None).expect("a server"),
        dir: dir.to_owned(),
        port: None,
        passwords: BTreeMap::new(),
    }
}

fn runs(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; its parent has not looked yet.
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_back_with_all_it_confirmed_and_clients_go_on() {
    let test = TestServer::start().await;
    let log = test.log(Role::Gateway).await;
    let mut replay_log = test.log(Role::Projector).await.replay(1);
    let mut confirmed = Vec::new();
    for n in 0..40 {
        if n % 10 == 9 {
            test.kill_and_restart().await;
        }
        // Nothing here knows of the kill: the append itself tries again until it is known that the fact stands.
        confirmed.push(log.append(&registered(n)).await.expect("append").sequence());
    }
    assert_eq!(confirmed, (1..=40).collect::<Vec<_>>());
    for n in 0..40 {
        let again = log.append(&registered(n)).await.expect("append again");
        assert!(matches!(&again, Appended::Exists(fact) if fact.asset == asset(n)), "{again:?}");
    }
    let mut seen = Vec::new();
    while seen.len() < 40 {
        seen.extend(replay_log.next(100, Wait::Upto(Duration::from_secs(20))).await.expect("replay"));
    }
    assert_eq!(seen.len(), 40);
    assert_eq!(test.servers()[0].restarts(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_disk_was_full_is_started_anew_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(config(dir.path())).await.expect("a server");
    let disk = server.disk();
    assert!(!disk.is_full());
    // What it says then. After that it takes no write until it is started anew, which it can't be made to do here: that
    // takes a disk of its own.
    let mut said = std::fs::OpenOptions::new().append(true).open(dir.path().join("nats-server.log")).expect("its log");
    let words = b"[7] [ERR] Got stream error for 'X': write /x/1.blk: no space left on device\n";
    std::io::Write::write_all(&mut said, words).expect("write");
    eventually("a new one", || server.restarts() == 1).await;
    eventually("all is well", || !disk.is_full() && server.pid().is_some()).await;
    let log = Log::connect(&server.target(ADMIN)).await.expect("a connection");
    provision::apply(&log, &Shape::default()).await.expect("it takes writes");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_keeps_its_log_over_a_clean_stop_and_the_passwords_it_is_told_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Server::start(config(dir.path())).await.expect("start");
    let before = first.target("gateway");
    let first_planner = first.target("planner").password;
    let admin = Log::connect(&first.target(ADMIN)).await.expect("connect");
    provision::apply(&admin, &Shape::default()).await.expect("apply");
    Log::connect(&before).await.expect("connect").append(&registered(1)).await.expect("append");
    let pid = first.pid().expect("it runs");
    first.stop().await;
    assert!(!runs(pid));

    // One is kept; one that this crate has not made must not get into the server's configuration.
    let kept = [("planner", first_planner.as_str()), ("ingest", "p1\ninclude /etc/passwd")];
    let passwords = kept.map(|(user, password)| (user.to_owned(), password.to_owned())).into();
    let second = Server::start(ServerConfig { passwords, ..config(dir.path()) }).await.expect("start again");
    assert_eq!(second.password("planner"), Some(first_planner.as_str()));
    assert!(second.password("ingest").is_some_and(|password| password.len() == 33 && !password.contains('\n')));
    let log = Log::connect(&second.target("gateway")).await.expect("connect");
    assert!(log.read_slot(&tenant(), &asset(1), &registered(1).slot).await.expect("read").is_some());
    assert_ne!(second.password("gateway"), Some(before.password.as_str()));
    assert_eq!(
        provision::check(&Log::connect(&second.target(ADMIN)).await.expect("connect"), &Shape::default())
            .await
            .expect("check"),
        []
    );
    let pid = second.pid().expect("it runs");
    drop(second);
    assert!(!runs(pid), "dropped, and the server still runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_named_and_applied_and_what_is_missing_too() {
    let test = TestServer::empty(Shape::default()).await;
    let admin = test.admin().await;
    let missing = provision::check(&admin, test.shape()).await.expect("check");
    assert!(missing.iter().any(|d| d.what == "stream SPOOL_EVENTS" && d.field.is_empty()), "{missing:?}");
    let (one, two) = tokio::join!(provision::apply(&admin, test.shape()), provision::apply(&admin, test.shape()));
    one.and(two).expect("apply, twice at once");
    let longer = Shape { lease: Duration::from_secs(77), ..Shape::default() };
    let differences = provision::check(&admin, &longer).await.expect("check");
    let fields: Vec<_> = differences.iter().map(|d| (d.what.as_str(), d.field.as_str())).collect();
    let lanes = ["lane-first", "lane-next", "lane-bulk", "lane-pass", "lane-sound"];
    let lanes = lanes.map(|lane| format!("consumer {lane} of SPOOL_JOBS"));
    let ingest = "consumer ingest of SPOOL_INGEST";
    let changed = |name| [(name, "ack_wait"), (name, "backoff")];
    let expected = lanes.iter().map(String::as_str).chain([ingest]).flat_map(changed);
    assert_eq!(fields, expected.collect::<Vec<_>>());
    provision::apply(&admin, &longer).await.expect("apply");
    assert_eq!(provision::check(&admin, &longer).await.expect("check"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_can_not_start_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    let error = Server::start(ServerConfig { port: Some(port), ..config(dir.path()) }).await.err().expect("no start");
    let said = format!("the port {port} of nats.port is taken: name another one, or none, and a free one is taken");
    assert_eq!(error.to_string(), said);
    // What it finds wrong itself it says in its own words.
    std::fs::create_dir_all(dir.path()).expect("a directory");
    std::fs::write(dir.path().join("store"), "in the way").expect("write");
    let error = Server::start(config(dir.path())).await.err().expect("no start");
    assert!(matches!(&error, ServerError::Ended { log, .. } if log.contains("storage directory")), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_store_was_removed_is_not_kept_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(config(dir.path())).await.expect("a server");
    let pid = server.pid().expect("it runs");
    let store = dir.path().join("store");
    std::fs::rename(&store, dir.path().join("elsewhere")).expect("move");
    std::fs::create_dir_all(store.join("jetstream")).expect("another one of that name");
    let why = tokio::time::timeout(Duration::from_secs(60), server.gave_up()).await.expect("it gives up");
    assert_eq!(why, GaveUp::StoreGone { dir: store });
    assert!(!runs(pid), "it goes on confirming");
}

/// Not a test of its own: the process that the next test kills. It starts a server, says its pid, and waits to be killed.
#[tokio::test]
#[ignore = "run by a_server_dies_with_its_parent_however_that_dies"]
async fn parent() {
    let dir = PathBuf::from(std::env::var("SPOOL_TEST_DIR").expect("called by the other test"));
    let server = Server::start(config(&dir)).await.expect("start");
    std::fs::write(dir.join("pid.new"), server.pid().expect("it runs").to_string()).expect("write");
    std::fs::rename(dir.join("pid.new"), dir.join("pid")).expect("rename");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_dies_with_its_parent_however_that_dies() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut parent = Command::new(std::env::current_exe().expect("this test"))
        .args(["--ignored", "--exact", "parent"])
        .env("SPOOL_TEST_DIR", dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the parent");
    let file = dir.path().join("pid");
    eventually("the server runs", || file.exists()).await;
    let pid: u32 = std::fs::read_to_string(&file).expect("read").parse().expect("a pid");
    assert!(runs(pid));
    parent.kill().expect("kill the parent");
    parent.wait().expect("wait for the parent");
    eventually("the server is gone", || !runs(pid)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_bit_on_disk_is_named_as_a_gap_and_not_passed_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(config(dir.path())).await.expect("start");
    let admin = Log::connect(&server.target(ADMIN)).await.expect("connect");
    provision::apply(&admin, &Shape::default()).await.expect("apply");
    let log = Log::connect(&server.target("gateway")).await.expect("connect");
    for n in 1..=20 {
        log.append(&registered(n)).await.expect("append");
    }
    server.stop().await;
    flip_a_bit_of(&dir.path().join("store"), asset(10).as_str());

    let server = Server::start(config(dir.path())).await.expect("start again");
    let projector = Log::connect(&server.target("projector")).await.expect("connect");
    let mut replay = projector.replay(1);
    let good = replay.next(100, Wait::No).await.expect("what comes before the damage");
    assert_eq!(good.last().expect("facts").sequence, 9);
    let error = replay.next(100, Wait::No).await.expect_err("damage");
    assert!(matches!(error, ReplayError::Gap { position: 9, found: 11 }), "{error:?}");
}

/// Flips one bit in the stored record that holds `text`.
fn flip_a_bit_of(store: &Path, text: &str) {
    let blocks = store.join("jetstream/$G/streams/SPOOL_EVENTS/msgs/1.blk");
    let mut bytes = std::fs::read(&blocks).unwrap_or_else(|e| panic!("{}: {e}", blocks.display()));
    let at = bytes.windows(text.len()).rposition(|window| window == text.as_bytes()).expect("the record");
    bytes[at] ^= 1;
    std::fs::write(&blocks, bytes).expect("write");
}
