//! The chain API over HTTP. Everything that comes back is bounded; questions are asked again when
//! no connection could be made, submissions never (that is the caller's decision, see
//! [`super::TxSender`]).

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use types::{
    Address, ChannelId, Height, TxId,
    audit::{Beacon, CommitmentId},
    genesis::Genesis,
    stake::OperatorId,
    state::StateKey,
    tx::SignedTx,
};

use super::{
    ANSWER_BYTES_MAX, AccountView, AuditorView, AuditsView, BlockView, CalibrationView, Chain,
    ChainError, ChainStatus, ChannelView, ErrorBody, EventPage, ExclusionView, GatewayView,
    LightBlock, OperatorView, PAGE_ENTRIES_MAX, ParamView, ProviderAuditsView, ProviderView,
    ProvingChain, RoundView, StakeView, StateProof, StateProofs, SupplyView, TxOutcome,
    ValidatorView, code,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than a validator waits for a transaction's block before it answers `submit.timeout`.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a question is asked when no connection can be made, and the pause after the first try.
const CONNECT_ATTEMPTS: u32 = 3;
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Pages that a list is read to: 10 000 entries. A longer one is an error, never a silent cut.
const PAGES_MAX: usize = 100;

/// A validator's chain API at a base URL.
#[derive(Clone, Debug)]
pub struct HttpChain {
    /// Without a slash at the end.
    url: String,
    client: reqwest::Client,
}

impl HttpChain {
    /// A client of the API at `url`, such as `http://127.0.0.1:9944`. Asks nothing yet.
    pub fn new(url: &str) -> Result<HttpChain, ChainError> {
        let bad = || ChainError::BadUrl { url: url.chars().take(200).collect() };
        let parsed: reqwest::Url = url.parse().map_err(|_| bad())?;
        let plain = parsed.query().is_none() && parsed.fragment().is_none();
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() || !plain {
            return Err(bad());
        }
        let client = crate::http_client_builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| ChainError::Unreachable {
                url: url.to_owned(),
                source: source.into(),
            })?;
        Ok(HttpChain { url: parsed.as_str().trim_end_matches('/').to_owned(), client })
    }

    /// The base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Blocks from `from` upwards, at most `limit` and at most [`super::PAGE_BLOCKS_MAX`]. Fewer may come
    /// when they are large; ask again from behind the last one. None: there is no block `from` yet.
    pub async fn blocks(&self, from: Height, limit: u64) -> Result<Vec<BlockView>, ChainError> {
        self.get(&format!("/v1/blocks?from={from}&limit={limit}")).await
    }

    pub async fn block(&self, height: Height) -> Result<Option<BlockView>, ChainError> {
        self.get_optional(&format!("/v1/blocks/{height}")).await
    }

    /// Events of whole blocks from `from_height` upwards, until about `limit` of them are together.
    pub async fn events(&self, from_height: Height, limit: u64) -> Result<EventPage, ChainError> {
        self.get(&format!("/v1/events?from_height={from_height}&limit={limit}")).await
    }

    /// Every registered validator, with and without a seat.
    pub async fn validators(&self) -> Result<Vec<ValidatorView>, ChainError> {
        self.list("/v1/validators?", |validator: &ValidatorView| validator.operator).await
    }

    /// What `delegator` has staked, by operator.
    pub async fn stakes_of(&self, delegator: Address) -> Result<Vec<StakeView>, ChainError> {
        self.get(&format!("/v1/accounts/{delegator}/stakes")).await
    }

    /// The pool behind one operator.
    pub async fn operator(&self, id: OperatorId) -> Result<Option<OperatorView>, ChainError> {
        self.get_optional(&format!("/v1/operators/{id}")).await
    }

    /// Every parameter with its bounds.
    pub async fn params(&self) -> Result<Vec<ParamView>, ChainError> {
        self.get("/v1/params").await
    }

    /// Rounds that are open, after `after`, and the last closed ones: at most `limit` and at most
    /// [`PAGE_ENTRIES_MAX`] of each.
    pub async fn audits(
        &self,
        after: Option<CommitmentId>,
        limit: usize,
    ) -> Result<AuditsView, ChainError> {
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        self.get(&format!("/v1/audits?limit={limit}{after}")).await
    }

    /// All rounds that are open.
    pub async fn open_rounds(&self) -> Result<Vec<RoundView>, ChainError> {
        let mut rounds: Vec<RoundView> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = rounds.last().map(|round| round.commitment);
            let page = self.audits(after, PAGE_ENTRIES_MAX).await?.open;
            let full = page.len() >= PAGE_ENTRIES_MAX;
            rounds.extend(page);
            if !full {
                return Ok(rounds);
            }
        }
        Err(self.unexpected(format!("more than {} open rounds", rounds.len())))
    }

    /// All that is kept of the audits of a provider; that of a stranger, if it was never audited.
    pub async fn audits_of(&self, provider: Address) -> Result<ProviderAuditsView, ChainError> {
        self.get(&format!("/v1/audits/{provider}")).await
    }

    /// Every auditor that is reached somewhere.
    pub async fn auditors(&self) -> Result<Vec<AuditorView>, ChainError> {
        self.list("/v1/auditors?", |auditor: &AuditorView| auditor.operator).await
    }

    /// The newest beacon. One with no reveals: there was none yet.
    pub async fn beacon(&self) -> Result<Beacon, ChainError> {
        self.get("/v1/beacons/latest").await
    }

    /// The honest means in force.
    pub async fn calibrations(&self) -> Result<Vec<CalibrationView>, ChainError> {
        self.list("/v1/calibrations?", CalibrationView::key).await
    }

    /// An entry with its proof, whether it exists or not.
    pub async fn prove(&self, key: StateKey) -> Result<StateProof, ChainError> {
        self.get(&match key {
            StateKey::Account { address } => format!("/v1/proofs/accounts/{address}"),
            StateKey::Channel { id } => format!("/v1/proofs/channels/{id}"),
            StateKey::Lane { channel, lane } => {
                format!("/v1/proofs/channels/{channel}/lanes/{lane}")
            }
            StateKey::Provider { operator } => format!("/v1/proofs/providers/{operator}"),
            StateKey::Operator { id } => format!("/v1/proofs/operators/{id}"),
            StateKey::Gateway { operator } => format!("/v1/proofs/gateways/{operator}"),
            StateKey::Beacon => "/v1/proofs/beacon".to_owned(),
            StateKey::Round { commitment } => format!("/v1/proofs/rounds/{commitment}"),
            StateKey::Standing { provider } => format!("/v1/proofs/standings/{provider}"),
            StateKey::ModelStanding { provider, model } => {
                format!("/v1/proofs/standings/{provider}/{model}")
            }
            StateKey::Auditor { operator } => format!("/v1/proofs/auditors/{operator}"),
        })
        .await
    }

    /// A channel and all its lanes, each with its proof, all in one state.
    pub async fn prove_channel(&self, id: ChannelId) -> Result<StateProofs, ChainError> {
        self.get(&format!("/v1/proofs/channels/{id}/lanes")).await
    }

    /// The header of a height, or the newest, with its certificate and validators. `None`: it is not
    /// there.
    pub async fn light_block(
        &self,
        height: Option<Height>,
    ) -> Result<Option<LightBlock>, ChainError> {
        match height {
            Some(height) => self.get_optional(&format!("/v1/light/{height}")).await,
            None => self.get_optional("/v1/light/latest").await,
        }
    }

    /// What the transaction would do in the next block, without doing it. A transaction without a
    /// place in a block is refused as by [`Chain::submit`].
    pub async fn simulate(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        let request = self
            .client
            .post(format!("{}/v1/simulations", self.url))
            .timeout(QUESTION_TIMEOUT)
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .body(tx.encode());
        self.ask(request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ChainError> {
        let url = format!("{}{path}", self.url);
        let mut pause = CONNECT_PAUSE;
        for _ in 1..CONNECT_ATTEMPTS {
            match self.client.get(&url).timeout(QUESTION_TIMEOUT).send().await {
                Err(error) if error.is_connect() => {}
                Err(error) => return Err(self.unreachable(error)),
                Ok(response) => return self.answer(response).await,
            }
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
        self.ask(self.client.get(&url).timeout(QUESTION_TIMEOUT)).await
    }

    /// `None` only if the API itself says that there is no such thing: a 404 of some other server
    /// is an error.
    async fn get_optional<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ChainError> {
        match self.get(path).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.code() == Some(code::NOT_FOUND) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A whole list, page by page. `path` ends with `?` or `&`; `key` is what a list is ordered by.
    async fn list<T, K>(&self, path: &str, key: impl Fn(&T) -> K) -> Result<Vec<T>, ChainError>
    where
        T: DeserializeOwned,
        K: std::fmt::Display,
    {
        let mut entries: Vec<T> = Vec::new();
        for _ in 0..PAGES_MAX {
            let after = entries.last().map(|last| format!("&after={}", key(last)));
            let after = after.unwrap_or_default();
            let page: Vec<T> = self.get(&format!("{path}limit={PAGE_ENTRIES_MAX}{after}")).await?;
            let full = page.len() >= PAGE_ENTRIES_MAX;
            entries.extend(page);
            if !full {
                return Ok(entries);
            }
        }
        Err(self.unexpected(format!("a list of more than {} entries", entries.len())))
    }

    /// An answer that is read as it comes. No time limit: it ends when either side ends it.
    pub(super) async fn open_stream(&self, path: &str) -> Result<Response, ChainError> {
        let request = self.client.get(format!("{}{path}", self.url));
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        match self.answer::<ErrorBody>(response).await {
            Ok(_) => Err(self.unexpected("a status without a reason")),
            Err(error) => Err(error),
        }
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ChainError> {
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        self.answer(response).await
    }

    async fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, ChainError> {
        let status = response.status();
        let body = self.read(response).await?;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.unexpected(error));
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => Err(ChainError::Refused { status: status.as_u16(), body }),
            Err(_) => Err(self.unexpected(format!("status {status} without a reason"))),
        }
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ChainError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let message = format!("an answer of more than {ANSWER_BYTES_MAX} bytes");
                return Err(self.unexpected(message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    pub(super) fn unreachable(&self, error: reqwest::Error) -> ChainError {
        // The URL stands in the message already.
        ChainError::Unreachable { url: self.url.clone(), source: error.without_url().into() }
    }

    pub(super) fn unexpected(
        &self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ChainError {
        ChainError::Protocol { url: self.url.clone(), source: source.into() }
    }
}

#[async_trait]
impl ProvingChain for HttpChain {
    fn url(&self) -> &str {
        HttpChain::url(self)
    }

    async fn light_block(&self, height: Option<Height>) -> Result<Option<LightBlock>, ChainError> {
        HttpChain::light_block(self, height).await
    }

    async fn prove(&self, key: StateKey) -> Result<StateProof, ChainError> {
        HttpChain::prove(self, key).await
    }

    async fn prove_channel(&self, id: ChannelId) -> Result<StateProofs, ChainError> {
        HttpChain::prove_channel(self, id).await
    }
}

#[async_trait]
impl Chain for HttpChain {
    async fn genesis(&self) -> Result<Genesis, ChainError> {
        self.get("/v1/genesis").await
    }

    async fn status(&self) -> Result<ChainStatus, ChainError> {
        self.get("/v1/status").await
    }

    async fn account(&self, address: Address) -> Result<AccountView, ChainError> {
        self.get(&format!("/v1/accounts/{address}")).await
    }

    async fn channel(&self, id: ChannelId) -> Result<Option<ChannelView>, ChainError> {
        self.get_optional(&format!("/v1/channels/{id}")).await
    }

    async fn channels_of(&self, party: Address) -> Result<Vec<ChannelView>, ChainError> {
        self.list(&format!("/v1/channels?party={party}&"), |channel: &ChannelView| channel.id).await
    }

    async fn provider(&self, operator: Address) -> Result<Option<ProviderView>, ChainError> {
        self.get_optional(&format!("/v1/providers/{operator}")).await
    }

    async fn providers(&self) -> Result<Vec<ProviderView>, ChainError> {
        self.list("/v1/providers?", |provider: &ProviderView| provider.operator).await
    }

    async fn gateways(&self) -> Result<Vec<GatewayView>, ChainError> {
        self.list("/v1/gateways?", |gateway: &GatewayView| gateway.operator).await
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, ChainError> {
        self.list("/v1/exclusions?", ExclusionView::key).await
    }

    async fn auditor(&self, operator: Address) -> Result<Option<AuditorView>, ChainError> {
        self.get_optional(&format!("/v1/auditors/{operator}")).await
    }

    async fn round(&self, commitment: CommitmentId) -> Result<Option<RoundView>, ChainError> {
        self.get_optional(&format!("/v1/rounds/{commitment}")).await
    }

    async fn rounds_of(&self, provider: Address) -> Result<Vec<RoundView>, ChainError> {
        Ok(self.audits_of(provider).await?.open)
    }

    async fn supply(&self) -> Result<SupplyView, ChainError> {
        self.get("/v1/supply").await
    }

    async fn submit(&self, tx: &SignedTx) -> Result<TxOutcome, ChainError> {
        let request = self
            .client
            .post(format!("{}/v1/txs", self.url))
            .timeout(SUBMIT_TIMEOUT)
            .header(reqwest::header::CONTENT_TYPE, "application/octet-stream")
            .body(tx.encode());
        self.ask(request).await
    }

    async fn tx(&self, id: TxId) -> Result<Option<TxOutcome>, ChainError> {
        self.get_optional(&format!("/v1/txs/{id}")).await
    }
}
