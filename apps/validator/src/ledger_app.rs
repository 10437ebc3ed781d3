//! The ledger as the replica sees it.
//!
//! Readers and the sequencer share one state. From the execution of a block until it is durable
//! and committed the sequencer holds the write lock, so nobody ever reads what a power cut could
//! take back.

use std::sync::Arc;

use keys::{Batch, Ed25519};
use ledger::{BlockInfo, BlockOutcome, State, TxOutcome as Outcome};
use replica::{AppError, Application, BlockContext, Executed, Proposal, Refusal, Tip};
use tokio::{
    runtime::Handle,
    sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard},
};
use types::{
    Address, Hash32, Height, Nonce, TimeMs, TxId,
    consensus::{ValidatorPower, ValidatorSet},
    genesis::Genesis,
    limits::DecodeError,
    sign::VerifySignature,
    tx::{SignedTx, VerifiedTx},
};
use wire::chain::{TxOutcome, code};

use crate::record::Record;

/// The ledger behind the replica's trait.
#[derive(Debug)]
pub(crate) struct LedgerApp {
    state: Arc<RwLock<State>>,
    /// Held while a block is open.
    open: Option<OwnedRwLockWriteGuard<State>>,
    genesis_hash: Hash32,
}

impl LedgerApp {
    pub(crate) fn new(genesis: &Genesis) -> Result<LedgerApp, ledger::GenesisError> {
        let state = Arc::new(RwLock::new(State::from_genesis(genesis)?));
        Ok(LedgerApp { state, open: None, genesis_hash: genesis.hash() })
    }

    /// For readers: always a committed, durable state.
    pub(crate) fn shared(&self) -> Arc<RwLock<State>> {
        Arc::clone(&self.state)
    }

