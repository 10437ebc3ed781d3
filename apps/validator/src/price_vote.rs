//! Votes on the price of WATT, on behalf of the validator's operator (ECONOMICS E11).
//!
//! A price counts for a limited time, so a validator renews its vote well before that is over: it
//! commits in one period, reveals in the next, and the block after that counts it. What to do next is
//! a pure decision ([`next_step`]); the task around it waits and submits.

use std::{sync::Arc, time::Duration};

use keys::SecretKey;
use ledger::State;
use replica::{Clock, Replica};
use tokio::sync::RwLock;
use types::{
    Hash32, Nusd, TimeMs,
    sign::{Sign, Signed},
    stake::price_commitment,
    tx::{Action, SignedTx, Tx},
};

use crate::ledger_app::LedgerApp;

/// A vote is renewed when its age is this part of what the parameters allow.
const RENEW_AT_PART: u64 = 3;
/// Longest sleep: the machine's clock may be set, or stand still while it is suspended.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Pause after a vote that was not taken, for example while the operator has no WATT for the fee.
const RETRY: Duration = Duration::from_secs(30);
/// Bytes that are added to an estimate of a vote's length, which the fee follows.
const TX_BYTES: usize = 320;

/// Who votes for what.
#[derive(Debug)]
pub struct PriceVote {
    /// Of the validator's operator, who pays the fees of the votes.
    pub operator: SecretKey,
    /// Nano-USD for one WATT.
    pub nusd_per_watt: Nusd,
}

/// A commitment that waits to be revealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Committed {
    period: u64,
    salt: Hash32,
}

/// What there is to do at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Wait { until: TimeMs },
    Commit,
    Reveal { salt: Hash32 },
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
struct View {
    now: TimeMs,
    counted_at: TimeMs,
    max_age_ms: u64,
    period_ms: u64,
}

impl View {
    fn period(&self) -> u64 {
        self.now.0.checked_div(self.period_ms).unwrap_or(0)
    }

    fn start_of(&self, period: u64) -> TimeMs {
        TimeMs(period.saturating_mul(self.period_ms))
    }
}

fn next_step(view: &View, committed: Option<Committed>, revealed_in: Option<u64>) -> Step {
    let period = view.period();
    match committed {
        Some(Committed { period: in_period, .. }) if in_period == period => {
            return Step::Wait { until: view.start_of(period.saturating_add(1)) };
        }
        Some(Committed { period: in_period, salt }) if in_period.saturating_add(1) == period => {
            return Step::Reveal { salt };
        }
        // Too late to reveal it.
        Some(_) | None => {}
    }
    let renew_at = view.counted_at.plus_ms(view.max_age_ms / RENEW_AT_PART);
    if view.now < renew_at {
        return Step::Wait { until: renew_at };
    }
    // What was revealed is counted by the first block after that period, for which the next period
    // leaves time enough.
    match revealed_in.map(|revealed| revealed.saturating_add(2)) {
        Some(over) if period < over => Step::Wait { until: view.start_of(over) },
        Some(_) | None => Step::Commit,
    }
}

/// The task's parts. It ends when it is dropped.
pub(crate) struct Voter {
    pub(crate) vote: PriceVote,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) replica: Replica<LedgerApp>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Voter {
    pub(crate) async fn run(self) {
        let (mut committed, mut revealed_in) = (None, None);
        loop {
            let view = self.view().await;
            let pause = match next_step(&view, committed, revealed_in) {
                Step::Wait { until } => Duration::from_millis(until.ms_since(view.now).max(1)),
                Step::Commit => match self.commit(view.period()).await {
                    Ok(made) => {
                        committed = Some(made);
                        Duration::ZERO
                    }
                    Err(error) => not_taken(&error),
                },
                Step::Reveal { salt } => {
                    committed = None;
                    match self.reveal(salt).await {
                        Ok(()) => {
                            revealed_in = Some(view.period());
                            Duration::ZERO
                        }
                        Err(error) => not_taken(&error),
                    }
                }
            };
            tokio::time::sleep(pause.min(SLEEP_MAX)).await;
        }
    }

    async fn view(&self) -> View {
        let state = self.state.read().await;
        let params = &state.params().oracle;
        View {
            now: self.clock.now(),
            counted_at: state.oracle().counted_at,
            max_age_ms: params.max_age_ms,
            period_ms: params.period_ms,
        }
    }

    async fn commit(&self, period: u64) -> Result<Committed, VoteError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|source| VoteError::Salt { source })?;
        let operator = types::Address::of_key(&self.vote.operator.public_key());
        let chain_id = self.state.read().await.chain_id().clone();
        let price = self.vote.nusd_per_watt;
        let commitment = price_commitment(&chain_id, &operator, &salt, price);
        self.send(Action::CommitPrice { commitment }).await?;
        Ok(Committed { period, salt: Hash32(salt) })
    }

    async fn reveal(&self, salt: Hash32) -> Result<(), VoteError> {
        let nusd_per_watt = self.vote.nusd_per_watt;
        self.send(Action::RevealPrice { nusd_per_watt, salt }).await
    }

    async fn send(&self, action: Action) -> Result<(), VoteError> {
        let key = &self.vote.operator;
        let tx = {
            let state = self.state.read().await;
            let account = state.account(&types::Address::of_key(&key.public_key()));
            Tx {
                chain_id: state.chain_id().clone(),
                nonce: account.nonce,
                fee_max: state.fee(TX_BYTES),
                valid_until: None,
                action,
            }
        };
        let chain_id = tx.chain_id.clone();
        let signed = SignedTx(Signed::new(tx, &chain_id, key));
        let included = self.replica.submit(signed.encode()).await;
        let included = included.map_err(|source| VoteError::Submit { source })?;
        match included.outcome.result {
            wire::chain::TxResult::Applied { .. } => Ok(()),
            wire::chain::TxResult::Failed { message, .. } => Err(VoteError::Failed { message }),
        }
    }
}

/// Why a vote was not cast.
#[derive(Debug, thiserror::Error)]
enum VoteError {
    #[error("the system has no random numbers")]
    Salt { source: getrandom::Error },
    #[error("the vote was not taken")]
    Submit { source: replica::SubmitError },
    #[error("the vote failed: {message}")]
    Failed { message: String },
}

fn not_taken(error: &VoteError) -> Duration {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::warn!(error, "no vote on the price was cast; it is tried again");
    RETRY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_is_committed_revealed_and_renewed() {
        let salt = Hash32([7; 32]);
        let view = |now| View {
            now: TimeMs(now),
            counted_at: TimeMs(10_000),
            max_age_ms: 30_000,
            period_ms: 1_000,
        };
        let committed = Some(Committed { period: 20, salt });
        let cases = [
            (view(10_000), None, None, Step::Wait { until: TimeMs(20_000) }),
            (view(20_000), None, None, Step::Commit),
            (view(20_300), committed, None, Step::Wait { until: TimeMs(21_000) }),
            (view(21_000), committed, None, Step::Reveal { salt }),
            (view(21_500), None, Some(21), Step::Wait { until: TimeMs(23_000) }),
            (view(22_001), None, Some(21), Step::Wait { until: TimeMs(23_000) }),
            // Not counted, because too little power voted: again.
            (view(23_000), None, Some(21), Step::Commit),
            // Asleep for too long: the commitment is worth nothing any more.
            (view(29_000), committed, None, Step::Commit),
        ];
        for (view, committed, revealed_in, expected) in cases {
            assert_eq!(next_step(&view, committed, revealed_in), expected, "{view:?}");
        }
    }
}
