//! Which engines a provider runs: the ones that were named, else the ones that are found, else the
//! built-in model.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use engine::{
    ApiKey, DiscoverOptions, EmbeddedEngine, EmbeddedOptions, OllamaEngine, OllamaOptions,
    OpenAiEngine, OpenAiOptions, SharedEngine,
    dummy::{DummyEngine, DummyOptions},
};
use types::price::Price;

use crate::{args::EngineArgs, output::Output};

/// The model that ships with the binary, see `models/README.md`.
pub(crate) const BUILT_IN_MODEL: &[u8] = include_bytes!("../../../../models/ember-1m-f16.gguf");
const BUILT_IN_NAME: &str = "ember-1m";

/// Requests at once to a service that is sold on. What is too much for an account there is refused there.
const RESOLD_SLOTS: u32 = 32;
/// Requests that a provider runs at once, whatever its engines claim.
const SLOTS_MAX: u32 = 256;

/// Requests that the engines can run at once, together.
pub(crate) fn slots(engines: &[SharedEngine]) -> u32 {
    let sum = engines.iter().map(|engine| engine.load().slots).fold(0, u32::saturating_add);
    sum.clamp(1, SLOTS_MAX)
}

/// What is asked for tokens.
pub(crate) fn price(args: &EngineArgs) -> Price {
    Price {
        request_nusd: args.request_price,
        prompt_nusd_per_mtok: args.prompt_price,
        completion_nusd_per_mtok: args.completion_price,
    }
}

/// The engines that the arguments name, or those that are found.
pub(crate) async fn open(args: &EngineArgs, output: Output) -> anyhow::Result<Vec<SharedEngine>> {
    let mut engines: Vec<SharedEngine> = Vec::new();
    if args.dummy_engine {
        let mut options = DummyOptions { slots: SLOTS_MAX, ..DummyOptions::all() };
        options.models.extend(args.dummy_model.iter().cloned());
        engines.push(Arc::new(DummyEngine::new(options)?));
    }
    if let Some(url) = &args.ollama_url {
        let models = args.ollama_models.clone();
        let options = OllamaOptions { models, ..OllamaOptions::at(url) };
        engines.push(Arc::new(OllamaEngine::connect(options).await?));
    }
    if let Some(url) = &args.engine_url {
        let mut options = OpenAiOptions::at(url);
        options.api_key = args.engine_key.clone().map(ApiKey::new);
        engines.push(Arc::new(OpenAiEngine::connect(options).await?));
    }
    if let Some(url) = &args.resell {
        let mut options = OpenAiOptions::at(url);
        options.api_key = args.resell_key.clone().map(ApiKey::new);
        options.models.clone_from(&args.resell_model);
        options.resold = true;
        options.context_tokens = args.resell_context;
        options.slots = RESOLD_SLOTS;
        engines.push(Arc::new(OpenAiEngine::connect(options).await?));
    }
    if let Some(path) = &args.model {
        output.progress(format_args!("loading {} …", path.display()));
        engines.push(Arc::new(load(path.clone()).await?));
    }
    if engines.is_empty() && !args.embedded {
        for found in engine::discover(&DiscoverOptions::standard()).await {
            let (version, url) = (found.engine.version(), &found.url);
            if found.models.is_empty() {
                output.progress(format_args!(
                    "{version} at {url} has no models; pull one to offer it"
                ));
                continue;
            }
            let count = found.models.len();
            output.progress(format_args!("found {version} at {url} with {count} models"));
            engines.push(found.engine);
        }
    }
    if engines.is_empty() {
        engines.push(Arc::new(built_in().await?));
        output.progress(format_args!("using the built-in model {BUILT_IN_NAME}"));
    }
    Ok(engines)
}

pub(crate) async fn load(path: std::path::PathBuf) -> anyhow::Result<EmbeddedEngine> {
    let load = move |path: &Path| EmbeddedEngine::load(path, EmbeddedOptions::standard());
    let loaded = tokio::task::spawn_blocking(move || load(&path));
    Ok(loaded.await.context("loading the model")??)
}

pub(crate) async fn built_in() -> anyhow::Result<EmbeddedEngine> {
    let load =
        || EmbeddedEngine::from_bytes(BUILT_IN_MODEL, BUILT_IN_NAME, EmbeddedOptions::standard());
    Ok(tokio::task::spawn_blocking(load).await.context("loading the built-in model")??)
}
