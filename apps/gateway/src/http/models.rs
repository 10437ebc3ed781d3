//! What is offered, as OpenAI's and as Ollama's clients ask for it.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, Request, State},
};
use http::{HeaderMap, StatusCode};
use types::{
    TimeMs,
    ability::{EmbeddingAbility, ToolAbility},
};
use wire::api::{
    ollama,
    openai::{self, ModelCard},
};

use super::{
    OLLAMA, OPENAI, Reply, api_error, errors::invalid, json, limits_of, new_id, read_body, refuse,
};
use crate::{
    accounts::KeyLimits, dispatch, error::RequestFailure, shared::Shared, views::ModelView,
};

pub(super) async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    let id = new_id();
    match cards_for(&shared, &headers).await {
        Ok((cards, _)) => json(StatusCode::OK, id, openai::models(&cards)),
        Err(failure) => refuse(OPENAI, id, &api_error(&failure)),
    }
}

pub(super) async fn show(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let id = new_id();
    let (cards, limits) = match cards_for(&shared, &headers).await {
        Ok(cards) => cards,
        Err(failure) => return refuse(OPENAI, id, &api_error(&failure)),
    };
    let model = shared.resolve(&name);
    let card = cards.into_iter().find(|card| Some(card.model) == model);
    match card {
        Some(card) => json(StatusCode::OK, id, openai::model(&ModelCard { id: name, ..card })),
        None => refuse(OPENAI, id, &api_error(&dispatch::unknown_model(&shared, &limits, name))),
    }
}

/// The models that the key of a request may use, and what else it may.
async fn cards_for(
    shared: &Shared,
    headers: &HeaderMap,
) -> Result<(Vec<ModelCard>, KeyLimits), RequestFailure> {
    let limits = limits_of(shared, headers).await?;
    let mut cards = cards(shared);
    cards.retain(|card| limits.allows(&card.id, &card.model));
    Ok((cards, limits))
}

/// One card per model that a name leads to; a name that several models claim leads to one of them,
/// the others are listed by their ids.
fn cards(shared: &Shared) -> Vec<ModelCard> {
    let created_s = shared.now().0 / 1_000;
    let card = |view: ModelView| {
        let is_meant = shared.resolve(&view.alias) == Some(view.model);
        ModelCard {
            id: if is_meant { view.alias } else { view.model.to_string() },
            model: view.model,
            created_s,
            providers: view.providers,
            context_tokens: view.context_tokens_max,
            price: view.price_min,
            abilities: view.abilities,
            resold: view.resold,
        }
    };
    shared.models().into_iter().map(card).collect()
}

pub(super) async fn ollama_version() -> Reply {
    json(StatusCode::OK, new_id(), ollama::version())
}

pub(super) async fn ollama_tags(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    ollama_list(&shared, &headers, ollama::tags).await
}

pub(super) async fn ollama_running(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    ollama_list(&shared, &headers, ollama::running).await
}

async fn ollama_list(
    shared: &Shared,
    headers: &HeaderMap,
    write: fn(&[ollama::Model], TimeMs) -> Bytes,
) -> Reply {
    let id = new_id();
    match cards_for(shared, headers).await {
        Ok((cards, _)) => {
            let models: Vec<ollama::Model> = cards.into_iter().map(ollama_model).collect();
            json(StatusCode::OK, id, write(&models, shared.now()))
        }
        Err(failure) => refuse(OLLAMA, id, &api_error(&failure)),
    }
}

pub(super) async fn ollama_show(State(shared): State<Arc<Shared>>, request: Request) -> Reply {
    let id = new_id();
    let (parts, body) = request.into_parts();
    let (cards, limits) = match cards_for(&shared, &parts.headers).await {
        Ok(cards) => cards,
        Err(failure) => return refuse(OLLAMA, id, &api_error(&failure)),
    };
    let name = match read_body(&shared, body).await {
        Ok(body) => {
            ollama::show_name(&body).map_err(|bad| invalid(400, bad.message, bad.param, None))
        }
        Err(error) => Err(error),
    };
    let name = match name {
        Ok(name) => name,
        Err(error) => return refuse(OLLAMA, id, &error),
    };
    let model = shared.resolve(&name);
    let card = cards.into_iter().find(|card| Some(card.model) == model);
    match card {
        Some(card) => {
            let model = ollama::Model { name, ..ollama_model(card) };
            json(StatusCode::OK, id, ollama::show(&model, shared.now()))
        }
        None => refuse(OLLAMA, id, &api_error(&dispatch::unknown_model(&shared, &limits, name))),
    }
}

fn ollama_model(card: ModelCard) -> ollama::Model {
    ollama::Model {
        name: card.id,
        model: card.model,
        context_tokens: card.context_tokens,
        completions: card.abilities.completions,
        embeddings: card.abilities.embeddings != EmbeddingAbility::None,
        tools: card.abilities.tools != ToolAbility::None,
    }
}
