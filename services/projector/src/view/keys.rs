//! The keys of the view: one sled tree, a tag byte per kind of row, built and parsed here and nowhere else.
//!
//! ```text
//! m {name}                                     facts about the view itself: position, fingerprint
//! a {tenant} 0 {asset}                         the fold of an asset and its text
//! c {tenant} 0 {asset}                         its card: what lists and GET answer
//! l {tenant} 0 {newest first}{asset}           list of all that is not deleted
//! s {tenant} 0 {status}{newest first}{asset}   list by status
//! p {playback}                                 what a playback id plays
//! o {tenant} 0 {asset}{generation}{rendition} 0 {chunk}     one stored chunk
//! i {tenant} 0 {asset}{generation}{name}       one stored still picture
//! h {tenant} 0 {asset}{sequence}               history: one fact in short
//! q {sequence}                                 changes: whose fact that was
//! u {sequence}                                 facts this version does not know
//! ```
//!
//! Numbers are big-endian, so that keys sort as the numbers do; "newest first" is the complement of the creation time in
//! milliseconds. Tenants and names are plain text without a zero byte; asset ids all have one length.

use spool_proto::id::PlaybackId;
use spool_proto::slot::is_plain_name;
use spool_proto::{AssetId, Status, TenantId, Timestamp};

/// Length of an asset id: `vid_` and 26 characters.
const ASSET_LEN: usize = 30;

/// A key of the view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Something about the view itself.
    Meta(Meta),
    /// The fold of an asset.
    Row(TenantId, AssetId),
    /// What the outside sees of it.
    Card(TenantId, AssetId),
    /// Its place in the list of all.
    Listed(TenantId, Place),
    /// Its place in the list of a status.
    ByStatus(TenantId, Status, Place),
    /// What a playback id plays.
    Play(PlaybackId),
    /// A stored chunk.
    Chunk {
        /// Whose.
        tenant: TenantId,
        /// Of which asset.
        asset: AssetId,
        /// Generation.
        generation: u32,
        /// Rendition.
        rendition: String,
        /// Chunk index.
        chunk: u32,
    },
    /// A stored still picture.
    Still {
        /// Whose.
        tenant: TenantId,
        /// Of which asset.
        asset: AssetId,
        /// Generation.
        generation: u32,
        /// Name.
        name: String,
    },
    /// A fact in short.
    History(TenantId, AssetId, u64),
    /// Whose fact a sequence is.
    Change(u64),
    /// A fact this version does not know.
    Unknown(u64),
}

/// Facts about the view itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meta {
    /// Sequence of the last fact folded.
    Position,
    /// What the code that folded it knew: schema and kinds.
    Fingerprint,
}

impl Meta {
    const ALL: [Meta; 2] = [Meta::Position, Meta::Fingerprint];

    fn name(self) -> &'static str {
        match self {
            Meta::Position => "position",
            Meta::Fingerprint => "fingerprint",
        }
    }
}

/// A place in a list: newest first, ids in order where the time is the same. As text it is the list's cursor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// When the asset was registered.
    pub created_at: Timestamp,
    /// Its id.
    pub asset: AssetId,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.created_at.as_ms(), self.asset)
    }
}

impl std::str::FromStr for Place {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let refuse = || KeyError(text.as_bytes().iter().copied().take(80).collect());
        let (ms, asset) = text.split_once('-').ok_or_else(refuse)?;
        let ms = ms.parse().map_err(|_| refuse())?;
        Ok(Self { created_at: Timestamp::from_ms(ms), asset: asset.parse().map_err(|_| refuse())? })
    }
}

/// Bytes that are no key of the view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{:?} is no key of the view", String::from_utf8_lossy(.0))]
pub struct KeyError(Vec<u8>);

