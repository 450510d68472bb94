//! RIFF, of which AVI and WAVE are made: chunks of a name, a size and a body, each at an even distance from the one before
//! (Microsoft and IBM, "Multimedia Programming Interface and Data Specifications", 1991). Numbers have their lowest byte first.

/// Bytes of a chunk's head: its name and its size.
pub(in crate::child) const HEAD_BYTES: usize = 8;

/// Name and size of the chunk that `bytes` begin with.
pub(in crate::child) fn chunk(bytes: &[u8]) -> Option<([u8; 4], u32)> {
    Some((bytes.get(..4)?.try_into().ok()?, le32(bytes, 4)?))
}

pub(in crate::child) fn le32(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_has_a_name_and_a_size_or_is_none() {
        assert_eq!(chunk(b"data\x01\x02\0\0body"), Some((*b"data", 0x201)));
        assert_eq!(chunk(b"data\x01\x02\0"), None, "cut off");
        assert_eq!(le32(&[0, 1, 0, 0, 0x80], 1), Some(0x8000_0001));
        assert_eq!(le32(&[0; 8], usize::MAX), None);
    }
}
