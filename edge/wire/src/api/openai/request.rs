//! Requests: parsed in one pass, every field either honoured, refused by name, or harmless.
//!
//! Where a value does not fit, the answer names its place (`messages[2].content[0].type`): the
//! parser keeps a trail of where it is, and an error leaves the trail standing.

use std::{cell::RefCell, fmt};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use types::{
    inference::{AnswerForm, ChatMessage, InferenceRequest, Prompt, Role, Sampling},
    limits,
};

use super::Kind;
use crate::api::{
    BadRequest, GenerationRequest,
    fields::{self, FormWish, checked, micros},
    tools::{CallWish, FunctionTool, ToolsWish},
};

/// Reads the body of a request to `kind`'s endpoint and checks it against all limits.
pub fn parse(kind: Kind, body: &[u8]) -> Result<GenerationRequest, BadRequest> {
    let trail = Trail::default();
    let mut parser = serde_json::Deserializer::from_slice(body);
    let draft = Body { kind, trail: &trail }
        .deserialize(&mut parser)
        .and_then(|draft| parser.end().map(|()| draft))
        .map_err(|error| fields::refusal(trail.to_param(), &error))?;
    draft.finish(kind)
}

/// Where in the document the parser is.
#[derive(Default)]
struct Trail(RefCell<Vec<Step>>);

enum Step {
    Field(String),
    Index(usize),
}

impl Trail {
    /// Reads something at `step`. On success the trail is as before; on failure it shows the place.
    fn at<T, E>(&self, step: Step, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.0.borrow_mut().push(step);
        let value = read()?;
        self.0.borrow_mut().pop();
        Ok(value)
    }

    fn to_param(&self) -> Option<String> {
        let mut text = String::new();
        for step in self.0.borrow().iter() {
            match step {
                Step::Field(name) if text.is_empty() => text += name,
                Step::Field(name) => text += &format!(".{name}"),
                Step::Index(index) => text += &format!("[{index}]"),
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

/// What was given, before it is known to fit together.
#[derive(Default)]
struct Draft {
    model: Option<String>,
    prompt: Option<Prompt>,
    stream: bool,
    include_usage: Option<bool>,
    tokens_max: Option<u32>,
    completion_tokens_max: Option<u32>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    top_k: Option<i64>,
    min_p: Option<f64>,
    repeat_penalty: Option<f64>,
    seed: Option<u64>,
    stop: Vec<String>,
    tools: ToolsWish,
    form: Option<AnswerForm>,
    chat_logprobs: bool,
    logprobs: Option<u8>,
}

impl Draft {
    fn finish(self, kind: Kind) -> Result<GenerationRequest, BadRequest> {
        let bad = |param: &str, problem: &str| Err(BadRequest::field(param, problem));
        let model = fields::model(self.model)?;
        let Some(prompt) = self.prompt else {
            return match kind {
                Kind::Chat => bad("messages", "give at least one message"),
                Kind::Text => bad("prompt", "give the text to continue"),
            };
        };
        if self.include_usage.is_some() && !self.stream {
            return bad("stream_options", "allowed only with `stream: true`");
        }
        let tokens_max = match (self.tokens_max, self.completion_tokens_max) {
            (Some(old), Some(new)) if old != new => {
                return bad("max_tokens", "differs from max_completion_tokens; give one of them");
            }
            (old, new) => new.or(old),
        };
        let logprobs = match (kind, self.chat_logprobs, self.logprobs) {
            (Kind::Chat, false, Some(_)) => {
                return bad("top_logprobs", "allowed only with `logprobs: true`");
            }
            (Kind::Chat, true, count) => Some(count.unwrap_or(0)),
            (_, _, count) => count,
        };
        let request = InferenceRequest {
            prompt,
            sampling: Sampling {
                temperature_micros: micros("temperature", self.temperature)?,
                top_p_micros: micros("top_p", self.top_p)?,
                seed: self.seed,
                presence_penalty_micros: micros("presence_penalty", self.presence_penalty)?,
                frequency_penalty_micros: micros("frequency_penalty", self.frequency_penalty)?,
                top_k: fields::top_k("top_k", self.top_k)?,
                min_p_micros: micros("min_p", self.min_p)?,
                repeat_penalty_micros: micros("repetition_penalty", self.repeat_penalty)?,
            },
            tokens_max,
            stop: self.stop,
            logprobs,
            begun: None,
            form: self.form,
            tools: self.tools.tools()?,
        };
        let names: &[_] = match kind {
            Kind::Text => &[("top_logprobs", "logprobs"), ("repeat_penalty", "repetition_penalty")],
            Kind::Chat => {
                &[("schema", "response_format"), ("repeat_penalty", "repetition_penalty")]
            }
        };
        let request = checked(request, names)?;
        Ok(GenerationRequest {
            model,
            request,
            stream: self.stream,
            include_usage: self.include_usage.unwrap_or(false),
            context_tokens_min: None,
        })
    }
}

struct Body<'a> {
    kind: Kind,
    trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Draft;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Draft, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        let mut draft = Draft::default();
        let mut seen: Vec<String> = Vec::with_capacity(16);
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return self.trail.at(Step::Field(name), || Err(A::Error::custom("given twice")));
            }
            self.trail.at(Step::Field(name.clone()), || {
                read_field(self.kind, &name, &mut draft, &mut map, self.trail)
            })?;
            seen.push(name);
        }
        Ok(draft)
    }
}

