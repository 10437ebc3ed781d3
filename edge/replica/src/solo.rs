//! The engine of one validator: it alone puts transactions into blocks.
//!
//! One task owns everything. While a block is executed and made durable on a thread of its own,
//! submissions gather in a bounded queue and form the next block together; nobody waits for a
//! timer. After a failed write it is not known what is on the disk, so the task stops, and the next
//! start finds out.

use std::{fmt, num::NonZero, sync::Arc, time::Duration};

use store::{Append, BlockStore, StoreError, StoredBlock};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use types::{
    ChainId, Height, PublicKey, TimeMs, TxId,
    block::{Block, BlockHeader, Commit},
    limits,
    sign::{Sign, Signed},
};

use crate::{
    AppError, Application, BlockContext, Clock, Included, Proposal, Recovered, Refusal, Replica,
    Status, SubmitError, Transaction,
    chain::{self, Parent},
    handle::{Submission, Waiter},
    mempool::{Entry, Full, Mempool, MempoolLimits},
};

/// Submissions that arrive while a block is made.
const SUBMISSIONS_MAX: usize = 1_024;
/// Longest sleep. The machine's clock may be set, or stand still while it is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How a solo sequencer behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoloConfig {
    pub mempool: MempoolLimits,
    pub block_txs_max: usize,
    pub block_bytes_max: usize,
    /// Blocks between two snapshots of the state: how much a restart replays at most.
    pub snapshot_interval: u64,
    /// Makes a block after this long without one. `None`: only when there is something to do.
    pub heartbeat: Option<Duration>,
}

impl SoloConfig {
    /// No heartbeat. A block holds a quarter of what the ledger allows, so that it stays well below
    /// what a client of the chain API reads in one answer.
    pub const STANDARD: SoloConfig = SoloConfig {
        mempool: MempoolLimits::STANDARD,
        block_txs_max: limits::BLOCK_TXS_MAX,
        block_bytes_max: limits::BLOCK_BYTES_MAX / 4,
        snapshot_interval: 500,
        heartbeat: None,
    };
}

/// Why a replica cannot start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("key {key} alone does not decide: it has {power} of {total} voting power")]
    NotSole { key: PublicKey, power: u64, total: u64 },
    #[error("a block of height {height} was signed before; this one is not signed")]
    SignedBefore { height: Height },
    #[error("block {height} could not be executed")]
    App { height: Height, source: AppError },
    #[error(
        "block {height} could not be made durable; free space or repair the disk, then start again"
    )]
    Store { height: Height, source: StoreError },
    #[error("making a block stopped unexpectedly")]
    Panicked,
}

/// The running task. Dropping it stops the task where it stands, as a kill does.
#[derive(Debug)]
pub struct SoloTask {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ReplicaError>>,
}

impl SoloTask {
    /// Puts what waits into blocks and stops.
    pub async fn shutdown(mut self) -> Result<(), ReplicaError> {
        drop(self.stop.take());
        self.stopped().await
    }

    /// Waits until the task has stopped by itself, which only a failure makes it do.
    pub async fn stopped(&mut self) -> Result<(), ReplicaError> {
        (&mut self.task).await.unwrap_or(Err(ReplicaError::Panicked))
    }
}

impl Drop for SoloTask {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a sequencer is made of.
pub struct Solo<A: Application> {
    /// Recovered from `store`.
    pub app: A,
    pub recovered: Recovered,
    pub store: Arc<BlockStore>,
    /// Signs blocks; must decide alone.
    pub key: Arc<dyn Sign>,
    pub clock: Arc<dyn Clock>,
    pub config: SoloConfig,
}

impl<A: Application> fmt::Debug for Solo<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Solo").field("recovered", &self.recovered).finish_non_exhaustive()
    }
}

