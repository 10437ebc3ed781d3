//! A service outside the network at the other end: an engine that is called, and signs nothing.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use engine::{EngineError, EngineEvent, Events, Generation, STREAM_EVENTS_MAX};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::inference::{FinishReason, InferenceRequest, TokenPiece};
use wire::serve::Refusal;

use crate::{
    session::Input,
    upstreams::{Called, UpstreamSlot},
};

/// For a service that is busy and does not say for how long.
const BUSY_MS: u64 = 1_000;

type Starting = Pin<Box<dyn Future<Output = Result<Generation, EngineError>> + Send>>;

/// See the module.
pub(crate) struct UpstreamLine {
    /// Name and model, for the receipt.
    pub(crate) slot: UpstreamSlot,
    /// Its tokens come all at once.
    pub(super) is_whole: bool,
    phase: Phase,
    /// Taken in one go.
    events: Vec<EngineEvent>,
    /// Said next, before anything else is listened to.
    next: Option<Input>,
    /// Stops the service when it is dropped.
    stop: Option<DropGuard>,
}

enum Phase {
    Starting(Starting),
    Answering(Events),
    Over,
}

impl UpstreamLine {
    /// Calls the service, when it is first listened to. `is_whole`: it may give all tokens at once.
    pub(crate) fn call(called: Called, request: InferenceRequest, is_whole: bool) -> UpstreamLine {
        let Called { slot, engine, model } = called;
        let cancel = CancellationToken::new();
        let stop = cancel.clone().drop_guard();
        let starting = async move {
            match is_whole {
                true => engine.answer_whole(model, request, cancel).await,
                false => engine.generate(model, request, cancel).await,
            }
        };
        UpstreamLine {
            slot,
            is_whole,
            phase: Phase::Starting(Box::pin(starting)),
            events: Vec::new(),
            next: None,
            stop: Some(stop),
        }
    }

    /// Ends it: nothing more is wanted.
    pub(super) fn cancel(&mut self) {
        self.stop = None;
        self.phase = Phase::Over;
        self.next = Some(Input::Ended);
    }

    /// What it says next.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Input> {
        if let Some(next) = self.next.take() {
            return Poll::Ready(next);
        }
        let input = match &mut self.phase {
            Phase::Starting(starting) => match ready!(starting.as_mut().poll(cx)) {
                Ok(generation) => {
                    self.phase = Phase::Answering(generation.events);
                    Input::Accepted { prompt_tokens: None }
                }
                Err(error) => {
                    self.phase = Phase::Over;
                    // What it says of a key may show a part of it.
                    let reason = match &error {
                        EngineError::Refused { status, .. } => format!("it answered {status}"),
                        error => error.to_string(),
                    };
                    tracing::info!(upstream = %self.slot.name(), reason, "upstream.refused");
                    Input::Refused(refusal_of(&error))
                }
            },
            Phase::Answering(events) => {
                ready!(events.poll_recv_many(cx, &mut self.events, STREAM_EVENTS_MAX));
                self.heard()
            }
            Phase::Over => return Poll::Pending,
        };
        Poll::Ready(input)
    }

    /// Whether it has nothing more to say, and the task that asked last is woken when it has.
    pub(super) fn is_waited_for(&self) -> bool {
        match &self.phase {
            Phase::Answering(events) => self.next.is_none() && events.are_waited_for(),
            Phase::Starting(_) | Phase::Over => false,
        }
    }

    /// The tokens that are ready together, and the end if that is among them.
    fn heard(&mut self) -> Input {
        let mut pieces: Vec<TokenPiece> = Vec::with_capacity(self.events.len());
        let mut done = None;
        for event in self.events.drain(..) {
            match event {
                EngineEvent::Token(piece) => pieces.push(piece),
                EngineEvent::Done { finish, usage } => {
                    done = Some(Input::Done {
                        finish,
                        prompt_tokens: usage.prompt_tokens,
                        completion_tokens: usage.completion_tokens,
                    });
                }
                EngineEvent::Failed { reason } => {
                    tracing::info!(upstream = %self.slot.name(), %reason, "upstream.failed");
                    let finish = FinishReason::Failed;
                    done =
                        Some(Input::Done { finish, prompt_tokens: None, completion_tokens: None });
                }
            }
        }
        if pieces.is_empty() && done.is_none() {
            // The stream ended without a last word.
            done = Some(Input::Ended);
        }
        if done.is_some() {
            self.phase = Phase::Over;
        }
        if pieces.is_empty() {
            return done.unwrap_or(Input::Ended);
        }
        self.next = done;
        Input::Delta { pieces, prompt_tokens: None }
    }
}

/// Why a service does not begin, in the words that providers have for it.
fn refusal_of(error: &EngineError) -> Refusal {
    let request = |problem: String| Refusal::Request { field: "request".into(), problem };
    match error {
        EngineError::Busy { .. } => Refusal::Busy { retry_after_ms: BUSY_MS },
        EngineError::Refused { status: 429, retry_after_ms, .. } => {
            Refusal::Busy { retry_after_ms: retry_after_ms.unwrap_or(BUSY_MS) }
        }
        EngineError::Refused { status: 400 | 413 | 422, message, .. } => request(message.clone()),
        EngineError::UnknownModel { .. } | EngineError::Unlisted { .. } => Refusal::UnknownModel,
        EngineError::BadRequest { reason } => request(reason.clone()),
        EngineError::ContextFull { .. }
        | EngineError::Unsupported { .. }
        | EngineError::Lacking { .. } => request(error.to_string()),
        EngineError::Unreachable { .. }
        | EngineError::Refused { .. }
        | EngineError::Protocol { .. }
        | EngineError::Model { .. }
        | EngineError::Failed { .. } => Refusal::Engine,
    }
}
