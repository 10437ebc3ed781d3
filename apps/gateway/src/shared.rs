//! What every part of a running gateway holds on to.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{Address, ModelId, Nusd, TimeMs, Watt};

use crate::{
    accounts::{KeyId, key_id},
    books::Books,
    config::GatewayConfig,
    demands::Demands,
    fleet::Fleet,
    hedges::HedgeBudget,
    metrics::Metrics,
    payments::Payments,
    providers::Directory,
    threads::Threads,
    traces::{self, Tracer},
    treasury::Command,
    upstreams::Upstreams,
    views::{AccountSummary, ModelView, listed_price},
};

/// Exports of usage at once.
const EXPORTS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: GatewayConfig,
    pub books: Books,
    /// If API keys are in a database.
    pub fleet: Option<Arc<Fleet>>,
    pub directory: Directory,
    /// Services outside the network.
    pub upstreams: Upstreams,
    pub metrics: Metrics,
    pub hedges: HedgeBudget,
    pub demands: Demands,
    /// By callers without an API key.
    pub payments: Payments,
    /// `None`: nothing is traced.
    pub tracer: Option<Tracer>,
    /// Places for exports of usage, each of which holds a thread while its client reads.
    pub exports: Arc<Semaphore>,
    /// The digest of the key that opens the operator's part of the API.
    pub admin: Option<KeyId>,
    /// The account of the operator key.
    pub operator: Address,
    /// To the treasury's loop.
    pub treasury: mpsc::Sender<Command>,
    pub account: Mutex<AccountSummary>,
    /// Told whenever a request that waits may find a provider: a slot is free, a channel is funded,
    /// somebody has connected.
    pub freed: Notify,
    /// Owns every task.
    pub tasks: TaskTracker,
    /// Ends the background loops.
    pub stop: CancellationToken,
    /// Answer clients, once there is a listener for them. They end with all that holds this: what is left of a request whose
    /// client has gone runs on them.
    threads: OnceLock<Threads>,
    /// No new requests are taken.
    closing: AtomicBool,
    began: Instant,
}

impl Shared {
    pub(crate) fn new(
        config: GatewayConfig,
        books: Books,
        fleet: Option<Arc<Fleet>>,
        upstreams: Upstreams,
        treasury: mpsc::Sender<Command>,
    ) -> Shared {
        let operator = Address::of_key(&config.operator.public_key());
        let tracer = config
            .collector
            .clone()
            .map(|collector| Tracer::start(collector, traces::resource(&config, operator)));
        let account = AccountSummary {
            address: operator,
            watt: Watt::ZERO,
            credits: Nusd::ZERO,
            registered: false,
            channels: Vec::new(),
            read_at: None,
            problem: None,
        };
        Shared {
            directory: Directory::new(config.limits.providers_max),
            upstreams,
            metrics: Metrics::default(),
            hedges: HedgeBudget::default(),
            demands: Demands::default(),
            payments: Payments::new(),
            tracer,
            exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
            admin: config.admin_key.as_deref().map(key_id),
            config,
            books,
            fleet,
            operator,
            treasury,
            account: Mutex::new(account),
            freed: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            threads: OnceLock::new(),
            closing: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    /// Milliseconds since the gateway began: the time of breakers and measurements.
    pub(crate) fn since_start(&self) -> TimeMs {
        TimeMs(millis(self.began.elapsed()))
    }

    /// The time of day.
    pub(crate) fn now(&self) -> TimeMs {
        (self.config.clock)()
    }

    /// What a client's name for a model means.
    pub(crate) fn resolve(&self, name: &str) -> Option<ModelId> {
        let offered = self.directory.resolve(name).map(|resolved| resolved.model);
        offered.or_else(|| self.upstreams.resolve(name))
    }

    /// All models, those of upstreams last.
    pub(crate) fn models(&self) -> Vec<ModelView> {
        let mut models = self.directory.models();
        let names: BTreeSet<String> = models.iter().map(|view| view.alias.clone()).collect();
        // A name that providers had before means their model still, and whoever lists it must find it.
        let named = |view: ModelView| match self.directory.resolve(&view.alias) {
            Some(resolved) => ModelView { model: resolved.model, ..view },
            None => view,
        };
        models.extend(self.upstreams.models(|name| names.contains(name)).into_iter().map(named));
        for view in &mut models {
            view.price_min = listed_price(view.price_min, &view.abilities);
        }
        models
    }

    /// Whether somebody can be asked for something.
    pub(crate) fn any_ready(&self) -> bool {
        self.directory.any_ready() || self.upstreams.any_ready()
    }

    /// Those that answer clients.
    pub(crate) fn threads(&self) -> std::io::Result<&Threads> {
        if let Some(threads) = self.threads.get() {
            return Ok(threads);
        }
        let threads = Threads::beside_this()?;
        // Another listener may have been quicker.
        Ok(self.threads.get_or_init(|| threads))
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn update_account(&self, change: impl FnOnce(&mut AccountSummary)) {
        change(&mut self.account.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
