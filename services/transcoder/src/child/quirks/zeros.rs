//! Zeros that begin a picture and lie at the end of the packet before it: `h265parse` and `h264parse` go by packets.
//!
//! Who cuts a transport stream anew may leave the first zero of a picture's mark (0, 0, 0, 1) with the picture before it. A
//! parser gives a picture the time of the packet in which its first byte lies: all of H.265 was shown when its predecessor in
//! the stream was to be, up to 80 ms off and out of step. So such zeros are handed out with the packet behind them; the bytes
//! as a whole stay as they are.

use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;

/// As many zeros as a mark begins with.
const OF_A_MARK: usize = 3;

/// Lets the demuxers of transport streams that are put into `parser` hand out such zeros with what they begin.
pub(in crate::child) fn go_with_the_next(parser: &gst::Element) {
    let Some(parser) = parser.dynamic_cast_ref::<gst::Bin>() else { return };
    parser.connect_element_added(|_, element| {
        if element.factory().is_some_and(|factory| factory.name() == "tsdemux") {
            element.connect_pad_added(|_, pad| move_on(pad));
        }
    });
}

fn move_on(pad: &gst::Pad) {
    let marked = |form: &gst::StructureRef| matches!(form.name().as_str(), "video/x-h264" | "video/x-h265");
    if !pad.current_caps().is_some_and(|caps| caps.structure(0).is_some_and(marked)) {
        return;
    }
    let held = AtomicUsize::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &mut info.data
            && let Some(moved) = moved(buffer, &held)
        {
            *buffer = moved;
        }
        gst::PadProbeReturn::Ok
    });
}

/// The packet with the zeros that were `held`, and without those at its end, which are held then; none if it stays.
fn moved(packet: &gst::Buffer, held: &AtomicUsize) -> Option<gst::Buffer> {
    // What can't be read nobody else can read either.
    let data = packet.map_readable().ok()?;
    let zeros = data.iter().rev().take(OF_A_MARK).take_while(|byte| **byte == 0).count();
    let before = held.swap(zeros, Ordering::Relaxed);
    if before == 0 && zeros == 0 {
        return None;
    }
    let kept = data.get(..data.len() - zeros)?;
    let mut moved = gst::Buffer::from_mut_slice([&vec![0; before], kept].concat());
    let metadata = gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS | gst::BufferCopyFlags::META;
    packet.copy_into(moved.get_mut()?, metadata, ..).ok()?;
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_a_packets_end_come_with_the_next_one() {
        gst::init().unwrap();
        let held = AtomicUsize::new(0);
        let mut seen = Vec::new();
        for (at, data) in (1..).zip([&[0, 0, 1, 7][..], &[0, 0, 1, 8, 0], &[0, 0, 1, 9, 0, 0, 0, 0], &[1, 6]]) {
            let mut packet = gst::Buffer::from_slice(data.to_vec());
            packet.get_mut().unwrap().set_pts(gst::ClockTime::from_seconds(at));
            let packet = moved(&packet, &held).unwrap_or(packet);
            assert_eq!(packet.pts(), Some(gst::ClockTime::from_seconds(at)));
            seen.push(packet.map_readable().unwrap().to_vec());
        }
        assert_eq!(seen, [&[0, 0, 1, 7][..], &[0, 0, 1, 8], &[0, 0, 0, 1, 9, 0], &[0, 0, 0, 1, 6]]);
    }
}
