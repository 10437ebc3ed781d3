//! Any server that speaks OpenAI's API: llama-server, vLLM, LM Studio and kin.
//!
//! What a server tells of itself beyond that API (llama-server's `/props`, vLLM's `/version`) is
//! used where it is there. Servers that are neither are taken to have no log-probabilities.

mod prompt_logprobs;
mod scoring;
mod served_file;
mod stream;
mod whole;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, header::CONTENT_TYPE, header::InvalidHeaderValue};
use reqwest::RequestBuilder;
use tokio_util::sync::CancellationToken;
use types::{
    Hash32, ModelId,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    hash::sha256,
    inference::{AnswerForm, ChatMessage, InferenceRequest, Inputs, Prompt, Role},
    limits,
    offer::EngineKind,
    tools::{self, ToolChoice},
    vector::Vectors,
};
use wire::upstream::openai::{
    CalledFunction, ChatRequest, Common, CompletionRequest, EmbeddingRequest, Embeddings, Message,
    Model, Models, Props, StreamOptions, ToolCall, Version,
};

pub use self::served_file::ServedFile;
use self::{scoring::Scorer, stream::OpenAiStream, whole::WholeAnswer};
use crate::{
    Engine, EngineError, EngineModel, Generation, Load, LogitsStream, Vocabulary, bounded_name,
    plain::Plain,
    remote::{self, QUESTION_TIMEOUT, Reply, ReplyBody, is_missing},
    vectors::{self, Made},
};

/// A key for a server. Shown nowhere.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    pub fn new(key: String) -> ApiKey {
        ApiKey(key)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How an [`OpenAiEngine`] is set up.
#[derive(Clone, Debug)]
pub struct OpenAiOptions {
    /// With or without `/v1`, for example `http://127.0.0.1:8080/v1`.
    pub base_url: String,
    pub api_key: Option<ApiKey>,
    /// The context of a model where the server does not tell it.
    pub context_tokens: u32,
    /// Requests that run at once where the server does not tell.
    pub slots: u32,
    /// Only models of these names; empty: all that the server lists.
    pub models: Vec<String>,
    /// Somebody else's service, whose answers are sold on. It is said so, and a server of a kind that is not known is
    /// believed to understand tools and JSON.
    pub resold: bool,
}

impl OpenAiOptions {
    /// No key; a context of 4096 tokens and 4 slots where the server does not tell.
    pub fn at(base_url: &str) -> OpenAiOptions {
        OpenAiOptions {
            base_url: base_url.to_owned(),
            api_key: None,
            context_tokens: 4_096,
            slots: 4,
            models: Vec::new(),
            resold: false,
        }
    }
}

/// Whose server it is, as far as that matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    LlamaServer,
    Vllm,
    Other,
}

/// A model under the name that the server wants to hear.
#[derive(Clone, Debug)]
struct Known {
    name: String,
    model: EngineModel,
}

/// Runs the models of a server with OpenAI's API.
#[derive(Debug)]
pub struct OpenAiEngine {
    base: String,
    client: reqwest::Client,
    /// A shorter way, if the server can be reached by it.
    plain: Option<Arc<Plain>>,
    /// What goes with every request on it.
    login: Option<HeaderValue>,
    options: OpenAiOptions,
    family: Family,
    version: String,
    known: Mutex<Vec<Known>>,
    active: Arc<AtomicU32>,
    slots: u32,
    /// It has refused to answer otherwise.
    only_streams: AtomicBool,
}

/// How an answer is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Manner {
    Streamed,
    Whole,
}

impl OpenAiEngine {
    /// Asks what the server is and which models it has.
    pub async fn connect(options: OpenAiOptions) -> Result<OpenAiEngine, EngineError> {
        OpenAiEngine::connect_within(options, QUESTION_TIMEOUT).await
    }

