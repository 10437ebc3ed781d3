//! A chain in memory: registration, channels and redemptions, with the checks that money depends on.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use keys::Ed25519;
use provider::Clock;
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, Nonce, Nusd, PublicKey, TimeMs, TxId, Watt,
    audit::CommitmentId,
    channel::ChannelTerms,
    genesis::{Genesis, Params},
    params::FeeParams,
    tx::{Action, SignedTx, VoucherClaim},
};
use wire::chain::{
    AccountView, AuditorView, Chain, ChainError, ChainStatus, ChannelView, ErrorBody,
    ExclusionView, GatewayView, LaneView, OracleView, ProviderView, RoundView, SupplyView,
    TxOutcome, TxResult,
};

use super::{TimerClock, gateway::NOW};

pub(crate) fn chain_id() -> ChainId {
    "peerwatt-test.1".parse().unwrap()
}

/// Handles of one chain.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestChain(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) providers: BTreeMap<Address, ProviderView>,
    pub(crate) gateways: Vec<GatewayView>,
    pub(crate) channels: BTreeMap<ChannelId, ChannelView>,
    pub(crate) nonces: BTreeMap<Address, u64>,
    pub(crate) registrations: usize,
    pub(crate) redemptions: usize,
    /// The periods in which heartbeats arrived.
    pub(crate) heartbeats: Vec<u64>,
    /// Rounds of every provider.
    pub(crate) rounds: Vec<RoundView>,
    pub(crate) auditors: BTreeMap<Address, AuditorView>,
    /// What every account has.
    pub(crate) balance: Watt,
    pub(crate) clock: Option<TimerClock>,
}

impl TestChain {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn list_gateway(
        &self,
        operator: Address,
        node_key: PublicKey,
        addrs: &[std::net::SocketAddr],
    ) {
        self.lock().gateways.push(GatewayView {
            operator,
            node_key,
            moniker: "gateway".to_owned(),
            addrs: addrs.iter().map(ToString::to_string).collect(),
        });
    }

    pub(crate) fn open_channel(&self, terms: ChannelTerms, deposit: Nusd) -> ChannelId {
        let id = terms.id(&chain_id());
        let view = ChannelView {
            id,
            terms,
            deposit,
            claimed: Nusd::ZERO,
            settled: Nusd::ZERO,
            refunded: Nusd::ZERO,
            returned: Nusd::ZERO,
            lanes: Vec::new(),
            opened_at: Height(1),
            withdraw_at: None,
            open: true,
        };
        self.lock().channels.insert(id, view);
        id
    }

    pub(crate) fn claimed(&self, channel: ChannelId) -> Nusd {
        self.lock().channels[&channel].claimed
    }
}

impl State {
    /// The heartbeat period of now.
    pub(crate) fn period(&self) -> u64 {
        let now = self.clock.map_or(NOW, |clock| clock.now());
        now.0 / Params::standard().providers.heartbeat_ms
    }

    fn apply(&mut self, sender: Address, action: &Action) -> Result<(), String> {
        match action {
            Action::RegisterProvider { node_key, profile, commission: None, bond } => {
                let profile = profile.clone();
                let entry = ProviderView {
                    operator: sender,
                    node_key: *node_key,
                    moniker: profile.moniker,
                    region: profile.region,
                    class: profile.class,
                    models: profile.models,
                    price_max: profile.price_max,
                    bond: *bond,
                    bond_required: Watt::whole(5),
                    delegated: Watt::ZERO,
                    earned: Watt::ZERO,
                    pending: Nusd::ZERO,
                    registered_at: TimeMs(0),
                    probation_until: TimeMs(0),
                    leaving: false,
                    jailed: false,
                    heartbeats: 0,
                    seen_period: self.period(),
                    channels_open: 0,
                };
                self.providers.insert(sender, entry);
                self.registrations += 1;
                Ok(())
            }
            Action::RedeemVouchers { claims } => {
                claims.iter().try_for_each(|claim| self.claim(sender, claim))?;
                self.redemptions += 1;
                Ok(())
            }
            Action::Heartbeat => {
                let period = self.period();
                let entry = self.providers.get_mut(&sender).ok_or("not registered")?;
                entry.seen_period = period;
                self.heartbeats.push(period);
                Ok(())
            }
            other => Err(format!("a provider does not send {other:?}")),
        }
    }