impl KeyError {
    /// These bytes are no key, or none of the kind that was looked for.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// Turns a time into a number that sorts the other way round. The sign bit is flipped first: times before 1970 sort too.
fn newest_first(at: Timestamp) -> u64 {
    !((at.as_ms() as u64) ^ (1 << 63))
}

fn from_newest_first(number: u64) -> Timestamp {
    Timestamp::from_ms((!number ^ (1 << 63)) as i64)
}

fn status_byte(status: Status) -> u8 {
    match status {
        Status::Uploading => 1,
        Status::Checking => 2,
        Status::Encoding => 3,
        Status::Playable => 4,
        Status::Ready => 5,
        Status::Rejected => 6,
        Status::Failed => 7,
        Status::Abandoned => 8,
        Status::Deleted => 9,
    }
}

/// Writes a key, part by part.
struct Writer(Vec<u8>);

impl Writer {
    fn of(tag: u8, tenant: &TenantId) -> Self {
        Self(vec![tag]).text(tenant.as_str()).byte(0)
    }
    fn text(mut self, text: &str) -> Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }
    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }
    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
    fn place(self, place: &Place) -> Self {
        self.u64(newest_first(place.created_at)).text(place.asset.as_str())
    }
}

impl Key {
    /// The key's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Key::Meta(meta) => Writer(vec![b'm']).text(meta.name()),
            Key::Row(tenant, asset) => Writer::of(b'a', tenant).text(asset.as_str()),
            Key::Card(tenant, asset) => Writer::of(b'c', tenant).text(asset.as_str()),
            Key::Listed(tenant, place) => Writer::of(b'l', tenant).place(place),
            Key::ByStatus(tenant, status, place) => Writer::of(b's', tenant).byte(status_byte(*status)).place(place),
            Key::Play(playback) => Writer(vec![b'p']).text(playback.as_str()),
            Key::Chunk { tenant, asset, generation, rendition, chunk } => {
                Writer::of(b'o', tenant).text(asset.as_str()).u32(*generation).text(rendition).byte(0).u32(*chunk)
            }
            Key::Still { tenant, asset, generation, name } => {
                Writer::of(b'i', tenant).text(asset.as_str()).u32(*generation).text(name)
            }
            Key::History(tenant, asset, sequence) => Writer::of(b'h', tenant).text(asset.as_str()).u64(*sequence),
            Key::Change(sequence) => Writer(vec![b'q']).u64(*sequence),
            Key::Unknown(sequence) => Writer(vec![b'u']).u64(*sequence),
        }
        .0
    }

    /// Takes a key apart.
    ///
    /// # Errors
    /// When the bytes are not just what [`Key::bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Key, KeyError> {
        let key = Reader(bytes).key().filter(|key| key.bytes() == bytes);
        key.ok_or_else(|| KeyError(bytes.to_vec()))
    }
}

/// Start of every key in the list of all of a tenant.
pub fn listed(tenant: &TenantId) -> Vec<u8> {
    Writer::of(b'l', tenant).0
}

/// Start of every key in the list of a status.
pub fn by_status(tenant: &TenantId, status: Status) -> Vec<u8> {
    Writer::of(b's', tenant).byte(status_byte(status)).0
}

/// Start of every key of facts that this version does not know.
pub const UNKNOWN: &[u8] = b"u";

