//! What is kept, reported and forgotten.

use types::{
    Hash32, Signature,
    consensus::{ConsensusProposal, VoteKind},
    sign::Signed,
};

use super::*;

const LIMITS: EvidenceLimits =
    EvidenceLimits { count_max: 3, signer_max: 2, retry_ms: 100, age_ms_max: 1_000 };

fn signed<T>(value: T, signer: u8) -> Signed<T> {
    Signed { value, signer: PublicKey([signer; 32]), signature: Signature([0; 64]) }
}

fn vote(signer: u8, height: u64, round: u32, block: u8) -> Signed<ConsensusVote> {
    let block = Some(Hash32([block; 32]));
    let value = ConsensusVote { kind: VoteKind::Prevote, height: Height(height), round, block };
    signed(value, signer)
}

fn double(signer: u8, height: u64) -> Evidence {
    Evidence::DoubleVote { first: vote(signer, height, 0, 1), second: vote(signer, height, 0, 2) }
}

fn proposal(block: u8) -> Signed<ConsensusProposal> {
    let block = Hash32([block; 32]);
    let value = ConsensusProposal { height: Height(4), round: 1, valid_round: None, block };
    signed(value, 1)
}

#[test]
fn only_a_contradiction_of_one_key_in_one_round_is_evidence() {
    let of = |first, second| subject(&Evidence::DoubleVote { first, second });
    assert_eq!(subject(&double(1, 5)), Some((PublicKey([1; 32]), Height(5))));
    assert_eq!(of(vote(1, 5, 0, 1), vote(1, 5, 0, 1)), None);
    assert_eq!(of(vote(1, 5, 0, 1), vote(1, 5, 1, 2)), None);
    assert_eq!(of(vote(1, 5, 0, 1), vote(1, 6, 0, 2)), None);
    assert_eq!(of(vote(1, 5, 0, 1), vote(2, 5, 0, 2)), None);
    let proposals = |a, b| Evidence::DoubleProposal { first: proposal(a), second: proposal(b) };
    assert_eq!(subject(&proposals(1, 2)), Some((PublicKey([1; 32]), Height(4))));
    assert_eq!(subject(&proposals(1, 1)), None);
}

#[test]
fn a_fault_is_reported_again_until_the_ledger_knows_it() {
    let mut pool = EvidencePool::new(LIMITS);
    let report = || vec![Effect::Report(double(1, 5))];
    assert_eq!(pool.step(TimeMs(0), Input::Seen(double(1, 5))), report());
    assert_eq!(pool.step(TimeMs(1), Input::Seen(double(1, 5))), []);
    assert_eq!(pool.next_due(), Some(TimeMs(100)));
    assert_eq!(pool.step(TimeMs(99), Input::Tick), []);
    assert_eq!(pool.step(TimeMs(100), Input::Tick), report());
    let included = Input::Included { signer: PublicKey([1; 32]), height: Height(5) };
    assert_eq!(pool.step(TimeMs(900), included), []);
    assert!(pool.is_empty() && pool.next_due().is_none());
}

#[test]
fn what_the_ledger_would_not_take_any_more_is_forgotten() {
    let mut pool = EvidencePool::new(LIMITS);
    assert!(pool.add(double(1, 5), TimeMs(0)));
    assert_eq!(pool.due(TimeMs(1_000)).len(), 1);
    assert_eq!(pool.next_due(), Some(TimeMs(1_001)));
    assert_eq!(pool.due(TimeMs(1_001)), []);
    assert!(pool.is_empty());
}

#[test]
fn there_is_room_for_so_many_and_for_fewer_of_one_key() {
    let mut pool = EvidencePool::new(LIMITS);
    let added = [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)];
    let added = added.map(|(signer, height)| pool.add(double(signer, height), TimeMs(0)));
    assert_eq!(added, [true, true, false, true, false]);
    assert_eq!(pool.len(), 3);
}
