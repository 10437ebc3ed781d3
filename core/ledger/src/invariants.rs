//! What is true after every block, each as a numbered pure function.
//!
//! Tests, the simulator and the check command run [`check_all`]; nothing in the ledger relies on
//! them at run time. What a single state cannot show, because it is about change, is in
//! [`check_transition`]. `docs/spec/invariants.md` lists all numbers.

mod audits;
mod money;
mod registry;
mod stake;
mod transition;

use crate::state::State;

pub use transition::check_transition;

/// One property of every state.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// As in `docs/spec/invariants.md`.
    pub number: &'static str,
    pub statement: &'static str,
    check: fn(&State) -> Result<(), String>,
}

/// A state, or a step from one to the next, that should not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {number} is broken: {detail}")]
pub struct Violation {
    pub number: &'static str,
    pub detail: String,
}

impl Invariant {
    pub fn check(&self, state: &State) -> Result<(), Violation> {
        (self.check)(state).map_err(|detail| Violation { number: self.number, detail })
    }
}

/// Every property of a single state.
pub fn all() -> &'static [Invariant] {
    &[
        Invariant {
            number: "L1",
            statement: "the WATT of all accounts sum to the total supply",
            check: money::supply_is_the_sum_of_accounts,
        },
        Invariant {
            number: "L2",
            statement: "total = genesis + minted − burned, by reasons",
            check: money::supply_follows_from_counters,
        },
        Invariant {
            number: "L3",
            statement: "no balance is below zero, which would show as one above the supply",
            check: money::balances_are_within_the_supply,
        },
        Invariant {
            number: "L4",
            statement: "total ≤ supply.max, and each budget mints no more than it has",
            check: money::supply_is_within_the_cap,
        },
        Invariant {
            number: "L5",
            statement: "the rewards account holds exactly what is owed to operators and delegators",
            check: money::modules_are_solvent,
        },
        Invariant {
            number: "L6",
            statement: "accounts of the ledger sign nothing, owe nothing and hold no credits",
            check: money::modules_are_not_users,
        },
        Invariant {
            number: "BME1",
            statement: "credits outstanding = free + in channels + pending + being refunded",
            check: money::credits_are_somewhere,
        },
        Invariant {
            number: "BME2",
            statement: "vault = paid in by purchases − taken by settlements and refunds",
            check: money::vault_follows_from_counters,
        },
        Invariant {
            number: "BME5",
            statement: "credits outstanding = issued − settled − refunded",
            check: money::credits_follow_from_counters,
        },
        Invariant {
            number: "BME7",
            statement: "emission minted and owed is within its budget, and an epoch's work is the sum of its providers'",
            check: money::emission_is_within_its_budget,
        },
        Invariant {
            number: "CH1",
            statement: "claimed + returned + balance = deposit, claimed = sum of lanes = settled + refunded + pending, closed holds 0",
            check: money::channels_add_up,
        },
        Invariant {
            number: "CH3",
            statement: "what all channels settled and refunded is what was, what they have pending is what waits",
            check: money::claims_are_settled,
        },
        Invariant {
            number: "PA1",
            statement: "every parameter is within its bounds, and they agree with each other",
            check: registry::parameters_are_within_their_bounds,
        },
        Invariant {
            number: "VE1",
            statement: "claimed ≤ vested ≤ total of every budget",
            check: money::budgets_are_within_what_vested,
        },
        Invariant {
            number: "PR1",
            statement: "the receiver of every open channel is registered, counts it, and counts its pending claims",
            check: registry::providers_count_their_channels,
        },
        Invariant {
            number: "PR2",
            statement: "a provider that left has no stake of its own and something that still binds it",
            check: registry::those_who_left_hold_nothing,
        },
        Invariant {
            number: "PR3",
            statement: "providers without a bond are counted and within their places",
            check: registry::unbonded_providers_are_counted,
        },
        Invariant {
            number: "IX1",
            statement: "indexes hold exactly what follows from the entries",
            check: registry::indexes_follow_from_entries,
        },
        Invariant {
            number: "CM1",
            statement: "the app hash is the root of the tree over all entries",
            check: registry::the_root_is_that_of_the_entries,
        },
        Invariant {
            number: "OR1",
            statement: "votes are of this period or the one before, observations rise in time",
            check: registry::votes_are_fresh,
        },
        Invariant {
            number: "ST1",
            statement: "the bonded account holds the stake of bonded operators, the other one all other stake and what is unbonding",
            check: stake::pools_hold_the_stake,
        },
        Invariant {
            number: "ST2",
            statement: "every seat belongs to a registered validator, with its key, and seats are marked",
            check: stake::seats_belong_to_validators,
        },
        Invariant {
            number: "ST3",
            statement: "no delegation is empty, and there is an operator behind each",
            check: stake::delegations_are_positive,
        },
        Invariant {
            number: "ST4",
            statement: "the shares of all delegators are those of their operator",
            check: stake::shares_add_up,
        },
        Invariant {
            number: "SL5",
            statement: "a window's counter is the number of its bits",
            check: stake::windows_count_their_bits,
        },
        Invariant {
            number: "RW1",
            statement: "everybody can withdraw: rewards earned and commission are within what is outstanding",
            check: stake::everybody_can_withdraw,
        },
        Invariant {
            number: "V1",
            statement: "there are seats and each has power",
            check: stake::seats_have_power,
        },
        Invariant {
            number: "AU1",
            statement: "commitments are bounded, of registered providers, and wait or are audited; the beacon is of a period that is over",
            check: audits::commitments_are_bounded,
        },
        Invariant {
            number: "AU2",
            statement: "a round has distinct verifiers, never the provider, after an appeal none of the first ones, and verdicts on its model",
            check: audits::rounds_have_distinct_verifiers,
        },
        Invariant {
            number: "AU3",
            statement: "kept evidence is bounded, in order, about its provider and model, of registered providers",
            check: audits::evidence_is_bounded_and_sorted,
        },
        Invariant {
            number: "AU4",
            statement: "names are within what memory allows, and no verifier missed, or is graded for, more rounds than it had",
            check: audits::names_are_bounded,
        },
        Invariant {
            number: "AU5",
            statement: "nobody suffers for a model that is not enforced",
            check: audits::the_shadow_has_no_consequences,
        },
        Invariant {
            number: "AU6",
            statement: "closed rounds are bounded and kept for a reason, and none did more than its evidence, beacon and mode justify, or anything for planted faults",
            check: audits::closed_rounds_did_no_more_than_they_may,
        },
        Invariant {
            number: "AU7",
            statement: "calibrations are bounded, within their bounds, and of registered validators",
            check: audits::calibrations_are_of_validators,
        },
        Invariant {
            number: "AU9",
            statement: "auditors are of registered validators, and each is reached somewhere",
            check: audits::auditors_are_of_validators,
        },
        Invariant {
            number: "AU10",
            statement: "verifiers were paid for a provider's rounds and canaries no more than its work brought the treasury",
            check: audits::verifiers_are_paid_by_the_audited,
        },
        Invariant {
            number: "AU11",
            statement: "the insurance account holds the deposits of all appeals and demands that are not over",
            check: audits::deposits_are_held,
        },
    ]
}

/// The first broken property, in order of [`all`].
pub fn check_all(state: &State) -> Result<(), Violation> {
    all().iter().try_for_each(|invariant| invariant.check(state))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left:?} is not {right:?}")) }
}

fn ensure(holds: bool, detail: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(detail()) }
}

#[cfg(test)]
mod tests;
