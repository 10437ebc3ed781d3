//! OpenAI's API as the client of a *server of models* sees it: llama-server, vLLM, LM Studio and kin.
//!
//! Servers differ in what they leave out, so everything is optional that can be; what they add is
//! ignored. What our own gateway accepts and answers is another module's and stricter.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::api::json;

/// The answer of `GET /v1/models`.
#[derive(Clone, Debug, Deserialize)]
pub struct Models {
    #[serde(default)]
    pub data: Vec<Model>,
}

/// A model that is loaded or can be.
#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    pub id: String,
    /// `llamacpp`, `vllm`, …
    #[serde(default)]
    pub owned_by: Option<String>,
    /// vLLM's context.
    #[serde(default)]
    pub max_model_len: Option<u32>,
    /// llama-server's description of the file.
    #[serde(default)]
    pub meta: Option<ModelMeta>,
}

/// What llama-server tells of a model's file.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelMeta {
    #[serde(default)]
    pub n_ctx_train: Option<u32>,
    #[serde(default)]
    pub n_vocab: Option<u64>,
    #[serde(default)]
    pub n_embd: Option<u64>,
    #[serde(default)]
    pub n_params: Option<u64>,
    #[serde(default)]
    pub size: Option<u64>,
}

/// The answer of llama-server's `GET /props`.
#[derive(Clone, Debug, Deserialize)]
pub struct Props {
    #[serde(default)]
    pub default_generation_settings: Option<GenerationSettings>,
    #[serde(default)]
    pub total_slots: Option<u32>,
    #[serde(default)]
    pub chat_template: Option<String>,
    /// What llama-server found the template to be capable of (builds of 2026).
    #[serde(default)]
    pub chat_template_caps: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    pub build_info: Option<String>,
}

/// The part of [`Props`] that tells the context of one slot.
#[derive(Clone, Debug, Deserialize)]
pub struct GenerationSettings {
    #[serde(default)]
    pub n_ctx: Option<u32>,
}

/// The answer of vLLM's `GET /version`.
#[derive(Clone, Debug, Deserialize)]
pub struct Version {
    pub version: String,
}

/// The body of `POST /v1/chat/completions`; see [`ChatRequest::to_json`].
#[derive(Clone, Debug, Serialize)]
pub struct ChatRequest<'a> {
    #[serde(skip)]
    pub model: &'a str,
    #[serde(skip)]
    pub messages: Vec<Message<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub logprobs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_logprobs: Option<u8>,
    /// vLLM's: whether the template opens a new message of the assistant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_generation_prompt: Option<bool>,
    /// llama-server's: `none` leaves what a model thinks in the text, where it is counted and paid as it comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_format: Option<&'static str>,
    /// vLLM's: whether the last message is gone on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continue_final_message: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    /// `"auto"`, `"required"`, or a function by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    #[serde(flatten)]
    pub common: Common<'a>,
}

impl ChatRequest<'_> {
    /// As JSON, which has about so many bytes. What may be long, the text of messages, is written by the quicker way.
    pub fn to_json(&self, bytes: usize) -> serde_json::Result<Bytes> {
        let mut out = BytesMut::with_capacity(bytes);
        json::raw(&mut out, r#"{"model":"#);
        json::string(&mut out, self.model);
        json::raw(&mut out, r#","messages":["#);
        for (index, message) in self.messages.iter().enumerate() {
            if index > 0 {
                json::raw(&mut out, ",");
            }
            message.write(&mut out)?;
        }
        json::raw(&mut out, "]");
        // A map: the rest of it follows.
        let rest = serde_json::to_vec(self)?;
        let rest = rest.get(1..).unwrap_or_default();
        json::raw(&mut out, if rest == b"}" { "" } else { "," });
        out.extend_from_slice(rest);
        Ok(out.freeze())
    }
}

/// One turn of a chat.
#[derive(Clone, Debug, Serialize)]
pub struct Message<'a> {
    pub role: &'a str,
    pub content: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The call whose result this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<&'a str>,
}

