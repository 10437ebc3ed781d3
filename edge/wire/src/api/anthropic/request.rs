//! Requests of Anthropic's clients.

use serde::Deserialize;
use types::inference::{ChatMessage, InferenceRequest, Prompt, Role, Sampling};

use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, Content, Unsupported, Unused, checked, micros},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    model: Option<String>,
    messages: Option<Vec<Message>>,
    system: Option<Content>,
    max_tokens: Option<u32>,
    #[serde(default)]
    stop_sequences: Option<Vec<String>>,
    stream: Option<bool>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    /// Whom the client serves is its own business.
    #[serde(default, rename = "metadata")]
    _metadata: Unused,
    #[serde(default, rename = "user_profile_id")]
    _user_profile_id: Unused,
    #[serde(default, rename = "workspace_id")]
    _workspace_id: Unused,
    /// What is kept from one request to the next is the engine's own business.
    #[serde(default, rename = "cache_control")]
    _cache_control: Unused,
    service_tier: Option<String>,
    speed: Option<String>,
    #[serde(default, rename = "inference_geo")]
    _inference_geo: Unsupported,
    #[serde(default, rename = "diagnostics")]
    _diagnostics: Unsupported,
    thinking: Option<Thinking>,
    #[serde(default, rename = "top_k")]
    _top_k: Unsupported,
    #[serde(default, rename = "tools")]
    _tools: Unsupported,
    #[serde(default, rename = "tool_choice")]
    _tool_choice: Unsupported,
    #[serde(default, rename = "container")]
    _container: Unsupported,
    #[serde(default, rename = "mcp_servers")]
    _mcp_servers: Unsupported,
    #[serde(default, rename = "context_management")]
    _context_management: Unsupported,
    #[serde(default, rename = "output_config")]
    _output_config: Unsupported,
    #[serde(default, rename = "output_format")]
    _output_format: Unsupported,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    role: String,
    content: Content,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
}

/// Reads the body of a request and checks it against all limits.
pub fn parse(body: &[u8]) -> Result<GenerationRequest, BadRequest> {
    let body: Body = fields::read(body)?;
    let model = fields::model(body.model)?;
    let Some(tokens_max) = body.max_tokens else {
        return Err(BadRequest::field("max_tokens", "give the longest answer you want, in tokens"));
    };
    if body.thinking.is_some_and(|thinking| thinking.kind != "disabled") {
        return Err(BadRequest::field("thinking", "not supported here"));
    }
    if body.service_tier.is_some_and(|tier| tier != "auto" && tier != "standard_only") {
        return Err(BadRequest::field("service_tier", "is auto or standard_only"));
    }
    if body.speed.is_some_and(|speed| speed != "standard") {
        return Err(BadRequest::field("speed", "is standard"));
    }
    let system = body.system.map(|system| system.0).filter(|system| !system.is_empty());
    let mut messages: Vec<ChatMessage> =
        system.map(|content| ChatMessage { role: Role::System, content }).into_iter().collect();
    let given = body.messages.unwrap_or_default();
    if given.is_empty() {
        return Err(BadRequest::field("messages", "give at least one message"));
    }
    for (index, Message { role, content }) in given.into_iter().enumerate() {
        let role = match role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => {
                let field = format!("messages[{index}].role");
                return Err(BadRequest::field(&field, "is user or assistant"));
            }
        };
        messages.push(ChatMessage { role, content: content.0 });
    }
    let request = InferenceRequest {
        prompt: Prompt::Chat(messages),
        sampling: Sampling {
            temperature_micros: micros("temperature", body.temperature)?,
            top_p_micros: micros("top_p", body.top_p)?,
            ..Sampling::default()
        },
        tokens_max: Some(tokens_max),
        stop: body.stop_sequences.unwrap_or_default(),
        logprobs: None,
        begun: None,
        form: None,
    };
    let request = checked(request, &[("stop", "stop_sequences")])?;
    let stream = body.stream.unwrap_or(false);
    Ok(GenerationRequest { model, request, stream, include_usage: true, context_tokens_min: None })
}
