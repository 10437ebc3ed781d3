//! Ollama, by its native API.
//!
//! What Ollama does silently unless told otherwise is told otherwise: the context is always set,
//! prompts are never cut and answers always end. What a version cannot be told is refused.
//!
//! Ollama tells no token ids. With its folder of models ([`OllamaOptions::models`]) they are found by their bytes, and answers
//! can be audited.

mod file;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU32, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use reqwest::RequestBuilder;
use tokio_util::sync::CancellationToken;
use types::{
    Hash32, ModelId,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    hash::sha256,
    inference::{
        Alternative, AnswerForm, ChatMessage, FinishReason, InferenceRequest, Inputs, Prompt, Role,
        Span, TokenPiece,
    },
    limits,
    offer::EngineKind,
    tools,
};
use wire::upstream::ollama::{
    CalledFunction, ChatRequest, Chunk, ChunkCall, Common, EmbedOptions, EmbedRequest, Embeddings,
    GenerateRequest, Logprob, Message, Options, Show, ShowRequest, TaggedModel, Tags, ToolCall,
    Version,
};

use self::file::{ModelFile, Reading};
use crate::{
    Engine, EngineError, EngineModel, Generation, Load, bounded_name,
    lines::Lines,
    remote::{self, Decode, Part, QUESTION_TIMEOUT, StreamError, chunk_pieces},
    vectors::{self, Made},
};

/// The first version with `truncate` and `shift`: before, long prompts are cut silently.
const NEVER_CUTS: [u32; 3] = [0, 12, 6];
/// The first version with log-probabilities.
const HAS_LOGPROBS: [u32; 3] = [0, 12, 11];
/// The first version that is told of how many dimensions vectors are to be.
const HAS_DIMENSIONS: [u32; 3] = [0, 11, 11];
/// What its version ends with where ids are told (`verify::engines`).
const OLLAMA_IDS: &str = " ids";
/// Descriptions of models asked for at once.
const SHOWS_AT_ONCE: usize = 4;

/// How an [`OllamaEngine`] is set up.
#[derive(Clone, Debug)]
pub struct OllamaOptions {
    /// For example `http://127.0.0.1:11434`.
    pub base_url: String,
    /// Offers at most this much of a model's context: memory is taken for all of it.
    pub context_tokens_max: u32,
    /// Requests that it runs at once, which the server does not tell (`OLLAMA_NUM_PARALLEL`).
    pub slots: u32,
    /// Its folder of models, with `blobs` in it. A model whose file there has a chat template is known by the file, like the
    /// same file in other engines: its chats are rendered by that template and sent as they stand, and its tokens get ids.
    pub models: Option<PathBuf>,
}

impl OllamaOptions {
    /// 8192 tokens of context, 1 slot: what the server does unless it was set up otherwise.
    pub fn at(base_url: &str) -> OllamaOptions {
        let base_url = base_url.to_owned();
        OllamaOptions { base_url, context_tokens_max: 8_192, slots: 1, models: None }
    }
}

/// A model, and its file if that can be read here.
#[derive(Clone, Debug)]
struct Described {
    model: EngineModel,
    file: Option<Arc<ModelFile>>,
}

/// Runs the models of an Ollama server.
#[derive(Debug)]
pub struct OllamaEngine {
    base: String,
    client: reqwest::Client,
    options: OllamaOptions,
    version: String,
    numbers: [u32; 3],
    /// By manifest digest, which changes with the model: each is described once.
    described: Mutex<HashMap<String, Described>>,
    active: Arc<AtomicU32>,
}

impl OllamaEngine {
    /// Asks for the server's version.
    pub async fn connect(options: OllamaOptions) -> Result<OllamaEngine, EngineError> {
        OllamaEngine::connect_within(options, QUESTION_TIMEOUT).await
    }

    pub(crate) async fn connect_within(
        options: OllamaOptions,
        timeout: Duration,
    ) -> Result<OllamaEngine, EngineError> {
        let base = remote::base(&options.base_url);
        let client = remote::client(&base)?;
        let version: Version =
            remote::ask(&base, client.get(format!("{base}/api/version")), timeout).await?;
        Ok(OllamaEngine {
            numbers: numbers(&version.version),
            version: bounded_name(&format!("ollama {}", version.version)),
            base,
            client,
            options,
            described: Mutex::default(),
            active: Arc::default(),
        })
    }

