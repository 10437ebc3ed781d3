//! Entries of the ledger that a third party may want proven: their keys in the state tree, and the
//! values whose canonical bytes are the leaves.
//!
//! The path of an entry is `SHA-256("peerwatt/state\0", table, canonical key)`, the leaf commits to the
//! SHA-256 of the canonical value; `docs/spec/state.md` lists the tables.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::{Nusd, Watt},
    audit::CommitmentId,
    channel::ChannelTerms,
    hash::{Hash32, sha256},
    id::{Address, ChannelId, Height, Lane, ModelId, Nonce, PublicKey, TimeMs},
    price::Price,
    stake::{CommissionTerms, OperatorId},
};

/// A table of the state. Its number is part of every path under it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum TableId {
    Rules = 0,
    Supply = 1,
    Credit = 2,
    Oracle = 3,
    Emission = 4,
    Accounts = 5,
    Providers = 6,
    Gateways = 7,
    Channels = 8,
    Lanes = 9,
    Pending = 10,
    Refunds = 11,
    Vesting = 12,
    Validators = 13,
    Active = 14,
    Operators = 15,
    Delegations = 16,
    Unbondings = 17,
    Redelegations = 18,
    Histories = 19,
    Marks = 20,
    Signings = 21,
    Punished = 22,
    PriceCommits = 23,
    PriceVotes = 24,
    GoodVotes = 25,
    EpochWork = 26,
    Payouts = 27,
    Clock = 28,
    Arrears = 29,
    Beacon = 30,
    Commitments = 31,
    Rounds = 32,
    ClosedRounds = 33,
    Standings = 34,
    ModelStandings = 35,
    Calibrations = 36,
    Verifiers = 37,
    Auditors = 38,
}

/// Where the entry with this canonical key stands in the state tree.
pub fn path(table: TableId, key: &[u8]) -> Hash32 {
    sha256(&[b"peerwatt/state\0", &[table as u8], key])
}

/// An entry that the chain API proves.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum StateKey {
    Account {
        address: Address,
    },
    Channel {
        id: ChannelId,
    },
    Lane {
        channel: ChannelId,
        lane: Lane,
    },
    Provider {
        operator: Address,
    },
    Operator {
        id: OperatorId,
    },
    Gateway {
        operator: Address,
    },
    /// The newest [`crate::audit::Beacon`].
    Beacon,
    /// A [`crate::audit::Round`].
    Round {
        commitment: CommitmentId,
    },
    /// A [`crate::audit::Standing`].
    Standing {
        provider: Address,
    },
    /// A [`crate::audit::ModelStanding`].
    ModelStanding {
        provider: Address,
        model: ModelId,
    },
    /// An [`AuditorEntry`].
    Auditor {
        operator: Address,
    },
}

impl StateKey {
    pub fn table(&self) -> TableId {
        match self {
            StateKey::Account { .. } => TableId::Accounts,
            StateKey::Channel { .. } => TableId::Channels,
            StateKey::Lane { .. } => TableId::Lanes,
            StateKey::Provider { .. } => TableId::Providers,
            StateKey::Operator { .. } => TableId::Operators,
            StateKey::Gateway { .. } => TableId::Gateways,
            StateKey::Beacon => TableId::Beacon,
            StateKey::Round { .. } => TableId::Rounds,
            StateKey::Standing { .. } => TableId::Standings,
            StateKey::ModelStanding { .. } => TableId::ModelStandings,
            StateKey::Auditor { .. } => TableId::Auditors,
        }
    }

    /// The canonical key in its table.
    pub fn key(&self) -> Vec<u8> {
        match self {
            StateKey::Account { address }
            | StateKey::Provider { operator: address }
            | StateKey::Gateway { operator: address }
            | StateKey::Standing { provider: address }
            | StateKey::Auditor { operator: address } => borsh::to_vec(address),
            StateKey::Channel { id } => borsh::to_vec(id),
            StateKey::Lane { channel, lane } => borsh::to_vec(&(channel, lane)),
            StateKey::Operator { id } => borsh::to_vec(id),
            StateKey::Beacon => Ok(Vec::new()),
            StateKey::Round { commitment } => borsh::to_vec(commitment),
            StateKey::ModelStanding { provider, model } => borsh::to_vec(&(provider, model)),
        }
        .unwrap_or_default()
    }

