//! The one internal form of a request for text or vectors and of its answer, independent of any HTTP dialect.
//!
//! Sampling parameters are fixed-point millionths: they are hashed and signed, and floats are not.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Hash32, blake3_of, merkle_leaf},
    limits,
    tools::{ToolCall, Tools, is_id},
    vector::Vectors,
};

/// Who speaks in a chat.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[borsh(use_discriminant = false)]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// One turn of a chat.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ChatMessage {
    pub role: Role,
    pub content: String,
    /// What the assistant asked to be called.
    pub calls: Vec<ToolCall>,
    /// Of a tool's message: the call whose result it is.
    pub call_id: Option<String>,
}

impl ChatMessage {
    /// A turn that is nothing but text.
    pub fn text(role: Role, content: String) -> ChatMessage {
        ChatMessage { role, content, calls: Vec::new(), call_id: None }
    }

    /// Bytes of all text in it.
    fn text_bytes(&self) -> usize {
        let calls = self.calls.iter().map(ToolCall::text_bytes).fold(0, usize::saturating_add);
        self.content.len().saturating_add(calls)
    }

    fn check(&self) -> Result<(), RequestError> {
        let bad = |field, problem: &str| Err(RequestError { field, problem: problem.to_owned() });
        if !self.calls.is_empty() && self.role != Role::Assistant {
            return bad("tool_calls", "belong to a message of the assistant");
        }
        if self.calls.len() > limits::TOOL_CALLS_MAX {
            return bad("tool_calls", "too many in one message");
        }
        if !self.calls.iter().all(ToolCall::is_sound) {
            return bad("tool_calls", "each has an id and a tool's name");
        }
        match (&self.call_id, self.role) {
            (Some(id), Role::Tool) if is_id(id) => Ok(()),
            (_, Role::Tool) => bad("tool_call_id", "name the call whose result it is"),
            (Some(_), _) => bad("tool_call_id", "belongs to a message of a tool"),
            (None, _) => Ok(()),
        }
    }
}

/// Texts of which vectors are made, one of each.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Inputs {
    /// 1 to [`limits::INPUTS_MAX`], none of them empty.
    pub texts: Vec<String>,
    /// Numbers of each vector. `None`: as many as the model makes.
    pub dimensions: Option<u32>,
    /// What does not fit into the model's context may be cut off, by an engine that can.
    pub truncate: bool,
}

/// What is read. It is continued, a chat that the model's template renders or text as it stands; or it
/// becomes vectors.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum Prompt {
    Chat(Vec<ChatMessage>),
    Text(String),
    Inputs(Inputs),
}

impl Prompt {
    /// Whether tools were called in it.
    pub fn has_calls(&self) -> bool {
        let is_of_tools =
            |message: &ChatMessage| message.role == Role::Tool || !message.calls.is_empty();
        match self {
            Prompt::Chat(messages) => messages.iter().any(is_of_tools),
            Prompt::Text(_) | Prompt::Inputs(_) => false,
        }
    }

    /// The vectors that are wanted, if any are.
    pub fn vectors(&self) -> Option<Vectors> {
        match self {
            Prompt::Chat(_) | Prompt::Text(_) => None,
            Prompt::Inputs(inputs) => Some(Vectors::of(inputs)),
        }
    }

    /// Bytes of all text in it. No tokenizer with byte fallback makes more tokens of it than this,
    /// template and special tokens aside.
    pub fn text_bytes(&self) -> usize {
        match self {
            Prompt::Chat(messages) => {
                messages.iter().map(ChatMessage::text_bytes).fold(0, usize::saturating_add)
            }
            Prompt::Text(text) => text.len(),
            Prompt::Inputs(inputs) => {
                inputs.texts.iter().map(String::len).fold(0, usize::saturating_add)
            }
        }
    }

    /// Bytes of what must fit into the context at once. Each input is read for itself, and one that may be
    /// cut always fits.
    pub fn context_bytes(&self) -> usize {
        match self {
            Prompt::Chat(_) | Prompt::Text(_) => self.text_bytes(),
            Prompt::Inputs(inputs) if inputs.truncate => 0,
            Prompt::Inputs(inputs) => inputs.texts.iter().map(String::len).max().unwrap_or(0),
        }
    }

