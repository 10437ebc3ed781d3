//! Blocks: what may follow what, rollback, replay, snapshots.

use expect_test::{Expect, expect};
use ledger::{BlockError, BlockInfo, BlockOutcome, State, TxOutcome};
use types::{
    Hash32, Height, Nusd, TimeMs, Watt,
    genesis::GenesisAccount,
    limits::{BLOCK_TXS_MAX, VOUCHERS_PER_REDEEM_MAX},
    params::FeeParams,
    split::Split,
    tx::{Action, VerifiedTx, VoucherClaim},
};

use crate::world::{
    Executed, MINUTE_MS, World, address, claim, genesis, pay, ppm, redeem, register, validator,
};

const HOUR_MS: u64 = 60 * MINUTE_MS;

fn transfer(amount: u128) -> Action {
    Action::Transfer { to: address("gina"), amount: Watt(amount) }
}

fn execute(
    world: &mut World,
    height: u64,
    time: TimeMs,
    txs: &[VerifiedTx],
) -> Result<BlockOutcome, Box<BlockError>> {
    let block = BlockInfo { height: Height(height), time, absent: &[] };
    world.state.execute_block(block, txs).map_err(Box::new)
}

fn check_refused(height: u64, time: u64, txs: &[VerifiedTx], expected: Expect) {
    let mut world = World::new();
    world.wait(1_000);
    world.block(&[]);
    let before = world.state.snapshot();
    let error = execute(&mut world, height, TimeMs(time), txs).unwrap_err();
    expected.assert_eq(&error.to_string());
    assert_eq!(world.state.snapshot(), before);
}

#[test]
fn a_block_follows_the_one_before() {
    check_refused(1, 1_001_000, &[], expect!["block 1 cannot follow block 1"]);
    check_refused(3, 1_001_000, &[], expect!["block 3 cannot follow block 1"]);
    check_refused(
        2,
        1_000_999,
        &[],
        expect!["a block of 1000999 ms cannot follow one of 1001000 ms"],
    );
    let tx = World::new().tx("alice", transfer(1));
    check_refused(
        2,
        1_001_000,
        &vec![tx; BLOCK_TXS_MAX + 1],
        expect!["2001 transactions are more than the 2000 of a block"],
    );
    let long = World::new().tx_with("alice", register(&"m".repeat(60_000), Watt::ZERO), |_| {});
    check_refused(
        2,
        1_001_000,
        &vec![long; 70],
        expect!["4215470 bytes of transactions are more than the 4194304 of a block"],
    );
}

#[test]
fn an_open_block_is_kept_or_taken_back_before_the_next() {
    let mut world = World::new();
    let before = world.state.snapshot().unwrap();
    let now = world.now;
    let tx = world.tx("alice", transfer(5));
    let first = execute(&mut world, 1, now, std::slice::from_ref(&tx)).unwrap();
    // Readers see the open block, the height is of the committed one.
    assert_eq!(world.watt("gina"), Watt(Watt::whole(1_000).0 + 5));
    assert_eq!(world.state.height(), Height(0));
    let error = execute(&mut world, 2, now, &[]).unwrap_err();
    expect!["block 1 is open; commit it or roll it back first"].assert_eq(&error.to_string());
    expect!["block 1 is open; commit it or roll it back before a snapshot is taken"]
        .assert_eq(&world.state.snapshot().unwrap_err().to_string());

    world.state.rollback();
    assert_eq!(world.state.snapshot().unwrap(), before);
    let again = execute(&mut world, 1, now, &[tx]).unwrap();
    assert_eq!(again, first);
    world.state.commit();
    assert_eq!((world.state.height(), world.state.app_hash()), (Height(1), first.app_hash));
    let after = world.state.snapshot();
    world.state.rollback();
    world.state.commit();
    assert_eq!(world.state.snapshot(), after);
}

#[test]
fn the_digest_is_that_of_the_entries_and_not_of_how_they_came_about() {
    let digest = |wait_ms: u64, amounts: &[u128]| {
        let mut world = World::new();
        world.wait(wait_ms);
        for amount in amounts {
            world.apply("alice", transfer(*amount));
        }
        world.state.app_hash()
    };
    assert_eq!(digest(0, &[1, 2]), digest(0, &[1, 2]));
    assert_eq!(digest(0, &[1, 2]), digest(0, &[2, 1]));
    assert_eq!(digest(5, &[1, 2]), digest(5, &[2, 1]));
    assert_ne!(digest(0, &[1]), digest(0, &[2]));
    assert_ne!(digest(0, &[3]), digest(0, &[1, 2]), "the nonces differ");
    assert_ne!(digest(0, &[]), Hash32::default());
}

/// A change of this digest is a change of protocol: nodes of before and after part ways.
#[test]
fn the_digest_of_a_known_history_is_known() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let usd = Nusd::whole(1);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, usd, usd)]));
    world.apply("paul", Action::UnbondProvider);
    world.apply("paul", Action::CloseChannel { channel });
    expect!["4ace2470a3c9bb3ae6d150d878e500c07ac08371e35ed67481040e0c0a2a030c"]
        .assert_eq(&world.state.app_hash().to_string());
}

