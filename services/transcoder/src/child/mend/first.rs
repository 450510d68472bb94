//! The first time of a stream in a transport stream, where it is damaged.
//!
//! Everything counts from the first times: where one lies ahead by hours, `tsdemux` lets its stretch of time begin there,
//! and all of the others lie before it and are not heard. Later ones do not matter so much ([`crate::child::quirks::leaps`]).
//! So the first times are compared with those behind them, and one that is out of line by more than ten seconds is shown as
//! what follows from the others.
//!
//! What comes before the clock's first reading `tsdemux` loses, or places a day later. So that reading is shown earlier; the
//! leap to the next one is the affair of [`super::clock`]. And where half a second of sound lies before the first reading,
//! as where the picture that travels with the clock begins later than its sound, `tsdemux` never looks at the clock again,
//! and hands out all of the stream without times; so it is where no clock comes at all. It is shown a packet with a reading
//! before all of the others then.
//! Pure but for who patches it.

use super::patched::Change;
use crate::child::formats::pes::{ROUND, TIME_BYTES, ahead, apart, time, time_bytes};
use crate::child::formats::ts::{self, CLOCK_PER_TIME, PACKET, Payload, SYNC, packets_at};

/// Times of a stream that are looked at: pictures may be coded as many places from where they are shown.
const LOOKED_AT: usize = 6;
/// Ticks in a second.
const TICKS_PER_S: u64 = 90_000;
/// As far as this a first time may lie from the others.
const LEAP: u64 = 10 * TICKS_PER_S;
/// As far as this what is shown may lie before the clock; more is left to the demuxer, which then counts from it. And by how
/// much the clock is shown before all of that.
const EARLIEST: u64 = 9 * TICKS_PER_S;
const LEAD: u64 = TICKS_PER_S / 10;
/// As much as this of a stream may lie before the clock's first reading: half a second (`check_pending_buffers`), less a
/// little.
const UNTIMED: u64 = TICKS_PER_S * 45 / 100;
/// As far as this a stream may lie before a clock whose demuxer would never look at it.
const LONGEST_UNTIMED: u64 = 600 * TICKS_PER_S;
/// Marks of a time of being shown where it is the only one, where another follows, and of that other one.
const ALONE: u8 = 2;
const SHOWN: u8 = 3;
const DECODED: u8 = 1;
/// Where in the head of a picture or sound its flags stand, and its times.
const FLAGS_AT: usize = 7;
const TIMES_AT: usize = 9;

/// When something is shown or heard, and decoded, where that is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    /// Where they lie.
    at: usize,
    shown: u64,
    decoded: Option<u64>,
}

impl Times {
    fn decoded(self) -> u64 {
        self.decoded.unwrap_or(self.shown)
    }

    /// Others in their place.
    fn with(self, shown: u64, decoded: u64) -> Change<Vec<u8>> {
        let bytes = match self.decoded {
            Some(_) => [time_bytes(SHOWN, shown), time_bytes(DECODED, decoded)].concat(),
            None => time_bytes(ALONE, shown).to_vec(),
        };
        (self.at as u64, bytes)
    }
}

/// A programme, as far as its times go: numbers of packets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Programme {
    /// Of those with its clock.
    pub(super) clock: Option<u16>,
    /// Of its pictures and sound.
    pub(super) streams: Vec<u16>,
}

/// What is to be seen of a programme's beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Instead of what stands there.
    pub(super) changes: Vec<Change<Vec<u8>>>,
    /// Before what stands there.
    pub(super) more: Option<Change<Vec<u8>>>,
}

