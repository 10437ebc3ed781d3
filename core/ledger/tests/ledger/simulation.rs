//! Random operations of every kind, hostile arguments included, over many blocks and seeds.
//!
//! Method (ECONOMICS E21): weighted operations from a seed; every invariant after every block, in
//! [`World::block`] (those that build the whole tree and all indexes anew in every eighth one); an
//! auditor recounts all balances from events; in the middle the state is exported and imported, and
//! the import goes on in step; at the end the same blocks are replayed from genesis, and one history
//! is made a second time from its seed. A failure prints the seed that reproduces it.

mod audits;
mod operations;

use std::collections::{BTreeMap, BTreeSet};

use ledger::{Event, State, TxOutcome};
use types::{
    Address, ChannelId, Nusd, TimeMs, Watt,
    audit::{CommitmentId, Verdict},
    genesis::{Bucket, Genesis, GenesisVesting},
    params::{AuditMode, CreditPolicy},
    split::{Shares, Split},
    tx::{Action, Tx, VerifiedTx},
};

use crate::{
    auditor::Auditor,
    world::{Executed, MINUTE_MS, World, address, consensus_key, ppm},
};

const SEEDS: u64 = 36;
const BLOCKS: u64 = 1_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

#[test]
fn invariants_hold_over_random_histories() {
    let mut seen = Seen::default();
    for seed in seeds() {
        let mut sim = Sim::new(seed);
        for block in 0..BLOCKS {
            sim.block(block);
        }
        sim.replay();
        seen.absorb(&sim.seen);
    }
    if seen.histories < SEEDS {
        return;
    }
    // A simulation in which something never happens shows nothing about it.
    let missing = |all: &[&'static str], found: &BTreeSet<&str>| -> Vec<&str> {
        all.iter().filter(|it| !found.contains(*it)).copied().collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(missing(&ACTIONS, &seen.applied), none, "never applied");
    assert_eq!(missing(&ACTIONS, &seen.refused), none, "never refused");
    assert_eq!(missing(Event::KINDS, &seen.kinds), none, "events that never happened");
    assert_eq!(missing(&CODES, &seen.codes), none, "errors that never happened");
    assert!(seen.minted, "the vault was never short");
}

#[test]
fn one_seed_makes_one_history() {
    let [first, second] = [(); 2].map(|()| {
        let mut sim = Sim::new(3);
        (0..100).for_each(|block| sim.block(block));
        sim.world.state.snapshot().unwrap()
    });
    assert_eq!(first, second);
}

/// All of them, or the one of the environment.
#[expect(clippy::disallowed_methods, reason = "a test may read SEED")]
fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

/// Every action there is. Each is applied and each is refused for a reason of its own, which does not
/// mean a wrong nonce or a fee that cannot be paid.
const ACTIONS: [&str; 35] = [
    "appeal",
    "buy_credits",
    "claim_vested",
    "close_channel",
    "commit_price",
    "commit_receipts",
    "commit_verdict",
    "delegate",
    "demand_audit",
    "finalize_withdraw",
    "heartbeat",
    "open_channel",
    "publish_calibration",
    "redeem_vouchers",
    "redelegate",
    "refund_credits",
    "register_auditor",
    "register_gateway",
    "register_provider",
    "register_validator",
    "report_canary",
    "request_withdraw",
    "return_deposit",
    "reveal_planted",
    "reveal_price",
    "reveal_verdict",
    "set_commission",
    "submit_evidence",
    "top_up_channel",
    "transfer",
    "unbond_provider",
    "undelegate",
    "unjail",
    "withdraw_commission",
    "withdraw_rewards",
];

/// Every error that histories as long as these reach.
const CODES: [&str; 91] = [
    "account.insufficient_credits",
    "account.insufficient_watt",
    "amount.overflow",
    "amount.zero",
    "audit.calibration_mean",
    "audit.demand_repeated",
    "audit.early",
    "audit.inconsistent",
    "audit.late",
    "audit.mismatch",
    "audit.model_not_offered",
    "audit.no_other_verifiers",
    "audit.no_round",
    "audit.not_appealable",
    "audit.not_auditor",
    "audit.not_committer",
    "audit.not_demandable",
    "audit.not_kept",
    "audit.not_planted",
    "audit.not_verifier",
    "audit.planted_repeated",
    "audit.off",
    "audit.receipts_count",
    "audit.repeated",
    "audit.too_many_commitments",
    "audit.uncommitted",
    "channel.closed",
    "channel.exists",
    "channel.not_payer",
    "channel.not_receiver",
    "channel.terms_payer",
    "channel.unknown",
    "channel.withdraw_delay",
    "channel.withdraw_early",
    "channel.withdraw_not_requested",
    "channel.withdraw_pending",
    "credits.block_full",
    "credits.no_refunds",
    "credits.nothing",
    "credits.paused",
    "credits.watt_max",
    "evidence.none",
    "evidence.old",
    "fee.cannot_pay",
    "fee.max_too_low",
    "gateway.bad_addr",
    "gateway.too_many_addrs",
    "nonce.too_high",
    "nonce.too_low",
    "oracle.mismatch",
    "oracle.price",
    "oracle.repeated",
    "oracle.stale",
    "oracle.uncommitted",
    "provider.leaving",
    "provider.unbonded_full",
    "provider.unknown",
    "redeem.above_voucher",
    "redeem.channel_short",
    "redeem.claims_count",
    "redeem.lane_too_high",
    "redeem.voucher_signer",
    "registry.moniker",
    "registry.node_key_taken",
    "registry.profile_models",
    "registry.profile_tag",
    "rewards.nothing",
    "stake.bond_needed",
    "stake.commission_differs",
    "stake.commission_early",
    "stake.commission_terms",
    "stake.exchange_rate",
    "stake.jailed_until",
    "stake.not_delegated",
    "stake.not_jailed",
    "stake.operator_unknown",
    "stake.redelegation_hop",
    "stake.redelegation_pair",
    "stake.short",
    "stake.tombstoned",
    "stake.too_many_entries",
    "transfer.to_module",
    "tx.chain_id",
    "tx.expired",
    "validator.bond",
    "validator.consensus_key",
    "validator.consensus_key_taken",
    "validator.no_seat",
    "validator.unknown",
    "vesting.no_bucket",
    "vesting.nothing",
];

#[derive(Default)]
struct Seen {
    histories: u64,
    applied: BTreeSet<&'static str>,
    refused: BTreeSet<&'static str>,
    kinds: BTreeSet<&'static str>,
    codes: BTreeSet<&'static str>,
    minted: bool,
}

impl Seen {
    fn absorb(&mut self, other: &Seen) {
        self.applied.extend(&other.applied);
        self.refused.extend(&other.refused);
        self.kinds.extend(&other.kinds);
        self.codes.extend(&other.codes);
        self.minted |= other.minted;
        self.histories += 1;
    }
}

struct Sim {
    seed: u64,
    rng: u64,
    /// Above 850 000 ppm, how far one vote may reach: 300 000 wanders, less falls.
    price_range: u64,
    world: World,
    /// Made from a snapshot in the middle; executes the same blocks.
    import: Option<State>,
    auditor: Auditor,
    seen: Seen,
    /// Channels that were tried, with who pays and who is paid.
    channels: Vec<(ChannelId, &'static str, &'static str)>,
    /// Prices that were committed to, by period and voter.
    votes: BTreeMap<(u64, &'static str), Nusd>,
    /// Verdicts that were committed to.
    verdicts: BTreeMap<(CommitmentId, &'static str), Verdict>,
    /// Whose validator does not sign.
    asleep: Option<&'static str>,
    /// Blocks as they were executed, skipped transactions included.
    executed: Vec<Executed>,
}

impl Drop for Sim {
    #[expect(clippy::print_stderr, reason = "the seed reproduces the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("reproduce with SEED={}", self.seed);
        }
    }
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng(seed);
        let mut world = World::with(|genesis| draw_genesis(seed, &mut rng, genesis));
        world.slow_checks_every = 8;
        let auditor = Auditor::new(&world.genesis);
        Sim {
            seed,
            price_range: [150_000, 300_000][(seed % 2) as usize],
            rng: rng.0,
            world,
            import: None,
            auditor,
            seen: Seen::default(),
            channels: Vec::new(),
            votes: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            asleep: None,
            executed: Vec::new(),
        }
    }

    fn block(&mut self, number: u64) {
        self.pass_time();
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        // Now and then all validators vote, so that a beacon is strong.
        let mut planned = if self.below(3) == 0 { self.votes_of_all() } else { Vec::new() };
        let count = self.below(9);
        planned.extend((0..count).map(|_| self.operation()));
        let txs: Vec<VerifiedTx> =
            planned.into_iter().map(|(name, action)| self.tx(&mut nonces, name, action)).collect();
        let outcome = self.world.block(&txs);
        self.auditor.see(&txs, &outcome);
        self.auditor.compare(&self.world.state);
        for (tx, result) in txs.iter().zip(&outcome.results) {
            assert!(tx.id() == result.id);
            let action = tx.tx().action.name();
            match &result.outcome {
                TxOutcome::Applied { events } => {
                    self.seen.applied.insert(action);
                    self.seen.kinds.extend(events.iter().map(Event::kind));
                }
                TxOutcome::Failed { error } | TxOutcome::Skipped { error } => {
                    let code = error.code();
                    self.seen.codes.insert(code);
                    if !["tx.", "nonce.", "fee."].iter().any(|part| code.starts_with(part)) {
                        self.seen.refused.insert(action);
                    }
                }
            }
        }
        self.seen.kinds.extend(outcome.events.iter().map(Event::kind));
        let (time, absent) = (self.world.now, self.world.absent.clone());
        let block = Executed { time, absent, txs };
        if let Some(import) = &mut self.import {
            assert_eq!(block.run(import), outcome);
        }
        self.executed.push(block);
        if number == BLOCKS / 2 {
            self.export_and_import();
        }
    }

    /// Mostly as far as the next period of the oracle, sometimes over a holdback, an epoch, a jail,
    /// or a whole unbonding. One seat may be absent for long.
    fn pass_time(&mut self) {
        let wait_ms = match self.below(40) {
            0..8 => 0,
            8..12 => 1 + self.below(1_000),
            12..30 => MINUTE_MS,
            30..36 => self.below(20) * MINUTE_MS,
            36..39 => self.below(60) * MINUTE_MS,
            _ => self.below(6) * HOUR_MS,
        };
        self.world.wait(wait_ms);
        match self.below(60) {
            0..2 => self.asleep = Some(self.pick(&["vera", "vito", "alice", "dora"])),
            2 => self.asleep = None,
            _ => {}
        }
        let awake = self.below(4) > 0;
        let asleep = self.asleep.filter(|_| awake || self.below(2) == 0);
        self.world.absent = asleep.map(consensus_key).into_iter().collect();
        if self.below(20) == 0 {
            self.world.absent.push(consensus_key("nobody"));
        }
    }

    fn export_and_import(&mut self) {
        let bytes = self.world.state.snapshot().unwrap();
        let import = State::from_snapshot(&bytes, self.world.genesis.hash()).unwrap();
        assert_eq!(import.snapshot().unwrap(), bytes);
        assert_eq!(import.app_hash(), self.world.state.app_hash());
        self.import = Some(import);
    }

    /// The same blocks from genesis, with and without what was skipped, end in the same bytes, and so
    /// does the import.
    fn replay(&mut self) {
        self.seen.minted = !self.world.state.supply().minted.settlement.is_zero();
        let end = self.world.state.snapshot().unwrap();
        for blocks in [&self.world.blocks, &self.executed] {
            let mut state = State::from_genesis(&self.world.genesis).unwrap();
            blocks.iter().for_each(|block| drop(block.run(&mut state)));
            assert_eq!(state.snapshot().unwrap(), end);
        }
        assert_eq!(self.import.as_ref().unwrap().snapshot().unwrap(), end);
    }

    /// Now and then with something wrong around the action.
    fn tx(
        &mut self,
        nonces: &mut BTreeMap<Address, u64>,
        name: &'static str,
        action: Action,
    ) -> VerifiedTx {
        let sender = address(name);
        let next =
            nonces.entry(sender).or_insert_with(|| self.world.state.account(&sender).nonce.0);
        let nonce = *next;
        *next += 1;
        let now = self.world.now;
        let fault = self.below(80);
        let tx = self.world.tx_with(name, action, |tx: &mut Tx| {
            tx.nonce.0 = nonce;
            match fault {
                0 => tx.chain_id = "elsewhere".parse().unwrap(),
                1 => tx.nonce.0 = nonce.saturating_sub(1),
                2 => tx.nonce.0 = nonce + 70,
                3 => tx.fee_max = Watt(10),
                4 => tx.valid_until = Some(TimeMs(now.0 - 1)),
                5 => tx.valid_until = Some(now),
                _ => {}
            }
        });
        // What the mempool says never panics.
        let _ = self.world.state.check(&tx);
        tx
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn below(&mut self, bound: u64) -> u64 {
        let mut rng = Rng(self.rng);
        let value = rng.below(bound);
        self.rng = rng.0;
        value
    }
}

/// Parameters are drawn too, so that some histories are short of reserve, places or WATT. Times are
/// short enough for everything to happen, and in the proportions that the bounds ask for.
fn draw_genesis(seed: u64, rng: &mut Rng, genesis: &mut Genesis) {
    let params = &mut genesis.params;
    let policies = [CreditPolicy::Vault, CreditPolicy::Emission, CreditPolicy::Split];
    params.credits.policy = policies[(seed % 3) as usize];
    if !seed.is_multiple_of(2) {
        params.split = draw_split(rng);
    }
    params.fees.tx = Watt(u128::from(rng.below(3_000_000)));
    params.supply.settlement_reserve =
        [Watt::whole(30), Watt::whole(1_000), Watt::ZERO][(seed / 3 % 3) as usize];
    params.supply.emission_budget = Watt::whole(5 + rng.below(500));
    params.emission.epoch_ms = 30 * MINUTE_MS;
    params.emission.base = Watt::whole(1 + rng.below(20));
    params.emission.halving_epochs = 1 + rng.below(30);
    params.emission.pool_inflow = ppm(500_000);
    params.emission.pool_smoothing = 4;
    params.credits.spread = ppm(rng.below(10_000) as u32);
    params.credits.issue_block_max = Nusd::whole(800);
    params.credits.refunds = seed != 5;
    params.credits.refund_delay_ms = 20 * MINUTE_MS;
    params.credits.pause_ms = 20 * MINUTE_MS;
    // So that the price moves although many are away or late.
    params.oracle.threshold = ppm([500_000, 666_667][(seed / 2 % 2) as usize]);
    params.channels.holdback_ms = [0, 10 * MINUTE_MS, HOUR_MS][(seed / 2 % 3) as usize];
    params.channels.withdraw_delay_ms_min = MINUTE_MS;
    params.channels.withdraw_delay_ms_max = 30 * MINUTE_MS;
    params.providers.withhold = ppm(rng.below(1_000_001) as u32);
    params.providers.unbonded_max = 2 + rng.below(2) as u32;
    params.providers.idle_ms = 9 * HOUR_MS;
    params.providers.heartbeat_ms = MINUTE_MS;
    params.stake.unbonding_ms = 5 * HOUR_MS;
    params.stake.entries_max = 2;
    params.stake.validators_max = 3;
    params.stake.validator_bond_min = Watt::whole(50);
    params.stake.commission_period_ms = 10 * MINUTE_MS;
    params.slashing.evidence_age_ms = 4 * HOUR_MS;
    params.slashing.window_blocks = 12;
    params.slashing.downtime = ppm(20_000);
    params.slashing.oracle = ppm(10_000);
    let modes = [AuditMode::Enforced, AuditMode::Enforced, AuditMode::Shadow, AuditMode::Off];
    params.audits.mode = modes[(seed % 4) as usize];
    params.audits.enforced = vec![audits::MODELS[0]];
    params.audits.open_max = 4;
    params.audits.appeal_deposit = Watt::whole(1);
    params.audits.verifiers = 2 + (seed % 2) as u32;
    params.audits.commit_ms = HOUR_MS;
    params.audits.reveal_ms = HOUR_MS;
    params.audits.seal_ms = [0, 2 * MINUTE_MS][(seed / 4 % 2) as usize];
    params.audits.quality_weight = ppm(200_000);
    params.audits.halving_passes = 2;
    params.audits.escalate_ms = HOUR_MS;
    params.audits.missing_ms = 2 * HOUR_MS;
    params.audits.delist_ms = 2 * HOUR_MS;
    params.oracle.max_age_ms = 2 * HOUR_MS;
    params.oracle.twap_ms = 10 * MINUTE_MS;
    params.oracle.window_counts = 12;
    params.oracle.good_min = ppm(300_000);
    genesis.validators[0].stake = Watt::whole(200);
    genesis.validators[1].stake = Watt::whole(100);
    let bucket = |bucket, beneficiary, total| GenesisVesting {
        bucket,
        beneficiary,
        total: Watt::whole(total),
        start: genesis.time,
        cliff: genesis.time.plus_ms(2 * HOUR_MS),
        end: genesis.time.plus_ms(30 * HOUR_MS),
    };
    genesis.vesting =
        vec![bucket(Bucket::Team, Some(address("alice")), 400), bucket(Bucket::Treasury, None, 70)];
}

fn draw_split(rng: &mut Rng) -> Split {
    let provider = rng.below(1_000_001) as u32;
    let stakers = rng.below(u64::from(1_000_001 - provider)) as u32;
    let burn = rng.below(u64::from(1_000_001 - provider - stakers)) as u32;
    let treasury = 1_000_000 - provider - stakers - burn;
    let [provider, stakers, burn, treasury] = [provider, stakers, burn, treasury].map(ppm);
    Split::new(Shares { provider, stakers, burn, treasury }).unwrap()
}

/// `SplitMix64`: enough for a simulator, and no dependency.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut it = self.0;
        it = (it ^ (it >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        it = (it ^ (it >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (it ^ (it >> 31)) % bound.max(1)
    }
}
