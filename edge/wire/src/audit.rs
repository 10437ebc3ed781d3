//! The audit protocol between a provider and the auditor of a verifier, version 1 (`docs/spec/auditing.md`).
//!
//! A provider dials the verifiers of its round, so that it needs no open port, and opens one stream per
//! commitment: [`ToAuditor`] one way, [`ToProvider`] the other. Who speaks is known by the connection: the provider's
//! node key, and the auditor's, both stand on the ledger.
//!
//! ```text
//! provider                                  auditor
//!   Committed {digests}             ────►
//!                                   ◄────   Wanted {numbers}  or  Refused
//!   Receipt, Opening …              ────►
//!                                   ◄────   Taken  or  Refused
//!   Receipt, Opening …              ────►           (once for each that is wanted)
//! ```

use borsh::{BorshDeserialize, BorshSerialize};
use types::{
    ChainId, Hash32, Ppm,
    audit::{CommitmentId, ReceiptsCommitment, selected},
    limits::{AUDIT_RECEIPTS_MAX, EVIDENCE_RESPONSES_MAX},
    receipt::Receipt,
    sha256,
};

/// Names the protocol and its version when a connection is made.
pub const ALPN: &[u8] = b"peerwatt/audit/1";
/// Bytes of a frame to an auditor: the digests of a commitment, or a part of an opening.
pub const TO_AUDITOR_FRAME_BYTES_MAX: usize = 192 * 1024;
/// Bytes of a frame to a provider.
pub const TO_PROVIDER_FRAME_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the reason of a refusal, for people.
pub const REASON_BYTES_MAX: usize = 512;

/// Provider to auditor.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToAuditor {
    /// The first message: which commitment, and the digests of all its receipts, in their order.
    Committed { chain_id: ChainId, commitment: CommitmentId, digests: Vec<Hash32> },
    /// The next receipt that is wanted. Its opening follows.
    Receipt(Box<Receipt>),
    /// The next at most [`crate::serve::OPENING_PART_BYTES_MAX`] bytes of the opening. No bytes and no more: none is held.
    Opening { part: Vec<u8>, more: bool },
}

/// Auditor to provider.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub enum ToProvider {
    /// The answer to `Committed`: the numbers of the receipts that are still wanted, in the order in which they are.
    Wanted(Vec<u32>),
    /// The opening is that of the receipt.
    Taken,
    /// It is not, or nothing of this commitment is wanted; why, for people.
    Refused { reason: String },
}

/// Why digests are not those of a commitment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the digests are not those that were committed to")]
pub struct OtherDigests;

/// The receipts of a commitment that are to be opened, by number, the first one first: those that the beacon selects,
/// by the digest that selects them, no more than a verdict can name. Where it selects none, the one that is nearest to it.
pub fn wanted(
    committed: &ReceiptsCommitment,
    digests: &[Hash32],
    beacon: &Hash32,
    share: Ppm,
) -> Result<Vec<u32>, OtherDigests> {
    let is_bounded = digests.len() <= usize::try_from(AUDIT_RECEIPTS_MAX).unwrap_or(usize::MAX);
    if !is_bounded || ReceiptsCommitment::of(committed.model, digests) != Some(*committed) {
        return Err(OtherDigests);
    }
    // As in `selected`, whose share of the lowest these are.
    let ticket = |digest: &Hash32| sha256(&[b"peerwatt/audit\0", &beacon.0, &digest.0]);
    let mut numbered: Vec<(Hash32, u32, &Hash32)> =
        (0..).zip(digests).map(|(number, digest)| (ticket(digest), number, digest)).collect();
    numbered.sort_unstable();
    let count =
        numbered.iter().take_while(|(_, _, digest)| selected(beacon, digest, share)).count();
    let count = count.clamp(1, EVIDENCE_RESPONSES_MAX);
    Ok(numbered.into_iter().take(count).map(|(_, number, _)| number).collect())
}

#[cfg(test)]
mod tests {
    use types::ModelId;

    use super::*;

    fn digests(count: u32) -> Vec<Hash32> {
        (0..count).map(|number| sha256(&[&number.to_be_bytes()])).collect()
    }

    #[test]
    fn the_beacon_chooses_some_and_at_least_one() {
        let all = digests(400);
        let committed = ReceiptsCommitment::of(ModelId([1; 32]), &all).unwrap();
        let beacon = Hash32([7; 32]);
        let choose = |ppm| wanted(&committed, &all, &beacon, Ppm::new(ppm).unwrap()).unwrap();
        let one = choose(0);
        let some = choose(100_000);
        assert_eq!(one.len(), 1);
        assert_eq!(some.first(), one.first(), "the nearest is among the selected");
        assert!((20..=60).contains(&some.len()), "{}", some.len());
        for number in &some {
            let digest = &all[usize::try_from(*number).unwrap()];
            assert!(selected(&beacon, digest, Ppm::new(100_000).unwrap()));
        }
        assert_eq!(choose(1_000_000).len(), EVIDENCE_RESPONSES_MAX);
    }

    #[test]
    fn digests_must_be_those_of_the_commitment() {
        let all = digests(3);
        let committed = ReceiptsCommitment::of(ModelId([1; 32]), &all).unwrap();
        let check = |digests: &[Hash32]| {
            let wanted = wanted(&committed, digests, &Hash32([7; 32]), Ppm::ONE);
            wanted.is_ok()
        };
        assert!(check(&all));
        assert!(!check(&all[..2]));
        assert!(!check(&[]));
        assert!(!check(&[all[1], all[0], all[2]]));
        assert!(!check(&digests(5_000)));
    }
}
