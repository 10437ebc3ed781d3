//! What nodes send each other: transactions, snapshots and headers on the one connection, consensus on
//! the engine's channels.

use replica::{PEER_MESSAGE_BYTES_MAX, PeerMessage, reads_engine_message};
use replication::sync::Manifest;
use types::{
    Hash32, Height, PublicKey, Signature,
    consensus::{Certificate, CommitSignature, ConsensusProposal, ConsensusVote, VoteKind},
    limits,
};

use crate::{network::signed, statements};

pub(crate) fn peer_message(bytes: &[u8]) -> bool {
    let Ok(message) = limits::decode::<PeerMessage>(bytes, PEER_MESSAGE_BYTES_MAX) else {
        return false;
    };
    assert_eq!(encoded(&message), bytes, "a message has two forms");
    true
}

pub(crate) fn peer_message_seeds() -> Vec<Vec<u8>> {
    let (height, index) = (Height(500), 3);
    let block = statements::light_block_seed();
    let messages = [
        PeerMessage::Txs(vec![[1, 2, 3].as_slice().into(), [].as_slice().into()]),
        PeerMessage::Decided(certificate()),
        PeerMessage::SnapshotWanted,
        PeerMessage::Snapshot(Manifest::of(height, &[1; 100], 30)),
        PeerMessage::ChunkWanted { height, index },
        PeerMessage::Chunk { height, index, bytes: Some(vec![1; 100]) },
        PeerMessage::HeaderWanted { height },
        PeerMessage::Header { height, block: Some(Box::new(block)) },
    ];
    messages.iter().map(encoded).collect()
}

/// The first byte says on which channel the rest came.
pub(crate) fn engine_message(bytes: &[u8]) -> bool {
    bytes.split_first().is_some_and(|(channel, bytes)| reads_engine_message(*channel, bytes))
}

pub(crate) fn engine_message_seeds() -> Vec<Vec<u8>> {
    let (height, block) = (Height(7), Hash32([3; 32]));
    let signer = PublicKey([1; 32]);
    let vote = ConsensusVote { kind: VoteKind::Prevote, height, round: 2, block: Some(block) };
    let proposal = ConsensusProposal { height, round: 2, valid_round: Some(1), block };
    vec![
        encoded(&(0u8, 0u8, signed(vote, signer))),
        encoded(&(0u8, 1u8, signed(proposal, signer))),
        encoded(&(1u8, 0u8, signed(vote, signer))),
        encoded(&(1u8, 1u8, certificate())),
        encoded(&(4u8, height, Height(9))),
        encoded(&(5u8, height, vec![(vec![1u8; 40], certificate())])),
    ]
}

fn certificate() -> Certificate {
    let signature = CommitSignature { signer: PublicKey([1; 32]), signature: Signature([2; 64]) };
    Certificate { height: Height(7), round: 1, block: Hash32([3; 32]), signatures: vec![signature] }
}

fn encoded<T: borsh::BorshSerialize>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("memory takes everything")
}
