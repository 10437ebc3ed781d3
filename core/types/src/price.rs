//! What a request costs: a base fee and a rate per million tokens each way.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::amount::{Nusd, Ppm, Rounding, mul_div};

/// Completion tokens in one payment window: what either side can lose on one stream.
pub const WINDOW_TOKENS: u32 = 64;

/// A provider's asking price, in nano-USD.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Once per request, charged with the first delivered token.
    pub request_nusd: Nusd,
    /// Per million prompt tokens: 0.10 USD per million is 100 000 000.
    pub prompt_nusd_per_mtok: Nusd,
    /// Per million completion tokens.
    pub completion_nusd_per_mtok: Nusd,
}

impl Price {
    /// The charge for `delivered` completion tokens after a prompt of `prompt_tokens`:
    /// nothing if nothing was delivered, else `request + ⌈(prompt·rate + delivered·rate) / 10⁶⌉`.
    /// Saturates. Grows with either count, so a later total is never smaller than an earlier one.
    pub fn charge(&self, prompt_tokens: u32, delivered: u32) -> Nusd {
        if delivered == 0 {
            return Nusd::ZERO;
        }
        let tokens = |count: u32, rate: Nusd| u128::from(count).saturating_mul(rate.0);
        let scaled = tokens(prompt_tokens, self.prompt_nusd_per_mtok)
            .saturating_add(tokens(delivered, self.completion_nusd_per_mtok));
        let metered = mul_div(scaled, 1, 1_000_000, Rounding::Up).unwrap_or(u128::MAX);
        self.request_nusd.saturating_add(Nusd(metered))
    }

    /// What completion tokens alone cost: `⌈tokens·rate / 10⁶⌉`.
    pub fn completion(&self, tokens: u32) -> Nusd {
        let scaled = u128::from(tokens).saturating_mul(self.completion_nusd_per_mtok.0);
        Nusd(mul_div(scaled, 1, 1_000_000, Rounding::Up).unwrap_or(u128::MAX))
    }

    /// The price of one window of completion tokens.
    pub fn window(&self) -> Nusd {
        self.completion(WINDOW_TOKENS)
    }

    /// Whether no component of `self` exceeds that of `ceiling`.
    pub fn within(&self, ceiling: &Price) -> bool {
        self.request_nusd <= ceiling.request_nusd
            && self.prompt_nusd_per_mtok <= ceiling.prompt_nusd_per_mtok
            && self.completion_nusd_per_mtok <= ceiling.completion_nusd_per_mtok
    }
}

/// By how much a quote moves with the market, in ppm: `(1 + (d − 1) / 2) / (1 + 3 (s − 1) / 10)` of
/// ECONOMICS E4 and E23.4, rounded to the nearest ppm, halves up, and without any clamp. `demand` is
/// open requests over their target, `supply` is free capacity over its target, both in ppm: above one
/// million is more than the target.
pub fn demand_supply_multiplier(demand: u32, supply: u32) -> u64 {
    let one = u64::from(Ppm::ONE.get());
    // Both brackets in tenths of a ppm: 5 · 10⁶ + 5 d over 7 · 10⁶ + 3 s.
    let above = one.saturating_add(demand.into()).saturating_mul(5);
    let below = one.saturating_mul(7).saturating_add(u64::from(supply).saturating_mul(3));
    let scaled = u128::from(above).saturating_mul(one.into());
    let half = u128::from(below) / 2;
    let nearest = scaled.saturating_add(half).checked_div(below.into()).unwrap_or(0);
    u64::try_from(nearest).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICE: Price = Price {
        request_nusd: Nusd(10),
        prompt_nusd_per_mtok: Nusd(50_000_000),
        completion_nusd_per_mtok: Nusd(100_000_001),
    };

    #[test]
    fn nothing_delivered_is_free() {
        assert_eq!(PRICE.charge(1_000_000, 0), Nusd::ZERO);
    }

    #[test]
    fn a_charge_rounds_up_once_and_never_falls() {
        assert_eq!(PRICE.charge(0, 1), Nusd(10 + 101));
        assert_eq!(PRICE.charge(2, 3), Nusd(10 + 100 + 301));
        assert_eq!(PRICE.window(), Nusd(6_401));
        let totals: Vec<Nusd> = (0..200).map(|n| PRICE.charge(7, n)).collect();
        assert!(totals.is_sorted());
        assert_eq!(PRICE.charge(u32::MAX, u32::MAX).0, 10 + 644_245_098_545);
    }

    #[test]
    fn golden_numbers_of_demand_and_supply() {
        // ECONOMICS E23.4.
        const ONE: u32 = 1_000_000;
        for (demand, supply, expected) in [
            (ONE, ONE, 1_000_000),
            (2 * ONE, ONE, 1_500_000),
            (ONE, 2 * ONE, 769_231),
            (2 * ONE, 2 * ONE, 1_153_846),
            (0, ONE, 500_000),
            (ONE, 0, 1_428_571),
            (0, 0, 714_286),
            (3 * ONE, ONE / 2, 2_352_941),
        ] {
            let multiplier = demand_supply_multiplier(demand, supply);
            assert_eq!(multiplier, expected, "demand {demand}, supply {supply}");
        }
        assert!(demand_supply_multiplier(u32::MAX, 0) > demand_supply_multiplier(0, u32::MAX));
    }
}
