//! OpenAI's chat completions, completions and models.

mod answer;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub use answer::{Kind, ModelCard, completion, error, model, models};
pub use request::parse;
pub use stream::ChunkWriter;
pub(super) use stream::billing_comment;
