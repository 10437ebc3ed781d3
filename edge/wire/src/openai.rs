//! OpenAI's JSON as a server speaks it: the requests we accept, the answers, chunks and errors we
//! give (`docs/spec/gateway-api.md`). Strict: a field we cannot honour is refused by name, never
//! dropped silently. How an engine is asked in this dialect is `engine`'s business.

mod answer;
mod error;
mod json;
mod request;
mod stream;
#[cfg(test)]
mod tests;

pub use answer::{Billing, Head, Kind, ModelCard, Usage, completion, model, models};
pub use error::{ApiError, BadRequest};
pub use request::{GenerationRequest, parse};
pub use stream::ChunkWriter;
