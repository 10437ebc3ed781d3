//! Each property sees its damage: a sound state that has something of everything is broken in one
//! place, by a write that no transaction makes.

use std::collections::BTreeSet;

use types::{
    Address, ChannelId, Hash32, Height, Lane, ModelId, Nonce, Nusd, Ppm, PublicKey, Signature,
    TimeMs, Watt,
    audit::{
        Appeal, AuditOutcome, Backend, Beacon, Calibration, ClosedRound, Commitment, CommitmentId,
        Effect, Evidence, KeptEvidence, ModelStanding, ReceiptsCommitment, ReplayCounts, Responses,
        Round, Said, Sanction, Seat, Standing, VerifierRecord,
    },
    channel::{ChannelTerms, Voucher},
    genesis::{Bucket, Genesis, GenesisAccount, GenesisValidator, GenesisVesting, Params},
    sign::Signed,
    stake::{CommissionTerms, OperatorId},
    state::{Account, AuditorEntry, Channel, Operator, Provider, ProviderProfile, Shares, Stage},
    tx::{CreditPurchase, VoucherClaim},
};

use super::*;
use crate::{
    Weight, Work, audit,
    bank::Module,
    channel,
    credits::{self, Breaker},
    execute::Context,
    gateway, oracle,
    provider::{self, NodeRole, Registration},
    settlement, slashing, stake,
    stake::Delegation,
    validator::{self, ActiveValidator},
    vesting,
};

const PAYER: Address = Address([1; 20]);
const OPERATOR: Address = Address([2; 20]);
const BURIED: Address = Address([5; 20]);
const KEY: PublicKey = PublicKey([3; 32]);
const BURIED_KEY: PublicKey = PublicKey([5; 32]);
const MODEL: ModelId = ModelId([7; 32]);
const RECEIPTS: ReceiptsCommitment =
    ReceiptsCommitment { model: MODEL, root: Hash32([1; 32]), count: 3 };
/// Nobody.
const NOBODY: Address = Address([9; 20]);

fn context(sender: Address) -> Context {
    Context { height: Height(1), time: TimeMs(500), sender, events: Vec::new() }
}

fn genesis() -> Genesis {
    let balance = |address| GenesisAccount { address, balance: Watt::whole(50_000) };
    Genesis {
        chain_id: "test".parse().unwrap(),
        time: TimeMs(0),
        params: Params::standard(),
        nusd_per_watt: Nusd::whole(1),
        accounts: vec![balance(PAYER), balance(OPERATOR), balance(BURIED)],
        vesting: vec![GenesisVesting {
            bucket: Bucket::Team,
            beneficiary: Some(PAYER),
            total: Watt::whole(1_000),
            start: TimeMs(0),
            cliff: TimeMs(0),
            end: TimeMs(1_000),
        }],
        validators: vec![GenesisValidator {
            consensus_key: KEY,
            operator: PAYER,
            moniker: "v".to_owned(),
            stake: Watt::whole(20_000),
            commission: CommissionTerms::ALL,
        }],
    }
}

fn profile(moniker: &str) -> ProviderProfile {
    let models = vec![MODEL];
    ProviderProfile { moniker: moniker.to_owned(), models, ..ProviderProfile::default() }
}

fn commitment(sequence: u64) -> CommitmentId {
    CommitmentId { provider: OPERATOR, sequence }
}

fn commitment_of(provider: Address) -> CommitmentId {
    CommitmentId { provider, sequence: 0 }
}

fn round() -> Round {
    Round {
        receipts: RECEIPTS,
        seal: Hash32::default(),
        planted: false,
        height: Height(1),
        beacon: Beacon::default(),
        share: Ppm::ONE,
        opened_at: TimeMs(1),
        commit_by: TimeMs(600),
        reveal_by: TimeMs(700),
        closes_at: TimeMs(700),
        seats: vec![Seat { verifier: PAYER, said: Said::Nothing }],
        appeal: None,
        demand: None,
    }
}

