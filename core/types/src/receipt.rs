//! The receipt of a request: what the provider says it served and what the payer says arrived,
//! each signed, so that anybody can recompute the bill.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    amount::Nusd,
    hash::{Hash32, sha256},
    id::{Address, ChainId, ChannelId, Lane, ModelId, RequestId, TimeMs},
    inference::{CountMethod, FinishReason},
    price::Price,
    sign::{BadSignature, Signable, Signed, Verified, VerifySignature},
};

/// The profile of a report whose answer was drawn as client or engine like: nobody can check how.
pub const FREE_PROFILE: &str = "free";

/// The provider's statement about one attempt, signed by its operator key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ServiceReport {
    pub request_id: RequestId,
    /// 0 for the first provider that was asked, 1 for the next.
    pub attempt: u16,
    pub provider: Address,
    pub model: ModelId,
    /// At most [`crate::limits::NAME_BYTES_MAX`] bytes.
    #[borsh(deserialize_with = "crate::limits::read_name")]
    pub engine_version: String,
    /// How tokens were drawn, and so what can be audited: `np1`, `np1-l1` or [`FREE_PROFILE`] (`docs/spec/verification.md`).
    #[borsh(deserialize_with = "crate::limits::read_name")]
    pub profile: String,
    pub seed: Option<u64>,
    pub prompt_hash: Hash32,
    /// Digest of the delivered bytes of the answer.
    pub response_hash: Hash32,
    /// Merkle root over the delivered tokens, see [`crate::inference::TokenPiece::transcript_leaf`].
    pub transcript_root: Hash32,
    pub prompt_tokens: u32,
    pub completion_tokens: u32,
    pub counted: CountMethod,
    pub price: Price,
    pub channel: ChannelId,
    pub lane: Lane,
    /// Charged on the lane before and after this attempt.
    pub lane_total_before: Nusd,
    pub lane_total: Nusd,
    pub finish: FinishReason,
    pub started_at: TimeMs,
    pub ended_at: TimeMs,
}

impl Signable for ServiceReport {
    const DOMAIN: &'static str = "service-report/1";
}

/// The payer's statement about the same attempt, signed by the channel's payer key.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Acknowledgement {
    pub request_id: RequestId,
    pub attempt: u16,
    pub provider: Address,
    pub model: ModelId,
    pub prompt_hash: Hash32,
    pub response_hash: Hash32,
    /// As in the report; of no tokens where there is nobody to report.
    pub transcript_root: Hash32,
    pub prompt_tokens: u32,
    /// Tokens that arrived, as the payer counted them.
    pub delivered_tokens: u32,
    pub counted: CountMethod,
    pub price: Price,
    pub channel: ChannelId,
    pub lane: Lane,
    pub lane_total_before: Nusd,
    pub lane_total: Nusd,
    /// Digest of the provider's report, if one came.
    pub report_hash: Option<Hash32>,
    pub finish: FinishReason,
    pub ended_at: TimeMs,
}

impl Signable for Acknowledgement {
    const DOMAIN: &'static str = "acknowledgement/1";
}

/// Both statements. Without a report the provider did not finish; it is still paid for what arrived.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Receipt {
    pub chain_id: ChainId,
    pub report: Option<Signed<ServiceReport>>,
    pub acknowledgement: Signed<Acknowledgement>,
}

/// What does not add up on a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error(transparent)]
    Signature(#[from] BadSignature),
    #[error("the provider's report is signed by a key of {signer}, not of {provider}")]
    ReportSigner { signer: Address, provider: Address },
    #[error(
        "the price of {prompt_tokens} prompt and {delivered_tokens} completion tokens is {due} nano-USD, the receipt says {billed}"
    )]
    Bill { prompt_tokens: u32, delivered_tokens: u32, due: Nusd, billed: Nusd },
    #[error("the two statements differ in {field}")]
    Disagree { field: &'static str },
    #[error("the payer acknowledges another report than the one attached")]
    OtherReport,
    #[error("the answer's digest is {actual}, the receipt says {stated}")]
    Response { stated: Hash32, actual: Hash32 },
}

