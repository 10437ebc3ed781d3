//! Requests for vectors.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use types::inference::{InferenceRequest, Inputs, Prompt};

use super::{Encoding, Endpoint};
use crate::api::{
    BadRequest,
    fields::{self, Unused, checked},
};

/// A request for vectors, whatever it was asked in.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingRequest {
    /// Alias or model id, as given.
    pub model: String,
    /// Its prompt is [`Inputs`].
    pub request: InferenceRequest,
    pub encoding: Encoding,
    /// The least context that the model must have, where the client names one.
    pub context_tokens_min: Option<u32>,
}

/// What a client may want of these endpoints.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Embeddings(Box<EmbeddingRequest>),
    /// Nothing but that the model is there: Ollama's clients give no text then.
    Loading {
        model: String,
    },
}

/// The fields of `/v1/embeddings`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenAiBody {
    model: Option<String>,
    input: Option<Input>,
    encoding_format: Option<Encoding>,
    dimensions: Option<u32>,
    /// Whom the client serves is its own business; nothing is done with it.
    #[serde(default, rename = "user")]
    _user: Unused,
}

/// The fields of `/api/embed`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OllamaBody {
    model: Option<String>,
    input: Option<Input>,
    /// Cuts only where it is said: without it a text that is too long is refused.
    truncate: Option<bool>,
    dimensions: Option<u32>,
    options: Option<Options>,
    /// How long a model stays in memory is its provider's business.
    #[serde(default, rename = "keep_alive")]
    _keep_alive: Unused,
}

/// The fields of `/api/embeddings`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OllamaSingleBody {
    model: Option<String>,
    prompt: Option<String>,
    options: Option<Options>,
    #[serde(default, rename = "keep_alive")]
    _keep_alive: Unused,
}

/// Reads the body of a request to an endpoint and checks it against all limits.
pub fn parse(endpoint: Endpoint, body: &[u8]) -> Result<Asked, BadRequest> {
    match endpoint {
        Endpoint::OpenAi => openai(fields::read(body)?),
        Endpoint::Ollama => ollama(fields::read(body)?),
        Endpoint::OllamaSingle => {
            let OllamaSingleBody { model, prompt, options, .. } = fields::read(body)?;
            let input = prompt.map(|prompt| Input(vec![prompt]));
            let truncate = None;
            ollama(OllamaBody {
                model,
                input,
                truncate,
                dimensions: None,
                options,
                _keep_alive: Unused,
            })
        }
    }
}

fn openai(body: OpenAiBody) -> Result<Asked, BadRequest> {
    let OpenAiBody { model, input, encoding_format, dimensions, .. } = body;
    let model = fields::model(model)?;
    let Some(Input(texts)) = input else {
        return Err(BadRequest::field("input", "give a text, or a list of texts"));
    };
    let inputs = Inputs { texts, dimensions, truncate: false };
    let encoding = encoding_format.unwrap_or_default();
    asked(EmbeddingRequest {
        model,
        request: vectors_of(inputs)?,
        encoding,
        context_tokens_min: None,
    })
}

fn ollama(body: OllamaBody) -> Result<Asked, BadRequest> {
    let OllamaBody { model, input, truncate, dimensions, options, .. } = body;
    let model = fields::model(model)?;
    let texts = input.map(|input| input.0).unwrap_or_default();
    if texts.iter().all(String::is_empty) && texts.len() < 2 {
        return Ok(Asked::Loading { model });
    }
    let inputs = Inputs {
        texts,
        // None, as Go's clients write it.
        dimensions: dimensions.filter(|count| *count > 0),
        truncate: truncate.unwrap_or(false),
    };
    let request = vectors_of(inputs)?;
    let context_tokens_min = options.unwrap_or_default().num_ctx;
    asked(EmbeddingRequest { model, request, encoding: Encoding::Float, context_tokens_min })
}

fn asked(request: EmbeddingRequest) -> Result<Asked, BadRequest> {
    Ok(Asked::Embeddings(Box::new(request)))
}

fn vectors_of(inputs: Inputs) -> Result<InferenceRequest, BadRequest> {
    let request = InferenceRequest::of(Prompt::Inputs(inputs));
    checked(request, &[("prompt", "input"), ("max_tokens", "input")])
}

/// A text or a list of texts.
struct Input(Vec<String>);

/// Why a text that was cut into tokens elsewhere is not taken.
const TOKENS: &str = "token ids are of the vocabulary that they were made with; send text";

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Input, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Vec<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
                Ok(vec![text.to_owned()])
            }

            fn visit_string<E>(self, text: String) -> Result<Vec<String>, E> {
                Ok(vec![text])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = seq.next_element()? {
                    texts.push(text);
                }
                Ok(texts)
            }
        }
        deserializer.deserialize_any(Texts).map(Input)
    }
}

/// One text of a list.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }

            fn visit_string<E>(self, text: String) -> Result<String, E> {
                Ok(text)
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<String, E> {
                Err(E::custom(TOKENS))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
                Err(A::Error::custom(TOKENS))
            }
        }
        deserializer.deserialize_any(One).map(Text)
    }
}

/// What Ollama's clients say of how a model is run. It changes no vector how tokens would be drawn, and how a
/// provider's machine runs is its own business; only the context counts.
#[derive(Default)]
struct Options {
    num_ctx: Option<u32>,
}

/// All options that Ollama knows, but `num_ctx`.
const OPTIONS: [&str; 28] = [
    "draft_num_predict",
    "f16_kv",
    "frequency_penalty",
    "low_vram",
    "main_gpu",
    "min_p",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_gpu",
    "num_keep",
    "num_predict",
    "num_thread",
    "numa",
    "penalize_newline",
    "presence_penalty",
    "repeat_last_n",
    "repeat_penalty",
    "seed",
    "stop",
    "temperature",
    "tfs_z",
    "top_k",
    "top_p",
    "typical_p",
    "use_mlock",
    "use_mmap",
];

impl<'de> Deserialize<'de> for Options {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Options, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = Options;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Options, A::Error> {
                let mut options = Options::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "num_ctx" => options.num_ctx = map.next_value()?,
                        known if OPTIONS.contains(&known) => {
                            map.next_value::<Unused>()?;
                        }
                        _ => return Err(A::Error::custom(format!("unknown field `{name}`"))),
                    }
                }
                Ok(options)
            }
        }
        deserializer.deserialize_map(Given)
    }
}
