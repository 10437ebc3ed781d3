//! A chain whose answers are checked: it asks nodes that nobody trusts, and believes what validators
//! signed (`docs/spec/light-client.md`).
//!
//! Which headers are trusted is decided by `light`; here is what is asked for, of whom, and what an
//! entry means as a view. Proven are accounts, channels with their lanes, and what providers, gateways
//! and auditors registered, and rounds of audits. Not proven, and passed on as the node says it: parameters, price, supply, what became of a
//! transaction beyond that its nonce was used, what of a view follows from parameters, and that a list
//! is complete.
//!
//! Invariant: an answer is never of an older block than one that was known when it was asked for.

mod entries;
mod trust;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use light::{Fork, LightBlock, LightError, Rules, TrustedState};
use types::{
    Address, ChainId, ChannelId, Height, TimeMs, TxId, audit::CommitmentId, genesis::Genesis,
    state::StateKey, tx::SignedTx,
};

use super::{
    AccountView, AuditorView, Chain, ChainError, ChainStatus, ChannelView, EntryError,
    ExclusionView, GatewayView, ProviderView, ProvingChain, RoundView, SupplyView, TxOutcome, code,
};
use trust::{Trust, Vouched};
pub use trust::{compare, follow, follow_to};

/// How often a node is asked again whose answer was overtaken by a newer block.
const ANSWER_ATTEMPTS: usize = 3;
/// Proofs that are asked for at once.
const PROOFS_AT_ONCE: usize = 8;
/// Closed channels that are not asked for again. Beyond it they are.
const CLOSED_MAX: usize = 4_096;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> TimeMs + Send + Sync>;

/// Keeps what is trusted, so that a restart goes on from there.
pub trait KeepTrust: Send + Sync + fmt::Debug {
    /// A failure is the keeper's to report: what was kept before stays true.
    fn keep(&self, state: &TrustedState);
}

/// What a [`VerifiedChain`] needs.
pub struct VerifiedConfig {
    /// Asked in this order: a later one only while those before it do not answer, and to compare.
    pub nodes: Vec<Arc<dyn ProvingChain>>,
    /// The document of the network.
    pub genesis: Genesis,
    /// Where to begin.
    pub trusted: TrustedState,
    pub clock: Clock,
    pub keeper: Arc<dyn KeepTrust>,
}

/// Several nodes as one chain that is not believed but checked.
pub struct VerifiedChain {
    nodes: Vec<Arc<dyn ProvingChain>>,
    genesis: Genesis,
    trust: tokio::sync::Mutex<Trust>,
    /// The node that answered last.
    current: AtomicUsize,
    /// Channels that are proven to be closed, which they stay.
    closed: Mutex<BTreeMap<ChannelId, ChannelView>>,
}

