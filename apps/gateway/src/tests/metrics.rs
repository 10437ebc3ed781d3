//! What Prometheus and load balancers are told.

use expect_test::expect;

use super::*;

/// The figures that do not depend on time.
async fn figures(world: &World) -> String {
    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let service = TowerToHyperService::new(world.gateway.metrics_router());
    let response = service.call(request).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            !line.starts_with('#') && !line.contains("_bucket") && !line.contains("_sum")
        })
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[tokio::test(start_paused = true)]
async fn every_request_is_counted_once() {
    let world = World::new().await;
    let _double = world.provider(11, &["story", "dies-after-3-tokens"]).await;
    world.chat("story", "").await;
    world.chat("story", r#", "stream": true"#).await;
    world.chat("dies-after-3-tokens", r#", "stream": true"#).await;
    world.chat("other", "").await;
    world.chat("story", r#", "temperature": 9"#).await;
    // Two clients that leave: before they read, and before there is an answer.
    let body = r#"{"model": "story", "prompt": "Hello", "stream": true}"#;
    drop(world.send(world.request("/v1/completions", body)).await);
    expect![[r#"
        gen_ai_server_request_duration_seconds_count 2
        gen_ai_server_time_per_output_token_seconds_count 2
        gen_ai_server_time_to_first_token_seconds_count 3
        peerwatt_attempts_total{outcome="cut"} 1
        peerwatt_attempts_total{outcome="served"} 2
        peerwatt_billed_nano_usd_total 2680
        peerwatt_continuations_total{outcome="given_up"} 1
        peerwatt_models_offered 2
        peerwatt_providers_connected 1
        peerwatt_requests_in_work 1
        peerwatt_requests_total{api="chat_completions",outcome="answered"} 2
        peerwatt_requests_total{api="chat_completions",outcome="invalid_request_error"} 1
        peerwatt_requests_total{api="chat_completions",outcome="model_not_found"} 1
        peerwatt_requests_total{api="chat_completions",outcome="provider_failed"} 1
        peerwatt_requests_total{api="completions",outcome="left"} 1
        peerwatt_tokens_total{gen_ai_token_type="input"} 27
        peerwatt_tokens_total{gen_ai_token_type="output"} 13"#]]
    .assert_eq(&figures(&world).await);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_is_healthy_while_it_runs_and_ready_when_somebody_can_be_paid() {
    let world = World::new().await;
    let status = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = world.ask(request).await;
        format!("{path} {} {}", answer.status, answer.body)
    };
    let mut shown = vec![status("/health").await, status("/ready").await];
    let _double = world.provider(11, &["story"]).await;
    shown.extend([status("/health").await, status("/ready").await]);
    world.gateway.shared.close();
    shown.extend([status("/health").await, status("/ready").await]);
    expect![[r#"
        /health 200 {"status":"no provider","providers":0,"models":0}
        /ready 503 {"status":"no provider","providers":0,"models":0}
        /health 200 {"status":"ok","providers":1,"models":1}
        /ready 200 {"status":"ok","providers":1,"models":1}
        /health 200 {"status":"stopping","providers":1,"models":1}
        /ready 503 {"status":"stopping","providers":1,"models":1}"#]]
    .assert_eq(&shown.join("\n"));
}
