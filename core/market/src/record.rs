//! What is remembered of one provider and one model: how long its answers take, how often it failed,
//! and the circuit breaker that follows from it.

use types::TimeMs;

use crate::patience::{Patience, Waited, Waits};

/// Failures in a row that open the breaker. One may be bad luck of a restart; after three the next
/// client would only wait for nothing.
const FAILURES_MAX: u8 = 3;
/// The first quarantine, and the longest that doubling reaches.
const QUARANTINE_MS_MIN: u64 = 30_000;
const QUARANTINE_MS_MAX: u64 = 30 * 60_000;
/// The longest that a provider's wish to be left alone is honoured.
const BUSY_MS_MAX: u64 = 30_000;
/// Prompt sizes, in tokens, up to which measurements are kept apart: reading a long prompt takes
/// longer than answering a short one.
const BUCKET_TOKENS_MAX: [u32; 4] = [256, 2_048, 16_384, u32::MAX];

/// What happened to a request that a provider was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was served to its end.
    Served {
        prompt_tokens: u32,
        first_token_ms: u64,
        total_ms: u64,
        delivered: u32,
        waited: Waited,
    },
    /// It was served to its end, and all tokens came at once: nothing is known of its pace.
    ServedWhole,
    /// It was refused for the engine's sake, not accepted in time, or died before the first token.
    Failed,
    /// The stream ended on the way.
    Cut,
    /// What it reported of its tokens is not how they were to be drawn: somebody must look at it first.
    Untrue,
    /// All its slots are taken.
    Busy { retry_after_ms: u64 },
    /// The request was bad, or its client left: says nothing about the provider.
    Neutral,
}

/// Whether a provider may be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    Ok,
    /// Not before this time.
    Quarantined {
        until: TimeMs,
    },
    /// The quarantine is over: asked only if no healthy one can take the request.
    Probation,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Breaker {
    Closed {
        failures: u8,
    },
    /// `times` in a row without a success in between.
    Open {
        until: TimeMs,
        times: u8,
    },
}

/// Smoothed times of one prompt-size bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Speed {
    first_token_us: u64,
    token_us: u64,
}

/// One provider's history with one model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    breaker: Breaker,
    busy_until: TimeMs,
    speeds: [Option<Speed>; BUCKET_TOKENS_MAX.len()],
    waits: [Option<Waits>; BUCKET_TOKENS_MAX.len()],
    measured_at: Option<TimeMs>,
    served: u64,
    failed: u64,
}

impl Default for Record {
    fn default() -> Record {
        Record {
            breaker: Breaker::Closed { failures: 0 },
            busy_until: TimeMs(0),
            speeds: [None; BUCKET_TOKENS_MAX.len()],
            waits: [None; BUCKET_TOKENS_MAX.len()],
            measured_at: None,
            served: 0,
            failed: 0,
        }
    }
}

impl Record {
    /// Takes note of what became of a request.
    pub fn observe(&mut self, now: TimeMs, outcome: Outcome) {
        match outcome {
            Outcome::Served { prompt_tokens, first_token_ms, total_ms, delivered, waited } => {
                self.served = self.served.saturating_add(1);
                self.measured_at = Some(now);
                self.measure(prompt_tokens, first_token_ms, total_ms, delivered);
                if let Some(waits) = self.waits.get_mut(bucket(prompt_tokens)) {
                    *waits = Some(waits.map_or(Waits::first(waited), |waits| waits.next(waited)));
                }
                self.succeed(now);
            }
            Outcome::ServedWhole => {
                self.served = self.served.saturating_add(1);
                self.succeed(now);
            }
            Outcome::Failed | Outcome::Cut => {
                self.failed = self.failed.saturating_add(1);
                self.fail(now);
            }
            Outcome::Untrue => {
                self.failed = self.failed.saturating_add(1);
                let until = now.plus_ms(QUARANTINE_MS_MAX);
                self.breaker = Breaker::Open { until, times: u8::MAX };
            }
            Outcome::Busy { retry_after_ms } => {
                self.busy_until = now.plus_ms(retry_after_ms.min(BUSY_MS_MAX));
            }
            Outcome::Neutral => {}
        }
    }

    pub fn health(&self, now: TimeMs) -> Health {
        match self.breaker {
            Breaker::Closed { .. } => Health::Ok,
            Breaker::Open { until, .. } if now < until => Health::Quarantined { until },
            Breaker::Open { .. } => Health::Probation,
        }
    }

