//! Which validators take part: a window of blocks for each seat, and what absence costs
//! (ECONOMICS E8).

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Height, PublicKey, Rounding, stake::OperatorId};

use crate::{
    error::TxError,
    execute::Context,
    slashing::{self, Fault},
    state::State,
};

/// The last blocks of one seat. A block's bit is its height modulo the window, and is set if the
/// validator did not sign it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Signing {
    pub seated_at: Height,
    /// Bits that are set.
    pub missed: u32,
    /// By 64 blocks; trailing zeros are left out.
    pub bits: Vec<u64>,
}

impl Signing {
    pub(crate) fn starting(height: Height) -> Signing {
        Signing { seated_at: height, missed: 0, bits: Vec::new() }
    }

    /// Whether anything changed.
    fn note(&mut self, place: u32, absent: bool) -> bool {
        let word = usize::try_from(place >> 6).unwrap_or(usize::MAX);
        let bit = 1u64 << (place & 63);
        if absent && self.bits.len() <= word {
            self.bits.resize(word.saturating_add(1), 0);
        }
        let Some(bits) = self.bits.get_mut(word) else { return false };
        if (*bits & bit != 0) == absent {
            return false;
        }
        *bits ^= bit;
        self.missed =
            if absent { self.missed.saturating_add(1) } else { self.missed.saturating_sub(1) };
        true
    }
}

/// At the beginning of a block: `absent` are the seats whose signature is missing under the block
/// before it.
pub(crate) fn begin_block(
    state: &mut State,
    context: &mut Context,
    absent: &[PublicKey],
) -> Result<(), TxError> {
    let window = state.params().slashing.window_blocks;
    let place = context.height.0.checked_rem(window.into()).unwrap_or(0);
    let place = u32::try_from(place).unwrap_or(0);
    // Whoever never missed a block and did not miss this one has nothing to be written down.
    let touched: Vec<(PublicKey, Signing)> = state
        .signings
        .iter()
        .filter(|(key, signing)| signing.missed > 0 || absent.contains(key))
        .map(|(key, signing)| (*key, signing.clone()))
        .collect();
    for (key, mut signing) in touched {
        let is_absent = absent.contains(&key);
        let changed = signing.note(place, is_absent);
        // Of one that misses everything no bit changes any more.
        let judged = is_absent && is_down(state, context.height, &signing);
        if !changed && !judged {
            continue;
        }
        if judged {
            signing = Signing::starting(context.height);
        }
        state.signings.insert(key, signing);
        let operator = state.active.get(&key).map(|seat| seat.operator);
        if let (true, Some(operator)) = (judged, operator) {
            slashing::punish(state, context, OperatorId::validator(operator), Fault::Downtime)?;
        }
    }
    Ok(())
}

/// Whether a validator that had its seat for a whole window missed more of it than it may.
fn is_down(state: &State, height: Height, signing: &Signing) -> bool {
    let params = &state.params().slashing;
    let window = u64::from(params.window_blocks);
    let owed = params.signed_min.of(window.into(), Rounding::Up);
    let may_miss = u128::from(window).saturating_sub(owed);
    height.0 > signing.seated_at.0.saturating_add(window) && u128::from(signing.missed) > may_miss
}

impl State {
    /// The window of each seat, by consensus key.
    pub fn signings(&self) -> impl Iterator<Item = (&PublicKey, &Signing)> {
        self.signings.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_the_number_of_bits() {
        let mut signing = Signing::starting(Height(1));
        for (place, absent, changed) in [
            (70, true, true),
            (70, true, false),
            (3, true, true),
            (3, false, true),
            (500, false, false),
            (70, false, true),
            (69, true, true),
        ] {
            assert_eq!(signing.note(place, absent), changed, "{place}");
            let ones: u32 = signing.bits.iter().map(|bits| bits.count_ones()).sum();
            assert_eq!(signing.missed, ones);
        }
        assert_eq!(signing.missed, 1);
    }
}
