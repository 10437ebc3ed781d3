//! Which provider gets a request, and why not another: the policy that gateways share.
//!
//! Pure: candidates, the time and a random number go in, a choice and its explanation come out.
//! What was measured about a provider is kept in a [`Record`] that the shell stores per provider
//! and model, and that decides nothing about payments.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

mod choose;
mod patience;
mod record;

#[cfg(test)]
mod tests;

pub use choose::{Candidate, Choice, Need, Passed, Policy, Reason, Scored, Term, choose};
pub use patience::{Patience, Waited};
pub use record::{Health, Outcome, Record};
