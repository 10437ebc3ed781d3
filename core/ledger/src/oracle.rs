//! The price of one WATT in nano-USD, by vote of the validators (ECONOMICS E11).
//!
//! Time is cut into periods. In one period a validator commits to its vote, in the next it reveals
//! it, and the first block after that counts: the lower median by voting power, if enough of it
//! revealed. So nobody can copy a vote, and whoever has less than half of the power cannot move the
//! median past the votes of the others. The salts that are revealed make the beacon of audits. A price that is too old is no price: whoever needs one gets
//! an error.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    Address, Hash32, Height, Nusd, Rounding, TimeMs, mul_div,
    stake::{OperatorId, price_commitment},
};

use crate::{
    audit::beacon,
    error::TxError,
    event::Event,
    execute::Context,
    slashing::{self, Fault},
    state::State,
};

/// Prices outside these bounds are mistakes; inside them no conversion of a balance overflows.
pub const PRICE_MIN: Nusd = Nusd(1);
/// One billion USD for one WATT.
pub const PRICE_MAX: Nusd = Nusd::whole(1_000_000_000);

/// The price and where it came from.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Oracle {
    pub nusd_per_watt: Nusd,
    /// When it was counted.
    pub counted_at: TimeMs,
    /// Prices by when they came into force, the newest last; the first one is the one in force at
    /// the beginning of the average's window.
    pub observations: Vec<(TimeMs, Nusd)>,
    /// Successful counts since good votes were last looked at.
    pub counts: u32,
    /// The block in which they were looked at. Who has its seat since later is not judged yet.
    pub judged_at: Height,
}

impl Oracle {
    pub(crate) fn starting(nusd_per_watt: Nusd, time: TimeMs) -> Oracle {
        Oracle {
            nusd_per_watt,
            counted_at: time,
            observations: vec![(time, nusd_per_watt)],
            counts: 0,
            judged_at: Height(0),
        }
    }

    /// The average over the window that ends now, weighted by how long each price was in force.
    fn average(&self, time: TimeMs, window_ms: u64) -> Nusd {
        let from = TimeMs(time.0.saturating_sub(window_ms));
        let (mut sum, mut passed, mut until) = (0u128, 0u128, time);
        for (since, price) in self.observations.iter().rev() {
            let ms = u128::from(until.ms_since((*since).max(from)));
            sum = sum.saturating_add(price.0.saturating_mul(ms));
            passed = passed.saturating_add(ms);
            until = (*since).min(until);
            if until <= from {
                break;
            }
        }
        match sum.checked_div(passed) {
            Some(average) => Nusd(average),
            None => self.nusd_per_watt,
        }
    }
}

/// What a validator revealed: a price, and the salt that goes into the beacon.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Vote {
    pub(crate) nusd_per_watt: Nusd,
    pub(crate) salt: Hash32,
}

/// The two prices between which conversions are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PriceRange {
    pub(crate) spot: Nusd,
    /// The lower and the higher one of the price and its average.
    pub(crate) low: Nusd,
    pub(crate) high: Nusd,
}

/// A validator commits to its vote.
pub(crate) fn commit(
    state: &mut State,
    context: &mut Context,
    commitment: Hash32,
) -> Result<(), TxError> {
    let voter = state.check_voter(context)?;
    let period = state.period(context.time);
    if state.price_commits.contains(&(period, voter)) {
        return Err(TxError::VoteRepeated { period });
    }
    state.price_commits.insert((period, voter), commitment);
    context.events.push(Event::PriceCommitted { voter, period });
    Ok(())
}

/// A validator reveals the vote that it committed to in the period before.
pub(crate) fn reveal(
    state: &mut State,
    context: &mut Context,
    nusd_per_watt: Nusd,
    salt: Hash32,
) -> Result<(), TxError> {
    let voter = state.check_voter(context)?;
    let period = state.period(context.time);
    let earlier = period.checked_sub(1).ok_or(TxError::VoteUncommitted { period })?;
    let commitment = state.price_commits.get(&(earlier, voter));
    let commitment = *commitment.ok_or(TxError::VoteUncommitted { period: earlier })?;
    if commitment != price_commitment(state.chain_id(), &voter, &salt.0, nusd_per_watt) {
        return Err(TxError::VoteMismatch);
    }
    if !(PRICE_MIN..=PRICE_MAX).contains(&nusd_per_watt) {
        return Err(TxError::VotePrice { given: nusd_per_watt, min: PRICE_MIN, max: PRICE_MAX });
    }
    state.price_commits.remove(&(earlier, voter));
    state.price_votes.insert((period, voter), Vote { nusd_per_watt, salt });
    context.events.push(Event::PriceRevealed { voter, period, nusd_per_watt });
    Ok(())
}