/// A commitment that waits, one that is audited, one that was, and what came of it.
fn audit(state: &mut State) {
    let (payer, operator) = (&mut context(PAYER), &mut context(OPERATOR));
    audit::commit(state, operator, RECEIPTS, Hash32::default()).unwrap();
    state.put_round(commitment(7), Some(round()));
    let means =
        Calibration { l1: Ppm::ONE_PERCENT, l2: Ppm::ONE_PERCENT, projections: None, tokens: 1 };
    audit::publish_calibration(state, payer, MODEL, Backend::Rocm, means).unwrap();
    audit::register_auditor(state, payer, KEY, &["127.0.0.1:1".to_owned()]).unwrap();
    let evidence = Evidence {
        model: MODEL,
        backend: Backend::Rocm,
        responses: Responses::of([Hash32([1; 32])]).unwrap(),
        tokens: 1,
        replay: ReplayCounts::default(),
        l1: None,
        l2: None,
        projections: None,
        identified: None,
    };
    let piece = |found_at| KeptEvidence {
        commitment: commitment(6),
        verifier: PAYER,
        height: Height(1),
        found_at: TimeMs(found_at),
        counts: false,
        evidence: evidence.clone(),
    };
    let standing = ModelStanding { evidence: vec![piece(1), piece(2)], ..Default::default() };
    state.model_standings.insert((OPERATOR, MODEL), standing);
    state.standings.insert(OPERATOR, Standing { good: 1, ..Standing::default() });
    let record = VerifierRecord { rounds: 1, missed: 1, ..VerifierRecord::default() };
    state.verifiers.insert(PAYER, record);
    state.push_closed(ClosedRound {
        commitment: commitment(6),
        receipts: RECEIPTS,
        beacon: Beacon::default(),
        share: Ppm::ONE,
        closed_at: TimeMs(2),
        verdicts: vec![(PAYER, None)],
        outcome: AuditOutcome::Abstained,
        would_be: Sanction::None,
        sanction: Sanction::None,
        planted: false,
        height: Height(1),
        effect: Effect::default(),
        is_appeal: false,
        appealed: false,
    });
}

fn change_round(state: &mut State, change: fn(&mut Round)) {
    let mut round = round();
    change(&mut round);
    state.put_round(commitment(7), Some(round));
}

fn change_standing(state: &mut State, change: fn(&mut Standing)) {
    let mut standing = state.standing(&OPERATOR);
    change(&mut standing);
    state.standings.insert(OPERATOR, standing);
}

fn appeal(without: Address) -> Appeal {
    let deposit = Watt::whole(1_000_000);
    Appeal { without: vec![without], weak: true, deposit, effect: Effect::default() }
}

fn change_record(state: &mut State, change: fn(&mut VerifierRecord)) {
    let mut record = state.verifier_record(&PAYER);
    change(&mut record);
    state.verifiers.insert(PAYER, record);
}

fn change_model(state: &mut State, change: fn(&mut ModelStanding)) {
    let mut standing = state.model_standings.get(&(OPERATOR, MODEL)).unwrap().clone();
    change(&mut standing);
    state.model_standings.insert((OPERATOR, MODEL), standing);
}

fn terms(salt: u64) -> ChannelTerms {
    ChannelTerms {
        payer: PAYER,
        payer_key: KEY,
        receiver: OPERATOR,
        salt,
        withdraw_delay_ms: 900_000,
    }
}

