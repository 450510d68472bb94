//! What begins a picture or sound in a transport or program stream (ISO/IEC 13818-1, 2.4.3.6): its mark and its time. Pure.

/// What packets of pictures and of sound begin with, and no table does.
pub(in crate::child) const MARK: [u8; 3] = [0, 0, 1];
/// Where times begin again at zero: they have 33 bits.
pub(in crate::child) const ROUND: u64 = 1 << 33;

/// When what begins with `body` is shown or heard, in ticks of 90,000 a second; none where that is not stated.
pub(in crate::child) fn shown(body: &[u8]) -> Option<u64> {
    let [0, 0, 1, _, _, _, marks, flags, _, a, b, c, d, e, ..] = *body else { return None };
    (marks & 0xc0 == 0x80 && flags & 0x80 != 0).then(|| time([a, b, c, d, e]))
}

/// A time as it lies there: three, fifteen and fifteen bits, each with a bit behind them that is set.
fn time([a, b, c, d, e]: [u8; 5]) -> u64 {
    let bits = |byte: u8| u64::from(byte >> 1);
    (bits(a) & 7) << 30 | u64::from(b) << 22 | bits(c) << 15 | u64::from(d) << 7 | bits(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_thirty_three_bits_and_may_not_be_stated() {
        let body = |marks: u8, flags: u8, time: [u8; 5]| [&MARK[..], &[0xe0, 0, 0, marks, flags, 5], &time].concat();
        assert_eq!(shown(&body(0x80, 0x80, [0x2f, 0xff, 0xff, 0xff, 0xff])), Some(ROUND - 1));
        assert_eq!(shown(&body(0x80, 0x80, [0x23, 0, 1, 0, 3])), Some(1 << 30 | 1));
        assert_eq!(shown(&body(0x80, 0, [0x23, 0, 1, 0, 3])), None);
        assert_eq!(shown(&body(0, 0x80, [0x23, 0, 1, 0, 3])), None, "the head of MPEG-1");
        assert_eq!(shown(&body(0x80, 0x80, [0x23, 0, 1, 0, 3])[..13]), None, "cut off");
    }
}
