//! What a gateway shows of itself to the web page and the command line. Plain values, serialisable,
//! without keys, prompts or answers.

use serde::{Deserialize, Serialize};
use types::{
    Address, ChannelId, ModelId, Nusd, PublicKey, RequestId, TimeMs, Watt,
    ability::Abilities,
    inference::{CountMethod, FinishReason},
    offer::ModelOffer,
    price::Price,
    receipt::Receipt,
};

use crate::{accounts::KeyLimits, books::Bought};

/// An API key, without the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    pub name: String,
    /// The key's first characters, to tell one from another.
    pub prefix: String,
    pub limits: KeyLimits,
    pub used: Nusd,
    /// Since midnight, UTC.
    pub used_day: Nusd,
    /// Since the first of the month, UTC.
    pub used_month: Nusd,
    /// Held back for requests in work.
    pub reserved: Nusd,
    pub in_flight: u32,
    pub created_at: TimeMs,
    pub revoked_at: Option<TimeMs>,
}

/// A model that at least one connected provider offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelView {
    /// The name that people use. Names are claims of providers; the id is the content.
    pub alias: String,
    pub model: ModelId,
    pub providers: u32,
    /// The lowest price asked for completion tokens, none where there are none, and the rest of that offer's price.
    pub price_min: Price,
    pub context_tokens_max: u32,
    /// What some provider can do with it.
    pub abilities: Abilities,
    /// All providers of it sell another service's answers on.
    pub resold: bool,
}

/// What is asked for the tokens of a model that can do this: what makes nothing but vectors is paid by what is read.
pub(crate) fn listed_price(asked: Price, abilities: &Abilities) -> Price {
    if abilities.completions { asked } else { abilities.price(asked) }
}

/// A connected provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderView {
    pub operator: Address,
    pub node_key: PublicKey,
    pub moniker: String,
    pub models: Vec<ModelOffer>,
    pub slots: u32,
    /// Requests it says it runs.
    pub active: u32,
    /// Requests of this gateway that it runs.
    pub in_flight: u32,
    pub connected_at: TimeMs,
    pub offer_at: TimeMs,
    /// Ready to be paid: it has a funded channel.
    pub payable: bool,
    pub served: u64,
    pub failed: u64,
    /// `ok`, `quarantined` or `probation`, the worst over its models.
    pub health: String,
    /// What it did wrong last.
    pub last_problem: Option<String>,
}

/// Where a request would go, and why nowhere else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    pub model: ModelId,
    /// Who would be asked first. Among providers that are about as good, chance decides each time.
    pub provider: Option<Address>,
    pub candidates: Vec<RouteCandidate>,
}

/// A provider of the model, and what speaks for or against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteCandidate {
    pub provider: Address,
    /// It is this service outside the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    pub price: Price,
    pub context_tokens: u32,
    pub region: String,
    pub slots: u32,
    pub in_flight: u32,
    /// What the answer would cost, if it could take the request.
    pub cost: Option<Nusd>,
    /// How long it would take, with the load there is; none before the first measurement.
    pub expected_ms: Option<u64>,
    /// Cost, plus what the time is worth by the policy. The lowest wins.
    pub score: Option<Nusd>,
    /// Why it is not taken.
    pub passed: Option<String>,
}

/// A finished request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    pub id: RequestId,
    /// Name of the API key that paid.
    pub key: String,
    pub model: String,
    pub model_id: ModelId,
    pub provider: Address,
    /// The service outside the network that answered, as the operator calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    /// Taken from the key's budget.
    pub cost: Nusd,
    pub finish: FinishReason,
    pub started_at: TimeMs,
    pub duration_ms: u64,
    /// Answered on the attempt of this number, from 0.
    pub attempt: u16,
}

/// A request that was answered or begun to be, as its bill says. Also the columns of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageView {
    pub request_id: RequestId,
    /// RFC 3339, UTC.
    pub started_at: String,
    pub ended_at: String,
    pub key: String,
    /// The name that the client used.
    pub model: String,
    pub model_id: ModelId,
    pub provider: Address,
    /// The service outside the network that answered, as the operator calls it; its answer was not verified.
    pub upstream: Option<String>,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub counted: CountMethod,
    pub finish: FinishReason,
    /// Taken from the key's budget.
    pub cost_nusd: Nusd,
    pub duration_ms: u64,
}

impl UsageView {
    pub const COLUMNS: [&str; 14] = [
        "request_id",
        "started_at",
        "ended_at",
        "key",
        "model",
        "model_id",
        "provider",
        "upstream",
        "prompt_tokens",
        "completion_tokens",
        "counted",
        "finish",
        "cost_nusd",
        "duration_ms",
    ];
}

/// A receipt with what is needed to open its digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredReceipt {
    pub receipt: Receipt,
    /// Where other providers went on: those of the parts before, the first first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Receipt>,
    /// Salts the prompt's digest. 32 hexadecimal digits.
    pub salt: String,
    /// Of an answer of a service outside the network: nobody but the gateway signs for it, and nothing of it is verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bought: Option<Bought>,
}

/// The gateway's account and channels, as last read from the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSummary {
    pub address: Address,
    pub watt: Watt,
    pub credits: Nusd,
    /// Registered on the ledger, so that providers find it.
    pub registered: bool,
    pub channels: Vec<ChannelSummary>,
    /// When the ledger was last read; `None` before the first time.
    pub read_at: Option<TimeMs>,
    /// Why the last round with the ledger failed, if it did.
    pub problem: Option<String>,
}

/// A channel to a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSummary {
    pub id: ChannelId,
    pub provider: Address,
    pub deposit: Nusd,
    /// Promised by vouchers or held for requests in work.
    pub promised: Nusd,
    /// For what was delivered.
    pub charged: Nusd,
    pub lanes: u32,
}
