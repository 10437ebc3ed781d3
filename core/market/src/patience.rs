//! How long a provider is waited for before another one is asked: by what was measured of it, and
//! never less than what a short hiccup takes.

/// Nothing is taken for lost before this time.
const ACCEPT_MS_MIN: u64 = 1_000;
const FIRST_TOKEN_MS_MIN: u64 = 3_000;
const GAP_MS_MIN: u64 = 2_000;
/// Nothing is late before this time.
const SLOW_MS_MIN: u64 = 100;

/// The waits after which somebody else does better, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// For the order to be accepted.
    pub accept_ms: u64,
    /// From then to the first token.
    pub first_token_ms: u64,
    /// Between two tokens.
    pub inter_token_ms: u64,
    /// For each of many tokens, on top of one such pause. Microseconds.
    pub token_us: u64,
}

/// What a served request showed of its waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Waited {
    pub accept_ms: u64,
    pub first_token_ms: u64,
    /// The longest between two tokens.
    pub gap_ms: u64,
}

/// A smoothed time and its smoothed deviation, in microseconds (Jacobson, "Congestion avoidance and control",
/// 1988, as in RFC 6298).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Delay {
    mean: u64,
    deviation: u64,
}

impl Delay {
    fn first(sample_ms: u64) -> Delay {
        let mean = sample_ms.saturating_mul(1_000);
        Delay { mean, deviation: mean / 2 }
    }

    fn next(self, sample_ms: u64) -> Delay {
        let sample = sample_ms.saturating_mul(1_000);
        let error = sample.abs_diff(self.mean);
        let mean = self.mean.saturating_sub(self.mean / 8).saturating_add(sample / 8);
        let deviation = self.deviation.saturating_sub(self.deviation / 4).saturating_add(error / 4);
        Delay { mean, deviation }
    }

    /// Longer than nearly every one, in microseconds.
    fn most_us(self) -> u64 {
        self.mean.saturating_add(self.deviation.saturating_mul(4))
    }

    /// Longer than most, in milliseconds.
    fn usual_ms(self) -> u64 {
        self.mean.saturating_add(self.deviation.saturating_mul(2)) / 1_000
    }
}

/// The waits of one provider, one model and one size of prompts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waits {
    accept: Delay,
    first_token: Delay,
    gap: Delay,
}

impl Waits {
    pub(crate) fn first(waited: Waited) -> Waits {
        Waits {
            accept: Delay::first(waited.accept_ms),
            first_token: Delay::first(waited.first_token_ms),
            gap: Delay::first(waited.gap_ms),
        }
    }

    pub(crate) fn next(self, waited: Waited) -> Waits {
        Waits {
            accept: self.accept.next(waited.accept_ms),
            first_token: self.first_token.next(waited.first_token_ms),
            gap: self.gap.next(waited.gap_ms),
        }
    }

    /// Twice what nearly every one took: a mistake costs the provider a failure and the client the time
    /// of another start.
    pub(crate) fn patience(self) -> Patience {
        let twice =
            |delay: Delay, least: u64| (delay.most_us() / 1_000).saturating_mul(2).max(least);
        Patience {
            accept_ms: twice(self.accept, ACCEPT_MS_MIN),
            first_token_ms: twice(self.first_token, FIRST_TOKEN_MS_MIN),
            inter_token_ms: twice(self.gap, GAP_MS_MIN),
            token_us: self.gap.most_us().saturating_mul(2),
        }
    }

    /// After this long without a first token it is one of the slow ones.
    pub(crate) fn slow_after_ms(self) -> u64 {
        self.accept.usual_ms().saturating_add(self.first_token.usual_ms()).max(SLOW_MS_MIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(samples: &[u64]) -> Waits {
        let waited = |ms| Waited { accept_ms: ms / 10, first_token_ms: ms, gap_ms: ms / 5 };
        let (first, rest) = samples.split_first().unwrap();
        rest.iter().fold(Waits::first(waited(*first)), |waits, ms| waits.next(waited(*ms)))
    }

    #[test]
    fn steady_waits_give_little_patience_and_unsteady_ones_much() {
        let steady = waits(&[10_000; 60]);
        assert_eq!(
            steady.patience(),
            Patience {
                accept_ms: 2_000,
                first_token_ms: 20_000,
                inter_token_ms: 4_000,
                token_us: 4_000_024
            }
        );
        let unsteady = waits(&[2_000, 18_000].repeat(30));
        assert!(unsteady.patience().first_token_ms > 70_000, "{:?}", unsteady.patience());
        assert!(unsteady.slow_after_ms() < unsteady.patience().first_token_ms / 2);
    }

    #[test]
    fn a_quick_provider_still_has_seconds() {
        let quick = waits(&[5; 20]).patience();
        let least = Patience {
            accept_ms: 1_000,
            first_token_ms: 3_000,
            inter_token_ms: 2_000,
            token_us: 2_032,
        };
        assert_eq!(quick, least);
    }

    #[test]
    fn one_measurement_is_taken_with_much_room() {
        // Its deviation is unknown: half of it.
        assert_eq!(waits(&[1_000]).patience().first_token_ms, 6_000);
        assert_eq!(waits(&[u64::MAX]).patience().first_token_ms, u64::MAX / 1_000 * 2);
    }
}
