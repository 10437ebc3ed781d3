//! What real engines did, done again.

mod answers;
mod draws;
mod llama_server;
