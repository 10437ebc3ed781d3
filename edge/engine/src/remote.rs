//! What the engines behind HTTP share: requests with limits, and the pump from a response to events.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, atomic::AtomicU32},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use reqwest::{RequestBuilder, StatusCode, header::RETRY_AFTER};
use serde::{Serialize, de::DeserializeOwned};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use types::{
    inference::{Begun, CountMethod, FinishReason, InferenceRequest, Span, TokenPiece},
    limits,
    tools::Tools,
};
use wire::upstream::openai::{Function, ServerError, Tool};

use crate::{
    EngineError, EngineEvent, Events, Generation, Usage,
    active::Active,
    events::PollEvents,
    lines::LineTooLong,
    plain::{PlainBody, PlainError},
    stop::{Step, StopMachine},
};

/// To a machine that is up, a connection takes a fraction of this.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For questions that need no computation. Answers have no limit here: whoever reads the stream
/// knows how long it will wait.
pub(crate) const QUESTION_TIMEOUT: Duration = Duration::from_secs(15);
/// A model's description with its licence and template is about 100 KiB, a whole answer of 131 072 tokens about 1 MiB.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Chunks that may come before it is looked whether their answer is cancelled.
const CHUNKS_UNLOOKED_MAX: u32 = 16;
/// An error needs no more.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// The client for engines.
pub(crate) fn client(url: &str) -> Result<reqwest::Client, EngineError> {
    let client = wire::http_client_builder().connect_timeout(CONNECT_TIMEOUT).build();
    client.map_err(|error| unreachable(url, error))
}

/// `url` without what every path begins with.
pub(crate) fn base(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    url.strip_suffix("/v1").unwrap_or(url).trim_end_matches('/').to_owned()
}

/// The host of an address, for people.
pub(crate) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Asks a question and reads the JSON of its answer.
pub(crate) async fn ask<T: DeserializeOwned>(
    url: &str,
    request: RequestBuilder,
    timeout: Duration,
) -> Result<T, EngineError> {
    let response = accepted(url, sent(url, request.timeout(timeout)).await?).await?;
    let body = read_body(response.into_body(), ANSWER_BYTES_MAX).await;
    let body = body.ok_or_else(|| protocol(url, "the answer is too long or was cut"))?;
    serde_json::from_slice(&body).map_err(|error| protocol(url, &error.to_string()))
}

/// `body` as JSON, which has about so many bytes.
pub(crate) fn to_json(body: &impl Serialize, bytes: usize) -> Result<Vec<u8>, EngineError> {
    let mut json = Vec::with_capacity(bytes);
    let written = serde_json::to_writer(&mut json, body);
    written.map_err(|error| unwritten(&error))?;
    Ok(json)
}

/// A request that is no JSON.
pub(crate) fn unwritten(error: &serde_json::Error) -> EngineError {
    EngineError::BadRequest { reason: error.to_string() }
}

/// What comes of a request that the general client sends.
pub(crate) async fn sent(url: &str, request: RequestBuilder) -> Result<Reply, EngineError> {
    let response = request.send().await.map_err(|error| unreachable(url, error))?;
    Ok(http::Response::from(response).map(ReplyBody::Pooled))
}

/// The response of a server.
pub(crate) type Reply = http::Response<ReplyBody>;

/// By how it was asked.
#[derive(Debug)]
pub(crate) enum ReplyBody {
    Pooled(reqwest::Body),
    Plain(PlainBody),
}

impl ReplyBody {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match self {
            ReplyBody::Pooled(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|it| it.map_err(|error| error.without_url().into()))),
            ReplyBody::Plain(body) => {
                body.poll_frame(cx).map(|frame| frame.map(|it| it.map_err(StreamError::from)))
            }
        }
    }
}

/// Starts a stream of events from the response to `request`, which is sent here: a server that
/// refuses does so now. A request that is cancelled while it waits gets a stream that says so.
pub(crate) async fn stream(
    url: &str,
    request: impl Future<Output = Result<Reply, EngineError>>,
    wanted: &InferenceRequest,
    cancel: CancellationToken,
    active: &Arc<AtomicU32>,
    decode: impl Decode + Unpin + 'static,
) -> Result<Generation, EngineError> {
    let active = Active::count(active);
    let response = tokio::select! {
        biased;
        () = cancel.cancelled() => None,
        response = request => Some(response?),
    };
    let response = match response {
        None => None,
        Some(response) => {
            let response = accepted(url, response).await.map_err(|error| match error {
                // A schema that the server cannot compile is its author's fault, and what it knows of
                // the model's template nobody else does.
                EngineError::Refused { status: 400 | 422, message, .. }
                    if wanted.form.is_some() || wanted.tools.is_some() =>
                {
                    EngineError::BadRequest { reason: message }
                }
                error => error,
            })?;
            Some(response.into_body())
        }
    };
    let answer = Answer {
        ready: VecDeque::new(),
        stops: StopMachine::new(&wanted.stop),
        left: wanted.tokens_max,
        finish: None,
        usage: Usage {
            prompt_tokens: None,
            completion_tokens: None,
            counted: CountMethod::TokenIds,
        },
    };
    let cancelled = Box::pin(cancel.cancelled_owned());
    let pump = Pump {
        response,
        decode,
        cancelled,
        looked: Looked::default(),
        answer,
        is_over: false,
        is_waiting: false,
        _active: active,
    };
    Ok(Generation { prompt_tokens: None, events: Events::polled(pump) })
}

