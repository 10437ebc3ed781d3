//! A GGUF file: what it says of itself, and the model in it.
//!
//! The file may come from anywhere, so it is checked against the loader's assumptions first: the
//! loader sizes allocations from header fields, divides by some and ignores others that change what
//! the model computes. A model that it would compute wrongly is refused, not run.

use std::{
    io::{Read, Seek},
    panic::{AssertUnwindSafe, catch_unwind},
};

use candle_core::{
    Device, Tensor,
    quantized::gguf_file::{Content, TensorInfo, Value},
};
use candle_transformers::models::quantized_llama::{MAX_SEQ_LEN, ModelWeights};

/// More than any published vocabulary has (about 262 000).
const VOCABULARY_MAX: usize = 1 << 20;
/// Wider than any published model (about 16 000).
const EMBEDDING_MAX: usize = 1 << 16;
/// No format packs more weights into a byte (1 bit each).
const WEIGHTS_PER_BYTE_MAX: u64 = 8;

/// Why a file is not a model that can be run here.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("it cannot be read")]
    Read(#[from] std::io::Error),
    #[error("it is not a complete GGUF file: {reason}")]
    NotGguf { reason: String },
    #[error(
        "it is a model of the family `{found}`, candle runs only `llama`; serve it with a program that has llama.cpp built in, Ollama or llama-server"
    )]
    Architecture { found: String },
    #[error("its field `{key}` {problem}")]
    Field { key: &'static str, problem: String },
    #[error(
        "it uses {what}, which candle does not support; serve it with a program that has llama.cpp built in, Ollama or llama-server"
    )]
    Unsupported { what: String },
    #[error("its tensors do not make a model: {reason}")]
    Tensors { reason: String },
    #[error("its chat template is not valid: {reason}")]
    Template { reason: String },
    #[error("{reason}")]
    Library { reason: String },
}

#[cfg(feature = "llama")]
impl From<crate::llama::ComputeError> for LoadError {
    fn from(error: crate::llama::ComputeError) -> LoadError {
        LoadError::Library { reason: error.to_string() }
    }
}

/// A parsed header.
pub(super) struct Header {
    content: Content,
    file_bytes: u64,
}

/// What the header says of the model's size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Tokens the model was made for, and the loader can place.
    pub(super) context_tokens: u32,
    pub(super) vocabulary: usize,
}

impl Header {
    /// Reads the header at the start of `reader`, which holds `file_bytes`.
    pub(super) fn read<R: Read + Seek>(
        reader: &mut R,
        file_bytes: u64,
    ) -> Result<Header, LoadError> {
        let content = guarded(|| Content::read(reader))
            .map_err(|error| LoadError::NotGguf { reason: first_line(&error.to_string()) })?;
        Ok(Header { content, file_bytes })
    }

    /// Loads the weights, after [`Header::check`].
    pub(super) fn load<R: Read + Seek>(
        self,
        shape: Shape,
        reader: &mut R,
    ) -> Result<ModelWeights, LoadError> {
        let loaded = guarded(|| {
            let weights = ModelWeights::from_gguf(self.content, reader, &Device::Cpu)?;
            try_out(&weights, shape.vocabulary)?;
            Ok(weights)
        });
        loaded.map_err(|error| LoadError::Tensors { reason: first_line(&error.to_string()) })
    }

    /// Checks everything that the loader trusts or ignores.
    pub(super) fn check(&self) -> Result<Shape, LoadError> {
        let family = self.text("general.architecture").unwrap_or("");
        if family != "llama" {
            return Err(LoadError::Architecture { found: family.chars().take(64).collect() });
        }
        self.check_ignored()?;
        self.check_tensors()?;
        self.check_sizes()
    }

    /// Fields that change what the model computes and that the loader does not look at.
    fn check_ignored(&self) -> Result<(), LoadError> {
        let unsupported = |what: &str| Err(LoadError::Unsupported { what: what.to_owned() });
        if self.content.tensor_infos.contains_key("rope_freqs.weight") {
            return unsupported("RoPE frequency factors (as Llama 3.1 and later do)");
        }
        let scaled = self.text("llama.rope.scaling.type").is_some_and(|kind| kind != "none");
        let scale_linear = self.float("llama.rope.scale_linear");
        if scaled || scale_linear.is_some_and(|scale| scale != 1.0) {
            return unsupported("RoPE scaling");
        }
        if self.content.tensor_infos.keys().any(|name| name.ends_with(".bias")) {
            return unsupported("bias tensors");
        }
        Ok(())
    }

