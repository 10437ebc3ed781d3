//! The chain API, version 1: how any process reads the ledger and submits transactions to it
//! (`docs/spec/chain-api.md`). Amounts are base units as decimal strings, ids are text.

mod audits;
mod client;
mod follow;
pub mod openapi;
mod proof;
mod sender;
mod verified;
mod view;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{
    Address, ChannelId, Hash32, Height, TimeMs, TxId, Watt,
    audit::CommitmentId,
    block::BlockHeader,
    genesis::Genesis,
    sign::Signed,
    state::StateKey,
    tx::{SignedTx, Tx},
};

pub use audits::{
    AuditorView, AuditsView, CalibrationView, CommitmentView, ExclusionView, ModelAuditsView,
    ProviderAuditsView, RoundView, VerifierView,
};
pub use client::HttpChain;
pub use light::LightBlock;
pub use proof::{EntryError, KnownEntry, ProvenEntry, StateProof, StateProofs};
pub use sender::{Applied, SendError, TxSender};
pub use verified::{
    Clock, KeepTrust, Unproven, VerifiedChain, VerifiedConfig, compare, follow, follow_to,
};
pub use view::{
    AccountView, BudgetView, ChainStatus, ChannelView, GatewayView, LaneView, OperatorView,
    OracleView, ParamView, ProviderView, StakeView, SupplyView, UnbondingView, ValidatorView,
};

/// Entries in one page of a list. Lists are in the order of their keys; a client asks for the next
/// page with `after` set to the last key it has.
pub const PAGE_ENTRIES_MAX: usize = 100;
/// Blocks in one answer of `/v1/blocks`, and blocks looked through for one answer of `/v1/events`.
pub const PAGE_BLOCKS_MAX: u64 = 100;
/// Bytes of one answer that a client reads. The largest block is about half of it as JSON.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The stable codes of [`ErrorBody`] that the API itself gives. Those of the ledger, such as
/// `nonce.too_low`, are listed in `docs/spec/chain-api.md`.
pub mod code {
    /// What was asked for is not there.
    pub const NOT_FOUND: &str = "not_found";
    /// The request does not have the form that the API asks for.
    pub const BAD_REQUEST: &str = "request.malformed";
    /// The body is longer than a transaction may be.
    pub const TOO_LONG: &str = "request.too_long";
    /// Too many requests at once; ask again.
    pub const BUSY: &str = "busy";
    /// The transaction was taken but is not in a block yet. Submitting the same bytes again waits on.
    pub const SUBMIT_TIMEOUT: &str = "submit.timeout";
    /// The validator is stopping or its store failed; whether the transaction will be in a block is
    /// not known before it runs again.
    pub const HALTED: &str = "halted";
    /// The transaction's bytes are not those of a transaction.
    pub const TX_MALFORMED: &str = "tx.malformed";
    /// A signature in the transaction is not valid.
    pub const TX_SIGNATURE: &str = "tx.signature";
    /// The time until which the transaction is valid has passed.
    pub const TX_EXPIRED: &str = "tx.expired";
    /// No room for more transactions now.
    pub const MEMPOOL_FULL: &str = "mempool.full";
    /// This sender has too many transactions waiting.
    pub const MEMPOOL_SENDER_FULL: &str = "mempool.sender_full";
    /// The nonce was used already.
    pub const NONCE_TOO_LOW: &str = "nonce.too_low";
    /// Transactions of the sender with smaller nonces are missing.
    pub const NONCE_TOO_HIGH: &str = "nonce.too_high";
    /// Another transaction of the sender with this nonce is waiting for a block.
    pub const NONCE_TAKEN: &str = "nonce.taken";
    /// Something is wrong with the validator itself.
    pub const INTERNAL: &str = "internal";
}

