//! What can go wrong with the store, and what the outside is told about it.

use spool_proto::Code;

use crate::units::Bytes;

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory can't be made or used.
    #[error("open the object directory {path}")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The configuration does not make a store.
    #[error("configure the object store")]
    Config(#[source] object_store::Error),
    /// It was tried and failed.
    #[error("try the object store")]
    Probe(#[source] StoreError),
}

/// A request to the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("object {key} is not there")]
    Missing {
        /// Its key.
        key: String,
    },
    /// Other bytes stand at a key that was to be written.
    #[error("object {key} stands already")]
    Exists {
        /// Its key.
        key: String,
    },
    /// The object is shorter than what was asked for.
    #[error("object {key} gave {got} of {wanted} bytes")]
    Short {
        /// Its key.
        key: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that came.
        got: u64,
    },
    /// No space is left.
    #[error("no space is left for object {key}")]
    Full {
        /// Its key.
        key: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The disk has less room than is to stay free.
    #[error("{free} are free for object {key}, and {keep_free} are to stay free (store.dir.keep_free)")]
    NoRoom {
        /// Its key.
        key: String,
        /// Free bytes.
        free: Bytes,
        /// What is to stay free.
        keep_free: Bytes,
    },
    /// No answer within the limit.
    #[error("the store did not answer in time about {key}")]
    TimedOut {
        /// What it was asked about.
        key: String,
    },
    /// Anything else.
    #[error("the store failed at {key}")]
    Other {
        /// What it was asked about.
        key: String,
        /// What the store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// The directory could not be swept.
    #[error("sweep the object directory")]
    Directory(#[source] std::io::Error),
}

impl From<object_store::Error> for StoreError {
    fn from(source: object_store::Error) -> Self {
        use object_store::Error as E;
        if is_full(&source) {
            return Self::Full { key: String::new(), source: Box::new(source) };
        }
        if let E::NotFound { path, .. } = source {
            return Self::Missing { key: path };
        }
        if let E::AlreadyExists { path, .. } | E::Precondition { path, .. } = source {
            return Self::Exists { key: path };
        }
        Self::Other { key: String::new(), source: Box::new(source) }
    }
}

/// Does an error of the disk below say that there is no space?
fn is_full(error: &object_store::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            let kind = io.kind();
            return kind == std::io::ErrorKind::StorageFull || kind == std::io::ErrorKind::QuotaExceeded;
        }
        next = error.source();
    }
    false
}

impl StoreError {
    pub(super) fn directory(source: std::io::Error) -> Self {
        Self::Directory(source)
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    pub(super) fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }

    /// The same error, naming the key it was about.
    pub(super) fn about(self, about: &spool_proto::key::Key) -> Self {
        self.named(&about.to_string())
    }

    pub(super) fn named(self, name: &str) -> Self {
        let key = name.to_owned();
        match self {
            Self::Missing { .. } => Self::Missing { key },
            Self::Exists { .. } => Self::Exists { key },
            Self::Short { wanted, got, .. } => Self::Short { key, wanted, got },
            Self::Full { source, .. } => Self::Full { key, source },
            Self::NoRoom { free, keep_free, .. } => Self::NoRoom { key, free, keep_free },
            Self::TimedOut { .. } => Self::TimedOut { key },
            Self::Other { source, .. } => Self::Other { key, source },
            Self::Directory(source) => Self::Directory(source),
        }
    }

    /// The problem as the outside knows it.
    pub fn code(&self) -> Code {
        match self {
            Self::Full { .. } | Self::NoRoom { .. } => Code::StoreFull,
            Self::TimedOut { .. } | Self::Other { .. } | Self::Directory(_) => Code::StoreUnavailable,
            Self::Missing { .. } | Self::Exists { .. } | Self::Short { .. } => Code::Internal,
        }
    }

    /// Can the same request do better a little later?
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::NoRoom { .. }
            | Self::TimedOut { .. }
            | Self::Other { .. }
            | Self::Directory(_) => true,
            Self::Missing { .. } | Self::Exists { .. } | Self::Short { .. } => false,
        }
    }
}
