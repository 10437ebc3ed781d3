//! Starting a gateway, and the handle by which the rest of the process uses it.

use std::{
    future::Future,
    sync::{Arc, PoisonError},
    time::Duration,
};

use ::http::HeaderMap;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use types::{
    Nusd, RequestId,
    inference::{InferenceRequest, Prompt},
    sha256,
};

use crate::{
    accounts::{KeyId, KeyLimits, key_id},
    answering::{Answering, Ended, Part},
    books::{Books, Member},
    chat::{ChatEvent, ChatRequest, ChatStream, ChatSummary},
    config::GatewayConfig,
    dispatch::{self, Job, Needs},
    error::{GatewayError, KeyError, ReceiptLookupError, RequestFailure},
    fleet::{self, DatabaseError, Fleet},
    http, keyring,
    metrics::{Api, Measured},
    payments::X402_KEY,
    providers, serve,
    shared::{Shared, millis},
    traces::RequestSpan,
    treasury,
    upstreams::Upstreams,
    views::{AccountSummary, KeyView, ModelView, ProviderView, RequestView, StoredReceipt},
};

/// The key that pays for the web page's chat box. Nobody knows it, so no request over HTTP can use it.
pub const PLAYGROUND_KEY: &str = "playground";

/// What it may spend unless told otherwise.
pub const PLAYGROUND_BUDGET: Nusd = Nusd::whole(5);

/// How often old receipts are removed and the journal is looked at.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// Parts of an answer that may wait for the web page.
const CHAT_EVENTS_MAX: usize = 64;
/// For the books of requests whose clients were cut off at shutdown.
const SETTLE_MS_MAX: u64 = 10_000;

/// A gateway; see [`Gateway::start`].
#[derive(Debug)]
pub struct Gateway;

/// A running gateway. Clones are the same gateway.
#[derive(Clone, Debug)]
pub struct GatewayHandle {
    pub(crate) shared: Arc<Shared>,
}

impl Gateway {
    /// Opens the books and starts to accept providers. Returns before the ledger was reached:
    /// registering, buying credits and opening channels go on in the background.
    pub async fn start(config: GatewayConfig) -> Result<GatewayHandle, GatewayError> {
        let folder = config.home.join("journal");
        let fleet = join_fleet(&config).await?;
        let (fleet, member) = fleet.map_or((None, None), |(fleet, it)| (Some(fleet), Some(it)));
        let opened = tokio::task::spawn_blocking(move || Books::open_as(&folder, member)).await;
        let books = match opened {
            Ok(books) => books?.signed_by(Arc::clone(&config.payer)),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let (treasury, commands) = mpsc::channel(treasury::COMMANDS_MAX);
        let upstreams = Upstreams::new(config.upstreams.clone(), &config.operator.public_key())?;
        let shared = Arc::new(Shared::new(config, books, fleet, upstreams, treasury));
        let handle = GatewayHandle { shared };
        let shared = &handle.shared;
        if let Some(fleet) = &shared.fleet {
            fleet::begin(shared, fleet).await?;
        }
        handle.make_playground_key().await?;
        if shared.config.x402 {
            let made = handle.begin_payments().await;
            made.map_err(|source| GatewayError::Payments { source })?;
        }
        if let Some(fleet) = &shared.fleet {
            shared.tasks.spawn(fleet::run(Arc::clone(shared), Arc::clone(fleet)));
        }
        shared.tasks.spawn(treasury::run(Arc::clone(shared), commands));
        shared.tasks.spawn(providers::accept_providers(Arc::clone(shared)));
        shared.tasks.spawn(tidy(Arc::clone(shared)));
        Upstreams::start(shared);
        Ok(handle)
    }
}

/// Connects to the database that several gateways share, if there is one.
async fn join_fleet(config: &GatewayConfig) -> Result<Option<(Arc<Fleet>, Member)>, GatewayError> {
    let Some(url) = &config.database else { return Ok(None) };
    let problem = |source| GatewayError::Database { source };
    let gateway = sha256(&[b"peerwatt/gateway\0", &config.endpoint.node_key().0]);
    let fleet = Fleet::start(url, gateway).await.map_err(problem)?;
    #[cfg(test)]
    let fleet = fleet.with_clock_of(config);
    let keys = fleet.keys(None).await.map_err(problem)?;
    let names = keys.into_iter().map(|known| (known.id, known.view.name)).collect();
    tracing::info!(database = ?url, "gateway.joined_fleet");
    Ok(Some((Arc::new(fleet), Member::new(names))))
}

/// Keeps the journal and its index within the retention.
async fn tidy(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(TIDY_INTERVAL) => {}
        }
        let task = Arc::clone(&shared);
        let retention_ms = shared.config.receipt_retention_ms;
        let tidied =
            tokio::task::spawn_blocking(move || task.books.tidy(task.now(), retention_ms)).await;
        match tidied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "gateway.tidy"),
            Err(error) => tracing::error!(%error, "gateway.tidy"),
        }
        if let Some(fleet) = &shared.fleet
            && let Err(error) = fleet.forget(retention_ms).await
        {
            tracing::warn!(%error, "gateway.tidy");
        }
    }
}

