//! Bodies in, bodies out: whole, as a client sends and sees them.

use expect_test::expect;
use types::inference::FinishReason;

use super::*;
use crate::api::{
    Dialect::Anthropic,
    testing::{self, AWKWARD, answer, check_json, head, refused},
};

#[test]
fn a_message_with_every_supported_field() {
    testing::check(
        Anthropic,
        r#"{
            "model": "tiny", "max_tokens": 40, "stream": true, "temperature": 0.7, "top_p": 1,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": "Go on"}
            ],
            "stop_sequences": ["END"], "metadata": {"user_id": "u"}, "service_tier": "auto",
            "thinking": {"type": "disabled"}, "tools": [], "top_k": 40
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
                            ChatMessage {
                                role: Assistant,
                                content: "Hi",
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
                        seed: None,
                        presence_penalty_micros: None,
                        frequency_penalty_micros: None,
                        top_k: Some(
                            40,
                        ),
                        min_p_micros: None,
                        repeat_penalty_micros: None,
                    },
                    tokens_max: Some(
                        40,
                    ),
                    stop: [
                        "END",
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
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    refused(
        Anthropic,
        &[
            "{",
            r#"{"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}"#,
            r#"{"model": "t", "messages": [{"role": "user", "content": "x"}]}"#,
            r#"{"model": "t", "max_tokens": 0, "messages": [{"role": "user", "content": "x"}]}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": []}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "system", "content": "x"}]}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "thinking": {"type": "enabled", "budget_tokens": 1024}}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "stop_sequences": [""]}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "temperature": 3}"#,
            r#"{"model": "t", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "size": 3}"#,
        ],
        expect![[r#"
            ?: the body is not valid JSON: EOF while parsing an object at line 1 column 1
            model: model: give the name of a model; GET /v1/models lists them
            max_tokens: max_tokens: give the longest answer you want, in tokens
            max_tokens: max_tokens: 1 to 131072
            messages: messages: give at least one message
            messages[0]: messages[0]: its role is user or assistant
            messages[0].content: messages[0].content: only text, tool_use and tool_result are supported here
            thinking: thinking: not supported here
            stop_sequences: stop_sequences: each of 1 to 256 bytes
            temperature: temperature: 0 to 2
            size: size: unknown field `size`
        "#]],
    );
}

#[test]
fn answers() {
    check_json(
        &message(head(), &answer(AWKWARD, None, FinishReason::Stop)),
        expect![[
            r#"{"id":"msg_abababababababababababababababab","type":"message","role":"assistant","model":"llama \"8b\"","content":[{"type":"text","text":"a\"b\\c\n\r\t\u0001ü😀 "}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":3}}"#
        ]],
    );
    expect![[r#"
        event: message_start
        data: {"type":"message_start","message":{"id":"msg_abababababababababababababababab","type":"message","role":"assistant","model":"llama \"8b\"","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

        event: content_block_start
        data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\"b\\c\n\r\t\u0001ü😀 "}}

        event: content_block_delta
        data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"b"}}

        event: content_block_stop
        data: {"type":"content_block_stop","index":0}

        event: message_delta
        data: {"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"input_tokens":12,"output_tokens":3}}

        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        event: message_stop
        data: {"type":"message_stop"}

    "#]].assert_eq(&testing::streamed(Anthropic, FinishReason::Length));
    expect![[r#"
        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        event: error
        data: {"type":"error","error":{"type":"api_error","message":"no \"x\""}}

    "#]].assert_eq(&testing::failed(Anthropic));
    let kinds: Vec<String> = [400, 401, 402, 404, 413, 429, 502, 503]
        .map(|status| String::from_utf8(error(&testing::error(status)).to_vec()).unwrap())
        .to_vec();
    expect![[r#"
        {"type":"error","error":{"type":"invalid_request_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"authentication_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"billing_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"not_found_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"request_too_large","message":"no \"x\""}}
        {"type":"error","error":{"type":"rate_limit_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"api_error","message":"no \"x\""}}
        {"type":"error","error":{"type":"overloaded_error","message":"no \"x\""}}"#]]
    .assert_eq(&kinds.join("\n"));
}
