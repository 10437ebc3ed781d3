//! What follows from what is trusted, and all that does not.

use proptest::prelude::*;
use types::consensus::VoteKind;

use super::*;
use crate::testing::{
    BLOCK_MS, Digests, RULES, certify, certify_as, chain, chain_id, changing, decided, genesis,
    key, keys, set, sign, time,
};

/// Four validators of equal power, for ever.
fn steady(blocks: usize) -> Vec<LightBlock> {
    chain(&vec![four(); blocks + 1])
}

fn four() -> ValidatorSet {
    set(&[(1, 10), (2, 10), (3, 10), (4, 10)])
}

fn trusting(block: &LightBlock) -> TrustedState {
    let id = (block.height(), block.header.hash());
    TrustedState::from_header(chain_id(), id, block.clone(), &Digests).unwrap()
}

/// Tries to come from `trusted` to `block` two seconds after the time of the block's height.
fn advance(trusted: &TrustedState, block: &LightBlock) -> Result<TrustedState, LightError> {
    let now = time(block.height().0).plus_ms(2 * BLOCK_MS);
    trusted.advance(block, now, &RULES, &Digests)
}

/// The header changed, and signed by the same again.
fn forged(block: &LightBlock, change: impl FnOnce(&mut BlockHeader)) -> LightBlock {
    let mut header = block.header.clone();
    change(&mut header);
    LightBlock { certificate: certify(&header, &keys(&block.validators)), header, ..block.clone() }
}

#[test]
fn a_chain_whose_validators_change_with_every_block_is_followed_from_genesis() {
    let (sets, blocks) = changing(20);
    let mut trusted = TrustedState::from_genesis(&genesis(&sets[0]));
    assert_eq!((trusted.height(), trusted.block()), (Height(0), None));
    for block in &blocks {
        trusted = advance(&trusted, block).unwrap();
        assert_eq!((trusted.hash(), trusted.block()), (block.header.hash(), Some(block)));
    }
}

#[test]
fn genesis_validators_weigh_their_whole_watt() {
    let set = set(&[(1, 5), (2, 1)]);
    assert_eq!(genesis_validators(&genesis(&set)), set);
}

#[test]
fn only_the_genesis_documents_own_validators_decide_block_1() {
    let document = genesis(&four());
    let trusted = TrustedState::from_genesis(&document);
    // A subset, or other weights, of the document's keys could be chosen by one of them alone.
    for other in [set(&[(1, 10)]), set(&[(1, 100), (2, 10), (3, 10), (4, 10)])] {
        let mut header = steady(1)[0].header.clone();
        header.parent = document.hash();
        let given = other.hash();
        let refused = advance(&trusted, &decided(header, &other));
        let (height, named) = (Height(1), four().hash());
        assert_eq!(refused, Err(LightError::OtherValidators { height, named, given }));
    }
}

#[test]
fn a_skip_needs_more_than_a_third_of_the_trusted_power() {
    let old = set(&[(1, 30), (2, 30), (3, 30)]);
    for (kept, new, expected) in [
        (vec![(1, 30)], 90, Some(30)),
        (vec![(1, 30), (2, 30)], 90, None),
        (vec![], 90, Some(0)),
        // Power is that in the trusted set: it does not help to have more in the new one.
        (vec![(1, 9_000)], 1, Some(30)),
        // Signing for the new set alone does not count.
        (vec![(1, 1), (2, 1), (3, 1)], 1, None),
    ] {
        let mut later = kept.clone();
        later.extend([(7, new)]);
        let later = set(&later);
        let blocks = chain(&[old.clone(), old.clone(), later.clone(), later]);
        let got = advance(&trusting(&blocks[0]), &blocks[2]);
        let (trusted, height, total) = (Height(1), Height(3), 90);
        match expected {
            None => assert_eq!(got.unwrap().height(), height, "{kept:?}"),
            Some(signed) => {
                let error = LightError::TooFar { trusted, height, signed, total };
                assert_eq!(got, Err(error), "{kept:?}");
            }
        }
    }
}

#[test]
fn a_trusted_third_alone_does_not_decide() {
    let blocks = steady(3);
    let mut block = blocks[2].clone();
    block.certificate.signatures.truncate(2);
    let source = CertificateError::Power { height: Height(3), signed: 20, total: 40 };
    let error = LightError::Certificate { height: Height(3), source };
    assert_eq!(advance(&trusting(&blocks[0]), &block), Err(error));
}

