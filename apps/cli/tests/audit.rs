//! `peerwatt audit`: a consumer runs the model of an answer again, from what its provider kept and signed.

mod support;

use serde_json::json;
use support::{
    process::{Up, json, peerwatt},
    repository,
    stream::Consumer,
};

const MODEL: &str = "ember-1m";

#[tokio::test]
async fn an_honest_answer_passes_and_only_its_buyer_can_have_it_audited() {
    let up = Up::start(&["--embedded"]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let ask = async |more: serde_json::Value| {
        let mut body = json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": "Tell me a long story about a fox." }],
            "max_tokens": 120,
        });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let response = consumer.ask(&body).await;
        response.headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    let home = up.home.path().to_str().unwrap();
    // Stories differ in length: the verdict on a short one is that it is too short.
    let mut outcomes = Vec::new();
    for turn in 0..12 {
        let id = ask(json!({ "temperature": 0.8 })).await;
        let picture = up.home.path().join("audit.svg");
        let picture = picture.to_str().unwrap();
        let check = ["--data-dir", home, "audit", "check", &id, "--svg", picture];
        let judged = json(&check).await;
        let (tokens, outcome) = (judged["tokens"].as_u64().unwrap(), &judged["outcome"]);
        assert_eq!(judged["finding"], "clean", "{judged}");
        assert_eq!(judged["replay"]["unexplained"], 0, "{judged}");
        assert!(judged["ln_e"].as_i64().unwrap() < 5_000, "{judged}");
        let expected = if tokens >= 50 { "pass" } else { "inconclusive" };
        assert_eq!(outcome, expected, "{judged}");
        assert!(std::fs::read_to_string(picture).unwrap().contains("</svg>"));
        outcomes.push(expected);
        if expected == "pass" && turn > 0 {
            break;
        }
    }
    assert!(outcomes.contains(&"pass"), "{outcomes:?}");

    // With a client's own seed nothing can be drawn again, but what was reported is compared.
    let id = ask(json!({ "seed": 7 })).await;
    let judged = json(&["--data-dir", home, "audit", "check", &id]).await;
    assert_eq!((&judged["l1_only"], &judged["l2"]), (&json!(1), &json!(null)), "{judged}");
    assert_eq!((&judged["outcome"], &judged["finding"]), (&json!("inconclusive"), &json!("clean")));
    assert!(judged["ln_e"].as_i64().unwrap() < 0, "{judged}");
    // Of what may not be disclosed nothing is kept, whoever chose the seed and whatever was reported.
    let body = json!({
        "model": MODEL,
        "messages": [{ "role": "user", "content": "Hello" }],
        "seed": 7,
        "logprobs": true,
        "top_logprobs": 20,
    });
    let response = consumer.ask_with(&body, &[("x-peerwatt-disclose", "false")]).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    assert!(response.status().is_success());
    drop(response.bytes().await);
    let refused = peerwatt(["--data-dir", home, "audit", "check", &id]).output().await.unwrap();
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && problem.contains("keeps none"), "{problem}");
    // Nor does a stranger's key have it disclosed.
    let id = ask(json!({})).await;
    let stranger = Consumer::new(&up.base_url, "pw-stranger");
    assert!(stranger.get(&format!("receipts/{id}/opening")).await.is_none());

    let model = repository("models/ember-1m-f16.gguf");
    let model = model.to_str().unwrap();
    let sizes = ["--responses", "4", "--tokens", "24"];
    let calibrate = [&["audit", "calibrate", "--model", model][..], &sizes].concat();
    let cell = json(&calibrate).await;
    assert_eq!((&cell["responses"], &cell["unexplained"]), (&json!(4), &json!(0)), "{cell}");
    let listed = json(&["--data-dir", home, "audit", "list"]).await;
    assert!(listed["closed"].is_array(), "{listed}");
    up.stop_and_check().await;
}
