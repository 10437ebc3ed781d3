//! A source with fixed values, for the tests and the preview. Everything in it is made up, the
//! signatures excepted: those are real, so that receipts verify.

// Also the preview takes this file, from another folder.
#[path = "fixture/audits.rs"]
pub(crate) mod audits;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use gateway::{
    AccountSummary, Bought, ChannelSummary, ChatEvent, ChatRequest, ChatSummary, KeyLimits,
    KeyView, ModelView, ProviderView, ReceiptLookupError, RequestFailure, RequestView,
    StoredReceipt,
};
use keys::SecretKey;
use types::{
    Address, ChainId, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, PublicKey, RequestId,
    TimeMs, TxId, Watt,
    ability::Abilities,
    audit::CommitmentId,
    block::BlockHeader,
    channel::{ChannelTerms, Voucher},
    genesis::Params,
    inference::{CountMethod, FinishReason},
    offer::{EngineKind, ModelOffer},
    price::Price,
    receipt::{Acknowledgement, Receipt, ServiceReport, report_hash},
    sha256,
    sign::{Sign, Signed},
    stake::{CommissionTerms, OperatorId},
    state::{ProviderProfile, Shares},
    tx::{Action, CreditPurchase, Tx, VoucherClaim},
};
use web::{Audits, Balance, LedgerView, Site, Source, SourceError};
use wire::chain::{
    AccountView, BlockView, ChainError, ChainStatus, Event, ExclusionView, OperatorView,
    OracleView, ProviderAuditsView, SupplyView, TxOutcome, TxResult, TxView, ValidatorView,
};

/// 2026-11-21 04:00:00 UTC.
const NOW: TimeMs = TimeMs(1_795_233_600_000);
const PRICE: Price = Price {
    request_nusd: Nusd::ZERO,
    prompt_nusd_per_mtok: Nusd(50_000_000),
    completion_nusd_per_mtok: Nusd(100_000_000),
};

/// What the pages are made from.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) site: Site,
    pub(crate) account: AccountSummary,
    pub(crate) models: Vec<ModelView>,
    pub(crate) providers: Vec<ProviderView>,
    pub(crate) requests: Vec<RequestView>,
    pub(crate) receipts: Vec<StoredReceipt>,
    pub(crate) playground: Option<KeyView>,
    /// `None`: the ledger cannot be reached.
    pub(crate) ledger: Option<LedgerView>,
    pub(crate) balances: Vec<Balance>,
    pub(crate) blocks: Vec<BlockView>,
    pub(crate) audits: Audits,
    /// Of providers that were audited.
    pub(crate) audits_of: Vec<ProviderAuditsView>,
    pub(crate) exclusions: Vec<ExclusionView>,
    pub(crate) pictures: Vec<(CommitmentId, String)>,
    /// What the chat box is answered.
    pub(crate) answer: Result<Vec<ChatEvent>, RequestFailure>,
    /// What the chat box was asked.
    pub(crate) asked: Arc<Mutex<Vec<ChatRequest>>>,
}

#[async_trait]
impl Source for Fixture {
    fn site(&self) -> &Site {
        &self.site
    }

    fn account(&self) -> AccountSummary {
        self.account.clone()
    }

    fn models(&self) -> Vec<ModelView> {
        self.models.clone()
    }

    fn providers(&self) -> Vec<ProviderView> {
        self.providers.clone()
    }

    fn requests(&self, count: usize) -> Vec<RequestView> {
        self.requests.iter().take(count).cloned().collect()
    }

    fn receipt(&self, id: RequestId) -> Result<StoredReceipt, ReceiptLookupError> {
        let of = |stored: &&StoredReceipt| stored.receipt.acknowledgement.value.request_id == id;
        self.receipts.iter().find(of).cloned().ok_or(ReceiptLookupError::Unknown { id })
    }

    async fn playground(&self) -> Option<KeyView> {
        self.playground.clone()
    }

