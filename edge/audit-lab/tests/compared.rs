//! Answers that cannot be drawn again, audited by their log-probabilities alone: those with a seed, penalties or candidates of
//! the client's own (a form: `ollama.rs`). Honest ones stay clear by the means that answers in the profile are held against; a Q4_0
//! that is sold as Q8_0 and another model do not. Figures go to the output of the test.

mod served;

use engine::Engine;
use served::{
    Answered, Files, Kind, ask, audits, calibrate, is_alone, python, say, say_l1, serve, several,
};
use verify::{
    audit::{Findings, Means},
    eprocess::{ALONE, ESCALATE, MilliNats},
    leaf::LeafToken,
    verdict,
};

/// Answers of each kind of an honest provider: some thousand tokens in all.
const HONEST_ANSWERS: u32 = 15;
/// What all that a request may ask for has in common: nothing of it changes what is reported.
const KINDS: [Kind; 4] = [Kind::OwnSeed, Kind::Hot, Kind::Penalties, Kind::MinP];

fn is_clear(findings: &Findings, tokens_min: u32) {
    let l1 = findings.l1.unwrap();
    assert!(l1.tokens >= tokens_min, "{l1:?}");
    assert!(l1.most < MilliNats(5_000) && l1.floored_most < ESCALATE, "{l1:?}");
    assert!(findings.l2.is_none() && findings.replay.replayed() == 0, "{findings:?}");
}

async fn is_caught(
    name: &str,
    means: Means,
    verifier: &engine::EmbeddedEngine,
    answers: &[Answered],
) {
    let found = audits(means, verifier, answers).await;
    say_l1(name, &found);
    assert!(found.l1.unwrap().alone_at.is_some_and(|tokens| tokens <= 50), "{found:?}");
    assert!(found.replay.replayed() == 0 && found.ln_e().unwrap() >= ALONE);
}

#[tokio::test]
async fn the_embedded_engine_is_cleared_and_cheats_are_not() {
    if !is_alone("the_embedded_engine_is_cleared_and_cheats_are_not") {
        return;
    }
    let files = Files::new();
    let (verifier, honest) = (files.engine("elsewhere"), files.engine("Q8_0"));
    let means = calibrate(&verifier, &several(&honest, Kind::Profile, 1_000..1_020).await).await;
    let mut all = Vec::new();
    for kind in KINDS {
        let answers = several(&honest, kind, 0..HONEST_ANSWERS).await;
        let found = audits(means, &verifier, &answers).await;
        say_l1(&format!("embedded, {kind:?}, honest"), &found);
        is_clear(&found, 800);
        all.extend(answers);
    }
    let found = audits(means, &verifier, &all).await;
    say_l1("embedded, all, honest", &found);
    is_clear(&found, 5_000);
    // Answers in the profile beside them are drawn again, and the others are not.
    all.extend(several(&honest, Kind::Profile, 0..2).await);
    let mixed = audits(means, &verifier, &all).await;
    let (l1, l2) = (mixed.l1.unwrap(), mixed.l2.unwrap());
    assert!(l1.tokens > found.tokens && l2.tokens <= 200 && mixed.tokens == l2.tokens);
    assert!(mixed.ln_e().unwrap() < MilliNats(5_000), "{mixed:?}");
    for served in ["Q4_0", "other"] {
        let cheap = files.engine(served);
        for kind in KINDS {
            let answers = several(&cheap, kind, 0..2).await;
            is_caught(&format!("embedded, {kind:?}, {served}"), means, &verifier, &answers).await;
        }
    }
}

#[tokio::test]
async fn a_real_server_is_cleared_and_cheats_are_not() {
    if !is_alone("a_real_server_is_cleared_and_cheats_are_not") {
        return;
    }
    let Some(python) = python() else { return };
    let files = Files::new();
    let verifier = files.engine("elsewhere");
    let honest = serve(&python, &files.path("Q8_0")).await;
    let measured = several(&honest.engine, Kind::Profile, 1_000..1_020).await;
    let means = calibrate(&verifier, &measured).await;
    let mut all = Vec::new();
    for kind in KINDS {
        let answers = several(&honest.engine, kind, 0..HONEST_ANSWERS).await;
        let untold = answers.iter().filter(|it| it.told().len() < it.tokens.len()).count();
        let found = audits(means, &verifier, &answers).await;
        say_l1(&format!("llama.cpp, {kind:?}, honest, {untold} not told to their end"), &found);
        is_clear(&found, 800);
        all.extend(answers);
    }
    let found = audits(means, &verifier, &all).await;
    say_l1("llama.cpp, all, honest", &found);
    is_clear(&found, 5_000);
    let cheap = serve(&python, &files.path("Q4_0")).await;
    for kind in KINDS {
        let answers = several(&cheap.engine, kind, 0..2).await;
        is_caught(&format!("llama.cpp, {kind:?}, Q4_0"), means, &verifier, &answers).await;
    }
    spoof(&honest.engine, &cheap.engine, &verifier, means).await;
}

/// A model that has learned something is further from itself on another machine in texts that it would not write: those that are
/// drawn hotter than at 1, or held off repeating by more than here, are in no profile for that.
#[tokio::test]
async fn a_trained_model_is_cleared_in_texts_it_would_not_write() {
    if !is_alone("a_trained_model_is_cleared_in_texts_it_would_not_write") {
        return;
    }
    let Some(python) = python() else { return };
    let files = Files::trained();
    let verifier = files.engine("elsewhere");
    let server = serve(&python, &files.path("Q8_0")).await;
    let measured = several(&server.engine, Kind::Profile, 1_000..1_030).await;
    let means = calibrate(&verifier, &measured).await;
    for kind in KINDS {
        let found =
            audits(means, &verifier, &several(&server.engine, kind, 0..HONEST_ANSWERS).await).await;
        say_l1(&format!("llama.cpp, trained, {kind:?}, honest"), &found);
        is_clear(&found, 200);
    }
}

/// Tokens of the Q4_0, with log-probabilities of the Q8_0 for just these: what this audit cannot see, which is why it clears
/// nobody either.
async fn spoof(
    honest: &dyn Engine,
    cheap: &dyn Engine,
    verifier: &engine::EmbeddedEngine,
    means: Means,
) {
    let mut answer = ask(cheap, Kind::OwnSeed, 1).await;
    let model = honest.models().await.unwrap()[0].id;
    let prompt = honest.tokenize(model, &answer.prompt).await.unwrap();
    let ids = answer.tokens.iter().map(LeafToken::id);
    let tokens: Vec<u32> = prompt.iter().copied().chain(ids).collect();
    let mut positions = honest.logits(model, &tokens, prompt.len()).await.unwrap();
    for token in &mut answer.tokens {
        let logits = positions.recv().await.unwrap().unwrap();
        *token = audit_lab::provider::leaf(token.id(), &logits);
    }
    let found = audits(means, verifier, &[answer]).await;
    say_l1("llama.cpp, OwnSeed, prefill spoof", &found);
    let evidence = types::audit::Evidence {
        model,
        backend: verdict::Backend::CpuX86,
        responses: types::audit::Responses::default(),
        tokens: found.tokens,
        replay: found.replay,
        l1: found.l1.map(|level| level.ln_e),
        l2: None,
        projections: None,
        identified: None,
    };
    let outcome = verdict::outcome(&evidence);
    assert_eq!(outcome, types::audit::AuditOutcome::Inconclusive, "{found:?}");
    say("its verdict is inconclusive, like that of every answer that is only compared");
}
