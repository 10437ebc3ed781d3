//! The revenue split (ECONOMICS E2): named shares that sum to one, and parts that sum to the whole.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::amount::{Ppm, Rounding, Watt};

/// Who gets which share of a settled payment. The shares sum to 1 000 000 ppm (checked by [`Split::new`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, Serialize)]
pub struct Split {
    provider: Ppm,
    stakers: Ppm,
    burn: Ppm,
    treasury: Ppm,
}

/// The shares of a [`Split`] by name, before they were checked.
#[derive(Clone, Copy, Debug, BorshDeserialize, Deserialize)]
pub struct Shares {
    pub provider: Ppm,
    pub stakers: Ppm,
    pub burn: Ppm,
    pub treasury: Ppm,
}

/// What each receiver gets of one payment; the fields sum to what was split.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Parts {
    pub provider: Watt,
    pub stakers: Watt,
    pub burn: Watt,
    pub treasury: Watt,
}

/// The shares do not sum to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shares of a revenue split sum to 1000000 ppm, these sum to {sum}")]
pub struct SplitSumError {
    sum: u64,
}

impl Split {
    /// Checks that the shares sum to one (invariant S1).
    pub fn new(shares: Shares) -> Result<Split, SplitSumError> {
        let Shares { provider, stakers, burn, treasury } = shares;
        let sum =
            [provider, stakers, burn, treasury].iter().map(|share| u64::from(share.get())).sum();
        if sum != 1_000_000 {
            return Err(SplitSumError { sum });
        }
        Ok(Split { provider, stakers, burn, treasury })
    }

    /// The default: 60 % provider, 15 % stakers, 15 % burned, 10 % treasury.
    pub const SPLIT_60: Split = Split::of_ppm(600_000, 150_000, 150_000, 100_000);
    pub const BURN_50: Split = Split::of_ppm(250_000, 100_000, 500_000, 150_000);
    pub const DIRECT: Split = Split::of_ppm(1_000_000, 0, 0, 0);

    /// A preset of ECONOMICS by its name: `split-60`, `burn-50`, `direct`.
    pub fn preset(name: &str) -> Option<Split> {
        match name {
            "split-60" => Some(Split::SPLIT_60),
            "burn-50" => Some(Split::BURN_50),
            "direct" => Some(Split::DIRECT),
            _ => None,
        }
    }

    /// For the constants above only: their sums are checked when the crate is compiled.
    const fn of_ppm(provider: u32, stakers: u32, burn: u32, treasury: u32) -> Split {
        #[expect(clippy::arithmetic_side_effects, reason = "evaluated at compile time")]
        let sum = provider + stakers + burn + treasury;
        assert!(sum == 1_000_000);
        let (Some(provider), Some(stakers), Some(burn), Some(treasury)) =
            (Ppm::new(provider), Ppm::new(stakers), Ppm::new(burn), Ppm::new(treasury))
        else {
            return Split {
                provider: Ppm::ONE,
                stakers: Ppm::ONE,
                burn: Ppm::ONE,
                treasury: Ppm::ONE,
            };
        };
        Split { provider, stakers, burn, treasury }
    }

    pub fn shares(&self) -> Shares {
        let Split { provider, stakers, burn, treasury } = *self;
        Shares { provider, stakers, burn, treasury }
    }

    /// Splits `gross`: every share rounds down, the treasury receives the remainder (S2, S3).
    pub fn distribute(&self, gross: Watt) -> Parts {
        let part = |share: Ppm| Watt(share.of(gross.0, Rounding::Down));
        let (provider, stakers, burn) = (part(self.provider), part(self.stakers), part(self.burn));
        let treasury = gross.saturating_sub(provider).saturating_sub(stakers).saturating_sub(burn);
        Parts { provider, stakers, burn, treasury }
    }
}

impl BorshDeserialize for Split {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Split> {
        Split::new(Shares::deserialize_reader(reader)?).map_err(|error| {
            borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, error.to_string())
        })
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Split, D::Error> {
        Split::new(<Shares as Deserialize>::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_numbers_of_the_presets() {
        // ECONOMICS E23.1.
        let parts = |name: &str| {
            let parts = Split::preset(name).unwrap().distribute(Watt(1_000_000));
            [parts.provider.0, parts.stakers.0, parts.burn.0, parts.treasury.0]
        };
        assert_eq!(parts("split-60"), [600_000, 150_000, 150_000, 100_000]);
        assert_eq!(parts("burn-50"), [250_000, 100_000, 500_000, 150_000]);
        assert_eq!(parts("direct"), [1_000_000, 0, 0, 0]);
        for (name, units) in ["split-60", "burn-50", "direct"]
            .iter()
            .flat_map(|it| [1, 3, 7, 99, 101].map(|n| (it, n)))
        {
            let parts = Split::preset(name).unwrap().distribute(Watt(units));
            let sum = parts.provider.0 + parts.stakers.0 + parts.burn.0 + parts.treasury.0;
            assert_eq!(sum, units, "{name}");
        }
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_whole(gross: u128) {
            for name in ["split-60", "burn-50", "direct"] {
                let Parts { provider, stakers, burn, treasury } =
                    Split::preset(name).unwrap().distribute(Watt(gross));
                prop_assert_eq!(provider.0 + stakers.0 + burn.0 + treasury.0, gross);
            }
        }
    }
}
