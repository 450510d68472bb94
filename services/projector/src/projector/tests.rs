//! The role on a real log: what it folds after a stop, a kill, a rebuild, a damage.

use spool_nats::testing::eventually;
use spool_proto::Role;

use super::*;
use crate::sample;
use crate::view::View;
use crate::world::{World, app, copy, get, settle};

/// The directory of the n-th view of this schema.
fn view_name(number: u32) -> String {
    format!("v{}-{number}", crate::view::SCHEMA)
}

/// Directories of views.
fn views(world: &World) -> Vec<String> {
    let names = std::fs::read_dir(world.view_root()).expect("a directory");
    let names = names.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
    let mut names: Vec<_> = names.filter(|name| name.starts_with('v')).collect();
    names.sort();
    names
}

#[tokio::test]
async fn after_a_clean_stop_just_the_new_facts_are_folded() {
    let world = World::new().await;
    let facts = sample::all_states();
    world.put_texts(&facts).await;
    let (before, after) = facts.split_at(facts.len() - 5);
    world.append(before).await;
    let mut projector = world.projector(world.config());
    assert!(!projector.handle().is_ready());
    settle(&mut projector).await;
    assert_eq!((projector.handle().folded(), projector.handle().is_ready()), (before.len() as u64, true));
    projector.close().await;

    world.append(after).await;
    let mut projector = world.projector(world.config());
    assert!(!projector.handle().is_ready(), "five facts are missing");
    settle(&mut projector).await;
    assert_eq!((projector.handle().folded(), projector.handle().is_ready()), (5, true));
    assert_eq!(projector.handle().position(), facts.len() as u64);
}

#[tokio::test]
async fn after_a_kill_the_facts_after_the_stored_position_are_folded() {
    let world = World::new().await;
    let facts = sample::all_states();
    let last = world.append(&facts).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    // What lies on the disk now, whatever that is: nothing was closed or flushed on purpose.
    let left = world.root.path().join("left");
    copy(&world.view_root(), &left);
    let whole = projector.handle().digest().expect("digest");

    let directory = std::fs::read_to_string(left.join("current")).expect("current");
    let stored = View::open(&left.join(&directory), 1 << 20).expect("a view").position().expect("position");
    let mut again = world.projector(Config { directory: left, ..world.config() });
    settle(&mut again).await;
    assert_eq!(again.handle().folded(), last - stored);
    assert_eq!(again.handle().digest().expect("digest"), whole);
}

#[tokio::test]
async fn a_rebuilt_view_is_the_same_and_reads_go_on_meanwhile() {
    let world = World::new().await;
    let facts = sample::stream((0..60).map(sample::ready));
    world.append(&facts).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    let (handle, app) = (projector.handle(), app(&projector));
    let before = handle.digest().expect("digest");
    assert_eq!(views(&world), [view_name(1)]);

    handle.rebuild();
    let mut steps = 0;
    let id = facts[0].asset.clone();
    while handle.state()["rebuilds"] == 0 {
        projector.step().await.expect("a step");
        steps += 1;
        assert_eq!(get(&app, &format!("/v1/assets/{id}")).await.status, 200, "in step {steps}");
        assert_eq!(handle.position(), facts.len() as u64, "in step {steps}");
    }
    assert!(steps > 2, "{steps}");
    assert_eq!(handle.digest().expect("digest"), before);
    eventually("the old view is gone", || views(&world) == [view_name(2)]).await;

    // What comes after it lands in the new view, and a restart finds it.
    let more = sample::stream([sample::rejected(99)]);
    let last = world.append(&more).await;
    settle(&mut projector).await;
    projector.close().await;
    drop(app);
    drop(handle);
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    assert_eq!((projector.handle().position(), projector.handle().folded()), (last, 0));
}

