//! OpenAI's official Python SDK against `peerwatt up`, and what somebody who comes from Ollama's
//! Python world can do.
//!
//! The SDKs are installed from PyPI into a cache folder (`sdk/requirements.txt` pins them); without
//! a network or Python the tests are skipped with the reason. What is asserted stands in the scripts:
//!
//! - `sdk/openai_model.py`, with the model that ships with the binary: chat and completions, plain
//!   and streamed, usage, sampling, stop, limits, log-probabilities, models, errors by their type.
//! - `sdk/openai_failures.py`, with models that are behaviours: refusals, providers that die before
//!   and after the first token, empty answers, clients that leave, many streams at once.
//! - `sdk/ollama_openai.py`: Ollama's documented way to its OpenAI-compatible API is OpenAI's SDK with
//!   a base URL ending in `/v1/`; those examples run as documented. The `ollama` package has no
//!   OpenAI-compatible calls of its own: it speaks Ollama's native API, which gateways do not serve,
//!   and what is checked of it is that it raises its own error type with 404 and a readable message.

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
async fn ollamas_documented_use_of_the_openai_api() {
    let test = "ollamas_documented_use_of_the_openai_api";
    check(test, "ollama_openai.py", &["--embedded"], BUILT_IN).await;
}
