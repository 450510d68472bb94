//! Logs for tests: several assets, their facts interleaved and numbered as one stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use spool_proto::event::{
    AssetDeleted, AssetRegistered, Described, Door, EncodeFailed, JobGivenUp, Opened, Published, RenditionsCompleted,
    SourceRejected, TextErased, UploadAbandoned,
};
use spool_proto::id::{AttemptId, PlaybackId, TextToken};
use spool_proto::testing::{Given, values};
use spool_proto::text::Text;
use spool_proto::{AssetId, Code, Fact, Item, Problem, Slot};

use crate::view::View;
use crate::view::fold::fold;
use crate::view::writer::{WriteError, Writer};

/// A log of asset `n`, with a playback id of its own.
pub(crate) fn asset(n: u128) -> Given {
    let mut given = Given::new();
    given.asset = AssetId::from_bits(n);
    let playback = PlaybackId::from_bits(100 + n);
    given.then(Slot::UploadRegistered, AssetRegistered { playback, ..values::registered() })
}

/// An asset whose file is taken in by path.
pub(crate) fn taken_in(n: u128) -> Given {
    let mut given = Given::new();
    given.asset = AssetId::from_bits(n);
    let playback = PlaybackId::from_bits(100 + n);
    given.then(Slot::UploadRegistered, AssetRegistered { playback, door: Door::Path, ..values::registered() })
}

pub(crate) fn playback(n: u128) -> PlaybackId {
    PlaybackId::from_bits(100 + n)
}

/// The same, up to a plan of chunks of 1, 2 and 1 segments, 16 s long.
pub(crate) fn planned(n: u128) -> Given {
    let plan = values::plan(&[1, 2, 1], 16_000);
    asset(n)
        .then(Slot::UploadOutcome, spool_proto::event::SourceStored { source: values::source() })
        .then(
            Slot::UploadVerdict { verdict: 1 },
            spool_proto::event::SourceAccepted { facts: values::source_facts(16_000) },
        )
        .then(Slot::EncodePlanned { generation: 1 }, spool_proto::event::EncodePlanned { plan })
}

/// The first chunk stands and it was opened.
pub(crate) fn playable(n: u128) -> Given {
    planned(n).chunk(1, 0).then(Slot::Publish { revision: 1 }, Opened { generation: 1 })
}

/// Everything stands and is published.
pub(crate) fn ready(n: u128) -> Given {
    let given = playable(n).chunk(1, 1).chunk(1, 2);
    let still = values::still_stored(&values::plan(&[1], 4_000).stills[0], 1);
    given
        .then(Slot::EncodeStill { generation: 1, name: "poster".to_owned() }, still)
        .then(Slot::EncodeOutcome { generation: 1 }, RenditionsCompleted { objects: 10, bytes: 1_000 })
        .then(Slot::Publish { revision: 2 }, published(1))
}

pub(crate) fn published(generation: u32) -> Published {
    let files = ["index.m3u8", "v720.m3u8", "v360.m3u8", "a0.m3u8"].map(str::to_owned).to_vec();
    Published { generation, attempt: AttemptId::from_bits(8), files }
}

pub(crate) fn rejected(n: u128) -> Given {
    let problem = Problem::new(Code::SourceNotMedia).with("found", "a letter");
    asset(n)
        .then(Slot::UploadOutcome, spool_proto::event::SourceStored { source: values::source() })
        .then(Slot::UploadVerdict { verdict: 1 }, SourceRejected { problem })
}

pub(crate) fn failed(n: u128) -> Given {
    let problem = Problem::new(Code::SourceDamaged).with("got", "4 s").with("expected", "16 s");
    let item = Item::Video { generation: 1, chunk: 1 };
    playable(n)
        .then(Slot::EncodeFault { item, round: 0 }, JobGivenUp { problem: problem.clone(), attempts: 5 })
        .then(Slot::EncodeOutcome { generation: 1 }, EncodeFailed { problem, attempts: 5 })
}

pub(crate) fn abandoned(n: u128) -> Given {
    let problem = Problem::new(Code::UploadExpired).with("limit", "1d");
    asset(n).then(Slot::UploadOutcome, UploadAbandoned { problem, received_bytes: 7 })
}

pub(crate) fn deleted(n: u128) -> Given {
    ready(n).then(Slot::LifeDeleted, AssetDeleted {})
}

pub(crate) fn described(given: Given, revision: u32, token: u128) -> Given {
    given.then(Slot::Text { revision }, Described { token: TextToken::from_bits(token) })
}

pub(crate) fn erased(given: Given, revision: u32) -> Given {
    given.then(Slot::TextErased { revision }, TextErased { texts: 1 })
}

pub(crate) fn text(title: &str) -> Text {
    Text { title: Some(title.to_owned()), ..Text::default() }
}

/// One stream of several logs: a fact of each in turn, sequences from 1, each a second after the one before.
pub(crate) fn stream(logs: impl IntoIterator<Item = Given>) -> Vec<Fact> {
    let mut logs: Vec<_> = logs.into_iter().map(|given| given.facts.into_iter()).collect();
    let mut facts: Vec<Fact> = Vec::new();
    loop {
        let before = facts.len();
        facts.extend(logs.iter_mut().filter_map(Iterator::next));
        if facts.len() == before {
            break;
        }
    }
    for (i, fact) in facts.iter_mut().enumerate() {
        fact.sequence = i as u64 + 1;
        fact.at = spool_proto::testing::START.plus(std::time::Duration::from_secs(fact.sequence));
    }
    facts
}

/// Ten assets, one of nearly every state.
pub(crate) fn all_states() -> Vec<Fact> {
    stream([
        described(ready(1), 1, 1),
        described(playable(2), 1, 2),
        planned(3),
        asset(4),
        rejected(5),
        failed(6),
        abandoned(7),
        deleted(8),
        erased(described(ready(9), 1, 9), 1),
        described(described(rejected(10), 1, 10), 2, 11),
    ])
}

/// The texts of [`all_states`]; that of token 9 was erased.
pub(crate) fn texts() -> BTreeMap<TextToken, Text> {
    let one = |token: u128, title: &str| (TextToken::from_bits(token), text(title));
    [one(1, "Lecture 1"), one(2, "Lecture 2"), one(10, "Draft"), one(11, "Final")].into()
}

/// Folds `facts` into `view` in batches of `batch`.
pub(crate) async fn fill(view: &Arc<View>, facts: &[Fact], batch: usize) -> Result<(), WriteError> {
    let writer = Writer::start(Arc::clone(view))?;
    for facts in facts.chunks(batch) {
        let position = facts.last().map_or(0, |last| last.sequence);
        let folded = writer.fold(facts.to_vec()).await?;
        writer.apply(folded, texts(), position).await?;
    }
    writer.flush().await?;
    writer.close().await
}

/// What a batch would write over nothing.
pub(crate) fn writes(facts: &[Fact]) -> Vec<crate::view::fold::Write> {
    let none = |_: &_, _: &_| Ok::<_, std::convert::Infallible>(None);
    let Ok(folded) = fold(facts, none);
    folded.writes(&texts()).0
}
