//! What a validator says on the ledger by itself, in the name of its operator.

use std::{sync::Arc, time::Duration};

use keys::SecretKey;
use ledger::State;
use replica::{Full, Replica};
use tokio::sync::RwLock;
use types::{
    Address, Nonce, Watt,
    sign::Signed,
    tx::{Action, SignedTx, Tx},
};

use crate::ledger_app::LedgerApp;

/// Bytes of the largest transaction that is made here, which the fee follows.
const TX_BYTES: usize = 640;

/// How often a transaction is signed anew because another one of the account came first, and the pause before.
const ATTEMPTS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(500);
/// Behind so many waiting transactions of the account it is put before it is asked anew what its next nonce is.
const AHEAD_MAX: u64 = 4;

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
        let (mut attempt, mut ahead) = (1, 0);
        loop {
            let stale = match self.send_once(action.clone(), ahead).await {
                Err(SendError::Submit { source }) if attempt < ATTEMPTS => {
                    stale(&source).ok_or(SendError::Submit { source })?
                }
                sent => return sent,
            };
            attempt += 1;
            match stale {
                Stale::Taken if ahead < AHEAD_MAX => ahead += 1,
                Stale::Taken | Stale::Passed => {
                    ahead = 0;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// `ahead`: how many transactions of the account are known to wait.
    async fn send_once(&self, action: Action, ahead: u64) -> Result<(), SendError> {
        let tx = {
            let state = self.state.read().await;
            Tx {
                chain_id: state.chain_id().clone(),
                nonce: Nonce(state.account(&self.address()).nonce.0.saturating_add(ahead)),
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

/// How another transaction of the account came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stale {
    /// It waits under the same nonce.
    Taken,
    /// The account's nonce is another one now.
    Passed,
}

/// `None`: there is another reason why it was not taken.
fn stale(error: &replica::SubmitError) -> Option<Stale> {
    match error {
        replica::SubmitError::Refused { source } => {
            source.code.starts_with("nonce.").then_some(Stale::Passed)
        }
        replica::SubmitError::NotTaken { reason } => match reason {
            Full::NonceTaken { .. } => Some(Stale::Taken),
            Full::Replaced | Full::OutOfTurn | Full::Gap => Some(Stale::Passed),
            Full::Pool | Full::Sender | Full::Waiters | Full::Evicted | Full::Expired => None,
        },
        replica::SubmitError::Malformed { .. }
        | replica::SubmitError::Halted
        | replica::SubmitError::Store { .. } => None,
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

#[cfg(test)]
mod tests {
    use replica::SubmitError;

    use super::*;

    #[test]
    fn what_another_transaction_of_the_account_was_quicker_than_is_sent_again() {
        let not_taken = |reason| SubmitError::NotTaken { reason };
        for (error, expected) in [
            (not_taken(Full::NonceTaken { tip_min: Watt::ZERO }), Some(Stale::Taken)),
            (not_taken(Full::Gap), Some(Stale::Passed)),
            (not_taken(Full::OutOfTurn), Some(Stale::Passed)),
            (not_taken(Full::Replaced), Some(Stale::Passed)),
            (not_taken(Full::Pool), None),
            (SubmitError::Halted, None),
        ] {
            assert_eq!(stale(&error), expected, "{error}");
        }
    }
}
