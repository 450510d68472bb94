//! Clocks that leap, go back, were set anew or never come often enough, and what demuxers see instead.

use std::sync::mpsc;

use super::*;

const PID: u16 = 256;
const MS: u64 = TICKS_PER_S / 1000;

/// A packet with a clock or a time, in milliseconds.
fn packet(pid: u16, clock_ms: Option<u64>, time_ms: Option<u64>, anew: bool) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let mut bytes = vec![0x47, high | if time_ms.is_some() { 0x40 } else { 0 }, low];
    bytes.push(if clock_ms.is_some() { 0x30 } else { 0x10 });
    if let Some(ms) = clock_ms {
        bytes.extend([7, if anew { 0x90 } else { 0x10 }]);
        bytes.extend(ts::clock_bytes(ms * MS % ROUND));
    }
    if let Some(ms) = time_ms {
        let t = ms * 90 % (1 << 33);
        let byte = |value: u64| (value & 0xff) as u8;
        bytes.extend([0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5]);
        bytes.extend([byte((t >> 29) & 0x0e) | 0x21, byte(t >> 22), byte(t >> 14) | 1, byte(t >> 7), byte(t << 1) | 1]);
    }
    bytes.resize(PACKET as usize, 0xff);
    bytes
}

fn clocks(readings_ms: impl IntoIterator<Item = u64>) -> Vec<u8> {
    readings_ms.into_iter().flat_map(|ms| packet(PID, Some(ms), None, false)).collect()
}

struct Memory(Vec<u8>);

impl Ranges for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn request(&self, offset: u64, length: u32, done: RangeDone) {
        let (from, to) = (offset as usize, offset as usize + length as usize);
        done(self.0.get(from..to).map(Bytes::copy_from_slice).ok_or_else(|| format!("read up to {to}")));
    }
}

/// Where clocks leap, and what demuxers see of the first clock, in milliseconds.
fn mended(bytes: Vec<u8>) -> (Vec<Span>, Vec<u64>) {
    let source: Arc<dyn Ranges> = Arc::new(Memory(bytes));
    let head = Whole(&source).read(0, source.size_bytes().min(4096) as usize).unwrap();
    let spans = Watched::new(&source, &head, None).expect("a transport stream").leaps().unwrap();
    let seen = steadied(&source, &spans).unwrap();
    let bytes = Whole(&seen).read(0, source.size_bytes() as usize).unwrap();
    let mut readings = vec![];
    Packets::new(188, 0, true).takes(&bytes, |_, packet, _| {
        readings.extend(packet.clock.filter(|_| packet.pid == PID).map(|clock| clock.value / MS));
    });
    (spans, readings)
}

fn from_start_ms() -> impl Iterator<Item = u64> {
    (0..20).map(|n| 700 + n * 100)
}

#[test]
fn a_clock_that_leaps_catches_up_in_steps_and_all_else_stays() {
    let leap = [5_000, 5_100, 5_200, 5_300, 5_400, 5_500, 5_600, 5_700];
    let (spans, seen) = mended(clocks(from_start_ms().chain(leap)));
    assert_eq!(spans, [Span { offset: 19 * PACKET, length: 7 * PACKET }]);
    let steps = [3_099, 3_598, 4_097, 4_596, 5_095, 5_500, 5_600, 5_700];
    assert_eq!(seen, from_start_ms().chain(steps).collect::<Vec<_>>());
    let steady: Vec<u64> = (0..40).map(|n| 700 + n * 480).collect();
    assert_eq!(mended(clocks(steady.clone())), (vec![], steady));
}

#[test]
fn a_clock_that_was_set_anew_is_left_to_the_demuxer() {
    let back = from_start_ms().chain(from_start_ms()).collect::<Vec<_>>();
    assert_eq!(mended(clocks(back.clone())), (vec![], back));
    let far = from_start_ms().chain(from_start_ms().map(|ms| ms + 60_000)).collect::<Vec<_>>();
    assert_eq!(mended(clocks(far.clone())), (vec![], far));
    let mut said = clocks(from_start_ms());
    said.extend(packet(PID, Some(5_000), None, true));
    said.extend(clocks([5_100, 5_200]));
    assert_eq!(mended(said).0, []);
}

#[test]
fn however_long_the_sound_leads_over_a_pause_it_is_one() {
    let mut bytes = clocks(from_start_ms());
    for ms in (3_000..60_000).step_by(1_000) {
        bytes.extend(packet(257, None, Some(ms + 700), false));
    }
    bytes.extend(clocks((0..200).map(|n| 60_000 + n * 100)));
    let (spans, seen) = mended(bytes);
    assert_eq!(spans.len(), 1);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1] && pair[1] - pair[0] < 500), "{seen:?}");
    assert_eq!(seen.last(), Some(&(60_000 + 199 * 100)), "what is stated again once it has caught up");
}

#[test]
fn a_pause_in_which_the_clock_begins_again_at_zero_is_one() {
    let end_ms = ROUND / MS;
    let readings = (0..20).map(|n| end_ms - 2_000 + n * 100).chain((0..20).map(|n| end_ms + 3_000 + n * 100));
    let (spans, seen) = mended(clocks(readings));
    assert_eq!(spans.len(), 1);
    let step = |pair: &[u64]| ahead(pair[0] * MS, pair[1] * MS) / MS;
    assert!(seen.windows(2).all(|pair| step(pair) <= 500), "{seen:?}");
}

