//! The bytes of what the engine sends to its peers and writes to its log: borsh of our own forms.
//! Everything that comes in is bounded before it is read.

use arc_malachitebft_app_channel::app::types::{
    streaming::{StreamId, StreamMessage},
    sync::{RawDecidedValue, Request, Response, Status},
};
use arc_malachitebft_codec::{Codec, HasEncodedLen};
use arc_malachitebft_core_consensus::{LivenessMsg, PeerId, ProposedValue, SignedConsensusMsg};
use arc_malachitebft_core_types::{
    CommitCertificate, CommitSignature as MalachiteCommit, ExtendedCommitCertificate, NilOrVal,
    PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType,
    RoundSignature, SignedMessage, ValidatorProof, Validity, VoteExtensions, VoteType,
};
use arc_malachitebft_engine::util::streaming::StreamContent;
use arc_malachitebft_sync::{ValueRequest, ValueResponse};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use types::{
    Hash32, Height, PublicKey, Signature,
    consensus::{Certificate, CommitSignature, ConsensusProposal, ConsensusVote, VoteKind},
    limits::{self, DecodeError, VALIDATORS_MAX},
    sign::Signed,
};

use super::{
    context::{At, BlockId, Consensus, Member, Proposal, Vote, round_number},
    part::BlockPart,
};

/// Bytes of one message between engines. A block with its transactions is the largest.
pub(crate) const MESSAGE_BYTES_MAX: usize = limits::BLOCK_BYTES_MAX;
/// Bytes of one answer with decided blocks.
pub(crate) const SYNC_BYTES_MAX: usize = 2 * limits::BLOCK_BYTES_MAX;

/// Encodes and decodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Borsh;

fn decode<T: BorshDeserialize>(bytes: &Bytes) -> Result<T, DecodeError> {
    limits::decode(bytes, SYNC_BYTES_MAX)
}

fn encode<T: BorshSerialize>(value: &T) -> Result<Bytes, DecodeError> {
    let bytes = borsh::to_vec(value);
    let bytes = bytes.map_err(|error| DecodeError::Malformed { reason: error.to_string() })?;
    Ok(Bytes::from(bytes))
}

fn malformed(reason: &str) -> DecodeError {
    DecodeError::Malformed { reason: reason.to_owned() }
}

/// A list of a peer, never longer than there can be validators times `per`.
fn check_len<T>(list: &[T], per: usize) -> Result<(), DecodeError> {
    match list.len() > VALIDATORS_MAX * per {
        true => Err(malformed("a list has more members than there can be validators")),
        false => Ok(()),
    }
}

// Votes and proposals.

#[derive(BorshSerialize, BorshDeserialize)]
enum WireMessage {
    Vote(Signed<ConsensusVote>),
    Proposal(Signed<ConsensusProposal>),
}

fn wire_vote(vote: &SignedMessage<Consensus, Vote>) -> Signed<ConsensusVote> {
    let Vote { voter, .. } = &vote.message;
    Signed { value: vote.message.statement(), signer: voter.0, signature: vote.signature }
}

fn vote(wire: Signed<ConsensusVote>) -> SignedMessage<Consensus, Vote> {
    SignedMessage::new(Vote::of(wire.signer, wire.value), wire.signature)
}

/// A signed vote in our own form.
pub(crate) fn signed_vote(vote: &SignedMessage<Consensus, Vote>) -> Signed<ConsensusVote> {
    wire_vote(vote)
}

/// A signed proposal in our own form.
pub(crate) fn signed_proposal(
    proposal: &SignedMessage<Consensus, Proposal>,
) -> Signed<ConsensusProposal> {
    let Proposal { proposer, .. } = &proposal.message;
    let (value, signature) = (proposal.message.statement(), proposal.signature);
    Signed { value, signer: proposer.0, signature }
}

impl Codec<SignedConsensusMsg<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<SignedConsensusMsg<Consensus>, DecodeError> {
        Ok(match decode(&bytes)? {
            WireMessage::Vote(wire) => SignedConsensusMsg::Vote(vote(wire)),
            WireMessage::Proposal(wire) => SignedConsensusMsg::Proposal(SignedMessage::new(
                Proposal::of(wire.signer, wire.value),
                wire.signature,
            )),
        })
    }

    fn encode(&self, message: &SignedConsensusMsg<Consensus>) -> Result<Bytes, DecodeError> {
        encode(&match message {
            SignedConsensusMsg::Vote(vote) => WireMessage::Vote(wire_vote(vote)),
            SignedConsensusMsg::Proposal(proposal) => {
                WireMessage::Proposal(signed_proposal(proposal))
            }
        })
    }
}

