//! How many requests may be given to a second provider: a share of all, so that slowness everywhere is not
//! answered with twice the load.

use std::sync::atomic::{AtomicU32, Ordering};

/// What each request that is let in earns, in thousandths of a hedge: one in twenty.
const EARNED: u32 = 50;
/// Saved up at most: ten.
const SAVED_MAX: u32 = 10_000;
const HEDGE: u32 = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct HedgeBudget {
    saved: AtomicU32,
}

impl HedgeBudget {
    pub(crate) fn earn(&self) {
        let earned = |saved: u32| Some(saved.saturating_add(EARNED).min(SAVED_MAX));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earned);
    }

    /// Whether one more may be sent.
    pub(crate) fn take(&self) -> bool {
        let taken = |saved: u32| saved.checked_sub(HEDGE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_in_twenty_may_be_hedged_and_ten_at_once() {
        let budget = HedgeBudget::default();
        assert!(!budget.take());
        (0..20).for_each(|_| budget.earn());
        assert!(budget.take() && !budget.take());
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }
}
