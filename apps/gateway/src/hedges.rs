//! A second provider for an answer whose first token is late, and for how many: a share of all, so that
//! slowness everywhere is not answered with twice the load.

use std::{
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::timeout;

use crate::{
    attempt::{Attempt, Race},
    error::RequestFailure,
    shared::Shared,
};

/// What each request that is let in earns, in thousandths of a hedge: one in twenty.
const EARNED: u32 = 50;
/// Saved up at most: ten.
const SAVED_MAX: u32 = 10_000;
const HEDGE: u32 = 1_000;

/// What is left for second providers.
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

    /// Nobody could be asked.
    fn put_back(&self) {
        let put = |saved: u32| Some(saved.saturating_add(HEDGE).min(SAVED_MAX));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
    }
}

/// Waits for the first attempt, and when that is late for a second one too. Whoever comes first wins;
/// the other is dropped.
pub(crate) async fn hedge(
    shared: &Shared,
    first: impl Future<Output = Result<Option<Attempt>, RequestFailure>>,
    (slow_after, race): (Duration, &Race),
    second: impl Future<Output = Result<Attempt, RequestFailure>>,
) -> Result<Option<Attempt>, RequestFailure> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    if let Ok(begun) = timeout(slow_after, first.as_mut()).await {
        return begun;
    }
    if !shared.hedges.take() {
        return first.await;
    }
    tokio::select! {
        biased;
        begun = first.as_mut() => match begun {
            Ok(Some(attempt)) => {
                shared.metrics.hedged("first");
                // Before the other one is dropped.
                let _ = race.set(attempt.number());
                Ok(Some(attempt))
            }
            // The second one is on its way already.
            begun => match second.await {
                Ok(attempt) => {
                    shared.metrics.hedged("second");
                    Ok(Some(attempt))
                }
                Err(_) => begun,
            },
        },
        begun = second.as_mut() => match begun {
            Ok(attempt) => {
                shared.metrics.hedged("second");
                Ok(Some(attempt))
            }
            Err(failure) => {
                if matches!(failure, RequestFailure::NoProvider { .. } | RequestFailure::Busy { .. }) {
                    shared.hedges.put_back();
                }
                first.await
            }
        },
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
        budget.earn();
        budget.put_back();
        assert!(budget.take() && !budget.take());
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!((0..100).filter(|_| budget.take()).count(), 10);
    }
}
