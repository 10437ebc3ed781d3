//! Money: integers in base units, a newtype per denomination, checked operations only.
//!
//! `mul_div` with a 256-bit intermediate is the only multiply-and-divide of money in the project;
//! every use names its rounding (ECONOMICS E0: round against whoever chooses the amount).

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use ethnum::U256;

use crate::hash::serde_as_text;

/// Base units in one whole unit of either denomination.
pub const UNIT: u128 = 1_000_000_000;

/// Which way a division goes when it does not come out even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Down,
    Up,
}

/// `a * b / c` with a 256-bit intermediate. `None` if `c` is zero or the result exceeds `u128`.
pub fn mul_div(a: u128, b: u128, c: u128, rounding: Rounding) -> Option<u128> {
    if c == 0 {
        return None;
    }
    let product = U256::from(a).checked_mul(U256::from(b))?;
    let divisor = U256::from(c);
    let quotient = product.checked_div(divisor)?;
    let exact = product.checked_rem(divisor)? == U256::ZERO;
    let rounded = match rounding {
        Rounding::Up if !exact => quotient.checked_add(U256::ONE)?,
        Rounding::Up | Rounding::Down => quotient,
    };
    u128::try_from(rounded).ok()
}

/// A share in parts per million, at most 1 000 000.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, BorshSerialize, serde::Serialize,
)]
#[serde(transparent)]
pub struct Ppm(u32);

impl Ppm {
    pub const ONE: Ppm = Ppm(1_000_000);
    pub const ONE_PERCENT: Ppm = Ppm(10_000);

    /// `None` above 1 000 000.
    pub const fn new(ppm: u32) -> Option<Ppm> {
        if ppm <= 1_000_000 { Some(Ppm(ppm)) } else { None }
    }

    pub const fn get(self) -> u32 {
        self.0
    }

    /// This share of `amount`.
    pub fn of(self, amount: u128, rounding: Rounding) -> u128 {
        // A share is at most the whole, so the result fits.
        mul_div(amount, u128::from(self.0), 1_000_000, rounding).unwrap_or(amount)
    }
}

impl BorshDeserialize for Ppm {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<Ppm> {
        Ppm::new(u32::deserialize_reader(reader)?).ok_or_else(|| {
            borsh::io::Error::new(
                borsh::io::ErrorKind::InvalidData,
                "a share is above 1 000 000 ppm",
            )
        })
    }
}

impl<'de> serde::Deserialize<'de> for Ppm {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ppm, D::Error> {
        Ppm::new(<u32 as serde::Deserialize>::deserialize(deserializer)?)
            .ok_or_else(|| serde::de::Error::custom("a share is above 1 000 000 ppm"))
    }
}

/// An amount of one denomination with checked arithmetic. Serde carries base units as a string,
/// because JSON numbers lose digits above 2^53.
macro_rules! denomination {
    ($(#[$doc:meta])* $name:ident, $symbol:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            BorshSerialize, BorshDeserialize,
        )]
        pub struct $name(pub u128);

        impl $name {
            pub const ZERO: $name = $name(0);

            /// `whole` units, e.g. 5 WATT.
            pub const fn whole(whole: u64) -> $name {
                $name((whole as u128).saturating_mul(UNIT))
            }

            pub fn checked_add(self, other: $name) -> Option<$name> {
                self.0.checked_add(other.0).map($name)
            }

            pub fn checked_sub(self, other: $name) -> Option<$name> {
                self.0.checked_sub(other.0).map($name)
            }

            pub fn saturating_sub(self, other: $name) -> $name {
                $name(self.0.saturating_sub(other.0))
            }

            pub fn saturating_add(self, other: $name) -> $name {
                $name(self.0.saturating_add(other.0))
            }

            pub fn is_zero(self) -> bool {
                self.0 == 0
            }

            /// As a decimal number of whole units with up to 9 places, for people.
            pub fn to_decimal(self) -> String {
                let whole = self.0 / UNIT;
                let rest = self.0 % UNIT;
                if rest == 0 {
                    return whole.to_string();
                }
                let places = format!("{rest:09}");
                format!("{whole}.{}", places.trim_end_matches('0'))
            }

            /// Whole units from decimal text such as `12.5`; at most 9 decimal places.
            pub fn from_decimal(text: &str) -> Option<$name> {
                let (whole, places) = text.split_once('.').unwrap_or((text, ""));
                let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
                if whole.is_empty() || places.len() > 9 || !digits(whole) || !digits(places) {
                    return None;
                }
                let rest: u128 = format!("{places:0<9}").parse().ok()?;
                whole.parse::<u128>().ok()?.checked_mul(UNIT)?.checked_add(rest).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} {}", self.to_decimal(), $symbol)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<$name, Self::Err> {
                text.parse().map($name)
            }
        }

        impl std::iter::Sum for $name {
            fn sum<I: Iterator<Item = $name>>(amounts: I) -> $name {
                amounts.fold($name::ZERO, $name::saturating_add)
            }
        }

        serde_as_text!($name);
    };
}

