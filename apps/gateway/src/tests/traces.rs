//! Traces as a collector gets them: which spans, how they hang together, and what is not in them.

use std::time::Duration;

use axum::{Router, body::Bytes, routing::post};
use expect_test::{Expect, expect};
use tokio::{net::TcpListener, sync::mpsc};
use wire::otlp::{Collector, ExportRequest, Span};

use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const SECRET: &str = "the fox is called Reynard";

/// A collector that takes everything.
struct TestCollector {
    url: String,
    bodies: mpsc::UnboundedReceiver<Bytes>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl TestCollector {
    async fn start() -> TestCollector {
        let (sender, bodies) = mpsc::unbounded_channel();
        let take = move |headers: http::HeaderMap, body: Bytes| async move {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            assert_eq!(headers["authorization"], "Basic abc");
            sender.send(body).unwrap();
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        let server = tokio::spawn(async move {
            let (limits, timeouts) = (Limits::standard(), Timeouts::standard());
            let never = std::future::pending();
            let threads = crate::threads::Threads::beside_this()?;
            crate::serve::serve(&limits, &timeouts, &threads, listener, router, never).await
        });
        TestCollector { url, bodies, server }
    }

    /// Everything that has come, in the order in which it began.
    fn spans(mut self) -> Vec<Span> {
        self.server.abort();
        let mut spans = Vec::new();
        while let Ok(body) = self.bodies.try_recv() {
            let text = String::from_utf8_lossy(&body);
            assert!(!text.contains(SECRET) && !text.contains("Once") && !text.contains("pw-"));
            let request = ExportRequest::read(&body).unwrap();
            assert_eq!(request.resource().count(), 4);
            spans.extend(request.spans().cloned());
        }
        spans.sort_by_key(|span| (span.start_unix_ns, span.kind));
        spans
    }
}

async fn world(url: &str) -> World {
    let collector = Collector::new(url, Some("authorization=Basic%20abc")).unwrap();
    World::with(|config| config.collector = Some(collector.client().unwrap())).await
}

/// The spans without what differs from run to run.
fn check(spans: &[Span], expect: Expect) {
    let mut shown = String::new();
    for span in spans {
        let parent = spans.iter().find(|it| it.span_id == span.parent_span_id);
        let below = parent.map_or(String::new(), |it| format!(" below {}", it.name));
        let status = span.status.as_ref().map_or(0, |status| status.code);
        shown += &format!("{}{below}, kind {}, status {status}\n", span.name, span.kind);
        for attribute in &span.attributes {
            let value = match attribute.key.as_str() {
                "gen_ai.response.id" | "peerwatt.request_id" => "ID".to_owned(),
                "gen_ai.response.time_to_first_chunk" | "peerwatt.time_to_first_token" => {
                    "TIME".to_owned()
                }
                _ => attribute.value().unwrap().to_string(),
            };
            shown += &format!("  {} = {value}\n", attribute.key);
        }
        for event in &span.events {
            assert!((span.start_unix_ns..=span.end_unix_ns).contains(&event.unix_ns));
            shown += &format!("  at {}\n", event.name);
        }
    }
    expect.assert_eq(&shown);
}

fn hex(bytes: &[u8]) -> String {
    types::hash::to_hex(bytes)
}

#[tokio::test]
async fn a_request_is_a_span_below_that_of_its_client() {
    let collector = TestCollector::start().await;
    let world = world(&collector.url).await;
    let _double = world.provider(11, &["story"]).await;
    let body = format!(
        r#"{{"model": "story", "messages": [{{"role": "user", "content": "{SECRET}"}}],
        "stream": true, "temperature": 0.5, "top_p": 0.9, "top_k": 40, "max_tokens": 20, "seed": 7, "stop": "{SECRET}"}}"#
    );
    let mut request = world.request("/v1/chat/completions", &body);
    let headers = request.headers_mut();
    headers.insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
    headers.insert("host", "gateway.example.org:8400".parse().unwrap());
    assert_eq!(world.ask(request).await.status, 200);
    world.gateway.shutdown().await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.span_id.len() == 8));
    assert_eq!(hex(&spans[0].parent_span_id), PARENT);
    check(
        &spans,
        expect![[r#"
        chat story, kind 2, status 0
          gen_ai.operation.name = chat
          gen_ai.provider.name = peerwatt
          gen_ai.response.id = ID
          peerwatt.api = chat_completions
          server.address = gateway.example.org
          server.port = 8400
          gen_ai.request.model = story
          gen_ai.request.stream = true
          gen_ai.output.type = text
          gen_ai.request.max_tokens = 20
          gen_ai.request.temperature = 0.5
          gen_ai.request.top_p = 0.9
          gen_ai.request.top_k = 40
          gen_ai.request.seed = 7
          gen_ai.response.model = c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f
          gen_ai.usage.input_tokens = 9
          gen_ai.usage.output_tokens = 5
          peerwatt.cost_nano_usd = 960
          peerwatt.provider = watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v
          gen_ai.response.finish_reasons = [stop]
          gen_ai.response.time_to_first_chunk = TIME
          peerwatt.outcome = answered
        peerwatt.attempt below chat story, kind 3, status 0
          peerwatt.request_id = ID
          peerwatt.attempt = 0
          peerwatt.provider = watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v
          peerwatt.model_id = c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f
          peerwatt.outcome = served
          peerwatt.prompt_tokens = 9
          peerwatt.delivered_tokens = 5
          peerwatt.charge_nano_usd = 960
          peerwatt.billed_nano_usd = 960
          peerwatt.time_to_first_token = TIME
          at accepted
          at first_token
    "#]],
    );
}

#[tokio::test]
async fn a_call_of_a_tool_is_why_an_answer_ended() {
    let collector = TestCollector::start().await;
    let world = world(&collector.url).await;
    let _double = world.provider(11, &["calls"]).await;
    for stream in ["true", "false"] {
        let body = format!(
            r#"{{"model": "calls", "messages": [{{"role": "user", "content": "{SECRET}"}}], "stream": {stream},
            "tools": [{{"type": "function", "function": {{"name": "weather"}}}}]}}"#
        );
        let request = world.request("/v1/chat/completions", &body);
        assert_eq!(world.ask(request).await.status, 200);
    }
    world.gateway.shutdown().await;
    let spans = collector.spans();
    let reasons = spans.iter().flat_map(|span| &span.attributes);
    let reasons: Vec<String> = reasons
        .filter(|it| it.key == "gen_ai.response.finish_reasons")
        .map(|it| format!("{:?}", it.value().unwrap()))
        .collect();
    assert_eq!(reasons.len(), 2);
    assert!(reasons.iter().all(|reason| reason.contains("tool_calls")), "{reasons:?}");
}

