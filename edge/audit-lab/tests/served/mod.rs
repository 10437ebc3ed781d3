//! What tests of whole engines share: the files of the laboratory's model, a real llama.cpp server that serves one, questions
//! in made-up words, and what came of them.

#![expect(dead_code, reason = "every test file compiles this module and uses some of it")]

#[path = "../alone/mod.rs"]
mod alone;
#[path = "../llama_cpp/mod.rs"]
mod llama_cpp;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use audit_lab::{
    provider,
    weights::{self, Quantization},
};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine, EngineEvent};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{AnswerForm, ChatMessage, InferenceRequest, Prompt, Role},
};
use verify::{
    audit::{Audit, Findings, LevelFindings, Means},
    draw::{OneCandidate, Sampler},
    eprocess::HonestMean,
    leaf::{ID_UNTOLD, LeafToken},
    logits::Logits,
    profile::{Profile, TEMPERATURE_MICROS_AUDITED_MAX},
};

pub(crate) use self::{
    alone::is_alone,
    llama_cpp::{Python, Server, python},
};

const SEED: u32 = 1;
const TOKENS_MAX: u32 = 100;
/// Where what is found is compared alone, this decides nothing.
const SAMPLERS: [Sampler; 1] = [Sampler::Llama(OneCandidate::Draws)];

/// A random model would end a plain object at once.
const SCHEMA: &str =
    r#"{"type":"object","properties":{"a":{"type":"string","minLength":300}},"required":["a"]}"#;

/// Serves a file as anybody does.
pub(crate) async fn serve(python: &Python, model: &Path) -> Server {
    llama_cpp::serve(python, model, "f16").await
}

/// Files of the model: `Q8_0`, which is claimed, `Q4_0`, `other`, and `elsewhere`, Q8_0 as another machine computes it.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Files {
        let folder = Files(tempfile::tempdir().unwrap());
        let file = weights::generate(SEED).unwrap();
        let eight = weights::quantized(&file, Quantization::Q8_0).unwrap();
        let other = weights::generate(SEED + 1).unwrap();
        for (name, bytes) in [
            ("elsewhere", weights::dequantized(&eight).unwrap()),
            ("Q8_0", eight),
            ("Q4_0", weights::quantized(&file, Quantization::Q4_0).unwrap()),
            ("other", weights::quantized(&other, Quantization::Q8_0).unwrap()),
        ] {
            std::fs::write(folder.path(name), bytes).unwrap();
        }
        folder
    }

    /// `Q8_0` and `elsewhere` of the model that ships with the binary, which has learned something.
    pub(crate) fn trained() -> Files {
        let folder = Files(tempfile::tempdir().unwrap());
        let file = std::fs::read("../../models/ember-1m-f16.gguf").unwrap();
        let eight = weights::quantized(&file, Quantization::Q8_0).unwrap();
        std::fs::write(folder.path("elsewhere"), weights::dequantized(&eight).unwrap()).unwrap();
        std::fs::write(folder.path("Q8_0"), eight).unwrap();
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name).with_extension("gguf")
    }

    pub(crate) fn engine(&self, name: &str) -> EmbeddedEngine {
        EmbeddedEngine::load(&self.path(name), EmbeddedOptions::standard()).unwrap()
    }
}

/// What a client may ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// As the profile has it.
    Profile,
    OwnSeed,
    /// From all tokens, at the highest temperature that is audited.
    Hot,
    Penalties,
    MinP,
    /// The answer is a JSON object of a schema.
    Json,
    /// A chat, otherwise as the profile has it.
    Chat,
}

impl Kind {
    fn apply(self, request: &mut InferenceRequest, n: u32) {
        let sampling = &mut request.sampling;
        match self {
            Kind::Profile => {}
            Kind::OwnSeed => sampling.seed = Some(u64::from(n) % 3),
            Kind::Hot => {
                sampling.temperature_micros = Some(TEMPERATURE_MICROS_AUDITED_MAX);
                sampling.top_k = Some(0);
                sampling.top_p_micros = Some(1_000_000);
            }
            Kind::Penalties => {
                sampling.presence_penalty_micros = Some(1_500_000);
                sampling.frequency_penalty_micros = Some(500_000);
                sampling.repeat_penalty_micros = Some(1_300_000);
            }
            Kind::MinP => {
                sampling.top_k = Some(0);
                sampling.min_p_micros = Some(100_000);
            }
            Kind::Chat => {
                let Prompt::Text(text) = &request.prompt else { return };
                let message = ChatMessage::text(Role::User, text.clone());
                request.prompt = Prompt::Chat(vec![message]);
            }
            Kind::Json => {
                request.form = Some(AnswerForm::Schema(SCHEMA.to_owned()));
                sampling.seed = Some(n.into());
            }
        }
    }
}

