//! What must hold of a played asset against its source. Each broken rule is one sentence; all of them are found.

use crate::grid::{Owed, owed};
use crate::looks::{Likeness, Turn, likeness};
use crate::served::{Rendition, Served};
use crate::sound::{Moved, moved, of_rendition, of_source};
use crate::source::Source;
use crate::tool::Outcome;

/// Sound against picture may be off by this much compared with the source.
const SYNC_S: f64 = 0.040;
/// Least likeness of a picture to its source. Of pictures that were deinterlaced too, though no two programs do it alike
/// (measured 2026-11-21: 0.965 at least for MPEG-2, AVCHD and clips of our own against ffmpeg's `bwdif`).
const ALIKE: f64 = 0.95;
/// Least likeness of any single frame: a wrong one or a broken one has less.
const ONE_ALIKE: f64 = 0.6;
/// Least likeness of the sound: down-mixing and coding change it a little, a wrong stream entirely.
const SOUNDS_ALIKE: f64 = 0.5;
/// Length of one frame of the sound as it is coded: it ends on a multiple of these.
const SOUND_FRAME_S: f64 = 1024.0 / 48_000.0;
/// Length of a frame of the fastest pictures that are served.
const SHORTEST_FRAME_S: f64 = 1.0 / 60.0;
/// Times are rounded to milliseconds by some containers.
const ROUNDING_S: f64 = 0.001;

/// The figures of the table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    pub(crate) renditions: Vec<String>,
    /// Frames that ffmpeg decodes from the source.
    pub(crate) decoded: usize,
    /// Frames owed, and frames found in the rendition that differs most.
    pub(crate) owed: usize,
    pub(crate) found: usize,
    pub(crate) repeats: usize,
    /// Greatest difference of a length from the timeline's.
    pub(crate) length_off_s: f64,
    /// Greatest distance of sound from picture, compared with the source.
    pub(crate) sync_off_s: Option<f64>,
    pub(crate) likeness: Option<Likeness>,
}

/// Compares; what can't be measured is a broken rule too.
pub(crate) fn judge(source: &Source, served: &Served) -> (Figures, Vec<String>) {
    let mut broken = served.complaints.clone();
    let mut figures = Figures {
        renditions: served.videos.iter().chain(&served.sound).map(|r| r.name.clone()).collect(),
        decoded: source.picture.as_ref().map_or(0, |p| p.times_s.len()),
        ..Figures::default()
    };
    if source.picture.is_some() == served.videos.is_empty() {
        broken.push(format!(
            "the source has {} picture, and {} renditions",
            source.picture.is_some(),
            served.videos.len()
        ));
    }
    if source.sound.is_some() != served.sound.is_some() {
        broken.push(format!("sound in the source: {}, served: {}", source.sound.is_some(), served.sound.is_some()));
    }
    lengths(source, served, &mut figures, &mut broken);
    let matched = frames(source, served, &mut figures, &mut broken);
    for rendition in &served.videos {
        broken.extend(shape(source, rendition));
    }
    sync(source, served, matched.as_ref(), &mut figures, &mut broken);
    if let Some(owed) = matched {
        looks(source, served, &owed, &mut figures, &mut broken);
    }
    (figures, broken)
}

/// Every list and every stream is as long as the timeline, to the frame.
fn lengths(source: &Source, served: &Served, figures: &mut Figures, broken: &mut Vec<String>) {
    let span = source.span_s();
    // One frame: of a picture as it is shown, which is at most 60 times a second; of sound also one as it is coded.
    let frame_s = source.frame_s().max(SHORTEST_FRAME_S);
    let pictures = served.videos.iter().map(|r| (r, 0.0, frame_s));
    let sound = served.sound.iter().map(|r| (r, SOUND_FRAME_S, frame_s.max(SOUND_FRAME_S)));
    for (rendition, priming, tolerance) in pictures.chain(sound) {
        let start = rendition.times_s.first().copied().unwrap_or(0.0);
        for (what, off) in [
            // A list of sound counts the frame that is decoded and not played too, as every writer's does.
            ("its list", rendition.listed_s - priming - span),
            ("its end", rendition.end_s - span),
            ("its first frame", start),
        ] {
            figures.length_off_s = figures.length_off_s.max(off.abs());
            if off.abs() > tolerance + ROUNDING_S {
                let name = &rendition.name;
                broken.push(format!("{name}: {what} is off by {:.0} ms of {span:.3} s", off * 1000.0));
            }
        }
    }
}

/// Every rendition shows the frames that are owed. Answers with the rule that all of them keep.
fn frames(source: &Source, served: &Served, figures: &mut Figures, broken: &mut Vec<String>) -> Option<Owed> {
    let picture = source.picture.as_ref()?;
    let zero = source.zero_s();
    let times: Vec<f64> = picture.times_s.iter().map(|t| t - zero).collect();
    let allowed = owed(&times, picture.frame_s, source.span_s());
    let first = &allowed[0];
    (figures.owed, figures.repeats) = (first.times_s.len(), first.repeats.len());
    let keeps = |owed: &Owed| served.videos.iter().all(|r| r.times_s.len() == owed.times_s.len());
    if let Some(matched) = allowed.iter().find(|owed| keeps(owed)) {
        (figures.owed, figures.repeats) = (matched.times_s.len(), matched.repeats.len());
        figures.found = figures.owed;
        return Some(matched.clone());
    }
    for rendition in served.videos.iter().filter(|r| r.times_s.len() != first.times_s.len()) {
        figures.found = rendition.times_s.len();
        let (name, found, meant) = (&rendition.name, rendition.times_s.len(), first.times_s.len());
        let apart = first.times_s.iter().zip(&rendition.times_s).find(|(a, b)| (*a - *b).abs() > picture.frame_s / 2.0);
        let apart = apart.map_or("the end".to_owned(), |(a, b)| format!("{a:.3} s, where {b:.3} s is shown"));
        let repeats = first.repeats.len();
        broken.push(format!("{name}: {found} frames instead of {meant} ({repeats} repeats); they part at {apart}"));
    }
    None
}

