//! OpenAI's responses, as far as they need nothing from one request to the next: there is no store, so
//! the whole conversation is sent each time.

mod answer;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{EventWriter, response};
pub use request::parse;
