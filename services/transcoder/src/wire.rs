//! Frames between parent and child: what lies on the two sockets, byte by byte.
//!
//! Output socket, child to parent: `kind u8, length u32, payload`; kind 0 is a [`Message`] as JSON, kind 1 is payload of
//! an object (`name length u8, name, chunk u32, bytes`). Parent to child, once: `length u32`, an [`Assignment`] as JSON.
//! Range socket: requests of [`RANGE_REQUEST_BYTES`], answers of `id u64, ok u8, length u32` and bytes or a text.
//! All numbers are big-endian. The parent trusts nothing of it: every length is checked before anything is allocated.

use serde::{Deserialize, Serialize};

use crate::cage::CageOrder;
use crate::order::{Answer, Made, Order};

/// Most bytes of one range request; also the size of a block of the child's cache.
pub(crate) const MAX_RANGE_BYTES: u32 = 1 << 20;
/// Most range requests that the child keeps open at once.
pub(crate) const MAX_RANGES_OPEN: usize = 8;
/// Most payload of one frame on the output socket; longer data is sent as several.
pub(crate) const MAX_PAYLOAD_BYTES: usize = 256 << 10;
/// Longest JSON message: facts of a day of video name 21,600 segments.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 << 20;
/// `kind u8, length u32`.
pub(crate) const FRAME_HEAD_BYTES: usize = 5;
/// `id u64, offset u64, length u32`.
pub(crate) const RANGE_REQUEST_BYTES: usize = 20;
/// `id u64, ok u8, length u32`.
pub(crate) const RANGE_ANSWER_HEAD_BYTES: usize = 13;
/// Longest text of a range that could not be read.
pub(crate) const MAX_RANGE_ERROR_BYTES: usize = 4096;

/// The first and only frame from parent to child.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assignment {
    /// What is asked.
    pub(crate) order: Order,
    /// Size of the source.
    pub(crate) size_bytes: u64,
    /// How the child shuts itself in before it looks at a byte of the source.
    pub(crate) cage: CageOrder,
}

/// What the child says on the output socket besides payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// The cage is shut; what the kernel enforces.
    Caged(crate::cage::CageReport),
    /// The kernel cannot shut it; nothing of the source was looked at.
    CageRefused(String),
    /// [`crate::order::Output::object_done`].
    ObjectDone {
        /// Name of the rendition.
        rendition: String,
        /// Index of the chunk.
        chunk: u32,
        /// What was made.
        made: Made,
    },
    /// [`crate::order::Output::progress`].
    Progress {
        /// How far on the timeline.
        at_ns: u64,
    },
    /// [`crate::order::Output::frame_hash`].
    FrameHash {
        /// Where on the timeline.
        at_ns: u64,
        /// Of the raw frame.
        hash: u64,
    },
    /// The last word.
    Answer(Answer),
}

/// A head of a frame on the output socket, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// JSON of that length follows.
    Message(usize),
    /// Payload of that length follows.
    Payload(usize),
}

/// The other side broke the protocol; from a child it means that the child is no longer ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the media child broke the protocol: {0}")]
pub(crate) struct Broken(pub(crate) String);

pub(crate) fn head(bytes: [u8; FRAME_HEAD_BYTES]) -> Result<Head, Broken> {
    let [kind, a, b, c, d] = bytes;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match kind {
        0 if length <= MAX_MESSAGE_BYTES => Ok(Head::Message(length)),
        1 if length <= MAX_PAYLOAD_BYTES + 5 + 255 => Ok(Head::Payload(length)),
        _ => Err(Broken(format!("frame of kind {kind} with {length} bytes"))),
    }
}

pub(crate) fn message_frame(message: &Message) -> Vec<u8> {
    let json = serde_json::to_vec(message).expect("a message holds no map with keys that are not text");
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + json.len());
    frame.push(0);
    frame.extend_from_slice(&(json.len() as u32).to_be_bytes());
    frame.extend_from_slice(&json);
    frame
}

pub(crate) fn parse_message(json: &[u8]) -> Result<Message, Broken> {
    serde_json::from_slice(json).map_err(|err| Broken(format!("message is not ours: {err}")))
}

/// Everything of a payload frame but the data, which is written after it. `rendition` has at most 255 bytes.
pub(crate) fn payload_head(rendition: &str, chunk: u32, data_bytes: usize) -> Vec<u8> {
    assert!(rendition.len() <= 255, "names of renditions are short by contract");
    assert!(data_bytes <= MAX_PAYLOAD_BYTES, "the writer splits");
    let mut frame = Vec::with_capacity(FRAME_HEAD_BYTES + 5 + rendition.len());
    frame.push(1);
    frame.extend_from_slice(&((5 + rendition.len() + data_bytes) as u32).to_be_bytes());
    frame.push(rendition.len() as u8);
    frame.extend_from_slice(rendition.as_bytes());
    frame.extend_from_slice(&chunk.to_be_bytes());
    frame
}

