//! Generating, whatever the dialect.

use std::sync::Arc;

use axum::extract::Request;
use http::{HeaderMap, StatusCode, header};
use types::{RequestId, inference::TokenPiece, tools::ToolCall};
use wire::api::{Answer, ApiError, BadRequest, Billing, Dialect, GenerationRequest, Head, ollama};

use super::{
    COST, MODEL, PROVIDER, Reply, UPSTREAM, api_error,
    errors::invalid,
    json,
    payment::{self, Given, REQUIRED},
    read_body, refuse, routing, stream, text_value,
};
use crate::{
    accounts::KeyId,
    answering::{Answering, Part},
    dispatch::{self, Needs},
    error::RequestFailure,
    metrics::Measured,
    shared::{Shared, millis},
    traces::RequestSpan,
};

/// Every endpoint that generates: read, let in, find a provider, answer.
pub(super) async fn generate(shared: Arc<Shared>, dialect: Dialect, request: Request) -> Reply {
    let (paid, id) = payment::given(&shared, request.headers());
    let measured = Measured::begin(&shared, dialect.into(), id, request.headers());
    match answer(&shared, dialect, (id, paid), request, &measured).await {
        Ok(reply) => reply,
        Err(refused) => refused.tell(dialect, id, &measured),
    }
}

/// Why there is no answer.
pub(super) enum Refused {
    Failure(RequestFailure),
    Error(ApiError),
    /// For want of a payment, with the header that says how to pay.
    Payment(ApiError, String),
}

impl Refused {
    /// Counts it and tells the client.
    pub(super) fn tell(self, dialect: Dialect, id: RequestId, measured: &Measured) -> Reply {
        let mut required = None;
        let error = match self {
            Refused::Failure(failure) => {
                tracing::info!(request = %id, %failure, "http.refused");
                api_error(&failure)
            }
            Refused::Error(error) => error,
            Refused::Payment(error, header) => {
                required = Some(header);
                error
            }
        };
        measured.failed(error.code.unwrap_or(error.kind));
        let mut reply = refuse(dialect, id, &error);
        if let Some(required) = required {
            reply.headers_mut().insert(REQUIRED, text_value(&required));
        }
        reply
    }
}

impl From<BadRequest> for Refused {
    fn from(bad: BadRequest) -> Refused {
        Refused::Error(invalid(400, bad.message, bad.param, None))
    }
}

impl From<RequestFailure> for Refused {
    fn from(failure: RequestFailure) -> Refused {
        Refused::Failure(failure)
    }
}

async fn answer(
    shared: &Arc<Shared>,
    dialect: Dialect,
    (id, paid): (RequestId, Given),
    request: Request,
    measured: &Measured,
) -> Result<Reply, Refused> {
    let (parts, body) = request.into_parts();
    let caller = payment::caller(shared, &parts.headers, paid).await?;
    let body = read_body(shared, body).await.map_err(Refused::Error)?;
    let asked = match dialect {
        Dialect::Ollama(kind) => match ollama::parse(kind, &body)? {
            ollama::Asked::Generation(asked) => *asked,
            ollama::Asked::Loading { model } => {
                let reply = loaded(shared, caller.key(), kind, id, model).await?;
                measured.answered(0);
                return Ok(reply);
            }
        },
        Dialect::OpenAi(_) | Dialect::Responses | Dialect::Anthropic => dialect.parse(&body)?,
    };
    let hash = caller.request_hash(parts.uri.path(), &body);
    drop(body);
    let GenerationRequest { model, request, stream, include_usage, context_tokens_min } = asked;
    let logprobs = request.logprobs.is_some();
    if let Some(span) = measured.span() {
        span.asked(&model, &request, stream);
    }
    let place = measured.span().map(RequestSpan::place);
    let needs = routing::needs(&parts.headers)?;
    let needs = Needs { context_tokens_min, place, whole: !stream, ..needs };
    let asked = (parts.uri.path(), hash);
    let (payer, quote) = caller.payer(shared, asked, &model, &request, &needs).await?;
    let refused = |failure| payment::refused(shared, quote.as_ref(), failure);
    let job = dispatch::admit(shared, payer, id, model, &request, needs).await.map_err(refused)?;
    let answering = Answering::begin(shared, &job, request).await.map_err(refused)?;
    if stream {
        let trailers = wants_trailers(&parts.headers);
        let wishes = stream::Wishes { include_usage, logprobs, trailers };
        let turn = parts.extensions.get().cloned();
        return Ok(stream::reply(answering, &job, dialect, wishes, turn, measured.clone()));
    }
    plain(answering, &job, dialect, logprobs, measured).await
}

