//! What the pages are made from. The real source is [`crate::LiveSource`]; tests and the preview have
//! one with fixed values.

use std::fmt::Debug;

use async_trait::async_trait;
use futures::stream::BoxStream;
use gateway::{
    AccountSummary, ChatEvent, ChatRequest, KeyView, ModelView, ProviderView, ReceiptLookupError,
    RequestFailure, RequestView, StoredReceipt,
};
use types::{
    Address, RequestId,
    audit::{Beacon, CommitmentId},
};
use wire::chain::{
    AccountView, AuditsView, BlockView, ChainError, ChainStatus, ExclusionView, ProviderAuditsView,
    SupplyView, ValidatorView,
};

/// Everything the pages show. What comes from the gateway itself is at hand; what comes from the
/// ledger is asked for and may fail.
#[async_trait]
pub trait Source: Send + Sync + Debug + 'static {
    fn site(&self) -> &Site;

    fn account(&self) -> AccountSummary;
    fn models(&self) -> Vec<ModelView>;
    fn providers(&self) -> Vec<ProviderView>;
    /// The last finished requests, latest first.
    fn requests(&self, count: usize) -> Vec<RequestView>;
    fn receipt(&self, id: RequestId) -> Result<StoredReceipt, ReceiptLookupError>;
    /// What the chat box may spend; `None` if there is no budget for it.
    async fn playground(&self) -> Option<KeyView>;

    async fn ledger(&self) -> Result<LedgerView, SourceError>;
    /// Of the gateway's account and of those it deals with.
    async fn balances(&self) -> Result<Vec<Balance>, SourceError>;
    /// The last blocks, latest first.
    async fn blocks(&self, count: u64) -> Result<Vec<BlockView>, SourceError>;

    async fn audits(&self) -> Result<Audits, SourceError>;
    /// That of a stranger, if the provider was never audited.
    async fn audits_of(&self, provider: Address) -> Result<ProviderAuditsView, SourceError>;
    /// Providers and models that gateways do not choose, by what audits found.
    async fn exclusions(&self) -> Result<Vec<ExclusionView>, SourceError>;
    /// What an auditor of this data folder drew of a round, as an SVG: also while the round is open.
    async fn picture(&self, commitment: CommitmentId) -> Option<String>;

    /// An answer as it comes. Dropping the stream stops it.
    async fn chat(
        &self,
        request: ChatRequest,
    ) -> Result<BoxStream<'static, ChatEvent>, RequestFailure>;
}

/// What does not change while the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Name of this gateway.
    pub moniker: String,
    /// Where clients point their OpenAI SDK, such as `http://127.0.0.1:8400/v1`.
    pub base_url: String,
    pub version: String,
}

/// The ledger now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerView {
    pub status: ChainStatus,
    pub supply: SupplyView,
    /// Registered validators, with and without a seat.
    pub validators: Vec<ValidatorView>,
}

/// The rounds that the ledger has now, and what the next ones wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audits {
    pub rounds: AuditsView,
    /// The newest. One with no reveals: there was none yet.
    pub beacon: Beacon,
}

/// What an account holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Whose it is, for people: `gateway`, or a provider's name.
    pub label: String,
    pub account: AccountView,
}

/// Why the ledger could not be shown.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the ledger was not read")]
    Chain(#[from] ChainError),
    #[error("the ledger did not answer within {waited_ms} ms; is the validator overloaded?")]
    Slow { waited_ms: u64 },
}

impl SourceError {
    /// The error and its causes in one line.
    pub(crate) fn chain_text(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(if text.ends_with('?') { " " } else { ": " });
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
