//! Which engines a provider runs: the ones that were named, else the ones that are found, else the
//! built-in model.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::Context;
use engine::{
    ApiKey, DiscoverOptions, EmbeddedEngine, EmbeddedOptions, Library, LlamaOptions, OllamaEngine,
    OllamaOptions, OpenAiEngine, OpenAiOptions, PlantedEngine, SharedEngine,
    dummy::{DummyEngine, DummyOptions},
};
use types::price::Price;

use crate::{
    args::{EmbeddedWith, EngineArgs},
    output::Output,
};

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
    let library = args.embedded_with.map(|library| match library {
        EmbeddedWith::Candle => Library::Candle,
        EmbeddedWith::Llama => Library::Llama(LlamaOptions::standard()),
    });
    let options = EmbeddedOptions { library, ..EmbeddedOptions::standard() };
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
        engines.push(Arc::new(load(path.clone(), options).await?));
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
        engines.push(Arc::new(built_in(options).await?));
        output.progress(format_args!("using the built-in model {BUILT_IN_NAME}"));
    }
    Ok(engines)
}

/// One engine that has `path` answer for the one that is offered.
pub(crate) async fn planted(
    mut offered: Vec<SharedEngine>,
    path: PathBuf,
) -> anyhow::Result<SharedEngine> {
    let (Some(one), true) = (offered.pop(), offered.is_empty()) else {
        anyhow::bail!("faults are planted with one model; name it with --model or --embedded")
    };
    let answering: SharedEngine = Arc::new(load(path, EmbeddedOptions::standard()).await?);
    Ok(Arc::new(PlantedEngine::new(one, answering).await?))
}

pub(crate) async fn load(
    path: PathBuf,
    options: EmbeddedOptions,
) -> anyhow::Result<EmbeddedEngine> {
    let loaded = tokio::task::spawn_blocking(move || EmbeddedEngine::load(&path, options));
    Ok(loaded.await.context("loading the model")??)
}

pub(crate) async fn built_in(options: EmbeddedOptions) -> anyhow::Result<EmbeddedEngine> {
    let loaded = tokio::task::spawn_blocking(move || load_built_in(options));
    loaded.await.context("loading the built-in model")?
}

fn load_built_in(options: EmbeddedOptions) -> anyhow::Result<EmbeddedEngine> {
    if let Some(Library::Llama(_)) = options.library {
        // It loads files alone, and needs no name for one that it has open.
        let folder = tempfile::tempdir().context("making a folder for the built-in model")?;
        let path = folder.path().join(BUILT_IN_NAME).with_extension("gguf");
        fs::write(&path, BUILT_IN_MODEL).with_context(|| format!("writing {}", path.display()))?;
        return Ok(EmbeddedEngine::load(&path, options)?);
    }
    Ok(EmbeddedEngine::from_bytes(BUILT_IN_MODEL, BUILT_IN_NAME, options)?)
}