impl GatewayHandle {
    /// The HTTP API, to be merged with other routes and served. It has no fallback of its own.
    pub fn router(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// `/metrics`, for a listener of its own.
    pub fn metrics_router(&self) -> axum::Router {
        http::metrics_router(Arc::clone(&self.shared))
    }

    /// Serves `router` on `listener` until `stop` completes, then lets running requests finish
    /// within the drain time. An error means that the listener takes no more connections.
    pub async fn serve(
        &self,
        listener: TcpListener,
        router: axum::Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let Shared { config, .. } = &*self.shared;
        let threads = self.shared.threads()?;
        serve::serve(&config.limits, &config.timeouts, threads, listener, router, stop).await
    }

    /// Makes a key and returns it; only its digest is kept.
    pub async fn create_api_key(&self, name: &str, limits: KeyLimits) -> Result<String, KeyError> {
        make_key(&self.shared, name, None, limits).await
    }

    /// Takes a key made elsewhere.
    pub async fn import_api_key(
        &self,
        name: &str,
        key: &str,
        limits: KeyLimits,
    ) -> Result<(), KeyError> {
        make_key(&self.shared, name, Some(key.to_owned()), limits).await.map(drop)
    }

    /// What is known of a key, if it is known and not revoked.
    pub async fn key(&self, key: &str) -> Result<Option<KeyView>, DatabaseError> {
        let view = keyring::view(&self.shared, &key_id(key)).await?;
        Ok(view.filter(|view| view.revoked_at.is_none()))
    }

    /// Replaces the limits of a key. What was used stays used.
    pub async fn set_limits(&self, name: &str, limits: KeyLimits) -> Result<(), KeyError> {
        keyring::limit(&self.shared, name, |_| Ok(limits)).await
    }

    /// Replaces what a key may spend in all, and leaves its other limits.
    pub async fn set_budget(&self, name: &str, budget: Option<Nusd>) -> Result<(), KeyError> {
        let change = |limits: &KeyLimits| Ok(KeyLimits { budget, ..limits.clone() });
        keyring::limit(&self.shared, name, change).await
    }

    async fn make_playground_key(&self) -> Result<(), GatewayError> {
        let made = self.playground_key(self.shared.config.playground_budget).await;
        made.map_err(|source| GatewayError::Playground { source })
    }

    /// From now on callers may pay by request, unless the key that stands for them was revoked.
    async fn begin_payments(&self) -> Result<(), KeyError> {
        self.own_key(X402_KEY, KeyLimits::default()).await?;
        if let Some(key) = keyring::named(&self.shared, X402_KEY).await? {
            self.shared.payments.begin(key);
        }
        Ok(())
    }

    async fn playground_key(&self, budget: Option<Nusd>) -> Result<(), KeyError> {
        match (keyring::named(&self.shared, PLAYGROUND_KEY).await?, budget) {
            (Some(_), None) => Ok(()),
            (Some(_), Some(_)) => self.set_budget(PLAYGROUND_KEY, budget).await,
            (None, _) => {
                let limits = KeyLimits::budget(budget.unwrap_or(PLAYGROUND_BUDGET));
                self.own_key(PLAYGROUND_KEY, limits).await
            }
        }
    }

    /// Makes a key that nobody is told, unless there is or was one of this name: a revoked one stays so.
    async fn own_key(&self, name: &str, limits: KeyLimits) -> Result<(), KeyError> {
        if !keyring::all_named(&self.shared, name).await?.is_empty() {
            return Ok(());
        }
        match self.create_api_key(name, limits).await {
            // Another gateway of the fleet was faster.
            Err(KeyError::NameTaken { .. }) if self.shared.fleet.is_some() => Ok(()),
            made => made.map(drop),
        }
    }

    /// The key of the web page's chat box, unless it was revoked.
    pub async fn playground(&self) -> Result<Option<KeyView>, DatabaseError> {
        match keyring::named(&self.shared, PLAYGROUND_KEY).await? {
            Some(id) => keyring::view(&self.shared, &id).await,
            None => Ok(None),
        }
    }

    /// All keys, by age, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<KeyView>, DatabaseError> {
        keyring::views(&self.shared).await
    }