    async fn describe(&self, tagged: TaggedModel) -> Result<Option<Described>, EngineError> {
        if tagged.remote_host.is_some() {
            return Ok(None);
        }
        let known = self.lock().get(&tagged.digest).cloned();
        if let Some(known) = known.filter(|known| known.model.alias == bounded_name(&tagged.name)) {
            return Ok(Some(known));
        }
        let request = self.client.post(format!("{}/api/show", self.base));
        let request = request.json(&ShowRequest { model: &tagged.name });
        let show: Show = remote::ask(&self.base, request, QUESTION_TIMEOUT).await?;
        let Some(abilities) = abilities(&show.capabilities, self.numbers) else { return Ok(None) };
        let mut model = model(&tagged, &show, self.options.context_tokens_max, abilities);
        let file = match abilities.completions && abilities.logprobs && model.weights_known {
            true => self.file(model.weights).await,
            false => None,
        };
        if let Some(file) = &file {
            model.id = ModelId::of(&model.weights, &file.texts.template_digest());
        }
        Ok(Some(Described { model, file }))
    }

    /// The file of these weights. What cannot be read is served as if there were no folder.
    async fn file(&self, weights: Hash32) -> Option<Arc<ModelFile>> {
        let folder = self.options.models.clone()?;
        let found = tokio::task::spawn_blocking(move || ModelFile::find(&folder, &weights));
        match found.await {
            Ok(Ok(file)) => Some(Arc::new(file)),
            Ok(Err(error)) => {
                tracing::info!(%error, "ollama.model is served without ids");
                None
            }
            Err(_) => None,
        }
    }

    fn found(&self, model: ModelId) -> Option<Described> {
        self.lock().values().find(|described| described.model.id == model).cloned()
    }

