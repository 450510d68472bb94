use std::collections::BTreeMap;

use spool_proto::asset::{At, Generation};
use spool_proto::event::{AudioStored, VideoStored};
use spool_proto::id::Sha256;
use spool_proto::media::{AudioPlan, Cut, InitSection, Segment, VideoPlan};
use spool_proto::media::{NS_PER_S, Rung};
use spool_proto::time::Timestamp;

use super::*;

fn at<T>(it: T) -> At<T> {
    At { sequence: 1, at: Timestamp::from_ms(0), it }
}

fn rung(id: &str, width: u32, height: u32, max_bps: u64) -> Rung {
    Rung { id: id.to_owned(), width, height, crf: 23, max_bps, buffer_ms: 2000, threads: 2 }
}

/// 10 s in chunks of 1 and 2 segments of 4 s, the last of 2 s.
fn plan() -> Plan {
    Plan {
        zero_ns: 0,
        end_ns: 10 * NS_PER_S,
        segment_ns: 4 * NS_PER_S,
        chunks: vec![1, 2],
        cut: Cut::Exact,
        video: Some(VideoPlan {
            timescale: 30_000,
            frame_rate: FrameRate { num: 30_000, den: 1001 },
            keep_every: 1,
            keyframe_ns: 2 * NS_PER_S,
        }),
        rungs: vec![
            rung("v1080", 1920, 1080, 5_000_000),
            rung("v540", 960, 540, 1_600_000),
            rung("v240", 426, 240, 400_000),
        ],
        audio: Some(AudioPlan {
            id: "a0".to_owned(),
            bps: 128_000,
            sample_rate: 48_000,
            channels: 2,
            language: Some("eng".to_owned()),
        }),
        stills: vec![],
        taken_over: vec![],
    }
}

fn receipt(rendition: &str, timescale: u32, codec: &str, segments: &[(u64, u64)]) -> Receipt {
    let mut offset = 700;
    let segments = segments.iter().map(|(length, duration_ticks)| {
        let segment = Segment { offset, length: *length, duration_ticks: *duration_ticks, keyframes: vec![offset] };
        offset += length;
        segment
    });
    let segments: Vec<Segment> = segments.collect();
    Receipt {
        rendition: rendition.to_owned(),
        key: format!("key/of/{rendition}"),
        length: offset,
        sha256: Sha256::of(b""),
        init: InitSection { offset: 0, length: 700, sha256: Sha256::of(b"init") },
        timescale,
        start_ticks: 0,
        segments,
        samples: 100,
        codec: codec.to_owned(),
        toolchain: "test 1".to_owned(),
    }
}

fn generation(plan: Plan) -> Generation {
    let sizes: [&[(u64, u64)]; 2] = [&[(1_000_000, 120_120)], &[(500_000, 120_120), (2_000_000, 59_760)]];
    let sound: [&[(u64, u64)]; 2] = [&[(64_000, 192_512)], &[(64_000, 191_488), (33_000, 96_000)]];
    let mut video = BTreeMap::new();
    let mut track = BTreeMap::new();
    for chunk in 0..2 {
        let of = |r: &Rung| receipt(&r.id, 30_000, "avc1.640028", sizes[chunk]);
        let receipts: Vec<Receipt> = plan.rungs.iter().map(of).collect();
        if !receipts.is_empty() {
            video.insert(chunk as u32, at(VideoStored { receipts, encode_ms: 1, missing_ms: 0 }));
        }
        if plan.audio.is_some() {
            let receipt = receipt("a0", 48_000, "mp4a.40.2", sound[chunk]);
            track.insert(chunk as u32, at(AudioStored { receipt, encode_ms: 1, missing_ms: 0 }));
        }
    }
    Generation {
        plan: at(plan),
        video,
        audio: BTreeMap::from([(0, track)]),
        stills: BTreeMap::new(),
        faults: BTreeMap::new(),
        outcome: None,
    }
}

fn listing(generation: &Generation, rendition: &str, growth: Growth) -> Listing {
    let receipts = rates::receipts(generation, rendition).expect("all stand");
    let entries = receipts.iter().enumerate().flat_map(|(k, r)| entries_of(1, k as u32, r)).collect();
    Listing { growth, target_s: planned_target_s(generation.plan()), map: map_of(1, receipts[0]), entries }
}

#[test]
fn a_finished_list_reads_as_written_here() {
    let text = media_playlist(&listing(&generation(plan()), "v540", Growth::Finished));
    let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-PLAYLIST-TYPE:VOD\n\
        #EXT-X-MAP:URI=\"../g1/v540/0.mp4\",BYTERANGE=\"700@0\"\n\
        #EXTINF:4.004000,\n#EXT-X-BYTERANGE:1000000@700\n../g1/v540/0.mp4\n\
        #EXTINF:4.004000,\n#EXT-X-BYTERANGE:500000@700\n../g1/v540/1.mp4\n\
        #EXTINF:1.992000,\n#EXT-X-BYTERANGE:2000000@500700\n../g1/v540/1.mp4\n#EXT-X-ENDLIST\n";
    assert_eq!(text, expected);
    assert_eq!(check::media(&text), Vec::<String>::new());
}

#[test]
fn a_growing_list_is_only_ever_appended_to() {
    let whole = listing(&generation(plan()), "a0", Growth::Growing { ended: true });
    let mut before = String::new();
    for known in 0..=whole.entries.len() {
        let part = Listing {
            growth: Growth::Growing { ended: false },
            entries: whole.entries[..known].to_vec(),
            ..whole.clone()
        };
        let text = media_playlist(&part);
        assert_eq!(check::media(&text), Vec::<String>::new());
        assert!(text.starts_with(&before), "{text}");
        before = text;
    }
    assert_eq!(media_playlist(&whole), format!("{before}#EXT-X-ENDLIST\n"));
}

