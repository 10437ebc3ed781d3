//! Vectors from servers that replay what real ones send.

mod support;

use engine::{Engine, EngineError, OllamaEngine, OllamaOptions, OpenAiEngine, OpenAiOptions};
use expect_test::{Expect, expect};
use support::{
    chat, run,
    stub::{End, Reply, Stub},
};
use tokio_util::sync::CancellationToken;
use types::inference::{InferenceRequest, Inputs, Prompt};

fn embed(texts: &[&str]) -> InferenceRequest {
    sized(texts, None, false)
}

fn sized(texts: &[&str], dimensions: Option<u32>, truncate: bool) -> InferenceRequest {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    InferenceRequest::of(Prompt::Inputs(Inputs { texts, dimensions, truncate }))
}

const TAGS: &str = r#"{"models":[{"name":"nomic-embed-text:latest",
    "digest":"0a109f422b47e3a30ba2b10eca18548e944e8a23073ee3f3e947efcf3c45e59f"}]}"#;
const SHOW: &str = r#"{"modelfile":"FROM /m/blobs/sha256-x\n","template":"{{ .Prompt }}",
    "capabilities":["embedding"],"model_info":{"nomic-bert.context_length":2048}}"#;

async fn ollama(version: &str, answer: Reply) -> (Stub, OllamaEngine) {
    let stub = Stub::start(&[
        ("/api/version", Reply::json(&format!(r#"{{"version":"{version}"}}"#))),
        ("/api/tags", Reply::json(TAGS)),
        ("/api/show", Reply::json(SHOW)),
        ("/api/embed", answer),
    ])
    .await;
    let engine = OllamaEngine::connect(OllamaOptions::at(&stub.url)).await.unwrap();
    engine.models().await.unwrap();
    (stub, engine)
}

const PROPS: &str =
    r#"{"default_generation_settings":{"n_ctx":512},"total_slots":2,"build_info":"b6000"}"#;
const ONE: &str = r#"{"model":"m","object":"list","usage":{"prompt_tokens":3,"total_tokens":3},
    "data":[{"embedding":"AACAPwAAAMA=","index":0,"object":"embedding","encoding_format":"base64"}]}"#;

/// A server of this owner with one model, whose vectors are `answer`.
async fn openai(owner: &str, answer: Reply) -> (Stub, OpenAiEngine) {
    let models = format!(r#"{{"data":[{{"id":"bge-m3","owned_by":"{owner}"}}]}}"#);
    let mut replies = vec![("/v1/models", Reply::json(&models)), ("/v1/embeddings", answer)];
    if owner == "llamacpp" {
        replies.push(("/props", Reply::json(PROPS)));
    }
    let stub = Stub::start(&replies).await;
    let engine = OpenAiEngine::connect(OpenAiOptions::at(&stub.url)).await.unwrap();
    (stub, engine)
}

/// The only model's vectors, or why there are none.
async fn check(engine: &dyn Engine, request: InferenceRequest, expected: Expect) {
    let model = engine.models().await.unwrap()[0].id;
    let begun = engine.generate(model, request.clone(), CancellationToken::new()).await;
    let shown = match begun {
        Ok(_) => run(engine, model, request).await.summary(),
        Err(EngineError::Refused { status, message, .. }) => format!("{status}: {message}"),
        Err(EngineError::Protocol { reason, .. }) => format!("nonsense: {reason}"),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&shown);
}

#[tokio::test]
async fn ollama_makes_vectors_with_models_that_are_made_for_it() {
    let answer = r#"{"model":"m","embeddings":[[1,-2.5],[0.1,3e-9]],"total_duration":1,"prompt_eval_count":7}"#;
    let (stub, engine) = ollama("0.12.11", Reply::json(answer)).await;
    let models = engine.models().await.unwrap();
    expect![[r#"
        Abilities {
            completions: false,
            embeddings: Sized,
            logprobs: false,
            json: false,
            tools: None,
            samplers: false,
        }
    "#]]
    .assert_debug_eq(&models[0].abilities);
    check(&engine, embed(&["a", "b"]), expect![[r#"["vector [1.0, -2.5]", "vector [0.1, 3e-9]"] Stop, prompt Some(7), completion Some(2), Chunks"#]]).await;
    expect![[r#"{"model":"nomic-embed-text:latest","input":["a","b"],"truncate":false,"options":{"num_ctx":2048}}"#]].assert_eq(&stub.asked("/api/embed").body);
    check(&engine, sized(&["a", "b"], Some(2), true), expect![[r#"["vector [1.0, -2.5]", "vector [0.1, 3e-9]"] Stop, prompt Some(7), completion Some(2), Chunks"#]]).await;
    expect![[r#"{"model":"nomic-embed-text:latest","input":["a","b"],"truncate":true,"dimensions":2,"options":{"num_ctx":2048}}"#]].assert_eq(&stub.asked("/api/embed").body);
    check(
        &engine,
        chat("Hi"),
        expect!["the model cannot do this here: it makes embeddings and nothing else"],
    )
    .await;
    // One vector for two texts, and none of the dimensions that were asked for.
    check(&engine, embed(&["a"]), expect!["nonsense: more vectors than there are inputs"]).await;
    check(
        &engine,
        sized(&["a", "b"], Some(3), false),
        expect!["the request does not fit the model: the model makes 2 dimensions at most"],
    )
    .await;
    let (_stub, old) = ollama("0.11.10", Reply::json(answer)).await;
    check(
        &old,
        sized(&["a", "b"], Some(2), false),
        expect!["the model cannot do this here: no choice of the embeddings' dimensions"],
    )
    .await;
}

#[tokio::test]
async fn what_ollama_cannot_take_is_the_clients_to_change() {
    let long = Reply::error(400, r#"{"error":"input length exceeds maximum context length"}"#);
    let (_stub, engine) = ollama("0.12.11", long).await;
    check(
        &engine,
        embed(&["a"]),
        expect!["the request does not fit the model: input length exceeds maximum context length"],
    )
    .await;
    let (_stub, engine) = ollama("0.12.11", Reply::error(500, r#"{"error":"no memory"}"#)).await;
    check(&engine, embed(&["a"]), expect!["500: no memory"]).await;
    let (_stub, engine) = ollama("0.12.11", Reply::json(r#"{"embeddings":[[1e39]]}"#)).await;
    check(&engine, embed(&["a"]), expect!["nonsense: a number that is not finite"]).await;
    let (_stub, engine) = ollama("0.12.11", Reply::json("<html>")).await;
    check(&engine, embed(&["a"]), expect!["nonsense: expected value at line 1 column 1"]).await;
}

#[tokio::test]
async fn servers_with_openais_api_are_asked_whether_they_make_vectors() {
    let (stub, engine) = openai("llamacpp", Reply::json(ONE)).await;
    expect![[r#"
        Abilities {
            completions: false,
            embeddings: Fixed,
            logprobs: false,
            json: false,
            tools: None,
            samplers: false,
        }
    "#]]
    .assert_debug_eq(&engine.models().await.unwrap()[0].abilities);
    assert_eq!(stub.count("/v1/embeddings"), 1, "once");
    check(
        &engine,
        embed(&["a"]),
        expect![[r#"["vector [1.0, -2.0]"] Stop, prompt Some(3), completion Some(1), Chunks"#]],
    )
    .await;
    expect![[r#"{"model":"bge-m3","input":["a"],"encoding_format":"base64"}"#]]
        .assert_eq(&stub.asked("/v1/embeddings").body);
    check(
        &engine,
        sized(&["a"], Some(2), false),
        expect!["the model cannot do this here: no choice of the embeddings' dimensions"],
    )
    .await;
    check(
        &engine,
        chat("Hi"),
        expect!["the model cannot do this here: it makes embeddings and nothing else"],
    )
    .await;
    let (stub, engine) = openai("vllm", Reply::json(ONE)).await;
    check(
        &engine,
        sized(&["a"], None, true),
        expect![[r#"["vector [1.0, -2.0]"] Stop, prompt Some(3), completion Some(1), Chunks"#]],
    )
    .await;
    expect![[
        r#"{"model":"bge-m3","input":["a"],"encoding_format":"base64","truncate_prompt_tokens":-1}"#
    ]]
    .assert_eq(&stub.asked("/v1/embeddings").body);
    let refusal = r#"{"error":{"code":501,"message":"This server does not support embeddings."}}"#;
    for owner in ["llamacpp", "vllm"] {
        let (_stub, engine) = openai(owner, Reply::error(501, refusal)).await;
        check(&engine, embed(&["a"]), expect!["the model cannot do this here: no embeddings"])
            .await;
        assert!(engine.models().await.unwrap()[0].abilities.completions);
    }
    // Of others nothing is known, and asking may cost.
    let (stub, _engine) = openai("somebody", Reply::json(ONE)).await;
    assert_eq!(stub.count("/v1/embeddings"), 0);
}

#[tokio::test]
async fn a_request_that_is_cancelled_leaves_the_server() {
    let answer = Reply::chunks([r#"{"embeddings":[[1"#]).ending(End::Hang);
    let (mut stub, engine) = ollama("0.12.11", answer).await;
    let model = engine.models().await.unwrap()[0].id;
    // Those of the questions before.
    for _ in 0..4 {
        stub.body_dropped().await;
    }
    let cancel = CancellationToken::new();
    let asked = engine.generate(model, embed(&["a"]), cancel.clone());
    let (begun, ()) = tokio::join!(asked, async {
        while stub.count("/api/embed") == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    let mut events = begun.unwrap().events;
    expect!["Done { finish: Cancelled, usage: Usage { prompt_tokens: None, completion_tokens: Some(0), counted: Chunks } }"].assert_eq(&format!("{:?}", events.recv().await.unwrap()));
    stub.body_dropped().await;
    assert_eq!(engine.load().active, 0);
}
