//! Demands: a payer has one answer audited, whatever its provider commits to.

use expect_test::expect;
use ledger::{Module, TxOutcome};
use types::{
    ChannelId, Hash32, ModelId, Nusd, RequestId, Signature, TimeMs, Watt,
    audit::{AuditOutcome, CommitmentId, Round, Sanction, Verdict},
    receipt::{Acknowledgement, ServiceReport, report_hash},
    sha256,
    sign::Signed,
    tx::Action,
};

use crate::{
    rounds::{
        ALL, MODEL, calibrate, fail, judge, network, open, pass, receipts, verifiers, with_claim,
        without,
    },
    slashing::report,
    world::{DAY_MS, MINUTE_MS, World, address, key, payer_key, ppm},
};

const DEPOSIT: Watt = Watt(50_000_000);

/// What the two say of answer `n` of `provider`, which `payer` paid for on `channel`.
pub(crate) struct Statements {
    pub(crate) report: ServiceReport,
    pub(crate) signer: &'static str,
    pub(crate) payer: &'static str,
    /// What the payer acknowledges of it.
    pub(crate) cost: Nusd,
}

impl Statements {
    pub(crate) fn of(
        (payer, provider): (&'static str, &'static str),
        channel: ChannelId,
        n: u8,
        ended_at: TimeMs,
    ) -> Statements {
        let cost = Nusd(2);
        let report = ServiceReport {
            request_id: RequestId([n; 16]),
            profile: "np1".to_owned(),
            ..report(provider, channel, cost, ended_at)
        };
        Statements { report, signer: provider, payer, cost }
    }

    pub(crate) fn demand(self) -> Action {
        let Statements { report, signer, payer, cost } = self;
        let signature = Signature([0; 64]);
        let report = Signed { value: report, signer: key(signer), signature };
        let hash = report_hash(&report);
        let stated = &report.value;
        let acknowledgement = Acknowledgement {
            request_id: stated.request_id,
            attempt: stated.attempt,
            provider: stated.provider,
            model: stated.model,
            prompt_hash: stated.prompt_hash,
            response_hash: stated.response_hash,
            transcript_root: stated.transcript_root,
            prompt_tokens: stated.prompt_tokens,
            delivered_tokens: stated.completion_tokens,
            counted: stated.counted,
            price: stated.price,
            channel: stated.channel,
            lane: stated.lane,
            lane_total_before: stated.lane_total_before,
            lane_total: stated.lane_total_before.checked_add(cost).unwrap(),
            report_hash: Some(hash),
            finish: stated.finish,
            ended_at: stated.ended_at,
        };
        let signer = payer_key(payer);
        let acknowledgement = Box::new(Signed { value: acknowledgement, signer, signature });
        Action::DemandAudit { report: Box::new(report), acknowledgement }
    }
}

fn statements(world: &World, channel: ChannelId, n: u8) -> Statements {
    Statements::of(("gina", "paul"), channel, n, world.now)
}

fn world() -> (World, ChannelId) {
    let mut world = network(|genesis| genesis.params.audits.quality_weight = ppm(60_000));
    let channel = with_claim(&mut world);
    calibrate(&mut world);
    (world, channel)
}

/// `gina` demands, and the next beacon opens the round.
fn demanded(world: &mut World, action: Action) -> (CommitmentId, Round) {
    world.apply("gina", action);
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    let mut rounds = world.state.rounds_after(None).filter(|(id, _)| id.is_demanded());
    let (id, round) = rounds.next().expect("the round is open");
    (*id, round.clone())
}

#[test]
fn a_payer_has_an_answer_audited_that_its_provider_commits_to_nowhere() {
    let (mut world, channel) = world();
    let action = statements(&world, channel, 1).demand();
    world.check("gina", action.clone(), expect!["audit.demanded: commitment=paul/6149849170741656 payer=gina model=0101010101010101010101010101010101010101010101010101010101010101 deposit=50000000 period=16"]);
    assert_eq!(world.state.module_balance(Module::Insurance), DEPOSIT);
    world.check("gina", action, expect!["failed audit.demand_repeated: an audit of this answer was demanded already, as paul/6149849170741656"]);
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    let (id, round) =
        world.state.rounds_after(None).next().map(|(id, it)| (*id, it.clone())).unwrap();
    assert!(id.is_demanded());
    assert_eq!((round.share, round.receipts.count), (ppm(1_000_000), 1));
    let demand = round.demand.clone().unwrap();
    assert_eq!((demand.payer, demand.deposit), (address("gina"), DEPOSIT));
    let watt = world.watt("gina");
    let (outcome, _, sanction) = judge(&mut world, (id, round), fail(1, 30_000, false));
    assert_eq!((outcome, sanction), (AuditOutcome::Fail, Sanction::RefundAndDelist));
    assert_eq!(world.watt("gina").0 - watt.0, DEPOSIT.0, "the deposit is back");
    assert_eq!(world.state.module_balance(Module::Insurance), Watt::ZERO);
    assert!(world.state.standing(&address("paul")).bad > 0);
    // Like any other round it can be appealed against, by its provider.
    world.apply("paul", Action::Appeal { commitment: id });
}

