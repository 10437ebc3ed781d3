//! What a stranger can check about the ledger without running it: that a chain of headers was signed
//! by those who may sign it, from a header that is trusted to a later one, and that an entry stands in
//! the state that such a header names, or does not (`docs/spec/light-client.md`).
//!
//! It links no ledger and no consensus, so gateways, providers and wallets may use it and need not
//! trust whoever answered them. It asks nobody anything: whoever uses it fetches what [`Bisection`] says is
//! needed, and tells the time. Nothing in it panics, whatever a peer sends.

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

mod bisection;
mod certificate;
mod client;
mod entry;

pub use bisection::{BLOCKS_MAX, Bisection, Next};
pub use certificate::{CertificateError, verify_certificate};
pub use client::{
    Fork, LightBlock, LightError, Rules, TrustedState, find_fork, genesis_validators,
};
pub use entry::{ProofError, verify_entry};

#[cfg(test)]
mod testing;
