//! Plain values to build facts from, and the usual beginnings of a log.

use crate::event::{
    AssetRegistered, AudioStored, Door, EncodePlanned, ProfileRef, SourceAccepted, SourceStored, StillStored,
    VideoStored,
};
use crate::id::{AssetId, AttemptId, PlaybackId, Sha256, TenantId, UploadId};
use crate::key::{Key, Object};
use crate::media::{
    AudioFacts, AudioPlan, Container, Cut, DynamicRange, FrameRate, InitSection, NS_PER_MS, NS_PER_S, Orientation,
    Plan, Receipt, Run, Rung, Segment, SourceFacts, SourceRef, StillPlan, StillReceipt, VideoFacts, VideoPlan,
};
use crate::slot::Slot;
use crate::testing::Given;

/// Length of a segment in [`plan`].
pub const SEGMENT_NS: u64 = 4 * NS_PER_S;

impl Given {
    /// An upload began.
    #[must_use]
    pub fn registered() -> Self {
        Self::new().then(Slot::UploadRegistered, registered())
    }

    /// Its bytes are stored.
    #[must_use]
    pub fn stored() -> Self {
        Self::registered().then(Slot::UploadOutcome, SourceStored { source: source() })
    }

    /// It can be encoded.
    #[must_use]
    pub fn accepted(facts: SourceFacts) -> Self {
        Self::stored().then(Slot::UploadVerdict { verdict: 1 }, SourceAccepted { facts })
    }

    /// Generation 1 is planned so.
    #[must_use]
    pub fn planned(plan: Plan) -> Self {
        Self::accepted(source_facts(plan.duration_ns() / NS_PER_MS))
            .then(Slot::EncodePlanned { generation: 1 }, EncodePlanned { plan })
    }

    /// Every planned part of `chunk` of `generation` is stored.
    ///
    /// # Panics
    /// When `generation` is not planned.
    #[must_use]
    pub fn chunk(mut self, generation: u32, chunk: u32) -> Self {
        let asset = self.fold();
        let planned = asset.generations.get(&generation).map(|g| g.plan().clone());
        let plan = planned.unwrap_or_else(|| panic!("generation {generation} is not planned"));
        if plan.video.is_some() {
            self = self.then(Slot::EncodeVideo { generation, chunk }, video_stored(&plan, generation, chunk));
        }
        if plan.audio.is_some() {
            let slot = Slot::EncodeAudio { generation, track: 0, chunk };
            self = self.then(slot, audio_stored(&plan, generation, chunk));
        }
        self
    }

    /// Everything planned for `generation` is stored.
    ///
    /// # Panics
    /// When it is not planned.
    #[must_use]
    pub fn all_stored(mut self, generation: u32) -> Self {
        let planned = self.fold().generations.get(&generation).map(|g| g.plan().clone());
        let plan = planned.unwrap_or_else(|| panic!("generation {generation} is not planned"));
        for chunk in 0..plan.chunk_count() {
            self = self.chunk(generation, chunk);
        }
        for still in &plan.stills {
            let slot = Slot::EncodeStill { generation, name: still.name.clone() };
            self = self.then(slot, still_stored(still, generation));
        }
        self
    }
}

/// How an upload of 20 bytes is registered.
pub fn registered() -> AssetRegistered {
    AssetRegistered {
        door: Door::Upload,
        profile: ProfileRef { name: "standard".to_owned(), version: 1 },
        playback: PlaybackId::from_bits(2),
        upload: UploadId::from_bits(3),
        size_bytes: Some(20),
        sha256: None,
    }
}

/// A source of 20 bytes in three pieces that two epochs wrote.
pub fn source() -> SourceRef {
    SourceRef {
        upload: UploadId::from_bits(3),
        piece_bytes: 8,
        size_bytes: 20,
        sha256: Sha256::of(b"twenty bytes of film"),
        runs: vec![Run { first: 0, last: 1, epoch: 1 }, Run { first: 2, last: 2, epoch: 4 }],
    }
}

/// An upright 720p MP4 at 25 frames a second with stereo sound that both last `ms` milliseconds.
pub fn source_facts(ms: u64) -> SourceFacts {
    let end_ns = ms * NS_PER_MS;
    let video = VideoFacts {
        stream: 0,
        codec: "h264".to_owned(),
        width: 1280,
        height: 720,
        pixel_aspect: (1, 1),
        orientation: Orientation::Upright,
        display_width: 1280,
        display_height: 720,
        frame_rate: FrameRate { num: 25, den: 1 },
        variable_rate: false,
        frames: Some(ms / 40),
        interlaced: false,
        bit_depth: 8,
        dynamic_range: DynamicRange::Sdr,
        colorimetry: "bt709".to_owned(),
        first_ns: 0,
        end_ns,
        longest_gap_ns: 40 * NS_PER_MS,
        leaps_over_ns: 0,
        last_ns: 0,
    };
    let audio = AudioFacts {
        stream: 0,
        codec: "aac".to_owned(),
        sample_rate: 48_000,
        channels: 2,
        language: Some("en".to_owned()),
        first_ns: 0,
        end_ns,
        longest_gap_ns: 0,
        leaps_over_ns: 0,
    };
    SourceFacts {
        container: Container::Mp4,
        cut: Cut::Exact,
        zero_ns: 0,
        end_ns,
        video: Some(video),
        audio: Some(audio),
        video_streams: 1,
        audio_streams: 1,
        subtitle_streams: 0,
        has_location: false,
        has_device: false,
        keyframe_gaps_ms: vec![2_000; ms.div_ceil(4_000) as usize],
        promised_ms: None,
        damage: vec![],
        lost_packets: 0,
        more_recordings: 0,
    }
}

