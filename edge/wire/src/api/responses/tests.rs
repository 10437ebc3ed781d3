//! Bodies in, bodies out: whole, as a client sends and sees them.

use expect_test::expect;
use types::inference::FinishReason;

use super::*;
use crate::api::{
    Dialect::Responses,
    testing::{self, AWKWARD, answer, check_json, head, refused},
};

#[test]
fn a_request_with_every_supported_field() {
    testing::check(
        Responses,
        r#"{
            "model": "tiny", "instructions": "Be brief.", "max_output_tokens": 40, "stream": true,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "Hello"}]},
                {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                 "content": [{"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []}]},
                {"role": "user", "content": "Go on"}
            ],
            "temperature": 0.7, "top_p": 1, "store": false, "text": {"format": {"type": "text"}},
            "truncation": "disabled", "tool_choice": "auto", "tools": [], "metadata": {"a": "b"},
            "parallel_tool_calls": true, "user": "u", "previous_response_id": null, "include": []
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
                        top_k: None,
                        min_p_micros: None,
                        repeat_penalty_micros: None,
                    },
                    tokens_max: Some(
                        40,
                    ),
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
    testing::check(
        Responses,
        r#"{"model": "tiny", "input": "Hello"}"#,
        expect![[r#"
            GenerationRequest {
                model: "tiny",
                request: InferenceRequest {
                    prompt: Chat(
                        [
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
                    stop: [],
                    logprobs: None,
                    begun: None,
                    form: None,
                    tools: None,
                },
                stream: false,
                include_usage: true,
                context_tokens_min: None,
            }"#]],
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    refused(
        Responses,
        &[
            r#"{"input": "x"}"#,
            r#"{"model": "t"}"#,
            r#"{"model": "t", "input": 5}"#,
            r#"{"model": "t", "input": []}"#,
            r#"{"model": "t", "input": "x", "store": true}"#,
            r#"{"model": "t", "input": "x", "previous_response_id": "resp_1"}"#,
            r#"{"model": "t", "input": "x", "text": {"format": {"type": "grammar"}}}"#,
            r#"{"model": "t", "input": "x", "tools": [{"type": "web_search"}]}"#,
            r#"{"model": "t", "input": "x", "truncation": "auto"}"#,
            r#"{"model": "t", "input": "x", "max_output_tokens": 0}"#,
            r#"{"model": "t", "input": [{"role": "tool", "content": "x"}]}"#,
            r#"{"model": "t", "input": [{"type": "function_call_output", "role": "user", "content": "x"}]}"#,
            r#"{"model": "t", "input": [{"role": "user", "content": [{"type": "input_image"}]}]}"#,
            r#"{"model": "t", "input": "x", "reasoning": {"effort": "high"}}"#,
        ],
        expect![[r#"
            model: model: give the name of a model; GET /v1/models lists them
            input: input: give the text to answer, or a list of messages
            input: input: invalid type: integer `5`, expected a string or a list of messages
            input: input: give at least one message
            store: store: nothing is stored here; leave it out or say false
            previous_response_id: previous_response_id: not supported here
            text.format: text.format: its type is text, json_object or json_schema
            tools[0].type: tools[0].type: only functions are supported here
            truncation: truncation: nothing is cut here; leave it out or say disabled
            max_output_tokens: max_output_tokens: 1 to 131072
            input[0]: input[0]: its role is one of system, developer, user, assistant
            input[0]: input[0]: the result of a call has a call_id and an output
            input[0].content: input[0].content: only text parts are supported here
            reasoning: reasoning: not supported here
        "#]],
    );
}

#[test]
fn answers() {
    check_json(
        &response(head(), &answer(AWKWARD, None, FinishReason::Length)),
        expect![[
            r#"{"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"incomplete","error":null,"incomplete_details":{"reason":"max_output_tokens"},"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[{"id":"msg_abababababababababababababababab","type":"message","status":"incomplete","role":"assistant","content":[{"type":"output_text","text":"a\"b\\c\n\r\t\u0001ü😀 ","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15},"user":null,"metadata":{}}"#
        ]],
    );
    expect![[r#"
        event: response.created
        data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

        event: response.in_progress
        data: {"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

        event: response.output_item.added
        data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_abababababababababababababababab","type":"message","status":"in_progress","role":"assistant","content":[]}}

        event: response.content_part.added
        data: {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}

        event: response.output_text.delta
        data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"logprobs":[],"delta":"a\"b\\c\n\r\t\u0001ü😀 "}

        event: response.output_text.delta
        data: {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"logprobs":[],"delta":"b"}

        event: response.output_text.done
        data: {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"logprobs":[],"text":"a\"b\\c\n\r\t\u0001ü😀 b"}

        event: response.content_part.done
        data: {"type":"response.content_part.done","sequence_number":7,"item_id":"msg_abababababababababababababababab","output_index":0,"content_index":0,"part":{"type":"output_text","text":"a\"b\\c\n\r\t\u0001ü😀 b","annotations":[],"logprobs":[]}}

        event: response.output_item.done
        data: {"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"id":"msg_abababababababababababababababab","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a\"b\\c\n\r\t\u0001ü😀 b","annotations":[],"logprobs":[]}]}}

        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        event: response.completed
        data: {"type":"response.completed","sequence_number":9,"response":{"id":"resp_abababababababababababababababab","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"llama \"8b\"","output":[{"id":"msg_abababababababababababababababab","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a\"b\\c\n\r\t\u0001ü😀 b","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":12,"input_tokens_details":{"cached_tokens":0},"output_tokens":3,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15},"user":null,"metadata":{}}}

    "#]].assert_eq(&testing::streamed(Responses, FinishReason::Stop));
    expect![[r#"
        : peerwatt {"request_id":"abababababababababababababababab","cost_nusd":"1234","provider":"watt1qyqszqgpqyqszqgpqyqszqgpqyqszqgpmvwvrw","model_id":"0202020202020202020202020202020202020202020202020202020202020202","receipt":"/v1/receipts/abababababababababababababababab"}

        event: error
        data: {"type":"error","sequence_number":0,"code":"provider_failed","message":"no \"x\"","param":null}

    "#]].assert_eq(&testing::failed(Responses));
}
