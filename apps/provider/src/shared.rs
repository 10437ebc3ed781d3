//! What all tasks of a provider share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use types::{
    Address, Hash32, Nusd, PublicKey, TimeMs,
    offer::Offer,
    sign::{Signable, Signed},
};
use wire::{chain::TxSender, serve::ToGatewayControl};

use crate::{
    catalog::Catalog,
    channels::Channels,
    config::ProviderConfig,
    journal::{Bookkeeper, BooksError},
    openings::Openings,
    status::Board,
    why::{Hours, read_why},
};

/// Orders whose gateways are remembered: some megabytes.
const ORDERS_MAX: usize = 65_536;

pub(crate) struct Shared {
    pub(crate) config: ProviderConfig,
    pub(crate) operator: Address,
    pub(crate) books: Bookkeeper,
    /// What auditors may ask for.
    pub(crate) openings: Openings,
    pub(crate) channels: Channels,
    pub(crate) sender: TxSender,
    pub(crate) board: Board,
    pub(crate) orders: Orders,
    /// Why requests went elsewhere.
    pub(crate) hours: Hours,
    pub(crate) slots: Arc<Semaphore>,
    /// No new requests.
    pub(crate) leaving: CancellationToken,
    /// No patience for running ones either.
    pub(crate) cut: CancellationToken,
    /// Enough has been charged to redeem.
    pub(crate) redeem: Notify,
    catalog: RwLock<Arc<Catalog>>,
    charged_since_redemption: Mutex<Nusd>,
    offer_sequence: AtomicU64,
}

/// Which gateways ordered answers that may be disclosed, the latest ones; lost with the process.
#[derive(Debug, Default)]
pub(crate) struct Orders(Mutex<Ordered>);

#[derive(Debug, Default)]
struct Ordered {
    /// By the digests of the orders.
    gateways: BTreeMap<Hash32, PublicKey>,
    ages: VecDeque<Hash32>,
}

impl Orders {
    pub(crate) fn note(&self, order: Hash32, gateway: PublicKey) {
        let mut ordered = self.lock();
        // An order is taken once.
        ordered.gateways.insert(order, gateway);
        ordered.ages.push_back(order);
        if ordered.ages.len() > ORDERS_MAX
            && let Some(oldest) = ordered.ages.pop_front()
        {
            ordered.gateways.remove(&oldest);
        }
    }

    pub(crate) fn is_of(&self, order: &Hash32, gateway: PublicKey) -> bool {
        self.lock().gateways.get(order) == Some(&gateway)
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        // A change half made forgets one order at most.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    pub(crate) fn open(config: ProviderConfig) -> Result<Shared, BooksError> {
        let operator = config.operator_address();
        let books = Bookkeeper::open(&config.home)?;
        let openings = Openings::open(&config.home)?;
        let board = Board::new();
        // Whoever runs a provider can do without its report, but is told.
        let why = read_why(&config.home).unwrap_or_else(|error| {
            board.failed(config.clock.now(), &error);
            None
        });
        let (chain, clock) = (Arc::clone(&config.chain), Arc::clone(&config.clock));
        Ok(Shared {
            operator,
            books,
            openings,
            channels: Channels::new(Arc::clone(&chain), operator, clock),
            sender: TxSender::new(chain, Arc::clone(&config.operator)),
            board,
            orders: Orders::default(),
            hours: Hours::new(why.map(|why| why.hours).unwrap_or_default()),
            slots: Arc::new(Semaphore::new(usize::try_from(config.slots).unwrap_or(1))),
            leaving: CancellationToken::new(),
            cut: CancellationToken::new(),
            redeem: Notify::new(),
            catalog: RwLock::default(),
            charged_since_redemption: Mutex::default(),
            offer_sequence: AtomicU64::new(0),
            config,
        })
    }

    pub(crate) fn now(&self) -> TimeMs {
        self.config.clock.now()
    }

    pub(crate) fn signed<T: Signable>(&self, value: T) -> Signed<T> {
        Signed::new(value, &self.config.chain_id, &*self.config.operator)
    }

    pub(crate) fn failed(&self, error: &dyn std::error::Error) {
        self.board.failed(self.now(), error);
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the engines again.
    pub(crate) async fn refresh_catalog(&self) {
        let (catalog, errors) = Catalog::ask(&self.config.engines, &self.config.pricing).await;
        errors.iter().for_each(|error| self.failed(error));
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.board.changed();
    }

    /// Requests that are served at once: what we allow, and what the engines can.
    pub(crate) fn slots(&self) -> u32 {
        let slots = self.config.engines.iter().map(|engine| engine.load().slots);
        self.config.slots.min(slots.fold(0, u32::saturating_add))
    }

    pub(crate) fn active(&self) -> u32 {
        let free = u32::try_from(self.slots.available_permits()).unwrap_or(u32::MAX);
        self.config.slots.saturating_sub(free)
    }

    /// The offer as of now. Its sequence is the time, so it rises across restarts too.
    pub(crate) fn offer(&self) -> Signed<Offer> {
        let now = self.now();
        let next = |last: u64| Some(now.0.max(last.saturating_add(1)));
        let order = Ordering::Relaxed;
        let last = self.offer_sequence.fetch_update(order, order, next).unwrap_or_default();
        self.signed(Offer {
            operator: self.operator,
            node_key: self.config.endpoint.node_key(),
            models: self.catalog().offers(),
            slots: self.slots(),
            active: self.active(),
            sequence: now.0.max(last.saturating_add(1)),
            issued_at: now,
        })
    }

    pub(crate) fn hello(&self) -> ToGatewayControl {
        ToGatewayControl::Hello { chain_id: self.config.chain_id.clone(), offer: self.offer() }
    }

    /// Counts towards the threshold at which vouchers are redeemed.
    pub(crate) fn charged(&self, amount: Nusd) {
        let mut since =
            self.charged_since_redemption.lock().unwrap_or_else(PoisonError::into_inner);
        *since = since.saturating_add(amount);
        if *since >= self.config.redeem.threshold_nusd {
            *since = Nusd::ZERO;
            self.redeem.notify_one();
        }
    }
}
