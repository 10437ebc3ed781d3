//! The ledger: a pure state machine over accounts, credits, providers, gateways and channels.
//!
//! It takes verified transactions and block times and returns results, events and a digest. It is
//! not consensus (the replica orders transactions), not storage (the caller keeps blocks and
//! snapshots) and not an API (the validator turns its values into those of the chain API).
//!
//! One block goes through three calls:
//!
//! 1. [`State::check`] says whether a transaction may enter the mempool.
//! 2. [`State::execute_block`] applies a block and leaves it open.
//! 3. [`State::commit`] keeps the open block, [`State::rollback`] takes it back, byte for byte.
//!
//! The rules are in `docs/spec/transactions.md`; the properties that hold after every block are
//! numbered in `docs/spec/invariants.md` and are functions in [`invariants`].

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

mod state;
mod table;

mod execute;
mod genesis;

mod bank;
mod channel;
mod credits;
mod fees;
mod gateway;
mod price;
mod provider;
mod rewards;
mod settlement;

mod error;
mod event;
pub mod invariants;

pub use bank::{Account, Burned, Minted, Module, Supply};
pub use channel::Channel;
pub use error::{BlockError, GenesisError, SnapshotError, TxError};
pub use event::{Event, Redeemed};
pub use execute::{BlockOutcome, NONCES_AHEAD_MAX, Readiness, TxOutcome, TxResult};
pub use gateway::Gateway;
pub use genesis::VALIDATORS_MAX;
pub use price::{PRICE_MAX, PRICE_MIN};
pub use provider::{Provider, Stage};
pub use rewards::Validator;
pub use state::State;
