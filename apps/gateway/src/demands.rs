//! Audits that the gateway demands on the ledger, of answers that it paid for: those whose tokens came out otherwise when they
//! were drawn again, and, where its operator wants that, some at random. What a provider commits to by itself has no say in either.
//!
//! A demand that passes costs its deposit, so no provider has more than one an hour.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use types::{
    Address, TimeMs,
    receipt::{Acknowledgement, FREE_PROFILE, ServiceReport},
    sign::Signed,
};
use verify::l0::Finding;

use crate::{random, shared::Shared, treasury};

/// From one demand about a provider to the next.
const PAUSE_MS: u64 = 60 * 60 * 1_000;

/// Which answers are to be audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemandPolicy {
    /// Those whose replay found something.
    pub suspects: bool,
    /// One in so many of all others, at random. `None`: no other.
    pub one_in: Option<NonZeroU32>,
}

impl DemandPolicy {
    pub fn standard() -> DemandPolicy {
        DemandPolicy { suspects: true, one_in: None }
    }

    fn wants(self, finding: Finding) -> bool {
        let suspect = self.suspects && finding != Finding::Clean;
        suspect || self.one_in.is_some_and(is_drawn)
    }
}

fn is_drawn(one_in: NonZeroU32) -> bool {
    // Without randomness nothing is drawn: an audit more or less.
    random::bytes().is_ok_and(|drawn| u64::from_le_bytes(drawn) % u64::from(one_in.get()) == 0)
}

/// When an audit was demanded last, by provider.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    last: Mutex<BTreeMap<Address, TimeMs>>,
}

impl Demands {
    /// Whether one more about this provider may be made now; if so, it is counted as made.
    fn begin(&self, provider: Address, now: TimeMs) -> bool {
        // Every change is made whole.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| now.ms_since(*at) < PAUSE_MS);
        if last.contains_key(&provider) {
            return false;
        }
        last.insert(provider, now);
        true
    }
}

/// Demands an audit of an answer whose books are closed, if the policy wants one.
pub(crate) fn consider(
    shared: &Shared,
    report: &Signed<ServiceReport>,
    acknowledgement: &Signed<Acknowledgement>,
    finding: Finding,
) {
    let ServiceReport { provider, ref profile, completion_tokens, .. } = report.value;
    let can = profile != FREE_PROFILE && completion_tokens > 0;
    if can
        && shared.config.demands.wants(finding)
        && shared.demands.begin(provider, shared.since_start())
    {
        treasury::demand(shared, report.clone(), acknowledgement.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_has_one_demand_an_hour() {
        let demands = Demands::default();
        let (one, other) = (Address([1; 20]), Address([2; 20]));
        assert!(demands.begin(one, TimeMs(1)));
        assert!(!demands.begin(one, TimeMs(PAUSE_MS)));
        assert!(demands.begin(other, TimeMs(PAUSE_MS)));
        assert!(demands.begin(one, TimeMs(PAUSE_MS + 1)));
    }

    #[test]
    fn suspects_are_wanted_and_others_by_chance() {
        let standard = DemandPolicy::standard();
        assert!(standard.wants(Finding::Audit) && standard.wants(Finding::Suspend));
        assert!(!standard.wants(Finding::Clean));
        let all = DemandPolicy { suspects: false, one_in: NonZeroU32::new(1) };
        assert!(all.wants(Finding::Clean));
        let none = DemandPolicy { suspects: false, one_in: None };
        assert!(!none.wants(Finding::Suspend));
    }
}