/// What a node said and does not prove.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    #[error("its header is not proven")]
    Header(#[from] LightError),
    #[error("its answer is not what its header says")]
    Entry(#[from] EntryError),
    #[error("its answer is about {given:?}, not {asked:?}")]
    OtherEntry { asked: StateKey, given: StateKey },
    #[error("it is a node of {given}, not of {expected}")]
    OtherNetwork { given: ChainId, expected: ChainId },
    #[error("the proven {what} cannot be read; this program may be older than the ledger")]
    Unreadable { what: &'static str },
    #[error("the lanes of channel {id} do not add up to what was claimed from it")]
    Lanes { id: ChannelId },
    #[error("it lists the {what} {name}, and the state has none, or another one")]
    Listed { what: &'static str, name: String },
    #[error("it knows no provider {operator}, and the state has one")]
    Hidden { operator: Address },
    #[error("it says that transaction {id} is in a block, and its sender's nonce was not used")]
    NotIncluded { id: TxId },
}

impl Unproven {
    fn by(self, node: &dyn ProvingChain) -> ChainError {
        ChainError::Unproven { url: node.url().to_owned(), source: Box::new(self) }
    }

    /// Two certified histories, if it is that.
    pub fn fork(&self) -> Option<&Fork> {
        match self {
            Unproven::Header(LightError::Fork(fork)) => Some(fork),
            Unproven::Header(_)
            | Unproven::Entry(_)
            | Unproven::OtherEntry { .. }
            | Unproven::OtherNetwork { .. }
            | Unproven::Unreadable { .. }
            | Unproven::Lanes { .. }
            | Unproven::Listed { .. }
            | Unproven::Hidden { .. }
            | Unproven::NotIncluded { .. } => None,
        }
    }
}

/// What is proven about something.
enum Proven<T> {
    In(T),
    /// There is no block yet, so the genesis document is all there is.
    Genesis,
}

impl fmt::Debug for VerifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedChain").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

type Node = Arc<dyn ProvingChain>;
type Answer<'a, T> = BoxFuture<'a, Result<T, ChainError>>;

impl VerifiedChain {
    pub fn new(config: VerifiedConfig) -> VerifiedChain {
        let VerifiedConfig { nodes, genesis, trusted, clock, keeper } = config;
        let trust = Trust::new(trusted, Rules::of(&genesis.params), clock, keeper);
        VerifiedChain {
            nodes,
            genesis,
            trust: tokio::sync::Mutex::new(trust),
            current: AtomicUsize::new(0),
            closed: Mutex::new(BTreeMap::new()),
        }
    }

    /// What is trusted now.
    pub async fn trusted(&self) -> TrustedState {
        self.trust.lock().await.state().clone()
    }

    /// Asks one node after the other until one answers, beginning with the one that answered last.
    /// Whoever lies is not passed over: that is for the user to know.
    async fn ask<'a, T>(
        &'a self,
        question: impl Fn(Node) -> Answer<'a, T> + Send + Sync,
    ) -> Result<T, ChainError> {
        let (first, count) = (self.current.load(Ordering::Relaxed), self.nodes.len());
        let mut last = ChainError::BadUrl { url: String::new() };
        for place in (first..first + count).map(|place| place % count) {
            let Some(node) = self.nodes.get(place) else { continue };
            match question(Arc::clone(node)).await {
                Err(error) if is_out_of_order(&error) => last = error,
                answer => {
                    self.current.store(place, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        Err(last)
    }

    /// Whether the node's header is one to believe, and the newest that is known.
    async fn vouch(&self, node: &Node, block: LightBlock) -> Result<Vouched, ChainError> {
        self.trust.lock().await.vouch(node, &self.nodes, block).await
    }

    fn check_network(&self, node: &Node, given: &ChainId) -> Result<(), ChainError> {
        let expected = &self.genesis.chain_id;
        if given == expected {
            return Ok(());
        }
        let (given, expected) = (given.clone(), expected.clone());
        Err(Unproven::OtherNetwork { given, expected }.by(&**node))
    }

    /// An entry's canonical bytes, or that there is none.
    async fn entry_of(
        &self,
        node: Node,
        key: StateKey,
    ) -> Result<Proven<Option<Vec<u8>>>, ChainError> {
        for _ in 0..ANSWER_ATTEMPTS {
            let proof = match node.prove(key).await {
                Err(error) if error.code() == Some(code::NOT_FOUND) => {
                    return self.without_blocks(&node).await;
                }
                answer => answer?,
            };
            self.check_network(&node, &proof.chain_id)?;
            if proof.key != key {
                let (asked, given) = (key, proof.key);
                return Err(Unproven::OtherEntry { asked, given }.by(&*node));
            }
            if self.vouch(&node, proof.block()).await? == Vouched::Newest {
                let value = proof.entry().map_err(|error| Unproven::from(error).by(&*node))?;
                return Ok(Proven::In(value));
            }
        }
        Err(self.behind(&node).await)
    }

    /// A node that has no block: true at the start of a chain only.
    async fn without_blocks<T>(&self, node: &Node) -> Result<Proven<T>, ChainError> {
        match self.trusted().await.height() {
            Height(0) => Ok(Proven::Genesis),
            _ => Err(self.behind(node).await),
        }
    }

    async fn behind(&self, node: &Node) -> ChainError {
        let known = self.trusted().await.height();
        ChainError::Behind { url: node.url().to_owned(), known }
    }

    async fn channel_of(
        &self,
        node: Node,
        id: ChannelId,
    ) -> Result<Option<ChannelView>, ChainError> {
        for _ in 0..ANSWER_ATTEMPTS {
            let proofs = match node.prove_channel(id).await {
                Err(error) if error.code() == Some(code::NOT_FOUND) => {
                    return self.without_blocks::<()>(&node).await.map(|_| None);
                }
                answer => answer?,
            };
            self.check_network(&node, &proofs.chain_id)?;
            if self.vouch(&node, proofs.block()).await? == Vouched::Newest {
                let entries = proofs.entries().map_err(|error| Unproven::from(error).by(&*node))?;
                return entries::channel(id, entries).map_err(|error| error.by(&*node));
            }
        }
        Err(self.behind(&node).await)
    }

    /// A channel that a node listed for `party`.
    async fn listed_channel(
        &self,
        node: Node,
        party: Address,
        id: ChannelId,
    ) -> Result<ChannelView, ChainError> {
        if let Some(view) = self.known_closed(id) {
            return Ok(view);
        }
        let view = self.channel_of(Arc::clone(&node), id).await?;
        let ours = view.filter(|it| it.terms.payer == party || it.terms.receiver == party);
        let view = ours
            .ok_or_else(|| Unproven::Listed { what: "channel", name: id.to_string() }.by(&*node))?;
        self.remember_closed(&view);
        Ok(view)
    }

    fn known_closed(&self, id: ChannelId) -> Option<ChannelView> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn remember_closed(&self, view: &ChannelView) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is not settled yet still changes.
        if !view.open && view.pending().is_zero() && closed.len() < CLOSED_MAX {
            closed.insert(view.id, view.clone());
        }
    }

    /// What a node says about a provider, with all that is proven in its place. `None`: there is none.
    async fn provider_of(
        &self,
        node: Node,
        view: ProviderView,
    ) -> Result<Option<ProviderView>, ChainError> {
        let operator = view.operator;
        let entry = self.entry_of(Arc::clone(&node), StateKey::Provider { operator }).await?;
        let pool = StateKey::Operator { id: types::stake::OperatorId::provider(operator) };
        let pool = self.entry_of(Arc::clone(&node), pool).await?;
        let (Proven::In(Some(entry)), Proven::In(pool)) = (entry, pool) else { return Ok(None) };
        entries::provider(view, &entry, pool.as_deref()).map(Some).map_err(|error| error.by(&*node))
    }

    async fn gateway_of(&self, node: Node, operator: Address) -> Result<GatewayView, ChainError> {
        let entry = self.entry_of(Arc::clone(&node), StateKey::Gateway { operator }).await?;
        let Proven::In(Some(entry)) = entry else {
            let name = operator.to_string();
            return Err(Unproven::Listed { what: "gateway", name }.by(&*node));
        };
        entries::gateway(operator, &entry).map_err(|error| error.by(&*node))
    }

    /// An entry as the view that `read` makes of it. `None`: there is none.
    async fn view_of<T>(
        &self,
        node: Node,
        key: StateKey,
        read: impl FnOnce(&[u8]) -> Result<T, Unproven>,
    ) -> Result<Option<T>, ChainError> {
        match self.entry_of(Arc::clone(&node), key).await? {
            Proven::In(Some(entry)) => read(&entry).map(Some).map_err(|error| error.by(&*node)),
            Proven::In(None) | Proven::Genesis => Ok(None),
        }
    }

    async fn status_of(&self, node: Node) -> Result<ChainStatus, ChainError> {
        let mut status = node.status().await?;
        self.check_network(&node, &status.chain_id)?;
        if status.genesis_hash != self.genesis.hash() {
            let (trusted, given) = (self.genesis.hash(), status.genesis_hash);
            let error = LightError::OtherBlock { height: Height(0), trusted, given };
            return Err(Unproven::Header(error).by(&*node));
        }
        self.find_newest(&node).await?;
        let trusted = self.trusted().await;
        if let Some(block) = trusted.block() {
            let header = &block.header;
            (status.height, status.time) = (header.height, header.time);
            status.app_hash = header.app_hash;
        }
        Ok(status)
    }

    /// Follows the chain to the node's newest header.
    async fn find_newest(&self, node: &Node) -> Result<(), ChainError> {
        for _ in 0..ANSWER_ATTEMPTS {
            let Some(block) = node.light_block(None).await? else {
                return self.without_blocks::<()>(node).await.map(drop);
            };
            if self.vouch(node, block).await? == Vouched::Newest {
                return Ok(());
            }
        }
        Err(self.behind(node).await)
    }

    async fn submit_to(&self, node: Node, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        let outcome = node.submit(tx).await?;
        let sender = Address::of_key(&tx.0.signer);
        let key = StateKey::Account { address: sender };
        let account = match self.entry_of(Arc::clone(&node), key).await? {
            Proven::In(entry) => entries::account(sender, entry.as_deref()),
            Proven::Genesis => Ok(entries::genesis_account(&self.genesis, sender)),
        };
        let account = account.map_err(|error| error.by(&*node))?;
        if outcome.id != tx.id() || account.nonce <= tx.0.value.nonce {
            return Err(Unproven::NotIncluded { id: tx.id() }.by(&*node));
        }
        Ok(outcome)
    }
}

/// The node cannot answer, so another one may.
fn is_out_of_order(error: &ChainError) -> bool {
    match error {
        ChainError::Unreachable { .. }
        | ChainError::Protocol { .. }
        | ChainError::Behind { .. } => true,
        ChainError::Refused { status, .. } => *status >= 500,
        ChainError::BadUrl { .. } | ChainError::Unproven { .. } => false,
    }
}

#[async_trait]
impl Chain for VerifiedChain {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        Ok(self.genesis.clone())
    }

    async fn status(&self) -> Result<ChainStatus, ChainError> {
        self.ask(|node| Box::pin(self.status_of(node))).await
    }

    async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        self.ask(|node| {
            Box::pin(async move {
                let key = StateKey::Account { address };
                match self.entry_of(Arc::clone(&node), key).await? {
                    Proven::Genesis => Ok(entries::genesis_account(&self.genesis, address)),
                    Proven::In(entry) => entries::account(address, entry.as_deref())
                        .map_err(|error| error.by(&*node)),
                }
            })
        })
        .await
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        self.ask(|node| Box::pin(self.channel_of(node, id))).await
    }

    async fn channels_of(&self, party: Address) -> Result<Vec<ChannelView>, ChainError> {
        self.ask(|node| {
            Box::pin(async move {
                let listed = node.channels_of(party).await?;
                let proven = listed
                    .into_iter()
                    .map(|it| self.listed_channel(Arc::clone(&node), party, it.id));
                stream::iter(proven).buffered(PROOFS_AT_ONCE).try_collect().await
            })
        })
        .await
    }

    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError> {
        self.ask(|node| {
            Box::pin(async move {
                for _ in 0..ANSWER_ATTEMPTS {
                    if let Some(view) = node.provider(operator).await? {
                        let view = ProviderView { operator, ..view };
                        return self.provider_of(node, view).await;
                    }
                    let key = StateKey::Provider { operator };
                    match self.entry_of(Arc::clone(&node), key).await? {
                        Proven::In(None) | Proven::Genesis => return Ok(None),
                        // It may have registered in between.
                        Proven::In(Some(_)) => {}
                    }
                }
                Err(Unproven::Hidden { operator }.by(&*node))
            })
        })
        .await
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        self.ask(|node| {
            Box::pin(async move {
                let listed = node.providers().await?;
                let proven =
                    listed.into_iter().map(|view| self.provider_of(Arc::clone(&node), view));
                let proven = stream::iter(proven).buffered(PROOFS_AT_ONCE);
                // One that has left since it was listed is left out.
                proven.try_filter_map(async |view| Ok(view)).try_collect().await
            })
        })
        .await
    }

    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        self.ask(|node| {
            Box::pin(async move {
                let listed = node.gateways().await?;
                let proven =
                    listed.into_iter().map(|it| self.gateway_of(Arc::clone(&node), it.operator));
                stream::iter(proven).buffered(PROOFS_AT_ONCE).try_collect().await
            })
        })
        .await
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        self.ask(|node| Box::pin(async move { node.exclusions().await })).await
    }

    async fn auditor(&self, operator: Address) -> Result<Option<AuditorView>, ChainError> {
        self.ask(|node| {
            let key = StateKey::Auditor { operator };
            Box::pin(self.view_of(node, key, move |entry| entries::auditor(operator, entry)))
        })
        .await
    }

    async fn round(&self, commitment: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        self.ask(|node| {
            let key = StateKey::Round { commitment };
            Box::pin(self.view_of(node, key, move |entry| entries::round(commitment, entry)))
        })
        .await
    }

    async fn rounds_of(&self, provider: Address) -> Result<Vec<RoundView>, ChainError> {
        self.ask(|node| Box::pin(async move { node.rounds_of(provider).await })).await
    }

    async fn supply(&self) -> Result<SupplyView, ChainError> {
        self.ask(|node| Box::pin(async move { node.supply().await })).await
    }

    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        self.ask(|node| Box::pin(self.submit_to(node, tx))).await
    }

    async fn tx(&self, id: TxId) -> Result<Option<TxOutcome>, ChainError> {
        self.ask(|node| Box::pin(async move { node.tx(id).await })).await
    }
}

#[cfg(test)]
mod tests;
