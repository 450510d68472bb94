//! What is pushed: the shared files under other names, or clips of our own where they are absent; and always the flashes,
//! the broken ones and the ones broken by chance.

use std::path::{Path, PathBuf};

use serde_json::Value;
use spool_kit::testing::shared_media;

use crate::damage::{self, Breakage};
use crate::dice::Dice;
use crate::synth;
use crate::tool::Outcome;

/// How many files chance breaks.
const HITS: usize = 10;
/// Chance breaks files up to this size, so that the run stays short.
const HIT_BYTES: u64 = 700_000;
/// More pixels than any picture that may be decoded.
const HUGE: u64 = 64_000_000;

/// One file to push.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// What the table calls it.
    pub(crate) label: String,
    /// Where it lies, under a name that tells nothing.
    pub(crate) path: PathBuf,
    pub(crate) end: End,
    /// Frames that ffmpeg decodes from it, where the manifest says.
    pub(crate) frames: Option<u64>,
}

/// How it should end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Plays.
    Ready,
    /// Plays; flashes and beeps tell how sound and picture lie.
    Flashes,
    /// Plays, as sound.
    Sound,
    /// Is refused, for this.
    Refused(Breakage),
    /// Ends, one way or the other.
    Somehow,
}

/// Everything to push. `dir` holds what is made.
pub(crate) fn all(dir: &Path) -> Outcome<Vec<Input>> {
    let mut dice = Dice::thrown("names");
    let mut name = |path: &Path, label: String, end: End, frames: Option<u64>| -> Outcome<Input> {
        let to = dir.join(format!("{:016x}", dice.next()));
        std::fs::copy(path, &to).map_err(|error| format!("copy {}: {error}", path.display()))?;
        Ok(Input { label, path: to, end, frames })
    };
    let flashes = synth::flash_and_beep(dir)?;
    let mut inputs = if let Some(shared) = shared_media("recordings of real cameras; clips of our own stand in") {
        let mut inputs = Vec::new();
        for (file, end, frames) in manifest(&shared)? {
            inputs.push(name(&shared.join(&file), file, end, frames)?);
        }
        inputs
    } else {
        let mut inputs = Vec::new();
        for path in synth::good(dir)? {
            inputs.push(name(&path, label(&path), End::Ready, None)?);
        }
        let sound = synth::sound_only(dir)?;
        inputs.push(name(&sound, label(&sound), End::Sound, None)?);
        inputs
    };
    for (path, breakage) in damage::broken(dir, &flashes[0])? {
        inputs.push(name(&path, format!("made {}", label(&path)), End::Refused(breakage), None)?);
    }
    let small = |input: &&Input| {
        input.end == End::Ready && std::fs::metadata(&input.path).is_ok_and(|meta| meta.len() <= HIT_BYTES)
    };
    let good: Vec<PathBuf> = inputs.iter().filter(small).map(|input| input.path.clone()).collect();
    let labels: Vec<(String, String)> = inputs.iter().map(|i| (label(&i.path), i.label.clone())).collect();
    for hit in damage::at_random(dir, &good, HITS)? {
        let told = labels.iter().fold(hit.what, |what, (path, label)| what.replace(path, label));
        inputs.push(name(&hit.path, told, End::Somehow, None)?);
    }
    for path in flashes {
        inputs.push(name(&path, label(&path), End::Flashes, None)?);
    }
    Ok(mixed(inputs))
}

fn label(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Long work first, so that none of it is left for the end, and the broken ones between it.
fn mixed(inputs: Vec<Input>) -> Vec<Input> {
    let (mut work, mut broken): (Vec<Input>, Vec<Input>) =
        inputs.into_iter().partition(|input| matches!(input.end, End::Ready | End::Flashes | End::Sound));
    let bytes = |input: &Input| std::fs::metadata(&input.path).map_or(0, |meta| meta.len());
    work.sort_by_key(|input| std::cmp::Reverse(bytes(input)));
    let mut mixed = Vec::new();
    let mut broken = broken.drain(..);
    for input in work {
        mixed.push(input);
        mixed.extend(broken.next());
    }
    mixed.extend(broken);
    mixed
}

/// Name, end and frames of every file of the manifest.
fn manifest(shared: &Path) -> Outcome<Vec<(String, End, Option<u64>)>> {
    let path = shared.join("MANIFEST.json");
    let text = std::fs::read(&path).map_err(|error| format!("read {}: {error}", path.display()))?;
    let manifest: Value = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let files = manifest["files"].as_array().ok_or("a manifest without files")?;
    files
        .iter()
        .map(|file| {
            let name = file["name"].as_str().ok_or("a file without a name")?.to_owned();
            let end = match file["expect"].as_str() {
                Some("ok") => End::Ready,
                Some("audio-only") => End::Sound,
                Some("reject") => End::Refused(breakage(file)),
                other => return Err(format!("{name}: what is meant by expect {other:?}?")),
            };
            Ok((name, end, file["frames"].as_u64().filter(|_| end == End::Ready)))
        })
        .collect()
}

/// What is wrong with a file, by what ffprobe found in it.
fn breakage(file: &Value) -> Breakage {
    let number = |key: &str| file[key].as_u64().unwrap_or(0);
    let said = file["decode_first_error"].as_str().unwrap_or_default();
    if number("bytes") == 0 {
        return Breakage::Empty;
    }
    if file["content"] == "still image" {
        return Breakage::StillImage;
    }
    if number("width") * number("height") > HUGE {
        return Breakage::TooLarge;
    }
    if file["container"].is_string() {
        return Breakage::NoSamples;
    }
    if said.contains("moov atom not found") { Breakage::IndexMissing } else { Breakage::IndexCorrupt }
}
