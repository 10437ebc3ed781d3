//! Requests of Ollama's clients.

use serde::Deserialize;
use types::{
    inference::{AnswerForm, ChatMessage, InferenceRequest, Prompt, Role, Sampling},
    tools::ToolCall,
};

use super::Kind;
use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, Texts, Unsupported, Unused, checked, micros},
    tools::{FunctionTool, ObjectCall, ToolsWish},
};

/// The fields of both endpoints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: Option<String>,
    // Of `/api/chat`.
    messages: Option<Vec<Message>>,
    // Of `/api/generate`.
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    #[serde(default, rename = "suffix")]
    _suffix: Unsupported,
    #[serde(default, rename = "template")]
    _template: Unsupported,
    /// Token ids of an earlier answer, which older clients send back.
    #[serde(default, rename = "context")]
    _context: Unsupported,
    #[serde(default, rename = "images")]
    _images: Unsupported,
    // Of both. A stream unless refused.
    stream: Option<bool>,
    /// `"json"`, or a JSON Schema.
    format: Option<serde_json::Value>,
    tools: Option<Vec<FunctionTool>>,
    #[serde(default, rename = "think")]
    _think: Unsupported,
    logprobs: Option<bool>,
    top_logprobs: Option<u8>,
    /// Prompts are never cut: one that is too long is refused, which is what `false` asks for.
    truncate: Option<bool>,
    /// Likewise answers.
    shift: Option<bool>,
    /// How long a model stays in memory is its provider's business.
    #[serde(default, rename = "keep_alive")]
    _keep_alive: Unused,
    #[serde(default)]
    options: Option<Options>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    #[serde(default)]
    content: String,
    #[serde(default, rename = "thinking")]
    _thinking: Unsupported,
    #[serde(default, rename = "images")]
    _images: Unsupported,
    tool_calls: Option<Vec<ObjectCall>>,
    #[serde(alias = "name")]
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    num_ctx: Option<u32>,
    num_predict: Option<i64>,
    seed: Option<i64>,
    stop: Option<Texts>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    #[serde(default, rename = "typical_p")]
    _typical_p: Unsupported,
    #[serde(default, rename = "repeat_last_n")]
    _repeat_last_n: Unsupported,
    // How a provider runs its model is its own business.
    #[serde(default, rename = "num_keep")]
    _num_keep: Unused,
    #[serde(default, rename = "num_batch")]
    _num_batch: Unused,
    #[serde(default, rename = "num_gpu")]
    _num_gpu: Unused,
    #[serde(default, rename = "main_gpu")]
    _main_gpu: Unused,
    #[serde(default, rename = "num_thread")]
    _num_thread: Unused,
    #[serde(default, rename = "use_mmap")]
    _use_mmap: Unused,
    #[serde(default, rename = "low_vram")]
    _low_vram: Unused,
    #[serde(default, rename = "use_mlock")]
    _use_mlock: Unused,
    #[serde(default, rename = "numa")]
    _numa: Unused,
}

/// What a client may want of these endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Generation(Box<GenerationRequest>),
    /// Nothing but that the model is there: there is no prompt.
    Loading {
        model: String,
    },
}

/// Reads the body of a request to `kind`'s endpoint and checks it against all limits.
pub fn parse(kind: Kind, body: &[u8]) -> Result<Asked, BadRequest> {
    let mut body: Body = fields::read(body)?;
    let model = fields::model(body.model.clone())?;
    let is_empty = match kind {
        Kind::Chat => body.messages.as_ref().is_none_or(Vec::is_empty) && body.prompt.is_none(),
        Kind::Generate => {
            body.prompt.as_ref().is_none_or(String::is_empty) && body.messages.is_none()
        }
    };
    if is_empty {
        return Ok(Asked::Loading { model });
    }
    let stream = body.stream.unwrap_or(true);
    if body.truncate == Some(true) || body.shift == Some(true) {
        let field = if body.shift == Some(true) { "shift" } else { "truncate" };
        return Err(BadRequest::field(field, "nothing is cut here; leave it out or say false"));
    }
    let logprobs = match (body.logprobs.unwrap_or(false), body.top_logprobs) {
        (false, Some(1..)) => {
            return Err(BadRequest::field("top_logprobs", "allowed only with `logprobs: true`"));
        }
        (wanted, count) => wanted.then(|| count.unwrap_or(0)),
    };
    let list: Vec<_> = body.tools.take().into_iter().flatten().map(FunctionTool::tool).collect();
    if kind == Kind::Generate && !list.is_empty() {
        return Err(BadRequest::field("tools", "not a field of this request"));
    }
    let tools = ToolsWish { list, ..ToolsWish::default() };
    let prompt = match kind {
        Kind::Chat => chat(&mut body)?,
        Kind::Generate => generate(&body)?,
    };
    let form = match &body.format {
        None => None,
        Some(value) if value.as_str() == Some("") => None,
        Some(value) if value.as_str() == Some("json") => Some(AnswerForm::Json),
        Some(schema) => Some(
            fields::form_of(schema)
                .map_err(|_| BadRequest::field("format", "is json or a JSON Schema"))?,
        ),
    };
    let options = body.options.unwrap_or_default();
    let tokens_max = match options.num_predict {
        // Until the model ends, and until the context is full.
        None | Some(-2 | -1) => None,
        Some(count) => Some(u32::try_from(count).map_err(|_| {
            BadRequest::field("options.num_predict", "a number of tokens, or -1 for no limit")
        })?),
    };
    let request = InferenceRequest {
        prompt,
        sampling: Sampling {
            temperature_micros: micros("options.temperature", options.temperature)?,
            top_p_micros: micros("options.top_p", options.top_p)?,
            // Negative is Ollama's way to ask for any.
            seed: options.seed.and_then(|seed| u64::try_from(seed).ok()),
            presence_penalty_micros: micros("options.presence_penalty", options.presence_penalty)?,
            frequency_penalty_micros: micros(
                "options.frequency_penalty",
                options.frequency_penalty,
            )?,
            top_k: fields::top_k("options.top_k", options.top_k)?,
            min_p_micros: micros("options.min_p", options.min_p)?,
            repeat_penalty_micros: micros("options.repeat_penalty", options.repeat_penalty)?,
        },
        tokens_max,
        stop: options.stop.map(|stop| stop.0).unwrap_or_default(),
        logprobs,
        begun: None,
        form,
        tools: tools.tools()?,
    };
    let request = checked(
        request,
        &[
            ("max_tokens", "options.num_predict"),
            ("temperature", "options.temperature"),
            ("top_p", "options.top_p"),
            ("schema", "format"),
            ("stop", "options.stop"),
            ("presence_penalty", "options.presence_penalty"),
            ("frequency_penalty", "options.frequency_penalty"),
            ("top_k", "options.top_k"),
            ("min_p", "options.min_p"),
            ("repeat_penalty", "options.repeat_penalty"),
        ],
    )?;
    let context_tokens_min = options.num_ctx;
    let request =
        GenerationRequest { model, request, stream, include_usage: true, context_tokens_min };
    Ok(Asked::Generation(Box::new(request)))
}