// What keeps rounds going.

#[derive(BorshSerialize, BorshDeserialize)]
struct WireRoundSignature {
    kind: VoteKind,
    block: Option<Hash32>,
    signer: PublicKey,
    signature: Signature,
}

#[derive(BorshSerialize, BorshDeserialize)]
enum WireLiveness {
    Vote(Signed<ConsensusVote>),
    Polka(Certificate),
    SkipRound { height: Height, round: u32, precommit: bool, signatures: Vec<WireRoundSignature> },
}

fn wire_polka(polka: &PolkaCertificate<Consensus>) -> Certificate {
    let signature = |signature: &PolkaSignature<Consensus>| CommitSignature {
        signer: signature.address.0,
        signature: signature.signature,
    };
    Certificate {
        height: polka.height.0,
        round: round_number(polka.round),
        block: polka.value_id.0,
        signatures: polka.polka_signatures.iter().map(signature).collect(),
    }
}

fn polka(wire: Certificate) -> PolkaCertificate<Consensus> {
    let signature = |of: CommitSignature| PolkaSignature::new(Member(of.signer), of.signature);
    PolkaCertificate {
        height: At(wire.height),
        round: Round::new(wire.round),
        value_id: BlockId(wire.block),
        polka_signatures: wire.signatures.into_iter().map(signature).collect(),
    }
}

impl Codec<PolkaCertificate<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<PolkaCertificate<Consensus>, DecodeError> {
        decode(&bytes).map(polka)
    }

    fn encode(&self, certificate: &PolkaCertificate<Consensus>) -> Result<Bytes, DecodeError> {
        encode(&wire_polka(certificate))
    }
}

impl Codec<LivenessMsg<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<LivenessMsg<Consensus>, DecodeError> {
        Ok(match decode(&bytes)? {
            WireLiveness::Vote(wire) => LivenessMsg::Vote(vote(wire)),
            WireLiveness::Polka(wire) => LivenessMsg::PolkaCertificate(polka(wire)),
            WireLiveness::SkipRound { height, round, precommit, signatures } => {
                check_len(&signatures, 2)?;
                let cert_type = match precommit {
                    true => RoundCertificateType::Precommit,
                    false => RoundCertificateType::Skip,
                };
                let signature = |wire: WireRoundSignature| {
                    let vote = Vote::of(
                        wire.signer,
                        ConsensusVote { kind: wire.kind, height, round, block: wire.block },
                    );
                    RoundSignature::new(vote.kind, vote.block, vote.voter, wire.signature)
                };
                LivenessMsg::SkipRoundCertificate(RoundCertificate {
                    height: At(height),
                    round: Round::new(round),
                    cert_type,
                    round_signatures: signatures.into_iter().map(signature).collect(),
                })
            }
        })
    }

    fn encode(&self, message: &LivenessMsg<Consensus>) -> Result<Bytes, DecodeError> {
        encode(&match message {
            LivenessMsg::Vote(vote) => WireLiveness::Vote(wire_vote(vote)),
            LivenessMsg::PolkaCertificate(polka) => WireLiveness::Polka(wire_polka(polka)),
            LivenessMsg::SkipRoundCertificate(certificate) => {
                let signature = |of: &RoundSignature<Consensus>| WireRoundSignature {
                    kind: match of.vote_type {
                        VoteType::Prevote => VoteKind::Prevote,
                        VoteType::Precommit => VoteKind::Precommit,
                    },
                    block: match of.value_id {
                        NilOrVal::Nil => None,
                        NilOrVal::Val(BlockId(hash)) => Some(hash),
                    },
                    signer: of.address.0,
                    signature: of.signature,
                };
                WireLiveness::SkipRound {
                    height: certificate.height.0,
                    round: round_number(certificate.round),
                    precommit: certificate.cert_type == RoundCertificateType::Precommit,
                    signatures: certificate.round_signatures.iter().map(signature).collect(),
                }
            }
        })
    }
}

// Blocks.

