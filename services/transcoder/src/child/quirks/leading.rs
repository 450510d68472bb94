//! Pictures that `avdec_h264` shows though what they are made from is missing.
//!
//! An open group begins with a keyframe, and behind it come pictures that are shown before it and need the group before it
//! too. Where a source was cut there, or a recording begins there, that one is not in the file: ffmpeg leaves such pictures
//! out, and `avdec_h264` shows them as grey or green debris. (Its `output-corrupt` leaves out too much of short sources. Of
//! H.265 the decoder itself passes them over.)

use super::leaps::LEAP_NS;

/// Packets behind the first keyframe among which such pictures are looked for: sixteen (ITU-T H.264, A.3.1, the most that a
/// decoder holds), of two fields each.
const MOST: u32 = 32;

/// Looks for such pictures at the beginning of a stream.
#[derive(Debug, Default, Clone)]
pub(crate) struct Leading {
    keyframe_ns: Option<u64>,
    packets: u32,
}

/// Is a stream of that form one that may have such pictures?
pub(crate) fn concern(caps: &gst::Caps) -> bool {
    caps.structure(0).is_some_and(|form| form.name() == "video/x-h264")
}

impl Leading {
    /// Is the next packet in the order of decoding such a picture?
    pub(crate) fn is_next(&mut self, at_ns: u64, keyframe: bool) -> bool {
        let Some(keyframe_ns) = self.keyframe_ns else {
            self.keyframe_ns = keyframe.then_some(at_ns);
            return false;
        };
        self.packets = self.packets.saturating_add(1);
        // One that is further away has a wrong time, or the keyframe has.
        let before = at_ns < keyframe_ns && keyframe_ns - at_ns <= LEAP_NS;
        before && !keyframe && self.packets <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these packets lead: times in frames, keyframes negative.
    fn leading(packets: &[i64]) -> Vec<bool> {
        let mut leading = Leading::default();
        packets.iter().map(|at| leading.is_next(at.unsigned_abs() * 40_000_000, *at < 0)).collect()
    }

    #[test]
    fn what_is_shown_before_the_first_keyframe_and_comes_behind_it_leads() {
        assert_eq!(leading(&[-13, 11, 12, 16, 14, 15]), [false, true, true, false, false, false]);
        // Two fields each.
        assert_eq!(leading(&[-13, 14, 11, 12, 17]), [false, false, true, true, false]);
        // Of a second group everything is there.
        assert_eq!(leading(&[-11, 14, 12, 13, -17, 15, 16]), [false; 7]);
    }

    #[test]
    fn a_keyframe_with_a_wrong_time_takes_nothing_with_it() {
        assert_eq!(leading(&[-90_000, 1, 2, 3]), [false; 4]);
        let many: Vec<i64> = std::iter::once(-200).chain(1..100).collect();
        assert_eq!(leading(&many).iter().filter(|leads| **leads).count(), MOST as usize);
    }

    #[test]
    fn a_stream_that_begins_without_a_keyframe_is_left_as_it_is() {
        assert_eq!(leading(&[5, 3, 4, 8, 6, 7]), [false; 6]);
    }
}
