//! From a header that is trusted to a later one, by what validators signed: the rules of the Tendermint
//! light client (Braithwaite and others, "A Tendermint Light Client", arXiv:2010.07031; ICS-07), with
//! the differences that `docs/spec/light-client.md` gives reasons for.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use types::{
    ChainId, Hash32, Height, PublicKey, TimeMs,
    amount::UNIT,
    block::BlockHeader,
    consensus::{Certificate, CommitSignature, ValidatorPower, ValidatorSet},
    genesis::{Genesis, Params},
    sign::{Signed, VerifySignature},
    stake::Evidence,
};

use crate::certificate::{CertificateError, verify_certificate};

/// A header with what shows that it was decided. Nobody has checked it.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LightBlock {
    pub header: BlockHeader,
    pub certificate: Certificate,
    /// Who decided it.
    pub validators: ValidatorSet,
}

impl LightBlock {
    pub fn height(&self) -> Height {
        self.header.height
    }

    /// Checks the block by its own account: the set is the one that the header names, and more than
    /// two thirds of it signed the header. Whether that set had a say is another question.
    pub fn verify(
        &self,
        chain_id: &ChainId,
        check: &dyn VerifySignature,
    ) -> Result<(), LightError> {
        let LightBlock { header, certificate, validators } = self;
        let (height, named, given) = (header.height, header.validators, validators.hash());
        if named != given {
            return Err(LightError::OtherValidators { height, named, given });
        }
        verify_certificate(chain_id, (height, header.hash()), certificate, validators, check)
            .map_err(|source| LightError::Certificate { height, source })
    }
}

/// How long a header stays trusted, and how wrong clocks may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// A header that is older vouches for nothing: those who signed it may have taken their stake
    /// back, and could sign another history without losing anything.
    pub trust_period_ms: u64,
    /// How far a header's time may lie in the future.
    pub drift_ms: u64,
}

impl Rules {
    /// A minute of an unbonding time of days changes nothing, and few clocks are further off.
    const DRIFT_MS: u64 = 60_000;

    /// For a network with these parameters: two thirds of the time in which a false signature can
    /// still be punished. The last third is for finding it and bringing the evidence into a block.
    pub fn of(params: &Params) -> Rules {
        let punished_ms = params.slashing.evidence_age_ms.min(params.stake.unbonding_ms);
        Rules { trust_period_ms: (punished_ms / 3).saturating_mul(2), drift_ms: Rules::DRIFT_MS }
    }
}

/// A header that is trusted, or the genesis document, with what is needed to go on from there.
///
/// Invariant: what it was made from was trusted by the user, or verified from such. It is read back only
/// from where the user's own program wrote it ([`TrustedState::check_kept`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TrustedState {
    chain_id: ChainId,
    anchor: Anchor,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Anchor {
    /// Stands for a header of height 0.
    Genesis {
        hash: Hash32,
        time: TimeMs,
        validators: ValidatorSet,
    },
    Block(Box<LightBlock>),
}

/// The set that the ledger draws from a genesis document, which decides block 1: every validator of the
/// document with its stake in whole WATT. The document is not checked; the ledger starts from no
/// other than one whose validators all have a seat.
pub fn genesis_validators(genesis: &Genesis) -> ValidatorSet {
    ValidatorSet::new(genesis.validators.iter().map(|validator| {
        let power = validator.stake.0.checked_div(UNIT).unwrap_or(0);
        let power = u64::try_from(power).unwrap_or(u64::MAX);
        ValidatorPower { key: validator.consensus_key, power }
    }))
}

impl TrustedState {
    /// Trusts a genesis document: its digest is the parent of block 1, and its validators decide it.
    pub fn from_genesis(genesis: &Genesis) -> TrustedState {
        let (hash, time) = (genesis.hash(), genesis.time);
        let validators = genesis_validators(genesis);
        let anchor = Anchor::Genesis { hash, time, validators };
        TrustedState { chain_id: genesis.chain_id.clone(), anchor }
    }

    /// Trusts the header of this digest at this height, which the user was told by somebody.
    pub fn from_header(
        chain_id: ChainId,
        (height, hash): (Height, Hash32),
        block: LightBlock,
        check: &dyn VerifySignature,
    ) -> Result<TrustedState, LightError> {
        let given = block.header.hash();
        if (block.height(), given) != (height, hash) {
            return Err(LightError::OtherBlock { height, trusted: hash, given });
        }
        block.verify(&chain_id, check)?;
        Ok(TrustedState { chain_id, anchor: Anchor::Block(Box::new(block)) })
    }

