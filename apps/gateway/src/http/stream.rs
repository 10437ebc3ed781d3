//! Streamed answers as a body that drives the attempt: polling it polls the provider's stream, so
//! that chunks which are ready together leave in one write, and a client that leaves drops it all.
//!
//! A chunk that follows another within [`GATHER`] waits for those behind it. Nothing is read of the answer until then, so
//! neither the reader nor the client is woken for each of them. No model writes so fast, but a cache does, and what was held
//! up on its way. The first chunk, and one that comes at the pace of a model, leaves at once.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use tokio::time::{Instant, Sleep};
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
    turn::Turn,
};

/// Chunks gathered into one write.
const WRITE_BYTES_MAX: usize = 32 * 1024;

/// From one write of a stream to the next, unless more is ready right after the first. The clock of timers has steps of a
/// millisecond, so it may take two.
const GATHER: Duration = Duration::from_millis(1);

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
    turn: Option<Turn>,
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
        pace: Pace::default(),
        turn,
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
    pace: Pace,
    /// Of the connection that it is written to.
    turn: Option<Turn>,
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
        if this.turn.as_ref().is_some_and(Turn::is_waited_for) {
            this.pace.nothing_ready();
            return Poll::Pending;
        }
        // A search is not made to wait for more chunks: it has none.
        if !this.answering.as_ref().is_some_and(Answering::is_searching) {
            ready!(this.pace.poll_due(cx));
        }
        let mut out = BytesMut::new();
        while out.len() < WRITE_BYTES_MAX {
            let Some(answering) = &mut this.answering else { break };
            match answering.poll_part(cx) {
                Poll::Ready(Part::Text { text, pieces }) => {
                    let is_last = answering.is_waited_for(cx);
                    this.tokens(&mut out, &text, &pieces);
                    if is_last && !out.is_empty() {
                        this.turn.iter().for_each(Turn::wait);
                        break;
                    }
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
                Poll::Pending if out.is_empty() => {
                    this.pace.nothing_ready();
                    return Poll::Pending;
                }
                Poll::Pending => {
                    this.turn.iter().for_each(Turn::wait);
                    break;
                }
            }
        }
        if !out.is_empty() {
            this.pace.wrote();
            return Poll::Ready(Some(Ok(Frame::data(out.freeze()))));
        }
        Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.answering.is_none() && self.trailers.is_none()
    }
}

/// When more of an answer is looked for.
#[derive(Default)]
struct Pace {
    /// Not before, once nothing was ready behind the last write.
    due: Option<Instant>,
    gathering: bool,
    /// Whoever writes goes on until nothing is ready.
    is_writing: bool,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn wrote(&mut self) {
        self.due = Some(Instant::now() + GATHER);
        self.is_writing = true;
    }

    fn nothing_ready(&mut self) {
        self.is_writing = false;
    }

    /// Ready when it is time to look. Asked again before that only because something has come.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due.filter(|_| !self.is_writing) else { return Poll::Ready(()) };
        if !self.gathering && Instant::now() < due {
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
            }
            self.gathering = true;
        }
        if let Some(timer) = self.timer.as_mut().filter(|_| self.gathering) {
            ready!(timer.as_mut().poll(cx));
        }
        (self.due, self.gathering) = (None, false);
        Poll::Ready(())
    }
}