/// Starts sequencing.
pub fn start<A: Application>(solo: Solo<A>) -> Result<(Replica<A>, SoloTask), ReplicaError> {
    let Solo { app, recovered, store, key, clock, config } = solo;
    let height = recovered.parent.height.next();
    check_sole(&app, height, key.public_key())?;
    let signed = store.last_signed().map_err(|source| ReplicaError::Store { height, source })?;
    let status = watch::Sender::new(Status {
        tip: app.tip(),
        block: recovered.parent.hash,
        mempool_txs: 0,
        halted: false,
    });
    let (submissions, arriving) = mpsc::channel(SUBMISSIONS_MAX);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let replica = Replica {
        submissions,
        status: status.subscribe(),
        store: Arc::clone(&store),
        verifiers: Arc::new(Semaphore::new(cores)),
    };
    let worker = Worker {
        app,
        chain_id: store.genesis().chain_id.clone(),
        store,
        key,
        parent: recovered.parent,
        signed: signed.map_or(Height(0), |commit| commit.height),
        snapshot_interval: config.snapshot_interval.max(1),
    };
    let (stop, stopping) = oneshot::channel();
    let mempool = Mempool::new(config.mempool);
    let sequencer = Sequencer { worker, mempool, arriving, status, clock, config };
    let task = tokio::spawn(sequencer.run(stopping));
    Ok((replica, SoloTask { stop: Some(stop), task }))
}

fn check_sole<A: Application>(app: &A, height: Height, key: PublicKey) -> Result<(), ReplicaError> {
    let (mut power, mut total) = (0u64, 0u64);
    for validator in app.validators(height) {
        total = total.saturating_add(validator.power);
        if validator.key == key {
            power = validator.power;
        }
    }
    if chain::is_quorum(power, total) {
        Ok(())
    } else {
        Err(ReplicaError::NotSole { key, power, total })
    }
}

/// The task's state.
struct Sequencer<A: Application> {
    worker: Worker<A>,
    mempool: Mempool<A::Tx, Waiter<A>>,
    arriving: mpsc::Receiver<Submission<A>>,
    status: watch::Sender<Status>,
    clock: Arc<dyn Clock>,
    config: SoloConfig,
}

