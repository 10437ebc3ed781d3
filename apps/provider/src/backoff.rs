//! Pauses between attempts: doubling up to a bound, and spread so that a restarted gateway is not
//! dialled by everybody at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// After a success: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next pause: between half and all of the bound, by `random`.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        let bound = self.next;
        self.next = bound.saturating_mul(2).min(LONGEST);
        let half_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX) / 2;
        Duration::from_millis(half_ms + random % (half_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread_over_their_upper_half() {
        let pauses = |random: u64| {
            let mut backoff = Backoff::new();
            (0..8).map(|_| backoff.pause(random).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(pauses(0), [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
        let mut backoff = Backoff::new();
        for random in 0..2_000 {
            let pause = backoff.pause(random * 7_919);
            assert!(pause <= LONGEST && pause >= FIRST / 2, "{pause:?}");
        }
        backoff.reset();
        assert_eq!(backoff.pause(250), FIRST);
    }
}
