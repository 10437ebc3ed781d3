//! Canaries: the auditor asks a gateway as any consumer does, with a key that it bought, for an answer that nobody may
//! disclose, and runs the model over it. What it found goes to the ledger.
//!
//! To its provider the request has the form of every request of which nothing may be disclosed: all settings said, a seed, all
//! candidates wanted. Its text is one that the model itself wrote, and its times are drawn. The gateway can tell, for it knows
//! the key.

use std::{collections::BTreeMap, time::Duration};

use engine::{EngineEvent, SharedEngine, Vocabulary};
use keys::Ed25519;
use reqwest::header::HeaderMap;
use tokio_util::sync::CancellationToken;
use types::{
    Address, ModelId,
    audit::{AuditOutcome, ReplayCounts, Verdict},
    inference::{ChatMessage, FinishReason, InferenceRequest, Prompt, Role, Sampling},
    receipt::{ReceiptError, ServiceReport, report_hash},
    sign::Signed,
};
use verify::{engines::Drawing, leaf::LeafToken, profile::Profile, verdict::TOKENS_MIN_L1};
use wire::upstream::{
    gateway::{Models, Question, StoredReceipt, Turn},
    openai::{Chunk, Logprob},
};

use crate::{
    answer::Answer,
    calibrate::BEGINNINGS,
    judge::{JudgeError, Judged},
};

/// How long a gateway may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of an answer: some hundred tokens with twenty candidates each.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Tokens of a canary's prompt and answer: bounds of what is drawn.
const PROMPT_TOKENS: std::ops::Range<u32> = 8..48;
/// Written before the prompt and left out, with the beginning that is always one of a few.
const LEFT_OUT_TOKENS: std::ops::Range<u32> = 8..32;
const ANSWER_TOKENS: std::ops::Range<u32> = 96..192;
const MILLION: f64 = 1e6;

/// Whom to ask, and how often.
#[derive(Clone)]
pub struct CanaryConfig {
    /// Of the gateway's OpenAI API, such as `https://gateway.example.org/v1`.
    pub base_url: String,
    pub api_key: String,
    /// On average.
    pub every: Duration,
}

impl std::fmt::Debug for CanaryConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let CanaryConfig { base_url, api_key: _, every } = self;
        f.debug_struct("CanaryConfig")
            .field("base_url", base_url)
            .field("every", every)
            .finish_non_exhaustive()
    }
}

/// Why a canary found nothing. Nothing of it speaks against a provider.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error("there is no randomness")]
    Random,
    #[error("the gateway is not asked")]
    Http { source: reqwest::Error },
    #[error("the gateway's answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("the gateway's answer cannot be read")]
    Format { source: serde_json::Error },
    #[error("the gateway tells no `{what}`")]
    Lacks { what: &'static str },
    #[error("the receipt does not add up")]
    Receipt { source: ReceiptError },
    #[error("the model {model} cannot be run")]
    Model { model: ModelId, source: engine::EngineError },
    #[error("the answer cannot be judged")]
    Judge { source: JudgeError },
}

/// Numbers that nobody foresees.
pub(crate) fn draw(range: std::ops::Range<u32>) -> Result<u32, CanaryError> {
    let number = getrandom::u32().map_err(|_| CanaryError::Random)?;
    let width = range.end.saturating_sub(range.start).max(1);
    Ok(range.start.saturating_add(number % width))
}

/// What a canary is about.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    alias: String,
    pub(crate) model: ModelId,
}

/// A gateway, asked with a key.
pub(crate) struct Consumer {
    client: reqwest::Client,
    config: CanaryConfig,
}

impl Consumer {
    pub(crate) fn new(config: CanaryConfig) -> Result<Consumer, CanaryError> {
        let client = wire::http_client_builder().timeout(ANSWER_TIMEOUT).build();
        Ok(Consumer { client: client.map_err(|source| CanaryError::Http { source })?, config })
    }

    /// One of the models that the gateway lists and `has` knows. `None`: there is none.
    pub(crate) async fn plan(
        &self,
        has: impl Fn(&ModelId) -> bool,
    ) -> Result<Option<Plan>, CanaryError> {
        let (_, body) = self.send(self.client.get(self.url("models"))).await?;
        let models: Models =
            serde_json::from_slice(&body).map_err(|source| CanaryError::Format { source })?;
        let known = models.data.into_iter().filter_map(|listed| {
            let facts = listed.peerwatt.filter(|it| it.completions && !it.resold)?;
            has(&facts.model_id).then_some(Plan { alias: listed.id, model: facts.model_id })
        });
        let mut known: Vec<Plan> = known.collect();
        if known.is_empty() {
            return Ok(None);
        }
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        let chosen = usize::try_from(draw(0..count)?).unwrap_or(0);
        Ok(Some(known.swap_remove(chosen)))
    }

