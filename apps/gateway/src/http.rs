//! The OpenAI-compatible HTTP API (`docs/spec/gateway-api.md`).

mod stream;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State},
    routing::{any, get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use types::{RequestId, inference::TokenPiece};
use wire::openai::{self, ApiError, Billing, GenerationRequest, Head, Kind, ModelCard, Usage};

use crate::{
    accounts::{KeyId, key_id},
    attempt::{Attempt, Closed, Event, explain},
    dispatch,
    error::{ReceiptLookupError, RequestFailure},
    session::Ending,
    shared::Shared,
    views::ModelView,
};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const COST: HeaderName = HeaderName::from_static("x-peerwatt-cost-nusd");
pub(crate) const PROVIDER: HeaderName = HeaderName::from_static("x-peerwatt-provider");
pub(crate) const MODEL: HeaderName = HeaderName::from_static("x-peerwatt-model");

type Reply = Response<Body>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat).fallback(wrong_method))
        .route("/v1/completions", post(completions).fallback(wrong_method))
        .route("/v1/models", get(list_models).fallback(wrong_method))
        // Names may hold slashes.
        .route("/v1/models/{*name}", get(show_model).fallback(wrong_method))
        .route("/v1/receipts/{id}", get(show_receipt).fallback(wrong_method))
        .route("/v1/{*rest}", any(unknown_path))
        .route("/health", get(health).fallback(wrong_method))
        .with_state(shared)
}

async fn chat(State(shared): State<Arc<Shared>>, request: Request) -> Reply {
    generate(shared, Kind::Chat, request).await
}

async fn completions(State(shared): State<Arc<Shared>>, request: Request) -> Reply {
    generate(shared, Kind::Text, request).await
}

async fn wrong_method(request: Request) -> Reply {
    let message = format!("{} is not allowed here", request.method());
    refuse(new_id(), &invalid(405, message, None, Some("method_not_allowed")))
}

async fn unknown_path(request: Request) -> Reply {
    let path: String = request.uri().path().chars().take(100).collect();
    let message = format!("there is no {path} here; docs/spec/gateway-api.md lists what there is");
    refuse(new_id(), &invalid(404, message, None, Some("not_found")))
}

async fn health(State(shared): State<Arc<Shared>>) -> Reply {
    let ready = shared.directory.any_ready() && !shared.is_closing();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if ready { "ok" } else { "no provider" };
    let body = format!(
        r#"{{"status":"{text}","providers":{},"models":{}}}"#,
        shared.directory.connected().len(),
        shared.directory.models().len()
    );
    json(status, new_id(), body.into())
}

