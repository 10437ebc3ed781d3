//! The HTTP APIs (`docs/spec/gateway-api.md`): OpenAI's, Ollama's and Anthropic's, over one gateway.

mod admin;
mod embed;
mod errors;
mod generate;
mod models;
mod payment;
mod prices;
mod receipts;
mod routing;
mod stream;
mod usage;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, Request, State, rejection::QueryRejection},
    routing::{any, get, patch, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header, uri::Authority};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use types::RequestId;
use wire::api::{ApiError, Dialect, embeddings::Endpoint, ollama, openai};

pub(crate) use self::errors::api_error;
use self::errors::invalid;
use crate::{
    accounts::{KeyId, KeyLimits, key_id},
    error::RequestFailure,
    keyring, metrics,
    payments::X402_KEY,
    random,
    shared::Shared,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const COST: HeaderName = HeaderName::from_static("x-peerwatt-cost-nusd");
pub(crate) const PROVIDER: HeaderName = HeaderName::from_static("x-peerwatt-provider");
pub(crate) const UPSTREAM: HeaderName = HeaderName::from_static("x-peerwatt-upstream");
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-peerwatt-model");

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

type Reply = Response<Body>;

/// The form of what is not an answer to a generation, where the path says nothing else.
const OPENAI: Dialect = Dialect::OpenAi(openai::Kind::Chat);
const OLLAMA: Dialect = Dialect::Ollama(ollama::Kind::Chat);

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let generates = |dialect: Dialect| {
        let answer = move |State(shared): State<Arc<Shared>>, request: Request| {
            generate::generate(shared, dialect, request)
        };
        post(answer).fallback(wrong_method)
    };
    let embeds = |endpoint: Endpoint| {
        let answer = move |State(shared): State<Arc<Shared>>, request: Request| {
            embed::embed(shared, endpoint, request)
        };
        post(answer).fallback(wrong_method)
    };
    Router::new()
        .route("/v1/embeddings", embeds(Endpoint::OpenAi))
        .route("/api/embed", embeds(Endpoint::Ollama))
        .route("/api/embeddings", embeds(Endpoint::OllamaSingle))
        .route("/v1/chat/completions", generates(OPENAI))
        .route("/v1/completions", generates(Dialect::OpenAi(openai::Kind::Text)))
        .route("/v1/responses", generates(Dialect::Responses))
        .route("/v1/messages", generates(Dialect::Anthropic))
        .route("/api/chat", generates(OLLAMA))
        .route("/api/generate", generates(Dialect::Ollama(ollama::Kind::Generate)))
        .route("/v1/models", get(models::list).fallback(wrong_method))
        // Names may hold slashes.
        .route("/v1/models/{*name}", get(models::show).fallback(wrong_method))
        .route("/api/tags", get(models::ollama_tags).fallback(wrong_method))
        .route("/api/ps", get(models::ollama_running).fallback(wrong_method))
        .route("/api/show", post(models::ollama_show).fallback(wrong_method))
        .route("/api/version", get(models::ollama_version).fallback(wrong_method))
        .route("/v1/route", get(routing::explain).fallback(wrong_method))
        .route("/v1/receipts/{id}", get(receipts::show).fallback(wrong_method))
        .route("/v1/receipts/{id}/opening", get(receipts::opening).fallback(wrong_method))
        .route("/v1/prices", get(prices::list).fallback(wrong_method))
        .route("/v1/key", get(usage::key).fallback(wrong_method))
        .route("/v1/usage", get(usage::own).fallback(wrong_method))
        .route("/v1/{*rest}", any(unknown_path))
        .route("/admin/keys", get(admin::list).post(admin::create).fallback(wrong_method))
        .route(
            "/admin/keys/{name}",
            patch(admin::change).delete(admin::revoke).fallback(wrong_method),
        )
        .route("/admin/usage", get(usage::all).fallback(wrong_method))
        .route("/admin/{*rest}", any(unknown_path))
        .route("/api/{*rest}", any(unknown_path))
        .route("/health", get(health).fallback(wrong_method))
        .route("/ready", get(ready).fallback(wrong_method))
        .with_state(shared)
}

/// The dialect whose clients use this path.
fn dialect_of(path: &str) -> Dialect {
    match path {
        path if path.starts_with("/v1/messages") => Dialect::Anthropic,
        path if path.starts_with("/api/") => OLLAMA,
        _ => OPENAI,
    }
}

async fn wrong_method(request: Request) -> Reply {
    let message = format!("{} is not allowed here", request.method());
    let dialect = dialect_of(request.uri().path());
    refuse(dialect, new_id(), &invalid(405, message, None, Some("method_not_allowed")))
}

async fn unknown_path(request: Request) -> Reply {
    let dialect = dialect_of(request.uri().path());
    let path: String = request.uri().path().chars().take(100).collect();
    let message = format!("there is no {path} here; docs/spec/gateway-api.md lists what there is");
    refuse(dialect, new_id(), &invalid(404, message, None, Some("not_found")))
}

/// Whether it runs.
async fn health(State(shared): State<Arc<Shared>>) -> Reply {
    standing(&shared, StatusCode::OK)
}

/// Whether it can answer: it is not stopping, and somebody can be asked.
async fn ready(State(shared): State<Arc<Shared>>) -> Reply {
    let status = if is_ready(&shared) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    standing(&shared, status)
}

fn is_ready(shared: &Shared) -> bool {
    shared.any_ready() && !shared.is_closing() && has_keys(shared)
}

fn has_keys(shared: &Shared) -> bool {
    shared.fleet.as_ref().is_none_or(|fleet| fleet.is_reached())
}