/// Takes a key apart, part by part.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Option<&[u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }
    /// Text up to a zero byte or, without one, to the end.
    fn text(&mut self) -> Option<&str> {
        let length = self.0.iter().position(|b| *b == 0).unwrap_or(self.0.len());
        std::str::from_utf8(self.take(length)?).ok()
    }
    /// A name that a plan gave.
    fn name(&mut self) -> Option<String> {
        self.text().filter(|name| is_plain_name(name)).map(str::to_owned)
    }
    fn zero(&mut self) -> Option<()> {
        (self.byte()? == 0).then_some(())
    }
    fn tenant(&mut self) -> Option<TenantId> {
        let tenant = self.text()?.parse().ok()?;
        self.zero()?;
        Some(tenant)
    }
    fn asset(&mut self) -> Option<AssetId> {
        std::str::from_utf8(self.take(ASSET_LEN)?).ok()?.parse().ok()
    }
    fn place(&mut self) -> Option<Place> {
        Some(Place { created_at: from_newest_first(self.u64()?), asset: self.asset()? })
    }
    fn key(&mut self) -> Option<Key> {
        Some(match self.byte()? {
            b'm' => {
                let name = self.text()?;
                Key::Meta(Meta::ALL.into_iter().find(|meta| meta.name() == name)?)
            }
            b'a' => Key::Row(self.tenant()?, self.asset()?),
            b'c' => Key::Card(self.tenant()?, self.asset()?),
            b'l' => Key::Listed(self.tenant()?, self.place()?),
            b's' => {
                let tenant = self.tenant()?;
                let byte = self.byte()?;
                let status = Status::ALL.into_iter().find(|status| status_byte(*status) == byte)?;
                Key::ByStatus(tenant, status, self.place()?)
            }
            b'p' => Key::Play(self.text()?.parse().ok()?),
            b'o' => {
                let (tenant, asset, generation) = (self.tenant()?, self.asset()?, self.u32()?);
                let rendition = self.name()?;
                self.zero()?;
                Key::Chunk { tenant, asset, generation, rendition, chunk: self.u32()? }
            }
            b'i' => {
                let (tenant, asset, generation) = (self.tenant()?, self.asset()?, self.u32()?);
                Key::Still { tenant, asset, generation, name: self.name()? }
            }
            b'h' => Key::History(self.tenant()?, self.asset()?, self.u64()?),
            b'q' => Key::Change(self.u64()?),
            b'u' => Key::Unknown(self.u64()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(ms: i64, bits: u128) -> Place {
        Place { created_at: Timestamp::from_ms(ms), asset: AssetId::from_bits(bits) }
    }

    fn one_of_each() -> Vec<Key> {
        let (tenant, asset) = (TenantId::default_tenant(), AssetId::from_bits(7));
        vec![
            Key::Meta(Meta::Position),
            Key::Meta(Meta::Fingerprint),
            Key::Row(tenant.clone(), asset.clone()),
            Key::Card(tenant.clone(), asset.clone()),
            Key::Listed(tenant.clone(), place(1_795_240_800_000, 7)),
            Key::ByStatus(tenant.clone(), Status::Ready, place(-1, 7)),
            Key::Play(PlaybackId::from_bits(9)),
            Key::Chunk {
                tenant: tenant.clone(),
                asset: asset.clone(),
                generation: 1,
                rendition: "v720".to_owned(),
                chunk: 256,
            },
            Key::Still { tenant: tenant.clone(), asset: asset.clone(), generation: 2, name: "poster".to_owned() },
            Key::History(tenant, asset, u64::MAX),
            Key::Change(1),
            Key::Unknown(0x6d00),
        ]
    }

    #[test]
    fn every_key_comes_apart_as_it_was_put_together() {
        for key in one_of_each() {
            assert_eq!(Key::parse(&key.bytes()), Ok(key));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for key in one_of_each() {
            let mut longer = key.bytes();
            longer.push(b'!');
            assert!(Key::parse(&longer).is_err(), "{key:?}");
            let mut shorter = key.bytes();
            shorter.pop();
            assert_ne!(Key::parse(&shorter), Ok(key));
        }
        assert!(Key::parse(b"").is_err());
        assert!(Key::parse(b"zzz").is_err());
    }

    #[test]
    fn lists_sort_newest_first_and_within_their_own_prefix() {
        let tenant = TenantId::default_tenant();
        let key = |ms, bits| Key::Listed(tenant.clone(), place(ms, bits)).bytes();
        let sorted = [key(2000, 1), key(2000, 2), key(1000, 1), key(-5, 3)];
        assert!(sorted.is_sorted());
        assert!(sorted.iter().all(|k| k.starts_with(&listed(&tenant))));
        // A tenant whose name starts with another's is not in the other's list.
        let other: TenantId = "default2".parse().expect("a tenant");
        assert!(!Key::Listed(other, place(1, 1)).bytes().starts_with(&listed(&tenant)));
        let ready = Key::ByStatus(tenant.clone(), Status::Ready, place(1, 1)).bytes();
        assert!(ready.starts_with(&by_status(&tenant, Status::Ready)));
    }

    #[test]
    fn a_cursor_is_a_place_as_text() {
        let place = place(1_795_240_800_123, 7);
        assert_eq!(place.to_string().parse::<Place>(), Ok(place));
        for bad in ["", "x", "12", "12-vid_", "-vid_00000000000000000000000001"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
