//! What Ollama's clients ask about models. A gateway knows a model's digest, context and abilities;
//! what only the file would tell (its size, its family, its quantization) is left empty.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use types::{ModelId, TimeMs};

use super::answer::timestamp;
use crate::api::{
    BadRequest,
    fields::{self, Unsupported, Unused},
};

/// The version whose API this is; clients ask for it to know what they may use.
const API_VERSION: &str = "0.12.11";

/// The architecture under which `model_info` tells what is known.
const ARCHITECTURE: &str = "peerwatt";

/// A model that is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    pub model: ModelId,
    pub context_tokens: u32,
    pub completions: bool,
    pub embeddings: bool,
    pub tools: bool,
}

/// The body of `GET /api/version`.
pub fn version() -> Bytes {
    json!({ "version": API_VERSION }).to_string().into()
}

/// The body of `GET /api/tags`.
pub fn tags(models: &[Model], now: TimeMs) -> Bytes {
    let modified_at = timestamp(now);
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            let mut entry = entry(model);
            entry["modified_at"] = json!(modified_at);
            entry
        })
        .collect();
    json!({ "models": models }).to_string().into()
}

/// The body of `GET /api/ps`: whatever is offered is ready to run.
pub fn running(models: &[Model], now: TimeMs) -> Bytes {
    let expires_at = timestamp(now.plus_ms(5 * 60_000));
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            let mut entry = entry(model);
            entry["expires_at"] = json!(expires_at);
            entry["size_vram"] = json!(0);
            entry["context_length"] = json!(model.context_tokens);
            entry
        })
        .collect();
    json!({ "models": models }).to_string().into()
}

fn entry(model: &Model) -> Value {
    json!({
        "name": model.name,
        "model": model.name,
        "size": 0,
        "digest": model.model.to_string(),
        "details": details(),
    })
}

fn details() -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    })
}

/// The name in the body of `POST /api/show`.
pub fn show_name(body: &[u8]) -> Result<String, BadRequest> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        model: Option<String>,
        /// As older clients call it.
        name: Option<String>,
        #[serde(default, rename = "verbose")]
        _verbose: Unused,
        #[serde(default, rename = "system")]
        _system: Unsupported,
        #[serde(default, rename = "template")]
        _template: Unsupported,
        #[serde(default, rename = "options")]
        _options: Unsupported,
    }
    let body: Body = fields::read(body)?;
    fields::model(body.model.filter(|model| !model.is_empty()).or(body.name))
}

/// The body of `POST /api/show`.
pub fn show(model: &Model, now: TimeMs) -> Bytes {
    let mut model_info = serde_json::Map::new();
    model_info.insert("general.architecture".into(), json!(ARCHITECTURE));
    model_info.insert("general.basename".into(), json!(model.name));
    model_info.insert(format!("{ARCHITECTURE}.context_length"), json!(model.context_tokens));
    let able = [
        (model.completions, "completion"),
        (model.tools, "tools"),
        (model.embeddings, "embedding"),
    ];
    let able = able.into_iter().filter_map(|(is_able, name)| is_able.then_some(name));
    let capabilities: Vec<&str> = able.collect();
    let body = json!({
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": details(),
        "model_info": model_info,
        "capabilities": capabilities,
        "modified_at": timestamp(now),
    });
    body.to_string().into()
}