    /// Asks. Returns the provider's statement and its answer. `None`: somebody outside the network, or several, answered.
    pub(crate) async fn ask(
        &self,
        plan: &Plan,
        prompt: &str,
        vocabulary: &Vocabulary,
    ) -> Result<Option<(Signed<ServiceReport>, Answer)>, CanaryError> {
        let profile = Profile {
            temperature_micros: 800_000,
            top_k: 20,
            top_p_micros: 950_000,
            seed: draw(0..u32::MAX)? >> 1,
        };
        let tokens_max = draw(ANSWER_TOKENS)?;
        let question = Question {
            model: &plan.alias,
            messages: [Turn { role: "user", content: prompt }],
            max_tokens: tokens_max,
            temperature: f64::from(profile.temperature_micros) / MILLION,
            top_p: f64::from(profile.top_p_micros) / MILLION,
            top_k: u32::from(profile.top_k),
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: profile.seed,
            logprobs: true,
            top_logprobs: 20,
        };
        let request = self.client.post(self.url("chat/completions")).json(&question);
        let request = request.header("x-peerwatt-disclose", "false");
        let request = request.header("x-peerwatt-continue", "false");
        let (headers, body) = self.send(request.header("x-peerwatt-upstreams", "false")).await?;
        let id = headers.get("x-request-id").and_then(|it| it.to_str().ok());
        let id = id.ok_or(CanaryError::Lacks { what: "x-request-id" })?;
        let chunk: Chunk =
            serde_json::from_slice(&body).map_err(|source| CanaryError::Format { source })?;
        let Some(report) = self.report(id, plan.model).await? else { return Ok(None) };
        let version = report.value.engine_version.clone();
        let Some(drawing) = Drawing::of(&version) else { return Ok(None) };
        let heard = heard(chunk, vocabulary)?;
        let message = ChatMessage::text(Role::User, prompt.to_owned());
        let answer = Answer {
            model: plan.model,
            engine_version: version,
            // Consumers are told none.
            drawing: Drawing { projects: false, ..drawing },
            profile: Some(profile),
            prompt: Prompt::Chat(vec![message]),
            stated_tokens: report.value.completion_tokens,
            finish: report.value.finish,
            text: heard.text,
            tokens: heard.tokens,
            tokens_max: Some(tokens_max),
            stop: Vec::new(),
        };
        Ok(Some((report, answer)))
    }