    /// Until when it asked not to be asked.
    pub fn busy_until(&self) -> TimeMs {
        self.busy_until
    }

    /// Requests served to their end, and requests failed or cut.
    pub fn counts(&self) -> (u64, u64) {
        (self.served, self.failed)
    }

    /// When it was last measured.
    pub fn measured_at(&self) -> Option<TimeMs> {
        self.measured_at
    }

    /// The expected time of an answer of `tokens` tokens. `None` before the first measurement.
    /// A bucket without one borrows from the nearest that has one. Of a prompt whose beginning is `warm`
    /// in the engine's cache, the first token takes a quarter of the time.
    pub fn expected_ms(&self, prompt_tokens: u32, tokens: u32, warm: bool) -> Option<u64> {
        let wanted = bucket(prompt_tokens);
        let (_, speed) = self
            .speeds
            .iter()
            .enumerate()
            .filter_map(|(index, speed)| speed.map(|speed| (index.abs_diff(wanted), speed)))
            .min_by_key(|(distance, _)| *distance)?;
        let us = speed.token_us.saturating_mul(u64::from(tokens));
        let first_token_us = if warm { speed.first_token_us / 4 } else { speed.first_token_us };
        Some(us.saturating_add(first_token_us) / 1_000)
    }

    /// How long to wait for it with a prompt of this size, where somebody else could be asked instead.
    /// `None` before the first measurement.
    pub fn patience(&self, prompt_tokens: u32) -> Option<Patience> {
        self.waits(prompt_tokens).map(Waits::patience)
    }

    /// How long after the order a first token is late, in milliseconds.
    pub fn slow_after_ms(&self, prompt_tokens: u32) -> Option<u64> {
        self.waits(prompt_tokens).map(Waits::slow_after_ms)
    }

    fn waits(&self, prompt_tokens: u32) -> Option<Waits> {
        self.waits.get(bucket(prompt_tokens)).copied().flatten()
    }

    fn measure(&mut self, prompt_tokens: u32, first_token_ms: u64, total_ms: u64, delivered: u32) {
        let first_token_us = first_token_ms.saturating_mul(1_000);
        let rest_us = total_ms.saturating_sub(first_token_ms).saturating_mul(1_000);
        let gaps = u64::from(delivered.saturating_sub(1).max(1));
        let token_us = rest_us.checked_div(gaps).unwrap_or(rest_us);
        if let Some(slot) = self.speeds.get_mut(bucket(prompt_tokens)) {
            *slot = Some(match *slot {
                None => Speed { first_token_us, token_us },
                Some(old) => Speed {
                    first_token_us: smooth(old.first_token_us, first_token_us),
                    // A single token has no gap to measure.
                    token_us: match delivered {
                        0 | 1 => old.token_us,
                        _ => smooth(old.token_us, token_us),
                    },
                },
            });
        }
    }

    fn succeed(&mut self, now: TimeMs) {
        // A success while quarantined is of a request from before; the quarantine stands.
        if !matches!(self.health(now), Health::Quarantined { .. }) {
            self.breaker = Breaker::Closed { failures: 0 };
        }
    }

    fn fail(&mut self, now: TimeMs) {
        let open = |times: u8| {
            let doubled = QUARANTINE_MS_MIN.saturating_mul(1 << times.min(16));
            let until = now.plus_ms(doubled.min(QUARANTINE_MS_MAX));
            Breaker::Open { until, times: times.saturating_add(1) }
        };
        self.breaker = match self.breaker {
            Breaker::Closed { failures } if failures.saturating_add(1) < FAILURES_MAX => {
                Breaker::Closed { failures: failures.saturating_add(1) }
            }
            Breaker::Closed { .. } => open(0),
            // Failures of requests from before the quarantine are no news.
            Breaker::Open { until, times } if now < until => Breaker::Open { until, times },
            Breaker::Open { times, .. } => open(times),
        };
    }
}

/// A quarter of the way from the old value to the new one.
fn smooth(old: u64, sample: u64) -> u64 {
    old.saturating_sub(old / 4).saturating_add(sample / 4)
}

fn bucket(prompt_tokens: u32) -> usize {
    BUCKET_TOKENS_MAX.iter().position(|&max| prompt_tokens <= max).unwrap_or_default()
}
