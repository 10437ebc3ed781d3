//! Chains of headers for the tests, with signatures that only [`sign`] makes.

use types::{
    Address, ChainId, Hash32, Height, Nusd, PublicKey, Signature, TimeMs, Watt,
    block::BlockHeader,
    consensus::{
        Certificate, CommitSignature, ConsensusVote, ValidatorPower, ValidatorSet, VoteKind,
    },
    genesis::{Genesis, GenesisValidator, Params},
    sha256,
    sign::{VerifySignature, signing_bytes},
    stake::CommissionTerms,
};

use crate::{LightBlock, Rules};

pub(crate) const GENESIS_MS: u64 = 1_700_000_000_000;
pub(crate) const BLOCK_MS: u64 = 1_000;
pub(crate) const RULES: Rules = Rules { trust_period_ms: 2_000_000, drift_ms: 5_000 };

/// Takes the signatures of [`sign`] and no others.
pub(crate) struct Digests;

impl VerifySignature for Digests {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &Signature) -> bool {
        sign(key, message) == *signature
    }
}

pub(crate) fn sign(key: &PublicKey, message: &[u8]) -> Signature {
    let mut bytes = [0; 64];
    let (first, second) = bytes.split_at_mut(32);
    first.copy_from_slice(&sha256(&[&key.0, message]).0);
    second.copy_from_slice(&sha256(&[message, &key.0]).0);
    Signature(bytes)
}

pub(crate) fn chain_id() -> ChainId {
    "light".parse().unwrap()
}

pub(crate) fn key(name: u8) -> PublicKey {
    PublicKey([name; 32])
}

/// Validators by name and power.
pub(crate) fn set(members: &[(u8, u64)]) -> ValidatorSet {
    ValidatorSet::new(members.iter().map(|&(name, power)| ValidatorPower { key: key(name), power }))
}

/// A document whose validators are `set`.
pub(crate) fn genesis(set: &ValidatorSet) -> Genesis {
    let validators = set.as_slice().iter().map(|it| GenesisValidator {
        consensus_key: it.key,
        operator: Address::of_key(&it.key),
        moniker: "seat".to_owned(),
        // The rest below a whole WATT does not count.
        stake: Watt::whole(it.power).saturating_add(Watt(7)),
        commission: CommissionTerms::ALL,
    });
    Genesis {
        chain_id: chain_id(),
        time: TimeMs(GENESIS_MS),
        params: Params::standard(),
        nusd_per_watt: Nusd(1),
        accounts: Vec::new(),
        vesting: Vec::new(),
        validators: validators.collect(),
    }
}

/// Precommits of these for the header.
pub(crate) fn certify(header: &BlockHeader, signers: &[PublicKey]) -> Certificate {
    certify_as(&chain_id(), VoteKind::Precommit, header, signers)
}

pub(crate) fn certify_as(
    chain_id: &ChainId,
    kind: VoteKind,
    header: &BlockHeader,
    signers: &[PublicKey],
) -> Certificate {
    let (height, block, round) = (header.height, header.hash(), 0);
    let vote = ConsensusVote { kind, height, round, block: Some(block) };
    let message = signing_bytes(chain_id, &vote);
    let signature =
        |signer: &PublicKey| CommitSignature { signer: *signer, signature: sign(signer, &message) };
    Certificate { height, round, block, signatures: signers.iter().map(signature).collect() }
}

pub(crate) fn keys(set: &ValidatorSet) -> Vec<PublicKey> {
    set.as_slice().iter().map(|it| it.key).collect()
}

/// The time of a block.
pub(crate) fn time(height: u64) -> TimeMs {
    TimeMs(GENESIS_MS + height * BLOCK_MS)
}

/// The block of this header, signed by all of `validators`.
pub(crate) fn decided(header: BlockHeader, validators: &ValidatorSet) -> LightBlock {
    let header = BlockHeader { validators: validators.hash(), ..header };
    let certificate = certify(&header, &keys(validators));
    LightBlock { header, certificate, validators: validators.clone() }
}

/// Blocks 1, 2, … decided by the first set, the second and so on; the last set decides nothing. The
/// first follows from [`genesis`] of the first set.
pub(crate) fn chain(sets: &[ValidatorSet]) -> Vec<LightBlock> {
    let mut blocks: Vec<LightBlock> = Vec::new();
    for (height, pair) in (1..).zip(sets.windows(2)) {
        let [validators, next] = pair else { unreachable!("a window of two") };
        let last = blocks.last();
        let header = BlockHeader {
            height: Height(height),
            time: time(height),
            parent: last.map_or_else(|| genesis(validators).hash(), |it| it.header.hash()),
            txs_root: Hash32([1; 32]),
            last_certificate: last.map(|it| it.certificate.hash()).unwrap_or_default(),
            validators: validators.hash(),
            next_validators: next.hash(),
            app_hash: sha256(&[&height.to_be_bytes()]),
            proposer: key(1),
        };
        blocks.push(decided(header, validators));
    }
    blocks
}

/// A chain of so many blocks in which one of four validators is replaced after every block.
pub(crate) fn changing(blocks: u8) -> (Vec<ValidatorSet>, Vec<LightBlock>) {
    let sets: Vec<ValidatorSet> =
        (0..=blocks).map(|at| set(&[0, 1, 2, 3].map(|seat| (at + seat + 1, 10)))).collect();
    let chain = chain(&sets);
    (sets, chain)
}