impl Codec<BlockPart> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<BlockPart, DecodeError> {
        limits::decode(&bytes, MESSAGE_BYTES_MAX)
    }

    fn encode(&self, part: &BlockPart) -> Result<Bytes, DecodeError> {
        encode(part)
    }
}

/// Bytes of a stream's name; ours are shorter.
const STREAM_ID_BYTES_MAX: usize = 64;

#[derive(BorshSerialize, BorshDeserialize)]
struct WireStream {
    id: Vec<u8>,
    sequence: u64,
    /// `None`: the end.
    part: Option<BlockPart>,
}

impl Codec<StreamMessage<BlockPart>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<StreamMessage<BlockPart>, DecodeError> {
        let wire: WireStream = limits::decode(&bytes, MESSAGE_BYTES_MAX)?;
        if wire.id.len() > STREAM_ID_BYTES_MAX {
            return Err(malformed("the name of a stream is too long"));
        }
        let content = wire.part.map_or(StreamContent::Fin, StreamContent::Data);
        Ok(StreamMessage::new(StreamId::new(wire.id.into()), wire.sequence, content))
    }

    fn encode(&self, message: &StreamMessage<BlockPart>) -> Result<Bytes, DecodeError> {
        let part = message.content.as_data().cloned();
        let id = message.stream_id.to_bytes().to_vec();
        encode(&WireStream { id, sequence: message.sequence, part })
    }
}

#[derive(BorshSerialize, BorshDeserialize)]
struct WireProposed {
    height: Height,
    round: u32,
    valid_round: Option<u32>,
    proposer: PublicKey,
    block: Hash32,
    valid: bool,
}

impl Codec<ProposedValue<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<ProposedValue<Consensus>, DecodeError> {
        let wire: WireProposed = decode(&bytes)?;
        Ok(ProposedValue {
            height: At(wire.height),
            round: Round::new(wire.round),
            valid_round: Round::from(wire.valid_round),
            proposer: Member(wire.proposer),
            value: BlockId(wire.block),
            validity: Validity::from_bool(wire.valid),
        })
    }

    fn encode(&self, proposed: &ProposedValue<Consensus>) -> Result<Bytes, DecodeError> {
        encode(&WireProposed {
            height: proposed.height.0,
            round: round_number(proposed.round),
            valid_round: proposed.valid_round.as_u32(),
            proposer: proposed.proposer.0,
            block: proposed.value.0,
            valid: proposed.validity.is_valid(),
        })
    }
}

// Who a peer is.

#[derive(BorshSerialize, BorshDeserialize)]
struct WireProof {
    public_key: PublicKey,
    peer_id: Vec<u8>,
    signature: Signature,
}

impl Codec<ValidatorProof<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<ValidatorProof<Consensus>, DecodeError> {
        let wire: WireProof = limits::decode(&bytes, 1024)?;
        Ok(ValidatorProof::new(wire.public_key.0.to_vec(), wire.peer_id, wire.signature))
    }

    fn encode(&self, proof: &ValidatorProof<Consensus>) -> Result<Bytes, DecodeError> {
        let key = proof.decoded_public_key().map_err(|error| malformed(&error.to_string()))?;
        let (peer_id, signature) = (proof.peer_id.clone(), proof.signature);
        encode(&WireProof { public_key: key, peer_id, signature })
    }
}

// Catching up.

/// The engine's certificate in our own form.
pub(crate) fn certificate(of: &CommitCertificate<Consensus>) -> Certificate {
    let signature = |of: &MalachiteCommit<Consensus>| CommitSignature {
        signer: of.address.0,
        signature: of.signature,
    };
    let mut signatures: Vec<_> = of.commit_signatures.iter().map(signature).collect();
    signatures.sort_unstable_by_key(|signature| signature.signer);
    signatures.dedup_by_key(|signature| signature.signer);
    Certificate {
        height: of.height.0,
        round: round_number(of.round),
        block: of.value_id.0,
        signatures,
    }
}

/// Our certificate in the engine's form.
pub(crate) fn extended(of: Certificate) -> ExtendedCommitCertificate<Consensus> {
    let signature = |of: CommitSignature| MalachiteCommit::new(Member(of.signer), of.signature);
    let certificate = CommitCertificate {
        height: At(of.height),
        round: Round::new(of.round),
        value_id: BlockId(of.block),
        commit_signatures: of.signatures.into_iter().map(signature).collect(),
    };
    ExtendedCommitCertificate::from_commit_certificate_and_extensions(
        certificate,
        VoteExtensions::new(Vec::new()),
    )
}

