use super::init::language_code;
use super::*;

fn picture() -> Track {
    let codec = Codec::Avc { width: 64, height: 36, avcc: vec![1, 0x64, 0, 0x1f], reorder_ticks: 2 };
    Track { timescale: 25, language: None, codec }
}

fn sound(language: Option<&str>) -> Track {
    let codec = Codec::Aac { sample_rate: 48_000, channels: 2, config: vec![0x11, 0x90], bps: 128_000, priming: 1024 };
    Track { timescale: 48_000, language: language.map(str::to_owned), codec }
}

fn samples(pts: &[u64]) -> Vec<Sample> {
    let first = pts.iter().min().copied();
    pts.iter().map(|&p| Sample { pts: p, keyframe: Some(p) == first, data: Bytes::from(vec![p as u8; 10]) }).collect()
}

/// (decode time, duration, presentation time) of each sample, read back from the boxes.
fn times(fragment: &Fragment) -> Vec<(u64, u64, u64)> {
    let head = &fragment.data[0];
    let find = |kind: &[u8]| head.windows(4).position(|w| w == kind).unwrap();
    let tfdt = find(b"tfdt");
    let mut at = u64::from_be_bytes(head[tfdt + 8..tfdt + 16].try_into().unwrap());
    let trun = find(b"trun") + 8;
    let word = |i: usize| u32::from_be_bytes(head[i..i + 4].try_into().unwrap());
    (0..word(trun) as usize)
        .map(|i| {
            let entry = trun + 8 + i * 16;
            let (duration, offset) = (u64::from(word(entry)), u64::from(word(entry + 12)));
            let time = (at, duration, at + offset);
            at += duration;
            time
        })
        .collect()
}

fn children(data: &[u8]) -> Vec<(String, usize, usize)> {
    let mut found = vec![];
    let mut at = 0;
    while at + 8 <= data.len() {
        let length = u32::from_be_bytes(data[at..at + 4].try_into().unwrap()) as usize;
        found.push((String::from_utf8_lossy(&data[at + 4..at + 8]).into_owned(), at, length));
        at += length;
    }
    assert_eq!(at, data.len(), "boxes fill their parent");
    found
}

#[test]
fn frames_keep_their_presentation_times_and_are_never_shown_before_they_are_decoded() {
    let fragment = picture().fragment(1, &samples(&[100, 103, 101, 102, 106, 104, 105]), 107).unwrap();
    let expected =
        [(100, 1, 102), (101, 1, 105), (102, 1, 103), (103, 1, 104), (104, 1, 108), (105, 1, 106), (106, 1, 107)];
    assert_eq!(times(&fragment), expected);
}

#[test]
fn a_gap_longer_than_the_shift_pulls_decoding_forward_and_leaves_the_segment_whole() {
    let fragment = picture().fragment(1, &samples(&[0, 100, 1, 50]), 200).unwrap();
    let times = times(&fragment);
    assert_eq!(times.iter().map(|t| t.2).collect::<Vec<_>>(), [2, 102, 3, 52]);
    assert!(times.iter().all(|t| t.0 <= t.2), "{times:?}");
    assert_eq!((fragment.start_ticks, fragment.duration_ticks), (0, 200));
    assert_eq!(times.iter().map(|t| t.1).sum::<u64>(), 200);
}

#[test]
fn payload_is_addressed_exactly() {
    let fragment = picture().fragment(7, &samples(&[0, 2, 1]), 3).unwrap();
    let whole: Vec<u8> = fragment.data.iter().flat_map(|d| d.to_vec()).collect();
    assert_eq!(whole.len() as u64, fragment.length);
    let boxes = children(&whole);
    assert_eq!(boxes.iter().map(|b| b.0.as_str()).collect::<Vec<_>>(), ["styp", "moof", "mdat"]);
    assert_eq!(fragment.keyframes, [boxes[2].1 as u64 + 8]);
}

#[test]
fn the_same_track_gives_the_same_init_whatever_was_written_before() {
    let track = picture();
    let before = track.init();
    track.fragment(1, &samples(&[0]), 1).unwrap();
    assert_eq!(track.init(), before);
    assert_eq!(children(&before).iter().map(|b| b.0.as_str()).collect::<Vec<_>>(), ["ftyp", "moov"]);
}

#[test]
fn sound_hides_its_priming_in_an_edit_list_and_tells_its_language() {
    let init = sound(Some("deu")).init();
    let elst = init.windows(4).position(|w| w == b"elst").unwrap();
    assert_eq!(init[elst + 16..elst + 20], 1024u32.to_be_bytes());
    assert_eq!(language_code(Some("deu")), (4 << 10) | (5 << 5) | 21);
    assert_eq!(sound(Some("de-CH")).init(), sound(None).init());
}

#[test]
fn codecs_are_named_as_rfc_6381_writes_them() {
    assert_eq!(picture().codec_name(), "avc1.64001f");
    assert_eq!(sound(None).codec_name(), "mp4a.40.2");
}

#[test]
fn a_timeline_that_stands_still_or_runs_over_its_end_is_refused() {
    let check = |pts: &[u64], end, expected| {
        assert_eq!(picture().fragment(1, &samples(pts), end).map(|_| ()), Err(expected));
    };
    check(&[], 1, FragmentError::Empty);
    check(&[0, 1, 1], 3, FragmentError::Order { at: 1, end: 3 });
    check(&[0, 1, 2], 2, FragmentError::Order { at: 2, end: 2 });
}
