//! A server that runs the model in a GGUF file that is here, as an auditor's engine: tokens, template and the model's id are the
//! file's, the logits are the server's. That it runs this file, or the same weights in another form, is its operator's word.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{InferenceRequest, Prompt},
    offer::EngineKind,
};

use super::{Family, OpenAiEngine, OpenAiOptions, prompt_logprobs::PromptLogprobs};
use crate::{
    EmbeddedEngine, Engine, EngineError, EngineModel, Generation, Load, LogitsStream, Vocabulary,
    embedded::Texts, openai::scoring::Scorer, remote::protocol,
};

/// See the module.
#[derive(Debug)]
pub struct ServedFile {
    server: OpenAiEngine,
    model: EngineModel,
    texts: Arc<Texts>,
    asked: Asked,
}

/// How the server is asked for logits.
#[derive(Clone, Debug)]
enum Asked {
    /// llama.cpp's, a position at a time: of all tokens.
    Positions(Scorer),
    /// vLLM's, a text at once: of the likeliest.
    Prompts(PromptLogprobs),
}

impl ServedFile {
    /// Asks what the server is: llama.cpp's or vLLM, with one model. Reads the whole file.
    pub async fn connect(options: OpenAiOptions, file: &Path) -> Result<ServedFile, EngineError> {
        let path = file.to_owned();
        let read = tokio::task::spawn_blocking(move || {
            Ok::<_, EngineError>((EmbeddedEngine::model_id(&path)?, Texts::read(&path)?))
        });
        let failed = |error: tokio::task::JoinError| EngineError::Failed {
            reason: format!("the model file could not be read: {error}"),
        };
        let (id, texts) = read.await.map_err(failed)??;
        let server = OpenAiEngine::connect(options).await?;
        let models = server.models().await?;
        let [model] = &models[..] else {
            let reason = format!("it lists {} models, and must run one alone", models.len());
            return Err(protocol(&server.base, &reason));
        };
        let size = texts.vocabulary().size();
        let asked = match server.family {
            Family::LlamaServer => {
                let scorer = server.scorer(model.id)?;
                match scorer.vocabulary_size().await? {
                    told if told == size => Asked::Positions(scorer),
                    told => {
                        let reason = format!("its model has {told} tokens, the file's {size}");
                        return Err(protocol(&server.base, &reason));
                    }
                }
            }
            Family::Vllm => {
                let name =
                    server.name_of(model.id).ok_or(EngineError::UnknownModel { model: id })?;
                let key = server.options.api_key.clone();
                let client = (server.base.clone(), server.client.clone(), key);
                Asked::Prompts(PromptLogprobs::probe(client, name, size).await?)
            }
            Family::Other => {
                return Err(EngineError::Unsupported {
                    what: "scoring given tokens; llama.cpp's server and vLLM do",
                });
            }
        };
        let model = EngineModel { id, weights_known: true, ..model.clone() };
        Ok(ServedFile { server, model, texts: Arc::new(texts), asked })
    }

    /// The model of the file.
    pub fn model(&self) -> &EngineModel {
        &self.model
    }

    fn check(&self, model: ModelId) -> Result<(), EngineError> {
        if model == self.model.id { Ok(()) } else { Err(EngineError::UnknownModel { model }) }
    }
}

#[async_trait]
impl Engine for ServedFile {
    fn kind(&self) -> EngineKind {
        self.server.kind()
    }

    fn version(&self) -> String {
        self.server.version()
    }

    async fn models(&self) -> Result<Vec<EngineModel>, EngineError> {
        Ok(vec![self.model.clone()])
    }

    async fn generate(
        &self,
        _model: ModelId,
        _request: InferenceRequest,
        _cancel: CancellationToken,
    ) -> Result<Generation, EngineError> {
        Err(EngineError::Unsupported { what: "answers: it is here to score them" })
    }

    async fn logits(
        &self,
        model: ModelId,
        tokens: &[u32],
        from: usize,
    ) -> Result<LogitsStream, EngineError> {
        self.check(model)?;
        match &self.asked {
            Asked::Positions(scorer) => scorer.clone().logits(tokens, from).await,
            Asked::Prompts(prompts) => prompts.logits(tokens, from).await,
        }
    }

    fn tells_all_logits(&self) -> bool {
        matches!(self.asked, Asked::Positions(_))
    }

    async fn tokenize(&self, model: ModelId, prompt: &Prompt) -> Result<Vec<u32>, EngineError> {
        self.check(model)?;
        let (texts, prompt) = (Arc::clone(&self.texts), prompt.clone());
        // A prompt of megabytes takes a while.
        let tokens = tokio::task::spawn_blocking(move || texts.tokens(&prompt)).await;
        let failed = |error| EngineError::Failed {
            reason: format!("the prompt could not be tokenized: {error}"),
        };
        tokens.map_err(failed)?
    }

    async fn vocabulary(&self, model: ModelId) -> Result<Vocabulary, EngineError> {
        self.check(model)?;
        Ok(self.texts.vocabulary())
    }

    fn load(&self) -> Load {
        self.server.load()
    }
}
