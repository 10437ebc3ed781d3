//! Where a request would go, and why nowhere else.

use types::ability::{Abilities, EmbeddingAbility};

use crate::{
    accounts::KeyLimits,
    dispatch::{self, Needs},
    error::RequestFailure,
    shared::Shared,
    upstreams::UpstreamRole,
    views::{RouteCandidate, RouteView},
};

/// Where a request would go that is not made.
pub(crate) fn explain(
    shared: &Shared,
    limits: &KeyLimits,
    model: &str,
    needs: &Needs,
    prompt_tokens: u32,
    tokens_max: Option<u32>,
    abilities: Abilities,
) -> Result<RouteView, RequestFailure> {
    let Some(id) = shared.resolve(model) else {
        return Err(dispatch::unknown_model(shared, limits, model.to_owned()));
    };
    if !limits.allows(model, &id) {
        return Err(RequestFailure::ModelNotAllowed { model: model.to_owned() });
    }
    let upstreams = |role| match needs.upstreams {
        true => shared.upstreams.candidates((model, id), &[], role),
        false => Vec::new(),
    };
    let mut candidates = shared.directory.candidates(id, &[], None);
    candidates.extend(upstreams(UpstreamRole::Policy));
    let last = upstreams(UpstreamRole::LastResort);
    let makes_vectors = |it: &market::Candidate| !it.abilities.completions;
    let abilities = match !candidates.is_empty() && candidates.iter().all(makes_vectors) {
        // Of a model that makes nothing else they are meant.
        true => Abilities {
            completions: false,
            embeddings: abilities.embeddings.max(EmbeddingAbility::Fixed),
            ..abilities
        },
        false => abilities,
    };
    let need = market::Need {
        model: id,
        prompt_tokens,
        prompt_tokens_min: prompt_tokens,
        context_tokens_min: needs.context_tokens_min,
        tokens_max,
        price_max: needs.price_max,
        abilities,
        provider: needs.provider,
        region: needs.region.clone(),
    };
    let policy = market::Policy { explore_ppm: 0, ..needs.policy };
    let now = shared.since_start();
    let choose = |candidates: &[market::Candidate]| {
        market::choose(&policy, now, &need, candidates, dispatch::any_number())
    };
    let mut choice = choose(&candidates);
    let mut views = views(shared, &candidates, &choice);
    let mut taken = choice.taken.and_then(|index| candidates.get(index));
    if taken.is_none() {
        choice = choose(&last);
        taken = choice.taken.and_then(|index| last.get(index));
        views.extend(self::views(shared, &last, &choice));
    } else {
        let passed = Some("a last resort".to_owned());
        let views_of = self::views(shared, &last, &choose(&last));
        let unasked =
            views_of.into_iter().map(|view| RouteCandidate { passed: passed.clone(), ..view });
        views.extend(unasked);
    }
    Ok(RouteView {
        model: id,
        provider: taken.map(|candidate| candidate.provider),
        candidates: views,
    })
}

/// What speaks for and against each candidate.
fn views(
    shared: &Shared,
    candidates: &[market::Candidate],
    choice: &market::Choice,
) -> Vec<RouteCandidate> {
    let view = |(index, candidate): (usize, &market::Candidate)| {
        let scored = choice.scored.iter().find(|scored| scored.index == index);
        let passed = choice.passed.iter().find(|passed| passed.provider == candidate.provider);
        RouteCandidate {
            provider: candidate.provider,
            upstream: shared.upstreams.name_of(&candidate.provider).as_deref().map(str::to_owned),
            price: candidate.price,
            context_tokens: candidate.context_tokens,
            region: candidate.region.as_ref().to_owned(),
            slots: candidate.slots,
            in_flight: candidate.in_flight,
            cost: scored.map(|scored| scored.cost),
            expected_ms: scored.and_then(|scored| scored.expected_ms),
            score: scored.map(|scored| scored.score),
            passed: passed.map(|passed| passed.reason.to_string()),
        }
    };
    candidates.iter().enumerate().map(view).collect()
}
