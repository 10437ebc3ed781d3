//! What crosses a process boundary, by version: p2p messages, the chain API, the gateway's APIs and those
//! of engines, and what collectors of traces are told.
//! The only place that knows JSON. It decides nothing: whether a message is *good* is the question
//! of the shell that receives it; here it is only bounded and well-formed. What the chain API says is
//! the exception: [`chain::VerifiedChain`] hands out only what `light` finds proven.

pub mod frame;
pub mod serve;

pub mod audit;

pub mod api;
pub mod chain;
pub mod otlp;
pub mod upstream;

mod http;

pub use http::{client as http_client, client_builder as http_client_builder};
