//! What nodes tell each other besides consensus: transactions that wait, how far they are, and what a node
//! needs that begins with a snapshot. Whoever
//! carries it (the validator, over the transport of its choice) holds the other ends.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize, io};
use light::LightBlock;
use replication::{gossip::GossipLimits, sync::Manifest};
use tokio::sync::mpsc;
use types::{Height, PublicKey, consensus::Certificate, limits::TX_BYTES_MAX};

/// Transactions in one message.
const TXS_MAX: usize = 4_096;
/// Bytes of one message: more than a node of ours ever puts into one.
pub const PEER_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Peers that a replica talks to at once.
pub const PEERS_MAX: usize = GossipLimits::STANDARD.peers_max;
/// Events and commands that may wait.
const QUEUE_MAX: usize = 1_024;

/// A message between two nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// Transactions that the other may not know.
    Txs(Vec<Arc<[u8]>>),
    /// The newest block that the sender knows to be decided, with the proof.
    Decided(Certificate),
    /// Asks for the newest snapshot of the state.
    SnapshotWanted,
    /// The newest snapshot that the sender has.
    Snapshot(Manifest),
    ChunkWanted {
        height: Height,
        index: u32,
    },
    /// A part of the snapshot of that height. `None`: it is not there, or not any more.
    Chunk {
        height: Height,
        index: u32,
        bytes: Option<Vec<u8>>,
    },
    HeaderWanted {
        height: Height,
    },
    /// The header of that height and what proves it. `None`: it is not there.
    Header {
        height: Height,
        block: Option<Box<LightBlock>>,
    },
}

impl BorshSerialize for PeerMessage {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self {
            PeerMessage::Txs(txs) => {
                let slices: Vec<&[u8]> = txs.iter().map(AsRef::as_ref).collect();
                (0u8, slices).serialize(writer)
            }
            PeerMessage::Decided(certificate) => (1u8, certificate).serialize(writer),
            PeerMessage::SnapshotWanted => 2u8.serialize(writer),
            PeerMessage::Snapshot(manifest) => (3u8, manifest).serialize(writer),
            PeerMessage::ChunkWanted { height, index } => (4u8, height, index).serialize(writer),
            PeerMessage::Chunk { height, index, bytes } => {
                (5u8, height, index, bytes).serialize(writer)
            }
            PeerMessage::HeaderWanted { height } => (6u8, height).serialize(writer),
            PeerMessage::Header { height, block } => (7u8, height, block).serialize(writer),
        }
    }
}

impl BorshDeserialize for PeerMessage {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<PeerMessage> {
        match u8::deserialize_reader(reader)? {
            0 => {
                let count = read_len(reader, TXS_MAX)?;
                (0..count).map(|_| read_tx(reader)).collect::<io::Result<_>>().map(PeerMessage::Txs)
            }
            1 => Certificate::deserialize_reader(reader).map(PeerMessage::Decided),
            2 => Ok(PeerMessage::SnapshotWanted),
            3 => Manifest::deserialize_reader(reader).map(PeerMessage::Snapshot),
            4 => {
                let (height, index) = BorshDeserialize::deserialize_reader(reader)?;
                Ok(PeerMessage::ChunkWanted { height, index })
            }
            5 => {
                let (height, index, bytes) = BorshDeserialize::deserialize_reader(reader)?;
                Ok(PeerMessage::Chunk { height, index, bytes })
            }
            6 => {
                let height = Height::deserialize_reader(reader)?;
                Ok(PeerMessage::HeaderWanted { height })
            }
            7 => {
                let (height, block) = BorshDeserialize::deserialize_reader(reader)?;
                Ok(PeerMessage::Header { height, block })
            }
            _ => Err(invalid("a message of an unknown kind")),
        }
    }
}

fn read_len<R: io::Read>(reader: &mut R, max: usize) -> io::Result<usize> {
    let len = usize::try_from(u32::deserialize_reader(reader)?).unwrap_or(usize::MAX);
    if len > max { Err(invalid("a part of a message is too long")) } else { Ok(len) }
}

fn read_tx<R: io::Read>(reader: &mut R) -> io::Result<Arc<[u8]>> {
    let mut bytes = vec![0; read_len(reader, TX_BYTES_MAX)?];
    reader.read_exact(&mut bytes)?;
    Ok(bytes.into())
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Something about a peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerEvent {
    /// Its transport key.
    pub peer: PublicKey,
    pub said: PeerSaid,
}

/// What happened to a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerSaid {
    Connected,
    Gone,
    Message(PeerMessage),
}

