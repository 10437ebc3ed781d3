//! The engine's in-memory twin for tests and benchmarks: a model's name says how it behaves.
//!
//! It computes nothing and reaches nothing, but keeps every promise of [`Engine`]. Time is tokio's,
//! so paused time works. Shells offer it only where a test or a benchmark asks for it by name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    hash::sha256,
    inference::{
        Alternative, CountMethod, FinishReason, InferenceRequest, Inputs, Prompt, Role, Span,
        TokenPiece,
    },
    offer::EngineKind,
    tools::ToolChoice,
};

use crate::{
    Engine, EngineError, EngineEvent, EngineModel, Generation, Load, STREAM_EVENTS_MAX, Usage,
    active::Active,
    stop::{Step, StopMachine},
    vectors::{self, Made},
};

/// Every model with a fixed name. `dummy/N` and `dummy/every-N` for a number N are models too, see
/// [`Behaviour::Burst`] and [`Behaviour::Every`].
pub const NAMES: [&str; 12] = [
    "dummy/echo",
    "dummy/slow",
    "dummy/dies-after-3-tokens",
    "dummy/stalls-after-3-tokens",
    "dummy/empty",
    "dummy/refuses",
    "dummy/paced",
    "dummy/no-ids",
    "dummy/long",
    "dummy/64",
    "dummy/calls",
    "dummy/embed",
];

/// Tokens that the context of every dummy model holds.
const CONTEXT_TOKENS: u32 = 131_072;
/// Tokens of `dummy/long` unless the request wants fewer.
const LONG_TOKENS: u32 = 4_096;
/// Tokens of `dummy/paced` unless the request wants fewer.
const PACED_TOKENS: u32 = 64;
/// Numbers of a vector of `dummy/embed` unless the request wants others.
const DIMENSIONS: u32 = 8;
/// Tokens of `dummy/every-N` unless the request wants fewer.
const EVERY_TOKENS: u32 = 16;
/// The longest time between two of them, in milliseconds.
const EVERY_MS_MAX: u32 = 60_000;

/// What a dummy model does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Repeats the last message, a token per word.
    Echo,
    /// Like `Echo`, after [`DummyOptions::delay`].
    Slow,
    /// Fails after three tokens.
    DiesAfter3,
    /// Delivers three tokens, then nothing until it is cancelled.
    StallsAfter3,
    /// Ends well with no token.
    Empty,
    /// Refuses every request before it begins.
    Refuses,
    /// 64 tokens, one each [`DummyOptions::pace`].
    Paced,
    /// Like `Echo`, without token ids, counted in chunks.
    NoIds,
    /// 4096 tokens as fast as they are read.
    Long,
    /// Calls the first tool, or the one that was asked for, with what the last message says; an answer to the
    /// result of a call, and to a request without tools, is like that of `Echo`.
    Calls,
    /// Makes vectors and nothing else: the same of the same text, anywhere.
    Embed,
    /// This many tokens as fast as they are read: `dummy/64`, also spelled `dummy/fast-64`.
    Burst(u32),
    /// 16 tokens, the first at once, then one each so many milliseconds: `dummy/every-625`.
    Every(u32),
}

impl Behaviour {
    /// The behaviour that `name` asks for.
    pub fn of(name: &str) -> Option<Behaviour> {
        Some(match name.strip_prefix("dummy/")? {
            "echo" => Behaviour::Echo,
            "slow" => Behaviour::Slow,
            "dies-after-3-tokens" => Behaviour::DiesAfter3,
            "stalls-after-3-tokens" => Behaviour::StallsAfter3,
            "empty" => Behaviour::Empty,
            "refuses" => Behaviour::Refuses,
            "paced" => Behaviour::Paced,
            "no-ids" => Behaviour::NoIds,
            "long" => Behaviour::Long,
            "calls" => Behaviour::Calls,
            "embed" => Behaviour::Embed,
            other if other.starts_with("every-") => {
                let ms = other.strip_prefix("every-")?.parse().ok()?;
                (1..=EVERY_MS_MAX).contains(&ms).then_some(Behaviour::Every(ms))?
            }
            other => {
                let count = other.strip_prefix("fast-").unwrap_or(other).parse().ok()?;
                (1..=CONTEXT_TOKENS).contains(&count).then_some(Behaviour::Burst(count))?
            }
        })
    }
}