impl Message<'_> {
    fn write(&self, out: &mut BytesMut) -> serde_json::Result<()> {
        json::raw(out, r#"{"role":"#);
        json::string(out, self.role);
        json::raw(out, r#","content":"#);
        json::string(out, self.content);
        if !self.tool_calls.is_empty() {
            json::raw(out, r#","tool_calls":"#);
            out.extend_from_slice(&serde_json::to_vec(&self.tool_calls)?);
        }
        if let Some(id) = self.tool_call_id {
            json::raw(out, r#","tool_call_id":"#);
            json::string(out, id);
        }
        json::raw(out, "}");
        Ok(())
    }
}

/// A tool, of which there is one type.
#[derive(Clone, Debug, Serialize)]
pub struct Tool<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: Function<'a>,
}

/// What may be called.
#[derive(Clone, Debug, Serialize)]
pub struct Function<'a> {
    pub name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    pub parameters: serde_json::Value,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

/// What was called earlier.
#[derive(Clone, Debug, Serialize)]
pub struct ToolCall<'a> {
    pub id: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub function: CalledFunction<'a>,
}

/// A function and its arguments, which are JSON in a string.
#[derive(Clone, Debug, Serialize)]
pub struct CalledFunction<'a> {
    pub name: &'a str,
    pub arguments: &'a str,
}

/// The body of `POST /v1/completions`.
#[derive(Clone, Debug, Serialize)]
pub struct CompletionRequest<'a> {
    pub model: &'a str,
    pub prompt: &'a str,
    /// The number of alternatives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    #[serde(flatten)]
    pub common: Common<'a>,
}

/// The body of `POST /v1/embeddings`.
#[derive(Clone, Debug, Serialize)]
pub struct EmbeddingRequest<'a> {
    pub model: &'a str,
    pub input: &'a [String],
    /// A third of the bytes, and exact.
    pub encoding_format: &'static str,
    /// vLLM's; −1 cuts what does not fit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncate_prompt_tokens: Option<i32>,
}

/// The answer of `POST /v1/embeddings`.
#[derive(Clone, Debug, Deserialize)]
pub struct Embeddings {
    pub data: Vec<Embedding>,
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// One vector.
#[derive(Clone, Debug, Deserialize)]
pub struct Embedding {
    /// Of its input.
    pub index: usize,
    pub embedding: Numbers,
}

/// As Base64 of little-endian 32-bit floats, or as numbers by servers that know no other form.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    Base64(String),
    Floats(Vec<f32>),
}

impl Numbers {
    /// As little-endian bytes, if they are numbers.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self {
            Numbers::Base64(text) => STANDARD.decode(text).ok(),
            Numbers::Floats(numbers) => {
                Some(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
            }
        }
    }
}

/// What both requests have. What is absent is the server's own default.
#[derive(Clone, Debug, Serialize)]
pub struct Common<'a> {
    pub stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
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
    /// llama-server's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f64>,
    /// vLLM's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub stop: &'a [String],
}

/// Asks for the usage, which a stream lacks otherwise and a whole answer has.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct StreamOptions {
    pub include_usage: bool,
}

/// One event of a streamed answer of either request, or the whole of one that is not streamed.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Chunk {
    #[serde(default)]
    pub choices: Vec<Choice>,
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The request failed after it had begun.
    #[serde(default)]
    pub error: Option<serde_json::Value>,
}

/// A part of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Choice {
    /// Of a chat.
    #[serde(default)]
    pub delta: Option<Delta>,
    /// Of a chat that is not streamed.
    #[serde(default)]
    pub message: Option<Delta>,
    /// Of a completion.
    #[serde(default)]
    pub text: Option<String>,
    #[serde(default)]
    pub finish_reason: Option<String>,
    #[serde(default)]
    pub logprobs: Option<Logprobs>,
}

/// A part of a message, or all of it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Delta {
    #[serde(default)]
    pub content: Option<String>,
    #[serde(default)]
    pub tool_calls: Option<Vec<CallDelta>>,
}

/// A part of a call. The name comes with the first one of its index.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CallDelta {
    #[serde(default)]
    pub index: Option<u32>,
    /// Comes with the name.
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default)]
    pub function: Option<FunctionDelta>,
}

/// A part of what is called.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct FunctionDelta {
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub arguments: Option<String>,
}

/// What the server counted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Usage {
    #[serde(default)]
    pub prompt_tokens: Option<u32>,
    #[serde(default)]
    pub completion_tokens: Option<u32>,
}

/// The tokens of a part, in the form of chats or in the older one of completions.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Logprobs {
    #[serde(default)]
    pub content: Option<Vec<Logprob>>,
    #[serde(default)]
    pub tokens: Option<Vec<String>>,
    #[serde(default)]
    pub token_logprobs: Option<Vec<Option<f64>>>,
    #[serde(default)]
    pub top_logprobs: Option<Vec<Option<BTreeMap<String, f64>>>>,
}

