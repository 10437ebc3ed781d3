//! What a validator says on the ledger by itself, in the name of its operator.

use std::sync::Arc;

use keys::SecretKey;
use ledger::State;
use replica::Replica;
use tokio::sync::RwLock;
use types::{
    Address, Watt,
    sign::Signed,
    tx::{Action, SignedTx, Tx},
};

use crate::ledger_app::LedgerApp;

/// Bytes of the largest transaction that is made here, which the fee follows.
const TX_BYTES: usize = 640;

/// The operator's account and the way to the ledger.
#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) key: Arc<SecretKey>,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) replica: Replica<LedgerApp>,
}

impl Operator {
    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    /// Submits a transaction and waits until it is in a block.
    pub(crate) async fn send(&self, action: Action) -> Result<(), SendError> {
        let tx = {
            let state = self.state.read().await;
            Tx {
                chain_id: state.chain_id().clone(),
                nonce: state.account(&self.address()).nonce,
                fee_max: state.fee(TX_BYTES),
                tip: Watt::ZERO,
                valid_until: None,
                action,
            }
        };
        let chain_id = tx.chain_id.clone();
        let signed = SignedTx(Signed::new(tx, &chain_id, &*self.key));
        let included = self.replica.submit(signed.encode()).await;
        let included = included.map_err(|source| SendError::Submit { source })?;
        match included.outcome.result {
            wire::chain::TxResult::Applied { .. } => Ok(()),
            wire::chain::TxResult::Failed { message, .. } => Err(SendError::Failed { message }),
        }
    }
}

/// Why a transaction of the operator had no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("it was not taken")]
    Submit { source: replica::SubmitError },
    #[error("it failed: {message}")]
    Failed { message: String },
}
