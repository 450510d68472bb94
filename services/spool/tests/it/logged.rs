//! One asset through the logs: whoever looks for its id meets every role.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use spool_proto::Role;

use crate::spool::{Running, spool};
use crate::stage::{Process, picture_and_sound};

const STOPS_WITHIN: Duration = Duration::from_secs(60);

/// The asset that a line is about: by its own field, or that of a span it stands in.
fn asset(line: &Value) -> Option<&str> {
    let spans = line["spans"].as_array().into_iter().flatten();
    std::iter::once(line).chain(spans).find_map(|place| place["asset.id"].as_str())
}

/// The role whose code wrote a line.
fn role(line: &Value) -> Option<Role> {
    let written_by = line["target"].as_str()?.strip_prefix("spool_")?.split("::").next()?;
    Role::ALL.into_iter().find(|role| role.name() == written_by)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asset_is_followed_by_its_id_through_the_logs_of_every_role() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = spool(&["up", "--json", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(directory.path().join("data"));
    // What concerns a single fact of the view is below what is usually said.
    command.env("SPOOL__LOG__FORMAT", "json").env("SPOOL__LOG__FILTER", "info,async_nats=warn,spool_projector=trace");
    let running = Running::start(&mut command, directory.path());
    let server = running.ready()["server"].as_str().expect("an address").to_owned();
    let mut up = Process { running, server };
    let file = picture_and_sound(directory.path(), "clip.mp4", 1);
    let (one, other) = (up.push(&file), up.push(&file));
    for id in [&one, &other] {
        up.until_status(id, "ready").await;
    }
    up.running.signal(Signal::TERM);
    assert_eq!(up.running.ended_within(STOPS_WITHIN).code(), Some(0), "{}", up.running.log());

    let log = up.running.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for id in [&one, &other] {
        let of_it = lines.iter().filter(|line| asset(line) == Some(id.as_str()));
        let met: BTreeSet<&str> = of_it.filter_map(role).map(Role::name).collect();
        assert_eq!(met, Role::ALL.map(Role::name).into(), "{id}\n{log}");
    }
}
