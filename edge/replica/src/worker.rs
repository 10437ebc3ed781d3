//! Makes, checks and keeps blocks: everything that touches the application and the store.

use std::{fmt, sync::Arc};

use replication::mempool::{self, Transaction};
use store::{Append, BlockStore, StoreError, StoredBlock};
use types::{
    ChainId, Hash32, Height, PublicKey, TimeMs, TxId,
    block::{Block, BlockHeader},
    consensus::{Certificate, ValidatorSet},
    limits,
};

use crate::{
    AppError, Application, BlockContext, Proposal, Refusal,
    chain::{self, BlockFault, Decided, Parent},
    recover::{self, ReplayError},
    verify::verify_all,
};

/// How far the time of a proposed block may be ahead of ours. Clocks of validators differ by less.
const DRIFT_MAX_MS: u64 = 5_000;

/// Blocks that are forgotten with each new one, so that the old ones become fewer.
const PRUNED_AT_ONCE: u64 = 4;

/// Why a replica cannot start or has stopped.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    #[error("block {height} could not be executed")]
    App { height: Height, source: AppError },
    #[error("block {height} was decided and cannot be executed here")]
    Decided { height: Height, source: ReplayError },
    #[error("block {height} was decided, and {block} is not here")]
    Unknown { height: Height, block: Hash32 },
    #[error(
        "block {height} could not be made durable; free space or repair the disk, then start again"
    )]
    Store { height: Height, source: StoreError },
    #[error(
        "no peer has a snapshot that follows from the trusted block {height}; check its digest and the peers, or \
         start without state sync"
    )]
    NoSnapshot { height: Height },
    #[error("the consensus engine cannot be started: {reason}")]
    Engine { reason: String },
    #[error("the consensus engine has stopped; the log says why")]
    EngineStopped,
    #[error("the log of the height in work cannot be opened")]
    Log { source: StoreError },
    #[error("the last-signed mark cannot be used")]
    Mark { source: crate::MarkError },
    #[error("the replica stopped unexpectedly; see its log")]
    Panicked,
}

/// Why a proposed block gets no vote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("it does not follow its parent")]
    Block(#[source] BlockFault),
    #[error("its time {given} ms is too far from ours, {now} ms")]
    Clock { given: TimeMs, now: TimeMs },
    #[error("it has {txs} transactions of {bytes} bytes, more than a block may")]
    TooLarge { txs: usize, bytes: usize },
    #[error("its transaction {index} is not valid: {}", source.message)]
    Tx { index: usize, source: Refusal },
    #[error("it cannot be executed")]
    Replay(#[source] ReplayError),
}

/// A block that was executed once and found right.
pub(crate) struct Candidate<A: Application> {
    pub(crate) block: Block,
    pub(crate) hash: Hash32,
    pub(crate) txs: Vec<Arc<A::Tx>>,
}

impl<A: Application> Candidate<A> {
    pub(crate) fn tx_ids(&self) -> Vec<TxId> {
        self.txs.iter().map(|tx| tx.id()).collect()
    }
}

impl<A: Application> fmt::Debug for Candidate<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate").field("header", &self.block.header).finish_non_exhaustive()
    }
}

/// A block of our own, and what was left out of it.
pub(crate) struct Built<A: Application> {
    pub(crate) candidate: Candidate<A>,
    pub(crate) skipped: Vec<(Arc<A::Tx>, Refusal)>,
}

/// The application, the store, and where the chain stands.
pub(crate) struct Worker<A: Application> {
    pub(crate) app: A,
    pub(crate) chain_id: ChainId,
    pub(crate) store: Arc<BlockStore>,
    pub(crate) parent: Parent,
    /// Blocks between two snapshots of the state.
    pub(crate) snapshot_interval: u64,
    /// Blocks that are kept; `None`: all.
    pub(crate) blocks_kept: Option<u64>,
}

impl<A: Application> Worker<A> {
    /// The height that is being decided.
    pub(crate) fn height(&self) -> Height {
        self.parent.height.next()
    }

    pub(crate) fn validators(&self) -> ValidatorSet {
        self.app.validators()
    }

    fn app_failed(&self) -> impl FnOnce(AppError) -> ReplicaError {
        let height = self.height();
        move |source| ReplicaError::App { height, source }
    }

