//! A ledger in memory that does what a gateway asks of it, without rules.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Nonce, Nusd, PublicKey, TimeMs, TxId, Watt,
    audit::CommitmentId,
    channel::ChannelTerms,
    genesis::{Genesis, Params},
    receipt,
    tx::{Action, CreditPurchase, SignedTx},
};
use wire::chain::{
    AccountView, AuditorView, Chain, ChainError, ChainStatus, ChannelView, ErrorBody,
    ExclusionView, GatewayView, OracleView, ProviderView, RoundView, SupplyView, TxOutcome,
    TxResult,
};

#[derive(Debug)]
pub(super) struct TestChain {
    chain_id: ChainId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    height: u64,
    accounts: BTreeMap<Address, (Watt, Nusd, u64)>,
    channels: BTreeMap<ChannelId, ChannelView>,
    providers: BTreeMap<Address, ProviderView>,
    gateways: BTreeMap<Address, GatewayView>,
    exclusions: Vec<ExclusionView>,
    /// Kinds of what was applied.
    log: Vec<&'static str>,
}

impl TestChain {
    pub(super) fn new(chain_id: ChainId) -> TestChain {
        TestChain { chain_id, state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fund(&self, account: Address, watt: Watt) {
        self.lock().accounts.entry(account).or_default().0 = watt;
    }

    pub(super) fn register(&self, operator: Address, node_key: PublicKey) {
        let view = ProviderView {
            operator,
            node_key,
            moniker: "double".into(),
            region: String::new(),
            class: String::new(),
            models: Vec::new(),
            price_max: None,
            bond: Watt::ZERO,
            bond_required: Watt::ZERO,
            delegated: Watt::ZERO,
            earned: Watt::ZERO,
            pending: Nusd::ZERO,
            registered_at: TimeMs(0),
            probation_until: TimeMs(0),
            leaving: false,
            jailed: false,
            heartbeats: 0,
            seen_period: 0,
            channels_open: 0,
        };
        self.lock().providers.insert(operator, view);
    }

    /// As if audits had found that it serves something else.
    pub(super) fn exclude(&self, provider: Address, model: types::ModelId) {
        let until = Some(TimeMs(u64::MAX));
        let view = ExclusionView { provider, model, suspended: false, delisted_until: until };
        self.lock().exclusions.push(view);
    }

    pub(super) fn set_leaving(&self, operator: Address) {
        self.lock().providers.get_mut(&operator).unwrap().leaving = true;
    }

    /// As if its payer had opened it, or had added to its deposit.
    pub(super) fn put_channel(&self, terms: &ChannelTerms, deposit: Nusd) -> ChannelId {
        let id = terms.id(&self.chain_id);
        let mut state = self.lock();
        let view = state.opened(id, terms.clone(), deposit);
        state.channels.insert(id, view);
        id
    }

    /// As if its payer had asked for the rest.
    pub(super) fn withdraw(&self, id: ChannelId) {
        self.lock().channels.get_mut(&id).unwrap().withdraw_at = Some(TimeMs(1));
    }

    pub(super) fn close_channels(&self) {
        self.lock().channels.values_mut().for_each(|channel| channel.open = false);
    }

    /// As if the receivers gave a part of the unused rest back.
    pub(super) fn return_deposits(&self, amount: Nusd) {
        self.lock().channels.values_mut().for_each(|channel| channel.returned = amount);
    }

    pub(super) fn log(&self) -> Vec<&'static str> {
        self.lock().log.clone()
    }

    pub(super) fn deposits(&self) -> Vec<Nusd> {
        self.lock().channels.values().map(|channel| channel.deposit).collect()
    }
}

impl State {
    fn opened(&self, id: ChannelId, terms: ChannelTerms, deposit: Nusd) -> ChannelView {
        ChannelView {
            id,
            terms,
            deposit,
            claimed: Nusd::ZERO,
            settled: Nusd::ZERO,
            refunded: Nusd::ZERO,
            returned: Nusd::ZERO,
            lanes: Vec::new(),
            opened_at: Height(self.height),
            withdraw_at: None,
            open: true,
        }
    }

