//! Digests of 32 bytes and their hexadecimal form: SHA-256, and BLAKE3 for what may be long and is hashed while somebody waits.

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

/// A digest. Shown and parsed as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, BorshSerialize, BorshDeserialize)]
pub struct Hash32(pub [u8; 32]);

/// The digest of the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> Hash32 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    Hash32(hasher.finalize().into())
}

/// The digest of the concatenation of `parts` and the canonical form of `value`, without a copy of its bytes.
pub fn sha256_of(parts: &[&[u8]], value: &impl BorshSerialize) -> Hash32 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    write_to(|bytes| hasher.update(bytes), value);
    Hash32(hasher.finalize().into())
}

/// The same by BLAKE3: for requests, whose prompts may be long, a few times as fast.
pub fn blake3_of(parts: &[&[u8]], value: &impl BorshSerialize) -> Hash32 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let update = |bytes: &[u8]| {
        hasher.update(bytes);
    };
    write_to(update, value);
    Hash32(hasher.finalize().into())
}

/// Hashing cannot fail; an object that did would hash as a part of it.
fn write_to(update: impl FnMut(&[u8]), value: &impl BorshSerialize) {
    let written = borsh::to_writer(Hashing(update), value);
    debug_assert!(written.is_ok());
}

/// Hashes what is written.
struct Hashing<Update>(Update);

impl<Update: FnMut(&[u8])> borsh::io::Write for Hashing<Update> {
    fn write(&mut self, bytes: &[u8]) -> borsh::io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> borsh::io::Result<()> {
        Ok(())
    }
}

/// A digest that is fed piece by piece: a response as it streams, a file as it is read.
#[derive(Clone, Default)]
pub struct StreamHash(Sha256);

impl StreamHash {
    /// Appends `bytes` to what is hashed.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything fed so far.
    pub fn finish(&self) -> Hash32 {
        Hash32(self.0.clone().finalize().into())
    }
}

/// The Merkle root of `leaves` (RFC 6962 shape: leaf prefix 0, node prefix 1, an odd node moves up).
/// The root of no leaves is the digest of nothing.
pub fn merkle_root(leaves: &[Hash32]) -> Hash32 {
    if leaves.is_empty() {
        return sha256(&[]);
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => sha256(&[&[1], &left.0, &right.0]),
                [single] => *single,
                _ => sha256(&[]),
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}

/// The digest of one Merkle leaf.
pub fn merkle_leaf(bytes: &[u8]) -> Hash32 {
    sha256(&[&[0], bytes])
}

/// Lowercase hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Exactly `N` bytes from `2 N` hexadecimal digits of either case.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N.checked_mul(2)? {
        return None;
    }
    let nibble =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

/// `Display`, `Debug`, `FromStr` and serde as lowercase hexadecimal, for newtypes over `[u8; N]`.
macro_rules! hex_newtype {
    ($name:ident, $len:literal, $what:literal) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&$crate::hash::to_hex(&self.0))
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::id::ParseIdError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::hash::from_hex::<$len>(text)
                    .map($name)
                    .ok_or($crate::id::ParseIdError::Hex { what: $what, digits: $len * 2 })
            }
        }
        $crate::hash::serde_as_text!($name);
    };
}

/// Serde through `Display` and `FromStr`.
macro_rules! serde_as_text {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The order of the bytes, for newtypes over arrays of digests: two of them nearly always differ in
/// the first eight bytes, and comparing those as a number saves a call for every step of every search.
macro_rules! order_by_bytes {
    ($name:ident) => {
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                let head = |bytes: &[u8]| bytes.first_chunk().copied().map(u64::from_be_bytes);
                head(&self.0).cmp(&head(&other.0)).then_with(|| self.0.cmp(&other.0))
            }
        }
        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

pub(crate) use {hex_newtype, order_by_bytes, serde_as_text};

hex_newtype!(Hash32, 32, "digest");
order_by_bytes!(Hash32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_round_trips_and_refuses_other_lengths() {
        let digest = sha256(&[b"a", b"bc"]);
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(from_hex::<2>("0aF"), None);
        assert_eq!(from_hex::<2>("0aFg"), None);
        assert_eq!(from_hex::<2>("0aFf"), Some([10, 255]));
    }

    #[test]
    fn an_object_is_hashed_by_its_canonical_form() {
        let value = (7_u32, "text".to_owned(), vec![Some(1_u8), None]);
        let bytes = borsh::to_vec(&value).unwrap();
        assert_eq!(sha256_of(&[b"of", b" it"], &value), sha256(&[b"of it", &bytes]));
        let whole = [b"of it".as_slice(), &bytes].concat();
        assert_eq!(blake3_of(&[b"of", b" it"], &value).0, *blake3::hash(&whole).as_bytes());
    }

    #[test]
    fn digests_are_ordered_as_their_bytes() {
        let digest = |first: u8, eighth: u8, ninth: u8, last: u8| {
            let mut bytes = [0x80; 32];
            (bytes[0], bytes[7], bytes[8], bytes[31]) = (first, eighth, ninth, last);
            Hash32(bytes)
        };
        let of = |n: usize| [0, 1, 0x7f, 0xff][n & 3];
        let all: Vec<Hash32> =
            (0..256).map(|n| digest(of(n), of(n >> 2), of(n >> 4), of(n >> 6))).collect();
        for left in &all {
            for right in &all {
                assert_eq!(left.cmp(right), left.0.cmp(&right.0), "{left} {right}");
            }
        }
    }

    #[test]
    fn a_stream_hash_equals_the_hash_of_the_whole() {
        let mut hash = StreamHash::default();
        hash.update(b"ab");
        hash.update(b"c");
        assert_eq!(hash.finish(), sha256(&[b"abc"]));
    }

    #[test]
    fn a_merkle_root_depends_on_every_leaf_and_its_place() {
        let leaves: Vec<Hash32> = (0u8..5).map(|n| merkle_leaf(&[n])).collect();
        let root = merkle_root(&leaves);
        for index in 0..leaves.len() {
            let mut changed = leaves.clone();
            changed[index] = merkle_leaf(b"x");
            assert_ne!(merkle_root(&changed), root);
        }
        let mut swapped = leaves.clone();
        swapped.swap(0, 4);
        assert_ne!(merkle_root(&swapped), root);
    }
}
