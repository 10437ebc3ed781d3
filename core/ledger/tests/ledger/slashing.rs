//! Faults and what they cost: whose stake, which of it, who receives it, and what remains possible.

use expect_test::expect;
use ledger::{Fault, Module, Slashed};
use types::{
    ChannelId, Hash32, Height, Lane, ModelId, Nusd, RequestId, Signature, TimeMs, Watt,
    inference::{CountMethod, FinishReason},
    price::Price,
    receipt::ServiceReport,
    sign::Signed,
    stake::{Evidence, Role},
    tx::Action,
};

use crate::world::{
    DAY_MS, MINUTE_MS, World, address, consensus_key, double_sign, key, ppm, precommit, provider,
    redeem, register, register_validator, validator,
};

fn stake(name: &str, watt: u64) -> Action {
    Action::Delegate { operator: validator(name), amount: Watt::whole(watt) }
}

fn unstake(name: &str, watt: u64) -> Action {
    Action::Undelegate { operator: validator(name), amount: Watt::whole(watt) }
}

/// What a transaction or the block around it slashed.
fn slashed(world: &mut World, name: &str, action: Action) -> Slashed {
    let tx = world.tx(name, action);
    let outcome = world.block(&[tx]);
    let shown = world.show(&outcome.results[0]);
    let ledger::TxOutcome::Applied { events } = &outcome.results[0].outcome else {
        panic!("{shown}");
    };
    let found = events.iter().find_map(|event| match event {
        ledger::Event::Slashed(slashed) => Some(slashed.clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{shown}"))
}

/// A report of the first attempt at one request on `channel`, charging `lane_total`.
pub(crate) fn report(
    name: &str,
    channel: ChannelId,
    lane_total: Nusd,
    ended_at: TimeMs,
) -> ServiceReport {
    ServiceReport {
        request_id: RequestId([7; 16]),
        attempt: 0,
        provider: address(name),
        model: ModelId([1; 32]),
        engine_version: "dummy".to_owned(),
        profile: "free".to_owned(),
        seed: None,
        prompt_hash: Hash32([1; 32]),
        response_hash: Hash32([1; 32]),
        transcript_root: Hash32([1; 32]),
        prompt_tokens: 1,
        completion_tokens: 1,
        counted: CountMethod::TokenIds,
        price: Price {
            request_nusd: Nusd(1),
            prompt_nusd_per_mtok: Nusd(1),
            completion_nusd_per_mtok: Nusd(1),
        },
        channel,
        lane: Lane(0),
        lane_total_before: Nusd::ZERO,
        lane_total,
        finish: FinishReason::Stop,
        started_at: ended_at,
        ended_at,
    }
}

/// Two reports of one attempt on `channel`, charging `totals`, both said to be of `ended_at`.
pub(crate) fn double_claim(
    name: &str,
    channel: ChannelId,
    totals: [Nusd; 2],
    ended_at: TimeMs,
) -> Action {
    let [first, second] = totals.map(|total| {
        let (value, signer) = (report(name, channel, total, ended_at), key(name));
        Box::new(Signed { value, signer, signature: Signature([0; 64]) })
    });
    Action::SubmitEvidence { evidence: Evidence::DoubleClaim { first, second } }
}

#[test]
fn a_double_sign_is_shared_by_all_stake_and_divided_by_the_parameters() {
    let mut world = World::new();
    world.apply("dora", stake("vito", 500));
    let height = world.state.height();
    world.wait(MINUTE_MS);
    // 5 % of 10 500: half of it burned, 5 % to the reporter, the rest insures.
    world.check(
        "alice",
        double_sign("vito", height.next()),
        expect![[r#"failed evidence.none: this proves no fault: the height has not been reached"#]],
    );
    let at = world.state.height();
    let before = world.watt("alice");
    let loss = slashed(&mut world, "alice", double_sign("vito", at));
    assert_eq!((loss.fault, loss.height), (Fault::DoubleSign, at));
    assert_eq!(loss.amount, Watt::whole(525));
    assert_eq!(loss.burned, Watt::from_decimal("262.5").unwrap());
    assert_eq!(loss.bounty, Watt::from_decimal("26.25").unwrap());
    assert_eq!(loss.insured, Watt::from_decimal("236.25").unwrap());
    assert_eq!(world.state.module_balance(Module::Insurance), loss.insured);
    assert!(world.watt("alice") > before);
    assert_eq!(world.state.stake_of(&address("dora"), &validator("vito")), Watt::whole(475));
    assert_eq!(world.state.stake_of(&address("vito"), &validator("vito")), Watt::whole(9_500));
}

#[test]
fn stake_that_left_after_the_fault_is_slashed_and_stake_that_left_before_is_not() {
    let mut world = World::new();
    for name in ["dora", "gina", "mallory", "paul"] {
        world.apply(name, stake("vito", 100));
    }
    world.apply("dora", unstake("vito", 100));
    // The block of the fault is one in which stake leaves: it was there when the block was made.
    world.apply("gina", unstake("vito", 40));
    let fault = world.state.height();
    let to = validator("vera");
    let amount = Watt::whole(50);
    world.apply("mallory", Action::Redelegate { from: validator("vito"), to, amount });
    let at_stake = Watt::whole(10_300);
    assert_eq!(world.state.stake_at(&validator("vito"), fault), at_stake);
    let loss = slashed(&mut world, "pia", double_sign("vito", fault));
    assert_eq!(loss.amount, Watt(at_stake.0 / 20));
    let left = |world: &World, name: &str| {
        let entries = world.state.unbondings_of(&address(name), &validator("vito"));
        entries.iter().map(|entry| entry.balance).sum::<Watt>()
    };
    assert_eq!(left(&world, "dora"), Watt::whole(100), "left before");
    assert_eq!(left(&world, "gina"), Watt::whole(38), "left after");
    let moved = world.state.stake_of(&address("mallory"), &validator("vera"));
    assert_eq!(moved, Watt::from_decimal("47.5").unwrap(), "moved after");
    let stayed = world.state.stake_of(&address("paul"), &validator("vito"));
    assert_eq!(stayed, Watt::whole(95));
    // The pool of vera lost nothing but what moved there.
    let own = world.state.stake_of(&address("vera"), &validator("vera"));
    assert_eq!(own, Watt::whole(20_000));
}

/// SL3: what came after the fault and left again is not slashed beyond what was at stake then.
#[test]
fn a_slash_never_exceeds_what_was_at_stake() {
    let mut world = World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(10);
        genesis.validators[1].stake = Watt::whole(10);
    });
    world.block(&[]);
    let fault = world.state.height();
    world.apply("dora", stake("vito", 900));
    world.apply("dora", unstake("vito", 900));
    let loss = slashed(&mut world, "alice", double_sign("vito", fault));
    assert_eq!(loss.amount, Watt::from_decimal("0.5").unwrap());
}

#[test]
fn a_tombstone_is_final() {
    let mut world = World::new();
    world.block(&[]);
    let at = world.state.height();
    world.apply("alice", double_sign("vito", at));
    assert_eq!(world.state.active_validators().count(), 1);
    world.check("alice", double_sign("vito", Height(0)), expect!["failed stake.tombstoned: validator/vito was buried for a grave fault and never comes back; use another account"]);
    world.wait(100 * DAY_MS);
    world.check("vito", Action::Unjail { role: Role::Validator }, expect!["failed stake.tombstoned: validator/vito was buried for a grave fault and never comes back; use another account"]);
    world.check("vito", register_validator("vito", Watt::whole(10_000)), expect!["failed stake.tombstoned: validator/vito was buried for a grave fault and never comes back; use another account"]);
    world.check("dora", stake("vito", 1), expect!["failed stake.tombstoned: validator/vito was buried for a grave fault and never comes back; use another account"]);
    // What is left can still be taken out.
    world.apply("vito", unstake("vito", 9_500));
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    assert!(world.watt("vito") > Watt::whole(10_400));
    assert!(world.state.operator(&validator("vito")).unwrap().tombstoned);
}

#[test]
fn evidence_proves_one_fault_of_one_signer_and_is_young() {
    let mut world = World::new();
    world.block(&[]);
    let commit = |name: &str, height: u64, block: u8| Signed {
        value: precommit(Height(height), block),
        signer: consensus_key(name),
        signature: Signature([0; 64]),
    };
    let report =
        |first, second| Action::SubmitEvidence { evidence: Evidence::DoubleVote { first, second } };
    world.check(
        "alice",
        report(commit("vito", 1, 1), commit("vera", 1, 2)),
        expect![
            "failed evidence.none: this proves no fault: the two statements have different signers"
        ],
    );
    world.check(
        "alice",
        report(commit("vito", 1, 1), commit("vito", 2, 2)),
        expect![
            "failed evidence.none: this proves no fault: the two blocks have different heights"
        ],
    );
    world.check(
        "alice",
        report(commit("vito", 1, 1), commit("vito", 1, 1)),
        expect![
            "failed evidence.none: this proves no fault: both statements are about the same block"
        ],
    );
    world.check(
        "alice",
        report(commit("vito", 90, 1), commit("vito", 90, 2)),
        expect!["failed evidence.none: this proves no fault: the height has not been reached"],
    );
    world.check(
        "alice",
        report(commit("dora", 1, 1), commit("dora", 1, 2)),
        expect![
            "failed evidence.none: this proves no fault: the signer is no validator's consensus key"
        ],
    );
    world.wait(world.genesis.params.slashing.evidence_age_ms + 1);
    world.check("alice", double_sign("vito", Height(1)), expect!["failed evidence.old: evidence about block 1 is older than 1209600000 ms and has no effect"]);
    assert_eq!(world.state.active_validators().count(), 2);
}

#[test]
fn who_misses_too_many_blocks_of_a_window_is_slashed_and_jailed_until_it_asks() {
    let mut world = World::with(|genesis| {
        genesis.params.slashing.window_blocks = 10;
        genesis.params.slashing.downtime = ppm(10_000);
    });
    let unjail = || Action::Unjail { role: Role::Validator };
    world.check("vito", unjail(), expect!["failed stake.not_jailed: validator/vito is not jailed"]);
    // Half of the window may be missed.
    for block in 0..11 {
        world.absent = if block % 2 == 0 { vec![consensus_key("vito")] } else { Vec::new() };
        world.block(&[]);
    }
    assert_eq!(world.state.active_validators().count(), 2);
    world.absent = vec![consensus_key("vito")];
    let outcome = world.block(&[]);
    let fields = outcome.events[1].fields();
    assert_eq!(fields[1], ("fault", "downtime".to_owned()));
    assert_eq!(fields[3], ("amount", Watt::whole(100).to_string()));
    assert_eq!(fields[4], ("burned", Watt::whole(50).to_string()));
    world.absent = Vec::new();
    let seats: Vec<_> = world.state.active_validators().map(|(_, it)| it.operator).collect();
    assert_eq!(seats, [address("vera")]);
    world.check(
        "vito",
        unjail(),
        expect![
            "failed stake.jailed_until: validator/vito is jailed until 1600000 ms; try again then"
        ],
    );
    world.wait(world.genesis.params.slashing.downtime_jail_ms);
    // Its own stake is below the smallest bond now.
    world.check("vito", unjail(), expect!["failed validator.bond: a validator's own stake is 10000 WATT at least, this is 9900 WATT; stake more"]);
    world.apply("vito", stake("vito", 100));
    world.check("vito", unjail(), expect!["stake.unjailed: operator=validator/vito"]);
    assert_eq!(world.state.active_validators().count(), 2);
    // The window begins anew.
    let missed: Vec<u32> = world.state.signings().map(|(_, signing)| signing.missed).collect();
    assert_eq!(missed, [0, 0]);
}

#[test]
fn nobody_is_down_before_a_whole_window_with_its_seat() {
    let mut world = World::with(|genesis| genesis.params.slashing.window_blocks = 10);
    world.absent = vec![consensus_key("vito")];
    (0..10).for_each(|_| drop(world.block(&[])));
    assert_eq!(world.state.active_validators().count(), 2);
    world.block(&[]);
    assert_eq!(world.state.active_validators().count(), 1);
}

#[test]
fn a_double_claim_refunds_who_was_harmed_and_buries_the_provider() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    world.wait(MINUTE_MS);
    let totals = [Nusd::whole(1), Nusd::whole(3)];
    let evidence = || double_claim("paul", channel, totals, TimeMs(1_000_000));
    let gina = world.watt("gina");
    // 5 of 10 WATT: 2.5 burned, 0.25 to the reporter, 1 WATT are the 2 USD that gina was overcharged.
    let loss = slashed(&mut world, "alice", evidence());
    assert_eq!(loss.amount, Watt::whole(5));
    assert_eq!(loss.burned, Watt::from_decimal("2.5").unwrap());
    assert_eq!(loss.bounty, Watt::from_decimal("0.25").unwrap());
    assert_eq!(
        (loss.harmed, loss.refunded),
        (vec![(address("gina"), Watt::whole(1))], Watt::whole(1))
    );
    assert_eq!(loss.insured, Watt::from_decimal("1.25").unwrap());
    assert_eq!(world.watt("gina").0, gina.0 + loss.refunded.0);
    world.check("alice", evidence(), expect!["failed stake.tombstoned: provider/paul was buried for a grave fault and never comes back; use another account"]);
    // No new work, and no way back.
    let terms = world.terms("gina", "paul", 2);
    world.check("gina", Action::OpenChannel { terms, deposit: Nusd(1) }, expect!["failed stake.tombstoned: provider/paul was buried for a grave fault and never comes back; use another account"]);
    world.check("paul", register("paul", Watt::whole(10)), expect!["failed stake.tombstoned: provider/paul was buried for a grave fault and never comes back; use another account"]);
    world.apply("paul", Action::UnbondProvider);
    world.apply("paul", Action::CloseChannel { channel });
    world.wait(world.genesis.params.stake.unbonding_ms);
    world.block(&[]);
    assert_eq!(world.state.provider(&address("paul")), None);
    world.check("paul", register("paul", Watt::whole(10)), expect!["failed stake.tombstoned: provider/paul was buried for a grave fault and never comes back; use another account"]);
}

#[test]
fn reports_that_do_not_contradict_each_other_are_no_double_claim() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let totals = [Nusd::whole(1), Nusd::whole(3)];
    let now = world.now;
    let change = |change: &dyn Fn(&mut Signed<ServiceReport>)| {
        let mut action = double_claim("paul", channel, totals, now);
        if let Action::SubmitEvidence { evidence: Evidence::DoubleClaim { second, .. } } =
            &mut action
        {
            change(second);
        }
        action
    };
    world.check(
        "alice",
        change(&|it| it.value.lane_total = totals[0]),
        expect!["failed evidence.none: this proves no fault: both reports charge the same total"],
    );
    world.check("alice", change(&|it| it.value.attempt = 1), expect!["failed evidence.none: this proves no fault: the two reports are about different attempts"]);
    world.check(
        "alice",
        change(&|it| it.value.lane = Lane(1)),
        expect![
            "failed evidence.none: this proves no fault: the two reports are about different lanes"
        ],
    );
    world.check("alice", change(&|it| it.signer = key("gina")), expect!["failed evidence.none: this proves no fault: the two reports are not both signed by one provider's operator"]);
    world.name(ChannelId([9; 32]).to_string(), "no channel");
    let elsewhere = double_claim("paul", ChannelId([9; 32]), totals, now);
    world.check(
        "alice",
        elsewhere,
        expect!["failed channel.unknown: channel no channel does not exist; check its id"],
    );
    let foreign = double_claim("pia", channel, totals, now);
    world.check(
        "alice",
        foreign,
        expect!["failed evidence.none: this proves no fault: the channel pays somebody else"],
    );
    assert!(world.state.provider(&address("paul")).is_some());
}

/// When a double claim happened is the provider's own word.
#[test]
fn lying_about_the_time_of_a_double_claim_saves_nothing() {
    for ended_at in [TimeMs(0), TimeMs(1_000_000), TimeMs(u64::MAX)] {
        let mut world = World::new();
        // The channel is older than the bond.
        world.apply("paul", register("paul", Watt::ZERO));
        let channel = world.open("gina", "paul", 1, Nusd::whole(10));
        world.wait(3 * DAY_MS);
        world.block(&[]);
        world.apply("paul", register("paul", Watt::whole(10)));
        world.wait(3 * DAY_MS);
        let totals = [Nusd::whole(1), Nusd::whole(3)];
        let loss = slashed(&mut world, "alice", double_claim("paul", channel, totals, ended_at));
        assert_eq!(loss.amount, Watt::whole(5), "{ended_at:?}");
    }
}

/// Who left before the time that the provider itself names is spared.
#[test]
fn delegators_who_left_before_a_double_claim_keep_their_stake() {
    let (mut world, channel) = World::with_channel(Nusd::whole(10));
    let amount = Watt::whole(100);
    for name in ["dora", "alice"] {
        world.apply(name, Action::Delegate { operator: provider("paul"), amount });
    }
    world.apply("dora", Action::Undelegate { operator: provider("paul"), amount });
    world.wait(2 * DAY_MS);
    world.block(&[]);
    let ended_at = world.now;
    world.wait(2 * DAY_MS);
    world.apply("alice", Action::Undelegate { operator: provider("paul"), amount });
    let totals = [Nusd::whole(1), Nusd::whole(3)];
    world.apply("gina", double_claim("paul", channel, totals, ended_at));
    let left = ["dora", "alice"].map(|name| {
        let entries = world.state.unbondings_of(&address(name), &provider("paul"));
        entries.iter().map(|entry| entry.balance).sum::<Watt>()
    });
    assert_eq!(left, [amount, Watt::whole(50)]);
}

#[test]
fn what_waits_for_settlement_is_not_lost_by_a_slash() {
    let mut world = World::with(|genesis| genesis.params.channels.holdback_ms = DAY_MS);
    world.apply("paul", register("paul", Watt::whole(10)));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    let one = Nusd::whole(1);
    world.apply("paul", redeem(vec![crate::world::claim("gina", channel, 0, one, one)]));
    let now = world.now;
    world.apply("alice", double_claim("paul", channel, [Nusd(1), Nusd(2)], now));
    world.wait(DAY_MS);
    let outcome = world.block(&[]);
    assert!(outcome.events.iter().any(|event| event.kind() == "channel.settled"));
    assert_eq!(world.state.provider(&address("paul")).unwrap().pending, Nusd::ZERO);
}
