//! Budgets of the unminted supply: they are minted as they vest (ECONOMICS E17).

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, Rounding, TimeMs, Watt, genesis::Bucket, mul_div};

use crate::{
    bank::{Mint, Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    state::State,
};

/// One budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Vesting {
    /// `None`: the treasury.
    pub beneficiary: Option<Address>,
    pub total: Watt,
    pub start: TimeMs,
    pub cliff: TimeMs,
    pub end: TimeMs,
    /// Minted so far.
    pub claimed: Watt,
}

impl Vesting {
    /// What has vested at `time`: linear from start to end, rounded down, nothing before the cliff,
    /// all of it from the end on.
    pub fn vested(&self, time: TimeMs) -> Watt {
        if time < self.cliff || time < self.start {
            return Watt::ZERO;
        }
        if time >= self.end {
            return self.total;
        }
        let (passed, whole) = (time.ms_since(self.start), self.end.ms_since(self.start));
        mul_div(self.total.0, passed.into(), whole.into(), Rounding::Down).map_or(Watt::ZERO, Watt)
    }
}

/// Mints what has vested. Anybody may ask; the beneficiary receives it.
pub(crate) fn claim(
    state: &mut State,
    context: &mut Context,
    bucket: Bucket,
) -> Result<(), TxError> {
    let Some(mut vesting) = state.vesting.get(&bucket).copied() else {
        return Err(TxError::NoBucket { bucket: bucket.name() });
    };
    let amount = vesting.vested(context.time).saturating_sub(vesting.claimed);
    if amount.is_zero() {
        return Err(TxError::NothingVested { bucket: bucket.name() });
    }
    vesting.claimed = add(vesting.claimed, amount, "the vested budget")?;
    state.vesting.insert(bucket, vesting);
    state.mint(Mint::Vesting, Module::Treasury, amount)?;
    let treasury = Module::Treasury.address();
    let beneficiary = vesting.beneficiary.unwrap_or(treasury);
    if beneficiary != treasury {
        state.pay(treasury, beneficiary, amount)?;
    }
    context.events.push(Event::Vested { bucket, beneficiary, amount });
    Ok(())
}

impl State {
    /// The declared budgets.
    pub fn vesting(&self) -> impl Iterator<Item = (&Bucket, &Vesting)> {
        self.vesting.iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vesting(total: u64, start: u64, cliff: u64, end: u64) -> Vesting {
        Vesting {
            beneficiary: None,
            total: Watt(total.into()),
            start: TimeMs(start),
            cliff: TimeMs(cliff),
            end: TimeMs(end),
            claimed: Watt::ZERO,
        }
    }

    #[test]
    fn nothing_before_the_cliff_all_at_the_end() {
        let vesting = vesting(1_000, 100, 150, 200);
        let vested = |time| vesting.vested(TimeMs(time)).0;
        assert_eq!(
            [0, 100, 149, 150, 199, 200, 900].map(vested),
            [0, 0, 0, 500, 990, 1_000, 1_000]
        );
    }

    proptest! {
        #[test]
        fn it_only_grows_and_never_beyond_the_whole(
            total: u64, start in 0u64..100, cliff in 0u64..300, length in 1u64..100
        ) {
            let vesting = vesting(total, start, cliff, start + length);
            let all: Vec<u128> = (0..400).map(|time| vesting.vested(TimeMs(time)).0).collect();
            prop_assert!(all.is_sorted());
            prop_assert_eq!(all[399], u128::from(total));
        }
    }
}