    /// The most prompt tokens a provider may bill for it: one per byte, and 64 for the template
    /// plus 16 for each message's or input's markers and 32 for each call's.
    pub fn tokens_max(&self) -> u32 {
        let marked =
            |message: &ChatMessage| message.calls.len().saturating_mul(2).saturating_add(1);
        let messages = match self {
            Prompt::Chat(messages) => messages.iter().map(marked).fold(0, usize::saturating_add),
            Prompt::Text(_) => 1,
            Prompt::Inputs(inputs) => inputs.texts.len(),
        };
        let bound =
            messages.saturating_mul(16).saturating_add(64).saturating_add(self.text_bytes());
        u32::try_from(bound).unwrap_or(u32::MAX)
    }

    /// What the payer assumes before the provider has said: a token per three bytes and the markers, of
    /// which each input has two.
    pub fn tokens_estimate(&self) -> u32 {
        let markers = match self {
            Prompt::Chat(_) | Prompt::Text(_) => 0,
            Prompt::Inputs(inputs) => inputs.texts.len().saturating_mul(2),
        };
        let tokens = (self.text_bytes() / 3).saturating_add(markers);
        u32::try_from(tokens).unwrap_or(u32::MAX).saturating_add(32)
    }

    /// The salted digest that stands for the prompt on a receipt.
    pub fn hash(&self, salt: &[u8; 16]) -> Hash32 {
        blake3_of(&[&b"peerwatt/prompt\0"[..], salt], self)
    }
}

/// How tokens are drawn. `None` is the engine's default for the model.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Sampling {
    /// 0 to 2 000 000; 0 takes the most likely token.
    pub temperature_micros: Option<u32>,
    /// 0 to 1 000 000.
    pub top_p_micros: Option<u32>,
    pub seed: Option<u64>,
    /// −2 000 000 to 2 000 000.
    pub presence_penalty_micros: Option<i32>,
    /// −2 000 000 to 2 000 000.
    pub frequency_penalty_micros: Option<i32>,
    /// The draw is among so many of the likeliest; 0: among all.
    pub top_k: Option<u32>,
    /// 0 to 1 000 000: those are left out that are less likely than this share of the likeliest.
    pub min_p_micros: Option<u32>,
    /// Above 0, to 2 000 000: by what the logit of a token is divided (multiplied if it is negative) that
    /// stands before, as far back as the engine looks.
    pub repeat_penalty_micros: Option<u32>,
}

/// The form that an answer must have.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum AnswerForm {
    /// A JSON object.
    Json,
    /// JSON that fits this JSON Schema, which is JSON itself.
    Schema(String),
}

/// The beginning of an answer that another provider made. Whoever gets it makes the rest and only the rest.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Begun {
    /// What the client has.
    pub text: String,
    /// The tokens it was made of, in the model's vocabulary; empty if not all are known. Their bytes are
    /// the text.
    pub ids: Vec<u32>,
}

/// A request to continue a prompt, or for vectors.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct InferenceRequest {
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// 1 to [`limits::COMPLETION_TOKENS_MAX`]. `None`: until the model ends or its context is full.
    /// Of vectors, which come a piece each: their number.
    pub tokens_max: Option<u32>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// `Some(n)`: report each token's log-probability and `n` alternatives.
    pub logprobs: Option<u8>,
    pub begun: Option<Begun>,
    pub form: Option<AnswerForm>,
    /// Only with a chat.
    pub tools: Option<Tools>,
}

/// What is wrong with a request, naming the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RequestError {
    pub field: &'static str,
    pub problem: String,
}

/// Prompt tokens that a template may spend on saying how tools are called, and on the markers of each.
const TOOLS_TOKENS: u32 = 1_024;
const TOOL_TOKENS: u32 = 64;

impl InferenceRequest {
    /// A request for an answer to `prompt`, and nothing else.
    pub fn of(prompt: Prompt) -> InferenceRequest {
        let tokens_max = match &prompt {
            Prompt::Chat(_) | Prompt::Text(_) => None,
            Prompt::Inputs(inputs) => Some(u32::try_from(inputs.texts.len()).unwrap_or(u32::MAX)),
        };
        InferenceRequest {
            prompt,
            sampling: Sampling::default(),
            tokens_max,
            stop: Vec::new(),
            logprobs: None,
            begun: None,
            form: None,
            tools: None,
        }
    }

    /// Bytes of all text that is read before the first token is made.
    pub fn text_bytes(&self) -> usize {
        self.prompt
            .text_bytes()
            .saturating_add(self.begun_bytes())
            .saturating_add(self.tools_bytes())
    }

    /// Bytes of what must fit into the context together.
    pub fn context_bytes(&self) -> usize {
        self.prompt
            .context_bytes()
            .saturating_add(self.begun_bytes())
            .saturating_add(self.tools_bytes())
    }