impl Behaviour {
    fn abilities(self) -> Abilities {
        if self == Behaviour::Embed {
            let embeddings = EmbeddingAbility::Sized;
            return Abilities { completions: false, embeddings, ..Abilities::default() };
        }
        Abilities {
            logprobs: self != Behaviour::NoIds,
            tools: match self {
                Behaviour::Calls => ToolAbility::Forced,
                _ => ToolAbility::None,
            },
            ..Abilities::default()
        }
    }
}

/// How a [`DummyEngine`] is set up.
#[derive(Clone, Debug)]
pub struct DummyOptions {
    /// Full names, such as `dummy/echo`.
    pub models: Vec<String>,
    /// What [`Load::slots`] says. More requests than that are served all the same.
    pub slots: u32,
    /// Between two tokens of `dummy/paced`.
    pub pace: Duration,
    /// Before the first token of `dummy/slow`.
    pub delay: Duration,
}

impl DummyOptions {
    /// All of [`NAMES`], 4 slots, a token each 20 ms, a delay of 5 s.
    pub fn all() -> DummyOptions {
        DummyOptions {
            models: NAMES.iter().map(|name| (*name).to_owned()).collect(),
            slots: 4,
            pace: Duration::from_millis(20),
            delay: Duration::from_secs(5),
        }
    }
}

/// The id of the dummy model called `name`.
pub fn model_id(name: &str) -> ModelId {
    ModelId::of(&sha256(&[name.as_bytes()]), &sha256(&[]))
}

/// An engine whose models do what their names say.
#[derive(Debug)]
pub struct DummyEngine {
    models: Vec<(String, Behaviour)>,
    options: DummyOptions,
    active: Arc<AtomicU32>,
}

impl DummyEngine {
    /// Fails on a name that is no behaviour.
    pub fn new(options: DummyOptions) -> Result<DummyEngine, EngineError> {
        let known = |name: &String| match Behaviour::of(name) {
            Some(behaviour) => Ok((name.clone(), behaviour)),
            None => Err(EngineError::Model {
                path: name.clone(),
                reason: format!(
                    "the dummy models are {}, dummy/N and dummy/every-N",
                    NAMES.join(", ")
                ),
            }),
        };
        let models = options.models.iter().map(known).collect::<Result<_, _>>()?;
        Ok(DummyEngine { models, options, active: Arc::default() })
    }
}

#[async_trait]
impl Engine for DummyEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Dummy
    }

    fn version(&self) -> String {
        "dummy 1".to_owned()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        let describe = |(name, behaviour): &(String, Behaviour)| EngineModel {
            id: model_id(name),
            alias: name.clone(),
            weights: sha256(&[name.as_bytes()]),
            weights_known: false,
            context_tokens: CONTEXT_TOKENS,
            abilities: behaviour.abilities(),
        };
        Ok(self.models.iter().map(describe).collect())
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        let behaviour = self.models.iter().find(|(name, _)| model_id(name) == model);
        let &(_, behaviour) = behaviour.ok_or(EngineError::UnknownModel { model })?;
        if let Some(what) = behaviour.abilities().lacking(&Abilities::needed(&request)) {
            return Err(EngineError::Lacking { what });
        }
        if behaviour == Behaviour::Refuses {
            let message = "dummy/refuses refuses".to_owned();
            let url = "dummy".to_owned();
            return Err(EngineError::Refused { url, status: 503, message, retry_after_ms: None });
        }
        if let Prompt::Inputs(inputs) = &request.prompt {
            let active = Active::count(&self.active);
            let made = embed(inputs)?;
            return Ok(vectors::hand_on(made, FinishReason::Stop, cancel, active));
        }
        let prompt_tokens = words(&prompt_text(&request.prompt)).len();
        let prompt_tokens = u32::try_from(prompt_tokens).unwrap_or(u32::MAX).max(1);
        let context_tokens = CONTEXT_TOKENS;
        if prompt_tokens >= context_tokens {
            return Err(EngineError::ContextFull { prompt_tokens, context_tokens });
        }
        let (sender, events) = mpsc::channel(STREAM_EVENTS_MAX);
        let script = Script {
            behaviour,
            pace: self.options.pace,
            delay: self.options.delay,
            prompt_tokens,
            request,
            sender,
            cancel,
            delivered: 0,
            _active: Active::count(&self.active),
        };
        // Owned by the stream: it ends when that is dropped, `cancel` fires or the script is over.
        tokio::spawn(script.play());
        Ok(Generation { prompt_tokens: Some(prompt_tokens), events: events.into() })
    }

    fn load(&self) -> Load {
        Load { slots: self.options.slots, active: self.active.load(Ordering::Relaxed) }
    }
}