/// What is to be done with a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerCommand {
    Send {
        peer: PublicKey,
        message: PeerMessage,
    },
    /// Close it; the peer broke a rule.
    Drop {
        peer: PublicKey,
        why: String,
    },
    /// Close it; the peer did nothing wrong and may come back.
    Close {
        peer: PublicKey,
        why: String,
    },
}

/// The replica's ends.
#[derive(Debug)]
pub(crate) struct PeerEnds {
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) commands: mpsc::Sender<PeerCommand>,
}

/// The carrier's ends.
#[derive(Debug)]
pub struct PeerLinks {
    pub events: mpsc::Sender<PeerEvent>,
    pub commands: mpsc::Receiver<PeerCommand>,
}

pub(crate) fn channels() -> (PeerEnds, PeerLinks) {
    let (events_in, events) = mpsc::channel(QUEUE_MAX);
    let (commands, commands_out) = mpsc::channel(QUEUE_MAX);
    (PeerEnds { events, commands }, PeerLinks { events: events_in, commands: commands_out })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use replication::sync::SyncLimits;
    use types::{
        Hash32, Height, TimeMs,
        block::BlockHeader,
        consensus::{ValidatorPower, ValidatorSet},
        limits,
    };

    use super::*;

    #[test]
    fn messages_round_trip_and_lies_about_lengths_are_refused() {
        let txs: Vec<Arc<[u8]>> = vec![[1, 2, 3].as_slice().into(), [].as_slice().into()];
        let certificate =
            Certificate { height: Height(7), round: 0, block: Hash32([1; 32]), signatures: vec![] };
        let header = BlockHeader {
            height: Height(7),
            time: TimeMs(1),
            parent: Hash32([2; 32]),
            txs_root: Hash32([3; 32]),
            last_certificate: Hash32([4; 32]),
            validators: Hash32([5; 32]),
            next_validators: Hash32([6; 32]),
            app_hash: Hash32([7; 32]),
            proposer: PublicKey([8; 32]),
        };
        let validators = ValidatorSet::new([ValidatorPower { key: PublicKey([8; 32]), power: 3 }]);
        let block = LightBlock { header, certificate: certificate.clone(), validators };
        let (height, index) = (Height(7), 3);
        for message in [
            PeerMessage::Txs(txs),
            PeerMessage::Decided(certificate),
            PeerMessage::SnapshotWanted,
            PeerMessage::Snapshot(Manifest::of(height, &[1; 100], 30)),
            PeerMessage::ChunkWanted { height, index },
            PeerMessage::Chunk { height, index, bytes: Some(vec![1; 100]) },
            PeerMessage::Chunk { height, index, bytes: None },
            PeerMessage::HeaderWanted { height },
            PeerMessage::Header { height, block: Some(Box::new(block)) },
            PeerMessage::Header { height, block: None },
        ] {
            let bytes = borsh::to_vec(&message).unwrap();
            assert_eq!(limits::decode(&bytes, PEER_MESSAGE_BYTES_MAX), Ok(message));
        }
        let many = [&[0u8][..], &u32::MAX.to_le_bytes()].concat();
        let long = [&[0u8][..], &1u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        for bad in [many, long, vec![3], vec![9], vec![]] {
            assert!(limits::decode::<PeerMessage>(&bad, PEER_MESSAGE_BYTES_MAX).is_err());
        }
    }

    /// The longest that an honest node sends fit a message.
    #[test]
    fn a_chunk_and_a_manifest_fit_a_message() {
        let limits = SyncLimits::STANDARD;
        let chunk = vec![0; limits.chunk_bytes_max];
        let chunk = PeerMessage::Chunk { height: Height(1), index: 0, bytes: Some(chunk) };
        let chunks = vec![Hash32([0; 32]); limits.chunks_max];
        let manifest = Manifest { height: Height(1), bytes: u64::MAX, chunks };
        for message in [chunk, PeerMessage::Snapshot(manifest)] {
            assert!(borsh::to_vec(&message).unwrap().len() <= PEER_MESSAGE_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn whatever_a_peer_sends_is_a_message_or_an_error(
            kind in 0u8..10,
            bytes in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let bytes = [&[kind][..], &bytes].concat();
            if let Ok(message) = limits::decode::<PeerMessage>(&bytes, PEER_MESSAGE_BYTES_MAX) {
                prop_assert_eq!(borsh::to_vec(&message).unwrap(), bytes);
            }
        }
    }
}
