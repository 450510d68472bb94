//! Starting other programs: say what is started, fail with its name when it fails.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;

/// The root of the tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The shared media, where they are: `SPOOL_MEDIA` names a place (or `none`), else they lie beside the checkout. As the tests
/// find them (`spool_kit::testing`).
pub(crate) fn shared_media() -> Option<PathBuf> {
    let told = std::env::var_os("SPOOL_MEDIA").filter(|place| !place.is_empty());
    let place = told.map_or_else(|| root().join("../shared/media"), PathBuf::from);
    Some(place).filter(|place| place.join("MANIFEST.json").is_file())
}

/// The build directory: what cargo was told, else `target/`.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Where tools that Spool installed for itself lie. Always below the tree, whatever the build directory is.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The cargo that started this.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The command as one would type it.
pub(crate) fn typed(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs it with this process's streams; an exit code other than 0 is a failure that names it.
pub(crate) fn must(command: &mut Command) -> Result<(), Failure> {
    println!("$ {}", typed(command));
    let status = command.status().map_err(|error| format!("start `{}`: {error}", typed(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", typed(command)).into()) }
}

/// Runs it quietly; its standard output when it ended well.
pub(crate) fn ask(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