#[test]
fn the_next_block_names_its_parent_and_the_announced_set() {
    let blocks = steady(2);
    let trusted = trusting(&blocks[0]);
    let height = Height(2);
    let orphan = forged(&blocks[1], |header| header.parent = Hash32([9; 32]));
    let (expected, given) = (blocks[0].header.hash(), Hash32([9; 32]));
    assert_eq!(advance(&trusted, &orphan), Err(LightError::Parent { height, expected, given }));
    // Enough trusted power signed it, and still it is not the set that was announced.
    let larger = set(&[(1, 10), (2, 10), (3, 10), (4, 10), (5, 1)]);
    let block = decided(blocks[1].header.clone(), &larger);
    let (named, given) = (four().hash(), larger.hash());
    assert_eq!(
        advance(&trusted, &block),
        Err(LightError::OtherValidators { height, named, given })
    );
    let mut block = blocks[1].clone();
    block.validators = larger;
    assert_eq!(
        advance(&trusted, &block),
        Err(LightError::OtherValidators { height, named, given })
    );
}

#[test]
fn time_does_not_run_backwards_or_ahead() {
    let blocks = steady(3);
    let trusted = trusting(&blocks[0]);
    let (trusted_height, trusted_time) = (Height(1), time(1));
    for place in [1, 2] {
        let height = blocks[place].height();
        let earlier = TimeMs(trusted_time.0 - 1);
        let block = forged(&blocks[place], |header| header.time = earlier);
        let error =
            LightError::TimeBefore { height, time: earlier, trusted: trusted_height, trusted_time };
        assert_eq!(advance(&trusted, &block), Err(error));
        let same = forged(&blocks[place], |header| header.time = trusted_time);
        assert!(advance(&trusted, &same).is_ok());
        let now = TimeMs(time(height.0).0 - RULES.drift_ms);
        assert!(trusted.advance(&blocks[place], now, &RULES, &Digests).is_ok());
        let now = TimeMs(now.0 - 1);
        let early = trusted.advance(&blocks[place], now, &RULES, &Digests);
        assert_eq!(early, Err(LightError::Future { height, time: time(height.0), now }));
    }
}

#[test]
fn a_header_vouches_for_others_for_the_trust_period() {
    let blocks = steady(2);
    let trusted = trusting(&blocks[0]);
    let end = time(1).plus_ms(RULES.trust_period_ms);
    let last = TimeMs(end.0 - 1);
    assert!(trusted.advance(&blocks[1], last, &RULES, &Digests).is_ok());
    let error = LightError::Expired {
        height: Height(1),
        time: time(1),
        now: end,
        period_ms: RULES.trust_period_ms,
    };
    assert_eq!(trusted.advance(&blocks[1], end, &RULES, &Digests), Err(error));
}

#[test]
fn the_trust_period_ends_while_a_false_signature_can_still_be_punished() {
    let params = Params::standard();
    let rules = Rules::of(&params);
    assert!(rules.trust_period_ms < params.slashing.evidence_age_ms);
    assert!(rules.trust_period_ms < params.stake.unbonding_ms);
}

#[test]
fn an_earlier_block_is_refused_and_the_trusted_one_changes_nothing() {
    let blocks = steady(3);
    let trusted = trusting(&blocks[1]);
    let error = LightError::Earlier { trusted: Height(2), height: Height(1) };
    assert_eq!(advance(&trusted, &blocks[0]), Err(error));
    assert_eq!(advance(&trusted, &blocks[1]), Ok(trusted));
}

#[test]
fn two_certified_blocks_of_a_height_are_a_fork_with_both_and_with_its_culprits() {
    let blocks = steady(2);
    let trusted = trusting(&blocks[1]);
    let other = forged(&blocks[1], |header| header.app_hash = Hash32([9; 32]));
    let Err(LightError::Fork(fork)) = advance(&trusted, &other) else { panic!("a fork") };
    assert_eq!((&fork.first, &fork.second), (&blocks[1], &other));
    assert_eq!(find_fork(&blocks[1], &other), Some(*fork.clone()));
    assert_eq!(find_fork(&blocks[1], &blocks[1]), None);
    assert_eq!(find_fork(&blocks[0], &other), None);
    let culprits: Vec<PublicKey> = fork
        .double_votes()
        .into_iter()
        .map(|evidence| {
            let Evidence::DoubleVote { first, second } = evidence else { panic!("votes") };
            assert_ne!(first.value, second.value);
            assert!(first.verify(&chain_id(), &Digests).is_ok());
            second.verify(&chain_id(), &Digests).unwrap().signer()
        })
        .collect();
    assert_eq!(culprits, keys(&four()));
}