    /// No tensor claims more weights than the file can hold.
    fn check_tensors(&self) -> Result<(), LoadError> {
        let most = self.file_bytes.saturating_mul(WEIGHTS_PER_BYTE_MAX);
        for (name, info) in &self.content.tensor_infos {
            if elements(info).is_none_or(|count| count == 0 || count > most) {
                let name: String = name.chars().take(64).collect();
                let reason = format!("tensor `{name}` has an impossible size");
                return Err(LoadError::Tensors { reason });
            }
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<Shape, LoadError> {
        let tensors = self.content.tensor_infos.len();
        let heads = self.size("llama.attention.head_count", EMBEDDING_MAX)?;
        let heads_kv = self.size("llama.attention.head_count_kv", heads)?;
        self.size("llama.block_count", tensors)?;
        let width = self.size("llama.embedding_length", EMBEDDING_MAX)?;
        let rope = self.size("llama.rope.dimension_count", EMBEDDING_MAX)?;
        if self.number("llama.expert_count").is_some_and(|experts| experts > tensors as u64) {
            return field("llama.expert_count", "exceeds the number of tensors");
        }
        if !heads.is_multiple_of(heads_kv) || !width.is_multiple_of(heads) {
            return field("llama.attention.head_count", "does not divide the model's width");
        }
        let head = width / heads;
        if rope != head || !rope.is_multiple_of(2) {
            return field("llama.rope.dimension_count", "is not the width of a head");
        }
        for key in ["llama.attention.key_length", "llama.attention.value_length"] {
            if self.number(key).is_some_and(|length| length != head as u64) {
                return field(key, "is not the model's width divided by its heads");
            }
        }
        let vocabulary = self.texts("tokenizer.ggml.tokens")?.len();
        let dims = self.content.tensor_infos.get("token_embd.weight").map(|t| t.shape.dims());
        if dims != Some(&[vocabulary, width]) || vocabulary > VOCABULARY_MAX {
            return field("tokenizer.ggml.tokens", "does not fit the tensor `token_embd.weight`");
        }
        let context = self.size("llama.context_length", u32::MAX as usize)?.min(MAX_SEQ_LEN);
        Ok(Shape { context_tokens: u32::try_from(context).unwrap_or(u32::MAX), vocabulary })
    }

    /// A size from 1 to `most`.
    fn size(&self, key: &'static str, most: usize) -> Result<usize, LoadError> {
        let found = self.number(key);
        let size = found.and_then(|size| usize::try_from(size).ok());
        match size.filter(|size| (1..=most).contains(size)) {
            Some(size) => Ok(size),
            None => field(key, "is missing or outside what the file can hold"),
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.value(key).and_then(as_number)
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        self.value(key).and_then(|value| value.to_bool().ok())
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(|value| value.to_string().ok()).map(String::as_str)
    }

    fn float(&self, key: &str) -> Option<f32> {
        self.value(key).and_then(|value| value.to_f32().ok())
    }

    /// A list of texts that must be there.
    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<&str>, LoadError> {
        let texts = self.list(key).map(|list| {
            list.iter().map(|value| value.to_string().ok().map(String::as_str)).collect()
        });
        match texts.flatten() {
            Some(texts) => Ok(texts),
            None => field(key, "is missing or is no list of texts"),
        }
    }

    /// A list of numbers; `None` where one is not.
    pub(super) fn numbers(&self, key: &str) -> Option<Vec<u64>> {
        self.list(key)?.iter().map(as_number).collect()
    }

    /// A list of floats; `None` where one is not.
    pub(super) fn floats(&self, key: &str) -> Option<Vec<f32>> {
        self.list(key)?.iter().map(|value| value.to_f32().ok()).collect()
    }

    fn list(&self, key: &str) -> Option<&Vec<Value>> {
        self.value(key).and_then(|value| value.to_vec().ok())
    }

    #[cfg(test)]
    pub(super) fn of(metadata: std::collections::HashMap<String, Value>) -> Header {
        let content = Content {
            magic: candle_core::quantized::gguf_file::VersionedMagic::GgufV3,
            metadata,
            tensor_infos: std::collections::HashMap::new(),
            tensor_data_offset: 0,
        };
        Header { content, file_bytes: 0 }
    }
}

pub(super) fn field<T>(key: &'static str, problem: &str) -> Result<T, LoadError> {
    Err(LoadError::Field { key, problem: problem.to_owned() })
}

/// Whole numbers come in any width and, from some writers, signed.
fn as_number(value: &Value) -> Option<u64> {
    match value {
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::Bool(_) => None,
        other => other.to_u64().ok(),
    }
}

fn elements(info: &TensorInfo) -> Option<u64> {
    info.shape
        .dims()
        .iter()
        .try_fold(1u64, |product, dim| product.checked_mul(u64::try_from(*dim).ok()?))
}

/// Runs two tokens, so that tensors of wrong shapes are found now and not in a request.
fn try_out(weights: &ModelWeights, vocabulary: usize) -> candle_core::Result<()> {
    let input = Tensor::new(&[[0u32, 0]], &Device::Cpu)?;
    let logits = weights.clone().forward(&input, 0)?;
    if logits.dims() != [1, vocabulary] {
        candle_core::bail!("the output has {:?} values for {vocabulary} tokens", logits.dims());
    }
    Ok(())
}

/// Runs loader code, which panics on some malformed input, and turns a panic into its error.
fn guarded<T>(run: impl FnOnce() -> candle_core::Result<T>) -> candle_core::Result<T> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|panic| Err(candle_core::Error::msg(panic_text(panic.as_ref()))))
}

/// The loader's errors carry backtraces; their first line is what a user can use.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or("").chars().take(300).collect()
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}
