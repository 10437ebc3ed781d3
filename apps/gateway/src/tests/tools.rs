//! Calls of tools, from the client to the provider and back.

use expect_test::{Expect, expect};

use super::*;

const TOOLS: &str = r#", "tools": [{"type": "function", "function": {"name": "weather"}},
    {"type": "function", "function": {"name": "time"}}]"#;
const FLAT_TOOLS: &str =
    r#", "tools": [{"type": "function", "name": "weather"}, {"type": "function", "name": "time"}]"#;
const CUSTOM_TOOLS: &str =
    r#", "max_tokens": 99, "tools": [{"name": "weather"}, {"name": "time"}]"#;

fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]{more}}}"#)
}

/// Everything that an answer says, with the request's id replaced, also where it is cut short.
fn shown(answer: &Answer) -> String {
    let short = format!("call_{}", &answer.id[..20]);
    answer.shown().replace(&short, "call_SHORT")
}

#[tokio::test(start_paused = true)]
async fn a_call_is_told_in_every_dialect() {
    let world = World::new().await;
    let double = world.provider(11, &["calls"]).await;
    let check = async |path: &str, body: String, expect: Expect| {
        expect.assert_eq(&shown(&world.ask(world.request(path, &body)).await));
    };
    check("/v1/chat/completions", chat("calls", TOOLS), expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 1260

        {"id":"chatcmpl-ID","object":"chat.completion","created":1700000000,"model":"calls","choices":[{"index":0,"message":{"role":"assistant","content":"Let me see.","refusal":null,"tool_calls":[{"id":"call_SHORT_0","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Röm\"}"}},{"id":"call_SHORT_1","type":"function","function":{"name":"time","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":8,"total_tokens":17}}
    "#]]).await;
    let stream = format!(r#"{TOOLS}, "stream": true"#);
    check("/v1/chat/completions", chat("calls", &stream), expect![[r#"
        200
        content-type: text/event-stream

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"content":"Let me see."},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_SHORT_0","type":"function","function":{"name":"weather","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"city\":\"R"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"öm\"}"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_SHORT_1","type":"function","function":{"name":"time","arguments":""}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{}"}}]},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"calls","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"tool_calls"}]}

        : peerwatt {"request_id":"ID","cost_nusd":"1260","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"f46f5990ebfadcab199107258b9dadd8711bd7946d8d00091a1073effcf2a843","receipt":"/v1/receipts/ID"}

        data: [DONE]


    "#]]).await;
    check("/v1/messages", chat("calls", CUSTOM_TOOLS), expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 1260

        {"id":"msg_ID","type":"message","role":"assistant","model":"calls","content":[{"type":"text","text":"Let me see."},{"type":"tool_use","id":"call_SHORT_0","name":"weather","input":{"city":"Röm"}},{"type":"tool_use","id":"call_SHORT_1","name":"time","input":{}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":8}}
    "#]]).await;
    check("/api/chat", chat("calls", &stream), expect![[r#"
        200
        content-type: application/x-ndjson

        {"model":"calls","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Let me see."},"done":false}
        {"model":"calls","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_SHORT_0","function":{"index":0,"name":"weather","arguments":{"city":"Röm"}}}]},"done":false}
        {"model":"calls","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_SHORT_1","function":{"index":1,"name":"time","arguments":{}}}]},"done":false}
        {"model":"calls","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":0,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":0,"eval_count":8,"eval_duration":0,"peerwatt":{"request_id":"ID","cost_nusd":"1260","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"f46f5990ebfadcab199107258b9dadd8711bd7946d8d00091a1073effcf2a843","receipt":"/v1/receipts/ID"}}

    "#]]).await;
    let response = format!(r#"{{"model": "calls", "input": "Hello"{FLAT_TOOLS}}}"#);
    check("/v1/responses", response, expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 1260

        {"id":"resp_ID","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"calls","output":[{"id":"msg_ID","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Let me see.","annotations":[],"logprobs":[]}]},{"id":"fc_ID_1","type":"function_call","status":"completed","call_id":"call_SHORT_0","name":"weather","arguments":"{\"city\":\"Röm\"}"},{"id":"fc_ID_2","type":"function_call","status":"completed","call_id":"call_SHORT_1","name":"time","arguments":"{}"}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0},"output_tokens":8,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":17},"user":null,"metadata":{}}
    "#]]).await;
    // Each of eight tokens is paid, whatever it belongs to.
    assert_eq!(world.spent().await, (Nusd(5 * (10 + 450 + 800)), Nusd::ZERO));
    double.until(|seen| seen.acknowledged.len() == 5).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_on_with_a_call() {
    let world = World::new().await;
    let _dying = world.provider(11, &["calls=dies-in-a-call"]).await;
    let answer = world.ask(world.request("/v1/chat/completions", &chat("calls", TOOLS))).await;
    assert_eq!(answer.status, 502);
    let _other = world.provider(12, &["calls"]).await;
    let stream = format!(r#"{TOOLS}, "stream": true"#);
    let mut broken = 0;
    for _ in 0..4 {
        let request = world.request("/v1/chat/completions", &chat("calls", &stream));
        let answer = world.ask(request).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("continued_by"), "{}", answer.body);
        if answer.body.contains(r#""error""#) {
            broken += 1;
            assert!(!answer.body.contains("[DONE]"), "{}", answer.body);
        } else {
            assert!(answer.body.contains(r#""finish_reason":"tool_calls""#), "{}", answer.body);
        }
    }
    assert!(broken <= 2, "it is left alone after that");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_asked_for_is_a_breach() {
    let world = World::new().await;
    let _double = world.provider(11, &["calls-unasked", "arguments-of-nothing"]).await;
    for (model, more) in [("calls-unasked", ""), ("arguments-of-nothing", TOOLS)] {
        let request = world.request("/v1/chat/completions", &chat(model, more));
        let answer = world.ask(request).await;
        assert_eq!(answer.status, 502);
        assert!(answer.body.contains("broke the protocol: a call"), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_provider_can_do_is_said() {
    let world = World::new().await;
    let _double = world.provider(11, &["plain"]).await;
    let check = async |more: &str, problem: &str| {
        let answer = world.ask(world.request("/v1/chat/completions", &chat("plain", more))).await;
        assert_eq!(answer.status, 400);
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(message, format!("no provider of `plain` can do this: {problem}"));
    };
    check(TOOLS, "no tools; leave `tools` out").await;
    check(
        r#", "top_k": 5"#,
        "no top_k, min_p or repeat penalty; leave `top_k`, `min_p` and the repeat penalty out",
    )
    .await;
    check(r#", "logprobs": true"#, "no log-probabilities; leave `logprobs` out").await;
    check(
        r#", "response_format": {"type": "json_object"}"#,
        "no structured output; leave `response_format` or `format` out",
    )
    .await;
}
