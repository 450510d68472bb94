//! What begins a picture or sound in a transport or program stream (ISO/IEC 13818-1, 2.4.3.6): its mark and its time. Pure.

/// What packets of pictures and of sound begin with, and no table does.
pub(in crate::child) const MARK: [u8; 3] = [0, 0, 1];
/// Where times begin again at zero: they have 33 bits.
pub(in crate::child) const ROUND: u64 = 1 << 33;
/// Bytes of a time.
pub(in crate::child) const TIME_BYTES: usize = 5;

/// When what begins with `body` is shown or heard, in ticks of 90,000 a second; none where that is not stated.
pub(in crate::child) fn shown(body: &[u8]) -> Option<u64> {
    let [0, 0, 1, _, _, _, marks, flags, _, a, b, c, d, e, ..] = *body else { return None };
    (marks & 0xc0 == 0x80 && flags & 0x80 != 0).then(|| time([a, b, c, d, e]))
}

/// A time as it lies there: three, fifteen and fifteen bits, each with a bit behind them that is set.
pub(in crate::child) fn time([a, b, c, d, e]: [u8; TIME_BYTES]) -> u64 {
    let bits = |byte: u8| u64::from(byte >> 1);
    (bits(a) & 7) << 30 | u64::from(b) << 22 | bits(c) << 15 | u64::from(d) << 7 | bits(e)
}

/// The same the other way round, behind the four bits that tell which of two times it is.
pub(in crate::child) fn time_bytes(mark: u8, time: u64) -> [u8; TIME_BYTES] {
    let seven_and_one = |shift: u32| (time >> shift << 1) as u8 | 1;
    let first = mark << 4 | (time >> 29) as u8 & 0x0e | 1;
    [first, (time >> 22) as u8, seven_and_one(15), (time >> 7) as u8, seven_and_one(0)]
}

/// How far `to` lies ahead of `from`, where times begin again at zero.
pub(in crate::child) fn ahead(from: u64, to: u64) -> u64 {
    (to + ROUND - from) % ROUND
}

/// How far two times lie apart, whichever comes first.
pub(in crate::child) fn apart(a: u64, b: u64) -> u64 {
    ahead(a, b).min(ahead(b, a))
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
        for at in [0, 1, 0x1_5555_5555, 0xaaaa_aaaa, ROUND - 1] {
            assert_eq!(time(time_bytes(2, at)), at);
        }
    }

    #[test]
    fn behind_the_last_time_comes_the_first() {
        assert_eq!((ahead(ROUND - 1, 4), ahead(4, ROUND - 1)), (5, ROUND - 5));
        assert_eq!((apart(ROUND - 1, 4), apart(4, ROUND - 1), apart(4, 4)), (5, 5, 0));
    }
}
