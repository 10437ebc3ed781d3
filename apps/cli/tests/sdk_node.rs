//! The JavaScript clients that people already have, against `peerwatt up` with the model that ships with
//! the binary; for tools and embeddings, with those that call and make them.
//!
//! They are installed from npm into a cache folder (`sdk/package-lock.json` pins them); without a
//! network or Node the tests are skipped with the reason. What is asserted stands in `sdk/*.mjs`.

mod support;

use support::{clients, process::Up, skip};

const BUILT_IN: &str = "ember-1m";

async fn check(test: &str, script: &str, arguments: &[&str], model: &str) {
    let folder = match clients::node().await {
        Ok(folder) => folder,
        Err(reason) => return skip(test, reason),
    };
    let up = Up::start(arguments).await;
    let script = folder.join(script);
    clients::script("node", &script, &[&up.base_url, &up.api_key, model]).await;
    up.stop_and_check().await;
}

#[tokio::test]
async fn openai_node() {
    check("openai_node", "openai_model.mjs", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn ollama_node_with_another_host() {
    let arguments = ["--embedded", "--keyless"];
    check("ollama_node_with_another_host", "ollama_native.mjs", &arguments, BUILT_IN).await;
}

#[tokio::test]
async fn anthropic_node() {
    check("anthropic_node", "anthropic_messages.mjs", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn the_ai_sdk() {
    check("the_ai_sdk", "ai_sdk.mjs", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn tools_by_every_javascript_client() {
    let arguments = ["--dummy-engine", "--keyless"];
    check("tools_by_every_javascript_client", "tools.mjs", &arguments, "dummy/calls").await;
}

#[tokio::test]
async fn embeddings_by_every_javascript_client() {
    let arguments = ["--dummy-engine", "--keyless"];
    let test = "embeddings_by_every_javascript_client";
    check(test, "embeddings.mjs", &arguments, "dummy/embed").await;
}