/// Reads one field of the body. A null is the same as leaving the field out.
fn read_field<'de, A: MapAccess<'de>>(
    kind: Kind,
    name: &str,
    draft: &mut Draft,
    map: &mut A,
    trail: &Trail,
) -> Result<(), A::Error> {
    match (name, kind) {
        ("model", _) => draft.model = map.next_value()?,
        ("messages", Kind::Chat) => {
            draft.prompt = Some(Prompt::Chat(map.next_value_seed(Messages { trail })?));
        }
        ("prompt", Kind::Text) => draft.prompt = map.next_value::<TextPrompt>()?.0,
        ("stream", _) => draft.stream = map.next_value::<Option<bool>>()?.unwrap_or(false),
        ("stream_options", _) => {
            let options: Option<StreamOptions> = map.next_value()?;
            draft.include_usage = options.map(|options| options.include_usage);
        }
        ("max_tokens", _) => draft.tokens_max = map.next_value()?,
        ("max_completion_tokens", Kind::Chat) => {
            draft.completion_tokens_max = map.next_value()?;
        }
        ("temperature", _) => draft.temperature = map.next_value()?,
        ("top_p", _) => draft.top_p = map.next_value()?,
        ("presence_penalty", _) => draft.presence_penalty = map.next_value()?,
        ("frequency_penalty", _) => draft.frequency_penalty = map.next_value()?,
        ("seed", _) => draft.seed = map.next_value()?,
        // Not OpenAI's, but of every server of open models, under these names.
        ("top_k", _) => draft.top_k = map.next_value()?,
        ("min_p", _) => draft.min_p = map.next_value()?,
        ("repetition_penalty" | "repeat_penalty", _) => draft.repeat_penalty = map.next_value()?,
        ("tools", Kind::Chat) => {
            let tools: Option<Vec<FunctionTool>> = map.next_value()?;
            draft.tools.list = tools.into_iter().flatten().map(FunctionTool::tool).collect();
        }
        ("tool_choice", Kind::Chat) => draft.tools.choice = map.next_value()?,
        ("parallel_tool_calls", Kind::Chat) => draft.tools.parallel = map.next_value()?,
        ("response_format", Kind::Chat) => {
            let wish: Option<FormWish> = map.next_value()?;
            let form = wish.map(FormWish::form).transpose().map_err(A::Error::custom)?;
            draft.form = form.flatten();
        }
        ("stop", _) => draft.stop = map.next_value::<Stop>()?.0,
        ("logprobs", Kind::Chat) => {
            draft.chat_logprobs = map.next_value::<Option<bool>>()?.unwrap_or(false);
        }
        ("top_logprobs", Kind::Chat) | ("logprobs", Kind::Text) => {
            draft.logprobs = map.next_value()?;
        }
        // Whom the client serves is its own business; nothing is done with it.
        ("user" | "safety_identifier", _) => drop(map.next_value::<Option<String>>()?),
        _ => return refuse_unless_default(name, map),
    }
    Ok(())
}

