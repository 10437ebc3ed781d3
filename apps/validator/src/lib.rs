//! The validator: runs the ledger behind the replica, keeps its blocks and answers the chain API.
//!
//! It decides nothing about money (that is `ledger`) and nothing about order (that is `replica`);
//! it puts them together, serves what they know and checks a whole chain on demand.

mod run;

mod evidence;
mod operator;
mod peers;
mod price_vote;
mod snapshot;

mod ledger_app;
mod record;

mod api;
mod views;

mod check;
pub mod genesis;

pub use check::{CheckError, Report, Violation, check};
pub use replica::{Peer, SNAPSHOT_INTERVAL, StateSync, Timeouts, Trusted};
pub use run::{
    ConsensusKey, Submitter, Validator, ValidatorConfig, ValidatorError, ValidatorHandle,
};
pub use snapshot::{SnapshotReport, SnapshotToolError, check_snapshot, export_snapshot};

/// The store's file in a validator's home.
const BLOCKS_FILE: &str = "blocks.redb";
/// The consensus engine's log in a validator's home.
const WAL_FILE: &str = "consensus.wal";
