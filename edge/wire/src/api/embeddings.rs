//! Vectors of texts, as OpenAI's and as Ollama's clients ask for them. Ollama has two endpoints: the newer
//! takes several texts, the older one.

mod answer;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Body, loaded};
pub use request::{Asked, EmbeddingRequest, parse};

use super::{Dialect, ollama, openai};

/// Which endpoint is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// `POST /v1/embeddings`
    OpenAi,
    /// `POST /api/embed`
    Ollama,
    /// `POST /api/embeddings`
    OllamaSingle,
}

impl Endpoint {
    /// Whose clients ask: their form of errors.
    pub fn dialect(self) -> Dialect {
        match self {
            Endpoint::OpenAi => Dialect::OpenAi(openai::Kind::Text),
            Endpoint::Ollama | Endpoint::OllamaSingle => Dialect::Ollama(ollama::Kind::Generate),
        }
    }
}

/// How the numbers of a vector are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As numbers, with the fewest digits that tell each from every other.
    #[default]
    Float,
    /// As a string: Base64 of little-endian 32-bit floats.
    Base64,
}