/// Fields of OpenAI's API that are not supported: accepted with the value that changes nothing.
fn refuse_unless_default<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<(), A::Error> {
    let value: serde_json::Value = map.next_value()?;
    let is = |text: &str| value.as_str() == Some(text);
    let empty = value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty);
    let (known, harmless) = match name {
        "n" | "best_of" => (true, value.as_u64() == Some(1)),
        "response_format" => (true, false),
        "modalities" => (true, value == serde_json::json!(["text"])),
        "function_call" => (true, is("none")),
        "service_tier" => (true, is("auto") || is("default")),
        "store" | "echo" => (true, value.as_bool() == Some(false)),
        "suffix" => (true, is("")),
        "functions" | "logit_bias" | "metadata" => (true, empty),
        "audio"
        | "prediction"
        | "prompt_cache_key"
        | "prompt_cache_retention"
        | "reasoning_effort"
        | "verbosity"
        | "web_search_options" => (true, false),
        _ => (false, false),
    };
    match (known, harmless || value.is_null()) {
        (true, true) => Ok(()),
        (true, false) => Err(A::Error::custom("not supported here")),
        (false, _) => Err(A::Error::custom("not a field of this request")),
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
    /// Padding against traffic analysis: there is none, which a client may ask for.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

/// Reads a string, a list of strings, or nothing.
struct Strings {
    what: &'static str,
    count_max: usize,
}

impl<'de> Visitor<'de> for Strings {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_unit<E>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_string<E>(self, text: String) -> Result<Vec<String>, E> {
        Ok(vec![text])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = seq.next_element()? {
            if texts.len() == self.count_max {
                return Err(A::Error::custom(format!("at most {} of them", self.count_max)));
            }
            texts.push(text);
        }
        Ok(texts)
    }
}

struct Stop(Vec<String>);

impl<'de> Deserialize<'de> for Stop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stop, D::Error> {
        let count_max = limits::STOP_SEQUENCES_MAX;
        deserializer
            .deserialize_any(Strings { what: "a string or a list of strings", count_max })
            .map(Stop)
    }
}

struct TextPrompt(Option<Prompt>);

impl<'de> Deserialize<'de> for TextPrompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TextPrompt, D::Error> {
        let what = "a string or a list of one string";
        let mut texts = deserializer.deserialize_any(Strings { what, count_max: 1 })?;
        Ok(TextPrompt(texts.pop().map(Prompt::Text)))
    }
}

struct Messages<'a> {
    trail: &'a Trail,
}

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = Vec<ChatMessage>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = Vec<ChatMessage>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = self
            .trail
            .at(Step::Index(messages.len()), || seq.next_element_seed(Message(self.trail)))?
        {
            if messages.len() == limits::CHAT_MESSAGES_MAX {
                let problem = format!("at most {} messages", limits::CHAT_MESSAGES_MAX);
                return Err(A::Error::custom(problem));
            }
            messages.push(message);
        }
        Ok(messages)
    }
}

struct Message<'a>(&'a Trail);

