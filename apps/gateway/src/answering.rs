//! An answer as its client gets it: of one provider, or of others that go on where one has failed.
//!
//! Going on is possible because the delivered text and the ids of its tokens are known here, and every
//! provider of a model has the same weights: the next one reads prompt and beginning, and makes the
//! rest. Each is paid for what it delivered. The client pays for the tokens it got and for its prompt once:
//! that the prompt was read again is the gateway's loss.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use types::{
    Address, Nusd,
    inference::{Begun, FinishReason, InferenceRequest, TokenPiece},
    limits,
    tools::ToolCall,
};
use wire::api::{Billing, Usage};

use crate::{
    attempt::{Attempt, Closed, Event, explain},
    dispatch::{self, Job, Since},
    error::RequestFailure,
    session::Ending,
    shared::Shared,
};

/// Times that an answer is gone on with. Whoever is that unlucky is told.
const CONTINUATIONS_MAX: usize = 2;

/// What the client is given next.
#[derive(Debug)]
pub(crate) enum Part {
    /// At least one character, and the tokens it was made of.
    Text { text: String, pieces: Vec<TokenPiece> },
    /// A call of a tool begins; so far without arguments.
    Call(ToolCall),
    /// More of its arguments; at least one character.
    Arguments { text: String },
    /// All that were asked for; little-endian 32-bit floats.
    Vectors(Vec<Bytes>),
    /// What comes now is another provider's.
    Continued { by: Address },
    /// The books are closed. The last part.
    Ended(Box<Ended>),
}

/// How an answer ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The finish reason of one that is complete and recorded.
    pub outcome: Result<FinishReason, RequestFailure>,
    /// Tools were called.
    pub has_calls: bool,
    pub usage: Usage,
    pub billing: Billing,
}

type Search = Pin<Box<dyn Future<Output = Result<Attempt, RequestFailure>> + Send>>;

/// See the module. Dropped, it stops whoever is at work.
pub(crate) struct Answering {
    shared: Arc<Shared>,
    job: Arc<Job>,
    state: State,
    /// As the client sent it, while another provider may go on with it.
    request: Option<InferenceRequest>,
    /// Bytes of answer that fit into a request behind its prompt.
    room: usize,
    begun: Begun,
    /// Whether the ids in `begun` are those of all tokens.
    ids_known: bool,
    /// Who failed on the way.
    failed: Vec<Address>,
    provider: Address,
    prompt_tokens: Option<u32>,
    completion_tokens: u32,
    /// Of tools.
    calls: u32,
    cost: Nusd,
}

enum State {
    Attempt(Attempt),
    /// Looking for somebody to go on, and what to say if there is nobody.
    Searching(Search, RequestFailure),
    Over,
}

impl std::fmt::Debug for Answering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answering").field("job", &self.job).finish_non_exhaustive()
    }
}

impl Answering {
    /// Finds a provider and waits for the first piece of its answer.
    pub(crate) async fn begin(
        shared: &Arc<Shared>,
        job: &Arc<Job>,
        request: InferenceRequest,
    ) -> Result<Answering, RequestFailure> {
        let attempt = dispatch::begin(shared, job, &request, Since::default()).await?;
        let room = limits::PROMPT_BYTES_MAX.saturating_sub(request.text_bytes());
        Ok(Answering {
            shared: Arc::clone(shared),
            job: Arc::clone(job),
            provider: attempt.provider(),
            state: State::Attempt(attempt),
            request: job.may_continue().then_some(request),
            room,
            begun: Begun::default(),
            ids_known: true,
            failed: Vec::new(),
            prompt_tokens: None,
            completion_tokens: 0,
            calls: 0,
            cost: Nusd::ZERO,
        })
    }

    /// The service outside the network that answers now, if it is one.
    pub(crate) fn upstream(&self) -> Option<Arc<str>> {
        self.shared.upstreams.name_of(&self.provider)
    }

    /// Who answers now.
    pub(crate) fn provider(&self) -> Address {
        self.provider
    }

    /// Nobody answers now, and somebody is looked for to go on.
    pub(crate) fn is_searching(&self) -> bool {
        matches!(self.state, State::Searching(..))
    }

    /// The next part. Not to be asked for after the last.
    pub(crate) async fn part(&mut self) -> Part {
        std::future::poll_fn(|cx| self.poll_part(cx)).await
    }

