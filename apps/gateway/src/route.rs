//! Where a request would go, and why nowhere else.

use types::ability::{Abilities, EmbeddingAbility};

use crate::{
    dispatch::{self, Needs},
    error::RequestFailure,
    shared::Shared,
    views::{RouteCandidate, RouteView},
};

/// Where a request would go that is not made.
pub(crate) fn explain(
    shared: &Shared,
    model: &str,
    needs: &Needs,
    prompt_tokens: u32,
    tokens_max: Option<u32>,
    abilities: Abilities,
) -> Result<RouteView, RequestFailure> {
    let Some(resolved) = shared.directory.resolve(model) else {
        return Err(dispatch::unknown_model(shared, model.to_owned()));
    };
    let candidates = shared.directory.candidates(resolved.model, &[], None);
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
        model: resolved.model,
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
    let choice = market::choose(&policy, now, &need, &candidates, dispatch::random());
    let views = candidates.iter().enumerate().map(|(index, candidate)| {
        let scored = choice.scored.iter().find(|scored| scored.index == index);
        let passed = choice.passed.iter().find(|passed| passed.provider == candidate.provider);
        RouteCandidate {
            provider: candidate.provider,
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
    });
    let taken = choice.taken.and_then(|index| candidates.get(index));
    Ok(RouteView {
        model: need.model,
        provider: taken.map(|candidate| candidate.provider),
        candidates: views.collect(),
    })
}
