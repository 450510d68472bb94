//! Files through the real binary, measured with tools that are not ours.
//!
//! [`whole`] pushes every file of `../shared/media` (or clips of our own) through one `spool up` and prints one table;
//! [`playable`] watches a long source become playable; [`proofs`] shows that each check can fail. ffmpeg and ffprobe
//! measure; what is owed is worked out from the design a second time, in [`grid`] and [`source`].
#![expect(clippy::print_stdout, reason = "the table is what this is for")]

mod damage;
mod dice;
mod grid;
mod http;
mod inputs;
mod judge;
mod looks;
mod playable;
mod playlist;
mod proofs;
mod served;
mod sound;
mod source;
mod spool;
mod synth;
mod table;
mod tool;
mod whole;

use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::spool::Spool;

/// One of the long tests at a time, and nothing beside it: their figures are times.
static ALONE: RwLock<()> = RwLock::new(());

fn alone() -> RwLockWriteGuard<'static, ()> {
    ALONE.write().unwrap_or_else(PoisonError::into_inner)
}

/// For what needs a processor for a while and measures no time: beside its like, never beside a long one.
fn beside() -> RwLockReadGuard<'static, ()> {
    ALONE.read().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_file_ends_as_it_should_and_what_plays_is_right() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let eyes = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if let Err(error) = whole::table(dir.path(), eyes) {
        panic!("{error}");
    }
}

#[test]
fn five_minutes_play_early_and_a_player_never_waits() {
    plays_early("long.mp4");
}

#[test]
fn five_minutes_that_can_not_be_cut_play_early_too() {
    plays_early("long.ts");
}

/// A neighbour on this machine may take it away for seconds: a time that is not kept must be missed each time to count. Nothing
/// else is tried again.
const TRIES: u32 = 3;

fn plays_early(name: &str) {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = synth::long(dir.path(), name).expect("a clip");
    let mut missed = Vec::new();
    for attempt in 1..=TRIES {
        let home = dir.path().join(attempt.to_string());
        std::fs::create_dir(&home).expect("a directory");
        let spool = Spool::up(&home, "").expect("spool starts");
        let early = playable::watch(&spool, &file);
        spool.stop().expect("spool stops");
        let early = early.expect("it becomes ready");
        let playable::Early { playable, ready, growths, least_ahead_s, wrong, late } = early;
        println!(
            "{name}, try {attempt} of {TRIES}: playable {playable:.2?}, ready {ready:.2?}, grew {growths} times, \
             at least {least_ahead_s:.1} s ahead"
        );
        assert!(wrong.is_empty(), "{wrong:?}");
        if late.is_empty() {
            return;
        }
        missed.push(late);
    }
    panic!("{missed:?}");
}
