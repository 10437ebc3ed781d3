//! What clients of other APIs than OpenAI's chat see: whole answers.

use expect_test::{Expect, expect};

use super::*;

fn check(answer: &Answer, expect: Expect) {
    expect.assert_eq(&answer.shown());
}

const ANTHROPIC: &str = r#"{"model": "MODEL", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}], "stream": STREAM}"#;
const RESPONSE: &str = r#"{"model": "MODEL", "input": "Hello", "stream": STREAM}"#;
const CHAT: &str =
    r#"{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}], "stream": STREAM}"#;
const GENERATE: &str = r#"{"model": "MODEL", "prompt": "Hello", "stream": STREAM}"#;

impl World {
    async fn ask_in(&self, path: &str, body: &str, model: &str, stream: bool) -> Answer {
        let body = body.replace("MODEL", model).replace("STREAM", &stream.to_string());
        self.ask(self.request(path, &body)).await
    }
}

#[tokio::test(start_paused = true)]
async fn plain_answers() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    check(
        &world.ask_in("/v1/messages", ANTHROPIC, "story", false).await,
        expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 960

        {"id":"msg_ID","type":"message","role":"assistant","model":"story","content":[{"type":"text","text":"Once upon a time."}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":5}}
    "#]],
    );
    check(
        &world.ask_in("/v1/responses", RESPONSE, "story", false).await,
        expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 960

        {"id":"resp_ID","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"story","output":[{"id":"msg_ID","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Once upon a time.","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":14},"user":null,"metadata":{}}
    "#]],
    );
    check(
        &world.ask_in("/api/chat", CHAT, "story", false).await,
        expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 960

        {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Once upon a time."},"done":true,"done_reason":"stop","total_duration":0,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":0,"eval_count":5,"eval_duration":0,"peerwatt":{"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}}

    "#]],
    );
    check(
        &world.ask_in("/api/generate", GENERATE, "story", false).await,
        expect![[r#"
        200
        content-type: application/json
        x-peerwatt-cost-nusd: 960

        {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":"Once upon a time.","done":true,"done_reason":"stop","total_duration":0,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":0,"eval_count":5,"eval_duration":0,"peerwatt":{"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}}

    "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_and_streams_that_fail() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "dies-after-3-tokens"]).await;
    let _other = world.provider(12, &["other=dies-after-3-tokens"]).await;
    for (path, body, mortal, whole, failed) in [
        (
            "/v1/messages",
            ANTHROPIC,
            "dies-after-3-tokens",
            expect![[r#"
            200
            content-type: text/event-stream

            event: message_start
            data: {"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant","model":"story","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

            event: content_block_start
            data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Once"}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" upon"}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" a"}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" ti"}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"me."}}

            event: content_block_stop
            data: {"type":"content_block_stop","index":0}

            event: message_delta
            data: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":9,"output_tokens":5}}

            : peerwatt {"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}

            event: message_stop
            data: {"type":"message_stop"}


        "#]],
            expect![[r#"
            200
            content-type: text/event-stream

            event: message_start
            data: {"type":"message_start","message":{"id":"msg_ID","type":"message","role":"assistant","model":"dies-after-3-tokens","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}

            event: content_block_start
            data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Once upon a"}}

            : peerwatt {"request_id":"ID","cost_nusd":"760","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"f7d27d5610cd34a967f979717d9e5aa485ad250f11a53e37864bd91c26309b1e","receipt":"/v1/receipts/ID"}

            event: error
            data: {"type":"error","error":{"type":"api_error","message":"the provider failed: its connection ended"}}


        "#]],
        ),
        (
            "/v1/responses",
            RESPONSE,
            "dies-after-3-tokens",
            expect![[r#"
            200
            content-type: text/event-stream

            event: response.created
            data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_ID","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"story","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

            event: response.in_progress
            data: {"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_ID","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"story","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

            event: response.output_item.added
            data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_ID","type":"message","status":"in_progress","role":"assistant","content":[]}}

            event: response.content_part.added
            data: {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_ID","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":"Once"}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":5,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":" upon"}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":6,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":" a"}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":" ti"}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":8,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":"me."}

            event: response.output_text.done
            data: {"type":"response.output_text.done","sequence_number":9,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"text":"Once upon a time."}

            event: response.content_part.done
            data: {"type":"response.content_part.done","sequence_number":10,"item_id":"msg_ID","output_index":0,"content_index":0,"part":{"type":"output_text","text":"Once upon a time.","annotations":[],"logprobs":[]}}

            event: response.output_item.done
            data: {"type":"response.output_item.done","sequence_number":11,"output_index":0,"item":{"id":"msg_ID","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Once upon a time.","annotations":[],"logprobs":[]}]}}

            : peerwatt {"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}

            event: response.completed
            data: {"type":"response.completed","sequence_number":12,"response":{"id":"resp_ID","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"story","output":[{"id":"msg_ID","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Once upon a time.","annotations":[],"logprobs":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":14},"user":null,"metadata":{}}}


        "#]],
            expect![[r#"
            200
            content-type: text/event-stream

            event: response.created
            data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_ID","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"dies-after-3-tokens","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

            event: response.in_progress
            data: {"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_ID","object":"response","created_at":1700000000,"status":"in_progress","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"dies-after-3-tokens","output":[],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":false,"temperature":null,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":null,"truncation":"disabled","usage":null,"user":null,"metadata":{}}}

            event: response.output_item.added
            data: {"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_ID","type":"message","status":"in_progress","role":"assistant","content":[]}}

            event: response.content_part.added
            data: {"type":"response.content_part.added","sequence_number":3,"item_id":"msg_ID","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[],"logprobs":[]}}

            event: response.output_text.delta
            data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_ID","output_index":0,"content_index":0,"logprobs":[],"delta":"Once upon a"}

            : peerwatt {"request_id":"ID","cost_nusd":"760","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"f7d27d5610cd34a967f979717d9e5aa485ad250f11a53e37864bd91c26309b1e","receipt":"/v1/receipts/ID"}

            event: error
            data: {"type":"error","sequence_number":5,"code":"provider_failed","message":"the provider failed: its connection ended","param":null}


        "#]],
        ),
        (
            "/api/chat",
            CHAT,
            "other",
            expect![[r#"
            200
            content-type: application/x-ndjson

            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Once"},"done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":" upon"},"done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":" a"},"done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":" ti"},"done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"me."},"done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":0,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":0,"eval_count":5,"eval_duration":0,"peerwatt":{"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}}

        "#]],
            expect![[r#"
                200
                content-type: application/x-ndjson

                {"model":"other","created_at":"2023-11-14T22:13:20.000Z","message":{"role":"assistant","content":"Once upon a"},"done":false}
                {"error":"the provider failed: its connection ended"}

            "#]],
        ),
        (
            "/api/generate",
            GENERATE,
            "other",
            expect![[r#"
            200
            content-type: application/x-ndjson

            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":"Once","done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":" upon","done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":" a","done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":" ti","done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":"me.","done":false}
            {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":"","done":true,"done_reason":"stop","total_duration":0,"load_duration":0,"prompt_eval_count":9,"prompt_eval_duration":0,"eval_count":5,"eval_duration":0,"peerwatt":{"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}}

        "#]],
            expect![[r#"
                200
                content-type: application/x-ndjson

                {"model":"other","created_at":"2023-11-14T22:13:20.000Z","response":"Once upon a","done":false}
                {"error":"the provider failed: its connection ended"}

            "#]],
        ),
    ] {
        check(&world.ask_in(path, body, "story", true).await, whole);
        check(&world.ask_in(path, body, mortal, true).await, failed);
    }
    let (_, reserved) = world.spent().await;
    assert_eq!(reserved, Nusd::ZERO);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_the_form_of_its_api() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "bad-request"]).await;
    let mut shown = String::new();
    for (path, body) in
        [("/v1/messages", ANTHROPIC), ("/api/chat", CHAT), ("/v1/responses", RESPONSE)]
    {
        let no_key = Request::post(path).body(Body::empty()).unwrap();
        shown += &world.ask(no_key).await.shown();
        shown += &world.ask_in(path, "{", "", false).await.shown();
        shown += &world.ask_in(path, body, "other", false).await.shown();
        shown += &world.ask_in(path, body, "bad-request", true).await.shown();
        shown += &world.get(path).await.shown();
    }
    shown += &world.get("/api/nothing").await.shown();
    let context = r#"{"model": "story", "messages": [{"role": "user", "content": "Hello"}], "options": {"num_ctx": 1000000}}"#;
    shown += &world.ask(world.request("/api/chat", context)).await.shown();
    expect![[r#"
        401
        content-type: application/json

        {"type":"error","error":{"type":"authentication_error","message":"no API key was given; send `Authorization: Bearer pw-…`"}}
        400
        content-type: application/json

        {"type":"error","error":{"type":"invalid_request_error","message":"the body is not valid JSON: EOF while parsing an object at line 1 column 1"}}
        404
        content-type: application/json

        {"type":"error","error":{"type":"not_found_error","message":"the model `other` is not offered here; offered now: bad-request, story"}}
        400
        content-type: application/json

        {"type":"error","error":{"type":"invalid_request_error","message":"not with this engine"}}
        405
        content-type: application/json

        {"type":"error","error":{"type":"invalid_request_error","message":"GET is not allowed here"}}
        401
        content-type: application/json

        {"error":"no API key was given; send `Authorization: Bearer pw-…`"}
        400
        content-type: application/json

        {"error":"the body is not valid JSON: EOF while parsing an object at line 1 column 1"}
        404
        content-type: application/json

        {"error":"the model `other` is not offered here; offered now: bad-request, story"}
        400
        content-type: application/json

        {"error":"not with this engine"}
        405
        content-type: application/json

        {"error":"GET is not allowed here"}
        401
        content-type: application/json

        {"error":{"message":"no API key was given; send `Authorization: Bearer pw-…`","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}
        400
        content-type: application/json

        {"error":{"message":"the body is not valid JSON: EOF while parsing an object at line 1 column 1","type":"invalid_request_error","param":"?","code":null}}
        404
        content-type: application/json

        {"error":{"message":"the model `other` is not offered here; offered now: bad-request, story","type":"invalid_request_error","param":"model","code":"model_not_found"}}
        400
        content-type: application/json

        {"error":{"message":"not with this engine","type":"invalid_request_error","param":"stop","code":null}}
        405
        content-type: application/json

        {"error":{"message":"GET is not allowed here","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}
        404
        content-type: application/json

        {"error":"there is no /api/nothing here; docs/spec/gateway-api.md lists what there is"}
        400
        content-type: application/json

        {"error":"no provider of `story` has a context of 1000000 tokens"}
    "#]].assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn ollamas_clients_are_told_of_models() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    check(
        &world.get("/api/tags").await,
        expect![[r#"
        200
        content-type: application/json

        {"models":[{"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"digest":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","model":"story","modified_at":"2023-11-14T22:13:20.000Z","name":"story","size":0}]}
    "#]],
    );
    check(
        &world.get("/api/ps").await,
        expect![[r#"
        200
        content-type: application/json

        {"models":[{"context_length":4096,"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"digest":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","expires_at":"2023-11-14T22:18:20.000Z","model":"story","name":"story","size":0,"size_vram":0}]}
    "#]],
    );
    check(
        &world.get("/api/version").await,
        expect![[r#"
        200
        content-type: application/json

        {"version":"0.12.11"}
    "#]],
    );
    let show = |name: &str| world.request("/api/show", &format!(r#"{{"model": "{name}"}}"#));
    check(
        &world.ask(show("story")).await,
        expect![[r#"
            200
            content-type: application/json

            {"capabilities":["completion","tools"],"details":{"families":[],"family":"","format":"gguf","parameter_size":"","parent_model":"","quantization_level":""},"model_info":{"general.architecture":"peerwatt","general.basename":"story","peerwatt.context_length":4096},"modelfile":"","modified_at":"2023-11-14T22:13:20.000Z","parameters":"","template":""}
        "#]],
    );
    check(
        &world.ask(show("other")).await,
        expect![[r#"
        404
        content-type: application/json

        {"error":"the model `other` is not offered here; offered now: story"}
    "#]],
    );
    let load = |name: &str| world.request("/api/generate", &format!(r#"{{"model": "{name}"}}"#));
    check(
        &world.ask(load("story")).await,
        expect![[r#"
        200
        content-type: application/json

        {"model":"story","created_at":"2023-11-14T22:13:20.000Z","response":"","done":true,"done_reason":"load"}

    "#]],
    );
    check(
        &world.ask(load("other")).await,
        expect![[r#"
        404
        content-type: application/json

        {"error":"the model `other` is not offered here; offered now: story"}
    "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_may_stand_where_anthropics_clients_put_it() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    let body = ANTHROPIC.replace("MODEL", "story").replace("STREAM", "false");
    let request = Request::post("/v1/messages").header("x-api-key", &world.api_key);
    assert_eq!(world.ask(request.body(Body::from(body)).unwrap()).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn programs_of_this_machine_need_no_key_where_that_is_wanted() {
    let chat = |host: &str, origin: Option<&str>| {
        let body = CHAT.replace("MODEL", "story").replace("STREAM", "false");
        let request = Request::post("/api/chat").header("host", host);
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        request.body(Body::from(body)).unwrap()
    };
    let world = World::with(|config| config.keyless = Some("tests".into())).await;
    let _double = world.provider(11, &["story"]).await;
    for (host, origin, status) in [
        ("127.0.0.1:8400", None, 200),
        ("localhost:8400", Some("http://localhost:3000"), 200),
        ("[::1]:8400", Some("http://[::1]:8400"), 200),
        ("127.0.0.1:8400", Some("https://elsewhere.example"), 401),
        ("127.0.0.1:8400", Some("null"), 401),
        ("elsewhere.example:8400", None, 401),
        ("127.0.0.1.elsewhere.example", None, 401),
        ("192.168.1.2:8400", None, 401),
    ] {
        let answer = world.ask(chat(host, origin)).await;
        assert_eq!(answer.status, status, "{host} {origin:?}");
    }
    assert!(world.spent().await.0 > Nusd::ZERO);
    // A key that is wrong is not replaced by it.
    let mut wrong = chat("127.0.0.1:8400", None);
    wrong.headers_mut().insert("authorization", "Bearer pw-nobody".parse().unwrap());
    assert_eq!(world.ask(wrong).await.status, 401);
    let world = World::new().await;
    assert_eq!(world.ask(chat("127.0.0.1:8400", None)).await.status, 401);
}
