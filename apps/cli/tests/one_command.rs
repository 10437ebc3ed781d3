//! `peerwatt up` from the first start to closed books, used through the program's own commands.

mod support;

use serde_json::{Value, json};
use support::{
    process::{Up, json as run_json, peerwatt, run, text},
    stream::Consumer,
};

fn question(tokens_max: u32) -> Value {
    json!({
        "model": "ember-1m",
        "messages": [{ "role": "user", "content": "Tell me a story about a fox." }],
        "max_tokens": tokens_max,
    })
}

#[tokio::test]
async fn a_paid_completion_its_receipt_and_closed_books() {
    let up = Up::start(&["--embedded"]).await;
    let home = up.home.path().to_str().unwrap().to_owned();
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let response = consumer.ask(&question(32)).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    let (id, cost) = (header("x-request-id"), header("x-peerwatt-cost-nusd"));
    let answer: Value = response.json().await.unwrap();
    let content = answer["choices"][0]["message"]["content"].as_str().unwrap();

    let route = ["--data-dir", &home, "route", "explain", "ember-1m", "--policy", "cheapest"];
    let route = run_json(&route).await;
    assert!(route["candidates"][0]["expected_ms"].is_u64(), "{route}");
    assert_eq!(route["candidates"][0]["provider"], route["provider"]);
    // The receipt is a file from here on: it is recomputed without asking anybody.
    let receipt = run_json(&["--data-dir", &home, "receipt", "show", &id]).await;
    let files = tempfile::tempdir().unwrap();
    let (receipt_path, answer_path) =
        (files.path().join("receipt.json"), files.path().join("answer.txt"));
    std::fs::write(&receipt_path, receipt.to_string()).unwrap();
    std::fs::write(&answer_path, content).unwrap();
    let (receipt_path, answer_path) =
        (receipt_path.to_str().unwrap(), answer_path.to_str().unwrap());
    let earned_before_the_stop =
        run_json(&["--data-dir", &home, "status"]).await["providers"][0]["earned"].clone();
    up.stop_and_check().await;

    let verified = run_json(&["receipt", "verify", receipt_path, "--response", answer_path]).await;
    assert_eq!(verified["valid"], true);
    assert_eq!(verified["both_agree"], true);
    assert_eq!(verified["cost_nusd"].to_string().replace('"', ""), cost);
    assert_eq!(earned_before_the_stop.to_string().replace('"', ""), "0", "redeemed at the stop");

    let forged = receipt.to_string().replacen("\"lane_total\":\"", "\"lane_total\":\"1", 1);
    std::fs::write(receipt_path, forged).unwrap();
    let output = run("receipt verify", &mut peerwatt(["receipt", "verify", receipt_path])).await;
    assert!(!output.status.success(), "{}", text(&output.stdout));
}

#[tokio::test]
async fn a_network_is_kept_over_restarts() {
    let up = Up::start(&["--embedded"]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let id = {
        let response = consumer.ask(&question(8)).await;
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    let key = up.api_key.clone();
    let status = up.process.stop().await;
    assert!(status.success(), "{status}");

    let up = Up::start_in(up.home, &["--embedded"]).await;
    assert_eq!(up.api_key, key, "the key is kept");
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    assert!(consumer.get(&format!("receipts/{id}")).await.is_some(), "the receipt is kept");
    assert_eq!(consumer.ask(&question(8)).await.status(), 200, "the channel goes on");
    up.stop_and_check().await;
}

#[tokio::test]
async fn keys_are_handed_out_limited_and_taken_back() {
    let up = Up::start(&["--embedded"]).await;
    let home = up.home.path().to_str().unwrap().to_owned();
    let command = |more: &[&str]| {
        let arguments: Vec<String> =
            ["--data-dir", &home].iter().chain(more).map(|text| (*text).to_owned()).collect();
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            run_json(&arguments).await
        }
    };
    let made = command(&["key", "new", "alice", "--daily", "1", "--rpm", "600"]).await;
    let key = made["api_key"].as_str().unwrap().to_owned();
    let consumer = Consumer::new(&up.base_url, &key);
    let response = consumer.ask(&question(8)).await;
    assert_eq!(response.status(), 200);
    let cost = response.headers()["x-peerwatt-cost-nusd"].to_str().unwrap().to_owned();
    drop(response);

    for usage in [
        command(&["usage", "--key", "alice", "--from", "1d"]).await,
        command(&["usage", "--api-key", &key]).await,
    ] {
        let [row] = &usage["data"].as_array().unwrap()[..] else { panic!("{usage}") };
        assert_eq!((&row["key"], &row["cost_nusd"]), (&json!("alice"), &json!(cost)));
    }
    let mut csv = peerwatt(["--data-dir", &home, "usage", "--to", "1d"]);
    let csv = run("usage", &mut csv).await;
    assert_eq!(text(&csv.stdout).lines().count(), 1, "nothing ended before yesterday");

    let limited =
        command(&["key", "limit", "alice", "--budget", "0.000001", "--rpm", "none"]).await;
    assert_eq!(limited["limits"]["budget"], "1000");
    assert_eq!(limited["limits"]["requests_per_minute"], Value::Null);
    assert_eq!(limited["limits"]["budget_day"], "1000000000", "what was not named stays");
    assert_eq!(consumer.ask(&question(64)).await.status(), 402);
    command(&["key", "revoke", "alice"]).await;
    assert_eq!(consumer.ask(&question(8)).await.status(), 401);

    let unbounded = &mut peerwatt(["--data-dir", &home, "key", "new", "bob"]);
    let refused = run("key new", unbounded).await;
    assert!(text(&refused.stderr).contains("--budget none"), "{}", text(&refused.stderr));

    // The first key too can be taken back: the next start makes another one.
    command(&["key", "revoke", "first"]).await;
    let revoked = up.api_key.clone();
    let status = up.process.stop().await;
    assert!(status.success(), "{status}");
    let up = Up::start_in(up.home, &["--embedded"]).await;
    assert_ne!(up.api_key, revoked);
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    assert_eq!(consumer.ask(&question(8)).await.status(), 200);
    let consumer = Consumer::new(&up.base_url, &revoked);
    assert_eq!(consumer.ask(&question(8)).await.status(), 401);
    up.stop_and_check().await;
}

#[tokio::test]
async fn an_exhausted_budget_is_402() {
    let up = Up::start(&["--embedded", "--key-budget", "0.000001"]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let response = consumer.ask(&question(64)).await;
    assert_eq!(response.status(), 402);
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["code"], "insufficient_quota", "{body}");
    up.stop_and_check().await;
}

#[tokio::test]
async fn a_gateway_without_providers_answers_503_or_404() {
    let up = Up::start(&["--no-provider"]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let status = consumer.ask(&question(8)).await.status().as_u16();
    assert!([404, 503].contains(&status), "{status}");
    up.stop_and_check().await;
}