impl<A: Application> Sequencer<A> {
    async fn run(self, stopping: oneshot::Receiver<()>) -> Result<(), ReplicaError> {
        let status = self.status.clone();
        let result = self.sequence(stopping).await;
        status.send_modify(|status| status.halted = true);
        if let Err(error) = &result {
            let error: &(dyn std::error::Error + 'static) = error;
            tracing::error!(error, "the sequencer has stopped");
        }
        result
    }

    async fn sequence(mut self, mut stopping: oneshot::Receiver<()>) -> Result<(), ReplicaError> {
        let mut closing = false;
        loop {
            // The other end says nothing; that it is gone is the sign.
            if !closing && stopping.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
                closing = true;
                self.arriving.close();
            }
            self.admit_arrived();
            if closing && self.mempool.is_empty() {
                return Ok(());
            }
            if self.is_due() {
                self = self.make_block().await?;
                continue;
            }
            self.show();
            let sleep = self.sleep();
            tokio::select! {
                _ = &mut stopping => {}
                Some(submission) = self.arriving.recv() => self.admit(submission),
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Takes what has arrived, but no more than was there: whoever submits faster than this does
    /// not keep blocks from being made.
    fn admit_arrived(&mut self) {
        for _ in 0..SUBMISSIONS_MAX {
            match self.arriving.try_recv() {
                Ok(submission) => self.admit(submission),
                Err(_) => return,
            }
        }
    }

    /// Answers a submission at once, or lets it wait for a block.
    fn admit(&mut self, submission: Submission<A>) {
        let Submission { tx, bytes, waiter } = submission;
        // Whoever submitted may have gone: then nobody reads the answer.
        let refuse = |waiter: Waiter<A>, error| drop(waiter.send(Err(error)));
        if self.mempool.contains(&tx.id()) {
            if let Err(waiter) = self.mempool.join(&tx.id(), waiter) {
                refuse(waiter, SubmitError::NotTaken { reason: Full::Waiters });
            }
            return;
        }
        let ahead = match self.worker.app.check(&tx) {
            Ok(ahead) => ahead,
            Err(source) => return refuse(waiter, SubmitError::Refused { source }),
        };
        match self.mempool.room(&tx, bytes.len(), ahead) {
            Ok(()) => self.mempool.push(Entry { tx, bytes, waiters: vec![waiter] }),
            Err(reason) => refuse(waiter, SubmitError::NotTaken { reason }),
        }
    }

    fn is_due(&self) -> bool {
        !self.mempool.is_empty() || self.wake_at().is_some_and(|at| at <= self.clock.now())
    }

    /// When a block is made even if nobody submits anything.
    fn wake_at(&self) -> Option<TimeMs> {
        let heartbeat = self.config.heartbeat.map(|after| {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
            self.worker.parent.time.plus_ms(after_ms)
        });
        [heartbeat, self.worker.app.next_due()].into_iter().flatten().min()
    }

    fn sleep(&self) -> Duration {
        let now = self.clock.now();
        let until = self.wake_at().map(|at| Duration::from_millis(at.ms_since(now)));
        until.unwrap_or(SLEEP_MAX).min(SLEEP_MAX)
    }

    async fn make_block(mut self) -> Result<Sequencer<A>, ReplicaError> {
        let now = self.clock.now();
        let timed = self.wake_at().is_some_and(|at| at <= now);
        let entries = self.mempool.take(self.config.block_txs_max, self.config.block_bytes_max);
        let Sequencer { mut worker, mempool, arriving, status, clock, config } = self;
        let made = tokio::task::spawn_blocking(move || {
            let made = worker.make_block(now, entries, timed);
            (worker, made)
        });
        let (worker, made) = made.await.map_err(|_| ReplicaError::Panicked)?;
        let made = made?;
        let sequencer = Sequencer { worker, mempool, arriving, status, clock, config };
        // The status first: whoever is answered may ask for it.
        sequencer.show();
        made.answers.into_iter().for_each(Answer::give);
        Ok(sequencer)
    }

    fn show(&self) {
        let status = Status {
            tip: self.worker.app.tip(),
            block: self.worker.parent.hash,
            mempool_txs: self.mempool.len() as u64,
            halted: false,
        };
        self.status.send_if_modified(|shown| {
            let modified = *shown != status;
            *shown = status;
            modified
        });
    }
}

/// What is sent to the waiters of one transaction once its block is durable.
struct Answer<A: Application> {
    waiters: Vec<Waiter<A>>,
    answer: Result<Included<A::Outcome>, Refusal>,
}

impl<A: Application> Answer<A> {
    fn give(self) {
        for waiter in self.waiters {
            let answer = self.answer.clone();
            // Whoever submitted may have gone.
            let _ = waiter.send(answer.map_err(|source| SubmitError::Refused { source }));
        }
    }
}

/// What became of the transactions that were taken for a block.
struct Made<A: Application> {
    answers: Vec<Answer<A>>,
}

/// What makes blocks, on a thread that may wait for the disk.
struct Worker<A: Application> {
    app: A,
    chain_id: ChainId,
    store: Arc<BlockStore>,
    key: Arc<dyn Sign>,
    parent: Parent,
    /// Nothing is signed at or below this height.
    signed: Height,
    snapshot_interval: u64,
}

impl<A: Application> Worker<A> {
    /// Executes, signs, makes durable, commits. Without transactions that have a place there is a
    /// block only if it is `timed`. After an error nothing more may be made.
    fn make_block(
        &mut self,
        now: TimeMs,
        entries: Vec<Entry<A::Tx, Waiter<A>>>,
        timed: bool,
    ) -> Result<Made<A>, ReplicaError> {
        let height = self.parent.height.next();
        let failed = |source| ReplicaError::App { height, source };
        let snapshot = self.snapshot().map_err(failed)?;
        let context = BlockContext {
            height,
            time: now.max(self.parent.time),
            proposer: self.key.public_key(),
            absent: Vec::new(),
        };
        let Candidates::<A> { txs, bytes, waiters } = Candidates::of(entries);
        let Proposal { executed, skipped } = self.app.propose(&context, &txs).map_err(failed)?;
        if skipped.len() == txs.len() && !timed {
            self.app.rollback();
            return Ok(Made { answers: answers(height, waiters, skipped, Vec::new()) });
        }
        let mut left_out = skipped.iter().map(|(place, _)| *place).peekable();
        let (mut tx_ids, mut included) = (Vec::new(), Vec::new());
        for (place, (tx, bytes)) in txs.iter().zip(bytes).enumerate() {
            if left_out.next_if_eq(&place).is_none() {
                tx_ids.push(tx.id());
                included.push(bytes);
            }
        }
        let block = match self.sign(&context, included, executed.app_hash, executed.stored) {
            Ok(block) => block,
            Err(error) => {
                self.app.rollback();
                return Err(error);
            }
        };
        self.keep(&block, &tx_ids, snapshot)?;
        Ok(Made { answers: answers(height, waiters, skipped, executed.outcomes) })
    }

    /// The state before this block, if it is time to keep one.
    fn snapshot(&self) -> Result<Option<(Height, Vec<u8>)>, AppError> {
        let height = self.parent.height;
        if height.0 == 0 || !height.0.is_multiple_of(self.snapshot_interval) {
            return Ok(None);
        }
        Ok(Some((height, self.app.snapshot()?)))
    }

    fn sign(
        &mut self,
        context: &BlockContext,
        txs: Vec<Vec<u8>>,
        app_hash: types::Hash32,
        outcomes: Vec<u8>,
    ) -> Result<StoredBlock, ReplicaError> {
        let height = context.height;
        if height <= self.signed {
            return Err(ReplicaError::SignedBefore { height });
        }
        let header = BlockHeader {
            height,
            time: context.time,
            parent: self.parent.hash,
            txs_root: Block::txs_root(&txs),
            app_hash,
            proposer: context.proposer,
        };
        let commit = Commit { height, block: header.hash() };
        self.signed = height;
        let certificate = Signed::new(commit, &self.chain_id, &*self.key);
        Ok(StoredBlock { header, txs, certificate, outcomes })
    }

    /// Makes the open block durable, then commits it. The mark of what was signed is in the same
    /// durable transaction, and the signature leaves this function only after it.
    fn keep(
        &mut self,
        block: &StoredBlock,
        tx_ids: &[TxId],
        snapshot: Option<(Height, Vec<u8>)>,
    ) -> Result<(), ReplicaError> {
        let snapshot = snapshot.as_ref().map(|(height, bytes)| (*height, bytes.as_slice()));
        if let Err(source) = self.store.append(Append { block, tx_ids, snapshot }) {
            self.app.rollback();
            return Err(ReplicaError::Store { height: block.header.height, source });
        }
        self.app.commit();
        self.parent = Parent::of_header(&block.header);
        tracing::debug!(height = %block.header.height, txs = block.txs.len(), "block");
        Ok(())
    }
}

/// Entries of the mempool, taken apart.
struct Candidates<A: Application> {
    txs: Vec<A::Tx>,
    bytes: Vec<Vec<u8>>,
    waiters: Vec<Vec<Waiter<A>>>,
}

impl<A: Application> Candidates<A> {
    fn of(entries: Vec<Entry<A::Tx, Waiter<A>>>) -> Candidates<A> {
        let mut candidates = Candidates { txs: Vec::new(), bytes: Vec::new(), waiters: Vec::new() };
        for Entry { tx, bytes, waiters } in entries {
            candidates.txs.push(tx);
            candidates.bytes.push(bytes);
            candidates.waiters.push(waiters);
        }
        candidates
    }
}

/// Pairs every candidate's waiters with its outcome, or with why it was left out.
fn answers<A: Application>(
    height: Height,
    waiters: Vec<Vec<Waiter<A>>>,
    skipped: Vec<(usize, Refusal)>,
    outcomes: Vec<A::Outcome>,
) -> Vec<Answer<A>> {
    let mut skipped = skipped.into_iter().peekable();
    let mut outcomes = (0u32..).zip(outcomes);
    let mut answers = Vec::with_capacity(waiters.len());
    for (place, waiters) in waiters.into_iter().enumerate() {
        let answer = match skipped.next_if(|(skipped, _)| *skipped == place) {
            Some((_, refusal)) => Err(refusal),
            None => match outcomes.next() {
                Some((index, outcome)) => Ok(Included { height, index, outcome }),
                // The application gave fewer outcomes than it included; who asks is told nothing
                // false, and the waiters see that their answer is gone.
                None => continue,
            },
        };
        answers.push(Answer { waiters, answer });
    }
    answers
}
