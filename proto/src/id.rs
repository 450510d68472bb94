//! Names of things: tenants, assets, uploads, playbacks, attempts, events.
//!
//! Every id is parsed once, at the edge, and is valid from then on: its text is safe as one token of a NATS subject and as
//! one part of an object key. Randomness and time are handed in (`from_bits`), never taken here.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Hasher};
use thiserror::Error;

/// Crockford's base 32 in lower case: no `i`, `l`, `o`, `u`, so that an id can be read out loud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// An id that does not have the form its type asks for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} must be {form}, got {got:?}")]
pub struct IdError {
    what: &'static str,
    form: &'static str,
    got: String,
}

impl IdError {
    fn new(what: &'static str, form: &'static str, got: &str) -> Self {
        Self { what, form, got: got.chars().take(80).collect() }
    }
}

/// Writes `bits` in Crockford base 32, `chars` characters long, most significant first.
fn encode(bits: u128, chars: usize) -> String {
    (0..chars).rev().map(|i| ALPHABET[((bits >> (5 * i as u32)) & 31) as usize] as char).collect()
}

fn is_base32(text: &str, chars: usize) -> bool {
    text.len() == chars && text.bytes().all(|b| ALPHABET.contains(&b))
}

macro_rules! text_id {
    ($name:ident, $what:literal, $form:literal, $valid:expr) => {
        impl $name {
            /// The id as it stands in subjects, keys and JSON.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(IdError::new($what, $form, text)) }
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

macro_rules! random_id {
    ($name:ident, $prefix:literal, $what:literal, $form:literal) => {
        text_id!($name, $what, $form, |t| t.strip_prefix($prefix).is_some_and(|rest| is_base32(rest, 26)));
        impl $name {
            /// The id that holds these 128 bits.
            pub fn from_bits(bits: u128) -> Self {
                Self(format!("{}{}", $prefix, encode(bits, 26)))
            }
        }
    };
}

/// An institution or customer: lower-case letters, digits, `-` and `_`, at most 32 of them, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);
text_id!(TenantId, "a tenant", "1 to 32 of a-z 0-9 - _, starting with a letter or digit", |t| {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=32).contains(&t.len())
        && t.bytes().next().is_some_and(ok)
        && t.bytes().all(|b| ok(b) || b == b'-' || b == b'_')
});

impl TenantId {
    /// The tenant of the one-machine mode.
    pub fn default_tenant() -> Self {
        Self("default".to_owned())
    }
}

/// One logical video: `vid_` and 128 bits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetId(String);
random_id!(AssetId, "vid_", "an asset id", "vid_ and 26 characters of Crockford base 32 in lower case");

impl AssetId {
    /// The id of the asset that `door` of `tenant` knows by the natural key `key`: the same for ever, so that a repeat
    /// registers nothing new.
    pub fn from_natural_key(tenant: &TenantId, door: &str, key: &str) -> Self {
        let mut hasher = Hasher::new();
        for part in [tenant.as_str(), door, key] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        Self::from_bits(first_bits(&hasher.finalize()))
    }
}

/// A resumable upload; a secret: who has it may send bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(String);
random_id!(UploadId, "upl_", "an upload id", "upl_ and 26 characters of Crockford base 32 in lower case");

/// The public name of an asset's playback; a secret of its own, so that an asset id gives no right to watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlaybackId(String);
random_id!(PlaybackId, "pb_", "a playback id", "pb_ and 26 characters of Crockford base 32 in lower case");

/// Names one text of one asset on `SPOOL_TEXTS`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TextToken(String);
random_id!(TextToken, "txt_", "a text token", "txt_ and 26 characters of Crockford base 32 in lower case");

/// One attempt at writing an object, at the end of its key: two attempts never write the same key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AttemptId(String);
text_id!(AttemptId, "an attempt", "13 characters of Crockford base 32 in lower case", |t| is_base32(t, 13));

impl AttemptId {
    /// The attempt that holds these 64 bits.
    pub fn from_bits(bits: u64) -> Self {
        Self(encode(bits.into(), 13))
    }
}

/// The id of a fact: a hash of its subject, so rivals for one slot share it. `Nats-Msg-Id` and CloudEvents `ce-id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(String);
random_id!(EventId, "evt_", "an event id", "evt_ and 26 characters of Crockford base 32 in lower case");

impl EventId {
    /// The id of the fact on `subject`.
    pub fn of_subject(subject: &str) -> Self {
        Self::from_bits(first_bits(&Hasher::digest(subject.as_bytes())))
    }
}

fn first_bits(digest: &[u8]) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(first)
}

/// A SHA-256; 64 hexadecimal digits in lower case where it is text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Hasher::digest(bytes).into())
    }
}
impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}
impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl From<Sha256> for String {
    fn from(digest: Sha256) -> String {
        digest.to_string()
    }
}
impl FromStr for Sha256 {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError::new("a SHA-256", "64 hexadecimal digits", text);
        if text.len() != 64 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut out = [0; 32];
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| refuse())?;
        }
        Ok(Self(out))
    }
}
impl TryFrom<String> for Sha256 {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        let id = AssetId::from_bits(u128::MAX);
        assert_eq!(id.as_str().parse::<AssetId>(), Ok(id.clone()));
        assert_eq!(id.as_str(), "vid_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        assert_eq!(AttemptId::from_bits(0).as_str(), "0000000000000");
    }

    #[test]
    fn text_that_would_break_a_subject_or_a_key_is_no_id() {
        for bad in ["", "vid_", "vid_0.0", "vid_*", "../../etc/passwd", "vid_IIIIIIIIIIIIIIIIIIIIIIIIII"] {
            assert!(bad.parse::<AssetId>().is_err(), "{bad}");
        }
        for bad in ["", "A", "a.b", "a b", "-a", "a/b", "*", ">"] {
            assert!(bad.parse::<TenantId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_natural_key_always_gives_the_same_asset_and_parts_do_not_run_together() {
        let t = TenantId::default_tenant();
        assert_eq!(AssetId::from_natural_key(&t, "ingest", "a"), AssetId::from_natural_key(&t, "ingest", "a"));
        assert_ne!(AssetId::from_natural_key(&t, "ab", "c"), AssetId::from_natural_key(&t, "a", "bc"));
    }

    #[test]
    fn digests_round_trip_through_text() {
        let d = Sha256::of(b"hello");
        assert_eq!(d.to_string().parse::<Sha256>(), Ok(d));
        assert!("zz".parse::<Sha256>().is_err());
    }
}
