//! Votes on the price of WATT, on behalf of the validator's operator (ECONOMICS E11).
//!
//! A price counts for a limited time, so a validator renews its vote well before that is over: it
//! commits in one period, reveals in the next, and the block after that counts it. What to do next is
//! a pure decision ([`next_step`]); the task around it waits and submits. It also votes, whatever the age of the price, while
//! commitments to receipts wait for the beacon that comes with the votes.
//!
//! A commitment that is not revealed costs stake, so a restart must not lose the salt: it follows from the
//! operator's key and the period, and the commitment stands on the ledger.

use std::{sync::Arc, time::Duration};

use borsh::BorshSerialize;
use replica::Clock;
use types::{
    ChainId, Hash32, Nusd, TimeMs, sha256,
    sign::{Sign, Signable, signing_bytes},
    stake::price_commitment,
    tx::Action,
};

use crate::operator::{Operator, SendError};

/// A vote is renewed when its age is this part of what the parameters allow.
const RENEW_AT_PART: u64 = 3;
/// Longest sleep: the machine's clock may be set, or stand still while it is suspended, and a beacon may be awaited meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(5);
const LOOKS_PER_PERIOD: u64 = 8;
/// Pause after a vote that was not taken, for example while the operator has no WATT for the fee; a period has several looks
/// all the same.
const RETRY: Duration = Duration::from_secs(30);

/// What the salt of a vote is made from. Its signature is shown to nobody.
#[derive(BorshSerialize)]
struct Salt {
    period: u64,
}

impl Signable for Salt {
    const DOMAIN: &'static str = "price-salt/1";
}

impl Salt {
    /// Known to the holder of the key alone, until it is revealed: signatures of Ed25519 are deterministic.
    fn of(period: u64, chain_id: &ChainId, key: &dyn Sign) -> Hash32 {
        let signature = key.sign(&signing_bytes(chain_id, &Salt { period }));
        sha256(&[b"peerwatt/price-salt\0", &signature.0])
    }
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
    /// Commitments to receipts wait for a beacon, which comes with the votes.
    awaited: bool,
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
    if view.now < renew_at && !view.awaited {
        return Step::Wait { until: renew_at };
    }
    // What was revealed is counted by the first block after that period, for which the next period
    // leaves time enough.
    match revealed_in.map(|revealed| revealed.saturating_add(2)) {
        Some(over) if period < over => return Step::Wait { until: view.start_of(over) },
        Some(_) | None => {}
    }
    // A beacon is worth as much as validators reveal in one period: all begin in even ones.
    if view.awaited && !period.is_multiple_of(2) {
        return Step::Wait { until: view.start_of(period.saturating_add(1)) };
    }
    Step::Commit
}

/// The task's parts. It ends when it is dropped.
pub(crate) struct Voter {
    /// Pays the fees of the votes.
    pub(crate) operator: Operator,
    /// What it votes for: nano-USD for one WATT.
    pub(crate) nusd_per_watt: Nusd,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Voter {
    pub(crate) async fn run(self) {
        let (mut committed, mut revealed_in) = (self.found().await, None);
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
                Step::Reveal { salt } => match self.reveal(salt).await {
                    Ok(()) => {
                        committed = None;
                        revealed_in = Some(view.period());
                        Duration::ZERO
                    }
                    // What is not revealed costs stake, so it is tried as long as it can be.
                    Err(error) => not_taken(&error),
                },
            };
            // A period has several looks, so that none in which others vote is slept through.
            let look = Duration::from_millis((view.period_ms / LOOKS_PER_PERIOD).max(1));
            tokio::time::sleep(pause.min(SLEEP_MAX).min(look)).await;
        }
    }

    async fn view(&self) -> View {
        let state = self.operator.state.read().await;
        let params = &state.params().oracle;
        View {
            now: self.clock.now(),
            counted_at: state.oracle().counted_at,
            max_age_ms: params.max_age_ms,
            period_ms: params.period_ms,
            awaited: state.commitments().next().is_some(),
        }
    }

    /// A commitment of ours from before a restart that can still be revealed: of this price, for one to another
    /// is lost.
    async fn found(&self) -> Option<Committed> {
        let period = self.view().await.period();
        let state = self.operator.state.read().await;
        let (chain_id, operator) = (state.chain_id(), self.operator.address());
        [period, period.saturating_sub(1)].into_iter().find_map(|period| {
            let salt = Salt::of(period, chain_id, &*self.operator.key);
            let ours = price_commitment(chain_id, &operator, &salt.0, self.nusd_per_watt);
            let found = state.price_commitment(period, operator) == Some(ours);
            found.then_some(Committed { period, salt })
        })
    }

    async fn commit(&self, period: u64) -> Result<Committed, VoteError> {
        let operator = self.operator.address();
        let chain_id = self.operator.state.read().await.chain_id().clone();
        let salt = Salt::of(period, &chain_id, &*self.operator.key);
        let commitment = price_commitment(&chain_id, &operator, &salt.0, self.nusd_per_watt);
        self.send(Action::CommitPrice { commitment }).await?;
        Ok(Committed { period, salt })
    }

    async fn reveal(&self, salt: Hash32) -> Result<(), VoteError> {
        let nusd_per_watt = self.nusd_per_watt;
        self.send(Action::RevealPrice { nusd_per_watt, salt }).await
    }

    async fn send(&self, action: Action) -> Result<(), VoteError> {
        self.operator.send(action).await.map_err(|source| VoteError::Send { source })
    }
}

/// Why a vote was not cast.
#[derive(Debug, thiserror::Error)]
enum VoteError {
    #[error("the vote has no effect")]
    Send { source: SendError },
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
    fn a_salt_is_of_its_key_network_and_period() {
        let key = |seed| keys::SecretKey::from_seed([seed; 32]);
        let chain = |name: &str| -> ChainId { name.parse().unwrap() };
        let salt = |period, name, seed| Salt::of(period, &chain(name), &key(seed));
        let one = salt(7, "test.1", 1);
        assert_eq!(one, salt(7, "test.1", 1));
        for other in [salt(8, "test.1", 1), salt(7, "test.2", 1), salt(7, "test.1", 2)] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_vote_is_committed_revealed_and_renewed() {
        let salt = Hash32([7; 32]);
        let view = |now| View {
            now: TimeMs(now),
            counted_at: TimeMs(10_000),
            max_age_ms: 30_000,
            period_ms: 1_000,
            awaited: false,
        };
        let awaited = |now| View { awaited: true, ..view(now) };
        let committed = Some(Committed { period: 20, salt });
        let cases = [
            (view(10_000), None, None, Step::Wait { until: TimeMs(20_000) }),
            (view(20_000), None, None, Step::Commit),
            // Somebody waits for the beacon.
            (awaited(10_000), None, None, Step::Commit),
            (awaited(11_500), None, None, Step::Wait { until: TimeMs(12_000) }),
            (awaited(21_500), None, Some(21), Step::Wait { until: TimeMs(23_000) }),
            (awaited(23_000), None, Some(21), Step::Wait { until: TimeMs(24_000) }),
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