#[test]
fn the_multivariant_list_of_a_growing_asset_declares_from_the_plan_and_starts_near_two_megabits() {
    let text = multivariant(&rates::declared(1, &generation(plan())).expect("first chunk stands"));
    let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-START:TIME-OFFSET=0,PRECISE=YES\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"sound\",NAME=\"eng\",LANGUAGE=\"eng\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"g1/a0.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2563200,AVERAGE-BANDWIDTH=1744000,CODECS=\"avc1.640028,mp4a.40.2\",RESOLUTION=960x540,FRAME-RATE=29.970,AUDIO=\"sound\"\ng1/v540.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=7663200,AVERAGE-BANDWIDTH=5144000,CODECS=\"avc1.640028,mp4a.40.2\",RESOLUTION=1920x1080,FRAME-RATE=29.970,AUDIO=\"sound\"\ng1/v1080.m3u8\n\
        #EXT-X-STREAM-INF:BANDWIDTH=763200,AVERAGE-BANDWIDTH=544000,CODECS=\"avc1.640028,mp4a.40.2\",RESOLUTION=426x240,FRAME-RATE=29.970,AUDIO=\"sound\"\ng1/v240.m3u8\n";
    assert_eq!(text, expected);
    assert_eq!(check::multivariant(&text), Vec::<String>::new());
}

#[test]
fn the_measured_peak_is_the_worst_run_of_half_to_one_and_a_half_targets() {
    let master = rates::measured(3, &generation(plan()), 4).expect("complete");
    // Picture: the worst run is segments 2 and 3, 2,500,000 bytes in 5.996 s, or segment 3 alone, which lasts 1.992 s and
    // is thus too short to count. Sound: 64,000 bytes in 191,488 samples is beaten by 33,000 bytes in 2 s.
    let peak = (2_500_000.0_f64 * 8.0 / 5.996).ceil() as u64
        + 132_000_u64.max((64_000.0_f64 * 8.0 / (191_488.0 / 48_000.0)).ceil() as u64);
    assert_eq!(master.variants[0].bandwidth_bps, peak);
    let mean = (3_500_000.0_f64 * 8.0 / 10.0).ceil() as u64 + (161_000.0_f64 * 8.0 / 10.0).ceil() as u64;
    assert_eq!(master.variants[0].average_bps, mean);
    assert_eq!(master.variants[0].uri, "r3/v1080.m3u8");
    assert_eq!(check::multivariant(&multivariant(&master)), Vec::<String>::new());
}

#[test]
fn sound_alone_is_a_variant_and_a_silent_picture_has_no_group() {
    let sound_only = Plan { rungs: vec![], video: None, ..plan() };
    let text = multivariant(&rates::measured(1, &generation(sound_only), 4).expect("complete"));
    assert!(text.ends_with("CODECS=\"mp4a.40.2\"\nr1/a0.m3u8\n"), "{text}");
    assert!(!text.contains("EXT-X-MEDIA:"));
    let silent = multivariant(&rates::measured(1, &generation(Plan { audio: None, ..plan() }), 4).expect("complete"));
    assert!(!silent.contains("AUDIO"), "{silent}");
    for text in [text, silent] {
        assert_eq!(check::multivariant(&text), Vec::<String>::new());
    }
}

#[test]
fn nothing_is_said_about_what_does_not_stand() {
    let mut early = generation(plan());
    early.video.remove(&1);
    assert!(rates::declared(1, &early).is_some());
    assert!(rates::measured(1, &early, 4).is_none());
    early.video.clear();
    assert!(rates::declared(1, &early).is_none());
}

#[test]
fn a_language_that_would_break_the_line_is_left_out() {
    for bad in ["en\"\n#EXT", "und", "", "1x", "en gb"] {
        assert_eq!(language_tag(bad), None, "{bad:?}");
    }
    assert_eq!(language_tag("pt-BR"), Some("pt-BR"));
}

#[test]
fn the_target_duration_rounds_the_longest_segment_to_nearest() {
    let ends = |end_ns: u64, chunks: &[u32]| planned_target_s(&Plan { end_ns, chunks: chunks.to_vec(), ..plan() });
    assert_eq!(ends(10 * NS_PER_S, &[1, 2]), 4);
    assert_eq!(ends(8 * NS_PER_S + 449_000_000, &[1, 1]), 4);
    assert_eq!(ends(300_000_000, &[1]), 1);
    // Its sound may last 1.52 s.
    assert_eq!(ends(1_480_000_000, &[1]), 2);
}

#[test]
fn the_validator_finds_what_is_wrong() {
    let good = media_playlist(&listing(&generation(plan()), "v540", Growth::Finished));
    for (from, to) in [
        ("TARGETDURATION:4", "TARGETDURATION:3"),
        ("#EXT-X-ENDLIST\n", ""),
        ("500000@700", "0@700"),
        ("#EXT-X-MAP", "#EXT-X-NAP"),
        ("#EXTM3U\n", ""),
    ] {
        assert_ne!(check::media(&good.replace(from, to)), Vec::<String>::new(), "{from}");
    }
    let good = multivariant(&rates::declared(1, &generation(plan())).expect("stands"));
    for (from, to) in [("AUDIO=\"sound\"", "AUDIO=\"other\""), (",CODECS", ",KODECS"), ("g1/v540.m3u8\n", "")] {
        assert_ne!(check::multivariant(&good.replace(from, to)), Vec::<String>::new(), "{from}");
    }
}