    /// The provider's statement of a request. `None`: no provider answered it alone.
    async fn report(
        &self,
        id: &str,
        model: ModelId,
    ) -> Result<Option<Signed<ServiceReport>>, CanaryError> {
        let url = self.url(&format!("receipts/{id}"));
        let (_, body) = self.send(self.client.get(url)).await?;
        let stored: StoredReceipt =
            serde_json::from_slice(&body).map_err(|source| CanaryError::Format { source })?;
        stored.receipt.verify(&Ed25519).map_err(|source| CanaryError::Receipt { source })?;
        let alone = stored.earlier.is_empty();
        Ok(stored.receipt.report.filter(|report| alone && report.value.model == model))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.config.base_url.trim_end_matches('/'))
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(HeaderMap, Vec<u8>), CanaryError> {
        let http = |source| CanaryError::Http { source };
        let sent = request.bearer_auth(&self.config.api_key).send().await;
        let mut response = sent.and_then(reqwest::Response::error_for_status).map_err(http)?;
        let headers = response.headers().clone();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(http)? {
            if body.len().saturating_add(chunk.len()) > ANSWER_BYTES_MAX {
                return Err(CanaryError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok((headers, body))
    }
}

/// What came of an answer.
struct Heard {
    text: Vec<u8>,
    tokens: Vec<LeafToken>,
}

fn heard(chunk: Chunk, vocabulary: &Vocabulary) -> Result<Heard, CanaryError> {
    let choice = chunk.choices.into_iter().next();
    let logprobs = choice.and_then(|choice| choice.logprobs).map(|it| it.into_tokens());
    let logprobs = logprobs.ok_or(CanaryError::Lacks { what: "logprobs" })?;
    let ids = Ids::of(vocabulary);
    let text = logprobs.iter().flat_map(|it| it.bytes().to_vec()).collect();
    let tokens = logprobs.iter().map_while(|it| ids.token(it)).collect();
    Ok(Heard { text, tokens })
}

/// Ids by the bytes that they stand for: a consumer is told no ids.
struct Ids<'v> {
    by_bytes: BTreeMap<&'v [u8], (u32, bool)>,
}

impl<'v> Ids<'v> {
    fn of(vocabulary: &'v Vocabulary) -> Ids<'v> {
        let mut by_bytes: BTreeMap<&[u8], (u32, bool)> = BTreeMap::new();
        for id in (0u32..).take(vocabulary.size()) {
            let Some(bytes) = vocabulary.bytes(id).filter(|bytes| !bytes.is_empty()) else {
                continue;
            };
            // Of several the last: single bytes stand first, and no engine draws them where there is a whole token.
            let is_one = !by_bytes.contains_key(bytes);
            by_bytes.insert(bytes, (id, is_one));
        }
        Ids { by_bytes }
    }

    /// A token with its candidates, if each of them can be told from all others; else without.
    fn token(&self, said: &Logprob) -> Option<LeafToken> {
        let (id, _) = self.by_bytes.get(said.bytes())?;
        let pair = |it: &Logprob| {
            let (id, is_one) = self.by_bytes.get(it.bytes())?;
            let micros = (it.logprob? * MILLION).round();
            is_one.then_some((*id, micros as i32))
        };
        let pairs: Option<Vec<(u32, i32)>> = said.top_logprobs.iter().map(pair).collect();
        LeafToken::new(*id, &pairs.unwrap_or_default()).or_else(|_| LeafToken::new(*id, &[])).ok()
    }
}

/// A text that the model writes, to be sent as if somebody had: from the middle of a longer one, so that it begins like no other.
pub(crate) async fn prompt(engine: &SharedEngine, model: ModelId) -> Result<String, CanaryError> {
    let failed = |source| CanaryError::Model { model, source };
    let count = u32::try_from(BEGINNINGS.len()).unwrap_or(1);
    let beginning = usize::try_from(draw(0..count)?).unwrap_or(0);
    let beginning = BEGINNINGS.get(beginning).copied().unwrap_or_default();
    let left_out = draw(LEFT_OUT_TOKENS)?;
    let request = InferenceRequest {
        tokens_max: Some(left_out.saturating_add(draw(PROMPT_TOKENS)?)),
        sampling: Sampling { seed: Some(draw(0..u32::MAX)?.into()), ..Sampling::default() },
        ..InferenceRequest::of(Prompt::Text(beginning.to_owned()))
    };
    let generation = engine.generate(model, request, CancellationToken::new()).await;
    let mut events = generation.map_err(failed)?.events;
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            EngineEvent::Token(piece) => pieces.push(piece.bytes),
            EngineEvent::Done { .. } | EngineEvent::Failed { .. } => break,
        }
    }
    Ok(middle(beginning, &pieces, usize::try_from(left_out).unwrap_or(0)))
}

/// What was written after the first `left_out` tokens, from its first whole word on; of a text that ended before, all of it.
fn middle(beginning: &str, pieces: &[Vec<u8>], left_out: usize) -> String {
    let rest = pieces.get(left_out..).unwrap_or_default().concat();
    let rest = String::from_utf8_lossy(&rest);
    match rest.split_once(char::is_whitespace).map(|(_, words)| words.trim()) {
        Some(words) if !words.is_empty() => words.to_owned(),
        _ => format!("{beginning}{}", String::from_utf8_lossy(&pieces.concat())),
    }
}

/// What to say of a canary's answer, if it says something. Ids that were told by their bytes are no ground for a replay.
pub(crate) fn verdict(judged: Judged, finish: FinishReason) -> Option<Verdict> {
    let mut evidence = judged.evidence;
    evidence.replay = ReplayCounts::default();
    let is_whole = matches!(finish, FinishReason::Stop | FinishReason::Length);
    let suffices = is_whole && evidence.l1.is_some() && evidence.tokens >= TOKENS_MIN_L1;
    let outcome = match (evidence.fails(), evidence.is_suspicious()) {
        (true, _) => AuditOutcome::Fail,
        (false, false) if suffices => AuditOutcome::Pass,
        (false, _) => return None,
    };
    Some(Verdict { outcome, evidence: Some(evidence) })
}

/// Whom a canary found something about.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) provider: Address,
    pub(crate) receipt: types::Hash32,
}

impl Found {
    pub(crate) fn of(report: &Signed<ServiceReport>) -> Found {
        Found { provider: report.value.provider, receipt: report_hash(report) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_begins_in_the_middle_at_a_word() {
        let pieces: Vec<Vec<u8>> = ["a cat", " and", " a m", "ouse", " ran", " away"]
            .map(|it| it.as_bytes().to_vec())
            .into();
        assert_eq!(middle("I saw ", &pieces, 3), "ran away");
        // A text that ended before is sent whole.
        assert_eq!(middle("I saw ", &pieces, 6), "I saw a cat and a mouse ran away");
        assert_eq!(middle("I saw ", &[], 8), "I saw ");
    }
}