    pub fn path(&self) -> Hash32 {
        path(self.table(), &self.key())
    }
}

/// What one account holds. An account that was never used has all zeros and no entry.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Account {
    pub watt: Watt,
    /// Free credits; those in channels belong to the channels.
    pub credits: Nusd,
    /// Transactions it has made.
    pub nonce: Nonce,
    /// Fees that will be taken from its first settlements, or from its bond when it leaves.
    pub fee_debt: Watt,
}

/// One channel. `claimed + returned ≤ deposit`, and equal once it is closed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Channel {
    pub terms: ChannelTerms,
    /// All that was ever deposited.
    pub deposit: Nusd,
    /// All that was ever claimed, over all lanes.
    pub claimed: Nusd,
    /// Of what was claimed, all that was ever settled; the rest is held back or was refunded.
    pub settled: Nusd,
    /// Of what was claimed, all that went back to the payer because the provider was found out.
    pub refunded: Nusd,
    /// Of what was not claimed, what went back to the payer.
    pub returned: Nusd,
    pub opened_at: Height,
    /// When the payer may take the rest, if it asked to.
    pub withdraw_at: Option<TimeMs>,
    pub open: bool,
}

impl Channel {
    /// What it holds: nothing once it is closed.
    pub fn balance(&self) -> Nusd {
        self.deposit.saturating_sub(self.claimed).saturating_sub(self.returned)
    }

    /// Claimed, and neither settled nor refunded yet.
    pub fn pending(&self) -> Nusd {
        self.claimed.saturating_sub(self.settled).saturating_sub(self.refunded)
    }
}

/// One registered provider, under its operator's account. Its bond is its own stake in the pool of
/// the same account.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Provider {
    /// Under which gateways see it dial in. No other provider has it.
    pub node_key: PublicKey,
    pub profile: ProviderProfile,
    /// Whether its bond was full once. Then it no longer counts against the places for providers
    /// without a bond and does not expire.
    pub bonded: bool,
    /// WATT paid to it so far, before withholding and owed fees.
    pub earned: Watt,
    /// Credits claimed by it that are held back: its value at risk.
    pub pending: Nusd,
    pub registered_at: TimeMs,
    /// Of its registration, or of the last settlement that paid it something.
    pub active_at: TimeMs,
    pub stage: Stage,
    /// Channels to it that are not closed.
    pub channels_open: u64,
    pub heartbeats: Heartbeats,
}

/// What a provider says about itself.
#[derive(
    Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ProviderProfile {
    pub moniker: String,
    /// Where it stands, as it says: `eu-west`, `de`. May be empty.
    pub region: String,
    /// What it runs on, as it says: `cpu`, `rtx-4090`. May be empty.
    pub class: String,
    /// By content, ascending, at most [`crate::limits::OFFER_MODELS_MAX`].
    pub models: Vec<ModelId>,
    /// It promises never to ask for more.
    pub price_max: Option<Price>,
}

/// How far a provider is on its way out.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "stage")]
pub enum Stage {
    Active,
    /// No new channels; the bond is paid back at this time.
    Unbonding {
        matures_at: TimeMs,
    },
    /// The bond was paid back; the entry goes with its last channel.
    Left,
}

impl Provider {
    pub fn is_leaving(&self) -> bool {
        self.stage != Stage::Active
    }
}

/// In which of the last 64 periods a provider was seen on the ledger: it registered, redeemed, sent a
/// heartbeat or was paid for work.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Heartbeats {
    /// Number of the newest period with a bit.
    pub period: u64,
    /// Bit 0 is that period, bit 1 the one before.
    pub bits: u64,
}

impl Heartbeats {
    /// How many are kept.
    pub const PERIODS: u64 = 64;

