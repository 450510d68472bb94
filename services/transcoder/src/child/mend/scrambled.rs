//! A transport stream whose packets are scrambled: of such packets demuxers make nothing, and say nothing.

use std::sync::Arc;

use super::super::source::Ranges;
use super::super::whole::Whole;
use crate::child::formats::mp4::Bytes as _;
use crate::child::formats::ts::{Head, PACKET, packets_at};

/// Bytes of the beginning that are looked through.
const LOOKED_THROUGH: u64 = 1024 * 1024;

/// Are most packets of a stream scrambled, as pay television is recorded without its card?
pub(crate) fn is_scrambled(ranges: &Arc<dyn Ranges>) -> Result<bool, String> {
    let head = Whole(ranges).read(0, ranges.size_bytes().min(LOOKED_THROUGH) as usize)?;
    let Some((from, distance)) = packets_at(&head) else { return Ok(false) };
    let packets = (from..head.len()).step_by(distance).filter_map(|at| head.get(at..at + PACKET as usize));
    // Tables and fillings never are; they are few.
    let is_scrambled = |packet: &&[u8]| Head::of(packet).is_some_and(|head| head.scrambled);
    let (scrambled, clear): (Vec<&[u8]>, Vec<&[u8]>) = packets.partition(is_scrambled);
    Ok(scrambled.len() > clear.len())
}

#[cfg(test)]
mod tests {
    use super::super::super::memory::Memory;
    use super::*;
    use crate::child::formats::ts::tables::tests as tables;

    #[test]
    fn a_stream_whose_packets_are_scrambled_is_known() {
        let tables = [tables::of_programmes(&[(1, 0x100)]), tables::of_programme(1, 0x100, &[(0x1b, 0x101)])].concat();
        for (flags, scrambled) in [(0x10, false), (0x90, true), (0xd0, true)] {
            let mut packet = tables::packet(0x101, &[7; 100]);
            packet[3] = flags;
            let ranges: Arc<dyn Ranges> = Arc::new(Memory([tables.clone(), packet.repeat(9)].concat()));
            assert_eq!(is_scrambled(&ranges), Ok(scrambled), "{flags:#x}");
        }
    }
}