fn standing(shared: &Shared, status: StatusCode) -> Reply {
    let text = match (shared.is_closing(), is_ready(shared)) {
        (true, _) => "stopping",
        (false, true) => "ok",
        (false, false) if !has_keys(shared) => "no database",
        (false, false) => "no provider",
    };
    let body = format!(
        r#"{{"status":"{text}","providers":{},"models":{}}}"#,
        shared.directory.connected().len(),
        shared.models().len()
    );
    json(status, new_id(), body.into())
}

/// Figures for Prometheus; not for everybody, so on a listener of their own.
pub(crate) fn metrics_router(shared: Arc<Shared>) -> Router {
    async fn figures(State(shared): State<Arc<Shared>>) -> Reply {
        let mut reply = Response::new(Body::from(metrics::render(&shared)));
        let format = HeaderValue::from_static(metrics::FORMAT);
        reply.headers_mut().insert(header::CONTENT_TYPE, format);
        reply
    }
    Router::new().route("/metrics", get(figures).fallback(wrong_method)).with_state(shared)
}

/// The key of a request, if it can be used now.
async fn authorize(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    let id = key_of(shared, headers).await?;
    keyring::admits(shared, &id).await.map(|()| id)
}

/// The same for what it says itself: who knows a request's id may read its receipt, if no key paid for it.
async fn authorize_reader(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    let id = reader(shared, headers).await?;
    keyring::admits(shared, &id).await.map(|()| id)
}

/// The key of a request, if it could be used not long ago: [`dispatch::admit`] asks again.
async fn recognize(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    let id = key_of(shared, headers).await?;
    keyring::recognizes(shared, &id).await.map(|()| id)
}

/// What the key of a request may use.
async fn limits_of(shared: &Shared, headers: &HeaderMap) -> Result<KeyLimits, RequestFailure> {
    keyring::limits_of(shared, &reader(shared, headers).await?).await
}

/// The key in whose name something is read that costs nothing: whoever may pay by request needs none for that.
async fn reader(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    match (key_of(shared, headers).await, shared.payments.key()) {
        (Err(RequestFailure::NoKey), Some(key)) => Ok(key),
        (key, _) => key,
    }
}

async fn key_of(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    match bearer(headers)? {
        // Clients that insist on a key are given this word.
        Some(X402_KEY) if shared.payments.key().is_some() => Err(RequestFailure::NoKey),
        // Looked up by digest, so that the time it takes says nothing about keys that exist.
        Some(key) => Ok(key_id(key)),
        None => keyless(shared, headers).await,
    }
}

/// The key in `Authorization: Bearer …`, or in `x-api-key`, where Anthropic's clients put it.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, RequestFailure> {
    let key = match (headers.get(header::AUTHORIZATION), headers.get(API_KEY)) {
        (Some(value), _) => {
            let text = value.to_str().map_err(|_| RequestFailure::BadKey)?;
            let (scheme, key) = text.split_once(' ').ok_or(RequestFailure::NoKey)?;
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err(RequestFailure::NoKey);
            }
            key
        }
        (None, Some(value)) => value.to_str().map_err(|_| RequestFailure::BadKey)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(key.trim()))
}

/// The question after the `?`.
fn question<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    asked.map(|Query(question)| question).map_err(|error| {
        let text = error.body_text();
        let problem = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, why)| why);
        invalid(400, problem.to_owned(), None, None)
    })
}

/// The key that pays for programs of this machine that send none. A browser names the site whose page
/// asks, or the name under which it believes to reach us; only names of this machine will do.
async fn keyless(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    let name = shared.config.keyless.as_deref().filter(|_| is_local(headers));
    let key = keyring::named(shared, name.ok_or(RequestFailure::NoKey)?).await;
    key.map_err(|_| RequestFailure::KeysAway)?.ok_or(RequestFailure::NoKey)
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let host_is_local = host.is_some_and(|host: Authority| is_this_machine(host.host()));
    host_is_local
        && headers.get(header::ORIGIN).is_none_or(|origin| {
            let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
            origin.is_some_and(|origin| origin.host().is_some_and(is_this_machine))
        })
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

async fn read_body(shared: &Shared, body: Body) -> Result<Bytes, ApiError> {
    let bytes_max = shared.config.limits.body_bytes_max;
    let too_large = || {
        let message = format!("the body is larger than the {bytes_max} bytes that are taken");
        invalid(413, message, None, Some("body_too_large"))
    };
    if http_body::Body::size_hint(&body).lower() > u64::try_from(bytes_max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let limit = Duration::from_millis(shared.config.timeouts.body_ms);
    match tokio::time::timeout(limit, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(invalid(400, "the body was cut off".into(), None, None)),
        Err(_) => Err(invalid(408, "the body did not come in time".into(), None, None)),
    }
}

/// A request id. Random, because it names a receipt.
pub(crate) fn new_id() -> RequestId {
    // Without randomness no request is let in; the id of the error is then zero.
    RequestId(random::bytes().unwrap_or_default())
}

fn text_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

fn json(status: StatusCode, id: RequestId, body: Bytes) -> Reply {
    let mut reply = Response::new(Body::from(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REQUEST_ID, text_value(&id.to_string()));
    reply
}

/// An error in the form that clients of this dialect read.
fn refuse(dialect: Dialect, id: RequestId, error: &ApiError) -> Reply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, id, dialect.error(error));
    if let Some(ms) = error.retry_after_ms {
        let seconds = ms.div_ceil(1_000).max(1);
        reply.headers_mut().insert(header::RETRY_AFTER, text_value(&seconds.to_string()));
    }
    reply
}