/// At the beginning of a block: counts the votes of every period that is over.
pub(crate) fn begin_block(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let period = state.period(context.time);
    while let Some((&(voted_in, _), _)) = state.price_votes.first() {
        if voted_in >= period {
            break;
        }
        let votes = take_votes(state, voted_in);
        beacon::draw(state, context, voted_in, &votes)?;
        count(state, context, voted_in, &votes)?;
    }
    while let Some((&(committed_in, voter), _)) = state.price_commits.first() {
        if committed_in.saturating_add(1) >= period {
            break;
        }
        state.price_commits.remove(&(committed_in, voter));
    }
    Ok(())
}

fn take_votes(state: &mut State, period: u64) -> BTreeMap<Address, Vote> {
    let votes: BTreeMap<Address, Vote> = state
        .price_votes
        .range((period, Address([0; 20]))..)
        .take_while(|((voted_in, _), _)| *voted_in == period)
        .map(|((_, voter), vote)| (*voter, *vote))
        .collect();
    for voter in votes.keys() {
        state.price_votes.remove(&(period, *voter));
    }
    votes
}

fn count(
    state: &mut State,
    context: &mut Context,
    period: u64,
    votes: &BTreeMap<Address, Vote>,
) -> Result<(), TxError> {
    let ballots: Vec<Ballot> = state
        .active
        .iter()
        .filter_map(|(_, seat)| {
            let price = votes.get(&seat.operator)?.nusd_per_watt;
            Some(Ballot { price, voter: seat.operator, power: seat.power })
        })
        .collect();
    let total = state.total_power();
    let revealed: u128 = ballots.iter().map(|ballot| u128::from(ballot.power)).sum();
    let Some(median) = lower_median(ballots.clone()) else { return Ok(()) };
    let params = &state.params().oracle;
    if revealed < params.threshold.of(total, Rounding::Up) {
        context.events.push(Event::PriceNotCounted { period, revealed, total });
        return Ok(());
    }
    let spread = spread(&ballots, median, params.band.of(median.0, Rounding::Down) / 2);
    let (step, window_counts) = (params.step, params.window_counts);
    let before = state.price();
    // At least one unit, or a very low price could never move again.
    let step = Nusd(step.of(before.0, Rounding::Down).max(1));
    let after = median
        .max(before.saturating_sub(step))
        .min(before.saturating_add(step))
        .max(PRICE_MIN)
        .min(PRICE_MAX);
    state.set_price(context.time, after);
    context.events.push(Event::PriceCounted { period, before, after, median, revealed });
    for Ballot { price, voter, .. } in ballots {
        if price.0.abs_diff(median.0) <= spread {
            let good = state.good_votes.get(&voter).copied().unwrap_or_default();
            state.good_votes.insert(voter, good.saturating_add(1));
        }
    }
    if state.oracle.get().counts >= window_counts {
        judge(state, context)?;
    }
    Ok(())
}

/// One vote that was revealed by a validator of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ballot {
    pub(crate) price: Nusd,
    pub(crate) voter: Address,
    pub(crate) power: u64,
}

/// The smallest price at or below which at least half of the power voted.
pub(crate) fn lower_median(mut ballots: Vec<Ballot>) -> Option<Nusd> {
    ballots.sort_unstable_by_key(|ballot| (ballot.price, ballot.voter));
    let total: u128 = ballots.iter().map(|ballot| u128::from(ballot.power)).sum();
    let mut passed = 0u128;
    ballots.into_iter().find_map(|ballot| {
        passed = passed.saturating_add(ballot.power.into());
        (passed.saturating_mul(2) >= total).then_some(ballot.price)
    })
}

