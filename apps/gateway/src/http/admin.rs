//! Keys, for the operator of the gateway: made, listed, limited and revoked.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wire::api::ApiError;

use super::{
    OPENAI, Reply, bearer,
    errors::{internal, invalid, keys_away},
    json, new_id, read_body, refuse,
};
use crate::{
    accounts::{KeyLimits, key_id},
    error::{KeyError, RequestFailure},
    handle, keyring,
    shared::Shared,
    views::KeyView,
};

/// Whether a request carries the operator's key.
pub(super) fn authorize(shared: &Shared, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(expected) = shared.admin else {
        let message = "this gateway was started without a key for its operator".to_owned();
        return Err(invalid(403, message, None, Some("admin_disabled")));
    };
    // By digest, so that the time it takes says nothing about the key.
    match bearer(headers) {
        Ok(Some(key)) if key_id(key) == expected => Ok(()),
        _ => {
            let message =
                "this needs the key of the gateway's operator, from `admin-key` in its data folder";
            Err(invalid(401, message.to_owned(), None, Some("invalid_admin_key")))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    name: String,
    /// Made elsewhere; else a new one is made.
    api_key: Option<String>,
    #[serde(default)]
    limits: KeyLimits,
}

#[derive(Serialize)]
struct Made {
    /// Shown now and never again.
    api_key: String,
    key: KeyView,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    limits: Map<String, Value>,
}

#[derive(Serialize)]
struct KeyList {
    data: Vec<KeyView>,
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    reply(StatusCode::OK, listed(&shared, &headers).await)
}

async fn listed(shared: &Shared, headers: &HeaderMap) -> Result<KeyList, ApiError> {
    authorize(shared, headers)?;
    let data = keyring::views(shared).await.map_err(|error| key_error(&error.into()))?;
    Ok(KeyList { data })
}

pub(super) async fn create(State(shared): State<Arc<Shared>>, request: Request) -> Reply {
    reply(StatusCode::CREATED, made(&shared, request).await)
}

async fn made(shared: &Shared, request: Request) -> Result<Made, ApiError> {
    let NewKey { name, api_key, limits } = body(shared, request).await?;
    let api_key = handle::make_key(shared, &name, api_key, limits).await;
    let api_key = api_key.map_err(|error| key_error(&error))?;
    Ok(Made { key: named(shared, &name).await?, api_key })
}

pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    request: Request,
) -> Reply {
    reply(StatusCode::OK, changed(&shared, &name, request).await)
}

async fn changed(shared: &Shared, name: &str, request: Request) -> Result<KeyView, ApiError> {
    let Change { limits: change } = body(shared, request).await?;
    let merged =
        |limits: &KeyLimits| merge(limits, change).map_err(|problem| KeyError::Change { problem });
    keyring::limit(shared, name, merged).await.map_err(|error| key_error(&error))?;
    named(shared, name).await
}

pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Reply {
    reply(StatusCode::OK, revoked(&shared, &name, &headers).await)
}

async fn revoked(shared: &Shared, name: &str, headers: &HeaderMap) -> Result<KeyView, ApiError> {
    authorize(shared, headers)?;
    let key = named(shared, name).await?;
    keyring::revoke(shared, name).await.map_err(|error| key_error(&error))?;
    Ok(KeyView { revoked_at: Some(shared.now()), ..key })
}

fn reply(status: StatusCode, value: Result<impl Serialize, ApiError>) -> Reply {
    let id = new_id();
    match value.map(|value| serde_json::to_vec(&value)) {
        Ok(Ok(body)) => json(status, id, body.into()),
        Ok(Err(error)) => refuse(OPENAI, id, &internal(error.to_string())),
        Err(error) => refuse(OPENAI, id, &error),
    }
}

/// The body of a request of the operator.
async fn body<T: for<'de> Deserialize<'de>>(
    shared: &Shared,
    request: Request,
) -> Result<T, ApiError> {
    let (parts, body) = request.into_parts();
    authorize(shared, &parts.headers)?;
    let body = read_body(shared, body).await?;
    serde_json::from_slice(&body).map_err(|error| invalid(400, error.to_string(), None, None))
}

async fn named(shared: &Shared, name: &str) -> Result<KeyView, ApiError> {
    let found = async {
        match keyring::named(shared, name).await? {
            Some(id) => keyring::view(shared, &id).await,
            None => Ok(None),
        }
    };
    let view = found.await.map_err(|error| key_error(&error.into()))?;
    view.ok_or_else(|| key_error(&KeyError::Unknown { name: name.into() }))
}

/// `change` over `limits`: what it does not name stays, `null` takes a limit away (RFC 7396).
fn merge(limits: &KeyLimits, change: Map<String, Value>) -> Result<KeyLimits, String> {
    let problem = |error: serde_json::Error| error.to_string();
    let mut merged: Map<String, Value> =
        serde_json::from_value(serde_json::to_value(limits).map_err(problem)?).map_err(problem)?;
    for (name, value) in change {
        if !merged.contains_key(&name) {
            let known: Vec<&str> = merged.keys().map(String::as_str).collect();
            return Err(format!("there is no limit `{name}`; there are {}", known.join(", ")));
        }
        let value = if value.is_null() && name == "models" { Value::Array(vec![]) } else { value };
        merged.insert(name, value);
    }
    serde_json::from_value(Value::Object(merged)).map_err(problem)
}

fn key_error(error: &KeyError) -> ApiError {
    let message = error.to_string();
    match error {
        KeyError::Name
        | KeyError::Format
        | KeyError::Rate
        | KeyError::Models { .. }
        | KeyError::Change { .. } => invalid(400, message, None, Some("invalid_key")),
        KeyError::NameTaken { .. }
        | KeyError::KeyTaken
        | KeyError::Revoked
        | KeyError::Changed { .. }
        | KeyError::TooMany { .. } => invalid(409, message, None, Some("key_conflict")),
        KeyError::Unknown { .. } => invalid(404, message, None, Some("key_not_found")),
        KeyError::Database(error) => {
            tracing::warn!(%error, "http.admin");
            keys_away(RequestFailure::KeysAway.to_string())
        }
        KeyError::Journal { .. } | KeyError::Randomness { .. } => {
            tracing::error!(%error, "http.admin");
            internal(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::Nusd;

    use super::*;

    #[test]
    fn a_change_leaves_what_it_does_not_name_and_null_takes_away() {
        let limits = KeyLimits {
            budget: Some(Nusd(5)),
            requests_per_minute: Some(7),
            models: vec!["a".into()],
            ..KeyLimits::default()
        };
        let check = |change: Value, expected: Result<KeyLimits, &str>| {
            let Value::Object(change) = change else { panic!("an object") };
            assert_eq!(merge(&limits, change), expected.map_err(str::to_owned));
        };
        check(json!({}), Ok(limits.clone()));
        check(
            json!({"budget": null, "budget_day": "3", "models": null}),
            Ok(KeyLimits {
                budget: None,
                budget_day: Some(Nusd(3)),
                models: vec![],
                ..limits.clone()
            }),
        );
        check(
            json!({"rpm": 3}),
            Err(
                "there is no limit `rpm`; there are budget, budget_day, budget_month, expires_at, models, \
                 requests_at_once, requests_per_minute, tokens_per_minute",
            ),
        );
        let Value::Object(change) = json!({"requests_at_once": -1}) else { panic!() };
        assert!(merge(&limits, change).is_err());
    }
}
