//! Credits for WATT (ECONOMICS E1, policy P3): the payment goes into the vault, the buyer receives
//! nano-USD at the price in force, less the spread.
//!
//! Both directions of the exchange are one fraction with one rounding against the buyer, so neither
//! form of purchase is better than the other and splitting one never pays.

use types::{
    Nusd, Rounding, Watt,
    amount::{UNIT, mul_div},
    tx::CreditPurchase,
};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    state::State,
};

/// Pays WATT into the vault and receives credits.
pub(crate) fn buy(
    state: &mut State,
    context: &mut Context,
    purchase: CreditPurchase,
) -> Result<(), TxError> {
    let (watt, credits) = quote(state, purchase)?;
    state.pay(context.sender, Module::Vault.address(), watt)?;
    state.give_credits(context.sender, credits)?;
    let mut supply = *state.supply();
    let overflow = TxError::Overflow { what: "the issued credits" };
    supply.credits_issued = supply.credits_issued.checked_add(credits).ok_or(overflow.clone())?;
    supply.credits_outstanding = supply.credits_outstanding.checked_add(credits).ok_or(overflow)?;
    supply.vault_in = add(supply.vault_in, watt, "the vault's income")?;
    state.supply.set(supply);
    let nusd_per_watt = state.price();
    context.events.push(Event::CreditsBought {
        buyer: context.sender,
        watt,
        credits,
        nusd_per_watt,
    });
    Ok(())
}

/// What a purchase costs and what it brings, both above zero.
fn quote(state: &State, purchase: CreditPurchase) -> Result<(Watt, Nusd), TxError> {
    const ONE_PPM: u128 = 1_000_000;
    let kept = u128::from(state.params().credit_spread.get());
    // credits = watt · price · (1 − spread) / 10⁹, over a denominator without fractions.
    let numerator = state.price().0.saturating_mul(ONE_PPM.saturating_sub(kept));
    let denominator = UNIT.saturating_mul(ONE_PPM);
    let overflow = TxError::Overflow { what: "the purchase" };
    match purchase {
        CreditPurchase::Pay { watt } => {
            if watt.is_zero() {
                return Err(TxError::Zero { what: "the payment" });
            }
            let credits =
                mul_div(watt.0, numerator, denominator, Rounding::Down).ok_or(overflow)?;
            if credits == 0 {
                return Err(TxError::NoCredits { watt, nusd_per_watt: state.price() });
            }
            Ok((watt, Nusd(credits)))
        }
        CreditPurchase::Receive { credits, watt_max } => {
            if credits.is_zero() {
                return Err(TxError::Zero { what: "the amount of credits" });
            }
            let needed =
                mul_div(credits.0, denominator, numerator, Rounding::Up).ok_or(overflow)?;
            let needed = Watt(needed);
            if needed > watt_max {
                return Err(TxError::WattMax { needed, watt_max });
            }
            Ok((needed, credits))
        }
    }
}