/// A vector of each text, and as many tokens as they have words.
fn embed(inputs: &Inputs) -> Result<Made, EngineError> {
    let tokens = |text: &String| u32::try_from(words(text).len()).unwrap_or(u32::MAX);
    let longest = inputs.texts.iter().map(tokens).max().unwrap_or(0);
    if longest > CONTEXT_TOKENS && !inputs.truncate {
        return Err(EngineError::ContextFull {
            prompt_tokens: longest,
            context_tokens: CONTEXT_TOKENS,
        });
    }
    let read = |text: &String| tokens(text).min(CONTEXT_TOKENS);
    let dimensions = inputs.dimensions.unwrap_or(DIMENSIONS);
    let number = |text: &str, place: u32| {
        let [byte, ..] = sha256(&[text.as_bytes(), &place.to_be_bytes()]).0;
        (f32::from(byte) - 127.5) / 128.0
    };
    let vector = |text: &String| {
        let numbers: Vec<f32> = (0..dimensions).map(|place| number(text, place)).collect();
        vectors::piece_of(&numbers)
    };
    Ok(Made {
        pieces: inputs.texts.iter().map(vector).collect(),
        prompt_tokens: Some(inputs.texts.iter().map(read).fold(0, u32::saturating_add)),
    })
}

/// One request being answered.
struct Script {
    behaviour: Behaviour,
    pace: Duration,
    delay: Duration,
    prompt_tokens: u32,
    request: InferenceRequest,
    sender: mpsc::Sender<EngineEvent>,
    cancel: CancellationToken,
    delivered: u32,
    _active: Active,
}

