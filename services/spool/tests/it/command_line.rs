//! The command line without a server: what it refuses, in which words, with which exit code.

use std::time::{Duration, Instant};

use crate::spool::{say, spool};

/// Wide, because a machine may run many tests at once.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The command ends with `exit`, and standard error says all of `words`.
fn check(args: &[&str], environment: &[(&str, &str)], exit: i32, words: &[&str]) {
    let said = say(spool(args).envs(environment.iter().copied()));
    assert_eq!(said.exit, Some(exit), "{args:?}: {}{}", said.stdout, said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "{args:?} lacks {word:?}:\n{}", said.stderr);
    }
}

#[test]
fn what_is_no_command_is_a_usage_error() {
    check(&[], &[], 2, &["Usage: spool"]);
    check(&["dance"], &[], 2, &["unrecognized subcommand 'dance'"]);
    check(&["show", "a.mp4"], &[], 2, &["vid_"]);
    check(&["ls", "--status", "happy"], &[], 2, &["uploading", "ready"]);
    for limit in ["0", "-1", "many", "99999999999999999999"] {
        let limit = format!("--limit={limit}");
        check(&["ls", &limit], &[], 2, &["'--limit <N>'", "a limit is a number from 1 to 100000"]);
    }
    check(&["push", "x", "--label", "no-value"], &[], 2, &["a label is KEY=VALUE"]);
    check(&["push", "/no/such/file"], &[], 2, &["read /no/such/file", "because: "]);
    check(&["ls", "--server", "localhost:1"], &[], 2, &["http://"]);
    check(&["ls", "--token", "secret\n"], &[], 2, &["--token (or SPOOL_TOKEN) holds a line break"]);
    check(&["ls"], &[("SPOOL_TOKEN", "two\nlines")], 2, &["--token (or SPOOL_TOKEN) holds a line break"]);
}

#[test]
fn a_server_that_is_not_there_is_named_with_what_starts_one() {
    // Port 9 of loopback is nobody's.
    check(&["ls", "--server", "http://127.0.0.1:9"], &[], 5, &["http://127.0.0.1:9/ can't be reached", "spool up"]);
    check(&["ls"], &[("SPOOL_SERVER", "http://127.0.0.1:9")], 5, &["can't be reached"]);
}

#[test]
fn a_variable_that_is_set_to_nothing_is_not_set() {
    check(&["config", "check"], &[("SPOOL_CONFIG", "")], 0, &[]);
    // Whether a Spool answers at the address of the default is all the same.
    let said = say(spool(&["ls", "--limit", "1"]).envs([("SPOOL_SERVER", ""), ("SPOOL_TOKEN", "")]));
    assert_ne!(said.exit, Some(2), "{}", said.stderr);
    assert!(!said.stderr.contains("is no address"), "{}", said.stderr);
    check(&["ls", "--server", ""], &[], 2, &["--server \"\" is no address"]);
}

#[test]
fn with_json_a_failure_is_an_object_on_standard_error() {
    let said = say(&mut spool(&["ls", "--json", "--server", "http://127.0.0.1:9"]));
    let object: serde_json::Value = serde_json::from_str(&said.stderr).expect("JSON");
    assert_eq!((said.stdout.as_str(), &object["error"]["exit"]), ("", &serde_json::json!(5)));
}

#[test]
fn another_address_than_loopback_is_refused_by_the_missing_setting() {
    let words = ["0.0.0.0:0 can be reached from other machines", "the setting `tokens` is missing"];
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_string_lossy().into_owned();
    check(&["up", "--listen", "0.0.0.0:0", "--data", &data], &[], 6, &words);
    check(&["config", "check"], &[("SPOOL__LISTEN", "0.0.0.0:0")], 6, &words);
}

