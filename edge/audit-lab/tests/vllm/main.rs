//! Audits that score with vLLM: honest answers of the embedded engine stay clear, and cheats are found by the likeliest tokens
//! alone.
//!
//! With `PEERWATT_TEST_VLLM_URL` a real server is asked, which must run the laboratory's model:
//!
//! ```sh
//! cargo run -p audit-lab --example write -- lab.gguf
//! python edge/audit-lab/tests/vllm/to_safetensors.py lab.gguf lab
//! vllm serve lab --skip-tokenizer-init --dtype float32 --max-logprobs 64
//! ```
//!
//! Without it a double is, which gives what candle computes in vLLM's form.

#[path = "../alone/mod.rs"]
mod alone;
#[path = "../support/mod.rs"]
#[expect(unreachable_pub, reason = "it is shared with other tests")]
mod support;

use std::{collections::BTreeMap, sync::Arc};

use alone::is_alone;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine, Library, OpenAiOptions, ServedFile};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{Files, audits, calibrate, say, several};
use verify::{
    audit::identified, draw::Sampler, eprocess::MilliNats, identify::Worth, logits::Logits,
};

const SAMPLERS: [Sampler; 1] = [Sampler::Gumbel];
/// Answers of an honest provider: 2 400 tokens, those that end early aside.
const HONEST_ANSWERS: u32 = 24;
/// What the double tells of a position at most, as if it had been started with `--max-logprobs`.
const LOGPROBS_MAX: usize = 64;

fn candle() -> EmbeddedOptions {
    EmbeddedOptions { library: Some(Library::Candle), slots: 1, ..EmbeddedOptions::standard() }
}

#[tokio::test]
async fn vllm_clears_the_honest_and_finds_cheats() {
    if !is_alone("vllm_clears_the_honest_and_finds_cheats") {
        return;
    }
    let files = Files::new();
    let url = match std::env::var_os("PEERWATT_TEST_VLLM_URL") {
        Some(url) => url.into_string().unwrap(),
        None => double(files.engine("elsewhere", candle())).await,
    };
    let connected = ServedFile::connect(OpenAiOptions::at(&url), &files.path("Q8_0")).await;
    let verifier = connected.unwrap();
    assert_eq!(verifier.model().id, files.engine("Q8_0", candle()).model().id);
    assert!(!verifier.tells_all_logits());
    let served = files.engine("Q8_0", candle());
    let measured = several(&served, 1_000..1_016, |_| {}).await;
    let means = calibrate(&SAMPLERS, &verifier, &[&measured]).await;

    let honest = several(&served, 0..HONEST_ANSWERS, |_| {}).await;
    let found = audits(&SAMPLERS, means, &verifier, &honest).await;
    say(&format!("honest, scored by {}", verifier.version()), &found);
    assert!(found.tokens >= 1_500 && found.projections.is_none(), "{found:?}");
    assert_eq!((found.replay.unexplained, found.ends.broken), (0, 0));
    for level in [found.l1.unwrap(), found.l2.unwrap()] {
        assert!(level.most < MilliNats(5_000), "{level:?}");
    }
    let cheap = files.engine("Q4_0", candle());
    for (name, engine) in [("Q4_0", &cheap), ("other", &files.engine("other", candle()))] {
        let answers = several(engine, 0..2, |_| {}).await;
        let found = audits(&SAMPLERS, means, &verifier, &answers).await;
        say(&format!("{name}, scored by {}", verifier.version()), &found);
        let at = [found.l1, found.l2].map(|level| level.unwrap().alone_at.unwrap_or(u32::MAX));
        assert!(at[0] <= 32 && at[1] <= 150, "{at:?}");
        if name == "Q4_0" {
            let reference = audits(&SAMPLERS, means, &cheap, &answers).await;
            let id = cheap.model().id;
            let named = identified(&found, &[(id, Worth::Cheaper, reference)]);
            assert_eq!(named.map(|named| named.model), Some(id), "{reference:?}");
        }
    }
}

#[derive(Deserialize)]
struct Question {
    prompt: Vec<u32>,
    prompt_logprobs: usize,
    max_tokens: u32,
}

/// A server of this test, with what vLLM 0.32 says. It ends with the test's runtime.
async fn double(engine: EmbeddedEngine) -> String {
    let models = json!({ "data": [{ "id": "lab", "owned_by": "vllm", "max_model_len": 512 }] });
    let routes = Router::new()
        .route("/v1/models", routing::get(move || async move { Json(models) }))
        .route("/version", routing::get(|| async { Json(json!({ "version": "0.32.0" })) }))
        .route("/v1/completions", routing::post(complete))
        .with_state(Arc::new(engine));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    url
}

async fn complete(
    State(engine): State<Arc<EmbeddedEngine>>,
    Json(question): Json<Question>,
) -> impl IntoResponse {
    let Question { prompt, prompt_logprobs, max_tokens } = question;
    assert_eq!(max_tokens, 1);
    if prompt_logprobs > LOGPROBS_MAX {
        let error = json!({ "error": { "message": "too many prompt logprobs", "code": 400 } });
        return (StatusCode::BAD_REQUEST, Json(error));
    }
    let before = &prompt[..prompt.len() - 1];
    let mut positions = engine.logits(engine.model().id, before, 1).await.unwrap();
    let mut told = vec![Value::Null];
    for id in &prompt[1..] {
        let logits = positions.recv().await.unwrap().unwrap();
        let likely = Logits::new(&logits).unwrap();
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_unstable_by(|a, b| likely.logprob(*b).total_cmp(&likely.logprob(*a)));
        ids.truncate(prompt_logprobs);
        let each = ids.iter().chain([id]).map(|id| {
            (id.to_string(), json!({ "logprob": likely.logprob(*id), "decoded_token": null }))
        });
        told.push(json!(each.collect::<BTreeMap<_, _>>()));
    }
    let choice = json!({ "index": 0, "text": "", "prompt_logprobs": told });
    (StatusCode::OK, Json(json!({ "choices": [choice] })))
}
