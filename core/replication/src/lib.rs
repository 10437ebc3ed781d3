//! What a node decides around consensus: which transactions wait for a block and in which order,
//! what it tells its peers, when a height is worth starting, how it catches up, and what becomes of
//! a fault that it saw.
//!
//! Pure: what happens goes in, time included, what is to be done comes out. Each part is a machine
//! of its own; [`node`] joins them, so that the driver and the simulation run the same one. Not
//! here: consensus itself, signatures, the ledger, bytes on a wire.

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

pub mod mempool;

pub mod evidence;
pub mod gossip;
pub mod pace;
pub mod sync;

pub mod node;

pub use mempool::Transaction;
