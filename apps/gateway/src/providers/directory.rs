//! The providers that are connected now, with what was measured of them before.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keys::KnownKey;
use market::{Candidate, Choice, Health, Outcome, Record};
use net::SharedConnection;
use tokio::time::Instant;
use types::{
    Address, ModelId, PublicKey, TimeMs,
    inference::Prompt,
    offer::{EngineKind, ModelOffer, Offer},
    price::Price,
};
use wire::serve::{PassedFor, Tally};

use super::tallies::{Tallies, passed_for};
use crate::{
    shared::Shared,
    views::{ModelView, ProviderView},
};

/// Histories kept of providers that may be gone; the least used go first.
const RECORDS_MAX: usize = 16 * 1_024;

/// Names remembered after the last provider of a model has gone: a client is then told to come
/// back, and not that there is no such model.
const NAMES_MAX: usize = 4_096;

/// Bytes of a prompt that must be alike for a provider to be taken for warm.
const PREFIX_BYTES: usize = 1_024;

/// Beginnings of prompts that are remembered.
const PREFIXES_MAX: usize = 16 * 1_024;

/// Stands for the beginning of a prompt; means nothing outside this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Prefix(u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Directory {
    providers_max: usize,
    /// With a key of its own, so that nobody outside can make prompts collide.
    hashing: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connections: usize,
    peers: BTreeMap<Address, Peer>,
    records: BTreeMap<(Address, ModelId), Record>,
    /// Those that the ledger excludes, by what audits found.
    excluded: BTreeSet<(Address, ModelId)>,
    /// What each name meant last.
    names: BTreeMap<String, ModelId>,
    /// Who read prompts with this beginning last, and in which order they are forgotten.
    warm: BTreeMap<(Prefix, ModelId), Address>,
    warmed: VecDeque<(Prefix, ModelId)>,
    next_session: u64,
}

#[derive(Debug)]
struct Peer {
    /// Tells a connection from a later one of the same provider.
    session: u64,
    connection: SharedConnection,
    operator_key: Arc<KnownKey>,
    moniker: String,
    region: Arc<str>,
    offer: Offer,
    connected_at: TimeMs,
    offer_at: TimeMs,
    in_flight: u32,
    /// Its channel is open and its lanes are agreed on.
    ready: bool,
    leaving: bool,
    served: u64,
    failed: u64,
    last_problem: Option<String>,
    /// What it was not told yet.
    tallies: Tallies,
}

/// A provider that has said who it is.
pub(crate) struct Introduced {
    pub connection: SharedConnection,
    pub operator_key: PublicKey,
    pub moniker: String,
    pub region: String,
    pub offer: Offer,
    pub at: TimeMs,
}

/// What a client's model name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub model: ModelId,
}

/// A provider as far as a request needs it.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub provider: Address,
    pub connection: SharedConnection,
}

impl State {
    fn remember_names(&mut self, offer: &Offer) {
        for model in &offer.models {
            if self.names.len() < NAMES_MAX {
                self.names.insert(model.alias.clone(), model.model);
            }
        }
    }
}

impl Directory {
    pub(crate) fn new(providers_max: usize) -> Directory {
        Directory { providers_max, hashing: RandomState::new(), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection in. `false`: there is no room for another.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.lock();
        let room = state.connections < self.providers_max;
        state.connections += usize::from(room);
        room
    }

    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.connections = state.connections.saturating_sub(1);
    }

    /// Takes a provider in. A connection that it had before is closed. Returns the number by which
    /// the others name this connection.
    pub(crate) fn insert(&self, introduced: Introduced) -> u64 {
        let Introduced { connection, operator_key, moniker, region, offer, at } = introduced;
        let mut state = self.lock();
        state.remember_names(&offer);
        state.next_session += 1;
        let session = state.next_session;
        let peer = Peer {
            session,
            connection,
            operator_key: Arc::new(KnownKey::new(operator_key)),
            moniker,
            region: region.into(),
            connected_at: at,
            offer_at: at,
            in_flight: 0,
            ready: false,
            leaving: false,
            served: 0,
            failed: 0,
            last_problem: None,
            tallies: Tallies::default(),
            offer: offer.clone(),
        };
        if let Some(before) = state.peers.insert(offer.operator, peer) {
            before.connection.close("replaced by a newer connection");
        }
        session
    }

