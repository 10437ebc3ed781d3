//! A validator that sends garbage, floods, contradicts itself, and lies about heights, blocks and
//! snapshots. It comes back whenever it was dropped.

use replication::sync::Manifest;
use types::{Hash32, Height};

use crate::{
    toy::{App, Block, Kind, Tx},
    world::{CHUNK_BYTES, Event, Message, World},
};

impl World {
    /// Does something bad to somebody.
    pub(crate) fn lie(&mut self) {
        if !self.lying {
            return;
        }
        let ms = 10 + self.random.below(60);
        self.after(ms, Event::Lie);
        let liar = self.liar;
        let all: Vec<u8> = self.hosts.keys().copied().collect();
        let victim = self.random.pick(&all).unwrap();
        if !self.peers(liar).contains(&victim) {
            let ms = self.random.below(300);
            self.after(ms, Event::Connect { a: liar, b: victim });
            return;
        }
        let tip = self.chain.len() as u64;
        match self.random.below(12) {
            0 => self.send(liar, victim, Message::Txs(vec![vec![7; 40].into()])),
            1 => {
                let unsigned = Tx { signed: false, ..self.own_tx(0) };
                self.send(liar, victim, Message::Txs(vec![unsigned.encode()]));
            }
            2 => {
                let large = (0..11).map(|n| self.own_tx(n).encode()).collect();
                self.send(liar, victim, Message::Txs(large));
            }
            3 | 4 => {
                // The same again and again: nothing is wrong with it but how often it comes.
                for _ in 0..100 {
                    let batch = (0..10).map(|n| self.own_tx(n).encode()).collect();
                    self.send(liar, victim, Message::Txs(batch));
                }
            }
            5 => self.send(liar, victim, Message::At(u64::MAX)),
            6 => self.send(liar, victim, Message::At(tip + 1)),
            7 => {
                let forged = Block {
                    height: tip + self.random.below(2),
                    time: self.now,
                    txs: vec![self.own_tx(0).encode().to_vec()],
                    app_hash: Hash32([9; 32]),
                };
                self.send(liar, victim, Message::Block(forged));
            }
            8 => {
                let tx = self.own_tx(self.state.next_nonce(liar));
                self.send(liar, victim, Message::Txs(vec![tx.encode()]));
            }
            _ => self.flatter(victim),
        }
    }

    /// Offers a snapshot that is not what it should be.
    pub(crate) fn flatter(&mut self, victim: u8) {
        let tip = self.chain.len() as u64;
        let offer = self.false_offer(tip);
        self.send(self.liar, victim, Message::Offer(offer));
    }

    fn own_tx(&self, nonce: u64) -> Tx {
        Tx {
            sender: self.liar,
            nonce,
            tip: 5_000,
            valid_until: None,
            kind: Kind::Plain,
            padding: Vec::new(),
            signed: true,
        }
    }

    fn false_offer(&mut self, tip: u64) -> Manifest {
        match self.random.below(4) {
            // Of the future.
            0 => Manifest::of(Height(tip + 5), &self.false_state(), CHUNK_BYTES),
            // Of the last block, and of another state.
            1 => Manifest::of(Height(tip), &self.false_state(), CHUNK_BYTES),
            // Larger than anything that there may be.
            2 => Manifest { height: Height(tip), bytes: u64::MAX, chunks: Vec::new() },
            // The right one, of which it will give wrong parts.
            _ => Manifest::of(Height(tip), &borsh::to_vec(&self.state).unwrap(), CHUNK_BYTES),
        }
    }

    /// Everything as it is, but for its own weight.
    fn false_state(&self) -> Vec<u8> {
        let mut state: App = self.state.clone();
        state.powers.insert(self.liar, 1_000_000);
        borsh::to_vec(&state).unwrap()
    }

    /// Answers what it is asked: what it offered, something else, or not at all.
    pub(crate) fn mislead(&mut self, from: u8, message: Message) {
        let liar = self.liar;
        match message {
            Message::AskChunk { height, index } => {
                let bytes = match self.random.below(4) {
                    0 => return,
                    1 => vec![1; CHUNK_BYTES],
                    _ => {
                        let state = self.false_state();
                        state.chunks(CHUNK_BYTES).nth(index as usize).unwrap_or_default().to_vec()
                    }
                };
                self.send(liar, from, Message::Chunk { height, index, bytes });
            }
            Message::AskBlock(height) => {
                let app_hash = Hash32([height as u8; 32]);
                let block = Block { height, time: self.now, txs: Vec::new(), app_hash };
                self.send(liar, from, Message::Block(block));
            }
            Message::Txs(_)
            | Message::At(_)
            | Message::Block(_)
            | Message::Offer(_)
            | Message::Chunk { .. }
            | Message::NoChunk { .. } => {}
        }
    }
}
