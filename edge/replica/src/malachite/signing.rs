//! Signing and verifying of consensus messages, and the mark that keeps one key from signing two
//! different statements for one step of one round.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_malachitebft_core_types::{SignedMessage, ValidatorProof, VoteExtensionScope};
use arc_malachitebft_signing::{Error, Signer, VerificationResult, Verifier};
use async_trait::async_trait;
use borsh::{BorshDeserialize, BorshSerialize};
use keys::Ed25519;
use types::{
    ChainId, Hash32, Height, PublicKey, Signature,
    consensus::VoteKind,
    sha256,
    sign::{Sign, Signable, VerifySignature, signing_bytes},
};

use super::context::{Consensus, Proposal, Vote};

/// The steps of a round in which something is signed, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub enum Step {
    Propose,
    Prevote,
    Precommit,
}

/// What a key signed last: nothing below it is ever signed, and at it only the same again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct LastSigned {
    pub height: Height,
    pub round: u32,
    pub step: Step,
    /// Digest of the bytes that were signed.
    pub message: Hash32,
}

impl LastSigned {
    fn position(&self) -> (Height, u32, Step) {
        (self.height, self.round, self.step)
    }
}

/// Why something is not signed.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error(
        "the key has signed at height {} round {} already; {given_height} round {given_round} is not signed again. \
         Is the key used by another process, or the data folder an old copy?",
        mark.height, mark.round
    )]
    Below { mark: LastSigned, given_height: Height, given_round: u32 },
    #[error("the last-signed mark {path} cannot be {action}", path = path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the last-signed mark {path} is damaged; restore it, or register a new consensus key: without the mark \
         the key could sign twice and be slashed",
        path = path.display()
    )]
    Damaged { path: PathBuf },
}

/// The mark on the disk. It belongs to the key, not to the chain's data: when a data folder is
/// restored from an old copy, the mark must not be.
///
/// Two slots are written in turn, so that a write that was cut leaves the one before. A signature
/// leaves the process only after the engine has synced its own log, in which the vote stands, so the
/// disk is not waited for a second time here: a power cut may lose the newest mark, and then the log
/// has the vote; a killed process loses neither.
#[derive(Debug)]
pub struct Mark {
    path: PathBuf,
    slots: Mutex<Slots>,
    /// Something was not signed because of it.
    refused: AtomicBool,
}

#[derive(Debug)]
struct Slots {
    file: File,
    last: Option<LastSigned>,
    /// The slot that is written next.
    next: u64,
}

/// Bytes of a slot: digest and mark are 77.
const SLOT_BYTES: usize = 96;

impl Mark {
    /// Opens the mark at `path`; there is none before the key has signed.
    pub fn open(path: &Path) -> Result<Mark, MarkError> {
        let failed = |source| MarkError::Io { action: "read", path: path.to_owned(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let mut bytes = Vec::with_capacity(2 * SLOT_BYTES);
        file.read_to_end(&mut bytes).map_err(failed)?;
        let slots: Vec<Option<LastSigned>> = bytes.chunks(SLOT_BYTES).map(read_slot).collect();
        let newest = slots.iter().enumerate().filter_map(|(slot, mark)| Some((slot, (*mark)?)));
        let newest = newest.max_by_key(|(_, mark)| mark.position());
        if newest.is_none() && bytes.iter().any(|byte| *byte != 0) {
            return Err(MarkError::Damaged { path: path.to_owned() });
        }
        let next = newest.map_or(0, |(slot, _)| 1 - slot.min(1) as u64);
        let last = newest.map(|(_, mark)| mark);
        let slots = Mutex::new(Slots { file, last, next });
        Ok(Mark { path: path.to_owned(), slots, refused: AtomicBool::new(false) })
    }

    pub fn last(&self) -> Option<LastSigned> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).last
    }

    /// Whether something was not signed because of it since this was asked last.
    pub(crate) fn take_refused(&self) -> bool {
        self.refused.swap(false, Ordering::SeqCst)
    }