/// The digest by which an acknowledgement names the report.
pub fn report_hash(report: &Signed<ServiceReport>) -> Hash32 {
    sha256(&[b"peerwatt/report\0", &borsh::to_vec(report).unwrap_or_default()])
}

/// Whether two statements whose signatures were checked are those of one attempt, and the bill is right.
pub fn adds_up(
    report: Option<&Signed<ServiceReport>>,
    ack: &Acknowledgement,
) -> Result<(), ReceiptError> {
    let due = ack.price.charge(ack.prompt_tokens, ack.delivered_tokens);
    let billed = ack.cost();
    if due != billed {
        let &Acknowledgement { prompt_tokens, delivered_tokens, .. } = ack;
        return Err(ReceiptError::Bill { prompt_tokens, delivered_tokens, due, billed });
    }
    let Some(report) = report else {
        return if ack.report_hash.is_none() { Ok(()) } else { Err(ReceiptError::OtherReport) };
    };
    if ack.report_hash != Some(report_hash(report)) {
        return Err(ReceiptError::OtherReport);
    }
    let signer = Address::of_key(&report.signer);
    let report = &report.value;
    if signer != report.provider {
        return Err(ReceiptError::ReportSigner { signer, provider: report.provider });
    }
    let same = [
        ("request id", report.request_id == ack.request_id),
        ("attempt", report.attempt == ack.attempt),
        ("provider", report.provider == ack.provider),
        ("model", report.model == ack.model),
        ("prompt digest", report.prompt_hash == ack.prompt_hash),
        ("price", report.price == ack.price),
        ("channel", report.channel == ack.channel),
        ("lane", report.lane == ack.lane),
        ("total before", report.lane_total_before == ack.lane_total_before),
    ];
    match same.iter().find(|(_, equal)| !equal) {
        Some(&(field, _)) => Err(ReceiptError::Disagree { field }),
        None => Ok(()),
    }
}

impl Acknowledgement {
    /// What the payer owes for the attempt.
    pub fn cost(&self) -> Nusd {
        self.lane_total.saturating_sub(self.lane_total_before)
    }
}

impl Receipt {
    /// What the payer owes for this attempt.
    pub fn cost(&self) -> Nusd {
        self.acknowledgement.value.cost()
    }

    /// Recomputes everything that can be recomputed from the receipt alone: signatures, the bill,
    /// and that the two statements are about the same thing.
    pub fn verify(&self, check: &dyn VerifySignature) -> Result<(), ReceiptError> {
        let Receipt { chain_id, report, acknowledgement } = self;
        let acknowledgement = acknowledgement.clone().verify(chain_id, check)?;
        let report = report.clone().map(|report| report.verify(chain_id, check)).transpose()?;
        let report = report.map(Verified::into_signed);
        adds_up(report.as_ref(), acknowledgement.value())
    }

    /// Whether provider and payer agree on the answer and on what it cost; a gap is a finding on
    /// both records, not an invalid receipt.
    pub fn agrees(&self) -> bool {
        self.report.as_ref().is_some_and(|report| {
            let (report, ack) = (&report.value, &self.acknowledgement.value);
            report.response_hash == ack.response_hash
                && report.transcript_root == ack.transcript_root
                && report.prompt_tokens == ack.prompt_tokens
                && report.completion_tokens == ack.delivered_tokens
                && report.lane_total == ack.lane_total
        })
    }

    /// Checks that `response` is the answer this receipt is about.
    pub fn verify_response(&self, response: &[u8]) -> Result<(), ReceiptError> {
        let (stated, actual) = (self.acknowledgement.value.response_hash, sha256(&[response]));
        if stated == actual { Ok(()) } else { Err(ReceiptError::Response { stated, actual }) }
    }
}
