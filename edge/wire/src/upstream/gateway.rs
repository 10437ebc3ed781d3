//! A gateway of this network as a consumer sees it that asks for all that a provider reports of an answer: what canaries say
//! and hear. Answers have the form of [`super::openai::Chunk`].

use serde::{Deserialize, Serialize};
use types::{ModelId, receipt::Receipt};

/// The list of models.
#[derive(Clone, Debug, Deserialize)]
pub struct Models {
    pub data: Vec<Model>,
}

/// A model that the gateway can reach.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    /// The name to ask for.
    pub id: String,
    /// Absent of a service outside the network.
    #[serde(default)]
    pub peerwatt: Option<ModelFacts>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct ModelFacts {
    pub model_id: ModelId,
    #[serde(default)]
    pub completions: bool,
    #[serde(default)]
    pub resold: bool,
}

/// A chat of one turn, with every setting said that the profile NP-1 has, and a seed: to its provider it looks like the
/// request of any client that wants nothing disclosed.
#[derive(Clone, Debug, Serialize)]
pub struct Question<'a> {
    pub model: &'a str,
    pub messages: [Turn<'a>; 1],
    pub max_tokens: u32,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: u32,
    pub min_p: f64,
    pub repeat_penalty: f64,
    pub presence_penalty: f64,
    pub frequency_penalty: f64,
    pub seed: u32,
    pub logprobs: bool,
    pub top_logprobs: u32,
}

#[derive(Clone, Debug, Serialize)]
pub struct Turn<'a> {
    pub role: &'static str,
    pub content: &'a str,
}

/// A receipt as the gateway keeps it.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredReceipt {
    pub receipt: Receipt,
    /// Of providers that began the answer.
    #[serde(default)]
    pub earlier: Vec<serde_json::Value>,
}