#[test]
fn an_answer_that_passes_costs_its_payer_the_deposit_and_earns_its_provider_no_name() {
    let (mut world, channel) = world();
    let action = statements(&world, channel, 1).demand();
    let round = demanded(&mut world, action);
    let before = world.state.standing(&address("paul"));
    let (watt, treasury) = (world.watt("gina"), world.state.module_balance(Module::Treasury));
    judge(&mut world, round, pass);
    assert_eq!(world.watt("gina"), watt);
    // It pays those who looked, if the provider's work brings the treasury that much.
    assert_eq!(world.state.module_balance(Module::Treasury).0 - treasury.0, DEPOSIT.0);
    let after = world.state.standing(&address("paul"));
    assert_eq!((after.good, after.passes), (before.good, before.passes));
}

#[test]
fn where_nothing_comes_of_it_the_deposit_goes_back() {
    let doubtful = |n| Verdict { outcome: AuditOutcome::Inconclusive, ..fail(1, 10_000, false)(n) };
    let says: [&dyn Fn(usize) -> Verdict; 3] =
        [&doubtful, &without(AuditOutcome::Missing), &without(AuditOutcome::Abstained)];
    for says in says {
        let (mut world, channel) = world();
        let action = statements(&world, channel, 1).demand();
        let round = demanded(&mut world, action);
        let watt = world.watt("gina");
        let (outcome, ..) = judge(&mut world, round, says);
        assert_eq!(world.watt("gina").0 - watt.0, DEPOSIT.0, "{outcome:?}");
    }
    // Nobody audits any more when the beacon comes.
    let (mut world, channel) = world();
    let action = statements(&world, channel, 1).demand();
    world.apply("gina", action);
    let watt = world.watt("gina");
    for name in ALL {
        let gone = Action::RegisterAuditor { node_key: key("nobody"), addrs: Vec::new() };
        world.apply(name, gone);
    }
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    assert_eq!(world.watt("gina").0 - watt.0, DEPOSIT.0);
    // The beacon comes when nobody keeps the answer any more.
    let (mut world, channel) = self::world();
    let action = statements(&world, channel, 1).demand();
    world.apply("gina", action);
    let watt = world.watt("gina");
    world.wait(DAY_MS / 2);
    world.vote(&ALL, world.state.price());
    assert_eq!(world.state.rounds_after(None).count(), 0);
    assert_eq!(world.watt("gina").0 - watt.0, DEPOSIT.0);
}

type Change = dyn Fn(&mut Statements);

#[test]
fn what_cannot_be_demanded() {
    let (mut world, channel) = world();
    let refused = |world: &mut World, name: &str, action: Action, text: &str| {
        let result = world.run(name, action);
        let shown = world.show(&result);
        assert!(shown.contains(text), "{shown}");
    };
    let demand = |world: &World, change: &Change| {
        let mut statements = statements(world, channel, 1);
        change(&mut statements);
        statements.demand()
    };
    let right = demand(&world, &|_| {});
    refused(
        &mut world,
        "alice",
        right,
        "not_demandable: an audit of this answer cannot be demanded: its channel",
    );
    let cases: [(&Change, &str); 6] = [
        (&|it| it.signer = "alice", "not those of one answer"),
        (&|it| it.cost = Nusd(3), "its bill is wrong"),
        (&|it| it.payer = "alice", "not acknowledged with the key"),
        (&|it| it.report.profile = "free".to_owned(), "cannot be replayed"),
        (&|it| it.report.channel = ChannelId([9; 32]), "channel.unknown"),
        (&|it| it.report.ended_at = TimeMs(0), "older than what providers have to keep"),
    ];
    world.wait(DAY_MS);
    for (change, text) in cases {
        let action = demand(&world, change);
        refused(&mut world, "gina", action, text);
    }
    let nothing = demand(&world, &|it| {
        it.report.completion_tokens = 0;
        it.cost = Nusd::ZERO;
    });
    refused(&mut world, "gina", nothing, "it has no tokens");
    let (mut world, channel) = self::world();
    let open_max = world.state.params().audits.open_max;
    for n in 0..open_max {
        let action = statements(&world, channel, u8::try_from(n).unwrap()).demand();
        world.apply("gina", action);
    }
    let action = statements(&world, channel, 200).demand();
    let full = "audit.too_many_demands: 32 demands of yours for audits of this provider wait";
    refused(&mut world, "gina", action, full);
    // That keeps its provider from nothing, and no other payer.
    world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: Hash32::default() });
    let other = world.open("alice", "paul", 1, Nusd::whole(1));
    world.apply("alice", Statements::of(("alice", "paul"), other, 200, world.now).demand());
}

