//! Names of things: keys, accounts, chains, channels, models, requests, heights and times.

use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp};
use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Hash32, hex_newtype, order_by_bytes, serde_as_text, sha256},
    limits,
};

/// An ed25519 public key (32 bytes, hexadecimal).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct PublicKey(pub [u8; 32]);
hex_newtype!(PublicKey, 32, "public key");

/// An ed25519 signature (64 bytes, hexadecimal).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);
hex_newtype!(Signature, 64, "signature");

/// An account: the first 20 bytes of the SHA-256 of a domain-tagged public key, or a module's name.
/// Shown as bech32m with the prefix `watt`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct Address(pub [u8; 20]);
order_by_bytes!(Address);

const MODULE_PREFIX: &[u8] = b"peerwatt/";
const ADDRESS_PREFIX: Hrp = Hrp::parse_unchecked("watt");

impl Address {
    /// The account that `key` controls.
    pub fn of_key(key: &PublicKey) -> Address {
        Address::truncate(sha256(&[b"peerwatt/address/key\0", &key.0]))
    }

    /// What a gateway calls a service outside the network. No key controls it, and the ledger does not know it.
    pub fn of_upstream(gateway: &PublicKey, name: &str) -> Address {
        Address::truncate(sha256(&[b"peerwatt/address/upstream\0", &gateway.0, name.as_bytes()]))
    }

    /// The account of a part of the ledger itself, which no key controls: `peerwatt/`, the first 11
    /// characters of its name, zeros. A key whose digest began like this will not be found.
    #[expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "evaluated at compile time, and guarded by the comparisons"
    )]
    pub const fn of_module(name: &str) -> Address {
        let (prefix, name) = (MODULE_PREFIX, name.as_bytes());
        let mut bytes = [0; 20];
        let mut at = 0;
        while at < bytes.len() {
            bytes[at] = if at < prefix.len() {
                prefix[at]
            } else if at - prefix.len() < name.len() {
                name[at - prefix.len()]
            } else {
                0
            };
            at += 1;
        }
        Address(bytes)
    }

    /// Whether it is one of [`Address::of_module`].
    pub fn is_module(&self) -> bool {
        self.0.starts_with(MODULE_PREFIX)
    }

    fn truncate(digest: Hash32) -> Address {
        let mut bytes = [0; 20];
        for (to, from) in bytes.iter_mut().zip(digest.0) {
            *to = from;
        }
        Address(bytes)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bech32::encode_to_fmt::<Bech32m, _>(f, ADDRESS_PREFIX, &self.0).map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl FromStr for Address {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Address, ParseIdError> {
        let bad = || ParseIdError::Address { text: text.chars().take(80).collect() };
        let checked = bech32::primitives::decode::CheckedHrpstring::new::<Bech32m>(text)
            .map_err(|_| bad())?;
        if checked.hrp() != ADDRESS_PREFIX {
            return Err(bad());
        }
        let bytes: Vec<u8> = checked.byte_iter().collect();
        bytes.try_into().map(Address).map_err(|_| bad())
    }
}
serde_as_text!(Address);

/// Names one network. 1 to 48 characters of `a-z 0-9 . -`. Bound into every signature.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct ChainId(String);

impl ChainId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChainId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<ChainId, ParseIdError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if text.is_empty() || text.len() > limits::CHAIN_ID_BYTES_MAX || !text.chars().all(plain) {
            return Err(ParseIdError::ChainId);
        }
        Ok(ChainId(text.to_owned()))
    }
}

impl BorshDeserialize for ChainId {
    fn deserialize_reader<R: borsh::io::Read>(reader: &mut R) -> borsh::io::Result<ChainId> {
        let text = limits::read_string(reader, limits::CHAIN_ID_BYTES_MAX)?;
        text.parse().map_err(|error: ParseIdError| {
            borsh::io::Error::new(borsh::io::ErrorKind::InvalidData, error.to_string())
        })
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainId({})", self.0)
    }
}
serde_as_text!(ChainId);

/// One payment channel; the digest of everything that defines it, see [`crate::channel::ChannelTerms`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct ChannelId(pub [u8; 32]);
order_by_bytes!(ChannelId);
hex_newtype!(ChannelId, 32, "channel id");

/// A model by content: `H(sha256 of the GGUF file, sha256 of the chat template)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct ModelId(pub [u8; 32]);
hex_newtype!(ModelId, 32, "model id");

impl ModelId {
    /// The identity of the weights in a file together with the template that wraps a chat.
    /// An engine that cannot say which template it uses passes the digest of nothing.
    pub fn of(weights: &Hash32, chat_template: &Hash32) -> ModelId {
        ModelId(sha256(&[b"peerwatt/model\0", &weights.0, &chat_template.0]).0)
    }
}

/// One request of a consumer, chosen at random by the gateway (16 bytes, hexadecimal).
/// A retry on another provider keeps the id and raises the attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct RequestId(pub [u8; 16]);
hex_newtype!(RequestId, 16, "request id");

/// A transaction: the digest of its canonical signed bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct TxId(pub [u8; 32]);
hex_newtype!(TxId, 32, "transaction id");

/// Newtypes over one integer.
macro_rules! integer_newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

integer_newtype!(
    /// Number of a block. The state before the first block has height 0.
    Height(u64)
);
integer_newtype!(
    /// Milliseconds since the Unix epoch, always an input, never read in `core/`.
    TimeMs(u64)
);
integer_newtype!(
    /// Number of a transaction of one account, from 0, without gaps.
    Nonce(u64)
);
integer_newtype!(
    /// One of the independent running totals of a channel. A request uses one lane at a time.
    Lane(u32)
);

impl Height {
    /// The next height; saturates, which at one block a millisecond takes 580 million years.
    pub fn next(self) -> Height {
        Height(self.0.saturating_add(1))
    }
}

impl TimeMs {
    /// `self + ms`, saturating.
    pub fn plus_ms(self, ms: u64) -> TimeMs {
        TimeMs(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`, 0 if it is later.
    pub fn ms_since(self, earlier: TimeMs) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Why a text is not the id it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseIdError {
    #[error("a {what} is {digits} hexadecimal digits")]
    Hex { what: &'static str, digits: usize },
    #[error(
        "`{text}` is not an address: it starts with `watt1` and ends with a checksum; copy it whole"
    )]
    Address { text: String },
    #[error("an operator is written `validator/ADDRESS` or `provider/ADDRESS`")]
    Operator,
    #[error("a commitment is written `ADDRESS/NUMBER`")]
    Commitment,
    #[error("a kind of machine is cpu_x86, cpu_arm, cuda_mmq, cuda_cublas, metal, vulkan or rocm")]
    Backend,
    #[error("a chain id is 1 to 48 characters of a-z, 0-9, `.` and `-`")]
    ChainId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips_and_a_typo_is_refused() {
        let address = Address::of_key(&PublicKey([7; 32]));
        let text = address.to_string();
        assert!(text.starts_with("watt1"), "{text}");
        assert_eq!(text.parse(), Ok(address));
        let typo = text.replace(&text[10..11], if &text[10..11] == "q" { "p" } else { "q" });
        assert!(typo.parse::<Address>().is_err());
        assert!("".parse::<Address>().is_err());
    }

    #[test]
    fn a_chain_id_is_short_and_plain() {
        assert!("peerwatt-local.1".parse::<ChainId>().is_ok());
        for bad in ["", "A", "a b", "ü", &"x".repeat(49)] {
            assert_eq!(bad.parse::<ChainId>(), Err(ParseIdError::ChainId), "{bad}");
        }
    }
}
