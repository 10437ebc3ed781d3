//! The models that are offered, by the engines that run them.

use std::time::Duration;

use engine::{EngineError, EngineModel, SharedEngine};
use types::{
    ModelId,
    limits::{NAME_BYTES_MAX, OFFER_MODELS_MAX},
    offer::ModelOffer,
};

use crate::config::Pricing;

/// How long an engine may take to list its models.
const LIST_WAIT: Duration = Duration::from_secs(5);

/// What is offered now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    models: Vec<Offered>,
}

/// A model, and the place among the engines of one that runs it.
#[derive(Clone, Debug)]
struct Offered {
    offer: ModelOffer,
    engine: usize,
}

/// Why an engine's models are not offered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("the models of engine `{engine}` are not offered")]
    Engine { engine: String, source: EngineError },
    #[error("engine `{engine}` took too long to list its models, they are not offered")]
    Slow { engine: String },
    #[error("model `{alias}` is not offered: its name or its engine's is empty or too long")]
    Name { alias: String },
    #[error("more than {OFFER_MODELS_MAX} models; `{alias}` and later ones are not offered")]
    TooMany { alias: String },
}

impl Catalog {
    /// Asks every engine. What cannot be offered is left out, and said.
    pub(crate) async fn ask(
        engines: &[SharedEngine],
        pricing: &Pricing,
    ) -> (Catalog, Vec<CatalogError>) {
        let mut catalog = Catalog::default();
        let mut errors = Vec::new();
        let lists = futures::future::join_all(
            engines.iter().map(|engine| tokio::time::timeout(LIST_WAIT, engine.models())),
        );
        for (index, (engine, list)) in engines.iter().zip(lists.await).enumerate() {
            let name = || engine.version();
            match list {
                Ok(Ok(models)) => {
                    let added = models.into_iter().map(|model| (index, engine, model));
                    for (index, engine, model) in added {
                        let offer = describe(engine, model, pricing);
                        catalog.add(index, offer).unwrap_or_else(|error| errors.push(error));
                    }
                }
                Ok(Err(source)) => errors.push(CatalogError::Engine { engine: name(), source }),
                Err(_) => errors.push(CatalogError::Slow { engine: name() }),
            }
        }
        (catalog, errors)
    }

    fn add(&mut self, engine: usize, offer: ModelOffer) -> Result<(), CatalogError> {
        let fits = |text: &str| (1..=NAME_BYTES_MAX).contains(&text.len());
        if !fits(&offer.alias) || !fits(&offer.engine_version) {
            return Err(CatalogError::Name { alias: offer.alias });
        }
        let known = self.offer(offer.model).is_some();
        if !known && self.offers().len() >= OFFER_MODELS_MAX {
            return Err(CatalogError::TooMany { alias: offer.alias });
        }
        self.models.push(Offered { offer, engine });
        Ok(())
    }

    /// The offer for a model: that of the first engine that has it.
    pub(crate) fn offer(&self, model: ModelId) -> Option<&ModelOffer> {
        let mut found = self.models.iter().filter(|offered| offered.offer.model == model);
        found.next().map(|offered| &offered.offer)
    }

    /// One offer per model.
    pub(crate) fn offers(&self) -> Vec<ModelOffer> {
        let mut offers: Vec<ModelOffer> = Vec::new();
        for Offered { offer, .. } in &self.models {
            if offers.iter().all(|known| known.model != offer.model) {
                offers.push(offer.clone());
            }
        }
        offers
    }

    /// An engine for the model: the first with a free slot of those that are what the offer says, which the report names.
    pub(crate) fn engine<'a>(
        &self,
        model: ModelId,
        engines: &'a [SharedEngine],
    ) -> Option<&'a SharedEngine> {
        let version = &self.offer(model)?.engine_version;
        let is_offered =
            |offer: &ModelOffer| offer.model == model && offer.engine_version == *version;
        let running = self.models.iter().filter(|offered| is_offered(&offered.offer));
        running.filter_map(|offered| engines.get(offered.engine)).find(|engine| {
            let load = engine.load();
            load.active < load.slots
        })
    }
}

fn describe(engine: &SharedEngine, model: EngineModel, pricing: &Pricing) -> ModelOffer {
    let EngineModel { id, alias, context_tokens, abilities, .. } = model;
    ModelOffer {
        model: id,
        price: pricing.of(&alias),
        alias,
        context_tokens,
        engine: engine.kind(),
        engine_version: engine.version_of(id),
        abilities,
    }
}