#[test]
fn another_block_of_the_trusted_height_that_is_not_certified_is_no_fork() {
    let blocks = steady(2);
    let trusted = trusting(&blocks[1]);
    let mut other = forged(&blocks[1], |header| header.app_hash = Hash32([9; 32]));
    let given = other.header.hash();
    // By strangers.
    let strangers = decided(other.header.clone(), &set(&[(8, 1)]));
    let error = LightError::OtherBlock {
        height: Height(2),
        trusted: trusted.hash(),
        given: strangers.header.hash(),
    };
    assert_eq!(advance(&trusted, &strangers), Err(error));
    // By too few.
    other.certificate.signatures.truncate(2);
    let source = CertificateError::Power { height: Height(2), signed: 20, total: 40 };
    let error = LightError::Certificate { height: Height(2), source };
    assert_eq!(advance(&trusted, &other), Err(error));
    assert_ne!(given, trusted.hash());
}

#[test]
fn a_header_is_trusted_by_its_height_and_digest_only() {
    let block = steady(2).remove(1);
    let (height, given) = (block.height(), block.header.hash());
    for (height, hash) in [(Height(1), given), (height, Hash32([9; 32]))] {
        let refused =
            TrustedState::from_header(chain_id(), (height, hash), block.clone(), &Digests);
        assert_eq!(refused, Err(LightError::OtherBlock { height, trusted: hash, given }));
    }
    let mut unsigned = block.clone();
    unsigned.certificate.signatures.clear();
    assert!(TrustedState::from_header(chain_id(), (height, given), unsigned, &Digests).is_err());
}

#[test]
fn what_was_kept_is_of_the_network_and_whole() {
    let document = genesis(&four());
    let blocks = steady(2);
    assert_eq!(TrustedState::from_genesis(&document).check_kept(&document, &Digests), Ok(()));
    assert_eq!(trusting(&blocks[1]).check_kept(&document, &Digests), Ok(()));

    let mut elsewhere = document.clone();
    elsewhere.chain_id = "elsewhere".parse().unwrap();
    let error = trusting(&blocks[1]).check_kept(&elsewhere, &Digests);
    assert!(matches!(error, Err(LightError::OtherNetwork { .. })));

    let other = genesis(&set(&[(1, 1)]));
    let error = TrustedState::from_genesis(&document).check_kept(&other, &Digests);
    assert!(matches!(error, Err(LightError::OtherBlock { height: Height(0), .. })));

    let mut damaged = trusting(&blocks[1]);
    let Anchor::Block(block) = &mut damaged.anchor else { panic!("a block") };
    block.header.app_hash = Hash32([9; 32]);
    assert!(damaged.check_kept(&document, &Digests).is_err());
}

/// What an attacker who holds no validator's key may do to a block of the chain.
#[derive(Clone, Copy, Debug)]
enum Mutation {
    Header(u8, u8),
    Certificate(u8, u8),
    Validators(u8, u8),
    /// Signed as another statement or for another network.
    Statement(bool),
    /// All new, signed by keys of the attacker's own.
    OwnSet(u8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (any::<u8>(), any::<u8>()).prop_map(|(what, how)| Mutation::Header(what, how)),
        (any::<u8>(), any::<u8>()).prop_map(|(what, how)| Mutation::Certificate(what, how)),
        (any::<u8>(), any::<u8>()).prop_map(|(what, how)| Mutation::Validators(what, how)),
        any::<bool>().prop_map(Mutation::Statement),
        any::<u8>().prop_map(Mutation::OwnSet),
    ]
}

