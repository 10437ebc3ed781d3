//! What clients see: whole answers.

use expect_test::{Expect, expect};

use super::*;

fn check(answer: &Answer, expect: Expect) {
    expect.assert_eq(&answer.shown());
}

#[tokio::test(start_paused = true)]
async fn a_chat_is_answered_plainly_with_its_cost() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    check(
        &world.chat("story", "").await,
        expect![[r#"
            200
            content-type: application/json
            x-peerwatt-cost-nusd: 960

            {"id":"chatcmpl-ID","object":"chat.completion","created":1700000000,"model":"story","choices":[{"index":0,"message":{"role":"assistant","content":"Once upon a time.","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}
        "#]],
    );
    check(
        &world.chat("story", r#", "logprobs": true, "top_logprobs": 1, "max_tokens": 64"#).await,
        expect![[r#"
            200
            content-type: application/json
            x-peerwatt-cost-nusd: 960

            {"id":"chatcmpl-ID","object":"chat.completion","created":1700000000,"model":"story","choices":[{"index":0,"message":{"role":"assistant","content":"Once upon a time.","refusal":null},"logprobs":{"content":[{"token":"Once","logprob":-0.250000,"bytes":[79,110,99,101],"top_logprobs":[{"token":"?","logprob":-2.000000,"bytes":[63]}]},{"token":" upon","logprob":-0.250000,"bytes":[32,117,112,111,110],"top_logprobs":[{"token":"?","logprob":-2.000000,"bytes":[63]}]},{"token":" a","logprob":-0.250000,"bytes":[32,97],"top_logprobs":[{"token":"?","logprob":-2.000000,"bytes":[63]}]},{"token":" ti","logprob":-0.250000,"bytes":[32,116,105],"top_logprobs":[{"token":"?","logprob":-2.000000,"bytes":[63]}]},{"token":"me.","logprob":-0.250000,"bytes":[109,101,46],"top_logprobs":[{"token":"?","logprob":-2.000000,"bytes":[63]}]}],"refusal":null},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14}}
        "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_chat_is_streamed_with_its_cost_at_the_end() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "says-nothing"]).await;
    let usage = r#", "stream": true, "stream_options": {"include_usage": true}"#;
    check(
        &world.chat("story", usage).await,
        expect![[r#"
            200
            content-type: text/event-stream

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"content":"Once"},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"content":" upon"},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"content":" a"},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"content":" ti"},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{"content":"me."},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","usage":null,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"story","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14},"peerwatt":{"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}}

            : peerwatt {"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}

            data: [DONE]


        "#]],
    );
    check(
        &world.chat("says-nothing", r#", "stream": true"#).await,
        expect![[r#"
            200
            content-type: text/event-stream

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"says-nothing","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}

            data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":1700000000,"model":"says-nothing","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

            : peerwatt {"request_id":"ID","cost_nusd":"0","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"59402a75974d2e15c16118a3b45217b8ba1a643ec634744d2713712ed4c0d0b0","receipt":"/v1/receipts/ID"}

            data: [DONE]


        "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn trailers_carry_the_cost_for_clients_that_take_them() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    let body = r#"{"model": "story", "prompt": "Hello", "stream": true}"#;
    let mut request = world.request("/v1/completions", body);
    request.headers_mut().insert("te", "gzip, trailers".parse().unwrap());
    check(
        &world.ask(request).await,
        expect![[r#"
            200
            content-type: text/event-stream
            trailer: x-peerwatt-cost-nusd
            trailer x-peerwatt-cost-nusd: 960

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":"Once","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":" upon","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":" a","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":" ti","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":"me.","logprobs":null,"finish_reason":null}]}

            data: {"id":"cmpl-ID","object":"text_completion","created":1700000000,"model":"story","choices":[{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}]}

            : peerwatt {"request_id":"ID","cost_nusd":"960","provider":"watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v","model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","receipt":"/v1/receipts/ID"}

            data: [DONE]


        "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn characters_are_whole_whatever_the_tokens_are() {
    let world = World::new().await;
    let _double = world.provider(11, &["pieces"]).await;
    let answer = world.chat("pieces", "").await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "grüße 😀");
    let streamed = world.chat("pieces", r#", "stream": true"#).await.body;
    let mut text = String::new();
    for line in streamed.lines().filter_map(|line| line.strip_prefix("data: {")) {
        let chunk: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(text, "grüße 😀");
}

#[tokio::test(start_paused = true)]
async fn models_are_listed_by_name_and_pinned_by_id() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "refuses"]).await;
    let get = |path: &str| {
        let bearer = format!("Bearer {}", world.api_key);
        Request::get(path).header("authorization", bearer).body(Body::empty()).unwrap()
    };
    check(
        &world.ask(get("/v1/models")).await,
        expect![[r#"
            200
            content-type: application/json

            {"object":"list","data":[{"id":"refuses","object":"model","created":1700000000,"owned_by":"peerwatt","peerwatt":{"model_id":"520011ae027bd5b3028166a9fdbc60019e69933cee422b67023ec252bce8d33e","providers":1,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"forced","samplers":true,"resold":false,"price":{"request_nusd":"10","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}},{"id":"story","object":"model","created":1700000000,"owned_by":"peerwatt","peerwatt":{"model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","providers":1,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"forced","samplers":true,"resold":false,"price":{"request_nusd":"10","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}}]}
        "#]],
    );
    let id = double::model("story");
    check(
        &world.ask(get(&format!("/v1/models/{id}"))).await,
        expect![[r#"
            200
            content-type: application/json

            {"id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","object":"model","created":1700000000,"owned_by":"peerwatt","peerwatt":{"model_id":"c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f","providers":1,"context_tokens":4096,"completions":true,"embeddings":"none","logprobs":true,"json":true,"tools":"forced","samplers":true,"resold":false,"price":{"request_nusd":"10","prompt_nusd_per_mtok":"50000000","completion_nusd_per_mtok":"100000000"}}}
        "#]],
    );
    check(
        &world.ask(get("/v1/models/a/b")).await,
        expect![[r#"
        404
        content-type: application/json

        {"error":{"message":"the model `a/b` is not offered here; offered now: refuses, story","type":"invalid_request_error","param":"model","code":"model_not_found"}}
    "#]],
    );
    check(
        &world.ask(get("/health")).await,
        expect![[r#"
        200
        content-type: application/json

        {"status":"ok","providers":1,"models":2}
    "#]],
    );
    assert_eq!(world.chat(&id.to_string(), "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_openais_form() {
    let world = World::with(|config| config.limits.body_bytes_max = 1_000).await;
    let plain = |method: &str, path: &str, auth: &str| {
        let request = Request::builder().method(method).uri(path).header("authorization", auth);
        request.body(Body::empty()).unwrap()
    };
    let good = format!("Bearer {}", world.api_key);
    let no_auth = Request::post("/v1/chat/completions").body(Body::empty()).unwrap();
    let cases = [
        world.ask(no_auth).await,
        world.ask(plain("POST", "/v1/chat/completions", "Basic eDp5")).await,
        world.ask(plain("POST", "/v1/chat/completions", "Bearer pw-nobody-knows-this-key")).await,
        world.ask(plain("GET", "/v1/models", "Bearer x")).await,
        world.ask(plain("GET", "/v1/chat/completions", &good)).await,
        world.ask(plain("DELETE", "/v1/models", &good)).await,
        world.ask(plain("POST", "/v1/moderations", &good)).await,
        world.ask(plain("GET", "/v1/receipts/7", &good)).await,
        world.ask(plain("GET", "/v1/receipts/00000000000000000000000000000000", &good)).await,
        world.ask(world.request("/v1/chat/completions", "{")).await,
        world.chat("story", r#", "temperature": "hot""#).await,
        world.chat("story", &format!(r#", "user": "{}""#, "x".repeat(1_000))).await,
        world.chat("story", "").await,
    ];
    let mut shown: String = cases.iter().map(Answer::shown).collect();
    let _double = world.provider(11, &["tale", "bad-request"]).await;
    shown += &world.chat("story", "").await.shown();
    shown += &world.chat("bad-request", "").await.shown();
    expect![[r#"
        401
        content-type: application/json

        {"error":{"message":"no API key was given; send `Authorization: Bearer pw-…`","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}
        401
        content-type: application/json

        {"error":{"message":"no API key was given; send `Authorization: Bearer pw-…`","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}
        401
        content-type: application/json

        {"error":{"message":"this API key is not known here","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}
        401
        content-type: application/json

        {"error":{"message":"this API key is not known here","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}
        405
        content-type: application/json

        {"error":{"message":"GET is not allowed here","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}
        405
        content-type: application/json

        {"error":{"message":"DELETE is not allowed here","type":"invalid_request_error","param":null,"code":"method_not_allowed"}}
        404
        content-type: application/json

        {"error":{"message":"there is no /v1/moderations here; docs/spec/gateway-api.md lists what there is","type":"invalid_request_error","param":null,"code":"not_found"}}
        400
        content-type: application/json

        {"error":{"message":"a receipt is asked for by its request id, 32 hexadecimal digits","type":"invalid_request_error","param":"id","code":null}}
        404
        content-type: application/json

        {"error":{"message":"there is no receipt of request 00000000000000000000000000000000; receipts are kept for a limited time","type":"invalid_request_error","param":"id","code":"receipt_not_found"}}
        400
        content-type: application/json

        {"error":{"message":"the body is not valid JSON: EOF while parsing an object at line 1 column 1","type":"invalid_request_error","param":null,"code":null}}
        400
        content-type: application/json

        {"error":{"message":"temperature: invalid type: string \"hot\", expected f64","type":"invalid_request_error","param":"temperature","code":null}}
        413
        content-type: application/json

        {"error":{"message":"the body is larger than the 1000 bytes that are taken","type":"invalid_request_error","param":null,"code":"body_too_large"}}
        503
        content-type: application/json
        retry-after: 5

        {"error":{"message":"no provider of `story` can take this request now: no provider is connected","type":"server_error","param":"model","code":"no_provider"}}
        404
        content-type: application/json

        {"error":{"message":"the model `story` is not offered here; offered now: bad-request, tale","type":"invalid_request_error","param":"model","code":"model_not_found"}}
        400
        content-type: application/json

        {"error":{"message":"not with this engine","type":"invalid_request_error","param":"stop","code":null}}
    "#]].assert_eq(&shown);
    let health = Request::get("/health").body(Body::empty()).unwrap();
    assert_eq!(world.ask(health).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_web_page_chats_without_a_key() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "dies-after-3-tokens"]).await;
    let request = |model: &str| crate::ChatRequest {
        model: model.into(),
        messages: vec![types::inference::ChatMessage::text(
            types::inference::Role::User,
            "Hello".into(),
        )],
        tokens_max: None,
    };
    for (model, last) in [("story", "Done"), ("dies-after-3-tokens", "Failed")] {
        let mut stream = world.gateway.chat(request(model), crate::PLAYGROUND_KEY).await.unwrap();
        let mut text = String::new();
        let ending = loop {
            match stream.next().await.unwrap() {
                crate::ChatEvent::Text(more) => text += &more,
                ending => break ending,
            }
        };
        assert!("Once upon a time.".starts_with(&text), "{text}");
        assert!(format!("{ending:?}").starts_with(last), "{ending:?}");
    }
    let error = world.gateway.chat(request("other"), crate::PLAYGROUND_KEY).await.unwrap_err();
    assert!(matches!(error, RequestFailure::UnknownModel { .. }));
    let names: Vec<String> =
        world.gateway.recent_requests(9).into_iter().map(|view| view.key).collect();
    assert_eq!(names, ["playground", "playground"]);
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_shown_to_the_key_that_paid_and_verifies_offline() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    let answer = world.chat("story", "").await;
    let get = |key: &str| {
        let path = format!("/v1/receipts/{}", answer.id);
        let bearer = format!("Bearer {key}");
        Request::get(path).header("authorization", bearer).body(Body::empty()).unwrap()
    };
    let other = world.gateway.create_api_key("other", KeyLimits::budget(BUDGET)).await.unwrap();
    assert_eq!(world.ask(get(&other)).await.status, 404);
    let shown = world.ask(get(&world.api_key)).await;
    let stored: crate::StoredReceipt = serde_json::from_str(&shown.body).unwrap();
    assert_eq!(stored.receipt.verify(&keys::Ed25519), Ok(()));
    assert!(stored.receipt.agrees());
    assert_eq!(stored.receipt.verify_response(b"Once upon a time."), Ok(()));
    let salt = types::hash::from_hex::<16>(&stored.salt).unwrap();
    let prompt = types::inference::Prompt::Chat(vec![types::inference::ChatMessage::text(
        types::inference::Role::User,
        "Hello".into(),
    )]);
    assert_eq!(prompt.hash(&salt), stored.receipt.acknowledgement.value.prompt_hash);
    assert!(!shown.body.contains("Hello") && !shown.body.contains("Once"));
}

use crate::RequestFailure;
