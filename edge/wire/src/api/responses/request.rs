//! Requests for a response.

use serde::{Deserialize, Deserializer, de::Error as _};
use types::inference::{ChatMessage, InferenceRequest, Prompt, Role, Sampling};

use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, Content, FormWish, Unsupported, Unused, checked, micros},
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
    tool_choice: Option<serde_json::Value>,
    #[serde(default, rename = "stream_options")]
    _stream_options: Unused,
    /// Without tools there are no calls, parallel or not.
    #[serde(default, rename = "parallel_tool_calls")]
    _parallel_tool_calls: Unused,
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
    #[serde(default, rename = "tools")]
    _tools: Unsupported,
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

/// A message, as the client wrote it or as an earlier response gave it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default, rename = "type")]
    _kind: MessageType,
    role: String,
    content: Content,
    #[serde(default, rename = "id")]
    _id: Unused,
    #[serde(default, rename = "status")]
    _status: Unused,
    #[serde(default, rename = "phase")]
    _phase: Unused,
}

/// The only kind of item there is here.
#[derive(Default)]
struct MessageType;

impl<'de> Deserialize<'de> for MessageType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MessageType, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "message" => Ok(MessageType),
            _ => Err(D::Error::custom("only messages are supported here")),
        }
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
    let free = |choice: serde_json::Value| matches!(choice.as_str(), Some("auto" | "none"));
    if body.tool_choice.is_some_and(|choice| !choice.is_null() && !free(choice)) {
        return bad("tool_choice", "not supported here");
    }
    let message = |role, content| ChatMessage { role, content };
    let instructions = body.instructions.filter(|text| !text.is_empty());
    let mut messages: Vec<ChatMessage> =
        instructions.map(|text| message(Role::System, text)).into_iter().collect();
    match body.input {
        None => return bad("input", "give the text to answer, or a list of messages"),
        Some(Input::Text(text)) => messages.push(message(Role::User, text)),
        Some(Input::Items(items)) => {
            for (index, Item { role, content, .. }) in items.into_iter().enumerate() {
                let role = match role.as_str() {
                    "system" | "developer" => Role::System,
                    "user" => Role::User,
                    "assistant" => Role::Assistant,
                    _ => {
                        let field = format!("input[{index}].role");
                        return bad(&field, "is one of system, developer, user, assistant");
                    }
                };
                messages.push(message(role, content.0));
            }
        }
    }
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
    };
    let request = checked(
        request,
        &[("max_tokens", "max_output_tokens"), ("messages", "input"), ("schema", "text.format")],
    )?;
    let stream = body.stream.unwrap_or(false);
    Ok(GenerationRequest { model, request, stream, include_usage: true, context_tokens_min: None })
}
