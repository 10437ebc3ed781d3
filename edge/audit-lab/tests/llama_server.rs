//! Audits of a real llama.cpp server, with the model of the laboratory: it answers through the engine for OpenAI's API as a
//! provider's would, and the embedded engine's logits judge it. The server is a Python package with llama.cpp inside.

#[path = "../../engine/tests/support/python.rs"]
#[expect(unreachable_pub, reason = "it is shared with the tests of the engines")]
mod python;

use std::{io::Write as _, time::Duration};

use audit_lab::{
    provider,
    weights::{self, Quantization},
};
use engine::{
    EmbeddedEngine, EmbeddedOptions, Engine as _, EngineEvent, OpenAiEngine, OpenAiOptions,
};
use python::{Program, Python};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use types::inference::{FinishReason, InferenceRequest, Prompt, Sampling, TokenPiece};
use verify::{
    audit::{Audit, Findings, Means, identified},
    draw::{OneCandidate, Sampler},
    eprocess::{ALONE, HonestMean, MilliNats},
    identify::Worth,
    l0::Check,
    leaf::LeafToken,
    logits::Logits,
    profile::Profile,
};

const SEED: u32 = 1;
const TOKENS_MAX: u32 = 100;
/// Answers of the honest provider: 20 000 tokens, those that end early aside.
const HONEST_ANSWERS: u32 = 215;
/// What an older version may do is tried too.
const SAMPLERS: [Sampler; 2] =
    [Sampler::Llama(OneCandidate::Draws), Sampler::Llama(OneCandidate::Skips)];

/// Ends with its standard input, so also when the test is killed.
const SERVER: &str = "
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.n_ctx = 1024
params.n_parallel = 1
params.cpuparams.n_threads = 1
if sys.argv[3] != 'f16':
    kind = getattr(xllamacpp.ggml_type, 'GGML_TYPE_' + sys.argv[3].upper())
    params.cache_type_k = kind
    params.cache_type_v = kind
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
";

/// Tries to become ready, at one each 50 ms: loading takes a fraction of a second on a free machine.
const READY_TRIES_MAX: u32 = 1_200;

struct Server {
    engine: OpenAiEngine,
    _program: Program,
}

async fn serve(python: &Python, model: &std::path::Path, cache: &str) -> Server {
    // Free now; nothing else on a test machine takes it in the moment before the server does.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let mut program = python.start(SERVER, &[model.to_str().unwrap(), &port, cache]);
    let url = format!("http://127.0.0.1:{port}");
    let client = wire::http_client().unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..READY_TRIES_MAX {
        tick.tick().await;
        if let Some(status) = program.ended() {
            panic!("the server ended with {status}");
        }
        let health = client.get(format!("{url}/health")).send().await;
        if health.is_ok_and(|response| response.status().is_success()) {
            let engine = OpenAiEngine::connect(OpenAiOptions::at(&url)).await.unwrap();
            return Server { engine, _program: program };
        }
    }
    panic!("the server did not become ready");
}

/// The files of a model and its quantizations.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
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

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name).with_extension("gguf")
    }

    fn verifier(&self, name: &str) -> EmbeddedEngine {
        EmbeddedEngine::load(&self.path(name), EmbeddedOptions::standard()).unwrap()
    }
}

/// What was asked, as the gateway does, and what came.
struct Answered {
    prompt: String,
    profile: Profile,
    tokens: Vec<LeafToken>,
    ended: bool,
}

/// Request `n`: some of the made-up words.
async fn ask(
    engine: &dyn engine::Engine,
    n: u32,
    change: impl Fn(&mut InferenceRequest),
) -> Answered {
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
    LeafToken::new(piece.id.unwrap(), &pairs.collect::<Vec<_>>()).unwrap()
}

