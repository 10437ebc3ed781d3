//! Services outside the network: when they are asked, what they cost, and that nobody takes them for providers.

use std::sync::atomic::{AtomicU32, Ordering};

use engine::{
    EngineError, SharedEngine,
    dummy::{DummyEngine, DummyOptions},
};
use expect_test::expect;
use types::{Address, inference::CountMethod, price::Price};

use super::*;
use crate::{
    Bought, ConnectedUpstream, GatewayError, StoredReceipt, UpstreamConfig, UpstreamModel,
    UpstreamRole,
};

const PRICE: Price = Price {
    request_nusd: Nusd(0),
    prompt_nusd_per_mtok: Nusd(1_000_000_000),
    completion_nusd_per_mtok: Nusd(2_000_000_000),
};

fn engine() -> SharedEngine {
    Arc::new(DummyEngine::new(DummyOptions::all()).unwrap())
}

/// Serves each first name by the dummy model of the second.
fn upstream(name: &str, role: UpstreamRole, models: &[(&str, &str)]) -> UpstreamConfig {
    let dummies: Vec<String> = models.iter().map(|(_, dummy)| (*dummy).to_owned()).collect();
    UpstreamConfig {
        name: name.into(),
        role,
        slots: 2,
        models: models
            .iter()
            .map(|(serves, _)| UpstreamModel { serves: (*serves).into(), price: PRICE })
            .collect(),
        connect: Arc::new(move || {
            let dummies = dummies.clone();
            Box::pin(async move { connected(&dummies).await })
        }),
    }
}

async fn connected(dummies: &[String]) -> Result<ConnectedUpstream, EngineError> {
    let engine = engine();
    let known = engine.models().await?;
    let model = |name: &String| known.iter().find(|it| it.alias == *name).unwrap().clone();
    Ok(ConnectedUpstream { models: dummies.iter().map(model).collect(), engine })
}

/// A gateway with one upstream, which was reached.
async fn world(role: UpstreamRole, models: &[(&str, &str)]) -> World {
    let world =
        World::with(|config| config.upstreams = vec![upstream("cloud", role, models)]).await;
    world.gateway.ready().await;
    world
}