/// What a third party may ask of a validator. Implemented over HTTP by [`HttpChain`] and in memory
/// by the shells' tests.
#[async_trait]
pub trait Chain: Send + Sync + std::fmt::Debug {
    async fn genesis(&self) -> Result<Genesis, ChainError>;
    async fn status(&self) -> Result<ChainStatus, ChainError>;
    /// An account that was never used has balance zero and nonce zero.
    async fn account(&self, address: Address) -> Result<AccountView, ChainError>;
    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, ChainError>;
    /// Channels that `party` pays into or receives from.
    async fn channels_of(&self, party: Address) -> Result<Vec<ChannelView>, ChainError>;
    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError>;
    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError>;
    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError>;
    /// Providers and models that gateways do not choose, by what audits found. Nothing proves that none is left out.
    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError>;
    /// Where the auditor of a validator is reached. `None`: nowhere.
    async fn auditor(&self, operator: Address) -> Result<Option<AuditorView>, ChainError>;
    /// A commitment that is being audited. `None`: it is not, or not any more.
    async fn round(&self, commitment: CommitmentId) -> Result<Option<RoundView>, ChainError>;
    /// Commitments of a provider that are being audited. Nothing proves that none is left out, nor that there is such a
    /// round: ask for [`Chain::round`].
    async fn rounds_of(&self, provider: Address) -> Result<Vec<RoundView>, ChainError>;
    async fn supply(&self) -> Result<SupplyView, ChainError>;
    /// Submits and waits until the transaction is in a durable block or refused.
    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError>;
    async fn tx(&self, id: TxId) -> Result<Option<TxOutcome>, ChainError>;
}

/// A chain that proves what it says. Implemented by [`HttpChain`], and in memory by the tests of
/// [`VerifiedChain`].
#[async_trait]
pub trait ProvingChain: Chain {
    /// Names it in errors.
    fn url(&self) -> &str;
    /// The header of a height, or the newest, with what certifies it. `None`: it is not there, or not
    /// any more.
    async fn light_block(&self, height: Option<Height>) -> Result<Option<LightBlock>, ChainError>;
    /// An entry with its proof, whether it exists or not.
    async fn prove(&self, key: StateKey) -> Result<StateProof, ChainError>;
    /// A channel's entry and those of all its lanes.
    async fn prove_channel(&self, id: ChannelId) -> Result<StateProofs, ChainError>;
}

/// What became of a transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TxOutcome {
    pub id: TxId,
    pub height: Height,
    pub fee: Watt,
    pub result: TxResult,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum TxResult {
    Applied {
        events: Vec<Event>,
    },
    /// In a block, the fee was taken, nothing else happened.
    Failed {
        code: String,
        message: String,
    },
}

/// Something that happened on the ledger, for people and indexes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// Dotted name such as `channel.claimed`.
    pub kind: String,
    /// Names and values as text, in a fixed order per kind.
    pub fields: Vec<(String, String)>,
}

/// A block as the API shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlockView {
    pub hash: Hash32,
    pub header: BlockHeader,
    pub txs: Vec<TxView>,
    /// Events of the block itself, e.g. matured unbondings.
    pub events: Vec<Event>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TxView {
    pub outcome: TxOutcome,
    pub sender: Address,
    pub tx: Signed<Tx>,
}

/// An event with where it happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventView {
    pub height: Height,
    pub time: TimeMs,
    /// `None`: the block itself, e.g. a matured unbonding.
    pub tx: Option<TxId>,
    pub event: Event,
}

/// Events in the order in which they happened, whole blocks only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventPage {
    pub events: Vec<EventView>,
    /// Where the next page begins. Past the newest block when there is nothing more yet.
    pub next_height: Height,
}

/// Body of every answer that is not 2xx.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable, for programs: `nonce.too_low`.
    pub code: String,
    /// For people: what was being done and what to do about it.
    pub message: String,
}

/// Why a question to the chain has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error("`{url}` is not the address of a chain API; give one such as http://127.0.0.1:9944")]
    BadUrl { url: String },
    #[error("the chain API at {url} does not answer; is the validator running?")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the chain API at {url} answered with something unexpected")]
    Protocol { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{}", body.message)]
    Refused { status: u16, body: ErrorBody },
    #[error("what the chain API at {url} says is not proven")]
    Unproven { url: String, source: Box<Unproven> },
    #[error(
        "the chain API at {url} knows no block from {known} on, which is known already; is its validator catching up?"
    )]
    Behind { url: String, known: Height },
}

impl ChainError {
    /// The stable code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            ChainError::Refused { body, .. } => Some(&body.code),
            ChainError::BadUrl { .. }
            | ChainError::Unreachable { .. }
            | ChainError::Protocol { .. }
            | ChainError::Unproven { .. }
            | ChainError::Behind { .. } => None,
        }
    }

    /// Whether a submission that ended with this may still come into a block.
    pub fn leaves_outcome_open(&self) -> bool {
        match self {
            ChainError::BadUrl { .. } => false,
            ChainError::Unreachable { .. }
            | ChainError::Protocol { .. }
            | ChainError::Unproven { .. }
            | ChainError::Behind { .. } => true,
            ChainError::Refused { body, .. } => {
                matches!(body.code.as_str(), code::SUBMIT_TIMEOUT | code::HALTED | code::INTERNAL)
            }
        }
    }
}
