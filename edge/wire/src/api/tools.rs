//! Tools and calls as the dialects write them.

#[cfg(test)]
mod tests;

use bytes::{BufMut, BytesMut};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny},
};
use serde_json::Value;
use types::tools::{Tool, ToolCall, ToolChoice, Tools};

use super::{
    BadRequest,
    fields::{Unsupported, Unused},
    json,
};

/// What a client says of the tools of its request.
#[derive(Debug, Default)]
pub(super) struct ToolsWish {
    pub list: Vec<Tool>,
    pub choice: Option<ChoiceWish>,
    pub parallel: Option<bool>,
}

/// Whether tools may, must or must not be called.
#[derive(Debug, PartialEq)]
pub(super) enum ChoiceWish {
    None,
    Some(ToolChoice),
}

impl ToolsWish {
    /// The tools, if there are any that may be called.
    pub(super) fn tools(self) -> Result<Option<Tools>, BadRequest> {
        let choice = match self.choice {
            Some(ChoiceWish::None) => return Ok(None),
            Some(ChoiceWish::Some(choice)) => choice,
            None => ToolChoice::Auto,
        };
        if self.list.is_empty() {
            return match choice {
                ToolChoice::Auto => Ok(None),
                _ => Err(BadRequest::field("tool_choice", "give the tools to choose from")),
            };
        }
        Ok(Some(Tools { list: self.list, choice, parallel: self.parallel.unwrap_or(true) }))
    }
}

/// A tool of OpenAI's chat completions and of Ollama: a function in an object of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionTool {
    #[serde(rename = "type", default)]
    _kind: FunctionType,
    function: Function,
}

impl FunctionTool {
    pub(super) fn tool(self) -> Tool {
        let Function { name, description, parameters, strict } = self.function;
        tool(name, description, parameters, strict)
    }
}

/// A tool of OpenAI's responses: the function itself.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FlatTool {
    #[serde(rename = "type")]
    _kind: FunctionType,
    name: String,
    description: Option<String>,
    #[serde(default)]
    parameters: Schema,
    strict: Option<bool>,
}

impl FlatTool {
    pub(super) fn tool(self) -> Tool {
        let FlatTool { name, description, parameters, strict, .. } = self;
        tool(name, description, parameters, strict)
    }
}

fn tool(
    name: String,
    description: Option<String>,
    Schema(parameters): Schema,
    strict: Option<bool>,
) -> Tool {
    Tool { name, description, parameters, strict: strict.unwrap_or(false) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Function {
    name: String,
    description: Option<String>,
    #[serde(default)]
    parameters: Schema,
    strict: Option<bool>,
}

/// A tool of Anthropic's messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomTool {
    #[serde(rename = "type", default)]
    _kind: CustomType,
    name: String,
    description: Option<String>,
    #[serde(default)]
    input_schema: Schema,
    strict: Option<bool>,
    #[serde(default, rename = "cache_control")]
    _cache_control: Unused,
    #[serde(default, rename = "input_examples")]
    _input_examples: Unsupported,
    #[serde(default, rename = "eager_input_streaming")]
    _eager_input_streaming: Unused,
}

impl CustomTool {
    pub(super) fn tool(self) -> Tool {
        let CustomTool { name, description, input_schema, strict, .. } = self;
        tool(name, description, input_schema, strict)
    }
}

/// A JSON Schema, kept as its text.
#[derive(Default)]
struct Schema(Option<String>);

impl<'de> Deserialize<'de> for Schema {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Schema, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Schema(None)),
            Value::Object(map) if map.is_empty() => Ok(Schema(None)),
            Value::Object(map) => Ok(Schema(Some(Value::Object(map).to_string()))),
            _ => Err(D::Error::custom("a JSON Schema is an object")),
        }
    }
}

/// `function`, the only type of tool and of call there is.
#[derive(Default)]
struct FunctionType;

impl<'de> Deserialize<'de> for FunctionType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FunctionType, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "function" => Ok(FunctionType),
            _ => Err(D::Error::custom("only functions are supported here")),
        }
    }
}

/// What Anthropic calls a tool that the client runs itself.
#[derive(Default)]
struct CustomType;

impl<'de> Deserialize<'de> for CustomType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CustomType, D::Error> {
        match Option::<String>::deserialize(deserializer)?.as_deref() {
            None | Some("custom") => Ok(CustomType),
            Some(_) => Err(D::Error::custom("only tools that you run yourself are supported here")),
        }
    }
}

/// OpenAI's choice: a word, or a function by its name, in an object of its own or not.
impl<'de> Deserialize<'de> for ChoiceWish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ChoiceWish, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let named = || {
            if value.get("type")?.as_str() != Some("function") {
                return None;
            }
            let name = value.get("name").or_else(|| value.get("function")?.get("name"))?;
            Some(ChoiceWish::Some(ToolChoice::Named(name.as_str()?.to_owned())))
        };
        match value.as_str() {
            Some("none") => Ok(ChoiceWish::None),
            Some("auto") => Ok(ChoiceWish::Some(ToolChoice::Auto)),
            Some("required") => Ok(ChoiceWish::Some(ToolChoice::Required)),
            Some(_) | None => named().ok_or_else(|| {
                D::Error::custom("is none, auto, required or a function by its name")
            }),
        }
    }
}

/// Anthropic's choice.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

impl CustomChoice {
    /// The choice, and whether several may be called at once.
    pub(super) fn wish(self) -> Result<(ChoiceWish, bool), BadRequest> {
        let choice = match (self.kind.as_str(), self.name) {
            ("auto", None) => ChoiceWish::Some(ToolChoice::Auto),
            ("any", None) => ChoiceWish::Some(ToolChoice::Required),
            ("none", None) => ChoiceWish::None,
            ("tool", Some(name)) => ChoiceWish::Some(ToolChoice::Named(name)),
            _ => {
                let problem = "its type is auto, any, none, or tool with a name";
                return Err(BadRequest::field("tool_choice", problem));
            }
        };
        Ok((choice, !self.disable_parallel_tool_use.unwrap_or(false)))
    }
}

/// An earlier call, as OpenAI's clients send it back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallWish {
    id: String,
    #[serde(rename = "type", default)]
    _kind: FunctionType,
    function: CalledFunction,
    #[serde(default, rename = "index")]
    _index: Unused,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CalledFunction {
    name: String,
    arguments: String,
}

impl CallWish {
    pub(super) fn call(self) -> ToolCall {
        let CallWish { id, function: CalledFunction { name, arguments }, .. } = self;
        ToolCall { id, name, arguments }
    }
}

/// An earlier call, as Ollama's clients send it back: mostly without an id.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectCall {
    pub id: Option<String>,
    #[serde(rename = "type", default)]
    _kind: FunctionType,
    pub function: ObjectFunction,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectFunction {
    pub name: String,
    #[serde(default)]
    pub arguments: serde_json::Map<String, Value>,
    #[serde(default, rename = "index")]
    _index: Unused,
    #[serde(default, rename = "description")]
    _description: Unused,
}

/// Writes what a tool is called with as the object that Ollama's and Anthropic's clients expect, on one line.
/// What a model wrote that is none, or was cut off, they find as a text under `invalid_arguments`.
pub(super) fn arguments_object(out: &mut BytesMut, arguments: &str) {
    let text = arguments.trim();
    if text.starts_with('{') && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        // A line ends nowhere but between the parts of JSON.
        out.extend(
            text.bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }),
        );
    } else {
        json::raw(out, r#"{"invalid_arguments":"#);
        json::string(out, arguments);
        out.put_u8(b'}');
    }
}