    /// The most prompt tokens a provider may bill: [`Prompt::tokens_max`], one per byte of what was
    /// begun, and for tools two per byte, because templates write them with indents, 64 for each and
    /// 1 024 for how they are called.
    pub fn prompt_tokens_max(&self) -> u32 {
        let begun = u32::try_from(self.begun_bytes()).unwrap_or(u32::MAX);
        let bytes = u32::try_from(self.tools_bytes()).unwrap_or(u32::MAX);
        let tools = self.tools.as_ref().map_or(0, |tools| {
            let count = u32::try_from(tools.list.len()).unwrap_or(u32::MAX);
            let markers = count.saturating_mul(TOOL_TOKENS).saturating_add(TOOLS_TOKENS);
            bytes.saturating_mul(2).saturating_add(markers)
        });
        self.prompt.tokens_max().saturating_add(begun).saturating_add(tools)
    }

    /// What the payer assumes before the provider has said.
    pub fn prompt_tokens_estimate(&self) -> u32 {
        let more = self.begun_bytes().saturating_add(self.tools_bytes());
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        self.prompt.tokens_estimate().saturating_add(more / 3)
    }

    fn tools_bytes(&self) -> usize {
        self.tools.as_ref().map_or(0, Tools::text_bytes)
    }

    fn begun_bytes(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.text.len())
    }

    /// Checks every limit; what arrives from a peer passes here before anything else is done with it.
    pub fn check(&self) -> Result<(), RequestError> {
        let bad = |field, problem: String| Err(RequestError { field, problem });
        if let Prompt::Chat(messages) = &self.prompt {
            if messages.is_empty() {
                return bad("messages", "give at least one message".into());
            }
            if messages.len() > limits::CHAT_MESSAGES_MAX {
                return bad("messages", format!("at most {} messages", limits::CHAT_MESSAGES_MAX));
            }
            messages.iter().try_for_each(ChatMessage::check)?;
        }
        if let Prompt::Inputs(inputs) = &self.prompt {
            self.check_inputs(inputs)?;
        }
        if let Some(tools) = &self.tools {
            tools.check()?;
            if matches!(self.prompt, Prompt::Text(_)) {
                return bad("tools", "go with a chat".into());
            }
            // Engines hold an answer to one form or let it call, not both.
            if self.form.is_some() {
                return bad("tools", "cannot be had together with an answer in JSON".into());
            }
        }
        if self.text_bytes() > limits::PROMPT_BYTES_MAX {
            return bad("prompt", format!("at most {} bytes of text", limits::PROMPT_BYTES_MAX));
        }
        // Each token delivers a byte at least.
        if self.begun.as_ref().is_some_and(|begun| begun.ids.len() > begun.text.len()) {
            return bad("begun", "more tokens than bytes".into());
        }
        if let Some(tokens) = self.tokens_max
            && !(1..=limits::COMPLETION_TOKENS_MAX).contains(&tokens)
        {
            return bad("max_tokens", format!("1 to {}", limits::COMPLETION_TOKENS_MAX));
        }
        if let Some(AnswerForm::Schema(schema)) = &self.form
            && schema.len() > limits::SCHEMA_BYTES_MAX
        {
            return bad("schema", format!("at most {} bytes", limits::SCHEMA_BYTES_MAX));
        }
        if self.stop.len() > limits::STOP_SEQUENCES_MAX {
            return bad("stop", format!("at most {} sequences", limits::STOP_SEQUENCES_MAX));
        }
        if self.stop.iter().any(|stop| stop.is_empty() || stop.len() > limits::STOP_BYTES_MAX) {
            return bad("stop", format!("each of 1 to {} bytes", limits::STOP_BYTES_MAX));
        }
        if self.logprobs.is_some_and(|count| count > limits::TOP_LOGPROBS_MAX) {
            return bad("top_logprobs", format!("0 to {}", limits::TOP_LOGPROBS_MAX));
        }
        self.sampling.check()
    }

    fn check_inputs(&self, inputs: &Inputs) -> Result<(), RequestError> {
        let bad = |field, problem: String| Err(RequestError { field, problem });
        let most = limits::INPUTS_MAX;
        if !(1..=most).contains(&inputs.texts.len()) {
            return bad("input", format!("1 to {most} texts"));
        }
        if inputs.texts.iter().any(String::is_empty) {
            return bad("input", "an empty text has no vector".into());
        }
        let dimensions_max = limits::VECTOR_DIMENSIONS_MAX;
        let fits = |count: u32| {
            usize::try_from(count).is_ok_and(|count| (1..=dimensions_max).contains(&count))
        };
        if inputs.dimensions.is_some_and(|count| !fits(count)) {
            return bad("dimensions", format!("1 to {dimensions_max}"));
        }
        let InferenceRequest { prompt: _, sampling, tokens_max, .. } = self;
        let InferenceRequest { stop, logprobs, begun, form, tools, .. } = self;
        let draws = *sampling != Sampling::default() || !stop.is_empty() || logprobs.is_some();
        if draws || begun.is_some() || form.is_some() || tools.is_some() {
            return bad("input", "vectors are neither drawn nor written".into());
        }
        match tokens_max.and_then(|count| usize::try_from(count).ok()) {
            Some(count) if count == inputs.texts.len() => Ok(()),
            _ => bad("max_tokens", "one piece for each input".into()),
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<(), RequestError> {
        let bad = |field, problem: &str| Err(RequestError { field, problem: problem.to_owned() });
        if self.temperature_micros.is_some_and(|value| value > 2_000_000) {
            return bad("temperature", "0 to 2");
        }
        if self.top_p_micros.is_some_and(|value| value > 1_000_000) {
            return bad("top_p", "0 to 1");
        }
        let penalty = |value: Option<i32>| value.is_some_and(|v| v.unsigned_abs() > 2_000_000);
        if penalty(self.presence_penalty_micros) {
            return bad("presence_penalty", "-2 to 2");
        }
        if penalty(self.frequency_penalty_micros) {
            return bad("frequency_penalty", "-2 to 2");
        }
        if self.top_k.is_some_and(|count| count > limits::TOP_K_MAX) {
            return Err(RequestError {
                field: "top_k",
                problem: format!("0 to {}", limits::TOP_K_MAX),
            });
        }
        if self.min_p_micros.is_some_and(|value| value > 1_000_000) {
            return bad("min_p", "0 to 1");
        }
        if self.repeat_penalty_micros.is_some_and(|value| !(1..=2_000_000).contains(&value)) {
            return bad("repeat_penalty", "above 0, to 2");
        }
        Ok(())
    }

    /// Whether it says something that not every engine understands.
    pub(crate) fn needs_samplers(&self) -> bool {
        let Sampling { top_k, min_p_micros, repeat_penalty_micros, .. } = self;
        top_k.is_some() || min_p_micros.is_some() || repeat_penalty_micros.is_some()
    }
}

/// What a token belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
#[borsh(use_discriminant = false)]
pub enum Span {
    /// The text of the answer.
    #[default]
    Text,
    /// A call of a tool begins: its name, whole.
    CallName,
    /// The arguments of the call that began last.
    CallArguments,
    /// A whole vector, see [`crate::vector`].
    Vector,
}

/// One delivered token: its bytes, which need not be whole characters, and what the engine says of it. Or
/// one delivered vector.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct TokenPiece {
    pub span: Span,
    /// The id in the model's vocabulary, where the engine tells it.
    pub id: Option<u32>,
    /// Never empty: an empty piece is not a delivered token.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability in millionths, where asked for and available.
    pub logprob_micros: Option<i32>,
    pub alternatives: Vec<Alternative>,
    /// Of all logits of its step, where the engine tells it.
    pub projection: Option<Projection>,
}

