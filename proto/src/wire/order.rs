//! Orders to the wire and back.

use super::pb;
use super::value::{Bad, Place, Wire, message};
use crate::job::{AudioOrder, InspectOrder, Job, StillOrder, VideoOrder};

message! {
    InspectOrder as InspectOrder { verdict, max_duration_ms }
    VideoOrder as VideoOrder { generation, first, last }
    AudioOrder as AudioOrder { generation, track }
    StillOrder as StillOrder { generation, name }
}

impl Wire<pb::order::Job> for Job {
    fn write(&self) -> pb::order::Job {
        match self {
            Job::Inspect(it) => pb::order::Job::Inspect(it.write()),
            Job::Video(it) => pb::order::Job::Video(it.write()),
            Job::Pass(it) => pb::order::Job::Pass(it.write()),
            Job::Audio(it) => pb::order::Job::Audio(it.write()),
            Job::AudioPass(it) => pb::order::Job::AudioPass(it.write()),
            Job::Still(it) => pb::order::Job::Still(it.write()),
        }
    }
    fn read(wire: pb::order::Job, place: Place) -> Result<Self, Bad> {
        Ok(match wire {
            pb::order::Job::Inspect(it) => Job::Inspect(Wire::read(it, place)?),
            pb::order::Job::Video(it) => Job::Video(Wire::read(it, place)?),
            pb::order::Job::Pass(it) => Job::Pass(Wire::read(it, place)?),
            pb::order::Job::Audio(it) => Job::Audio(Wire::read(it, place)?),
            pb::order::Job::AudioPass(it) => Job::AudioPass(Wire::read(it, place)?),
            pb::order::Job::Still(it) => Job::Still(Wire::read(it, place)?),
        })
    }
}
