//! How the answers of untrusted providers are checked: the arithmetic, and nothing else
//! (`docs/spec/verification.md`).
//!
//! In the order of reading: a [`profile`] says which requests can be replayed and with what seed; a
//! [`draw`] is what a sampler does with that seed and the candidates of a step; a [`transcript`] of
//! [`leaf`]s holds what a provider reported of each token. [`l0`] replays a response from what was
//! reported, without a model. [`l1`], [`l2`] and, for engines of ours, [`projection`] compare with a verifier's own logits. An [`eprocess`]
//! adds that up into evidence with a known rate of false alarms, [`identify`] asks which other model
//! explains the answer, and a [`verdict`] follows. An [`audit`] does all of that to a set of responses, a token at a time;
//! [`calibration`] finds the honest means that it needs.
//!
//! ```
//! use verify::{draw::{OneCandidate, Sampler, Settings}, l0::{Outcome, Replay}, logits::Candidates};
//!
//! // Two candidates of 50 and 30 %, renormalised; the first number that seed 1000 gives is .2055.
//! let settings = Settings { temperature: 1.0, top_k: 2, top_p: 1.0 };
//! let step = Candidates::reported([(17, -693_147), (4, -1_203_973)]);
//! let mut replay = Replay::new(&[Sampler::Llama(OneCandidate::Draws)], settings, 1_000);
//! assert_eq!(replay.push(17, &step), Outcome::Match);
//! // The second is .6104, still below 5⁄8.
//! assert_eq!(replay.push(4, &step), Outcome::Mismatch);
//! ```
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
pub mod engines;
pub mod logits;
pub mod profile;

pub mod leaf;
pub mod transcript;

pub mod delivered;

pub mod l0;
pub mod l1;
pub mod l2;
pub mod projection;
pub mod score;

pub mod eprocess;
pub mod identify;
pub mod verdict;

pub mod audit;
pub mod calibration;
