//! Bodies in, bodies out: whole, as a client sends and sees them.

use bytes::BytesMut;
use expect_test::{Expect, expect};
use types::{
    ModelId, Nusd,
    ability::Abilities,
    inference::{FinishReason, TokenPiece},
    price::Price,
};

use super::*;
use crate::api::{
    ApiError, Dialect,
    testing::{AWKWARD, answer, check_json, head, piece},
};

fn check(kind: Kind, body: &str, expect: Expect) {
    crate::api::testing::check(Dialect::OpenAi(kind), body, expect);
}

#[test]
fn a_chat_with_every_supported_field() {
    check(
        Kind::Chat,
        r#"{
            "model": "llama3.1:8b", "stream": true, "stream_options": {"include_usage": true},
            "messages": [
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo\n\"ü\" \u00e9"}], "name": null},
                {"role": "assistant", "content": null, "refusal": null, "tool_calls": [], "annotations": []},
                {"role": "user", "content": "Go on"}
            ],
            "max_completion_tokens": 40, "max_tokens": 40, "temperature": 0.7, "top_p": 1, "seed": 7,
            "stop": ["\n", "END"], "logprobs": true, "top_logprobs": 2, "presence_penalty": -0.5,
            "frequency_penalty": 2, "user": "u1", "n": 1, "response_format": {"type": "text"},
            "tools": [], "tool_choice": null, "logit_bias": {}, "store": false, "metadata": null
        }"#,
        expect![[r#"
            GenerationRequest {
                model: "llama3.1:8b",
                request: InferenceRequest {
                    prompt: Chat(
                        [
                            ChatMessage {
                                role: System,
                                content: "Be brief.",
                                calls: [],
                                call_id: None,
                            },
                            ChatMessage {
                                role: User,
                                content: "Hello\n\"ü\" é",
                                calls: [],
                                call_id: None,
                            },
                            ChatMessage {
                                role: Assistant,
                                content: "",
                                calls: [],
                                call_id: None,
                            },
                            ChatMessage {
                                role: User,
                                content: "Go on",
                                calls: [],
                                call_id: None,
                            },
                        ],
                    ),
                    sampling: Sampling {
                        temperature_micros: Some(
                            700000,
                        ),
                        top_p_micros: Some(
                            1000000,
                        ),
                        seed: Some(
                            7,
                        ),
                        presence_penalty_micros: Some(
                            -500000,
                        ),
                        frequency_penalty_micros: Some(
                            2000000,
                        ),
                        top_k: None,
                        min_p_micros: None,
                        repeat_penalty_micros: None,
                    },
                    tokens_max: Some(
                        40,
                    ),
                    stop: [
                        "\n",
                        "END",
                    ],
                    logprobs: Some(
                        2,
                    ),
                    begun: None,
                    form: None,
                    tools: None,
                },
                stream: true,
                include_usage: true,
                context_tokens_min: None,
            }"#]],
    );
}

