//! How an embedded engine is set up, and what computes in it.

/// What computes in an [`EmbeddedEngine`](super::EmbeddedEngine).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Library {
    Candle,
    /// Only where it is built in.
    Llama(LlamaOptions),
}

impl Library {
    /// Whether llama.cpp is built in.
    pub const HAS_LLAMA: bool = cfg!(feature = "llama");
}

/// How llama.cpp computes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LlamaOptions {
    /// How the keys and values of tokens that were read are kept.
    pub cache: CacheType,
}

impl LlamaOptions {
    /// As other engines do.
    pub const fn standard() -> LlamaOptions {
        LlamaOptions { cache: CacheType::F16 }
    }
}

/// Numbers in the attention cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CacheType {
    F16,
    Q8_0,
    Q4_0,
}

/// How an [`EmbeddedEngine`](super::EmbeddedEngine) is set up.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// `None`: candle, or llama.cpp for a file that candle cannot load.
    pub library: Option<Library>,
    /// Requests that run at once, each on its own thread. At least 1.
    pub slots: u32,
    /// Requests that wait for a slot. One more is [`EngineError::Busy`](crate::EngineError::Busy).
    pub waiting_max: u32,
    /// Offers at most this much of the model's context. A token of context costs memory per slot.
    pub context_tokens_max: u32,
}

impl EmbeddedOptions {
    /// Any library, 4 slots, 16 waiting, 8 192 tokens of context at most: of an answer without a limit llama.cpp reserves memory
    /// for all of them.
    pub fn standard() -> EmbeddedOptions {
        EmbeddedOptions { library: None, slots: 4, waiting_max: 16, context_tokens_max: 8_192 }
    }

    /// For whoever scores given texts, one after the other: by llama.cpp where it is built in, which has least work with that, and
    /// as long as the model reads.
    pub fn scoring() -> EmbeddedOptions {
        let library = Library::HAS_LLAMA.then(|| Library::Llama(LlamaOptions::standard()));
        EmbeddedOptions { library, slots: 1, waiting_max: 16, context_tokens_max: u32::MAX }
    }
}
