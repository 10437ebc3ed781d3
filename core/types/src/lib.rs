//! The vocabulary of Peerwatt: ids, amounts, prices, signed objects and their canonical bytes.
//!
//! Every other crate may use this one and it uses none of them. It is pure: no clock, no socket,
//! no randomness, no float. Signatures are *named* here and *checked* outside, through
//! [`sign::VerifySignature`], so that `core/` carries no cryptography that needs threads or
//! randomness; what was checked has a type of its own ([`sign::Verified`], [`tx::VerifiedTx`]).
//!
//! Canonical bytes are borsh. A change to a type that is hashed or signed is a change of protocol:
//! the fixtures in `tests/canonical.rs` fail on it.

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

pub mod amount;
pub mod hash;
pub mod id;
pub mod limits;
pub mod price;
pub mod sign;
pub mod split;

pub mod ability;
pub mod channel;
pub mod inference;
pub mod offer;
pub mod payment;
pub mod receipt;
pub mod tools;
pub mod vector;

pub mod audit;
pub mod block;
pub mod consensus;
pub mod genesis;
pub mod params;
pub mod stake;
pub mod state;
pub mod tree;
pub mod tx;

pub use amount::{Nusd, Ppm, Rounding, Watt, mul_div};
pub use hash::{Hash32, sha256};
pub use id::{
    Address, ChainId, ChannelId, Height, Lane, ModelId, Nonce, PublicKey, RequestId, Signature,
    TimeMs, TxId,
};