    pub(crate) async fn connect_within(
        options: OpenAiOptions,
        timeout: Duration,
    ) -> Result<OpenAiEngine, EngineError> {
        let base = remote::base(&options.base_url);
        let login = options.api_key.as_ref().map(login).transpose();
        let mut engine = OpenAiEngine {
            client: remote::client(&base)?,
            // What no header can hold is left to the client that says so.
            plain: login.is_ok().then(|| Plain::to(&base)).flatten(),
            login: login.ok().flatten(),
            base,
            slots: options.slots,
            options,
            family: Family::Other,
            version: "openai-compatible".to_owned(),
            known: Mutex::default(),
            active: Arc::default(),
            only_streams: AtomicBool::new(false),
        };
        let models: Models = engine.get("/v1/models", timeout).await?;
        let owner = models.data.first().and_then(|model| model.owned_by.as_deref());
        let props = engine.props(timeout).await?;
        let build = props.as_ref().and_then(|props| props.build_info.as_deref());
        if owner == Some("llamacpp") || build.is_some() {
            engine.family = Family::LlamaServer;
            engine.version = bounded_name(&format!("llama.cpp {}", build.unwrap_or("unknown")));
            let slots = props.as_ref().and_then(|props| props.total_slots);
            engine.slots = slots.unwrap_or(engine.slots).max(1);
        } else if owner == Some("vllm") {
            engine.family = Family::Vllm;
            let version = engine.get::<Version>("/version", timeout).await;
            let version = version.map_or_else(|_| "unknown".to_owned(), |told| told.version);
            engine.version = bounded_name(&format!("vllm {version}"));
        }
        if engine.options.resold {
            engine.version = bounded_name(&format!("resold from {}", remote::host(&engine.base)));
        }
        let lists = |name: &&String| models.data.iter().any(|model| model.id == **name);
        if let Some(name) = engine.options.models.iter().find(|name| !lists(name)).cloned() {
            return Err(EngineError::Unlisted { url: engine.base, name });
        }
        let embeds = engine.embeds(&models, timeout).await?;
        engine.remember(&models, props.as_ref(), embeds);
        Ok(engine)
    }

    /// A model by the name that the server has for it, of those it listed last.
    pub fn model_named(&self, name: &str) -> Option<EngineModel> {
        let known = self.lock();
        known.iter().find(|known| known.name == name).map(|known| known.model.clone())
    }

    /// The name that the server has for a model, of those it listed last.
    fn name_of(&self, id: ModelId) -> Option<String> {
        let known = self.lock();
        known.iter().find(|known| known.model.id == id).map(|known| known.name.clone())
    }

