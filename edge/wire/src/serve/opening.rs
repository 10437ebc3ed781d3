//! What an audit needs of an answer beside its receipt: the order, what was asked, and all that was reported. The
//! provider keeps it for as long as it may be asked for it, and whoever gets it can check that it is of the receipt.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    hash::{merkle_leaf, merkle_root},
    inference::InferenceRequest,
    limits::{self, DecodeError},
    receipt::{Acknowledgement, Receipt, ServiceReport},
    sha256,
    sign::{BadSignature, Signed, VerifySignature},
};

use super::{Order, request_hash};

/// Bytes of an opening: the largest prompt, the text and the leaves of the longest answer, and room.
pub const OPENING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Opening {
    /// What the payer signed; it names the request by its digest.
    pub order: Signed<Order>,
    /// Salts the digests of the order.
    pub salt: [u8; 16],
    pub request: InferenceRequest,
    /// The delivered bytes of the answer.
    pub text: Vec<u8>,
    /// The leaves of the transcript (`docs/spec/verification.md`), in order.
    pub leaves: Vec<Vec<u8>>,
}

/// Why an opening is not that of a receipt. All but `Unreported` are the provider's fault, or that of whoever passed it on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    #[error("the opening is too large or not in canonical form")]
    Decode(#[from] DecodeError),
    #[error("the receipt has no report of its provider, so there is nothing that it committed to")]
    Unreported,
    #[error("the order's signature: {0}")]
    Signature(#[from] BadSignature),
    #[error("the order is not the one of the receipt: another {field}")]
    OtherOrder { field: &'static str },
    #[error("the request is not the one that was ordered")]
    OtherRequest,
    #[error("the text is not the one of the receipt")]
    OtherText,
    #[error("the leaves are not those that the receipt commits to")]
    OtherLeaves,
}

impl Opening {
    /// From the bytes of a peer: at most [`OPENING_BYTES_MAX`], canonical, nothing left over.
    pub fn decode(bytes: &[u8]) -> Result<Opening, OpeningError> {
        Ok(limits::decode(bytes, OPENING_BYTES_MAX)?)
    }

    pub fn encode(&self) -> Vec<u8> {
        // Writing to memory cannot fail.
        borsh::to_vec(self).unwrap_or_default()
    }

    /// Checks that everything here is what the two statements of `receipt` are about. The receipt must have been
    /// verified before. Returns the provider's statement.
    pub fn check<'r>(
        &self,
        receipt: &'r Receipt,
        check: &dyn VerifySignature,
    ) -> Result<&'r ServiceReport, OpeningError> {
        let report = receipt.report.as_ref().ok_or(OpeningError::Unreported)?;
        let report = &report.value;
        self.check_order(&receipt.acknowledgement, report, receipt, check)?;
        let ordered = request_hash(&self.request, &self.salt) == self.order.value.request_hash
            && self.request.prompt.hash(&self.salt) == report.prompt_hash;
        if !ordered {
            return Err(OpeningError::OtherRequest);
        }
        if sha256(&[&self.text]) != report.response_hash {
            return Err(OpeningError::OtherText);
        }
        let leaves: Vec<_> = self.leaves.iter().map(|leaf| merkle_leaf(leaf)).collect();
        if merkle_root(&leaves) != report.transcript_root {
            return Err(OpeningError::OtherLeaves);
        }
        Ok(report)
    }

    fn check_order(
        &self,
        acknowledgement: &Signed<Acknowledgement>,
        report: &ServiceReport,
        receipt: &Receipt,
        check: &dyn VerifySignature,
    ) -> Result<(), OpeningError> {
        let order = self.order.clone().verify(&receipt.chain_id, check)?;
        let by_payer = order.signer() == acknowledgement.signer;
        let order = order.value();
        let same = [
            ("signer", by_payer),
            ("request id", order.request_id == report.request_id),
            ("attempt", order.attempt == report.attempt),
            ("provider", order.provider == report.provider),
            ("model", order.model == report.model),
            ("prompt digest", order.prompt_hash == report.prompt_hash),
            ("price", order.price == report.price),
            ("channel", order.channel == report.channel),
        ];
        match same.into_iter().find(|(_, equal)| !equal) {
            Some((field, _)) => Err(OpeningError::OtherOrder { field }),
            None => Ok(()),
        }
    }
}
