//! One value of every kind, each field different from the others and from nothing, so that two swapped fields are seen. The name
//! is the kind's, for a further one with `-` and what is special. A sample that has a file is never changed.

use spool_proto::Code;
use spool_proto::event::{
    AssetDeleted, AssetRegistered, AudioStored, CheckFailed, Described, Door, EncodeFailed, EncodePlanned, Event,
    JobGivenUp, ObjectsPurged, Opened, Problem, ProfileRef, Published, RenditionsCompleted, RetryOf, RetryRequested,
    SourceAccepted, SourceRejected, SourceStored, StillStored, TextErased, UploadAbandoned, VideoStored, Withdrawn,
};
use spool_proto::id::{AssetId, AttemptId, PlaybackId, Sha256, TenantId, TextToken, UploadId};
use spool_proto::job::{AudioOrder, InspectOrder, Job, Order, StillOrder, VideoOrder};
use spool_proto::media::{
    AudioFacts, AudioPlan, Container, Cut, DynamicRange, FrameRate, InitSection, Orientation, Part, Plan, Receipt, Run,
    Rung, Segment, SourceFacts, SourceRef, Span, StillPlan, StillReceipt, TakenOver, VideoFacts, VideoPlan,
};

pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let mut all = vec![("AssetRegistered", registered()), ("AssetRegistered-bare", registered_bare())];
    all.extend(sources());
    all.extend(encodes());
    all.extend(lives());
    all
}

pub(crate) fn orders() -> Vec<(&'static str, Order)> {
    let order = |round, cause: Option<&str>, job| Order {
        tenant: TenantId::default_tenant(),
        asset: AssetId::from_bits(7),
        round,
        job,
        cause: cause.map(str::to_owned),
    };
    let still = StillOrder { generation: 4, name: "poster".to_owned() };
    vec![
        ("InspectOrder", order(1, Some("evt_x"), Job::Inspect(InspectOrder { verdict: 2, max_duration_ms: None }))),
        (
            "InspectOrder-limited",
            order(0, None, Job::Inspect(InspectOrder { verdict: 1, max_duration_ms: Some(86_400_000) })),
        ),
        ("VideoOrder", order(0, None, Job::Video(VideoOrder { generation: 1, first: 3, last: 8 }))),
        ("PassOrder", order(0, None, Job::Pass(VideoOrder { generation: 1, first: 4, last: 44 }))),
        ("AudioOrder", order(2, Some("evt_y"), Job::Audio(AudioOrder { generation: 3, track: 1 }))),
        ("AudioPassOrder", order(0, None, Job::AudioPass(AudioOrder { generation: 1, track: 0 }))),
        ("StillOrder", order(0, None, Job::Still(still))),
    ]
}

fn digest(text: &str) -> Sha256 {
    Sha256::of(text.as_bytes())
}

fn problem() -> Problem {
    Problem::new(Code::SourceStillImage).with("found", "image/png").with("also", "ä")
}

fn registered() -> Event {
    let profile = ProfileRef { name: "standard".to_owned(), version: 3 };
    let (playback, upload) = (PlaybackId::from_bits(11), UploadId::from_bits(12));
    let (size_bytes, sha256) = (Some(0), Some(digest("announced")));
    AssetRegistered { door: Door::Ingest, profile, playback, upload, size_bytes, sha256 }.into()
}

fn registered_bare() -> Event {
    let profile = ProfileRef { name: "standard".to_owned(), version: 1 };
    let (playback, upload) = (PlaybackId::from_bits(13), UploadId::from_bits(14));
    AssetRegistered { door: Door::Upload, profile, playback, upload, size_bytes: None, sha256: None }.into()
}