/// Upright, the right aspect, square pixels, even and never larger than the source.
fn shape(source: &Source, rendition: &Rendition) -> Vec<String> {
    let Some(picture) = &source.picture else { return Vec::new() };
    let (name, width, height) = (&rendition.name, f64::from(rendition.width), f64::from(rendition.height));
    let aspect = picture.width / picture.height;
    let fits = (width - height * aspect).abs() <= 2.0 || (height - width / aspect).abs() <= 2.0;
    let size = format!("{width}x{height} of {:.0}x{:.0}", picture.width, picture.height);
    let rules = [
        (rendition.pixel == "1/1" || rendition.pixel == "0/1", format!("pixels are {}", rendition.pixel)),
        ((width > height) == (aspect > 1.0) || (aspect - 1.0).abs() < 0.02, format!("{size} is not upright")),
        (fits, format!("{size} has another aspect")),
        (rendition.width.is_multiple_of(2) && rendition.height.is_multiple_of(2), format!("{size} is not even")),
        (width <= picture.width + 1.0 && height <= picture.height + 1.0, format!("{size} is larger than the source")),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, rule)| format!("{name}: {rule}")).collect()
}

/// Every frame keeps its time against the sound, and is shown for a while.
fn sync(source: &Source, served: &Served, matched: Option<&Owed>, figures: &mut Figures, broken: &mut Vec<String>) {
    let (start, end) = match sound_moved(source, served) {
        Ok(Moved::By { start_s, end_s, alike }) => {
            if alike < SOUNDS_ALIKE {
                broken.push(format!("the sound is not the source's (likeness {alike:.2})"));
            }
            (start_s, end_s)
        }
        // Then the picture alone must keep its times.
        Ok(Moved::Unknown) => (0.0, 0.0),
        Err(error) => return broken.push(error),
    };
    let (mut worst, mut at) = (0.0, String::new());
    if served.videos.is_empty() {
        (worst, at) = (start.abs().max(end.abs()), "of nothing but sound".to_owned());
    }
    for rendition in &served.videos {
        let Some(owed) = matched else { break };
        for (meant, shown) in owed.times_s.iter().zip(&rendition.times_s) {
            let off = (shown - meant - start).abs().max((shown - meant - end).abs());
            if off > worst {
                (worst, at) = (off, format!("{} at {meant:.3} s", rendition.name));
            }
        }
        broken.extend(crowded(owed, rendition));
    }
    figures.sync_off_s = Some(worst);
    if worst > SYNC_S {
        broken.push(format!("sound against picture is off by {:.0} ms ({at})", worst * 1000.0));
    }
}

fn sound_moved(source: &Source, served: &Served) -> Outcome<Moved> {
    let (Some(meant), Some(heard)) = (&source.sound, &served.sound) else { return Ok(Moved::Unknown) };
    if !meant.comparable {
        return Ok(Moved::Unknown);
    }
    let (file, span) = (source.path.to_string_lossy(), source.span_s());
    let meant = of_source(&file, meant, source.zero_s(), span)?;
    Ok(moved(&meant, &of_rendition(heard, span)?))
}

/// A frame that gives way at once was never seen, whatever is counted.
fn crowded(owed: &Owed, rendition: &Rendition) -> Option<String> {
    let steps = owed.times_s.windows(2).zip(rendition.times_s.windows(2));
    let hasty: Vec<f64> = steps
        .filter(|(meant, shown)| shown[1] - shown[0] < (meant[1] - meant[0]) / 2.0 - 1.5 * ROUNDING_S)
        .map(|(_, shown)| shown[0])
        .collect();
    let first = hasty.first()?;
    Some(format!(
        "{}: frames shown for less than half their time: {}, the first at {first:.3} s",
        rendition.name,
        hasty.len()
    ))
}

/// Every rendition looks like the source.
fn looks(source: &Source, served: &Served, owed: &Owed, figures: &mut Figures, broken: &mut Vec<String>) {
    let Some(picture) = &source.picture else { return };
    let compared: Vec<&Rendition> = served.videos.iter().collect();
    let judged = likeness(source, owed, &compared, Turn::Upright).and_then(|found| {
        // The tones of HDR differ on purpose; still it must be more like the source than a turned one.
        let least = if picture.hdr {
            let mirrored = likeness(source, owed, &compared, Turn::Mirrored)?;
            let upside_down = likeness(source, owed, &compared, Turn::UpsideDown)?;
            mirrored.iter().chain(&upside_down).map(|turned| turned.mean).fold(0.0, f64::max)
        } else {
            ALIKE
        };
        Ok((found, least))
    });
    let (found, least) = match judged {
        Ok(judged) => judged,
        Err(error) => return broken.push(error),
    };
    for (rendition, Likeness { mean, worst }) in compared.iter().zip(&found) {
        if *mean <= least {
            broken
                .push(format!("{}: likeness {mean:.4} (worst frame {worst:.4}), {least} is asked for", rendition.name));
        }
        if !picture.hdr && *worst < ONE_ALIKE {
            broken.push(format!("{}: one frame has a likeness of {worst:.4} only", rendition.name));
        }
    }
    figures.likeness = found.into_iter().min_by(|a, b| a.mean.total_cmp(&b.mean));
}
