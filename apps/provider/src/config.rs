//! What a provider is started with.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use engine::SharedEngine;
use net::SharedEndpoint;
use types::{Address, ChainId, Nusd, PublicKey, TimeMs, Watt, price::Price, sign::Sign};
use wire::chain::Chain;

/// Everything a provider needs. [`ProviderConfig::new`] fills in what has a default.
#[derive(Clone)]
pub struct ProviderConfig {
    /// Holds the journal. One process at a time uses it.
    pub home: PathBuf,
    pub chain_id: ChainId,
    /// Signs reports and transactions; its account is bonded and paid.
    pub operator: Arc<dyn Sign>,
    /// Dials gateways. The provider is its only user and closes it at shutdown.
    pub endpoint: SharedEndpoint,
    /// Dials auditors, under the same node key. As the other.
    pub audit_endpoint: SharedEndpoint,
    pub chain: Arc<dyn Chain>,
    pub engines: Vec<SharedEngine>,
    pub pricing: Pricing,
    /// The name that people see; 1 to 96 bytes.
    pub moniker: String,
    /// Where it stands and what it runs on, as people see it: up to 32 lowercase letters, digits
    /// and hyphens, or nothing.
    pub region: String,
    pub class: String,
    /// Staked when it registers. Zero: a share of the income is withheld until the bond is full.
    pub bond: Watt,
    pub redeem: RedeemPolicy,
    /// Requests it serves at once, over all engines and gateways.
    pub slots: u32,
    /// Gateways besides those on the chain.
    pub gateways: Vec<GatewayTarget>,
    /// How long a shutdown lets running requests go on.
    pub drain_ms: u64,
    pub receipts_retention_ms: u64,
    /// How often is committed to what can be audited.
    pub commit_interval: Duration,
    /// Whether its answers are wrong on purpose: it commits to them as planted faults, and says so once verifiers have committed.
    pub plants: bool,
    /// How long prompts and answers are kept for auditors.
    pub openings_retention_ms: u64,
    pub clock: Arc<dyn Clock>,
    /// Spreads reconnects; anything else here is deterministic.
    pub random: Random,
}

/// Whom a provider dials, each by a protocol of its own.
#[derive(Clone, Debug)]
pub struct Endpoints {
    pub gateways: SharedEndpoint,
    pub auditors: SharedEndpoint,
}

impl ProviderConfig {
    pub fn new(
        home: PathBuf,
        chain_id: ChainId,
        operator: Arc<dyn Sign>,
        Endpoints { gateways: endpoint, auditors: audit_endpoint }: Endpoints,
        chain: Arc<dyn Chain>,
        engines: Vec<SharedEngine>,
    ) -> ProviderConfig {
        const HOUR_MS: u64 = 60 * 60 * 1_000;
        const DAY_MS: u64 = 24 * HOUR_MS;
        // What was demanded after half a day may wait half a day for its beacon, and then there is the round.
        const OPENINGS_MS: u64 = DAY_MS + HOUR_MS;
        ProviderConfig {
            home,
            chain_id,
            operator,
            endpoint,
            audit_endpoint,
            chain,
            engines,
            pricing: Pricing::default(),
            moniker: "provider".to_owned(),
            region: String::new(),
            class: String::new(),
            bond: Watt::ZERO,
            redeem: RedeemPolicy::default(),
            slots: 4,
            gateways: Vec::new(),
            drain_ms: 10_000,
            receipts_retention_ms: 30 * DAY_MS,
            commit_interval: Duration::from_secs(60 * 60),
            plants: false,
            openings_retention_ms: OPENINGS_MS,
            clock: Arc::new(SystemClock),
            random: system_random(),
        }
    }

    /// The account that is paid.
    pub fn operator_address(&self) -> Address {
        Address::of_key(&self.operator.public_key())
    }
}

impl std::fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("home", &self.home)
            .field("chain_id", &self.chain_id)
            .field("operator", &self.operator_address())
            .field("engines", &self.engines)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

/// What the models cost.
#[derive(Clone, Debug)]
pub struct Pricing {
    pub default: Price,
    /// By the model's alias.
    pub by_alias: BTreeMap<String, Price>,
}

impl Pricing {
    pub fn of(&self, alias: &str) -> Price {
        self.by_alias.get(alias).copied().unwrap_or(self.default)
    }
}

impl Default for Pricing {
    /// 0.05 USD per million prompt tokens, 0.10 USD per million completion tokens.
    fn default() -> Pricing {
        let default = Price {
            request_nusd: Nusd::ZERO,
            prompt_nusd_per_mtok: Nusd(50_000_000),
            completion_nusd_per_mtok: Nusd(100_000_000),
        };
        Pricing { default, by_alias: BTreeMap::new() }
    }
}

/// When vouchers are redeemed. A channel whose payer withdraws is redeemed whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedeemPolicy {
    /// As soon as this much is unredeemed.
    pub threshold_nusd: Nusd,
    /// And this often, if anything worth its fee is unredeemed.
    pub interval_ms: u64,
}

impl Default for RedeemPolicy {
    fn default() -> RedeemPolicy {
        RedeemPolicy { threshold_nusd: Nusd::whole(1), interval_ms: 60 * 60 * 1_000 }
    }
}

/// A gateway that is dialled although the chain does not list it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayTarget {
    pub node_key: PublicKey,
    pub addrs: Vec<SocketAddr>,
}

/// The time. Timers are tokio's; this is what is written on signed things.
pub trait Clock: Send + Sync {
    fn now(&self) -> TimeMs;
}

/// The system's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> TimeMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 reads as 1970: every order is then from the future and refused.
        let ms = since.map_or(0, |since| since.as_millis());
        TimeMs(u64::try_from(ms).unwrap_or(u64::MAX))
    }
}

/// A source of random numbers.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's randomness; without any, reconnects are not spread, which is all it is used for.
fn system_random() -> Random {
    Arc::new(|| getrandom::u64().unwrap_or(0))
}