fn mutate(block: &mut LightBlock, mutation: Mutation) {
    let flip = |hash: &mut Hash32, how: u8| hash.0[usize::from(how) % 32] ^= 1 << (how % 8);
    match mutation {
        Mutation::Header(what, how) => {
            let header = &mut block.header;
            match what % 8 {
                0 => header.height = Height(u64::from(how)),
                1 => header.time = header.time.plus_ms(u64::from(how) + 1),
                2 => flip(&mut header.parent, how),
                3 => flip(&mut header.txs_root, how),
                4 => flip(&mut header.validators, how),
                5 => flip(&mut header.next_validators, how),
                6 => flip(&mut header.app_hash, how),
                _ => header.proposer = key(how),
            }
        }
        Mutation::Certificate(what, how) => {
            let certificate = &mut block.certificate;
            let signatures = &mut certificate.signatures;
            // An earlier mutation may have taken the last signature.
            let at = usize::from(how).checked_rem(signatures.len());
            match (what % 5, at) {
                (0, _) => certificate.height = Height(u64::from(how)),
                (1, _) => certificate.round ^= u32::from(how).max(1),
                (2, _) | (_, None) => flip(&mut certificate.block, how),
                (3, Some(at)) => drop(signatures.remove(at)),
                (_, Some(at)) => {
                    signatures[at].signature.0[usize::from(what) % 64] ^= how.max(1);
                }
            }
        }
        Mutation::Validators(what, how) => {
            let mut members = block.validators.as_slice().to_vec();
            let at = usize::from(how).checked_rem(members.len());
            match (what % 3, at) {
                (0, Some(at)) => members[at].power = u64::from(how) * 1_000,
                (1, Some(at)) => drop(members.remove(at)),
                _ => members.push(ValidatorPower { key: key(how), power: 1_000 }),
            }
            block.validators = ValidatorSet::new(members);
        }
        Mutation::Statement(prevote) => {
            let elsewhere: ChainId = "elsewhere".parse().unwrap();
            let (chain_id, kind) = match prevote {
                true => (chain_id(), VoteKind::Prevote),
                false => (elsewhere, VoteKind::Precommit),
            };
            let signers = keys(&block.validators);
            block.certificate = certify_as(&chain_id, kind, &block.header, &signers);
        }
        Mutation::OwnSet(name) => {
            // The names of validators of `changing` are below 40.
            let own = set(&[(name | 0x80, u64::from(name) + 1)]);
            *block = decided(block.header.clone(), &own);
        }
    }
}

proptest! {
    /// Whatever is done to a block by somebody without keys: it is refused, or its header is still
    /// the one that validators signed and the certificate still suffices.
    #[test]
    fn a_mutated_block_never_passes_for_another(
        from in 0usize..8,
        to in 0usize..8,
        mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let (_, blocks) = changing(8);
        let mut block = blocks[to].clone();
        for mutation in mutations {
            mutate(&mut block, mutation);
        }
        let now = time(20);
        if let Ok(trusted) = trusting(&blocks[from]).advance(&block, now, &RULES, &Digests) {
            prop_assert_eq!(trusted.hash(), blocks[trusted.height().0 as usize - 1].header.hash());
            // What is trusted is kept as it was verified, not as it came again.
            let kept = trusted.block().map(|block| block.verify(&chain_id(), &Digests));
            prop_assert_eq!(kept, Some(Ok(())));
        }
    }

    /// With the keys of a minority too: up to a third of the power forges nothing.
    #[test]
    fn a_third_of_the_power_forges_nothing(
        to in 1usize..6,
        app_hash: [u8; 32],
        own in 1u64..1_000_000,
        traitor in 1u8..4,
    ) {
        // Each has a third, and the attacker has one of them.
        let validators = set(&[(1, 10), (2, 10), (3, 10)]);
        let blocks = chain(&vec![validators; 8]);
        let mut header = blocks[to].header.clone();
        header.app_hash = Hash32(app_hash);
        let forged = decided(header, &set(&[(traitor, own), (9, own), (8, 1)]));
        prop_assert!(advance(&trusting(&blocks[0]), &forged).is_err());
    }

    /// Any subset of the old set may sign for any new one: the arithmetic is that of the paper.
    #[test]
    fn a_skip_is_decided_by_both_quorums(
        powers in prop::collection::vec((1u64..100, 0u64..100, any::<bool>()), 1..8),
    ) {
        let named = |power: fn(&(u64, u64, bool)) -> u64| {
            let members: Vec<(u8, u64)> = (1..).zip(&powers).map(|(name, it)| (name, power(it))).collect();
            set(&members)
        };
        let (old, new) = (named(|it| it.0), named(|it| it.1));
        let blocks = chain(&[old.clone(), old.clone(), new.clone(), new.clone()]);
        let mut block = blocks[2].clone();
        let signers: Vec<PublicKey> = (1..)
            .zip(&powers)
            .filter(|(_, it)| it.1 > 0 && it.2)
            .map(|(name, _)| key(name))
            .collect();
        block.certificate = certify(&block.header, &signers);
        let signed = |set: &ValidatorSet| -> u128 {
            signers.iter().map(|it| u128::from(set.power(it))).sum()
        };
        let suffices =
            3 * signed(&old) > old.total() && 3 * signed(&new) > 2 * new.total();
        prop_assert_eq!(advance(&trusting(&blocks[0]), &block).is_ok(), suffices);
    }
}

#[test]
fn the_tests_own_signatures_depend_on_key_and_message() {
    assert_ne!(sign(&key(1), b"a"), sign(&key(2), b"a"));
    assert_ne!(sign(&key(1), b"a"), sign(&key(1), b"b"));
}