#[test]
fn a_clock_that_seldom_comes_is_one_span_up_to_the_end() {
    let bytes = clocks((0..3_000).map(|n| n * 600));
    let size = bytes.len() as u64;
    let (spans, seen) = mended(bytes);
    assert_eq!(spans, [Span { offset: 0, length: size }]);
    assert!(seen.windows(2).all(|pair| pair[1] - pair[0] < 500));
}

#[test]
fn more_leaps_than_are_noted_are_mended_all_the_same() {
    // Each leap catches up before the next one comes.
    let readings: Vec<u64> = (0..2 * MOST_SPANS as u64)
        .flat_map(|n| [0, 800, 850, 900, 1_000, 1_100, 1_200].map(|ms| n * 1_300 + ms))
        .collect();
    let (spans, seen) = mended(clocks(readings));
    assert_eq!(spans.len(), MOST_SPANS);
    assert!(seen.windows(2).all(|pair| pair[1] - pair[0] < 500));
}

#[test]
fn clocks_of_two_programmes_are_mended_each_by_itself() {
    let mut bytes = vec![];
    for n in 0..60 {
        let late = |from: u64| if n < from { 0 } else { 3_000 };
        bytes.extend(packet(PID, Some(n * 100 + late(20)), None, false));
        bytes.extend(packet(300, Some(50_000 + n * 100 + late(23)), None, false));
    }
    let (spans, seen) = mended(bytes);
    assert_eq!(spans.len(), 1, "spans of both are one: {spans:?}");
    assert!(seen.windows(2).all(|pair| pair[1] - pair[0] < 500), "{seen:?}");
    assert_eq!(seen.last(), Some(&(59 * 100 + 3_000)));
}

#[test]
fn it_does_not_matter_in_which_parts_and_what_order_a_stream_was_read() {
    let mut bytes = clocks(from_start_ms());
    // Noise out of step.
    bytes.extend([0x11; 77]);
    bytes.extend(clocks((0..20).map(|n| 5_000 + n * 100)));
    let (spans, _) = mended(bytes.clone());
    assert_eq!(spans.len(), 1);
    let source: Arc<dyn Ranges> = Arc::new(Memory(bytes.clone()));
    let watched = Watched::new(&source, &bytes, None).unwrap();
    let size = bytes.len() as u64;
    for (from, to) in [(0, 100), (size - 500, size), (300, 900), (100, 300), (0, 1_000), (1_000, 1_001)] {
        let (told, read) = mpsc::channel();
        watched.request(from, (to - from) as u32, Box::new(move |data| drop(told.send(data))));
        assert_eq!(read.recv().unwrap().unwrap(), bytes[from as usize..to as usize]);
    }
    assert_eq!(watched.leaps().unwrap(), spans);
}

#[test]
fn streams_are_known_by_the_distance_of_their_packets() {
    let stream = |before: usize, behind: usize| -> Vec<u8> {
        let one = [vec![1; before], packet(PID, Some(5), None, false), vec![2; behind]].concat();
        one.repeat(6)
    };
    assert_eq!(packet_bytes(&stream(0, 0)), Some(188));
    assert_eq!(packet_bytes(&stream(4, 0)), Some(192));
    assert_eq!(packet_bytes(&stream(0, 16)), Some(204));
    assert_eq!(packet_bytes(&[0x46; 4096]), None);
    assert_eq!(packet_bytes(b"\0\0\0\x18ftypmp42"), None);
}

#[test]
fn packets_that_are_missing_or_broken_are_noticed_and_pauses_are_not() {
    let numbered = |pid: u16, n: u8, clock_ms: u64, fresh: bool| {
        let mut bytes = packet(pid, Some(clock_ms), None, fresh);
        bytes[3] |= n % 16;
        bytes
    };
    let lost = |bytes: Vec<u8>| {
        let source: Arc<dyn Ranges> = Arc::new(Memory(bytes.clone()));
        let watched = Watched::new(&source, &bytes, None).unwrap();
        watched.leaps().unwrap();
        watched.lost()
    };
    let missing = |parts: &[Vec<u8>]| {
        let bytes = parts.concat();
        let source: Arc<dyn Ranges> = Arc::new(Memory(bytes.clone()));
        let watched = Watched::new(&source, &bytes, None).unwrap();
        watched.leaps().unwrap();
        watched.missing()
    };
    let run =
        |from: u8, to: u8| (from..to).flat_map(|n| numbered(PID, n, u64::from(n) * 100, false)).collect::<Vec<_>>();
    let joined = |parts: &[Vec<u8>]| lost(parts.concat());
    assert!(!joined(&[run(0, 40)]));
    assert!(!joined(&[run(0, 20), numbered(PID, 20, 9_000, false), run(21, 40)]), "a pause");
    assert!(!joined(&[run(0, 20), run(19, 40)]), "one comes twice");
    assert!(!joined(&[run(0, 20), numbered(PID, 7, 2_000, true), run(8, 40)]), "numbers begin anew");
    assert!(!joined(&[run(0, 20), numbered(ts::FILLING, 9, 0, false), run(20, 40)]), "filling");
    assert!(!joined(&[vec![0x11; 77], run(0, 40)]), "recorded from the middle of a packet on");
    assert!(joined(&[run(0, 20), run(25, 40)]), "missing");
    assert_eq!(missing(&[run(0, 20), run(25, 40)]), 5);
    let list = |n| numbered(0, n, 0, false);
    assert_eq!(missing(&[list(3), run(0, 20), list(9), run(7, 40)]), 0, "two pieces put together");
    assert!(joined(&[run(0, 20), vec![0x11; 77], run(20, 40)]), "noise");
    let mut said = run(0, 40);
    said[20 * PACKET as usize + 1] |= 0x80;
    assert!(lost(said), "a radio that says so");
}