impl Logprobs {
    /// The tokens in the form of chats, whichever came.
    pub fn into_tokens(self) -> Vec<Logprob> {
        if let Some(content) = self.content {
            return content;
        }
        let plain = |token: String, logprob: f64| Logprob {
            id: None,
            token,
            bytes: None,
            logprob: Some(logprob),
            top_logprobs: Vec::new(),
        };
        let logprobs = self.token_logprobs.unwrap_or_default();
        let mut tops = self.top_logprobs.unwrap_or_default().into_iter();
        let tokens = self.tokens.unwrap_or_default().into_iter().zip(logprobs);
        let token = |(token, logprob): (String, Option<f64>)| {
            let top = tops.next().flatten().unwrap_or_default();
            let mut top: Vec<Logprob> = top.into_iter().map(|(t, l)| plain(t, l)).collect();
            top.sort_by(|a, b| {
                b.logprob.unwrap_or(f64::MIN).total_cmp(&a.logprob.unwrap_or(f64::MIN))
            });
            Logprob { id: None, token, bytes: None, logprob, top_logprobs: top }
        };
        tokens.map(token).collect()
    }
}

/// A token and how likely it was.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Logprob {
    /// llama-server's addition.
    #[serde(default)]
    pub id: Option<u32>,
    #[serde(default)]
    pub token: String,
    /// Exact, where `token` cannot be.
    #[serde(default)]
    pub bytes: Option<Vec<u8>>,
    #[serde(default)]
    pub logprob: Option<f64>,
    #[serde(default)]
    pub top_logprobs: Vec<Logprob>,
}

impl Logprob {
    /// The token's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or(self.token.as_bytes())
    }
}

/// What a server says went wrong: OpenAI's object, a plain text, or Ollama's form of either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    pub message: String,
    /// llama-server's numbers when a prompt does not fit.
    pub prompt_tokens: Option<u32>,
    pub context_tokens: Option<u32>,
}

impl ServerError {
    /// From the body of an error response or from the `error` of an event.
    pub fn read(body: &[u8]) -> ServerError {
        match serde_json::from_slice::<serde_json::Value>(body) {
            Ok(value) => ServerError::of(value.get("error").unwrap_or(&value)),
            Err(_) => ServerError::plain(&String::from_utf8_lossy(body)),
        }
    }

    /// From the value of an `error` field.
    pub fn of(error: &serde_json::Value) -> ServerError {
        let number = |key: &str| {
            error.get(key).and_then(serde_json::Value::as_u64).and_then(|n| u32::try_from(n).ok())
        };
        let message = error.get("message").or(error.get("detail")).unwrap_or(error);
        let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        ServerError {
            prompt_tokens: number("n_prompt_tokens"),
            context_tokens: number("n_ctx"),
            ..ServerError::plain(&text)
        }
    }

    /// At most 300 characters of one line: it goes into logs and answers.
    fn plain(text: &str) -> ServerError {
        let line = text.trim().lines().next().unwrap_or("").chars().take(300).collect();
        ServerError { message: line, prompt_tokens: None, context_tokens: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_in_any_form() {
        let check = |body: &str, message: &str| {
            assert_eq!(ServerError::read(body.as_bytes()).message, message);
        };
        check(r#"{"error":{"code":400,"message":"too long"}}"#, "too long");
        check(r#"{"error":"model not found"}"#, "model not found");
        check(r#"{"detail":"Not Found"}"#, "Not Found");
        check(r#"{"object":"error","message":"bad"}"#, "bad");
        check("<html>\nno</html>", "<html>");
        check("", "");
        let full = br#"{"error":{"message":"m","n_prompt_tokens":3008,"n_ctx":512}}"#;
        let expected = ServerError {
            message: "m".to_owned(),
            prompt_tokens: Some(3008),
            context_tokens: Some(512),
        };
        assert_eq!(ServerError::read(full), expected);
    }

    #[test]
    fn both_forms_of_log_probabilities_are_read() {
        let check = |json: &str| {
            let logprobs: Logprobs = serde_json::from_str(json).unwrap();
            let tokens = logprobs.into_tokens();
            let [token] = tokens.as_slice() else { panic!("{tokens:?}") };
            assert_eq!((token.bytes(), token.logprob), (b" a".as_slice(), Some(-0.5)));
            let top: Vec<&str> = token.top_logprobs.iter().map(|t| t.token.as_str()).collect();
            assert_eq!(top, [" a", " b"]);
        };
        check(
            r#"{"content":[{"id":3,"token":" a","bytes":[32,97],"logprob":-0.5,
                "top_logprobs":[{"token":" a","logprob":-0.5},{"token":" b","logprob":-1.5}]}]}"#,
        );
        check(
            r#"{"tokens":[" a"],"token_logprobs":[-0.5],"text_offset":[0],
                "top_logprobs":[{" b":-1.5," a":-0.5}]}"#,
        );
    }
}