/// Two providers, a gateway, an open channel with a claim that waits and a closed one, a refund, a
/// validator with rewards, a delegation, an unbonding and a missed block, another one that is buried,
/// a commitment, a budget that has vested in part, and audits.
fn state() -> State {
    let mut state = State::from_genesis(&genesis()).unwrap();
    let (payer, operator) = (&mut context(PAYER), &mut context(OPERATOR));
    let purchase = CreditPurchase::Pay { watt: Watt::whole(100) };
    credits::buy(&mut state, payer, purchase).unwrap();
    credits::request_refund(&mut state, payer, Nusd::whole(5)).unwrap();
    let full = Watt::whole(50);
    let registration =
        |node_key, profile, bond| Registration { node_key, profile, commission: None, bond };
    let entry = profile("o");
    provider::register(&mut state, operator, registration(KEY, &entry, full)).unwrap();
    let entry = profile("p");
    let unbonded = registration(PublicKey([4; 32]), &entry, Watt::ZERO);
    provider::register(&mut state, payer, unbonded).unwrap();
    gateway::register(&mut state, payer, KEY, "g", &[]).unwrap();
    for salt in [1, 2] {
        channel::open(&mut state, payer, &terms(salt), Nusd::whole(10)).unwrap();
    }
    let [open, closed] = [1, 2].map(|salt| terms(salt).id(state.chain_id()));
    let value = Voucher { channel: open, lane: Lane(0), sequence: 1, total: Nusd::whole(5) };
    let voucher = Signed { value, signer: KEY, signature: Signature([0; 64]) };
    let claims = [VoucherClaim { voucher, total: Nusd::whole(4) }];
    settlement::redeem(&mut state, operator, &claims).unwrap();
    channel::close_by_receiver(&mut state, operator, closed).unwrap();
    let seat = OperatorId::validator(PAYER);
    stake::delegate(&mut state, operator, seat, Watt::whole(9)).unwrap();
    stake::undelegate(&mut state, operator, seat, Watt::whole(4)).unwrap();
    let buried = &mut context(BURIED);
    let stake = Watt::whole(10_000);
    let terms = CommissionTerms::ALL;
    validator::register(&mut state, buried, BURIED_KEY, "b", terms, stake).unwrap();
    let fault = slashing::Fault::DoubleSign;
    slashing::punish(&mut state, buried, OperatorId::validator(BURIED), fault).unwrap();
    vesting::claim(&mut state, payer, Bucket::Team).unwrap();
    oracle::commit(&mut state, payer, Hash32([1; 32])).unwrap();
    audit(&mut state);
    let block = crate::BlockInfo { height: Height(1), time: TimeMs(500), absent: &[KEY] };
    state.execute_block::<types::tx::VerifiedTx>(block, &[]).unwrap();
    state.commit();
    state
}

fn change_account(state: &mut State, address: Address, change: fn(&mut Account)) {
    let mut account = state.account(&address);
    change(&mut account);
    state.accounts.insert(address, account);
}

fn change_channel(state: &mut State, change: impl Fn(&mut Channel)) {
    let id = open_channel(state);
    let mut channel = state.channels.get(&id).unwrap().clone();
    change(&mut channel);
    state.channels.insert(id, channel);
}

fn open_channel(state: &State) -> ChannelId {
    terms(1).id(state.chain_id())
}

fn change_provider(state: &mut State, change: fn(&mut Provider)) {
    let mut provider = state.providers.get(&OPERATOR).unwrap().clone();
    change(&mut provider);
    state.providers.insert(OPERATOR, provider);
}

fn change_operator(state: &mut State, account: Address, change: fn(&mut Operator)) {
    let id = OperatorId::validator(account);
    let mut operator = state.operators.get(&id).unwrap().clone();
    change(&mut operator);
    state.operators.insert(id, operator);
}

fn change_supply(state: &mut State, change: fn(&mut crate::Supply)) {
    let mut supply = *state.supply();
    change(&mut supply);
    state.supply.set(supply);
}

fn change_credit(state: &mut State, change: fn(&mut credits::Credit)) {
    let mut credit = *state.credit.get();
    change(&mut credit);
    state.credit.set(credit);
}

fn change_params(state: &mut State, change: fn(&mut Params)) {
    let mut rules = state.rules.get().clone();
    change(&mut rules.params);
    state.rules.set(rules);
}

fn change_oracle(state: &mut State, change: fn(&mut crate::Oracle)) {
    let mut oracle = state.oracle.get().clone();
    change(&mut oracle);
    state.oracle.set(oracle);
}

fn change_delegation(state: &mut State, change: fn(&mut Delegation)) {
    let key = (OperatorId::validator(PAYER), OPERATOR);
    let mut delegation = *state.delegations.get(&key).unwrap();
    change(&mut delegation);
    state.delegations.insert(key, delegation);
}

type Damage = fn(&mut State);