    /// With the bit of `period` set. An older period than the newest changes nothing.
    pub fn seen(self, period: u64) -> Heartbeats {
        match period.checked_sub(self.period) {
            None => self,
            Some(passed) => {
                let shift = u32::try_from(passed).unwrap_or(u32::MAX);
                let bits = self.bits.checked_shl(shift).unwrap_or(0) | 1;
                Heartbeats { period, bits }
            }
        }
    }

    /// Periods with a bit among the 64 up to `period`.
    pub fn count(&self, period: u64) -> u32 {
        let passed = u32::try_from(period.saturating_sub(self.period)).unwrap_or(u32::MAX);
        self.bits.checked_shl(passed).unwrap_or(0).count_ones()
    }
}

/// One registered gateway, under its operator's account.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Gateway {
    /// Under which providers dial it. No other gateway has it.
    pub node_key: PublicKey,
    pub moniker: String,
    /// `host:port`, at most [`crate::limits::GATEWAY_ADDRS_MAX`].
    pub addrs: Vec<String>,
    pub registered_at: TimeMs,
}

/// Where the auditor of a validator is reached, under its operator's account. Only who has such an entry is
/// drawn as a verifier.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AuditorEntry {
    /// Under which others see it. No other auditor has it.
    pub node_key: PublicKey,
    /// `host:port`, 1 to [`crate::limits::GATEWAY_ADDRS_MAX`].
    pub addrs: Vec<String>,
}

/// A pool of stake behind one operator.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Operator {
    /// What the shares are worth together.
    pub tokens: Watt,
    /// Shares of all delegators; a share is worth `tokens / shares`.
    pub shares: Shares,
    pub commission: CommissionTerms,
    pub commission_changed_at: TimeMs,
    /// Rewards that were ever allocated per share, rounded down.
    pub reward_index: RewardIndex,
    /// Allocated and not withdrawn, commission included; held by the rewards account.
    pub outstanding: Watt,
    /// Of that, the operator's commission.
    pub commission_due: Watt,
    /// Until when it may not be used, if it is jailed.
    pub jailed_until: Option<TimeMs>,
    /// For good.
    pub tombstoned: bool,
}

impl Operator {
    pub fn is_jailed(&self) -> bool {
        self.tombstoned || self.jailed_until.is_some()
    }
}

/// Shares of a pool. The first delegator receives 10⁹ for each base unit.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Shares(pub u128);

impl std::fmt::Display for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Shares {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Shares, Self::Err> {
        text.parse().map(Shares)
    }
}
crate::hash::serde_as_text!(Shares);

/// Base units of WATT per share, scaled by 10²⁷.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, BorshSerialize, BorshDeserialize,
)]
pub struct RewardIndex(pub u128);

impl std::fmt::Display for RewardIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for RewardIndex {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<RewardIndex, Self::Err> {
        text.parse().map(RewardIndex)
    }
}
crate::hash::serde_as_text!(RewardIndex);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_window_forgets_what_is_older_than_64_periods() {
        let seen = Heartbeats::default().seen(10).seen(12).seen(11);
        assert_eq!((seen.period, seen.bits), (12, 0b101));
        assert_eq!(seen.count(12), 2);
        assert_eq!(seen.count(75), 1);
        assert_eq!(seen.count(76), 0);
        assert_eq!(seen.seen(1_000).count(1_000), 1);
    }

    #[test]
    fn shares_and_indexes_are_text_in_json() {
        let index = RewardIndex(u128::MAX);
        let json = serde_json::to_string(&(Shares(7), index)).unwrap();
        assert_eq!(json, r#"["7","340282366920938463463374607431768211455"]"#);
        assert_eq!(
            serde_json::from_str::<(Shares, RewardIndex)>(&json).unwrap(),
            (Shares(7), index)
        );
    }

    #[test]
    fn keys_of_different_tables_have_different_paths() {
        let address = Address([7; 20]);
        let account = StateKey::Account { address };
        let provider = StateKey::Provider { operator: address };
        assert_eq!(account.key(), provider.key());
        assert_ne!(account.path(), provider.path());
    }
}
