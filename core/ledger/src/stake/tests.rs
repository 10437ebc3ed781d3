//! How much of an operator's past is kept.

use types::{
    Address, Height, Nusd, PublicKey, TimeMs, Watt,
    genesis::{Genesis, GenesisAccount, GenesisValidator, Params},
    stake::OperatorId,
};

use super::*;

const VALIDATOR: Address = Address([9; 20]);
const OPERATOR: OperatorId = OperatorId { role: Role::Provider, account: Address([1; 20]) };

/// A ledger whose blocks 10 and 20 are the first of their hours.
fn state() -> State {
    let genesis = Genesis {
        chain_id: "test".parse().unwrap(),
        time: TimeMs(0),
        params: Params::standard(),
        nusd_per_watt: Nusd::whole(1),
        accounts: vec![GenesisAccount { address: VALIDATOR, balance: Watt::whole(50_000) }],
        vesting: Vec::new(),
        validators: vec![GenesisValidator {
            consensus_key: PublicKey([3; 32]),
            operator: VALIDATOR,
            moniker: "v".to_owned(),
            stake: Watt::whole(20_000),
            commission: CommissionTerms::ALL,
        }],
    };
    let mut state = State::from_genesis(&genesis).unwrap();
    let marks: Vec<Height> = state.marks.range(..).map(|(height, _)| *height).collect();
    for height in marks {
        state.marks.remove(&height);
    }
    state.marks.insert(Height(10), TimeMs(3_600_000));
    state.marks.insert(Height(20), TimeMs(7_200_000));
    state
}

/// Peaks in the middle of what is older than all hours and of each hour; else it grows by one.
fn tokens(height: u64) -> Watt {
    Watt(match height {
        5 => 5_000,
        15 => 15_000,
        25 => 25_000,
        _ => height.into(),
    })
}

fn noted(state: &mut State, heights: std::ops::RangeInclusive<u64>) -> Vec<(u64, u128)> {
    for height in heights {
        state.note_history(Height(height), OPERATOR, tokens(height));
    }
    state.histories.get(&OPERATOR).unwrap().iter().map(|(at, it)| (at.0, it.0)).collect()
}

#[test]
fn a_block_leaves_one_point() {
    let mut state = state();
    state.note_history(Height(1), OPERATOR, Watt(7));
    state.note_history(Height(1), OPERATOR, Watt(9));
    assert_eq!(noted(&mut state, 2..=2), [(1, 9), (2, 2)]);
    let at = |height| state.stake_at(&OPERATOR, Height(height)).0;
    assert_eq!((at(1), at(2), at(3)), (0, 9, 2));
}

#[test]
fn of_older_hours_the_largest_stake_and_the_last_remain() {
    let mut state = state();
    let all: Vec<(u64, u128)> = (1..=64).map(|height| (height, tokens(height).0)).collect();
    assert_eq!(noted(&mut state, 1..=64), all);
    // One more is too many: the older half is thinned. What is older than all hours is not kept, but for
    // its end.
    let mut thinned = vec![(9, 9), (10, 15_000), (19, 19), (20, 25_000), (32, 32)];
    thinned.extend((33..=65).map(|height| (height, u128::from(height))));
    assert_eq!(noted(&mut state, 65..=65), thinned);
    // Whoever looks for the stake of a time finds no less than there was.
    for height in 11..=20 {
        assert!(state.stake_at(&OPERATOR, Height(height)) >= tokens(height - 1));
    }
}

#[test]
fn an_hour_with_one_point_keeps_it() {
    let mut state = state();
    noted(&mut state, 10..=10);
    let thinned = noted(&mut state, 30..=93);
    assert_eq!(&thinned[..3], [(10, 10), (30, 59), (60, 60)]);
}
