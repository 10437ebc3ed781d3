//! The beacon: what the validators revealed with their votes on the price, hashed together.
//!
//! Salts are committed to before anybody knows another's, so nobody chooses the beacon, but the last one to
//! reveal sees two of them: with its salt and without. So each reveal that is withheld gives one bit of
//! choice, and costs a share of the stake, if others revealed and so could have been waited for.

use std::collections::BTreeMap;

use types::{Address, stake::OperatorId};

use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    oracle::Vote,
    slashing::{self, Fault},
    state::State,
};

/// The votes of a period are complete: there is at least one.
pub(crate) fn draw(
    state: &mut State,
    context: &mut Context,
    period: u64,
    votes: &BTreeMap<Address, Vote>,
) -> Result<(), TxError> {
    let salts = votes.iter().map(|(voter, vote)| (voter, &vote.salt));
    let beacon = state.beacon.get().next(period, salts);
    state.beacon.set(beacon);
    let (value, reveals) = (beacon.value, beacon.reveals);
    context.events.push(Event::BeaconDrawn { period, value, reveals });
    let Some(committed_in) = period.checked_sub(1) else { return Ok(()) };
    let withheld: Vec<Address> = state
        .price_commits
        .range((committed_in, Address([0; 20]))..)
        .take_while(|((period, _), _)| *period == committed_in)
        .map(|((_, voter), _)| *voter)
        .collect();
    for voter in withheld {
        state.price_commits.remove(&(committed_in, voter));
        // Without a seat it could not reveal.
        if state.validators.get(&voter).is_some_and(|entry| entry.seated) {
            let operator = OperatorId::validator(voter);
            slashing::punish(state, context, operator, Fault::WithheldReveal)?;
        }
    }
    Ok(())
}
