//! A real llama.cpp server behind a provider: its answer through the whole network is, to the
//! letter, what it says when asked directly.
//!
//! The server comes from PyPI (`xllamacpp`, a prebuilt wheel) into a cache folder; without a network
//! or Python the test is skipped with the reason.

mod support;

use serde_json::{Value, json};
use support::{
    clients, figures,
    process::{Process, Up, json as run_json, string},
    repository, skip,
    stream::Consumer,
    until,
};
use tokio::process::Command;

const REQUIREMENTS: &str = "xllamacpp==2026.10.11549\n";
/// Starts the server on a free port with one thread, says where, and waits to be ended.
const SERVER: &str = r#"
import json, sys, threading
import xllamacpp

params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {"ember"}
params.n_ctx = 512
params.n_parallel = 1
params.port = 0
params.cpuparams.n_threads = 1
params.warmup = False
server = xllamacpp.Server(params)
print(json.dumps({"url": server.listening_address}), flush=True)
threading.Event().wait()
"#;

#[tokio::test]
async fn a_real_llama_cpp_server_serves_paid_requests() {
    let python = match clients::python(REQUIREMENTS).await {
        Ok(python) => python,
        Err(reason) => return skip("a_real_llama_cpp_server_serves_paid_requests", reason),
    };
    let mut command = Command::new(python);
    command.args(["-c", SERVER]).arg(repository("models/ember-1m-f16.gguf"));
    let mut server = Process::start("llama.cpp", &mut command);
    let url = string(&server.ready().await, "url");
    let direct = Consumer::new(&format!("{url}/v1"), "none");
    until("llama.cpp's list of models", || direct.get("models")).await;

    let metrics = figures::free();
    let up = Up::start(&["--engine-url", &url, "--metrics-listen", &metrics]).await;
    let consumer = Consumer::new(&up.base_url, &up.api_key);
    let models = consumer.get("models").await.unwrap();
    let model = string(&models["data"][0], "id");
    let question = json!({
        "model": model,
        "messages": [{ "role": "user", "content": "Tell me a story about a fox." }],
        "temperature": 0,
        "max_tokens": 48,
    });
    let response = consumer.ask(&question).await;
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let paid: Value = response.json().await.unwrap();
    let free: Value = direct.ask(&question).await.json().await.unwrap();
    assert_eq!(paid["choices"][0]["message"]["content"], free["choices"][0]["message"]["content"]);
    assert_eq!(paid["usage"]["completion_tokens"], free["usage"]["completion_tokens"]);

    // What it draws by chance, with the seed that the network gives it, is drawn again token by token.
    let before = figures::replays(&metrics).await["match"];
    let mut drawn = 0;
    for (turn, temperature) in [0.3, 0.8, 0.8, 1.0, 1.3, 1.8].into_iter().enumerate() {
        let prompt = format!("Tell me story number {turn} about a fox.");
        let body = json!({
            "model": model,
            "messages": [{ "role": "user", "content": prompt }],
            "temperature": temperature,
            "top_p": 1.0 - 0.1 * f64::from(u8::try_from(turn).unwrap() % 3),
            "max_tokens": 64,
        });
        let answer: Value = consumer.ask(&body).await.json().await.unwrap();
        let tokens = answer["usage"]["completion_tokens"].as_u64();
        drawn += tokens.unwrap_or_else(|| panic!("{answer}"));
    }
    let replays = figures::replays(&metrics).await;
    let excused = replays.get("excused").copied().unwrap_or(0);
    assert_eq!(replays["match"] + excused - before, drawn, "{replays:?}");
    assert!(
        !replays.contains_key("mismatch") && !replays.contains_key("unreported"),
        "{replays:?}"
    );
    assert!(!replays.contains_key("audit") && !replays.contains_key("suspend"), "{replays:?}");
    assert!(drawn > 100, "{drawn}");

    let home = up.home.path().to_str().unwrap();
    let receipt = run_json(&["--data-dir", home, "receipt", "verify", &id]).await;
    assert_eq!(receipt["both_agree"], true, "{receipt}");
    up.stop_and_check().await;
    server.kill().await;
}
