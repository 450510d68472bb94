//! Packages of the distribution, through `apt-get`.

use std::io::IsTerminal as _;
use std::process::Command;

use crate::Failure;
use crate::run::{ask, must};

/// How long apt waits for another package manager to let go, in seconds.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=120";

/// Installs those of `packages` that are missing; one retry with fresh lists, for a lock that another process held
/// or lists that are older than the archive.
pub(super) fn install(packages: &[&'static str]) -> Result<(), Failure> {
    let missing = missing(packages);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = command(&missing);
    let unable =
        |why: String| -> Failure { format!("{} missing: {why}\n  install with: {by_hand}", missing.join(", ")).into() };
    if ask(Command::new("apt-get").arg("--version")).is_none() {
        return Err(unable("this system has no apt-get; install what these Debian packages hold".to_owned()));
    }
    let how = privilege().map_err(unable)?;
    println!("installing: {}", missing.join(" "));
    // A machine that was never updated has no lists at all, so the first try may fail without this; what can't be
    // fetched is then told by the installation itself, by package.
    if let Err(error) = must(apt_get(how).args(["update", "--quiet"])) {
        println!("going on with the package lists that are here ({error})");
    }
    if let Err(first) = must(apt_get(how).args(INSTALL).args(&missing)) {
        println!("once more, because {first}");
        let _told_by_the_install = must(apt_get(how).args(["update", "--quiet"]));
        must(apt_get(how).args(INSTALL).args(&missing)).map_err(|second| unable(second.to_string()))?;
    }
    let left = self::missing(&missing);
    if left.is_empty() {
        Ok(())
    } else {
        Err(unable(format!("apt-get ended well but {} is not there", left.join(", "))))
    }
}

const INSTALL: [&str; 4] = ["install", "--yes", "--quiet", "--no-install-recommends"];

/// What a person would type.
pub(super) fn command(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get install {}", packages.join(" "))
}

fn missing(packages: &[&'static str]) -> Vec<&'static str> {
    let installed = |package: &str| {
        let state = ask(Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status}\n", package]));
        state.is_some_and(|text| text.lines().any(|line| line == "installed"))
    };
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// How this process may install.
#[derive(Debug, Clone, Copy)]
enum Privilege {
    Root,
    Sudo,
    SudoWithoutPassword,
}

fn privilege() -> Result<Privilege, String> {
    if ask(Command::new("id").arg("--user")).is_some_and(|id| id.trim() == "0") {
        return Ok(Privilege::Root);
    }
    if ask(Command::new("sudo").args(["--non-interactive", "true"])).is_some() {
        return Ok(Privilege::SudoWithoutPassword);
    }
    let can_ask = std::io::stdin().is_terminal() && ask(Command::new("sudo").arg("--version")).is_some();
    if can_ask {
        Ok(Privilege::Sudo)
    } else {
        Err("only root can install them, and there is no sudo to ask".to_owned())
    }
}

fn apt_get(how: Privilege) -> Command {
    let mut command = match how {
        Privilege::Root => Command::new("apt-get"),
        Privilege::Sudo => Command::new("sudo"),
        Privilege::SudoWithoutPassword => {
            let mut sudo = Command::new("sudo");
            sudo.arg("--non-interactive");
            sudo
        }
    };
    match how {
        Privilege::Root => {
            command.env("DEBIAN_FRONTEND", "noninteractive");
        }
        Privilege::Sudo | Privilege::SudoWithoutPassword => {
            command.args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
    }
    command.args(["-o", LOCK_WAIT]);
    command
}