    /// Makes a block out of what waits.
    pub(crate) fn build(
        &mut self,
        now: TimeMs,
        proposer: PublicKey,
        candidates: Vec<mempool::Candidate<A::Tx>>,
    ) -> Result<Built<A>, ReplicaError> {
        let last_certificate = self.parent.decided.as_ref().map(|of| of.certificate.clone());
        let context = BlockContext {
            height: self.height(),
            time: now.max(self.parent.time),
            proposer,
            absent: self.parent.absent(last_certificate.as_ref()),
        };
        let validators = self.validators().hash();
        let (txs, bytes): (Vec<_>, Vec<_>) =
            candidates.into_iter().map(|it| (it.tx, it.bytes)).unzip();
        let proposal = self.app.propose(&context, &txs).map_err(self.app_failed())?;
        self.app.rollback();
        let Proposal { executed, skipped } = proposal;
        let mut left_out = skipped.into_iter().peekable();
        let (mut included, mut included_bytes, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (place, (tx, bytes)) in txs.into_iter().zip(bytes).enumerate() {
            match left_out.next_if(|(left_out, _)| *left_out == place) {
                Some((_, refusal)) => skipped.push((tx, refusal)),
                None => {
                    included.push(tx);
                    included_bytes.push(bytes.to_vec());
                }
            }
        }
        let header = BlockHeader {
            height: context.height,
            time: context.time,
            parent: self.parent.hash,
            txs_root: Block::txs_root(&included_bytes),
            last_certificate: Block::certificate_hash(last_certificate.as_ref()),
            validators,
            next_validators: executed.next_validators.hash(),
            app_hash: executed.app_hash,
            proposer,
        };
        let hash = header.hash();
        let block = Block { header, txs: included_bytes, last_certificate };
        Ok(Built { candidate: Candidate { block, hash, txs: included }, skipped })
    }

    /// Checks a block of the height that is being decided and executes it once. `known` gives
    /// transactions whose signatures were checked already. `now`: a synced block is decided, its
    /// time is no longer a question.
    pub(crate) fn validate(
        &mut self,
        block: Block,
        now: Option<TimeMs>,
        known: impl Fn(&TxId) -> Option<Arc<A::Tx>>,
    ) -> Result<Candidate<A>, Invalid> {
        let header = &block.header;
        let bytes = block.txs.iter().map(Vec::len).sum();
        let txs = block.txs.len();
        if txs > limits::BLOCK_TXS_MAX || bytes > limits::BLOCK_BYTES_MAX {
            return Err(Invalid::TooLarge { txs, bytes });
        }
        let parts = (header, block.txs.as_slice(), block.last_certificate.as_ref());
        chain::verify_proposed(&self.chain_id, &self.parent, parts, &self.validators())
            .map_err(Invalid::Block)?;
        if let Some(now) = now.filter(|now| header.time > now.plus_ms(DRIFT_MAX_MS)) {
            return Err(Invalid::Clock { given: header.time, now });
        }
        let txs = self.verified(&block.txs, known)?;
        let context = recover::context(&self.parent, header, block.last_certificate.as_ref());
        recover::execute(&mut self.app, &context, header, &txs).map_err(Invalid::Replay)?;
        self.app.rollback();
        let hash = header.hash();
        Ok(Candidate { block, hash, txs })
    }

    fn verified(
        &self,
        txs: &[Vec<u8>],
        known: impl Fn(&TxId) -> Option<Arc<A::Tx>>,
    ) -> Result<Vec<Arc<A::Tx>>, Invalid> {
        let found: Vec<_> = txs.iter().map(|bytes| known(&A::tx_id(bytes))).collect();
        let missing: Vec<usize> =
            (0..).zip(&found).filter(|(_, tx)| tx.is_none()).map(|(place, _)| place).collect();
        let unknown: Vec<Vec<u8>> =
            missing.iter().filter_map(|place| txs.get(*place)).cloned().collect();
        let verified = verify_all::<A>(&unknown).map_err(|(index, source)| Invalid::Tx {
            index: missing.get(index).copied().unwrap_or(index),
            source,
        })?;
        let mut verified = verified.into_iter().map(Arc::new);
        Ok(found.into_iter().filter_map(|tx| tx.or_else(|| verified.next())).collect())
    }

    /// Executes a decided block again, makes it durable, commits it.
    pub(crate) fn decide(
        &mut self,
        candidate: &Candidate<A>,
        certificate: Certificate,
    ) -> Result<Vec<A::Outcome>, ReplicaError> {
        let Block { header, txs, last_certificate } = &candidate.block;
        let height = header.height;
        let snapshot = self.snapshot().map_err(self.app_failed())?;
        let validators = self.validators();
        let context = recover::context(&self.parent, header, last_certificate.as_ref());
        let executed = recover::execute(&mut self.app, &context, header, &candidate.txs)
            .map_err(|source| ReplicaError::Decided { height, source })?;
        let block = StoredBlock {
            header: header.clone(),
            txs: txs.clone(),
            last_certificate: last_certificate.clone(),
            certificate: certificate.clone(),
            outcomes: executed.stored,
        };
        let snapshot = snapshot.as_ref().map(|(height, bytes)| (*height, bytes.as_slice()));
        let tx_ids = candidate.tx_ids();
        let append = Append { block: &block, validators: &validators, tx_ids: &tx_ids, snapshot };
        if let Err(source) = self.store.append(append) {
            self.app.rollback();
            return Err(ReplicaError::Store { height, source });
        }
        self.app.commit();
        self.parent = Parent::of_block(header, Decided { validators, certificate });
        tracing::debug!(%height, txs = txs.len(), "block");
        self.prune();
        Ok(executed.outcomes)
    }

    /// The state before this block, if it is time to keep one.
    fn snapshot(&self) -> Result<Option<(Height, Vec<u8>)>, AppError> {
        let height = self.parent.height;
        if height.0 == 0 || !height.0.is_multiple_of(self.snapshot_interval) {
            return Ok(None);
        }
        Ok(Some((height, self.app.snapshot()?)))
    }

    /// Forgets old blocks, but never those after the snapshot that a restart begins with. A few with each
    /// block: a long chain of which fewer are to be kept from now on must not hold up the next block.
    fn prune(&self) {
        let Some(kept) = self.blocks_kept else { return };
        let tip = self.parent.height.0;
        let below = tip.saturating_sub(kept.max(2 * self.snapshot_interval));
        let ids = |block: &StoredBlock| block.txs.iter().map(|tx| A::tx_id(tx)).collect();
        if let Err(error) = self.store.prune(Height(below), PRUNED_AT_ONCE, ids) {
            tracing::warn!(%error, "old blocks are not forgotten");
        }
    }
}