    /// The committed state. Only between blocks. Besides this object only a simulation writes, for
    /// microseconds, and takes back what it wrote before anybody can read it.
    fn committed(&self) -> RwLockReadGuard<'_, State> {
        assert!(self.open.is_none(), "a block is open");
        loop {
            match self.state.try_read() {
                Ok(state) => return state,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// Waits for readers, who hold the lock for microseconds.
    fn lock(&self) -> Result<OwnedRwLockWriteGuard<State>, AppError> {
        if let Ok(guard) = self.shared().try_write_owned() {
            return Ok(guard);
        }
        let runtime = Handle::try_current().map_err(|error| failed("wait for readers", error))?;
        Ok(runtime.block_on(self.shared().write_owned()))
    }

    fn run(
        &mut self,
        context: &BlockContext,
        txs: &[Arc<VerifiedTx>],
    ) -> Result<(BlockOutcome, ValidatorSet), AppError> {
        let mut state = self.lock()?;
        let outcome = state
            .execute_block(block_info(context), txs)
            .map_err(|error| failed("execute a block", error))?;
        let validators = validators(&state);
        self.open = Some(state);
        Ok((outcome, validators))
    }
}

impl Application for LedgerApp {
    type Tx = VerifiedTx;
    type Outcome = TxOutcome;

    fn verify(bytes: &[u8]) -> Result<VerifiedTx, Refusal> {
        verify(bytes, &Ed25519)
    }

    fn verify_many(txs: &[&[u8]]) -> Vec<Result<VerifiedTx, Refusal>> {
        if let [tx] = txs {
            return vec![Self::verify(tx)];
        }
        let batch = Batch::new();
        let verified = txs.iter().map(|tx| verify(tx, &batch)).collect();
        // One bad signature spoils the batch: then each is asked for by itself.
        if batch.is_valid() { verified } else { txs.iter().map(|tx| Self::verify(tx)).collect() }
    }

    fn tx_id(bytes: &[u8]) -> TxId {
        TxId::of_bytes(bytes)
    }

    fn check(&self, tx: &VerifiedTx) -> Result<u64, Refusal> {
        match self.committed().check(tx) {
            Ok(ledger::Readiness::Ready) => Ok(0),
            Ok(ledger::Readiness::Ahead { by }) => Ok(by),
            Err(error) => Err(refusal(&error)),
        }
    }

    fn check_queue(&self, queue: &[Arc<VerifiedTx>]) -> Result<(), (usize, Refusal)> {
        let checked = self.committed().check_queue(queue);
        checked.map_err(|(place, error)| (place, refusal(&error)))
    }

    fn propose(
        &mut self,
        context: &BlockContext,
        candidates: &[Arc<VerifiedTx>],
    ) -> Result<Proposal<TxOutcome>, AppError> {
        let (outcome, validators) = self.run(context, candidates)?;
        let skipped = outcome.results.iter().enumerate();
        let skipped = skipped.filter_map(|(place, result)| match &result.outcome {
            Outcome::Skipped { error } => Some((place, refusal(error))),
            Outcome::Applied { .. } | Outcome::Failed { .. } => None,
        });
        let skipped = skipped.collect();
        Ok(Proposal { executed: executed(context.height, outcome, validators)?, skipped })
    }

    fn execute(
        &mut self,
        context: &BlockContext,
        txs: &[Arc<VerifiedTx>],
    ) -> Result<Executed<TxOutcome>, AppError> {
        let (outcome, validators) = self.run(context, txs)?;
        let misplaced = outcome.results.iter().find_map(|result| match &result.outcome {
            Outcome::Skipped { error } => Some(failed("include a transaction", error.clone())),
            Outcome::Applied { .. } | Outcome::Failed { .. } => None,
        });
        match misplaced {
            Some(error) => {
                self.rollback();
                Err(error)
            }
            None => executed(context.height, outcome, validators),
        }
    }

    fn commit(&mut self) {
        if let Some(mut state) = self.open.take() {
            state.commit();
        }
    }

    fn rollback(&mut self) {
        if let Some(mut state) = self.open.take() {
            state.rollback();
        }
    }

    fn tip(&self) -> Tip {
        let state = self.committed();
        Tip { height: state.height(), time: state.time(), app_hash: state.app_hash() }
    }

    fn validators(&self) -> ValidatorSet {
        validators(&self.committed())
    }

    fn next_nonce(&self, account: &Address) -> Nonce {
        self.committed().account(account).nonce
    }

    fn next_due(&self) -> Option<TimeMs> {
        self.committed().next_due()
    }

    fn snapshot(&self) -> Result<Vec<u8>, AppError> {
        self.committed().snapshot().map_err(|error| failed("take a snapshot", error))
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AppError> {
        let restored = State::from_snapshot(snapshot, self.genesis_hash)
            .map_err(|error| failed("use a snapshot", error))?;
        *self.lock()? = restored;
        Ok(())
    }

    fn outcome(stored: &[u8], index: u32) -> Option<TxOutcome> {
        let record = Record::decode(stored).ok()?;
        record.results.into_iter().nth(usize::try_from(index).ok()?)
    }
}

fn verify(bytes: &[u8], check: &dyn VerifySignature) -> Result<VerifiedTx, Refusal> {
    let refusal = |code, message| Refusal { code, message };
    let tx = SignedTx::decode(bytes).map_err(|error| {
        let code = match error {
            DecodeError::TooLong { .. } => code::TOO_LONG,
            DecodeError::Malformed { .. } => code::TX_MALFORMED,
        };
        refusal(code, error.to_string())
    })?;
    tx.verify(check).map_err(|error| refusal(code::TX_SIGNATURE, error.to_string()))
}

fn block_info(context: &BlockContext) -> BlockInfo<'_> {
    BlockInfo { height: context.height, time: context.time, absent: &context.absent }
}

fn validators(state: &State) -> ValidatorSet {
    let seats = state.active_validators();
    ValidatorSet::new(seats.map(|(key, seat)| ValidatorPower { key: *key, power: seat.power }))
}

fn executed(
    height: Height,
    outcome: BlockOutcome,
    next_validators: ValidatorSet,
) -> Result<Executed<TxOutcome>, AppError> {
    let app_hash = outcome.app_hash;
    let record = Record::of(height, outcome);
    let stored = record.encode().map_err(|error| failed("write down a block", error))?;
    Ok(Executed { app_hash, next_validators, outcomes: record.results, stored })
}

fn refusal(error: &ledger::TxError) -> Refusal {
    Refusal { code: error.code(), message: error.to_string() }
}

fn failed(action: &'static str, error: impl std::error::Error + Send + Sync + 'static) -> AppError {
    AppError { action, source: error.into() }
}

#[cfg(test)]
mod tests;
