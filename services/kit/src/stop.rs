//! Stopping in two stages: the first lets what runs come to its end, the second cuts it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// What a role is told about stopping. Cheap to clone; all clones hear the same.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Stop {
    /// Nobody has asked to stop yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// First stage: take nothing new, finish what runs.
    pub fn finish(&self) {
        self.soft.cancel();
    }

    /// Second stage: leave what runs where it is. Everything is written so that this loses nothing but work.
    pub fn cut(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Was the first stage asked for?
    pub fn is_finishing(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Returns once the first stage is asked for.
    pub async fn finishing(&self) {
        self.soft.cancelled().await;
    }

    /// Returns once the second stage is asked for.
    pub async fn cutting(&self) {
        self.hard.cancelled().await;
    }

    /// Waits for `span`, or less when the first stage is asked for. True if the whole span went by.
    pub async fn pause(&self, span: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(span) => true,
            () = self.soft.cancelled() => false,
        }
    }

    /// The token of the first stage, for those that take one.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// The token of the second stage, for those that take one.
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_is_also_finishing() {
        let stop = Stop::new();
        let heard = stop.clone();
        stop.cut();
        assert!(heard.is_finishing() && heard.hard().is_cancelled());
    }
}
