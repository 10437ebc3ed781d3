//! The price of one WATT in nano-USD, which the governor moves in bounded steps.

use types::{Nusd, Rounding};

use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    state::{Market, State},
};

/// Prices outside these bounds are mistakes; inside them no conversion of a balance overflows.
pub const PRICE_MIN: Nusd = Nusd(1);
/// One billion USD for one WATT.
pub const PRICE_MAX: Nusd = Nusd::whole(1_000_000_000);

/// Sets the price: by the governor, once per block, within the step of the parameters.
pub(crate) fn set(state: &mut State, context: &mut Context, after: Nusd) -> Result<(), TxError> {
    let governor = state.governor();
    if context.sender != governor {
        return Err(TxError::NotGovernor { governor });
    }
    let market = *state.market.get();
    if market.price_set_at == context.height {
        return Err(TxError::PriceAlreadySet { height: context.height });
    }
    let before = market.nusd_per_watt;
    // At least one unit, or a very low price could never move again.
    let step = Nusd(state.params().price_step.of(before.0, Rounding::Down).max(1));
    let min = before.saturating_sub(step).max(PRICE_MIN);
    let max = before.saturating_add(step).min(PRICE_MAX);
    if !(min..=max).contains(&after) {
        return Err(TxError::PriceStep { given: after, min, max });
    }
    state.market.set(Market { nusd_per_watt: after, price_set_at: context.height, ..market });
    context.events.push(Event::PriceSet { before, after });
    Ok(())
}