#[test]
fn a_completion_with_its_own_fields() {
    check(
        Kind::Text,
        r#"{"model": "m", "prompt": ["Once"], "logprobs": 3, "stop": "x", "echo": false, "suffix": null, "best_of": 1}"#,
        expect![[r#"
            GenerationRequest {
                model: "m",
                request: InferenceRequest {
                    prompt: Text(
                        "Once",
                    ),
                    sampling: Sampling {
                        temperature_micros: None,
                        top_p_micros: None,
                        seed: None,
                        presence_penalty_micros: None,
                        frequency_penalty_micros: None,
                        top_k: None,
                        min_p_micros: None,
                        repeat_penalty_micros: None,
                    },
                    tokens_max: None,
                    stop: [
                        "x",
                    ],
                    logprobs: Some(
                        3,
                    ),
                    begun: None,
                    form: None,
                    tools: None,
                },
                stream: false,
                include_usage: false,
                context_tokens_min: None,
            }"#]],
    );
}

/// One line per refused body.
fn refused(kind: Kind, bodies: &[&str], expect: Expect) {
    crate::api::testing::refused(Dialect::OpenAi(kind), bodies, expect);
}

#[test]
fn what_is_not_json_is_refused_with_the_place() {
    refused(
        Kind::Chat,
        &[
            "",
            "[]",
            "nonsense",
            r#"{"model": "m", "messages": [{"role": "user", "content": "x""#,
            r#"{"model": "m"} x"#,
        ],
        expect![[r#"
            -: the body is not valid JSON: EOF while parsing a value at line 1 column 0
            -: invalid type: sequence, expected a JSON object
            -: the body is not valid JSON: expected ident at line 1 column 2
            messages[0]: the body is not valid JSON: EOF while parsing an object at line 1 column 59
            -: the body is not valid JSON: trailing characters at line 1 column 16
        "#]],
    );
}

#[test]
fn wrong_values_are_refused_by_field() {
    let with = |field: &str| {
        format!(r#"{{"model": "m", "messages": [{{"role": "user", "content": "x"}}], {field}}}"#)
    };
    let bodies: Vec<String> = [
        r#""temperature": "hot""#,
        r#""temperature": 3"#,
        r#""temperature": -1"#,
        r#""temperature": 1e300"#,
        r#""top_p": 1.5"#,
        r#""max_tokens": 0"#,
        r#""max_tokens": 1.5"#,
        r#""max_tokens": 1, "max_completion_tokens": 2"#,
        r#""max_completion_tokens": 999999999"#,
        r#""seed": -1"#,
        r#""stop": 7"#,
        r#""stop": ["a", 7]"#,
        r#""stop": [""]"#,
        r#""stop": ["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"]"#,
        r#""stream": "yes""#,
        r#""stream_options": {"include_usage": true}"#,
        r#""stream": true, "stream_options": {"other": 1}"#,
        r#""top_logprobs": 2"#,
        r#""logprobs": true, "top_logprobs": 21"#,
        r#""logprobs": 3"#,
        r#""n": 2"#,
        r#""tools": [{"type": "function"}]"#,
        r#""response_format": {"type": "grammar"}"#,
        r#""response_format": {"type": "json_schema"}"#,
        r#""response_format": {"type": "json_schema", "json_schema": {"schema": 5}}"#,
        r#""store": true"#,
        r#""reasoning_effort": "high""#,
        r#""prompt": "x""#,
        r#""top_a": 4"#,
        r#""model": "again""#,
    ]
    .iter()
    .map(|field| with(field))
    .collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    refused(
        Kind::Chat,
        &bodies,
        expect![[r#"
            temperature: temperature: invalid type: string "hot", expected f64
            temperature: temperature: 0 to 2
            temperature: temperature: out of range
            temperature: temperature: out of range
            top_p: top_p: 0 to 1
            max_tokens: max_tokens: 1 to 131072
            max_tokens: max_tokens: invalid type: floating point `1.5`, expected u32
            max_tokens: max_tokens: differs from max_completion_tokens; give one of them
            max_tokens: max_tokens: 1 to 131072
            seed: seed: invalid value: integer `-1`, expected u64
            stop: stop: invalid type: integer `7`, expected a string or a list of strings
            stop: stop: invalid type: integer `7`, expected a string
            stop: stop: each of 1 to 256 bytes
            stop: stop: at most 16 of them
            stream: stream: invalid type: string "yes", expected a boolean
            stream_options: stream_options: allowed only with `stream: true`
            stream_options: stream_options: unknown field `other`
            top_logprobs: top_logprobs: allowed only with `logprobs: true`
            top_logprobs: top_logprobs: 0 to 20
            logprobs: logprobs: invalid type: integer `3`, expected a boolean
            n: n: not supported here
            tools: tools: missing field `function`
            response_format: response_format: its type is text, json_object or json_schema
            response_format: response_format: give the schema
            response_format: response_format: a JSON Schema is an object
            store: store: not supported here
            reasoning_effort: reasoning_effort: not supported here
            prompt: prompt: not a field of this request
            top_a: top_a: not a field of this request
            model: model: given twice
        "#]],
    );
}

#[test]
fn wrong_messages_are_refused_by_place() {
    let bodies: Vec<String> = [
        r#"null"#,
        r#"[]"#,
        r#""hi""#,
        r#"["hi"]"#,
        r#"[{"content": "x"}]"#,
        r#"[{"role": "user"}]"#,
        r#"[{"role": "user", "content": null}]"#,
        r#"[{"role": "pope", "content": "x"}]"#,
        r#"[{"role": "tool", "content": "x", "tool_call_id": "1"}]"#,
        r#"[{"role": "user", "content": "x"}, {"role": "user", "content": 7}]"#,
        r#"[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]"#,
        r#"[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text"}]}]"#,
        r#"[{"role": "user", "content": "x", "name": "Ann"}]"#,
        r#"[{"role": "user", "content": "x", "mood": "good"}]"#,
    ]
    .iter()
    .map(|messages| format!(r#"{{"model": "m", "messages": {messages}}}"#))
    .collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    refused(
        Kind::Chat,
        &bodies,
        expect![[r#"
            messages: messages: invalid type: null, expected a list of messages
            messages: messages: give at least one message
            messages: messages: invalid type: string "hi", expected a list of messages
            messages[0]: messages[0]: invalid type: string "hi", expected a message with role and content
            messages[0].role: messages[0].role: give the role
            messages[0].content: messages[0].content: give the text
            messages[0].content: messages[0].content: give the text
            messages[0].role: messages[0].role: is one of system, developer, user, assistant, tool
            accepted: {"model": "m", "messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}
            messages[1].content: messages[1].content: invalid type: integer `7`, expected a string or a list of text parts
            messages[0].content[0].type: messages[0].content[0].type: only text parts are supported here
            messages[0].content[1].text: messages[0].content[1].text: give the text
            messages[0].name: messages[0].name: not supported here
            messages[0].mood: messages[0].mood: not a field of a message
        "#]],
    );
}

#[test]
fn wrong_completions_are_refused_by_field() {
    refused(
        Kind::Text,
        &[
            r#"{"prompt": "x"}"#,
            r#"{"model": "m"}"#,
            r#"{"model": "m", "prompt": []}"#,
            r#"{"model": "m", "prompt": ["a", "b"]}"#,
            r#"{"model": "m", "prompt": [1, 2]}"#,
            r#"{"model": "m", "prompt": "x", "echo": true}"#,
            r#"{"model": "m", "prompt": "x", "suffix": "y"}"#,
            r#"{"model": "m", "prompt": "x", "messages": []}"#,
            r#"{"model": "m", "prompt": "x", "logprobs": 21}"#,
        ],
        expect![[r#"
            model: model: give the name of a model; GET /v1/models lists them
            prompt: prompt: give the text to continue
            prompt: prompt: give the text to continue
            prompt: prompt: at most 1 of them
            prompt: prompt: invalid type: integer `1`, expected a string
            echo: echo: not supported here
            suffix: suffix: not supported here
            messages: messages: not a field of this request
            logprobs: logprobs: 0 to 20
        "#]],
    );
}

#[test]
fn plain_answers() {
    let pieces = [piece(b"Hi", 0), piece("ü".as_bytes(), -1_500_000), piece(&[0xf0, 0x9f], -1)];
    let stop = FinishReason::Stop;
    check_json(
        &completion(Kind::Chat, head(), &answer(AWKWARD, None, stop)),
        expect![[
            r#"{"id":"chatcmpl-abababababababababababababababab","object":"chat.completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"message":{"role":"assistant","content":"a\"b\\c\n\r\t\u0001ü😀 ","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#
        ]],
    );
    check_json(
        &completion(Kind::Chat, head(), &answer("Hi", Some(&pieces), FinishReason::Length)),
        expect![[
            r#"{"id":"chatcmpl-abababababababababababababababab","object":"chat.completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"message":{"role":"assistant","content":"Hi","refusal":null},"logprobs":{"content":[{"token":"Hi","logprob":0.000000,"bytes":[72,105],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]},{"token":"ü","logprob":-1.500000,"bytes":[195,188],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]},{"token":"�","logprob":-0.000001,"bytes":[240,159],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}],"refusal":null},"finish_reason":"length"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#
        ]],
    );
    check_json(
        &completion(Kind::Text, head(), &answer("Hi", Some(&pieces), stop)),
        expect![[
            r#"{"id":"cmpl-abababababababababababababababab","object":"text_completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"text":"Hi","logprobs":{"tokens":["Hi","ü","�"],"token_logprobs":[0.000000,-1.500000,-0.000001],"top_logprobs":[{"other":-12.345678},{"other":-12.345678},{"other":-12.345678}],"text_offset":[0,2,3]},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}"#
        ]],
    );
    let text = completion(Kind::Chat, head(), &answer(AWKWARD, None, stop));
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], AWKWARD);
}

fn check_stream(kind: Kind, usage: bool, pieces: Option<&[TokenPiece]>, expect: Expect) {
    let mut writer = ChunkWriter::new(kind, head(), usage);
    let mut out = BytesMut::new();
    writer.role(&mut out);
    writer.text(&mut out, AWKWARD, pieces);
    writer.text(&mut out, "b", pieces);
    writer.end(&mut out, &answer("", None, FinishReason::Length));
    let text = String::from_utf8(out.to_vec()).unwrap();
    for event in text.split_terminator("\n\n") {
        let data = event.strip_prefix("data: ").or(event.strip_prefix(": peerwatt ")).unwrap();
        assert!(data == "[DONE]" || serde_json::from_str::<serde_json::Value>(data).is_ok());
    }
    expect.assert_eq(&text);
}

#[test]
fn streamed_answers() {
    check_stream(
        Kind::Chat,
        true,
        None,
        expect![[r#"
        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","usage":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","usage":null,"choices":[{"index":0,"delta":{"content":"a\"b\\c\n\r\t\u0001ü😀 "},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","usage":null,"choices":[{"index":0,"delta":{"content":"b"},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","usage":null,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15},"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}

        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        data: [DONE]

    "#]],
    );
    check_stream(
        Kind::Chat,
        false,
        Some(&[piece(b"b", -7)]),
        expect![[r#"
        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"content":"a\"b\\c\n\r\t\u0001ü😀 "},"logprobs":{"content":[{"token":"b","logprob":-0.000007,"bytes":[98],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}],"refusal":null},"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":-0.000007,"bytes":[98],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}],"refusal":null},"finish_reason":null}]}

        data: {"id":"chatcmpl-abababababababababababababababab","object":"chat.completion.chunk","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}

        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        data: [DONE]

    "#]],
    );
    check_stream(
        Kind::Text,
        false,
        Some(&[piece("ü".as_bytes(), -7)]),
        expect![[r#"
        data: {"id":"cmpl-abababababababababababababababab","object":"text_completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"text":"a\"b\\c\n\r\t\u0001ü😀 ","logprobs":{"tokens":["ü"],"token_logprobs":[-0.000007],"top_logprobs":[{"other":-12.345678}],"text_offset":[0]},"finish_reason":null}]}

        data: {"id":"cmpl-abababababababababababababababab","object":"text_completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"text":"b","logprobs":{"tokens":["ü"],"token_logprobs":[-0.000007],"top_logprobs":[{"other":-12.345678}],"text_offset":[1]},"finish_reason":null}]}

        data: {"id":"cmpl-abababababababababababababababab","object":"text_completion","created":1700000000,"model":"llama \"8b\"","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"length"}]}

        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        data: [DONE]

    "#]],
    );
}

#[test]
fn errors_and_models() {
    let failure = ApiError {
        status: 404,
        message: "no \"x\"".into(),
        kind: "invalid_request_error",
        param: Some("model".into()),
        code: None,
        retry_after_ms: None,
    };
    check_json(
        &error(&failure),
        expect![[
            r#"{"error":{"message":"no \"x\"","type":"invalid_request_error","param":"model","code":null}}"#
        ]],
    );
    let card = ModelCard {
        id: "llama \"8b\"".into(),
        model: ModelId([2; 32]),
        created_s: 5,
        providers: 2,
        context_tokens: 4_096,
        price: Price {
            request_nusd: Nusd(0),
            prompt_nusd_per_mtok: Nusd(50_000_000),
            completion_nusd_per_mtok: Nusd(100_000_000),
        },
        abilities: Abilities { logprobs: true, json: true, ..Abilities::default() },
        resold: false,
    };
    check_json(
        &model(&card),
        expect![[
            r#"{"id":"llama \"8b\"","object":"model","created":5,"owned_by":"peerwatt","peerwatt":{"model_id":"0202020202020202020202020202020202020202020202020202020202020202","providers":2,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"none","samplers":false,"resold":false,"price":{"request_nusd":"0","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}}"#
        ]],
    );
    check_json(
        &models(&[card.clone(), card]),
        expect![[
            r#"{"object":"list","data":[{"id":"llama \"8b\"","object":"model","created":5,"owned_by":"peerwatt","peerwatt":{"model_id":"0202020202020202020202020202020202020202020202020202020202020202","providers":2,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"none","samplers":false,"resold":false,"price":{"request_nusd":"0","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}},{"id":"llama \"8b\"","object":"model","created":5,"owned_by":"peerwatt","peerwatt":{"model_id":"0202020202020202020202020202020202020202020202020202020202020202","providers":2,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"none","samplers":false,"resold":false,"price":{"request_nusd":"0","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}}]}"#
        ]],
    );
    check_json(&models(&[]), expect![[r#"{"object":"list","data":[]}"#]]);
}

#[test]
fn an_answer_can_be_held_to_a_form_in_every_dialect_that_has_one() {
    use types::inference::AnswerForm;

    use crate::api::{Dialect, ollama};
    let form = |dialect: Dialect, more: &str| {
        let body = format!(r#"{{"model": "m", {more}}}"#);
        dialect.parse(body.as_bytes()).unwrap().request.form
    };
    let schema = || Some(AnswerForm::Schema(r#"{"type":"object"}"#.to_owned()));
    let messages = r#""messages": [{"role": "user", "content": "x"}]"#;
    let chat = |format: &str| {
        form(Dialect::OpenAi(Kind::Chat), &format!(r#"{messages}, "response_format": {format}"#))
    };
    assert_eq!(chat("null"), None);
    assert_eq!(chat(r#"{"type": "json_object"}"#), Some(AnswerForm::Json));
    assert_eq!(
        chat(
            r#"{"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object"}}}"#
        ),
        schema()
    );
    let response = |format: &str| {
        form(Dialect::Responses, &format!(r#""input": "x", "text": {{"format": {format}}}"#))
    };
    assert_eq!(response(r#"{"type": "json_object"}"#), Some(AnswerForm::Json));
    assert_eq!(
        response(r#"{"type": "json_schema", "name": "n", "schema": {"type": "object"}}"#),
        schema()
    );
    let ollama = |format: &str| {
        let dialect = Dialect::Ollama(ollama::Kind::Chat);
        form(dialect, &format!(r#"{messages}, "format": {format}"#))
    };
    assert_eq!(ollama(r#""json""#), Some(AnswerForm::Json));
    assert_eq!(ollama(r#"{"type": "object"}"#), schema());
    let long = format!(r#"{{"title": "{}"}}"#, "x".repeat(70_000));
    let body = format!(r#"{{"model": "m", {messages}, "format": {long}}}"#);
    let refused = Dialect::Ollama(ollama::Kind::Chat).parse(body.as_bytes()).unwrap_err();
    assert_eq!(refused.param.as_deref(), Some("format"));
}
