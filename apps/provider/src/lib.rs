//! The provider: dials gateways, serves their requests on local engines, is paid by vouchers and
//! redeems them.
//!
//! What is decided is pure and stands apart from what is done: `admission` (is this order taken?),
//! `session` (one request, a step machine), `books` (what is owed, rebuilt from the journal),
//! `redeem` (what to claim), `audits` (what can be audited). The rest is the shell that moves bytes between them, the network, the
//! engines, the journal and the chain. The protocol is `docs/spec/serving.md`.
//!
//! It never links the ledger and opens no port.

#![expect(
    clippy::result_large_err,
    reason = "a refusal carries what is held of a lane; it is made once, for a request that ends with it"
)]

mod admission;
mod audits;
mod books;
mod record;
mod session;

mod auditing;
mod backoff;
mod catalog;
mod channels;
mod config;
mod heartbeat;
mod journal;
mod link;
mod openings;
mod recall;
mod redeem;
mod register;
mod serve;
mod shared;
mod status;
mod supervisor;
mod why;

pub use admission::{ORDER_AGE_MS_MAX, TIMEOUT_MS_MAX};
pub use books::{Attempt, StoredReceipt};
pub use config::{
    Clock, Endpoints, GatewayTarget, Pricing, ProviderConfig, Random, RedeemPolicy, SystemClock,
};
pub use journal::BooksError;
pub use recall::{Recalled, RecalledAnswer, recall};
pub use redeem::RedeemError;
pub use register::RegisterError;
pub use status::{ErrorNote, LinkState, LinkStatus, ProviderStatus};
pub use supervisor::{Provider, ProviderError, ProviderHandle};
pub use why::{WHY_HOURS_MAX, Why, WhyError, WhyHour, read_why};
