//! What tests of engines with the laboratory's model share: its files, requests as a gateway sends them, and audits as
//! `peerwatt audit` makes them.

use std::{io::Write as _, ops::Range, path::PathBuf};

use audit_lab::{
    provider,
    weights::{self, Quantization},
};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine, EngineEvent};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use types::inference::{FinishReason, InferenceRequest, Prompt, Sampling, TokenPiece};
use verify::{
    audit::{Audit, Findings, LevelFindings, Means},
    draw::Sampler,
    eprocess::HonestMean,
    l0::Check,
    leaf::LeafToken,
    logits::Logits,
    profile::Profile,
};

const SEED: u32 = 1;
pub const TOKENS_MAX: u32 = 100;

/// The files of a model and its quantizations.
pub struct Files(TempDir);

impl Files {
    pub fn new() -> Files {
        let folder = Files(tempfile::tempdir().unwrap());
        let file = weights::generate(SEED).unwrap();
        for quantization in Quantization::ALL {
            folder.write(quantization.name(), &weights::quantized(&file, quantization).unwrap());
        }
        let eight = weights::quantized(&file, Quantization::Q8_0).unwrap();
        folder.write("elsewhere", &weights::dequantized(&eight).unwrap());
        let other = weights::generate(SEED + 1).unwrap();
        folder.write("other", &weights::quantized(&other, Quantization::Q8_0).unwrap());
        for served in ["Q4_0", "other"] {
            let file = std::fs::read(folder.path(served)).unwrap();
            let reference = weights::dequantized(&file).unwrap();
            folder.write(&format!("reference-{served}"), &reference);
        }
        folder
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).with_extension("gguf")
    }

    pub fn engine(&self, name: &str, options: EmbeddedOptions) -> EmbeddedEngine {
        EmbeddedEngine::load(&self.path(name), options).unwrap()
    }
}

/// What was asked, as the gateway does, and what came.
pub struct Answered {
    pub prompt: String,
    pub profile: Profile,
    pub tokens: Vec<LeafToken>,
    pub ended: bool,
}

/// Request `n`: some of the made-up words.
pub async fn ask(engine: &dyn Engine, n: u32, change: impl Fn(&mut InferenceRequest)) -> Answered {
    let lab = provider::request(31, n, TOKENS_MAX);
    let word = |id: &u32| {
        let n = (*id - weights::WORDS_FROM) as usize;
        let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
        [letter(n), letter(n / 26 + 3), letter(n * 7 + 1)].iter().collect::<String>()
    };
    let prompt = lab.prompt[1..].iter().map(word).collect::<Vec<_>>().join(" ");
    let profile = lab.profile;
    let mut request = InferenceRequest::of(Prompt::Text(prompt.clone()));
    request.sampling = Sampling {
        temperature_micros: Some(profile.temperature_micros),
        top_p_micros: Some(profile.top_p_micros),
        seed: Some(profile.seed.into()),
        presence_penalty_micros: Some(0),
        frequency_penalty_micros: Some(0),
        top_k: Some(profile.top_k.into()),
        min_p_micros: Some(0),
        repeat_penalty_micros: Some(1_000_000),
    };
    request.logprobs = Some(20);
    request.tokens_max = Some(TOKENS_MAX);
    change(&mut request);
    let model = engine.models().await.unwrap()[0].id;
    let mut generation = engine.generate(model, request, CancellationToken::new()).await.unwrap();
    let mut tokens = Vec::new();
    loop {
        match generation.events.recv().await.unwrap() {
            EngineEvent::Token(piece) => tokens.push(leaf(&piece)),
            EngineEvent::Done { finish, .. } => {
                return Answered { prompt, profile, tokens, ended: finish == FinishReason::Stop };
            }
            EngineEvent::Failed { reason } => panic!("{reason}"),
        }
    }
}

