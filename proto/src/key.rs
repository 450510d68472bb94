//! Object keys: built and parsed here and nowhere else. No key is written twice, and none holds text that a user typed.

use std::fmt;
use std::str::FromStr;

use crate::id::{AssetId, AttemptId, TenantId, UploadId};
use crate::media::SourceRef;
use crate::slot::is_plain_name;

/// What an object is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Object {
    /// A full piece of a source: `sources/{tenant}/{asset}/{upload}/{piece}.{epoch}`.
    Piece {
        /// Its upload.
        upload: UploadId,
        /// Index of the piece.
        piece: u32,
        /// The epoch that wrote it.
        epoch: u64,
    },
    /// A part of a piece that is not full yet: `sources/{tenant}/{asset}/{upload}/{piece}-{offset}.{epoch}`.
    Fragment {
        /// Its upload.
        upload: UploadId,
        /// Index of the piece.
        piece: u32,
        /// Offset in the piece.
        offset: u64,
        /// The epoch that wrote it.
        epoch: u64,
    },
    /// A chunk of a rendition: `renditions/{tenant}/{asset}/g{n}/{rendition}/{chunk}.{attempt}.mp4`.
    Chunk {
        /// Generation.
        generation: u32,
        /// Rendition.
        rendition: String,
        /// Chunk index.
        chunk: u32,
        /// The attempt that wrote it.
        attempt: AttemptId,
    },
    /// A still picture: `stills/{tenant}/{asset}/g{n}/{name}.{attempt}.jpg`.
    Still {
        /// Generation.
        generation: u32,
        /// Name.
        name: String,
        /// The attempt that wrote it.
        attempt: AttemptId,
    },
    /// A finished manifest: `play/{tenant}/{asset}/r{n}.{attempt}/{file}`.
    Manifest {
        /// Publish revision.
        revision: u32,
        /// The attempt that wrote it.
        attempt: AttemptId,
        /// File name: `index.m3u8`, `v720.m3u8`.
        file: String,
    },
}

/// The key of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose.
    pub tenant: TenantId,
    /// Of which asset.
    pub asset: AssetId,
    /// What.
    pub object: Object,
}

/// Text that is no key of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object key of spool")]
pub struct KeyError(String);

/// Prefixes under which every object of an asset lies, for listing.
pub fn prefixes(tenant: &TenantId, asset: &AssetId) -> [String; 4] {
    ["sources", "renditions", "stills", "play"].map(|kind| format!("{kind}/{tenant}/{asset}"))
}

/// Keys and lengths of a source's pieces, in order.
pub fn pieces(tenant: &TenantId, asset: &AssetId, source: &SourceRef) -> Vec<(Key, u64)> {
    let mut out = Vec::new();
    for run in &source.runs {
        for piece in run.first..=run.last {
            let start = u64::from(piece).saturating_mul(source.piece_bytes);
            let length = source.piece_bytes.min(source.size_bytes.saturating_sub(start));
            if length == 0 {
                // Runs past the end would be our own bug; they must not become an endless list.
                return out;
            }
            let object = Object::Piece { upload: source.upload.clone(), piece, epoch: run.epoch };
            out.push((Key { tenant: tenant.clone(), asset: asset.clone(), object }, length));
        }
    }
    out
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { tenant, asset, object } = self;
        match object {
            Object::Piece { upload, piece, epoch } => write!(f, "sources/{tenant}/{asset}/{upload}/{piece}.{epoch}"),
            Object::Fragment { upload, piece, offset, epoch } => {
                write!(f, "sources/{tenant}/{asset}/{upload}/{piece}-{offset}.{epoch}")
            }
            Object::Chunk { generation, rendition, chunk, attempt } => {
                write!(f, "renditions/{tenant}/{asset}/g{generation}/{rendition}/{chunk}.{attempt}.mp4")
            }
            Object::Still { generation, name, attempt } => {
                write!(f, "stills/{tenant}/{asset}/g{generation}/{name}.{attempt}.jpg")
            }
            Object::Manifest { revision, attempt, file } => {
                write!(f, "play/{tenant}/{asset}/r{revision}.{attempt}/{file}")
            }
        }
    }
}

