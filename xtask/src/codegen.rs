//! Generates the wire types: `proto/spool/v1/*.proto` to `proto/src/wire/gen.rs`, which is committed, so that a build needs
//! no generator and a review sees what changed on the wire. protox reads the files, prost-build writes; no `protoc`.

use std::fs;
use std::path::{Path, PathBuf};

/// The files of the contract, relative to `proto/`.
const FILES: [&str; 3] = ["spool/v1/fact.proto", "spool/v1/media.proto", "spool/v1/order.proto"];

/// What stands above the generated code.
const HEADER: &str = "// Made by `cargo xtask codegen` from proto/spool/v1/*.proto. Do not edit.\n\n";

/// Writes `gen.rs`; with `check` changes nothing and fails when what is committed differs.
///
/// # Errors
/// A sentence that names the file: it can't be read, is no protobuf, can't be written, or (with `check`) is out of date.
pub(crate) fn run(check: bool) -> Result<(), String> {
    let proto = proto_dir();
    let target = proto.join("src/wire/gen.rs");
    let generated = generate(&proto)?;
    if !check {
        return fs::write(&target, generated).map_err(|e| format!("write {}: {e}", target.display()));
    }
    let committed = fs::read_to_string(&target).map_err(|e| format!("read {}: {e}", target.display()))?;
    if committed == generated {
        return Ok(());
    }
    Err(format!(
        "{} does not follow from proto/spool/v1: run `cargo xtask codegen` and commit what it changes",
        target.display()
    ))
}

fn proto_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto")
}

/// The generated source for the files under `proto`.
fn generate(proto: &Path) -> Result<String, String> {
    refuse_unlisted(proto)?;
    let files = protox::compile(FILES, [proto]).map_err(|e| format!("read {}/spool/v1: {e:?}", proto.display()))?;
    let out = tempfile::tempdir().map_err(|e| format!("make a temporary directory: {e}"))?;
    prost_build::Config::new()
        .out_dir(out.path())
        // The wire's own comments are not Rust's: no doc tests and no broken links out of them.
        .disable_comments(["."])
        .compile_fds(files)
        .map_err(|e| format!("generate from {}/spool/v1: {e}", proto.display()))?;
    let code = out.path().join("spool.v1.rs");
    let code = fs::read_to_string(&code).map_err(|e| format!("read {}: {e}", code.display()))?;
    Ok(format!("{HEADER}{code}"))
}

/// A file that lies there but is not generated from would look like contract and be none.
fn refuse_unlisted(proto: &Path) -> Result<(), String> {
    let dir = proto.join("spool/v1");
    let entries = fs::read_dir(&dir).map_err(|e| format!("list {}: {e}", dir.display()))?;
    for entry in entries {
        let name = entry.map_err(|e| format!("list {}: {e}", dir.display()))?.file_name();
        let name = format!("spool/v1/{}", name.to_string_lossy());
        if !FILES.contains(&name.as_str()) {
            return Err(format!("proto/{name} is not listed in xtask/src/codegen.rs"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_wire_types_are_those_of_the_proto_files() {
        super::run(true).expect("gen.rs is up to date");
    }
}