/// How far from the median a good vote may be: half the band, or the standard deviation of the
/// votes by power if that is more.
fn spread(ballots: &[Ballot], median: Nusd, half_band: u128) -> u128 {
    let total: u128 = ballots.iter().map(|ballot| u128::from(ballot.power)).sum();
    // Prices are below 2⁶⁰, so a square fits; a mean of squares does not exceed the largest.
    let variance = ballots.iter().fold(0u128, |sum, ballot| {
        let distance = ballot.price.0.abs_diff(median.0);
        let square = distance.saturating_mul(distance);
        let part = mul_div(square, ballot.power.into(), total, Rounding::Down).unwrap_or(0);
        sum.saturating_add(part)
    });
    half_band.max(variance.isqrt())
}

/// After enough counts: validators that had a seat all along and gave too few good votes are slashed
/// and jailed.
fn judge(state: &mut State, context: &mut Context) -> Result<(), TxError> {
    let mut oracle = state.oracle.get().clone();
    let params = &state.params().oracle;
    let owed = params.good_min.of(oracle.counts.into(), Rounding::Up);
    let since = oracle.judged_at;
    oracle.counts = 0;
    oracle.judged_at = context.height;
    state.oracle.set(oracle);
    // Whoever came in between had no fair chance.
    let seats: Vec<Address> = state
        .active
        .iter()
        .filter(|(key, _)| state.signings.get(key).is_some_and(|it| it.seated_at <= since))
        .map(|(_, seat)| seat.operator)
        .collect();
    let good: BTreeMap<Address, u32> =
        state.good_votes.iter().map(|(voter, good)| (*voter, *good)).collect();
    for voter in good.keys() {
        state.good_votes.remove(voter);
    }
    for operator in seats {
        let given = good.get(&operator).copied().unwrap_or_default();
        if u128::from(given) < owed {
            slashing::punish(state, context, OperatorId::validator(operator), Fault::Oracle)?;
        }
    }
    Ok(())
}

impl State {
    /// What a validator committed to in a period and has not revealed.
    pub fn price_commitment(&self, period: u64, voter: Address) -> Option<Hash32> {
        self.price_commits.get(&(period, voter)).copied()
    }

    /// The price of one WATT in nano-USD, however old it is.
    pub fn price(&self) -> Nusd {
        self.oracle.get().nusd_per_watt
    }

    /// The price with its history.
    pub fn oracle(&self) -> &Oracle {
        self.oracle.get()
    }

    /// The price's time-weighted average over the window of the parameters that ends at `time`.
    pub fn average_price(&self, time: TimeMs) -> Nusd {
        self.oracle.get().average(time, self.params().oracle.twap_ms)
    }

    /// Number of the period that `time` lies in.
    pub fn period(&self, time: TimeMs) -> u64 {
        time.0.checked_div(self.params().oracle.period_ms).unwrap_or(0)
    }

    /// The price for conversions. An old price is an error.
    pub(crate) fn fresh_price(&self, time: TimeMs) -> Result<Nusd, TxError> {
        let oracle = self.oracle.get();
        let (age_ms, max_ms) = (time.ms_since(oracle.counted_at), self.params().oracle.max_age_ms);
        if age_ms > max_ms {
            return Err(TxError::PriceStale { age_ms, max_ms });
        }
        Ok(oracle.nusd_per_watt)
    }

    pub(crate) fn price_range(&self, time: TimeMs) -> Result<PriceRange, TxError> {
        let spot = self.fresh_price(time)?;
        let average = self.average_price(time);
        Ok(PriceRange { spot, low: spot.min(average), high: spot.max(average) })
    }

    fn set_price(&mut self, time: TimeMs, price: Nusd) {
        let from = TimeMs(time.0.saturating_sub(self.params().oracle.twap_ms));
        let mut oracle = self.oracle.get().clone();
        oracle.nusd_per_watt = price;
        oracle.counted_at = time;
        oracle.counts = oracle.counts.saturating_add(1);
        if oracle.observations.last().is_some_and(|(_, last)| *last != price) {
            oracle.observations.push((time, price));
        }
        // Of those before the window only the newest is in force at its beginning.
        let older = oracle.observations.partition_point(|(since, _)| *since <= from);
        oracle.observations.drain(..older.saturating_sub(1));
        self.oracle.set(oracle);
    }