/// A plan of `chunks` (segments in each), `ms` milliseconds long, with two rungs, a sound track and a poster. Drop what a test
/// does not want.
pub fn plan(chunks: &[u32], ms: u64) -> Plan {
    let rung = |id: &str, width, height, max_bps| Rung {
        id: id.to_owned(),
        width,
        height,
        crf: 23,
        max_bps,
        buffer_ms: 2_000,
        threads: 2,
    };
    let (timescale, frame_rate) = (25_000, FrameRate { num: 25, den: 1 });
    let language = Some("en".to_owned());
    Plan {
        zero_ns: 0,
        end_ns: ms * NS_PER_MS,
        segment_ns: SEGMENT_NS,
        chunks: chunks.to_vec(),
        cut: Cut::Exact,
        video: Some(VideoPlan { timescale, frame_rate, keep_every: 1, keyframe_ns: 2 * NS_PER_S }),
        rungs: vec![rung("v720", 1280, 720, 2_800_000), rung("v360", 640, 360, 800_000)],
        audio: Some(AudioPlan { id: "a0".to_owned(), bps: 128_000, sample_rate: 48_000, channels: 2, language }),
        stills: vec![StillPlan { name: "poster".to_owned(), at_ns: NS_PER_S, width: 1280, height: 720 }],
        taken_over: vec![],
    }
}

/// What encoding `chunk` of the picture of `plan` left; it took half its playing time.
pub fn video_stored(plan: &Plan, generation: u32, chunk: u32) -> VideoStored {
    let timescale = plan.video.map_or(90_000, |video| video.timescale);
    let receipts = plan.rungs.iter().map(|rung| {
        let bytes_a_second = rung.max_bps / 16;
        receipt(plan, generation, chunk, &rung.id, timescale, bytes_a_second, "avc1.64001f")
    });
    VideoStored { receipts: receipts.collect(), encode_ms: encode_ms(plan, chunk), missing_ms: 0 }
}

/// What encoding `chunk` of the sound of `plan` left.
///
/// # Panics
/// When the plan has no sound.
pub fn audio_stored(plan: &Plan, generation: u32, chunk: u32) -> AudioStored {
    let Some(audio) = &plan.audio else { panic!("the plan has no sound") };
    let receipt = receipt(plan, generation, chunk, &audio.id, audio.sample_rate, audio.bps / 8, "mp4a.40.2");
    AudioStored { receipt, encode_ms: encode_ms(plan, chunk), missing_ms: 0 }
}

/// What making a still left.
pub fn still_stored(still: &StillPlan, generation: u32) -> StillStored {
    let object = Object::Still { generation, name: still.name.clone(), attempt: AttemptId::from_bits(5) };
    let receipt = StillReceipt {
        name: still.name.clone(),
        key: key(object),
        length: 40_000,
        sha256: Sha256::of(still.name.as_bytes()),
        width: still.width,
        height: still.height,
        content_type: "image/jpeg".to_owned(),
    };
    StillStored { receipt }
}

fn key(object: Object) -> String {
    Key { tenant: TenantId::default_tenant(), asset: AssetId::from_bits(1), object }.to_string()
}

fn encode_ms(plan: &Plan, chunk: u32) -> u64 {
    let (start, end) = plan.chunk_span_ns(chunk);
    end.saturating_sub(start) / NS_PER_MS / 2
}

/// A receipt with one segment for each of the plan and a keyframe at the start of each.
fn receipt(
    plan: &Plan,
    generation: u32,
    chunk: u32,
    rendition: &str,
    timescale: u32,
    bytes_a_second: u64,
    codec: &str,
) -> Receipt {
    const INIT_BYTES: u64 = 800;
    let ticks = |ns: u64| (u128::from(ns) * u128::from(timescale) / u128::from(NS_PER_S)) as u64;
    let (start, end) = plan.chunk_span_ns(chunk);
    let mut segments = Vec::new();
    let (mut offset, mut from) = (INIT_BYTES, start);
    while from < end {
        let to = end.min(from + plan.segment_ns);
        let length = (to - from) * bytes_a_second / NS_PER_S;
        segments.push(Segment { offset, length, duration_ticks: ticks(to) - ticks(from), keyframes: vec![offset] });
        (offset, from) = (offset + length, to);
    }
    let object = Object::Chunk { generation, rendition: rendition.to_owned(), chunk, attempt: AttemptId::from_bits(4) };
    Receipt {
        rendition: rendition.to_owned(),
        sha256: Sha256::of(format!("{rendition} {chunk}").as_bytes()),
        key: key(object),
        length: offset,
        init: InitSection { offset: 0, length: INIT_BYTES, sha256: Sha256::of(rendition.as_bytes()) },
        timescale,
        start_ticks: ticks(start),
        segments,
        samples: (end - start) / NS_PER_MS / 40,
        codec: codec.to_owned(),
        toolchain: "x264 164, gst 1.22".to_owned(),
    }
}