denomination!(
    /// The token, in units of 10⁻⁹ WATT. `Display` and serde show base units.
    Watt, "WATT"
);
denomination!(
    /// Credits: US dollars in units of 10⁻⁹ (nano-USD). `Display` and serde show base units.
    Nusd, "USD"
);

impl Nusd {
    /// The credits that `watt` buys at `price` nano-USD per whole WATT.
    pub fn worth(watt: Watt, price: Nusd, rounding: Rounding) -> Option<Nusd> {
        mul_div(watt.0, price.0, UNIT, rounding).map(Nusd)
    }
}

impl Watt {
    /// The WATT that `credits` are worth at `price` nano-USD per whole WATT. `None` at price 0.
    pub fn worth(credits: Nusd, price: Nusd, rounding: Rounding) -> Option<Watt> {
        mul_div(credits.0, UNIT, price.0, rounding).map(Watt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_numbers_of_burn_and_mint() {
        // ECONOMICS E23.8: 1 000 USD at 1.14, settled at 1.50, 0.90 and 1.25.
        let usd = Nusd::whole(1_000);
        let at = |price: &str| Nusd::from_decimal(price).unwrap();
        let worth = |price, rounding| Watt::worth(usd, at(price), rounding).unwrap().to_decimal();
        assert_eq!(worth("1.14", Rounding::Up), "877.192982457");
        assert_eq!(worth("1.5", Rounding::Down), "666.666666666");
        assert_eq!(worth("0.9", Rounding::Down), "1111.111111111");
        assert_eq!(worth("1.25", Rounding::Down), "800");
    }

    #[test]
    fn a_division_without_rest_is_not_rounded() {
        for rounding in [Rounding::Up, Rounding::Down] {
            assert_eq!(mul_div(6, 4, 8, rounding), Some(3));
            assert_eq!(mul_div(0, 4, 8, rounding), Some(0));
        }
        assert_eq!(mul_div(7, 4, 8, Rounding::Up), Some(4));
    }

    #[test]
    fn a_purchase_is_worth_its_price() {
        let worth = |watt, rounding| Nusd::worth(Watt(watt), Nusd(1_500_000_000), rounding);
        assert_eq!(worth(3, Rounding::Down), Some(Nusd(4)));
        assert_eq!(worth(3, Rounding::Up), Some(Nusd(5)));
        assert_eq!(worth(u128::MAX, Rounding::Down), None);
    }

    #[test]
    fn a_share_in_json_is_at_most_one() {
        let read = |text: &str| serde_json::from_str::<Ppm>(text).ok();
        assert_eq!(read("250000"), Ppm::new(250_000));
        assert_eq!((read("1000000"), read("1000001")), (Some(Ppm::ONE), None));
    }

    #[test]
    fn decimals_round_trip_and_refuse_what_they_cannot_hold() {
        for text in ["0", "1", "0.000000001", "12.5", "1000000000"] {
            assert_eq!(Watt::from_decimal(text).unwrap().to_decimal(), text);
        }
        for text in ["", ".", ".5", "1.", "-1", "1e3", "0.0000000001", "1.5.0"] {
            let parsed = Watt::from_decimal(text);
            assert!(parsed.is_none() || text == "1.", "{text}: {parsed:?}");
        }
    }

    proptest! {
        #[test]
        fn mul_div_is_the_rational_rounded(a: u64, b: u64, c in 1u64..) {
            let (a, b, c) = (u128::from(a), u128::from(b), u128::from(c));
            let down = mul_div(a, b, c, Rounding::Down).unwrap();
            let up = mul_div(a, b, c, Rounding::Up).unwrap();
            prop_assert_eq!(down, a * b / c);
            prop_assert_eq!(up, (a * b).div_ceil(c));
        }

        #[test]
        fn mul_div_never_panics(a: u128, b: u128, c: u128) {
            let _ = mul_div(a, b, c, Rounding::Up);
        }
    }
}
