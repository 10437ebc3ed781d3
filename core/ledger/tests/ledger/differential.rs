//! The ledger against models that are too simple to be wrong: stake and rewards against fractions,
//! channels against what the two parties know.

use std::collections::BTreeMap;

use ledger::{Event, TxOutcome};
use proptest::prelude::*;
use types::{
    ChannelId, Lane, Nusd, Rounding, Watt, mul_div,
    stake::CommissionTerms,
    tx::{Action, CreditPurchase, VerifiedTx},
};

use crate::world::{World, address, claim, consensus_key, ppm, redeem, register, validator};

const DELEGATORS: [&str; 4] = ["vito", "dora", "alice", "gina"];

/// A fraction between two bounds in units of 2⁻⁵⁰, which no test is long enough to pull apart by one
/// whole unit.
#[derive(Clone, Copy, Default, Debug)]
struct Between {
    low: u128,
    high: u128,
}

const ONE: u128 = 1 << 50;

impl Between {
    fn add(&mut self, amount: u128) {
        self.low += amount * ONE;
        self.high += amount * ONE;
    }

    fn sub(&mut self, amount: u128) {
        self.low = self.low.saturating_sub(amount * ONE);
        self.high = self.high.saturating_sub(amount * ONE);
    }

    fn scale(&mut self, by: u128, over: u128) {
        self.low = mul_div(self.low, by, over, Rounding::Down).unwrap();
        self.high = mul_div(self.high, by, over, Rounding::Up).unwrap();
    }

    fn add_share(&mut self, amount: u128, share: u128, of: u128) {
        self.low += mul_div(amount * ONE, share, of, Rounding::Down).unwrap();
        self.high += mul_div(amount * ONE, share, of, Rounding::Up).unwrap();
    }
}

/// One validator, with four who stake behind it, in fractions.
#[derive(Default)]
struct Fractions {
    tokens: u128,
    stake: BTreeMap<&'static str, Between>,
    earned: BTreeMap<&'static str, Between>,
    paid: BTreeMap<&'static str, u128>,
    /// How often each rounding can have cost somebody a unit.
    steps: u128,
}

