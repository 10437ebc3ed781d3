//! Ollama's native API: chat, generate, and what its clients ask about models. Checked against
//! `api/types.go` of Ollama 0.32.

mod answer;
mod models;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{LineWriter, answer, error, loaded};
pub use models::{Model, running, show, show_name, tags, version};
pub use request::{Asked, parse};

/// Which endpoint is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Chat,
    Generate,
}