    fn claim(&mut self, sender: Address, claim: &VoucherClaim) -> Result<(), String> {
        let voucher = claim.voucher.clone().verify(&chain_id(), &Ed25519);
        let voucher = voucher.map_err(|error| error.to_string())?;
        let value = voucher.value();
        let channel = self.channels.get_mut(&value.channel).ok_or("no such channel")?;
        let payer = channel.terms.payer_key == voucher.signer();
        if !channel.open || channel.terms.receiver != sender || !payer {
            return Err("the channel is not the claimer's".to_owned());
        }
        let before = lane(channel, value.lane);
        if claim.total > value.total || claim.total <= before {
            return Err("the claim is not covered, or claims nothing".to_owned());
        }
        channel.claimed = Nusd(channel.claimed.0 + claim.total.0 - before.0);
        channel.lanes.retain(|view| view.lane != value.lane);
        channel.lanes.push(LaneView { lane: value.lane, claimed: claim.total });
        if channel.claimed > channel.deposit {
            return Err("more is claimed than was deposited".to_owned());
        }
        Ok(())
    }
}

fn lane(channel: &ChannelView, lane: Lane) -> Nusd {
    let view = channel.lanes.iter().find(|view| view.lane == lane);
    view.map_or(Nusd::ZERO, |view| view.claimed)
}

fn refused(code: &str) -> ChainError {
    let body = ErrorBody { code: code.to_owned(), message: code.to_owned() };
    ChainError::Refused { status: 400, body }
}

#[async_trait]
impl Chain for TestChain {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        Err(refused("not_found"))
    }

    async fn status(&self) -> Result<ChainStatus, ChainError> {
        Ok(ChainStatus {
            chain_id: chain_id(),
            genesis_hash: Hash32::default(),
            height: Height(1),
            time: TimeMs(0),
            app_hash: Hash32::default(),
            nusd_per_watt: Nusd::whole(1),
            oracle: OracleView { average: Nusd::whole(1), counted_at: TimeMs(0), period: 0 },
            breaker: "closed".to_owned(),
            params: Params {
                fees: FeeParams { tx: Watt(10), byte: Watt(0) },
                ..Params::standard()
            },
            mempool_txs: 0,
            version: "test".to_owned(),
        })
    }

    async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        let state = self.lock();
        let nonce = state.nonces.get(&address).copied().unwrap_or(0);
        Ok(AccountView {
            address,
            watt: state.balance,
            credits: Nusd::ZERO,
            nonce: Nonce(nonce),
            fee_debt: Watt::ZERO,
        })
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        Ok(self.lock().channels.get(&id).cloned())
    }

    async fn channels_of(&self, party: Address) -> Result<Vec<ChannelView>, ChainError> {
        let of = |view: &&ChannelView| view.terms.receiver == party || view.terms.payer == party;
        Ok(self.lock().channels.values().filter(of).cloned().collect())
    }

    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError> {
        Ok(self.lock().providers.get(&operator).cloned())
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        Ok(self.lock().providers.values().cloned().collect())
    }

    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        Ok(self.lock().gateways.clone())
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        Ok(Vec::new())
    }

    async fn auditor(&self, operator: Address) -> Result<Option<AuditorView>, ChainError> {
        Ok(self.lock().auditors.get(&operator).cloned())
    }

    async fn rounds_of(&self, _: Address) -> Result<Vec<RoundView>, ChainError> {
        Ok(self.lock().rounds.clone())
    }

    async fn round(&self, commitment: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        Ok(self.lock().rounds.iter().find(|it| it.commitment == commitment).cloned())
    }

    async fn supply(&self) -> Result<SupplyView, ChainError> {
        Err(refused("not_found"))
    }

    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        let verified = tx.clone().verify(&Ed25519).map_err(|_| refused("tx.signature"))?;
        let sender = verified.sender();
        let mut state = self.lock();
        let nonce = state.nonces.entry(sender).or_default();
        if verified.tx().nonce.0 != *nonce {
            return Err(refused("nonce.too_low"));
        }
        *nonce += 1;
        let result = match state.apply(sender, &verified.tx().action) {
            Ok(()) => TxResult::Applied { events: Vec::new() },
            Err(message) => TxResult::Failed { code: "test".to_owned(), message },
        };
        Ok(TxOutcome { id: verified.id(), height: Height(2), fee: Watt(10), result })
    }

    async fn tx(&self, _id: TxId) -> Result<Option<TxOutcome>, ChainError> {
        Ok(None)
    }
}
