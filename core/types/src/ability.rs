//! What an engine can do with a model, and what a request needs of that.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::Nusd,
    inference::{InferenceRequest, Prompt},
    price::Price,
    tools::ToolChoice,
};

/// What can be done, or what is needed. The default is to go on with a text, and nothing else.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct Abilities {
    /// It goes on with a text or a chat.
    pub completions: bool,
    pub embeddings: EmbeddingAbility,
    /// It tells the log-probabilities of tokens.
    pub logprobs: bool,
    /// It can be held to answer in JSON.
    pub json: bool,
    pub tools: ToolAbility,
    /// It draws tokens by `top_k`, `min_p` and a repeat penalty too.
    pub samplers: bool,
}

impl Default for Abilities {
    fn default() -> Abilities {
        Abilities {
            completions: true,
            embeddings: EmbeddingAbility::None,
            logprobs: false,
            json: false,
            tools: ToolAbility::None,
            samplers: false,
        }
    }
}

/// Whether a model makes vectors of texts. The later ones include the earlier.
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
pub enum EmbeddingAbility {
    /// Not at all.
    #[default]
    None,
    /// Of its own number of dimensions.
    Fixed,
    /// Of the number of dimensions that is asked for too.
    Sized,
}

impl EmbeddingAbility {
    /// As the APIs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            EmbeddingAbility::None => "none",
            EmbeddingAbility::Fixed => "fixed",
            EmbeddingAbility::Sized => "sized",
        }
    }
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
    #[error("it makes embeddings and nothing else")]
    Completions,
    #[error("no embeddings")]
    Embeddings,
    #[error("no choice of the embeddings' dimensions")]
    Dimensions,
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
            Lacking::Completions | Lacking::Embeddings => Some("model"),
            Lacking::Dimensions => Some("dimensions"),
            Lacking::Logprobs => Some("logprobs"),
            Lacking::Tools => Some("tools"),
            Lacking::ForcedTools => Some("tool_choice"),
            Lacking::Json | Lacking::Samplers => None,
        }
    }

    /// What a client can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Lacking::Completions => "ask it for embeddings, or another model",
            Lacking::Embeddings => "ask a model whose embeddings GET /v1/models shows",
            Lacking::Dimensions => "leave `dimensions` out",
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
        let embeddings = match &request.prompt {
            Prompt::Chat(_) | Prompt::Text(_) => EmbeddingAbility::None,
            Prompt::Inputs(inputs) if inputs.dimensions.is_some() => EmbeddingAbility::Sized,
            Prompt::Inputs(_) => EmbeddingAbility::Fixed,
        };
        Abilities {
            completions: embeddings == EmbeddingAbility::None,
            embeddings,
            logprobs: request.logprobs.is_some(),
            json: request.form.is_some(),
            tools,
            samplers: request.sampling.needs_samplers(),
        }
    }

    /// The first thing that is needed and not here.
    pub fn lacking(&self, needed: &Abilities) -> Option<Lacking> {
        let makes_none = self.embeddings == EmbeddingAbility::None;
        [
            (needed.completions && !self.completions, Lacking::Completions),
            (needed.embeddings > self.embeddings && makes_none, Lacking::Embeddings),
            (needed.embeddings > self.embeddings, Lacking::Dimensions),
            (needed.logprobs && !self.logprobs, Lacking::Logprobs),
            (needed.json && !self.json, Lacking::Json),
            (needed.tools > self.tools && self.tools == ToolAbility::None, Lacking::Tools),
            (needed.tools > self.tools, Lacking::ForcedTools),
            (needed.samplers && !self.samplers, Lacking::Samplers),
        ]
        .into_iter()
        .find_map(|(lacks, what)| lacks.then_some(what))
    }

    /// What an order that needs this is charged by, where `offered` is asked: embeddings cost what is read,
    /// and nothing for each. Both sides of an order compute it.
    pub fn price(&self, offered: Price) -> Price {
        match self.embeddings {
            EmbeddingAbility::None => offered,
            EmbeddingAbility::Fixed | EmbeddingAbility::Sized => {
                Price { completion_nusd_per_mtok: Nusd::ZERO, ..offered }
            }
        }
    }

    /// What one or the other can do.
    pub fn or(&self, other: &Abilities) -> Abilities {
        Abilities {
            completions: self.completions || other.completions,
            embeddings: self.embeddings.max(other.embeddings),
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
        let all = Abilities {
            completions: true,
            embeddings: EmbeddingAbility::Sized,
            logprobs: true,
            json: true,
            tools: ToolAbility::Forced,
            samplers: true,
        };
        let none = Abilities::default();
        assert_eq!(all.lacking(&all), None);
        assert_eq!(none.lacking(&none), None);
        assert_eq!(none.lacking(&all), Some(Lacking::Embeddings));
        let logprobs = Abilities { logprobs: true, ..none };
        assert_eq!(none.lacking(&logprobs), Some(Lacking::Logprobs));
        let tools = |tools| Abilities { tools, ..none };
        let (auto, forced) = (tools(ToolAbility::Auto), tools(ToolAbility::Forced));
        assert_eq!(none.lacking(&forced), Some(Lacking::Tools));
        assert_eq!(auto.lacking(&forced), Some(Lacking::ForcedTools));
        assert_eq!((auto.lacking(&auto), forced.lacking(&auto)), (None, None));
        assert_eq!(auto.or(&forced), forced);
    }

    #[test]
    fn a_model_makes_text_or_vectors_or_both() {
        let of =
            |completions, embeddings| Abilities { completions, embeddings, ..Abilities::default() };
        let text = of(true, EmbeddingAbility::None);
        let (fixed, sized) =
            (of(false, EmbeddingAbility::Fixed), of(false, EmbeddingAbility::Sized));
        assert_eq!(fixed.lacking(&text), Some(Lacking::Completions));
        assert_eq!(text.lacking(&fixed), Some(Lacking::Embeddings));
        assert_eq!(fixed.lacking(&sized), Some(Lacking::Dimensions));
        assert_eq!((sized.lacking(&fixed), fixed.or(&text).lacking(&text)), (None, None));
        let offered = Price {
            request_nusd: Nusd(1),
            prompt_nusd_per_mtok: Nusd(2),
            completion_nusd_per_mtok: Nusd(3),
        };
        assert_eq!(text.price(offered), offered);
        assert_eq!(fixed.price(offered).completion_nusd_per_mtok, Nusd::ZERO);
    }
}
