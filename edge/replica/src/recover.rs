//! From what is on the disk to a running application: the newest snapshot, then every block after
//! it, each checked as if a stranger had sent it.

use std::sync::Arc;

use store::{BlockStore, StoreError, StoredBlock};
use types::{ChainId, Hash32, Height, block::BlockHeader};

use crate::{
    AppError, Application, BlockContext, Executed, Refusal,
    chain::{self, BlockFault, Decided, Parent},
    verify::verify_all,
};

/// What recovering did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// What the next block refers to.
    pub parent: Parent,
    /// Height of the snapshot that was used; 0 for genesis.
    pub snapshot: Height,
    pub blocks_replayed: u64,
}

/// Why a stored chain cannot be brought back.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the stored chain cannot be read")]
    Store { source: StoreError },
    #[error("block {height} is missing from the store")]
    Missing { height: Height },
    #[error("the stored block {height} cannot be replayed")]
    Replay { height: Height, source: ReplayError },
}

/// Why a block cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("it does not follow the block before it")]
    Block { source: BlockFault },
    #[error("its transaction {index} is not valid")]
    Tx { index: usize, source: Refusal },
    #[error("the application does not execute it")]
    App { source: AppError },
    #[error("it leads to the state {found}, its header says {stated}")]
    AppHash { stated: Hash32, found: Hash32 },
    #[error("it leads to other validators than its header says")]
    NextValidators,
}

/// Brings `app`, which stands at genesis, to the newest block of `store`.
pub fn recover<A: Application>(app: &mut A, store: &BlockStore) -> Result<Recovered, RecoverError> {
    let chain_id = &store.genesis().chain_id;
    let tip = store.height().map_err(|source| RecoverError::Store { source })?;
    let mut parent = restore_snapshot(app, store)?;
    let snapshot = parent.height;
    while parent.height < tip {
        let height = parent.height.next();
        let block = stored(store, height)?;
        let (_, decided) = replay_block(app, chain_id, &parent, &block)
            .map_err(|source| RecoverError::Replay { height, source })?;
        parent = Parent::of_block(&block.header, decided);
    }
    Ok(Recovered { parent, snapshot, blocks_replayed: tip.0.saturating_sub(snapshot.0) })
}

fn stored(store: &BlockStore, height: Height) -> Result<StoredBlock, RecoverError> {
    let block = store.block(height).map_err(|source| RecoverError::Store { source })?;
    block.ok_or(RecoverError::Missing { height })
}

/// Uses the newest snapshot if it is what its block says; otherwise everything is replayed, if it is there.
fn restore_snapshot<A: Application>(
    app: &mut A,
    store: &BlockStore,
) -> Result<Parent, RecoverError> {
    let failed = |source| RecoverError::Store { source };
    let genesis = Parent::of_genesis(store.genesis());
    let snapshot = store.snapshot().map_err(failed)?;
    let Some((height, bytes)) = snapshot else { return Ok(genesis) };
    let parent = Parent::stored(store, height).map_err(failed)?;
    let parent = parent.ok_or(RecoverError::Missing { height })?;
    match app.restore(&bytes) {
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(%height, error = %error.source, "a snapshot is not used, all blocks are replayed");
            return Ok(genesis);
        }
    }
    let found = app.tip();
    let stated = parent.app_hash.unwrap_or_default();
    if found.height != height || found.app_hash != stated {
        let source = ReplayError::AppHash { stated, found: found.app_hash };
        return Err(RecoverError::Replay { height, source });
    }
    Ok(parent)
}

/// Checks a decided block completely, executes it and commits it. On an error `app` is as before.
pub fn replay_block<A: Application>(
    app: &mut A,
    chain_id: &ChainId,
    parent: &Parent,
    block: &StoredBlock,
) -> Result<(Executed<A::Outcome>, Decided), ReplayError> {
    let validators = app.validators();
    chain::verify_decided(chain_id, parent, block, &validators)
        .map_err(|source| ReplayError::Block { source })?;
    let txs =
        verify_all::<A>(&block.txs).map_err(|(index, source)| ReplayError::Tx { index, source })?;
    let txs: Vec<Arc<A::Tx>> = txs.into_iter().map(Arc::new).collect();
    let context = context(parent, &block.header, block.last_certificate.as_ref());
    let executed = execute(app, &context, &block.header, &txs)?;
    app.commit();
    Ok((executed, Decided { validators, certificate: block.certificate.clone() }))
}

/// What a block with this header is executed with.
pub(crate) fn context(
    parent: &Parent,
    header: &BlockHeader,
    last_certificate: Option<&types::consensus::Certificate>,
) -> BlockContext {
    BlockContext {
        height: header.height,
        time: header.time,
        proposer: header.proposer,
        absent: parent.absent(last_certificate),
    }
}

/// Executes a block and leaves it open if it leads where its header says.
pub(crate) fn execute<A: Application>(
    app: &mut A,
    context: &BlockContext,
    header: &BlockHeader,
    txs: &[Arc<A::Tx>],
) -> Result<Executed<A::Outcome>, ReplayError> {
    let executed = app.execute(context, txs).map_err(|source| ReplayError::App { source })?;
    let (stated, found) = (header.app_hash, executed.app_hash);
    if stated != found {
        app.rollback();
        return Err(ReplayError::AppHash { stated, found });
    }
    if header.next_validators != executed.next_validators.hash() {
        app.rollback();
        return Err(ReplayError::NextValidators);
    }
    Ok(executed)
}
