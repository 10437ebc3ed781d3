//! Keys over HTTP: made, limited and revoked by the operator, and what each may use.

use std::sync::atomic::{AtomicU64, Ordering};

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

impl World {
    /// A request with a key and a body, if there is one.
    fn with_key(&self, method: &str, path: &str, key: &str, body: Option<&Value>) -> Request<Body> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {key}"))
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .unwrap()
    }

    async fn operator(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask(self.with_key(method, path, ADMIN_KEY, body)).await
    }

    /// Gives the first key other limits.
    async fn limit(&self, limits: KeyLimits) {
        self.gateway.set_limits("tests", limits).await.unwrap();
    }
}

fn check(answer: &Answer, expect: Expect) {
    expect.assert_eq(&answer.shown());
}

#[tokio::test(start_paused = true)]
async fn the_operator_makes_limits_and_revokes_keys() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    let body = json!({"name": "a b", "limits": {"budget": "5000000", "requests_at_once": 2}});
    let made = world.operator("POST", "/admin/keys", Some(&body)).await;
    assert_eq!(made.status, 201);
    let key = made.json()["api_key"].as_str().unwrap().to_owned();
    let ask = || {
        let body = json!({"model": "story", "messages": [{"role": "user", "content": "Hello"}]});
        world.ask(world.with_key("POST", "/v1/chat/completions", &key, Some(&body)))
    };
    assert_eq!(ask().await.status, 200);

    let named = |answer: Answer| {
        let body = answer.body.replace(&key[..8], "pw-PREFIX");
        Answer { body, ..answer }
    };
    let change = json!({"limits": {"budget": null, "budget_day": "960", "models": ["story"]}});
    check(
        &named(world.operator("PATCH", "/admin/keys/a%20b", Some(&change)).await),
        expect![[r#"
        200
        content-type: application/json

        {"name":"a b","prefix":"pw-PREFIX","limits":{"budget":null,"budget_day":"960","budget_month":null,"requests_per_minute":null,"tokens_per_minute":null,"requests_at_once":2,"expires_at":null,"models":["story"]},"used":"960","used_day":"960","used_month":"960","reserved":"0","in_flight":0,"created_at":1700000000000,"revoked_at":null}
    "#]],
    );
    assert_eq!(ask().await.status, 402, "the day's budget is used up");
    check(
        &named(world.operator("DELETE", "/admin/keys/a%20b", None).await),
        expect![[r#"
        200
        content-type: application/json

        {"name":"a b","prefix":"pw-PREFIX","limits":{"budget":null,"budget_day":"960","budget_month":null,"requests_per_minute":null,"tokens_per_minute":null,"requests_at_once":2,"expires_at":null,"models":["story"]},"used":"960","used_day":"960","used_month":"960","reserved":"0","in_flight":0,"created_at":1700000000000,"revoked_at":1700000000000}
    "#]],
    );
    assert_eq!(ask().await.status, 401);
    let list = world.operator("GET", "/admin/keys", None).await.json();
    let names: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a b", "playground", "tests"]);
    assert!(!list.to_string().contains(&key));
}

#[tokio::test(start_paused = true)]
async fn what_the_operator_asks_wrongly_is_refused_by_name() {
    let world = World::new().await;
    let mut shown = String::new();
    for (method, path, body) in [
        ("GET", "/admin/keys/tests", None),
        ("POST", "/admin/keys", Some(json!({"name": "tests"}))),
        ("POST", "/admin/keys", Some(json!({"name": ""}))),
        ("POST", "/admin/keys", Some(json!({"name": "x", "limits": {"rpm": 1}}))),
        ("POST", "/admin/keys", Some(json!({"name": "x", "limits": {"tokens_per_minute": 0}}))),
        ("POST", "/admin/keys", Some(json!({"name": "x", "api_key": "short"}))),
        ("POST", "/admin/keys", Some(json!({"name": "x", "api_key": world.api_key}))),
        ("PATCH", "/admin/keys/nobody", Some(json!({"limits": {}}))),
        ("PATCH", "/admin/keys/tests", Some(json!({"limits": {"rpm": 1}}))),
        ("DELETE", "/admin/keys/nobody", None),
        ("GET", "/admin/usage?key=nobody", None),
        ("GET", "/admin/usage?format=xml", None),
        ("GET", "/admin/other", None),
    ] {
        let answer = world.operator(method, path, body.as_ref()).await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        shown += &format!("{method} {path}: {} {message}\n", answer.status);
    }
    expect![[r#"
        GET /admin/keys/tests: 405 GET is not allowed here
        POST /admin/keys: 409 there is a key named `tests` already; choose another name
        POST /admin/keys: 400 a key's name has 1 to 64 bytes
        POST /admin/keys: 400 unknown field `rpm`, expected one of `budget`, `budget_day`, `budget_month`, `requests_per_minute`, `tokens_per_minute`, `requests_at_once`, `expires_at`, `models` at line 1 column 16
        POST /admin/keys: 400 a rate is 1 or more; to stop a key, revoke it
        POST /admin/keys: 400 an imported key starts with `pw-` and has 20 to 128 letters, digits, `-` or `_`
        POST /admin/keys: 409 this key is in use under another name
        PATCH /admin/keys/nobody: 404 there is no key named `nobody`
        PATCH /admin/keys/tests: 400 there is no limit `rpm`; there are budget, budget_day, budget_month, expires_at, models, requests_at_once, requests_per_minute, tokens_per_minute
        DELETE /admin/keys/nobody: 404 there is no key named `nobody`
        GET /admin/usage?key=nobody: 404 there is no key named `nobody`
        GET /admin/usage?format=xml: 400 format: unknown variant `xml`, expected `json` or `csv`
        GET /admin/other: 404 there is no /admin/other here; docs/spec/gateway-api.md lists what there is
    "#]].assert_eq(&shown);
    for path in ["/admin/keys", "/admin/usage"] {
        assert_eq!(world.get(path).await.status, 401, "an API key opens nothing of it");
    }
    let closed = World::with(|config| config.admin_key = None).await;
    assert_eq!(closed.operator("GET", "/admin/keys", None).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_and_says_when_to_come_back() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    world.limit(KeyLimits { requests_per_minute: Some(2), ..KeyLimits::default() }).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    assert_eq!(world.chat("story", "").await.status, 200);
    check(
        &world.chat("story", "").await,
        expect![[r#"
        429
        content-type: application/json
        retry-after: 30

        {"error":{"message":"this key may send 2 requests a minute; wait 30 s","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}
    "#]],
    );
    tokio::time::advance(std::time::Duration::from_secs(30)).await;
    assert_eq!(world.chat("story", "").await.status, 200);

    // The prompt is held by its bytes and counted as it is: 9 tokens, and 5 of the answer.
    world.limit(KeyLimits { tokens_per_minute: Some(40), ..KeyLimits::default() }).await;
    assert_eq!(world.chat("story", "").await.status, 200);
    let refused = world.chat("story", "").await;
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("40 tokens a minute"), "{}", refused.body);
    tokio::time::advance(std::time::Duration::from_secs(60)).await;
    assert_eq!(world.chat("story", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_has_so_many_requests_at_once() {
    let world = World::new().await;
    let double = world.provider(11, &["waits", "story"]).await;
    world.limit(KeyLimits { requests_at_once: Some(1), ..KeyLimits::default() }).await;
    let waiting = world.chat("waits", r#", "stream": true"#);
    let asked = async {
        double.until(|seen| !seen.orders.is_empty()).await;
        world.chat("story", "").await
    };
    let refused = tokio::select! {
        refused = asked => refused,
        _ = waiting => panic!("it waits"),
    };
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (429, Some("rate_limit_exceeded"))
    );
    world.gateway.idle().await;
    assert_eq!(world.chat("story", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_key_sees_and_uses_its_models_only_until_it_expires() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "pieces"]).await;
    let limits = KeyLimits { models: vec!["pieces".into()], ..KeyLimits::default() };
    world.limit(limits.clone()).await;
    check(
        &world.chat("story", "").await,
        expect![[r#"
        403
        content-type: application/json

        {"error":{"message":"this API key may not use the model `story`; GET /v1/models lists those it may","type":"permission_error","param":"model","code":"model_not_allowed"}}
    "#]],
    );
    assert_eq!(world.chat("pieces", "").await.status, 200);
    let names = |list: &Value, name: &str| -> Vec<String> {
        let of = |model: &Value| model[name].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(of).collect()
    };
    assert_eq!(names(&world.get("/v1/models").await.json()["data"], "id"), ["pieces"]);
    assert_eq!(world.get("/v1/models/story").await.status, 404);
    assert_eq!(names(&world.get("/v1/prices").await.json()["data"], "model"), ["pieces"]);
    assert_eq!(names(&world.get("/api/tags").await.json()["models"], "name"), ["pieces"]);

    let now = world.gateway.shared.now();
    world.limit(KeyLimits { expires_at: Some(TimeMs(now.0 + 1)), ..limits.clone() }).await;
    assert_eq!(world.chat("pieces", "").await.status, 200);
    world.limit(KeyLimits { expires_at: Some(now), ..limits }).await;
    check(
        &world.get("/v1/models").await,
        expect![[r#"
        401
        content-type: application/json

        {"error":{"message":"this API key has expired; ask the gateway's operator for a new one","type":"invalid_request_error","param":null,"code":"expired_api_key"}}
    "#]],
    );
    assert_eq!(world.chat("pieces", "").await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn budgets_of_days_and_months_begin_anew() {
    // 2026-01-31 23:59 UTC.
    let clock = Arc::new(AtomicU64::new(1_769_903_940_000));
    let read = Arc::clone(&clock);
    let world = World::with(|config| {
        config.clock = Arc::new(move || TimeMs(read.load(Ordering::SeqCst)));
    })
    .await;
    let _double = world.provider(11, &["story"]).await;
    // One answer of at most 5 tokens, and not two.
    let budget = Some(Nusd(10_000));
    let ask = || world.chat("story", r#", "max_tokens": 5"#);
    assert_eq!(ask().await.status, 200);
    let used = world.spent().await.0;
    for (limits, message) in [
        (KeyLimits { budget_day: Some(used), ..KeyLimits::default() }, "budget of the day"),
        (KeyLimits { budget_month: Some(used), ..KeyLimits::default() }, "budget of the month"),
    ] {
        world.limit(limits).await;
        let refused = ask().await;
        assert_eq!(refused.status, 402);
        assert!(refused.body.contains(message), "{}", refused.body);
    }
    clock.fetch_add(60_000, Ordering::SeqCst);
    world
        .limit(KeyLimits { budget_day: budget, budget_month: budget, ..KeyLimits::default() })
        .await;
    assert_eq!(ask().await.status, 200, "a new day and a new month");
    let view = world.get("/v1/key").await.json();
    assert_eq!((&view["used_day"], &view["used_month"]), (&json!(used), &json!(used)));
    assert_eq!(view["used"], json!(Nusd(2 * used.0)));
}

#[tokio::test(start_paused = true)]
async fn usage_is_exported_for_a_key_and_for_all() {
    let world = World::new().await;
    let _double = world.provider(11, &["a,\"b\"", "dies-after-3-tokens"]).await;
    let first = world.chat("a,\\\"b\\\"", "").await;
    world.chat("dies-after-3-tokens", r#", "stream": true"#).await;
    let other = world.gateway.create_api_key("other", KeyLimits::default()).await.unwrap();
    world.gateway.idle().await;
    let csv = world.get("/v1/usage?format=csv").await;
    let shown = csv.body.replace(&first.id, "FIRST");
    let second = shown.lines().last().unwrap().split(',').next().unwrap().to_owned();
    let shown = shown.replace(&second, "SECOND");
    expect![[r#"
        content-type: text/csv; charset=utf-8
        request_id,started_at,ended_at,key,model,model_id,provider,upstream,prompt_tokens,completion_tokens,counted,finish,cost_nusd,duration_ms
        FIRST,2023-11-14T22:13:20Z,2023-11-14T22:13:20Z,tests,"a,""b""",db76ffd4048f4f49eb6c36b671bd1ffd8e7ceae50da38a958dd913b6727d1ac2,watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v,,9,5,token_ids,stop,960,0
        SECOND,2023-11-14T22:13:20Z,2023-11-14T22:13:20Z,tests,dies-after-3-tokens,f7d27d5610cd34a967f979717d9e5aa485ad250f11a53e37864bd91c26309b1e,watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v,,9,3,token_ids,failed,760,0
    "#]].assert_eq(&format!("{}{shown}", csv.headers));
    let all = world.operator("GET", "/admin/usage?key=tests", None).await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    assert_eq!(all["data"][0]["request_id"], json!(first.id));
    assert_eq!(all["data"][0]["cost_nusd"], json!("960"));
    let now = world.gateway.shared.now().0;
    for (path, count) in [
        ("/admin/usage".to_owned(), 2),
        ("/admin/usage?key=other".to_owned(), 0),
        (format!("/admin/usage?from={now}"), 2),
        (format!("/admin/usage?to={now}"), 0),
        (format!("/admin/usage?from={}", now + 1), 0),
    ] {
        let list = world.operator("GET", &path, None).await.json();
        assert_eq!(list["data"].as_array().unwrap().len(), count, "{path}");
    }
    let none = world.ask(world.with_key("GET", "/v1/usage", &other, None)).await;
    assert_eq!(none.json(), json!({"data": []}));
    assert_eq!(world.get("/v1/usage?key=other").await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_long_export_comes_in_parts_and_whole() {
    let world = World::new().await;
    let _double = world.provider(11, &["story"]).await;
    for _ in 0..300 {
        assert_eq!(world.chat("story", "").await.status, 200);
    }
    let lines = world.get("/v1/usage?format=csv").await.body.lines().count();
    assert_eq!(lines, 301);
    let list = world.get("/v1/usage").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 300);
}

#[tokio::test(start_paused = true)]
async fn prices_are_listed_with_the_cheapest_first() {
    let world = World::new().await;
    let _first = world.provider(11, &["story"]).await;
    let _second = world.provider(12, &["story"]).await;
    let list = world.get("/v1/prices").await.json();
    let list = list["data"].as_array().unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["price"]["completion_nusd_per_mtok"], json!("100000000"));
    assert!(list.iter().all(|offer| offer["available"] == json!(true)));
}

also_on_postgres! {
    the_operator_makes_limits_and_revokes_keys
    what_the_operator_asks_wrongly_is_refused_by_name
    a_rate_is_kept_and_says_when_to_come_back
    a_key_has_so_many_requests_at_once
    a_key_sees_and_uses_its_models_only_until_it_expires
    budgets_of_days_and_months_begin_anew
    usage_is_exported_for_a_key_and_for_all
    a_long_export_comes_in_parts_and_whole
    prices_are_listed_with_the_cheapest_first
}