    /// Checks a state that was kept: that it is of the network of `genesis` and hangs together.
    pub fn check_kept(
        &self,
        genesis: &Genesis,
        check: &dyn VerifySignature,
    ) -> Result<(), LightError> {
        if self.chain_id != genesis.chain_id {
            let (kept, expected) = (self.chain_id.clone(), genesis.chain_id.clone());
            return Err(LightError::OtherNetwork { kept, expected });
        }
        match &self.anchor {
            Anchor::Block(block) => block.verify(&self.chain_id, check),
            Anchor::Genesis { hash, .. } if *self != TrustedState::from_genesis(genesis) => {
                let (trusted, given) = (*hash, genesis.hash());
                Err(LightError::OtherBlock { height: Height(0), trusted, given })
            }
            Anchor::Genesis { .. } => Ok(()),
        }
    }

    pub fn chain_id(&self) -> &ChainId {
        &self.chain_id
    }

    /// 0 for a genesis document.
    pub fn height(&self) -> Height {
        match &self.anchor {
            Anchor::Genesis { .. } => Height(0),
            Anchor::Block(block) => block.height(),
        }
    }

    pub fn time(&self) -> TimeMs {
        match &self.anchor {
            Anchor::Genesis { time, .. } => *time,
            Anchor::Block(block) => block.header.time,
        }
    }

    /// What the next header must name as its parent.
    pub fn hash(&self) -> Hash32 {
        match &self.anchor {
            Anchor::Genesis { hash, .. } => *hash,
            Anchor::Block(block) => block.header.hash(),
        }
    }

    /// Digest of the set that decides the next block.
    pub fn next_validators(&self) -> Hash32 {
        match &self.anchor {
            Anchor::Genesis { validators, .. } => validators.hash(),
            Anchor::Block(block) => block.header.next_validators,
        }
    }

    /// Who decided it; of a genesis document, who decides block 1.
    pub fn validators(&self) -> &ValidatorSet {
        match &self.anchor {
            Anchor::Genesis { validators, .. } => validators,
            Anchor::Block(block) => &block.validators,
        }
    }

    /// The block that is trusted, unless it is a genesis document.
    pub fn block(&self) -> Option<&LightBlock> {
        match &self.anchor {
            Anchor::Genesis { .. } => None,
            Anchor::Block(block) => Some(block),
        }
    }

    /// Whether it may still vouch for others.
    pub fn check_age(&self, now: TimeMs, rules: &Rules) -> Result<(), LightError> {
        let period_ms = rules.trust_period_ms;
        if now.ms_since(self.time()) >= period_ms {
            return Err(LightError::Expired {
                height: self.height(),
                time: self.time(),
                now,
                period_ms,
            });
        }
        Ok(())
    }

    /// Trusts `block` too, if what is trusted so far suffices for it: as the next one, or because more
    /// than a third of the power that is trusted signed it. The trusted block itself changes nothing.
    pub fn advance(
        &self,
        block: &LightBlock,
        now: TimeMs,
        rules: &Rules,
        check: &dyn VerifySignature,
    ) -> Result<TrustedState, LightError> {
        self.check_age(now, rules)?;
        let (trusted, height) = (self.height(), block.height());
        if height < trusted {
            return Err(LightError::Earlier { trusted, height });
        }
        if height == trusted {
            return self.check_same(block, check).map(|()| self.clone());
        }
        self.check_time(&block.header, now, rules)?;
        if height == trusted.next() {
            self.check_follows(&block.header)?;
        } else {
            self.check_overlap(block)?;
        }
        block.verify(&self.chain_id, check)?;
        let anchor = Anchor::Block(Box::new(block.clone()));
        Ok(TrustedState { chain_id: self.chain_id.clone(), anchor })
    }

    fn check_time(
        &self,
        header: &BlockHeader,
        now: TimeMs,
        rules: &Rules,
    ) -> Result<(), LightError> {
        let BlockHeader { height, time, .. } = *header;
        if time < self.time() {
            let (trusted, trusted_time) = (self.height(), self.time());
            return Err(LightError::TimeBefore { height, time, trusted, trusted_time });
        }
        if time > now.plus_ms(rules.drift_ms) {
            return Err(LightError::Future { height, time, now });
        }
        Ok(())
    }

    /// The next header names the one before and the set that the one before announced.
    fn check_follows(&self, header: &BlockHeader) -> Result<(), LightError> {
        let height = header.height;
        let (expected, given) = (self.hash(), header.parent);
        if given != expected {
            return Err(LightError::Parent { height, expected, given });
        }
        let (named, given) = (self.next_validators(), header.validators);
        if named != given {
            return Err(LightError::OtherValidators { height, named, given });
        }
        Ok(())
    }

    /// More than a third of the trusted power stands under the certificate, so at least one honest
    /// validator does. Its signatures are checked with the rest of the certificate.
    fn check_overlap(&self, block: &LightBlock) -> Result<(), LightError> {
        let (ours, total) = (self.validators(), self.validators().total());
        let signed = signers(&block.certificate).map(|key| u128::from(ours.power(&key)));
        let signed = signed.fold(0, u128::saturating_add);
        if signed.saturating_mul(3) > total {
            return Ok(());
        }
        let (trusted, height) = (self.height(), block.height());
        Err(LightError::TooFar { trusted, height, signed, total })
    }

