//! How a provider stands: a name that passes raise and failures lower more (ECONOMICS E9), the quality of its
//! answers of each model, and the evidence that is kept.
//!
//! Only paid work earns a name: a pass counts if the provider was paid something since the last one that did.

use types::{
    Address, ModelId, Ppm, Rounding, TimeMs,
    audit::{AuditOutcome, KeptEvidence, ModelStanding, Round, Standing},
};

use super::{FOUND_MIN, KEPT_MAX, MODELS_MAX, saying};
use crate::{event::Event, execute::Context, state::State};

/// Whether it says nothing any more: no evidence that is young enough, not delisted, and nothing to resume from.
pub(super) fn is_stale(standing: &ModelStanding, oldest: TimeMs, time: TimeMs) -> bool {
    let delisted = standing.delisted_until.is_some_and(|until| until > time);
    let fresh = standing.evidence.iter().any(|piece| piece.found_at >= oldest);
    !delisted && !fresh && !standing.suspended
}

/// How much there is to lose if it is forgotten: whether anything is against the provider, and how new it is.
fn worth(standing: &ModelStanding) -> (bool, Option<TimeMs>) {
    let found = standing.evidence.iter().any(|piece| piece.evidence.is_suspicious());
    let against = found || standing.suspended || standing.delisted_until.is_some();
    (against, standing.evidence.last().map(|piece| piece.found_at))
}

/// Adds pieces of evidence, drops those that are too old, and keeps the newest of the rest.
pub(super) fn keep(
    state: &mut State,
    provider: Address,
    model: ModelId,
    time: TimeMs,
    pieces: Vec<KeptEvidence>,
) {
    let oldest = state.oldest_evidence(time);
    let mut standing = state.model_standing(provider, model);
    standing.evidence.retain(|piece| piece.found_at >= oldest);
    standing.evidence.extend(pieces);
    let beyond = standing.evidence.len().saturating_sub(KEPT_MAX);
    standing.evidence.drain(..beyond);
    state.put_model_standing(provider, model, standing);
}

/// Counts the outcome of a round.
pub(super) fn count(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    round: &Round,
    outcome: AuditOutcome,
) {
    let passed = match outcome {
        AuditOutcome::Pass => true,
        AuditOutcome::Fail | AuditOutcome::Missing => false,
        AuditOutcome::Inconclusive | AuditOutcome::Abstained => return,
    };
    count_quality(state, context, provider, round, passed);
    let earned = state.providers.get(&provider).map(|entry| entry.earned).unwrap_or_default();
    let before = state.standing(&provider);
    if passed && earned <= before.earned {
        return;
    }
    let params = &state.params().audits;
    let memory = |weight: u64| -> u64 {
        let left = params.memory.of(weight.into(), Rounding::Down);
        u64::try_from(left).unwrap_or(u64::MAX)
    };
    let (mut good, mut bad) = (memory(before.good), memory(before.bad));
    let (passes, earned) = if passed {
        good = good.saturating_add(Standing::UNIT);
        (before.passes.saturating_add(1), earned)
    } else {
        bad = bad.saturating_add(state.failure_weight());
        (0, before.earned)
    };
    state.standings.insert(provider, Standing { good, bad, passes, earned, ..before });
}

/// The weighted share of passes with one model. Where audits have consequences, a share that is too low keeps
/// gateways from choosing the provider for it, from a failure on that two verifiers found.
fn count_quality(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    round: &Round,
    passed: bool,
) {
    let model = round.receipts.model;
    let params = &state.params().audits;
    let mut standing = state.model_standing(provider, model);
    let now = if passed { Ppm::ONE } else { Ppm::default() };
    standing.quality = mixed(standing.quality, now, params.quality_weight);
    let binding = params.is_enforced(&model) && !round.beacon.is_weak();
    let found = saying(round, &[AuditOutcome::Fail, AuditOutcome::Missing]) >= FOUND_MIN;
    let suspended = match standing.suspended {
        true => standing.quality < params.quality_resume,
        false => binding && found && !passed && standing.quality < params.quality_min,
    };
    if suspended != standing.suspended {
        standing.suspended = suspended;
        let quality = standing.quality;
        context.events.push(Event::QualityMoved { provider, model, quality, suspended });
    }
    state.put_model_standing(provider, model, standing);
}

/// `before` and `now` with its weight, rounded down: against the provider.
pub(super) fn mixed(before: Ppm, now: Ppm, weight: Ppm) -> Ppm {
    let rest = 1_000_000u32.saturating_sub(weight.get());
    let part = |value: Ppm, weight: u32| u64::from(value.get()).saturating_mul(weight.into());
    let sum = part(before, rest).saturating_add(part(now, weight.get()));
    let mixed = sum.checked_div(1_000_000).unwrap_or(0);
    u32::try_from(mixed).ok().and_then(Ppm::new).unwrap_or_default()
}

impl State {
    /// What a failure adds to the bad of a name.
    pub(super) fn failure_weight(&self) -> u64 {
        Standing::UNIT.saturating_mul(self.params().audits.failure_weight.into())
    }

    pub(super) fn model_standing(&self, provider: Address, model: ModelId) -> ModelStanding {
        self.model_standings.get(&(provider, model)).cloned().unwrap_or_default()
    }

    /// What is as it is for a stranger has no entry. Payers demand audits of any models: of more than are kept, those with
    /// nothing against the provider go first, so that nobody has what was found forgotten by what passes.
    pub(super) fn put_model_standing(
        &mut self,
        provider: Address,
        model: ModelId,
        after: ModelStanding,
    ) {
        if after == ModelStanding::default() {
            self.model_standings.remove(&(provider, model));
        } else {
            self.model_standings.insert((provider, model), after);
        }
        if self.model_standings_of(provider).count() > MODELS_MAX {
            let least = self.model_standings_of(provider).min_by_key(|(_, it)| worth(it));
            if let Some((model, _)) = least {
                self.model_standings.remove(&(provider, model));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_falls_fast_and_comes_back_slowly() {
        let ppm = |ppm| Ppm::new(ppm).unwrap();
        let weight = ppm(30_000);
        let failed = mixed(Ppm::ONE, ppm(0), weight);
        assert_eq!((failed, mixed(failed, ppm(0), weight)), (ppm(970_000), ppm(940_900)));
        let resumed = (0..100).scan(ppm(940_900), |quality, _| {
            *quality = mixed(*quality, Ppm::ONE, weight);
            Some(*quality)
        });
        assert_eq!(resumed.take_while(|quality| *quality < ppm(970_000)).count(), 22);
        assert_eq!(mixed(Ppm::ONE, Ppm::ONE, weight), Ppm::ONE);
    }
}