/// What breaks each property of a single state.
const DAMAGES: &[(&str, Damage)] = &[
    ("L1", |state| change_account(state, PAYER, |account| account.watt.0 += 1)),
    ("L2", |state| change_supply(state, |supply| supply.burned.split.0 += 1)),
    ("L3", |state| change_account(state, PAYER, |account| account.watt = Watt(u128::MAX))),
    ("L3", |state| change_account(state, NOBODY, |_| {})),
    ("L4", |state| change_supply(state, |supply| supply.total = Watt::whole(1_000_000_001))),
    ("L4", |state| {
        change_supply(state, |supply| supply.minted.settlement = Watt::whole(100_000_001));
    }),
    ("L4", |state| change_supply(state, |supply| supply.minted.emission = Watt(1))),
    ("L5", |state| change_operator(state, PAYER, |operator| operator.outstanding.0 += 1)),
    ("L6", |state| {
        change_account(state, Module::Vault.address(), |vault| vault.nonce = Nonce(1));
    }),
    ("BME1", |state| change_account(state, PAYER, |account| account.credits.0 += 1)),
    ("BME1", |state| change_credit(state, |credit| credit.refunding.0 += 1)),
    ("BME1", |state| change_credit(state, |credit| credit.pending.0 += 1)),
    ("BME1", |state| change_credit(state, |credit| credit.arrears.0 += 1)),
    ("BME2", |state| change_account(state, Module::Vault.address(), |vault| vault.watt.0 -= 1)),
    ("BME5", |state| change_supply(state, |supply| supply.credits_settled.0 += 1)),
    ("BME7", |state| {
        let work = Work { credits: Nusd(1), weight: Weight(0) };
        state.emission.set(crate::Emission { work, ..*state.emission.get() });
    }),
    ("BME7", |state| {
        let work = Work { credits: Nusd(0), weight: Weight(1) };
        state.epoch_work.insert((0, OPERATOR), work);
    }),
    ("CH1", |state| change_channel(state, |channel| channel.claimed.0 += 1)),
    ("CH1", |state| change_channel(state, |channel| channel.settled.0 += 1)),
    ("CH1", |state| change_channel(state, |channel| channel.open = false)),
    ("CH1", |state| change_channel(state, |channel| channel.terms.salt = 9)),
    ("CH1", |state| state.lanes.insert((ChannelId([9; 32]), Lane(0)), Nusd(1))),
    ("CH1", |state| state.lanes.insert((open_channel(state), Lane(256)), Nusd(0))),
    ("CH3", |state| change_supply(state, |supply| supply.credits_settled.0 += 1)),
    ("CH3", |state| change_channel(state, |channel| channel.claimed.0 -= 1)),
    ("PA1", |state| change_params(state, |params| params.oracle.twap_ms = 0)),
    ("PA1", |state| {
        change_params(state, |params| params.stake.unbonding_ms = params.slashing.evidence_age_ms);
    }),
    ("VE1", |state| {
        let vesting = *state.vesting.get(&Bucket::Team).unwrap();
        let claimed = vesting.total;
        state.vesting.insert(Bucket::Team, crate::Vesting { claimed, ..vesting });
    }),
    ("VE1", |state| change_supply(state, |supply| supply.minted.vesting.0 += 1)),
    ("PR1", |state| change_provider(state, |provider| provider.channels_open = 2)),
    ("PR1", |state| change_provider(state, |provider| provider.pending.0 += 1)),
    ("PR1", |state| state.providers.remove(&OPERATOR)),
    ("PR2", |state| change_provider(state, |provider| provider.stage = Stage::Left)),
    ("PR3", |state| state.providers.remove(&PAYER)),
    ("IX1", |state| state.node_keys.remove(&(NodeRole::Gateway, KEY))),
    ("IX1", |state| state.consensus_keys.remove(&KEY)),
    ("IX1", |state| change_provider(state, |provider| provider.node_key = PublicKey([4; 32]))),
    ("IX1", |state| state.due.insert((TimeMs(5), OPERATOR), ())),
    ("IX1", |state| state.parties.insert((OPERATOR, ChannelId([9; 32])), ())),
    ("IX1", |state| state.candidates.remove(&state.candidates.first().unwrap().0.clone())),
    ("IX1", |state| state.maturing.remove(&state.maturing.first().unwrap().0.clone())),
    ("IX1", |state| state.stakes.remove(&(OPERATOR, OperatorId::validator(PAYER)))),
    ("IX1", |state| state.departures.remove(&(OPERATOR, OperatorId::validator(PAYER)))),
    ("IX1", |state| {
        let [from, to] = [OPERATOR, PAYER].map(OperatorId::validator);
        state.returning.insert((TimeMs(5), from, PAYER, to), ());
    }),
    ("IX1", |state| {
        let [from, to] = [OPERATOR, PAYER].map(OperatorId::validator);
        state.arrivals.insert((PAYER, to, from), ());
    }),
    ("CM1", |state| change_account(state, PAYER, |account| account.nonce = Nonce(77))),
    ("OR1", |state| {
        let vote = oracle::Vote { nusd_per_watt: Nusd(1), salt: Hash32([1; 32]) };
        state.price_votes.insert((7, PAYER), vote);
    }),
    ("OR1", |state| state.price_commits.insert((7, PAYER), Hash32([1; 32]))),
    ("OR1", |state| change_oracle(state, |oracle| oracle.nusd_per_watt = Nusd(5))),
    ("OR1", |state| {
        change_oracle(state, |oracle| oracle.observations.insert(0, (TimeMs(9), Nusd(1))));
    }),
    ("ST1", |state| change_operator(state, PAYER, |operator| operator.tokens.0 += 1)),
    ("ST1", |state| change_operator(state, BURIED, |operator| operator.tokens.0 += 1)),
    ("ST1", |state| {
        let key = (OperatorId::validator(PAYER), OPERATOR);
        let mut entries = state.unbondings.get(&key).unwrap().clone();
        entries[0].balance.0 -= 1;
        state.unbondings.insert(key, entries);
    }),
    ("ST2", |state| state.validators.remove(&PAYER)),
    ("ST2", |state| state.signings.remove(&KEY)),
    ("ST2", |state| {
        let seat = ActiveValidator { operator: BURIED, power: 1 };
        state.active.insert(BURIED_KEY, seat);
    }),
    ("ST3", |state| change_delegation(state, |delegation| delegation.shares = Shares(0))),
    ("ST3", |state| change_delegation(state, |delegation| delegation.reward_index.0 = u128::MAX)),
    ("ST4", |state| change_delegation(state, |delegation| delegation.shares.0 += 1)),
    ("ST4", |state| change_operator(state, PAYER, |operator| operator.shares.0 += 1)),
    ("SL5", |state| {
        let mut signing = state.signings.get(&KEY).unwrap().clone();
        signing.missed += 1;
        state.signings.insert(KEY, signing);
    }),
    ("RW1", |state| change_operator(state, PAYER, |operator| operator.commission_due.0 += 1)),
    ("CH1", |state| change_channel(state, |channel| channel.refunded.0 += 1)),
    ("CH3", |state| change_supply(state, |supply| supply.claims_refunded.0 += 1)),
    ("IX1", |state| state.claims.remove(&state.claims.first().unwrap().0.clone())),
    ("IX1", |state| state.closing.remove(&(TimeMs(700), commitment(7)))),
    ("IX1", |state| state.closed_ids.remove(&(commitment(6), 0))),
    ("IX1", |state| state.failures.insert((OPERATOR, 0), ())),
    ("IX1", |state| state.appealable.insert(0, ())),
    ("IX1", |state| state.ripening.remove(&(0, commitment(0)))),
    ("AU1", |state| {
        let commitment = state.commitments.first().unwrap().1.clone();
        state.put_commitment(commitment_of(NOBODY), Some(commitment));
    }),
    ("AU1", |state| {
        let waits = state.commitments.first().unwrap().1.clone();
        state.put_commitment(commitment(7), Some(waits));
    }),
    ("AU1", |state| {
        let waits = state.commitments.first().unwrap().1.clone();
        state.put_commitment(commitment(8), Some(Commitment { period: 9, ..waits }));
    }),
    ("AU1", |state| (10..50).for_each(|n| state.put_round(commitment(n), Some(round())))),
    ("AU1", |state| change_round(state, |round| round.receipts.count = 0)),
    ("AU1", |state| state.beacon.set(Beacon { period: 0, reveals: 1, ..Beacon::default() })),
    ("AU2", |state| change_round(state, |round| round.seats.push(round.seats[0].clone()))),
    ("AU2", |state| change_round(state, |round| round.seats[0].verifier = OPERATOR)),
    ("AU2", |state| change_round(state, |round| round.seats.clear())),
    ("AU2", |state| change_round(state, |round| round.closes_at = TimeMs(701))),
    ("AU3", |state| change_model(state, |standing| standing.evidence.reverse())),
    ("AU3", |state| {
        change_model(state, |standing| standing.evidence[0].evidence.model = ModelId([9; 32]));
    }),
    ("AU3", |state| {
        change_model(state, |standing| {
            let newest = standing.evidence[1].clone();
            standing.evidence.extend(vec![newest; 15]);
        });
    }),
    ("AU3", |state| change_model(state, |standing| *standing = ModelStanding::default())),
    ("AU4", |state| change_standing(state, |standing| standing.good = u64::MAX)),
    ("AU4", |state| change_standing(state, |standing| *standing = Standing::default())),
    ("AU4", |state| change_record(state, |record| record.missed = 2)),
    ("AU4", |state| change_record(state, |record| record.planted_wrong = 2)),
    ("AU5", |state| change_standing(state, |standing| standing.held_until = Some(TimeMs(9)))),
    ("AU5", |state| change_standing(state, |standing| standing.missing_since = Some(TimeMs(9)))),
    ("AU5", |state| change_model(state, |standing| standing.delisted_until = Some(TimeMs(9)))),
    ("AU5", |state| change_model(state, |standing| standing.suspended = true)),
    ("AU5", |state| change_supply(state, |supply| supply.claims_refunded.0 += 1)),
    ("AU6", |state| {
        let closed = state.closed_rounds.first().unwrap().1.clone();
        state.put_closed(1, Some(ClosedRound { sanction: Sanction::Escalate, ..closed }));
    }),
    ("AU6", |state| {
        let closed = state.closed_rounds.first().unwrap().1.clone();
        state.put_closed(256, Some(closed));
    }),
    ("AU7", |state| {
        let means =
            Calibration { l1: Ppm::ONE, l2: Ppm::ONE_PERCENT, projections: None, tokens: 1 };
        state.calibrations.insert((PAYER, MODEL, Backend::Metal), means);
    }),
    ("AU9", |state| {
        let addrs = vec!["127.0.0.1:1".to_owned()];
        state.auditors.insert(NOBODY, AuditorEntry { node_key: KEY, addrs });
    }),
    ("AU9", |state| {
        state.auditors.insert(PAYER, AuditorEntry { node_key: KEY, addrs: Vec::new() });
    }),
    ("AU10", |state| change_standing(state, |standing| standing.verifiers_paid = Watt(1))),
    ("AU10", |state| change_standing(state, |standing| standing.canaries_paid = Watt(1))),
    ("AU2", |state| change_round(state, |round| round.appeal = Some(appeal(PAYER)))),
    ("AU11", |state| change_round(state, |round| round.appeal = Some(appeal(NOBODY)))),
    ("V1", |state| state.active.remove(&KEY)),
    ("V1", |state| {
        state.active.insert(KEY, ActiveValidator { operator: PAYER, power: 0 });
    }),
];