#[tokio::test]
async fn the_chat_box_of_the_page_is_traced_too() {
    let collector = TestCollector::start().await;
    let world = world(&collector.url).await;
    let _double = world.provider(11, &["story"]).await;
    let ask = async |model: &str| {
        let role = types::inference::Role::User;
        let messages = vec![types::inference::ChatMessage::text(role, SECRET.into())];
        let request = crate::ChatRequest { model: model.into(), messages, tokens_max: None };
        world.gateway.chat(request, crate::PLAYGROUND_KEY).await
    };
    let mut stream = ask("story").await.unwrap();
    while stream.next().await.is_some() {}
    assert!(ask("other").await.is_err());
    world.gateway.shutdown().await;
    check(
        &collector.spans(),
        expect![[r#"
        chat story, kind 2, status 0
          gen_ai.operation.name = chat
          gen_ai.provider.name = peerwatt
          gen_ai.response.id = ID
          peerwatt.api = page
          gen_ai.request.model = story
          gen_ai.request.stream = true
          gen_ai.output.type = text
          gen_ai.response.model = c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f
          gen_ai.usage.input_tokens = 9
          gen_ai.usage.output_tokens = 5
          peerwatt.cost_nano_usd = 960
          peerwatt.provider = watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v
          gen_ai.response.finish_reasons = [stop]
          gen_ai.response.time_to_first_chunk = TIME
          peerwatt.outcome = answered
        chat other, kind 2, status 2
          gen_ai.operation.name = chat
          gen_ai.provider.name = peerwatt
          gen_ai.response.id = ID
          peerwatt.api = page
          gen_ai.request.model = other
          gen_ai.request.stream = true
          gen_ai.output.type = text
          peerwatt.outcome = model_not_found
          error.type = model_not_found
        peerwatt.attempt below chat story, kind 3, status 0
          peerwatt.request_id = ID
          peerwatt.attempt = 0
          peerwatt.provider = watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v
          peerwatt.model_id = c478361e6869af25970682a2c53967adbc8a46e9429efdc64b96351cfd52e13f
          peerwatt.outcome = served
          peerwatt.prompt_tokens = 9
          peerwatt.delivered_tokens = 5
          peerwatt.charge_nano_usd = 960
          peerwatt.billed_nano_usd = 960
          peerwatt.time_to_first_token = TIME
          at accepted
          at first_token
    "#]],
    );
}

#[tokio::test]
async fn failures_and_refusals_are_traced_and_what_a_client_has_traced_nowhere_is_not() {
    let collector = TestCollector::start().await;
    let world = world(&collector.url).await;
    let _double = world.provider(11, &["story", "dies-before-the-first-token"]).await;
    let body = r#"{"model": "story", "prompt": "the fox is called Reynard"}"#;
    let mut request = world.request("/v1/completions", body);
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    request.headers_mut().insert("traceparent", unsampled.parse().unwrap());
    assert_eq!(world.ask(request).await.status, 200);
    let failed = world.chat("dies-before-the-first-token", "").await;
    assert_eq!(failed.status, 502, "{}", failed.body);
    let mut request = world.request("/v1/completions", body);
    request.headers_mut().remove("authorization");
    assert_eq!(world.ask(request).await.status, 401);
    world.gateway.shutdown().await;
    let spans = collector.spans();
    assert_eq!(hex(&spans[0].trace_id), failed.id.replace('-', ""), "found by the request's id");
    check(
        &spans,
        expect![[r#"
        chat dies-before-the-first-token, kind 2, status 2
          gen_ai.operation.name = chat
          gen_ai.provider.name = peerwatt
          gen_ai.response.id = ID
          peerwatt.api = chat_completions
          gen_ai.request.model = dies-before-the-first-token
          gen_ai.request.stream = false
          gen_ai.output.type = text
          peerwatt.outcome = provider_failed
          error.type = provider_failed
        text_completion, kind 2, status 2
          gen_ai.operation.name = text_completion
          gen_ai.provider.name = peerwatt
          gen_ai.response.id = ID
          peerwatt.api = completions
          peerwatt.outcome = invalid_api_key
          error.type = invalid_api_key
        peerwatt.attempt below chat dies-before-the-first-token, kind 3, status 2
          peerwatt.request_id = ID
          peerwatt.attempt = 0
          peerwatt.provider = watt15d09gq0f86q03eqfsxveeg9t9rym3yyh08fr2v
          peerwatt.model_id = 30322d419f2a6ca71721e7dbf234cf753634356f2d00a5e671a3ec601a5161d1
          peerwatt.outcome = failed
          peerwatt.prompt_tokens = 33
          peerwatt.delivered_tokens = 0
          peerwatt.charge_nano_usd = 0
          peerwatt.billed_nano_usd = 0
          error.type = failed
          at accepted
    "#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_away_keeps_nobody_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // It takes connections and never answers.
    let world = world(&url).await;
    let _double = world.provider(11, &["story"]).await;
    for _ in 0..20 {
        assert_eq!(world.chat("story", "").await.status, 200);
    }
    let stopped = tokio::time::timeout(Duration::from_secs(20), world.gateway.shutdown()).await;
    assert!(stopped.is_ok(), "the stop has a limit");
}
