//! Vectors of texts. They are given whole: until the last one is there, a failing provider is replaced unseen.

use std::{convert::Infallible, sync::Arc};

use axum::{body::Body, extract::Request};
use futures::stream;
use http::StatusCode;
use types::RequestId;
use wire::api::{
    Head, Usage,
    embeddings::{self, Answer, Asked, EmbeddingRequest, Endpoint},
};

use super::{
    Reply,
    generate::{Refused, bill, broken, head},
    json,
    payment::{self, Given},
    read_body, routing,
};
use crate::{
    answering::{Answering, Part},
    dispatch::{self, Needs},
    metrics::Measured,
    shared::{Shared, millis},
    traces::RequestSpan,
};

/// Every endpoint that embeds.
pub(super) async fn embed(shared: Arc<Shared>, endpoint: Endpoint, request: Request) -> Reply {
    let (paid, id) = payment::given(&shared, request.headers());
    let measured = Measured::begin(&shared, endpoint.into(), id, request.headers());
    match answer(&shared, endpoint, (id, paid), request, &measured).await {
        Ok(reply) => reply,
        Err(refused) => refused.tell(endpoint.dialect(), id, &measured),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    endpoint: Endpoint,
    (id, paid): (RequestId, Given),
    request: Request,
    measured: &Measured,
) -> Result<Reply, Refused> {
    let (parts, body) = request.into_parts();
    let caller = payment::caller(shared, &parts.headers, paid).await?;
    let body = read_body(shared, body).await.map_err(Refused::Error)?;
    let asked = match embeddings::parse(endpoint, &body)? {
        Asked::Embeddings(asked) => *asked,
        Asked::Loading { model } => {
            dispatch::known_model(shared, caller.key(), &model).await?;
            measured.answered(0);
            let head = Head { id, created: shared.now(), model: &model };
            return Ok(json(StatusCode::OK, id, embeddings::loaded(endpoint, head)));
        }
    };
    let hash = caller.request_hash(parts.uri.path(), &body);
    drop(body);
    let EmbeddingRequest { model, request, encoding, context_tokens_min } = asked;
    if let Some(span) = measured.span() {
        span.asked(&model, &request, false);
    }
    let place = measured.span().map(RequestSpan::place);
    let needs = routing::needs(&parts.headers)?;
    // Half of the vectors are nothing to race with.
    let needs = Needs { context_tokens_min, place, hedges: false, ..needs };
    let asked = (parts.uri.path(), hash);
    let (payer, quote) = caller.payer(shared, asked, &model, &request, &needs).await?;
    let refused = |failure| payment::refused(shared, quote.as_ref(), failure);
    let job = dispatch::admit(shared, payer, id, model, &request, needs).await.map_err(refused)?;
    let mut answering = Answering::begin(shared, &job, request).await.map_err(refused)?;
    let mut vectors = Vec::new();
    let ended = loop {
        match answering.part().await {
            Part::Vectors(all) => vectors = all,
            // Sessions let nothing else through.
            Part::Text { .. } | Part::Call(_) | Part::Arguments { .. } => {}
            Part::Continued { .. } => {}
            Part::Ended(ended) => break *ended,
        }
    };
    let billing = ended.billing;
    // Vectors are counted on the receipt, but they are no tokens.
    let usage = Usage { completion_tokens: 0, ..ended.usage };
    if let Some(span) = measured.span() {
        span.closed(usage, &billing, None);
    }
    if let Err(failure) = ended.outcome {
        return Ok(broken(&failure, endpoint.dialect(), &job, &billing, measured));
    }
    measured.answered(0);
    let total_ms = millis(measured.elapsed());
    let answer =
        Answer { encoding, prompt_tokens: usage.prompt_tokens, billing: &billing, total_ms };
    let parts = embeddings::Body::new(endpoint, head(&job), &answer, vectors);
    let mut reply = json(StatusCode::OK, id, bytes::Bytes::new());
    *reply.body_mut() = Body::from_stream(stream::iter(parts.map(Ok::<_, Infallible>)));
    bill(&mut reply, &job, &billing);
    Ok(reply)
}
