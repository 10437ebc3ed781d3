//! Services outside the network that answer too: when no provider can, or beside them, as their operator says.
//!
//! The gateway calls them with a key of its operator's, and pays them outside the ledger. What they answer is not verified by
//! anybody, and receipts say so. Each is chosen, measured and passed over by the same rules as a provider, under an
//! address that no key controls.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use engine::{EngineError, EngineModel, SharedEngine};
use futures::future::BoxFuture;
use market::{Candidate, Health, Outcome, Record};
use types::{
    Address, ModelId, PublicKey, TimeMs, hash::sha256, limits::NAME_BYTES_MAX, price::Price,
};

use crate::{
    books::Bought,
    error::GatewayError,
    shared::Shared,
    views::{ModelView, listed_price},
};

/// Services that a gateway may have, and models of one.
const UPSTREAMS_MAX: usize = 32;
const MODELS_MAX: usize = 256;
/// Between two attempts to reach a service that was not reached since the start.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A service outside the network.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// As clients see it on their receipts: 1 to 64 lower-case letters, digits, `-`, `_` and `.`.
    pub name: String,
    pub role: UpstreamRole,
    /// Requests of this gateway that it is given at once.
    pub slots: u32,
    pub models: Vec<UpstreamModel>,
    /// Reaches it. Tried until it succeeds.
    pub connect: ConnectUpstream,
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamConfig").field("name", &self.name).finish_non_exhaustive()
    }
}

/// See [`UpstreamConfig::connect`].
pub type ConnectUpstream =
    Arc<dyn Fn() -> BoxFuture<'static, Result<ConnectedUpstream, EngineError>> + Send + Sync>;

/// A service that was reached.
#[derive(Clone, Debug)]
pub struct ConnectedUpstream {
    pub engine: SharedEngine,
    /// What it calls the models of [`UpstreamConfig::models`], one for each.
    pub models: Vec<EngineModel>,
}

/// When a service is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamRole {
    /// Only when no provider can be asked, or all that were asked have failed.
    LastResort,
    /// Like a provider, by price, speed and load.
    Policy,
}

/// A model of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamModel {
    /// What clients ask for. May be the name of a model of the network.
    pub serves: String,
    /// What clients pay.
    pub price: Price,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    configs: Vec<UpstreamConfig>,
    state: Mutex<BTreeMap<Address, Upstream>>,
}

#[derive(Debug)]
struct Upstream {
    name: Arc<str>,
    role: UpstreamRole,
    slots: u32,
    /// Sorted by nothing; a name is there once.
    models: Vec<Model>,
    /// Once it was reached.
    engine: Option<SharedEngine>,
    in_flight: u32,
}

#[derive(Debug)]
struct Model {
    serves: Arc<str>,
    /// For clients, where no provider has a model of this name.
    id: ModelId,
    price: Price,
    known: Option<EngineModel>,
    record: Record,
}

impl Model {
    fn is(&self, name: &str, model: ModelId) -> bool {
        *self.serves == *name || self.id == model
    }
}

impl Upstream {
    /// The model that a client means, if the service was reached.
    fn model(&self, name: &str, model: ModelId) -> Option<(&Model, &EngineModel)> {
        let found = self.models.iter().find(|it| it.is(name, model))?;
        Some((found, found.known.as_ref()?))
    }
}

/// A model that a service is to be asked for.
pub(crate) struct Called {
    pub slot: UpstreamSlot,
    pub engine: SharedEngine,
    pub model: ModelId,
}