    fn has_logprobs(&self) -> bool {
        self.numbers >= HAS_LOGPROBS
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Described>> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server cannot be trusted to honour.
    fn check(&self, model: &EngineModel, request: &InferenceRequest) -> Result<(), EngineError> {
        if request.logprobs.is_some() && !self.has_logprobs() {
            let what = "log-probabilities; update Ollama to 0.12.11 or later";
            return Err(EngineError::Unsupported { what });
        }
        model.check(request)?;
        // Texts to embed were never cut unasked.
        let is_text = request.prompt.vectors().is_none();
        if is_text
            && self.numbers < NEVER_CUTS
            && request.prompt_tokens_max() > model.context_tokens
        {
            let what = "prompts that may exceed the context, which this version cuts silently; \
                update Ollama to 0.12.6 or later";
            return Err(EngineError::Unsupported { what });
        }
        Ok(())
    }

    fn request(
        &self,
        model: &EngineModel,
        request: &InferenceRequest,
        raw: Option<&str>,
    ) -> Result<RequestBuilder, EngineError> {
        let common = common(model, request)?;
        let model = model.alias.as_str();
        if let Some(prompt) = raw {
            let body = GenerateRequest { model, prompt, raw: true, common };
            return Ok(self.client.post(format!("{}/api/generate", self.base)).json(&body));
        }
        Ok(match &request.prompt {
            Prompt::Chat(messages) => {
                let mut sent = chat(messages)?;
                // Ollama's templates leave a last message of the assistant open.
                sent.extend(request.begun.as_ref().map(|begun| Message {
                    role: Role::Assistant.as_str(),
                    content: &begun.text,
                    tool_calls: Vec::new(),
                    tool_name: None,
                    tool_call_id: None,
                }));
                let tools = remote::tools(request.tools.as_ref())?;
                let body = ChatRequest { model, messages: sent, tools, common };
                self.client.post(format!("{}/api/chat", self.base)).json(&body)
            }
            Prompt::Text(prompt) => {
                let prompt = &remote::raw_prompt(prompt, request.begun.as_ref());
                let body = GenerateRequest { model, prompt, raw: true, common };
                self.client.post(format!("{}/api/generate", self.base)).json(&body)
            }
            Prompt::Inputs(inputs) => self.embed_request(model, inputs, common.options.num_ctx),
        })
    }

    fn embed_request(&self, model: &str, inputs: &Inputs, num_ctx: u32) -> RequestBuilder {
        let Inputs { texts: input, dimensions, truncate } = inputs;
        let options = EmbedOptions { num_ctx };
        let (truncate, dimensions) = (*truncate, *dimensions);
        let body = EmbedRequest { model, input, truncate, dimensions, options };
        self.client.post(format!("{}/api/embed", self.base)).json(&body)
    }
}

#[async_trait]
impl Engine for OllamaEngine {
    fn kind(&self) -> EngineKind {
        EngineKind::Ollama
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn version_of(&self, model: ModelId) -> String {
        match self.found(model).and_then(|described| described.file) {
            Some(_) => bounded_name(&format!("{}{OLLAMA_IDS}", self.version)),
            None => self.version.clone(),
        }
    }

    /// The models that are stored at the server and run there, at most as many as an offer holds.
    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        let request = self.client.get(format!("{}/api/tags", self.base));
        let tags: Tags = remote::ask(&self.base, request, QUESTION_TIMEOUT).await?;
        let tagged = tags.models.into_iter().take(limits::OFFER_MODELS_MAX);
        let digests: Vec<String> = tagged.clone().map(|tagged| tagged.digest).collect();
        let models: Vec<_> = stream::iter(tagged.map(|tagged| self.describe(tagged)))
            .buffered(SHOWS_AT_ONCE)
            .collect()
            .await;
        let models = models.into_iter().collect::<Result<Vec<_>, _>>()?;
        let described = digests.into_iter().zip(&models);
        *self.lock() = described.filter_map(|(d, model)| Some((d, model.clone()?))).collect();
        Ok(models.into_iter().flatten().map(|described| described.model).collect())
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        let found = self.found(model).ok_or(EngineError::UnknownModel { model })?;
        let Described { model, file } = found;
        self.check(&model, &request)?;
        let raw = match &file {
            Some(file) => file.prompt(&request)?,
            None => None,
        };
        let sent = self.request(&model, &request, raw.as_deref())?;
        if let Prompt::Inputs(inputs) = &request.prompt {
            let made = |answer: Embeddings| {
                Some(Made {
                    pieces: answer.embeddings.iter().map(|it| vectors::piece_of(it)).collect(),
                    prompt_tokens: answer.prompt_eval_count,
                })
            };
            return vectors::ask(&self.base, sent, inputs, cancel, &self.active, made).await;
        }
        let reading = match (file, raw) {
            (Some(file), Some(prompt)) if request.logprobs.is_some() => {
                // A prompt of megabytes takes a while to tokenize.
                let reading = tokio::task::spawn_blocking(move || file.reading(&prompt));
                reading.await.ok()
            }
            _ => None,
        };
        let decode = OllamaStream {
            lines: Lines::default(),
            logprobs: request.logprobs,
            reading,
            calls_left: match &request.tools {
                Some(tools) if !tools.parallel => 1,
                _ => limits::TOOL_CALLS_MAX,
            },
        };
        let sent = remote::sent(&self.base, sent);
        remote::stream(&self.base, sent, &request, cancel, &self.active, decode).await
    }

