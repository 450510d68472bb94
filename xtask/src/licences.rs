//! Licences, origins and bans of every dependency, by `cargo metadata` and `deny.toml`, without a network.
//!
//! The same file drives cargo-deny. Its database of advisories can't be fetched offline, so that part runs where cargo-deny
//! and a fetched database are at hand, and is named as not done where they are not.

mod spdx;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::Command;

use serde::Deserialize;

use crate::Failure;
use crate::run::{ask, cargo, must, root};

/// The parts of `deny.toml` that are read here. The rest is cargo-deny's, so unknown keys pass.
#[derive(Deserialize)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    sources: Sources,
    bans: Bans,
}
#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}
#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: BTreeSet<String>,
}
#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}
#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    wrappers: BTreeSet<String>,
    reason: String,
}

/// What `cargo metadata` says, as far as it is looked at.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}
#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}
#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}
#[derive(Deserialize)]
struct Node {
    id: String,
    dependencies: Vec<String>,
}

/// Checks every target of `deny.toml`.
pub(crate) fn run() -> Result<(), Failure> {
    let rules: Rules = toml::from_str(&std::fs::read_to_string(root().join("deny.toml"))?)?;
    let mut complaints = BTreeSet::new();
    let mut seen = BTreeMap::new();
    for target in &rules.graph.targets {
        let metadata = metadata(target)?;
        complaints.extend(judge(&rules, &metadata));
        seen.extend(metadata.packages.into_iter().map(|p| ((p.name, p.version), p.source.is_some())));
    }
    for complaint in &complaints {
        println!("  {complaint}");
    }
    if !complaints.is_empty() {
        return Err(format!("{} complaints about dependencies; the rules are in deny.toml", complaints.len()).into());
    }
    let names: BTreeSet<&str> = seen.keys().map(|(name, _)| name.as_str()).collect();
    println!(
        "licences, origins and bans: {} packages are fine ({} of them in more than one version)",
        seen.len(),
        seen.len() - names.len()
    );
    advisories()
}

fn metadata(target: &str) -> Result<Metadata, Failure> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--filter-platform", target];
    // Offline first: a machine that has built the tree has all it needs. A fresh clone fetches, once.
    let text = ask(cargo().args(arguments).arg("--offline"))
        .or_else(|| ask(cargo().args(arguments)))
        .ok_or_else(|| format!("`cargo {}` failed; run it to see why", arguments.join(" ")))?;
    Ok(serde_json::from_str(&text)?)
}

/// Everything that is wrong, one sentence each.
fn judge(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let packages: HashMap<&str, &Package> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let used: Vec<&Package> =
        metadata.resolve.nodes.iter().filter_map(|n| packages.get(n.id.as_str()).copied()).collect();
    let mut complaints = Vec::new();
    for package in &used {
        complaints.extend(judge_package(rules, package));
    }
    for node in &metadata.resolve.nodes {
        let Some(parent) = packages.get(node.id.as_str()) else { continue };
        for child in node.dependencies.iter().filter_map(|id| packages.get(id.as_str())) {
            for ban in rules.bans.deny.iter().filter(|ban| ban.name == child.name) {
                if !ban.wrappers.contains(&parent.name) {
                    complaints.push(format!("{} depends on {}: {}", parent.name, child.name, ban.reason));
                }
            }
        }
    }
    complaints
}

fn judge_package(rules: &Rules, package: &Package) -> Vec<String> {
    let who = format!("{} {}", package.name, package.version);
    let mut complaints = Vec::new();
    match &package.license {
        None => complaints.push(format!("{who} names no licence")),
        Some(text) => match spdx::is_allowed(text, &rules.licenses.allow) {
            Ok(true) => {}
            Ok(false) => complaints.push(format!("{who} is under {text}, which is not allowed")),
            Err(error) => complaints.push(format!("{who} has a licence that can't be read: {text:?}, {error}")),
        },
    }
    if let Some(source) = &package.source {
        let known = source.strip_prefix("registry+").is_some_and(|url| rules.sources.allow_registry.contains(url));
        if !known {
            complaints.push(format!("{who} comes from {source}, which is not allowed"));
        }
    }
    complaints
}

/// Known weaknesses, where cargo-deny and its database are here.
fn advisories() -> Result<(), Failure> {
    if let Some(why) = no_advisories() {
        println!("advisories: NOT checked, {why}");
        return Ok(());
    }
    must(cargo().args(["deny", "--offline", "check", "--disable-fetch", "advisories"]))
}

/// Why known weaknesses can't be looked up here, if they can't.
pub(crate) fn no_advisories() -> Option<&'static str> {
    if ask(Command::new("cargo-deny").arg("--version")).is_none() {
        return Some("cargo-deny is not installed (cargo install --locked cargo-deny)");
    }
    let home =
        std::env::var_os("CARGO_HOME").map(Into::into).or_else(|| std::env::home_dir().map(|h| h.join(".cargo")));
    let databases = home.map(|home: std::path::PathBuf| home.join("advisory-dbs"));
    let fetched = databases.is_some_and(|path| path.is_dir());
    (!fetched).then_some("there is no database (cargo deny fetch db)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        toml::from_str(&std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml")).expect("rules")
    }

    fn package(name: &str, license: Option<&str>, source: Option<&str>) -> Package {
        let own = str::to_owned;
        Package {
            id: own(name),
            name: own(name),
            version: own("1.0.0"),
            license: license.map(own),
            source: source.map(own),
        }
    }

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    #[test]
    fn a_strange_licence_and_a_strange_origin_are_named() {
        let check = |license, source| judge_package(&rules(), &package("x", license, source)).join("; ");
        assert_eq!(check(Some("MIT"), Some(CRATES_IO)), "");
        assert_eq!(check(Some("Apache-2.0"), None), "");
        assert_eq!(check(Some("GPL-3.0-only"), Some(CRATES_IO)), "x 1.0.0 is under GPL-3.0-only, which is not allowed");
        assert_eq!(check(None, Some(CRATES_IO)), "x 1.0.0 names no licence");
        let git = "git+https://example.org/x";
        assert_eq!(check(Some("MIT"), Some(git)), format!("x 1.0.0 comes from {git}, which is not allowed"));
    }

    #[test]
    fn a_banned_crate_is_refused_except_below_its_owner() {
        let graph = |parent: &str| Metadata {
            packages: vec![package(parent, Some("MIT"), None), package("sled", Some("MIT"), Some(CRATES_IO))],
            resolve: Resolve { nodes: vec![Node { id: parent.to_owned(), dependencies: vec!["sled".to_owned()] }] },
        };
        assert!(judge(&rules(), &graph("spool-projector")).is_empty());
        assert_eq!(
            judge(&rules(), &graph("spool-gateway")),
            ["spool-gateway depends on sled: only the projector has a view"]
        );
    }
}