#[test]
fn a_snapshot_continues_where_the_state_was() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let bytes = world.state.snapshot().unwrap();
    let mut copy = State::from_snapshot(&bytes, world.genesis.hash()).unwrap();
    assert_eq!(copy.snapshot().unwrap(), bytes);
    let usd = Nusd::whole(1);
    let tx = world.tx("paul", redeem(vec![claim("gina", channel, 0, usd, usd)]));
    let block = Executed { time: world.now, absent: Vec::new(), txs: vec![tx.clone()] };
    let outcome = block.run(&mut copy);
    assert_eq!(world.block(&[tx]), outcome);
    assert_eq!(copy.snapshot(), world.state.snapshot());
}

#[test]
fn a_damaged_or_foreign_snapshot_is_refused() {
    let (world, _) = World::with_channel(Nusd::whole(10));
    let bytes = world.state.snapshot().unwrap();
    let open = |bytes: &[u8], genesis_hash| State::from_snapshot(bytes, genesis_hash);
    let hash = world.genesis.hash();
    assert!(open(&bytes, hash).is_ok());
    assert!(open(&bytes, Hash32([1; 32])).unwrap_err().to_string().contains("is of a network"));
    assert!(open(&bytes[..bytes.len() - 1], hash).is_err());
    assert!(open(&[&bytes[..], &[0]].concat(), hash).is_err());
    assert!(open(&[], hash).is_err());
    // The balance of somebody, one unit more.
    let balance = Watt::whole(1_000).0.to_le_bytes();
    let place = bytes.windows(16).position(|window| window == balance).unwrap();
    let mut forged = bytes.clone();
    forged[place] += 1;
    let error = open(&forged, hash).unwrap_err().to_string();
    assert!(error.contains("names the root"), "{error}");
}

#[test]
fn two_ledgers_of_one_genesis_agree() {
    let first = State::from_genesis(&genesis()).unwrap();
    let second = State::from_genesis(&genesis()).unwrap();
    assert_eq!(first.app_hash(), second.app_hash());
    assert_eq!(first.snapshot(), second.snapshot());
    let copy = State::from_snapshot(&first.snapshot().unwrap(), genesis().hash()).unwrap();
    assert_eq!(copy.app_hash(), first.app_hash());
}

/// Of each queue more falls due at once than one block works off: several blocks do it, and everybody
/// is paid in full.
#[test]
fn what_falls_due_at_once_is_worked_off_over_several_blocks() {
    const PEOPLE: u64 = 1_200;
    const AMOUNT: Watt = Watt::whole(1);
    let names: Vec<String> = (0..PEOPLE).map(|n| format!("person-{n}")).collect();
    let mut world = World::with(|genesis| {
        let params = &mut genesis.params;
        params.fees = FeeParams { tx: Watt::ZERO, byte: Watt::ZERO };
        params.credits.spread = ppm(0);
        params.split = Split::DIRECT;
        params.slashing.evidence_age_ms = 2 * HOUR_MS;
        params.channels.holdback_ms = HOUR_MS;
        params.credits.refund_delay_ms = HOUR_MS;
        params.stake.unbonding_ms = 3 * HOUR_MS;
        genesis.accounts.extend(
            names
                .iter()
                .map(|name| GenesisAccount { address: address(name), balance: Watt(3 * AMOUNT.0) }),
        );
    });
    world.slow_checks_every = 8;
    world.apply("paul", register("paul", Watt::whole(10)));
    let usd = Nusd::whole(2);
    let all = |world: &mut World, action: &dyn Fn(&World, &str) -> Action| {
        let txs: Vec<VerifiedTx> =
            names.iter().map(|name| world.tx(name, action(world, name))).collect();
        for result in world.block(&txs).results {
            assert!(matches!(result.outcome, TxOutcome::Applied { .. }), "{result:?}");
        }
    };
    let terms = |world: &World, name: &str| world.terms(name, "paul", 1);
    all(&mut world, &|_, _| pay(Watt(2 * AMOUNT.0)));
    all(&mut world, &|world, name| Action::OpenChannel { terms: terms(world, name), deposit: usd });
    all(&mut world, &|_, _| Action::Delegate { operator: validator("vera"), amount: AMOUNT });

    // All at one time: claims in two redemptions, refunds, and stake two hours before.
    let operator = validator("vera");
    all(&mut world, &|_, _| Action::Undelegate { operator, amount: AMOUNT });
    world.wait(2 * HOUR_MS);
    all(&mut world, &|_, _| Action::RefundCredits { credits: usd });
    let claims: Vec<VoucherClaim> = names
        .iter()
        .map(|name| claim(name, terms(&world, name).id(&world.genesis.chain_id), 0, usd, usd))
        .collect();
    for claims in claims.chunks(VOUCHERS_PER_REDEEM_MAX) {
        world.apply("paul", redeem(claims.to_vec()));
    }
    let waiting = |world: &World| {
        let state = &world.state;
        [state.pending().count(), state.refunds().count(), state.unbondings().count()]
    };
    assert_eq!(waiting(&world), [1_200; 3]);
    world.wait(HOUR_MS);
    world.block(&[]);
    assert_eq!(waiting(&world), [200; 3]);
    assert!(world.state.next_due() <= Some(world.now));
    world.block(&[]);
    assert_eq!(waiting(&world), [0; 3]);
    assert_eq!(world.state.next_due(), None);
    for name in &names {
        // One WATT of stake, one for the refund; the third went to paul.
        assert_eq!(world.watt(name), Watt(2 * AMOUNT.0), "{name}");
    }
    let earned = world.state.provider(&address("paul")).unwrap().earned;
    assert_eq!(earned, Watt::whole(PEOPLE));
}
