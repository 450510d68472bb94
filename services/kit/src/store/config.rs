//! Which store, and how it is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use serde::{Deserialize, Serialize};
use spool_proto::Timestamp;

use super::{OpenError, StoreError};
use crate::units::Bytes;

/// Tries of one request, inside the limit for all of them.
const RETRIES: usize = 4;
/// All tries of one request together.
const RETRY_LIMIT: Duration = Duration::from_secs(30);
/// One try of a request.
const TRY_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where the objects lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum StoreConfig {
    /// A directory on a disk of this machine.
    Dir(Directory),
    /// S3, or something that speaks it.
    S3(S3),
}

/// A directory as store. Every write is synced to the disk before it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its path; made if it is not there.
    pub path: PathBuf,
    /// Room on its disk that objects leave free: on one machine the log lies there too, and without room it can't even
    /// state that something was deleted.
    #[serde(default = "default_keep_free")]
    pub keep_free: Bytes,
}

fn default_keep_free() -> Bytes {
    Bytes::mib(64)
}

/// A bucket as store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// Name of the bucket.
    pub bucket: String,
    /// Address of the service, for all but AWS itself; `http://` is taken only here.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default = "default_region")]
    pub region: String,
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
}

/// A secret of the configuration: shown nowhere.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

impl StoreConfig {
    /// A directory as store.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self::Dir(Directory { path: path.into(), keep_free: default_keep_free() })
    }
}

/// What a disk still takes, by anybody who is not its keeper; none where the system does not say.
pub fn free_space(on: &Path) -> Option<Bytes> {
    let disk = rustix::fs::statvfs(on).ok()?;
    Some(Bytes(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

type Built = (Arc<dyn ObjectStore>, Option<Disk>);

/// The directory of a store that is one.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    keep_free: Bytes,
}

impl Disk {
    /// Is there room for this many bytes more?
    pub(super) fn room_for(&self, bytes: u64) -> Result<(), StoreError> {
        // Where the system does not say, the write itself will.
        let Some(free) = free_space(&self.path) else { return Ok(()) };
        if free.0 < self.keep_free.0.saturating_add(bytes) {
            return Err(StoreError::NoRoom { key: String::new(), free, keep_free: self.keep_free });
        }
        Ok(())
    }
}

pub(super) fn build(config: &StoreConfig) -> Result<Built, OpenError> {
    match config {
        StoreConfig::Dir(directory) => {
            let refuse = |source| OpenError::Directory { path: directory.path.display().to_string(), source };
            std::fs::create_dir_all(&directory.path).map_err(refuse)?;
            let root = directory.path.canonicalize().map_err(refuse)?;
            let store = LocalFileSystem::new_with_prefix(&root).map_err(OpenError::Config)?;
            let store = store.with_fsync(true).with_automatic_cleanup(true);
            Ok((Arc::new(store), Some(Disk { path: root, keep_free: directory.keep_free })))
        }
        StoreConfig::S3(s3) => Ok((Arc::new(build_s3(s3)?), None)),
    }
}

fn build_s3(s3: &S3) -> Result<impl ObjectStore, OpenError> {
    // The HTTP client below asks the process for its TLS provider; a second install is refused and means nothing.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: RETRIES, retry_timeout: RETRY_LIMIT };
    let client = ClientOptions::new().with_timeout(TRY_LIMIT).with_connect_timeout(CONNECT_LIMIT);
    let plain = s3.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_access_key_id(&s3.access_key_id)
        .with_secret_access_key(&s3.secret_access_key.0)
        .with_retry(retry)
        .with_client_options(client)
        .with_allow_http(plain);
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder.build().map_err(OpenError::Config)
}

/// Staging files are named `{object}#{number}` by the library, and `#` is in no key of ours.
pub(super) fn sweep_staging(directory: &Path, now: Timestamp, age: Duration) -> io::Result<u64> {
    let mut swept = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            // A delete that ran meanwhile took the empty directory away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                open.push(entry.path());
                continue;
            }
            let staging = entry.file_name().to_string_lossy().contains('#');
            let written = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let written = Timestamp::from_ms(i64::try_from(written.as_millis()).unwrap_or(i64::MAX));
            if staging && now.since(written) > age && std::fs::remove_file(entry.path()).is_ok() {
                swept += 1;
            }
        }
    }
    Ok(swept)
}
