//! Inference engines behind one trait: the embedded one (candle, or llama.cpp), Ollama, any OpenAI-compatible
//! server or service, and a dummy whose model names are behaviours.
//!
//! An engine makes tokens, or vectors of texts. It knows nothing of prices, channels or peers.

mod discover;
mod embedded;
#[cfg(feature = "llama")]
mod llama;
mod ollama;
mod openai;

pub mod dummy;

mod active;
mod events;
mod lines;
mod plain;
mod planted;
mod remote;
mod scoring;
mod stop;
mod vectors;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use types::{
    Hash32, ModelId,
    ability::{Abilities, Lacking},
    inference::{CountMethod, FinishReason, InferenceRequest, Prompt, TokenPiece},
    limits,
    offer::EngineKind,
};

pub use discover::{DiscoverOptions, Found, discover};
pub use embedded::{CacheType, EmbeddedEngine, EmbeddedOptions, Library, LlamaOptions};
pub use events::Events;
pub use ollama::{OllamaEngine, OllamaOptions};
pub use openai::{ApiKey, OpenAiEngine, OpenAiOptions, ServedFile};
pub use planted::PlantedEngine;
pub use scoring::{LOGITS_AHEAD_MAX, LogitsStream, Vocabulary};

/// Events an engine may be ahead of its consumer. Small: a consumer that stops reading must stop
/// the engine soon.
pub const STREAM_EVENTS_MAX: usize = 64;

/// Runs models.
#[async_trait]
pub trait Engine: Send + Sync + std::fmt::Debug {
    fn kind(&self) -> EngineKind;

    /// Name and version, e.g. `ollama 0.12.11`. At most 96 bytes.
    fn version(&self) -> String;

    /// The same as it is said of one of its models: with what it tells of that one alone.
    fn version_of(&self, model: ModelId) -> String {
        let _ = model;
        self.version()
    }

    /// The models it can run now.
    async fn models(&self) -> Result<Vec<EngineModel>, EngineError>;

    /// Starts to generate. The engine stops soon after the stream is dropped, or after `cancel` fires and the stream is read on.
    /// The stream ends with exactly one [`EngineEvent::Done`] or [`EngineEvent::Failed`].
    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError>;

    /// Whether [`Engine::answer_whole`] gives the tokens of this request all at once, at the end.
    fn answers_whole(&self, request: &InferenceRequest) -> bool {
        let _ = request;
        false
    }

    /// The same as [`Engine::generate`] for somebody who needs nothing before the end: cheaper where the tokens are
    /// made elsewhere. Until they are there, nobody knows how many have been made.
    async fn answer_whole(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.generate(model, request, cancel).await
    }

    /// The natural log-probability, in millionths, of each of `tokens` after the ones before it;
    /// the first has none. Engines that cannot score say so.
    async fn score(&self, model: ModelId, tokens: &[u32]) -> Result<Vec<i32>, EngineError> {
        let _ = (model, tokens);
        Err(EngineError::Unsupported { what: "scoring given tokens" })
    }

    /// The raw logits after each of the prefixes `tokens[..count]`, `count` from `from`, at least 1, to all of them,
    /// in order. The first `from` are a prompt; the others are read one by one, as they are when an answer is made, or where that
    /// is cheaper many at once, which changes the last digits.
    async fn logits(
        &self,
        model: ModelId,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        let _ = (model, tokens, from);
        Err(EngineError::Unsupported { what: "logits of given tokens" })
    }

    /// Whether [`Engine::logits`] are those of all tokens. If not, of unlikely ones nothing is known.
    fn tells_all_logits(&self) -> bool {
        true
    }

    /// The tokens of a prompt as the model reads it, a chat through its template.
    async fn tokenize(&self, model: ModelId, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        let _ = (model, prompt);
        Err(EngineError::Unsupported { what: "telling the tokens of a prompt" })
    }

    /// What the model's token ids stand for.
    async fn vocabulary(&self, model: ModelId) -> Result<Vocabulary, EngineError> {
        let _ = model;
        Err(EngineError::Unsupported { what: "telling its vocabulary" })
    }

    /// Requests it can run at once and runs now.
    fn load(&self) -> Load;
}

/// A shared engine.
pub type SharedEngine = Arc<dyn Engine>;

/// A model that an engine can run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineModel {
    pub id: ModelId,
    /// The engine's own name for it.
    pub alias: String,
    /// Digest of the weights, where the engine tells it; of the name and size otherwise, see
    /// `weights_known`.
    pub weights: Hash32,
    /// Whether `weights` is the digest of the GGUF file and not of a description.
    pub weights_known: bool,
    pub context_tokens: u32,
    pub abilities: Abilities,
}

impl EngineModel {
    /// Whether a request is within all limits and asks for nothing that the model cannot do here.
    fn check(&self, request: &InferenceRequest) -> Result<(), EngineError> {
        request.check().map_err(|error| EngineError::BadRequest { reason: error.to_string() })?;
        let lacking = self.abilities.lacking(&Abilities::needed(request));
        lacking.map_or(Ok(()), |what| Err(EngineError::Lacking { what }))
    }
}

/// An answer being made.
#[derive(Debug)]
pub struct Generation {
    /// Known at the start only where the engine tokenizes in our process.
    pub prompt_tokens: Option<u32>,
    pub events: Events,
}

/// One step of an answer.
///
/// The bytes of the tokens, in order, are the answer. A token that carries an id has that id's
/// bytes, except that the last one is cut to what stands before a stop sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EngineEvent {
    Token(TokenPiece),
    Done {
        finish: FinishReason,
        usage: Usage,
    },
    /// The engine failed after it had begun.
    Failed {
        reason: String,
    },
}

/// What the engine says it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// `None` if the engine did not tell; unknown is not zero.
    pub prompt_tokens: Option<u32>,
    pub completion_tokens: Option<u32>,
    pub counted: CountMethod,
}

/// How busy an engine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    pub slots: u32,
    pub active: u32,
}

/// A name as an offer may carry it: cut to its limit, and not empty.
fn bounded_name(name: &str) -> String {
    let fits = |end: &usize| *end <= limits::NAME_BYTES_MAX && name.is_char_boundary(*end);
    let end = (0..=name.len()).rev().find(fits).unwrap_or(0);
    let name = name.get(..end).unwrap_or_default();
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

/// Why an engine does not generate.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine at {url} does not answer; is it running?")]
    Unreachable { url: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the engine at {url} answered {status}: {message}")]
    Refused {
        url: String,
        status: u16,
        message: String,
        /// After which time it may be asked again, if it says so.
        retry_after_ms: Option<u64>,
    },
    #[error("the engine at {url} answered with something unexpected: {reason}")]
    Protocol { url: String, reason: String },
    #[error("the engine at {url} lists no model `{name}`")]
    Unlisted { url: String, name: String },
    #[error("model {model} is not loaded here")]
    UnknownModel { model: ModelId },
    #[error("the prompt has {prompt_tokens} tokens, the model's context holds {context_tokens}")]
    ContextFull { prompt_tokens: u32, context_tokens: u32 },
    #[error("this engine does not support {what}")]
    Unsupported { what: &'static str },
    #[error("the model cannot do this here: {what}")]
    Lacking { what: Lacking },
    #[error("the model file {path} cannot be used: {reason}")]
    Model { path: String, reason: String },
    #[error("all slots are busy and {waiting_max} requests wait already; try again later")]
    Busy { waiting_max: u32 },
    #[error("the request does not fit the model: {reason}")]
    BadRequest { reason: String },
    #[error("the engine failed: {reason}")]
    Failed { reason: String },
}
