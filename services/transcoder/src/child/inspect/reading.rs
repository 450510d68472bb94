//! One reading of a source, from its first byte to its last where no tables tell the times.
//!
//! What would end or lead astray a demuxer is mended in front of it. What shows only while it is read, clocks that leap and
//! tables that differ from what is there, is put right and read once more.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::media::{Container, NS_PER_MS, Span};

use super::super::demux::{self, Demuxed, Until};
use super::super::formats::{avi, bare, mp4};
use super::super::mend::clock::Watched;
use super::super::mend::edits::{self, Ends};
use super::super::mend::programme::{self, LeftOut, Named};
use super::super::mend::{self, Walked, map};
use super::super::met::Met;
use super::super::sniff::sniff;
use super::super::source::Ranges;
use super::super::streams::Kind;
use super::super::whole::{Whole, unreadable};
use super::Declared;
use super::container::{chain_of, container_of, frames_follow};
use crate::order::{Failure, InspectLimits, Output};

/// What reading a source needs.
pub(super) struct Reading<'a> {
    /// Its first bytes.
    pub(super) head: &'a [u8],
    pub(super) limits: &'a InspectLimits,
    pub(super) output: &'a Arc<dyn Output>,
}

/// What was met in a source.
pub(super) struct Read {
    /// The source as every worker's demuxer is to see it.
    pub(super) ranges: Arc<dyn Ranges>,
    pub(super) container: Container,
    pub(super) demuxed: Demuxed,
    pub(super) losses: Losses,
    /// Length that a header states.
    pub(super) promised_ms: Option<u64>,
    /// Where bare sound begins and ends by its own word.
    pub(super) bare: Option<bare::Sound>,
}

/// What is damaged in a source, or is not taken from it.
pub(super) struct Losses {
    /// Streams that no demuxer hands out.
    pub(super) left_out: LeftOut,
    pub(super) damage: Vec<Span>,
    /// Were bytes found missing or broken, where they are looked for?
    pub(super) lost: bool,
    /// Packets that are missing by their numbers.
    pub(super) packets: u64,
    /// Recordings that follow the first one.
    pub(super) more_recordings: u64,
}

/// A source behind what was mended in front of its demuxer.
struct Mended {
    ranges: Arc<dyn Ranges>,
    losses: Losses,
    /// The programme of a transport stream that is taken, and its table.
    programme: Option<(u16, Vec<u8>)>,
    /// Of each track, by its number, whose encoder filled its last block up: for how many nanoseconds.
    filled: BTreeMap<u64, u64>,
    /// For how long its links say that they last all together.
    lasts_ns: Option<u64>,
}