pub(crate) fn parse_payload(mut payload: bytes::Bytes) -> Result<(String, u32, bytes::Bytes), Broken> {
    let short = || Broken("payload frame is too short".to_owned());
    let name_bytes = usize::from(*payload.first().ok_or_else(short)?);
    if payload.len() < 5 + name_bytes {
        return Err(short());
    }
    let data = payload.split_off(5 + name_bytes);
    let name = std::str::from_utf8(&payload[1..=name_bytes])
        .map_err(|_| Broken("name of a rendition is not text".to_owned()))?
        .to_owned();
    let chunk = u32::from_be_bytes([
        payload[name_bytes + 1],
        payload[name_bytes + 2],
        payload[name_bytes + 3],
        payload[name_bytes + 4],
    ]);
    Ok((name, chunk, data))
}

pub(crate) fn assignment_frame(assignment: &Assignment) -> Vec<u8> {
    let json = serde_json::to_vec(assignment).expect("an assignment holds no map with keys that are not text");
    let mut frame = (json.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&json);
    frame
}

/// One range request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RangeRequest {
    /// Number that its answer repeats.
    pub(crate) id: u64,
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u32,
}

impl RangeRequest {
    pub(crate) fn to_bytes(self) -> [u8; RANGE_REQUEST_BYTES] {
        let mut bytes = [0; RANGE_REQUEST_BYTES];
        bytes[..8].copy_from_slice(&self.id.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_be_bytes());
        bytes[16..].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    /// Read, and checked against the size of the source.
    pub(crate) fn parse(bytes: [u8; RANGE_REQUEST_BYTES], size_bytes: u64) -> Result<Self, Broken> {
        let number = |part: &[u8]| part.iter().fold(0_u64, |n, b| (n << 8) | u64::from(*b));
        let request =
            Self { id: number(&bytes[..8]), offset: number(&bytes[8..16]), length: number(&bytes[16..]) as u32 };
        let end = request.offset.checked_add(u64::from(request.length));
        if request.length == 0 || request.length > MAX_RANGE_BYTES || end.is_none_or(|end| end > size_bytes) {
            return Err(Broken(format!("range {}+{} of {size_bytes} bytes", request.offset, request.length)));
        }
        Ok(request)
    }
}

pub(crate) fn range_answer_head(id: u64, ok: bool, length: usize) -> [u8; RANGE_ANSWER_HEAD_BYTES] {
    let mut head = [0; RANGE_ANSWER_HEAD_BYTES];
    head[..8].copy_from_slice(&id.to_be_bytes());
    head[8] = u8::from(ok);
    head[9..].copy_from_slice(&(length as u32).to_be_bytes());
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payload_frames_come_back_as_they_went() {
        let mut frame = payload_head("v720", 7, 3);
        frame.extend_from_slice(b"abc");
        let (head_bytes, rest) = frame.split_at(FRAME_HEAD_BYTES);
        assert_eq!(head(head_bytes.try_into().unwrap()), Ok(Head::Payload(rest.len())));
        let (name, chunk, data) = parse_payload(bytes::Bytes::copy_from_slice(rest)).unwrap();
        assert_eq!((name.as_str(), chunk, data.as_ref()), ("v720", 7, &b"abc"[..]));
    }

    #[test]
    fn a_frame_longer_than_allowed_is_refused_before_it_is_read() {
        assert!(head([0, 0xff, 0xff, 0xff, 0xff]).is_err());
        assert!(head([1, 0, 0x10, 0, 0]).is_err());
        assert!(head([2, 0, 0, 0, 1]).is_err());
        assert!(parse_payload(bytes::Bytes::from_static(&[200, 1])).is_err());
    }

    #[test]
    fn a_range_outside_the_source_is_refused() {
        let parse = |offset, length| RangeRequest::parse(RangeRequest { id: 1, offset, length }.to_bytes(), 100);
        assert_eq!(parse(90, 10), Ok(RangeRequest { id: 1, offset: 90, length: 10 }));
        for (offset, length) in [(91, 10), (0, 0), (u64::MAX, 2), (0, MAX_RANGE_BYTES + 1)] {
            assert!(parse(offset, length).is_err(), "{offset}+{length}");
        }
    }
}
