//! What a gateway is told when it starts. Values only: reading arguments and files is the caller's.

use std::{fmt, path::PathBuf, sync::Arc};

use net::SharedEndpoint;
use types::{ChainId, Nusd, TimeMs, sign::Sign};
use wire::{chain::Chain, otlp::CollectorClient};

use crate::{demands::DemandPolicy, fleet::DatabaseUrl, upstreams::UpstreamConfig};

/// Reads the time of day. Deadlines do not use it, only timestamps.
pub type Clock = Arc<dyn Fn() -> TimeMs + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // A clock before 1970 is a broken clock; zero is as wrong as any other time.
        TimeMs(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    })
}

/// Everything a gateway needs.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Its folder; the journal is `home/journal`.
    pub home: PathBuf,
    pub chain_id: ChainId,
    /// The account that buys credits and opens channels.
    pub operator: Arc<dyn Sign>,
    /// Signs vouchers, orders and acknowledgements; named in every channel it opens.
    pub payer: Arc<dyn Sign>,
    /// Accepts the connections of providers.
    pub endpoint: SharedEndpoint,
    /// Host and port under which providers reach the endpoint, as registered on the ledger. Empty:
    /// the addresses the endpoint is bound to.
    pub advertise: Vec<String>,
    pub chain: Arc<dyn Chain>,
    pub moniker: String,
    pub limits: Limits,
    pub timeouts: Timeouts,
    pub credits: CreditPolicy,
    pub channels: ChannelPolicy,
    /// Which answers are audited because this gateway wants it.
    pub demands: DemandPolicy,
    /// What the chat box of the web page may spend, under the key named [`crate::PLAYGROUND_KEY`].
    /// `None`: as it was left, and [`crate::PLAYGROUND_BUDGET`] when it is made.
    pub playground_budget: Option<Nusd>,
    /// The name of the key that pays for programs of this machine that send none, as Ollama's clients
    /// do. Pages of other sites in a browser are not let in by it. `None`: a key is always needed. Only
    /// for a listener on loopback.
    pub keyless: Option<String>,
    /// Whether callers without a key may pay by request, from channels of their own (`docs/spec/x402.md`), under the key
    /// named [`crate::X402_KEY`].
    pub x402: bool,
    /// Opens the operator's part of the HTTP API. `None`: it is closed.
    pub admin_key: Option<String>,
    /// Where keys, what they use, and finished requests are shared with other gateways. `None`: they are in
    /// this gateway's own journal.
    pub database: Option<DatabaseUrl>,
    /// Services outside the network that answer too.
    pub upstreams: Vec<UpstreamConfig>,
    /// Is told of every request over HTTP, without what was asked or answered. `None`: nobody is.
    pub collector: Option<CollectorClient>,
    /// Receipts older than this are removed. Milliseconds.
    pub receipt_retention_ms: u64,
    pub clock: Clock,
}

impl fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("home", &self.home)
            .field("chain_id", &self.chain_id)
            .field("moniker", &self.moniker)
            .field("advertise", &self.advertise)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

/// How long receipts are kept unless told otherwise: 30 days.
pub const RECEIPT_RETENTION_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Bounds on what clients and providers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request body: the largest prompt, escaped, and some room.
    pub body_bytes_max: usize,
    /// Requests in work at once, over all keys.
    pub requests_max: u32,
    /// Requests in work at once of one key.
    pub requests_per_key_max: u32,
    /// Connections of clients at once.
    pub connections_max: usize,
    /// Connections of providers at once.
    pub providers_max: usize,
    /// API keys.
    pub keys_max: usize,
}

impl Limits {
    pub fn standard() -> Limits {
        Limits {
            body_bytes_max: 6 * 1024 * 1024,
            requests_max: 1_024,
            requests_per_key_max: 256,
            connections_max: 4_096,
            providers_max: 512,
            keys_max: 4_096,
        }
    }
}

/// How long the gateway waits, and for what. Milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a stream to the provider and its `Accepted` or `Refused`. Providers answer before they
    /// generate, so this is round trips and a signature.
    pub accept_ms: u64,
    /// For the first token of an empty prompt: a model may have to be loaded first.
    pub first_token_ms: u64,
    /// More of the same for each thousand prompt tokens: a laptop reads about 50 a second.
    pub first_token_ms_per_1k_prompt: u64,
    /// Between two tokens. Slow machines make one in a few seconds.
    pub inter_token_ms: u64,
    /// For a whole attempt; the provider is told and stops by itself too.
    pub total_ms: u64,
    /// For the `Final` after a `Cancel`, before the books are closed without it.
    pub cancel_ms: u64,
    /// For a free provider while all are busy, before the client is told to come back.
    pub queue_ms: u64,
    /// For the headers of a request, also the longest a client's connection stays idle.
    pub header_ms: u64,
    /// For the body of a request.
    pub body_ms: u64,
    /// For a client to take bytes that are ready for it.
    pub write_stall_ms: u64,
    /// For running requests to finish at shutdown.
    pub drain_ms: u64,
}

impl Timeouts {
    pub fn standard() -> Timeouts {
        Timeouts {
            accept_ms: 5_000,
            first_token_ms: 60_000,
            first_token_ms_per_1k_prompt: 20_000,
            inter_token_ms: 30_000,
            total_ms: 15 * 60_000,
            cancel_ms: 5_000,
            queue_ms: 10_000,
            header_ms: 60_000,
            body_ms: 60_000,
            write_stall_ms: 60_000,
            drain_ms: 30_000,
        }
    }
}

/// When credits are bought, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditPolicy {
    /// Buys when the account holds fewer credits than this.
    pub below: Nusd,
    /// Buys this much at once.
    pub amount: Nusd,
}

/// How channels to providers are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// Deposited at opening, and added whenever less than half of it is left unpromised.
    pub deposit: Nusd,
    pub withdraw_delay_ms: u64,
}