/// Answers `from` to `to`, about models that nobody has heard of, each of its own.
fn made_up(world: &World, channel: ChannelId, payer: &'static str, n: [u64; 2]) -> Vec<Action> {
    let demand = |n: u64| {
        let mut statements = Statements::of((payer, "paul"), channel, 1, world.now);
        let digest = sha256(&[&n.to_be_bytes()]).0;
        statements.report.request_id = RequestId(*digest.first_chunk().unwrap());
        statements.report.model = ModelId(digest);
        statements.demand()
    };
    (n[0]..n[1]).map(demand).collect()
}

/// In one block.
fn apply_all(world: &mut World, name: &str, actions: Vec<Action>) -> Vec<TxOutcome> {
    let first = world.state.account(&address(name)).nonce.0;
    let nonced = (first..).zip(actions);
    let txs: Vec<_> = nonced
        .map(|(nonce, action)| world.tx_with(name, action, |tx| tx.nonce.0 = nonce))
        .collect();
    world.block(&txs).results.into_iter().map(|result| result.outcome).collect()
}

fn applied(outcomes: &[TxOutcome]) -> usize {
    outcomes.iter().filter(|it| matches!(it, TxOutcome::Applied { .. })).count()
}

/// Its provider writes into a report what it likes, and its accomplice demands that: others can still.
#[test]
fn models_that_a_cheat_makes_up_keep_nobody_from_anything() {
    let mut world = network(|genesis| genesis.params.audits.open_max = 100);
    let channel = with_claim(&mut world);
    let accomplice = world.open("mallory", "paul", 1, Nusd::whole(1));
    let demands = made_up(&world, accomplice, "mallory", [0, 70]);
    assert_eq!(applied(&apply_all(&mut world, "mallory", demands)), 70);
    let action = statements(&world, channel, 1).demand();
    world.apply("gina", action);
    world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: Hash32::default() });
}

/// With payers enough all room is filled in the end.
#[test]
fn demands_of_all_payers_are_bounded() {
    let mut world = network(|genesis| genesis.params.audits.open_max = 150);
    let channel = with_claim(&mut world);
    for (name, from) in [("mallory", 0), ("alice", 150)] {
        let accomplice = world.open(name, "paul", 1, Nusd::whole(1));
        let demands = made_up(&world, accomplice, name, [from, from + 150]);
        let expected = 150.min(256 - usize::try_from(from).unwrap());
        assert_eq!(applied(&apply_all(&mut world, name, demands)), expected, "{from}");
    }
    let action = statements(&world, channel, 1).demand();
    world.check("gina", action, expect!["failed audit.too_many_demands: 256 demands for audits of this provider wait or are being audited, which is the most; try again when one is over"]);
    // Its own, and its appeals, have room all the same.
    world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal: Hash32::default() });
}

/// Of more models than are kept, what was found is not forgotten for what passed.
#[test]
fn what_passes_flushes_nothing_that_was_found() {
    let mut world = network(|genesis| genesis.params.audits.open_max = 100);
    with_claim(&mut world);
    calibrate(&mut world);
    let round = open(&mut world);
    judge(&mut world, round, fail(1, 14_000, false));
    world.slow_checks_every = 64;
    let accomplice = world.open("mallory", "paul", 1, Nusd::whole(1));
    let demands = made_up(&world, accomplice, "mallory", [0, 70]);
    apply_all(&mut world, "mallory", demands);
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    let rounds: Vec<_> = world.state.rounds_after(None).map(|(id, it)| (*id, it.clone())).collect();
    assert_eq!(rounds.len(), 70);
    for (id, round) in rounds {
        let model = round.receipts.model;
        judge(&mut world, (id, round), |n| {
            let mut verdict = pass(n);
            verdict.evidence.as_mut().unwrap().model = model;
            verdict
        });
    }
    let models: Vec<_> = world.state.model_standings_of(address("paul")).collect();
    assert_eq!(models.len(), 64);
    let found = models.iter().find(|(model, _)| *model == MODEL).unwrap();
    assert!(found.1.evidence.iter().all(|piece| piece.evidence.fails()));
}

/// Offering a model no more is no way out of having served another in its place.
#[test]
fn what_is_not_offered_any_more_can_be_demanded() {
    let (mut world, channel) = world();
    let mut statements = statements(&world, channel, 1);
    statements.report.model = ModelId([9; 32]);
    let (id, round) = demanded(&mut world, statements.demand());
    assert!(id.is_demanded());
    assert_eq!(round.receipts.model, ModelId([9; 32]));
}

/// Whoever demands what its provider has committed to already has it audited twice: evidence of the same answer does not add up.
#[test]
fn two_rounds_over_one_answer_are_no_two_sets() {
    let (mut world, channel) = world();
    let own = open(&mut world);
    let (_, _, sanction) = judge(&mut world, own, fail(1, 14_000, true));
    assert_eq!(sanction, Sanction::Escalate);
    let action = statements(&world, channel, 1).demand();
    let round = demanded(&mut world, action);
    assert_eq!(verifiers(&round.1).len(), 2);
    let (_, _, sanction) = judge(&mut world, round, fail(1, 14_000, true));
    assert_eq!(sanction, Sanction::Escalate);
    world.wait(DAY_MS);
}