fn sources() -> Vec<(&'static str, Event)> {
    let source = SourceRef {
        upload: UploadId::from_bits(12),
        piece_bytes: 8_388_608,
        size_bytes: 20_000_001,
        sha256: digest("source"),
        runs: vec![Run { first: 0, last: 1, epoch: 5 }, Run { first: 2, last: 2, epoch: u64::MAX }],
    };
    let runs = vec![];
    let empty = SourceRef { upload: UploadId::from_bits(12), piece_bytes: 8, size_bytes: 0, sha256: digest(""), runs };
    vec![
        ("SourceStored", SourceStored { source }.into()),
        ("SourceStored-empty", SourceStored { source: empty }.into()),
        ("UploadAbandoned", UploadAbandoned { problem: problem(), received_bytes: 99 }.into()),
        ("JobGivenUp", JobGivenUp { problem: Problem::new(Code::WorkerLost).with("attempts", 5), attempts: 5 }.into()),
        ("SourceAccepted", SourceAccepted { facts: facts() }.into()),
        ("SourceAccepted-bare", SourceAccepted { facts: bare_facts() }.into()),
        ("SourceAccepted-damaged", SourceAccepted { facts: damaged_facts() }.into()),
        ("SourceAccepted-paused", SourceAccepted { facts: paused_facts() }.into()),
        ("SourceAccepted-still-at-its-end", SourceAccepted { facts: still_facts() }.into()),
        ("SourceAccepted-joined", SourceAccepted { facts: joined_facts() }.into()),
        ("SourceRejected", SourceRejected { problem: problem() }.into()),
        ("CheckFailed", CheckFailed { problem: Problem::new(Code::ChildStalled), attempts: 2 }.into()),
    ]
}

fn facts() -> SourceFacts {
    let video = VideoFacts {
        stream: 1,
        codec: "hevc".to_owned(),
        width: 1440,
        height: 1080,
        pixel_aspect: (4, 3),
        orientation: Orientation::FlipRotate90,
        display_width: 1081,
        display_height: 1920,
        frame_rate: FrameRate { num: 30_000, den: 1_001 },
        variable_rate: true,
        frames: Some(2_997),
        interlaced: true,
        bit_depth: 10,
        dynamic_range: DynamicRange::Hlg,
        colorimetry: "bt2100-hlg".to_owned(),
        first_ns: 40_000_000,
        end_ns: 100_000_000_000,
        longest_gap_ns: 0,
        leaps_over_ns: 0,
        last_ns: 0,
    };
    let audio = AudioFacts {
        stream: 2,
        codec: "opus".to_owned(),
        sample_rate: 44_100,
        channels: 6,
        language: Some("de".to_owned()),
        first_ns: 21_333_333,
        end_ns: 99_999_999_999,
        longest_gap_ns: 0,
        leaps_over_ns: 0,
    };
    SourceFacts {
        container: Container::Matroska,
        cut: Cut::Whole,
        zero_ns: 21_333_333,
        end_ns: 100_000_000_000,
        video: Some(video),
        audio: Some(audio),
        video_streams: 3,
        audio_streams: 4,
        subtitle_streams: 5,
        has_location: true,
        has_device: true,
        keyframe_gaps_ms: vec![0, 2_000, 4_100],
        promised_ms: None,
        damage: vec![],
        lost_packets: 0,
        more_recordings: 0,
    }
}

fn paused_facts() -> SourceFacts {
    let facts = bare_facts();
    let audio = facts.audio.map(|audio| AudioFacts { longest_gap_ns: 4_021_333_333, ..audio });
    SourceFacts { audio, ..facts }
}

fn still_facts() -> SourceFacts {
    let facts = facts();
    let video = facts.video.map(|video| VideoFacts { last_ns: 90_040_000_000, ..video });
    SourceFacts { video, ..facts }
}

fn joined_facts() -> SourceFacts {
    SourceFacts { more_recordings: 3, ..bare_facts() }
}

fn bare_facts() -> SourceFacts {
    let audio = AudioFacts {
        stream: 0,
        codec: "mp3".to_owned(),
        sample_rate: 48_000,
        channels: 1,
        language: None,
        first_ns: 0,
        end_ns: 7,
        longest_gap_ns: 0,
        leaps_over_ns: 0,
    };
    SourceFacts {
        container: Container::Audio,
        cut: Cut::Exact,
        zero_ns: 0,
        end_ns: 7,
        video: None,
        audio: Some(audio),
        video_streams: 0,
        audio_streams: 1,
        subtitle_streams: 0,
        has_location: false,
        has_device: false,
        keyframe_gaps_ms: vec![],
        promised_ms: None,
        damage: vec![],
        lost_packets: 0,
        more_recordings: 0,
    }
}

/// A file that was cut short, with a hole in the middle.
fn damaged_facts() -> SourceFacts {
    let damage = vec![Span { offset: 1_000, length: 20 }, Span { offset: u64::MAX, length: 1 }];
    let video = facts().video.map(|video| VideoFacts { longest_gap_ns: 33_366_667, ..video });
    SourceFacts { promised_ms: Some(60_000), damage, video, ..facts() }
}