#[derive(BorshSerialize, BorshDeserialize)]
struct WireStatus {
    peer_id: Vec<u8>,
    tip: Height,
    first: Height,
}

impl Codec<Status<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<Status<Consensus>, DecodeError> {
        let wire: WireStatus = limits::decode(&bytes, 1024)?;
        let peer_id = PeerId::from_bytes(&wire.peer_id);
        let peer_id = peer_id.map_err(|error| malformed(&error.to_string()))?;
        Ok(Status { peer_id, tip_height: At(wire.tip), history_min_height: At(wire.first) })
    }

    fn encode(&self, status: &Status<Consensus>) -> Result<Bytes, DecodeError> {
        let (tip, first) = (status.tip_height.0, status.history_min_height.0);
        encode(&WireStatus { peer_id: status.peer_id.to_bytes(), tip, first })
    }
}

impl Codec<Request<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<Request<Consensus>, DecodeError> {
        let (start, end): (Height, Height) = limits::decode(&bytes, 64)?;
        Ok(Request::ValueRequest(ValueRequest { range: At(start)..=At(end) }))
    }

    fn encode(&self, request: &Request<Consensus>) -> Result<Bytes, DecodeError> {
        let Request::ValueRequest(ValueRequest { range }) = request;
        encode(&(range.start().0, range.end().0))
    }
}

#[derive(BorshSerialize, BorshDeserialize)]
struct WireDecided {
    block: Vec<u8>,
    certificate: Certificate,
}

#[derive(BorshSerialize, BorshDeserialize)]
struct WireResponse {
    start: Height,
    blocks: Vec<WireDecided>,
}

impl Codec<Response<Consensus>> for Borsh {
    type Error = DecodeError;

    fn decode(&self, bytes: Bytes) -> Result<Response<Consensus>, DecodeError> {
        let wire: WireResponse = decode(&bytes)?;
        let value = |of: WireDecided| RawDecidedValue {
            value_bytes: of.block.into(),
            certificate: extended(of.certificate),
        };
        let values = wire.blocks.into_iter().map(value).collect();
        Ok(Response::ValueResponse(ValueResponse { start_height: At(wire.start), values }))
    }

    fn encode(&self, response: &Response<Consensus>) -> Result<Bytes, DecodeError> {
        let Response::ValueResponse(ValueResponse { start_height, values }) = response;
        let block = |of: &RawDecidedValue<Consensus>| WireDecided {
            block: of.value_bytes.to_vec(),
            certificate: certificate(&of.certificate.trim_vote_extensions()),
        };
        encode(&WireResponse { start: start_height.0, blocks: values.iter().map(block).collect() })
    }
}

impl HasEncodedLen<Response<Consensus>> for Borsh {
    fn encoded_len(&self, response: &Response<Consensus>) -> Result<usize, DecodeError> {
        Ok(self.encode(response)?.len())
    }
}

/// For fuzzers: whether bytes that came on one of the engine's channels are a message. 0: votes and
/// proposals, 1: what keeps rounds going, 2: blocks, 3: where a peer stands, 4: requests for decided
/// blocks, 5: answers to them, 6: proofs of validators.
///
/// # Panics
/// If a message that was read cannot be written and read again.
pub fn reads(channel: u8, bytes: &[u8]) -> bool {
    fn through<T>(bytes: &[u8]) -> bool
    where
        Borsh: Codec<T, Error = DecodeError>,
    {
        let read: Result<T, DecodeError> = Borsh.decode(Bytes::copy_from_slice(bytes));
        let Ok(message) = read else { return false };
        let again = Borsh.encode(&message).and_then(|written| Borsh.decode(written));
        assert!(again.is_ok(), "a message that was read cannot be written and read again");
        true
    }
    match channel {
        0 => through::<SignedConsensusMsg<Consensus>>(bytes),
        1 => through::<LivenessMsg<Consensus>>(bytes),
        2 => through::<StreamMessage<BlockPart>>(bytes),
        3 => through::<Status<Consensus>>(bytes),
        4 => through::<Request<Consensus>>(bytes),
        5 => through::<Response<Consensus>>(bytes),
        6 => through::<ValidatorProof<Consensus>>(bytes),
        _ => false,
    }
}
