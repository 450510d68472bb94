//! What the main header of an AVI promises (Microsoft, "AVI RIFF File Reference").

use super::riff::le32;

/// `RIFF`, a size, `AVI `, `LIST`, a size, `hdrl`, `avih`, a size.
const HEADER_AT: usize = 32;

/// Length in milliseconds by the number of frames that the header states; none where it states none. Of a file beyond
/// 1 GiB it counts the first part only, and promises too little, never too much.
pub(in crate::child) fn promised_ms(head: &[u8]) -> Option<u64> {
    let is_avi = head.starts_with(b"RIFF") && head.get(8..16)? == b"AVI LIST" && head.get(20..28)? == b"hdrlavih";
    let (frame_us, frames) = (u64::from(le32(head, HEADER_AT)?), u64::from(le32(head, HEADER_AT + 16)?));
    (is_avi && frames > 0).then(|| frame_us.saturating_mul(frames) / 1000).filter(|ms| *ms > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_times_their_length() {
        let head = |frame_us: u32, frames: u32| {
            let list = [&b"RIFF\0\0\0\0AVI LIST\0\0\0\0hdrlavih\x38\0\0\0"[..], &frame_us.to_le_bytes(), &[0; 12]];
            [list.concat(), frames.to_le_bytes().to_vec()].concat()
        };
        assert_eq!(promised_ms(&head(40_000, 1_500)), Some(60_000));
        assert_eq!(promised_ms(&head(40_000, 0)), None);
        assert_eq!(promised_ms(&head(40_000, 1_500)[..40]), None);
        assert_eq!(promised_ms(b"RIFF"), None);
    }
}