/// What is to stand elsewhere than the first times of a programme; none as long as `head`, the stream's beginning, does not
/// hold enough of each of its streams. `all`: more will not come.
pub(super) fn changes(head: &[u8], programme: &Programme, all: bool) -> Option<Beginning> {
    let mut met: Vec<(u16, Vec<Times>)> = programme.streams.iter().map(|pid| (*pid, Vec::new())).collect();
    let (mut clock, mut untimed) = (None, false);
    let (from, distance) = packets_at(head).unwrap_or((head.len(), PACKET as usize));
    for at in (from..head.len()).step_by(distance) {
        let Some(packet) = head.get(at..at + PACKET as usize).filter(|packet| packet[0] == SYNC) else { break };
        let reading = || ts::packet(packet).filter(|packet| Some(packet.pid) == programme.clock)?.clock;
        clock = clock.or_else(|| reading().map(|clock| (at, clock.value / CLOCK_PER_TIME)));
        let Some(payload) = Payload::of(packet).filter(|payload| payload.begins) else { continue };
        let Some((_, times)) = met.iter_mut().find(|(pid, _)| *pid == payload.pid) else { continue };
        let body_at = at + packet.len() - payload.body.len();
        let here = times_of(payload.body, body_at);
        let late = |(first, here): (&Times, Times)| apart(first.decoded(), here.decoded()) > UNTIMED;
        untimed |= clock.is_none() && times.first().zip(here).is_some_and(late);
        times.extend(here.filter(|_| times.len() < LOOKED_AT));
    }
    let untimed = programme.clock.filter(|_| untimed);
    if !all && (untimed.is_some() && clock.is_none() || met.iter().any(|(_, times)| times.len() < LOOKED_AT)) {
        return None;
    }
    let firsts: Vec<(u16, u64)> = met.iter().filter_map(|(pid, times)| Some((*pid, times.first()?.shown))).collect();
    let of_others = |own: u16| firsts.iter().filter(move |(pid, _)| *pid != own).map(|(_, at)| *at).collect::<Vec<_>>();
    let (mut changes, mut more) = (Vec::new(), None);
    for (pid, times) in &mut met {
        if let Some((shown, decoded)) = mended(times, &of_others(*pid)) {
            changes.push(times[0].with(shown, decoded));
            (times[0].shown, times[0].decoded) = (shown, times[0].decoded.map(|_| decoded));
        }
    }
    let times: Vec<u64> = met.iter().flat_map(|(_, times)| times).map(|times| times.shown).collect();
    // Where there is no clock at all any time will do.
    if let Some((at, clock)) = clock.or(times.first().filter(|_| untimed.is_some()).map(|time| (from, *time))) {
        let earliest = if untimed.is_some() { LONGEST_UNTIMED } else { EARLIEST };
        let early = times.iter().map(|time| ahead(*time, clock)).filter(|by| *by <= earliest).max().unwrap_or(0);
        let earlier = (clock + ROUND - early - LEAD) % ROUND * CLOCK_PER_TIME;
        if let Some(pid) = untimed {
            more = Some((from as u64, ts::with_clock(pid, earlier, distance)));
        } else if early > 0 {
            changes.push((at as u64 + ts::CLOCK_AT, ts::clock_bytes(earlier).to_vec()));
        }
    }
    Some(Beginning { changes, more })
}

/// The times in the head of what begins with `body`.
fn times_of(body: &[u8], at: usize) -> Option<Times> {
    let [0, 0, 1, _, _, _, _, ..] = *body else { return None };
    let flags = *body.get(FLAGS_AT)?;
    let time = |n: usize| body.get(TIMES_AT + n * TIME_BYTES..)?.first_chunk().map(|bytes| time(*bytes));
    let shown = (flags & 0x80 != 0).then(|| time(0)).flatten()?;
    Some(Times { at: at + TIMES_AT, shown, decoded: (flags & 0x40 != 0).then(|| time(1)).flatten() })
}

