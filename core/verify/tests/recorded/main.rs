//! What real engines did, done again.

mod answers;
mod audit;
mod draws;
mod llama_server;
