//! What an engine can do with a model besides going on with a text, and what a request needs of that.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{inference::InferenceRequest, tools::ToolChoice};

/// What can be done, or what is needed.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Abilities {
    /// It tells the log-probabilities of tokens.
    pub logprobs: bool,
    /// It can be held to answer in JSON.
    pub json: bool,
    pub tools: ToolAbility,
    /// It draws tokens by `top_k`, `min_p` and a repeat penalty too.
    pub samplers: bool,
}

/// How far a model can be given tools. The later ones include the earlier.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Default,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ToolAbility {
    /// Not at all.
    #[default]
    None,
    /// It calls them as it sees fit.
    Auto,
    /// It can be made to call them.
    Forced,
}

impl ToolAbility {
    /// As the APIs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            ToolAbility::None => "none",
            ToolAbility::Auto => "auto",
            ToolAbility::Forced => "forced",
        }
    }
}

/// Something that is needed and not there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Lacking {
    #[error("no log-probabilities")]
    Logprobs,
    #[error("no structured output")]
    Json,
    #[error("no tools")]
    Tools,
    #[error("cannot be made to call a tool")]
    ForcedTools,
    #[error("no top_k, min_p or repeat penalty")]
    Samplers,
}

impl Lacking {
    /// The field that asks for it, where all APIs call it so.
    pub fn field(self) -> Option<&'static str> {
        match self {
            Lacking::Logprobs => Some("logprobs"),
            Lacking::Tools => Some("tools"),
            Lacking::ForcedTools => Some("tool_choice"),
            Lacking::Json | Lacking::Samplers => None,
        }
    }

    /// What a client can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Lacking::Logprobs => "leave `logprobs` out",
            Lacking::Json => "leave `response_format` or `format` out",
            Lacking::Tools => "leave `tools` out",
            Lacking::ForcedTools => "leave `tool_choice` out or say auto",
            Lacking::Samplers => "leave `top_k`, `min_p` and the repeat penalty out",
        }
    }
}

impl Abilities {
    /// What a request needs.
    pub fn needed(request: &InferenceRequest) -> Abilities {
        let tools = match request.tools.as_ref().map(|tools| &tools.choice) {
            // The model must understand what was called before.
            None if request.prompt.has_calls() => ToolAbility::Auto,
            None => ToolAbility::None,
            Some(ToolChoice::Auto) => ToolAbility::Auto,
            Some(ToolChoice::Required | ToolChoice::Named(_)) => ToolAbility::Forced,
        };
        Abilities {
            logprobs: request.logprobs.is_some(),
            json: request.form.is_some(),
            tools,
            samplers: request.sampling.needs_samplers(),
        }
    }

    /// The first thing that is needed and not here.
    pub fn lacking(&self, needed: &Abilities) -> Option<Lacking> {
        [
            (needed.logprobs && !self.logprobs, Lacking::Logprobs),
            (needed.json && !self.json, Lacking::Json),
            (needed.tools > self.tools && self.tools == ToolAbility::None, Lacking::Tools),
            (needed.tools > self.tools, Lacking::ForcedTools),
            (needed.samplers && !self.samplers, Lacking::Samplers),
        ]
        .into_iter()
        .find_map(|(lacks, what)| lacks.then_some(what))
    }

    /// What one or the other can do.
    pub fn or(&self, other: &Abilities) -> Abilities {
        Abilities {
            logprobs: self.logprobs || other.logprobs,
            json: self.json || other.json,
            tools: self.tools.max(other.tools),
            samplers: self.samplers || other.samplers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_is_named() {
        let all =
            Abilities { logprobs: true, json: true, tools: ToolAbility::Forced, samplers: true };
        let none = Abilities::default();
        assert_eq!(all.lacking(&all), None);
        assert_eq!(none.lacking(&none), None);
        assert_eq!(none.lacking(&all), Some(Lacking::Logprobs));
        let tools = |tools| Abilities { tools, ..none };
        let (auto, forced) = (tools(ToolAbility::Auto), tools(ToolAbility::Forced));
        assert_eq!(none.lacking(&forced), Some(Lacking::Tools));
        assert_eq!(auto.lacking(&forced), Some(Lacking::ForcedTools));
        assert_eq!((auto.lacking(&auto), forced.lacking(&auto)), (None, None));
        assert_eq!(auto.or(&forced), forced);
    }
}
