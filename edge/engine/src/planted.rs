//! Answers of one model sold as another's, on purpose: what a planted fault is made of (`docs/spec/audits.md`).

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use types::{ModelId, inference::InferenceRequest, offer::EngineKind};

use crate::{Engine, EngineError, EngineModel, Generation, Load, SharedEngine};

/// Has the models of one engine to offer, and the one model of another that answers.
#[derive(Clone, Debug)]
pub struct PlantedEngine {
    offered: SharedEngine,
    answering: SharedEngine,
    model: ModelId,
}

impl PlantedEngine {
    /// Of engines with one model each: another one than is offered has to answer, or nothing would be wrong.
    pub async fn new(
        offered: SharedEngine,
        answering: SharedEngine,
    ) -> Result<PlantedEngine, EngineError> {
        let (one, other) = (only(&offered).await?, only(&answering).await?);
        if one == other {
            let reason =
                "the planted model is the one that is offered; give another one".to_owned();
            return Err(EngineError::BadRequest { reason });
        }
        Ok(PlantedEngine { offered, answering, model: other })
    }
}

async fn only(engine: &SharedEngine) -> Result<ModelId, EngineError> {
    let models = engine.models().await?;
    let [model] = models.as_slice() else {
        let reason =
            format!("{} has {} models; plant with one of one", engine.version(), models.len());
        return Err(EngineError::BadRequest { reason });
    };
    Ok(model.id)
}

#[async_trait]
impl Engine for PlantedEngine {
    fn kind(&self) -> EngineKind {
        self.offered.kind()
    }

    fn version(&self) -> String {
        self.offered.version()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        self.offered.models().await
    }

    async fn generate(
        &self,
        _offered: ModelId,
        request: InferenceRequest,
        cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        self.answering.generate(self.model, request, cancel).await
    }

    fn load(&self) -> Load {
        self.answering.load()
    }
}