/// What was asked, and what came.
pub(crate) struct Answered {
    pub(crate) prompt: Prompt,
    /// `None`: it cannot be drawn again.
    pub(crate) profile: Option<Profile>,
    pub(crate) tokens: Vec<LeafToken>,
}

/// Request `n`: some of the made-up words.
pub(crate) fn request(kind: Kind, n: u32) -> (InferenceRequest, Profile) {
    let lab = provider::request(31, n, TOKENS_MAX);
    let word = |id: &u32| {
        let n = (*id - weights::WORDS_FROM) as usize;
        let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
        [letter(n), letter(n / 26 + 3), letter(n * 7 + 1)].iter().collect::<String>()
    };
    let prompt = lab.prompt[1..].iter().map(word).collect::<Vec<_>>().join(" ");
    let mut request = InferenceRequest {
        sampling: lab.profile.sampling(),
        logprobs: Some(20),
        tokens_max: Some(TOKENS_MAX),
        ..InferenceRequest::of(Prompt::Text(prompt))
    };
    kind.apply(&mut request, n);
    (request, lab.profile)
}
pub(crate) async fn ask(engine: &dyn Engine, kind: Kind, n: u32) -> Answered {
    let model = engine.models().await.unwrap()[0].id;
    ask_of(engine, model, kind, n).await
}

pub(crate) async fn ask_of(engine: &dyn Engine, model: ModelId, kind: Kind, n: u32) -> Answered {
    let (request, profile) = request(kind, n);
    let prompt = request.prompt.clone();
    let mut generation = engine.generate(model, request, CancellationToken::new()).await.unwrap();
    let profile = matches!(kind, Kind::Profile | Kind::Chat).then_some(profile);
    let mut answered = Answered { prompt, profile, tokens: Vec::new() };
    loop {
        match generation.events.recv().await.unwrap() {
            EngineEvent::Token(piece) => answered.tokens.push(LeafToken::of_piece(&piece)),
            EngineEvent::Done { .. } => return answered,
            EngineEvent::Failed { reason } => panic!("{reason}"),
        }
    }
}

impl Answered {
    /// The tokens before the first that was not told.
    pub(crate) fn told(&self) -> &[LeafToken] {
        let count = self.tokens.iter().take_while(|token| token.id() != ID_UNTOLD).count();
        &self.tokens[..count]
    }
}
pub(crate) async fn several(
    engine: &dyn Engine,
    kind: Kind,
    numbers: std::ops::Range<u32>,
) -> Vec<Answered> {
    let mut answers = Vec::new();
    for n in numbers {
        answers.push(ask(engine, kind, n).await);
    }
    answers
}

/// As an auditor does it: the verifier's own tokens of the prompt, its own logits of each step.
pub(crate) async fn audits(
    means: Means,
    verifier: &EmbeddedEngine,
    answers: &[Answered],
) -> Findings {
    let model = verifier.model().id;
    let mut audit = Audit::new(&SAMPLERS, means);
    for answer in answers {
        let prompt = verifier.tokenize(model, &answer.prompt).await.unwrap();
        // Nothing is asked of the step after the last.
        let [before @ .., _] = answer.told() else { continue };
        let ids = before.iter().map(LeafToken::id);
        let tokens: Vec<u32> = prompt.iter().copied().chain(ids).collect();
        let mut positions = verifier.logits(model, &tokens, prompt.len()).await.unwrap();
        audit.begin(answer.profile.as_ref());
        for token in answer.told() {
            let logits = positions.recv().await.unwrap().unwrap();
            audit.push(token, Logits::new(&logits).as_ref());
        }
    }
    audit.findings()
}

/// 1.5 times the mean of an honest provider's answers in the profile: what others are held against too.
pub(crate) async fn calibrate(verifier: &EmbeddedEngine, answers: &[Answered]) -> Means {
    let any = HonestMean::of_ppm(500_000).unwrap();
    let found = audits(Means { l1: any, l2: any, projections: None }, verifier, answers).await;
    let mean = |level: Option<LevelFindings>| {
        level.map_or(any, |level| HonestMean::calibrated(&[level.mean_ppm]).unwrap())
    };
    Means { l1: mean(found.l1), l2: mean(found.l2), projections: None }
}

pub(crate) fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

/// What L1 found.
pub(crate) fn say_l1(name: &str, findings: &Findings) {
    let l1 = findings.l1.unwrap();
    let at = l1.alone_at.map_or("never".to_owned(), |tokens| tokens.to_string());
    say(&format!(
        "{name}: {} tokens, mean {:.4}, L1 alone after {at}, most ln E {:.1}",
        l1.tokens,
        f64::from(l1.mean_ppm) / 1e6,
        l1.most.0 as f64 / 1e3
    ));
}
