//! Whole answers of a server with OpenAI's API, for those who need nothing before the end.

mod support;

use engine::{Engine, EngineError, EngineEvent, OpenAiEngine, OpenAiOptions};
use expect_test::{Expect, expect};
use support::{
    Answer, chat,
    stub::{End, Reply, Stub},
    text, tools,
};
use tokio_util::sync::CancellationToken;
use types::{ModelId, inference::InferenceRequest};

const MODELS: &str = r#"{"object":"list","data":[{"id":"cloud-model","object":"model"}]}"#;
const USAGE: &str = r#","usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}"#;

/// A service whose answers are `answer`.
async fn service(answer: Reply) -> (Stub, OpenAiEngine, ModelId) {
    let stub = Stub::start(&[
        ("/v1/models", Reply::json(MODELS)),
        ("/v1/chat/completions", answer.clone()),
        ("/v1/completions", answer),
    ])
    .await;
    let options = OpenAiOptions { resold: true, ..OpenAiOptions::at(&stub.url) };
    let engine = OpenAiEngine::connect(options).await.unwrap();
    let model = engine.models().await.unwrap()[0].id;
    (stub, engine, model)
}

fn body(message: &str, finish: &str, usage: &str) -> String {
    format!(
        r#"{{"id":"x","object":"chat.completion","choices":[{{"index":0,"message":{message},"logprobs":null,"finish_reason":{finish}}}]{usage}}}"#
    )
}

async fn whole(
    engine: &OpenAiEngine,
    model: ModelId,
    request: InferenceRequest,
) -> Result<Answer, EngineError> {
    let generation = engine.answer_whole(model, request, CancellationToken::new()).await?;
    let (mut events, mut pieces) = (generation.events, Vec::new());
    loop {
        match events.recv().await.expect("an end") {
            EngineEvent::Token(piece) => pieces.push(piece),
            last => return Ok(Answer { pieces, last }),
        }
    }
}

async fn check(reply: Reply, request: InferenceRequest, expected: Expect) {
    let (_stub, engine, model) = service(reply).await;
    assert!(engine.answers_whole(&request));
    expected.assert_eq(&whole(&engine, model, request).await.unwrap().summary());
}

#[tokio::test]
async fn it_is_asked_for_without_a_stream_and_counted_by_its_usage() {
    let message = r#"{"role":"assistant","content":"Hel\u006cö, you","tool_calls":[]}"#;
    let (stub, engine, model) = service(Reply::json(&body(message, r#""stop""#, USAGE))).await;
    let answer = whole(&engine, model, chat("Hi")).await.unwrap();
    expect![[r#"["Hellö, you"] Stop, prompt Some(9), completion Some(3), Chunks"#]]
        .assert_eq(&answer.summary());
    expect![[r#"{"model":"cloud-model","messages":[{"role":"user","content":"Hi"}],"stream":false,"max_tokens":16,"temperature":0.0}"#]].assert_eq(&stub.asked("/v1/chat/completions").body);

    let end = format!(r#"{{"choices":[{{"text":" time","finish_reason":"length"}}]{USAGE}}}"#);
    let expected = expect![[r#"[" time"] Length, prompt Some(9), completion Some(3), Chunks"#]];
    check(Reply::json(&end), text("Once upon a"), expected).await;
}

#[tokio::test]
async fn without_a_count_it_is_taken_for_tokens_of_the_usual_length() {
    let message = r#"{"role":"assistant","content":"one two three four"}"#;
    check(
        Reply::json(&body(message, r#""stop""#, "")),
        chat("Hi"),
        expect![[
            r#"["one ", "two ", "thre", "e fo", "ur"] Stop, prompt None, completion None, Chunks"#
        ]],
    )
    .await;
    check(
        Reply::json(&body(message, r#""stop""#, "")),
        InferenceRequest { tokens_max: Some(2), ..chat("Hi") },
        expect![[r#"["one two t", "hree four"] Stop, prompt None, completion None, Chunks"#]],
    )
    .await;
}

#[tokio::test]
async fn calls_of_tools_come_after_its_text() {
    let message = r#"{"role":"assistant","content":null,"tool_calls":[
        {"id":"a","type":"function","function":{"name":"weather","arguments":"{\"c\":1}"}},
        {"id":"b","type":"function","function":{"name":"weather","arguments":""}}]}"#;
    check(
        Reply::json(&body(message, r#""tool_calls""#, USAGE)),
        tools(chat("Weather?")),
        expect![[r#"["call weather", "with {\"c\":1}", "call weather", "with {}"] Stop, prompt Some(9), completion Some(3), Chunks"#]],
    )
    .await;
}

#[tokio::test]
async fn stop_sequences_are_honoured_here_too() {
    let message = r#"{"role":"assistant","content":"one END two"}"#;
    check(
        Reply::json(&body(message, r#""stop""#, USAGE)),
        InferenceRequest { stop: vec!["END".into()], ..chat("Hi") },
        expect![[r#"["one "] Stop, prompt None, completion None, Chunks"#]],
    )
    .await;
}

#[tokio::test]
async fn one_that_is_none_is_a_failure() {
    let message = r#"{"role":"assistant","content":"Hi"}"#;
    for (reply, expected) in [
        (
            Reply::json(&body(message, "null", USAGE)),
            expect![[r#"["Hi"] failed: it ended without a reason to finish"#]],
        ),
        (
            Reply::json(&body(message, r#""content_filter""#, USAGE)),
            expect!["[] failed: it says: it finished because of `content_filter`"],
        ),
        (
            Reply::json(r#"{"error":{"message":"out of memory"}}"#),
            expect!["[] failed: it says: out of memory"],
        ),
        (
            Reply::chunks([r#"{"choices":[{"mess"#]),
            expect![
                "[] failed: it sent something unexpected: EOF while parsing a string at line 1 column 18"
            ],
        ),
        (
            Reply::chunks([r#"{"choices":[{"mess"#]).ending(End::Cut),
            expect!["[] failed: the connection broke: request or response body error"],
        ),
        (
            Reply::chunks(vec!["x".repeat(1 << 20); 9]),
            expect!["[] failed: it sent an answer of more than 8388608 bytes"],
        ),
    ] {
        check(reply, chat("Hi"), expected).await;
    }
}

#[tokio::test]
async fn leaving_before_its_end_ends_the_request_at_the_server() {
    let (mut stub, engine, model) =
        service(Reply::chunks([r#"{"choices":"#]).ending(End::Hang)).await;
    let generation = engine.answer_whole(model, chat("Hi"), CancellationToken::new()).await;
    drop(generation.unwrap());
    // The list of models was sent whole, twice.
    for _ in 0..3 {
        stub.body_dropped().await;
    }
    assert_eq!(engine.load().active, 0);
}

#[tokio::test]
async fn a_service_that_only_streams_is_asked_for_streams() {
    let only = r#"{"error":{"message":"This model only support stream mode"}}"#;
    let (stub, engine, model) = service(Reply::error(400, only)).await;
    let refused = whole(&engine, model, chat("Hi")).await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused { status: 400, .. }), "{refused}");
    assert_eq!(stub.count("/v1/chat/completions"), 2);
    assert!(stub.asked("/v1/chat/completions").body.contains(r#""stream":true"#));
    assert!(engine.answers_whole(&chat("Hi")), "it takes no streams either");

    let (_stub, engine, _) = service(Reply::json("")).await;
    let with_logprobs = InferenceRequest { logprobs: Some(0), ..chat("Hi") };
    assert!(!engine.answers_whole(&with_logprobs));
}
