//! The seam between order and meaning, shaped like ABCI 2.0: check, propose, execute, commit.

use std::sync::Arc;

use replication::mempool::Transaction;
use types::{Address, Hash32, Height, Nonce, PublicKey, TimeMs, TxId, consensus::ValidatorSet};

/// What the replica orders. Calls come from one thread at a time, in this order per block:
/// `propose` or `execute`, then `commit` or `rollback`. A block is executed when it is proposed, taken
/// back, and executed again when it is decided.
pub trait Application: Send + 'static {
    /// A transaction whose stateless checks passed, signatures included.
    type Tx: Transaction;
    /// What became of a transaction, for whoever submitted it.
    type Outcome: Clone + Send + 'static;

    /// The stateless phase. Called from many threads at once, before a transaction is queued.
    fn verify(bytes: &[u8]) -> Result<Self::Tx, Refusal>;

    /// The stateless phase of several, which may cost less together.
    fn verify_many(txs: &[&[u8]]) -> Vec<Result<Self::Tx, Refusal>> {
        txs.iter().map(|tx| Self::verify(tx)).collect()
    }

    /// The id that [`Application::verify`] would give to these bytes, if they are a transaction.
    fn tx_id(bytes: &[u8]) -> TxId;

    /// Whether a transaction may wait for a block, judged by the state after the last one, and how
    /// many transactions of its sender come before it.
    fn check(&self, tx: &Self::Tx) -> Result<u64, Refusal>;

    /// Whether a sender can pay for its next transactions, which are these in order, by the state
    /// after the last block. Otherwise the place of the first that it cannot pay for, and why.
    fn check_queue(&self, queue: &[Arc<Self::Tx>]) -> Result<(), (usize, Refusal)>;

    /// Executes candidates in order, leaving out those that have no place in the block, and leaves
    /// the block open.
    fn propose(
        &mut self,
        context: &BlockContext,
        candidates: &[Arc<Self::Tx>],
    ) -> Result<Proposal<Self::Outcome>, AppError>;

    /// Executes a block that was proposed, here or elsewhere, and leaves it open. A transaction
    /// without a place in it is an error.
    fn execute(
        &mut self,
        context: &BlockContext,
        txs: &[Arc<Self::Tx>],
    ) -> Result<Executed<Self::Outcome>, AppError>;

    /// Keeps the open block.
    fn commit(&mut self);

    /// Takes the open block back.
    fn rollback(&mut self);

    /// The last committed block; height 0 stands for genesis.
    fn tip(&self) -> Tip;

    /// Who decides the block after the tip.
    fn validators(&self) -> ValidatorSet;

    /// How many transactions an account has made, by the committed state.
    fn next_nonce(&self, account: &Address) -> Nonce;

    /// When a block is needed even if nobody submits anything.
    fn next_due(&self) -> Option<TimeMs>;

    /// The committed state as bytes.
    fn snapshot(&self) -> Result<Vec<u8>, AppError>;

    /// Becomes the state that [`Application::snapshot`] wrote. On an error nothing has changed.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), AppError>;

    /// One outcome out of [`Executed::outcomes`] as it was stored.
    fn outcome(stored: &[u8], index: u32) -> Option<Self::Outcome>;
}

/// What a block is executed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockContext {
    pub height: Height,
    /// Never earlier than the parent's.
    pub time: TimeMs,
    pub proposer: PublicKey,
    /// Validators whose signature is missing in the certificate of the block before that this block
    /// carries. Evidence of double signing comes as a transaction.
    pub absent: Vec<PublicKey>,
}

/// A block that was executed and is still open.
#[derive(Clone, Debug)]
pub struct Executed<Outcome> {
    pub app_hash: Hash32,
    /// Who decides the next block.
    pub next_validators: ValidatorSet,
    /// One per transaction of the block.
    pub outcomes: Vec<Outcome>,
    /// The outcomes and whatever else the application wants to keep with the block.
    pub stored: Vec<u8>,
}

/// An open block and what was left out of it.
#[derive(Clone, Debug)]
pub struct Proposal<Outcome> {
    pub executed: Executed<Outcome>,
    /// Places of the candidates without a place in the block, ascending, and why.
    pub skipped: Vec<(usize, Refusal)>,
}

/// Where an application stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tip {
    pub height: Height,
    pub time: TimeMs,
    pub app_hash: Hash32,
}

/// Why a transaction is not taken. Its sender's fault: no reason to stop.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable, for programs.
    pub code: &'static str,
    pub message: String,
}

/// Why an application cannot go on. Nothing that a sender does leads here.
#[derive(Debug, thiserror::Error)]
#[error("the application cannot {action}")]
pub struct AppError {
    pub action: &'static str,
    pub source: Box<dyn std::error::Error + Send + Sync>,
}