impl Fractions {
    /// Follows one block: what its events say was staked, slashed, paid and distributed.
    fn see(&mut self, world: &World, txs: &[(&'static str, VerifiedTx)], events: &[Vec<Event>]) {
        let name_of = |wanted: &types::Address| {
            DELEGATORS.into_iter().find(|name| address(name) == *wanted).unwrap()
        };
        let (end, of_txs) = events.split_last().unwrap();
        for event in end {
            if let Event::Slashed(slashed) = event
                && self.tokens > 0
            {
                let left = self.tokens - slashed.amount.0;
                self.stake.values_mut().for_each(|stake| stake.scale(left, self.tokens));
                self.tokens = left;
            }
        }
        for ((name, _), events) in txs.iter().zip(of_txs) {
            for event in events {
                self.steps += 1;
                match event {
                    Event::Delegated { amount, .. } => {
                        self.stake.entry(name).or_default().add(amount.0);
                        self.tokens += amount.0;
                    }
                    Event::Undelegated { amount, .. } => {
                        self.stake.entry(name).or_default().sub(amount.0);
                        self.tokens -= amount.0;
                    }
                    Event::RewardsWithdrawn { delegator, amount, .. } => {
                        *self.paid.entry(name_of(delegator)).or_default() += amount.0;
                    }
                    _ => {}
                }
            }
        }
        for event in end {
            if let Event::RewardsDistributed { amount, .. } = event {
                self.distribute(world, amount.0);
            }
        }
    }

    /// By the shares of the ledger: what those are worth is compared on its own.
    fn distribute(&mut self, world: &World, amount: u128) {
        let pool = world.state.operator(&validator("vito")).unwrap();
        self.steps += 1;
        for name in DELEGATORS {
            if let Some(held) = world.state.delegation(&address(name), &validator("vito")) {
                let earned = self.earned.entry(name).or_default();
                earned.add_share(amount, held.shares.0, pool.shares.0);
            }
        }
    }

    fn compare(&self, world: &World) {
        let vito = validator("vito");
        assert_eq!(world.state.operator(&vito).unwrap().tokens.0, self.tokens);
        for name in DELEGATORS {
            let stake = self.stake.get(name).copied().unwrap_or_default();
            let held = world.state.stake_of(&address(name), &vito).0 * ONE;
            let slack = (self.steps + 1) * ONE;
            assert!(held + slack >= stake.low, "{name} has {held}, owns {stake:?}");
            assert!(held <= stake.high + slack, "{name} has {held}, owns {stake:?}");
            // Never more than the exact share, and less by under a unit for each step.
            let earned = self.earned.get(name).copied().unwrap_or_default();
            let due = world.state.rewards_of(&address(name), &vito).0;
            let got = (self.paid.get(name).copied().unwrap_or_default() + due) * ONE;
            assert!(got <= earned.high, "{name} got {got}, earned {earned:?}");
            assert!(got + slack > earned.low, "{name} got {got}, earned {earned:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Delegate(usize, u64),
    /// So many thousandths of what is held.
    Undelegate(usize, u64),
    Withdraw(usize),
    Pass,
    /// The validator misses a block, which in this world costs it a twentieth.
    Miss,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..DELEGATORS.len();
    prop_oneof![
        4 => (who.clone(), 1u64..20_000_000_000).prop_map(|(who, amount)| Step::Delegate(who, amount)),
        3 => (who.clone(), 1u64..=1_000).prop_map(|(who, part)| Step::Undelegate(who, part)),
        2 => who.prop_map(Step::Withdraw),
        1 => Just(Step::Pass),
        1 => Just(Step::Miss),
    ]
}

fn lone_validator() -> World {
    World::with(|genesis| {
        genesis.params.stake.validator_bond_min = Watt::whole(1);
        genesis.params.stake.entries_max = 100;
        genesis.params.slashing.window_blocks = 1;
        genesis.params.slashing.downtime = ppm(50_000);
        genesis.params.fees.tx = Watt(1_000_003);
        genesis.validators.remove(0);
        genesis.validators[0].stake = Watt(7_000_000_001);
        let none = ppm(0);
        genesis.validators[0].commission =
            CommissionTerms { rate: none, rate_max: none, change_max: none };
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn stake_and_rewards_follow_the_fractions(
        blocks in prop::collection::vec(prop::collection::vec(step(), 0..4), 1..60)
    ) {
        let mut world = lone_validator();
        let mut model = Fractions::default();
        model.stake.entry("vito").or_default().add(7_000_000_001);
        model.tokens = 7_000_000_001;
        let operator = validator("vito");
        for steps in blocks {
            let mut txs: Vec<(&'static str, VerifiedTx)> = Vec::new();
            world.absent = Vec::new();
            for step in steps {
                let (who, action) = match step {
                    Step::Delegate(who, amount) => {
                        let amount = Watt(u128::from(amount));
                        (who, Action::Delegate { operator, amount })
                    }
                    Step::Undelegate(who, part) => {
                        let held = world.state.stake_of(&address(DELEGATORS[who]), &operator);
                        let amount = Watt(held.0 * u128::from(part) / 1_000);
                        (who, Action::Undelegate { operator, amount })
                    }
                    Step::Withdraw(who) => (who, Action::WithdrawRewards { operator }),
                    Step::Pass => continue,
                    Step::Miss => {
                        world.absent = vec![consensus_key("vito")];
                        continue;
                    }
                };
                let name = DELEGATORS[who];
                // One transaction of each in a block keeps nonces simple.
                if txs.iter().all(|(other, _)| *other != name) {
                    txs.push((name, world.tx(name, action)));
                }
            }
            let list: Vec<VerifiedTx> = txs.iter().map(|(_, tx)| tx.clone()).collect();
            let outcome = world.block(&list);
            let mut events: Vec<Vec<Event>> = outcome
                .results
                .iter()
                .map(|result| match &result.outcome {
                    TxOutcome::Applied { events } => events.clone(),
                    TxOutcome::Failed { .. } | TxOutcome::Skipped { .. } => Vec::new(),
                })
                .collect();
            events.push(outcome.events);
            model.see(&world, &txs, &events);
            model.compare(&world);
        }
    }

    /// The payer knows what it signed and deposited, the provider what it was promised: from that
    /// alone follows what each has at any time.
    #[test]
    fn a_channel_follows_its_two_parties(moves in prop::collection::vec(channel_move(), 1..60)) {
        let mut world = World::new();
        world.apply("paul", register("paul", Watt::whole(10)));
        let channel = world.open("gina", "paul", 1, Nusd(1_000));
        let credits = CreditPurchase::Receive { credits: Nusd(5_000), watt_max: Watt(u128::MAX) };
        world.apply("gina", Action::BuyCredits(credits));
        let delay_ms = world.genesis.params.channels.withdraw_delay_ms_min;
        let mut parties = Parties { deposit: 1_000, purse: 5_000, ..Parties::default() };
        for step in moves {
            world.wait(delay_ms / 3);
            let now = world.now.0;
            let (name, action) = step.action(channel);
            let expected = parties.step(&step, now, delay_ms);
            let result = world.run(name, action);
            let applied = matches!(result.outcome, TxOutcome::Applied { .. });
            prop_assert_eq!(applied, expected, "{:?} {:?}", step, world.show(&result));
            let entry = world.state.channel(&channel).unwrap();
            prop_assert_eq!(entry.claimed.0, parties.claimed());
            prop_assert_eq!(entry.settled.0, parties.claimed());
            prop_assert_eq!(entry.balance().0, parties.held());
            prop_assert_eq!(world.credits("gina").0, parties.purse);
            let lanes: BTreeMap<u32, u128> =
                world.state.lanes_of(channel).map(|(Lane(lane), it)| (lane, it.0)).collect();
            prop_assert_eq!(&lanes, &parties.lanes);
        }
    }
}

#[derive(Clone, Debug)]
enum Move {
    /// A lane, what its voucher is for, and how much of that is claimed.
    Redeem(u32, u64, u64),
    TopUp(u64),
    Return(u64),
    Request,
    Finalize,
    Close,
}

fn channel_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        10 => (0u32..4, 0u64..700, 0u64..720).prop_map(|(lane, signed, claimed)| {
            Move::Redeem(lane, signed, claimed)
        }),
        4 => (0u64..900).prop_map(Move::TopUp),
        3 => (0u64..300).prop_map(Move::Return),
        2 => Just(Move::Request),
        2 => Just(Move::Finalize),
        1 => Just(Move::Close),
    ]
}

impl Move {
    fn action(&self, channel: ChannelId) -> (&'static str, Action) {
        let nusd = |amount: u64| Nusd(u128::from(amount));
        match *self {
            Move::Redeem(lane, signed, claimed) => {
                ("paul", redeem(vec![claim("gina", channel, lane, nusd(signed), nusd(claimed))]))
            }
            Move::TopUp(amount) => ("gina", Action::TopUpChannel { channel, amount: nusd(amount) }),
            Move::Return(amount) => {
                ("paul", Action::ReturnDeposit { channel, amount: nusd(amount) })
            }
            Move::Request => ("gina", Action::RequestWithdraw { channel }),
            Move::Finalize => ("gina", Action::FinalizeWithdraw { channel }),
            Move::Close => ("paul", Action::CloseChannel { channel }),
        }
    }
}

/// What both parties together know.
#[derive(Default)]
struct Parties {
    deposit: u128,
    returned: u128,
    /// Free credits of the payer.
    purse: u128,
    /// The largest claim on each lane.
    lanes: BTreeMap<u32, u128>,
    withdraw_at: Option<u64>,
    closed: bool,
}

impl Parties {
    fn claimed(&self) -> u128 {
        self.lanes.values().sum()
    }

    fn held(&self) -> u128 {
        self.deposit - self.returned - self.claimed()
    }

    fn give_back(&mut self, amount: u128) {
        self.returned += amount;
        self.purse += amount;
    }

    /// Whether it is allowed, and does it.
    fn step(&mut self, step: &Move, now: u64, delay_ms: u64) -> bool {
        if self.closed {
            return false;
        }
        match *step {
            Move::Redeem(lane, signed, claimed) => {
                let before = self.lanes.get(&lane).copied().unwrap_or_default();
                let more = u128::from(claimed).saturating_sub(before);
                if claimed > signed || more > self.held() {
                    return false;
                }
                if more > 0 {
                    self.lanes.insert(lane, u128::from(claimed));
                }
                true
            }
            Move::TopUp(amount) => {
                let amount = u128::from(amount);
                if amount == 0 || amount > self.purse || self.withdraw_at.is_some() {
                    return false;
                }
                self.purse -= amount;
                self.deposit += amount;
                true
            }
            Move::Return(amount) => {
                let amount = u128::from(amount);
                if amount == 0 || amount > self.held() {
                    return false;
                }
                self.give_back(amount);
                true
            }
            Move::Request => {
                let first = self.withdraw_at.is_none();
                self.withdraw_at.get_or_insert(now + delay_ms);
                first
            }
            Move::Finalize | Move::Close => {
                let may = match self.withdraw_at {
                    _ if matches!(step, Move::Close) => true,
                    Some(at) => now >= at,
                    None => false,
                };
                if may {
                    self.give_back(self.held());
                    self.closed = true;
                }
                may
            }
        }
    }
}