    /// Forgets a connection, unless a newer one has taken its place.
    pub(crate) fn remove(&self, provider: &Address, session: u64) {
        let mut state = self.lock();
        if state.peers.get(provider).is_some_and(|peer| peer.session == session) {
            state.peers.remove(provider);
        }
    }

    /// Replaces the offer if it is newer.
    pub(crate) fn update(&self, session: u64, offer: Offer, at: TimeMs) {
        let mut state = self.lock();
        state.remember_names(&offer);
        if let Some(peer) = state.peers.get_mut(&offer.operator)
            && peer.session == session
            && offer.sequence > peer.offer.sequence
        {
            peer.offer = offer;
            peer.offer_at = at;
        }
    }

    pub(crate) fn set_leaving(&self, provider: &Address, session: u64) {
        if let Some(peer) = self.lock().peers.get_mut(provider)
            && peer.session == session
        {
            peer.leaving = true;
        }
    }

    /// From now on it is given requests.
    pub(crate) fn set_ready(&self, provider: &Address, session: u64) {
        if let Some(peer) = self.lock().peers.get_mut(provider)
            && peer.session == session
        {
            peer.ready = true;
        }
    }

    /// Whether some provider can be paid for some model.
    pub(crate) fn any_ready(&self) -> bool {
        self.lock()
            .peers
            .values()
            .any(|peer| peer.ready && !peer.leaving && !peer.offer.models.is_empty())
    }

    pub(crate) fn connected(&self) -> Vec<Address> {
        self.lock().peers.keys().copied().collect()
    }

    /// A model id as it stands; otherwise the model that most providers offer under that name.
    pub(crate) fn resolve(&self, name: &str) -> Option<Resolved> {
        let state = self.lock();
        let offers = || state.peers.values().flat_map(|peer| &peer.offer.models);
        if let Ok(model) = name.parse::<ModelId>() {
            let known = offers().any(|offer| offer.model == model)
                || state.names.values().any(|known| *known == model);
            return known.then_some(Resolved { model });
        }
        let mut votes: BTreeMap<ModelId, u32> = BTreeMap::new();
        for offer in offers().filter(|offer| offer.alias == name) {
            *votes.entry(offer.model).or_default() += 1;
        }
        // The smaller id wins a draw, so that every request of a while goes to the same model.
        let most =
            votes.into_iter().max_by_key(|&(model, count)| (count, std::cmp::Reverse(model)));
        let most = most.map(|(model, _)| model).or_else(|| state.names.get(name).copied());
        most.map(|model| Resolved { model })
    }

    /// Stands for the beginning of a prompt, while this process runs.
    pub(crate) fn prefix(&self, prompt: &Prompt) -> Option<Prefix> {
        let mut rest = PREFIX_BYTES;
        let mut hasher = self.hashing.build_hasher();
        let mut take = |text: &str| {
            let taken = text.as_bytes().get(..rest).unwrap_or(text.as_bytes());
            hasher.write(taken);
            rest -= taken.len();
        };
        match prompt {
            Prompt::Text(text) => take(text),
            Prompt::Chat(messages) => messages.iter().for_each(|message| take(&message.content)),
            // Each text is read anew.
            Prompt::Inputs(_) => return None,
        }
        (rest == 0).then(|| Prefix(hasher.finish()))
    }

    /// Whoever answered it has read a prompt with this beginning.
    pub(crate) fn warmed(&self, prefix: Prefix, model: ModelId, provider: Address) {
        let mut state = self.lock();
        if state.warm.insert((prefix, model), provider).is_none() {
            state.warmed.push_back((prefix, model));
        }
        if state.warmed.len() > PREFIXES_MAX
            && let Some(oldest) = state.warmed.pop_front()
        {
            state.warm.remove(&oldest);
        }
    }