#[test]
fn every_property_sees_its_damage() {
    let sound = state();
    check_all(&sound).unwrap();
    for (place, (number, damage)) in DAMAGES.iter().enumerate() {
        let mut state = sound.clone();
        damage(&mut state);
        let invariant = all().iter().find(|invariant| invariant.number == *number).unwrap();
        let Err(violation) = invariant.check(&state) else {
            panic!("{number} does not see damage {place}");
        };
        assert_eq!(violation.number, *number);
        assert!(check_all(&state).is_err());
    }
    for invariant in all() {
        let is_damaged = DAMAGES.iter().any(|(number, _)| *number == invariant.number);
        assert!(is_damaged, "nothing damages {}", invariant.number);
    }
}

/// A damaged state does not come back from a snapshot, whatever root it names.
#[test]
fn a_snapshot_of_a_damaged_state_is_refused() {
    let mut state = state();
    change_account(&mut state, PAYER, |account| account.watt.0 += 1);
    state.begin();
    let bytes = state.snapshot().unwrap();
    let error = State::from_snapshot(&bytes, state.genesis_hash()).unwrap_err().to_string();
    assert!(error.contains("breaks invariant L1"), "{error}");
}

#[test]
fn every_step_that_must_not_happen_is_seen() {
    let damages: &[(&str, Damage)] = &[
        ("L2", |state| change_supply(state, |supply| supply.vault_in.0 -= 1)),
        ("L2", |state| change_supply(state, |supply| supply.minted.vesting.0 -= 1)),
        ("L2", |state| change_supply(state, |supply| supply.burned.slash.0 -= 1)),
        ("L2", |state| change_supply(state, |supply| supply.credits_issued.0 -= 1)),
        ("L2", |state| change_supply(state, |supply| supply.genesis.0 += 1)),
        ("L6", |state| change_account(state, PAYER, |account| account.watt.0 -= 1)),
        ("L6", |state| change_account(state, PAYER, |account| account.credits.0 -= 1)),
        ("BME5", |state| change_account(state, OPERATOR, |account| account.credits.0 += 1)),
        ("BME6", |state| change_supply(state, |supply| supply.credits_issued.0 += 1)),
        ("CH2", |state| state.lanes.remove(&(open_channel(state), Lane(0)))),
        ("CH2", |state| state.lanes.insert((open_channel(state), Lane(0)), Nusd(1))),
        ("CH2", |state| state.channels.remove(&open_channel(state))),
        ("CH2", |state| change_channel(state, |channel| channel.claimed.0 -= 1)),
        ("CH2", |state| change_channel(state, |channel| channel.opened_at = Height(9))),
        ("CH2", |state| change_channel(state, |channel| channel.terms.salt = 9)),
        ("CH2", |state| {
            let id = terms(2).id(state.chain_id());
            let closed = state.channels.get(&id).unwrap().clone();
            state.channels.insert(id, Channel { open: true, ..closed });
        }),
        ("N1", |state| change_account(state, PAYER, |account| account.nonce = Nonce(0))),
        ("SL4", |state| change_operator(state, BURIED, |operator| operator.tombstoned = false)),
        ("SL4", |state| state.operators.remove(&OperatorId::validator(BURIED))),
        ("L2", |state| change_supply(state, |supply| supply.claims_refunded.0 -= 1)),
        ("CH2", |state| change_channel(state, |channel| channel.refunded.0 -= 1)),
        ("AU8", |state| change_supply(state, |supply| supply.claims_refunded.0 += 1)),
        ("AU8", |state| change_model(state, |standing| standing.delisted_until = Some(TimeMs(9)))),
        ("AU8", |state| state.beacon.set(Beacon { reveals: 3, ..*state.beacon() })),
    ];
    let mut before = state();
    change_account(&mut before, PAYER, |account| account.nonce = Nonce(1));
    change_supply(&mut before, |supply| supply.burned.slash.0 += 1);
    change_supply(&mut before, |supply| supply.claims_refunded.0 += 1);
    change_channel(&mut before, |channel| channel.refunded.0 += 1);
    before.beacon.set(Beacon { period: 5, value: Hash32([1; 32]), reveals: 2 });
    change_credit(&mut before, |credit| {
        credit.breaker = Breaker::Paused { since: TimeMs(1) };
    });
    let nobody = BTreeSet::new();
    check_transition(&before, &before, &nobody).unwrap();
    for (place, (number, damage)) in damages.iter().enumerate() {
        let mut after = before.clone();
        damage(&mut after);
        let Err(violation) = check_transition(&before, &after, &nobody) else {
            panic!("{number} does not see damage {place}");
        };
        // A smaller claim leaves more to its owner, which is seen first.
        let seen_first = violation.number == "BME5" && *number == "CH2";
        assert!(seen_first || violation.number == *number, "{number}: {violation}");
    }
    // Who signed may pay.
    let mut after = before.clone();
    change_account(&mut after, PAYER, |account| account.watt.0 -= 1);
    check_transition(&before, &after, &[PAYER].into()).unwrap();
}
