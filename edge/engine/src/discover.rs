//! Finds the engines that already run on this machine, at their default addresses.

use std::{sync::Arc, time::Duration};

use crate::{
    Engine as _, EngineError, EngineModel, SharedEngine,
    ollama::{OllamaEngine, OllamaOptions},
    openai::{OpenAiEngine, OpenAiOptions},
};

/// Where to look, and for how long.
#[derive(Clone, Debug)]
pub struct DiscoverOptions {
    pub ollama_url: String,
    pub llama_server_url: String,
    /// For the first answer of each. Listing the models of one that answered may take longer.
    pub timeout: Duration,
}

impl DiscoverOptions {
    /// The addresses that both have unless told otherwise. On one machine an answer takes
    /// milliseconds; a second is for one under load.
    pub fn standard() -> DiscoverOptions {
        DiscoverOptions {
            ollama_url: "http://127.0.0.1:11434".to_owned(),
            llama_server_url: "http://127.0.0.1:8080".to_owned(),
            timeout: Duration::from_secs(1),
        }
    }
}

/// An engine that answered.
#[derive(Clone, Debug)]
pub struct Found {
    pub url: String,
    pub engine: SharedEngine,
    /// Empty for an engine that has none yet.
    pub models: Vec<EngineModel>,
}

/// Looks at all places at once. What does not answer, or is something else, is not found; Ollama
/// comes first.
pub async fn discover(options: &DiscoverOptions) -> Vec<Found> {
    let (ollama, llama_server) = tokio::join!(find_ollama(options), find_llama_server(options));
    let report = |found: Result<Option<Found>, EngineError>| match found {
        Ok(found) => found,
        Err(error) => {
            tracing::debug!(%error, "no engine found");
            None
        }
    };
    [report(ollama), report(llama_server)].into_iter().flatten().collect()
}

async fn find_ollama(options: &DiscoverOptions) -> Result<Option<Found>, EngineError> {
    let url = options.ollama_url.clone();
    let engine = OllamaEngine::connect_within(OllamaOptions::at(&url), options.timeout).await?;
    let models = engine.models().await?;
    Ok(Some(Found { url, engine: Arc::new(engine), models }))
}

/// Port 8080 is everybody's: only llama.cpp's own server is taken.
async fn find_llama_server(options: &DiscoverOptions) -> Result<Option<Found>, EngineError> {
    let url = options.llama_server_url.clone();
    let engine = OpenAiEngine::connect_within(OpenAiOptions::at(&url), options.timeout).await?;
    if !engine.is_llama_server() {
        return Ok(None);
    }
    let models = engine.models().await?;
    Ok(Some(Found { url, engine: Arc::new(engine), models }))
}
