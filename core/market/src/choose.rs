//! Hard filters, then a score: the expected cost in nano-USD plus what the expected time is worth.

use std::sync::Arc;

use types::{
    Address, ModelId, Nusd, TimeMs,
    ability::{Abilities, Lacking},
    mul_div,
    price::Price,
};

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
    /// How far above the best a score may be and still count as about as good, in parts per million.
    pub near_ppm: u32,
    /// Answer length assumed when the request does not say.
    pub tokens_assumed: u32,
}

impl Policy {
    /// Price and time weigh about alike.
    pub const BALANCED: Policy = Policy {
        second_nusd: Nusd(20_000),
        explore_ppm: 20_000,
        near_ppm: 100_000,
        tokens_assumed: 256,
    };
    /// Time decides only between equal prices.
    pub const CHEAPEST: Policy = Policy { second_nusd: Nusd(1), near_ppm: 0, ..Policy::BALANCED };
    /// Price decides only between equal times: a second is worth 1 USD.
    pub const FASTEST: Policy = Policy { second_nusd: Nusd::whole(1), ..Policy::BALANCED };

    /// The policies that can be asked for, by their names.
    pub const NAMED: [(&'static str, Policy); 3] = [
        ("balanced", Policy::BALANCED),
        ("cheapest", Policy::CHEAPEST),
        ("fastest", Policy::FASTEST),
    ];

    pub fn named(name: &str) -> Option<Policy> {
        Policy::NAMED.into_iter().find(|(known, _)| *known == name).map(|(_, policy)| policy)
    }
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
    pub abilities: Abilities,
    /// Nobody else will do.
    pub provider: Option<Address>,
    /// Where the provider must be: `eu` is also `eu-west`.
    pub region: Option<String>,
}

/// A provider that could be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub provider: Address,
    pub model: ModelId,
    pub price: Price,
    pub context_tokens: u32,
    pub abilities: Abilities,
    /// As the ledger has it; empty if it does not say.
    pub region: Arc<str>,
    /// It answered a prompt with the same beginning not long ago, and may still have it in its cache.
    pub is_warm: bool,
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
    /// Everybody who could have been taken.
    pub scored: Vec<Scored>,
}

/// What was expected of a candidate that could be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scored {
    /// Index into the candidates.
    pub index: usize,
    pub cost: Nusd,
    /// Of the whole answer, with the load it has. `None`: never measured, and taken for as fast as the fastest.
    pub expected_ms: Option<u64>,
    /// What the time that its load adds is worth.
    pub load: Nusd,
    /// Lower is better.
    pub score: Nusd,
}

/// What a score is made of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Term {
    #[error("price")]
    Price,
    #[error("speed")]
    Speed,
    #[error("load")]
    Load,
}

impl Scored {
    /// What makes this score worse than the best one most.
    fn behind(&self, best: &Scored) -> Term {
        let speed = |it: &Scored| it.score.saturating_sub(it.cost).saturating_sub(it.load);
        let terms = [
            (self.cost.saturating_sub(best.cost), Term::Price),
            (speed(self).saturating_sub(speed(best)), Term::Speed),
            (self.load.saturating_sub(best.load), Term::Load),
        ];
        terms.into_iter().max().map_or(Term::Price, |(_, term)| term)
    }
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
    #[error("{0}")]
    Lacking(Lacking),
    #[error("the context holds {context_tokens} tokens, {needed} are needed")]
    Context { context_tokens: u32, needed: u32 },
    #[error("another provider was asked for")]
    Provider,
    #[error("in another region")]
    Region,
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
    #[error("another one scored better, most of all by its {by}")]
    Score { nusd: Nusd, best_nusd: Nusd, by: Term },
    #[error("another one is about as good and less busy, or was drawn")]
    Drawn,
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
                | Reason::Lacking(_)
                | Reason::Context { .. }
                | Reason::Provider
                | Reason::Region
                | Reason::Price
                | Reason::Probation
                | Reason::Score { .. }
                | Reason::Drawn
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
    let scored = scores(policy, need, &eligible);
    let Some(best) = scored.iter().min_by_key(|scored| scored.score).copied() else {
        return Choice { taken: None, passed, scored };
    };
    let explored = explore(policy, &scored, candidates, random);
    let near = near(policy, best.score);
    let drawn = || draw(near, &scored, candidates, random);
    let taken = explored.or_else(drawn);
    for it in scored.iter().filter(|it| Some(it.index) != taken) {
        let &Scored { index, score, .. } = it;
        let reason = match explored {
            Some(_) => Reason::Explored,
            None if score <= near => Reason::Drawn,
            None => Reason::Score { nusd: score, best_nusd: best.score, by: it.behind(&best) },
        };
        passed.extend(
            candidates.get(index).map(|candidate| Passed { provider: candidate.provider, reason }),
        );
    }
    Choice { taken, passed, scored }
}

/// The highest score that is about as good as the best.
fn near(policy: &Policy, best: Nusd) -> Nusd {
    let above = mul_div(best.0, policy.near_ppm.into(), 1_000_000, types::Rounding::Down);
    best.saturating_add(Nusd(above.unwrap_or(0)))
}

