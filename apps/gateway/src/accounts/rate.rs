//! So many in a minute: a bucket that is full at first, and refills evenly.

use types::TimeMs;

/// Milliseconds of a minute. Amounts are counted in this part of one, so that what flows back in a
/// millisecond is the rate itself.
const MINUTE_MS: u64 = 60_000;

/// What was taken and has not flowed back.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    taken: u64,
    at: TimeMs,
}

impl Bucket {
    /// How long to wait until `amount` more fits beside what others hold, at a rate of so many a minute.
    /// What is more than a minute's worth fits when everything else has flowed back.
    pub(crate) fn wait_ms(&self, now: TimeMs, rate: u32, held: u64, amount: u64) -> u64 {
        let rate = u64::from(rate.max(1));
        let wanted = held.saturating_add(amount.min(rate)).saturating_mul(MINUTE_MS);
        let most = rate.saturating_mul(MINUTE_MS);
        let over = self.taken_at(now, rate).saturating_add(wanted).saturating_sub(most);
        over.div_ceil(rate)
    }

    /// Takes `amount`, whether or not it fits.
    pub(crate) fn take(&mut self, now: TimeMs, rate: u32, amount: u64) {
        let taken = self.taken_at(now, rate.into());
        self.taken = taken.saturating_add(amount.saturating_mul(MINUTE_MS));
        self.at = now;
    }

    fn taken_at(&self, now: TimeMs, rate: u64) -> u64 {
        self.taken.saturating_sub(rate.saturating_mul(now.ms_since(self.at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_fits_at_once_and_flows_back_evenly() {
        let mut bucket = Bucket::default();
        let now = TimeMs(1_000);
        for _ in 0..6 {
            assert_eq!(bucket.wait_ms(now, 6, 0, 1), 0);
            bucket.take(now, 6, 1);
        }
        assert_eq!(bucket.wait_ms(now, 6, 0, 1), 10_000);
        assert_eq!(bucket.wait_ms(TimeMs(10_999), 6, 0, 1), 1);
        assert_eq!(bucket.wait_ms(TimeMs(11_000), 6, 0, 1), 0);
        assert_eq!(bucket.wait_ms(TimeMs(61_000), 6, 0, 6), 0);
    }

    #[test]
    fn what_is_held_counts_and_a_large_amount_waits_for_an_empty_bucket() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.wait_ms(TimeMs(0), 60, 40, 20), 0);
        assert_eq!(bucket.wait_ms(TimeMs(0), 60, 40, 21), 1_000);
        assert_eq!(bucket.wait_ms(TimeMs(0), 60, 0, 1_000), 0);
        bucket.take(TimeMs(0), 60, 1_000);
        assert_eq!(bucket.wait_ms(TimeMs(0), 60, 0, 1), 941_000);
        assert_eq!(bucket.wait_ms(TimeMs(1_000_000), 60, 0, 1_000), 0);
    }
}
