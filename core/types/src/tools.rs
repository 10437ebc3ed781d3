//! Functions of the client's that a model may ask to be called, and what it asked.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{inference::RequestError, limits};

/// A function that the model may ask to be called.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Tool {
    /// 1 to [`limits::TOOL_NAME_BYTES_MAX`] bytes of letters, digits, `_`, `-`, `.`, `:` and `/`.
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema of its arguments, which is JSON itself. `None`: it takes none.
    pub parameters: Option<String>,
    /// Whether the arguments must fit the schema to the letter.
    pub strict: bool,
}

/// Whether the model calls.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub enum ToolChoice {
    /// As it sees fit.
    #[default]
    Auto,
    /// It must call at least one.
    Required,
    /// It must call this one.
    Named(String),
}

/// The tools of a request; at least one.
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Tools {
    pub list: Vec<Tool>,
    pub choice: ToolChoice,
    /// Whether it may call several at once.
    pub parallel: bool,
}

/// What a model asked to be called.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct ToolCall {
    /// By which the result refers to it; 1 to [`limits::TOOL_NAME_BYTES_MAX`] bytes.
    pub id: String,
    pub name: String,
    /// As the model wrote them: a JSON object, if it did well.
    pub arguments: String,
}

impl Tools {
    /// Bytes of all text in it.
    pub fn text_bytes(&self) -> usize {
        let bytes = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of = |tool: &Tool| {
            let named = tool.name.len().saturating_add(bytes(&tool.description));
            named.saturating_add(bytes(&tool.parameters))
        };
        self.list.iter().map(of).fold(0, usize::saturating_add)
    }

    pub(crate) fn check(&self) -> Result<(), RequestError> {
        let bad = |field, problem: String| Err(RequestError { field, problem });
        if self.list.is_empty() {
            return bad("tools", "give at least one, or leave them out".into());
        }
        if self.list.len() > limits::TOOLS_MAX {
            return bad("tools", format!("at most {}", limits::TOOLS_MAX));
        }
        let mut seen = std::collections::BTreeSet::new();
        for tool in &self.list {
            if !is_name(&tool.name) {
                let most = limits::TOOL_NAME_BYTES_MAX;
                let problem = "letters, digits, _, -, ., : and / make a tool's name";
                return bad("tools", format!("{problem}, {most} of them at most"));
            }
            if !seen.insert(&tool.name) {
                return bad("tools", format!("`{}` is given twice", tool.name));
            }
            let schema_bytes = tool.parameters.as_ref().map_or(0, String::len);
            if schema_bytes > limits::SCHEMA_BYTES_MAX {
                let most = limits::SCHEMA_BYTES_MAX;
                return bad("tools", format!("at most {most} bytes of parameters for each"));
            }
        }
        match &self.choice {
            ToolChoice::Named(name) if !seen.contains(name) => {
                bad("tool_choice", "names none of the tools".into())
            }
            ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_) => Ok(()),
        }
    }
}

impl ToolCall {
    pub(crate) fn text_bytes(&self) -> usize {
        self.name.len().saturating_add(self.arguments.len())
    }

    pub(crate) fn is_sound(&self) -> bool {
        is_name(&self.name) && is_id(&self.id)
    }
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte);
    (1..=limits::TOOL_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// Whether it can name a call.
pub(crate) fn is_id(id: &str) -> bool {
    (1..=limits::TOOL_NAME_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_graphic())
}
