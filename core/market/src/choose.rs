//! Hard filters, then a score: the expected cost in nano-USD plus what the expected time is worth.

use types::{Address, ModelId, Nusd, TimeMs, mul_div, price::Price};

use crate::record::{Health, Record};

/// How a choice is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// What a second of waiting is worth. At 20 000 nano-USD, a provider may cost 0.02 USD more per
    /// thousand answers for each second it is faster.
    pub second_nusd: Nusd,
    /// How often another than the best is tried, in parts per million, so that a slow start or an
    /// old measurement does not last for ever.
    pub explore_ppm: u32,
    /// Answer length assumed when the request does not say.
    pub tokens_assumed: u32,
}

impl Policy {
    pub const STANDARD: Policy =
        Policy { second_nusd: Nusd(20_000), explore_ppm: 20_000, tokens_assumed: 256 };
}

/// What a request needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Need {
    pub model: ModelId,
    /// Estimated.
    pub prompt_tokens: u32,
    /// The prompt has at least so many. An answer may be cut short by the end of the context, a
    /// prompt may not.
    pub prompt_tokens_min: u32,
    /// The least context that is wanted, whatever the prompt.
    pub context_tokens_min: Option<u32>,
    /// The longest answer asked for.
    pub tokens_max: Option<u32>,
    pub price_max: Option<Price>,
    pub logprobs: bool,
}

/// A provider that could be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub provider: Address,
    pub model: ModelId,
    pub price: Price,
    pub context_tokens: u32,
    pub logprobs: bool,
    /// Requests it runs at once.
    pub slots: u32,
    /// Requests of this gateway that it runs.
    pub in_flight: u32,
    /// Whether a channel to it is funded.
    pub payable: bool,
    /// Whether this request was given to it before.
    pub tried: bool,
    pub record: Record,
}

/// The provider to ask, and why none of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Index into the candidates.
    pub taken: Option<usize>,
    pub passed: Vec<Passed>,
}

/// A candidate that was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passed {
    pub provider: Address,
    pub reason: Reason,
}

/// Why a candidate was not taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Reason {
    #[error("another model")]
    Model,
    #[error("tried before")]
    Tried,
    #[error("no log-probabilities")]
    Logprobs,
    #[error("the context holds {context_tokens} tokens, {needed} are needed")]
    Context { context_tokens: u32, needed: u32 },
    #[error("too expensive")]
    Price,
    #[error("its channel is not funded yet")]
    Unfunded,
    #[error("all slots are in use")]
    Full,
    #[error("busy")]
    Busy { until: TimeMs },
    #[error("quarantined after failures")]
    Quarantined { until: TimeMs },
    #[error("on probation after failures")]
    Probation,
    #[error("another one scored better")]
    Score { nusd: Nusd, best_nusd: Nusd },
    #[error("passed over to measure another one")]
    Explored,
}

impl Choice {
    /// The earliest moment at which a candidate that was passed over could be asked again;
    /// `None` if waiting changes nothing that is known here.
    pub fn retry_at(&self, now: TimeMs) -> Option<TimeMs> {
        self.passed
            .iter()
            .filter_map(|passed| match passed.reason {
                Reason::Busy { until } | Reason::Quarantined { until } => Some(until),
                Reason::Full | Reason::Unfunded => Some(now),
                Reason::Model
                | Reason::Tried
                | Reason::Logprobs
                | Reason::Context { .. }
                | Reason::Price
                | Reason::Probation
                | Reason::Score { .. }
                | Reason::Explored => None,
            })
            .min()
    }

    /// Whether some candidate was passed over only because its slots are taken.
    pub fn is_full(&self) -> bool {
        self.passed.iter().any(|passed| matches!(passed.reason, Reason::Full | Reason::Busy { .. }))
    }
}

/// Chooses among `candidates`. `random` is any number, drawn anew for every call.
pub fn choose(
    policy: &Policy,
    now: TimeMs,
    need: &Need,
    candidates: &[Candidate],
    random: u64,
) -> Choice {
    let mut passed = Vec::new();
    let (mut healthy, mut fallback) = (Vec::new(), Vec::new());
    for (index, candidate) in candidates.iter().enumerate() {
        match obstacle(now, need, candidate) {
            None => healthy.push(index),
            Some(Reason::Probation) => fallback.push(index),
            Some(reason) => passed.push(Passed { provider: candidate.provider, reason }),
        }
    }
    let eligible =
        if healthy.is_empty() {
            fallback
        } else {
            passed.extend(fallback.iter().filter_map(|&index| candidates.get(index)).map(
                |candidate| Passed { provider: candidate.provider, reason: Reason::Probation },
            ));
            healthy
        };
    let eligible: Vec<(usize, &Candidate)> =
        eligible.into_iter().filter_map(|index| Some((index, candidates.get(index)?))).collect();
    let scores = scores(policy, need, &eligible, random);
    let Some(&(best_nusd, _, best)) = scores.iter().min() else {
        return Choice { taken: None, passed };
    };
    let explored = explore(policy, &eligible, random);
    let taken = explored.unwrap_or(best);
    for &(nusd, _, index) in scores.iter().filter(|&&(_, _, index)| index != taken) {
        let reason = match explored {
            Some(_) => Reason::Explored,
            None => Reason::Score { nusd, best_nusd },
        };
        passed.extend(
            candidates.get(index).map(|candidate| Passed { provider: candidate.provider, reason }),
        );
    }
    Choice { taken: Some(taken), passed }
}