    pub(crate) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Part> {
        loop {
            match &mut self.state {
                State::Attempt(attempt) => match ready!(attempt.poll_event(cx)) {
                    Event::Tokens { text, pieces } => {
                        self.note(&text, &pieces);
                        return Poll::Ready(Part::Text { text, pieces });
                    }
                    Event::Call { name } => {
                        let call =
                            ToolCall { id: self.next_call(), name, arguments: String::new() };
                        return Poll::Ready(Part::Call(call));
                    }
                    Event::Arguments { text } => return Poll::Ready(Part::Arguments { text }),
                    Event::Vectors(vectors) => return Poll::Ready(Part::Vectors(vectors)),
                    Event::Closed(closed) => {
                        if let Some(ended) = self.closed(&closed) {
                            return Poll::Ready(ended);
                        }
                    }
                },
                State::Searching(search, failure) => match ready!(search.as_mut().poll(cx)) {
                    Ok(attempt) => {
                        self.provider = attempt.provider();
                        self.state = State::Attempt(attempt);
                        self.shared.metrics.continued(true);
                        return Poll::Ready(Part::Continued { by: self.provider });
                    }
                    Err(_) => {
                        let failure = failure.clone();
                        self.shared.metrics.continued(false);
                        return Poll::Ready(self.end(Err(failure)));
                    }
                },
                State::Over => return Poll::Pending,
            }
        }
    }

    /// Whether there is nothing more after the last part, and the task of `cx`, which asked for that, is woken when there is. `false` where
    /// that is not known.
    pub(crate) fn is_waited_for(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.state {
            State::Attempt(attempt) => attempt.is_waited_for(cx),
            State::Searching(..) | State::Over => false,
        }
    }

    /// An id that no other call has: of the request, and its number.
    fn next_call(&mut self) -> String {
        const ID_CHARS: usize = 20;
        let id = self.job.request_id.to_string();
        let number = self.calls;
        self.calls += 1;
        format!("call_{}_{number}", id.get(..ID_CHARS).unwrap_or(&id))
    }

    fn note(&mut self, text: &str, pieces: &[TokenPiece]) {
        if self.request.is_none() {
            return;
        }
        if self.begun.text.len().saturating_add(text.len()) > self.room {
            // More than a request may hold: nobody could be given it.
            self.request = None;
            self.begun = Begun::default();
            return;
        }
        self.begun.text.push_str(text);
        self.begun.ids.extend(pieces.iter().filter_map(|piece| piece.id));
        self.ids_known &= pieces.iter().all(|piece| piece.id.is_some());
    }

    /// The end, unless somebody is to go on.
    fn closed(&mut self, closed: &Closed) -> Option<Part> {
        self.prompt_tokens.get_or_insert(closed.closing.prompt_tokens);
        self.completion_tokens = self.completion_tokens.saturating_add(closed.given);
        self.cost = self.cost.saturating_add(closed.billed);
        let failure = match (&closed.unrecorded, &closed.closing.ending) {
            (Some(reason), _) => RequestFailure::Books { reason: reason.clone() },
            (None, Ending::Finished(finish)) => return Some(self.end(Ok(*finish))),
            (None, ending) => RequestFailure::Upstream { reason: explain(ending) },
        };
        // Whether a service outside the network has the weights that others have, nobody knows.
        let is_failure =
            matches!(closed.closing.ending, Ending::Failed(_)) && self.upstream().is_none();
        let request = self.request.as_ref().filter(|_| {
            let fresh = self.failed.len() < CONTINUATIONS_MAX && closed.unrecorded.is_none();
            let worth_it = fresh && self.shared.books.may_lose(&self.job.key, &self.job.request_id);
            is_failure && worth_it && !self.begun.text.is_empty()
        });
        let Some(request) = request else { return Some(self.end(Err(failure))) };
        let tokens_max = request.tokens_max.map(|max| max.saturating_sub(self.completion_tokens));
        if tokens_max == Some(0) {
            // It failed after the last token.
            return Some(self.end(Ok(FinishReason::Length)));
        }
        let ids = if self.ids_known { self.begun.ids.clone() } else { Vec::new() };
        let begun = Some(Begun { text: self.begun.text.clone(), ids });
        let request = InferenceRequest { tokens_max, begun, ..request.clone() };
        self.failed.push(self.provider);
        let is_last = self.failed.len() >= CONTINUATIONS_MAX;
        let since = Since::failed(self.failed.clone(), is_last);
        let (shared, job) = (Arc::clone(&self.shared), Arc::clone(&self.job));
        tracing::info!(request = %job.request_id, provider = %self.provider, %failure, "answering.continue");
        let search = Box::pin(async move { dispatch::begin(&shared, &job, &request, since).await });
        self.state = State::Searching(search, failure);
        None
    }

    fn end(&mut self, outcome: Result<FinishReason, RequestFailure>) -> Part {
        self.state = State::Over;
        // If nobody went on, the one that failed is not an earlier one.
        let mut earlier = std::mem::take(&mut self.failed);
        earlier.retain(|provider| *provider != self.provider);
        let billing = Billing {
            request_id: self.job.request_id,
            cost: self.cost,
            provider: self.provider,
            upstream: self.upstream().map(|name| name.as_ref().to_owned()),
            earlier,
            model: self.job.model,
        };
        let usage = Usage {
            prompt_tokens: self.prompt_tokens.unwrap_or_default(),
            completion_tokens: self.completion_tokens,
        };
        let has_calls = self.calls > 0;
        Part::Ended(Box::new(Ended { outcome, has_calls, usage, billing }))
    }
}
