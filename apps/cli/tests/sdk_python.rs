//! The Python clients that people already have, against `peerwatt up`.
//!
//! They are installed from PyPI into a cache folder (`sdk/requirements.txt` pins them); without a network
//! or Python the tests are skipped with the reason. What is asserted stands in the scripts:
//!
//! - `openai_model.py`, with the model that ships with the binary: chat and completions, plain and
//!   streamed, usage, sampling, stop, limits, log-probabilities, models, errors by their type.
//! - `openai_failures.py`, with models that are behaviours: refusals, providers that die before and
//!   after the first token, empty answers, clients that leave, many streams at once.
//! - `openai_responses.py`: the same SDK's responses.
//! - `ollama_openai.py`: Ollama's documented way to its OpenAI-compatible API.
//! - `ollama_native.py`: Ollama's own package, of which only the host is changed.
//! - `anthropic_messages.py`: Anthropic's SDK.
//! - `langchain_chat.py`, `litellm_sdk.py`: through each of these APIs.
//! - `tools.py`: tools by each of these clients, with a model that calls them.
//! - `embeddings.py`: embeddings likewise, with a model that makes them.

mod support;

use support::{
    clients::{self, SCRIPTS},
    process::Up,
    repository, skip,
};

const BUILT_IN: &str = "ember-1m";

async fn check(test: &str, script: &str, arguments: &[&str], model: &str) {
    let requirements = std::fs::read_to_string(repository(SCRIPTS).join("requirements.txt"));
    let python = match clients::python(&requirements.unwrap()).await {
        Ok(python) => python,
        Err(reason) => return skip(test, reason),
    };
    let up = Up::start(arguments).await;
    let script = repository(SCRIPTS).join(script);
    clients::script(python, &script, &[&up.base_url, &up.api_key, model]).await;
    up.stop_and_check().await;
}

#[tokio::test]
async fn openai_python_with_the_built_in_model() {
    let test = "openai_python_with_the_built_in_model";
    check(test, "openai_model.py", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn openai_python_when_things_fail() {
    let test = "openai_python_when_things_fail";
    check(test, "openai_failures.py", &["--dummy-engine"], "dummy/echo").await;
}

#[tokio::test]
async fn openai_python_by_responses() {
    let test = "openai_python_by_responses";
    check(test, "openai_responses.py", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn ollamas_documented_use_of_the_openai_api() {
    let test = "ollamas_documented_use_of_the_openai_api";
    check(test, "ollama_openai.py", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn ollama_python_with_another_host() {
    let test = "ollama_python_with_another_host";
    check(test, "ollama_native.py", &["--embedded", "--keyless"], BUILT_IN).await;
}

#[tokio::test]
async fn anthropic_python() {
    check("anthropic_python", "anthropic_messages.py", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn langchain() {
    check("langchain", "langchain_chat.py", &["--embedded"], BUILT_IN).await;
}

#[tokio::test]
async fn tools_by_every_python_client() {
    let test = "tools_by_every_python_client";
    check(test, "tools.py", &["--dummy-engine", "--keyless"], "dummy/calls").await;
}

#[tokio::test]
async fn embeddings_by_every_python_client() {
    let test = "embeddings_by_every_python_client";
    check(test, "embeddings.py", &["--dummy-engine", "--keyless"], "dummy/embed").await;
}

#[tokio::test]
async fn litellms_sdk() {
    check("litellms_sdk", "litellm_sdk.py", &["--embedded"], BUILT_IN).await;
}
