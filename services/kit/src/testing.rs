//! What the tests of several crates look for. Not part of any build but theirs.
#![expect(clippy::print_stdout, reason = "a test that does less than it could says so")]

use std::path::{Path, PathBuf};

/// The variable that names another place of the shared media, or `none`.
const PLACE: &str = "SPOOL_MEDIA";

/// The shared media: where `SPOOL_MEDIA` says, else `../shared/media` beside the checkout. Without them tests pass by clips of
/// their own; what was `not_tried` then stands in the output.
///
/// # Panics
/// When `SPOOL_MEDIA` names a place without a `MANIFEST.json`: who says where they are wants them tried.
pub fn shared_media(not_tried: &str) -> Option<PathBuf> {
    let told = std::env::var_os(PLACE).filter(|place| !place.is_empty());
    if told.as_ref().is_some_and(|place| place == "none") {
        println!("NOT tried, since {PLACE} is none: {not_tried}");
        return None;
    }
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/media");
    let place = told.as_ref().map_or_else(beside, PathBuf::from);
    if place.join("MANIFEST.json").is_file() {
        return Some(place);
    }
    assert!(told.is_none(), "{PLACE} is {}, and there is no MANIFEST.json", place.display());
    println!("NOT tried, since {} is absent: {not_tried}", place.display());
    None
}