    fn load(&self) -> Load {
        Load { slots: self.options.slots, active: self.active.load(Ordering::Relaxed) }
    }
}

/// `0.12.11-rc1` as its numbers. A development build (`0.0.0`) counts as the oldest: what it can do
/// is not known.
fn numbers(version: &str) -> [u32; 3] {
    let plain = version.trim_start_matches('v').split(['-', '+']).next().unwrap_or("");
    let mut parts = plain.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

/// What a model can do of which the server tells these capabilities; `None` if it is of no use here.
fn abilities(capabilities: &[String], numbers: [u32; 3]) -> Option<Abilities> {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let completions = capabilities.is_empty() || has("completion");
    let embeddings = match (has("embedding"), numbers >= HAS_DIMENSIONS) {
        (false, _) => EmbeddingAbility::None,
        (true, false) => EmbeddingAbility::Fixed,
        (true, true) => EmbeddingAbility::Sized,
    };
    if !completions {
        let abilities = Abilities { completions, embeddings, ..Abilities::default() };
        return (embeddings != EmbeddingAbility::None).then_some(abilities);
    }
    Some(Abilities {
        completions,
        embeddings,
        logprobs: numbers >= HAS_LOGPROBS,
        json: true,
        // It cannot be told that a tool must be called.
        tools: if has("tools") { ToolAbility::Auto } else { ToolAbility::None },
        samplers: true,
    })
}

fn model(
    tagged: &TaggedModel,
    show: &Show,
    context_tokens_max: u32,
    abilities: Abilities,
) -> EngineModel {
    let weights = show.weights_sha256().and_then(|digest| digest.parse::<Hash32>().ok());
    let described = || match tagged.digest.trim_start_matches("sha256:").parse() {
        Ok(digest) => digest,
        Err(_) => sha256(&[b"ollama\0", tagged.name.as_bytes(), tagged.digest.as_bytes()]),
    };
    let template = match show.renderer.is_empty() {
        true => sha256(&[show.template.as_bytes()]),
        false => sha256(&[show.template.as_bytes(), b"\0renderer\0", show.renderer.as_bytes()]),
    };
    let context_tokens = show.context_tokens().and_then(|tokens| u32::try_from(tokens).ok());
    let digest = weights.unwrap_or_else(described);
    EngineModel {
        id: ModelId::of(&digest, &template),
        alias: bounded_name(&tagged.name),
        weights: digest,
        weights_known: weights.is_some(),
        context_tokens: context_tokens.unwrap_or(u32::MAX).min(context_tokens_max),
        abilities,
    }
}

fn chat(messages: &[ChatMessage]) -> Result<Vec<Message<'_>>, EngineError> {
    // A result is known by the name of its tool too.
    let mut names = HashMap::new();
    let mut sent = Vec::with_capacity(messages.len());
    for message in messages {
        names.extend(message.calls.iter().map(|call| (&call.id, call.name.as_str())));
        sent.push(Message {
            role: message.role.as_str(),
            content: &message.content,
            tool_calls: message.calls.iter().map(called).collect::<Result<_, _>>()?,
            tool_name: message.call_id.as_ref().and_then(|id| names.get(id).copied()),
            tool_call_id: message.call_id.as_deref(),
        });
    }
    Ok(sent)
}

fn called(call: &tools::ToolCall) -> Result<ToolCall<'_>, EngineError> {
    let arguments = remote::json(&call.arguments, "what a tool was called with")?;
    Ok(ToolCall { id: &call.id, function: CalledFunction { name: &call.name, arguments } })
}

fn common<'a>(
    model: &EngineModel,
    request: &'a InferenceRequest,
) -> Result<Common<'a>, EngineError> {
    let sampling = &request.sampling;
    let format = match &request.form {
        None => None,
        Some(AnswerForm::Json) => Some("json".into()),
        Some(AnswerForm::Schema(schema)) => Some(remote::schema(schema)?),
    };
    Ok(Common {
        stream: true,
        think: false,
        truncate: false,
        shift: false,
        logprobs: request.logprobs.is_some(),
        top_logprobs: request.logprobs,
        options: Options {
            num_ctx: model.context_tokens,
            num_predict: request.tokens_max.unwrap_or(u32::MAX).min(model.context_tokens),
            seed: sampling.seed.map(remote::seed),
            temperature: sampling.temperature_micros.map(remote::from_micros),
            top_p: sampling.top_p_micros.map(remote::from_micros),
            presence_penalty: sampling.presence_penalty_micros.map(remote::from_micros),
            frequency_penalty: sampling.frequency_penalty_micros.map(remote::from_micros),
            top_k: sampling.top_k,
            min_p: sampling.min_p_micros.map(remote::from_micros),
            repeat_penalty: sampling.repeat_penalty_micros.map(remote::from_micros),
            stop: &request.stop,
        },
        format,
    })
}

/// Understands newline-delimited JSON.
struct OllamaStream {
    lines: Lines,
    logprobs: Option<u8>,
    /// If ids can be told.
    reading: Option<Reading>,
    /// It cannot be told to make only one; the others are left out.
    calls_left: usize,
}

impl Decode for OllamaStream {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Part>, StreamError> {
        let mut parts = Vec::new();
        for line in self.lines.push(bytes)? {
            self.line(&line, &mut parts)?;
        }
        Ok(parts)
    }

    fn finish(&mut self) -> Result<Vec<Part>, StreamError> {
        let mut parts = Vec::new();
        if let Some(line) = self.lines.finish() {
            self.line(&line, &mut parts)?;
        }
        Ok(parts)
    }
}