    async fn ledger(&self) -> Result<LedgerView, SourceError> {
        self.ledger.clone().ok_or_else(unreachable_chain)
    }

    async fn balances(&self) -> Result<Vec<Balance>, SourceError> {
        self.ledger.as_ref().map(|_| self.balances.clone()).ok_or_else(unreachable_chain)
    }

    async fn blocks(&self, count: u64) -> Result<Vec<BlockView>, SourceError> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let blocks = || self.blocks.iter().take(count).cloned().collect();
        self.ledger.as_ref().map(|_| blocks()).ok_or_else(unreachable_chain)
    }

    async fn audits(&self) -> Result<Audits, SourceError> {
        self.ledger.as_ref().map(|_| self.audits.clone()).ok_or_else(unreachable_chain)
    }

    async fn audits_of(&self, provider: Address) -> Result<ProviderAuditsView, SourceError> {
        let known = self.audits_of.iter().find(|audits| audits.provider == provider).cloned();
        let audits = || known.unwrap_or_else(|| audits::stranger(provider));
        self.ledger.as_ref().map(|_| audits()).ok_or_else(unreachable_chain)
    }

    async fn exclusions(&self) -> Result<Vec<ExclusionView>, SourceError> {
        self.ledger.as_ref().map(|_| self.exclusions.clone()).ok_or_else(unreachable_chain)
    }

    async fn picture(&self, commitment: CommitmentId) -> Option<String> {
        let drawn = self.pictures.iter().find(|(of, _)| *of == commitment);
        drawn.map(|(_, picture)| picture.clone())
    }

    async fn chat(
        &self,
        request: ChatRequest,
    ) -> Result<BoxStream<'static, ChatEvent>, RequestFailure> {
        if let Ok(mut asked) = self.asked.lock() {
            asked.push(request);
        }
        Ok(stream::iter(self.answer.clone()?).boxed())
    }
}

fn unreachable_chain() -> SourceError {
    SourceError::Chain(ChainError::Unreachable {
        url: "http://127.0.0.1:8401".to_owned(),
        source: "connection refused".into(),
    })
}

/// Nothing runs yet: no provider, no request, a ledger without a block.
pub(crate) fn empty() -> Fixture {
    let mut ledger = ledger();
    ledger.status.height = Height(0);
    ledger.status.mempool_txs = 0;
    Fixture {
        site: site(),
        account: AccountSummary { registered: false, channels: Vec::new(), ..account() },
        models: Vec::new(),
        providers: Vec::new(),
        requests: Vec::new(),
        receipts: Vec::new(),
        playground: Some(playground()),
        ledger: Some(ledger),
        balances: vec![balance("gateway", 1, Watt::whole(1_000_000), Nusd::ZERO)],
        blocks: Vec::new(),
        audits: audits::no_audits(),
        audits_of: Vec::new(),
        exclusions: Vec::new(),
        pictures: Vec::new(),
        answer: Ok(Vec::new()),
        asked: Arc::default(),
    }
}

/// A network of one machine after some use.
pub(crate) fn busy() -> Fixture {
    let receipts = receipts();
    let requests: Vec<RequestView> = receipts.iter().map(request_of).collect();
    let fit = requests.iter().map(|request| request.id).next().unwrap_or(RequestId([0; 16]));
    Fixture {
        site: site(),
        account: account(),
        models: models(),
        providers: providers(),
        requests,
        receipts,
        playground: Some(playground()),
        ledger: Some(ledger()),
        balances: vec![
            balance("gateway", 1, Watt(998_911_400_000_000), Nusd(94_999_812_350)),
            balance("provider", 3, Watt(1_203_400_211), Nusd::ZERO),
            balance("validator", 4, Watt(12_000_340_000_000), Nusd::ZERO),
        ],
        blocks: blocks(),
        audits: audits::shadow(),
        audits_of: vec![audits::honest()],
        exclusions: Vec::new(),
        pictures: vec![(audits::round(3, 51), audits::picture())],
        answer: Ok(answer(fit)),
        asked: Arc::default(),
    }
}

