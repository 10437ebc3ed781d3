//! How much of a pool somebody's work deserves (ECONOMICS E3): work times factors, each clamped.
//!
//! A weight divides a pool that was funded before, it mints nothing. It is linear in the work and has
//! no part that comes with an identity, so whoever splits into several is paid the same in all.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Nusd, Rounding, Watt, mul_div};

/// One of a factor.
const ONE_PPM: u32 = 1_000_000;
/// What each factor is clamped to, in ppm.
const QUALITY_PPM_MAX: u32 = 1_250_000;
const DEMAND_PPM_MIN: u32 = 500_000;
const DEMAND_PPM_MAX: u32 = 2_000_000;
const REGION_PPM_MAX: u32 = 1_500_000;
/// Work below this quality deserves nothing.
const QUALITY_PPM_ENOUGH: u32 = 950_000;

/// Work times factors, in nano-USD: what a provider has of a pool's sum of weights.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, BorshSerialize, BorshDeserialize,
)]
pub struct Weight(pub u128);

/// What work is multiplied with. One is 1 000 000.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Factors {
    /// Counts up to 1.25, and nothing below 0.95.
    pub(crate) quality_ppm: u32,
    /// Counts from 0.5 to 2.
    pub(crate) demand_ppm: u32,
    /// Counts up to 1.
    pub(crate) uptime_ppm: u32,
    /// Counts from 1 to 1.5.
    pub(crate) region_ppm: u32,
}

impl Factors {
    /// Work counts as it is.
    pub(crate) const NEUTRAL: Factors = Factors {
        quality_ppm: ONE_PPM,
        demand_ppm: ONE_PPM,
        uptime_ppm: ONE_PPM,
        region_ppm: ONE_PPM,
    };

    /// Their product, in units of 10⁻²⁴: below 2⁸².
    fn product(self) -> u128 {
        let Factors { quality_ppm, demand_ppm, uptime_ppm, region_ppm } = self;
        if quality_ppm < QUALITY_PPM_ENOUGH {
            return 0;
        }
        let clamped = [
            quality_ppm.min(QUALITY_PPM_MAX),
            demand_ppm.clamp(DEMAND_PPM_MIN, DEMAND_PPM_MAX),
            uptime_ppm.min(ONE_PPM),
            region_ppm.clamp(ONE_PPM, REGION_PPM_MAX),
        ];
        clamped.into_iter().map(u128::from).fold(1, u128::saturating_mul)
    }
}

/// The weight of `work`, rounded down. `None`: it is more than can be counted.
pub(crate) fn weight(work: Nusd, factors: Factors) -> Option<Weight> {
    const ONE: u128 = (ONE_PPM as u128).pow(4);
    mul_div(work.0, factors.product(), ONE, Rounding::Down).map(Weight)
}

