//! llama.cpp in this process, for the embedded engine: any model and tokenizer that it knows, and the logits of
//! all positions of a text from one pass.
//!
//! Its functions are C++ behind safe bindings that panic on some misuse, and abort the process on some of what they take for
//! impossible. So ids, lengths and positions are checked before they get here, and one model is set up at a time: the
//! bindings say that setting up is not safe beside itself. Its log goes to `tracing`.

use std::{
    num::NonZeroU32,
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use llama_cpp_2::{
    LogOptions,
    context::{
        LlamaContext,
        params::{KvCacheType, LlamaContextParams},
    },
    llama_backend::LlamaBackend,
    llama_batch::LlamaBatch,
    model::{LlamaModel, params::LlamaModelParams},
    send_logs_to_tracing,
    token::LlamaToken,
    token_type::LlamaTokenAttr,
};
use llama_cpp_sys_2::{LLAMA_FLASH_ATTN_TYPE_DISABLED, LLAMA_FLASH_ATTN_TYPE_ENABLED};

use crate::{CacheType, LlamaOptions};

/// The bindings have no constant that says it; a test compares it with `Cargo.lock`.
pub(crate) const VERSION: &str = "embedded llama.cpp (llama-cpp-sys-2 0.1.161)";

/// Tokens that one pass reads at most: more makes it hardly faster on a CPU.
const BATCH_TOKENS_MAX: usize = 512;
/// Of a prompt that somebody waits for: between two passes a cancelled request ends.
const PROMPT_TOKENS_MAX: usize = 128;
/// Logits that one pass may give. Whatever their number, a slot keeps room for as many again while it computes.
const BATCH_LOGITS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Attention caches grow in steps of this many tokens, so that a slot is set up anew for few requests.
const CACHE_TOKENS_STEP: usize = 512;

/// Read an input as a whole first; this engine has no call for that.
const WITH_ENCODER: [&str; 2] = ["t5", "t5encoder"];

/// Why something could not be computed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComputeError {
    #[error("llama.cpp cannot be set up: {0}")]
    Backend(String),
    #[error("llama.cpp cannot load it, for a reason that it logs")]
    Load,
    #[error("llama.cpp cannot run it here: {0}")]
    Unsupported(String),
    #[error("llama.cpp has no room for {tokens} tokens")]
    Context { tokens: usize },
    #[error("llama.cpp cannot read the tokens: {0}")]
    Decode(String),
}

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Model {
    model: LlamaModel,
    options: LlamaOptions,
    /// For each slot.
    threads: i32,
    batch_tokens: usize,
}

/// What its tokenizer knows of a token.
pub(crate) struct TokenInfo {
    /// Its text, or the name of a special one.
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_special: bool,
    pub(crate) is_user_defined: bool,
    pub(crate) is_byte: bool,
    pub(crate) ends: bool,
}

impl Model {
    /// Loads a GGUF file to be computed by so many threads for each slot.
    pub(crate) fn load(
        path: &Path,
        options: LlamaOptions,
        threads: usize,
    ) -> Result<Model, ComputeError> {
        let model = load(path, &LlamaModelParams::default())?;
        let family = text(&model, "general.architecture").unwrap_or_default();
        if WITH_ENCODER.contains(&family.as_str()) || family.contains("bert") {
            return Err(ComputeError::Unsupported(format!("the family `{family}` writes no text")));
        }
        let vocabulary = usize::try_from(model.n_vocab()).unwrap_or(usize::MAX);
        let row_bytes = vocabulary.saturating_mul(size_of::<f32>()).max(1);
        let batch_tokens = (BATCH_LOGITS_BYTES_MAX / row_bytes).clamp(1, BATCH_TOKENS_MAX);
        let threads = i32::try_from(threads).unwrap_or(i32::MAX).max(1);
        Ok(Model { model, options, threads, batch_tokens })
    }

    /// The chat template in a GGUF file, without its weights.
    pub(crate) fn template_in(path: &Path) -> Result<Option<String>, ComputeError> {
        let model = load(path, &LlamaModelParams::default().with_vocab_only(true))?;
        Ok(text(&model, "tokenizer.chat_template"))
    }

    pub(crate) fn template(&self) -> Option<String> {
        text(&self.model, "tokenizer.chat_template")
    }

    /// Tokens that it was made for.
    pub(crate) fn context_tokens(&self) -> u32 {
        self.model.n_ctx_train()
    }

    /// All tokens, in the order of their ids.
    pub(crate) fn tokens(&self) -> Vec<TokenInfo> {
        let vocabulary = self.model.vocab();
        let info = |token: LlamaToken| {
            let attributes = vocabulary.attr(token);
            let is = |attribute: LlamaTokenAttr| attributes.contains(attribute);
            let is_special = is(LlamaTokenAttr::Control) || is(LlamaTokenAttr::Unknown);
            TokenInfo {
                bytes: vocabulary.token_to_piece(token, is_special, None),
                is_special,
                is_user_defined: is(LlamaTokenAttr::UserDefined),
                is_byte: is(LlamaTokenAttr::Byte),
                ends: vocabulary.is_eog(token),
            }
        };
        vocabulary.tokens().map(info).collect()
    }

    /// The tokens before and after a text, and whether prompts begin with the first.
    pub(crate) fn bos_eos(&self) -> (Option<u32>, Option<u32>, bool) {
        let vocabulary = self.model.vocab();
        let id = |LlamaToken(id)| u32::try_from(id).ok();
        (id(vocabulary.bos()), id(vocabulary.eos()), vocabulary.should_add_bos())
    }

