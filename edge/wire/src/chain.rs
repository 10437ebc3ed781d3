//! The chain API, version 1: how any process reads the ledger and submits transactions to it
//! (`docs/spec/chain-api.md`). Amounts are base units as decimal strings, ids are text.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, Nonce, Nusd, PublicKey, TimeMs, TxId, Watt,
    block::BlockHeader,
    channel::ChannelTerms,
    genesis::{Genesis, Params},
    sign::Signed,
    tx::{SignedTx, Tx},
};

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
    async fn supply(&self) -> Result<SupplyView, ChainError>;
    /// Submits and waits until the transaction is in a durable block or refused.
    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError>;
    async fn tx(&self, id: TxId) -> Result<Option<TxOutcome>, ChainError>;
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainStatus {
    pub chain_id: ChainId,
    pub genesis_hash: Hash32,
    pub height: Height,
    pub time: TimeMs,
    pub app_hash: Hash32,
    /// The price of one WATT in nano-USD.
    pub nusd_per_watt: Nusd,
    pub params: Params,
    /// Transactions waiting for a block.
    pub mempool_txs: u64,
    pub version: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountView {
    pub address: Address,
    pub watt: Watt,
    pub credits: Nusd,
    pub nonce: Nonce,
    /// Fees that will be taken from the account's first redemption.
    pub fee_debt: Watt,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChannelView {
    pub id: ChannelId,
    pub terms: ChannelTerms,
    /// All that was ever deposited.
    pub deposit: Nusd,
    /// All that was ever claimed, over all lanes.
    pub claimed: Nusd,
    /// What each used lane has claimed.
    pub lanes: Vec<LaneView>,
    /// When the payer may take the rest, if it asked to.
    pub withdraw_at: Option<TimeMs>,
    pub open: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LaneView {
    pub lane: Lane,
    pub claimed: Nusd,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProviderView {
    pub operator: Address,
    pub node_key: PublicKey,
    pub moniker: String,
    pub bond: Watt,
    /// The full bond at the price in force.
    pub bond_required: Watt,
    /// WATT paid to it so far, before withholding.
    pub earned: Watt,
    pub registered_at: TimeMs,
    pub leaving: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GatewayView {
    pub operator: Address,
    /// The key under which providers dial it.
    pub node_key: PublicKey,
    pub moniker: String,
    /// Socket addresses, host and port.
    pub addrs: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SupplyView {
    pub watt_total: Watt,
    pub watt_genesis: Watt,
    pub watt_minted: Watt,
    pub watt_burned: Watt,
    pub watt_max: Watt,
    pub watt_vault: Watt,
    pub watt_treasury: Watt,
    pub watt_stakers: Watt,
    pub watt_bonded: Watt,
    pub credits_outstanding: Nusd,
    pub credits_issued: Nusd,
    pub credits_settled: Nusd,
    pub nusd_per_watt: Nusd,
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
    /// Dotted name such as `channel.redeemed`.
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
    #[error("the chain API at {url} does not answer; is the validator running?")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the chain API at {url} answered with something unexpected")]
    Protocol { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{}", body.message)]
    Refused { status: u16, body: ErrorBody },
}
