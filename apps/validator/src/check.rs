//! Replays a whole chain from genesis and checks everything that can be recomputed.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use ledger::{State, invariants};
use replica::{Application, ReplayError, Tip, chain::Parent};
use serde::{Deserialize, Serialize};
use store::{BlockStore, StoreError, StoredBlock, TxPlace};
use types::{Address, ChainId, Hash32, Height, tx::SignedTx};
use wire::chain::TxOutcome;

use crate::{BLOCKS_FILE, ledger_app::LedgerApp, record::Record};

/// What [`check`] found out about a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    pub chain_id: ChainId,
    pub genesis_hash: Hash32,
    /// Where the replay began: 0 for genesis, otherwise the newest snapshot, because blocks before it are
    /// not in the home.
    pub from: Height,
    /// Of the newest block that was replayed.
    pub height: Height,
    /// In those blocks.
    pub txs: u64,
    /// The ledger's digest after the newest of them.
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
    /// The number of an invariant (`docs/spec/invariants.md`) or what else was checked: `header`,
    /// `certificate`, `transaction`, `execution`, `app_hash`, `outcome`, `index`, `snapshot`, `store`.
    pub check: String,
    pub detail: String,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Why a chain cannot be checked at all.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("there is no validator's home at {path}; give the folder it was started with", path = path.display())]
    NoHome { path: PathBuf },
    #[error("the home cannot be opened")]
    Store { source: StoreError },
    #[error("the genesis document in the home starts no ledger")]
    Genesis { source: ledger::GenesisError },
}

/// Replays every block in the home of a validator that does not run, from genesis, and checks
/// signatures, headers, certificates, digests, outcomes, the index, the snapshot and every
/// invariant after every block. A home without its first blocks is replayed from its snapshot, which is
/// held against the certified header of its height. Changes nothing on the disk.
pub fn check(home: &Path) -> Result<Report, CheckError> {
    let path = home.join(BLOCKS_FILE);
    if !path.exists() {
        return Err(CheckError::NoHome { path: home.to_owned() });
    }
    let store = BlockStore::open_read_only(&path).map_err(|source| CheckError::Store { source })?;
    let app = LedgerApp::new(store.genesis()).map_err(|source| CheckError::Genesis { source })?;
    let mut checker = Checker {
        parent: Parent::of_genesis(store.genesis()),
        store: &store,
        app,
        from: Height(0),
        txs: 0,
        invariants_checked: 0,
    };
    let violations = match checker.run() {
        Ok(()) => Vec::new(),
        Err(violation) => vec![violation],
    };
    let Tip { height, app_hash, .. } = checker.app.tip();
    Ok(Report {
        chain_id: store.genesis().chain_id.clone(),
        genesis_hash: store.genesis().hash(),
        from: checker.from,
        height,
        txs: checker.txs,
        app_hash,
        invariants_checked: checker.invariants_checked,
        violations,
    })
}

struct Checker<'a> {
    store: &'a BlockStore,
    app: LedgerApp,
    parent: Parent,
    from: Height,
    txs: u64,
    invariants_checked: u64,
}

