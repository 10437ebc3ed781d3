//! What llama.cpp's server tells an auditor, over plain HTTP: the logits after each position of a given text, the tokens
//! of a prompt, the vocabulary. None of these is part of OpenAI's API.
//!
//! The server has no request for the logits of a text. What comes nearest is to ask for one more token after each prefix,
//! with the probabilities of the whole vocabulary: the server keeps what it has read, so each request computes one
//! position. They are log-probabilities, which differ from logits by what no softmax sees.

use futures::stream;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use types::inference::{ChatMessage, Prompt};
use wire::upstream::openai::Models;

use super::{ApiKey, message};
use crate::{
    EngineError, LogitsStream, Vocabulary,
    embedded::END_TEXTS,
    remote::{self, QUESTION_TIMEOUT, protocol},
    scoring::check_from,
};

/// Of a token in an answer: its id, its text twice, its bytes as decimal numbers, its probability. Longer ones are few.
const TOKEN_JSON_BYTES_MAX: usize = 256;
/// More than any published vocabulary has (about 262 000).
const VOCABULARY_MAX: usize = 1 << 20;
/// Decides the draw that is thrown away.
const BIAS: f32 = 100.0;

/// Asks one server about texts.
#[derive(Clone, Debug)]
pub(super) struct Scorer {
    base: String,
    client: reqwest::Client,
    key: Option<ApiKey>,
}

#[derive(Serialize)]
struct Completion<'a> {
    prompt: &'a [u32],
    n_predict: u32,
    n_probs: usize,
    temperature: f32,
    /// The server leaves probabilities out where the token it draws is part of a character, or ends the answer: it is made
    /// to draw one that is neither. What it reports is from before the bias.
    logit_bias: [(u32, f32); 1],
    cache_prompt: bool,
    stream: bool,
}

#[derive(Deserialize)]
struct Completed<T> {
    completion_probabilities: Vec<Position<T>>,
}

#[derive(Deserialize)]
struct Position<T> {
    top_logprobs: Vec<T>,
}

#[derive(Deserialize)]
struct Likely {
    id: u32,
    logprob: f64,
}

#[derive(Deserialize)]
struct Named {
    id: u32,
    #[serde(default)]
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct TokenizeRequest<'a> {
    content: &'a str,
    add_special: bool,
    parse_special: bool,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<u32>,
}

#[derive(Serialize)]
struct TemplateRequest<'a> {
    messages: Vec<wire::upstream::openai::Message<'a>>,
}

#[derive(Deserialize)]
struct Rendered {
    prompt: String,
}

#[derive(Deserialize)]
struct Specials {
    #[serde(default)]
    eos_token: String,
}

impl Scorer {
    pub(super) fn new(base: String, client: reqwest::Client, key: Option<ApiKey>) -> Scorer {
        Scorer { base, client, key }
    }

    pub(super) async fn logits(
        self,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        let count = check_from(from, tokens.len())?;
        let size = self.vocabulary_size().await?;
        let harmless = self.harmless().await?;
        let start = (self, tokens.to_vec(), from);
        let positions = stream::unfold(start, move |(scorer, tokens, end)| async move {
            let prefix = tokens.get(..end)?;
            let logits = scorer.position(prefix, size, harmless).await;
            Some((logits, (scorer, tokens, end.saturating_add(1))))
        });
        Ok(LogitsStream::new(count, positions))
    }

    pub(super) async fn tokenize(self, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        match prompt {
            Prompt::Text(text) => self.tokens(text, true).await,
            Prompt::Chat(messages) => self.tokens(&self.render(messages).await?, true).await,
            Prompt::Inputs(_) => Err(EngineError::Unsupported { what: "text of vectors" }),
        }
    }

