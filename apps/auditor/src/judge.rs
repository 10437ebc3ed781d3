//! What a verifier's own run of a model says of an answer.

use engine::{Engine, EngineError};
use serde::Serialize;
use types::{
    Hash32, ModelId,
    audit::{AuditOutcome, Backend, Evidence, Identified, MilliNats, Responses, Worth},
    inference::FinishReason,
};
use verify::{
    audit::{Audit, Findings, Means, Point, identified},
    l0::{Check, Concatenation, Counts, Ending, Finding, Report},
    logits::Logits,
    verdict,
};

use crate::answer::Answer;

/// A model to compare an answer with, and the engine that runs it.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'e> {
    pub engine: &'e dyn Engine,
    pub model: ModelId,
}

/// Why an answer could not be judged. Nothing of it speaks against its provider, but for the second.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the answer has a token {id} that the model does not have")]
    ForeignToken { id: u32 },
}

/// What was found of one answer.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub outcome: AuditOutcome,
    /// Tokens that were scored.
    pub tokens: u32,
    pub replay: Counted,
    /// What the replay, the count, the text and the ending say together.
    pub finding: &'static str,
    pub ln_e: Option<MilliNats>,
    pub l1: Option<Level>,
    pub l2: Option<Level>,
    pub identified: Option<Identified>,
    /// The evidence after each token, or after some of many.
    pub trace: Vec<Step>,
    #[serde(skip)]
    pub findings: Findings,
}

/// How tokens came out when they were drawn again from what was reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Counted {
    pub matched: u32,
    pub excused: u32,
    pub unexplained: u32,
    pub unreported: u32,
}

/// What a level says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Level {
    /// Thousandths of a nat.
    pub ln_e: MilliNats,
    /// The mean score, in millionths.
    pub mean_ppm: u32,
    /// After how many tokens the evidence reached 10⁹.
    pub alone_at: Option<u32>,
}

/// A point of the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Step {
    pub token: u32,
    pub l1: MilliNats,
    pub l2: MilliNats,
}