impl Checker<'_> {
    fn run(&mut self) -> Result<(), Violation> {
        let stored = |error| unreadable(Height(0), &error);
        let tip = self.store.height().map_err(stored)?;
        let snapshot = self.store.snapshot().map_err(stored)?;
        if self.store.first_height().map_err(stored)? > Height(1) {
            let begin = snapshot.as_ref().map(|(height, bytes)| (*height, bytes.as_slice()));
            self.begin_at(begin)?;
        }
        self.check_state(self.from)?;
        while self.parent.height < tip {
            self.check_block(self.parent.height.next())?;
            if let Some((height, bytes)) = &snapshot
                && *height == self.parent.height
            {
                self.check_snapshot(*height, bytes)?;
            }
        }
        let indexed = self.store.txs_len().map_err(|error| unreadable(tip, &error))?;
        // Of blocks before the snapshot some may be here and others not.
        if self.from == Height(0) && indexed != self.txs {
            let detail =
                format!("{indexed} transactions are indexed, the blocks have {}", self.txs);
            return Err(violation(tip, "index", detail));
        }
        Ok(())
    }

    /// Begins with a snapshot, if it is what the header of its height says.
    fn begin_at(&mut self, snapshot: Option<(Height, &[u8])>) -> Result<(), Violation> {
        let missing = |height| {
            let detail = "the first blocks are not here, and no snapshot stands for them";
            violation(height, "store", detail.to_owned())
        };
        let (height, bytes) = snapshot.ok_or_else(|| missing(Height(1)))?;
        let parent = Parent::stored(self.store, height);
        let parent = parent.map_err(|error| unreadable(height, &error))?;
        let parent = parent.ok_or_else(|| missing(height))?;
        parent
            .verify(&self.store.genesis().chain_id)
            .map_err(|error| violation(height, "certificate", chain_of(&error)))?;
        let restored = self.app.restore(bytes);
        restored.map_err(|error| violation(height, "snapshot", chain_of(&error)))?;
        let Tip { height: found, app_hash, .. } = self.app.tip();
        if (found, Some(app_hash)) != (height, parent.app_hash) {
            let detail = format!("it is of block {found} and leads to {app_hash}");
            return Err(violation(height, "snapshot", detail));
        }
        (self.parent, self.from) = (parent, height);
        Ok(())
    }

    fn check_block(&mut self, height: Height) -> Result<(), Violation> {
        let block = self.store.block(height).map_err(|error| unreadable(height, &error))?;
        let missing = || violation(height, "store", "the block is missing".to_owned());
        let block = block.ok_or_else(missing)?;
        let before = self.committed().clone();
        let chain_id = &self.store.genesis().chain_id;
        let replayed = replica::replay_block(&mut self.app, chain_id, &self.parent, &block);
        let (executed, decided) = replayed.map_err(|error| replay_violation(height, &error))?;
        self.parent = Parent::of_block(&block.header, decided);
        self.check_outcomes(&block, &executed.stored)?;
        self.check_index(height, &executed.outcomes)?;
        self.txs += block.txs.len() as u64;
        let after = self.committed();
        invariants::check_transition(&before, &after, &signers(&block))
            .map_err(|broken| violation(height, broken.number, broken.detail))?;
        drop(after);
        self.check_state(height)
    }

    /// Between blocks nobody else has the state.
    fn committed(&self) -> tokio::sync::OwnedRwLockReadGuard<State> {
        self.app.shared().try_read_owned().expect("only the replay writes, and it has finished")
    }

    fn check_state(&mut self, height: Height) -> Result<(), Violation> {
        let state = self.committed();
        for invariant in invariants::all() {
            self.invariants_checked += 1;
            invariant
                .check(&state)
                .map_err(|broken| violation(height, broken.number, broken.detail))?;
        }
        Ok(())
    }

    /// What the block says it did is what it does.
    fn check_outcomes(&self, block: &StoredBlock, recomputed: &[u8]) -> Result<(), Violation> {
        let height = block.header.height;
        let decode = |bytes| Record::decode(bytes).map(Record::without_messages).ok();
        if decode(&block.outcomes) == decode(recomputed) {
            return Ok(());
        }
        let detail = "the stored outcomes are not those of the block".to_owned();
        Err(violation(height, "outcome", detail))
    }

    fn check_index(&self, height: Height, outcomes: &[TxOutcome]) -> Result<(), Violation> {
        for (index, outcome) in (0u32..).zip(outcomes) {
            let place =
                self.store.tx_place(outcome.id).map_err(|error| unreadable(height, &error))?;
            if place != Some(TxPlace { height, index }) {
                let detail = format!("transaction {} is indexed at {place:?}", outcome.id);
                return Err(violation(height, "index", detail));
            }
        }
        Ok(())
    }

    fn check_snapshot(&self, height: Height, bytes: &[u8]) -> Result<(), Violation> {
        match self.app.snapshot() {
            Ok(recomputed) if recomputed == bytes => Ok(()),
            Ok(_) => {
                let detail = "the snapshot is not the state after the block".to_owned();
                Err(violation(height, "snapshot", detail))
            }
            Err(error) => Err(violation(height, "snapshot", chain_of(&error))),
        }
    }
}

fn signers(block: &StoredBlock) -> BTreeSet<Address> {
    let txs = block.txs.iter().filter_map(|bytes| SignedTx::decode(bytes).ok());
    txs.map(|SignedTx(tx)| Address::of_key(&tx.signer)).collect()
}

fn replay_violation(height: Height, error: &ReplayError) -> Violation {
    let check = match error {
        ReplayError::Block { source } if source.is_of_certificate() => "certificate",
        ReplayError::Block { .. } => "header",
        ReplayError::Tx { .. } => "transaction",
        ReplayError::App { .. } => "execution",
        ReplayError::AppHash { .. } => "app_hash",
        ReplayError::NextValidators => "validators",
    };
    violation(height, check, chain_of(error))
}

fn unreadable(height: Height, error: &StoreError) -> Violation {
    violation(height, "store", chain_of(error))
}

fn violation(height: Height, check: &str, detail: String) -> Violation {
    Violation { height, check: check.to_owned(), detail }
}

/// An error and what caused it, in one line.
fn chain_of(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
