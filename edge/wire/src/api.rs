//! The APIs that a gateway speaks: OpenAI's, Ollama's and Anthropic's JSON as a server sees it
//! (`docs/spec/gateway-api.md`). Every request becomes the one internal form, and every answer is written
//! in the dialect that it was asked in. Strict: a field that cannot be honoured is refused by name,
//! never dropped silently. How an engine is asked is [`crate::upstream`]'s business.

pub mod anthropic;
pub mod embeddings;
pub mod ollama;
pub mod openai;
pub mod responses;
pub mod x402;

mod answer;
mod error;
mod fields;
pub(crate) mod json;
mod logprobs;
mod stream;
#[cfg(test)]
mod testing;
mod tools;

pub use answer::{Answer, Billing, Head, Usage};
pub use error::{ApiError, BadRequest};
pub use stream::StreamWriter;

use bytes::Bytes;
use types::inference::InferenceRequest;

/// An endpoint that generates, and with it the form of requests, answers and errors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    OpenAi(openai::Kind),
    /// OpenAI's newer API, without what it keeps between requests.
    Responses,
    Ollama(ollama::Kind),
    Anthropic,
}

/// A request for text, whatever it was asked in.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerationRequest {
    /// Alias or model id, as given.
    pub model: String,
    pub request: InferenceRequest,
    pub stream: bool,
    /// Whether a stream tells the usage at its end; only OpenAI's chunks leave the choice.
    pub include_usage: bool,
    /// The least context that the model must have, where the client names one.
    pub context_tokens_min: Option<u32>,
}

impl Dialect {
    /// Reads the body of a request and checks it against all limits.
    pub fn parse(self, body: &[u8]) -> Result<GenerationRequest, BadRequest> {
        match self {
            Dialect::OpenAi(kind) => openai::parse(kind, body),
            Dialect::Responses => responses::parse(body),
            Dialect::Ollama(kind) => match ollama::parse(kind, body)? {
                ollama::Asked::Generation(request) => Ok(*request),
                ollama::Asked::Loading { .. } => Err(BadRequest::field("prompt", "give a prompt")),
            },
            Dialect::Anthropic => anthropic::parse(body),
        }
    }

    /// The body of a plain answer.
    pub fn answer(self, head: Head<'_>, answer: &Answer<'_>) -> Bytes {
        match self {
            Dialect::OpenAi(kind) => openai::completion(kind, head, answer),
            Dialect::Responses => responses::response(head, answer),
            Dialect::Ollama(kind) => ollama::answer(kind, head, answer),
            Dialect::Anthropic => anthropic::message(head, answer),
        }
    }

    /// The body of an answer that is an error.
    pub fn error(self, error: &ApiError) -> Bytes {
        match self {
            Dialect::OpenAi(_) | Dialect::Responses => openai::error(error),
            Dialect::Ollama(_) => ollama::error(error),
            Dialect::Anthropic => anthropic::error(error),
        }
    }

    /// The media type of a streamed answer.
    pub fn stream_type(self) -> &'static str {
        match self {
            Dialect::OpenAi(_) | Dialect::Responses | Dialect::Anthropic => "text/event-stream",
            Dialect::Ollama(_) => "application/x-ndjson",
        }
    }
}