impl Script {
    async fn play(mut self) {
        let cancel = self.cancel.clone();
        let sender = self.sender.clone();
        let last = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            () = sender.closed() => return,
            last = self.tokens() => Some(last),
        };
        let last = last.unwrap_or_else(|| self.done(FinishReason::Cancelled));
        // The receiver is gone: nobody is left to tell.
        let _ = self.sender.send(last).await;
    }

    /// Delivers the tokens and returns the last event.
    async fn tokens(&mut self) -> EngineEvent {
        if self.behaviour == Behaviour::Slow {
            tokio::time::sleep(self.delay).await;
        }
        if let Some(name) = self.called() {
            return self.call(name).await;
        }
        let echo = match self.behaviour {
            Behaviour::Echo | Behaviour::Slow | Behaviour::NoIds | Behaviour::Calls => {
                words(&last_text(&self.request.prompt))
            }
            _ => Vec::new(),
        };
        let count = match self.behaviour {
            Behaviour::Echo | Behaviour::Slow | Behaviour::NoIds | Behaviour::Calls => echo.len(),
            Behaviour::DiesAfter3 | Behaviour::StallsAfter3 => 3,
            Behaviour::Empty | Behaviour::Refuses | Behaviour::Embed => 0,
            Behaviour::Paced => PACED_TOKENS as usize,
            Behaviour::Long => LONG_TOKENS as usize,
            Behaviour::Burst(count) => count as usize,
            Behaviour::Every(_) => EVERY_TOKENS as usize,
        };
        let wanted = self.request.tokens_max.map_or(usize::MAX, |tokens| tokens as usize);
        let mut stops = StopMachine::new(&self.request.stop);
        // It goes on with its own script behind what was begun.
        let begun = self.request.begun.as_ref().map_or(0, |begun| words(&begun.text).len());
        let end = count.min(begun.saturating_add(wanted));
        for index in begun..end {
            match self.behaviour {
                Behaviour::Paced => tokio::time::sleep(self.pace).await,
                Behaviour::Every(ms) if index > begun => {
                    tokio::time::sleep(Duration::from_millis(ms.into())).await;
                }
                _ => {}
            }
            let text = echo.get(index).cloned().unwrap_or_else(|| format!(" t{index}"));
            match stops.push(self.piece(text)) {
                Step::Continue(pieces) => self.deliver(pieces).await,
                Step::Stopped(pieces) => {
                    self.deliver(pieces).await;
                    return self.done(FinishReason::Stop);
                }
            }
        }
        self.deliver(stops.finish()).await;
        match self.behaviour {
            _ if end < count => self.done(FinishReason::Length),
            Behaviour::DiesAfter3 => {
                EngineEvent::Failed { reason: "dummy/dies-after-3-tokens died".to_owned() }
            }
            Behaviour::StallsAfter3 => std::future::pending().await,
            _ => self.done(FinishReason::Stop),
        }
    }

    /// The tool to call now.
    fn called(&self) -> Option<String> {
        let tools = self.request.tools.as_ref().filter(|_| self.behaviour == Behaviour::Calls)?;
        match (&self.request.prompt, &tools.choice) {
            (_, ToolChoice::Named(name)) => Some(name.clone()),
            (Prompt::Chat(messages), ToolChoice::Auto)
                if messages.last().is_some_and(|last| last.role == Role::Tool) =>
            {
                None
            }
            _ => tools.list.first().map(|tool| tool.name.clone()),
        }
    }

    async fn call(&mut self, name: String) -> EngineEvent {
        let piece = |span, text: String| TokenPiece {
            span,
            bytes: text.into_bytes(),
            ..TokenPiece::default()
        };
        let arguments = last_text(&self.request.prompt);
        let parts = words(&arguments).into_iter().map(|text| piece(Span::CallArguments, text));
        let pieces = std::iter::once(piece(Span::CallName, name)).chain(parts).collect();
        self.deliver(pieces).await;
        self.done(FinishReason::Stop)
    }

    async fn deliver(&mut self, pieces: Vec<TokenPiece>) {
        for piece in pieces {
            // A closed stream ends `play` at the next await.
            if self.sender.send(EngineEvent::Token(piece)).await.is_ok() {
                self.delivered = self.delivered.saturating_add(1);
            }
        }
    }

    fn piece(&self, text: String) -> TokenPiece {
        let id = (self.behaviour != Behaviour::NoIds).then(|| token_id(&text));
        let logprob_micros = self.request.logprobs.and(id).map(|_| -100_000);
        let alternatives = match self.request.logprobs {
            Some(count) if count > 0 && id.is_some() => {
                vec![Alternative { id, bytes: text.clone().into_bytes(), logprob_micros: -100_000 }]
            }
            _ => Vec::new(),
        };
        let bytes = text.into_bytes();
        TokenPiece { id, bytes, logprob_micros, alternatives, ..TokenPiece::default() }
    }

    fn done(&self, finish: FinishReason) -> EngineEvent {
        let counted = match self.behaviour {
            Behaviour::NoIds => CountMethod::Chunks,
            _ => CountMethod::TokenIds,
        };
        let usage = Usage {
            prompt_tokens: Some(self.prompt_tokens),
            completion_tokens: Some(self.delivered),
            counted,
        };
        EngineEvent::Done { finish, usage }
    }
}

/// The same id for the same text, anywhere.
fn token_id(text: &str) -> u32 {
    let [a, b, c, ..] = sha256(&[text.as_bytes()]).0;
    u32::from_be_bytes([0, a, b, c])
}

fn prompt_text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(messages) => {
            messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join(" ")
        }
        Prompt::Text(text) => text.clone(),
        Prompt::Inputs(inputs) => inputs.texts.join(" "),
    }
}

fn last_text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Chat(messages) => {
            messages.last().map(|message| message.content.clone()).unwrap_or_default()
        }
        Prompt::Text(text) => text.clone(),
        Prompt::Inputs(inputs) => inputs.texts.last().cloned().unwrap_or_default(),
    }
}

/// Words with the space before each; joined they are the text.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in text.chars() {
        match words.last_mut() {
            Some(word) if !(c == ' ' && word.chars().any(|c| c != ' ')) => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}
