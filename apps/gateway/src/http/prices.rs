//! What everybody asks for their models.

use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use types::{Address, ModelId, price::Price};

use super::{OPENAI, Reply, api_error, errors::internal, json, limits_of, new_id, refuse};
use crate::{shared::Shared, views::listed_price};

#[derive(Serialize)]
struct PriceList {
    data: Vec<Offered>,
}

/// One provider's offer of one model.
#[derive(Serialize)]
struct Offered {
    model: String,
    model_id: ModelId,
    provider: Address,
    /// It is this service outside the network, whose answers nobody verifies.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
    price: Price,
    context_tokens: u32,
    slots: u32,
    /// Whether a request would be given to it now, were it the best.
    available: bool,
}

/// The cheapest first, by what an answer's tokens cost.
pub(super) async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    let id = new_id();
    let limits = match limits_of(&shared, &headers).await {
        Ok(limits) => limits,
        Err(failure) => return refuse(OPENAI, id, &api_error(&failure)),
    };
    let mut data = Vec::new();
    for provider in shared.directory.providers(shared.since_start()) {
        let available = provider.payable && provider.health != "quarantined";
        data.extend(provider.models.into_iter().map(|offer| Offered {
            model: offer.alias,
            model_id: offer.model,
            provider: provider.operator,
            upstream: None,
            price: listed_price(offer.price, &offer.abilities),
            context_tokens: offer.context_tokens,
            slots: provider.slots,
            available,
        }));
    }
    data.extend(shared.upstreams.offers(shared.since_start()).into_iter().map(|offer| Offered {
        model: offer.serves.as_ref().to_owned(),
        model_id: shared.resolve(&offer.serves).unwrap_or(offer.id),
        provider: offer.address,
        upstream: Some(offer.name.as_ref().to_owned()),
        price: offer.price,
        context_tokens: offer.context_tokens,
        slots: offer.slots,
        available: offer.available,
    }));
    data.retain(|offered| limits.allows(&offered.model, &offered.model_id));
    data.sort_by(|a, b| {
        let order = |it: &Offered| {
            (it.price.completion_nusd_per_mtok, it.price.prompt_nusd_per_mtok, it.provider)
        };
        (&a.model, order(a)).cmp(&(&b.model, order(b)))
    });
    match serde_json::to_vec(&PriceList { data }) {
        Ok(body) => json(StatusCode::OK, id, body.into()),
        Err(error) => refuse(OPENAI, id, &internal(error.to_string())),
    }
}