fn site() -> Site {
    Site {
        moniker: "gateway".to_owned(),
        base_url: "http://127.0.0.1:8400/v1".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

fn address(seed: u8) -> Address {
    key(seed).address()
}

fn chain_id() -> ChainId {
    "peerwatt-local".parse().expect("a chain id")
}

fn account() -> AccountSummary {
    AccountSummary {
        address: address(1),
        watt: Watt(998_911_400_000_000),
        credits: Nusd(94_999_812_350),
        registered: true,
        channels: vec![ChannelSummary {
            id: ChannelId([9; 32]),
            provider: address(3),
            deposit: Nusd::whole(5),
            promised: Nusd(412_900),
            charged: Nusd(187_650),
            lanes: 4,
        }],
        read_at: Some(NOW),
        problem: None,
    }
}

fn playground() -> KeyView {
    KeyView {
        name: "playground".to_owned(),
        prefix: "pw-4f…".to_owned(),
        limits: KeyLimits::budget(Nusd::whole(1)),
        used: Nusd(187_650),
        used_day: Nusd(187_650),
        used_month: Nusd(187_650),
        reserved: Nusd::ZERO,
        in_flight: 0,
        created_at: TimeMs(NOW.0 - 7_200_000),
        revoked_at: None,
    }
}

fn balance(label: &str, seed: u8, watt: Watt, credits: Nusd) -> Balance {
    let account = AccountView {
        address: address(seed),
        watt,
        credits,
        nonce: Nonce(7),
        fee_debt: Watt::ZERO,
    };
    Balance { label: label.to_owned(), account }
}

fn model_id(name: &str) -> ModelId {
    ModelId(sha256(&[name.as_bytes()]).0)
}

pub(crate) fn model(alias: &str, context_tokens_max: u32) -> ModelView {
    ModelView {
        alias: alias.to_owned(),
        model: model_id(alias),
        providers: 1,
        price_min: PRICE,
        context_tokens_max,
        abilities: Abilities { logprobs: true, ..Abilities::default() },
        resold: false,
    }
}

fn models() -> Vec<ModelView> {
    vec![model("ember", 512), model("llama3.1:8b-instruct-q4_K_M", 131_072)]
}

fn providers() -> Vec<ProviderView> {
    let offer = |alias: &str, engine, engine_version: &str| ModelOffer {
        model: model_id(alias),
        alias: alias.to_owned(),
        price: PRICE,
        context_tokens: 512,
        engine,
        engine_version: engine_version.to_owned(),
        abilities: Abilities { logprobs: true, ..Abilities::default() },
    };
    let provider = ProviderView {
        operator: address(3),
        node_key: PublicKey([3; 32]),
        moniker: "attic".to_owned(),
        models: vec![offer("ember", EngineKind::Embedded, "candle 0.11")],
        slots: 4,
        active: 1,
        in_flight: 1,
        connected_at: TimeMs(NOW.0 - 7_190_000),
        offer_at: NOW,
        payable: true,
        served: 1_204,
        failed: 0,
        health: "ok".to_owned(),
        last_problem: None,
    };
    let second = ProviderView {
        operator: address(5),
        moniker: "basement".to_owned(),
        models: vec![offer("llama3.1:8b-instruct-q4_K_M", EngineKind::Ollama, "ollama 0.12.11")],
        slots: 2,
        active: 2,
        served: 37,
        failed: 2,
        health: "probation".to_owned(),
        last_problem: Some("no token for 30 s".to_owned()),
        ..provider.clone()
    };
    vec![provider, second]
}

fn ledger() -> LedgerView {
    let nusd_per_watt = Nusd(1_140_000_000);
    LedgerView {
        status: ChainStatus {
            chain_id: chain_id(),
            genesis_hash: sha256(&[b"genesis"]),
            height: Height(1_284),
            time: TimeMs(NOW.0 - 42_000),
            app_hash: sha256(&[b"state"]),
            nusd_per_watt,
            oracle: OracleView {
                average: Nusd(1_138_000_000),
                counted_at: TimeMs(NOW.0 - 102_000),
                period: 29_920_560,
            },
            breaker: "closed".to_owned(),
            params: Params::standard(),
            mempool_txs: 1,
            version: "0.1.0".to_owned(),
        },
        supply: SupplyView {
            watt_total: Watt(400_012_000_340_000_000),
            watt_genesis: Watt::whole(400_000_000),
            watt_minted: Watt(12_000_402_140_000),
            watt_burned: Watt(62_140_000),
            watt_max: Watt::whole(1_000_000_000),
            watt_vault: Watt(87_719_298_245),
            watt_treasury: Watt(41_430_000),
            watt_stakers: Watt(62_140_000),
            watt_bonded: Watt::whole(10_000),
            watt_insurance: Watt(12_500_000),
            budgets: Vec::new(),
            credits_outstanding: Nusd(99_999_812_350),
            credits_pending: Nusd(42_000),
            credits_issued: Nusd::whole(100),
            credits_settled: Nusd(187_650),
            credits_refunded: Nusd::ZERO,
            claims_refunded: Nusd::ZERO,
            nusd_per_watt,
        },
        validators: vec![validator(4, Some(10_000)), validator(6, None)],
    }
}

fn validator(name: u8, power: Option<u64>) -> ValidatorView {
    let tokens = power.map_or(Watt::ZERO, Watt::whole);
    ValidatorView {
        operator: address(name),
        consensus_key: PublicKey([name; 32]),
        moniker: "validator".to_owned(),
        power,
        missed: 0,
        pool: OperatorView {
            id: OperatorId::validator(address(name)),
            tokens,
            shares: Shares(tokens.0 * 1_000_000_000),
            own: tokens,
            commission: CommissionTerms::ALL,
            commission_due: Watt::ZERO,
            jailed_until: None,
            tombstoned: false,
        },
    }
}

/// Eight finished requests; in the second the sides disagree, the third has no report, the fourth
/// was changed after it was signed, the fifth has a part before it of a provider that failed, the seventh is of a service
/// outside the network.
fn receipts() -> Vec<StoredReceipt> {
    let mut receipts: Vec<StoredReceipt> = (1..=8).map(stored_receipt).collect();
    if let Some(stored) = receipts.get_mut(1) {
        *stored = receipt_of(2, |report| report.completion_tokens += 3, FinishReason::Stop);
    }
    if let Some(stored) = receipts.get_mut(2) {
        stored.receipt.report = None;
        let mut ack = stored.receipt.acknowledgement.value.clone();
        (ack.report_hash, ack.finish) = (None, FinishReason::Failed);
        stored.receipt.acknowledgement = Signed::new(ack, &chain_id(), &key(2));
    }
    if let Some(stored) = receipts.get_mut(3) {
        stored.receipt.acknowledgement.value.delivered_tokens = 1;
    }
    let mut part = receipt_of(5, |_| (), FinishReason::Failed).receipt;
    part.report = None;
    let ack = Acknowledgement { report_hash: None, ..part.acknowledgement.value.clone() };
    part.acknowledgement = Signed::new(ack, &chain_id(), &key(2));
    if let Some(stored) = receipts.get_mut(4) {
        stored.earlier = vec![part];
    }
    if let Some(stored) = receipts.get_mut(6) {
        stored.receipt.report = None;
        let mut ack = stored.receipt.acknowledgement.value.clone();
        ack.report_hash = None;
        stored.receipt.acknowledgement = Signed::new(ack, &chain_id(), &key(2));
        stored.bought = Some(Bought { upstream: "cloud".into(), model: "<big>".into() });
    }
    receipts
}

fn stored_receipt(number: u8) -> StoredReceipt {
    let finish = if number == 6 { FinishReason::Length } else { FinishReason::Stop };
    receipt_of(number, |_| (), finish)
}

/// Signed by both; `change` makes the provider state something else than the payer.
fn receipt_of(
    number: u8,
    change: impl Fn(&mut ServiceReport),
    finish: FinishReason,
) -> StoredReceipt {
    let prompt_tokens = 30 + u32::from(number);
    let delivered_tokens = 64 * u32::from(number) - 7;
    let request_id = RequestId([number; 16]);
    let lane_total_before = Nusd(1_000_000 * u128::from(number));
    let lane_total =
        lane_total_before.saturating_add(PRICE.charge(prompt_tokens, delivered_tokens));
    let ended_at = TimeMs(NOW.0 - 60_000 * u64::from(number));
    let mut report = ServiceReport {
        request_id,
        attempt: 0,
        provider: address(3),
        model: model_id("ember"),
        engine_version: "candle 0.11".to_owned(),
        profile: "free".to_owned(),
        seed: None,
        prompt_hash: sha256(&[b"prompt"]),
        response_hash: sha256(&[b"response"]),
        transcript_root: sha256(&[b"transcript"]),
        prompt_tokens,
        completion_tokens: delivered_tokens,
        counted: CountMethod::TokenIds,
        price: PRICE,
        channel: ChannelId([9; 32]),
        lane: Lane(2),
        lane_total_before,
        lane_total,
        finish,
        started_at: TimeMs(ended_at.0 - 900 * u64::from(number)),
        ended_at,
    };
    change(&mut report);
    let report = Signed::new(report, &chain_id(), &key(3));
    let ack = Acknowledgement {
        request_id,
        attempt: 0,
        provider: address(3),
        model: model_id("ember"),
        prompt_hash: sha256(&[b"prompt"]),
        response_hash: sha256(&[b"response"]),
        transcript_root: sha256(&[b"transcript"]),
        prompt_tokens,
        delivered_tokens,
        counted: CountMethod::TokenIds,
        price: PRICE,
        channel: ChannelId([9; 32]),
        lane: Lane(2),
        lane_total_before,
        lane_total,
        report_hash: Some(report_hash(&report)),
        finish,
        ended_at,
    };
    let acknowledgement = Signed::new(ack, &chain_id(), &key(2));
    let receipt = Receipt { chain_id: chain_id(), report: Some(report), acknowledgement };
    StoredReceipt { receipt, earlier: Vec::new(), salt: "00".repeat(16), bought: None }
}

fn request_of(stored: &StoredReceipt) -> RequestView {
    let ack = &stored.receipt.acknowledgement.value;
    let number = u64::from(ack.request_id.0.first().copied().unwrap_or(0));
    RequestView {
        id: ack.request_id,
        key: if number.is_multiple_of(3) { "playground" } else { "first" }.to_owned(),
        model: "ember".to_owned(),
        model_id: ack.model,
        provider: ack.provider,
        upstream: stored.bought.as_ref().map(|bought| bought.upstream.clone()),
        prompt_tokens: ack.prompt_tokens,
        completion_tokens: ack.delivered_tokens,
        cost: stored.receipt.cost(),
        finish: ack.finish,
        started_at: TimeMs(ack.ended_at.0 - 900 * number),
        duration_ms: 900 * number,
        attempt: ack.attempt,
    }
}

fn answer(request_id: RequestId) -> Vec<ChatEvent> {
    let words = ["Hello", "! ", "The lamp", " by the river", " was lit.\n", "<b>Not bold</b>", "."];
    let mut events: Vec<ChatEvent> =
        words.iter().map(|word| ChatEvent::Text((*word).to_owned())).collect();
    events.push(ChatEvent::Done(ChatSummary {
        request_id,
        provider: address(3),
        prompt_tokens: 31,
        completion_tokens: 57,
        cost: PRICE.charge(31, 57),
        finish: FinishReason::Stop,
        duration_ms: 900,
    }));
    events
}

fn blocks() -> Vec<BlockView> {
    let voucher =
        Voucher { channel: ChannelId([9; 32]), lane: Lane(2), sequence: 3, total: Nusd(9) };
    let voucher = Signed::new(voucher, &chain_id(), &key(2));
    let terms = ChannelTerms {
        payer: address(1),
        payer_key: key(2).public_key(),
        receiver: address(3),
        salt: 1,
        withdraw_delay_ms: 900_000,
    };
    let fields = |fields: &[(&str, String)]| {
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    };
    let channel = ("channel", ChannelId([9; 32]).to_string());
    let claimed = Event {
        kind: "channel.claimed".to_owned(),
        fields: fields(&[channel.clone(), ("credits", "187650".to_owned())]),
    };
    let settled = Event {
        kind: "channel.settled".to_owned(),
        fields: fields(&[channel, ("watt", "164605".to_owned()), ("burned", "24690".to_owned())]),
    };
    let credits = CreditPurchase::Receive { credits: Nusd::whole(100), watt_max: Watt::whole(90) };
    let list: Vec<(u8, Action, TxResult)> = vec![
        (
            3,
            Action::RedeemVouchers { claims: vec![VoucherClaim { voucher, total: Nusd(9) }] },
            TxResult::Applied { events: vec![claimed] },
        ),
        (
            4,
            Action::Transfer { to: address(1), amount: Watt(2_500_000_000) },
            TxResult::Failed {
                code: "balance.too_low".to_owned(),
                message: "the account holds 1.2 WATT, 2.5 are needed".to_owned(),
            },
        ),
        (
            1,
            Action::OpenChannel { terms, deposit: Nusd::whole(5) },
            TxResult::Applied { events: Vec::new() },
        ),
        (1, Action::BuyCredits(credits), TxResult::Applied { events: Vec::new() }),
        (
            3,
            Action::RegisterProvider {
                node_key: PublicKey([3; 32]),
                profile: ProviderProfile {
                    moniker: "attic".to_owned(),
                    ..ProviderProfile::default()
                },
                commission: None,
                bond: Watt::ZERO,
            },
            TxResult::Applied { events: Vec::new() },
        ),
    ];
    let block = |(index, (sender, action, result)): (usize, (u8, Action, TxResult))| {
        block(1_284 - u64::try_from(index).unwrap_or(0), sender, action, result)
    };
    let mut blocks: Vec<BlockView> = list.into_iter().enumerate().map(block).collect();
    if let Some(last) = blocks.first_mut() {
        last.events = vec![settled];
    }
    blocks
}

fn block(height: u64, sender: u8, action: Action, result: TxResult) -> BlockView {
    let height = Height(height);
    let tx = Tx {
        chain_id: chain_id(),
        nonce: Nonce(1),
        fee_max: Watt(10_000_000),
        tip: Watt::ZERO,
        valid_until: None,
        action,
    };
    let outcome = TxOutcome { id: TxId([8; 32]), height, fee: Watt(1_250_000), result };
    let header = BlockHeader {
        height,
        time: TimeMs(NOW.0 - 42_000 - (1_284 - height.0) * 600_000),
        parent: Hash32([1; 32]),
        txs_root: Hash32([2; 32]),
        last_certificate: Hash32::default(),
        validators: Hash32::default(),
        next_validators: Hash32::default(),
        app_hash: Hash32([3; 32]),
        proposer: key(4).public_key(),
    };
    let tx = Signed::new(tx, &chain_id(), &key(sender));
    BlockView {
        hash: header.hash(),
        header,
        txs: vec![TxView { outcome, sender: address(sender), tx }],
        events: Vec::new(),
    }
}
