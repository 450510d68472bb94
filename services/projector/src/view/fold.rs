//! The fold of a batch: facts in, rows out. Pure: what stands already is handed in, what shall stand is handed back.
//!
//! A batch is coalesced per asset: an asset's rows are written once, however many of its facts are in the batch. How
//! facts are cut into batches leaves no trace in the rows, so a rebuilt view has the same bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use spool_proto::event::{Body, Fact};
use spool_proto::id::TextToken;
use spool_proto::text::Text;
use spool_proto::{Asset, AssetId, TenantId};

use super::keys::Key;
use super::rows::{Entry, Row, Typed, objects, places, play};
use crate::card::Card;

/// A change of one row. Nothing is put where nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// The row shall be this.
    Put(Key, Vec<u8>),
    /// There shall be no such row.
    Delete(Key),
}

/// One asset's part of a batch.
struct Part {
    before: Option<Arc<Row>>,
    after: Asset,
    entries: Vec<Entry>,
    unknown: Vec<u64>,
}

/// A folded batch, still without the texts it names.
pub struct Folded(BTreeMap<(TenantId, AssetId), Part>);

/// Folds `facts`, in the order of the log, over the rows that stand.
///
/// # Errors
/// Those of `before`.
pub fn fold<E>(
    facts: &[Fact],
    mut before: impl FnMut(&TenantId, &AssetId) -> Result<Option<Arc<Row>>, E>,
) -> Result<Folded, E> {
    let mut parts: BTreeMap<(TenantId, AssetId), Part> = BTreeMap::new();
    for fact in facts {
        let owner = (fact.tenant.clone(), fact.asset.clone());
        let part = match parts.entry(owner) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let row = before(&fact.tenant, &fact.asset)?;
                let new = || Asset::new(fact.tenant.clone(), fact.asset.clone());
                let after = row.as_ref().map_or_else(new, |row| row.asset.clone());
                entry.insert(Part { before: row, after, entries: Vec::new(), unknown: Vec::new() })
            }
        };
        part.take(fact);
    }
    Ok(Folded(parts))
}

impl Part {
    fn take(&mut self, fact: &Fact) {
        if fact.sequence <= self.after.sequence {
            return;
        }
        self.after.apply(fact);
        self.entries.push(Entry::of(fact, &self.after));
        if matches!(&fact.body, Body::Unknown { .. }) || fact.slot.is_err() {
            self.unknown.push(fact.sequence);
        }
    }

    /// The text that stood before, if it is the one that is named now.
    fn standing_text(&self) -> Option<&Typed> {
        let typed = self.before.as_ref()?.text.as_ref()?;
        (self.after.text_token() == Some(&typed.token)).then_some(typed)
    }
}

impl Folded {
    /// Texts that are named now and were not before: whose, and which.
    pub fn texts(&self) -> Vec<(TenantId, AssetId, TextToken)> {
        let named = |((tenant, asset), part): (&(TenantId, AssetId), &Part)| {
            let token = part.after.text_token()?;
            part.standing_text().is_none().then(|| (tenant.clone(), asset.clone(), token.clone()))
        };
        self.0.iter().filter_map(named).collect()
    }

    /// What is to be written, and the rows of assets among it with their bytes. `texts` answers [`Folded::texts`]; a token that
    /// is not in it was erased.
    pub fn writes(self, texts: &BTreeMap<TextToken, Text>) -> (Vec<Write>, Vec<(Row, usize)>) {
        let (mut writes, mut rows) = (Vec::new(), Vec::new());
        for (_, part) in self.0 {
            if !part.entries.is_empty() {
                rows.push(part.write(texts, &mut writes));
            }
        }
        (writes, rows)
    }
}

impl Part {
    fn write(self, texts: &BTreeMap<TextToken, Text>, out: &mut Vec<Write>) -> (Row, usize) {
        let fetched = |token: &TextToken| Some(Typed { token: token.clone(), text: texts.get(token)?.clone() });
        let text = match self.standing_text() {
            Some(typed) => Some(typed.clone()),
            None => self.after.text_token().and_then(fetched),
        };
        let (tenant, id) = (self.after.tenant.clone(), self.after.id.clone());
        let before = self.before.as_ref().map(|row| &row.asset);
        if let Some((playback, play)) = play(&self.after) {
            out.push(put(Key::Play(playback), &play));
        }
        out.push(put(Key::Card(tenant.clone(), id.clone()), &Card::of(&self.after, text.as_ref().map(|t| &t.text))));
        moved(before.map(places).unwrap_or_default(), places(&self.after), out);
        changed(before.map(|it| objects(it, Some(&self.after))).unwrap_or_default(), objects(&self.after, before), out);
        for entry in &self.entries {
            out.push(put(Key::History(tenant.clone(), id.clone(), entry.sequence), entry));
            out.push(put(Key::Change(entry.sequence), &(&tenant, &id)));
        }
        out.extend(self.unknown.iter().map(|sequence| Write::Put(Key::Unknown(*sequence), Vec::new())));
        let row = Row { asset: self.after, text };
        let write = put(Key::Row(tenant, id), &row);
        let bytes = match &write {
            Write::Put(_, value) => value.len(),
            Write::Delete(_) => 0,
        };
        out.push(write);
        (row, bytes)
    }
}

/// Places left and places taken.
fn moved(before: Vec<Key>, after: Vec<Key>, out: &mut Vec<Write>) {
    out.extend(before.iter().filter(|key| !after.contains(key)).map(|key| Write::Delete(key.clone())));
    out.extend(after.into_iter().filter(|key| !before.contains(key)).map(|key| Write::Put(key, Vec::new())));
}

/// Rows gone and rows that are new or other.
fn changed<T: Serialize + PartialEq>(before: BTreeMap<Key, T>, after: BTreeMap<Key, T>, out: &mut Vec<Write>) {
    out.extend(before.keys().filter(|key| !after.contains_key(key)).map(|key| Write::Delete(key.clone())));
    let other = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    out.extend(other.map(|(key, value)| put(key.clone(), value)));
}

#[expect(clippy::expect_used, reason = "rows are structs, maps with text or number keys, and numbers: all of JSON")]
fn put(key: Key, value: &impl Serialize) -> Write {
    Write::Put(key, serde_json::to_vec(value).expect("a row is writable as JSON"))
}
