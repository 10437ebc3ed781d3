//! What a validator says on the ledger by itself, in the name of its operator.

use std::{sync::Arc, time::Duration};

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

/// How often a transaction is signed anew because another one of the account came first, and the pause before.
const ATTEMPTS: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);

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

    /// Submits a transaction and waits until it is in a block. Others use the key too: the auditor, and people.
    pub(crate) async fn send(&self, action: Action) -> Result<(), SendError> {
        let mut attempt = 1;
        loop {
            match self.send_once(action.clone()).await {
                Err(SendError::Submit { source }) if is_stale(&source) && attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                sent => return sent,
            }
        }
    }

    async fn send_once(&self, action: Action) -> Result<(), SendError> {
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

/// Whether another transaction of the account came first.
fn is_stale(error: &replica::SubmitError) -> bool {
    match error {
        replica::SubmitError::Refused { source } => source.code.starts_with("nonce."),
        _ => false,
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
