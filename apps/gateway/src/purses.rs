//! What requests may spend that are paid from keys in a database: each has a purse, filled there
//! before it begins. Pure.
//!
//! Invariant: what a request used and what its attempts hold is never above what was put in its purse by
//! its own doing.

use std::collections::HashMap;

use types::{Nusd, RequestId};

use crate::accounts::{Budget, KeyId, may_lose};

/// What a request may spend.
#[derive(Clone, Debug)]
pub(crate) struct Purse {
    key: KeyId,
    granted: Nusd,
    used: Nusd,
    /// By attempts in work.
    held: Nusd,
    /// Which of the key's budgets binds, should it not be enough.
    budget: Budget,
    /// What the key had spent and lost when the request began.
    key_used: Nusd,
    lost: Nusd,
    /// Its end has been booked with its last attempt.
    is_over: bool,
}

/// What the database says when a request begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filled {
    pub amount: Nusd,
    pub budget: Budget,
    pub key_name: String,
    pub key_used: Nusd,
    pub key_lost: Nusd,
}

/// The purses of all requests in work.
#[derive(Debug, Default)]
pub(crate) struct Purses {
    by_request: HashMap<RequestId, Purse>,
}

impl Purses {
    /// A request is about to begin: it counts, and has nothing to spend.
    pub(crate) fn enter(&mut self, request: RequestId, key: KeyId) {
        let purse = Purse {
            key,
            granted: Nusd::ZERO,
            used: Nusd::ZERO,
            held: Nusd::ZERO,
            budget: Budget::Total,
            key_used: Nusd::ZERO,
            lost: Nusd::ZERO,
            is_over: false,
        };
        self.by_request.insert(request, purse);
    }

    pub(crate) fn fill(&mut self, request: &RequestId, filled: &Filled) {
        if let Some(purse) = self.by_request.get_mut(request) {
            purse.granted = purse.granted.saturating_add(filled.amount);
            purse.budget = filled.budget;
            (purse.key_used, purse.lost) = (filled.key_used, filled.key_lost);
        }
    }

    /// More was reserved for a request, or nothing, and which budget binds.
    pub(crate) fn add(&mut self, request: &RequestId, amount: Nusd, budget: Budget) {
        if let Some(purse) = self.by_request.get_mut(request) {
            purse.granted = purse.granted.saturating_add(amount);
            purse.budget = budget;
        }
    }

    /// What a request can still spend.
    pub(crate) fn left(&self, request: &RequestId) -> (Budget, Nusd) {
        self.by_request.get(request).map_or((Budget::Total, Nusd::ZERO), |purse| {
            let spent = purse.used.saturating_add(purse.held);
            (purse.budget, purse.granted.saturating_sub(spent))
        })
    }

    pub(crate) fn hold(&mut self, request: &RequestId, amount: Nusd) {
        if let Some(purse) = self.by_request.get_mut(request) {
            purse.held = purse.held.saturating_add(amount);
        }
    }

    pub(crate) fn release(&mut self, request: &RequestId, amount: Nusd) {
        if let Some(purse) = self.by_request.get_mut(request) {
            purse.held = purse.held.saturating_sub(amount);
        }
    }

    /// Takes what an attempt cost, and notes what its provider was paid beyond that.
    pub(crate) fn bill(&mut self, request: &RequestId, cost: Nusd, lost: Nusd, is_last: bool) {
        if let Some(purse) = self.by_request.get_mut(request) {
            purse.used = purse.used.saturating_add(cost);
            purse.lost = purse.lost.saturating_add(lost);
            purse.is_over |= is_last;
        }
    }

    /// Whether more may be lost for the sake of a request's key, as far as is known here.
    pub(crate) fn may_lose(&self, request: &RequestId) -> bool {
        self.by_request
            .get(request)
            .is_some_and(|purse| may_lose(purse.lost, purse.key_used.saturating_add(purse.used)))
    }

    /// A request is over. Whether its end must still be told to the database.
    pub(crate) fn leave(&mut self, request: &RequestId) -> bool {
        self.by_request.remove(request).is_some_and(|purse| !purse.is_over)
    }

    /// Requests in work of a key.
    pub(crate) fn of_key(&self, key: &KeyId) -> usize {
        self.by_request.values().filter(|purse| purse.key == *key).count()
    }

    /// All requests in work.
    pub(crate) fn requests(&self) -> Vec<RequestId> {
        self.by_request.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use types::Hash32;

    use super::*;

    const REQUEST: RequestId = RequestId([1; 16]);
    const KEY: KeyId = Hash32([2; 32]);

    fn filled(amount: u128) -> Filled {
        Filled {
            amount: Nusd(amount),
            budget: Budget::Day,
            key_name: "k".into(),
            key_used: Nusd(1_000_000_000),
            key_lost: Nusd(100_000_000),
        }
    }

    #[test]
    fn a_purse_is_spent_once() {
        let mut purses = Purses::default();
        purses.enter(REQUEST, KEY);
        assert_eq!(purses.left(&REQUEST), (Budget::Total, Nusd::ZERO));
        purses.fill(&REQUEST, &filled(100));
        purses.hold(&REQUEST, Nusd(60));
        assert_eq!(purses.left(&REQUEST), (Budget::Day, Nusd(40)));
        purses.release(&REQUEST, Nusd(60));
        purses.bill(&REQUEST, Nusd(30), Nusd::ZERO, false);
        assert_eq!(purses.left(&REQUEST), (Budget::Day, Nusd(70)));
        purses.add(&REQUEST, Nusd(5), Budget::Month);
        assert_eq!(purses.left(&REQUEST), (Budget::Month, Nusd(75)));
        assert_eq!((purses.of_key(&KEY), purses.requests()), (1, vec![REQUEST]));
        assert!(purses.leave(&REQUEST), "its end is not booked");
        assert_eq!((purses.left(&REQUEST).1, purses.leave(&REQUEST)), (Nusd::ZERO, false));
    }

    #[test]
    fn an_end_that_was_booked_is_not_told_again() {
        let mut purses = Purses::default();
        purses.enter(REQUEST, KEY);
        purses.bill(&REQUEST, Nusd(1), Nusd::ZERO, true);
        purses.bill(&REQUEST, Nusd::ZERO, Nusd(1), false);
        assert!(!purses.leave(&REQUEST));
    }

    #[test]
    fn what_may_be_lost_follows_what_the_key_spent() {
        let mut purses = Purses::default();
        purses.enter(REQUEST, KEY);
        purses.fill(&REQUEST, &filled(100));
        purses.bill(&REQUEST, Nusd::ZERO, Nusd(10_000_000), false);
        assert!(purses.may_lose(&REQUEST));
        purses.bill(&REQUEST, Nusd::ZERO, Nusd(1), false);
        assert!(!purses.may_lose(&REQUEST));
    }
}
