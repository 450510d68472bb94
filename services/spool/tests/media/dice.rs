//! Chance that can be repeated: the seed is printed, and `SPOOL_TEST_SEED` sets it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers that look random (SplitMix64, Steele et al. 2014).
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    /// Seeded by the environment, or by the clock; says with what.
    pub(crate) fn thrown(what: &str) -> Self {
        let given = std::env::var("SPOOL_TEST_SEED").ok().and_then(|text| text.parse().ok());
        #[expect(clippy::disallowed_methods, reason = "chance is wanted here, and the seed is printed")]
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let seed = given.unwrap_or_else(clock);
        println!("{what}: SPOOL_TEST_SEED={seed}");
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which is at least 1.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}
