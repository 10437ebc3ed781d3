//! Starts a provider, owns its tasks, and ends it in order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt;
use tokio::{
    sync::Mutex,
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};
use types::{ChannelId, ModelId, Nusd, PublicKey, Watt, sha256, state::ProviderProfile};
use wire::chain::{ChainError, GatewayView};

use crate::{
    auditing::{self, Opener},
    books::{Attempt, Books, StoredReceipt},
    config::ProviderConfig,
    heartbeat::Heartbeat,
    journal::BooksError,
    link::{self, Listed, Target},
    redeem::{self, RedeemError, Urgency},
    register::{self, RegisterError},
    shared::Shared,
    status::ProviderStatus,
    why::{Why, write_why},
};

/// How often the chain is asked for gateways.
const GATEWAYS_INTERVAL: Duration = Duration::from_secs(15);
/// Gateways that are dialled; a longer list is cut.
const GATEWAYS_MAX: usize = 256;
/// How long looking up the name of a gateway's host may take.
const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// How often engines are asked for their models.
const CATALOG_INTERVAL: Duration = Duration::from_secs(10);
/// How often the registration is compared with the models that are offered. Every change of it costs
/// a fee, so engines that come and go within this time cost nothing.
const LISTING_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// How often channels are read: the shortest withdraw delay is thirty times as long.
const CHANNELS_INTERVAL: Duration = Duration::from_secs(30);
/// How often it is written down why requests went elsewhere.
const WHY_INTERVAL: Duration = Duration::from_secs(10);
/// How often old receipts are forgotten.
const TIDY_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// Why a provider does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("cannot open the provider's books in {home}", home = home.display())]
    Books { home: std::path::PathBuf, source: BooksError },
    #[error("the provider is not registered")]
    Register { source: RegisterError },
}

/// The provider; see [`Provider::start`].
#[derive(Debug)]
pub struct Provider;

impl Provider {
    /// Opens the books, registers the operator where needed, and begins to serve. Returns when the
    /// first offer can be made; gateways are dialled from then on.
    pub async fn start(config: ProviderConfig) -> Result<ProviderHandle, ProviderError> {
        let home = config.home.clone();
        let shared = Shared::open(config);
        let shared = Arc::new(shared.map_err(|source| ProviderError::Books { home, source })?);
        // The registration lists the models.
        shared.refresh_catalog().await;
        match register(&shared, shared.config.bond).await {
            Ok(()) => {}
            Err(error @ RegisterError::Update { .. }) => shared.failed(&error),
            Err(source) => return Err(ProviderError::Register { source }),
        }
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Ok(ProviderHandle { shared, task: Mutex::new(Some(task)) })
    }
}

/// A running provider. Dropping it lets the provider run; [`ProviderHandle::shutdown`] ends it.
pub struct ProviderHandle {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for ProviderHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProviderHandle(of {})", self.shared.operator)
    }
}

impl ProviderHandle {
    pub fn status(&self) -> ProviderStatus {
        let shared = &self.shared;
        let channels = shared.channels.views();
        let (earned, unredeemed) =
            shared.books.read(|books| (books.earned(), redeem::unredeemed(books, &channels)));
        shared.board.read(|counts| ProviderStatus {
            operator: shared.operator,
            node_key: shared.config.endpoint.node_key(),
            models: shared.catalog().offers(),
            slots: shared.slots(),
            active: shared.active(),
            served: counts.served,
            tokens_delivered: counts.tokens_delivered,
            unacknowledged: counts.unacknowledged,
            earned,
            unredeemed,
            redeemed: counts.redeemed,
            held_back: redeem::held_back(&channels),
            last_redemption: counts.last_redemption,
            links: counts.links(),
            refusals: counts.refusals.clone(),
            violations: counts.violations.clone(),
            errors: counts.errors.iter().cloned().collect(),
        })
    }

    /// Waits until a status is as wanted, and returns it. Looks whenever something has changed.
    pub async fn until(&self, wanted: impl Fn(&ProviderStatus) -> bool) -> ProviderStatus {
        let mut changes = self.shared.board.watch();
        loop {
            changes.borrow_and_update();
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            if changes.changed().await.is_err() {
                return status;
            }
        }
    }

    /// Why requests went elsewhere, as gateways tell it.
    pub fn why(&self) -> Why {
        why(&self.shared)
    }

