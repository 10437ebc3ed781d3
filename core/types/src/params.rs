//! The ledger's parameters: what they mean, their defaults and the bounds that no genesis document
//! and no later change may leave.
//!
//! They are part of the state, so two nodes that disagree about one disagree about the root.
//! Money is in base units, times are in milliseconds, shares in parts per million.

mod audit;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

pub use audit::{AuditMode, AuditParams, ENFORCED_MAX, VERIFIERS_MAX};

use crate::{
    amount::{Nusd, Ppm, Watt},
    split::Split,
};

/// Parameters of the ledger, by the part of it that they rule.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    pub split: Split,
    pub supply: SupplyParams,
    pub fees: FeeParams,
    pub credits: CreditParams,
    pub emission: EmissionParams,
    pub channels: ChannelParams,
    pub providers: ProviderParams,
    pub stake: StakeParams,
    pub slashing: SlashingParams,
    pub oracle: OracleParams,
    pub audits: AuditParams,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupplyParams {
    /// WATT never exceed this.
    pub max: Watt,
    /// Of the unminted supply, what settlements may mint when the vault is short.
    pub settlement_reserve: Watt,
    /// Of the unminted supply, what the emission policy may mint in all.
    pub emission_budget: Watt,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeeParams {
    /// Of every transaction.
    pub tx: Watt,
    /// Per byte of its canonical form.
    pub byte: Watt,
}

/// How credits come into being and what a settlement pays (ECONOMICS E1).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CreditPolicy {
    /// P1: a settlement pays the credits' share of the vault, at most their worth; nothing is ever
    /// minted.
    Split,
    /// P2: what buys credits is burned; providers share a scheduled emission.
    Emission,
    /// P3: a settlement pays what the credits are worth, from the vault first.
    Vault,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditParams {
    pub policy: CreditPolicy,
    /// Kept from a purchase: 2 500 is 25 basis points.
    pub spread: Ppm,
    /// Credits that may be issued in one block.
    pub issue_block_max: Nusd,
    /// Whether credits can be turned back into WATT at all.
    pub refunds: bool,
    /// Between asking for a refund and receiving it.
    pub refund_delay_ms: u64,
    /// The vault's value over the credits outstanding, below which the breaker warns, below which
    /// it pauses purchases, and above which it lets them go on.
    pub warn_ratio: Ppm,
    pub pause_ratio: Ppm,
    pub resume_ratio: Ppm,
    /// Shortest pause.
    pub pause_ms: u64,
}

/// Policy P2. Ruled by the same shape as Helium's net emissions (HIP-20).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmissionParams {
    pub epoch_ms: u64,
    /// Minted at most in one epoch, before halvings and what the pool releases.
    pub base: Watt,
    /// Epochs until the base halves.
    pub halving_epochs: u64,
    /// Of what an epoch burned, at most this share of the base flows into the pool.
    pub pool_inflow: Ppm,
    /// Each epoch releases one part in so many of the pool.
    pub pool_smoothing: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelParams {
    /// Bounds of a channel's withdraw delay.
    pub withdraw_delay_ms_min: u64,
    pub withdraw_delay_ms_max: u64,
    /// Between a claim and its settlement: the audit window.
    pub holdback_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderParams {
    /// A provider's smallest full bond, in USD, converted at the price in force.
    pub bond_floor: Nusd,
    /// Bond per value at risk, which is the income that is held back: 1 000 000 is one to one.
    pub bond_per_risk_ppm: u32,
    /// Share of a provider's income withheld until its bond is full.
    pub withhold: Ppm,
    /// Providers whose bond was never full that may be registered at once.
    pub unbonded_max: u32,
    /// An unbonded provider without income for this long is removed.
    pub idle_ms: u64,
    /// How long a provider counts as a newcomer.
    pub probation_ms: u64,
    /// Length of one of the 64 periods of its heartbeat window.
    pub heartbeat_ms: u64,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StakeParams {
    /// Between leaving and receiving what was staked.
    pub unbonding_ms: u64,
    /// Unbondings, and redelegations, of one delegator at one operator that wait at once.
    pub entries_max: u32,
    /// Seats of the validator set.
    pub validators_max: u32,
    /// What a validator must have staked itself.
    pub validator_bond_min: Watt,
    /// Between two changes of a commission.
    pub commission_period_ms: u64,
}

/// What each fault costs (ECONOMICS E8).
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlashingParams {
    /// Evidence of something older has no effect.
    pub evidence_age_ms: u64,
    /// Blocks over which a validator's absence is counted.
    pub window_blocks: u32,
    /// Share of the window that it must have signed.
    pub signed_min: Ppm,
    pub downtime: Ppm,
    pub downtime_jail_ms: u64,
    pub double_sign: Ppm,
    pub double_claim: Ppm,
    /// A provider served another, cheaper model.
    pub audit_failure: Ppm,
    /// It gave no opening to a round's verifiers.
    pub audit_missing: Ppm,
    pub oracle: Ppm,
    pub oracle_jail_ms: u64,
    /// A validator committed to a vote on the price and kept it to itself.
    pub withheld_reveal: Ppm,
    /// A verifier passed a planted fault that others found.
    pub passed_fault: Ppm,
    /// Of what is slashed: burned at least, and given to who reported it. The rest refunds who was
    /// harmed, and what is left then insures the network.
    pub burn: Ppm,
    pub reporter: Ppm,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OracleParams {
    /// Votes are committed in one period, revealed in the next and counted when that is over.
    pub period_ms: u64,
    /// Share of the voting power that must have revealed. Half of it must lie to move the median.
    pub threshold: Ppm,
    /// A vote within half of this share of the median is a good one.
    pub band: Ppm,
    /// The price moves by at most this share at once.
    pub step: Ppm,
    /// A price older than this is no price.
    pub max_age_ms: u64,
    /// Length of the time-weighted average.
    pub twap_ms: u64,
    /// Counts over which good votes are counted, and the share of them that a validator owes.
    pub window_counts: u32,
    pub good_min: Ppm,
}

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const YEARS_10_MS: u64 = 3_650 * DAY_MS;

/// Age is counted from time marks an hour apart, so one hour of it may not be there.
const EVIDENCE_AGE_MS_MIN: u64 = 2 * HOUR_MS;

impl Params {
    /// The parameters of ECONOMICS E22.
    pub fn standard() -> Params {
        let ppm = |ppm| Ppm::new(ppm).unwrap_or_default();
        Params {
            split: Split::SPLIT_60,
            supply: SupplyParams {
                max: Watt::whole(1_000_000_000),
                settlement_reserve: Watt::whole(100_000_000),
                emission_budget: Watt::ZERO,
            },
            fees: FeeParams { tx: Watt(1_000_000), byte: Watt(1_000) },
            credits: CreditParams {
                policy: CreditPolicy::Vault,
                spread: ppm(2_500),
                issue_block_max: Nusd::whole(10_000_000),
                refunds: true,
                refund_delay_ms: HOUR_MS,
                warn_ratio: ppm(950_000),
                pause_ratio: ppm(900_000),
                resume_ratio: ppm(930_000),
                pause_ms: HOUR_MS,
            },
            emission: EmissionParams {
                epoch_ms: DAY_MS,
                base: Watt::ZERO,
                halving_epochs: 730,
                pool_inflow: ppm(10_000),
                pool_smoothing: 336,
            },
            channels: ChannelParams {
                withdraw_delay_ms_min: 15 * MINUTE_MS,
                withdraw_delay_ms_max: 30 * DAY_MS,
                holdback_ms: DAY_MS,
            },
            providers: ProviderParams {
                bond_floor: Nusd::whole(5),
                bond_per_risk_ppm: 1_000_000,
                withhold: ppm(200_000),
                unbonded_max: 1_000,
                idle_ms: 30 * DAY_MS,
                probation_ms: 30 * DAY_MS,
                heartbeat_ms: HOUR_MS,
            },
            stake: StakeParams {
                unbonding_ms: 21 * DAY_MS,
                entries_max: 7,
                validators_max: 100,
                validator_bond_min: Watt::whole(10_000),
                commission_period_ms: DAY_MS,
            },
            slashing: SlashingParams {
                evidence_age_ms: 14 * DAY_MS,
                window_blocks: 10_000,
                signed_min: ppm(500_000),
                downtime: ppm(100),
                downtime_jail_ms: 10 * MINUTE_MS,
                double_sign: ppm(50_000),
                double_claim: ppm(500_000),
                audit_failure: ppm(50_000),
                audit_missing: ppm(10_000),
                oracle: ppm(100),
                oracle_jail_ms: 10 * MINUTE_MS,
                withheld_reveal: ppm(100),
                passed_fault: ppm(1_000),
                burn: ppm(500_000),
                reporter: ppm(50_000),
            },
            oracle: OracleParams {
                period_ms: MINUTE_MS,
                threshold: ppm(666_667),
                band: ppm(20_000),
                step: ppm(125_000),
                max_age_ms: HOUR_MS,
                twap_ms: 30 * MINUTE_MS,
                window_counts: 1_000,
                good_min: ppm(50_000),
            },
            audits: AuditParams {
                mode: AuditMode::Shadow,
                enforced: Vec::new(),
                verifiers: 2,
                open_max: 32,
                commit_ms: 10 * MINUTE_MS,
                reveal_ms: 10 * MINUTE_MS,
                seal_ms: 30_000,
                share_max: ppm(200_000),
                share_min: ppm(10_000),
                halving_passes: 20,
                memory: ppm(990_000),
                failure_weight: 5,
                escalate_ms: DAY_MS,
                missing_ms: 3 * DAY_MS,
                delist_ms: 30 * DAY_MS,
                quality_min: ppm(950_000),
                quality_resume: ppm(970_000),
                quality_weight: ppm(30_000),
                pay: Watt(10_000_000),
                appeal_deposit: Watt::whole(5),
                demand_deposit: Watt(50_000_000),
                demand_age_ms: 12 * HOUR_MS,
                canary_pay: Watt(10_000_000),
                canary_every_ms: 15 * MINUTE_MS,
            },
        }
    }

    /// Whether every value is within its bounds and they agree with each other.
    pub fn check(&self) -> Result<(), ParamError> {
        for bounds in BOUNDS {
            let given = (bounds.get)(self);
            if given < bounds.min || given > bounds.max {
                let Bounds { name, unit, min, max, .. } = *bounds;
                return Err(ParamError::Bounds { name, unit, given, min, max });
            }
        }
        let (credits, channels, slashing, oracle) =
            (&self.credits, &self.channels, &self.slashing, &self.oracle);
        let shares = u64::from(slashing.burn.get()).saturating_add(slashing.reporter.get().into());
        let audits = &self.audits;
        let listed = audits.enforced.is_sorted_by(|left, right| left < right);
        let agree: [(&'static str, bool, &'static str); 12] = [
            (
                "supply.settlement_reserve",
                self.supply.settlement_reserve.saturating_add(self.supply.emission_budget)
                    <= self.supply.max,
                "with `supply.emission_budget` it must stay within `supply.max`",
            ),
            (
                "channels.withdraw_delay_ms_min",
                channels.withdraw_delay_ms_min <= channels.withdraw_delay_ms_max,
                "use at most `channels.withdraw_delay_ms_max`",
            ),
            (
                "credits.pause_ratio",
                credits.pause_ratio <= credits.resume_ratio
                    && credits.resume_ratio <= credits.warn_ratio,
                "pause, resume and warn ratio must rise in this order",
            ),
            (
                "credits.refund_delay_ms",
                credits.refund_delay_ms >= oracle.twap_ms.saturating_mul(2),
                "use at least twice `oracle.twap_ms`",
            ),
            (
                "slashing.evidence_age_ms",
                slashing.evidence_age_ms < self.stake.unbonding_ms,
                "use less than `stake.unbonding_ms`",
            ),
            (
                "channels.holdback_ms",
                channels.holdback_ms < slashing.evidence_age_ms,
                "use less than `slashing.evidence_age_ms`",
            ),
            ("slashing.reporter", shares <= 1_000_000, "with `slashing.burn` at most 1000000 ppm"),
            (
                "oracle.twap_ms",
                oracle.twap_ms.checked_div(oracle.period_ms).unwrap_or(u64::MAX)
                    <= TWAP_PERIODS_MAX,
                "use at most 256 times `oracle.period_ms`",
            ),
            (
                "audits.enforced",
                listed && audits.enforced.len() <= ENFORCED_MAX,
                "list at most 256 models, ascending and each once",
            ),
            (
                // The beacon of a commitment comes within two periods, and a block after.
                "audits.demand_age_ms",
                audits.demand_age_ms >= oracle.period_ms.saturating_mul(3),
                "use at least three times `oracle.period_ms`",
            ),
            (
                "audits.share_min",
                audits.share_min <= audits.share_max,
                "use at most `audits.share_max`",
            ),
            (
                "audits.quality_min",
                audits.quality_min <= audits.quality_resume,
                "use at most `audits.quality_resume`",
            ),
        ];
        match agree.into_iter().find(|(_, holds, _)| !holds) {
            Some((name, _, problem)) => Err(ParamError::Disagree { name, problem }),
            None => Ok(()),
        }
    }
}

/// Of a verifier for one round: a mistake here would empty the treasury.
const PAY_MAX: u128 = 1_000 * crate::amount::UNIT;

/// Observations that a time-weighted average may span.
pub const TWAP_PERIODS_MAX: u64 = 256;

/// One parameter with the bounds that are part of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// `part.name`, as in the genesis document.
    pub name: &'static str,
    pub unit: &'static str,
    pub min: u128,
    pub max: u128,
    get: fn(&Params) -> u128,
}

impl Bounds {
    /// The value in `params`, in [`Bounds::unit`].
    pub fn value(&self, params: &Params) -> u128 {
        (self.get)(params)
    }
}

/// Why parameters cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    #[error("`params.{name}` is {given} {unit}; use {min} to {max}")]
    Bounds { name: &'static str, unit: &'static str, given: u128, min: u128, max: u128 },
    #[error("`params.{name}`: {problem}")]
    Disagree { name: &'static str, problem: &'static str },
}

/// A parameter as a plain number.
trait Number: Copy {
    fn number(self) -> u128;
}

macro_rules! number {
    ($($type:ty: $self:ident => $number:expr;)*) => {
        $(impl Number for $type {
            fn number($self) -> u128 { $number }
        })*
    };
}

number! {
    Watt: self => self.0;
    Nusd: self => self.0;
    Ppm: self => self.get().into();
    u32: self => self.into();
    u64: self => self.into();
}

macro_rules! bounds {
    ($($part:ident.$field:ident: $unit:literal, $min:expr, $max:expr;)*) => {
        &[$(Bounds {
            name: concat!(stringify!($part), ".", stringify!($field)),
            unit: $unit,
            min: $min as u128,
            max: $max as u128,
            get: |params| params.$part.$field.number(),
        }),*]
    };
}

/// Base units of any supply: every balance fits a signed 64-bit integer, so indexes and spreadsheets
/// can hold it, and every product of two balances fits 128 bits.
const SUPPLY: u128 = i64::MAX as u128;
/// One billion USD, more than which is a mistake.
const BILLION_USD: u128 = 1_000_000_000_000_000_000;

/// Every parameter that is a number. The split has its own rule (its shares sum to one) and the
/// credit policy, like the mode of audits, is one of three names.
pub const BOUNDS: &[Bounds] = bounds! {
    supply.max: "base units", 1, SUPPLY;
    supply.settlement_reserve: "base units", 0, SUPPLY;
    supply.emission_budget: "base units", 0, SUPPLY;
    fees.tx: "base units", 0, SUPPLY;
    fees.byte: "base units", 0, SUPPLY;
    credits.spread: "ppm", 0, 500_000;
    credits.issue_block_max: "nano-USD", 1, BILLION_USD;
    credits.refund_delay_ms: "ms", 1, YEARS_10_MS;
    credits.warn_ratio: "ppm", 0, 1_000_000;
    credits.pause_ratio: "ppm", 0, 1_000_000;
    credits.resume_ratio: "ppm", 0, 1_000_000;
    credits.pause_ms: "ms", 0, YEARS_10_MS;
    emission.epoch_ms: "ms", SECOND_MS, YEARS_10_MS;
    emission.base: "base units", 0, SUPPLY;
    emission.halving_epochs: "epochs", 1, u64::MAX;
    emission.pool_inflow: "ppm", 0, 1_000_000;
    emission.pool_smoothing: "epochs", 1, 1_000_000;
    channels.withdraw_delay_ms_min: "ms", 1, YEARS_10_MS;
    channels.withdraw_delay_ms_max: "ms", 1, YEARS_10_MS;
    channels.holdback_ms: "ms", 0, YEARS_10_MS;
    providers.bond_floor: "nano-USD", 0, BILLION_USD;
    providers.bond_per_risk_ppm: "ppm", 0, 100_000_000;
    providers.withhold: "ppm", 0, 1_000_000;
    providers.unbonded_max: "providers", 0, 1_000_000;
    providers.idle_ms: "ms", 1, YEARS_10_MS;
    providers.probation_ms: "ms", 0, YEARS_10_MS;
    providers.heartbeat_ms: "ms", 1, YEARS_10_MS;
    stake.unbonding_ms: "ms", 1, YEARS_10_MS;
    stake.entries_max: "entries", 1, 100;
    stake.validators_max: "validators", 1, 256;
    stake.validator_bond_min: "base units", 1, SUPPLY;
    stake.commission_period_ms: "ms", 0, YEARS_10_MS;
    slashing.evidence_age_ms: "ms", EVIDENCE_AGE_MS_MIN, YEARS_10_MS;
    slashing.window_blocks: "blocks", 1, 65_536;
    slashing.signed_min: "ppm", 0, 1_000_000;
    slashing.downtime: "ppm", 0, 100_000;
    slashing.downtime_jail_ms: "ms", 0, YEARS_10_MS;
    slashing.double_sign: "ppm", 0, 1_000_000;
    slashing.double_claim: "ppm", 0, 1_000_000;
    slashing.audit_failure: "ppm", 0, 1_000_000;
    slashing.audit_missing: "ppm", 0, 100_000;
    slashing.oracle: "ppm", 0, 100_000;
    slashing.oracle_jail_ms: "ms", 0, YEARS_10_MS;
    slashing.withheld_reveal: "ppm", 0, 100_000;
    slashing.passed_fault: "ppm", 0, 100_000;
    slashing.burn: "ppm", 500_000, 1_000_000;
    slashing.reporter: "ppm", 0, 100_000;
    oracle.period_ms: "ms", SECOND_MS, YEARS_10_MS;
    oracle.threshold: "ppm", 500_000, 1_000_000;
    oracle.band: "ppm", 0, 1_000_000;
    oracle.step: "ppm", 1, 500_000;
    oracle.max_age_ms: "ms", SECOND_MS, YEARS_10_MS;
    oracle.twap_ms: "ms", SECOND_MS, YEARS_10_MS;
    oracle.window_counts: "counts", 1, 1_000_000;
    oracle.good_min: "ppm", 0, 1_000_000;
    audits.verifiers: "verifiers", 1, VERIFIERS_MAX;
    audits.open_max: "commitments", 1, 1_024;
    audits.commit_ms: "ms", 1, YEARS_10_MS;
    audits.reveal_ms: "ms", 1, YEARS_10_MS;
    audits.seal_ms: "ms", 0, YEARS_10_MS;
    audits.share_max: "ppm", 0, 1_000_000;
    audits.share_min: "ppm", 0, 1_000_000;
    audits.halving_passes: "passes", 1, 1_000_000;
    audits.memory: "ppm", 0, 999_999;
    audits.failure_weight: "passes", 1, 1_000;
    audits.escalate_ms: "ms", 1, YEARS_10_MS;
    audits.missing_ms: "ms", 0, YEARS_10_MS;
    audits.delist_ms: "ms", 1, YEARS_10_MS;
    audits.quality_min: "ppm", 0, 1_000_000;
    audits.quality_resume: "ppm", 0, 1_000_000;
    audits.quality_weight: "ppm", 1, 1_000_000;
    audits.pay: "base units", 0, PAY_MAX;
    audits.appeal_deposit: "base units", 0, SUPPLY;
    audits.demand_deposit: "base units", 0, SUPPLY;
    audits.demand_age_ms: "ms", 0, YEARS_10_MS;
    audits.canary_pay: "base units", 0, PAY_MAX;
    audits.canary_every_ms: "ms", 1, YEARS_10_MS;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_parameters_are_within_their_bounds() {
        assert_eq!(Params::standard().check(), Ok(()));
    }

    #[test]
    fn a_value_out_of_bounds_or_in_disagreement_is_named() {
        let mut params = Params::standard();
        params.slashing.burn = Ppm::new(499_999).unwrap();
        let text = params.check().unwrap_err().to_string();
        assert_eq!(text, "`params.slashing.burn` is 499999 ppm; use 500000 to 1000000");

        // Less than a quarter of all power never moves the price.
        let mut params = Params::standard();
        params.oracle.threshold = Ppm::new(499_999).unwrap();
        let text = params.check().unwrap_err().to_string();
        assert_eq!(text, "`params.oracle.threshold` is 499999 ppm; use 500000 to 1000000");

        let mut params = Params::standard();
        params.slashing.evidence_age_ms = params.stake.unbonding_ms;
        let text = params.check().unwrap_err().to_string();
        assert_eq!(text, "`params.slashing.evidence_age_ms`: use less than `stake.unbonding_ms`");

        // Age is counted from hourly marks: a fault half an hour old may count as an hour and a half.
        let mut params = Params::standard();
        params.channels.holdback_ms = 0;
        params.slashing.evidence_age_ms = EVIDENCE_AGE_MS_MIN;
        params.check().unwrap();
        params.slashing.evidence_age_ms = 30 * MINUTE_MS;
        let text = params.check().unwrap_err().to_string();
        let expected =
            "`params.slashing.evidence_age_ms` is 1800000 ms; use 7200000 to 315360000000";
        assert_eq!(text, expected);

        // Every commitment would be too old for its beacon.
        let mut params = Params::standard();
        params.audits.demand_age_ms = 0;
        let text = params.check().unwrap_err().to_string();
        let expected = "`params.audits.demand_age_ms`: use at least three times `oracle.period_ms`";
        assert_eq!(text, expected);
    }

    #[test]
    fn every_number_has_bounds() {
        let json = serde_json::to_value(Params::standard()).unwrap();
        let named: Vec<&str> = BOUNDS.iter().map(|bounds| bounds.name).collect();
        for (part, fields) in json.as_object().unwrap() {
            for field in fields.as_object().unwrap().keys() {
                let name = format!("{part}.{field}");
                let others =
                    ["credits.policy", "credits.refunds", "audits.mode", "audits.enforced"];
                let other = part == "split" || others.contains(&name.as_str());
                assert!(other || named.contains(&name.as_str()), "{name} has no bounds");
            }
        }
    }
}
