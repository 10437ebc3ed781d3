//! The engines behind HTTP against a server that replays what real ones send.

mod support;

use std::time::Duration;

use engine::{
    ApiKey, DiscoverOptions, Engine, EngineError, EngineEvent, OllamaEngine, OllamaOptions,
    OpenAiEngine, OpenAiOptions, discover,
};
use expect_test::{Expect, expect};
use support::{
    begun, chat, run,
    stub::{End, Reply, Stub},
    text, tools,
};
use tokio_util::sync::CancellationToken;
use types::{
    ability::ToolAbility,
    inference::{AnswerForm, ChatMessage, InferenceRequest, Prompt, Role, Sampling},
    offer::EngineKind,
    tools::{ToolCall, ToolChoice, Tools},
};

const TAGS: &str = r#"{"models":[
    {"name":"llama3.2:1b","model":"llama3.2:1b","size":1321098329,
     "digest":"baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878"},
    {"name":"cloud","digest":"00","remote_host":"https://example.com:443"}]}"#;

fn show(digest: &str) -> String {
    format!(
        r#"{{"modelfile":"FROM /m/blobs/sha256-{digest}\n","template":"{{{{ .Prompt }}}}",
            "details":{{"format":"gguf"}},"capabilities":["completion","tools"],
            "model_info":{{"general.architecture":"llama","llama.context_length":131072,
            "tokenizer.ggml.tokens":null}}}}"#
    )
}

/// An Ollama of `version` with one model, whose answers are `answer`.
async fn ollama(version: &str, answer: Reply) -> (Stub, OllamaEngine) {
    let version = Reply::json(&format!(r#"{{"version":"{version}"}}"#));
    let stub = Stub::start(&[
        ("/api/version", version),
        ("/api/tags", Reply::json(TAGS)),
        ("/api/show", Reply::json(&show(&"ab".repeat(32)))),
        ("/api/chat", answer.clone()),
        ("/api/generate", answer),
    ])
    .await;
    let engine = OllamaEngine::connect(OllamaOptions::at(&stub.url)).await.unwrap();
    engine.models().await.unwrap();
    (stub, engine)
}

const LLAMA_MODELS: &str = r#"{"object":"list","data":[{"id":"/srv/models/ember.gguf",
    "object":"model","created":1795236249,"owned_by":"llamacpp","meta":{"vocab_type":1,
    "n_vocab":1024,"n_ctx_train":512,"n_embd":128,"n_params":1115520,"size":2233856}}]}"#;
const LLAMA_PROPS: &str = r#"{"default_generation_settings":{"params":{},"n_ctx":512},
    "total_slots":2,"model_path":"/srv/models/ember.gguf","chat_template":"{{ messages }}",
    "build_info":"b6000-abcdef"}"#;

/// A llama-server with one model, whose answers are `answer`.
async fn llama_server(answer: Reply) -> (Stub, OpenAiEngine) {
    let stub = Stub::start(&[
        ("/v1/models", Reply::json(LLAMA_MODELS)),
        ("/props", Reply::json(LLAMA_PROPS)),
        ("/v1/chat/completions", answer.clone()),
        ("/v1/completions", answer),
    ])
    .await;
    let engine = OpenAiEngine::connect(OpenAiOptions::at(&stub.url)).await.unwrap();
    (stub, engine)
}

/// A chunk as llama-server sends it.
fn content(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    format!(
        "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"content\":{text}}}}}]}}\n\n"
    )
}

const ROLE: &str = "data: {\"choices\":[{\"finish_reason\":null,\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n";
const FINISH: &str =
    "data: {\"choices\":[{\"finish_reason\":\"stop\",\"index\":0,\"delta\":{}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"completion_tokens\":3,\"prompt_tokens\":9,\"total_tokens\":12}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

async fn check_models(engine: &dyn Engine, expected: Expect) {
    expected.assert_debug_eq(&engine.models().await.unwrap());
}

/// The only model's answer to `request`.
async fn check(engine: &dyn Engine, request: InferenceRequest, expected: Expect) {
    let model = engine.models().await.unwrap()[0].id;
    expected.assert_eq(&run(engine, model, request).await.summary());
}

/// How `request` is refused before it begins.
async fn check_refused(engine: &dyn Engine, request: InferenceRequest, expected: Expect) {
    let model = engine.models().await.unwrap()[0].id;
    let refused = engine.generate(model, request, CancellationToken::new()).await.unwrap_err();
    let EngineError::Refused { status, message, .. } = &refused else {
        return expected.assert_eq(&refused.to_string());
    };
    expected.assert_eq(&format!("{status}: {message}"));
}

