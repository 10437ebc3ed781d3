//! The validator: runs the ledger behind the replica, keeps its blocks and answers the chain API.
//!
//! It decides nothing about money (that is `ledger`) and nothing about order (that is `replica`);
//! it puts them together, serves what they know and checks a whole chain on demand.

mod run;

mod ledger_app;
mod record;

mod api;
mod views;

mod check;
pub mod genesis;

pub use check::{CheckError, Report, Violation, check};
pub use run::{Validator, ValidatorConfig, ValidatorError, ValidatorHandle};

/// The store's file in a validator's home.
const BLOCKS_FILE: &str = "blocks.redb";
