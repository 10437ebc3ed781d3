//! The source of a running gateway: its handle, and the ledger over the chain API.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{
    StreamExt,
    future::{try_join, try_join_all, try_join3},
    stream::{BoxStream, unfold},
};
use gateway::{
    AccountSummary, ChatEvent, ChatRequest, GatewayHandle, KeyView, ModelView, PLAYGROUND_KEY,
    ProviderView, ReceiptLookupError, RequestFailure, RequestView, StoredReceipt,
};
use types::{Address, Height, RequestId, audit::CommitmentId, limits};
use wire::chain::{
    BlockView, Chain, ChainError, ExclusionView, HttpChain, PAGE_ENTRIES_MAX, ProviderAuditsView,
};

use crate::{
    picture,
    source::{Audits, Balance, LedgerView, Site, Source, SourceError},
};

/// A page waits this long for the ledger and then says that it did not answer.
const LEDGER_WAIT: Duration = Duration::from_millis(2_500);

/// Providers whose balances are shown; a gateway may have hundreds.
const PROVIDER_BALANCES_MAX: usize = 8;

/// Shows a gateway that runs in this process.
#[derive(Debug)]
pub struct LiveSource {
    gateway: GatewayHandle,
    chain: Arc<HttpChain>,
    site: Site,
    more_accounts: Vec<(String, Address)>,
    /// Where an auditor puts its pictures.
    pictures: Option<PathBuf>,
}

impl LiveSource {
    pub fn new(gateway: GatewayHandle, chain: Arc<HttpChain>, site: Site) -> LiveSource {
        LiveSource { gateway, chain, site, more_accounts: Vec::new(), pictures: None }
    }

    /// Shows the balance of another account, beside those of the gateway and its providers.
    pub fn with_account(mut self, label: &str, address: Address) -> LiveSource {
        self.more_accounts.push((label.to_owned(), address));
        self
    }

    /// Shows the pictures that an auditor puts into this folder, one `PROVIDER-SEQUENCE.svg` a round.
    pub fn with_pictures(mut self, folder: Option<PathBuf>) -> LiveSource {
        self.pictures = folder;
        self
    }

    /// Each account once, under the first of its names.
    fn accounts(&self) -> Vec<(String, Address)> {
        let mut accounts = vec![("gateway".to_owned(), self.gateway.account().address)];
        accounts.extend(self.more_accounts.iter().cloned());
        for provider in self.gateway.providers().into_iter().take(PROVIDER_BALANCES_MAX) {
            if accounts.iter().all(|(_, address)| *address != provider.operator) {
                let name = provider.moniker.chars().take(limits::NAME_BYTES_MAX).collect();
                accounts.push((name, provider.operator));
            }
        }
        accounts
    }
}

#[async_trait]
impl Source for LiveSource {
    fn site(&self) -> &Site {
        &self.site
    }

    fn account(&self) -> AccountSummary {
        self.gateway.account()
    }

    fn models(&self) -> Vec<ModelView> {
        self.gateway.models()
    }

    fn providers(&self) -> Vec<ProviderView> {
        self.gateway.providers()
    }

    fn requests(&self, count: usize) -> Vec<RequestView> {
        self.gateway.recent_requests(count)
    }

    fn receipt(&self, id: RequestId) -> Result<StoredReceipt, ReceiptLookupError> {
        self.gateway.receipt(id)
    }

    async fn playground(&self) -> Option<KeyView> {
        let key = self.gateway.playground().await;
        // Then the box is not shown.
        key.inspect_err(|error| tracing::warn!(%error, "web.playground")).ok().flatten()
    }

    async fn ledger(&self) -> Result<LedgerView, SourceError> {
        let chain = &self.chain;
        let parts = try_join3(chain.status(), chain.supply(), chain.validators());
        let (status, supply, validators) = in_time(parts).await?;
        Ok(LedgerView { status, supply, validators })
    }

    async fn balances(&self) -> Result<Vec<Balance>, SourceError> {
        let ask = async |(label, address): (String, Address)| {
            let account = self.chain.account(address).await?;
            Ok::<Balance, ChainError>(Balance { label, account })
        };
        in_time(try_join_all(self.accounts().into_iter().map(ask))).await
    }

    async fn blocks(&self, count: u64) -> Result<Vec<BlockView>, SourceError> {
        in_time(async {
            let height = self.chain.status().await?.height;
            let first = Height(height.0.saturating_sub(count.saturating_sub(1)).max(1));
            let mut blocks = self.chain.blocks(first, count).await?;
            blocks.reverse();
            Ok(blocks)
        })
        .await
    }

    async fn audits(&self) -> Result<Audits, SourceError> {
        let chain = &self.chain;
        let parts = try_join(chain.audits(None, PAGE_ENTRIES_MAX), chain.beacon());
        let (rounds, beacon) = in_time(parts).await?;
        Ok(Audits { rounds, beacon })
    }

    async fn audits_of(&self, provider: Address) -> Result<ProviderAuditsView, SourceError> {
        in_time(self.chain.audits_of(provider)).await
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, SourceError> {
        in_time(self.chain.exclusions()).await
    }

    async fn picture(&self, commitment: CommitmentId) -> Option<String> {
        let read = picture::read(self.pictures.as_deref()?, commitment).await;
        // Then the page shows what the ledger says alone.
        read.inspect_err(|error| tracing::warn!(%error, "web.picture")).ok().flatten()
    }

    async fn chat(
        &self,
        request: ChatRequest,
    ) -> Result<BoxStream<'static, ChatEvent>, RequestFailure> {
        let answer = self.gateway.chat(request, PLAYGROUND_KEY).await?;
        let next = |mut answer: gateway::ChatStream| async move {
            let event = answer.next().await?;
            Some((event, answer))
        };
        Ok(unfold(answer, next).boxed())
    }
}

async fn in_time<T>(
    question: impl Future<Output = Result<T, ChainError>>,
) -> Result<T, SourceError> {
    let waited_ms = u64::try_from(LEDGER_WAIT.as_millis()).unwrap_or(u64::MAX);
    match tokio::time::timeout(LEDGER_WAIT, question).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(SourceError::Slow { waited_ms }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_never_answers_is_an_error_in_time() {
        let error = in_time(std::future::pending::<Result<(), ChainError>>()).await.unwrap_err();
        assert_eq!(
            error.chain_text(),
            "the ledger did not answer within 2500 ms; is the validator overloaded?"
        );
    }
}
