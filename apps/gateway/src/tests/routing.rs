//! Where requests go, and what clients may say about it.

use expect_test::expect;

use super::*;

impl World {
    pub(super) async fn chat_with(
        &self,
        model: &str,
        headers: &[(&'static str, &str)],
    ) -> (Answer, String) {
        let body = format!(
            r#"{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}"#
        );
        let mut request = self.request("/v1/chat/completions", &body);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let response = self.send(request).await;
        let provider = response.headers().get("x-peerwatt-provider");
        let provider = provider.map_or("", |value| value.to_str().unwrap()).to_owned();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        (Answer { status, id: String::new(), headers: String::new(), body }, provider)
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_goes_where_its_headers_say() {
    let world = World::new().await;
    let _one = world.provider(11, &["story"]).await;
    let _other = world.provider(12, &["story"]).await;
    for seed in [11, 12, 11, 12] {
        let wanted = key(seed).address().to_string();
        let (answer, provider) =
            world.chat_with("story", &[("x-peerwatt-pin-provider", &wanted)]).await;
        assert_eq!((answer.status, provider), (200, wanted));
    }
    for policy in ["balanced", "cheapest", "fastest"] {
        let (answer, _) = world.chat_with("story", &[("x-peerwatt-policy", policy)]).await;
        assert_eq!(answer.status, 200);
    }
    let (answer, _) = world.chat_with("story", &[("x-peerwatt-max-price", "0.05/0.10")]).await;
    assert_eq!(answer.status, 200);
    let mut shown = String::new();
    let stranger = key(99).address().to_string();
    for header in [
        ("x-peerwatt-policy", "best"),
        ("x-peerwatt-pin-provider", "somebody"),
        ("x-peerwatt-max-price", "cheap"),
        ("x-peerwatt-pin-provider", &stranger),
        ("x-peerwatt-max-price", "0.01/0.01"),
        ("x-peerwatt-region", "eu"),
    ] {
        let (answer, _) = world.chat_with("story", &[header]).await;
        let error = answer.json()["error"].clone();
        shown += &format!("{} {} {}\n", answer.status, error["param"], error["message"]);
    }
    expect![[r#"
        400 "x-peerwatt-policy" "x-peerwatt-policy: is one of balanced, cheapest, fastest"
        400 "x-peerwatt-pin-provider" "x-peerwatt-pin-provider: is the account of a provider, watt1…"
        400 "x-peerwatt-max-price" "x-peerwatt-max-price: is PROMPT/COMPLETION in USD per million tokens, such as 0.05/0.10, or PROMPT/COMPLETION/REQUEST with the USD for a request beside its tokens, such as 0.05/0.10/0.0001"
        503 "model" "no provider of `story` can take this request now: another provider was asked for"
        503 "model" "no provider of `story` can take this request now: too expensive"
        503 "model" "no provider of `story` can take this request now: in another region"
    "#]].assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_route_is_explained() {
    let world = World::new().await;
    let _one = world.provider(11, &["story"]).await;
    let _other = world.provider(12, &["story"]).await;
    world.chat("story", "").await;
    let ask = |path: &str, header: Option<(&'static str, &str)>| {
        let bearer = format!("Bearer {}", world.api_key);
        let request = Request::get(path).header("authorization", bearer);
        let request = match header {
            Some((name, value)) => request.header(name, value),
            None => request,
        };
        request.body(Body::empty()).unwrap()
    };
    let answer = world.ask(ask("/v1/route?model=story", None)).await;
    let view: crate::RouteView = serde_json::from_str(&answer.body).unwrap();
    let taken: Vec<_> = view.candidates.iter().filter(|it| it.passed.is_none()).collect();
    assert_eq!(taken.len(), 1);
    assert_eq!(Some(taken[0].provider), view.provider);
    assert!(view.candidates.iter().all(|it| it.score.is_some()));
    let mut shown = String::new();
    for (path, header) in [
        ("/v1/route?model=story&prompt_tokens=9000", None),
        ("/v1/route?model=story", Some(("x-peerwatt-max-price", "0/0"))),
    ] {
        let answer = world.ask(ask(path, header)).await;
        let view: crate::RouteView = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(view.provider, None);
        let reasons = view.candidates.iter().map(|it| it.passed.clone().unwrap());
        shown += &format!("{:?}\n", reasons.collect::<Vec<_>>());
    }
    for path in ["/v1/route", "/v1/route?model=other", "/v1/route?model=story&size=3"] {
        shown += &world.ask(ask(path, None)).await.shown();
    }
    expect![[r#"
        ["the context holds 4096 tokens, 9001 are needed", "the context holds 4096 tokens, 9001 are needed"]
        ["too expensive", "too expensive"]
        400
        content-type: application/json

        {"error":{"message":"missing field `model`","type":"invalid_request_error","param":null,"code":null}}
        404
        content-type: application/json

        {"error":{"message":"the model `other` is not offered here; offered now: story","type":"invalid_request_error","param":"model","code":"model_not_found"}}
        400
        content-type: application/json

        {"error":{"message":"size: unknown field `size`, expected one of `model`, `prompt_tokens`, `max_tokens`, `embeddings`, `logprobs`, `json`, `tools`, `samplers`","type":"invalid_request_error","param":null,"code":null}}
    "#]].assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_long_prompt_goes_back_to_who_read_its_beginning() {
    let world = World::new().await;
    let _doubles = [world.provider(11, &["story"]).await, world.provider(12, &["story"]).await];
    let directory = &world.gateway.shared.directory;
    let prompt = |text: &str| types::inference::Prompt::Text(text.to_owned());
    assert_eq!(directory.prefix(&prompt(&"x".repeat(1_023))), None);
    let long = "x".repeat(1_024);
    let prefix = directory.prefix(&prompt(&long)).unwrap();
    assert_eq!(directory.prefix(&prompt(&format!("{long}y"))), Some(prefix));
    assert_ne!(directory.prefix(&prompt(&format!("y{long}"))), Some(prefix));
    let body = format!(r#"{{"model": "story", "prompt": "{long}"}}"#);
    assert_eq!(world.ask(world.request("/v1/completions", &body)).await.status, 200);
    let warm = directory.candidates(double::model("story"), &[], Some(prefix));
    assert_eq!(warm.iter().filter(|candidate| candidate.is_warm).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_hears_only_of_models_that_it_may_use() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "refuses"]).await;
    let limits = KeyLimits { models: vec!["story".into()], ..KeyLimits::budget(BUDGET) };
    let limited = world.gateway.create_api_key("limited", limits.clone()).await.unwrap();
    let limits = KeyLimits { models: vec!["another".into()], ..limits };
    let useless = world.gateway.create_api_key("useless", limits).await.unwrap();
    let mut world = World { api_key: limited, ..world };
    let mut shown = String::new();
    for path in ["/v1/route?model=refuses", "/v1/route?model=another", "/v1/models/another"] {
        let answer = world.get(path).await;
        shown += &format!("{} {}\n", answer.status, answer.json()["error"]["message"]);
    }
    for _ in 0..2 {
        let answer = world.chat("stories", "").await;
        shown += &format!("{} {}\n", answer.status, answer.json()["error"]["message"]);
        world.api_key.clone_from(&useless);
    }
    expect![[r#"
        403 "this API key may not use the model `refuses`; GET /v1/models lists those it may"
        404 "the model `another` is not offered here; offered now: story"
        404 "the model `another` is not offered here; offered now: story"
        404 "the model `stories` is not offered here; offered now: story"
        404 "the model `stories` is not offered here; offered now: none that this API key may use"
    "#]]
    .assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_audits_excluded_is_not_asked_for_that_model() {
    let world = World::new().await;
    let one = world.provider(11, &["story", "plain"]).await;
    let other = world.provider(12, &["story"]).await;
    let (one, other) = (one.key.address(), other.key.address());
    world.chain.exclude(one, double::model("story"));
    // The gateway looks every 15 seconds.
    tokio::time::sleep(std::time::Duration::from_secs(16)).await;
    for _ in 0..8 {
        let (answer, provider) = world.chat_with("story", &[]).await;
        assert_eq!((answer.status, provider), (200, other.to_string()));
    }
    let (answer, provider) = world.chat_with("plain", &[]).await;
    assert_eq!((answer.status, provider), (200, one.to_string()));
}