/// Whatever is offered is loaded where it is needed.
async fn loaded(
    shared: &Shared,
    key: &KeyId,
    kind: ollama::Kind,
    id: RequestId,
    model: String,
) -> Result<Reply, Refused> {
    dispatch::known_model(shared, key, &model).await?;
    let head = Head { id, created: shared.now(), model: &model };
    Ok(json(StatusCode::OK, id, ollama::loaded(kind, head)))
}

async fn plain(
    mut answering: Answering,
    job: &dispatch::Job,
    dialect: Dialect,
    logprobs: bool,
    measured: &Measured,
) -> Result<Reply, Refused> {
    let (mut text, mut pieces) = (String::new(), Vec::<TokenPiece>::new());
    let mut calls = Vec::<ToolCall>::new();
    let ended = loop {
        match answering.part().await {
            Part::Text { text: more, pieces: of_it } => {
                measured.text();
                text += &more;
                if logprobs {
                    pieces.extend(of_it);
                }
            }
            Part::Call(call) => {
                measured.text();
                calls.push(call);
            }
            Part::Arguments { text } => {
                if let Some(call) = calls.last_mut() {
                    call.arguments += &text;
                }
            }
            Part::Continued { .. } | Part::Vectors(_) => {}
            Part::Ended(ended) => break *ended,
        }
    };
    let (usage, billing) = (ended.usage, ended.billing);
    if let Some(span) = measured.span() {
        let finish = ended.outcome.as_ref().ok().map(|finish| (*finish, ended.has_calls));
        span.closed(usage, &billing, finish);
    }
    let finish = match ended.outcome {
        Ok(finish) => finish,
        Err(failure) => {
            return Ok(broken(&failure, dialect, job, &billing, measured));
        }
    };
    measured.answered(usage.completion_tokens);
    let answer = Answer {
        text: &text,
        pieces: logprobs.then_some(pieces.as_slice()),
        calls: &calls,
        finish,
        usage,
        billing: &billing,
        first_token_ms: millis(measured.first_text()),
        total_ms: millis(measured.elapsed()),
    };
    let body = dialect.answer(head(job), &answer);
    let mut reply = json(StatusCode::OK, job.request_id, body);
    bill(&mut reply, job, &billing);
    Ok(reply)
}

/// What was delivered before it failed is paid, and the client is told.
pub(super) fn broken(
    failure: &RequestFailure,
    dialect: Dialect,
    job: &dispatch::Job,
    billing: &Billing,
    measured: &Measured,
) -> Reply {
    let error = api_error(failure);
    measured.failed(error.code.unwrap_or(error.kind));
    let mut reply = refuse(dialect, job.request_id, &error);
    bill(&mut reply, job, billing);
    reply
}

pub(super) fn head(job: &dispatch::Job) -> Head<'_> {
    Head { id: job.request_id, created: job.started_at, model: &job.model_name }
}

pub(super) fn bill(reply: &mut Reply, job: &dispatch::Job, billing: &Billing) {
    payment::tell(reply, job, Some(billing.cost));
    let headers = reply.headers_mut();
    headers.insert(COST, text_value(&billing.cost.to_string()));
    headers.insert(PROVIDER, text_value(&billing.provider.to_string()));
    if let Some(upstream) = &billing.upstream {
        headers.insert(UPSTREAM, text_value(upstream));
    }
    headers.insert(MODEL, text_value(&billing.model.to_string()));
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}