    fn check_voter(&self, context: &Context) -> Result<Address, TxError> {
        let voter = context.sender;
        if self.active.iter().any(|(_, seat)| seat.operator == voter) {
            return Ok(voter);
        }
        Err(TxError::NotValidator { operator: voter })
    }

    /// When votes that were revealed can be counted.
    pub(crate) fn next_count_at(&self) -> Option<TimeMs> {
        let ((period, _), _) = self.price_votes.first()?;
        Some(TimeMs(period.saturating_add(1).saturating_mul(self.params().oracle.period_ms)))
    }

    /// Sum of the power of all seats.
    pub(crate) fn total_power(&self) -> u128 {
        self.active.iter().map(|(_, seat)| u128::from(seat.power)).sum()
    }

    /// Where evidence about this block would be too old.
    pub(crate) fn mark_time(&mut self, height: Height, time: TimeMs) {
        const HOUR_MS: u64 = 60 * 60 * 1_000;
        let last = self.marks.range(..).next_back().map(|(_, time)| *time);
        if last.is_some_and(|last| time.ms_since(last) < HOUR_MS) {
            return;
        }
        self.marks.insert(height, time);
        let oldest = TimeMs(time.0.saturating_sub(self.params().stake.unbonding_ms));
        while let Some((&height, &time)) = self.marks.first() {
            if time >= oldest {
                return;
            }
            self.marks.remove(&height);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ballots(votes: &[(u64, u64)]) -> Vec<Ballot> {
        let ballot = |(n, (price, power)): (usize, &(u64, u64))| Ballot {
            price: Nusd((*price).into()),
            voter: Address([u8::try_from(n).unwrap(); 20]),
            power: *power,
        };
        votes.iter().enumerate().map(ballot).collect()
    }

    #[test]
    fn an_average_weighs_prices_by_their_time() {
        let mut oracle = Oracle::starting(Nusd(100), TimeMs(1_000));
        assert_eq!(oracle.average(TimeMs(1_000), 1_000), Nusd(100));
        oracle.observations.push((TimeMs(2_000), Nusd(200)));
        oracle.nusd_per_watt = Nusd(200);
        assert_eq!(oracle.average(TimeMs(2_500), 1_000), Nusd(150));
        assert_eq!(oracle.average(TimeMs(2_250), 1_000), Nusd(125));
        assert_eq!(oracle.average(TimeMs(4_000), 1_000), Nusd(200));
        // Younger than the window: over all there is.
        assert_eq!(oracle.average(TimeMs(3_000), 10_000), Nusd(150));
    }

    proptest! {
        /// Each unit of power as a vote of its own, sorted: the one in the middle, the lower one of two.
        #[test]
        fn the_median_is_that_of_a_sort(
            votes in prop::collection::vec((1u64..50, 1u64..20), 1..12)
        ) {
            let mut units: Vec<u64> = votes
                .iter()
                .flat_map(|(price, power)| vec![*price; usize::try_from(*power).unwrap()])
                .collect();
            units.sort_unstable();
            let expected = units[(units.len() - 1) / 2];
            prop_assert_eq!(lower_median(ballots(&votes)), Some(Nusd(expected.into())));
            let mut reversed = ballots(&votes);
            reversed.reverse();
            prop_assert_eq!(lower_median(reversed), Some(Nusd(expected.into())));
        }

        /// With less than half of the power a cartel moves the median to no price that no honest
        /// validator went beyond.
        #[test]
        fn a_cartel_below_one_half_stays_within_the_honest_votes(
            honest in prop::collection::vec((100u64..200, 10u64..20), 1..8),
            cartel in prop::collection::vec((0u64..1_000, 1u64..4), 0..8)
        ) {
            let power = |votes: &[(u64, u64)]| votes.iter().map(|(_, power)| power).sum::<u64>();
            prop_assume!(power(&cartel) < power(&honest));
            let all: Vec<_> = honest.iter().chain(&cartel).copied().collect();
            let median = lower_median(ballots(&all)).unwrap();
            let (low, high) = (honest.iter().min().unwrap().0, honest.iter().max().unwrap().0);
            prop_assert!((u128::from(low)..=u128::from(high)).contains(&median.0));
        }
    }
}