    /// Both parts of a receipt. `None`: there is none, or its retention is over.
    pub fn receipt(&self, attempt: Attempt) -> Result<Option<StoredReceipt>, BooksError> {
        self.shared.books.receipt(attempt)
    }

    /// The attempts of the latest receipts, latest first.
    pub fn latest_receipts(&self, count: usize) -> Vec<Attempt> {
        self.shared.books.read(|books| books.latest_receipts(count))
    }

    /// Redeems everything that is worth its fee. Returns how much was claimed.
    pub async fn redeem(&self) -> Result<Nusd, RedeemError> {
        redeem(&self.shared, Urgency::All).await
    }

    /// Tells gateways that we leave, lets running requests end for as long as configured, redeems,
    /// makes the journal durable and closes the endpoint. A second call waits for the first.
    pub async fn shutdown(&self) {
        self.shared.leaving.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            self.shared.failed(&error);
        }
    }
}

/// Registers, or brings the registration up to date.
async fn register(shared: &Shared, bond: Watt) -> Result<(), RegisterError> {
    let config = &shared.config;
    let mut models: Vec<ModelId> =
        shared.catalog().offers().into_iter().map(|offer| offer.model).collect();
    models.sort_unstable();
    let profile = ProviderProfile {
        moniker: config.moniker.clone(),
        region: config.region.clone(),
        class: config.class.clone(),
        models,
        price_max: None,
    };
    let node_key = config.endpoint.node_key();
    register::register(&*config.chain, &shared.sender, node_key, profile, bond).await
}

/// Keeps the models that the registration lists true.
async fn keep_listed(shared: &Shared) {
    if let Err(error) = register(shared, Watt::ZERO).await {
        shared.failed(&error);
    }
}

/// Everything that runs beside the caller, until we leave.
async fn run(shared: Arc<Shared>) {
    keep_why(&shared).await;
    let links = keep_links(&shared);
    let catalog = every(&shared, CATALOG_INTERVAL, || shared.refresh_catalog());
    let listing = every(&shared, LISTING_INTERVAL, || keep_listed(&shared));
    let tidying = every(&shared, TIDY_INTERVAL, || tidy(&shared));
    let reporting = every(&shared, WHY_INTERVAL, || keep_why(&shared));
    let drain = async {
        shared.leaving.cancelled().await;
        tokio::time::sleep(Duration::from_millis(shared.config.drain_ms)).await;
        shared.cut.cancel();
        std::future::pending::<()>().await;
    };
    let (redeeming, seen) = (keep_redeemed(&shared), keep_seen(&shared));
    let committing = every(&shared, shared.config.commit_interval, || keep_committed(&shared));
    let opening = keep_opened(&shared);
    let audits = async { tokio::join!(committing, opening) };
    let serving = async {
        tokio::join!(links, catalog, listing, tidying, reporting, redeeming, seen, audits);
    };
    tokio::select! {
        () = serving => {}
        () = drain => {}
    }
    if let Err(error) = redeem(&shared, Urgency::All).await {
        shared.failed(&error);
    }
    shared.config.endpoint.close().await;
    shared.config.audit_endpoint.close().await;
    tidy(&shared).await;
    keep_why(&shared).await;
}

/// Writes down why requests went elsewhere, for `peerwatt provider why`.
async fn keep_why(shared: &Shared) {
    let (why, home) = (why(shared), shared.config.home.clone());
    match tokio::task::spawn_blocking(move || write_why(&home, &why)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.failed(&error),
        Err(error) => shared.failed(&error),
    }
}

fn why(shared: &Shared) -> Why {
    let at = shared.now();
    let models = shared.catalog().offers().into_iter().map(|offer| offer.alias).collect();
    let (slots, hours) = (shared.slots(), shared.hours.rows(at));
    shared.board.read(|counts| Why {
        at,
        models,
        slots,
        links: counts.links(),
        errors: counts.errors.iter().cloned().collect(),
        hours,
    })
}

