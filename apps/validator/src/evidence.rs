//! Reports double signing that the consensus engine saw. The reporter receives a share of what is
//! slashed; that the same is reported by others too costs a fee, and no more.

use tokio::sync::mpsc;
use types::{stake::Evidence, tx::Action};

use crate::operator::{Operator, SendError};

/// Reports that wait; one validator causes few, and all of one height are punished once.
pub(crate) const REPORTS_MAX: usize = 64;

/// Sends what arrives to the ledger, until the replica is gone.
pub(crate) async fn report(operator: Operator, mut arriving: mpsc::Receiver<Evidence>) {
    while let Some(evidence) = arriving.recv().await {
        let Some((signer, height)) = replica::evidence_subject(&evidence) else { continue };
        match operator.send(Action::SubmitEvidence { evidence }).await {
            Ok(()) => {
                tracing::warn!(%signer, %height, "a validator signed twice; it was reported");
            }
            // Usually somebody else was faster.
            Err(SendError::Failed { message }) => {
                tracing::info!(%signer, %height, message, "a report of double signing failed");
            }
            // It comes again.
            Err(error @ SendError::Submit { .. }) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::info!(error, "a report of double signing was not taken");
                continue;
            }
        }
        operator.replica.punished(signer, height).await;
    }
}