/// Other first times for a stream, if those that it has are wrong: when shown and when decoded. `firsts` of the other streams.
fn mended(times: &[Times], firsts: &[u64]) -> Option<(u64, u64)> {
    let [first, rest @ ..] = times else { return None };
    let [second, later @ ..] = rest else { return None };
    let wrong = apart(first.shown, second.shown) > LEAP || apart(first.decoded(), second.decoded()) > LEAP;
    // The second one is right where anything else agrees with it, and the first one where another stream begins there.
    let agree = |a: u64, b: u64| apart(a, b) <= LEAP;
    let mut others = later.iter().map(|times| times.shown).chain(firsts.iter().copied());
    let begun = firsts.iter().any(|at| agree(*at, first.shown) && agree(*at, first.decoded()));
    if !wrong || begun || !others.any(|at| agree(at, second.shown)) {
        return None;
    }
    let near = |times: &&Times| apart(times.shown, second.shown) <= LEAP;
    let step = later.first().filter(near).map_or(0, |third| apart(second.decoded(), third.decoded()).min(LEAP));
    // What is shown first need not be what is decoded next.
    let before_all = (second.shown + ROUND - LEAP) % ROUND;
    let earliest = rest.iter().filter(near).map(|times| times.shown).min_by_key(|at| ahead(before_all, *at));
    let shown = (earliest.unwrap_or(second.shown) + ROUND - step) % ROUND;
    let decoded = (second.decoded() + ROUND - step) % ROUND;
    let decoded = if ahead(decoded, shown) < ROUND / 2 { decoded } else { shown };
    Some((shown, decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::formats::ts::tables::tests::packet;

    const VIDEO: u16 = 0x100;
    const SOUND: u16 = 0x101;

    fn changes(head: &[u8], streams: &[u16], all: bool) -> Option<Vec<Change<Vec<u8>>>> {
        let programme = Programme { clock: None, streams: streams.to_vec() };
        super::changes(head, &programme, all).map(|beginning| beginning.changes)
    }

    fn of(pid: u16, shown: u64, decoded: Option<u64>) -> Vec<u8> {
        let (flags, times) = match decoded {
            Some(decoded) => (0xc0, [time_bytes(SHOWN, shown % ROUND), time_bytes(DECODED, decoded % ROUND)].concat()),
            None => (0x80, time_bytes(ALONE, shown % ROUND).to_vec()),
        };
        packet(pid, &[&[0, 0, 1, 0xe0, 0, 0, 0x80, flags, times.len() as u8], &times[..]].concat())
    }

    /// Pictures at 25 a second, of which two are coded behind the one that is shown after them, and sound; from `zero` on.
    fn stream(zero: u64, first: (u64, Option<u64>), sound: u64) -> Vec<u8> {
        let shown = [4, 2, 3, 7, 5, 6];
        let pictures = (1..).zip(shown).map(|(n, at)| of(VIDEO, zero + at * 3_600, Some(zero + (n - 1) * 3_600)));
        let sounds = (1..8).map(|n| of(SOUND, zero + n * 1_920, None));
        [of(VIDEO, first.0, first.1), of(SOUND, sound, None)]
            .into_iter()
            .chain(pictures)
            .chain(sounds)
            .flatten()
            .collect()
    }

    fn seen(stream: &[u8]) -> Vec<Times> {
        let mut stream = stream.to_vec();
        for (at, bytes) in changes(&stream, &[VIDEO, SOUND], false).unwrap() {
            stream[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
        }
        stream.chunks(188).take(2).filter_map(|packet| times_of(Payload::of(packet)?.body, 0)).collect()
    }

    #[test]
    fn a_first_time_that_is_out_of_line_follows_from_the_others_and_others_stay() {
        // Just before times begin again at zero, too.
        for zero in [900_000, ROUND - 9_000] {
            let right = (zero + 3_600, Some(zero + ROUND - 3_600));
            let expected = seen(&stream(zero, right, zero));
            assert_eq!(changes(&stream(zero, right, zero), &[VIDEO, SOUND], false), Some(vec![]));
            for by in [20, 3 * 3600, (ROUND / TICKS_PER_S) - 30] {
                let by = by * TICKS_PER_S;
                for wrong in [
                    (right.0 + by, right.1.map(|at| at + by)),
                    (right.0 + by, right.1),
                    (right.0, right.1.map(|at| at + by)),
                ] {
                    assert_eq!(seen(&stream(zero, wrong, zero)), expected, "{zero} by {by}");
                }
                assert_eq!(seen(&stream(zero, right, zero + by)), expected, "sound of {zero} by {by}");
            }
        }
    }

    #[test]
    fn more_is_asked_for_until_all_streams_have_come_or_nothing_more_comes() {
        let stream = stream(0, (3 * 3600 * TICKS_PER_S, None), 0);
        assert_eq!(changes(&stream[..5 * 188], &[VIDEO, SOUND], false), None);
        assert_eq!(changes(&stream[..2 * 188], &[VIDEO, SOUND], true), Some(vec![]), "one of each");
        assert_eq!(changes(&stream[..7 * 188], &[VIDEO, SOUND, 7], true).map(|changes| changes.len()), Some(1));
        assert_eq!(changes(b"RIFF", &[], false), Some(vec![]));
    }

    #[test]
    fn a_clock_that_begins_behind_the_first_times_is_shown_before_them() {
        let at_zero = ROUND + 9_000;
        let shown = |late: i64, pid: u16| {
            let mut first = packet(pid, &[]);
            first[3] = 0x20;
            first[4..6].copy_from_slice(&[183, 0x10]);
            let clock = at_zero.strict_add_signed(late) % ROUND;
            first[6..12].copy_from_slice(&ts::clock_bytes(clock * CLOCK_PER_TIME));
            let stream = [first, stream(at_zero, (at_zero + 3_600 + 900 * TICKS_PER_S, None), at_zero)].concat();
            let programme = Programme { clock: Some(VIDEO), streams: vec![VIDEO, SOUND] };
            let Beginning { changes, more } = super::changes(&stream, &programme, true).unwrap();
            assert_eq!(more.is_some(), pid != VIDEO, "where its clock never comes it is shown one");
            // The first picture's time is wrong as well, and is no reason.
            assert_eq!(changes[0].0, 188 + 4 + TIMES_AT as u64);
            changes.get(1).cloned()
        };
        let before = (ts::CLOCK_AT, ts::clock_bytes((at_zero - LEAD) % ROUND * CLOCK_PER_TIME).to_vec());
        assert_eq!([-30_000, 0].map(|late| shown(late, VIDEO)), [None, None]);
        assert_eq!([30_000, 500_000].map(|late| shown(late, VIDEO)), [Some(before.clone()), Some(before)]);
        assert_eq!(shown(3_000_000, VIDEO), None, "that is another clock");
        assert_eq!(shown(30_000, 0x300), None, "the clock of another programme");
    }

    #[test]
    fn a_clock_that_comes_behind_half_a_second_of_sound_is_shown_before_all_of_it() {
        let at_zero = ROUND + 9_000;
        let programme = Programme { clock: Some(VIDEO), streams: vec![VIDEO, SOUND] };
        let shown = |sounds: u64, clocks: &[u64], all: bool| {
            let sound = (0..sounds).flat_map(|n| of(SOUND, at_zero + n * 9_000, None));
            let clocks = clocks.iter().flat_map(|late| ts::with_clock(VIDEO, (at_zero + late) % ROUND * 300, 188));
            let late = at_zero + (sounds + 7) * 9_000;
            let pictures = stream(late, (late + 3_600, Some(late)), late);
            let stream: Vec<u8> = [7; 9].into_iter().chain(sound).chain(clocks).chain(pictures).collect();
            super::changes(&stream, &programme, all)
        };
        let before = |late: u64| {
            let more = Some((9, ts::with_clock(VIDEO, (at_zero + late - LEAD) % ROUND * 300, 188)));
            Some(Beginning { changes: vec![], more })
        };
        assert_eq!(shown(6, &[99_000], false), before(0));
        assert_eq!(shown(20, &[99_000, 108_000], true), before(0));
        assert_eq!(shown(6, &[99_000], true).unwrap().more, before(0).unwrap().more);
        let in_time = shown(5, &[45_000], false).unwrap();
        assert_eq!((in_time.changes.len(), in_time.more), (1, None));
        assert_eq!(shown(6, &[], false), None, "its clock comes yet");
        assert_eq!(shown(6, &[], true), before(0), "it has none");
        assert_eq!(shown(300, &[2_700_000], true), before(0));
    }

    #[test]
    fn two_that_differ_with_nothing_beside_them_stay() {
        let slides: Vec<u8> = (0..8).flat_map(|n| of(VIDEO, n * 60 * TICKS_PER_S, None)).collect();
        assert_eq!(changes(&slides, &[VIDEO], true), Some(vec![]));
        // All of it pauses behind the first of each.
        let late = 600 * TICKS_PER_S;
        let paused = stream(late, (0, None), 1_920);
        assert_eq!(changes(&paused, &[VIDEO, SOUND], true), Some(vec![]));
    }
}