/// What `own` of the weight `all` receives of a pool, rounded down: what all receive together is at
/// most the pool. Without weight nothing.
pub(crate) fn pay(pool: Watt, own: Weight, all: Weight) -> Option<Watt> {
    if own.0 == 0 {
        return Some(Watt::ZERO);
    }
    mul_div(pool.0, own.0, all.0, Rounding::Down).map(Watt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn factors_are_clamped_and_low_quality_counts_nothing() {
        let check = |change: fn(&mut Factors), expected: u128| {
            let mut factors = Factors::NEUTRAL;
            change(&mut factors);
            assert_eq!(weight(Nusd(1_000_000), factors), Some(Weight(expected)), "{factors:?}");
        };
        check(|_| {}, 1_000_000);
        check(|it| it.quality_ppm = 950_000, 950_000);
        check(|it| it.quality_ppm = 949_999, 0);
        check(|it| it.quality_ppm = 1_250_000, 1_250_000);
        check(|it| it.quality_ppm = 1_250_001, 1_250_000);
        check(|it| it.demand_ppm = 500_000, 500_000);
        check(|it| it.demand_ppm = 499_999, 500_000);
        check(|it| it.demand_ppm = 2_000_000, 2_000_000);
        check(|it| it.demand_ppm = u32::MAX, 2_000_000);
        check(|it| it.uptime_ppm = 0, 0);
        check(|it| it.uptime_ppm = 15_625, 15_625);
        check(|it| it.uptime_ppm = 1_000_001, 1_000_000);
        check(|it| it.region_ppm = 999_999, 1_000_000);
        check(|it| it.region_ppm = 1_500_000, 1_500_000);
        check(|it| it.region_ppm = 1_500_001, 1_500_000);
        let most = Factors {
            quality_ppm: u32::MAX,
            demand_ppm: u32::MAX,
            uptime_ppm: u32::MAX,
            region_ppm: u32::MAX,
        };
        assert_eq!(weight(Nusd(4), most), Some(Weight(15)));
        assert_eq!(weight(Nusd(u128::MAX), most), None);
    }

    #[test]
    fn without_weight_there_is_no_pay() {
        assert_eq!(pay(Watt(9), Weight(0), Weight(0)), Some(Watt::ZERO));
        assert_eq!(pay(Watt(9), Weight(0), Weight(5)), Some(Watt::ZERO));
        assert_eq!(pay(Watt(9), Weight(5), Weight(5)), Some(Watt(9)));
    }

    fn factors() -> impl Strategy<Value = Factors> {
        let ppm = || 0u32..2_200_000;
        (900_000u32..1_300_000, ppm(), ppm(), ppm()).prop_map(
            |(quality, demand, uptime, region)| Factors {
                quality_ppm: quality,
                demand_ppm: demand,
                uptime_ppm: uptime,
                region_ppm: region,
            },
        )
    }

    fn all_pay(pool: Watt, weights: &[Weight]) -> Vec<Watt> {
        let all = Weight(weights.iter().map(|weight| weight.0).sum());
        weights.iter().map(|own| pay(pool, *own, all).unwrap()).collect()
    }

    proptest! {
        /// What nobody receives is carried, and is less than a unit for each who is paid.
        #[test]
        fn pay_and_carry_are_the_pool(
            pool in 0u128..1 << 63,
            works in prop::collection::vec((0u128..1 << 60, factors()), 1..20),
        ) {
            let weights: Vec<Weight> = works
                .iter()
                .map(|(work, factors)| weight(Nusd(*work), *factors).unwrap())
                .collect();
            let paid: u128 = all_pay(Watt(pool), &weights).iter().map(|watt| watt.0).sum();
            let carry = pool.checked_sub(paid).unwrap();
            let receivers = weights.iter().filter(|weight| weight.0 > 0).count() as u128;
            let carry_max = if receivers == 0 { pool } else { receivers - 1 };
            prop_assert!(carry <= carry_max);
        }

        #[test]
        fn more_work_and_better_factors_never_pay_less(
            pool in 0u128..1 << 63,
            others in 0u128..1 << 60,
            work in 0u128..1 << 60,
            more in 0u128..1 << 60,
            factors in factors(),
            better in (0u32..300_000, 0u32..300_000, 0u32..300_000, 0u32..300_000),
        ) {
            let improved = Factors {
                quality_ppm: factors.quality_ppm + better.0,
                demand_ppm: factors.demand_ppm + better.1,
                uptime_ppm: factors.uptime_ppm + better.2,
                region_ppm: factors.region_ppm + better.3,
            };
            let paid = |work, factors| {
                let own = weight(Nusd(work), factors).unwrap();
                all_pay(Watt(pool), &[own, Weight(others)])[0]
            };
            let before = paid(work, factors);
            prop_assert!(paid(work + more, factors) >= before);
            prop_assert!(paid(work, improved) >= before);
        }

        /// One who appears as several gains nothing, and loses what rounding takes at most.
        #[test]
        fn identities_bring_nothing(
            pool in 0u128..1 << 63,
            others in 1u128..1 << 60,
            parts in prop::collection::vec(0u128..1 << 56, 1..20),
            factors in factors(),
        ) {
            let one = weight(Nusd(parts.iter().sum()), factors).unwrap();
            let several: Vec<Weight> =
                parts.iter().map(|part| weight(Nusd(*part), factors).unwrap()).collect();
            let sum: u128 = several.iter().map(|weight| weight.0).sum();
            let count = parts.len() as u128;
            prop_assert!(sum <= one.0 && one.0 - sum < count);
            // With equal weights, so that only the division is compared.
            let mut together = several.clone();
            together.push(Weight(others));
            let split: u128 = all_pay(Watt(pool), &together)[..several.len()]
                .iter()
                .map(|watt| watt.0)
                .sum();
            let whole = all_pay(Watt(pool), &[Weight(sum), Weight(others)])[0].0;
            prop_assert!(split <= whole && whole - split <= count);
        }
    }
}