/// The response, if it is one of success.
pub(crate) async fn accepted(url: &str, response: Reply) -> Result<Reply, EngineError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let url = url.to_owned();
    let retry_after = response.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let retry_after_ms = retry_after.map(|seconds| seconds.saturating_mul(1_000));
    let body = read_body(response.into_body(), ERROR_BYTES_MAX).await;
    let error = ServerError::read(&body.unwrap_or_default());
    if let (Some(prompt_tokens), Some(context_tokens)) = (error.prompt_tokens, error.context_tokens)
    {
        return Err(EngineError::ContextFull { prompt_tokens, context_tokens });
    }
    let message = match error.message.is_empty() {
        true => status.canonical_reason().unwrap_or("no reason given").to_owned(),
        false => error.message,
    };
    Err(EngineError::Refused { url, status: status.as_u16(), message, retry_after_ms })
}

/// Whether an error says that the server has no such page.
pub(crate) fn is_missing(error: &EngineError) -> bool {
    let missing =
        [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED];
    match error {
        EngineError::Refused { status, .. } => missing.iter().any(|code| code.as_u16() == *status),
        _ => false,
    }
}

pub(crate) async fn read_body(mut from: ReplyBody, bytes_max: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| from.poll_frame(cx)).await {
        let Ok(chunk) = frame.ok()?.into_data() else { continue };
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

fn unreachable(url: &str, error: reqwest::Error) -> EngineError {
    EngineError::Unreachable { url: url.to_owned(), source: Box::new(error.without_url()) }
}

pub(crate) fn protocol(url: &str, reason: &str) -> EngineError {
    EngineError::Protocol { url: url.to_owned(), reason: reason.chars().take(300).collect() }
}

/// Understands one protocol's stream.
pub(crate) trait Decode: Send {
    /// What `bytes` complete.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, StreamError>;

    /// What is left when the response has ended.
    fn finish(&mut self) -> Result<Vec<Part>, StreamError>;
}

/// What a stream says.
#[derive(Debug)]
pub(crate) enum Part {
    /// Of the text.
    Piece(TokenPiece),
    /// Of the text too, but nobody told how many tokens it is.
    Text(String),
    /// A call of this tool begins.
    Call(String),
    /// More of its arguments.
    Arguments(String),
    Finish(FinishReason),
    Usage {
        prompt_tokens: Option<u32>,
        completion_tokens: Option<u32>,
    },
    /// Nothing more comes.
    End,
}

/// Why a stream breaks off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    TooLong(#[from] LineTooLong),
    #[error("it sent an answer of more than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it sent something unexpected: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("it says: {0}")]
    Told(String),
    #[error("the connection broke: {0}")]
    Broken(#[from] reqwest::Error),
    #[error("the connection broke: {0}")]
    Lost(#[from] PlainError),
    #[error("it ended without a reason to finish")]
    Cut,
}

/// Carries one answer from the server to the consumer, in the consumer's task. The request ends at the server when
/// this is dropped, or polled after `cancelled`.
struct Pump<D> {
    /// `None` once nothing more is to be read.
    response: Option<ReplyBody>,
    decode: D,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    looked: Looked,
    answer: Answer,
    /// The last event is in `answer.ready`, or was taken from it.
    is_over: bool,
    /// Nothing more had arrived when it was last polled.
    is_waiting: bool,
    _active: Active,
}

/// When it was last looked whether an answer is cancelled. To look takes a lock and registers a waker: of a chunk that a gateway passes on a fiftieth.
#[derive(Default)]
struct Looked {
    /// Is woken by it.
    waker: Option<Waker>,
    /// Times that something had come, since.
    chunks: u32,
}

impl Looked {
    /// Whether to look before anything is read: the task is another one, or has been busy with what came.
    fn is_due(&mut self, cx: &Context<'_>) -> bool {
        self.chunks += 1;
        let is_woken = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !is_woken {
            self.waker = Some(cx.waker().clone());
        }
        !is_woken || self.chunks >= CHUNKS_UNLOOKED_MAX
    }
}

impl<D: Decode + Unpin> PollEvents for Pump<D> {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut Vec<EngineEvent>,
        max: usize,
    ) -> Poll<usize> {
        let this = &mut *self;
        this.is_waiting = false;
        if !this.is_over && this.looked.is_due(cx) {
            this.look(cx);
        }
        while !this.is_over && this.answer.ready.len() < max {
            let Some(response) = &mut this.response else {
                // Cancelled before there was a response.
                this.end(Ok(FinishReason::Cancelled));
                break;
            };
            let Poll::Ready(frame) = response.poll_frame(cx) else {
                this.is_waiting = true;
                break;
            };
            match this.frame(frame) {
                Ok(None) => {}
                Ok(Some(finish)) => this.end(Ok(finish)),
                Err(error) => this.end(Err(error)),
            }
        }
        if this.is_waiting && this.answer.ready.is_empty() {
            // Woken without anything to read.
            this.look(cx);
        }
        match this.answer.ready.len().min(max) {
            0 if this.is_over => Poll::Ready(0),
            0 => Poll::Pending,
            count => {
                into.extend(this.answer.ready.drain(..count));
                Poll::Ready(count)
            }
        }
    }

    fn is_waiting(&self) -> bool {
        self.is_waiting && !self.is_over && self.answer.ready.is_empty()
    }
}

impl<D: Decode> Pump<D> {
    /// Ends it, if it is cancelled.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.looked.chunks = 0;
        if self.cancelled.as_mut().poll(cx).is_ready() {
            self.end(Ok(FinishReason::Cancelled));
        }
    }

    /// Takes what has arrived; why the answer has ended, if it has.
    fn frame(
        &mut self,
        frame: Option<Result<Frame<Bytes>, StreamError>>,
    ) -> Result<Option<FinishReason>, StreamError> {
        let (parts, is_last) = match frame {
            None => (self.decode.finish()?, true),
            Some(frame) => match frame?.into_data() {
                Ok(bytes) => (self.decode.push(&bytes)?, false),
                // Trailers.
                Err(_) => return Ok(None),
            },
        };
        for part in parts {
            if let Flow::Over = self.answer.part(part) {
                return self.answer.finish.map(Some).ok_or(StreamError::Cut);
            }
        }
        if !is_last {
            return Ok(None);
        }
        // Some servers leave out the end mark; none leaves out the reason.
        let finish = self.answer.finish.ok_or(StreamError::Cut)?;
        self.answer.deliver_held();
        Ok(Some(finish))
    }

    /// Ends the request at the server before the consumer hears of it.
    fn end(&mut self, how: Result<FinishReason, StreamError>) {
        self.response = None;
        self.is_over = true;
        let event = match how {
            Ok(finish) => EngineEvent::Done { finish, usage: self.answer.usage },
            Err(error) => {
                EngineEvent::Failed { reason: error.to_string().chars().take(300).collect() }
            }
        };
        self.answer.ready.push_back(event);
    }
}

