//! Rows that were written last, so that an asset whose facts come one by one is not read and parsed for each of them.
//!
//! Only the thread that writes has them, and it has them after they were written: so they are what the database holds.
//! Bounded; the one that was not used for longest goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use spool_proto::{AssetId, TenantId};

use super::rows::Row;

/// Bytes that all of them take as they are written; in memory it is some three times that.
const MAX_BYTES: usize = 8 << 20;

/// Whose row.
type Owner = (TenantId, AssetId);

struct Kept {
    row: Arc<Row>,
    bytes: usize,
    used: u64,
}

/// Rows that were written last.
pub(super) struct Recent {
    max_bytes: usize,
    bytes: usize,
    rows: HashMap<Owner, Kept>,
    /// Owners by when their row was used last.
    order: BTreeMap<u64, Owner>,
    now: u64,
}

impl Recent {
    /// None yet.
    pub(super) fn new() -> Self {
        Self::of(MAX_BYTES)
    }

    fn of(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, rows: HashMap::new(), order: BTreeMap::new(), now: 0 }
    }

    /// The row of an asset, if it is here.
    pub(super) fn get(&mut self, tenant: &TenantId, asset: &AssetId) -> Option<Arc<Row>> {
        let owner = (tenant.clone(), asset.clone());
        let kept = self.rows.get_mut(&owner)?;
        self.now += 1;
        self.order.remove(&kept.used);
        kept.used = self.now;
        self.order.insert(self.now, owner);
        Some(Arc::clone(&kept.row))
    }

    /// These were written, of so many bytes each.
    pub(super) fn written(&mut self, rows: Vec<(Row, usize)>) {
        for (row, bytes) in rows {
            let owner = (row.asset.tenant.clone(), row.asset.id.clone());
            self.forget(&owner);
            self.now += 1;
            self.bytes += bytes;
            self.order.insert(self.now, owner.clone());
            self.rows.insert(owner, Kept { row: Arc::new(row), bytes, used: self.now });
        }
        while self.bytes > self.max_bytes
            && let Some((_, owner)) = self.order.pop_first()
        {
            self.forget(&owner);
        }
    }

    fn forget(&mut self, owner: &Owner) {
        if let Some(kept) = self.rows.remove(owner) {
            self.order.remove(&kept.used);
            self.bytes -= kept.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn row(n: u128) -> Row {
        Row { asset: sample::asset(n).fold(), text: None }
    }

    fn has(recent: &mut Recent, n: u128) -> bool {
        let row = row(n);
        let found = recent.get(&row.asset.tenant, &row.asset.id);
        assert!(found.as_ref().is_none_or(|found| **found == row));
        found.is_some()
    }

    #[test]
    fn the_row_that_was_not_used_for_longest_goes_when_there_are_too_many() {
        let mut recent = Recent::of(100);
        recent.written(vec![(row(1), 40), (row(2), 40)]);
        assert!(has(&mut recent, 1) && has(&mut recent, 2) && has(&mut recent, 1));
        recent.written(vec![(row(3), 40)]);
        assert!(has(&mut recent, 1) && !has(&mut recent, 2) && has(&mut recent, 3));
        // Written again, larger: the old one no longer counts.
        recent.written(vec![(row(1), 60)]);
        assert!(has(&mut recent, 1) && has(&mut recent, 3));
        assert_eq!((recent.bytes, recent.rows.len(), recent.order.len()), (100, 2, 2));
        // One that is too large by itself is not kept at all.
        recent.written(vec![(row(4), 101)]);
        assert_eq!((recent.bytes, recent.rows.len(), recent.order.len()), (0, 0, 0));
    }
}