fn encodes() -> Vec<(&'static str, Event)> {
    let receipts = vec![receipt("v720", 1), receipt("v360", 2)];
    let still = StillReceipt {
        name: "poster".to_owned(),
        key: "stills/k".to_owned(),
        length: 71,
        sha256: digest("still"),
        width: 1280,
        height: 722,
        content_type: "image/jpeg".to_owned(),
    };
    let gone = Problem::new(Code::SourceDamaged).with("at_ms", 1_234);
    vec![
        ("EncodePlanned", EncodePlanned { plan: plan() }.into()),
        ("VideoStored", VideoStored { receipts: receipts.clone(), encode_ms: 4_321, missing_ms: 0 }.into()),
        ("VideoStored-missing", VideoStored { receipts, encode_ms: 4_321, missing_ms: 6_000 }.into()),
        ("AudioStored", AudioStored { receipt: receipt("a0", 3), encode_ms: 77, missing_ms: 0 }.into()),
        ("AudioStored-missing", AudioStored { receipt: receipt("a0", 3), encode_ms: 77, missing_ms: 1_400 }.into()),
        ("StillStored", StillStored { receipt: still }.into()),
        ("RenditionsCompleted", RenditionsCompleted { objects: 12, bytes: 3_000_000_000 }.into()),
        ("EncodeFailed", EncodeFailed { problem: gone, attempts: 3 }.into()),
    ]
}

fn plan() -> Plan {
    let rung = |id: &str, n: u32| Rung {
        id: id.to_owned(),
        width: 1280 + n,
        height: 720 + n,
        crf: 20 + n,
        max_bps: 2_800_000 + u64::from(n),
        buffer_ms: 2_000 + n,
        threads: 1 + n,
    };
    let taken = |generation, part, key: &str| TakenOver { generation, part, keys: vec![key.to_owned(), key.repeat(2)] };
    let (timescale, frame_rate) = (30_000, FrameRate { num: 60_000, den: 1_001 });
    let language = Some("de".to_owned());
    Plan {
        zero_ns: 21_333_333,
        end_ns: 100_000_000_000,
        segment_ns: 4_000_000_000,
        chunks: vec![1, 2, 4, 8, 10],
        cut: Cut::Exact,
        video: Some(VideoPlan { timescale, frame_rate, keep_every: 2, keyframe_ns: 2_000_000_000 }),
        rungs: vec![rung("v720", 0), rung("v360", 2)],
        audio: Some(AudioPlan { id: "a0".to_owned(), bps: 128_000, sample_rate: 48_000, channels: 2, language }),
        stills: vec![StillPlan { name: "poster".to_owned(), at_ns: 10_000_000_000, width: 640, height: 362 }],
        taken_over: vec![
            taken(1, Part::Video { chunk: 0 }, "k"),
            taken(2, Part::Audio { track: 0, chunk: 3 }, "l"),
            taken(3, Part::Still { name: "poster".to_owned() }, "m"),
        ],
    }
}

fn receipt(rendition: &str, n: u64) -> Receipt {
    Receipt {
        rendition: rendition.to_owned(),
        key: format!("renditions/{rendition}"),
        length: 1_000 + n,
        sha256: digest(rendition),
        init: InitSection { offset: n, length: 800 + n, sha256: digest("init") },
        timescale: 90_000,
        start_ticks: 360_000 * n,
        segments: vec![
            Segment { offset: 801, length: 100, duration_ticks: 360_000, keyframes: vec![801, 850] },
            Segment { offset: 901, length: 102, duration_ticks: 180_003, keyframes: vec![] },
        ],
        samples: 150 + n,
        codec: "avc1.64001f".to_owned(),
        toolchain: "x264 164, gst 1.22".to_owned(),
    }
}

fn lives() -> Vec<(&'static str, Event)> {
    let files = vec!["index.m3u8".to_owned(), "v720.m3u8".to_owned()];
    let published = Published { generation: 2, attempt: AttemptId::from_bits(99), files };
    let retry = |of| Event::from(RetryRequested { of });
    vec![
        ("Opened", Opened { generation: 3 }.into()),
        ("Published", published.into()),
        ("Withdrawn", Withdrawn { generation: 4 }.into()),
        ("Described", Described { token: TextToken::from_bits(15) }.into()),
        ("TextErased", TextErased { texts: 6 }.into()),
        ("RetryRequested", retry(RetryOf::Generation { generation: 7 })),
        ("RetryRequested-verdict", retry(RetryOf::Verdict { round: 8 })),
        ("AssetDeleted", AssetDeleted {}.into()),
        ("ObjectsPurged", ObjectsPurged { objects: 13, bytes: 14_000_000_000 }.into()),
    ]
}
