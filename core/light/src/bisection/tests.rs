//! Long ways over changing validators, with as few headers as possible.

use types::{Hash32, consensus::ValidatorSet};

use super::*;
use crate::{
    CertificateError,
    testing::{Digests, RULES, chain, chain_id, changing, decided, genesis, set, time},
};

/// Goes from `trusted` to `target`, fetching from `blocks`. Also the heights that were fetched.
fn run(
    trusted: TrustedState,
    target: u64,
    blocks: &[LightBlock],
) -> (Result<TrustedState, LightError>, Vec<u64>) {
    let mut bisection = Bisection::new(trusted, Height(target), time(target), RULES);
    let mut fetched = Vec::new();
    loop {
        let wanted = bisection.wanted().0;
        fetched.push(wanted);
        match bisection.supply(blocks[wanted as usize - 1].clone(), &Digests) {
            Ok(Next::Fetch(height)) => assert_eq!(height, bisection.wanted()),
            Ok(Next::Reached(trusted)) => {
                assert_eq!(trusted, *bisection.trusted());
                return (Ok(trusted), fetched);
            }
            Err(error) => return (Err(error), fetched),
        }
    }
}

fn first(blocks: &[LightBlock]) -> TrustedState {
    let id = (Height(1), blocks[0].header.hash());
    TrustedState::from_header(chain_id(), id, blocks[0].clone(), &Digests).unwrap()
}

#[test]
fn while_nobody_changes_one_header_suffices() {
    let blocks = chain(&vec![set(&[(1, 1), (2, 1)]); 300]);
    let (reached, fetched) = run(first(&blocks), 299, &blocks);
    assert_eq!(reached.unwrap().hash(), blocks[298].header.hash());
    assert_eq!(fetched, [299]);
}

#[test]
fn where_too_much_changed_the_way_is_halved_until_it_holds() {
    let (sets, blocks) = changing(33);
    let trusted = TrustedState::from_genesis(&genesis(&sets[0]));
    let direct = trusted.advance(&blocks[32], time(33), &RULES, &Digests);
    assert!(matches!(direct, Err(LightError::TooFar { signed: 0, total: 40, .. })));
    let (reached, fetched) = run(trusted, 33, &blocks);
    assert_eq!(reached.unwrap().hash(), blocks[32].header.hash());
    // One of four leaves with every block, so a step of two keeps half of the power.
    assert!(fetched.len() < 33, "{fetched:?}");
}

#[test]
fn the_very_next_block_needs_no_overlap() {
    let sets: Vec<ValidatorSet> = (1..=9).map(|name| set(&[(name, 1)])).collect();
    let blocks = chain(&sets);
    let (reached, mut fetched) = run(first(&blocks), 8, &blocks);
    assert_eq!(reached.unwrap().hash(), blocks[7].header.hash());
    fetched.sort_unstable();
    assert_eq!(fetched, [2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_lie_on_the_way_is_an_error_and_what_was_reached_stays() {
    let (_, mut blocks) = changing(33);
    let target = blocks[32].clone();
    blocks[8] = decided(blocks[8].header.clone(), &set(&[(99, 1)]));
    let mut bisection = Bisection::new(first(&blocks), Height(33), time(33), RULES);
    let mut next = bisection.supply(target, &Digests);
    while let Ok(Next::Fetch(height)) = next {
        next = bisection.supply(blocks[height.0 as usize - 1].clone(), &Digests);
    }
    let error = next.unwrap_err();
    assert!(matches!(error, LightError::OtherValidators { height: Height(9), .. }), "{error}");
    assert_eq!(bisection.trusted().height(), Height(8));
}

#[test]
fn a_target_without_a_quorum_is_refused_at_the_end() {
    let (_, mut blocks) = changing(5);
    blocks[4].certificate.signatures.truncate(1);
    let source = CertificateError::Power { height: Height(5), signed: 10, total: 40 };
    let (reached, _) = run(first(&blocks), 5, &blocks);
    assert_eq!(reached, Err(LightError::Certificate { height: Height(5), source }));
}

#[test]
fn only_the_block_that_was_wanted_is_taken() {
    let blocks = chain(&vec![set(&[(1, 1)]); 9]);
    let mut bisection = Bisection::new(first(&blocks), Height(8), time(8), RULES);
    let error = bisection.supply(blocks[6].clone(), &Digests);
    assert_eq!(error, Err(LightError::NotWanted { wanted: Height(8), given: Height(7) }));
}

#[test]
fn a_chain_of_strangers_ends_where_it_should_join() {
    let blocks = chain(&vec![set(&[(1, 1)]); 1_000]);
    let strangers: Vec<LightBlock> =
        blocks.iter().map(|block| decided(block.header.clone(), &set(&[(77, 1)]))).collect();
    let (refused, fetched) = run(first(&blocks), 999, &strangers);
    assert!(matches!(refused, Err(LightError::OtherValidators { height: Height(2), .. })));
    assert!(fetched.len() <= 11, "{fetched:?}");
}

#[test]
fn the_number_of_headers_is_limited() {
    // A single validator, another one at every height: no step but the very next one ever holds.
    let names = (0..BLOCKS_MAX + 10).map(|at| (at % 200) as u8);
    let sets: Vec<ValidatorSet> = names.map(|name| set(&[(name, 1)])).collect();
    let blocks = chain(&sets);
    let (refused, fetched) = run(first(&blocks), blocks.len() as u64, &blocks);
    let Err(LightError::TooMany { reached, max, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((max, fetched.len()), (BLOCKS_MAX, BLOCKS_MAX + 1));
    assert!(reached > Height(500), "{reached}");
}

#[test]
fn a_fork_of_what_is_trusted_is_told() {
    let blocks = chain(&vec![set(&[(1, 1), (2, 1)]); 4]);
    let mut header = blocks[0].header.clone();
    header.app_hash = Hash32([9; 32]);
    let other = decided(header, &blocks[0].validators);
    let (refused, _) = run(first(&blocks), 1, &[other]);
    assert!(matches!(refused, Err(LightError::Fork(_))), "{refused:?}");
}
