//! What the sender does about a chain that loses answers, a nonce that somebody else used, and a
//! fee that was raised.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use keys::SecretKey;
use types::{ChannelId, Hash32, Nusd, TimeMs, audit::CommitmentId, genesis::Genesis, tx::SignedTx};

use super::*;
use crate::chain::{
    AccountView, AuditorView, ChainStatus, ChannelView, ErrorBody, ExclusionView, GatewayView,
    ProviderView, RoundView, SupplyView, code,
};

/// What the chain does with the next submission; the names are behaviours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Applies,
    AppliesAndLosesTheAnswer,
    LosesTheSubmission,
    SaysTimeout,
    Fails,
    IsBusy,
    /// Somebody else with the same key was faster.
    HasUsedTheNonce,
}

/// A chain of one account in memory.
#[derive(Debug)]
struct Double(Mutex<State>);

#[derive(Debug)]
struct State {
    plan: Vec<Next>,
    nonce: u64,
    params: Params,
    applied: BTreeMap<TxId, TxOutcome>,
    submissions: Vec<TxId>,
    questions: u32,
}

impl Double {
    fn new(plan: &[Next]) -> Arc<Double> {
        let plan = plan.iter().rev().copied().collect();
        Arc::new(Double(Mutex::new(State {
            plan,
            nonce: 0,
            params: Params::standard(),
            applied: BTreeMap::new(),
            submissions: Vec::new(),
            questions: 0,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused(status: u16, code: &str) -> ChainError {
    let body = ErrorBody { code: code.to_owned(), message: code.to_owned() };
    ChainError::Refused { status, body }
}

fn lost() -> ChainError {
    ChainError::Unreachable { url: "double".to_owned(), source: "the connection broke".into() }
}

impl State {
    fn apply(&mut self, tx: &SignedTx, result: TxResult) -> TxOutcome {
        self.nonce += 1;
        let outcome = TxOutcome { id: tx.id(), height: Height(self.nonce), fee: Watt(1), result };
        self.applied.insert(tx.id(), outcome.clone());
        outcome
    }

    fn submit(&mut self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        self.submissions.push(tx.id());
        if let Some(outcome) = self.applied.get(&tx.id()) {
            return Ok(outcome.clone());
        }
        let Tx { nonce, fee_max, .. } = &tx.0.value;
        let next = self.plan.pop().unwrap_or(Next::Applies);
        if next == Next::HasUsedTheNonce {
            self.nonce += 1;
        }
        if nonce.0 != self.nonce {
            return Err(refused(409, code::NONCE_TOO_LOW));
        }
        if *fee_max < fee(&self.params, tx.encode().len()) {
            return Err(refused(409, "fee.max_too_low"));
        }
        let applied = TxResult::Applied { events: vec![] };
        match next {
            Next::Applies | Next::HasUsedTheNonce => Ok(self.apply(tx, applied)),
            Next::AppliesAndLosesTheAnswer => {
                self.apply(tx, applied);
                Err(lost())
            }
            Next::LosesTheSubmission => Err(lost()),
            Next::SaysTimeout => Err(refused(503, code::SUBMIT_TIMEOUT)),
            Next::Fails => {
                let (code, message) = ("test".to_owned(), "as planned".to_owned());
                Ok(self.apply(tx, TxResult::Failed { code, message }))
            }
            Next::IsBusy => Err(refused(503, code::BUSY)),
        }
    }
}

#[async_trait]
impl Chain for Double {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        Err(lost())
    }
    async fn status(&self) -> Result<ChainStatus, ChainError> {
        let mut state = self.state();
        state.questions += 1;
        Ok(ChainStatus {
            chain_id: "test".parse().unwrap(),
            genesis_hash: Hash32::default(),
            height: Height(0),
            time: TimeMs(0),
            app_hash: Hash32::default(),
            nusd_per_watt: Nusd::whole(1),
            oracle: crate::chain::OracleView {
                average: Nusd::whole(1),
                counted_at: TimeMs(0),
                period: 0,
            },
            breaker: "closed".to_owned(),
            params: state.params.clone(),
            mempool_txs: 0,
            version: "test".to_owned(),
        })
    }
    async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        let nonce = Nonce(self.state().nonce);
        let (watt, credits) = (Watt::ZERO, Nusd::ZERO);
        Ok(AccountView { address, watt, credits, nonce, fee_debt: Watt::ZERO })
    }
    async fn channel(&self, _: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        Err(lost())
    }
    async fn channels_of(&self, _: Address) -> Result<Vec<ChannelView>, ChainError> {
        Err(lost())
    }
    async fn provider(&self, _: Address) -> Result<Option<ProviderView>, ChainError> {
        Err(lost())
    }
    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        Err(lost())
    }
    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        Err(lost())
    }
    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        Err(lost())
    }
    async fn auditor(&self, _: Address) -> Result<Option<AuditorView>, ChainError> {
        Err(lost())
    }
    async fn rounds_of(&self, _: Address) -> Result<Vec<RoundView>, ChainError> {
        Err(lost())
    }

    async fn round(&self, _: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        Err(lost())
    }
    async fn supply(&self) -> Result<SupplyView, ChainError> {
        Err(lost())
    }
    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        self.state().submit(tx)
    }
    async fn tx(&self, _: TxId) -> Result<Option<TxOutcome>, ChainError> {
        Err(lost())
    }
}