/// What has arrived of an answer.
struct Answer {
    /// To be taken, the oldest first.
    ready: VecDeque<EngineEvent>,
    stops: StopMachine,
    /// Pieces that may still be delivered.
    left: Option<u32>,
    finish: Option<FinishReason>,
    usage: Usage,
}

/// Whether an answer goes on.
enum Flow {
    Continue,
    Over,
}

impl Answer {
    fn part(&mut self, part: Part) -> Flow {
        match part {
            Part::Piece(piece) => return self.piece(piece),
            Part::Text(text) => {
                for bytes in uncounted_pieces(text.as_bytes(), self.left) {
                    if let Flow::Over = self.piece(TokenPiece { bytes, ..TokenPiece::default() }) {
                        return Flow::Over;
                    }
                }
            }
            Part::Call(name) => return self.call(Span::CallName, vec![name.into_bytes()]),
            Part::Arguments(text) => {
                let pieces = uncounted_pieces(text.as_bytes(), self.left);
                return self.call(Span::CallArguments, pieces);
            }
            Part::Finish(finish) => self.finish = Some(finish),
            Part::Usage { prompt_tokens, completion_tokens } => {
                self.usage = Usage { prompt_tokens, completion_tokens, ..self.usage };
            }
            Part::End => {
                if self.finish.is_some() {
                    self.deliver_held();
                }
                return Flow::Over;
            }
        }
        Flow::Continue
    }

