//! Streamed answers as a body that drives the attempt: polling it polls the provider's stream, so
//! that chunks which are ready together leave in one write, and a client that leaves drops it all.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use types::inference::TokenPiece;
use wire::api::{Answer, Billing, Dialect, StreamWriter};

use super::{
    COST, MODEL, PROVIDER, REQUEST_ID, Reply, UPSTREAM, api_error, generate::head, payment,
    text_value,
};
use crate::{
    answering::{Answering, Ended, Part},
    dispatch::Job,
    metrics::Measured,
    shared::millis,
};

/// Chunks gathered into one write.
const WRITE_BYTES_MAX: usize = 32 * 1024;

/// What the client asked to have in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes {
    pub include_usage: bool,
    pub logprobs: bool,
    pub trailers: bool,
}

pub(super) fn reply(
    answering: Answering,
    job: &Arc<Job>,
    dialect: Dialect,
    wishes: Wishes,
    measured: Measured,
) -> Reply {
    let provider = text_value(&answering.provider().to_string());
    let upstream = answering.upstream().map(|name| text_value(&name));
    let body = EventStream {
        writer: StreamWriter::new(dialect, head(job), wishes.include_usage),
        answering: Some(answering),
        wishes,
        begun: false,
        measured,
        trailers: None,
    };
    let mut reply = Reply::new(Body::new(body));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(dialect.stream_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(REQUEST_ID, text_value(&job.request_id.to_string()));
    headers.insert(PROVIDER, provider);
    if let Some(upstream) = upstream {
        headers.insert(UPSTREAM, upstream);
    }
    headers.insert(MODEL, text_value(&job.model.to_string()));
    if wishes.trailers {
        headers.insert(header::TRAILER, HeaderValue::from_name(COST));
    }
    payment::tell(&mut reply, job, None);
    reply
}

struct EventStream {
    /// `None` once it has ended.
    answering: Option<Answering>,
    writer: StreamWriter,
    wishes: Wishes,
    begun: bool,
    measured: Measured,
    trailers: Option<HeaderMap>,
}

impl EventStream {
    fn begin(&mut self, out: &mut BytesMut) {
        if !self.begun {
            self.begun = true;
            self.writer.begin(out);
        }
    }

    fn tokens(&mut self, out: &mut BytesMut, text: &str, pieces: &[TokenPiece]) {
        self.measured.text();
        self.begin(out);
        self.writer.text(out, text, self.wishes.logprobs.then_some(pieces));
    }

    fn end(&mut self, out: &mut BytesMut, ended: Ended) {
        let Ended { outcome, has_calls, usage, billing } = ended;
        if let Some(span) = self.measured.span() {
            let finish = outcome.as_ref().ok().map(|finish| (*finish, has_calls));
            span.closed(usage, &billing, finish);
        }
        match outcome {
            Ok(finish) => {
                self.measured.answered(usage.completion_tokens);
                self.begin(out);
                let answer = Answer {
                    text: "",
                    pieces: None,
                    calls: &[],
                    finish,
                    usage,
                    billing: &billing,
                    first_token_ms: millis(self.measured.first_text()),
                    total_ms: millis(self.measured.elapsed()),
                };
                self.writer.end(out, &answer);
            }
            Err(failure) => {
                let error = api_error(&failure);
                self.measured.failed(error.code.unwrap_or(error.kind));
                self.writer.fail(out, &error, &billing);
            }
        }
        if self.wishes.trailers {
            self.trailers = Some(trailers(&billing));
        }
    }
}

fn trailers(billing: &Billing) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(COST, text_value(&billing.cost.to_string()));
    trailers
}

impl http_body::Body for EventStream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        let mut out = BytesMut::new();
        while out.len() < WRITE_BYTES_MAX {
            let Some(answering) = &mut this.answering else { break };
            match answering.poll_part(cx) {
                Poll::Ready(Part::Text { text, pieces }) => {
                    this.tokens(&mut out, &text, &pieces);
                }
                Poll::Ready(Part::Call(call)) => {
                    this.measured.text();
                    this.begin(&mut out);
                    this.writer.call(&mut out, call);
                }
                Poll::Ready(Part::Arguments { text }) => this.writer.arguments(&mut out, &text),
                // Not of what is streamed.
                Poll::Ready(Part::Vectors(_)) => {}
                Poll::Ready(Part::Continued { by }) => this.writer.continued(&mut out, by),
                Poll::Ready(Part::Ended(ended)) => {
                    this.answering = None;
                    this.end(&mut out, *ended);
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if !out.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.answering.is_none() && self.trailers.is_none()
    }
}