/// Keeps our heartbeats coming. Ends when we leave.
async fn keep_seen(shared: &Shared) {
    let mut heartbeat = Heartbeat::default();
    loop {
        let looked = heartbeat.look(&*shared.config.chain, &shared.sender, shared.now()).await;
        let wait = looked.unwrap_or_else(|error| {
            shared.failed(&error);
            Heartbeat::RETRY
        });
        tokio::select! {
            biased;
            () = shared.leaving.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Does `work` now and again until we leave.
async fn every<F: Future<Output = ()>>(shared: &Shared, period: Duration, work: impl Fn() -> F) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            () = shared.leaving.cancelled() => return,
            _ = ticks.tick() => work().await,
        }
    }
}

/// Keeps a link to every gateway. Ends when we leave and all links have.
async fn keep_links(shared: &Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let mut targets: BTreeMap<PublicKey, Target> = BTreeMap::new();
    let mut ticks = tokio::time::interval(GATEWAYS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shared.leaving.cancelled() => break,
            _ = ticks.tick() => {}
            Some(_) = tasks.join_next() => continue,
        }
        let views = match shared.config.chain.gateways().await {
            Ok(views) => Some(views),
            Err(error) => {
                shared.failed(&GatewaysError { source: error });
                None
            }
        };
        let listed = gateways(shared, views, &targets).await;
        for target in update(&mut targets, listed) {
            tasks.spawn(link::run(Arc::clone(shared), target));
        }
    }
    while tasks.join_next().await.is_some() {}
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the list of gateways; the known ones are kept")]
struct GatewaysError {
    source: ChainError,
}

/// Brings `targets` up to date. Returns the new ones.
fn update(
    targets: &mut BTreeMap<PublicKey, Target>,
    listed: BTreeMap<PublicKey, Listed>,
) -> Vec<Target> {
    targets.retain(|gateway, target| {
        let stays = listed.contains_key(gateway);
        if !stays {
            target.unlisted.cancel();
        }
        stays
    });
    let mut new = Vec::new();
    for (gateway, listed) in listed {
        match targets.get(&gateway) {
            Some(target) => target.set_listed(listed),
            None => {
                let target = Target::new(gateway, listed);
                targets.insert(gateway, target.clone());
                new.push(target);
            }
        }
    }
    new
}

/// Those of the gateways on the chain that are dialled, and those configured. `None`: what is on the chain is not known now.
async fn gateways(
    shared: &Shared,
    views: Option<Vec<GatewayView>>,
    targets: &BTreeMap<PublicKey, Target>,
) -> BTreeMap<PublicKey, Listed> {
    let own = shared.config.endpoint.node_key();
    let mut listed: BTreeMap<PublicKey, Listed> = match &views {
        Some(_) => BTreeMap::new(),
        None => targets.iter().map(|(gateway, target)| (*gateway, target.listed())).collect(),
    };
    let mut views = views.unwrap_or_default();
    views.retain(|view| view.node_key != own);
    // Whoever registers many must not be able to say which ones all providers dial.
    views.sort_by_cached_key(|view| {
        (!targets.contains_key(&view.node_key), sha256(&[&own.0, &view.node_key.0]))
    });
    let chosen = views.iter().take(GATEWAYS_MAX);
    let resolved = futures::future::join_all(
        chosen.map(|view| resolve(view.node_key, &view.addrs).map(move |addrs| (view, addrs))),
    );
    for (view, addrs) in resolved.await {
        // Anybody may register a node key that is another's, so neither hides the other.
        let listed = listed.entry(view.node_key).or_default();
        listed.addrs.extend(addrs);
        listed.operators.insert(view.operator);
    }
    for target in &shared.config.gateways {
        let listed = listed.entry(target.node_key).or_default();
        listed.addrs.clone_from(&target.addrs);
        listed.is_trusted = true;
    }
    listed
}

/// The socket addresses of a node; names are looked up.
pub(crate) async fn resolve(node_key: PublicKey, named: &[String]) -> Vec<std::net::SocketAddr> {
    let mut addrs = Vec::new();
    for addr in named.iter().take(types::limits::GATEWAY_ADDRS_MAX) {
        match tokio::time::timeout(RESOLVE_WAIT, tokio::net::lookup_host(addr.as_str())).await {
            Ok(Ok(found)) => addrs.extend(found.take(types::limits::GATEWAY_ADDRS_MAX)),
            Ok(Err(error)) => {
                tracing::warn!(node = %node_key, addr, %error, "provider.resolve")
            }
            Err(_) => tracing::warn!(node = %node_key, addr, "provider.resolve timed out"),
        }
    }
    addrs
}