#[tokio::test]
async fn a_rebuild_under_load_ends_with_everything() {
    let world = World::new().await;
    world.append(&sample::stream((0..20).map(sample::ready))).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    let handle = projector.handle();
    handle.rebuild();
    for n in 100..130 {
        world.append(&sample::stream([sample::rejected(n)])).await;
        projector.step().await.expect("a step");
    }
    settle(&mut projector).await;
    assert_eq!(handle.state()["rebuilds"], 1);
    let (rebuilt, position) = (handle.digest().expect("digest"), handle.position());
    handle.rebuild();
    settle(&mut projector).await;
    assert_eq!((handle.digest().expect("digest"), handle.position()), (rebuilt, position));
}

#[tokio::test]
async fn a_view_that_cannot_be_opened_is_folded_anew() {
    let world = World::new().await;
    let facts = sample::stream([sample::ready(1)]);
    world.append(&facts).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    let whole = projector.handle().digest().expect("digest");
    projector.close().await;
    let conf = world.view_root().join(view_name(1)).join("conf");
    eventually("the view is closed", || View::open(&world.view_root().join(view_name(1)), 1 << 20).is_ok()).await;
    std::fs::write(conf, b"this is no configuration of sled").expect("damage");

    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    assert_eq!(projector.handle().digest().expect("digest"), whole);
    assert_eq!(projector.handle().folded(), facts.len() as u64);
    assert_eq!(views(&world), [view_name(2)]);
}

#[tokio::test]
async fn a_row_that_is_damaged_is_met_by_a_reader_and_mended() {
    let world = World::new().await;
    let facts = sample::stream([sample::ready(1)]);
    world.append(&facts).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    let (handle, app) = (projector.handle(), app(&projector));
    let whole = handle.digest().expect("digest");
    let path = format!("/v1/assets/{}", facts[0].asset);
    projector.main.view.damage_a_card(&facts[0].tenant, &facts[0].asset);
    let answer = get(&app, &path).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("unavailable")));
    settle(&mut projector).await;
    assert_eq!(get(&app, &path).await.status, 200);
    assert_eq!(handle.digest().expect("digest"), whole);
}

#[tokio::test]
async fn a_view_of_another_log_is_folded_anew() {
    let world = World::new().await;
    world.append(&sample::all_states()).await;
    let mut projector = world.projector(world.config());
    settle(&mut projector).await;
    projector.close().await;

    let other = World::new().await;
    let facts = sample::stream([sample::rejected(5)]);
    other.append(&facts).await;
    let mut projector = other.projector(world.config());
    settle(&mut projector).await;
    assert_eq!(projector.handle().position(), facts.len() as u64);
    let card = projector.main.view.card(&facts[0].tenant, &sample::ready(1).asset).expect("a read");
    assert_eq!(card, None);
}

#[tokio::test]
async fn a_server_that_goes_and_comes_back_is_followed_on() {
    let world = World::new().await;
    let facts = sample::all_states();
    let (before, after) = facts.split_at(20);
    world.append(before).await;
    let projector = world.projector(world.config());
    let handle = projector.handle();
    let stop = Stop::new();
    let running = tokio::spawn(projector.run(stop.clone()));
    eventually("the first facts are in", || handle.position() == 20).await;
    world.server.kill_and_restart().await;
    eventually("the gateway is back", || world.log(Role::Gateway).is_connected()).await;
    let last = world.append(after).await;
    eventually("all facts are in", || handle.position() == last).await;
    stop.finish();
    running.await.expect("no panic").expect("a clean end");
}

#[tokio::test]
async fn who_is_told_to_stop_while_the_log_is_away_stops() {
    let world = World::new().await;
    let last = world.append(&sample::all_states()).await;
    let projector = world.projector(world.config());
    let (handle, log) = (projector.handle(), projector.deps.log.clone());
    let stop = Stop::new();
    let running = tokio::spawn(projector.run(stop.clone()));
    eventually("all facts are in", || handle.position() == last).await;
    drop(world.server);
    eventually("the log is away", || !log.is_connected()).await;
    stop.finish();
    // A call that nobody answers is made again for more than half a minute.
    let ended = tokio::time::timeout(Duration::from_secs(30), running).await.expect("it stops");
    ended.expect("no panic").expect("a clean end");
}