    /// The tokens of a text in which the texts of special tokens stand for these; without the token before it.
    pub(crate) fn encode(&self, text: &str) -> Vec<u32> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), false, true);
        tokens.into_iter().filter_map(|LlamaToken(id)| u32::try_from(id).ok()).collect()
    }

    pub(crate) fn slot(&self) -> Slot<'_> {
        Slot { model: self, context: None, tokens_max: 0 }
    }
}

/// A context of llama.cpp's, kept for the next request: setting one up takes longer than a token.
pub(crate) struct Slot<'m> {
    model: &'m Model,
    context: Option<LlamaContext<'m>>,
    /// Tokens that it holds.
    tokens_max: usize,
}

impl<'m> Slot<'m> {
    /// A text of at most `tokens_max` tokens, nothing of which is read yet.
    pub(crate) fn begin(&mut self, tokens_max: usize) -> Result<Text<'_, 'm>, ComputeError> {
        let Slot { model, context, tokens_max: held } = self;
        if *held < tokens_max || context.is_none() {
            // First the old one goes: both together may be more than there is room for.
            *context = None;
            let tokens = tokens_max.max(1).next_multiple_of(CACHE_TOKENS_STEP);
            *context = Some(model.context(tokens)?);
            *held = tokens;
        }
        match context {
            Some(context) => {
                context.clear_kv_cache();
                Ok(Text { context, batch_tokens: model.batch_tokens })
            }
            None => Err(ComputeError::Context { tokens: tokens_max }),
        }
    }
}

impl Model {
    fn context(&self, tokens: usize) -> Result<LlamaContext<'_>, ComputeError> {
        let refused = || ComputeError::Context { tokens };
        let batch = u32::try_from(self.batch_tokens).map_err(|_| refused())?;
        let held = u32::try_from(tokens).ok().and_then(NonZeroU32::new).ok_or_else(refused)?;
        let (cache, flash) = match self.options.cache {
            CacheType::F16 => (KvCacheType::F16, LLAMA_FLASH_ATTN_TYPE_DISABLED),
            // Flash attention alone reads values of fewer bits.
            CacheType::Q8_0 => (KvCacheType::Q8_0, LLAMA_FLASH_ATTN_TYPE_ENABLED),
            CacheType::Q4_0 => (KvCacheType::Q4_0, LLAMA_FLASH_ATTN_TYPE_ENABLED),
        };
        // The shapes of passes decide the last digits of what they give: one batch is one pass, whatever the request.
        let params = LlamaContextParams::default()
            .with_n_ctx(Some(held))
            .with_n_seq_max(1)
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(self.threads)
            .with_n_threads_batch(self.threads)
            .with_type_k(cache)
            .with_type_v(cache)
            .with_flash_attention_policy(flash);
        let _one = setting_up();
        self.model.new_context(backend()?, params).map_err(|_| refused())
    }
}

/// A text that is being read.
pub(crate) struct Text<'s, 'm> {
    context: &'s mut LlamaContext<'m>,
    batch_tokens: usize,
}

impl Text<'_, '_> {
    /// Tokens that one pass reads at most.
    pub(crate) fn batch_tokens(&self) -> usize {
        self.batch_tokens
    }

    /// The same, of a prompt.
    pub(crate) fn prompt_tokens(&self) -> usize {
        self.batch_tokens.min(PROMPT_TOKENS_MAX)
    }

    /// Reads tokens of the vocabulary, at most a batch, after the first `read`; keeps the logits after `tokens[from]` and
    /// each later one.
    pub(crate) fn read(
        &mut self,
        read: usize,
        tokens: &[u32],
        from: usize,
    ) -> Result<(), ComputeError> {
        let failed = |reason: &dyn std::fmt::Display| ComputeError::Decode(reason.to_string());
        let mut batch = LlamaBatch::new(tokens.len(), 1);
        for (at, token) in tokens.iter().enumerate() {
            let id = i32::try_from(*token).map_err(|error| failed(&error))?;
            let position = read.checked_add(at).and_then(|position| i32::try_from(position).ok());
            let position = position.ok_or_else(|| failed(&"there are too many"))?;
            let added = batch.add(LlamaToken(id), position, &[0], at >= from);
            added.map_err(|error| failed(&error))?;
        }
        self.context.decode(&mut batch).map_err(|error| failed(&error))
    }

    /// The logits after token `at` of those that were read last, if they were to be kept.
    pub(crate) fn logits(&self, at: usize) -> Result<Vec<f32>, ComputeError> {
        let at = i32::try_from(at).map_err(|error| ComputeError::Decode(error.to_string()))?;
        Ok(self.context.get_logits_ith(at).to_vec())
    }
}

fn load(path: &Path, params: &LlamaModelParams) -> Result<LlamaModel, ComputeError> {
    let backend = backend()?;
    let _one = setting_up();
    LlamaModel::load_from_file(backend, path, params).map_err(|_| ComputeError::Load)
}

fn text(model: &LlamaModel, key: &str) -> Option<String> {
    model.meta_val_str(key).ok()
}

/// Set up once, with its log.
fn backend() -> Result<&'static LlamaBackend, ComputeError> {
    static BACKEND: OnceLock<Result<LlamaBackend, String>> = OnceLock::new();
    let backend = BACKEND.get_or_init(|| {
        send_logs_to_tracing(LogOptions::default());
        LlamaBackend::init().map_err(|error| error.to_string())
    });
    backend.as_ref().map_err(|reason| ComputeError::Backend(reason.clone()))
}

/// Held while a model or context is set up.
fn setting_up() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}
