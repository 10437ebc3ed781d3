//! Callers without an API key who pay by request from channels of their own: `peerwatt chat --x402`, and x402's own
//! client from PyPI.

mod support;

use support::{
    clients::{self, SCRIPTS},
    process::{Up, json, peerwatt, run, string, text},
    repository, skip,
};

const MODEL: &str = "dummy/64";

/// `peerwatt --json` in the folder of a network.
async fn at(up: &Up, arguments: &[&str]) -> serde_json::Value {
    let home = up.home.path().to_str().unwrap();
    json(&[&["--data-dir", home], arguments].concat()).await
}

async fn wallet(up: &Up) -> String {
    string(&at(up, &["wallet", "show"]).await, "address")
}

async fn channels(up: &Up) -> Vec<serde_json::Value> {
    let address = wallet(up).await;
    at(up, &["channel", "list", "--party", &address]).await.as_array().unwrap().clone()
}

#[tokio::test]
async fn a_chat_is_paid_by_the_request() {
    let up = Up::start(&["--dummy-engine", "--x402"]).await;
    let chat = ["chat", "--x402", "--model", MODEL, "--max-tokens", "16"];
    // A small channel is opened, and added to when it does not suffice.
    let little = [&chat[..], &["--deposit", "0.000006", "tell me"]].concat();
    at(&up, &little).await;
    at(&up, &little).await;
    let opened = channels(&up).await;
    assert_eq!(opened.len(), 1);
    assert_eq!(string(&opened[0], "deposit"), "12000");
    let answer = at(&up, &[&chat[..], &["tell me"]].concat()).await;
    assert!(!answer["content"].as_str().unwrap().is_empty(), "{answer}");
    let cost: u128 = string(&answer["peerwatt"], "cost_nusd").parse().unwrap();
    assert!(cost > 0);
    let opened = channels(&up).await;
    let [channel] = &opened[..] else { panic!("one channel: {opened:?}") };
    assert_eq!(string(channel, "deposit"), "12000");

    // The same channel pays again. A smaller deposit is the most that an answer may cost.
    let mut refused = peerwatt(["--data-dir", up.home.path().to_str().unwrap()]);
    let deposit = ["--deposit", "0.000000001", "tell me"];
    let refused = refused.args(chat).args(deposit).output().await.unwrap();
    let problem = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && problem.contains("may cost up to 0.00000595 USD"),
        "{problem}"
    );
    at(&up, &[&chat[..], &["tell me more"]].concat()).await;
    assert_eq!(channels(&up).await.len(), 1);

    // What was used stands under the key that stands for all of them, and a receipt is read without a key.
    let id = string(&answer["peerwatt"], "request_id");
    let verify = ["receipt", "verify", id.as_str(), "--base-url", up.base_url.as_str()];
    let verified = text(&run("receipt verify", &mut peerwatt(verify)).await.stdout);
    assert!(verified.starts_with("valid"), "{verified}");
    let used = at(&up, &["usage"]).await;
    let rows = used["data"].as_array().unwrap();
    assert_eq!(rows.iter().filter(|row| row["key"] == "x402").count(), 4, "{used}");

    // What the provider has redeemed when it stops is what was charged, and the books close.
    up.stop_and_check().await;
}

#[tokio::test]
async fn x402s_client_and_openais_pay_from_a_channel() {
    let requirements = std::fs::read_to_string(repository(SCRIPTS).join("requirements.txt"));
    let python = match clients::python(&requirements.unwrap()).await {
        Ok(python) => python,
        Err(reason) => return skip("x402s_client_and_openais_pay_from_a_channel", reason),
    };
    let up = Up::start(&["--dummy-engine", "--x402"]).await;
    at(&up, &["chat", "--x402", "--model", MODEL, "--max-tokens", "1", "hello"]).await;
    let opened = channels(&up).await;
    let channel = string(&opened[0], "id");
    let key = up.home.path().join("keys/wallet.json");
    let arguments = [up.base_url.as_str(), key.to_str().unwrap(), MODEL, channel.as_str()];
    clients::script(python, &repository(SCRIPTS).join("x402_payments.py"), &arguments).await;
    // More can be put in, and what is left can be asked back.
    at(&up, &["channel", "add", &channel, "0.05"]).await;
    assert_eq!(string(&channels(&up).await[0], "deposit"), "150000000");
    at(&up, &["channel", "withdraw", &channel, "--key", "wallet"]).await;
    assert!(!channels(&up).await[0]["withdraw_at"].is_null());
    up.stop_and_check().await;
}
