//! Audits of a real llama.cpp server, with the model of the laboratory: it answers through the engine for OpenAI's API as a
//! provider's would, and the embedded engine's logits judge it. The server is a Python package with llama.cpp inside.

mod llama_cpp;
#[expect(unreachable_pub, reason = "it is shared with other tests")]
mod support;

use audit_lab::provider;
use engine::{EmbeddedEngine, EmbeddedOptions, Engine as _};
use llama_cpp::{Server, python, serve};
use support::{Answered, Files, calibrate, several};
use types::inference::{InferenceRequest, Prompt};
use verify::{
    audit::{Findings, Means, identified},
    draw::{OneCandidate, Sampler},
    eprocess::{ALONE, MilliNats},
    identify::Worth,
    leaf::LeafToken,
};

/// Answers of the honest provider: 20 000 tokens, those that end early aside.
const HONEST_ANSWERS: u32 = 215;
/// What an older version may do is tried too.
const SAMPLERS: [Sampler; 2] =
    [Sampler::Llama(OneCandidate::Draws), Sampler::Llama(OneCandidate::Skips)];

async fn audits(means: Means, verifier: &EmbeddedEngine, answers: &[Answered]) -> Findings {
    support::audits(&SAMPLERS, means, verifier, answers).await
}

fn say(name: &str, findings: &Findings) {
    support::say(&format!("llama.cpp, {name}"), findings);
}

#[tokio::test]
async fn a_real_server_is_cleared_and_cheats_are_not() {
    let Some(python) = python() else { return };
    let files = Files::new();
    // In F32: the same numbers as those of the quantized file, without what candle does to the other factor.
    let verifier = files.engine("elsewhere", EmbeddedOptions::standard());
    let honest = serve(&python, &files.path("Q8_0"), "f16").await;
    let measured = several(&honest.engine, 1_000..1_030, |_| {}).await;
    // The server, and the embedded engine with other kernels would be the second.
    let means = calibrate(&SAMPLERS, &verifier, &[&measured]).await;
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
        let reference = files.engine(&format!("reference-{served}"), EmbeddedOptions::standard());
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
