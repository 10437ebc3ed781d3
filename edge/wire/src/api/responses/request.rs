//! Requests for a response.

use serde::{Deserialize, Deserializer, de::Error as _};
use types::{
    inference::{ChatMessage, InferenceRequest, Prompt, Role, Sampling},
    tools::ToolCall,
};

use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, Content, FormWish, Unsupported, Unused, checked, micros},
    tools::{ChoiceWish, FlatTool, ToolsWish},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: Option<String>,
    input: Option<Input>,
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    store: Option<bool>,
    text: Option<TextFormat>,
    truncation: Option<String>,
    service_tier: Option<String>,
    tools: Option<Vec<FlatTool>>,
    tool_choice: Option<ChoiceWish>,
    parallel_tool_calls: Option<bool>,
    #[serde(default, rename = "stream_options")]
    _stream_options: Unused,
    /// What the client remembers of it is its own business.
    #[serde(default, rename = "metadata")]
    _metadata: Unused,
    #[serde(default, rename = "user")]
    _user: Unused,
    #[serde(default, rename = "safety_identifier")]
    _safety_identifier: Unused,
    #[serde(default, rename = "background")]
    _background: Unsupported,
    #[serde(default, rename = "conversation")]
    _conversation: Unsupported,
    #[serde(default, rename = "include")]
    _include: Unsupported,
    #[serde(default, rename = "max_tool_calls")]
    _max_tool_calls: Unsupported,
    #[serde(default, rename = "previous_response_id")]
    _previous_response_id: Unsupported,
    #[serde(default, rename = "prompt")]
    _prompt: Unsupported,
    #[serde(default, rename = "prompt_cache_key")]
    _prompt_cache_key: Unused,
    #[serde(default, rename = "prompt_cache_retention")]
    _prompt_cache_retention: Unused,
    #[serde(default, rename = "reasoning")]
    _reasoning: Unsupported,
    #[serde(default, rename = "top_logprobs")]
    _top_logprobs: Unsupported,
}

/// A question, or a conversation.
enum Input {
    Text(String),
    Items(Vec<Item>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        struct Any;
        impl<'de> serde::de::Visitor<'de> for Any {
            type Value = Input;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of messages")
            }

            fn visit_str<E>(self, text: &str) -> Result<Input, E> {
                Ok(Input::Text(text.to_owned()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Input, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Input::Items(items))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// A message or a call, as the client wrote it or as an earlier response gave it; or the result of a call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default, rename = "type")]
    kind: ItemType,
    role: Option<String>,
    content: Option<Content>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    output: Option<Content>,
    #[serde(default, rename = "id")]
    _id: Unused,
    #[serde(default, rename = "status")]
    _status: Unused,
    #[serde(default, rename = "phase")]
    _phase: Unused,
}

#[derive(Clone, Copy, Default)]
enum ItemType {
    #[default]
    Message,
    Call,
    Output,
}

impl<'de> Deserialize<'de> for ItemType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ItemType, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "message" => Ok(ItemType::Message),
            "function_call" => Ok(ItemType::Call),
            "function_call_output" => Ok(ItemType::Output),
            _ => Err(D::Error::custom("only messages and calls of functions are supported here")),
        }
    }
}

impl Item {
    /// Adds it to the conversation. A call is a part of what the assistant said just before.
    fn turn(self, messages: &mut Vec<ChatMessage>) -> Result<(), &'static str> {
        let Item { kind, role, content, call_id, name, arguments, output, .. } = self;
        let message = match kind {
            ItemType::Message => {
                let role = match role.as_deref() {
                    Some("system" | "developer") => Role::System,
                    Some("user") => Role::User,
                    Some("assistant") => Role::Assistant,
                    _ => return Err("its role is one of system, developer, user, assistant"),
                };
                ChatMessage::text(role, content.ok_or("give the content")?.0)
            }
            ItemType::Call => {
                let (Some(id), Some(name), Some(arguments)) = (call_id, name, arguments) else {
                    return Err("a call has a call_id, a name and arguments");
                };
                let call = ToolCall { id, name, arguments };
                match messages.last_mut().filter(|last| last.role == Role::Assistant) {
                    Some(last) => {
                        last.calls.push(call);
                        return Ok(());
                    }
                    None => ChatMessage {
                        calls: vec![call],
                        ..ChatMessage::text(Role::Assistant, String::new())
                    },
                }
            }
            ItemType::Output => {
                let (Some(_), Some(output)) = (&call_id, output) else {
                    return Err("the result of a call has a call_id and an output");
                };
                ChatMessage { call_id, ..ChatMessage::text(Role::Tool, output.0) }
            }
        };
        messages.push(message);
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextFormat {
    format: Option<FormWish>,
    #[serde(default, rename = "verbosity")]
    _verbosity: Unsupported,
}

/// Reads the body of a request and checks it against all limits.
pub fn parse(body: &[u8]) -> Result<GenerationRequest, BadRequest> {
    let body: Body = fields::read(body)?;
    let bad = |param: &str, problem: &str| Err(BadRequest::field(param, problem));
    let model = fields::model(body.model)?;
    if body.store == Some(true) {
        return bad("store", "nothing is stored here; leave it out or say false");
    }
    let form = match body.text.and_then(|text| text.format) {
        None => None,
        Some(wish) => wish.form().map_err(|problem| BadRequest::field("text.format", problem))?,
    };
    if body.truncation.is_some_and(|truncation| truncation != "disabled") {
        return bad("truncation", "nothing is cut here; leave it out or say disabled");
    }
    if body.service_tier.is_some_and(|tier| tier != "auto" && tier != "default") {
        return bad("service_tier", "is auto or default");
    }
    let instructions = body.instructions.filter(|text| !text.is_empty());
    let mut messages: Vec<ChatMessage> =
        instructions.map(|text| ChatMessage::text(Role::System, text)).into_iter().collect();
    match body.input {
        None => return bad("input", "give the text to answer, or a list of messages"),
        Some(Input::Text(text)) => messages.push(ChatMessage::text(Role::User, text)),
        Some(Input::Items(items)) => {
            for (index, item) in items.into_iter().enumerate() {
                let named = |problem| BadRequest::field(&format!("input[{index}]"), problem);
                item.turn(&mut messages).map_err(named)?;
            }
        }
    }
    let tools = ToolsWish {
        list: body.tools.into_iter().flatten().map(FlatTool::tool).collect(),
        choice: body.tool_choice,
        parallel: body.parallel_tool_calls,
    };
    let request = InferenceRequest {
        prompt: Prompt::Chat(messages),
        sampling: Sampling {
            temperature_micros: micros("temperature", body.temperature)?,
            top_p_micros: micros("top_p", body.top_p)?,
            ..Sampling::default()
        },
        tokens_max: body.max_output_tokens,
        stop: Vec::new(),
        logprobs: None,
        begun: None,
        form,
        tools: tools.tools()?,
    };
    let request = checked(
        request,
        &[("max_tokens", "max_output_tokens"), ("messages", "input"), ("schema", "text.format")],
    )?;
    let stream = body.stream.unwrap_or(false);
    Ok(GenerationRequest { model, request, stream, include_usage: true, context_tokens_min: None })
}
