//! What the provider tells about itself, and the counters behind it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use borsh::{BorshDeserialize, BorshSerialize};
use tokio::sync::watch;
use types::{Address, Nusd, PublicKey, TimeMs, TxId, offer::ModelOffer};
use wire::serve::Refusal;

/// Errors that are remembered.
const ERRORS_MAX: usize = 16;

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderStatus {
    pub operator: Address,
    pub node_key: PublicKey,
    pub models: Vec<ModelOffer>,
    pub slots: u32,
    /// Requests running now.
    pub active: u32,
    /// Requests that delivered something, since the start.
    pub served: u64,
    pub tokens_delivered: u64,
    /// Finished requests whose payer did not acknowledge the report.
    pub unacknowledged: u64,
    /// Charged on all lanes, ever.
    pub earned: Nusd,
    /// Charged and not yet claimed on the chain.
    pub unredeemed: Nusd,
    /// Claimed since the start.
    pub redeemed: Nusd,
    /// Claimed on the chain, ever, and held back there until it is paid.
    pub held_back: Nusd,
    pub last_redemption: Option<TxId>,
    pub links: Vec<LinkStatus>,
    /// How often each refusal happened, by its kind.
    pub refusals: BTreeMap<&'static str, u64>,
    /// How often peers broke the protocol, by what they did.
    pub violations: BTreeMap<&'static str, u64>,
    /// The latest ones, oldest first.
    pub errors: Vec<ErrorNote>,
}

/// The connection to one gateway.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LinkStatus {
    pub gateway: PublicKey,
    pub state: LinkState,
    pub since: TimeMs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LinkState {
    Dialling,
    /// Welcomed; requests can come.
    Connected,
    Leaving,
    /// Between two attempts.
    Waiting,
}

/// Something that went wrong, with the chain of its causes.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ErrorNote {
    pub at: TimeMs,
    pub what: String,
}

/// Counters and notes that many tasks write to.
#[derive(Debug)]
pub(crate) struct Board {
    counts: Mutex<Counts>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) served: u64,
    pub(crate) tokens_delivered: u64,
    pub(crate) unacknowledged: u64,
    pub(crate) redeemed: Nusd,
    pub(crate) last_redemption: Option<TxId>,
    pub(crate) links: BTreeMap<PublicKey, (LinkState, TimeMs)>,
    pub(crate) refusals: BTreeMap<&'static str, u64>,
    pub(crate) violations: BTreeMap<&'static str, u64>,
    pub(crate) errors: VecDeque<ErrorNote>,
}

impl Counts {
    pub(crate) fn links(&self) -> Vec<LinkStatus> {
        let links = self.links.iter();
        links.map(|(&gateway, &(state, since))| LinkStatus { gateway, state, since }).collect()
    }
}

impl Board {
    pub(crate) fn new() -> Board {
        Board { counts: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Told after every change of anything that a status shows.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(crate) fn changed(&self) {
        self.changed.send_replace(());
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Counts) -> T) -> T {
        look(&self.lock())
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changed();
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let kind = kind(refusal);
        tracing::info!(kind, "provider.request refused");
        self.update(|counts| bump(&mut counts.refusals, kind));
    }

    pub(crate) fn violated(&self, what: &'static str) {
        tracing::warn!(what, "provider.peer broke the protocol");
        self.update(|counts| bump(&mut counts.violations, what));
    }

    /// Remembers and logs an error with its causes.
    pub(crate) fn failed(&self, at: TimeMs, error: &dyn std::error::Error) {
        let what = chain_of(error);
        tracing::warn!(error = %what, "provider.error");
        self.update(|counts| {
            if counts.errors.len() >= ERRORS_MAX {
                counts.errors.pop_front();
            }
            counts.errors.push_back(ErrorNote { at, what });
        });
    }

    pub(crate) fn link(&self, gateway: PublicKey, state: LinkState, at: TimeMs) {
        tracing::info!(%gateway, ?state, "provider.link");
        self.update(|counts| {
            counts.links.insert(gateway, (state, at));
        });
    }

    pub(crate) fn link_gone(&self, gateway: PublicKey) {
        self.update(|counts| {
            counts.links.remove(&gateway);
        });
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Plain counters are never half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bump(counts: &mut BTreeMap<&'static str, u64>, key: &'static str) {
    let count = counts.entry(key).or_default();
    *count = count.saturating_add(1);
}

/// An error and what caused it, outermost first.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The name under which a refusal is counted.
fn kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Busy { .. } => "busy",
        Refusal::UnknownModel => "unknown_model",
        Refusal::Price { .. } => "price",
        Refusal::Channel => "channel",
        Refusal::VoucherShort { .. } => "voucher_short",
        Refusal::DepositShort { .. } => "deposit_short",
        Refusal::LaneDiffers(_) => "lane_differs",
        Refusal::LaneBusy => "lane_busy",
        Refusal::Duplicate => "duplicate",
        Refusal::Request { .. } => "request",
        Refusal::Order => "order",
        Refusal::Engine => "engine",
        Refusal::Leaving => "leaving",
    }
}