    /// Whether it is llama.cpp's own server.
    pub fn is_llama_server(&self) -> bool {
        self.family == Family::LlamaServer
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<T, EngineError> {
        let request = self.client.get(format!("{}{path}", self.base));
        remote::ask(&self.base, self.with_key(request), timeout).await
    }

    /// `None` where the server has no such page, or something else under its name.
    async fn props(&self, timeout: Duration) -> Result<Option<Props>, EngineError> {
        match self.get("/props", timeout).await {
            Ok(props) => Ok(Some(props)),
            Err(EngineError::Protocol { .. }) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.options.api_key {
            Some(ApiKey(key)) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Those of the server's models that may be used here.
    fn wanted<'a>(&'a self, models: &'a Models) -> impl Iterator<Item = &'a Model> {
        let wanted = &self.options.models;
        let is_wanted = |model: &&Model| wanted.is_empty() || wanted.contains(&model.id);
        models.data.iter().filter(is_wanted).take(limits::OFFER_MODELS_MAX)
    }

    /// Whether the server makes vectors, found out by having it make one: neither llama-server nor vLLM tells.
    /// Other servers are not asked; what a service would do with it costs money.
    async fn embeds(&self, models: &Models, timeout: Duration) -> Result<bool, EngineError> {
        let Some(model) = self.wanted(models).next() else { return Ok(false) };
        if self.family == Family::Other || self.options.resold {
            return Ok(false);
        }
        let inputs = Inputs { texts: vec!["a".to_owned()], dimensions: None, truncate: false };
        let request = self.embed_request(&model.id, &inputs);
        match remote::ask(&self.base, request, timeout).await {
            Ok(answer) => Ok(made(answer).is_some_and(|made| is_whole(&inputs, &made))),
            Err(EngineError::Refused { .. } | EngineError::Protocol { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remember(&self, models: &Models, props: Option<&Props>, embeds: bool) -> Vec<EngineModel> {
        let model = |model: &Model| Known {
            name: model.id.clone(),
            model: describe(model, props, &self.options, (self.family, embeds)),
        };
        let known: Vec<Known> = self.wanted(models).map(model).collect();
        let models = known.iter().map(|known| known.model.clone()).collect();
        *self.lock() = known;
        models
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a request for text is sent, and its body.
    fn request(
        &self,
        known: &Known,
        request: &InferenceRequest,
        manner: Manner,
    ) -> Result<(&'static str, Bytes), EngineError> {
        let model = known.name.as_str();
        let common = common(known, request, (self.family, manner));
        // llama-server tells the token itself only together with at least one alternative.
        let asked = request.logprobs.map(|count| count.max(1));
        let bytes = body_bytes(request);
        match &request.prompt {
            Prompt::Chat(messages) => {
                let begun = request.begun.as_ref().map(|begun| Message {
                    role: Role::Assistant.as_str(),
                    content: &begun.text,
                    tool_calls: Vec::new(),
                    tool_call_id: None,
                });
                let messages = messages.iter().map(message).chain(begun).collect();
                let wanted = request.tools.as_ref();
                let (logprobs, top_logprobs) = (asked.is_some(), asked);
                // llama-server continues a last message of the assistant unasked.
                let is_told = request.begun.is_some() && self.family == Family::Vllm;
                let body = ChatRequest {
                    model,
                    messages,
                    logprobs,
                    top_logprobs,
                    add_generation_prompt: is_told.then_some(false),
                    continue_final_message: is_told.then_some(true),
                    reasoning_format: (self.family == Family::LlamaServer).then_some("none"),
                    response_format: response_format(request)?,
                    tools: remote::tools(wanted)?,
                    tool_choice: wanted.map(|tools| tool_choice(&tools.choice)),
                    parallel_tool_calls: wanted.map(|tools| tools.parallel),
                    common,
                };
                let json = body.to_json(bytes).map_err(|error| remote::unwritten(&error))?;
                Ok(("/v1/chat/completions", json))
            }
            Prompt::Text(prompt) => {
                let prompt = &remote::raw_prompt(prompt, request.begun.as_ref());
                let body = CompletionRequest { model, prompt, logprobs: asked, common };
                Ok(("/v1/completions", remote::to_json(&body, bytes)?.into()))
            }
            Prompt::Inputs(_) => Err(EngineError::Unsupported { what: "text of vectors" }),
        }
    }

    async fn post(&self, path: &str, json: Bytes) -> Result<Reply, EngineError> {
        if let Some(plain) = &self.plain {
            let reply = plain.post(path, self.login.as_ref(), json.clone()).await;
            let reply = reply.map_err(|error| EngineError::Unreachable {
                url: self.base.clone(),
                source: Box::new(error),
            })?;
            if !reply.status().is_redirection() {
                return Ok(reply.map(ReplyBody::Plain));
            }
        }
        let request = self.client.post(format!("{}{path}", self.base)).body(json);
        let request = request.header(CONTENT_TYPE, "application/json");
        remote::sent(&self.base, self.with_key(request)).await
    }

    fn embed_request(&self, model: &str, inputs: &Inputs) -> RequestBuilder {
        let cuts = inputs.truncate && self.family == Family::Vllm;
        let body = EmbeddingRequest {
            model,
            input: &inputs.texts,
            encoding_format: "base64",
            truncate_prompt_tokens: cuts.then_some(-1),
        };
        self.with_key(self.client.post(format!("{}/v1/embeddings", self.base)).json(&body))
    }

    async fn start(
        &self,
        model: ModelId,
        request: &InferenceRequest,
        manner: Manner,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        let known = self.lock().iter().find(|known| known.model.id == model).cloned();
        let known = known.ok_or(EngineError::UnknownModel { model })?;
        known.model.check(request)?;
        let is_chat = matches!(request.prompt, Prompt::Chat(_));
        if request.begun.is_some() && is_chat && self.family == Family::Other {
            return Err(EngineError::Unsupported { what: "going on with a begun answer" });
        }
        if request.form.is_some() && !is_chat {
            return Err(EngineError::Unsupported { what: "structured output of a raw prompt" });
        }
        if let Prompt::Inputs(inputs) = &request.prompt {
            let sent = self.embed_request(&known.name, inputs);
            return vectors::ask(&self.base, sent, inputs, cancel, &self.active, made).await;
        }
        let (path, json) = self.request(&known, request, manner)?;
        let (url, active, sent) = (&self.base, &self.active, self.post(path, json));
        match manner {
            Manner::Streamed => {
                let decode = OpenAiStream::new(request.logprobs);
                remote::stream(url, sent, request, cancel, active, decode).await
            }
            Manner::Whole => {
                remote::stream(url, sent, request, cancel, active, WholeAnswer::default()).await
            }
        }
    }
}

impl OpenAiEngine {
    /// What can be asked about a text beyond an answer, of llama.cpp's server.
    fn scorer(&self, model: ModelId) -> Result<Scorer, EngineError> {
        if !self.lock().iter().any(|known| known.model.id == model) {
            return Err(EngineError::UnknownModel { model });
        }
        if self.family != Family::LlamaServer {
            return Err(EngineError::Unsupported { what: "scoring given tokens" });
        }
        let key = self.options.api_key.clone();
        Ok(Scorer::new(self.base.clone(), self.client.clone(), key))
    }
}

/// Whether a server says that it only streams, as some services do of some models.
fn wants_to_stream(error: &EngineError) -> bool {
    let message = match error {
        EngineError::BadRequest { reason } => reason,
        EngineError::Refused { status: 400 | 422, message, .. } => message,
        _ => return false,
    };
    message.to_ascii_lowercase().contains("stream")
}

/// The vectors of an answer, in the order of their inputs.
fn made(answer: Embeddings) -> Option<Made> {
    let Embeddings { mut data, usage } = answer;
    data.sort_by_key(|one| one.index);
    let pieces = data.into_iter().enumerate().map(|(place, one)| {
        (one.index == place).then(|| one.embedding.into_bytes().map(vectors::piece))?
    });
    let prompt_tokens = usage.and_then(|usage| usage.prompt_tokens);
    Some(Made { pieces: pieces.collect::<Option<_>>()?, prompt_tokens })
}

fn is_whole(inputs: &Inputs, made: &Made) -> bool {
    let mut vectors = Vectors::of(inputs);
    made.pieces.iter().all(|piece| vectors.take(piece).is_ok()) && vectors.whole().is_ok()
}

/// A key as a header.
fn login(ApiKey(key): &ApiKey) -> Result<HeaderValue, InvalidHeaderValue> {
    let mut login = HeaderValue::from_str(&format!("Bearer {key}"))?;
    login.set_sensitive(true);
    Ok(login)
}

/// Room for a request's text, somewhat escaped, and for what is around it.
fn body_bytes(request: &InferenceRequest) -> usize {
    let text = request.text_bytes();
    text.saturating_add(text / 16).saturating_add(512)
}

fn message(message: &ChatMessage) -> Message<'_> {
    Message {
        role: message.role.as_str(),
        content: &message.content,
        tool_calls: message.calls.iter().map(called).collect(),
        tool_call_id: message.call_id.as_deref(),
    }
}

fn called(call: &tools::ToolCall) -> ToolCall<'_> {
    let function = CalledFunction { name: &call.name, arguments: &call.arguments };
    ToolCall { id: &call.id, kind: "function", function }
}

fn tool_choice(choice: &ToolChoice) -> serde_json::Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Named(name) => {
            serde_json::json!({ "type": "function", "function": { "name": name } })
        }
    }
}

fn response_format(request: &InferenceRequest) -> Result<Option<serde_json::Value>, EngineError> {
    Ok(match &request.form {
        None => None,
        Some(AnswerForm::Json) => Some(serde_json::json!({ "type": "json_object" })),
        Some(AnswerForm::Schema(schema)) => Some(serde_json::json!({
            "type": "json_schema",
            "json_schema": { "name": "answer", "strict": true, "schema": remote::schema(schema)? },
        })),
    })
}

#[async_trait]
impl Engine for OpenAiEngine {
    fn kind(&self) -> EngineKind {
        if self.options.resold { EngineKind::Resold } else { EngineKind::OpenAi }
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    /// The models that the server lists, at most as many as an offer holds.
    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        let models: Models = self.get("/v1/models", QUESTION_TIMEOUT).await?;
        let props = match self.family {
            Family::LlamaServer => self.props(QUESTION_TIMEOUT).await?,
            Family::Vllm | Family::Other => None,
        };
        let known: Vec<(String, bool)> = {
            let known = self.lock();
            known.iter().map(|it| (it.name.clone(), !it.model.abilities.completions)).collect()
        };
        let names = known.iter().map(|(name, _)| name);
        let embeds = match known.first() {
            Some((_, embeds)) if names.eq(self.wanted(&models).map(|model| &model.id)) => *embeds,
            _ => self.embeds(&models, QUESTION_TIMEOUT).await?,
        };
        Ok(self.remember(&models, props.as_ref(), embeds))
    }

    async fn generate(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.start(model, &request, Manner::Streamed, cancel).await
    }

    /// Not where each token is asked about: a document of all of them may be long.
    fn answers_whole(&self, request: &InferenceRequest) -> bool {
        request.logprobs.is_none() && !self.only_streams.load(Ordering::Relaxed)
    }

    async fn answer_whole(
        &self,
        model: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        if !self.answers_whole(&request) {
            return self.start(model, &request, Manner::Streamed, cancel).await;
        }
        match self.start(model, &request, Manner::Whole, cancel.clone()).await {
            Err(error) if wants_to_stream(&error) => {
                let streamed = self.start(model, &request, Manner::Streamed, cancel).await?;
                self.only_streams.store(true, Ordering::Relaxed);
                Ok(streamed)
            }
            started => started,
        }
    }

    async fn logits(
        &self,
        model: ModelId,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        self.scorer(model)?.logits(tokens, from).await
    }

    async fn tokenize(&self, model: ModelId, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        self.scorer(model)?.tokenize(prompt).await
    }

    async fn vocabulary(&self, model: ModelId) -> Result<Vocabulary, EngineError> {
        self.scorer(model)?.vocabulary().await
    }

    fn load(&self) -> Load {
        Load { slots: self.slots, active: self.active.load(Ordering::Relaxed) }
    }
}

fn describe(
    model: &Model,
    props: Option<&Props>,
    options: &OpenAiOptions,
    (family, embeds): (Family, bool),
) -> EngineModel {
    // llama-server's names are paths unless it was given one: the rest is nobody's business.
    let name = model.id.rsplit(['/', '\\']).next().filter(|_| family == Family::LlamaServer);
    let name = name.map_or(model.id.as_str(), |name| name.trim_end_matches(".gguf"));
    let slot = props.and_then(|props| props.default_generation_settings.as_ref()?.n_ctx);
    let trained = model.meta.as_ref().and_then(|meta| meta.n_ctx_train);
    let weights = weights(model, name);
    let template = props.and_then(|props| props.chat_template.as_deref()).unwrap_or("");
    EngineModel {
        id: ModelId::of(&weights, &sha256(&[template.as_bytes()])),
        alias: bounded_name(name),
        weights,
        weights_known: false,
        context_tokens: slot
            .or(model.max_model_len)
            .or(trained)
            .unwrap_or(options.context_tokens)
            .max(1),
        abilities: match options.resold && family == Family::Other {
            true => Abilities { json: true, tools: ToolAbility::Forced, ..Abilities::default() },
            false if embeds => Abilities {
                // llama-server would write too, but not with a model that is made for vectors.
                completions: false,
                embeddings: EmbeddingAbility::Fixed,
                ..Abilities::default()
            },
            false => abilities(props, family),
        },
    }
}

/// What is known of a server of this family. Of others nothing is: many ignore what they do not
/// understand, and a client would believe that it was honoured.
fn abilities(props: Option<&Props>, family: Family) -> Abilities {
    let knows_tools = |props: &Props| {
        let told = props.chat_template_caps.get("supports_tool_calls");
        let told = told.and_then(serde_json::Value::as_bool);
        let template = props.chat_template.as_deref().unwrap_or_default();
        told.unwrap_or_else(|| template.contains("tool"))
    };
    let tools = match family {
        Family::LlamaServer if props.is_some_and(knows_tools) => ToolAbility::Forced,
        Family::Vllm => ToolAbility::Forced,
        Family::LlamaServer | Family::Other => ToolAbility::None,
    };
    let known = family != Family::Other;
    Abilities { logprobs: known, json: known, tools, samplers: known, ..Abilities::default() }
}

/// These servers do not tell the digest of the file: this is one of what they tell instead, which
/// is the same for the same file under the same name.
fn weights(model: &Model, name: &str) -> Hash32 {
    let meta = model.meta.as_ref();
    let number = |number: Option<u64>| number.unwrap_or(0).to_be_bytes();
    sha256(&[
        b"openai\0",
        name.as_bytes(),
        b"\0",
        &number(meta.and_then(|meta| meta.size)),
        &number(meta.and_then(|meta| meta.n_params)),
        &number(meta.and_then(|meta| meta.n_vocab)),
        &number(meta.and_then(|meta| meta.n_embd)),
    ])
}

fn common<'a>(
    known: &Known,
    request: &'a InferenceRequest,
    (family, manner): (Family, Manner),
) -> Common<'a> {
    let sampling = &request.sampling;
    // Of a raw prompt vLLM continues 16 tokens unless told, so it is told what surely fits. llama-server goes on until the model ends
    // or its context is full.
    let room = || known.model.context_tokens.saturating_sub(request.prompt_tokens_max()).max(16);
    let max_tokens = match &request.prompt {
        Prompt::Text(_) if family != Family::LlamaServer => {
            Some(request.tokens_max.unwrap_or_else(room))
        }
        Prompt::Text(_) | Prompt::Chat(_) | Prompt::Inputs(_) => request.tokens_max,
    };
    let repeat_penalty = |whose: Family| {
        sampling.repeat_penalty_micros.filter(|_| family == whose).map(remote::from_micros)
    };
    Common {
        stream: manner == Manner::Streamed,
        stream_options: (manner == Manner::Streamed)
            .then_some(StreamOptions { include_usage: true }),
        max_tokens,
        seed: sampling.seed.map(remote::seed),
        temperature: sampling.temperature_micros.map(remote::from_micros),
        top_p: sampling.top_p_micros.map(remote::from_micros),
        presence_penalty: sampling.presence_penalty_micros.map(remote::from_micros),
        frequency_penalty: sampling.frequency_penalty_micros.map(remote::from_micros),
        top_k: sampling.top_k,
        min_p: sampling.min_p_micros.map(remote::from_micros),
        repeat_penalty: repeat_penalty(Family::LlamaServer),
        repetition_penalty: repeat_penalty(Family::Vllm),
        stop: &request.stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_stand_in_the_order_of_their_texts() {
        let check = |indices: [usize; 2], expected: Option<[f32; 2]>| {
            let [first, second] = indices;
            let answer = format!(
                r#"{{"data":[{{"index":{first},"embedding":[1]}},{{"index":{second},"embedding":[2]}}]}}"#
            );
            let made = made(serde_json::from_str(&answer).unwrap());
            let pieces = made.map(|made| made.pieces);
            let expected =
                expected.map(|numbers| numbers.map(|number| vectors::piece_of(&[number])));
            assert_eq!(pieces.as_deref(), expected.as_ref().map(|pieces| pieces.as_slice()));
        };
        check([0, 1], Some([1.0, 2.0]));
        check([1, 0], Some([2.0, 1.0]));
        check([0, 0], None);
        check([1, 2], None);
    }
}
