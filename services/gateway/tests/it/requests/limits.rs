//! Rows of the limits: what is reached, and when to come back.

use spool_gateway::Config;

use super::{Case, case, check};
use crate::common::{BYTES, TUS, World, eventually};

#[tokio::test]
async fn limits_answer_with_what_is_reached_and_when_to_come_back() {
    let world = World::new().await;
    let app = world.app_with(Config { max_uploads: 2, ..world.config() }).await;
    let first = app.create(10, "").await;
    app.create(10, "").await;
    let create = || {
        case(
            "a third",
            "POST",
            "/v1/uploads",
            &[TUS, ("upload-length", "10")],
            429,
            "limit_reached",
            "already 2 open uploads; at most 2",
        )
    };
    let reply = check(&app, create()).await;
    assert_eq!(reply.headers["retry-after"], "5");
    assert_eq!(app.patch(&first.location(), 0, "0123456789").await.status, 204);
    check(&app, Case { status: 201, code: "", ..create() }).await;

    let slow = world.app_with(Config { requests_per_second: 1, ..world.config() }).await;
    let parked = || case("many", "GET", "/v1/parked", &[], 200, "", "");
    check(&slow, parked()).await;
    check(&slow, parked()).await;
    let limited = Case { status: 429, code: "rate_limited", says: "More than 1 a second requests", ..parked() };
    assert_eq!(check(&slow, limited).await.headers["retry-after"], "1");
    let create = [TUS, ("upload-length", "10")];
    check(&slow, case("many", "POST", "/v1/uploads", &create, 429, "rate_limited", "More than 1 a second")).await;
    world.clock.advance(std::time::Duration::from_secs(1));
    check(&slow, parked()).await;
}

#[tokio::test]
async fn places_for_bytes_are_counted_and_one_client_has_a_share_of_them() {
    let world = World::new().await;
    for (config, words) in [
        (Config { max_transfers: 1, ..world.config() }, "already 1 running transfers; at most 1"),
        (Config { max_transfers_per_client: 1, ..world.config() }, "already 1 running transfers of this client"),
    ] {
        one_place(&world, config, words).await;
    }
}

/// While a request that brings bytes is under way, a second one of the same client is told to come back.
async fn one_place(world: &World, config: Config, words: &str) {
    let busy = world.app_with(config).await;
    let (held, other) = (busy.create(10, "").await, busy.create(10, "").await);
    let (sender, body) = crate::common::channel();
    let second = async {
        sender.send(Ok("0".into())).await.unwrap();
        eventually("the first one reads", async || sender.capacity() == 1).await;
        let reply = busy.patch(&other.location(), 0, "").await;
        let registered = busy.log.last_sequence().await.unwrap();
        let create = [TUS, BYTES, ("upload-length", "5")];
        let created =
            Case { body: "hello", ..case("create", "POST", "/v1/uploads", &create, 429, "limit_reached", words) };
        check(&busy, created).await;
        assert_eq!(busy.log.last_sequence().await.unwrap(), registered, "nothing was registered");
        drop(sender);
        reply
    };
    let held = held.location();
    let (first, second) = tokio::join!(busy.patch(&held, 0, body), second);
    assert_eq!((first.status, second.code()), (204, "limit_reached".to_owned()), "{first:?} {second:?}");
    assert!(second.body.contains(words), "{second:?}");
    assert_eq!(busy.patch(&other.location(), 0, "0123456789").await.status, 204, "the place is free again");
}
