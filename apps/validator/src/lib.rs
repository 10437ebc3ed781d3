//! The validator: runs the ledger behind the replica, keeps its blocks and answers the chain API.
//!
//! It decides nothing about money (that is `ledger`) and nothing about order (that is `replica`);
//! it puts them together, serves what they know and checks a whole chain on demand.

pub mod genesis;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use keys::SecretKey;
use serde::{Deserialize, Serialize};
use types::{ChainId, Hash32, Height, genesis::Genesis};

/// What a validator needs.
#[derive(Debug)]
pub struct ValidatorConfig {
    /// Folder of its own; made if it is missing.
    pub home: PathBuf,
    pub genesis: Genesis,
    /// Signs blocks; must be that of the genesis document's validator.
    pub consensus_key: SecretKey,
    /// Where the chain API listens. Loopback, unless the machine is meant to be asked by others.
    pub listen: SocketAddr,
    /// Makes a block after this long without one. `None`: only when there is something to do.
    pub heartbeat: Option<Duration>,
}

/// Starts validators.
#[derive(Debug)]
pub struct Validator;

impl Validator {
    /// Opens the home, replays what is needed and serves. Ready when this returns.
    pub async fn start(config: ValidatorConfig) -> Result<ValidatorHandle, ValidatorError> {
        let _ = config;
        Err(ValidatorError::Unfinished)
    }
}

/// A running validator. Dropped without [`ValidatorHandle::shutdown`] it stops as a killed one does.
#[derive(Debug)]
pub struct ValidatorHandle {
    chain_api_addr: SocketAddr,
}

impl ValidatorHandle {
    /// Where the chain API really listens.
    pub fn chain_api_addr(&self) -> SocketAddr {
        self.chain_api_addr
    }

    /// The base URL for [`wire::chain::HttpChain::new`].
    pub fn chain_api_url(&self) -> String {
        format!("http://{}", self.chain_api_addr)
    }

    /// Waits until the validator stops by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> ValidatorError {
        std::future::pending().await
    }

    /// Puts what is waiting into a block, closes the store and stops.
    pub async fn shutdown(self) -> Result<(), ValidatorError> {
        Ok(())
    }
}

/// Why a validator cannot start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    #[error("this version cannot run a validator")]
    Unfinished,
}

/// What [`check`] found out about a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub chain_id: ChainId,
    pub genesis_hash: Hash32,
    /// Of the newest block.
    pub height: Height,
    pub txs: u64,
    /// After the newest block that was replayed.
    pub app_hash: Hash32,
    /// How many times an invariant was evaluated.
    pub invariants_checked: u64,
    /// Empty if all is well. Replaying stops at the first block that has one.
    pub violations: Vec<Violation>,
}

/// Something that must not be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Violation {
    pub height: Height,
    /// The number of an invariant (`docs/spec/invariants.md`) or what else was checked: `signature`,
    /// `header`, `certificate`, `app_hash`, `outcome`, `index`, `store`.
    pub check: String,
    pub detail: String,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Replays every block in the home of a validator that does not run, from genesis, and checks
/// signatures, headers, certificates, digests, the index and every invariant after every block.
/// Changes nothing on the disk.
pub fn check(home: &Path) -> Result<Report, ValidatorError> {
    let _ = home;
    Err(ValidatorError::Unfinished)
}
