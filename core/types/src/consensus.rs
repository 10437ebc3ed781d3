//! What validators sign to agree on a block, what proves that they did, and who they are.

use borsh::{BorshDeserialize, BorshSerialize, io};
use serde::{Deserialize, Serialize};

use crate::{
    hash::{Hash32, sha256},
    id::{Height, PublicKey, Signature},
    limits::VALIDATORS_MAX,
    sign::Signable,
};

/// A validator's key and its weight.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ValidatorPower {
    pub key: PublicKey,
    pub power: u64,
}

/// Who signs the blocks of a height: ascending by key, each key once, no power of zero, at most
/// [`VALIDATORS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default, BorshSerialize, Serialize)]
#[serde(transparent)]
pub struct ValidatorSet(Vec<ValidatorPower>);

impl ValidatorSet {
    /// Sorts; of a key that is named twice the powers are added, a power of zero is left out.
    pub fn new(validators: impl IntoIterator<Item = ValidatorPower>) -> ValidatorSet {
        let mut sorted: Vec<ValidatorPower> =
            validators.into_iter().filter(|validator| validator.power > 0).collect();
        sorted.sort_unstable_by_key(|validator| validator.key);
        let mut set: Vec<ValidatorPower> = Vec::with_capacity(sorted.len());
        for validator in sorted {
            match set.last_mut() {
                Some(last) if last.key == validator.key => {
                    last.power = last.power.saturating_add(validator.power);
                }
                Some(_) | None => set.push(validator),
            }
        }
        ValidatorSet(set)
    }

    pub fn as_slice(&self) -> &[ValidatorPower] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of a key that is no member it is zero.
    pub fn power(&self, key: &PublicKey) -> u64 {
        let place = self.0.binary_search_by_key(key, |validator| validator.key);
        place.ok().and_then(|place| self.0.get(place)).map_or(0, |validator| validator.power)
    }

    pub fn contains(&self, key: &PublicKey) -> bool {
        self.power(key) > 0
    }

    pub fn total(&self) -> u128 {
        self.0.iter().map(|validator| u128::from(validator.power)).sum()
    }

    /// Names the set in a block's header.
    pub fn hash(&self) -> Hash32 {
        sha256(&[b"peerwatt/validators\0", &borsh::to_vec(self).unwrap_or_default()])
    }

    /// Whether the canonical form holds.
    fn is_canonical(&self) -> bool {
        self.0.len() <= VALIDATORS_MAX
            && self.0.iter().all(|validator| validator.power > 0)
            && self.0.windows(2).all(|pair| matches!(pair, [a, b] if a.key < b.key))
    }
}

/// More than two thirds.
pub fn is_quorum(signed: u128, total: u128) -> bool {
    // Powers are 64-bit and members few: neither product can overflow.
    signed.saturating_mul(3) > total.saturating_mul(2)
}

impl BorshDeserialize for ValidatorSet {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<ValidatorSet> {
        let set = ValidatorSet(read_bounded(reader, VALIDATORS_MAX)?);
        if !set.is_canonical() {
            return Err(invalid("a validator set is not ascending by key"));
        }
        Ok(set)
    }
}

impl<'de> Deserialize<'de> for ValidatorSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ValidatorSet, D::Error> {
        let set = ValidatorSet(<Vec<_> as Deserialize>::deserialize(deserializer)?);
        match set.is_canonical() {
            true => Ok(set),
            false => Err(serde::de::Error::custom("a validator set is not ascending by key")),
        }
    }
}

/// The two votes of a round.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum VoteKind {
    Prevote,
    Precommit,
}

/// A validator's vote in one round of one height. `block: None` is a vote for no block.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ConsensusVote {
    pub kind: VoteKind,
    pub height: Height,
    pub round: u32,
    pub block: Option<Hash32>,
}

impl Signable for ConsensusVote {
    const DOMAIN: &'static str = "consensus-vote/1";
}