    /// Another block of the trusted height is a fork if it is certified, else it is nothing.
    fn check_same(
        &self,
        block: &LightBlock,
        check: &dyn VerifySignature,
    ) -> Result<(), LightError> {
        let (height, trusted, given) = (self.height(), self.hash(), block.header.hash());
        let ours = match &self.anchor {
            Anchor::Block(ours) if trusted != given => ours,
            Anchor::Block(_) => return Ok(()),
            Anchor::Genesis { .. } => {
                return Err(LightError::OtherBlock { height, trusted, given });
            }
        };
        block.verify(&self.chain_id, check)?;
        if self.check_overlap(block).is_err() {
            return Err(LightError::OtherBlock { height, trusted, given });
        }
        let (first, second) = (LightBlock::clone(ours), block.clone());
        Err(LightError::Fork(Box::new(Fork { first, second })))
    }
}

fn signers(certificate: &Certificate) -> impl Iterator<Item = PublicKey> {
    // Out of order or twice is refused with the certificate; counted twice it must not be here.
    let mut last = None;
    certificate.signatures.iter().map(|it| it.signer).filter(move |signer| {
        let is_new = last.is_none_or(|last| last < *signer);
        last = last.max(Some(*signer));
        is_new
    })
}

/// Two different blocks of one height, both certified: at least a third of the power signed both or broke
/// the rules of the protocol otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fork {
    pub first: LightBlock,
    pub second: LightBlock,
}

impl Fork {
    /// Who signed both in one round, as the ledger punishes it. Empty if the blocks are of different rounds.
    pub fn double_votes(&self) -> Vec<Evidence> {
        let (first, second) = (&self.first.certificate, &self.second.certificate);
        if first.round != second.round {
            return Vec::new();
        }
        let vote = |certificate: &Certificate, it: &CommitSignature| Signed {
            value: certificate.vote(),
            signer: it.signer,
            signature: it.signature,
        };
        let both = first.signatures.iter().filter_map(|one| {
            let other = second.signatures.iter().find(|other| other.signer == one.signer)?;
            let (first, second) = (vote(first, one), vote(second, other));
            Some(Evidence::DoubleVote { first, second })
        });
        both.collect()
    }
}

/// Whether two blocks that were each verified contradict each other.
pub fn find_fork(first: &LightBlock, second: &LightBlock) -> Option<Fork> {
    let contradict =
        first.height() == second.height() && first.header.hash() != second.header.hash();
    contradict.then(|| Fork { first: first.clone(), second: second.clone() })
}

/// Why a block is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    #[error(
        "the newest header that is trusted, of block {height}, is {age_s} s old, and none is trusted for longer than {period_s} s; \
         ask somebody you trust for the height and the digest of a newer one",
        age_s = now.ms_since(*time) / 1_000,
        period_s = period_ms / 1_000
    )]
    Expired { height: Height, time: TimeMs, now: TimeMs, period_ms: u64 },
    #[error("block {height} is earlier than block {trusted}, which is trusted")]
    Earlier { trusted: Height, height: Height },
    #[error("block {height} has the digest {given}, not {trusted} as is trusted")]
    OtherBlock { height: Height, trusted: Hash32, given: Hash32 },
    #[error("what was kept is of the network {kept}, not of {expected}")]
    OtherNetwork { kept: ChainId, expected: ChainId },
    #[error(
        "block {height} is of {time} ms since 1970, before block {trusted} of {trusted_time} ms"
    )]
    TimeBefore { height: Height, time: TimeMs, trusted: Height, trusted_time: TimeMs },
    #[error(
        "block {height} is of {time} ms since 1970, and it is {now} ms now; is this machine's clock right?"
    )]
    Future { height: Height, time: TimeMs, now: TimeMs },
    #[error("block {height} names {given} as its parent, not {expected}")]
    Parent { height: Height, expected: Hash32, given: Hash32 },
    #[error("the validators of block {height} have the digest {given}, not {named}")]
    OtherValidators { height: Height, named: Hash32, given: Hash32 },
    #[error(
        "block {height} is signed by {signed} of the {total} power of block {trusted}, more than a third is needed; headers in between are missing"
    )]
    TooFar { trusted: Height, height: Height, signed: u128, total: u128 },
    #[error("block {height} is not proven to be decided")]
    Certificate { height: Height, source: CertificateError },
    #[error("block {given} came when block {wanted} was asked for")]
    NotWanted { wanted: Height, given: Height },
    #[error(
        "more than {max} headers were needed to come from block {reached} towards block {target}; go on from there"
    )]
    TooMany { reached: Height, target: Height, max: usize },
    #[error(
        "validators signed two different blocks of height {height}, {first} and {second}: the chain has forked; stop paying and tell its operators",
        height = .0.first.height(),
        first = .0.first.header.hash(),
        second = .0.second.header.hash()
    )]
    Fork(Box<Fork>),
}

#[cfg(test)]
mod tests;
