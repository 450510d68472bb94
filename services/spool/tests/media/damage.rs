//! Files that are broken: by kind, and by chance.

use std::path::{Path, PathBuf};

use spool_proto::Code;

use crate::dice::Dice;
use crate::tool::{Outcome, ffmpeg};

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breakage {
    /// No bytes.
    Empty,
    /// A picture that stands still.
    StillImage,
    /// Something else altogether.
    NotMedia,
    /// A recording that was never closed.
    IndexMissing,
    /// A head or index that contradicts itself.
    IndexCorrupt,
    /// An index, and nothing behind it.
    NoSamples,
    /// A picture no decoder should be asked for.
    TooLarge,
}

impl Breakage {
    /// Codes that fit; no two kinds share one.
    pub(crate) fn codes(self) -> &'static [Code] {
        match self {
            Breakage::Empty => &[Code::SourceEmpty],
            Breakage::StillImage => &[Code::SourceStillImage],
            Breakage::NotMedia => &[Code::SourceNotMedia],
            Breakage::IndexMissing => &[Code::SourceIndexMissing],
            Breakage::IndexCorrupt => &[Code::SourceCorrupt],
            Breakage::NoSamples => &[Code::SourceNoSamples, Code::SourceDamaged],
            Breakage::TooLarge => &[Code::SourcePictureTooLarge],
        }
    }
}

/// One file of each kind that can be made without a fuzzer.
pub(crate) fn broken(dir: &Path, good: &Path) -> Outcome<Vec<(PathBuf, Breakage)>> {
    let mut dice = Dice::thrown("garbage");
    let write = |name: &str, bytes: &[u8]| -> Outcome<PathBuf> {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|error| format!("write {name}: {error}"))?;
        Ok(path)
    };
    let whole = std::fs::read(good).map_err(|error| format!("read {}: {error}", good.display()))?;
    let garbage: Vec<u8> = (0..40_000).map(|_| dice.next() as u8).collect();
    let still = dir.join("still.mp4");
    let file = still.to_string_lossy();
    ffmpeg(&[
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x480",
        "-frames:v",
        "1",
        "-c:v",
        "mjpeg",
        "-f",
        "image2",
        &file,
    ])?;
    let matroska = dir.join("head.mkv");
    let (from, to) = (good.to_string_lossy(), matroska.to_string_lossy());
    ffmpeg(&["-v", "error", "-i", &from, "-c", "copy", &to])?;
    let mut head = std::fs::read(&matroska).map_err(|error| format!("read head.mkv: {error}"))?;
    head[5..60].fill(0);
    Ok(vec![
        (write("empty", b"")?, Breakage::Empty),
        (write("text", "This is no video, only a sentence about one.\n".repeat(40).as_bytes())?, Breakage::NotMedia),
        (write("garbage", &garbage)?, Breakage::NotMedia),
        // ffmpeg puts the index behind the media, so two thirds of the file hold none.
        (write("cut", &whole[..whole.len() * 2 / 3])?, Breakage::IndexMissing),
        (write("head", &head)?, Breakage::IndexCorrupt),
        (still, Breakage::StillImage),
    ])
}

/// What chance did to a good file.
#[derive(Debug, Clone)]
pub(crate) struct Hit {
    pub(crate) path: PathBuf,
    /// In words.
    pub(crate) what: String,
}

/// Breaks files of `good` at random, `count` times: half of them cut short, half with flipped bits.
pub(crate) fn at_random(dir: &Path, good: &[PathBuf], count: usize) -> Outcome<Vec<Hit>> {
    let mut dice = Dice::thrown("truncations and bit flips");
    let mut hits = Vec::new();
    for number in 0..count {
        let from = &good[dice.below(good.len() as u64) as usize];
        let mut bytes = std::fs::read(from).map_err(|error| format!("read {}: {error}", from.display()))?;
        let length = bytes.len() as u64;
        let name = from.file_name().unwrap_or_default().to_string_lossy();
        let what = if number % 2 == 0 {
            let left = dice.below(length) as usize;
            bytes.truncate(left);
            format!("{name} cut to {left} of {length} bytes")
        } else {
            // Sometimes in the head, where tables lie; sometimes anywhere.
            let within = if dice.below(2) == 0 { length.min(4096) } else { length };
            let flips = 1 + dice.below(64);
            for _ in 0..flips {
                let at = dice.below(within) as usize;
                bytes[at] ^= 1 << dice.below(8);
            }
            format!("{name} with {flips} bits flipped in the first {within} of {length} bytes")
        };
        let path = dir.join(format!("hit-{number}"));
        std::fs::write(&path, &bytes).map_err(|error| format!("write {}: {error}", path.display()))?;
        hits.push(Hit { path, what });
    }
    Ok(hits)
}