impl Upstreams {
    /// Checks what is asked for. `gateway`: so that two gateways have no address in common.
    pub(crate) fn new(
        configs: Vec<UpstreamConfig>,
        gateway: &PublicKey,
    ) -> Result<Upstreams, GatewayError> {
        let mut state = BTreeMap::new();
        if configs.len() > UPSTREAMS_MAX {
            let problem = format!("there may be {UPSTREAMS_MAX} of them");
            return Err(GatewayError::Upstream { name: String::new(), problem });
        }
        for config in &configs {
            config.check()?;
            let address = Address::of_upstream(gateway, &config.name);
            let models = config.models.iter().map(|model| Model {
                serves: model.serves.as_str().into(),
                id: ModelId(sha256(&[b"peerwatt/upstream-model\0", model.serves.as_bytes()]).0),
                price: model.price,
                known: None,
                record: Record::default(),
            });
            let upstream = Upstream {
                name: config.name.as_str().into(),
                role: config.role,
                slots: config.slots,
                models: models.collect(),
                engine: None,
                in_flight: 0,
            };
            if state.insert(address, upstream).is_some() {
                let problem = "there are two of this name".to_owned();
                return Err(GatewayError::Upstream { name: config.name.clone(), problem });
            }
        }
        Ok(Upstreams { configs, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Upstream>> {
        // No code under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to reach them all.
    pub(crate) fn start(shared: &Arc<Shared>) {
        for config in shared.upstreams.configs.clone() {
            shared.tasks.spawn(reach(Arc::clone(shared), config));
        }
    }

    fn reached(&self, name: &str, connected: ConnectedUpstream) {
        let mut state = self.lock();
        let Some(upstream) = state.values_mut().find(|upstream| *upstream.name == *name) else {
            return;
        };
        for (model, known) in upstream.models.iter_mut().zip(connected.models) {
            model.known = Some(known);
        }
        upstream.engine = Some(connected.engine);
    }

    /// Whether some service can be asked.
    pub(crate) fn any_ready(&self) -> bool {
        !self.configs.is_empty() && self.lock().values().any(|upstream| upstream.engine.is_some())
    }

    /// What a client's name means that no provider knows.
    pub(crate) fn resolve(&self, name: &str) -> Option<ModelId> {
        if self.configs.is_empty() {
            return None;
        }
        let as_id = name.parse().ok();
        let state = self.lock();
        let mut models = state.values().flat_map(|upstream| &upstream.models);
        models.find(|it| *it.serves == *name || Some(it.id) == as_id).map(|it| it.id)
    }

    /// Those of a role that have the model which a client calls `name`.
    pub(crate) fn candidates(
        &self,
        (name, model): (&str, ModelId),
        tried: &[Address],
        role: UpstreamRole,
    ) -> Vec<Candidate> {
        if self.configs.is_empty() {
            return Vec::new();
        }
        let state = self.lock();
        let of_role = state.iter().filter(|(_, upstream)| upstream.role == role);
        let candidate = |(address, upstream): (&Address, &Upstream)| {
            let (found, known) = upstream.model(name, model)?;
            Some(Candidate {
                provider: *address,
                model,
                price: found.price,
                context_tokens: known.context_tokens,
                abilities: known.abilities,
                region: Arc::from(""),
                is_warm: false,
                slots: upstream.slots,
                in_flight: upstream.in_flight,
                payable: true,
                tried: tried.contains(address),
                record: found.record.clone(),
            })
        };
        of_role.filter_map(candidate).collect()
    }

    /// Takes one of a service's slots.
    pub(crate) fn take(
        shared: &Arc<Shared>,
        address: Address,
        (name, model): (&str, ModelId),
    ) -> Option<Called> {
        let mut state = shared.upstreams.lock();
        let upstream = state.get_mut(&address)?;
        let engine = Arc::clone(upstream.engine.as_ref()?);
        let (_, known) = upstream.model(name, model)?;
        let (model, alias) = (known.id, known.alias.clone());
        upstream.in_flight = upstream.in_flight.saturating_add(1);
        let name = Arc::clone(&upstream.name);
        let slot = UpstreamSlot { shared: Arc::clone(shared), address, name, model: alias };
        Some(Called { slot, engine, model })
    }

    /// Takes note of what became of a request. `false`: it is none of these services.
    pub(crate) fn observe(
        &self,
        address: &Address,
        (name, model): (&str, ModelId),
        now: TimeMs,
        outcome: Outcome,
    ) -> bool {
        if self.configs.is_empty() {
            return false;
        }
        let mut state = self.lock();
        let Some(upstream) = state.get_mut(address) else { return false };
        if let Some(found) = upstream.models.iter_mut().find(|it| it.is(name, model)) {
            found.record.observe(now, outcome);
        }
        true
    }

    /// What an address stands for, if it is one of these services.
    pub(crate) fn name_of(&self, address: &Address) -> Option<Arc<str>> {
        if self.configs.is_empty() {
            return None;
        }
        self.lock().get(address).map(|upstream| Arc::clone(&upstream.name))
    }

    /// What is asked for the models of those that were reached.
    pub(crate) fn offers(&self, now: TimeMs) -> Vec<UpstreamOffer> {
        let state = self.lock();
        let offers = |(address, upstream): (&Address, &Upstream)| -> Vec<UpstreamOffer> {
            let offer = |model: &Model| {
                let known = model.known.as_ref()?;
                Some(UpstreamOffer {
                    address: *address,
                    name: Arc::clone(&upstream.name),
                    slots: upstream.slots,
                    serves: Arc::clone(&model.serves),
                    id: model.id,
                    price: listed_price(model.price, &known.abilities),
                    context_tokens: known.context_tokens,
                    available: !matches!(model.record.health(now), Health::Quarantined { .. }),
                })
            };
            upstream.models.iter().filter_map(offer).collect()
        };
        state.iter().flat_map(offers).collect()
    }

    /// Models of names that no provider has now.
    pub(crate) fn models(&self, is_offered: impl Fn(&str) -> bool) -> Vec<ModelView> {
        if self.configs.is_empty() {
            return Vec::new();
        }
        let state = self.lock();
        let mut views: BTreeMap<ModelId, ModelView> = BTreeMap::new();
        let models = state.values().flat_map(|upstream| &upstream.models);
        for model in models.filter(|model| !is_offered(&model.serves)) {
            let Some(known) = &model.known else { continue };
            let view = views.entry(model.id).or_insert_with(|| ModelView {
                alias: model.serves.as_ref().to_owned(),
                model: model.id,
                providers: 0,
                price_min: model.price,
                context_tokens_max: 0,
                abilities: known.abilities,
                resold: true,
            });
            view.providers += 1;
            view.context_tokens_max = view.context_tokens_max.max(known.context_tokens);
            view.abilities = view.abilities.or(&known.abilities);
            if model.price.completion_nusd_per_mtok < view.price_min.completion_nusd_per_mtok {
                view.price_min = model.price;
            }
        }
        views.into_values().collect()
    }
}

/// A model of a service, as the list of prices has it.
pub(crate) struct UpstreamOffer {
    pub address: Address,
    pub name: Arc<str>,
    pub slots: u32,
    pub serves: Arc<str>,
    pub id: ModelId,
    pub price: Price,
    pub context_tokens: u32,
    /// Whether it would be asked now.
    pub available: bool,
}

impl UpstreamConfig {
    fn check(&self) -> Result<(), GatewayError> {
        let bad = |problem: String| {
            Err(GatewayError::Upstream { name: self.name.chars().take(64).collect(), problem })
        };
        let plain =
            |char: u8| char.is_ascii_lowercase() || char.is_ascii_digit() || b"-_.".contains(&char);
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            return bad("a name has 1 to 64 lower-case letters, digits, -, _ and .".into());
        }
        if self.slots == 0 {
            return bad("slots are 1 or more".into());
        }
        if !(1..=MODELS_MAX).contains(&self.models.len()) {
            return bad(format!("it has 1 to {MODELS_MAX} models"));
        }
        let mut names: Vec<&str> = self.models.iter().map(|model| model.serves.as_str()).collect();
        names.sort_unstable();
        if let Some(name) = names.iter().find(|name| !(1..=NAME_BYTES_MAX).contains(&name.len())) {
            return bad(format!("`{name}` is no name of a model: 1 to {NAME_BYTES_MAX} bytes"));
        }
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return bad(format!("it serves `{}` twice", pair[0]));
        }
        Ok(())
    }
}

/// One of a service's slots, given back when dropped.
pub(crate) struct UpstreamSlot {
    shared: Arc<Shared>,
    address: Address,
    name: Arc<str>,
    model: String,
}

impl UpstreamSlot {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// For the receipt.
    pub(crate) fn bought(&self) -> Bought {
        Bought { upstream: self.name.as_ref().to_owned(), model: self.model.clone() }
    }
}

impl Drop for UpstreamSlot {
    fn drop(&mut self) {
        if let Some(upstream) = self.shared.upstreams.lock().get_mut(&self.address) {
            upstream.in_flight = upstream.in_flight.saturating_sub(1);
        }
        self.shared.freed.notify_waiters();
    }
}

/// Reaches a service, however often that takes.
async fn reach(shared: Arc<Shared>, config: UpstreamConfig) {
    let mut pause = RETRY_MIN;
    loop {
        let connected = tokio::select! {
            () = shared.stop.cancelled() => return,
            connected = (config.connect)() => connected,
        };
        match connected {
            Ok(connected) => {
                let version = connected.engine.version();
                tracing::info!(upstream = config.name, %version, "upstream.reached");
                shared.upstreams.reached(&config.name, connected);
                shared.freed.notify_waiters();
                return;
            }
            Err(error) => {
                tracing::warn!(upstream = config.name, %error, again_in = ?pause, "upstream.away");
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = pause.saturating_mul(2).min(RETRY_MAX);
    }
}
