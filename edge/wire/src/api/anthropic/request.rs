//! Requests of Anthropic's clients.

use serde::{Deserialize, Deserializer, de::Error as _};
use types::{
    inference::{ChatMessage, InferenceRequest, Prompt, Role, Sampling},
    tools::ToolCall,
};

use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, Content, Unsupported, Unused, checked, micros},
    tools::{CustomChoice, CustomTool, ToolsWish},
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
    top_k: Option<i64>,
    tools: Option<Vec<CustomTool>>,
    tool_choice: Option<CustomChoice>,
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
    content: Blocks,
}

/// A text, or a list of blocks.
struct Blocks(Vec<Block>);

enum Block {
    Text(String),
    /// The model called a tool.
    Call(ToolCall),
    Result {
        call_id: String,
        text: String,
    },
}

/// A block, before it is known of what type it is. What else it says (where a cache may cut it) changes no
/// answer.
#[derive(Deserialize)]
struct AnyBlock {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    input: Option<serde_json::Map<String, serde_json::Value>>,
    tool_use_id: Option<String>,
    content: Option<Content>,
    is_error: Option<bool>,
}

impl AnyBlock {
    fn block(self) -> Result<Block, &'static str> {
        let AnyBlock { kind, text, id, name, input, tool_use_id, content, is_error } = self;
        match kind.as_str() {
            "text" => text.map(Block::Text).ok_or("give the text"),
            "tool_use" => match (id, name) {
                (Some(id), Some(name)) => {
                    let arguments = serde_json::Value::Object(input.unwrap_or_default());
                    Ok(Block::Call(ToolCall { id, name, arguments: arguments.to_string() }))
                }
                _ => Err("a tool_use has an id and a name"),
            },
            "tool_result" => {
                let call_id = tool_use_id.ok_or("a tool_result has a tool_use_id")?;
                let text = content.unwrap_or_default().0;
                let text = match is_error {
                    Some(true) => format!("Error: {text}"),
                    _ => text,
                };
                Ok(Block::Result { call_id, text })
            }
            _ => Err("only text, tool_use and tool_result are supported here"),
        }
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blocks, D::Error> {
        struct Any;
        impl<'de> serde::de::Visitor<'de> for Any {
            type Value = Blocks;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string or a list of blocks")
            }

            fn visit_str<E>(self, text: &str) -> Result<Blocks, E> {
                Ok(Blocks(vec![Block::Text(text.to_owned())]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut seq: A,
            ) -> Result<Blocks, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = seq.next_element::<AnyBlock>()? {
                    blocks.push(block.block().map_err(A::Error::custom)?);
                }
                Ok(Blocks(blocks))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Message {
    /// As turns: the results of calls, and what is said beside them.
    fn turns(self, messages: &mut Vec<ChatMessage>) -> Result<(), &'static str> {
        let role = match self.role.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => return Err("its role is user or assistant"),
        };
        let mut said = ChatMessage::text(role, String::new());
        let mut results = 0;
        for block in self.content.0 {
            match (block, role) {
                (Block::Text(text), _) => said.content += &text,
                (Block::Call(call), Role::Assistant) => said.calls.push(call),
                (Block::Result { call_id, text }, Role::User) => {
                    results += 1;
                    messages.push(ChatMessage {
                        call_id: Some(call_id),
                        ..ChatMessage::text(Role::Tool, text)
                    });
                }
                (Block::Call(_), _) => return Err("a tool_use belongs to the assistant"),
                (Block::Result { .. }, _) => return Err("a tool_result belongs to the user"),
            }
        }
        if results == 0 || !said.content.is_empty() {
            messages.push(said);
        }
        Ok(())
    }
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
        system.map(|content| ChatMessage::text(Role::System, content)).into_iter().collect();
    let given = body.messages.unwrap_or_default();
    if given.is_empty() {
        return Err(BadRequest::field("messages", "give at least one message"));
    }
    for (index, message) in given.into_iter().enumerate() {
        let bad = |problem| BadRequest::field(&format!("messages[{index}]"), problem);
        message.turns(&mut messages).map_err(bad)?;
    }
    let (choice, parallel) = body.tool_choice.map(CustomChoice::wish).transpose()?.unzip();
    let list = body.tools.into_iter().flatten().map(CustomTool::tool).collect();
    let tools = ToolsWish { list, choice, parallel };
    let request = InferenceRequest {
        prompt: Prompt::Chat(messages),
        sampling: Sampling {
            temperature_micros: micros("temperature", body.temperature)?,
            top_p_micros: micros("top_p", body.top_p)?,
            top_k: fields::top_k("top_k", body.top_k)?,
            ..Sampling::default()
        },
        tokens_max: Some(tokens_max),
        stop: body.stop_sequences.unwrap_or_default(),
        logprobs: None,
        begun: None,
        form: None,
        tools: tools.tools()?,
    };
    let request = checked(request, &[("stop", "stop_sequences")])?;
    let stream = body.stream.unwrap_or(false);
    Ok(GenerationRequest { model, request, stream, include_usage: true, context_tokens_min: None })
}
