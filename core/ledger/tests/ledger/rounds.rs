//! Commitments and rounds for tests: a network that audits, and verifiers that say what they are told to say.

use types::{
    Hash32, ModelId, Nusd, Watt,
    audit::{
        AuditOutcome, Backend, Calibration, CommitmentId, Evidence, Identified, MilliNats,
        ReceiptsCommitment, ReplayCounts, Responses, Round, Sanction, Verdict, Worth,
        verdict_commitment,
    },
    genesis::{Genesis, GenesisValidator},
    params::AuditMode,
    state::ProviderProfile,
    tx::Action,
};

use crate::world::{
    COMMISSION, DAY_MS, MINUTE_MS, World, address, auditor, claim, consensus_key, key, ppm,
    profile, redeem,
};

pub(crate) const MODEL: ModelId = ModelId([1; 32]);
/// What a cheat serves instead of it.
pub(crate) const SMALL: ModelId = ModelId([4; 32]);
pub(crate) const SALT: Hash32 = Hash32([5; 32]);
/// Of nothing.
pub(crate) const SEAL: Hash32 = Hash32([6; 32]);
pub(crate) const ALL: [&str; 3] = ["vera", "vito", "alice"];

/// Three validators with auditors, two of whom audit each commitment. Claims wait for a day.
pub(crate) fn network(change: impl FnOnce(&mut Genesis)) -> World {
    let mut world = World::with(|genesis| {
        genesis.params.channels.holdback_ms = DAY_MS;
        genesis.params.audits.mode = AuditMode::Enforced;
        genesis.params.audits.enforced = vec![MODEL];
        genesis.validators.push(GenesisValidator {
            consensus_key: consensus_key("alice"),
            operator: address("alice"),
            moniker: "alice".to_owned(),
            stake: Watt::whole(10_000),
            commission: COMMISSION,
        });
        change(genesis);
    });
    for name in ALL {
        if world.state.validator(&address(name)).is_some() {
            world.apply(name, auditor(name));
        }
    }
    world
}

pub(crate) fn offer(name: &str) -> Action {
    let profile = ProviderProfile { models: vec![MODEL, SMALL], ..profile(name) };
    let node_key = key(&format!("{name}/node"));
    Action::RegisterProvider { node_key, profile, commission: None, bond: Watt::whole(10) }
}

pub(crate) fn calibrate(world: &mut World) {
    let calibration =
        Calibration { l1: ppm(70_000), l2: ppm(21_000), projections: None, tokens: 9 };
    for backend in [Backend::CpuX86, Backend::CudaMmq] {
        let publish = Action::PublishCalibration { model: MODEL, backend, calibration };
        world.apply("vera", publish);
    }
}

pub(crate) fn receipts() -> ReceiptsCommitment {
    ReceiptsCommitment { model: MODEL, root: Hash32([1; 32]), count: 10 }
}

/// `paul` provides; he commits, and all three vote, so that the round opens. Returns it.
pub(crate) fn open(world: &mut World) -> (CommitmentId, Round) {
    open_sealed(world, SEAL)
}

/// The same with a seal.
pub(crate) fn open_sealed(world: &mut World, seal: Hash32) -> (CommitmentId, Round) {
    let sequence = world.state.account(&address("paul")).nonce.0;
    world.apply("paul", Action::CommitReceipts { receipts: receipts(), seal });
    let id = CommitmentId { provider: address("paul"), sequence };
    world.wait(MINUTE_MS);
    world.vote(&ALL, world.state.price());
    let round = world.state.round(&id).expect("the round is open").clone();
    (id, round)
}

pub(crate) fn verifiers(round: &Round) -> Vec<&'static str> {
    let name = |seat: &types::audit::Seat| {
        ALL.into_iter().find(|name| address(name) == seat.verifier).unwrap()
    };
    round.seats.iter().map(name).collect()
}

pub(crate) fn commit_to(
    world: &World,
    name: &str,
    commitment: CommitmentId,
    verdict: &Verdict,
) -> Action {
    let chain_id = &world.genesis.chain_id;
    let hash = verdict_commitment(chain_id, &address(name), &commitment, &SALT.0, verdict);
    Action::CommitVerdict { commitment, hash }
}

pub(crate) fn reveal(commitment: CommitmentId, verdict: &Verdict) -> Action {
    Action::RevealVerdict { commitment, verdict: Box::new(verdict.clone()), salt: SALT }
}

/// All verifiers say what they are told to say, and the round is closed. Returns the last block's events and
/// what became of the round.
pub(crate) fn judge(
    world: &mut World,
    (id, round): (CommitmentId, Round),
    says: impl Fn(usize) -> Verdict,
) -> (AuditOutcome, Sanction, Sanction) {
    let names = verifiers(&round);
    for (n, name) in names.iter().enumerate() {
        world.apply(name, commit_to(world, name, id, &says(n)));
    }
    for (n, name) in names.iter().enumerate() {
        world.apply(name, reveal(id, &says(n)));
    }
    assert_eq!(world.state.round(&id), None, "all have revealed");
    let closed = world.state.closed_rounds().next().unwrap();
    assert_eq!(closed.commitment, id);
    (closed.outcome, closed.would_be, closed.sanction)
}

/// About response `n`, with evidence of so many milli-nats.
pub(crate) fn evidence(n: u8, backend: Backend, l1: i64, identified: bool) -> Evidence {
    let cheaper = Identified { model: SMALL, worth: Worth::Cheaper, ratio: MilliNats(20_000) };
    Evidence {
        model: MODEL,
        backend,
        responses: Responses::of([Hash32([n; 32])]).unwrap(),
        tokens: 64,
        replay: ReplayCounts { matched: 64, ..ReplayCounts::default() },
        l1: Some(MilliNats(l1)),
        l2: None,
        projections: None,
        identified: identified.then_some(cheaper),
    }
}

pub(crate) const BACKENDS: [Backend; 2] = [Backend::CpuX86, Backend::CudaMmq];

pub(crate) fn pass(n: usize) -> Verdict {
    let evidence = evidence(1, BACKENDS[n % 2], 0, false);
    Verdict { outcome: AuditOutcome::Pass, evidence: Some(evidence) }
}

pub(crate) fn fail(response: u8, l1: i64, identified: bool) -> impl Fn(usize) -> Verdict {
    move |n| Verdict {
        outcome: AuditOutcome::Fail,
        evidence: Some(evidence(response, BACKENDS[n % 2], l1, identified)),
    }
}

pub(crate) fn without(outcome: AuditOutcome) -> impl Fn(usize) -> Verdict {
    move |_| Verdict { outcome, evidence: None }
}

/// `paul` has claimed 3 of 10 USD of `gina`, which wait.
pub(crate) fn with_claim(world: &mut World) -> types::ChannelId {
    world.apply("paul", offer("paul"));
    let channel = world.open("gina", "paul", 1, Nusd::whole(10));
    let three = Nusd::whole(3);
    world.apply("paul", redeem(vec![claim("gina", channel, 0, three, three)]));
    channel
}
