//! The measuring itself, measured: what plain ffmpeg serves is right, and each thing that is done to it is found.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::judge::{Figures, judge};
use crate::served::Served;
use crate::source::Source;
use crate::synth;
use crate::tool::{Outcome, ffmpeg};

/// Serves the clip through ffmpeg's own HLS writer, the picture through this filter, the sound through that.
fn serve(dir: &Path, picture: &str, sound: &str) -> Outcome<String> {
    let (from, lists) = (clip().path.to_string_lossy(), dir.join("%v.m3u8"));
    let lists = lists.to_string_lossy();
    let graph = format!("[0:v]{picture}[v];[0:a]{sound}[a]");
    let mut args = vec!["-v", "error", "-i", &from, "-filter_complex", &graph, "-map", "[v]", "-map", "[a]"];
    args.extend(["-fps_mode", "passthrough", "-enc_time_base", "1/30000", "-video_track_timescale", "30000"]);
    // Without reordered frames ffmpeg's own playlists state the times that they have.
    args.extend(["-c:v", "libx264", "-preset", "ultrafast", "-bf", "0", "-g", "60", "-c:a", "aac", "-f", "hls"]);
    args.extend(["-hls_time", "4", "-hls_segment_type", "fmp4", "-hls_playlist_type", "vod"]);
    args.extend(["-hls_flags", "single_file", "-master_pl_name", "index.m3u8"]);
    args.extend(["-var_stream_map", "v:0,agroup:s a:0,agroup:s", &lists]);
    ffmpeg(&args)?;
    Ok(dir.join("index.m3u8").to_string_lossy().into_owned())
}

/// The clip that all of them serve, made and looked at once.
fn clip() -> &'static Source {
    static CLIP: OnceLock<(TempDir, Source)> = OnceLock::new();
    let made = || {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clip = synth::measured(dir.path()).expect("a clip");
        (dir, Source::look_at(&clip).expect("ffprobe reads it"))
    };
    &CLIP.get_or_init(made).1
}

/// What is found when the clip is served with that done to picture and sound.
fn found(picture: &str, sound: &str) -> (Figures, Vec<String>) {
    let _beside = crate::beside();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = serve(dir.path(), picture, sound).expect("ffmpeg serves it");
    judge(clip(), &Served::decode(&url).expect("ffmpeg plays it"))
}

/// That done to picture and sound breaks a rule whose sentence holds `rule`.
fn breaks(picture: &str, sound: &str, rule: &str) {
    let (_, broken) = found(picture, sound);
    assert!(broken.iter().any(|sentence| sentence.contains(rule)), "{rule}: {broken:#?}");
}

#[test]
fn what_ffmpeg_serves_breaks_no_rule() {
    let (figures, broken) = found("null", "anull");
    assert_eq!(broken, Vec::<String>::new(), "{figures:?}");
    assert_eq!((figures.decoded, figures.found), (150, 150));
}

#[test]
fn a_frame_too_few_is_found() {
    breaks("select='not(eq(n,100))'", "anull", "149 frames instead of 150");
}

#[test]
fn a_wrong_frame_in_its_place_is_found_by_its_looks() {
    let (figures, _) = found("shuffleframes=1 0", "anull");
    assert!(figures.likeness.expect("measured").worst < 0.95, "{figures:?}");
}

#[test]
fn a_frame_that_is_broken_is_found_among_many() {
    breaks("drawbox=t=fill:color=white:enable='eq(n,50)'", "anull", "one frame has a likeness of");
}

#[test]
fn a_frame_that_gives_way_at_once_is_found() {
    breaks("setpts='PTS+if(eq(N,50),0.03/TB,0)'", "anull", "frames shown for less than half their time: 1");
}

#[test]
fn sound_that_comes_late_is_found() {
    breaks("null", "adelay=60:all=1,atrim=end=5", "sound against picture is off by");
}

#[test]
fn a_picture_that_comes_late_is_found() {
    breaks("setpts=PTS+0.06/TB", "anull", "sound against picture is off by");
}

#[test]
fn another_sound_is_found() {
    breaks("null", "aeval=random(0)-0.5,aformat=channel_layouts=mono", "the sound is not the source's");
}

#[test]
fn a_squeezed_picture_is_found() {
    breaks("scale=320:200,setsar=1", "anull", "has another aspect");
    breaks("scale=240:180", "anull", "pixels are 4/3");
}

#[test]
fn a_picture_that_lies_on_its_side_is_found() {
    breaks("transpose", "anull", "is not upright");
}

#[test]
fn a_mirrored_or_blurred_picture_is_found() {
    breaks("hflip", "anull", "likeness");
    breaks("gblur=sigma=4", "anull", "likeness");
}

#[test]
fn a_missing_end_is_found() {
    breaks("trim=end=4.5", "atrim=end=4.5", "is off by -5");
}

#[test]
fn a_damaged_segment_is_found() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let url = serve(dir.path(), "null", "anull").expect("ffmpeg serves it");
    let media = dir.path().join("0.m4s");
    let mut bytes = std::fs::read(&media).expect("a segment");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 2000].iter_mut().for_each(|byte| *byte ^= 0x5a);
    std::fs::write(&media, bytes).expect("written");
    let (_, broken) = judge(clip(), &Served::decode(&url).expect("ffmpeg plays it"));
    assert!(broken.iter().any(|sentence| sentence.starts_with("ffmpeg, decoding all of it")), "{broken:#?}");
}