fn leaf(piece: &TokenPiece) -> LeafToken {
    let pairs = piece.alternatives.iter().map(|it| (it.id.unwrap(), it.logprob_micros));
    let token = LeafToken::new(piece.id.unwrap(), &pairs.collect::<Vec<_>>()).unwrap();
    token.projected(piece.projection)
}

/// As `peerwatt audit` does it: the verifier's own tokens of the prompt, its own logits of each step.
async fn audit(audit: &mut Audit, verifier: &dyn Engine, answer: &Answered) -> Check {
    let model = verifier.models().await.unwrap()[0].id;
    let vocabulary = verifier.vocabulary(model).await.unwrap();
    let prompt = verifier.tokenize(model, &Prompt::Text(answer.prompt.clone())).await.unwrap();
    let ids = answer.tokens.iter().map(LeafToken::id);
    let tokens: Vec<u32> = prompt.iter().copied().chain(ids).collect();
    let mut positions = verifier.logits(model, &tokens, prompt.len()).await.unwrap();
    audit.begin(Some(&answer.profile));
    for token in &answer.tokens {
        let logits = positions.recv().await.unwrap().unwrap();
        audit.push(token, Logits::new(&logits).as_ref());
    }
    let last = positions.recv().await.unwrap().unwrap();
    match answer.ended {
        true => audit.end(None, Logits::new(&last).as_ref(), |id| vocabulary.is_end(id)),
        false if answer.tokens.len() == TOKENS_MAX as usize => Check::Holds,
        false => Check::Broken,
    }
}

pub async fn audits(
    samplers: &[Sampler],
    means: Means,
    verifier: &dyn Engine,
    answers: &[Answered],
) -> Findings {
    let projections = means.projections.filter(|_| verifier.tells_all_logits());
    let mut one = Audit::new(samplers, Means { projections, ..means });
    for answer in answers {
        audit(&mut one, verifier, answer).await;
    }
    one.findings()
}

pub fn say(name: &str, findings: &Findings) {
    let level = |level: Option<LevelFindings>| {
        let Some(level) = level else { return "none".to_owned() };
        let at = level.alone_at.map_or("never".to_owned(), |tokens| tokens.to_string());
        format!(
            "{:.4} {at} (most ln E {:.1})",
            f64::from(level.mean_ppm) / 1e6,
            level.most.0 as f64 / 1e3
        )
    };
    let (l1, l2) = (level(findings.l1), level(findings.l2));
    let projections = level(findings.projections);
    let replay = findings.replay;
    let line = format!(
        "{name}: L0 {} of {}, L1 {l1}, L2 {l2}, P {projections}, ends {:?}",
        replay.unexplained,
        replay.replayed(),
        findings.ends
    );
    say_line(&line);
}

pub fn say_line(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

pub async fn several(
    engine: &dyn Engine,
    numbers: Range<u32>,
    change: impl Fn(&mut InferenceRequest),
) -> Vec<Answered> {
    let mut answers = Vec::new();
    for n in numbers {
        answers.push(ask(engine, n, &change).await);
    }
    answers
}

/// 1.5 times the mean of honest set-ups, without the bound of a calibration, for which they would have to answer more than a
/// thousand times.
pub async fn calibrate(
    samplers: &[Sampler],
    verifier: &dyn Engine,
    setups: &[&[Answered]],
) -> Means {
    let any = HonestMean::of_ppm(500_000).unwrap();
    let (mut l1, mut l2, mut projections) = (Vec::new(), Vec::new(), Vec::new());
    for answers in setups {
        let found =
            audits(samplers, Means { l1: any, l2: any, projections: Some(any) }, verifier, answers)
                .await;
        l1.push(found.l1.unwrap().mean_ppm);
        l2.push(found.l2.unwrap().mean_ppm);
        projections.extend(found.projections.map(|level| level.mean_ppm));
    }
    let mean = |means: &[u32]| HonestMean::calibrated(means).unwrap();
    let projections = HonestMean::calibrated(&projections);
    Means { l1: mean(&l1), l2: mean(&l2), projections }
}
