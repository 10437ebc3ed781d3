//! The OpenAI-compatible front of the network: it checks keys and budgets, chooses providers,
//! streams their answers and pays them through voucher channels.
//!
//! It decides little itself: which provider is `market`'s decision, what is owed and promised that
//! of `session`, a pure machine. It never links the ledger: the chain is read through `wire`.
//! No prompt or answer is logged or stored; receipts hold salted digests.

mod config;
mod handle;
mod shared;

mod accounts;
mod books;
mod fleet;
mod keyring;
mod lanes;
mod metrics;
mod payments;
mod purses;
mod random;
mod traces;

mod providers;
mod treasury;
mod upstreams;

mod answering;
mod attempt;
mod demands;
mod dispatch;
mod hedges;
mod replay;
mod route;
mod session;
mod text;

mod chat;
mod error;
mod http;
mod serve;
mod threads;
mod turn;
mod views;

#[cfg(test)]
mod tests;

pub use accounts::{Budget, KeyLimits};
pub use books::Bought;
pub use chat::{ChatEvent, ChatRequest, ChatStream, ChatSummary};
pub use config::{
    ChannelPolicy, Clock, CreditPolicy, GatewayConfig, Limits, RECEIPT_RETENTION_MS, Timeouts,
    system_clock,
};
pub use demands::DemandPolicy;
pub use error::{GatewayError, KeyError, PaymentProblem, ReceiptLookupError, RequestFailure};
pub use fleet::{DatabaseError, DatabaseUrl, DatabaseUrlError};
pub use handle::{Gateway, GatewayHandle, PLAYGROUND_BUDGET, PLAYGROUND_KEY, new_admin_key};
pub use payments::X402_KEY;
pub use providers::DisclosureError;
pub use upstreams::{
    ConnectUpstream, ConnectedUpstream, UpstreamConfig, UpstreamModel, UpstreamRole,
};
pub use views::{
    AccountSummary, ChannelSummary, KeyView, ModelView, ProviderView, RequestView, RouteCandidate,
    RouteView, StoredReceipt, UsageView,
};