#[test]
fn an_unknown_setting_is_refused_by_name_wherever_it_stands() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("spool.toml");
    std::fs::write(&file, "[gateway]\nmax_uplod = \"1GiB\"\n").expect("written");
    let file = file.to_string_lossy().into_owned();
    check(&["config", "check", "--config", &file], &[], 6, &[&file, "max_uplod", "line 2"]);
    check(&["config", "check"], &[("SPOOL__GATEWAY__MAX_UPLOD", "1GiB")], 6, &["SPOOL__GATEWAY__MAX_UPLOD"]);
    check(&["config", "check", "--config", "/no/such.toml"], &[], 6, &["read the configuration /no/such.toml"]);
}

#[test]
fn roots_that_are_none_are_named_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a-file");
    std::fs::write(&file, b"").expect("written");
    for (root, why) in [(file, "Not a directory"), (directory.path().join("absent"), "No such file or directory")] {
        let roots = format!("['{}', '{}']", directory.path().display(), root.display());
        let root = root.to_string_lossy().into_owned();
        let words = ["gateway.roots can't be used", &root, why];
        check(&["config", "check"], &[("SPOOL__GATEWAY__ROOTS", &roots)], 6, &words);
    }
}

#[test]
fn what_run_and_streams_lack_is_named() {
    check(&["run", "planner"], &[("SPOOL__STORE__DIR__PATH", "/tmp")], 6, &["nats.url", "SPOOL__NATS__URL"]);
    let url = ("SPOOL__NATS__URL", "nats://127.0.0.1:9");
    check(&["run", "planner"], &[url, ("SPOOL__STORE__DIR__PATH", "/tmp")], 6, &["nats.passwords.planner"]);
    check(&["run", "planner"], &[url], 6, &["[store.dir]"]);
    check(&["streams", "check"], &[url], 6, &["SPOOL__NATS__PASSWORDS__ADMIN"]);
}

#[test]
fn a_nats_server_that_is_not_there_is_named_with_what_installs_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_string_lossy().into_owned();
    check(&["up", "--data", &data, "--nats-server", "/no/such/server"], &[], 6, &["nats-server", "cargo xtask setup"]);
}

#[test]
fn the_help_of_every_command_says_what_it_does() {
    let help = say(&mut spool(&["--help"]));
    assert_eq!(help.exit, Some(0));
    for command in [
        "up", "run", "push", "ls", "show", "events", "explain", "watch", "retry", "rm", "view", "parked", "streams",
        "config",
    ] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command} is not in:\n{}", help.stdout);
        assert_eq!(say(&mut spool(&[command, "--help"])).exit, Some(0), "{command} --help");
    }
    assert!(!help.stdout.contains("\n  child "), "the child is hidden");
    assert!(help.stdout.contains("Exit codes:"), "{}", help.stdout);
}

/// A server that knows one asset which never comes to an end, and of which nothing happens.
fn a_quiet_server() -> String {
    use std::io::{BufRead as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            // To the empty line: what is left unread when a connection is closed may cost the client its answer.
            let lines = std::io::BufReader::new(&stream).lines().map_while(Result::ok);
            let asked: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            if asked.first().is_none_or(|line| line.contains(" /v1/events")) {
                held.push(stream);
                continue;
            }
            let body = r#"{"id":"vid_x","status":"encoding","events":[]}"#;
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            let _it_may_have_gone = write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}

#[test]
fn what_only_tells_ends_when_nobody_reads_it() {
    let server = a_quiet_server();
    let directory = tempfile::tempdir().expect("a directory");
    let id = "vid_00000000000000000000000000";
    // Of one asset the exit code says how it ended, and it has not.
    for (args, exit) in [(&["watch"][..], 0), (&["events", id, "--follow"], 0), (&["watch", id], 9)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let log = directory.path().join("log");
        let stderr = std::fs::File::create(&log).expect("a log");
        let mut child = spool(args).args(["--server", &server]).stdout(writer).stderr(stderr).spawn().expect("started");
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if started.elapsed() > ENDS_WITHIN {
                child.kill().expect("killed");
                panic!("{args:?} goes on though nobody reads it");
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(exit), "{args:?}: {}", std::fs::read_to_string(&log).expect("a log"));
    }
}