impl OllamaStream {
    fn line(&mut self, line: &[u8], parts: &mut Vec<Part>) -> Result<(), StreamError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_slice(line)?;
        if let Some(error) = chunk.error {
            return Err(StreamError::Told(error));
        }
        let (content, calls) = match chunk.message {
            Some(message) => (Some(message.content), message.tool_calls),
            None => (None, Vec::new()),
        };
        let text = content.or(chunk.response);
        let text = text.unwrap_or_default().into_bytes();
        let logprobs = chunk.logprobs.unwrap_or_default();
        parts.extend(self.pieces(&text, &logprobs).into_iter().map(Part::Piece));
        let calls_left = self.calls_left;
        self.calls_left = calls_left.saturating_sub(calls.len());
        for ChunkCall { function } in calls.into_iter().take(calls_left) {
            if !(1..=limits::TOOL_NAME_BYTES_MAX).contains(&function.name.len()) {
                return Err(StreamError::Told("a call without the name of a tool".to_owned()));
            }
            parts.push(Part::Call(function.name));
            parts.push(Part::Arguments(match function.arguments.is_null() {
                true => "{}".to_owned(),
                false => function.arguments.to_string(),
            }));
        }
        if chunk.done {
            let finish = match chunk.done_reason.as_deref() {
                Some("length") => FinishReason::Length,
                // Loading and unloading answer nothing.
                Some("load" | "unload") => return Err(StreamError::Cut),
                _ => FinishReason::Stop,
            };
            parts.push(Part::Finish(finish));
            if let (Some(reading), Some(tokens)) = (&self.reading, chunk.prompt_eval_count) {
                reading.prompt_had(tokens);
            }
            let (prompt_tokens, completion_tokens) = (chunk.prompt_eval_count, chunk.eval_count);
            parts.push(Part::Usage { prompt_tokens, completion_tokens });
            parts.push(Part::End);
        }
        Ok(())
    }

    /// A piece per token where the tokens are the text, else the text as it came. With ids if they are known of the text so
    /// far.
    fn pieces(&mut self, text: &[u8], logprobs: &[Logprob]) -> Vec<TokenPiece> {
        let said: Vec<&[u8]> = logprobs.iter().map(Logprob::bytes).collect();
        let Some(count) = self.logprobs.filter(|_| said.concat() == text) else {
            if let Some(reading) = &mut self.reading {
                reading.lose();
            }
            return chunk_pieces(text).collect();
        };
        let pieces = logprobs.iter().map(|logprob| self.piece(logprob, count.into()));
        let pieces: Vec<TokenPiece> = pieces.collect();
        let is_piece = |it: &TokenPiece| (1..=limits::TOKEN_BYTES_MAX).contains(&it.bytes.len());
        pieces.into_iter().filter(is_piece).collect()
    }

    fn piece(&mut self, logprob: &Logprob, alternatives: usize) -> TokenPiece {
        let told = logprob.top_logprobs.get(..alternatives).unwrap_or(&logprob.top_logprobs);
        let id = self.reading.as_mut().and_then(|reading| reading.token(logprob.bytes()));
        let ids = match &self.reading {
            Some(reading) => reading.alternatives(told),
            None => vec![None; told.len()],
        };
        let alternative = |(logprob, id): (&Logprob, Option<u32>)| Alternative {
            id,
            bytes: logprob.bytes().to_vec(),
            logprob_micros: remote::to_micros(logprob.logprob),
        };
        TokenPiece {
            span: Span::Text,
            id,
            bytes: logprob.bytes().to_vec(),
            logprob_micros: Some(remote::to_micros(logprob.logprob)),
            alternatives: told.iter().zip(ids).map(alternative).collect(),
            projection: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_their_numbers() {
        assert!(numbers("0.12.11") >= HAS_LOGPROBS);
        assert!(numbers("0.12.11-rc1") >= HAS_LOGPROBS);
        assert!(numbers("v1.0") >= HAS_LOGPROBS);
        assert!(numbers("0.12.9") < HAS_LOGPROBS);
        assert!(numbers("0.9.0") < NEVER_CUTS);
        assert!(numbers("0.0.0") < NEVER_CUTS);
        assert!(numbers("nonsense") < NEVER_CUTS);
    }
}
