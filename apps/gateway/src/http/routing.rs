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
                "is PROMPT/COMPLETION in USD per million tokens, such as 0.05/0.10",
            ));
        };
        needs.price_max = Some(price);
    }
    Ok(needs)
}

fn price_max(text: &str) -> Option<Price> {
    let (prompt, completion) = text.split_once('/')?;
    let usd = |text: &str| Nusd::from_decimal(text.trim());
    Some(Price {
        // What is paid once does not depend on the tokens; it is counted in the score.
        request_nusd: Nusd(u128::MAX),
        prompt_nusd_per_mtok: usd(prompt)?,
        completion_nusd_per_mtok: usd(completion)?,
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
