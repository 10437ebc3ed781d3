//! OpenAI's official Node SDK against `peerwatt up` with the model that ships with the binary.
//!
//! The SDK is installed from npm into a cache folder (`sdk/package-lock.json` pins it); without a
//! network or Node the test is skipped with the reason. What is asserted stands in
//! `sdk/openai_model.mjs`.

mod support;

use support::{clients, process::Up, skip};

#[tokio::test]
async fn openai_node_with_the_built_in_model() {
    let folder = match clients::node().await {
        Ok(folder) => folder,
        Err(reason) => return skip("openai_node_with_the_built_in_model", reason),
    };
    let up = Up::start(&["--embedded"]).await;
    let script = folder.join("openai_model.mjs");
    clients::script("node", &script, &[&up.base_url, &up.api_key, "ember-1m"]).await;
    up.stop_and_check().await;
}
