//! A ledger that is just enough: a nonce for each sender, weights of validators, who was punished,
//! and a digest of everything that was ever applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use borsh::{BorshDeserialize, BorshSerialize};
use replication::Transaction;
use types::{Address, Hash32, Nonce, PublicKey, TimeMs, TxId, Watt, hash::sha256};

/// How far ahead of its account a transaction may be.
const AHEAD_MAX: u64 = 16;

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Tx {
    pub(crate) sender: u8,
    pub(crate) nonce: u64,
    pub(crate) tip: u64,
    pub(crate) valid_until: Option<u64>,
    pub(crate) kind: Kind,
    pub(crate) padding: Vec<u8>,
    /// Stands for a signature.
    pub(crate) signed: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Kind {
    Plain,
    SetPower { node: u8, power: u64 },
    Punish { node: u8, height: u64 },
}

/// A transaction whose signature was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) tx: Tx,
    id: TxId,
}

impl Tx {
    pub(crate) fn encode(&self) -> Arc<[u8]> {
        borsh::to_vec(self).unwrap().into()
    }
}

pub(crate) fn tx_id(bytes: &[u8]) -> TxId {
    TxId(sha256(&[bytes]).0)
}

pub(crate) fn account(sender: u8) -> Address {
    Address::of_key(&key(sender))
}

pub(crate) fn key(of: u8) -> PublicKey {
    PublicKey([of; 32])
}

impl Checked {
    pub(crate) fn of(bytes: &[u8]) -> Option<Checked> {
        let tx: Tx = borsh::from_slice(bytes).ok()?;
        tx.signed.then(|| Checked { tx, id: tx_id(bytes) })
    }
}

impl Transaction for Checked {
    fn id(&self) -> TxId {
        self.id
    }

    fn sender(&self) -> Address {
        account(self.tx.sender)
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.tx.nonce)
    }

    fn tip(&self) -> Watt {
        Watt(u128::from(self.tx.tip))
    }

    fn valid_until(&self) -> Option<TimeMs> {
        self.tx.valid_until.map(TimeMs)
    }
}

#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) struct Block {
    pub(crate) height: u64,
    pub(crate) time: u64,
    pub(crate) txs: Vec<Vec<u8>>,
    pub(crate) app_hash: Hash32,
}

impl Block {
    pub(crate) fn hash(&self) -> Hash32 {
        sha256(&[&borsh::to_vec(self).unwrap()])
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub(crate) struct App {
    pub(crate) height: u64,
    pub(crate) time: u64,
    nonces: BTreeMap<u8, u64>,
    pub(crate) powers: BTreeMap<u8, u64>,
    pub(crate) punished: BTreeSet<(u8, u64)>,
    digest: [u8; 32],
}

impl App {
    pub(crate) fn genesis(powers: BTreeMap<u8, u64>) -> App {
        App { powers, ..App::default() }
    }

    pub(crate) fn hash(&self) -> Hash32 {
        sha256(&[&borsh::to_vec(self).unwrap()])
    }

    pub(crate) fn next_nonce(&self, sender: u8) -> u64 {
        self.nonces.get(&sender).copied().unwrap_or(0)
    }

    pub(crate) fn nonces(&self) -> impl Iterator<Item = (u8, u64)> {
        self.nonces.iter().map(|(sender, nonce)| (*sender, *nonce))
    }

    pub(crate) fn power(&self, node: u8) -> u64 {
        self.powers.get(&node).copied().unwrap_or(0)
    }

    /// How many transactions of its sender come before it. `None`: it will never be valid.
    pub(crate) fn check(&self, tx: &Tx) -> Option<u64> {
        let fits = self.fits(tx, self.time);
        let ahead = tx.nonce.checked_sub(self.next_nonce(tx.sender))?;
        (fits && ahead <= AHEAD_MAX).then_some(ahead)
    }

    /// Whether it could be in a block of this time, if it is its turn.
    pub(crate) fn fits(&self, tx: &Tx, time: u64) -> bool {
        let repeated = matches!(tx.kind, Kind::Punish { node, height } if self.punished.contains(&(node, height)));
        !repeated && tx.valid_until.is_none_or(|until| time <= until)
    }

    /// False, and nothing changed, if it has no place in a block of this time.
    pub(crate) fn apply(&mut self, tx: &Checked, time: u64) -> bool {
        let next = self.next_nonce(tx.tx.sender);
        if tx.tx.nonce != next || !self.fits(&tx.tx, time) {
            return false;
        }
        self.nonces.insert(tx.tx.sender, next + 1);
        self.digest = sha256(&[&self.digest, &tx.id.0]).0;
        match tx.tx.kind {
            Kind::Plain => {}
            Kind::SetPower { node, power } => {
                self.powers.insert(node, power);
            }
            Kind::Punish { node, height } => {
                self.powers.insert(node, 0);
                self.punished.insert((node, height));
            }
        }
        true
    }

    pub(crate) fn execute(&mut self, block: &Block) {
        assert_eq!(block.height, self.height + 1);
        for bytes in &block.txs {
            assert!(
                self.apply(&Checked::of(bytes).unwrap(), block.time),
                "a decided block is valid"
            );
        }
        self.end(block.height, block.time);
        assert_eq!(self.hash(), block.app_hash, "everybody comes to the same state");
    }

    pub(crate) fn end(&mut self, height: u64, time: u64) {
        (self.height, self.time) = (height, time);
    }
}
