//! What the chain API says about the ledger, as JSON.

use serde::{Deserialize, Serialize};
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, PublicKey, TimeMs,
    Watt,
    channel::ChannelTerms,
    genesis::{Bucket, Params},
    price::Price,
    stake::{CommissionTerms, OperatorId},
    state::Shares,
};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChainStatus {
    pub chain_id: ChainId,
    pub genesis_hash: Hash32,
    pub height: Height,
    pub time: TimeMs,
    /// Root of the state tree.
    pub app_hash: Hash32,
    /// The price of one WATT in nano-USD.
    pub nusd_per_watt: Nusd,
    pub oracle: OracleView,
    /// Whether credits may be bought: `closed`, `warned` (both yes) or `paused`.
    pub breaker: String,
    pub params: Params,
    /// Transactions waiting for a block.
    pub mempool_txs: u64,
    pub version: String,
}

/// The price and how it came about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OracleView {
    /// Weighted by time over the window of the parameters, up to the last block.
    pub average: Nusd,
    pub counted_at: TimeMs,
    /// Number of the voting period of the last block.
    pub period: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountView {
    pub address: Address,
    pub watt: Watt,
    pub credits: Nusd,
    pub nonce: Nonce,
    /// Fees that will be taken from the account's first settlements.
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
    /// Of that, what was settled; the rest is held back or was refunded.
    pub settled: Nusd,
    /// Of what was claimed, what went back to the payer because the provider was found out.
    pub refunded: Nusd,
    /// Of what was not claimed, what went back to the payer.
    pub returned: Nusd,
    /// What each used lane has claimed.
    pub lanes: Vec<LaneView>,
    pub opened_at: Height,
    /// When the payer may take the rest, if it asked to.
    pub withdraw_at: Option<TimeMs>,
    pub open: bool,
}

impl ChannelView {
    /// What vouchers may promise in all: what was deposited and did not go back.
    pub fn funds(&self) -> Nusd {
        self.deposit.saturating_sub(self.returned)
    }

    /// Claimed, and neither settled nor refunded yet.
    pub fn pending(&self) -> Nusd {
        self.claimed.saturating_sub(self.settled).saturating_sub(self.refunded)
    }
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
    pub region: String,
    pub class: String,
    pub models: Vec<ModelId>,
    pub price_max: Option<Price>,
    /// Its own stake.
    pub bond: Watt,
    /// The full bond at the price in force.
    pub bond_required: Watt,
    /// What others have staked behind it.
    pub delegated: Watt,
    /// WATT paid to it so far, before withholding.
    pub earned: Watt,
    /// Credits it claimed that are held back.
    pub pending: Nusd,
    pub registered_at: TimeMs,
    /// It counts as a newcomer until then.
    pub probation_until: TimeMs,
    pub leaving: bool,
    pub jailed: bool,
    /// Of the last 64 heartbeat periods, those in which it was seen on the ledger.
    pub heartbeats: u32,
    /// The newest such period. A time lies in period `time / params.providers.heartbeat_ms`.
    pub seen_period: u64,
    pub channels_open: u64,
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
pub struct ValidatorView {
    pub operator: Address,
    pub consensus_key: PublicKey,
    pub moniker: String,
    /// Voting power in the next block; `None` without a seat.
    pub power: Option<u64>,
    /// Blocks missed in its window.
    pub missed: u32,
    pub pool: OperatorView,
}

/// A pool of stake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperatorView {
    pub id: OperatorId,
    pub tokens: Watt,
    pub shares: Shares,
    /// Of the tokens, the operator's own.
    pub own: Watt,
    pub commission: CommissionTerms,
    pub commission_due: Watt,
    pub jailed_until: Option<TimeMs>,
    pub tombstoned: bool,
}

/// One delegator's stake behind one operator.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StakeView {
    pub operator: OperatorId,
    /// What it is worth now.
    pub stake: Watt,
    /// What it has earned and can withdraw.
    pub rewards: Watt,
    /// On its way back.
    pub unbonding: Vec<UnbondingView>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UnbondingView {
    pub balance: Watt,
    pub matures_at: TimeMs,
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
    /// Rewards that wait to be divided or withdrawn.
    pub watt_stakers: Watt,
    /// Stake, and stake on its way back.
    pub watt_bonded: Watt,
    pub watt_insurance: Watt,
    /// Budgets of the unminted supply.
    pub budgets: Vec<BudgetView>,
    pub credits_outstanding: Nusd,
    /// Of those, what providers claimed and is held back.
    pub credits_pending: Nusd,
    pub credits_issued: Nusd,
    pub credits_settled: Nusd,
    pub credits_refunded: Nusd,
    /// Claims that went back to their payers, who have them still.
    pub claims_refunded: Nusd,
    pub nusd_per_watt: Nusd,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BudgetView {
    pub bucket: Bucket,
    pub total: Watt,
    /// By the last block's time.
    pub vested: Watt,
    pub claimed: Watt,
    pub beneficiary: Option<Address>,
}

/// One parameter with its bounds, in `unit`. Values are decimal text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParamView {
    pub name: String,
    pub value: String,
    pub unit: String,
    pub min: String,
    pub max: String,
}
