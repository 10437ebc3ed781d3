//! What can go wrong: at start, with keys, and with a request.

use types::{Nusd, RequestId};

use crate::{accounts::Budget, fleet::DatabaseError};

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("cannot open the gateway's books")]
    Journal { source: store::JournalError },
    #[error("the gateway's journal holds a record of another version")]
    Record { source: types::limits::DecodeError },
    #[error("the system gives no randomness")]
    Randomness { source: getrandom::Error },
    #[error("the playground key cannot be made")]
    Playground { source: KeyError },
    #[error("the key that stands for callers who pay by request cannot be made")]
    Payments { source: KeyError },
    #[error("the database of API keys cannot be used")]
    Database { source: DatabaseError },
    #[error("the upstream `{name}` cannot be used: {problem}")]
    Upstream { name: String, problem: String },
}

/// Why an API key is not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("a key's name has 1 to 64 bytes")]
    Name,
    #[error("there is a key named `{name}` already; choose another name")]
    NameTaken { name: String },
    #[error("an imported key starts with `pw-` and has 20 to 128 letters, digits, `-` or `_`")]
    Format,
    #[error("this key is in use under another name")]
    KeyTaken,
    #[error("this key was revoked; make a new one")]
    Revoked,
    #[error("there is no key named `{name}`")]
    Unknown { name: String },
    #[error("{problem}")]
    Change { problem: String },
    #[error("a rate is 1 or more; to stop a key, revoke it")]
    Rate,
    #[error("a key's list has up to {models_max} models, each of 1 to 256 bytes")]
    Models { models_max: usize },
    #[error("the limit of {keys_max} keys is reached")]
    TooMany { keys_max: usize },
    #[error("the key cannot be recorded")]
    Journal { source: store::JournalError },
    #[error("the limits of `{name}` were changed by somebody else at the same time; try again")]
    Changed { name: String },
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the system gives no randomness")]
    Randomness { source: getrandom::Error },
}

/// Why a receipt cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptLookupError {
    #[error("there is no receipt of request {id}; receipts are kept for a limited time")]
    Unknown { id: RequestId },
    #[error("the receipt of request {id} cannot be read back")]
    Journal { id: RequestId, source: store::JournalError },
    #[error("the receipt of request {id} is damaged")]
    Damaged { id: RequestId, source: types::limits::DecodeError },
    #[error(
        "the receipt of request {id} is to be signed by another key than this gateway's; give it the one it had"
    )]
    OtherPayer { id: RequestId },
    #[error("the receipt of request {id} cannot be looked up now")]
    Database { id: RequestId, source: DatabaseError },
}

/// Why a request has no complete answer. Each is one kind of answer to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestFailure {
    #[error("{problem}")]
    Invalid { param: Option<String>, problem: String },
    #[error("this API key is not known here")]
    BadKey,
    #[error("this API key has expired; ask the gateway's operator for a new one")]
    ExpiredKey,
    #[error("this API key may not use the model `{model}`; GET /v1/models lists those it may")]
    ModelNotAllowed { model: String },
    #[error("no API key was given; send `Authorization: Bearer pw-…`")]
    NoKey,
    #[error("the model `{model}` is not offered here; offered now: {offered}")]
    UnknownModel { model: String, offered: String },
    #[error("the prompt is longer than the context of `{model}`; shorten it")]
    TooLong { model: String },
    #[error(
        "the key's {} is exhausted: this request may cost up to {needed} nano-USD and {left} are left; \
         lower `max_tokens` or {}", .budget.name(), .budget.remedy()
    )]
    Budget { budget: Budget, needed: Nusd, left: Nusd },
    #[error("{problem}")]
    Payment { problem: PaymentProblem },
    #[error("this key may send {per_minute} {what} a minute; wait {} s", .retry_after_ms.div_ceil(1_000))]
    Rate { what: &'static str, per_minute: u32, retry_after_ms: u64 },
    #[error("too many requests at once {whose}; try again shortly")]
    TooMany { whose: &'static str },
    #[error("every provider of `{model}` is busy; try again shortly")]
    Busy { model: String, retry_after_ms: u64 },
    #[error("no provider of `{model}` can take this request now: {reasons}")]
    NoProvider { model: String, reasons: String, retry_after_ms: u64 },
    #[error("the provider failed: {reason}")]
    Upstream { reason: String },
    #[error("the gateway cannot record payments: {reason}")]
    Books { reason: String },
    #[error("the database of API keys does not answer; try again shortly")]
    KeysAway,
    #[error("the ledger cannot be asked about the channel now: {reason}")]
    ChainAway { reason: String },
    #[error("the gateway is shutting down")]
    Closing,
}

/// Why a caller without an API key is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PaymentProblem {
    #[error(
        "no API key was given; send `Authorization: Bearer pw-…`, or pay for this request from a channel of your \
         own, as the header PAYMENT-REQUIRED says (docs/spec/x402.md)"
    )]
    None,
    #[error("the payment cannot be used: {0}")]
    Invalid(String),
    #[error(
        "the payment allows {allowed} nano-USD, and this request may cost up to {needed}; allow more, or lower \
         `max_tokens`"
    )]
    Short { needed: Nusd, allowed: Nusd },
    #[error(
        "the channel does not have the {needed} nano-USD that this request may cost; add to its deposit, or lower \
         `max_tokens`"
    )]
    Channel { needed: Nusd },
}
