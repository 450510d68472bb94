//! Every role as a process: it becomes ready, answers, ends on SIGTERM with 0 and in time; one process a directory.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use spool_nats::testing::TestServer;
use spool_proto::Role;

use crate::spool::{Running, get, get_with, is_alive, say, spool};

/// An idle process has nothing to finish, so this is far above what it needs and far below its grace period.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

/// `spool run` of these roles against this NATS.
fn run(server: &TestServer, roles: &[Role], directory: &std::path::Path) -> Command {
    let mut command = spool(&["run", "--json", "--listen", "127.0.0.1:0"]);
    command.args(roles.iter().map(|role| role.name()));
    for role in roles {
        let target = server.target(role.name());
        command.env("SPOOL__NATS__URL", target.url);
        command.env(format!("SPOOL__NATS__PASSWORDS__{}", role.name().to_uppercase()), target.password);
    }
    command.env("SPOOL__DATA", directory.join("data")).env("SPOOL__STORE__DIR__PATH", directory.join("objects"));
    command
}

async fn check_role(role: Role) {
    let server = TestServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut process = Running::start(&mut run(&server, &[role], directory.path()), directory.path());
    let ready = process.ready();
    assert_eq!(ready["roles"], serde_json::json!([role.name()]));
    let address = ready["server"].as_str().expect("an address").to_owned();
    assert_eq!(get(&address, "/livez").0, 200);
    assert_eq!(get(&address, "/readyz").0, 200);

    process.signal(Signal::TERM);
    let status = process.ended_within(STOPS_WITHIN);
    assert_eq!(status.code(), Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_becomes_ready_and_ends_in_time() {
    check_role(Role::Gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planner_becomes_ready_and_ends_in_time() {
    check_role(Role::Planner).await;
}

#[cfg(feature = "transcoder")]
#[tokio::test(flavor = "multi_thread")]
async fn the_transcoder_becomes_ready_and_ends_in_time() {
    check_role(Role::Transcoder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publisher_becomes_ready_and_ends_in_time() {
    check_role(Role::Publisher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_projector_becomes_ready_and_ends_in_time() {
    check_role(Role::Projector).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_projector_says_so_and_not_that_there_is_nothing() {
    let server = TestServer::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let process = Running::start(&mut run(&server, &[Role::Gateway], directory.path()), directory.path());
    let ready = process.ready();
    let address = ready["server"].as_str().expect("an address");
    let (status, body) = get(address, "/v1/assets");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("\"role_absent\"") && body.contains("projector"), "{body}");
    let (status, body) = get(address, "/v1/nothing");
    assert_eq!(status, 404, "{body}");
    let (status, body) = get_with(address.strip_prefix("http://").expect("an http address"), "/livez", "");
    assert!(status == 400 && body.contains("Host must be given once; got nothing"), "{status} {body}");
}

#[test]
fn up_serves_everything_alone_in_its_directory_and_ends_in_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let up = || {
        let mut command = spool(&["up", "--json", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(&data);
        command
    };
    let mut first = Running::start(&mut up(), directory.path());
    let ready = first.ready();
    let address = ready["server"].as_str().expect("an address").to_owned();
    assert_eq!(get(&address, "/readyz").0, 200);
    for part in ["nats", "objects", "view", "keys", "lock"] {
        assert!(data.join(part).exists(), "{part} is missing");
    }

    let second = say(&mut up());
    assert_eq!(second.exit, Some(7), "{}", second.stderr);
    for words in [format!("in use by process {}", first.pid()), address.clone()] {
        assert!(second.stderr.contains(&words), "{} lacks {words}", second.stderr);
    }

    let health = say(spool(&["health", "--server", &address]).env("NO_PROXY", "*"));
    assert_eq!((health.exit, health.stdout.as_str()), (Some(0), "ready\n"), "{}", health.stderr);
    let list = say(&mut spool(&["ls", "--server", &address]));
    assert_eq!((list.exit, list.stdout.as_str()), (Some(0), "no assets\n"), "{}", list.stderr);

    let nats = first.children();
    assert!(!nats.is_empty(), "spool up has a nats-server");
    first.signal(Signal::TERM);
    let status = first.ended_within(STOPS_WITHIN);
    assert_eq!(status.code(), Some(0), "{}", first.log());
    for pid in nats {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "child {pid} outlived its parent");
    }

    let again = Running::start(&mut up(), directory.path());
    again.ready();
}

#[test]
fn the_streams_of_up_are_checked_and_mended_with_the_keys_it_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let up = || {
        let mut command = spool(&["up", "--json", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(&data);
        Running::start(&mut command, directory.path())
    };
    let keys = data.join("keys/nats.toml");
    let streams = |verb: &str| say(spool(&["streams", verb, "--config"]).arg(&keys));
    let passwords = || {
        let text = std::fs::read_to_string(&keys).expect("the keys");
        text.split_once("[nats.passwords]").expect("passwords").1.to_owned()
    };

    let mut process = up();
    process.ready();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&keys).expect("the keys"));
    assert_eq!(mode & 0o777, 0o600, "others must not read passwords");
    for verb in ["check", "apply", "check"] {
        let said = streams(verb);
        assert_eq!(said.exit, Some(0), "{verb}: {} {}", said.stdout, said.stderr);
    }
    // A Spool that wants three replicas finds that this one has one.
    let said = say(spool(&["streams", "check", "--config"]).arg(&keys).env("SPOOL__NATS__REPLICAS", "3"));
    assert!(said.exit != Some(0) && said.stdout.contains("replicas"), "{} {}", said.stdout, said.stderr);
    let before = passwords();
    process.signal(Signal::TERM);
    assert_eq!(process.ended_within(STOPS_WITHIN).code(), Some(0), "{}", process.log());
    let said = streams("check");
    assert_eq!(said.exit, Some(5), "nothing listens there any more: {} {}", said.stdout, said.stderr);

    up().ready();
    assert_eq!(passwords(), before, "what was given to others stays right");
}

#[test]
fn a_child_server_does_not_outlive_a_killed_spool() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let mut command = spool(&["up", "--json", "--listen", "127.0.0.1:0", "--data"]);
    let mut process = Running::start(command.arg(&data), directory.path());
    process.ready();
    let nats = process.children();
    process.signal(Signal::KILL);
    process.ended_within(STOPS_WITHIN);
    let started = Instant::now();
    while nats.iter().any(|pid| is_alive(*pid)) {
        assert!(started.elapsed() < STOPS_WITHIN, "{nats:?} outlived {}", process.pid());
        std::thread::yield_now();
    }
}
