//! Rows of a log that is away: who asks is told so in time, and carried on with when it is back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use spool_nats::{Log, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::{Case, case, check};
use crate::common::{BYTES, TUS, World, eventually};

/// Most clients give up after this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A line to the server at `url`, that can be cut: from this address, or a free one.
async fn line(url: &str, from: Option<SocketAddr>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(from.unwrap_or(([127, 0, 0, 1], 0).into())).await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), url.trim_start_matches("nats://").to_owned());
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect(&to).await.unwrap();
            connections.spawn(async move {
                let _ends_when_one_side_does = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_is_away_commands_are_refused_in_time_and_taken_when_it_is_back() {
    let world = World::new().await;
    let target = world.server.target("gateway");
    let server = target.url.clone();
    let (address, cut) = line(&server, None).await;
    let log = Log::connect(&Target { url: format!("nats://{address}"), ..target }).await.unwrap();
    let app = world.app_on(world.config(), log).await;
    let created = app.create(10, "").await;
    let (location, asset) = (created.location(), format!("/v1/assets/{}", created.asset()));
    std::fs::write(world.root().join("a.mp4"), "bytes").unwrap();

    cut.abort();
    eventually("the loss is seen", async || app.log.away_for().is_some()).await;
    let asked = Instant::now();
    let retry = format!("{asset}/retry");
    let patch = [TUS, BYTES, ("upload-offset", "0")];
    let create = [TUS, ("upload-length", "10")];
    let json = [("content-type", "application/json"), ("idempotency-key", "one")];
    for (what, method, path, headers, body) in [
        ("create", "POST", "/v1/uploads", &create[..], ""),
        ("create with bytes", "POST", "/v1/uploads", &[TUS, BYTES, ("upload-length", "10")], "0123"),
        ("send", "PATCH", &location, &patch, "0123"),
        ("ask", "HEAD", &location, &[TUS], ""),
        ("cancel", "DELETE", &location, &[TUS], ""),
        ("take in", "POST", "/v1/assets", &json, r#"{"input":{"path":"a.mp4"}}"#),
        ("retry", "POST", &retry, &[], ""),
        ("remove", "DELETE", &asset, &[], ""),
        ("parked", "GET", "/v1/parked", &[], ""),
    ] {
        let says = "The log is not available at the moment. Try again.";
        let reply = check(&app, Case { body, ..case(what, method, path, headers, 503, "unavailable", says) }).await;
        assert_eq!(reply.headers["retry-after"], "5", "{what}");
    }
    assert!(asked.elapsed() < PATIENCE, "{:?}", asked.elapsed());
    // What is wrong all the same is said at once.
    check(&app, case("no length", "POST", "/v1/uploads", &[TUS], 400, "header_invalid", "Upload-Length")).await;

    let _line = line(&server, Some(address)).await;
    eventually("it is back", async || app.log.away_for().is_none()).await;
    assert_eq!(app.patch(&location, 0, "0123456789").await.status, 204);
}
