//! What a request says about where it goes: headers, alike in all dialects, and the answer to "where would
//! it go?".

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
};
use http::{HeaderMap, HeaderName, StatusCode};
use market::Policy;
use serde::Deserialize;
use types::{
    Nusd,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    price::Price,
};

use super::{
    OPENAI, Reply, api_error, errors::internal, json, limits_of, new_id, question, refuse,
};
use crate::{dispatch::Needs, error::RequestFailure, route, shared::Shared};

const POLICY: HeaderName = HeaderName::from_static("x-peerwatt-policy");
const PINNED: HeaderName = HeaderName::from_static("x-peerwatt-pin-provider");
const REGION: HeaderName = HeaderName::from_static("x-peerwatt-region");
const CONTINUE: HeaderName = HeaderName::from_static("x-peerwatt-continue");
const HEDGE: HeaderName = HeaderName::from_static("x-peerwatt-hedge");
const UPSTREAMS: HeaderName = HeaderName::from_static("x-peerwatt-upstreams");
const DISCLOSE: HeaderName = HeaderName::from_static("x-peerwatt-disclose");
const PRICE_MAX: HeaderName = HeaderName::from_static("x-peerwatt-max-price");

/// Reads the headers. One that says something unknown is refused, as a field of the body would be.
pub(super) fn needs(headers: &HeaderMap) -> Result<Needs, RequestFailure> {
    let bad = |name: &HeaderName, problem: &str| RequestFailure::Invalid {
        param: Some(name.as_str().to_owned()),
        problem: format!("{name}: {problem}"),
    };
    let text = |name: &HeaderName| match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim())),
        Some(Err(_)) => Err(bad(name, "is not plain text")),
    };
    let flag = |name: &HeaderName, unless: bool| match text(name)? {
        None => Ok(unless),
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(bad(name, "is true or false")),
    };
    let mut needs = Needs::default();
    if let Some(name) = text(&POLICY)? {
        let Some(policy) = Policy::named(name) else {
            return Err(bad(&POLICY, "is one of balanced, cheapest, fastest"));
        };
        needs.policy = policy;
        needs.hedges = policy == Policy::FASTEST;
    }
    if let Some(address) = text(&PINNED)? {
        let Ok(address) = address.parse() else {
            return Err(bad(&PINNED, "is the account of a provider, watt1…"));
        };
        needs.provider = Some(address);
    }
    if let Some(region) = text(&REGION)? {
        if region.is_empty() {
            return Err(bad(&REGION, "is a region, such as eu"));
        }
        needs.region = Some(region.to_owned());
    }
    needs.continues = flag(&CONTINUE, needs.continues)?;
    needs.hedges = flag(&HEDGE, needs.hedges)?;
    needs.upstreams = flag(&UPSTREAMS, needs.upstreams)?;
    needs.discloses = flag(&DISCLOSE, needs.discloses)?;
    if let Some(price) = text(&PRICE_MAX)? {
        let Some(price) = price_max(price) else {
            return Err(bad(
                &PRICE_MAX,
                "is PROMPT/COMPLETION in USD per million tokens, such as 0.05/0.10, or PROMPT/COMPLETION/REQUEST with the USD for a request beside its tokens, such as 0.05/0.10/0.0001",
            ));
        };
        needs.price_max = Some(price);
    }
    Ok(needs)
}

fn price_max(text: &str) -> Option<Price> {
    let mut parts = text.split('/').map(|part| Nusd::from_decimal(part.trim()));
    let (prompt, completion) = (parts.next()??, parts.next()??);
    let request = match parts.next() {
        Some(request) => request?,
        // Or the ceiling would be none: a thousand tokens of each, as much as a small request costs.
        None => Nusd(prompt.saturating_add(completion).0 / 1_000),
    };
    parts.next().is_none().then_some(Price {
        request_nusd: request,
        prompt_nusd_per_mtok: prompt,
        completion_nusd_per_mtok: completion,
    })
}

/// A request that is only thought of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    model: String,
    #[serde(default = "some_prompt")]
    prompt_tokens: u32,
    max_tokens: Option<u32>,
    /// Such a request is no completion.
    #[serde(default)]
    embeddings: EmbeddingAbility,
    #[serde(default)]
    logprobs: bool,
    #[serde(default)]
    json: bool,
    #[serde(default)]
    tools: ToolAbility,
    #[serde(default)]
    samplers: bool,
}

fn some_prompt() -> u32 {
    256
}

/// Where a request like this would go now, and why.
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    asked: Result<Query<Question>, QueryRejection>,
    headers: HeaderMap,
) -> Reply {
    let id = new_id();
    let limits = match limits_of(&shared, &headers).await {
        Ok(limits) => limits,
        Err(failure) => return refuse(OPENAI, id, &api_error(&failure)),
    };
    let asked = match question(asked) {
        Ok(question) => question,
        Err(error) => return refuse(OPENAI, id, &error),
    };
    let Question { model, prompt_tokens, max_tokens, embeddings, logprobs, .. } = asked;
    let Question { json: in_json, tools, samplers, .. } = asked;
    let completions = embeddings == EmbeddingAbility::None;
    let abilities = Abilities { completions, embeddings, logprobs, json: in_json, tools, samplers };
    let explained = needs(&headers).and_then(|needs| {
        route::explain(&shared, &limits, &model, &needs, prompt_tokens, max_tokens, abilities)
    });
    match explained.map(|view| serde_json::to_vec(&view)) {
        Ok(Ok(body)) => json(StatusCode::OK, id, Bytes::from(body)),
        Ok(Err(error)) => refuse(OPENAI, id, &internal(error.to_string())),
        Err(failure) => refuse(OPENAI, id, &api_error(&failure)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_is_of_all_parts_of_a_price() {
        let price = |request, prompt, completion| {
            Some(Price {
                request_nusd: Nusd(request),
                prompt_nusd_per_mtok: Nusd(prompt),
                completion_nusd_per_mtok: Nusd(completion),
            })
        };
        for (text, expected) in [
            ("0.05/0.10", price(150_000, 50_000_000, 100_000_000)),
            ("0.05 / 0.10 / 0.0001", price(100_000, 50_000_000, 100_000_000)),
            ("0/0", price(0, 0, 0)),
            ("0.05/0.10/0", price(0, 50_000_000, 100_000_000)),
            ("0.05", None),
            ("0.05/", None),
            ("0.05/0.10/", None),
            ("1/2/3/4", None),
            ("", None),
        ] {
            assert_eq!(price_max(text), expected, "{text}");
        }
    }
}