    /// The server tells no list of its tokens, but their bytes with their probabilities after any text; nor which of them
    /// end an answer, but those have known names.
    pub(super) async fn vocabulary(self) -> Result<Vocabulary, EngineError> {
        let size = self.vocabulary_size().await?;
        let harmless = self.harmless().await?;
        let named: Vec<Named> = self.completed(&[harmless], size, harmless).await?;
        let mut tokens = vec![Vec::new(); size];
        for Named { id, bytes } in named {
            if let Some(place) = usize::try_from(id).ok().and_then(|id| tokens.get_mut(id)) {
                *place = bytes;
            }
        }
        let props = self.client.get(format!("{}/props", self.base));
        let specials: Specials = self.ask(props).await?;
        let mut ends = Vec::new();
        for name in std::iter::once(specials.eos_token.as_str()).chain(END_TEXTS) {
            // The name of a token of its own, or plain text of several.
            if let [id] = self.tokens(name, false).await?[..] {
                ends.push(id);
            }
        }
        Ok(Vocabulary::new(tokens, ends))
    }

    async fn position(
        &self,
        prefix: &[u32],
        size: usize,
        harmless: u32,
    ) -> Result<Vec<f32>, EngineError> {
        let likely: Vec<Likely> = self.completed(prefix, size, harmless).await?;
        let mut logits = vec![f32::NAN; size];
        for Likely { id, logprob } in likely {
            if let Some(place) = usize::try_from(id).ok().and_then(|id| logits.get_mut(id)) {
                *place = logprob as f32;
            }
        }
        match logits.iter().filter(|logit| logit.is_nan()).count() {
            0 => Ok(logits),
            missing => {
                let reason = format!("{missing} of {size} tokens have no probability");
                Err(protocol(&self.base, &reason))
            }
        }
    }

    /// What is said of each token of the vocabulary after `prefix`.
    async fn completed<T: DeserializeOwned>(
        &self,
        prefix: &[u32],
        size: usize,
        harmless: u32,
    ) -> Result<Vec<T>, EngineError> {
        let body = Completion {
            prompt: prefix,
            n_predict: 1,
            n_probs: size,
            temperature: 0.0,
            logit_bias: [(harmless, BIAS)],
            cache_prompt: true,
            stream: false,
        };
        let request = self.client.post(format!("{}/completion", self.base)).json(&body);
        let response = remote::sent(&self.base, self.with_key(request)).await?;
        let response = remote::accepted(&self.base, response).await?;
        let bytes_max = size.saturating_mul(TOKEN_JSON_BYTES_MAX).saturating_add(1 << 20);
        let body = remote::read_body(response.into_body(), bytes_max).await;
        let body = body.ok_or_else(|| protocol(&self.base, "the answer is too long or was cut"))?;
        let completed: Completed<T> = serde_json::from_slice(&body)
            .map_err(|error| protocol(&self.base, &error.to_string()))?;
        let first = completed.completion_probabilities.into_iter().next();
        let first = first.ok_or_else(|| protocol(&self.base, "it told no probabilities"))?;
        Ok(first.top_logprobs)
    }

    pub(super) async fn vocabulary_size(&self) -> Result<usize, EngineError> {
        let models: Models = self.ask(self.client.get(format!("{}/v1/models", self.base))).await?;
        let told = models.data.first().and_then(|model| model.meta.as_ref()?.n_vocab);
        let size = told.and_then(|size| usize::try_from(size).ok());
        size.filter(|size| (1..=VOCABULARY_MAX).contains(size))
            .ok_or_else(|| protocol(&self.base, "it does not tell how many tokens there are"))
    }

    /// A token that is a whole character.
    async fn harmless(&self) -> Result<u32, EngineError> {
        let tokens = self.tokens("a", false).await?;
        tokens.last().copied().ok_or_else(|| protocol(&self.base, "it has no token for a letter"))
    }

    async fn tokens(&self, content: &str, add_special: bool) -> Result<Vec<u32>, EngineError> {
        let body = TokenizeRequest { content, add_special, parse_special: true };
        let request = self.client.post(format!("{}/tokenize", self.base)).json(&body);
        Ok(self.ask::<Tokens>(request).await?.tokens)
    }

    async fn render(&self, messages: &[ChatMessage]) -> Result<String, EngineError> {
        let body = TemplateRequest { messages: messages.iter().map(message).collect() };
        let request = self.client.post(format!("{}/apply-template", self.base)).json(&body);
        Ok(self.ask::<Rendered>(request).await?.prompt)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, EngineError> {
        remote::ask(&self.base, self.with_key(request), QUESTION_TIMEOUT).await
    }

    fn with_key(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.key {
            Some(ApiKey(key)) => request.bearer_auth(key),
            None => request,
        }
    }
}
