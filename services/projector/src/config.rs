//! Configuration of the projector.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use spool_kit::units::{Bytes, Span};

/// Configuration of the projector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of the view. It holds nothing that the log does not: it may be deleted while Spool is stopped.
    pub directory: PathBuf,
    /// Memory for the view's cache.
    pub cache: Bytes,
    /// Scheme and host in front of addresses in answers, without a slash at the end: `https://video.example.org`. Empty
    /// for addresses relative to the server.
    pub public_url: String,
    /// Longest wait of a read that asks for at least a sequence.
    pub read_wait: Span,
    /// Live connections of `/v1/events` at one time.
    pub max_followers: u32,
    /// How often a live connection without news gets a sign of life.
    pub keep_alive: Span,
}

/// Least memory of the cache: the database knows no smaller one.
const LEAST_CACHE: Bytes = Bytes::mib(1);

impl Config {
    /// What no type says.
    ///
    /// # Errors
    /// Which setting can't be, and what it can be, as a sentence.
    pub fn judge(&self) -> Result<(), String> {
        if self.cache.0 < LEAST_CACHE.0 {
            return Err(format!("projector.cache is {}; it can be {LEAST_CACHE} or more", self.cache));
        }
        let url = &self.public_url;
        if !url.is_empty() && !url.starts_with("https://") && !url.starts_with("http://") {
            return Err(format!("projector.public_url is {url:?}; it begins with https:// or http://, or is empty"));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("view"),
            cache: Bytes::mib(64),
            public_url: String::new(),
            read_wait: Span::secs(5),
            max_followers: 256,
            keep_alive: Span::secs(15),
        }
    }
}
