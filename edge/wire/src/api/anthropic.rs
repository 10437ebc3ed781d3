//! Anthropic's messages.

mod answer;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{EventWriter, error, message};
pub use request::parse;
