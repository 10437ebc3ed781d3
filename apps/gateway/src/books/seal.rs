//! Signatures that are made when somebody wants to see them.
//!
//! An acknowledgement is what a provider is paid by, so it is signed when it is sent. Of an answer that the gateway bought
//! outside the network it is nobody's but the client's, who seldom looks: the journal has all that it says, and its signature, which is
//! the same whenever it is made, is made when the receipt is read.

use types::{PublicKey, RequestId, Signature, receipt::Acknowledgement, sign::Signed};

use super::{Books, record::Settlement};
use crate::error::ReceiptLookupError;

/// Stands for a signature that is to be made; is one of nothing.
const LATER: Signature = Signature([0; 64]);

/// What `payer` will sign.
pub(crate) fn unsigned(value: Acknowledgement, payer: PublicKey) -> Signed<Acknowledgement> {
    Signed { value, signer: payer, signature: LATER }
}

/// Whether the signature is still to be made.
pub(super) fn is_left(settlement: &Settlement) -> bool {
    settlement.receipt.acknowledgement.signature == LATER
}

impl Books {
    /// Signs a settlement that was left unsigned.
    pub(super) fn sealed(
        &self,
        id: RequestId,
        mut settlement: Settlement,
    ) -> Result<Settlement, ReceiptLookupError> {
        if !is_left(&settlement) {
            return Ok(settlement);
        }
        let receipt = &mut settlement.receipt;
        let acknowledgement = &mut receipt.acknowledgement;
        let signer = acknowledgement.signer;
        let payer = self.payer.as_ref().filter(|payer| payer.public_key() == signer);
        let payer = payer.ok_or(ReceiptLookupError::OtherPayer { id })?;
        *acknowledgement = Signed::new(acknowledgement.value.clone(), &receipt.chain_id, &**payer);
        Ok(settlement)
    }
}
