//! Ollama's native API as its client sees it: what we send, and what an Ollama server sends us.
//!
//! Checked against `api/types.go` of Ollama 0.32. Fields that are not used are left out, and what a
//! server adds is ignored. Nothing here is what our own gateway accepts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::openai::Tool;

/// The answer of `GET /api/version`.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    pub version: String,
}

/// The answer of `GET /api/tags`.
#[derive(Clone, Debug, Deserialize)]
pub struct Tags {
    #[serde(default)]
    pub models: Vec<TaggedModel>,
}

/// A model that is stored at the server.
#[derive(Clone, Debug, Deserialize)]
pub struct TaggedModel {
    pub name: String,
    /// Of the manifest, in hexadecimal; changes with any part of the model.
    #[serde(default)]
    pub digest: String,
    /// Set for models that the server only forwards to.
    #[serde(default)]
    pub remote_host: Option<String>,
}

/// The body of `POST /api/show`.
#[derive(Clone, Debug, Serialize)]
pub struct ShowRequest<'a> {
    pub model: &'a str,
}

/// The answer of `POST /api/show`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Show {
    /// Names the file of the weights by its digest in a `FROM` line.
    #[serde(default)]
    pub modelfile: String,
    /// In Go's template language.
    #[serde(default)]
    pub template: String,
    /// Names a renderer inside the server that takes the place of `template`.
    #[serde(default)]
    pub renderer: String,
    /// The fields of the GGUF header, without long lists.
    #[serde(default)]
    pub model_info: BTreeMap<String, serde_json::Value>,
    /// `completion` among them for a model that generates text, `embedding` for one that makes vectors; empty
    /// before Ollama 0.6.4.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

impl Show {
    /// The SHA-256 of the file of the weights, in hexadecimal, if the model is that file alone.
    pub fn weights_sha256(&self) -> Option<&str> {
        let lines = || self.modelfile.lines().map(str::trim);
        if lines().any(|line| line.starts_with("ADAPTER ")) {
            return None;
        }
        let from = lines().find_map(|line| line.strip_prefix("FROM "))?;
        let (_, digest) = from.rsplit_once("sha256-")?;
        let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_digest.then_some(digest)
    }

    /// Tokens that the model was made for.
    pub fn context_tokens(&self) -> Option<u64> {
        let (_, value) =
            self.model_info.iter().find(|(key, _)| key.ends_with(".context_length"))?;
        value.as_u64()
    }
}

/// The body of `POST /api/chat`.
#[derive(Clone, Debug, Serialize)]
pub struct ChatRequest<'a> {
    pub model: &'a str,
    pub messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    #[serde(flatten)]
    pub common: Common<'a>,
}

/// One turn of a chat.
#[derive(Clone, Debug, Serialize)]
pub struct Message<'a> {
    pub role: &'a str,
    pub content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The function whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_name: Option<&'a str>,
    /// And the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a str>,
}

/// What was called earlier.
#[derive(Clone, Debug, Serialize)]
pub struct ToolCall<'a> {
    pub id: &'a str,
    pub function: CalledFunction<'a>,
}

/// A function and its arguments, an object.
#[derive(Clone, Debug, Serialize)]
pub struct CalledFunction<'a> {
    pub name: &'a str,
    pub arguments: serde_json::Value,
}

/// The body of `POST /api/generate`.
#[derive(Clone, Debug, Serialize)]
pub struct GenerateRequest<'a> {
    pub model: &'a str,
    pub prompt: &'a str,
    /// No template around the prompt.
    pub raw: bool,
    #[serde(flatten)]
    pub common: Common<'a>,
}

/// What both requests have.
#[derive(Clone, Debug, Serialize)]
pub struct Common<'a> {
    pub stream: bool,
    pub think: bool,
    /// `false`: a prompt that does not fit is an error (0.12.6 and later; cut silently before).
    pub truncate: bool,
    /// `false`: the answer ends with the context (0.12.6 and later).
    pub shift: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    pub options: Options<'a>,
    /// `"json"`, or a JSON Schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<serde_json::Value>,
}

/// The body of `POST /api/embed`.
#[derive(Clone, Debug, Serialize)]
pub struct EmbedRequest<'a> {
    pub model: &'a str,
    pub input: &'a [String],
    /// `false`: a text that does not fit is an error.
    pub truncate: bool,
    /// From 0.11.11.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
    pub options: EmbedOptions,
}

/// How a model that embeds is run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EmbedOptions {
    pub num_ctx: u32,
}

/// The answer of `POST /api/embed`.
#[derive(Clone, Debug, Deserialize)]
pub struct Embeddings {
    pub embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    pub prompt_eval_count: Option<u32>,
}

/// How the model is run. What is absent is the model's own default.
#[derive(Clone, Debug, Serialize)]
pub struct Options<'a> {
    /// Always sent: the server's default cuts long prompts.
    pub num_ctx: u32,
    /// Always sent: the server's default has no end.
    pub num_predict: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub stop: &'a [String],
}

/// One line of a streamed answer of either request.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Chunk {
    /// Of a chat.
    #[serde(default)]
    pub message: Option<ChunkMessage>,
    /// Of a raw prompt.
    #[serde(default)]
    pub response: Option<String>,
    #[serde(default)]
    pub done: bool,
    #[serde(default)]
    pub done_reason: Option<String>,
    /// Absent where the whole prompt was cached.
    #[serde(default)]
    pub prompt_eval_count: Option<u32>,
    #[serde(default)]
    pub eval_count: Option<u32>,
    #[serde(default)]
    pub logprobs: Option<Vec<Logprob>>,
    /// The request failed after it had begun.
    #[serde(default)]
    pub error: Option<String>,
}

/// The message of a chunk.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ChunkMessage {
    #[serde(default)]
    pub content: String,
    /// Whole ones.
    #[serde(default)]
    pub tool_calls: Vec<ChunkCall>,
}

/// A call of a chunk.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ChunkCall {
    #[serde(default)]
    pub function: ChunkFunction,
}

/// What is called.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ChunkFunction {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub arguments: serde_json::Value,
}

/// A token and how likely it was.
#[derive(Clone, Debug, Deserialize)]
pub struct Logprob {
    #[serde(default)]
    pub token: String,
    pub logprob: f64,
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    #[serde(default)]
    pub top_logprobs: Vec<Logprob>,
}

impl Logprob {
    /// The token's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.token.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_weights_stands_in_the_modelfile() {
        let digest = "ab".repeat(32);
        let check = |modelfile: &str, expected: Option<&str>| {
            let show = Show { modelfile: modelfile.to_owned(), ..Show::default() };
            assert_eq!(show.weights_sha256(), expected, "{modelfile}");
        };
        let from =
            format!("# Modelfile\nFROM /usr/share/ollama/.ollama/models/blobs/sha256-{digest}\n");
        check(&from, Some(&digest));
        check(&format!("{from}ADAPTER /blobs/sha256-{digest}\n"), None);
        check("FROM llama3.2:latest\n", None);
        check("FROM /blobs/sha256-abc\n", None);
        check("", None);
    }

    #[test]
    fn a_chunk_may_lack_almost_everything() {
        let chunk: Chunk = serde_json::from_str(r#"{"done":false,"new":[1]}"#).unwrap();
        assert!(!chunk.done && chunk.message.is_none() && chunk.eval_count.is_none());
    }
}