/// Sends `sends` transactions to a chain with this plan. Shows how each ended, how many took
/// effect, how many different transactions were submitted and how often.
async fn check(plan: &[Next], sends: usize, ends: &[&str], counts: (usize, usize, usize)) {
    let chain = Double::new(plan);
    let sender = TxSender::new(chain.clone(), Arc::new(SecretKey::from_seed([1; 32])));
    let mut seen = Vec::new();
    for _ in 0..sends {
        let end = match sender.send(Action::Heartbeat).await {
            Ok(_) => "applied".to_owned(),
            Err(SendError::Failed { .. }) => "failed".to_owned(),
            Err(SendError::Unknown { .. }) => "unknown".to_owned(),
            Err(error) => error.code().unwrap_or("no code").to_owned(),
        };
        seen.push(end);
    }
    let state = chain.state();
    let different: std::collections::BTreeSet<&TxId> = state.submissions.iter().collect();
    assert_eq!(seen, ends, "{plan:?}");
    let seen = (state.applied.len(), different.len(), state.submissions.len());
    assert_eq!(seen, counts, "{plan:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_and_nothing_happens_twice() {
    use Next::*;
    check(&[], 3, &["applied"; 3], (3, 3, 3)).await;
    check(&[AppliesAndLosesTheAnswer], 2, &["applied"; 2], (2, 2, 3)).await;
    check(&[LosesTheSubmission, SaysTimeout], 1, &["applied"], (1, 1, 3)).await;
    check(&[LosesTheSubmission; 4], 1, &["unknown"], (0, 1, 4)).await;
}

#[tokio::test(start_paused = true)]
async fn a_nonce_that_somebody_else_used_is_replaced() {
    use Next::*;
    check(&[Applies, HasUsedTheNonce], 2, &["applied"; 2], (2, 3, 3)).await;
    check(&[HasUsedTheNonce; 9], 1, &[code::NONCE_TOO_LOW], (0, 6, 6)).await;
}

#[tokio::test(start_paused = true)]
async fn refusals_and_failures_are_told_apart() {
    use Next::*;
    check(&[IsBusy, Applies], 2, &[code::BUSY, "applied"], (1, 1, 2)).await;
    check(&[Fails, Applies], 2, &["failed", "applied"], (2, 2, 2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_raised_fee_is_paid() {
    let chain = Double::new(&[]);
    let sender = TxSender::new(chain.clone(), Arc::new(SecretKey::from_seed([1; 32])));
    sender.send(Action::Heartbeat).await.unwrap();
    chain.state().params.fees.tx = Watt(2_000_000);
    sender.send(Action::Heartbeat).await.unwrap();
    assert_eq!(chain.state().questions, 2, "what is known is used until it is refused");
}