#[tokio::test]
async fn ollamas_models_are_known_by_the_digest_of_their_weights() {
    let (stub, engine) = ollama("0.12.11", Reply::json("")).await;
    check_models(
        &engine,
        expect![[r#"
            [
                EngineModel {
                    id: ModelId(37aa95f7bd15897b3b72a7b0881036c58baa3cd735966e9c22fc396c512fce2c),
                    alias: "llama3.2:1b",
                    weights: Hash32(abababababababababababababababababababababababababababababababab),
                    weights_known: true,
                    context_tokens: 8192,
                    abilities: Abilities {
                        completions: true,
                        embeddings: None,
                        logprobs: true,
                        json: true,
                        tools: Auto,
                        samplers: true,
                    },
                },
            ]
        "#]],
    )
    .await;
    assert_eq!(engine.version(), "ollama 0.12.11");
    engine.models().await.unwrap();
    assert_eq!(stub.count("/api/show"), 1, "a model is described once");
}

const OLLAMA_ANSWER: [&str; 3] = [
    "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"Hel\"},\"done\":false}\n{\"message\":{\"content\":\"l\\u00f6\"},\"do",
    "ne\":false}\n{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,",
    "\"done_reason\":\"stop\",\"prompt_eval_count\":11,\"eval_count\":3}\n",
];

#[tokio::test]
async fn ollama_answers_a_chat() {
    let (stub, engine) = ollama("0.12.11", Reply::chunks(OLLAMA_ANSWER)).await;
    let sampling = Sampling {
        temperature_micros: Some(500_000),
        top_p_micros: Some(900_000),
        seed: Some(u64::MAX),
        ..Sampling::default()
    };
    let request = InferenceRequest { sampling, stop: vec!["END".into()], ..chat("Hi") };
    check(
        &engine,
        request,
        expect![[r#"["Hel", "lö"] Stop, prompt Some(11), completion Some(3), Chunks"#]],
    )
    .await;
    expect![[r#"{"model":"llama3.2:1b","messages":[{"role":"user","content":"Hi"}],"stream":true,"think":false,"truncate":false,"shift":false,"options":{"num_ctx":8192,"num_predict":16,"seed":2147483647,"temperature":0.5,"top_p":0.9,"stop":["END"]}}"#]].assert_eq(&stub.asked("/api/chat").body);
}

#[tokio::test]
async fn ollama_continues_text_without_a_template() {
    let answer = [
        r#"{"response":" time","done":false}"#,
        "\n",
        r#"{"response":"","done":true,"done_reason":"length"}"#,
    ];
    let (stub, engine) = ollama("0.12.11", Reply::chunks(answer)).await;
    let request = InferenceRequest { tokens_max: None, ..text("Once upon a") };
    check(&engine, request, expect![[r#"[" time"] Length, prompt None, completion None, Chunks"#]])
        .await;
    expect![[r#"{"model":"llama3.2:1b","prompt":"Once upon a","raw":true,"stream":true,"think":false,"truncate":false,"shift":false,"options":{"num_ctx":8192,"num_predict":8192,"temperature":0.0}}"#]].assert_eq(&stub.asked("/api/generate").body);
}

#[tokio::test]
async fn a_begun_answer_is_gone_on_with() {
    let end = r#"{"message":{"content":"!"},"done":true,"done_reason":"stop"}"#;
    let answer = Reply::chunks([format!("{end}\n")]);
    let (stub, engine) = ollama("0.12.11", answer).await;
    let model = engine.models().await.unwrap()[0].id;
    run(&engine, model, begun("Hel", chat("Hi"))).await;
    let asked = stub.asked("/api/chat").body;
    let messages =
        r#""messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hel"}]"#;
    assert!(asked.contains(messages), "{asked}");

    let (stub, engine) = llama_server(Reply::chunks([ROLE, FINISH, USAGE, DONE])).await;
    let model = engine.models().await.unwrap()[0].id;
    run(&engine, model, begun("Hel", chat("Hi"))).await;
    let asked = stub.asked("/v1/chat/completions").body;
    assert!(asked.contains(messages) && !asked.contains("continue_final"), "{asked}");
}

#[tokio::test]
async fn an_answer_is_held_to_a_form() {
    let held = |form| InferenceRequest { form: Some(form), ..chat("Hi") };
    let schema = || AnswerForm::Schema(r#"{"type":"object"}"#.to_owned());
    let end = r#"{"message":{"content":"{}"},"done":true,"done_reason":"stop"}"#;
    for (form, sent) in
        [(AnswerForm::Json, r#""format":"json""#), (schema(), r#""format":{"type":"object"}"#)]
    {
        let (stub, engine) = ollama("0.12.11", Reply::chunks([format!("{end}\n")])).await;
        let model = engine.models().await.unwrap()[0].clone();
        assert!(model.abilities.json);
        run(&engine, model.id, held(form)).await;
        let asked = stub.asked("/api/chat").body;
        assert!(asked.contains(sent), "{asked}");
    }
    for (form, sent) in [
        (AnswerForm::Json, r#""response_format":{"type":"json_object"}"#),
        (schema(), r#""schema":{"type":"object"},"strict":true},"type":"json_schema"}"#),
    ] {
        let (stub, engine) = llama_server(Reply::chunks([ROLE, FINISH, USAGE, DONE])).await;
        let model = engine.models().await.unwrap()[0].id;
        run(&engine, model, held(form)).await;
        let asked = stub.asked("/v1/chat/completions").body;
        assert!(asked.contains(sent), "{asked}");
        let broken = held(AnswerForm::Schema("{".to_owned()));
        let refused = engine.generate(model, broken, CancellationToken::new()).await.unwrap_err();
        assert!(matches!(refused, EngineError::BadRequest { .. }), "{refused}");
    }
}

/// A question, a call, and its result.
fn called() -> InferenceRequest {
    let call = ToolCall {
        id: "call_0".to_owned(),
        name: "weather".to_owned(),
        arguments: r#"{"city":"Rome"}"#.to_owned(),
    };
    let messages = vec![
        ChatMessage::text(Role::User, "Weather?".to_owned()),
        ChatMessage { calls: vec![call], ..ChatMessage::text(Role::Assistant, String::new()) },
        ChatMessage {
            call_id: Some("call_0".to_owned()),
            ..ChatMessage::text(Role::Tool, "sun".to_owned())
        },
    ];
    tools(InferenceRequest { prompt: Prompt::Chat(messages), ..chat("") })
}

/// A chunk of llama-server with a part of a call.
fn call_delta(call: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"finish_reason\":null,\"index\":0,\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\n"
    )
}

const TOOL_PROPS: &str = r#"{"chat_template":"{{ tools }}","build_info":"b7000-abcdef",
    "chat_template_caps":{"supports_tools":true,"supports_tool_calls":true}}"#;

/// A llama-server whose model knows tools.
async fn llama_server_with_tools(answer: &[String]) -> (Stub, OpenAiEngine) {
    let stub = Stub::start(&[
        ("/v1/models", Reply::json(LLAMA_MODELS)),
        ("/props", Reply::json(TOOL_PROPS)),
        ("/v1/chat/completions", Reply::chunks(answer)),
    ])
    .await;
    let engine = OpenAiEngine::connect(OpenAiOptions::at(&stub.url)).await.unwrap();
    (stub, engine)
}

#[tokio::test]
async fn a_server_calls_tools() {
    let finish =
        "data: {\"choices\":[{\"finish_reason\":\"tool_calls\",\"index\":0,\"delta\":{}}]}\n\n";
    let (stub, engine) = llama_server_with_tools(&[
        ROLE.to_owned(),
        content("Let me see."),
        call_delta(r#"{"index":0,"id":"x","type":"function","function":{"name":"weather","arguments":"{\"city\""}}"#),
        call_delta(r#"{"index":0,"function":{"arguments":":\"Rö"}}"#),
        call_delta(r#"{"index":0,"function":{"arguments":"m\"}"}}"#),
        // One that came whole, and one without arguments.
        call_delta(r#"{"index":1,"id":"y","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}"#),
        call_delta(r#"{"index":2,"id":"z","type":"function","function":{"name":"time"}}"#),
        finish.to_owned(),
        USAGE.to_owned(),
        DONE.to_owned(),
    ])
    .await;
    let model = engine.models().await.unwrap()[0].clone();
    assert_eq!(model.abilities.tools, ToolAbility::Forced);
    let mut request = called();
    request.tools.as_mut().unwrap().choice = ToolChoice::Named("weather".to_owned());
    request.tokens_max = None;
    check(&engine, request, expect![[r#"["Let me see.", "call weather", "with {\"city\"", "with :\"Rö", "with m\"}", "call weather", "with {\"city\":\"Oslo\"}", "call time", "with {}"] Stop, prompt Some(9), completion Some(3), Chunks"#]]).await;
    expect![[r#"{"model":"/srv/models/ember.gguf","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"","tool_calls":[{"id":"call_0","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Rome\"}"}}]},{"role":"tool","content":"sun","tool_call_id":"call_0"}],"reasoning_format":"none","tools":[{"type":"function","function":{"name":"weather","description":"Tells it.","parameters":{"type":"object"}}}],"tool_choice":{"function":{"name":"weather"},"type":"function"},"parallel_tool_calls":true,"stream":true,"stream_options":{"include_usage":true},"temperature":0.0}"#]].assert_eq(&stub.asked("/v1/chat/completions").body);
}

#[tokio::test]
async fn a_call_that_makes_no_sense_breaks_the_answer_off() {
    for (call, told) in [
        (r#"{"index":0,"function":{"arguments":"{}"}}"#, "a call without the name of a tool"),
        (r#"{"index":0,"function":{"name":""}}"#, "a call without the name of a tool"),
    ] {
        let (_stub, engine) = llama_server_with_tools(&[ROLE.to_owned(), call_delta(call)]).await;
        let model = engine.models().await.unwrap()[0].id;
        let EngineEvent::Failed { reason } = run(&engine, model, tools(chat("x"))).await.last
        else {
            panic!("{call}")
        };
        assert!(reason.contains(told), "{reason}");
    }
}

#[tokio::test]
async fn ollama_calls_tools() {
    let call = r#"{"message":{"role":"assistant","content":"","tool_calls":[
        {"id":"call_x","function":{"index":0,"name":"weather","arguments":{"city":"Oslo","days":[1,2,3]}}},
        {"function":{"name":"time","arguments":{}}}]},"done":false}"#;
    let end = r#"{"message":{"content":""},"done":true,"done_reason":"stop"}"#;
    let answer = Reply::chunks([format!("{}\n", call.replace('\n', " ")), format!("{end}\n")]);
    let (stub, engine) = ollama("0.12.11", answer.clone()).await;
    check(&engine, called(), expect![[r#"["call weather", "with {\"ci", "with ty\":", "with \"Osl", "with o\",\"", "with days", "with \":[1", "with ,2,3", "with ]}", "call time", "with {}"] Stop, prompt None, completion None, Chunks"#]]).await;
    expect![[r#"{"model":"llama3.2:1b","messages":[{"role":"user","content":"Weather?"},{"role":"assistant","content":"","tool_calls":[{"id":"call_0","function":{"name":"weather","arguments":{"city":"Rome"}}}]},{"role":"tool","content":"sun","tool_name":"weather","tool_call_id":"call_0"}],"tools":[{"type":"function","function":{"name":"weather","description":"Tells it.","parameters":{"type":"object"}}}],"stream":true,"think":false,"truncate":false,"shift":false,"options":{"num_ctx":8192,"num_predict":16,"temperature":0.0}}"#]].assert_eq(&stub.asked("/api/chat").body);
    // It cannot be told to call one only, nor to call at all.
    let (_stub, engine) = ollama("0.12.11", answer).await;
    let with = |change: fn(&mut Tools)| {
        let mut request = tools(chat("x"));
        request.tools.as_mut().map(change);
        request
    };
    check(&engine, with(|tools| tools.parallel = false), expect![[r#"["call weather", "with {\"ci", "with ty\":", "with \"Osl", "with o\",\"", "with days", "with \":[1", "with ,2,3", "with ]}"] Stop, prompt None, completion None, Chunks"#]]).await;
    check_refused(
        &engine,
        with(|tools| tools.choice = ToolChoice::Required),
        expect!["the model cannot do this here: cannot be made to call a tool"],
    )
    .await;
    // However short the answer was to be, a call is whole.
    let short = InferenceRequest { tokens_max: Some(3), ..with(|tools| tools.parallel = false) };
    check(&engine, short, expect![[r#"["call weather", "with {\"city\":\"Oslo\",", "with \"days\":[1,2,3]}"] Stop, prompt None, completion None, Chunks"#]]).await;
}

#[tokio::test]
async fn samplers_are_passed_on_by_the_servers_names() {
    let sampling = Sampling {
        top_k: Some(40),
        min_p_micros: Some(50_000),
        repeat_penalty_micros: Some(1_100_000),
        ..Sampling::default()
    };
    let request = || InferenceRequest { sampling: sampling.clone(), ..chat("Hi") };
    let (stub, engine) = llama_server(Reply::chunks([ROLE, FINISH, USAGE, DONE])).await;
    let model = engine.models().await.unwrap()[0].id;
    run(&engine, model, request()).await;
    let asked = stub.asked("/v1/chat/completions").body;
    assert!(asked.contains(r#""top_k":40,"min_p":0.05,"repeat_penalty":1.1}"#), "{asked}");
    let end = r#"{"message":{"content":"!"},"done":true,"done_reason":"stop"}"#;
    let (stub, engine) = ollama("0.12.11", Reply::chunks([format!("{end}\n")])).await;
    let model = engine.models().await.unwrap()[0].id;
    run(&engine, model, request()).await;
    let asked = stub.asked("/api/chat").body;
    assert!(asked.contains(r#""top_k":40,"min_p":0.05,"repeat_penalty":1.1}"#), "{asked}");
}

#[tokio::test]
async fn ollama_tells_log_probabilities_per_token() {
    let answer = r#"{"message":{"content":" Hi"},"done":false,"logprobs":[{"token":" Hi","logprob":-0.25,
        "bytes":[32,72,105],"top_logprobs":[{"token":" Hi","logprob":-0.25},{"token":" Ho","logprob":-2.0}]}]}"#;
    let end = r#"{"message":{"content":""},"done":true,"done_reason":"stop"}"#;
    let answer = Reply::chunks([answer.replace('\n', " "), format!("\n{end}\n")]);
    let (_stub, engine) = ollama("0.12.11", answer).await;
    let model = engine.models().await.unwrap()[0].id;
    let request = InferenceRequest { logprobs: Some(1), ..chat("Hi") };
    let answer = run(&engine, model, request).await;
    expect![[r#"
        [
            TokenPiece {
                span: Text,
                id: None,
                bytes: [
                    32,
                    72,
                    105,
                ],
                logprob_micros: Some(
                    -250000,
                ),
                alternatives: [
                    Alternative {
                        id: None,
                        bytes: [
                            32,
                            72,
                            105,
                        ],
                        logprob_micros: -250000,
                    },
                ],
                projection: None,
            },
        ]
    "#]]
    .assert_debug_eq(&answer.pieces);
}

#[tokio::test]
async fn an_old_ollama_is_not_asked_for_what_it_cannot_do() {
    let (_stub, engine) = ollama("0.12.10", Reply::chunks(OLLAMA_ANSWER)).await;
    let request = InferenceRequest { logprobs: Some(0), ..chat("Hi") };
    check_refused(
        &engine,
        request,
        expect![
            "this engine does not support log-probabilities; update Ollama to 0.12.11 or later"
        ],
    )
    .await;
    let (_stub, engine) = ollama("0.9.6", Reply::chunks(OLLAMA_ANSWER)).await;
    check_refused(&engine, chat(&"long ".repeat(2_000)), expect!["this engine does not support prompts that may exceed the context, which this version cuts silently; update Ollama to 0.12.6 or later"]).await;
    check(
        &engine,
        chat("short"),
        expect![[r#"["Hel", "lö"] Stop, prompt Some(11), completion Some(3), Chunks"#]],
    )
    .await;
}

#[tokio::test]
async fn an_answer_of_ollama_that_breaks_off_is_a_failure() {
    let begun = OLLAMA_ANSWER[0];
    for (reply, expected) in [
        (
            Reply::chunks([begun]),
            expect![[
                r#"["Hel"] failed: it sent something unexpected: EOF while parsing a string at line 1 column 36"#
            ]],
        ),
        (
            Reply::chunks([begun]).ending(End::Cut),
            expect![[r#"["Hel"] failed: the connection broke: request or response body error"#]],
        ),
        (
            Reply::chunks(["{\"error\":\"out of memory\"}\n"]),
            expect!["[] failed: it says: out of memory"],
        ),
        (
            Reply::chunks(["<html>\n"]),
            expect!["[] failed: it sent something unexpected: expected value at line 1 column 1"],
        ),
        (
            Reply::chunks(["{\"done\":true,\"done_reason\":\"load\"}\n"]),
            expect!["[] failed: it ended without a reason to finish"],
        ),
    ] {
        let (_stub, engine) = ollama("0.12.11", reply).await;
        check(&engine, chat("Hi"), expected).await;
    }
    let missing = Reply::error(404, r#"{"error":"model 'x' not found"}"#);
    let (_stub, engine) = ollama("0.12.11", missing).await;
    check_refused(&engine, chat("Hi"), expect!["404: model 'x' not found"]).await;
}

#[tokio::test]
async fn a_llama_server_describes_its_model_without_its_path() {
    let (_stub, engine) = llama_server(Reply::json("")).await;
    check_models(
        &engine,
        expect![[r#"
            [
                EngineModel {
                    id: ModelId(0b807941e38dbc0dee13d3416d4e8e8f5a99fd03e5fad9e8f8f656f8e9ef94c3),
                    alias: "ember",
                    weights: Hash32(ddc526ac9bfa2da088937a99cc07749c9b4c3d8701fe4e628982dcbea7be3d2e),
                    weights_known: false,
                    context_tokens: 512,
                    abilities: Abilities {
                        completions: true,
                        embeddings: None,
                        logprobs: true,
                        json: true,
                        tools: None,
                        samplers: true,
                    },
                },
            ]
        "#]],
    )
    .await;
    assert_eq!(engine.version(), "llama.cpp b6000-abcdef");
    assert_eq!(engine.load().slots, 2);
}

#[tokio::test]
async fn a_chat_without_log_probabilities_is_counted_in_chunks() {
    let answer = Reply::chunks([ROLE, &content(" Hi"), &content("!"), FINISH, USAGE, DONE]);
    let (stub, engine) = llama_server(answer).await;
    check(
        &engine,
        chat("Hi"),
        expect![[r#"[" Hi", "!"] Stop, prompt Some(9), completion Some(3), Chunks"#]],
    )
    .await;
    expect![[r#"{"model":"/srv/models/ember.gguf","messages":[{"role":"user","content":"Hi"}],"reasoning_format":"none","stream":true,"stream_options":{"include_usage":true},"max_tokens":16,"temperature":0.0}"#]].assert_eq(&stub.asked("/v1/chat/completions").body);
}

#[tokio::test]
async fn tokens_that_come_with_ids_are_counted_by_them() {
    let hi = r#"data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":" Hi"},"logprobs":{"content":[{"id":742,"token":" Hi","bytes":[32,72,105],"logprob":-0.31371966004371643,"top_logprobs":[{"id":742,"token":" Hi","bytes":[32,72,105],"logprob":-0.31371966004371643},{"id":558,"token":" Hello","bytes":[32,72,101,108,108,111],"logprob":-1.4425039291381836}]}]}}]}"#;
    let answer = Reply::chunks([ROLE, hi, "\n\n", FINISH, USAGE, DONE]);
    let (stub, engine) = llama_server(answer).await;
    let model = engine.models().await.unwrap()[0].id;
    let request = InferenceRequest { logprobs: Some(0), ..chat("Hi") };
    let answer = run(&engine, model, request).await;
    expect![[r#"[" Hi"] Stop, prompt Some(9), completion Some(3), TokenIds"#]]
        .assert_eq(&answer.summary());
    expect![[r#"
        [
            TokenPiece {
                span: Text,
                id: Some(
                    742,
                ),
                bytes: [
                    32,
                    72,
                    105,
                ],
                logprob_micros: Some(
                    -313720,
                ),
                alternatives: [],
                projection: None,
            },
        ]
    "#]]
    .assert_debug_eq(&answer.pieces);
    let body = stub.asked("/v1/chat/completions").body;
    assert!(body.contains(r#""logprobs":true,"top_logprobs":1"#), "{body}");
}

#[tokio::test]
async fn the_last_event_may_lack_its_end() {
    for chunks in [
        vec![content(" Hi"), FINISH.to_owned()],
        vec![content(" Hi"), FINISH.trim_end().to_owned()],
        vec![content(" Hi"), FINISH.to_owned(), "data: [DONE]".to_owned()],
    ] {
        let (_stub, engine) = llama_server(Reply::chunks(chunks)).await;
        check(
            &engine,
            chat("Hi"),
            expect![[r#"[" Hi"] Stop, prompt None, completion None, Chunks"#]],
        )
        .await;
    }
}

#[tokio::test]
async fn a_stream_without_a_reason_to_finish_is_a_failure() {
    let error = "data: {\"error\":{\"code\":500,\"message\":\"slot unavailable\"}}\n\n";
    let long = format!("data: {}\n\n", "x".repeat(2 << 20));
    for (reply, expected) in [
        (
            Reply::chunks([content(" Hi")]),
            expect![[r#"[" Hi"] failed: it ended without a reason to finish"#]],
        ),
        (
            Reply::chunks([content(" Hi"), DONE.to_owned()]),
            expect![[r#"[" Hi"] failed: it ended without a reason to finish"#]],
        ),
        (
            Reply::chunks([content(" Hi")]).ending(End::Cut),
            expect![[r#"[" Hi"] failed: the connection broke: request or response body error"#]],
        ),
        (
            Reply::chunks([content(" Hi"), error.to_owned()]),
            expect![[r#"[" Hi"] failed: it says: slot unavailable"#]],
        ),
        (
            Reply::chunks([content(" Hi"), error.replace("data:", "error:")]),
            expect![[r#"[" Hi"] failed: it says: slot unavailable"#]],
        ),
        (
            Reply::chunks([content(" Hi"), long]),
            expect![[r#"[" Hi"] failed: it sent a line of more than 1048576 bytes"#]],
        ),
        (
            Reply::chunks(["data: {]\n\n"]),
            expect![
                "[] failed: it sent something unexpected: key must be a string at line 1 column 2"
            ],
        ),
        (
            Reply::chunks([FINISH.replace("stop", "tool_calls")]),
            expect!["[] Stop, prompt None, completion None, TokenIds"],
        ),
    ] {
        let (_stub, engine) = llama_server(reply).await;
        check(&engine, chat("Hi"), expected).await;
    }
}

#[tokio::test]
async fn a_refusal_is_told_with_the_servers_words() {
    let full = r#"{"error":{"code":400,"message":"request (3008 tokens) exceeds the available context size (512 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":3008,"n_ctx":512}}"#;
    for (reply, expected) in [
        (
            Reply::error(400, full),
            expect!["the prompt has 3008 tokens, the model's context holds 512"],
        ),
        (
            Reply::error(401, r#"{"error":{"message":"Invalid API Key"}}"#),
            expect!["401: Invalid API Key"],
        ),
        (Reply::error(503, ""), expect!["503: Service Unavailable"]),
    ] {
        let (_stub, engine) = llama_server(reply).await;
        check_refused(&engine, chat("Hi"), expected).await;
    }
}

#[tokio::test]
async fn what_the_server_does_not_honour_is_honoured_here() {
    let answer = || Reply::chunks(["one ", "EN", "D two"].map(content)).ending(End::Hang);
    let (_stub, engine) = llama_server(answer()).await;
    let request = InferenceRequest { stop: vec!["END".into()], ..chat("Hi") };
    check(&engine, request, expect![[r#"["one "] Stop, prompt None, completion None, Chunks"#]])
        .await;
    let (_stub, engine) = llama_server(answer()).await;
    let request = InferenceRequest { tokens_max: Some(2), ..chat("Hi") };
    check(
        &engine,
        request,
        expect![[r#"["one ", "EN"] Length, prompt None, completion None, Chunks"#]],
    )
    .await;
}

#[tokio::test]
async fn cancelling_and_leaving_end_the_request_at_the_server() {
    for leave in [false, true] {
        let answer = Reply::chunks([content(" Hi")]).ending(End::Hang);
        let (mut stub, engine) = llama_server(answer).await;
        let model = engine.models().await.unwrap()[0].id;
        let cancel = CancellationToken::new();
        let mut generation = engine.generate(model, chat("Hi"), cancel.clone()).await.unwrap();
        assert!(matches!(generation.events.recv().await, Some(EngineEvent::Token(_))));
        assert_eq!(engine.load().active, 1);
        let before = stub.count("/v1/models") + stub.count("/props");
        if leave {
            drop(generation);
        } else {
            cancel.cancel();
            let last = generation.events.recv().await;
            expect![[r#"
                Some(
                    Done {
                        finish: Cancelled,
                        usage: Usage {
                            prompt_tokens: None,
                            completion_tokens: None,
                            counted: Chunks,
                        },
                    },
                )
            "#]]
            .assert_debug_eq(&last);
        }
        // The bodies of the questions, and then that of the answer.
        for _ in 0..before + 1 {
            stub.body_dropped().await;
        }
    }
}

#[tokio::test]
async fn a_key_is_sent_and_not_shown() {
    let stub = Stub::start(&[("/v1/models", Reply::json(r#"{"data":[{"id":"m"}]}"#))]).await;
    let options = OpenAiOptions {
        api_key: Some(ApiKey::new("sk-very-secret".to_owned())),
        ..OpenAiOptions::at(&format!("{}/v1/", stub.url))
    };
    assert!(!format!("{options:?}").contains("secret"));
    let engine = OpenAiEngine::connect(options).await.unwrap();
    assert!(!format!("{engine:?}").contains("secret"));
    let asked = stub.asked("/v1/models");
    assert_eq!(asked.authorization.as_deref(), Some("Bearer sk-very-secret"));
    // Of a server that is neither llama-server nor vLLM little is known.
    check_models(
        &engine,
        expect![[r#"
            [
                EngineModel {
                    id: ModelId(c57c09958209d9b016f62b3ff3957b0c823ffef38f0f843aac81b545c44eab0d),
                    alias: "m",
                    weights: Hash32(a7653f1d0b788af6f76422b0c3ef6ddadd93f82b8a9bee0ed4f9814296c73394),
                    weights_known: false,
                    context_tokens: 4096,
                    abilities: Abilities {
                        completions: true,
                        embeddings: None,
                        logprobs: false,
                        json: false,
                        tools: None,
                        samplers: false,
                    },
                },
            ]
        "#]],
    )
    .await;
    let request = InferenceRequest { logprobs: Some(1), ..chat("Hi") };
    check_refused(&engine, request, expect!["the model cannot do this here: no log-probabilities"])
        .await;
}

#[tokio::test]
async fn an_engine_that_is_not_there_says_so() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let ollama = OllamaEngine::connect(OllamaOptions::at(&url)).await.unwrap_err();
    assert_eq!(ollama.to_string(), format!("the engine at {url} does not answer; is it running?"));
    let openai = OpenAiEngine::connect(OpenAiOptions::at(&url)).await;
    assert!(matches!(openai, Err(EngineError::Unreachable { .. })));
}

#[tokio::test]
async fn what_runs_on_this_machine_is_found() {
    let (ollama, _) = ollama("0.12.11", Reply::json("")).await;
    let (llama, _) = llama_server(Reply::json("")).await;
    let other = Stub::start(&[("/v1/models", Reply::json(r#"{"data":[]}"#))]).await;
    let found = async |ollama: &str, llama: &str| -> Vec<String> {
        let options = DiscoverOptions {
            ollama_url: ollama.to_owned(),
            llama_server_url: llama.to_owned(),
            timeout: Duration::from_secs(10),
        };
        let found = discover(&options).await;
        found
            .iter()
            .map(|found| format!("{} {}", found.engine.version(), found.models.len()))
            .collect()
    };
    assert_eq!(
        found(&ollama.url, &llama.url).await,
        ["ollama 0.12.11 1", "llama.cpp b6000-abcdef 1"]
    );
    // Something else listens there.
    assert_eq!(found(&other.url, &other.url).await, Vec::<String>::new());
    assert_eq!(found(&ollama.url, &other.url).await, ["ollama 0.12.11 1"]);
}

#[tokio::test]
async fn what_is_sold_on_is_said_to_be() {
    let models = r#"{"data":[{"id":"big"},{"id":"small"},{"id":"other"}]}"#;
    let finish =
        [ROLE.to_owned(), content("Hi"), FINISH.to_owned(), USAGE.to_owned(), DONE.to_owned()];
    let stub = Stub::start(&[
        ("/v1/models", Reply::json(models)),
        ("/v1/chat/completions", Reply::chunks(finish)),
    ])
    .await;
    let options = |names: &[&str]| OpenAiOptions {
        models: names.iter().map(|name| (*name).to_owned()).collect(),
        resold: true,
        api_key: Some(ApiKey::new("secret".to_owned())),
        ..OpenAiOptions::at(&stub.url)
    };
    let engine = OpenAiEngine::connect(options(&["small", "big"])).await.unwrap();
    assert_eq!(engine.kind(), EngineKind::Resold);
    assert_eq!(engine.version(), format!("resold from {}", stub.url.trim_start_matches("http://")));
    let models = engine.models().await.unwrap();
    let names: Vec<&str> = models.iter().map(|model| model.alias.as_str()).collect();
    assert_eq!(names, ["big", "small"]);
    assert_eq!(models[0].abilities.tools, ToolAbility::Forced);
    check(
        &engine,
        tools(chat("Hi")),
        expect![[r#"["Hi"] Stop, prompt Some(9), completion Some(3), Chunks"#]],
    )
    .await;
    let missing = OpenAiEngine::connect(options(&["small", "huge"])).await.unwrap_err();
    assert!(missing.to_string().ends_with("lists no model `huge`"), "{missing}");
}
