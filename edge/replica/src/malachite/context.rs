//! Our types in the roles that Malachite's traits name. All are thin: what is signed and stored are
//! the types of `types::consensus`.

use std::fmt;

use arc_malachitebft_core_types::{self as malachite, LinearTimeouts, NilOrVal, Round, VoteType};
use types::{
    Hash32, Height, PublicKey, Signature,
    consensus::{ConsensusProposal, ConsensusVote, ValidatorSet, VoteKind},
};

use super::part::BlockPart;

/// Ties the types together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consensus;

/// A height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At(pub(crate) Height);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Height for At {
    const ZERO: At = At(Height(0));
    const INITIAL: At = At(Height(1));

    fn increment_by(&self, n: u64) -> At {
        At(Height(self.0.0.saturating_add(n)))
    }

    fn decrement_by(&self, n: u64) -> Option<At> {
        self.0.0.checked_sub(n).map(|height| At(Height(height)))
    }

    fn as_u64(&self) -> u64 {
        self.0.0
    }
}

/// A validator is known by its consensus key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member(pub(crate) PublicKey);

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Address for Member {}

/// What is agreed on: the digest of a block's header. The block itself travels as a [`BlockPart`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BlockId(pub(crate) Hash32);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl malachite::Value for BlockId {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        *self
    }
}

/// A vote and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vote {
    pub(crate) voter: Member,
    pub(crate) height: At,
    pub(crate) round: Round,
    pub(crate) kind: VoteType,
    pub(crate) block: NilOrVal<BlockId>,
}

impl Vote {
    /// The statement that is signed. A vote without a round is never made.
    pub(crate) fn statement(&self) -> ConsensusVote {
        ConsensusVote {
            kind: match self.kind {
                VoteType::Prevote => VoteKind::Prevote,
                VoteType::Precommit => VoteKind::Precommit,
            },
            height: self.height.0,
            round: round_number(self.round),
            block: match self.block {
                NilOrVal::Nil => None,
                NilOrVal::Val(BlockId(hash)) => Some(hash),
            },
        }
    }

    pub(crate) fn of(voter: PublicKey, statement: ConsensusVote) -> Vote {
        Vote {
            voter: Member(voter),
            height: At(statement.height),
            round: Round::new(statement.round),
            kind: match statement.kind {
                VoteKind::Prevote => VoteType::Prevote,
                VoteKind::Precommit => VoteType::Precommit,
            },
            block: statement.block.map_or(NilOrVal::Nil, |hash| NilOrVal::Val(BlockId(hash))),
        }
    }
}

impl malachite::Vote<Consensus> for Vote {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.block
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.block
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Member {
        &self.voter
    }

    fn extension(&self) -> Option<&malachite::SignedExtension<Consensus>> {
        None
    }

    fn take_extension(&mut self) -> Option<malachite::SignedExtension<Consensus>> {
        None
    }

    /// We use no vote extensions: none is kept.
    fn extend(self, _: malachite::SignedExtension<Consensus>) -> Vote {
        self
    }
}

/// A proposal and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proposal {
    pub(crate) proposer: Member,
    pub(crate) height: At,
    pub(crate) round: Round,
    pub(crate) valid_round: Round,
    pub(crate) block: BlockId,
}

impl Proposal {
    /// The statement that is signed.
    pub(crate) fn statement(&self) -> ConsensusProposal {
        ConsensusProposal {
            height: self.height.0,
            round: round_number(self.round),
            valid_round: self.valid_round.as_u32(),
            block: self.block.0,
        }
    }

    pub(crate) fn of(proposer: PublicKey, statement: ConsensusProposal) -> Proposal {
        Proposal {
            proposer: Member(proposer),
            height: At(statement.height),
            round: Round::new(statement.round),
            valid_round: Round::from(statement.valid_round),
            block: BlockId(statement.block),
        }
    }
}

impl malachite::Proposal<Consensus> for Proposal {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.block
    }

    fn take_value(self) -> BlockId {
        self.block
    }

    fn pol_round(&self) -> Round {
        self.valid_round
    }

    fn validator_address(&self) -> &Member {
        &self.proposer
    }
}

/// A round as it is signed. Malachite signs nothing in the round before the first; such a statement
/// would be one of a round that is never reached.
pub(crate) fn round_number(round: Round) -> u32 {
    round.as_u32().unwrap_or(u32::MAX)
}

/// A member of a [`Members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validator {
    member: Member,
    power: u64,
}

impl malachite::Validator<Consensus> for Validator {
    fn address(&self) -> &Member {
        &self.member
    }

    fn public_key(&self) -> &PublicKey {
        &self.member.0
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// A [`ValidatorSet`] as Malachite reads it: by reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    validators: Vec<Validator>,
    total: u64,
}

impl Members {
    /// Powers are scaled down together if their sum does not fit 64 bits; none becomes zero.
    pub(crate) fn of(set: &ValidatorSet) -> Members {
        let scale = set.total() / u128::from(u64::MAX / 2) + 1;
        let scaled = |power: u64| {
            let power = u128::from(power).div_ceil(scale);
            u64::try_from(power).unwrap_or(u64::MAX)
        };
        let validators: Vec<Validator> = set
            .as_slice()
            .iter()
            .map(|of| Validator { member: Member(of.key), power: scaled(of.power) })
            .collect();
        let total = validators.iter().fold(0u64, |sum, of| sum.saturating_add(of.power));
        Members { validators, total }
    }