impl World {
    /// Who answered a stream, and its text.
    async fn streamed(&self, model: &str, more: &str) -> (Option<String>, Answer) {
        let body = format!(r#"{{"model": "{model}", "prompt": "a b c", "stream": true{more}}}"#);
        let response = self.send(self.request("/v1/completions", &body)).await;
        let header = |name: &str| {
            response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        let (upstream, id) = (header("x-peerwatt-upstream"), header("x-request-id").unwrap());
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8(bytes.to_vec()).unwrap();
        (upstream, Answer { status, id, headers: String::new(), body })
    }

    fn receipt(&self, answer: &Answer) -> StoredReceipt {
        self.gateway.receipt(answer.id.parse().unwrap()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn it_answers_when_there_is_no_provider_and_the_receipt_says_so() {
    let world = world(UpstreamRole::LastResort, &[("small", "dummy/echo")]).await;
    let body = r#"{"model": "small", "messages": [{"role": "user", "content": "Hello"}]}"#;
    let request = || world.request("/v1/chat/completions", body);
    let reply = world.send(request()).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.headers()["x-peerwatt-upstream"], "cloud");
    let recent = world.gateway.recent_requests(1).remove(0);
    let answer = Answer { id: recent.id.to_string(), ..world.ask(request()).await };
    let cost = PRICE.charge(1, 1);
    let address = Address::of_upstream(&key(GATEWAY_OPERATOR).public_key(), "cloud");
    world.gateway.idle().await;
    assert_eq!(world.spent().await, (Nusd(2 * cost.0), Nusd::ZERO));
    assert_eq!(world.owed(), (Nusd::ZERO, Nusd::ZERO));

    let StoredReceipt { receipt, bought, .. } = world.receipt(&answer);
    assert_eq!(receipt.verify(&keys::Ed25519), Ok(()));
    assert!(!receipt.agrees() && receipt.report.is_none());
    assert_eq!((receipt.cost(), receipt.acknowledgement.value.provider), (cost, address));
    let dummy = Bought { upstream: "cloud".into(), model: "dummy/echo".into() };
    assert_eq!(bought, Some(dummy.clone()));

    // In the journal it says the same.
    let world = world.restart().await;
    assert_eq!(world.receipt(&answer).bought, Some(dummy));
    let usage = world.get("/v1/usage").await.body;
    assert!(usage.contains(r#""upstream":"cloud""#), "{usage}");
}

#[tokio::test(start_paused = true)]
async fn a_last_resort_is_asked_after_providers_and_not_if_the_client_forbids_it() {
    let world =
        world(UpstreamRole::LastResort, &[("refuses", "dummy/echo"), ("story", "dummy/echo")]);
    let world = world.await;
    let double = world.provider(11, &["story", "refuses"]).await;
    let (upstream, answer) = world.streamed("story", "").await;
    assert_eq!((upstream, answer.status), (None, 200));
    assert_eq!(world.receipt(&answer).bought, None);

    let (upstream, answer) = world.streamed("refuses", "").await;
    assert_eq!((upstream.as_deref(), answer.status), (Some("cloud"), 200));
    assert!(answer.body.contains(r#""upstream":"cloud","verified":false"#), "{}", answer.body);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    assert_eq!(double.seen().sent, 5, "the story");

    let forbidden = [("x-peerwatt-upstreams", "false")];
    let (answer, _) = world.chat_with("refuses", &forbidden).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
    let (answer, _) = world.chat_with("refuses", &[("x-peerwatt-upstreams", "never")]).await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(start_paused = true)]
async fn by_policy_it_is_one_among_providers() {
    let world = world(UpstreamRole::Policy, &[("story", "dummy/echo")]).await;
    let _double = world.provider(11, &["story"]).await;
    let address = Address::of_upstream(&key(GATEWAY_OPERATOR).public_key(), "cloud");
    let pinned = [("x-peerwatt-pin-provider", &*address.to_string())];
    let (answer, provider) = world.chat_with("story", &pinned).await;
    assert_eq!((answer.status, provider), (200, address.to_string()));
    let policy = [("x-peerwatt-policy", "cheapest")];
    let (answer, provider) = world.chat_with("story", &policy).await;
    assert_eq!((answer.status, provider), (200, key(11).address().to_string()));
    let dear = [("x-peerwatt-max-price", "0.5/5"), ("x-peerwatt-pin-provider", pinned[0].1)];
    assert_eq!(world.chat_with("story", &dear).await.0.status, 503);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_billed_as_far_as_it_came_and_nobody_goes_on() {
    for (dummy, problem) in
        [("dummy/dies-after-3-tokens", "engine failed"), ("dummy/stalls-after-3-tokens", "stalled")]
    {
        let world = world(UpstreamRole::Policy, &[("story", dummy)]).await;
        let _double = world.provider(11, &["story"]).await;
        let address = Address::of_upstream(&key(GATEWAY_OPERATOR).public_key(), "cloud");
        let body = r#"{"model": "story", "prompt": "a b", "stream": true}"#;
        let mut request = world.request("/v1/completions", body);
        let pin = address.to_string().parse().unwrap();
        request.headers_mut().insert("x-peerwatt-pin-provider", pin);
        let answer = world.ask(request).await;
        assert!(answer.body.contains(r#"data: {"error":"#), "{}", answer.body);
        assert!(answer.body.contains(problem), "{}", answer.body);
        assert!(!answer.body.contains("[DONE]"));
        world.gateway.idle().await;
        let receipt = world.receipt(&answer).receipt;
        let ack = &receipt.acknowledgement.value;
        assert_eq!((ack.delivered_tokens, receipt.verify(&keys::Ed25519)), (3, Ok(())));
        assert_eq!(world.spent().await, (receipt.cost(), Nusd::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_stops_it_and_pays_for_what_it_got() {
    let world = world(UpstreamRole::LastResort, &[("slow", "dummy/paced")]).await;
    let body = r#"{"model": "slow", "prompt": "Hello", "stream": true}"#;
    let mut response = world.send(world.request("/v1/completions", body)).await;
    for _ in 0..3 {
        response.body_mut().frame().await.unwrap().unwrap();
    }
    drop(response);
    world.gateway.idle().await;
    let recent = world.gateway.recent_requests(1).remove(0);
    assert_eq!((recent.upstream.as_deref(), recent.completion_tokens), (Some("cloud"), 3));
    assert_eq!(world.spent().await, (recent.cost, Nusd::ZERO));
    // It had not said how long the prompt is.
    assert_eq!(recent.cost, PRICE.charge(recent.prompt_tokens, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_service_counts_is_believed_only_where_it_is_possible() {
    let world = world(UpstreamRole::LastResort, &[("chunks", "dummy/no-ids")]).await;
    let (_, answer) = world.streamed("chunks", "").await;
    let receipt = world.receipt(&answer).receipt;
    let ack = &receipt.acknowledgement.value;
    assert_eq!((ack.counted, ack.delivered_tokens), (CountMethod::Told, 3));
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_is_left_alone_for_a_while() {
    let world = world(UpstreamRole::LastResort, &[("small", "dummy/refuses")]).await;
    let mut shown = String::new();
    for _ in 0..4 {
        let answer = world.chat("small", "").await;
        shown += &format!("{} {}\n", answer.status, answer.json()["error"]["message"]);
    }
    assert_eq!(world.spent().await, (Nusd::ZERO, Nusd::ZERO));
    expect![[r#"
        502 "the provider failed: it refused: the engine does not answer"
        502 "the provider failed: it refused: the engine does not answer"
        502 "the provider failed: it refused: the engine does not answer"
        503 "no provider of `small` can take this request now: quarantined after failures"
    "#]]
    .assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_away_at_the_start_is_reached_later() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let world = World::with(|config| {
        let cloud = upstream("cloud", UpstreamRole::LastResort, &[("small", "dummy/echo")]);
        config.upstreams = vec![UpstreamConfig {
            connect: Arc::new(move || {
                let is_up = counter.fetch_add(1, Ordering::Relaxed) >= 3;
                Box::pin(async move {
                    match is_up {
                        true => connected(&["dummy/echo".to_owned()]).await,
                        false => Err(EngineError::Failed { reason: "away".into() }),
                    }
                })
            }),
            ..cloud
        }];
    })
    .await;
    let early = world.chat("small", "").await;
    assert_eq!((early.status, &early.json()["error"]["code"]), (503, &"no_provider".into()));
    world.gateway.ready().await;
    assert_eq!(asked.load(Ordering::Relaxed), 4);
    assert_eq!(world.chat("small", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_does_not_suffice_is_told() {
    let world = world(UpstreamRole::LastResort, &[("small", "dummy/echo")]).await;
    world.gateway.set_budget("tests", Some(Nusd(1_000))).await.unwrap();
    let answer = world.chat("small", r#", "max_tokens": 100"#).await;
    assert_eq!(answer.status, 402, "{}", answer.body);
    assert_eq!(world.spent().await, (Nusd::ZERO, Nusd::ZERO));
}

#[tokio::test(start_paused = true)]
async fn it_is_listed_and_explained() {
    let world =
        world(UpstreamRole::LastResort, &[("small", "dummy/echo"), ("story", "dummy/echo")]);
    let world = world.await;
    let _double = world.provider(11, &["story"]).await;
    let mut shown = String::new();
    for path in ["/v1/models", "/v1/prices", "/v1/route?model=story", "/v1/route?model=small"] {
        let body = world.get(path).await.json();
        shown += &format!("{path}\n{}\n", serde_json::to_string_pretty(&body).unwrap());
    }
    let address = Address::of_upstream(&key(GATEWAY_OPERATOR).public_key(), "cloud");
    let shown = shown.replace(&address.to_string(), "CLOUD");
    let shown = shown.replace(&key(11).address().to_string(), "PROVIDER");
    expect![[r#"
        /v1/models
        {
          "data": [
            {
              "created": 1700000000,
              "id": "story",
              "object": "model",
              "owned_by": "peerwatt",
              "peerwatt": {
                "completions": true,
                "context_tokens": 4096,
                "embeddings": "none",
                "json": true,
                "logprobs": true,
                "model_id": "c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f",
                "price": {
                  "completion_nusd_per_mtok": "100000000",
                  "prompt_nusd_per_mtok": "50000000",
                  "request_nusd": "10"
                },
                "providers": 1,
                "resold": false,
                "samplers": true,
                "tools": "forced"
              }
            },
            {
              "created": 1700000000,
              "id": "small",
              "object": "model",
              "owned_by": "peerwatt",
              "peerwatt": {
                "completions": true,
                "context_tokens": 131072,
                "embeddings": "none",
                "json": false,
                "logprobs": true,
                "model_id": "aeab6019882953c8e6f7b6f2327534e81eb167806d09b7c35d7b69f25cbcdcdf",
                "price": {
                  "completion_nusd_per_mtok": "2000000000",
                  "prompt_nusd_per_mtok": "1000000000",
                  "request_nusd": "0"
                },
                "providers": 1,
                "resold": true,
                "samplers": false,
                "tools": "none"
              }
            }
          ],
          "object": "list"
        }
        /v1/prices
        {
          "data": [
            {
              "available": true,
              "context_tokens": 131072,
              "model": "small",
              "model_id": "aeab6019882953c8e6f7b6f2327534e81eb167806d09b7c35d7b69f25cbcdcdf",
              "price": {
                "completion_nusd_per_mtok": "2000000000",
                "prompt_nusd_per_mtok": "1000000000",
                "request_nusd": "0"
              },
              "provider": "CLOUD",
              "slots": 2,
              "upstream": "cloud"
            },
            {
              "available": true,
              "context_tokens": 4096,
              "model": "story",
              "model_id": "c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f",
              "price": {
                "completion_nusd_per_mtok": "100000000",
                "prompt_nusd_per_mtok": "50000000",
                "request_nusd": "10"
              },
              "provider": "PROVIDER",
              "slots": 4
            },
            {
              "available": true,
              "context_tokens": 131072,
              "model": "story",
              "model_id": "c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f",
              "price": {
                "completion_nusd_per_mtok": "2000000000",
                "prompt_nusd_per_mtok": "1000000000",
                "request_nusd": "0"
              },
              "provider": "CLOUD",
              "slots": 2,
              "upstream": "cloud"
            }
          ]
        }
        /v1/route?model=story
        {
          "candidates": [
            {
              "context_tokens": 4096,
              "cost": "38410",
              "expected_ms": null,
              "in_flight": 0,
              "passed": null,
              "price": {
                "completion_nusd_per_mtok": "100000000",
                "prompt_nusd_per_mtok": "50000000",
                "request_nusd": "10"
              },
              "provider": "PROVIDER",
              "region": "",
              "score": "38410",
              "slots": 4
            },
            {
              "context_tokens": 131072,
              "cost": "768000",
              "expected_ms": null,
              "in_flight": 0,
              "passed": "a last resort",
              "price": {
                "completion_nusd_per_mtok": "2000000000",
                "prompt_nusd_per_mtok": "1000000000",
                "request_nusd": "0"
              },
              "provider": "CLOUD",
              "region": "",
              "score": "768000",
              "slots": 2,
              "upstream": "cloud"
            }
          ],
          "model": "c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f",
          "provider": "PROVIDER"
        }
        /v1/route?model=small
        {
          "candidates": [
            {
              "context_tokens": 131072,
              "cost": "768000",
              "expected_ms": null,
              "in_flight": 0,
              "passed": null,
              "price": {
                "completion_nusd_per_mtok": "2000000000",
                "prompt_nusd_per_mtok": "1000000000",
                "request_nusd": "0"
              },
              "provider": "CLOUD",
              "region": "",
              "score": "768000",
              "slots": 2,
              "upstream": "cloud"
            }
          ],
          "model": "aeab6019882953c8e6f7b6f2327534e81eb167806d09b7c35d7b69f25cbcdcdf",
          "provider": "CLOUD"
        }
    "#]]
    .assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_meant_is_refused_at_the_start() {
    let models = [("small", "dummy/echo")];
    let good = || upstream("cloud", UpstreamRole::Policy, &models);
    let twice = [("a", "dummy/echo"), ("a", "dummy/echo")];
    let mut shown = String::new();
    for upstreams in [
        vec![UpstreamConfig { name: "The Cloud".into(), ..good() }],
        vec![UpstreamConfig { slots: 0, ..good() }],
        vec![UpstreamConfig { models: Vec::new(), ..good() }],
        vec![upstream("cloud", UpstreamRole::Policy, &twice)],
        vec![upstream("cloud", UpstreamRole::Policy, &[("", "dummy/echo")])],
        vec![good(), good()],
    ] {
        let home = tempfile::tempdir().unwrap();
        let (net, chain) = (MemoryNet::new(), Arc::new(TestChain::new(chain_id())));
        let config = GatewayConfig { upstreams, ..config(home.path(), &net, &chain, GATEWAY_NODE) };
        let error = Gateway::start(config).await.unwrap_err();
        assert!(matches!(error, GatewayError::Upstream { .. }));
        shown += &format!("{error}\n");
    }
    expect![[r#"
        the upstream `The Cloud` cannot be used: a name has 1 to 64 lower-case letters, digits, -, _ and .
        the upstream `cloud` cannot be used: slots are 1 or more
        the upstream `cloud` cannot be used: it has 1 to 256 models
        the upstream `cloud` cannot be used: it serves `a` twice
        the upstream `cloud` cannot be used: `` is no name of a model: 1 to 96 bytes
        the upstream `cloud` cannot be used: there are two of this name
    "#]].assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn a_model_keeps_its_name_when_its_last_provider_has_gone() {
    let world = world(UpstreamRole::LastResort, &[("story", "dummy/echo")]).await;
    let double = world.provider(11, &["story"]).await;
    let id = world.get("/v1/models/story").await.json()["peerwatt"]["model_id"].clone();
    double.connection.close("gone");
    while !world.gateway.shared.directory.connected().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let listed = world.get("/v1/models").await.json()["data"].clone();
    assert_eq!((&listed[0]["id"], &listed[0]["peerwatt"]["model_id"]), (&"story".into(), &id));
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(world.get("/v1/models/story").await.status, 200);
    let answer = world.chat("story", "").await;
    assert_eq!((answer.status, world.receipt(&answer).bought.is_some()), (200, true));
}