async fn list_models(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Reply {
    let id = new_id();
    match authorize(&shared, &headers) {
        Ok(_) => json(StatusCode::OK, id, openai::models(&cards(&shared))),
        Err(failure) => refuse(id, &api_error(&failure)),
    }
}

async fn show_model(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let id = new_id();
    if let Err(failure) = authorize(&shared, &headers) {
        return refuse(id, &api_error(&failure));
    }
    let model = shared.directory.resolve(&name).map(|resolved| resolved.model);
    let card = cards(&shared).into_iter().find(|card| Some(card.model) == model);
    match card {
        Some(card) => json(StatusCode::OK, id, openai::model(&ModelCard { id: name, ..card })),
        None => refuse(id, &api_error(&dispatch::unknown_model(&shared, name))),
    }
}

/// One card per model that a name leads to; a name that several models claim leads to one of them,
/// the others are listed by their ids.
fn cards(shared: &Shared) -> Vec<ModelCard> {
    let created_s = shared.now().0 / 1_000;
    let card = |view: ModelView| {
        let resolved = shared.directory.resolve(&view.alias);
        let is_meant = resolved.is_some_and(|resolved| resolved.model == view.model);
        ModelCard {
            id: if is_meant { view.alias } else { view.model.to_string() },
            model: view.model,
            created_s,
            providers: view.providers,
            context_tokens: view.context_tokens_max,
            price: view.price_min,
            logprobs: view.logprobs,
        }
    };
    shared.directory.models().into_iter().map(card).collect()
}

async fn show_receipt(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Reply {
    let request_id = new_id();
    let key = match authorize(&shared, &headers) {
        Ok(key) => key,
        Err(failure) => return refuse(request_id, &api_error(&failure)),
    };
    let param = || Some("id".to_owned());
    let Ok(id) = id.parse::<RequestId>() else {
        let message = "a receipt is asked for by its request id, 32 hexadecimal digits".into();
        return refuse(request_id, &invalid(400, message, param(), None));
    };
    // Reading back one record takes microseconds: the file's end is in memory.
    let stored = shared.books.receipt(id, Some(&key));
    let text = stored.map(|stored| serde_json::to_vec(&stored));
    match text {
        Ok(Ok(body)) => json(StatusCode::OK, request_id, body.into()),
        Ok(Err(error)) => refuse(request_id, &internal(error.to_string())),
        Err(error @ ReceiptLookupError::Unknown { .. }) => {
            let code = Some("receipt_not_found");
            refuse(request_id, &invalid(404, error.to_string(), param(), code))
        }
        Err(error) => {
            tracing::error!(%error, "http.receipt");
            refuse(request_id, &internal(error.to_string()))
        }
    }
}

/// Both generating endpoints: read, let in, find a provider, answer.
async fn generate(shared: Arc<Shared>, kind: Kind, request: Request) -> Reply {
    let id = new_id();
    match answer(&shared, kind, id, request).await {
        Ok(reply) => reply,
        Err(Refused::Failure(failure)) => {
            tracing::info!(request = %id, %failure, "http.refused");
            refuse(id, &api_error(&failure))
        }
        Err(Refused::Error(error)) => refuse(id, &error),
    }
}

/// Why there is no answer.
enum Refused {
    Failure(RequestFailure),
    Error(ApiError),
}

impl From<RequestFailure> for Refused {
    fn from(failure: RequestFailure) -> Refused {
        Refused::Failure(failure)
    }
}

async fn answer(
    shared: &Arc<Shared>,
    kind: Kind,
    id: RequestId,
    request: Request,
) -> Result<Reply, Refused> {
    let (parts, body) = request.into_parts();
    let key = authorize(shared, &parts.headers)?;
    let body = read_body(shared, body).await.map_err(Refused::Error)?;
    let GenerationRequest { model, request, stream, include_usage } = openai::parse(kind, &body)
        .map_err(|bad| Refused::Error(invalid(400, bad.message, bad.param, None)))?;
    drop(body);
    let job = dispatch::admit(shared, key, id, model, &request)?;
    let logprobs = request.logprobs.is_some();
    let attempt = dispatch::begin(shared, &job, request).await?;
    if stream {
        let trailers = wants_trailers(&parts.headers);
        return Ok(stream::reply(
            attempt,
            &job,
            kind,
            stream::Wishes { include_usage, logprobs, trailers },
        ));
    }
    plain(attempt, &job, kind, logprobs).await
}

async fn plain(
    mut attempt: Attempt,
    job: &dispatch::Job,
    kind: Kind,
    logprobs: bool,
) -> Result<Reply, Refused> {
    let (mut text, mut pieces) = (String::new(), Vec::<TokenPiece>::new());
    let closed = loop {
        match attempt.event().await {
            Event::Tokens { text: more, pieces: of_it } => {
                text += &more;
                if logprobs {
                    pieces.extend(of_it);
                }
            }
            Event::Closed(closed) => break closed,
        }
    };
    let billing = billing(job, &attempt, &closed);
    let finish = match outcome(&closed) {
        Ok(finish) => finish,
        Err(failure) => {
            // What was delivered before it failed is paid, and the client is told.
            let mut reply = refuse(job.request_id, &api_error(&failure));
            bill(&mut reply, &billing);
            return Ok(reply);
        }
    };
    let head = head(job, kind);
    let pieces = logprobs.then_some(pieces.as_slice());
    let body = openai::completion(head, &text, pieces, finish, usage(&closed));
    let mut reply = json(StatusCode::OK, job.request_id, body);
    bill(&mut reply, &billing);
    Ok(reply)
}

/// The finish reason of an answer that is complete and recorded.
pub(crate) fn outcome(closed: &Closed) -> Result<types::inference::FinishReason, RequestFailure> {
    if let Some(reason) = &closed.unrecorded {
        return Err(RequestFailure::Books { reason: reason.clone() });
    }
    match &closed.closing.ending {
        Ending::Finished(finish) => Ok(*finish),
        ending => Err(RequestFailure::Upstream { reason: explain(ending) }),
    }
}

pub(crate) fn head(job: &dispatch::Job, kind: Kind) -> Head<'_> {
    let created_s = job.started_at.0 / 1_000;
    Head { kind, id: job.request_id, created_s, model: &job.model_name }
}

pub(crate) fn usage(closed: &Closed) -> Usage {
    Usage {
        prompt_tokens: closed.closing.prompt_tokens,
        completion_tokens: closed.closing.delivered,
    }
}

pub(crate) fn billing(job: &dispatch::Job, attempt: &Attempt, closed: &Closed) -> Billing {
    Billing {
        request_id: job.request_id,
        cost: closed.billed,
        provider: attempt.provider(),
        model: job.model,
    }
}

fn bill(reply: &mut Reply, billing: &Billing) {
    let headers = reply.headers_mut();
    headers.insert(COST, text_value(&billing.cost.to_string()));
    headers.insert(PROVIDER, text_value(&billing.provider.to_string()));
    headers.insert(MODEL, text_value(&billing.model.to_string()));
}

/// The key in `Authorization: Bearer …`.
fn authorize(shared: &Shared, headers: &HeaderMap) -> Result<KeyId, RequestFailure> {
    let value = headers.get(header::AUTHORIZATION).ok_or(RequestFailure::NoKey)?;
    let text = value.to_str().map_err(|_| RequestFailure::BadKey)?;
    let (scheme, key) = text.split_once(' ').ok_or(RequestFailure::NoKey)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(RequestFailure::NoKey);
    }
    // Looked up by digest, so that the time it takes says nothing about keys that exist.
    let id = key_id(key.trim());
    if shared.books.knows_key(&id) { Ok(id) } else { Err(RequestFailure::BadKey) }
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

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// A request id. Random, because it names a receipt.
pub(crate) fn new_id() -> RequestId {
    let mut bytes = [0; 16];
    // Without randomness no request is let in; the id of the error is then zero.
    let _ = getrandom::fill(&mut bytes);
    RequestId(bytes)
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

fn refuse(id: RequestId, error: &ApiError) -> Reply {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = json(status, id, error.body());
    if let Some(ms) = error.retry_after_ms {
        let seconds = ms.div_ceil(1_000).max(1);
        reply.headers_mut().insert(header::RETRY_AFTER, text_value(&seconds.to_string()));
    }
    reply
}

fn invalid(
    status: u16,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
) -> ApiError {
    let kind = "invalid_request_error";
    ApiError { status, message, kind, param, code, retry_after_ms: None }
}

fn internal(message: String) -> ApiError {
    let (kind, code) = ("server_error", Some("internal_error"));
    ApiError { status: 500, message, kind, param: None, code, retry_after_ms: None }
}

/// How a failure looks to a client.
pub(crate) fn api_error(failure: &RequestFailure) -> ApiError {
    let message = failure.to_string();
    let model = Some("model".to_owned());
    let error = |status, kind, code| ApiError {
        status,
        message: message.clone(),
        kind,
        param: None,
        code: Some(code),
        retry_after_ms: None,
    };
    match failure {
        RequestFailure::Invalid { param, .. } => invalid(400, message.clone(), param.clone(), None),
        RequestFailure::BadKey | RequestFailure::NoKey => {
            error(401, "invalid_request_error", "invalid_api_key")
        }
        RequestFailure::UnknownModel { .. } => {
            ApiError { param: model, ..error(404, "invalid_request_error", "model_not_found") }
        }
        RequestFailure::TooLong { .. } => {
            error(400, "invalid_request_error", "context_length_exceeded")
        }
        RequestFailure::Budget { .. } => error(402, "insufficient_quota", "insufficient_quota"),
        RequestFailure::TooMany { .. } => ApiError {
            retry_after_ms: Some(1_000),
            ..error(429, "rate_limit_error", "rate_limit_exceeded")
        },
        RequestFailure::Busy { retry_after_ms, .. } => ApiError {
            retry_after_ms: Some(*retry_after_ms),
            ..error(429, "rate_limit_error", "providers_busy")
        },
        RequestFailure::NoProvider { retry_after_ms, .. } => ApiError {
            retry_after_ms: Some(*retry_after_ms),
            param: model,
            ..error(503, "server_error", "no_provider")
        },
        RequestFailure::Upstream { .. } => error(502, "server_error", "provider_failed"),
        RequestFailure::Books { .. } => error(500, "server_error", "books_failed"),
        RequestFailure::Closing => {
            ApiError { retry_after_ms: Some(5_000), ..error(503, "server_error", "shutting_down") }
        }
    }
}