    fn piece(&mut self, piece: TokenPiece) -> Flow {
        if self.left == Some(0) {
            // More than was asked for is not delivered.
            self.finish = Some(FinishReason::Length);
            self.deliver_held();
            return Flow::Over;
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        if self.stops.has_none() {
            self.deliver([piece]);
            return Flow::Continue;
        }
        match self.stops.push(piece) {
            Step::Continue(pieces) => self.deliver(pieces),
            Step::Stopped(pieces) => {
                self.deliver(pieces);
                self.finish = Some(FinishReason::Stop);
                return Flow::Over;
            }
        }
        Flow::Continue
    }

    /// Delivers a part of a call. Stop sequences are for the text before it.
    fn call(&mut self, span: Span, parts: Vec<Vec<u8>>) -> Flow {
        self.deliver_held();
        for bytes in parts {
            if self.left == Some(0) {
                self.finish = Some(FinishReason::Length);
                return Flow::Over;
            }
            self.left = self.left.map(|left| left.saturating_sub(1));
            self.deliver([TokenPiece { span, bytes, ..TokenPiece::default() }]);
        }
        Flow::Continue
    }

    fn deliver_held(&mut self) {
        let held = self.stops.finish();
        self.deliver(held);
    }

    fn deliver(&mut self, pieces: impl IntoIterator<Item = TokenPiece>) {
        for piece in pieces {
            if piece.id.is_none() {
                self.usage.counted = CountMethod::Chunks;
            }
            self.ready.push_back(EngineEvent::Token(piece));
        }
    }
}

/// A JSON Schema as the servers take it.
pub(crate) fn schema(text: &str) -> Result<serde_json::Value, EngineError> {
    json(text, "its JSON Schema")
}

/// What a request has as the text of JSON.
pub(crate) fn json(text: &str, what: &str) -> Result<serde_json::Value, EngineError> {
    let bad = |error| EngineError::BadRequest { reason: format!("{what} is not JSON: {error}") };
    serde_json::from_str(text).map_err(bad)
}

/// A prompt as it stands, with what was begun after it.
pub(crate) fn raw_prompt<'a>(prompt: &'a str, begun: Option<&Begun>) -> Cow<'a, str> {
    match begun {
        Some(begun) => Cow::Owned([prompt, &begun.text].concat()),
        None => Cow::Borrowed(prompt),
    }
}

/// Text without ids, as pieces: one, or where that were longer than any token, as many as it takes.
pub(crate) fn chunk_pieces(text: &[u8]) -> impl Iterator<Item = TokenPiece> {
    let piece = |bytes: &[u8]| TokenPiece { bytes: bytes.to_vec(), ..TokenPiece::default() };
    text.chunks(limits::TOKEN_BYTES_MAX).map(piece)
}

/// Text longer than this did not come token by token,
const ONE_TOKEN_BYTES_MAX: usize = 16;
/// and is taken for tokens of this length: what tokenizers make of JSON, and about what they make of English.
const TOKEN_BYTES: usize = 4;

/// A part of a call's arguments, or a text without a count, as pieces, at most `left` of them if the rest of the answer
/// allows that.
fn uncounted_pieces(text: &[u8], left: Option<u32>) -> Vec<Vec<u8>> {
    if text.len() <= ONE_TOKEN_BYTES_MAX {
        return Some(text.to_vec()).filter(|text| !text.is_empty()).into_iter().collect();
    }
    let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(usize::MAX).max(1);
    let bytes = text.len().div_ceil(left).clamp(TOKEN_BYTES, limits::TOKEN_BYTES_MAX);
    text.chunks(bytes).map(<[u8]>::to_vec).collect()
}

/// The functions of a request, in the form that all servers read.
pub(crate) fn tools(tools: Option<&Tools>) -> Result<Vec<Tool<'_>>, EngineError> {
    let tool = |tool: &'_ types::tools::Tool| -> Result<serde_json::Value, EngineError> {
        match &tool.parameters {
            Some(text) => json(text, "the parameters of a tool"),
            None => Ok(serde_json::json!({ "type": "object", "properties": {} })),
        }
    };
    let list = tools.map_or(&[][..], |tools| &tools.list);
    list.iter()
        .map(|wanted| {
            Ok(Tool {
                kind: "function",
                function: Function {
                    name: &wanted.name,
                    description: wanted.description.as_deref(),
                    parameters: tool(wanted)?,
                    strict: wanted.strict,
                },
            })
        })
        .collect()
}

/// Servers read seeds as 32-bit or floating-point numbers, and some take the highest as "any":
/// 31 bits mean the same to all.
pub(crate) fn seed(seed: u64) -> u64 {
    seed & 0x7FFF_FFFF
}

/// A setting in millionths as the number that JSON carries.
pub(crate) fn from_micros(micros: impl Into<f64>) -> f64 {
    micros.into() / 1e6
}

/// A log-probability in millionths; what is impossible saturates at about -2147.
pub(crate) fn to_micros(logprob: f64) -> i32 {
    (logprob * 1e6).round().min(0.0) as i32
}