    /// Everybody who offers `model`, without those whom the ledger excludes.
    pub(crate) fn candidates(
        &self,
        model: ModelId,
        tried: &[Address],
        prefix: Option<Prefix>,
    ) -> Vec<Candidate> {
        let state = self.lock();
        let warm = prefix.and_then(|prefix| state.warm.get(&(prefix, model)).copied());
        state
            .peers
            .iter()
            .filter(|(_, peer)| !peer.leaving)
            .filter(|(provider, _)| !state.excluded.contains(&(**provider, model)))
            .filter_map(|(&provider, peer)| {
                let offer = peer.offer.models.iter().find(|offer| offer.model == model)?;
                Some(Candidate {
                    provider,
                    model,
                    price: offer.price,
                    context_tokens: offer.context_tokens,
                    abilities: offer.abilities,
                    region: Arc::clone(&peer.region),
                    is_warm: warm == Some(provider),
                    slots: peer.offer.slots,
                    in_flight: peer.in_flight,
                    payable: peer.ready,
                    tried: tried.contains(&provider),
                    record: state.records.get(&(provider, model)).cloned().unwrap_or_default(),
                })
            })
            .collect()
    }

    /// Counts a choice among `candidates` for everybody who was looked at, and against those who offer another
    /// model under the `name` that the client used.
    pub(crate) fn count(
        &self,
        (name, model): (&str, ModelId),
        candidates: &[Candidate],
        choice: &Choice,
        is_second: bool,
    ) {
        let mut state = self.lock();
        let taken = choice.taken.and_then(|index| candidates.get(index));
        if let Some(peer) = taken.and_then(|taken| state.peers.get_mut(&taken.provider)) {
            peer.tallies.chosen(model, is_second);
        }
        for passed in &choice.passed {
            if let Some(peer) = state.peers.get_mut(&passed.provider) {
                peer.tallies.passed(model, passed_for(passed.reason));
            }
        }
        for peer in state.peers.values_mut().filter(|peer| !peer.leaving) {
            let is_named = |offer: &&ModelOffer| offer.alias == name && offer.model != model;
            let others = peer.offer.models.iter().filter(is_named);
            others.for_each(|other| peer.tallies.passed(other.model, PassedFor::OtherModel));
        }
    }

    /// What a provider was not told yet.
    pub(crate) fn take_tallies(&self, provider: &Address, session: u64) -> Vec<Tally> {
        let mut state = self.lock();
        let peer = state.peers.get_mut(provider).filter(|peer| peer.session == session);
        peer.map(|peer| peer.tallies.take()).unwrap_or_default()
    }

    /// Takes one of a provider's slots.
    pub(crate) fn take(shared: &Arc<Shared>, provider: Address) -> Option<(Chosen, Slot)> {
        let mut state = shared.directory.lock();
        let peer = state.peers.get_mut(&provider)?;
        peer.in_flight += 1;
        let chosen = Chosen { provider, connection: Arc::clone(&peer.connection) };
        let slot = Slot {
            shared: Arc::clone(shared),
            provider,
            session: peer.session,
            operator_key: Arc::clone(&peer.operator_key),
        };
        Some((chosen, slot))
    }

    /// What a provider offers of a model.
    pub(crate) fn offer_of(&self, provider: &Address, model: ModelId) -> Option<ModelOffer> {
        let state = self.lock();
        let offer = &state.peers.get(provider)?.offer;
        offer.models.iter().find(|offered| offered.model == model).cloned()
    }

    /// Replaces what the ledger excludes.
    pub(crate) fn exclude(&self, excluded: BTreeSet<(Address, ModelId)>) {
        self.lock().excluded = excluded;
    }

    /// The way to a provider that is connected now.
    pub(crate) fn connection(&self, provider: &Address) -> Option<SharedConnection> {
        self.lock().peers.get(provider).map(|peer| Arc::clone(&peer.connection))
    }