/// As `peerwatt audit` does it: the verifier's own tokens of the prompt, its own logits of each step.
async fn audit(audit: &mut Audit, verifier: &EmbeddedEngine, answer: &Answered) -> Check {
    let model = verifier.model().id;
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

async fn audits(means: Means, verifier: &EmbeddedEngine, answers: &[Answered]) -> Findings {
    let mut one = Audit::new(&SAMPLERS, means);
    for answer in answers {
        audit(&mut one, verifier, answer).await;
    }
    one.findings()
}

fn say(name: &str, findings: &Findings) {
    let level = |level: Option<verify::audit::LevelFindings>| {
        let level = level.unwrap();
        let at = level.alone_at.map_or("never".to_owned(), |tokens| tokens.to_string());
        format!(
            "{:.4} {at} (most ln E {:.1})",
            f64::from(level.mean_ppm) / 1e6,
            level.most.0 as f64 / 1e3
        )
    };
    let (l1, l2) = (level(findings.l1), level(findings.l2));
    let replay = findings.replay;
    let line = format!(
        "llama.cpp, {name}: L0 {} of {}, L1 {l1}, L2 {l2}, ends {:?}",
        replay.unexplained,
        replay.replayed(),
        findings.ends
    );
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

async fn several(
    engine: &dyn engine::Engine,
    numbers: std::ops::Range<u32>,
    change: impl Fn(&mut InferenceRequest),
) -> Vec<Answered> {
    let mut answers = Vec::new();
    for n in numbers {
        answers.push(ask(engine, n, &change).await);
    }
    answers
}

/// 1.5 times the mean of two honest set-ups: the server, and the embedded engine with other kernels would be the second.
/// Without the bound of a calibration, for which the server would have to answer more than a thousand times.
async fn calibrate(verifier: &EmbeddedEngine, answers: &[Answered]) -> Means {
    let any = HonestMean::of_ppm(500_000).unwrap();
    let found = audits(Means { l1: any, l2: any }, verifier, answers).await;
    let mean = |level: Option<verify::audit::LevelFindings>| {
        HonestMean::calibrated(&[level.unwrap().mean_ppm]).unwrap()
    };
    Means { l1: mean(found.l1), l2: mean(found.l2) }
}

#[tokio::test]
async fn a_real_server_is_cleared_and_cheats_are_not() {
    let python = match Python::with("xllamacpp", &["xllamacpp"]) {
        Ok(python) => python,
        Err(reason) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "skipped: no llama.cpp server: {reason:#}").unwrap();
            return;
        }
    };
    let files = Files::new();
    // In F32: the same numbers as those of the quantized file, without what candle does to the other factor.
    let verifier = files.verifier("elsewhere");
    let honest = serve(&python, &files.path("Q8_0"), "f16").await;
    let measured = several(&honest.engine, 1_000..1_030, |_| {}).await;
    let means = calibrate(&verifier, &measured).await;
    honest_is_cleared(&honest, &verifier, means).await;
    cheats_with_the_right_model(&honest, &verifier, means).await;
    for (served, cache, name) in [("Q4_0", "f16", "Q4_0"), ("other", "f16", "other model")] {
        let server = serve(&python, &files.path(served), cache).await;
        let answers = several(&server.engine, 0..2, |_| {}).await;
        let found = audits(means, &verifier, &answers).await;
        say(name, &found);
        let alone_at = [found.l1, found.l2].map(|it| it.unwrap().alone_at.unwrap_or(u32::MAX));
        assert!(alone_at[0] <= 32 && alone_at[1] <= 150, "{name}: {alone_at:?}");
        assert_eq!(found.replay.unexplained, 0);
        let reference = files.verifier(&format!("reference-{served}"));
        let found_of = audits(means, &reference, &answers).await;
        let id = reference.model().id;
        let named = identified(&found, &[(id, Worth::Cheaper, found_of)]);
        assert_eq!(named.map(|found| found.model), Some(id), "{name} {found_of:?}");
        if name == "Q4_0" {
            spoof(&honest, &server, &verifier, means).await;
        }
    }
    for (served, cache) in [("F16", "f16"), ("Q8_0", "q8_0")] {
        let server = serve(&python, &files.path(served), cache).await;
        let answers = several(&server.engine, 0..10, |_| {}).await;
        let found = audits(means, &verifier, &answers).await;
        say(&format!("{served}, cache {cache} (one price)"), &found);
        assert!(found.l1.unwrap().alone_at.is_none() || found.l1.unwrap().tokens > 400);
    }
    let server = serve(&python, &files.path("Q8_0"), "q4_0").await;
    let found = audits(means, &verifier, &several(&server.engine, 0..10, |_| {}).await).await;
    say("Q8_0, cache q4_0", &found);
    assert!(found.l1.unwrap().alone_at.is_some_and(|at| at <= 400), "{found:?}");
}

