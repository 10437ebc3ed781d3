//! Bodies in, bodies out: whole, as a client sends and sees them.

use expect_test::expect;
use types::{ModelId, TimeMs, inference::FinishReason};

use super::*;
use crate::api::{
    Dialect::Ollama,
    testing::{self, AWKWARD, check_json, head, piece, refused},
};

#[test]
fn a_chat_with_every_supported_field() {
    testing::check(
        Ollama(Kind::Chat),
        r#"{
            "model": "tiny", "stream": false, "think": false, "format": "", "tools": [],
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello", "images": null, "tool_calls": []}
            ],
            "logprobs": true, "top_logprobs": 2, "truncate": false, "keep_alive": "5m",
            "options": {"num_ctx": 2048, "num_predict": 40, "seed": 7, "stop": ["END"], "temperature": 0.7,
                        "top_p": 1, "presence_penalty": 0.5, "frequency_penalty": -0.5, "num_thread": 8}
        }"#,
        expect![[r#"
            GenerationRequest {
                model: "tiny",
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
                                content: "Hello",
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
                            500000,
                        ),
                        frequency_penalty_micros: Some(
                            -500000,
                        ),
                        top_k: None,
                        min_p_micros: None,
                        repeat_penalty_micros: None,
                    },
                    tokens_max: Some(
                        40,
                    ),
                    stop: [
                        "END",
                    ],
                    logprobs: Some(
                        2,
                    ),
                    begun: None,
                    form: None,
                    tools: None,
                },
                stream: false,
                include_usage: true,
                context_tokens_min: Some(
                    2048,
                ),
            }"#]],
    );
}

