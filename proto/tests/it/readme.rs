//! `proto/README.md` says what the code says, and the map in `services/README.md` where it stands.

use std::path::{Path, PathBuf};

use spool_proto::event::Kind;
use spool_proto::key::{Key, Object};
use spool_proto::slot::{Role, TABLE};
use spool_proto::{AssetId, Status, TenantId, envelope, subject};

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).expect("proto/README.md")
}

fn table() -> String {
    let mut out = String::from("| slot | facts | written by |\n|---|---|---|\n");
    for row in TABLE {
        let facts: Vec<_> = row.rivals.iter().map(|kind: &Kind| kind.name()).collect();
        let writers: Vec<_> = row.writers.iter().map(|role: &Role| role.name()).collect();
        out += &format!("| `{}` | {} | {} |\n", row.form, facts.join(" · "), writers.join(", "));
    }
    out
}

#[test]
fn the_slot_table_of_the_readme_is_the_one_in_the_code() {
    let readme = readme();
    let begin = readme.find("| slot | facts | written by |").expect("the head of the table");
    let end = begin + readme[begin..].find("<!-- end -->").expect("the end mark of the table");
    assert_eq!(&readme[begin..end], table(), "put this in proto/README.md:\n{}", table());
}

#[test]
fn every_header_subject_key_and_status_stands_in_the_readme() {
    let readme = readme();
    let headers = [
        envelope::MSG_ID,
        envelope::CE_ID,
        envelope::CE_TYPE,
        envelope::CE_SOURCE,
        envelope::CE_SPECVERSION,
        envelope::CE_SUBJECT,
        envelope::CE_DATACONTENTTYPE,
        envelope::TRACEPARENT,
        envelope::SCHEMA_VERSION,
        envelope::CAUSE,
        envelope::ACTOR,
        envelope::CODE,
        envelope::ATTEMPTS,
        envelope::LAST_ERROR,
        envelope::ORIGINAL_SUBJECT,
        envelope::INGEST_KEY,
        envelope::INGEST_DOOR,
    ];
    let subjects = [
        subject::EVENTS,
        subject::JOBS,
        subject::TIMERS_SET,
        subject::TIMERS_DUE,
        subject::TEXTS,
        subject::INGEST,
        subject::PARKED,
    ];
    let mut wanted: Vec<String> = headers.iter().map(|name| format!("`{name}`")).collect();
    wanted.extend(subjects.iter().map(|name| format!("`{}{{", name.trim_end_matches(['>', '*']))));
    wanted.extend(prefixes().map(|prefix| format!("`{prefix}/{{tenant}}/{{asset}}/")));
    wanted.extend(Status::ALL.iter().map(|status| status.name().to_owned()));
    for word in wanted {
        assert!(readme.contains(&word), "{word} is missing in proto/README.md");
    }
}

/// The first parts of the keys of every kind of object; a new kind stops the build here.
fn prefixes() -> impl Iterator<Item = String> {
    let _every = |object: &Object| match object {
        Object::Piece { .. }
        | Object::Fragment { .. }
        | Object::Chunk { .. }
        | Object::Still { .. }
        | Object::Manifest { .. } => {}
    };
    let (tenant, asset) = (TenantId::default_tenant(), AssetId::from_bits(1));
    let prefixes = spool_proto::key::prefixes(&tenant, &asset);
    let object = Object::Piece { upload: spool_proto::id::UploadId::from_bits(1), piece: 0, epoch: 1 };
    let key = Key { tenant, asset, object }.to_string();
    assert!(prefixes.iter().any(|prefix| key.starts_with(prefix)));
    prefixes.into_iter().map(|prefix| prefix.split('/').next().unwrap_or_default().to_owned())
}

/// The directory of the services, whose README is the map of the code.
fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../services")
}

fn map() -> String {
    std::fs::read_to_string(services().join("README.md")).expect("services/README.md")
}

/// What stands in a directory, in order.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory of the tree");
    let mut entries: Vec<_> = entries.map(|entry| entry.expect("an entry of it").path()).collect();
    entries.sort();
    entries
}

/// The folders below a directory that have more than one file, tests aside.
fn folders(directory: &Path) -> Vec<PathBuf> {
    let below = entries(directory).into_iter().filter(|entry| entry.is_dir() && !entry.ends_with("tests"));
    below
        .flat_map(|folder| [vec![folder.clone()], folders(&folder)].concat())
        .filter(|folder| files(folder) > 1)
        .collect()
}

fn files(folder: &Path) -> usize {
    let is_code = |file: &&PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".rs") && !name.ends_with("tests.rs")
    };
    entries(folder).iter().filter(is_code).count()
}

#[test]
fn every_folder_of_the_services_has_a_row_on_the_map() {
    let (map, services) = (map(), services());
    let sources = entries(&services).into_iter().map(|service| service.join("src")).filter(|source| source.is_dir());
    let folders: Vec<_> = sources.flat_map(|source| folders(&source)).collect();
    assert!(folders.len() > 10, "only these folders were found: {folders:?}");
    for folder in folders {
        let row = format!("\n| [`{}/`](", folder.strip_prefix(&services).unwrap().display());
        assert!(map.contains(&row), "services/README.md, Code map: no row begins with {}", row.trim());
    }
}

#[test]
fn every_link_of_the_map_leads_to_a_file() {
    let map = map();
    let links: Vec<_> = map.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).collect();
    assert!(links.len() > 10, "only these links were found: {links:?}");
    for link in links.into_iter().filter(|link| !link.is_empty() && !link.contains("://")) {
        assert!(services().join(link).exists(), "services/README.md links to {link}, where nothing is");
    }
}