    fn apply(&mut self, sender: Address, action: Action, chain_id: &ChainId) -> Result<(), ()> {
        let kind = match action {
            Action::RegisterGateway { node_key, moniker, addrs } => {
                let view = GatewayView { operator: sender, node_key, moniker, addrs };
                self.gateways.insert(sender, view);
                "register gateway"
            }
            Action::BuyCredits(CreditPurchase::Receive { credits, watt_max }) => {
                let account = self.accounts.entry(sender).or_default();
                account.0 = account.0.checked_sub(watt_max).ok_or(())?;
                account.1 = account.1.saturating_add(credits);
                "buy credits"
            }
            Action::OpenChannel { terms, deposit } => {
                let account = self.accounts.entry(sender).or_default();
                account.1 = account.1.checked_sub(deposit).ok_or(())?;
                let id = terms.id(chain_id);
                let view = self.opened(id, terms, deposit);
                self.channels.insert(id, view);
                "open channel"
            }
            Action::TopUpChannel { channel, amount } => {
                let account = self.accounts.entry(sender).or_default();
                account.1 = account.1.checked_sub(amount).ok_or(())?;
                let view = self.channels.get_mut(&channel).ok_or(())?;
                view.deposit = view.deposit.saturating_add(amount);
                "top up channel"
            }
            Action::DemandAudit { report, acknowledgement } => {
                receipt::adds_up(Some(&report), &acknowledgement.value).map_err(drop)?;
                "demand audit"
            }
            _ => return Err(()),
        };
        self.log.push(kind);
        Ok(())
    }
}

fn unused<T>() -> Result<T, ChainError> {
    let body = ErrorBody { code: "test.unused".into(), message: "no gateway asks this".into() };
    Err(ChainError::Refused { status: 404, body })
}

#[async_trait]
impl Chain for TestChain {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        unused()
    }

    async fn status(&self) -> Result<ChainStatus, ChainError> {
        Ok(ChainStatus {
            chain_id: self.chain_id.clone(),
            genesis_hash: Hash32::default(),
            height: Height(self.lock().height),
            time: TimeMs(0),
            app_hash: Hash32::default(),
            nusd_per_watt: Nusd::whole(1),
            oracle: OracleView { average: Nusd::whole(1), counted_at: TimeMs(0), period: 0 },
            breaker: "closed".into(),
            params: Params::standard(),
            mempool_txs: 0,
            version: "test".into(),
        })
    }

    async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        let (watt, credits, nonce) =
            self.lock().accounts.get(&address).copied().unwrap_or_default();
        Ok(AccountView { address, watt, credits, nonce: Nonce(nonce), fee_debt: Watt::ZERO })
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        Ok(self.lock().channels.get(&id).cloned())
    }

    async fn channels_of(&self, party: Address) -> Result<Vec<ChannelView>, ChainError> {
        let of = |view: &&ChannelView| view.terms.payer == party || view.terms.receiver == party;
        Ok(self.lock().channels.values().filter(of).cloned().collect())
    }

    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError> {
        Ok(self.lock().providers.get(&operator).cloned())
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        Ok(self.lock().providers.values().cloned().collect())
    }

    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        Ok(self.lock().gateways.values().cloned().collect())
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        Ok(self.lock().exclusions.clone())
    }

    async fn auditor(&self, _: Address) -> Result<Option<AuditorView>, ChainError> {
        unused()
    }

    async fn rounds_of(&self, _: Address) -> Result<Vec<RoundView>, ChainError> {
        unused()
    }

    async fn round(&self, _: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        unused()
    }

    async fn supply(&self) -> Result<SupplyView, ChainError> {
        unused()
    }

    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        let verified = tx.clone().verify(&keys::Ed25519).unwrap();
        let sender = verified.sender();
        let mut state = self.lock();
        let nonce = &mut state.accounts.entry(sender).or_default().2;
        assert_eq!(verified.tx().nonce, Nonce(*nonce), "one sender keeps its nonce");
        *nonce += 1;
        state.height += 1;
        let result = match state.apply(sender, verified.tx().action.clone(), &self.chain_id) {
            Ok(()) => TxResult::Applied { events: Vec::new() },
            Err(()) => {
                TxResult::Failed { code: "test.failed".into(), message: "not possible".into() }
            }
        };
        let height = Height(state.height);
        Ok(TxOutcome { id: verified.id(), height, fee: Watt::ZERO, result })
    }

    async fn tx(&self, _: TxId) -> Result<Option<TxOutcome>, ChainError> {
        Ok(None)
    }
}
