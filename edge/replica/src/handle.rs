//! What others hold of a replica: submit, and see where it stands.

use std::{fmt, sync::Arc, time::Duration};

use store::{BlockStore, StoreError};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use types::{Hash32, Height, PublicKey, TxId};

use replication::mempool::Full;

use crate::{Application, Refusal, Tip};

/// A handle to a running replica. Cheap to clone.
pub struct Replica<A: Application> {
    pub(crate) submissions: mpsc::Sender<Unverified<A>>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) store: Arc<BlockStore>,
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) punished: mpsc::Sender<Punished>,
}

/// Outcomes that are read from the disk at once.
pub(crate) const READS_MAX: usize = 64;

/// A transaction that was submitted, before anybody looked into it.
pub(crate) struct Unverified<A: Application> {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) waiter: Waiter<A>,
}

/// A transaction on its way to the mempool.
pub(crate) struct Submission<A: Application> {
    pub(crate) tx: Arc<A::Tx>,
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) waiter: Waiter<A>,
}

/// A double signing that needs no report any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Punished {
    pub(crate) signer: PublicKey,
    pub(crate) height: Height,
}

/// What a replica's thread is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    Run,
    /// Put what waits into blocks, if that depends on nobody else, and stop.
    Drain,
    /// Stop where it stands.
    Kill,
}

/// Where the answer goes. Nobody may be listening any more.
pub(crate) type Waiter<A> =
    oneshot::Sender<Result<Included<<A as Application>::Outcome>, SubmitError>>;

/// A transaction in a durable block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Included<Outcome> {
    pub height: Height,
    /// Place in the block.
    pub index: u32,
    pub outcome: Outcome,
}

/// Where a replica stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    pub tip: Tip,
    /// Digest of the newest block's header, of the genesis document before the first.
    pub block: Hash32,
    pub mempool_txs: u64,
    /// The round that consensus is in.
    pub round: u32,
    /// Nodes that are connected for the exchange of transactions.
    pub peers: u64,
    /// Blocks decided since the start, and of these, those that came by catching up.
    pub decided: u64,
    pub caught_up: u64,
    /// From the beginning of a height to the durable block: of all that were decided here, together.
    pub decision_time: Duration,
    /// It has stopped; see whoever owns its task for the reason.
    pub halted: bool,
}

/// Why a transaction is not in a block.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("the transaction is not valid: {}", source.message)]
    Malformed { source: Refusal },
    #[error("{}", source.message)]
    Refused { source: Refusal },
    #[error("{}", not_taken(reason))]
    NotTaken { reason: Full },
    #[error(
        "the validator is stopping; whether the transaction will be in a block shows when it runs again"
    )]
    Halted,
    #[error("what became of the transaction cannot be read")]
    Store { source: StoreError },
}

fn not_taken(reason: &Full) -> String {
    match reason {
        Full::Pool => {
            "too many transactions are waiting for a block; try again in a second, or with a tip".into()
        }
        Full::Sender => "too many transactions of this account are waiting; wait for them".into(),
        Full::Waiters => {
            "too many are waiting for this very transaction; look it up by its id".into()
        }
        Full::Gap => {
            "transactions of this account with smaller nonces are missing; send them first".into()
        }
        Full::NonceTaken { tip_min } => format!(
            "another transaction of this account with the same nonce is waiting; wait for it, or replace it \
             with a tip of at least {} uwatt", tip_min.0
        ),
        Full::OutOfTurn => {
            "another transaction of this account stands in its place now; sign it again with the next nonce"
                .into()
        }
        Full::Replaced => {
            "another transaction of this account took the nonce; sign it again with the next one".into()
        }
        Full::Evicted => {
            "it had to make room for transactions with a higher tip; try again later, or with a tip".into()
        }
        Full::Expired => "it waited for too long; look why, then sign it again".into(),
    }
}

impl<A: Application> Replica<A> {
    /// Checks a transaction, queues it and waits until it is in a durable block. Dropping the
    /// future does not take it back. Submitting the same bytes again is harmless: the answer is
    /// what became of them.
    pub async fn submit(&self, bytes: Vec<u8>) -> Result<Included<A::Outcome>, SubmitError> {
        let id = A::tx_id(&bytes);
        let (waiter, answer) = oneshot::channel();
        match self.submissions.try_send(Unverified { bytes: bytes.into(), waiter }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                return Err(SubmitError::NotTaken { reason: Full::Pool });
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(SubmitError::Halted),
        }
        match answer.await {
            Err(_) => Err(SubmitError::Halted),
            Ok(Err(SubmitError::Refused { source })) => match self.outcome(id).await? {
                Some(included) => Ok(included),
                None => Err(SubmitError::Refused { source }),
            },
            Ok(answer) => answer,
        }
    }

    /// What became of a transaction, if it is in a block.
    pub async fn outcome(&self, id: TxId) -> Result<Option<Included<A::Outcome>>, SubmitError> {
        let store = Arc::clone(&self.store);
        let reads = Arc::clone(&self.reads);
        let permit = reads.acquire_owned().await.map_err(|_| SubmitError::Halted)?;
        let read = tokio::task::spawn_blocking(move || {
            // Until the work ends, whether or not anybody still waits for it.
            let _permit = permit;
            let Some(place) = store.tx_place(id)? else { return Ok(None) };
            let block = store.block(place.height)?;
            Ok(block.and_then(|block| {
                let outcome = A::outcome(&block.outcomes, place.index)?;
                Some(Included { height: place.height, index: place.index, outcome })
            }))
        });
        let read = read.await.map_err(|_| SubmitError::Halted)?;
        read.map_err(|source| SubmitError::Store { source })
    }

    /// Tells that what `signer` did at `height` needs no report any more. Until then it is reported
    /// again and again.
    pub async fn punished(&self, signer: PublicKey, height: Height) {
        // A replica that has stopped reports nothing.
        let _ = self.punished.send(Punished { signer, height }).await;
    }

    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Follows [`Replica::status`].
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl<A: Application> Clone for Replica<A> {
    fn clone(&self) -> Replica<A> {
        Replica {
            submissions: self.submissions.clone(),
            punished: self.punished.clone(),
            status: self.status.clone(),
            store: Arc::clone(&self.store),
            reads: Arc::clone(&self.reads),
        }
    }
}

impl<A: Application> fmt::Debug for Replica<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}