/// Watches channels and redeems when it is time. Ends when we leave.
async fn keep_redeemed(shared: &Shared) {
    let interval = Duration::from_millis(shared.config.redeem.interval_ms.max(1));
    let mut channels = tokio::time::interval(CHANNELS_INTERVAL);
    let mut all = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
    for ticks in [&mut channels, &mut all] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let urgency = tokio::select! {
            biased;
            () = shared.leaving.cancelled() => return,
            () = shared.redeem.notified() => Urgency::All,
            _ = all.tick() => Urgency::All,
            _ = channels.tick() => Urgency::Closing,
        };
        if let Err(error) = redeem(shared, urgency).await {
            shared.failed(&error);
        }
    }
}

/// Commits to what can be audited.
async fn keep_committed(shared: &Shared) {
    if auditing::due(shared).is_empty() {
        return;
    }
    // Who has earned nothing yet pays the fee from what it claims.
    if let Err(error) = redeem(shared, Urgency::All).await {
        shared.failed(&error);
    }
    if let Err(error) = auditing::commit(shared).await {
        shared.failed(&error);
    }
}

/// Opens what auditors are to see. Ends when we leave.
async fn keep_opened(shared: &Arc<Shared>) {
    let mut opener = Opener::new(shared);
    loop {
        let looked = tokio::select! {
            biased;
            () = shared.leaving.cancelled() => break,
            looked = opener.look() => looked,
        };
        let wait = looked.unwrap_or_else(|error| {
            shared.failed(&error);
            Opener::RETRY
        });
        tokio::select! {
            biased;
            () = shared.leaving.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    opener.stop().await;
}

/// The channels that are looked at: now and then all that we ever served in, otherwise those with something to claim, whose payers may
/// be about to close them, or with something on its way.
fn due(shared: &Shared, urgency: Urgency) -> Vec<ChannelId> {
    let brings = |books: &Books, id: &ChannelId| {
        shared
            .channels
            .view(*id)
            .is_none_or(|view| redeem::batch(books, &view).is_some() || !view.pending().is_zero())
    };
    shared.books.read(|books| {
        let all = books.channels().into_iter();
        all.filter(|id| urgency == Urgency::All || brings(books, id)).collect()
    })
}

/// Reads what is claimed and claims what is due. A failed batch does not keep others back.
async fn redeem(shared: &Shared, urgency: Urgency) -> Result<Nusd, RedeemError> {
    let read = |source| RedeemError::Read { source };
    let (channels, unread) = shared.channels.read(due(shared, urgency)).await;
    for channel in channels.iter().filter(|channel| !channel.open) {
        shared.books.update(|books| books.forget_channel(channel.id));
    }
    let status = shared.config.chain.status().await.map_err(read)?;
    let batches = shared.books.read(|books| redeem::plan(books, &channels, &status, urgency));
    let (mut claimed, mut failure) = (Nusd::ZERO, unread.map(RedeemError::from));
    let claims: Vec<ChannelId> = batches.iter().map(|batch| batch.channel).collect();
    for batch in batches {
        match redeem::send(&shared.sender, batch, shared.now()).await {
            Ok(redeemed) => {
                claimed = claimed.saturating_add(redeemed.value);
                shared.board.update(|counts| {
                    counts.redeemed = counts.redeemed.saturating_add(redeemed.value);
                    counts.last_redemption = Some(redeemed.tx);
                });
            }
            Err(error) => failure = Some(error),
        }
    }
    if !claimed.is_zero() {
        // So that the next look sees what is claimed now.
        let (_, unread) = shared.channels.read(claims).await;
        failure = failure.or(unread.map(RedeemError::from));
        shared.board.changed();
    }
    failure.map_or(Ok(claimed), Err)
}

async fn tidy(shared: &Arc<Shared>) {
    let shared_too = Arc::clone(shared);
    let tidied = tokio::task::spawn_blocking(move || {
        let (now, config) = (shared_too.now(), &shared_too.config);
        let (receipts_ms, openings_ms) =
            (config.receipts_retention_ms, config.openings_retention_ms);
        shared_too.books.tidy(now, receipts_ms, openings_ms)?;
        Ok::<_, BooksError>(shared_too.openings.tidy(now, config.openings_retention_ms)?)
    });
    match tidied.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => shared.failed(&error),
        Err(error) => shared.failed(&error),
    }
}