async fn honest_is_cleared(server: &Server, verifier: &EmbeddedEngine, means: Means) {
    let answers = several(&server.engine, 0..HONEST_ANSWERS, |_| {}).await;
    let found = audits(means, verifier, &answers).await;
    say("honest", &found);
    assert_eq!((found.replay.unexplained, found.replay.unreported), (0, 0));
    assert!(found.tokens >= 18_000, "{}", found.tokens);
    for level in [found.l1.unwrap(), found.l2.unwrap()] {
        assert!(level.most < MilliNats(5_000), "{level:?}");
    }
    assert_eq!(found.ends.broken, 0, "{:?}", found.ends);
}

async fn cheats_with_the_right_model(server: &Server, verifier: &EmbeddedEngine, means: Means) {
    for micros in [700_000, 900_000, 0] {
        let change = |it: &mut InferenceRequest| it.sampling.temperature_micros = Some(micros);
        let answers = several(&server.engine, 0..4, change).await;
        let found = audits(means, verifier, &answers).await;
        say(&format!("temperature {micros}"), &found);
        assert!(found.replay.unexplained > 2 && found.l1.unwrap().alone_at.is_none());
    }
    let cached = |it: &mut InferenceRequest| it.sampling.seed = Some(4_711);
    let answers = several(&server.engine, 0..2, cached).await;
    let found = audits(means, verifier, &answers).await;
    say("cached answer", &found);
    assert!(found.replay.failed() && found.l2.unwrap().alone_at.is_some());

    let edit = |it: &mut InferenceRequest| {
        let Prompt::Text(text) = &mut it.prompt else { return };
        *text = text[text.len() / 2..].to_owned();
    };
    let answers = several(&server.engine, 0..4, edit).await;
    let found = audits(means, verifier, &answers).await;
    say("edited prompt", &found);
    assert!(found.l1.unwrap().alone_at.is_some_and(|tokens| tokens <= 100));

    let mut answers = several(&server.engine, 0..12, |_| {}).await;
    for answer in &mut answers {
        answer.tokens.truncate(50);
        answer.ended = true;
    }
    let found = audits(means, verifier, &answers).await;
    say("truncation", &found);
    assert!(found.ends.broken >= 10 && found.l2.unwrap().ln_e >= ALONE, "{found:?}");
}

/// Tokens of the Q4_0 server, with log-probabilities of the Q8_0 server for just these.
async fn spoof(honest: &Server, cheap: &Server, verifier: &EmbeddedEngine, means: Means) {
    let mut answers = several(&cheap.engine, 0..2, |_| {}).await;
    let (model, scorer) = (honest.engine.models().await.unwrap()[0].id, &honest.engine);
    for answer in &mut answers {
        let prompt = scorer.tokenize(model, &Prompt::Text(answer.prompt.clone())).await.unwrap();
        let ids = answer.tokens.iter().map(LeafToken::id);
        let tokens: Vec<u32> = prompt.iter().copied().chain(ids).collect();
        let mut positions = scorer.logits(model, &tokens, prompt.len()).await.unwrap();
        for token in &mut answer.tokens {
            *token = provider::leaf(token.id(), &positions.recv().await.unwrap().unwrap());
        }
    }
    let found = audits(means, verifier, &answers).await;
    say("prefill spoof", &found);
    assert!(found.l1.unwrap().alone_at.is_none(), "what it reports is genuine");
    assert!(found.replay.failed() && found.l2.unwrap().alone_at.is_some());
}