    /// Moves the mark to what is about to be signed, or says why that may not be signed.
    fn advance(&self, next: LastSigned) -> Result<(), MarkError> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        match slots.last {
            Some(mark) if mark == next => return Ok(()),
            Some(mark) if mark.position() >= next.position() => {
                let (given_height, given_round) = (next.height, next.round);
                self.refused.store(true, Ordering::SeqCst);
                return Err(MarkError::Below { mark, given_height, given_round });
            }
            Some(_) | None => {}
        }
        let written = write_slot(&mut slots, &next);
        written.map_err(|source| MarkError::Io {
            action: "written",
            path: self.path.clone(),
            source,
        })
    }
}

fn read_slot(slot: &[u8]) -> Option<LastSigned> {
    let (digest, rest) = slot.split_at_checked(32)?;
    let mark: LastSigned = LastSigned::deserialize(&mut &*rest).ok()?;
    (sha256(&[&borsh::to_vec(&mark).ok()?]).0 == digest).then_some(mark)
}

fn write_slot(slots: &mut Slots, mark: &LastSigned) -> io::Result<()> {
    let bytes = borsh::to_vec(mark)?;
    let mut slot = [sha256(&[&bytes]).0.as_slice(), &bytes].concat();
    slot.resize(SLOT_BYTES, 0);
    slots.file.seek(SeekFrom::Start(slots.next * SLOT_BYTES as u64))?;
    slots.file.write_all(&slot)?;
    slots.next = 1 - slots.next;
    slots.last = Some(*mark);
    Ok(())
}

/// Signs votes and proposals with one key, never against its mark.
pub(crate) struct MarkedSigner {
    pub(crate) chain_id: ChainId,
    pub(crate) key: Arc<dyn Sign>,
    pub(crate) mark: Arc<Mark>,
}

impl fmt::Debug for MarkedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MarkedSigner").field("key", &self.key.public_key()).finish_non_exhaustive()
    }
}

impl MarkedSigner {
    fn sign<T: Signable>(
        &self,
        (height, round, step): (Height, u32, Step),
        statement: &T,
    ) -> Result<Signature, Error> {
        let message = signing_bytes(&self.chain_id, statement);
        let next = LastSigned { height, round, step, message: sha256(&[&message]) };
        if let Err(error) = self.mark.advance(next) {
            tracing::error!(%error, "nothing is signed");
            return Err(Error::from_source(error));
        }
        Ok(self.key.sign(&message))
    }
}

#[async_trait]
impl Signer<Consensus> for MarkedSigner {
    async fn sign_vote(&self, vote: Vote) -> Result<SignedMessage<Consensus, Vote>, Error> {
        let statement = vote.statement();
        let step = match statement.kind {
            VoteKind::Prevote => Step::Prevote,
            VoteKind::Precommit => Step::Precommit,
        };
        let signature = self.sign((statement.height, statement.round, step), &statement)?;
        Ok(SignedMessage::new(vote, signature))
    }

    async fn sign_proposal(
        &self,
        proposal: Proposal,
    ) -> Result<SignedMessage<Consensus, Proposal>, Error> {
        let statement = proposal.statement();
        let position = (statement.height, statement.round, Step::Propose);
        let signature = self.sign(position, &statement)?;
        Ok(SignedMessage::new(proposal, signature))
    }

    /// Never asked for: we use none.
    async fn sign_vote_extension(
        &self,
        _: VoteExtensionScope<Consensus>,
        extension: (),
    ) -> Result<SignedMessage<Consensus, ()>, Error> {
        Ok(SignedMessage::new(extension, Signature([0; 64])))
    }

    async fn sign_validator_proof(
        &self,
        public_key: Vec<u8>,
        peer_id: Vec<u8>,
    ) -> Result<ValidatorProof<Consensus>, Error> {
        Ok(validator_proof(&self.chain_id, &*self.key, public_key, peer_id))
    }
}

/// Ties a peer's transport key to the consensus key, on this network.
pub(crate) fn validator_proof(
    chain_id: &ChainId,
    key: &dyn Sign,
    public_key: Vec<u8>,
    peer_id: Vec<u8>,
) -> ValidatorProof<Consensus> {
    let message = proof_bytes(chain_id, &public_key, &peer_id);
    let signature = key.sign(&message);
    ValidatorProof::new(public_key, peer_id, signature)
}

