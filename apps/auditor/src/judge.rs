//! What a verifier's own run of a model says of answers.

use engine::{Engine, EngineError, LogitsStream, Vocabulary};
use serde::{Deserialize, Serialize};
use types::{
    Hash32, ModelId,
    audit::{AuditOutcome, Backend, Evidence, Identified, MilliNats, Responses, Worth},
    inference::FinishReason,
};
use verify::{
    audit::{Audit, Findings, Means, Point, identified},
    l0::{Check, Concatenation, Counts, Ending, Finding, Report},
    leaf::{ID_UNTOLD, LeafToken},
    logits::Logits,
    verdict,
};

use crate::answer::Answer;

/// ln 2 in thousandths of a nat, rounded up.
const LN_2: i64 = 694;
/// An answer looks bad from this evidence on: more than what choosing it costs.
const SUSPECT: MilliNats = MilliNats(3_000);

/// More than one answer in so many that ended for want of context, and nobody knows whether they were cut.
const SHORT_PARTS: usize = 10;

/// A model to compare an answer with, and the engine that runs it.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'e> {
    pub engine: &'e dyn Engine,
    pub model: ModelId,
    /// What it computes on.
    pub backend: Backend,
}

/// Why answers could not be judged. Nothing of it speaks against its provider, but for the second.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the answer has a token {id} that the model does not have")]
    ForeignToken { id: u32 },
}

/// What was found of answers.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub outcome: AuditOutcome,
    /// Tokens that were scored.
    pub tokens: u32,
    /// Answers of which only the log-probabilities were compared.
    pub l1_only: u32,
    pub replay: Counted,
    /// The worst that replay, count, text and ending of an answer say together.
    pub finding: &'static str,
    pub ln_e: Option<MilliNats>,
    pub l1: Option<Level>,
    pub l2: Option<Level>,
    pub projections: Option<Level>,
    pub identified: Option<Identified>,
    /// The evidence of each answer alone.
    pub each: Vec<Option<MilliNats>>,
    /// The evidence after each token, or after some of many.
    pub trace: Vec<Step>,
    /// As a verifier signs it.
    pub evidence: Evidence,
}

impl Judged {
    /// The answers that look bad by themselves, by number; none, if all do.
    pub fn suspects(&self) -> Vec<usize> {
        let is_bad = |ln_e: &Option<MilliNats>| ln_e.is_some_and(|it| it >= SUSPECT);
        let bad = self.each.iter().enumerate().filter(|(_, ln_e)| is_bad(ln_e));
        let bad: Vec<usize> = bad.map(|(number, _)| number).collect();
        if bad.len() == self.each.len() { Vec::new() } else { bad }
    }

    /// How much it says against the provider: whether it fails, and then whether a cheaper model is named.
    pub fn severity(&self) -> (bool, bool, Option<MilliNats>) {
        (self.evidence.fails(), self.identified.is_some(), self.evidence.ln_e())
    }
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Level {
    /// Thousandths of a nat.
    pub ln_e: MilliNats,
    /// The mean score, in millionths.
    pub mean_ppm: u32,
    /// After how many tokens the evidence reached 10⁹.
    pub alone_at: Option<u32>,
}

/// A point of the picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    pub token: u32,
    pub l1: MilliNats,
    pub l2: MilliNats,
    #[serde(default)]
    pub projections: MilliNats,
}

/// An answer, and the digest of its receipt, by which evidence names it.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    pub answer: &'a Answer,
    pub receipt: Hash32,
}