/// Of those that are about as good as the best, two by chance, and the less busy of them: what is
/// known of others' load is always a little old, and many gateways that all send to the best would bury it
/// (Mitzenmacher, "The power of two choices in randomized load balancing", 2001).
fn draw(near: Nusd, scored: &[Scored], candidates: &[Candidate], random: u64) -> Option<usize> {
    let near: Vec<usize> = scored.iter().filter(|it| it.score <= near).map(|it| it.index).collect();
    let count = u64::try_from(near.len()).unwrap_or(u64::MAX);
    let at = |place: u64| near.get(usize::try_from(place).ok()?).copied();
    let first = random.checked_rem(count)?;
    let second = (random >> 32).checked_rem(count.saturating_sub(1)).map(|step| {
        // Any other than the first.
        if step < first { step } else { step.saturating_add(1) }
    });
    let busy = |index: &usize| candidates.get(*index).map(business);
    let (first, second) = (at(first)?, second.and_then(at));
    [Some(first), second].into_iter().flatten().min_by_key(busy)
}

/// Requests in work for each slot, in thousandths.
fn business(candidate: &Candidate) -> u64 {
    let load = u64::from(candidate.in_flight).saturating_mul(1_000);
    load.checked_div(candidate.slots.into()).unwrap_or(u64::MAX)
}

/// What stands in a candidate's way; `Probation` stands in the way of first choice only.
fn obstacle(now: TimeMs, need: &Need, candidate: &Candidate) -> Option<Reason> {
    let needed = need.context_tokens_min.unwrap_or(0).max(need.prompt_tokens_min.saturating_add(1));
    if candidate.model != need.model {
        return Some(Reason::Model);
    }
    if candidate.tried {
        return Some(Reason::Tried);
    }
    if let Some(lacking) = candidate.abilities.lacking(&need.abilities) {
        return Some(Reason::Lacking(lacking));
    }
    let checks = [
        (
            needed > candidate.context_tokens,
            Reason::Context { context_tokens: candidate.context_tokens, needed },
        ),
        (need.provider.is_some_and(|provider| provider != candidate.provider), Reason::Provider),
        (
            need.region.as_ref().is_some_and(|region| !is_in(&candidate.region, region)),
            Reason::Region,
        ),
        (
            need.price_max.is_some_and(|max| !need.abilities.price(candidate.price).within(&max)),
            Reason::Price,
        ),
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

/// Whether `place` is `region` or a part of it.
fn is_in(place: &str, region: &str) -> bool {
    place.strip_prefix(region).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn scores(policy: &Policy, need: &Need, eligible: &[(usize, &Candidate)]) -> Vec<Scored> {
    let tokens = need.tokens_max.unwrap_or(policy.tokens_assumed).min(policy.tokens_assumed);
    let expected = |candidate: &Candidate| {
        candidate.record.expected_ms(need.prompt_tokens, tokens, candidate.is_warm)
    };
    // Whoever was never measured is taken for as fast as the fastest, and so gets its chance.
    let fastest_ms =
        eligible.iter().filter_map(|(_, candidate)| expected(candidate)).min().unwrap_or_default();
    let score = |&(index, candidate): &(usize, &Candidate)| {
        let price = need.abilities.price(candidate.price);
        let cost = price.charge(need.prompt_tokens, tokens);
        // A machine that runs as many requests as it has slots makes each take about twice as long.
        let slots = u128::from(candidate.slots.max(1));
        let loaded = slots.saturating_add(u128::from(candidate.in_flight));
        let loaded_ms = |ms: u64| {
            let ms = mul_div(ms.into(), loaded, slots, types::Rounding::Up);
            ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(u64::MAX)
        };
        let measured_ms = expected(candidate);
        let idle_ms = measured_ms.unwrap_or(fastest_ms);
        let worth = |ms: u64| {
            let wait = mul_div(ms.into(), policy.second_nusd.0, 1_000, types::Rounding::Up);
            Nusd(wait.unwrap_or(u128::MAX))
        };
        let wait = worth(loaded_ms(idle_ms));
        Scored {
            index,
            cost,
            expected_ms: measured_ms.map(loaded_ms),
            load: wait.saturating_sub(worth(idle_ms)),
            score: cost.saturating_add(wait),
        }
    };
    eligible.iter().map(score).collect()
}

/// With the policy's probability, whoever was measured longest ago or never. Nobody is measured at more than twice the least
/// that the request costs: who asks for any price would be paid it once in fifty requests.
fn explore(
    policy: &Policy,
    scored: &[Scored],
    candidates: &[Candidate],
    random: u64,
) -> Option<usize> {
    if random % 1_000_000 >= u64::from(policy.explore_ppm) {
        return None;
    }
    let least = scored.iter().map(|it| it.cost).min()?;
    let dearest = least.saturating_add(least);
    let affordable: Vec<usize> =
        scored.iter().filter(|it| it.cost <= dearest).map(|it| it.index).collect();
    let measured_at = |index: &usize| candidates.get(*index).map(|it| it.record.measured_at());
    affordable.into_iter().min_by_key(measured_at).filter(|_| scored.len() >= 2)
}
