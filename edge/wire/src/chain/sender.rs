//! Sends the transactions of one account: keeps its nonce, computes the fee, signs, submits and
//! deals with what can go wrong on the way.
//!
//! Invariant: a second transaction is signed only when the first is known to be in a block or
//! known to be refused. An answer that got lost is asked for again with the *same* bytes, which a
//! validator answers with what became of them, so nothing is ever paid twice.

use std::{sync::Arc, time::Duration};

use tokio::sync::Mutex;
use types::{
    Address, ChainId, Height, Nonce, TxId, Watt,
    genesis::Params,
    limits,
    sign::{Sign, Signed},
    tx::{Action, SignedTx, Tx},
};

use super::{Chain, ChainError, Event, TxOutcome, TxResult};

/// How often a transaction is signed anew because the account's nonce or the fee had changed: somebody else may be using
/// the same key, as a validator and its auditor do. The pauses double, so the last ones are longer than a block takes.
const SIGN_ATTEMPTS: u32 = 6;
/// How often the same bytes are submitted when the answer was lost, and the pause after the first.
const SUBMIT_ATTEMPTS: u32 = 4;
const SUBMIT_PAUSE: Duration = Duration::from_millis(100);

/// Sends transactions of one account, one at a time, in the order of the calls.
pub struct TxSender {
    chain: Arc<dyn Chain>,
    key: Arc<dyn Sign>,
    /// `None`: ask before the next transaction. Held while a transaction is under way.
    known: Mutex<Option<Known>>,
}

/// What a transaction needs from the chain.
struct Known {
    chain_id: ChainId,
    params: Params,
    nonce: Nonce,
}

/// A transaction that took effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    pub id: TxId,
    pub height: Height,
    pub fee: Watt,
    pub events: Vec<Event>,
}

/// Why a transaction did not take effect, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Refused, or the chain could not be asked: no transaction is under way.
    #[error("the transaction was not accepted")]
    Chain { source: ChainError },
    /// In a block, the fee was taken, nothing else happened.
    #[error("transaction {id} failed: {message}")]
    Failed { id: TxId, code: String, message: String },
    #[error("it is not known whether transaction {id} took effect; look it up by its id")]
    Unknown { id: TxId, source: ChainError },
    #[error(
        "a transaction of {bytes} bytes is longer than the {bytes_max} allowed; split what it asks for"
    )]
    TooLong { bytes: usize, bytes_max: usize },
}

impl SendError {
    /// The stable code of a refusal or failure.
    pub fn code(&self) -> Option<&str> {
        match self {
            SendError::Chain { source } | SendError::Unknown { source, .. } => source.code(),
            SendError::Failed { code, .. } => Some(code),
            SendError::TooLong { .. } => None,
        }
    }
}

impl std::fmt::Debug for TxSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TxSender(for {})", self.address())
    }
}

impl TxSender {
    pub fn new(chain: Arc<dyn Chain>, key: Arc<dyn Sign>) -> TxSender {
        TxSender { chain, key, known: Mutex::new(None) }
    }

    /// The account that acts.
    pub fn address(&self) -> Address {
        Address::of_key(&self.key.public_key())
    }

    pub fn chain(&self) -> &Arc<dyn Chain> {
        &self.chain
    }

    /// Makes the account do `action` and waits until it is done, durably. Dropping the future
    /// leaves open whether it happened.
    pub async fn send(&self, action: Action) -> Result<Applied, SendError> {
        let mut known = self.known.lock().await;
        let (mut attempt, mut pause) = (1, SUBMIT_PAUSE);
        loop {
            // Taken out, and put back only on success: whatever else happens, also that this
            // future is dropped, the next transaction asks the chain first.
            let current = match known.take() {
                Some(current) => current,
                None => self.ask().await?,
            };
            let tx = self.sign(&current, action.clone())?;
            match self.submit(&tx).await {
                Ok(outcome) => {
                    let nonce = Nonce(current.nonce.0.saturating_add(1));
                    *known = Some(Known { nonce, ..current });
                    return applied(outcome);
                }
                Err(error) if is_stale(&error) && attempt < SIGN_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
            // What another holder of the key has sent needs a moment to come into a block.
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// The transaction that [`TxSender::send`] would submit now, for [`super::HttpChain::simulate`].
    pub async fn draft(&self, action: Action) -> Result<SignedTx, SendError> {
        let known = self.ask().await?;
        self.sign(&known, action)
    }

    async fn ask(&self) -> Result<Known, SendError> {
        let failed = |source| SendError::Chain { source };
        let status = self.chain.status().await.map_err(failed)?;
        let account = self.chain.account(self.address()).await.map_err(failed)?;
        Ok(Known { chain_id: status.chain_id, params: status.params, nonce: account.nonce })
    }

    fn sign(&self, known: &Known, action: Action) -> Result<SignedTx, SendError> {
        let tx = |fee_max| Tx {
            chain_id: known.chain_id.clone(),
            nonce: known.nonce,
            fee_max,
            tip: Watt::ZERO,
            valid_until: None,
            action: action.clone(),
        };
        // An amount has the same length whatever it is, so the length is known before the fee.
        let draft = SignedTx(Signed::new(tx(Watt::ZERO), &known.chain_id, &*self.key));
        let bytes = draft.encode().len();
        if bytes > limits::TX_BYTES_MAX {
            return Err(SendError::TooLong { bytes, bytes_max: limits::TX_BYTES_MAX });
        }
        let fee = fee(&known.params, bytes);
        Ok(SignedTx(Signed::new(tx(fee), &known.chain_id, &*self.key)))
    }

    /// Submits the same bytes until there is an answer, a limited number of times.
    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, SendError> {
        let mut pause = SUBMIT_PAUSE;
        let mut attempt = 1;
        loop {
            match self.chain.submit(tx).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) if !error.leaves_outcome_open() && attempt == 1 => {
                    return Err(SendError::Chain { source: error });
                }
                // After a lost answer even a refusal leaves open what became of the first try.
                Err(error) if attempt >= SUBMIT_ATTEMPTS => {
                    return Err(SendError::Unknown { id: tx.id(), source: error });
                }
                Err(_) => attempt += 1,
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
    }
}

/// The fee of a transaction of `bytes` bytes.
fn fee(params: &Params, bytes: usize) -> Watt {
    let per_bytes = params.fees.byte.0.saturating_mul(bytes as u128);
    params.fees.tx.saturating_add(Watt(per_bytes))
}

/// What is known of the account or the parameters is out of date.
fn is_stale(error: &SendError) -> bool {
    match error {
        SendError::Chain { source } => {
            source.code().is_some_and(|code| code.starts_with("nonce.") || code.starts_with("fee."))
        }
        SendError::Failed { .. } | SendError::Unknown { .. } | SendError::TooLong { .. } => false,
    }
}

fn applied(outcome: TxOutcome) -> Result<Applied, SendError> {
    let TxOutcome { id, height, fee, result } = outcome;
    match result {
        TxResult::Applied { events } => Ok(Applied { id, height, fee, events }),
        TxResult::Failed { code, message } => Err(SendError::Failed { id, code, message }),
    }
}

#[cfg(test)]
mod tests;