/// Is this a file name of a manifest: `[a-z0-9]+` and `.m3u8`?
fn is_manifest_file(name: &str) -> bool {
    name.strip_suffix(".m3u8").is_some_and(is_plain_name)
}

fn parse(text: &str) -> Option<Key> {
    let parts: Vec<&str> = text.split('/').collect();
    let (tenant, asset) = (parts.get(1)?.parse().ok()?, parts.get(2)?.parse().ok()?);
    let object = match parts.as_slice() {
        ["sources", _, _, upload, name] => {
            let upload = upload.parse().ok()?;
            let (place, epoch) = name.split_once('.')?;
            let epoch = epoch.parse().ok()?;
            match place.split_once('-') {
                None => Object::Piece { upload, piece: place.parse().ok()?, epoch },
                Some((piece, offset)) => {
                    Object::Fragment { upload, piece: piece.parse().ok()?, offset: offset.parse().ok()?, epoch }
                }
            }
        }
        ["renditions", _, _, generation, rendition, name] if is_plain_name(rendition) => {
            let (chunk, attempt) = name.strip_suffix(".mp4")?.split_once('.')?;
            Object::Chunk {
                generation: generation.strip_prefix('g')?.parse().ok()?,
                rendition: (*rendition).to_owned(),
                chunk: chunk.parse().ok()?,
                attempt: attempt.parse().ok()?,
            }
        }
        ["stills", _, _, generation, file] => {
            let (name, attempt) = file.strip_suffix(".jpg")?.split_once('.')?;
            is_plain_name(name).then_some(())?;
            Object::Still {
                generation: generation.strip_prefix('g')?.parse().ok()?,
                name: name.to_owned(),
                attempt: attempt.parse().ok()?,
            }
        }
        ["play", _, _, revision, file] if is_manifest_file(file) => {
            let (revision, attempt) = revision.strip_prefix('r')?.split_once('.')?;
            Object::Manifest {
                revision: revision.parse().ok()?,
                attempt: attempt.parse().ok()?,
                file: (*file).to_owned(),
            }
        }
        _ => return None,
    };
    let key = Key { tenant, asset, object };
    (key.to_string() == text).then_some(key)
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        parse(text).ok_or_else(|| KeyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Sha256;
    use crate::media::Run;

    fn key(object: Object) -> Key {
        Key { tenant: TenantId::default_tenant(), asset: AssetId::from_bits(1), object }
    }

    #[test]
    fn every_key_round_trips() {
        let (upload, attempt) = (UploadId::from_bits(2), AttemptId::from_bits(3));
        for object in [
            Object::Piece { upload: upload.clone(), piece: 3, epoch: 1 },
            Object::Fragment { upload, piece: 3, offset: 65536, epoch: 2 },
            Object::Chunk { generation: 1, rendition: "v720".to_owned(), chunk: 0, attempt: attempt.clone() },
            Object::Still { generation: 1, name: "poster".to_owned(), attempt: attempt.clone() },
            Object::Manifest { revision: 2, attempt, file: "index.m3u8".to_owned() },
        ] {
            let key = key(object);
            assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }
    }

    #[test]
    fn foreign_keys_are_refused() {
        for bad in ["", "sources/default", "play/default/vid_0/../../x", "renditions/a/b/c/d/e", "other/x"] {
            assert!(bad.parse::<Key>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_source_is_the_list_of_its_pieces() {
        let source = SourceRef {
            upload: UploadId::from_bits(2),
            piece_bytes: 8,
            size_bytes: 20,
            sha256: Sha256::of(b""),
            runs: vec![Run { first: 0, last: 1, epoch: 1 }, Run { first: 2, last: 2, epoch: 4 }],
        };
        let list = pieces(&TenantId::default_tenant(), &AssetId::from_bits(1), &source);
        assert_eq!(list.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [8, 8, 4]);
        assert!(list[2].0.to_string().ends_with("/2.4"));
    }
}