    /// Takes note of what became of a request.
    pub(crate) fn observe(
        &self,
        provider: &Address,
        model: ModelId,
        now: TimeMs,
        outcome: Outcome,
        problem: Option<String>,
    ) {
        let mut state = self.lock();
        state.records.entry((*provider, model)).or_default().observe(now, outcome);
        if state.records.len() > RECORDS_MAX {
            let peers: BTreeSet<Address> = state.peers.keys().copied().collect();
            let gone = state
                .records
                .iter()
                .filter(|((provider, _), _)| !peers.contains(provider))
                .min_by_key(|(_, record)| record.counts())
                .map(|(key, _)| *key);
            if let Some(gone) = gone {
                state.records.remove(&gone);
            }
        }
        if let Some(peer) = state.peers.get_mut(provider) {
            match outcome {
                Outcome::Served { .. } | Outcome::ServedWhole => peer.served += 1,
                Outcome::Failed | Outcome::Cut | Outcome::Untrue => peer.failed += 1,
                Outcome::Busy { .. } | Outcome::Neutral => {}
            }
            if problem.is_some() {
                peer.last_problem = problem;
            }
        }
    }

    pub(crate) fn models(&self) -> Vec<ModelView> {
        let state = self.lock();
        let mut views: BTreeMap<(String, ModelId), ModelView> = BTreeMap::new();
        let ready = state.peers.values().filter(|peer| !peer.leaving);
        for offer in ready.flat_map(|peer| &peer.offer.models) {
            let view = views.entry((offer.alias.clone(), offer.model)).or_insert(ModelView {
                alias: offer.alias.clone(),
                model: offer.model,
                providers: 0,
                price_min: offer.price,
                context_tokens_max: 0,
                abilities: offer.abilities,
                resold: true,
            });
            view.providers += 1;
            view.context_tokens_max = view.context_tokens_max.max(offer.context_tokens);
            view.abilities = view.abilities.or(&offer.abilities);
            view.resold &= offer.engine == EngineKind::Resold;
            let rate = |price: &Price| price.completion_nusd_per_mtok;
            if rate(&offer.price) < rate(&view.price_min) {
                view.price_min = offer.price;
            }
        }
        views.into_values().collect()
    }

    pub(crate) fn providers(&self, now: TimeMs) -> Vec<ProviderView> {
        let state = self.lock();
        let view = |(&operator, peer): (&Address, &Peer)| {
            let health = |offer: &ModelOffer| {
                let record = state.records.get(&(operator, offer.model));
                match record.map_or(Health::Ok, |record| record.health(now)) {
                    Health::Ok => (0, "ok"),
                    Health::Probation => (1, "probation"),
                    Health::Quarantined { .. } => (2, "quarantined"),
                }
            };
            let worst = peer.offer.models.iter().map(health).max().unwrap_or((0, "ok"));
            ProviderView {
                operator,
                node_key: peer.offer.node_key,
                moniker: peer.moniker.clone(),
                models: peer.offer.models.clone(),
                slots: peer.offer.slots,
                active: peer.offer.active,
                in_flight: peer.in_flight,
                connected_at: peer.connected_at,
                offer_at: peer.offer_at,
                payable: peer.ready,
                served: peer.served,
                failed: peer.failed,
                health: worst.1.into(),
                last_problem: peer.last_problem.clone(),
            }
        };
        state.peers.iter().map(view).collect()
    }
}

/// One of a provider's slots, given back when dropped.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    provider: Address,
    session: u64,
    operator_key: Arc<KnownKey>,
}

impl Slot {
    /// Whether `key` signs for the provider.
    pub(crate) fn is_operator_key(&self, key: &PublicKey) -> bool {
        self.operator_key.key() == key
    }

    /// Checks what the provider has signed, and takes nothing that another key has.
    pub(crate) fn operator_key(&self) -> &KnownKey {
        &self.operator_key
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(peer) = self.shared.directory.lock().peers.get_mut(&self.provider)
            && peer.session == self.session
        {
            peer.in_flight = peer.in_flight.saturating_sub(1);
        }
        self.shared.freed.notify_waiters();
    }
}

/// When an offer was heard last, for forgetting the silent.
pub(crate) fn silence_ends(last: Instant) -> Instant {
    last + std::time::Duration::from_millis(3 * wire::serve::OFFER_INTERVAL_MS)
}