/// Judges an answer by the claimed model, and says which of the cheaper ones was served instead if one explains it.
/// `receipt`: the digest by which the evidence names it.
pub async fn judge(
    answer: &Answer,
    receipt: Hash32,
    claimed: Reference<'_>,
    cheaper: &[Reference<'_>],
    means: Means,
) -> Result<Judged, JudgeError> {
    let (audit, text, ending) = audited(answer, claimed, means).await?;
    let findings = audit.findings();
    let mut references = Vec::new();
    for reference in cheaper {
        // One with another vocabulary explains nothing.
        match audited(answer, *reference, means).await {
            Ok((audit, ..)) => {
                references.push((reference.model, Worth::Cheaper, audit.findings()));
            }
            Err(JudgeError::ForeignToken { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let identified = identified(&findings, &references);
    let tokens = u32::try_from(answer.tokens.len()).unwrap_or(u32::MAX);
    let report = Report::new(findings.replay, answer.stated_tokens, tokens, text, ending);
    let evidence = evidence(answer, receipt, &findings, identified);
    let outcome = match verdict::outcome(&evidence) {
        // Whatever the numbers say, its count, its text or its end is not what it states, or nobody knows.
        AuditOutcome::Pass if report.finding() != Finding::Clean || is_short(answer) => {
            AuditOutcome::Inconclusive
        }
        outcome => outcome,
    };
    let step = |point: &Point| Step { token: point.token, l1: point.l1, l2: point.l2 };
    let level = |level: verify::audit::LevelFindings| Level {
        ln_e: level.ln_e,
        mean_ppm: level.mean_ppm,
        alone_at: level.alone_at,
    };
    let Counts { matched, excused, unexplained, unreported } = findings.replay;
    Ok(Judged {
        outcome,
        tokens: findings.tokens,
        replay: Counted { matched, excused, unexplained, unreported },
        finding: match report.finding() {
            Finding::Clean => "clean",
            Finding::Audit => "audit",
            Finding::Suspend => "suspend",
        },
        ln_e: findings.ln_e(),
        l1: findings.l1.map(level),
        l2: findings.l2.map(level),
        identified,
        trace: audit.trace().iter().map(step).collect(),
        findings,
    })
}

/// Whether it is said to have ended for want of context: how much its provider has is not seen from here, and whoever cuts an
/// answer may say the same.
fn is_short(answer: &Answer) -> bool {
    let is_full = |tokens_max| answer.tokens.len() >= tokens_max as usize;
    answer.finish == FinishReason::Length && !answer.tokens_max.is_some_and(is_full)
}

/// As a verifier signs it. Candle computes as llama.cpp does on a processor of this kind.
fn evidence(
    answer: &Answer,
    receipt: Hash32,
    findings: &Findings,
    identified: Option<Identified>,
) -> Evidence {
    let backend = if cfg!(target_arch = "aarch64") { Backend::CpuArm } else { Backend::CpuX86 };
    Evidence {
        model: answer.model,
        backend,
        responses: Responses::of([receipt]).unwrap_or_default(),
        tokens: findings.tokens,
        replay: findings.replay,
        l1: findings.l1.map(|level| level.ln_e),
        l2: findings.l2.map(|level| level.ln_e),
        identified,
    }
}

/// Runs one model over the answer.
pub(crate) async fn audited(
    answer: &Answer,
    reference: Reference<'_>,
    means: Means,
) -> Result<(Audit, Check, Ending), JudgeError> {
    let Reference { engine, model } = reference;
    let vocabulary = engine.vocabulary(model).await?;
    let mut text = Concatenation::default();
    let mut tokens = engine.tokenize(model, &answer.prompt).await?;
    let from = tokens.len();
    let mut rest = &answer.text[..];
    for token in &answer.tokens {
        let id = token.id();
        let bytes = vocabulary.bytes(id).ok_or(JudgeError::ForeignToken { id })?;
        tokens.push(id);
        text.push_token(Some(bytes));
        // Text and tokens side by side: what one is ahead of the other is bounded.
        let (part, after) = rest.split_at(rest.len().min(bytes.len()));
        rest = after;
        text.push_text(part);
    }
    text.push_text(rest);
    // An answer that ended otherwise has all that a stop sequence held back.
    let stops = answer.stop.iter().filter(|_| answer.finish == FinishReason::Stop);
    let stops: Vec<&[u8]> = stops.map(|stop| stop.as_bytes()).collect();
    let (concatenation, (text, cut)) = (&text, text.finish(&stops));
    let ended_by_model = answer.finish == FinishReason::Stop && !cut;
    // What comes after the last token is asked for only where that is the question: the context may be full.
    if !ended_by_model && !answer.tokens.is_empty() {
        tokens.pop();
    }
    let mut logits = engine.logits(model, &tokens, from).await?;
    let mut audit = Audit::new(answer.drawing.samplers, means);
    audit.begin(Some(&answer.profile));
    for token in &answer.tokens {
        let position = logits.recv().await.transpose()?.unwrap_or_default();
        audit.push(token, Logits::new(&position).as_ref());
    }
    let ending = match answer.finish {
        FinishReason::Stop if !ended_by_model => Ending::StopSequence { cut },
        FinishReason::Stop => {
            let position = logits.recv().await.transpose()?.unwrap_or_default();
            // What of a stop sequence comes after its first token is not delivered.
            let is_end = |id| {
                let goes_on = |bytes| concatenation.goes_on_with(&stops, bytes);
                (vocabulary.is_end(id) && !concatenation.has_begun(&stops))
                    || vocabulary.bytes(id).is_some_and(goes_on)
            };
            Ending::EndOfGeneration(audit.end(None, Logits::new(&position).as_ref(), is_end))
        }
        // Fewer than asked for: the context was full.
        FinishReason::Length => match answer.tokens_max {
            Some(tokens_max) if answer.tokens.len() >= tokens_max as usize => {
                Ending::Length { tokens_max }
            }
            _ => Ending::Interrupted,
        },
        FinishReason::Cancelled | FinishReason::Failed => Ending::Interrupted,
    };
    Ok((audit, text, ending))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use engine::{EmbeddedEngine, EmbeddedOptions};
    use verify::eprocess::HonestMean;

    use super::*;
    use crate::calibrate::answer;

    fn engine(context_tokens_max: u32) -> EmbeddedEngine {
        let options = EmbeddedOptions { context_tokens_max, ..EmbeddedOptions::standard() };
        EmbeddedEngine::load(Path::new("../../models/ember-1m-f16.gguf"), options).unwrap()
    }

    async fn check(engine: &EmbeddedEngine, answer: &Answer) -> (AuditOutcome, &'static str) {
        let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
        let means = Means { l1: mean(70_000), l2: mean(21_000) };
        let reference = Reference { engine, model: engine.model().id };
        let judged = judge(answer, Hash32([1; 32]), reference, &[], means).await.unwrap();
        (judged.outcome, judged.finding)
    }

    /// One of at least 60 tokens: texts of this model differ in length.
    async fn long(engine: &EmbeddedEngine) -> Answer {
        for number in 0..64 {
            let answer = answer(engine, engine.model().id, number, 200).await.unwrap();
            if answer.tokens.len() >= 60 {
                return answer;
            }
        }
        panic!("no text is long enough");
    }

    #[tokio::test]
    async fn an_answer_passes_and_one_that_was_tampered_with_does_not() {
        let engine = engine(u32::MAX);
        let honest = long(&engine).await;
        assert_eq!(check(&engine, &honest).await, (AuditOutcome::Pass, "clean"));
        // Of one short text that the model is sure of, every sampler draws most tokens: enough not to pass.
        let mut hot = honest.clone();
        hot.profile.temperature_micros = 2_000_000;
        let mut cached = honest.clone();
        cached.profile.seed ^= 1;
        for drawn_otherwise in [hot, cached] {
            let (outcome, finding) = check(&engine, &drawn_otherwise).await;
            assert!(outcome != AuditOutcome::Pass && finding != "clean", "{outcome:?} {finding}");
        }
        let mut edited = honest.clone();
        edited.text[20] ^= 1;
        assert_eq!(check(&engine, &edited).await, (AuditOutcome::Inconclusive, "audit"));
        let inflated = Answer { stated_tokens: honest.stated_tokens + 1, ..honest };
        assert_eq!(check(&engine, &inflated).await, (AuditOutcome::Inconclusive, "audit"));
    }

    #[tokio::test]
    async fn an_answer_that_filled_the_context_is_audited_too() {
        let engine = engine(24);
        for number in 0..8 {
            let answer = answer(&engine, engine.model().id, number, 200).await.unwrap();
            if answer.finish == FinishReason::Length {
                assert_eq!(check(&engine, &answer).await, (AuditOutcome::Inconclusive, "clean"));
                return;
            }
        }
        panic!("no text filled the context");
    }
}
