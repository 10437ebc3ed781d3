//! The whole state as a file: written from the home of a validator that does not run, and checked
//! by anybody who has the genesis document.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use ledger::State;
use replica::Application;
use serde::{Deserialize, Serialize};
use store::{BlockStore, StoreError};
use types::{ChainId, Hash32, Height, TimeMs, genesis::Genesis};

use crate::{BLOCKS_FILE, ledger_app::LedgerApp};

/// Largest snapshot that is read: one million accounts take about a tenth of it.
const SNAPSHOT_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What a snapshot holds. Its root is to be compared with the header of its block.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotReport {
    pub chain_id: ChainId,
    pub height: Height,
    pub time: TimeMs,
    /// Root of the state tree, recomputed from the entries.
    pub app_hash: Hash32,
    pub bytes: u64,
    pub accounts: u64,
    pub channels: u64,
    pub providers: u64,
    pub validators: u64,
}

/// Why a snapshot was not written or is not one.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotToolError {
    #[error("there is no validator's home at {path}; give the folder it was started with", path = path.display())]
    NoHome { path: PathBuf },
    #[error("the home cannot be opened")]
    Store { source: StoreError },
    #[error("the genesis document starts no ledger")]
    Genesis { source: ledger::GenesisError },
    #[error("the home's chain cannot be brought back; `peerwatt ledger check` says more")]
    Recover { source: replica::RecoverError },
    #[error("the state cannot be taken")]
    State { source: replica::AppError },
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} has {bytes} bytes, more than a snapshot may have", path = path.display())]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("{path} is not a snapshot of this network", path = path.display())]
    Snapshot { path: PathBuf, source: ledger::SnapshotError },
}

/// Writes the newest state of a stopped validator's home to `file`, which must not exist yet.
pub fn export_snapshot(home: &Path, file: &Path) -> Result<SnapshotReport, SnapshotToolError> {
    let path = home.join(BLOCKS_FILE);
    if !path.exists() {
        return Err(SnapshotToolError::NoHome { path: home.to_owned() });
    }
    let store =
        BlockStore::open_read_only(&path).map_err(|source| SnapshotToolError::Store { source })?;
    let mut app =
        LedgerApp::new(store.genesis()).map_err(|source| SnapshotToolError::Genesis { source })?;
    replica::recover(&mut app, &store).map_err(|source| SnapshotToolError::Recover { source })?;
    let bytes = app.snapshot().map_err(|source| SnapshotToolError::State { source })?;
    write_new(file, &bytes)
        .map_err(|source| SnapshotToolError::Write { path: file.to_owned(), source })?;
    check_snapshot(file, store.genesis())
}

fn write_new(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut opened = fs::OpenOptions::new().write(true).create_new(true).open(file)?;
    io::Write::write_all(&mut opened, bytes)?;
    opened.sync_all()
}

/// Reads a snapshot, recomputes its root and checks every invariant.
pub fn check_snapshot(file: &Path, genesis: &Genesis) -> Result<SnapshotReport, SnapshotToolError> {
    let unreadable = |source| SnapshotToolError::Read { path: file.to_owned(), source };
    let bytes = fs::metadata(file).map_err(unreadable)?.len();
    if bytes > SNAPSHOT_BYTES_MAX {
        return Err(SnapshotToolError::TooLong { path: file.to_owned(), bytes });
    }
    let content = fs::read(file).map_err(unreadable)?;
    let state = State::from_snapshot(&content, genesis.hash())
        .map_err(|source| SnapshotToolError::Snapshot { path: file.to_owned(), source })?;
    Ok(SnapshotReport {
        chain_id: state.chain_id().clone(),
        height: state.height(),
        time: state.time(),
        app_hash: state.app_hash(),
        bytes,
        accounts: state.accounts().count() as u64,
        channels: state.channels().count() as u64,
        providers: state.providers().count() as u64,
        validators: state.validators().count() as u64,
    })
}