/// Judges answers of one provider by the model that they claim, and says which of the cheaper ones was served instead if one
/// explains them. `None`: there are none, or they claim different models.
pub async fn judge(
    samples: &[Sample<'_>],
    claimed: Reference<'_>,
    cheaper: &[Reference<'_>],
    means: Means,
) -> Result<Option<Judged>, JudgeError> {
    judge_chosen(samples, MilliNats(0), claimed, cheaper, means).await
}

/// The same of some of `all` answers, which were chosen because they look bad ([`Judged::suspects`]).
///
/// If it was bet, before looking, on each of the 2ⁿ sets of them being the one that is not of the model, the evidence is that on
/// the set that was chosen, divided by 2ⁿ, at least. So n · ln 2 nats are taken from it, and it is still evidence: a provider
/// that cheats now and then cannot hide it among honest answers.
pub async fn judge_suspects(
    suspects: &[Sample<'_>],
    all: usize,
    claimed: Reference<'_>,
    cheaper: &[Reference<'_>],
    means: Means,
) -> Result<Option<Judged>, JudgeError> {
    let choice = i64::try_from(all).unwrap_or(i64::MAX).saturating_mul(LN_2);
    judge_chosen(suspects, MilliNats(choice), claimed, cheaper, means).await
}

async fn judge_chosen(
    samples: &[Sample<'_>],
    choice: MilliNats,
    claimed: Reference<'_>,
    cheaper: &[Reference<'_>],
    means: Means,
) -> Result<Option<Judged>, JudgeError> {
    let Some(first) = samples.first() else { return Ok(None) };
    if samples.iter().any(|sample| sample.answer.model != first.answer.model) {
        return Ok(None);
    }
    let mut run = run(samples, claimed, means).await?;
    run.findings.concede(choice);
    let findings = run.findings;
    let mut references = Vec::new();
    for reference in cheaper {
        // One with another vocabulary explains nothing.
        match self::run(samples, *reference, means).await {
            Ok(run) => references.push((reference.model, Worth::Cheaper, run.findings)),
            Err(JudgeError::ForeignToken { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let identified = identified(&findings, &references);
    Ok(Some(judged(samples, claimed, &run, identified)))
}

fn judged(
    samples: &[Sample<'_>],
    claimed: Reference<'_>,
    run: &Run,
    identified: Option<Identified>,
) -> Judged {
    let findings = run.findings;
    let evidence = Evidence {
        model: claimed.model,
        backend: claimed.backend,
        responses: Responses::of(samples.iter().map(|it| it.receipt)).unwrap_or_default(),
        tokens: findings.tokens,
        replay: findings.replay,
        l1: findings.l1.map(|level| level.ln_e),
        l2: findings.l2.map(|level| level.ln_e),
        projections: findings.projections.map(|level| level.ln_e),
        identified,
    };
    let short = samples.iter().filter(|sample| is_short(sample.answer)).count();
    let is_short = short.saturating_mul(SHORT_PARTS) > samples.len();
    let outcome = match verdict::outcome(&evidence) {
        // Whatever the numbers say, a count, a text or an end is not what it states, or nobody knows.
        AuditOutcome::Pass if run.finding != Finding::Clean || is_short => {
            AuditOutcome::Inconclusive
        }
        outcome => outcome,
    };
    let step = |&Point { token, l1, l2, projections }: &Point| Step { token, l1, l2, projections };
    let level = |level: verify::audit::LevelFindings| Level {
        ln_e: level.ln_e,
        mean_ppm: level.mean_ppm,
        alone_at: level.alone_at,
    };
    let Counts { matched, excused, unexplained, unreported } = findings.replay;
    Judged {
        outcome,
        tokens: findings.tokens,
        l1_only: count(samples.iter().filter(|it| it.answer.profile.is_none()).count()),
        replay: Counted { matched, excused, unexplained, unreported },
        finding: match run.finding {
            Finding::Clean => "clean",
            Finding::Audit => "audit",
            Finding::Suspend => "suspend",
        },
        ln_e: findings.ln_e(),
        l1: findings.l1.map(level),
        l2: findings.l2.map(level),
        projections: findings.projections.map(level),
        identified,
        each: run.each.clone(),
        trace: run.audit.trace().iter().map(step).collect(),
        evidence,
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Whether it is said to have ended for want of context: how much its provider has is not seen from here, and whoever cuts an
/// answer may say the same.
fn is_short(answer: &Answer) -> bool {
    let is_full = |tokens_max| answer.tokens.len() >= tokens_max as usize;
    answer.finish == FinishReason::Length && !answer.tokens_max.is_some_and(is_full)
}

/// Of this machine. Candle computes as llama.cpp does on a processor of this kind.
pub fn backend() -> Backend {
    if cfg!(target_arch = "aarch64") { Backend::CpuArm } else { Backend::CpuX86 }
}

/// One model run over all samples.
struct Run {
    audit: Audit,
    /// Of all together.
    findings: Findings,
    /// The evidence of each alone.
    each: Vec<Option<MilliNats>>,
    /// The worst that replay, count, text and ending of one of them say together.
    finding: Finding,
}

async fn run(
    samples: &[Sample<'_>],
    reference: Reference<'_>,
    means: Means,
) -> Result<Run, JudgeError> {
    let samplers = samples.first().map_or(&[][..], |it| it.answer.drawing.samplers);
    let means = comparable(means, reference);
    let mut audit = Audit::new(samplers, means);
    let (mut finding, mut each) = (Finding::Clean, Vec::new());
    for Sample { answer, .. } in samples {
        let mut alone = Audit::new(samplers, means);
        let (text, ending) = add(&mut [&mut audit, &mut alone], answer, reference).await?;
        let alone = alone.findings();
        let tokens = count(answer.tokens.len());
        let report = Report::new(alone.replay, answer.stated_tokens, tokens, text, ending);
        finding = finding.max(report.finding());
        // Who keeps a token from being scored does not pass by the others, nor who leaves out what its engine tells.
        let is_unprojected = answer.drawing.projects && alone.unprojected > 0;
        let is_untold = told(answer).len() < answer.tokens.len();
        if answer.profile.is_some() && (is_untold || is_unprojected) {
            finding = finding.max(Finding::Audit);
        }
        each.push(alone.ln_e());
    }
    Ok(Run { findings: audit.findings(), audit, each, finding })
}

/// Without projections, if the verifier's engine does not tell what they are of.
fn comparable(means: Means, reference: Reference<'_>) -> Means {
    let whole = reference.engine.tells_all_logits();
    Means { projections: means.projections.filter(|_| whole), ..means }
}

/// The tokens before the first one whose id was not told: what comes after that nobody can run again, and it is held against
/// nobody. An engine that lost the id of a token in its own stream tells none.
fn told(answer: &Answer) -> &[LeafToken] {
    let count = answer.tokens.iter().take_while(|token| token.id() != ID_UNTOLD).count();
    answer.tokens.get(..count).unwrap_or_default()
}

/// The tokens before the first one whose bytes are not the text at its place. A server may tell a character of several tokens as
/// one, with the id of the last: the others are missing, and what comes after them cannot be run again.
fn fitting<'a>(tokens: &'a [LeafToken], text: &[u8], vocabulary: &Vocabulary) -> &'a [LeafToken] {
    let mut rest = text;
    let fits = |token: &&LeafToken| {
        // A token of another model is somebody else's question.
        let Some(bytes) = vocabulary.bytes(token.id()) else { return true };
        let (part, after) = rest.split_at(rest.len().min(bytes.len()));
        rest = after;
        bytes.starts_with(part)
    };
    let count = tokens.iter().take_while(fits).count();
    tokens.get(..count).unwrap_or_default()
}

/// Runs one model over one answer alone.
pub(crate) async fn audited(
    answer: &Answer,
    reference: Reference<'_>,
    means: Means,
) -> Result<Audit, JudgeError> {
    let mut audit = Audit::new(answer.drawing.samplers, comparable(means, reference));
    add(&mut [&mut audit], answer, reference).await?;
    Ok(audit)
}

/// Runs one model over one more answer, for all these audits. Returns whether its tokens are its text, and how it ended.
async fn add(
    audits: &mut [&mut Audit],
    answer: &Answer,
    reference: Reference<'_>,
) -> Result<(Check, Ending), JudgeError> {
    let Reference { engine, model, .. } = reference;
    let vocabulary = engine.vocabulary(model).await?;
    let mut text = Concatenation::default();
    let mut tokens = engine.tokenize(model, &answer.prompt).await?;
    let from = tokens.len();
    let mut rest = &answer.text[..];
    let told = fitting(told(answer), &answer.text, &vocabulary);
    for token in told {
        let id = token.id();
        let bytes = vocabulary.bytes(id).ok_or(JudgeError::ForeignToken { id })?;
        tokens.push(id);
        text.push_token(Some(bytes));
        // Text and tokens side by side: what one is ahead of the other is bounded.
        let (part, after) = rest.split_at(rest.len().min(bytes.len()));
        rest = after;
        text.push_text(part);
    }
    let is_whole = told.len() == answer.tokens.len();
    if !is_whole {
        // Of what does not fit the text is broken, of what was not told it is unknown.
        let next = answer.tokens.get(told.len()).map(LeafToken::id);
        text.push_token(next.and_then(|id| vocabulary.bytes(id)));
    }
    text.push_text(rest);
    // An answer that ended otherwise has all that a stop sequence held back.
    let stops = answer.stop.iter().filter(|_| answer.finish == FinishReason::Stop);
    let stops: Vec<&[u8]> = stops.map(|stop| stop.as_bytes()).collect();
    let (concatenation, (text, cut)) = (&text, text.finish(&stops));
    let ended_by_model = answer.finish == FinishReason::Stop && !cut && is_whole;
    // What comes after the last token is asked for only where that is the question: the context may be full.
    if !ended_by_model && !told.is_empty() {
        tokens.pop();
    }
    let mut logits = engine.logits(model, &tokens, from).await?;
    let silent = silent(answer, &vocabulary);
    for audit in audits.iter_mut() {
        audit.begin(answer.profile.as_ref());
    }
    for token in told {
        let position = position(&mut logits, &silent).await?;
        let logits = position.logits();
        for audit in audits.iter_mut() {
            audit.push(token, logits.as_ref());
        }
    }
    let ending = match answer.finish {
        _ if !is_whole => Ending::Interrupted,
        FinishReason::Stop if !ended_by_model => Ending::StopSequence { cut },
        FinishReason::Stop => {
            let position = position(&mut logits, &silent).await?;
            let last = position.logits();
            let mut check = Check::Unknown;
            for audit in audits.iter_mut() {
                // What of a stop sequence comes after its first token is not delivered.
                let is_end = |id| {
                    let goes_on = |bytes| concatenation.goes_on_with(&stops, bytes);
                    (vocabulary.is_end(id) && !concatenation.has_begun(&stops))
                        || vocabulary.bytes(id).is_some_and(goes_on)
                };
                check = audit.end(None, last.as_ref(), is_end);
            }
            Ending::EndOfGeneration(check)
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
    Ok((text, ending))
}

/// The tokens that the provider's engine never draws.
fn silent(answer: &Answer, vocabulary: &Vocabulary) -> Vec<u32> {
    if !answer.drawing.draws_text_only {
        return Vec::new();
    }
    let is_silent = |id: &u32| vocabulary.bytes(*id) == Some(&[]) && !vocabulary.is_end(*id);
    (0u32..).take(vocabulary.size()).filter(is_silent).collect()
}

/// What the verifier's engine says of a step, and of that what the provider's draws from.
struct Position {
    all: Vec<f32>,
    drawable: Vec<f32>,
}

impl Position {
    /// `None` if they are no numbers.
    fn logits(&self) -> Option<Logits<'_>> {
        Logits::new(&self.drawable).map(|logits| logits.left_of(&self.all))
    }
}

async fn position(logits: &mut LogitsStream, silent: &[u32]) -> Result<Position, JudgeError> {
    let all = logits.recv().await.transpose()?.unwrap_or_default();
    let mut drawable = all.clone();
    for id in silent {
        if let Some(logit) = drawable.get_mut(*id as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
    Ok(Position { all, drawable })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use engine::{EmbeddedEngine, EmbeddedOptions};
    use verify::{engines::Drawing, eprocess::HonestMean};

    use super::*;
    use crate::calibrate::answer;

    fn engine(context_tokens_max: u32) -> EmbeddedEngine {
        let options = EmbeddedOptions { context_tokens_max, ..EmbeddedOptions::standard() };
        EmbeddedEngine::load(Path::new("../../models/ember-1m-f16.gguf"), options).unwrap()
    }

    async fn check(engine: &EmbeddedEngine, answer: &Answer) -> (AuditOutcome, &'static str) {
        let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
        let means = Means { l1: mean(70_000), l2: mean(21_000), projections: None };
        let reference = Reference { engine, model: engine.model().id, backend: backend() };
        let sample = Sample { answer, receipt: Hash32([1; 32]) };
        let judged = judge(&[sample], reference, &[], means).await.unwrap().unwrap();
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
        hot.profile.as_mut().unwrap().temperature_micros = 2_000_000;
        let mut cached = honest.clone();
        cached.profile.as_mut().unwrap().seed ^= 1;
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

    async fn judged(engine: &EmbeddedEngine, answers: &[Answer]) -> Judged {
        let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
        let projections = Some(mean(20_000));
        let means = Means { l1: mean(70_000), l2: mean(21_000), projections };
        let reference = Reference { engine, model: engine.model().id, backend: backend() };
        let sample = |(n, answer)| Sample { answer, receipt: Hash32([n; 32]) };
        let samples: Vec<Sample<'_>> = (1..).zip(answers).map(sample).collect();
        judge(&samples, reference, &[], means).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn of_an_answer_that_cannot_be_drawn_again_the_log_probabilities_are_compared() {
        let engine = engine(u32::MAX);
        let drawn = long(&engine).await;
        let compared = Answer { profile: None, ..drawn.clone() };
        let alone = judged(&engine, std::slice::from_ref(&compared)).await;
        assert_eq!((alone.outcome, alone.finding), (AuditOutcome::Inconclusive, "clean"));
        assert!(alone.l2.is_none() && alone.evidence.replay == Counts::default());
        assert!(alone.l1.unwrap().ln_e < MilliNats(0), "{alone:?}");
        assert_eq!((alone.l1_only, alone.tokens as usize), (1, compared.tokens.len()));
        // Beside one that can be, each is judged in its own way.
        let both = judged(&engine, &[compared, drawn.clone()]).await;
        assert_eq!((both.outcome, both.l1_only), (AuditOutcome::Pass, 1));
        assert_eq!(both.replay.unexplained, 0);
        let once = judged(&engine, &[drawn]).await;
        assert_eq!((both.replay, both.l2), (once.replay, once.l2));
        assert!(both.l1.unwrap().ln_e < once.l1.unwrap().ln_e);
    }

    #[tokio::test]
    async fn who_leaves_out_a_projection_that_its_engine_tells_does_not_pass() {
        let engine = engine(u32::MAX);
        let honest = long(&engine).await;
        let whole = judged(&engine, std::slice::from_ref(&honest)).await;
        assert_eq!((whole.outcome, whole.finding), (AuditOutcome::Pass, "clean"));
        assert!(whole.projections.unwrap().ln_e < MilliNats(0), "{whole:?}");
        assert_eq!(whole.evidence.projections, whole.projections.map(|level| level.ln_e));
        let mut answer = honest.clone();
        answer.tokens[7] = answer.tokens[7].clone().projected(None);
        let partly = judged(&engine, &[answer]).await;
        assert_eq!((partly.outcome, partly.finding), (AuditOutcome::Inconclusive, "audit"));
        // Of an engine that tells none it is not asked.
        let tokens = honest.tokens.iter().map(|it| it.clone().projected(None)).collect();
        let drawing = Drawing { projects: false, ..honest.drawing };
        let without = judged(&engine, &[Answer { tokens, drawing, ..honest }]).await;
        assert_eq!((without.outcome, without.projections), (AuditOutcome::Pass, None));
    }

    /// Engines lose the ids of tokens in their own streams.
    #[tokio::test]
    async fn after_a_token_that_was_not_told_nothing_is_scored_and_nobody_accused() {
        let engine = engine(u32::MAX);
        let whole = long(&engine).await;
        let untold = |at: usize| {
            let mut answer = whole.clone();
            for token in &mut answer.tokens[at..] {
                *token = LeafToken::new(ID_UNTOLD, &[]).unwrap();
            }
            answer
        };
        let count = whole.tokens.len();
        for at in [0, 1, count / 2, count - 1] {
            let judged = judged(&engine, &[untold(at)]).await;
            assert_eq!((judged.outcome, judged.finding), (AuditOutcome::Inconclusive, "audit"));
            assert_eq!((judged.tokens as usize, judged.replay.unexplained), (at, 0));
        }
        let compared = Answer { profile: None, ..untold(10) };
        let judged = judged(&engine, &[compared]).await;
        assert_eq!((judged.outcome, judged.finding), (AuditOutcome::Inconclusive, "clean"));
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