/// `messages`.
fn chat(body: &mut Body) -> Result<Prompt, BadRequest> {
    for (field, given) in [
        ("prompt", body.prompt.is_some()),
        ("system", body.system.is_some()),
        ("raw", body.raw.is_some()),
    ] {
        if given {
            return Err(BadRequest::field(field, "not a field of this request"));
        }
    }
    let mut calls = Calls::default();
    let messages = body.messages.take().into_iter().flatten().enumerate();
    let messages = messages.map(|(index, message)| {
        calls.turn(message).map_err(|(field, problem)| {
            BadRequest::field(&format!("messages[{index}].{field}"), problem)
        })
    });
    messages.collect::<Result<_, _>>().map(Prompt::Chat)
}

/// The calls of a chat so far. Ollama's clients give them no ids, and name results by the tool, if at all.
#[derive(Default)]
struct Calls {
    made: usize,
    /// Without a result so far.
    open: Vec<(String, String)>,
}

impl Calls {
    fn turn(&mut self, message: Message) -> Result<ChatMessage, (&'static str, &'static str)> {
        let Message { role, content, tool_calls, tool_name, tool_call_id, .. } = message;
        let role = match role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => return Err(("role", "is one of system, user, assistant, tool")),
        };
        let calls = tool_calls.into_iter().flatten().map(|call| self.call(call)).collect();
        let call_id =
            (role == Role::Tool).then(|| self.answered(tool_name.as_deref(), tool_call_id));
        Ok(ChatMessage { role, content, calls, call_id })
    }

    fn call(&mut self, ObjectCall { id, function, .. }: ObjectCall) -> ToolCall {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| self.next_id());
        self.open.push((id.clone(), function.name.clone()));
        let arguments = serde_json::Value::Object(function.arguments).to_string();
        ToolCall { id, name: function.name, arguments }
    }

    /// The call whose result a message is: that of the id, or the first of this tool without a result. Some
    /// clients leave the call itself out, as Ollama's server lets them.
    fn answered(&mut self, tool: Option<&str>, id: Option<String>) -> String {
        let tool = tool.filter(|tool| !tool.is_empty());
        let named = |(_, name): &(String, String)| tool.is_none_or(|tool| tool == name);
        match id.filter(|id| !id.is_empty()) {
            Some(id) => {
                self.open.retain(|(open, _)| *open != id);
                id
            }
            None => match self.open.iter().position(named) {
                Some(place) => self.open.remove(place).0,
                None => self.next_id(),
            },
        }
    }

    fn next_id(&mut self) -> String {
        let id = format!("call_{}", self.made);
        self.made += 1;
        id
    }
}

/// `prompt` as it stands, or as what a user says to a model with this system message.
fn generate(body: &Body) -> Result<Prompt, BadRequest> {
    if body.messages.is_some() {
        return Err(BadRequest::field("messages", "not a field of this request"));
    }
    let prompt = body.prompt.clone().unwrap_or_default();
    if body.raw == Some(true) {
        if body.system.as_ref().is_some_and(|system| !system.is_empty()) {
            return Err(BadRequest::field("system", "has no place in a raw prompt"));
        }
        return Ok(Prompt::Text(prompt));
    }
    let message = ChatMessage::text;
    let system = body.system.clone().filter(|system| !system.is_empty());
    let system = system.map(|system| message(Role::System, system));
    Ok(Prompt::Chat(system.into_iter().chain([message(Role::User, prompt)]).collect()))
}
