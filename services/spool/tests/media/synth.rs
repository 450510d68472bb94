//! Clips of our own, made by ffmpeg: where the shared files are absent they stand in for them, and some are always used.

use std::path::{Path, PathBuf};

use crate::tool::{Outcome, ffmpeg};

/// A moving test picture with a tone, with these options between the inputs and the output's name.
fn clip(dir: &Path, name: &str, picture: &str, sound: &str, options: &str) -> Outcome<PathBuf> {
    let path = dir.join(name);
    let mut args: Vec<&str> = vec!["-v", "error"];
    for input in [picture, sound].into_iter().filter(|input| !input.is_empty()) {
        args.extend(["-f", "lavfi", "-i", input]);
    }
    args.extend(options.split_whitespace());
    let file = path.to_string_lossy();
    args.push(&file);
    ffmpeg(&args)?;
    Ok(path)
}

const H264: &str = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -c:a aac -shortest";

/// One clip of each kind that the shared set is there for.
pub(crate) fn good(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let pattern = |size: &str, rate: &str| format!("testsrc2=size={size}:rate={rate}:duration=3");
    let tone = "sine=frequency=440:duration=3:sample_rate=48000";
    let hd = pattern("1920x1080", "30");
    let sd = pattern("640x360", "30");
    let h264 = |more: &str| format!("{H264} {more}");
    let upright = clip(dir, "upright.mov", &sd, tone, H264)?;
    let turned = dir.join("turned.mov");
    let (from, to) = (upright.to_string_lossy(), turned.to_string_lossy());
    ffmpeg(&["-v", "error", "-display_rotation", "90", "-i", &from, "-c", "copy", &to])
        .or_else(|_| ffmpeg(&["-v", "error", "-i", &from, "-c", "copy", "-metadata:s:v:0", "rotate=90", &to]))?;
    let interlaced =
        "-vf tinterlace=interleave_top,setsar=16/11 -c:v mpeg2video -b:v 4M -flags +ilme+ildct -top 1 -c:a mp2";
    Ok(vec![
        clip(dir, "plain.mp4", &hd, tone, H264)?,
        clip(dir, "variable.mp4", &sd, tone, &h264("-vf select='not(eq(mod(n,7),3)+eq(mod(n,11),5))' -vsync vfr"))?,
        turned,
        clip(dir, "open.mkv", &sd, tone, &h264("-g 48 -x264-params open-gop=1:bframes=3"))?,
        clip(dir, "stream.ts", &sd, tone, H264)?,
        clip(dir, "odd.webm", &pattern("161x121", "30"), tone, "-c:v libvpx-vp9 -deadline realtime -c:a libopus")?,
        clip(dir, "wide.mp4", &pattern("720x576", "25"), tone, &h264("-vf setsar=64/45"))?,
        clip(dir, "fields.mpg", &pattern("720x576", "50"), tone, interlaced)?,
        clip(
            dir,
            "deep.mp4",
            &sd,
            tone,
            "-c:v libx265 -preset ultrafast -x265-params log-level=error -pix_fmt yuv420p10le -c:a aac",
        )?,
        clip(dir, "mute.mp4", &sd, "", H264)?,
        clip(dir, "fast.mp4", &pattern("320x180", "120"), tone, H264)?,
        clip(dir, "slides.mp4", "testsrc2=size=640x360:rate=1:duration=9", "sine=duration=9", H264)?,
    ])
}

/// Sound without a picture.
pub(crate) fn sound_only(dir: &Path) -> Outcome<PathBuf> {
    clip(dir, "sound.m4a", "", "sine=frequency=440:duration=5:sample_rate=44100", "-c:a aac")
}

/// A white flash and a beep, each second from 0.5 s: frames that are reordered, a transport stream that begins at 1.4 s,
/// sound that begins before the picture, and a picture that begins before the sound.
pub(crate) fn flash_and_beep(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let picture = "color=black:size=320x240:rate=30000/1001:duration=10,\
                   drawbox=color=white:t=fill:enable='between(mod(t-0.5\\,1)\\,0\\,0.099)*gte(t\\,0.5)'";
    let sound = "aevalsrc='if(gte(t\\,0.5)*lt(mod(t-0.5\\,1)\\,0.1)\\,0.8*sin(2*PI*700*t)\\,0)':s=48000:d=10";
    let reordered = clip(dir, "flash.mp4", picture, sound, &format!("{H264} -bf 3"))?;
    let mut flashes = vec![reordered.clone(), clip(dir, "flash.ts", picture, sound, &format!("{H264} -bf 3"))?];
    for (name, late, other) in [("flash-late.mkv", "0:v", "1:a"), ("beep-late.mp4", "0:a", "1:v")] {
        let to = dir.join(name);
        let (from, file) = (reordered.to_string_lossy(), to.to_string_lossy());
        let moved = ["-v", "error", "-itsoffset", "0.3", "-i", &from, "-i", &from];
        let chosen = ["-map", late, "-map", other, "-c", "copy", &file];
        ffmpeg(&[&moved[..], &chosen[..]].concat())?;
        flashes.push(to);
    }
    Ok(flashes)
}

/// Five minutes of a small picture; `name` names the container.
pub(crate) fn long(dir: &Path, name: &str) -> Outcome<PathBuf> {
    let picture = "testsrc2=size=160x90:rate=25:duration=300";
    clip(dir, name, picture, "sine=frequency=440:duration=300:sample_rate=48000", &format!("{H264} -g 50"))
}

/// What the measuring is measured with: five seconds in which every frame differs, and noise, which is like nothing but itself.
pub(crate) fn measured(dir: &Path) -> Outcome<PathBuf> {
    let picture = "testsrc2=size=320x180:rate=30:duration=5";
    clip(dir, "measured.mp4", picture, "anoisesrc=r=48000:d=5:a=0.3:s=7", &format!("{H264} -crf 16 -b:a 192k"))
}
