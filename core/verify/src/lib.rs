//! How the answers of untrusted providers are checked: the arithmetic, and nothing else
//! (`docs/spec/verification.md`).
//!
//! In the order of reading: a [`profile`] says which requests can be replayed and with what seed; a
//! [`draw`] is what a sampler does with that seed and the candidates of a step; a [`transcript`] of
//! [`leaf`]s holds what a provider reported of each token.
//!
//! Pure: no clock, no I/O, no randomness; nothing panics, whatever a provider reports. It is the one pure
//! crate with floats, because probabilities are. Exponentials and logarithms are `libm`'s, so that two machines
//! get the same bits; what leaves the crate to be signed is integers: hashes, counts, milli-nats.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod draw;
pub mod logits;
pub mod profile;

pub mod leaf;
pub mod transcript;

pub mod l0;
