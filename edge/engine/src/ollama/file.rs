//! The file of a model in Ollama's folder: what its tokens and its chat template are, which the server does not tell.
//!
//! With it a chat is rendered here and sent as it stands, so that whoever has the file reads the same prompt; and tokens get
//! their ids, by their bytes. Both only help auditors if the server reads prompts as we do. It tells how many tokens a prompt had:
//! until it has once told the number that we count, no ids are told, and none after it has told more.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use types::{
    Hash32,
    inference::{InferenceRequest, Prompt},
};
use wire::upstream::ollama::Logprob;

use crate::{EngineError, embedded::Texts, remote};

/// The text of a token that is no text as Go and JSON have it.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// See the module.
#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) texts: Texts,
    /// Whether the server reads prompts as we do, once that is known.
    reads_alike: Mutex<Option<bool>>,
}

impl ModelFile {
    /// The file of the weights with this digest, in a folder of models as Ollama keeps it. Blocks.
    pub(super) fn find(folder: &Path, weights: &Hash32) -> Result<ModelFile, EngineError> {
        let texts = Texts::read(&folder.join("blobs").join(format!("sha256-{weights}")))?;
        Ok(ModelFile { texts, reads_alike: Mutex::default() })
    }

    /// The prompt of a request as it is sent; `None` if only the server's template can write it.
    pub(super) fn prompt(&self, request: &InferenceRequest) -> Result<Option<String>, EngineError> {
        let rendered = match &request.prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Chat(messages) if request.tools.is_none() && !request.prompt.has_calls() => {
                self.texts.render(messages)?
            }
            Prompt::Chat(_) | Prompt::Inputs(_) => return Ok(None),
        };
        let prompt = self.texts.without_begin(&rendered);
        Ok(Some(remote::raw_prompt(prompt, request.begun.as_ref()).into_owned()))
    }

    /// What is known by its bytes of the tokens of an answer to `prompt`. Blocks while it reads the prompt.
    pub(super) fn reading(self: Arc<ModelFile>, prompt: &str) -> Reading {
        let prompt_tokens = self.texts.count(prompt);
        let is_lost = *self.lock() != Some(true);
        Reading { file: self, prompt_tokens, is_lost }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<bool>> {
        self.reads_alike.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Reading {
    file: Arc<ModelFile>,
    prompt_tokens: usize,
    /// Something came that is no token that we know: whatever comes after it cannot be run again.
    is_lost: bool,
}

impl Reading {
    /// The server has told how many tokens the prompt had. Fewer: the others were known to it from before.
    pub(super) fn prompt_had(&self, tokens: u32) {
        let theirs = usize::try_from(tokens).unwrap_or(usize::MAX);
        let mut alike = self.file.lock();
        match theirs.cmp(&self.prompt_tokens) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => *alike = Some(alike.unwrap_or(true)),
            std::cmp::Ordering::Greater => *alike = Some(false),
        }
    }

    /// The id of the next token.
    pub(super) fn token(&mut self, bytes: &[u8]) -> Option<u32> {
        let id = Some(bytes).filter(|bytes| !is_lossy(bytes)).and_then(|it| self.file.texts.id(it));
        self.is_lost |= id.is_none();
        id.filter(|_| !self.is_lost)
    }

    /// Text came whose tokens are not known.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
    }

    /// The ids of a step's alternatives. Of two that have the same bytes neither is known.
    pub(super) fn alternatives(&self, told: &[Logprob]) -> Vec<Option<u32>> {
        let id = |bytes: &[u8]| {
            let twins = told.iter().filter(|it| it.bytes() == bytes).count();
            let is_known = twins == 1 && !is_lossy(bytes) && !self.is_lost;
            is_known.then(|| self.file.texts.id_of_alternative(bytes))?
        };
        told.iter().map(|it| id(it.bytes())).collect()
    }
}

fn is_lossy(bytes: &[u8]) -> bool {
    bytes.windows(REPLACEMENT.len()).any(|part| part == REPLACEMENT)
}
