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
mod tree;

mod execute;
mod genesis;

mod audit;
mod bank;
mod channel;
mod credits;
mod emission;
mod evidence;
mod fees;
mod gateway;
mod oracle;
mod provider;
mod queue;
mod rewards;
mod settlement;
mod signing;
mod slashing;
mod stake;
mod validator;
mod vesting;
mod weight;

mod error;
mod event;
pub mod invariants;

pub use audit::sanction;
pub use bank::{Burned, Minted, Module, Supply};
pub use credits::{Breaker, Refund};
pub use emission::{Emission, Payout, Work};
pub use error::{BlockError, GenesisError, SnapshotError, TxError};
pub use event::{Event, Settled, Slashed};
pub use execute::{BlockInfo, BlockOutcome, NONCES_AHEAD_MAX, Readiness, TxOutcome, TxResult};
pub use gateway::Gateway;
pub use genesis::VALIDATORS_MAX;
pub use oracle::{Oracle, PRICE_MAX, PRICE_MIN};
pub use settlement::Pending;
pub use signing::Signing;
pub use slashing::Fault;
pub use stake::{Delegation, RedelegationEntry, UnbondingEntry};
pub use state::State;
pub use validator::{ActiveValidator, ValidatorEntry};
pub use vesting::Vesting;
pub use weight::Weight;
