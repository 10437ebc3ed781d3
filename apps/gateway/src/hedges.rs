//! A second provider for an answer whose first token is late, and for how many: a share of all, so that
//! slowness everywhere is not answered with twice the load.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
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

    fn put_back(&self) {
        let put = |saved: u32| Some(saved.saturating_add(HEDGE).min(SAVED_MAX));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
    }
}

/// Who is asked beside another.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    pub(crate) race: Race,
    /// Somebody has its order and has not refused it.
    taken: Arc<AtomicBool>,
}

impl Second {
    pub(crate) fn new(race: &Race) -> Second {
        Second { race: Race::clone(race), taken: Arc::default() }
    }

    /// Somebody has been sent the order, or has refused it.
    pub(crate) fn set_taken(&self, taken: bool) {
        self.taken.store(taken, Ordering::Relaxed);
    }

    fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A hedge that was taken out of the budget. It goes back there if nobody has taken the second order in the end.
struct Spent<'a>(&'a HedgeBudget, &'a Second);

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        if !self.1.is_taken() {
            self.0.put_back();
        }
    }
}

/// Waits for the first attempt, and when that is late for a second one too. Whoever comes first wins;
/// the other is dropped.
pub(crate) async fn hedge(
    shared: &Shared,
    first: impl Future<Output = Result<Option<Attempt>, RequestFailure>>,
    slow_after: Duration,
    (whose, second): (&Second, impl Future<Output = Result<Attempt, RequestFailure>>),
) -> Result<Option<Attempt>, RequestFailure> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    if let Ok(begun) = timeout(slow_after, first.as_mut()).await {
        return begun;
    }
    if !shared.hedges.take() {
        return first.await;
    }
    let _spent = Spent(&shared.hedges, whose);
    tokio::select! {
        biased;
        begun = first.as_mut() => match begun {
            Ok(Some(attempt)) => {
                if whose.is_taken() {
                    shared.metrics.hedged("first");
                }
                // Before the other one is dropped.
                let _ = whose.race.set(attempt.number());
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
            Err(_) => first.await,
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

    #[test]
    fn a_hedge_that_nobody_took_is_kept() {
        let budget = HedgeBudget::default();
        (0..20).for_each(|_| budget.earn());
        for (steps, is_kept) in
            [(&[][..], true), (&[true, false], true), (&[true, false, true], false)]
        {
            let second = Second::new(&Race::default());
            assert!(budget.take());
            let spent = Spent(&budget, &second);
            steps.iter().for_each(|step| second.set_taken(*step));
            drop(spent);
            assert_eq!(budget.take(), is_kept, "{steps:?}");
            budget.put_back();
        }
    }
}