/// What stands in a candidate's way; `Probation` stands in the way of first choice only.
fn obstacle(now: TimeMs, need: &Need, candidate: &Candidate) -> Option<Reason> {
    let needed = need.context_tokens_min.unwrap_or(0).max(need.prompt_tokens_min.saturating_add(1));
    let checks = [
        (candidate.model != need.model, Reason::Model),
        (candidate.tried, Reason::Tried),
        (need.logprobs && !candidate.logprobs, Reason::Logprobs),
        (
            needed > candidate.context_tokens,
            Reason::Context { context_tokens: candidate.context_tokens, needed },
        ),
        (need.price_max.is_some_and(|max| !candidate.price.within(&max)), Reason::Price),
        (!candidate.payable, Reason::Unfunded),
    ];
    if let Some((_, reason)) = checks.into_iter().find(|(applies, _)| *applies) {
        return Some(reason);
    }
    match candidate.record.health(now) {
        Health::Quarantined { until } => return Some(Reason::Quarantined { until }),
        Health::Ok | Health::Probation => {}
    }
    let busy_until = candidate.record.busy_until();
    if now < busy_until {
        return Some(Reason::Busy { until: busy_until });
    }
    if candidate.in_flight >= candidate.slots {
        return Some(Reason::Full);
    }
    (candidate.record.health(now) == Health::Probation).then_some(Reason::Probation)
}

/// For each candidate its score, a number that breaks ties, and its index. Lower is better.
fn scores(
    policy: &Policy,
    need: &Need,
    eligible: &[(usize, &Candidate)],
    random: u64,
) -> Vec<(Nusd, u64, usize)> {
    let tokens = need.tokens_max.unwrap_or(policy.tokens_assumed).min(policy.tokens_assumed);
    let expected = |candidate: &Candidate| candidate.record.expected_ms(need.prompt_tokens, tokens);
    // Whoever was never measured is taken for as fast as the fastest, and so gets its chance.
    let fastest_ms =
        eligible.iter().filter_map(|(_, candidate)| expected(candidate)).min().unwrap_or_default();
    eligible
        .iter()
        .map(|&(index, candidate)| {
            let cost = candidate.price.charge(need.prompt_tokens, tokens);
            let ms = u128::from(expected(candidate).unwrap_or(fastest_ms));
            // A machine that runs as many requests as it has slots makes each take about twice as long.
            let slots = u128::from(candidate.slots.max(1));
            let loaded = slots.saturating_add(u128::from(candidate.in_flight));
            let loaded_ms = mul_div(ms, loaded, slots, types::Rounding::Up).unwrap_or(u128::MAX);
            let wait = mul_div(loaded_ms, policy.second_nusd.0, 1_000, types::Rounding::Up);
            let score = cost.saturating_add(Nusd(wait.unwrap_or(u128::MAX)));
            (score, tie(candidate, random), index)
        })
        .collect()
}

/// Among equals the less loaded goes first, then chance.
fn tie(candidate: &Candidate, random: u64) -> u64 {
    let slots = u64::from(candidate.slots.max(1));
    let load = u64::from(candidate.in_flight).saturating_mul(1_000);
    let load = load.checked_div(slots).unwrap_or_default();
    let salt = candidate.provider.0.iter().fold(random, |hash, &byte| {
        // FNV-1a: any mixing will do.
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    load.saturating_mul(1 << 32).saturating_add(salt >> 32)
}

/// With the policy's probability, whoever was measured longest ago or never.
fn explore(policy: &Policy, eligible: &[(usize, &Candidate)], random: u64) -> Option<usize> {
    if eligible.len() < 2 || random % 1_000_000 >= u64::from(policy.explore_ppm) {
        return None;
    }
    eligible
        .iter()
        .min_by_key(|(_, candidate)| candidate.record.measured_at())
        .map(|&(index, _)| index)
}