/// Sums that a [`Projection`] has.
pub const PROJECTION_SUMS: usize = 8;

/// A fingerprint of the logits of one step: sums of them with signs that the request's seed decides, in 4096ths of their
/// spread. `verify::projection` computes and compares it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Projection(pub [i16; PROJECTION_SUMS]);

impl TokenPiece {
    /// The leaf that stands for this token in the transcript.
    pub fn transcript_leaf(&self) -> Hash32 {
        merkle_leaf(&borsh::to_vec(&(self.span, self.id, &self.bytes)).unwrap_or_default())
    }
}

/// A token that could have stood there.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Alternative {
    pub id: Option<u32>,
    pub bytes: Vec<u8>,
    pub logprob_micros: i32,
}

/// Why an answer ended.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended, or a stop sequence came.
    Stop,
    /// `tokens_max` or the end of the context.
    Length,
    /// The consumer or the gateway asked to stop.
    Cancelled,
    /// The engine failed on the way.
    Failed,
}

/// How delivered tokens were counted, best first.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum CountMethod {
    /// Every token came with its id, and the ids' bytes are the delivered bytes.
    TokenIds,
    /// Chunks of the stream, because the engine gives no ids; a chunk holds one token or more.
    Chunks,
    /// As a service outside the network said that made them; at most one for each delivered byte.
    Told,
}