fn proof_bytes(chain_id: &ChainId, public_key: &[u8], peer_id: &[u8]) -> Vec<u8> {
    let proof = ValidatorProof::<Consensus>::signing_bytes(public_key, peer_id);
    [b"peerwatt/validator-proof/1\0", chain_id.as_str().as_bytes(), b"\0", &proof].concat()
}

/// Checks votes and proposals of one network.
#[derive(Clone, Debug)]
pub(crate) struct ChainVerifier {
    pub(crate) chain_id: ChainId,
}

impl ChainVerifier {
    fn check<T: Signable>(
        &self,
        statement: &T,
        signature: &Signature,
        key: &PublicKey,
    ) -> VerificationResult {
        let message = signing_bytes(&self.chain_id, statement);
        VerificationResult::from_bool(Ed25519.verify(key, &message, signature))
    }
}

#[async_trait]
impl Verifier<Consensus> for ChainVerifier {
    async fn verify_signed_vote(
        &self,
        vote: &Vote,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(self.check(&vote.statement(), signature, key))
    }

    async fn verify_signed_proposal(
        &self,
        proposal: &Proposal,
        signature: &Signature,
        key: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(self.check(&proposal.statement(), signature, key))
    }

    /// We use none, so none is right.
    async fn verify_signed_vote_extension(
        &self,
        _: &VoteExtensionScope<Consensus>,
        _: &(),
        _: &Signature,
        _: &PublicKey,
    ) -> Result<VerificationResult, Error> {
        Ok(VerificationResult::Invalid)
    }

    async fn verify_validator_proof(
        &self,
        proof: &ValidatorProof<Consensus>,
    ) -> Result<VerificationResult, Error> {
        let Ok(key) = proof.decoded_public_key() else { return Ok(VerificationResult::Invalid) };
        let message = proof_bytes(&self.chain_id, &proof.public_key, &proof.peer_id);
        let valid = Ed25519.verify(&key, &message, &proof.signature);
        Ok(VerificationResult::from_bool(valid))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at(height: u64, round: u32, step: Step, message: u8) -> LastSigned {
        LastSigned { height: Height(height), round, step, message: Hash32([message; 32]) }
    }

    #[test]
    fn a_mark_only_moves_forward_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consensus.mark");
        let mark = Mark::open(&path).unwrap();
        assert_eq!(mark.last(), None);
        let steps = [
            at(1, 0, Step::Propose, 1),
            at(1, 0, Step::Prevote, 2),
            at(1, 1, Step::Prevote, 3),
            at(2, 0, Step::Precommit, 4),
        ];
        for (place, step) in steps.iter().enumerate() {
            mark.advance(*step).unwrap();
            // The same again is no second statement.
            mark.advance(*step).unwrap();
            let other = LastSigned { message: Hash32([9; 32]), ..*step };
            assert!(matches!(mark.advance(other), Err(MarkError::Below { .. })));
            for earlier in &steps[..place] {
                assert!(matches!(mark.advance(*earlier), Err(MarkError::Below { .. })));
            }
            // Whatever happens to the rest of the folder.
            assert_eq!(Mark::open(&path).unwrap().last(), Some(*step));
        }
    }

    #[test]
    fn a_cut_write_leaves_the_mark_before_and_damage_is_never_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("consensus.mark");
        let (first, second) = (at(7, 0, Step::Prevote, 1), at(7, 0, Step::Precommit, 1));
        let mark = Mark::open(&path).unwrap();
        mark.advance(first).unwrap();
        mark.advance(second).unwrap();
        let good = fs::read(&path).unwrap();
        for place in 0..77 {
            let mut bad = good.clone();
            bad[SLOT_BYTES + place] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(Mark::open(&path).unwrap().last(), Some(first));
            bad[place] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(Mark::open(&path), Err(MarkError::Damaged { .. })));
        }
    }
}
