//! APIs of inference engines as their client sees them: what we send, and what they send us.

pub mod gateway;
pub mod ollama;
pub mod openai;
