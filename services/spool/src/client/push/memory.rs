//! Where unfinished uploads stand, remembered between two runs of `spool push`: one small file each, in the user's state
//! directory. What can't be remembered costs only the resuming after a restart of the command.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use spool_kit::Ids;
use spool_proto::AssetId;
use spool_proto::id::Sha256;

use super::Source;

/// An upload that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Idempotency key of its creation.
    pub(super) key: String,
    /// Trace context of all its requests.
    pub(super) trace: String,
    /// The upload, once it is known that it was created.
    pub(super) upload: Option<Created>,
}

impl Place {
    /// An upload that nobody knows of yet.
    pub(super) fn new(ids: &Ids) -> Self {
        Self { key: ids.request_id(), trace: ids.traceparent(), upload: None }
    }
}

/// An upload that the server knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Created {
    /// Its address; a secret: who has it may send bytes.
    pub(super) url: String,
    /// Its asset.
    pub(super) asset: AssetId,
}

/// The directory, if there is one.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    directory: Option<PathBuf>,
}

impl Memory {
    /// `$XDG_STATE_HOME/spool/uploads`, or below `~/.local/state`.
    pub(super) fn of_this_user() -> Self {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let state = state.or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
        Self { directory: state.map(|state| state.join("spool/uploads")) }
    }

    #[cfg(test)]
    pub(super) fn at(directory: PathBuf) -> Self {
        Self { directory: Some(directory) }
    }

    /// Where the upload with this fingerprint stands.
    pub(super) fn recall(&self, fingerprint: &str) -> Option<Place> {
        let text = std::fs::read(self.file(fingerprint)?).ok()?;
        // A file of another version, or a half-written one, is as good as none.
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn keep(&self, fingerprint: &str, place: &Place) {
        let Some(file) = self.file(fingerprint) else { return };
        if let Err(error) = write(&file, place) {
            tracing::debug!(error = &error as &dyn std::error::Error, "could not remember the upload");
        }
    }

    pub(super) fn forget(&self, fingerprint: &str) {
        let Some(file) = self.file(fingerprint) else { return };
        if let Err(error) = std::fs::remove_file(file) {
            tracing::debug!(error = &error as &dyn std::error::Error, "could not forget the upload");
        }
    }

    fn file(&self, fingerprint: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{fingerprint}.json")))
    }
}

fn write(file: &std::path::Path, place: &Place) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory)?;
    }
    // Beside it, then renamed, so that a crash leaves no half; for this user only, because the address is a secret.
    let beside = file.with_extension("part");
    let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    out.write_all(&serde_json::to_vec(place)?)?;
    std::fs::rename(beside, file)
}

/// Names this file, as it is now, on this server.
pub(super) fn fingerprint(server: &str, source: &Source) -> String {
    let modified = source.modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let path = source.path.display();
    let text = format!("{server}\n{path}\n{}\n{modified}", source.size_bytes);
    Sha256::of(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_remembered_until_it_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = Memory::at(directory.path().join("uploads"));
        let asset = AssetId::from_bits(7);
        let place = Place {
            key: "k".to_owned(),
            trace: "t".to_owned(),
            upload: Some(Created { url: "http://x/y".to_owned(), asset }),
        };
        assert_eq!(memory.recall("f"), None);
        memory.keep("f", &place);
        assert_eq!(memory.recall("f"), Some(place));
        assert_eq!(memory.recall("g"), None);
        memory.forget("f");
        assert_eq!(memory.recall("f"), None);
    }

    #[test]
    fn a_spoilt_memory_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = Memory::at(directory.path().to_owned());
        std::fs::write(directory.path().join("f.json"), b"{\"key\":").expect("written");
        assert_eq!(memory.recall("f"), None);
    }
}
