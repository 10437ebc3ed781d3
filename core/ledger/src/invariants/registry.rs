//! Properties of who is registered, of the indexes, of the tree and of the oracle.

use std::collections::BTreeMap;

use types::{Address, Nusd, state::Stage};

use super::{ensure, equal};
use crate::{provider::is_unbonded, state::State};

pub(super) fn parameters_are_within_their_bounds(state: &State) -> Result<(), String> {
    state.params().check().map_err(|error| error.to_string())
}

pub(super) fn providers_count_their_channels(state: &State) -> Result<(), String> {
    let mut counted: BTreeMap<Address, (u64, Nusd)> = BTreeMap::new();
    for (_, channel) in state.channels() {
        let bound = u64::from(channel.open);
        let pending = channel.pending();
        if bound == 0 && pending.is_zero() {
            continue;
        }
        let (open, sum) = counted.entry(channel.terms.receiver).or_default();
        *open = open.saturating_add(bound);
        *sum = sum.saturating_add(pending);
    }
    for (operator, provider) in state.providers() {
        let expected = counted.remove(operator).unwrap_or_default();
        let found = (provider.channels_open, provider.pending);
        equal(&format!("open channels and pending claims of {operator}"), found, expected)?;
    }
    ensure(counted.is_empty(), || format!("receivers without an entry: {:?}", counted.keys()))
}

pub(super) fn those_who_left_hold_nothing(state: &State) -> Result<(), String> {
    let left = state.providers().filter(|(_, provider)| provider.stage == Stage::Left);
    left.into_iter().try_for_each(|(operator, provider)| {
        let bound = provider.channels_open > 0
            || !provider.pending.is_zero()
            || state.has_unpaid_work(operator);
        ensure(state.bond_of(operator).is_zero() && bound, || {
            format!("{operator} left with {provider:?}")
        })
    })
}

pub(super) fn unbonded_providers_are_counted(state: &State) -> Result<(), String> {
    let count = state.providers().filter(|(_, provider)| is_unbonded(provider)).count();
    let counted = state.credit.get().unbonded_providers;
    equal("unbonded providers and their count", u32::try_from(count), Ok(counted))?;
    let max = state.params().providers.unbonded_max;
    // Whoever stood below a risen bond when it registered with a full one counts beyond the places.
    ensure(counted <= max, || format!("{counted} unbonded providers, at most {max}"))
}

pub(super) fn indexes_follow_from_entries(state: &State) -> Result<(), String> {
    // Two entries with one key would share a place in the index.
    let entries = state.providers.len().saturating_add(state.gateways.len());
    let entries = entries.saturating_add(state.auditors.len());
    equal("node keys and entries", state.node_keys.len(), entries)?;
    let validators = state.validators.len();
    equal("consensus keys and validators", state.consensus_keys.len(), validators)?;
    match state.wrong_index() {
        None => Ok(()),
        Some(index) => Err(format!("the index `{index}` does not follow from the entries")),
    }
}

pub(super) fn the_root_is_that_of_the_entries(state: &State) -> Result<(), String> {
    equal("root and app hash", state.recomputed_root(), state.sealed_root())
}

pub(super) fn votes_are_fresh(state: &State) -> Result<(), String> {
    let period = state.period(state.now());
    for ((voted_in, voter), vote) in state.price_votes.iter() {
        ensure(*voted_in == period, || format!("{voter} voted {vote:?} in period {voted_in}"))?;
    }
    for ((committed_in, voter), _) in state.price_commits.iter() {
        let fresh = committed_in.saturating_add(1) >= period && *committed_in <= period;
        ensure(fresh, || format!("{voter} committed in period {committed_in}"))?;
    }
    let oracle = state.oracle();
    let rises = oracle.observations.is_sorted_by(|left, right| left.0 < right.0);
    ensure(rises, || format!("observations out of order: {:?}", oracle.observations))?;
    let last = oracle.observations.last().map(|(_, price)| *price);
    equal("last observation and price", last, Some(oracle.nusd_per_watt))
}