#[test]
fn a_generation_is_a_chat_unless_it_is_raw() {
    let generate = Ollama(Kind::Generate);
    testing::check(
        generate,
        r#"{"model": "tiny", "prompt": "Hello", "system": "Be brief.", "options": {"stop": "x", "seed": -1, "num_predict": -1}}"#,
        expect![[r#"
            GenerationRequest {
                model: "tiny",
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
                                content: "Hello",
                                calls: [],
                                call_id: None,
                            },
                        ],
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
                    logprobs: None,
                    begun: None,
                    form: None,
                    tools: None,
                },
                stream: true,
                include_usage: true,
                context_tokens_min: None,
            }"#]],
    );
    testing::check(
        generate,
        r#"{"model": "tiny", "prompt": "Once", "raw": true}"#,
        expect![[r#"
            GenerationRequest {
                model: "tiny",
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
                    stop: [],
                    logprobs: None,
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
fn what_cannot_be_honoured_is_refused_by_name() {
    refused(
        Ollama(Kind::Chat),
        &[
            r#"{"messages": [{"role": "user", "content": "x"}]}"#,
            r#"{"model": "t", "prompt": "x"}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "format": "yaml"}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "think": true}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "shift": true}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "top_logprobs": 2}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "options": {"num_predict": -5}}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "options": {"mirostat": 1}}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}], "options": {"temperature": 9}}"#,
        ],
        expect![[r#"
            model: model: give the name of a model; GET /v1/models lists them
            prompt: prompt: not a field of this request
            messages[0].images: messages[0].images: not supported here
            format: format: is json or a JSON Schema
            think: think: not supported here
            shift: shift: nothing is cut here; leave it out or say false
            top_logprobs: top_logprobs: allowed only with `logprobs: true`
            options.num_predict: options.num_predict: a number of tokens, or -1 for no limit
            options.mirostat: options.mirostat: unknown field `mirostat`
            options.temperature: options.temperature: 0 to 2
        "#]],
    );
    refused(
        Ollama(Kind::Generate),
        &[
            r#"{"model": "t", "messages": []}"#,
            r#"{"model": "t", "prompt": "x", "suffix": "y"}"#,
            r#"{"model": "t", "prompt": "x", "context": [1, 2]}"#,
            r#"{"model": "t", "prompt": "x", "raw": true, "system": "y"}"#,
        ],
        expect![[r#"
            messages: messages: not a field of this request
            suffix: suffix: not supported here
            context: context: not supported here
            system: system: has no place in a raw prompt
        "#]],
    );
}

#[test]
fn answers() {
    let pieces = [piece(b"Hi", -7)];
    let stop = FinishReason::Stop;
    check_json(
        &answer(Kind::Chat, head(), &testing::answer(AWKWARD, Some(&pieces), stop)),
        expect![[r#"
            {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"a\"b\\c\n\r\t\u0001ü😀 "},"done":true,"done_reason":"stop","logprobs":[{"token":"Hi","logprob":-0.000007,"bytes":[72,105],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}],"total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
        "#]],
    );
    check_json(
        &answer(Kind::Generate, head(), &testing::answer("Hi", None, FinishReason::Length)),
        expect![[r#"
            {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","response":"Hi","done":true,"done_reason":"length","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
        "#]],
    );
    check_json(
        &loaded(Kind::Chat, head()),
        expect![[r#"
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}
    "#]],
    );
    expect![[r#"
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"a\"b\\c\n\r\t\u0001ü😀 "},"done":false}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"b"},"done":false,"logprobs":[{"token":"b","logprob":-0.000007,"bytes":[98],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}]}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
    "#]].assert_eq(&testing::streamed(Ollama(Kind::Chat), stop));
    expect![[r#"
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","response":"a\"b\\c\n\r\t\u0001ü😀 ","done":false}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","response":"b","done":false,"logprobs":[{"token":"b","logprob":-0.000007,"bytes":[98],"top_logprobs":[{"token":"other","logprob":-12.345678,"bytes":[111,116,104,101,114]}]}]}
        {"model":"llama \"8b\"","created_at":"2023-11-14T22:13:20.000Z","response":"","done":true,"done_reason":"stop","total_duration":150000000,"load_duration":0,"prompt_eval_count":12,"prompt_eval_duration":20000000,"eval_count":3,"eval_duration":130000000,"peerwatt":{"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}}
    "#]].assert_eq(&testing::streamed(Ollama(Kind::Generate), stop));
    expect![[r#"
        {"error":"no \"x\""}
    "#]]
    .assert_eq(&testing::failed(Ollama(Kind::Chat)));
}

#[test]
fn models() {
    let model = Model {
        name: "tiny".into(),
        model: ModelId([2; 32]),
        context_tokens: 4_096,
        tools: true,
        completions: true,
        embeddings: false,
    };
    let now = TimeMs(1_700_000_000_000);
    check_json(&version(), expect![[r#"{"version":"0.12.11"}"#]]);
    check_json(
        &tags(std::slice::from_ref(&model), now),
        expect![[
            r#"{"models":[{"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"digest":"0202020202020202020202020202020202020202020202020202020202020202","model":"tiny","modified_at":"2023-11-14T22:13:20.000Z","name":"tiny","size":0}]}"#
        ]],
    );
    check_json(
        &running(std::slice::from_ref(&model), now),
        expect![[
            r#"{"models":[{"context_length":4096,"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"digest":"0202020202020202020202020202020202020202020202020202020202020202","expires_at":"2023-11-14T22:18:20.000Z","model":"tiny","name":"tiny","size":0,"size_vram":0}]}"#
        ]],
    );
    check_json(
        &show(&model, now),
        expect![[
            r#"{"capabilities":["completion","tools"],"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"model_info":{"general.architecture":"peerwatt","general.basename":"tiny","peerwatt.context_length":4096},"modelfile":"","modified_at":"2023-11-14T22:13:20.000Z","parameters":"","template":""}"#
        ]],
    );
    assert_eq!(show_name(br#"{"model": "tiny"}"#).unwrap(), "tiny");
    assert_eq!(show_name(br#"{"name": "tiny", "verbose": true}"#).unwrap(), "tiny");
    assert_eq!(show_name(b"{}").unwrap_err().param.unwrap(), "model");
}