impl Reading<'_> {
    /// Mends, reads, and puts the times of the tables in the place of those that were met, where they tell them.
    pub(super) fn read(&self, ranges: &Arc<dyn Ranges>, declared: Declared) -> Result<Read, Failure> {
        let by_tables = declared.tells_times();
        let Declared { index, poses } = declared;
        let Mended { ranges, losses, programme, filled, lasts_ns } = self.mend(ranges, index.as_ref())?;
        let until = if by_tables { Until::Known } else { Until::End };
        let mut read = self.demux(ranges, losses, programme.as_ref(), until)?;
        if let Some(index) = index.filter(|_| by_tables)
            && !take_tables(&mut read.demuxed, index)
        {
            // The tables and the demuxer differ: the demuxer decodes, so it is right.
            read.demuxed = self.demuxed(&read.ranges, Until::End)?;
        }
        for met in &mut read.demuxed.streams {
            met.ends_before(&filled);
            met.stands(&poses);
        }
        if !by_tables {
            read.promised_ms = promised_ms(read.container, self.head, &read.demuxed, lasts_ns);
        }
        if read.container == Container::Audio {
            read.bare = bare::sound(&Whole(&read.ranges)).map_err(unreadable)?;
            read.promised_ms = read.promised_ms.or(read.bare.map(|sound| sound.span_ns().1 / NS_PER_MS));
        }
        Ok(read)
    }

    /// The source with all mended that can be found before a demuxer has read it.
    fn mend(&self, ranges: &Arc<dyn Ranges>, index: Option<&mp4::Index>) -> Result<Mended, Failure> {
        let seen = match index {
            Some(_) => edits::seen(ranges, Container::Mp4, Ends::AsStated)?.ranges,
            None => Arc::clone(ranges),
        };
        let Named { ranges: seen, left_out, programme } = programme::named(&seen, self.head).map_err(unreadable)?;
        let seen = map::mapped(&seen, self.head).map_err(unreadable)?;
        let chain = chain_of(self.head, index);
        let walked = chain.map(|container| mend::walked(&seen, container)).transpose()?;
        let Walked { damage, filled, more, lasts_ns } = walked.unwrap_or_default();
        let ranges = match chain {
            Some(container) => mend::passed_over(&seen, container, &damage)?,
            None => seen,
        };
        // Where another recording begins the first one ends, and lost nothing.
        let lost = damage.iter().filter(|span| mend::is_loss(span)).count() > usize::from(more > 0);
        let losses = Losses { left_out, damage, lost, packets: 0, more_recordings: more };
        Ok(Mended { ranges, losses, programme, filled, lasts_ns })
    }

    /// Reads it. A transport stream whose clock leaps is read again with a steady one.
    fn demux(
        &self,
        mut ranges: Arc<dyn Ranges>,
        mut losses: Losses,
        programme: Option<&(u16, Vec<u8>)>,
        until: Until,
    ) -> Result<Read, Failure> {
        let watched = Watched::new(&ranges, self.head, programme);
        let read: Arc<dyn Ranges> = match &watched {
            Some(watched) => Arc::<Watched>::clone(watched),
            None => Arc::clone(&ranges),
        };
        let mut demuxed = self.demuxed(&read, until)?;
        let container = container_of(&demuxed, sniff(self.head))?;
        if container == Container::Audio {
            frames_follow(&demuxed, &Whole(&read))?;
        }
        if let Some(watched) = watched.filter(|_| container == Container::MpegTs) {
            losses.damage = watched.leaps().map_err(unreadable)?;
            (losses.lost, losses.packets) = (watched.lost(), watched.missing());
            losses.left_out.add_all(watched.left_out(|pid| demuxed.streams.iter().any(|met| met.is_of_packets(pid))));
            if !losses.damage.is_empty() {
                ranges = mend::passed_over(&ranges, container, &losses.damage)?;
                demuxed = self.demuxed(&ranges, until)?;
            }
        }
        Ok(Read { ranges, container, demuxed, losses, promised_ms: None, bare: None })
    }

    fn demuxed(&self, ranges: &Arc<dyn Ranges>, until: Until) -> Result<Demuxed, Failure> {
        demux::read(ranges, until, self.limits.max_samples, self.output)
    }
}

/// The length that a header states; what a demuxer reckons by itself is no promise.
fn promised_ms(container: Container, head: &[u8], demuxed: &Demuxed, lasts_ns: Option<u64>) -> Option<u64> {
    match container {
        // A recording that was not closed states no length, but each of its fragments does.
        Container::Mp4 => demuxed.length_ns.max(lasts_ns).map(|ns| ns / NS_PER_MS),
        Container::Matroska | Container::Flv | Container::Asf => demuxed.length_ns.map(|ns| ns / NS_PER_MS),
        Container::Avi => avi::promised_ms(head),
        Container::Audio => bare::wave_ms(head),
        Container::MpegTs | Container::MpegPs | Container::Ogg | Container::Mxf => None,
    }
}

/// Puts the times of the tables in the place of those that were met. False where what was met is not in the tables.
fn take_tables(demuxed: &mut Demuxed, index: mp4::Index) -> bool {
    for kind in [Kind::Video, Kind::Audio] {
        let mut met: Vec<&mut Met> = demuxed.streams.iter_mut().filter(|s| s.kind == Some(kind)).collect();
        let mut tables: Vec<_> = index.tracks.iter().filter(|t| t.video == (kind == Kind::Video)).collect();
        tables.sort_by_key(|track| track.id);
        if met.len() != tables.len() {
            return false;
        }
        for (met, table) in met.iter_mut().zip(tables) {
            let Some(samples) = &table.samples else { return false };
            let first = met.samples.summary().map(|summary| summary.first_ns);
            let agrees = match kind {
                Kind::Video => first.is_none_or(|first| samples.has(first)),
                // Sound is cut anywhere and grouped by the demuxer: its start is what can be compared.
                Kind::Audio => match (first, samples.summary()) {
                    (Some(first), Some(summary)) => first.abs_diff(summary.first_ns) < 1_000_000,
                    (None, _) | (_, None) => true,
                },
            };
            if !agrees {
                return false;
            }
            met.samples = samples.clone();
        }
    }
    true
}