    pub fn models(&self) -> Vec<ModelView> {
        self.shared.models()
    }

    pub fn providers(&self) -> Vec<ProviderView> {
        self.shared.directory.providers(self.shared.since_start())
    }

    /// The last `n` finished requests of this gateway, latest first; at most 1 000 are remembered.
    pub fn recent_requests(&self, n: usize) -> Vec<RequestView> {
        self.shared.books.recent(n)
    }

    /// The receipt of any request of this gateway, whichever key made it.
    pub fn receipt(&self, id: RequestId) -> Result<StoredReceipt, ReceiptLookupError> {
        self.shared.books.receipt(id, None)
    }

    /// The account as last read from the ledger, the channels as they are now.
    pub fn account(&self) -> AccountSummary {
        let account = self.shared.account.lock().unwrap_or_else(PoisonError::into_inner).clone();
        AccountSummary { channels: treasury::channel_summaries(&self.shared), ..account }
    }

    /// Waits until somebody can be asked for at least one model.
    pub async fn ready(&self) {
        self.until(Shared::any_ready).await;
    }

    /// Waits until no request is in work.
    pub(crate) async fn idle(&self) {
        self.until(|shared| shared.books.in_flight() == 0).await;
    }

    /// Waits until something holds that is announced on `freed`.
    pub(crate) async fn until(&self, holds: impl Fn(&Shared) -> bool) {
        loop {
            let freed = self.shared.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if holds(&self.shared) {
                return;
            }
            freed.await;
        }
    }

    /// Asks for an answer that the key named `key_name` pays for. Returns when its first piece is
    /// there.
    pub async fn chat(
        &self,
        request: ChatRequest,
        key_name: &str,
    ) -> Result<ChatStream, RequestFailure> {
        let key = keyring::named(&self.shared, key_name).await;
        let key = key.map_err(|_| RequestFailure::KeysAway)?.ok_or(RequestFailure::BadKey)?;
        let id = http::new_id();
        let measured = Measured::begin(&self.shared, Api::PAGE, id, &HeaderMap::new());
        let begun = self.begin_chat(request, (key, id), &measured).await;
        let (answering, job) = begun.inspect_err(|failure| measured.refused(failure))?;
        let (sender, events) = mpsc::channel(CHAT_EVENTS_MAX);
        self.shared.tasks.spawn(relay(answering, job, measured, sender));
        Ok(ChatStream { events })
    }