/// A proposer's word for a block. `valid_round` is the round in which two thirds wanted it before.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct ConsensusProposal {
    pub height: Height,
    pub round: u32,
    pub valid_round: Option<u32>,
    pub block: Hash32,
}

impl Signable for ConsensusProposal {
    const DOMAIN: &'static str = "consensus-proposal/1";
}

/// One precommit of a [`Certificate`].
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct CommitSignature {
    pub signer: PublicKey,
    pub signature: Signature,
}

/// Proof that a block was decided: precommits of more than two thirds of the power, each a signature
/// over the [`ConsensusVote`] that the fields describe. Nobody has checked it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub height: Height,
    pub round: u32,
    pub block: Hash32,
    /// Ascending by signer, each once.
    pub signatures: Vec<CommitSignature>,
}

impl Certificate {
    /// What each of its signatures covers.
    pub fn vote(&self) -> ConsensusVote {
        ConsensusVote {
            kind: VoteKind::Precommit,
            height: self.height,
            round: self.round,
            block: Some(self.block),
        }
    }

    /// Names the certificate in the next block's header.
    pub fn hash(&self) -> Hash32 {
        sha256(&[b"peerwatt/certificate\0", &borsh::to_vec(self).unwrap_or_default()])
    }

    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        self.signatures.iter().any(|signature| signature.signer == *key)
    }
}

impl BorshDeserialize for Certificate {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Certificate> {
        Ok(Certificate {
            height: Height::deserialize_reader(reader)?,
            round: u32::deserialize_reader(reader)?,
            block: Hash32::deserialize_reader(reader)?,
            signatures: read_bounded(reader, VALIDATORS_MAX)?,
        })
    }
}

/// A list of at most `max` items, without trusting its length prefix.
fn read_bounded<T: BorshDeserialize, R: io::Read>(
    reader: &mut R,
    max: usize,
) -> io::Result<Vec<T>> {
    let count = usize::try_from(u32::deserialize_reader(reader)?).unwrap_or(usize::MAX);
    if count > max {
        return Err(invalid("a list has more members than there can be validators"));
    }
    (0..count).map(|_| T::deserialize_reader(reader)).collect()
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key: u8, power: u64) -> ValidatorPower {
        ValidatorPower { key: PublicKey([key; 32]), power }
    }

    #[test]
    fn a_set_is_in_one_form_whatever_it_was_made_from() {
        let set = ValidatorSet::new([of(3, 1), of(1, 5), of(2, 0), of(3, 2)]);
        assert_eq!(set.as_slice(), [of(1, 5), of(3, 3)]);
        assert_eq!((set.total(), set.power(&PublicKey([3; 32]))), (8, 3));
        assert!(!set.contains(&PublicKey([2; 32])));
        let bytes = borsh::to_vec(&set).unwrap();
        assert_eq!(borsh::from_slice::<ValidatorSet>(&bytes).unwrap(), set);
    }

    #[test]
    fn a_set_in_another_form_is_not_read() {
        for other in [vec![of(2, 1), of(1, 1)], vec![of(1, 1), of(1, 1)], vec![of(1, 0)]] {
            let bytes = borsh::to_vec(&other).unwrap();
            assert!(borsh::from_slice::<ValidatorSet>(&bytes).is_err(), "{other:?}");
        }
        let many: Vec<_> = (0..=VALIDATORS_MAX as u64)
            .map(|key| {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&key.to_be_bytes());
                ValidatorPower { key: PublicKey(bytes), power: 1 }
            })
            .collect();
        assert!(borsh::from_slice::<ValidatorSet>(&borsh::to_vec(&many).unwrap()).is_err());
    }

    #[test]
    fn a_quorum_is_more_than_two_thirds() {
        for (signed, total, expected) in [(2, 3, false), (3, 4, true), (5, 8, false), (6, 8, true)]
        {
            assert_eq!(is_quorum(signed, total), expected, "{signed} of {total}");
        }
        assert!(!is_quorum(0, 0));
    }
}
