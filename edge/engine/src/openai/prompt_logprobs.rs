//! What vLLM tells an auditor: with a completion, for each token of its prompt, the log-probabilities of the likeliest
//! tokens at that place (`prompt_logprobs`), from one pass over the text.
//!
//! All of a vocabulary would be megabytes a position, so the likeliest few are asked for. What draws see is among them, and so is
//! what providers report but now and then; the rest of the probability is shared out evenly among the tokens that were not
//! told, none of which gets more than the least likely one that was.

use std::collections::HashMap;

use futures::stream;
use serde::{Deserialize, Serialize};

use super::ApiKey;
use crate::{
    EngineError, LogitsStream,
    remote::{self, protocol},
    scoring::check_from,
};

/// Tokens of a position that are asked for, the first that the server allows: it has to be told to tell more than 20
/// (`--max-logprobs`).
const ASKED: [u16; 2] = [64, 20];
/// Of a token in an answer: its id, its log-probability, its rank, its text. Longer ones are few.
const TOKEN_JSON_BYTES_MAX: usize = 256;

/// Asks one server about texts of one model.
#[derive(Clone, Debug)]
pub(super) struct PromptLogprobs {
    base: String,
    client: reqwest::Client,
    key: Option<ApiKey>,
    name: String,
    vocabulary: usize,
    asked: u16,
}

#[derive(Serialize)]
struct Completion<'a> {
    model: &'a str,
    prompt: &'a [u32],
    max_tokens: u32,
    prompt_logprobs: u16,
    temperature: f32,
    stream: bool,
}

#[derive(Deserialize)]
struct Completed {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    /// Of each token of the prompt; nothing of the first.
    prompt_logprobs: Option<Vec<Option<Told>>>,
}

/// By id. Beside the likeliest it has the token that stands there.
type Told = HashMap<u32, Likely>;

#[derive(Deserialize)]
struct Likely {
    logprob: f64,
}

impl PromptLogprobs {
    /// Finds out how many tokens the server tells of a position.
    pub(super) async fn probe(
        (base, client, key): (String, reqwest::Client, Option<ApiKey>),
        name: String,
        vocabulary: usize,
    ) -> Result<PromptLogprobs, EngineError> {
        let mut asking = PromptLogprobs { base, client, key, name, vocabulary, asked: 0 };
        let mut refused = EngineError::Unsupported { what: "prompt_logprobs" };
        for asked in ASKED {
            asking.asked = asked;
            match asking.positions(&[0, 0]).await {
                Ok(_) if asked == ASKED[0] => return Ok(asking),
                Ok(_) => {
                    tracing::info!(
                        url = asking.base,
                        "vllm.few tokens of a position are told; --max-logprobs 64 makes audits by it sharper"
                    );
                    return Ok(asking);
                }
                Err(error @ EngineError::Refused { status: 400 | 422, .. }) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    pub(super) async fn logits(
        &self,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        let count = check_from(from, tokens.len())?;
        // What comes after the last is told of a token that stands there, whichever it is.
        let extended: Vec<u32> = tokens.iter().copied().chain(tokens.first().copied()).collect();
        let told = self.positions(&extended).await?.into_iter().skip(from);
        let (base, vocabulary) = (self.base.clone(), self.vocabulary);
        let logits = told.map(move |told| {
            let logits = told.and_then(|told| logits(&told, vocabulary));
            logits.ok_or_else(|| protocol(&base, "it told no probabilities of a position"))
        });
        Ok(LogitsStream::new(count, stream::iter(logits)))
    }

    /// What is said of each token of a text.
    async fn positions(&self, tokens: &[u32]) -> Result<Vec<Option<Told>>, EngineError> {
        let body = Completion {
            model: &self.name,
            prompt: tokens,
            // None is not allowed.
            max_tokens: 1,
            prompt_logprobs: self.asked,
            temperature: 0.0,
            stream: false,
        };
        let mut request = self.client.post(format!("{}/v1/completions", self.base)).json(&body);
        if let Some(ApiKey(key)) = &self.key {
            request = request.bearer_auth(key);
        }
        let response = remote::sent(&self.base, request).await?;
        let response = remote::accepted(&self.base, response).await?;
        let of_position = usize::from(self.asked).saturating_add(1) * TOKEN_JSON_BYTES_MAX;
        let bytes_max = tokens.len().saturating_mul(of_position).saturating_add(1 << 20);
        let body = remote::read_body(response.into_body(), bytes_max).await;
        let body = body.ok_or_else(|| protocol(&self.base, "the answer is too long or was cut"))?;
        let completed: Completed = serde_json::from_slice(&body)
            .map_err(|error| protocol(&self.base, &error.to_string()))?;
        let first = completed.choices.into_iter().next();
        let told = first.and_then(|choice| choice.prompt_logprobs);
        let told = told.ok_or_else(|| protocol(&self.base, "it told no prompt_logprobs"))?;
        match told.len() == tokens.len() {
            true => Ok(told),
            false => {
                let reason = format!("it told of {} of {} tokens", told.len(), tokens.len());
                Err(protocol(&self.base, &reason))
            }
        }
    }
}

/// The log-probabilities of a whole vocabulary. `None`: what was told is of no vocabulary of this size.
fn logits(told: &Told, vocabulary: usize) -> Option<Vec<f32>> {
    let sound = |(id, likely): (&u32, &Likely)| {
        let at = usize::try_from(*id).ok().filter(|at| *at < vocabulary)?;
        (likely.logprob <= 1e-3).then_some((at, likely.logprob.max(f64::from(f32::MIN))))
    };
    let told: Vec<(usize, f64)> = told.iter().map(sound).collect::<Option<_>>()?;
    let least = told.iter().map(|(_, logprob)| *logprob).min_by(f64::total_cmp)?;
    let known: f64 = told.iter().map(|(_, logprob)| logprob.exp()).sum();
    let others = vocabulary.saturating_sub(told.len()).max(1) as f64;
    let each = ((1.0 - known).max(f64::MIN_POSITIVE) / others).ln();
    let mut logits = vec![each.min(least) as f32; vocabulary];
    for (at, logprob) in told {
        if let Some(place) = logits.get_mut(at) {
            *place = logprob as f32;
        }
    }
    Some(logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(u32, f64)]) -> Told {
        pairs.iter().map(|(id, logprob)| (*id, Likely { logprob: *logprob })).collect()
    }

    #[test]
    fn what_was_not_told_shares_the_rest_and_is_never_likelier_than_what_was() {
        let half = 0.5f64.ln();
        let spread = logits(&told(&[(1, half), (3, 0.3f64.ln())]), 6).unwrap();
        assert_eq!(spread[1], half as f32);
        let each = spread[0];
        assert!((f64::from(each).exp() - 0.05).abs() < 1e-6, "{each}");
        assert_eq!([spread[2], spread[4], spread[5]], [each; 3]);
        // All but nothing is told.
        let sure = logits(&told(&[(0, 0.0), (2, -20.0)]), 4).unwrap();
        assert!(sure[1] <= -20.0 && sure[1].is_finite(), "{sure:?}");
        let never = logits(&told(&[(0, 0.0), (2, f64::NEG_INFINITY)]), 4).unwrap();
        assert!(never.iter().all(|logit| logit.is_finite()), "{never:?}");
    }

    #[test]
    fn what_is_of_no_such_vocabulary_says_nothing() {
        for bad in [told(&[]), told(&[(4, -1.0)]), told(&[(1, 0.5)]), told(&[(1, f64::NAN)])] {
            assert!(logits(&bad, 4).is_none());
        }
    }
}