    async fn begin_chat(
        &self,
        request: ChatRequest,
        (key, id): (KeyId, RequestId),
        measured: &Measured,
    ) -> Result<(Answering, Arc<Job>), RequestFailure> {
        let ChatRequest { model, messages, tokens_max } = request;
        let request =
            InferenceRequest { tokens_max, ..InferenceRequest::of(Prompt::Chat(messages)) };
        if let Some(span) = measured.span() {
            span.asked(&model, &request, true);
        }
        request.check().map_err(|error| RequestFailure::Invalid {
            param: Some(error.field.into()),
            problem: error.to_string(),
        })?;
        let needs = Needs { place: measured.span().map(RequestSpan::place), ..Needs::default() };
        let job = dispatch::admit(&self.shared, key, id, model, &request, needs).await?;
        Ok((Answering::begin(&self.shared, &job, request).await?, job))
    }

    /// Takes no more requests, lets the running ones end, closes the books and the endpoint.
    pub async fn shutdown(&self) {
        let shared = &self.shared;
        shared.close();
        let drain = Duration::from_millis(shared.config.timeouts.drain_ms);
        if timeout(drain, self.idle()).await.is_err() {
            tracing::warn!(requests = shared.books.in_flight(), "gateway.drain_ended");
        }
        shared.stop.cancel();
        shared.tasks.close();
        let settle = Duration::from_millis(SETTLE_MS_MAX);
        if timeout(settle, shared.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = shared.tasks.len(), "gateway.shutdown_cut");
        }
        if let Some(tracer) = &shared.tracer {
            tracer.finish().await;
        }
        shared.config.endpoint.close().await;
    }
}

/// Passes an answer on to the web page. When nobody reads any more, it is dropped.
async fn relay(
    mut answering: Answering,
    job: Arc<Job>,
    measured: Measured,
    sender: mpsc::Sender<ChatEvent>,
) {
    loop {
        let part = tokio::select! {
            part = answering.part() => part,
            () = sender.closed() => return,
        };
        let Ended { outcome, usage, billing, has_calls } = match part {
            Part::Text { text, .. } => {
                measured.text();
                if sender.send(ChatEvent::Text(text)).await.is_err() {
                    return;
                }
                continue;
            }
            // It gives no tools, and asks for text.
            Part::Call { .. }
            | Part::Arguments { .. }
            | Part::Vectors(_)
            | Part::Continued { .. } => continue,
            Part::Ended(ended) => *ended,
        };
        if let Some(span) = measured.span() {
            let finish = outcome.as_ref().ok().map(|finish| (*finish, has_calls));
            span.closed(usage, &billing, finish);
        }
        let last = match outcome {
            Ok(finish) => {
                measured.answered(usage.completion_tokens);
                ChatEvent::Done(ChatSummary {
                    request_id: job.request_id,
                    provider: billing.provider,
                    prompt_tokens: usage.prompt_tokens,
                    completion_tokens: usage.completion_tokens,
                    cost: billing.cost,
                    finish,
                    duration_ms: millis(job.began.elapsed()),
                })
            }
            Err(failure) => {
                measured.refused(&failure);
                ChatEvent::Failed(failure)
            }
        };
        // Nobody waits any more, which changes nothing.
        let _ = sender.send(last).await;
        return;
    }
}

/// Makes a key known under a name that is free, a new one unless one is given. Only its digest is kept.
pub(crate) async fn make_key(
    shared: &Shared,
    name: &str,
    given: Option<String>,
    limits: KeyLimits,
) -> Result<String, KeyError> {
    let key = given.map_or_else(new_key, Ok)?;
    keyring::put(shared, name, &key, limits).await?;
    Ok(key)
}

/// `pw-` and 160 random bits.
fn new_key() -> Result<String, KeyError> {
    random_key("pw")
}

/// A key for a gateway's operator, [`GatewayConfig::admin_key`]: `pwadmin-` and 160 random bits.
pub fn new_admin_key() -> Result<String, KeyError> {
    random_key("pwadmin")
}

fn random_key(prefix: &str) -> Result<String, KeyError> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|source| KeyError::Randomness { source })?;
    Ok(format!("{prefix}-{}", types::hash::to_hex(&bytes)))
}
