//! What nodes tell each other besides consensus: transactions that wait, and how far they are. Whoever
//! carries it (the validator, over the transport of its choice) holds the other ends.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize, io};
use tokio::sync::mpsc;
use types::{PublicKey, consensus::Certificate, limits::TX_BYTES_MAX};

/// Transactions in one message.
const TXS_MAX: usize = 4_096;
/// Bytes of one message: more than a node of ours ever puts into one.
pub const PEER_MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Events and commands that may wait.
const QUEUE_MAX: usize = 1_024;

/// A message between two nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// Transactions that the other may not know.
    Txs(Vec<Arc<[u8]>>),
    /// The newest block that the sender knows to be decided, with the proof.
    Decided(Certificate),
}

impl BorshSerialize for PeerMessage {
    fn serialize<W: io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self {
            PeerMessage::Txs(txs) => {
                let slices: Vec<&[u8]> = txs.iter().map(AsRef::as_ref).collect();
                (0u8, slices).serialize(writer)
            }
            PeerMessage::Decided(certificate) => (1u8, certificate).serialize(writer),
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
}

/// The replica's ends.
#[derive(Debug)]
pub(crate) struct PeerEnds {
    pub(crate) events: mpsc::Receiver<PeerEvent>,
    pub(crate) commands: mpsc::Sender<PeerCommand>,
}

/// The carrier's ends. A test may hold the replica's instead of a replica.
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
    use types::{Hash32, Height, limits};

    use super::*;

    #[test]
    fn messages_round_trip_and_lies_about_lengths_are_refused() {
        let txs: Vec<Arc<[u8]>> = vec![[1, 2, 3].as_slice().into(), [].as_slice().into()];
        let certificate =
            Certificate { height: Height(7), round: 0, block: Hash32([1; 32]), signatures: vec![] };
        for message in [PeerMessage::Txs(txs), PeerMessage::Decided(certificate)] {
            let bytes = borsh::to_vec(&message).unwrap();
            assert_eq!(limits::decode(&bytes, PEER_MESSAGE_BYTES_MAX), Ok(message));
        }
        let many = [&[0u8][..], &u32::MAX.to_le_bytes()].concat();
        let long = [&[0u8][..], &1u32.to_le_bytes(), &u32::MAX.to_le_bytes()].concat();
        for bad in [many, long, vec![2], vec![]] {
            assert!(limits::decode::<PeerMessage>(&bad, PEER_MESSAGE_BYTES_MAX).is_err());
        }
    }
}