    /// Who proposes in this round.
    pub(crate) fn proposer(&self, height: Height, round: u32) -> Option<&Validator> {
        let turn = height.0.wrapping_add(u64::from(round));
        let point = (u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(self.total)) >> 64;
        let mut passed = 0u128;
        self.validators.iter().find(|validator| {
            passed += u128::from(validator.power);
            point < passed
        })
    }
}

/// 2^64 divided by the golden ratio. Its multiples modulo 2^64 are spread as evenly as any sequence
/// can be (the three-distance theorem), so turns are proportional to power in every stretch of
/// heights, without a state that would have to be agreed on.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

impl malachite::ValidatorSet<Consensus> for Members {
    fn count(&self) -> usize {
        self.validators.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.total
    }

    fn get_by_address(&self, address: &Member) -> Option<&Validator> {
        let place = self.validators.binary_search_by_key(address, |validator| validator.member);
        self.validators.get(place.ok()?)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.validators.get(index)
    }
}

/// Ed25519 with our key and signature types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519Scheme;

/// Bytes of another length than a key or signature has.
#[derive(Debug, thiserror::Error)]
#[error("{given} bytes are no key and no signature")]
pub(crate) struct WrongLength {
    given: usize,
}

impl malachite::SigningScheme for Ed25519Scheme {
    type DecodingError = WrongLength;
    type Signature = Signature;
    type PublicKey = PublicKey;
    /// Never used: whoever signs holds the key behind `types::sign::Sign`.
    type PrivateKey = ();

    fn decode_signature(bytes: &[u8]) -> Result<Signature, WrongLength> {
        bytes.try_into().map(Signature).map_err(|_| WrongLength { given: bytes.len() })
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, WrongLength> {
        bytes.try_into().map(PublicKey).map_err(|_| WrongLength { given: bytes.len() })
    }

    fn encode_public_key(public_key: &PublicKey) -> Vec<u8> {
        public_key.0.to_vec()
    }
}

impl malachite::Context for Consensus {
    type Address = Member;
    type Height = At;
    type ProposalPart = BlockPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = Members;
    type Timeouts = LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = ();
    type SigningScheme = Ed25519Scheme;

    #[expect(clippy::expect_used, reason = "the engine starts no height with an empty set")]
    fn select_proposer<'a>(&self, set: &'a Members, height: At, round: Round) -> &'a Validator {
        set.proposer(height.0, round_number(round)).expect("a set has members")
    }

    fn new_proposal(
        &self,
        height: At,
        round: Round,
        block: BlockId,
        valid_round: Round,
        proposer: Member,
    ) -> Proposal {
        Proposal { proposer, height, round, valid_round, block }
    }

    fn new_prevote(
        &self,
        height: At,
        round: Round,
        block: NilOrVal<BlockId>,
        voter: Member,
    ) -> Vote {
        Vote { voter, height, round, kind: VoteType::Prevote, block }
    }

    fn new_precommit(
        &self,
        height: At,
        round: Round,
        block: NilOrVal<BlockId>,
        voter: Member,
    ) -> Vote {
        Vote { voter, height, round, kind: VoteType::Precommit, block }
    }
}

#[cfg(test)]
mod tests {
    use arc_malachitebft_core_types::{Validator as _, ValidatorSet as _};
    use types::consensus::ValidatorPower;

    use super::*;

    fn members(powers: &[u64]) -> Members {
        let power = |(key, power): (usize, &u64)| ValidatorPower {
            key: PublicKey([key as u8; 32]),
            power: *power,
        };
        Members::of(&ValidatorSet::new(powers.iter().enumerate().map(power)))
    }

    /// How often each proposes in `turns` heights.
    fn turns(members: &Members, from: u64, turns: u64) -> Vec<u64> {
        let mut counts = vec![0; members.count()];
        for height in from..from + turns {
            let proposer = members.proposer(Height(height), 0).unwrap();
            counts[usize::from(proposer.address().0.0[0])] += 1;
        }
        counts
    }

    #[test]
    fn turns_are_proportional_to_power_in_every_stretch() {
        let members = members(&[5, 1, 1, 1]);
        for from in [1, 77, 1_000_000, u64::MAX / 2] {
            let counts = turns(&members, from, 800);
            assert!((495..=505).contains(&counts[0]), "{counts:?}");
            assert!(counts[1..].iter().all(|turns| (95..=105).contains(turns)), "{counts:?}");
        }
    }

    #[test]
    fn equals_take_turns_and_nobody_waits_long() {
        let members = members(&[1; 4]);
        for from in 0..200 {
            assert!(turns(&members, from, 9).iter().all(|turns| *turns > 0), "from {from}");
        }
    }

    #[test]
    fn a_round_that_fails_passes_to_somebody_else_soon() {
        let members = members(&[1; 4]);
        for height in 1..200 {
            let proposers: std::collections::BTreeSet<_> = (0..4)
                .map(|round| members.proposer(Height(height), round).unwrap().member)
                .collect();
            assert!(proposers.len() >= 3, "height {height}: {proposers:?}");
        }
    }

    #[test]
    fn powers_that_do_not_fit_keep_their_proportion() {
        let members = members(&[u64::MAX, u64::MAX, 1]);
        assert_eq!(members.validators[0].power, members.validators[1].power);
        assert!(members.validators[2].power == 1 && members.total < u64::MAX);
    }
}