impl<'de> DeserializeSeed<'de> for Message<'_> {
    type Value = ChatMessage;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ChatMessage, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Message<'_> {
    type Value = ChatMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message with role and content")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ChatMessage, A::Error> {
        let (mut role, mut content, mut speaker) = (None, None, None);
        let (mut calls, mut call_id) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            let step = Step::Field(name.clone());
            self.0.at(step, || match name.as_str() {
                "role" => {
                    role = Some(map.next_value::<MessageRole>()?.0);
                    Ok(())
                }
                "content" => {
                    content = map.next_value_seed(Content(self.0))?;
                    Ok(())
                }
                "tool_calls" => {
                    calls = map.next_value::<Option<Vec<CallWish>>>()?;
                    Ok(())
                }
                "tool_call_id" => {
                    call_id = map.next_value::<Option<String>>()?;
                    Ok(())
                }
                "name" => {
                    speaker = map.next_value::<Option<String>>()?;
                    Ok(())
                }
                // LiteLLM's note to itself.
                "provider_specific_fields" => map.next_value::<IgnoredAny>().map(drop),
                // What clients send back of an earlier answer, empty.
                "refusal" | "audio" | "function_call" | "annotations" => {
                    let value: serde_json::Value = map.next_value()?;
                    let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                    if empty { Ok(()) } else { Err(A::Error::custom("not supported here")) }
                }
                _ => Err(A::Error::custom("not a field of a message")),
            })?;
        }
        let missing = |field: &str, problem| {
            self.0.at(Step::Field(field.into()), || Err(A::Error::custom(problem)))
        };
        let Some(role) = role else { return missing("role", "give the role") };
        // The name of a tool says nothing that its call does not.
        if role != Role::Tool && speaker.is_some_and(|name| !name.is_empty()) {
            return missing("name", "not supported here");
        }
        let calls = calls.into_iter().flatten().map(CallWish::call).collect();
        let content = match content {
            Some(content) => content,
            None if role == Role::Assistant => String::new(),
            None => return missing("content", "give the text"),
        };
        Ok(ChatMessage { role, content, calls, call_id })
    }
}

struct MessageRole(Role);

impl<'de> Deserialize<'de> for MessageRole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MessageRole, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "system" | "developer" => Ok(MessageRole(Role::System)),
            "user" => Ok(MessageRole(Role::User)),
            "assistant" => Ok(MessageRole(Role::Assistant)),
            "tool" => Ok(MessageRole(Role::Tool)),
            _ => Err(D::Error::custom("is one of system, developer, user, assistant, tool")),
        }
    }
}

/// The text of a message: a string, or parts that are all text. `None` for a null.
struct Content<'a>(&'a Trail);

impl<'de> DeserializeSeed<'de> for Content<'_> {
    type Value = Option<String>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Content<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of text parts")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
        Ok(Some(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut whole = String::new();
        let mut index = 0;
        while let Some(Part(text)) =
            self.0.at(Step::Index(index), || seq.next_element_seed(PartSeed(self.0)))?
        {
            whole += &text;
            index += 1;
        }
        Ok(Some(whole))
    }
}

struct Part(String);
struct PartSeed<'a>(&'a Trail);

impl<'de> DeserializeSeed<'de> for PartSeed<'_> {
    type Value = Part;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PartSeed<'_> {
    type Value = Part;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text part")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let (mut kind, mut text) = (None::<String>, None);
        while let Some(name) = map.next_key::<String>()? {
            let step = Step::Field(name.clone());
            self.0.at(step, || match name.as_str() {
                "type" => map.next_value().map(|value| kind = Some(value)),
                "text" => map.next_value().map(|value| text = Some(value)),
                _ => map.next_value::<IgnoredAny>().map(drop),
            })?;
        }
        let bad = |field: &str, problem: &str| {
            self.0.at(Step::Field(field.into()), || Err(A::Error::custom(problem)))
        };
        match (kind.as_deref(), text) {
            (Some("text"), Some(text)) => Ok(Part(text)),
            (Some("text"), None) => bad("text", "give the text"),
            (Some(_), _) => bad("type", "only text parts are supported here"),
            (None, _) => bad("type", "give the type"),
        }
    }
}
