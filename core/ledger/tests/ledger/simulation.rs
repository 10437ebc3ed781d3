//! Random operations of every kind, hostile arguments included, over many blocks and seeds.
//!
//! Method (ECONOMICS E21): weighted operations from a seed; every invariant after every block, in
//! [`World::block`]; an auditor recounts all balances from events; at the end the same blocks are
//! replayed from genesis and from a snapshot. A failure prints the seed that reproduces it.

use std::collections::{BTreeMap, BTreeSet};

use ledger::{State, TxOutcome};
use types::{
    Address, ChannelId, Nusd, TimeMs, Watt,
    channel::ChannelTerms,
    limits::LANES_MAX,
    split::{Shares, Split},
    tx::{Action, CreditPurchase, Tx, VerifiedTx, VoucherClaim},
};

use crate::{
    auditor::Auditor,
    world::{NAMES, World, address, claim, key, payer_key, ppm},
};

const SEEDS: u64 = 16;
const BLOCKS: u64 = 500;

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
    for kind in KINDS {
        assert!(seen.kinds.contains(kind), "no {kind} in any history");
    }
    for code in CODES {
        assert!(seen.codes.contains(code), "no {code} in any history");
    }
    assert!(seen.minted, "the vault was never short");
}

/// All of them, or the one of the environment.
#[expect(clippy::disallowed_methods, reason = "a test may read SEED")]
fn seeds() -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().expect("SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

/// Every event there is.
const KINDS: [&str; 19] = [
    "bank.transferred",
    "channel.closed",
    "channel.opened",
    "channel.redeemed",
    "channel.topped_up",
    "channel.withdraw_requested",
    "credits.bought",
    "fee.debt_paid",
    "fee.owed",
    "gateway.registered",
    "price.set",
    "provider.bonded",
    "provider.leaving",
    "provider.registered",
    "provider.removed",
    "provider.unbonded",
    "provider.updated",
    "rewards.distributed",
    "rewards.withdrawn",
];

/// Every error that a history as long as this one reaches.
const CODES: [&str; 39] = [
    "account.insufficient_credits",
    "account.insufficient_watt",
    "amount.overflow",
    "amount.zero",
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
    "credits.watt_max",
    "fee.cannot_pay",
    "fee.max_too_low",
    "gateway.bad_addr",
    "gateway.too_many_addrs",
    "nonce.too_high",
    "nonce.too_low",
    "price.already_set",
    "price.not_governor",
    "price.step",
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
    "rewards.not_validator",
    "settlement.reserve_exhausted",
    "transfer.to_module",
    "tx.chain_id",
    "tx.expired",
];

#[derive(Default)]
struct Seen {
    kinds: BTreeSet<&'static str>,
    codes: BTreeSet<&'static str>,
    /// Whether a settlement had to mint.
    minted: bool,
    histories: u64,
}

impl Seen {
    fn absorb(&mut self, other: &Seen) {
        self.kinds.extend(&other.kinds);
        self.codes.extend(&other.codes);
        self.minted |= other.minted;
        self.histories += 1;
    }
}

struct Sim {
    seed: u64,
    rng: u64,
    /// Above 850 000 ppm, how far one step of the price may reach: 300 000 wanders, less falls.
    price_range: u64,
    world: World,
    auditor: Auditor,
    seen: Seen,
    /// Channels that were tried, with who pays.
    channels: Vec<(ChannelId, &'static str, &'static str)>,
    /// A snapshot from the middle and how many blocks it stands after.
    snapshot: Option<(usize, Vec<u8>)>,
    /// Blocks as they were executed, skipped transactions included.
    executed: Vec<(TimeMs, Vec<VerifiedTx>)>,
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
    /// Parameters are drawn too, so that some histories are short of reserve, places or WATT.
    fn new(seed: u64) -> Sim {
        let mut rng = Rng(seed);
        let shares = {
            let provider = rng.below(1_000_001) as u32;
            let stakers = rng.below(u64::from(1_000_001 - provider)) as u32;
            let burn = rng.below(u64::from(1_000_001 - provider - stakers)) as u32;
            let treasury = 1_000_000 - provider - stakers - burn;
            let [provider, stakers, burn, treasury] = [provider, stakers, burn, treasury].map(ppm);
            Shares { provider, stakers, burn, treasury }
        };
        let world = World::with(|genesis| {
            let params = &mut genesis.params;
            params.split =
                if seed.is_multiple_of(2) { Split::SPLIT_60 } else { Split::new(shares).unwrap() };
            params.fee_tx = Watt(u128::from(rng.below(3_000_000)));
            params.withhold = ppm(rng.below(1_000_001) as u32);
            params.credit_spread = ppm(rng.below(10_000) as u32);
            params.settlement_reserve =
                [Watt::whole(30), Watt::whole(1_000), Watt::ZERO][(seed % 3) as usize];
            params.unbonded_providers_max = 2 + rng.below(2) as u32;
            params.provider_idle_ms = 150_000;
            params.unbonding_ms = 60_000;
            params.withdraw_delay_ms_min = 1_000;
            params.withdraw_delay_ms_max = 20_000;
        });
        let auditor = Auditor::new(&world.genesis);
        Sim {
            seed,
            price_range: [150_000, 300_000][(seed % 2) as usize],
            rng: rng.0,
            world,
            auditor,
            seen: Seen::default(),
            channels: Vec::new(),
            snapshot: None,
            executed: Vec::new(),
        }
    }

    fn block(&mut self, number: u64) {
        let waits = [0, 1, 500, 3_000, 20_000];
        let wait = waits[self.below(5) as usize];
        self.world.wait(wait);
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        let count = self.below(7);
        let txs: Vec<VerifiedTx> = (0..count).map(|_| self.tx(&mut nonces)).collect();
        let outcome = self.world.block(&txs);
        self.auditor.see(&txs, &outcome);
        self.auditor.compare(&self.world.state);
        for (tx, result) in txs.iter().zip(&outcome.results) {
            match &result.outcome {
                TxOutcome::Applied { events } => {
                    self.seen.kinds.extend(events.iter().map(ledger::Event::kind));
                }
                TxOutcome::Failed { error } | TxOutcome::Skipped { error } => {
                    self.seen.codes.insert(error.code());
                }
            }
            assert!(tx.id() == result.id);
        }
        self.seen.kinds.extend(outcome.events.iter().map(ledger::Event::kind));
        self.executed.push((self.world.now, txs));
        if number == BLOCKS / 2 {
            self.snapshot = Some((self.executed.len(), self.world.state.snapshot().unwrap()));
        }
    }

    /// The same blocks from genesis, and the later half from the snapshot, end in the same bytes.
    fn replay(&mut self) {
        self.seen.minted = !self.world.state.supply().minted.total().is_zero();
        let end = self.world.state.snapshot().unwrap();
        let from_genesis = State::from_genesis(&self.world.genesis).unwrap();
        assert_eq!(run(from_genesis, &self.world.blocks), end);
        let from_genesis = State::from_genesis(&self.world.genesis).unwrap();
        assert_eq!(run(from_genesis, &self.executed), end);
        let (done, bytes) = self.snapshot.as_ref().unwrap();
        let from_middle = State::from_snapshot(bytes, self.world.genesis.hash()).unwrap();
        assert_eq!(run(from_middle, &self.executed[*done..]), end);
    }

    /// Now and then with something wrong around the action.
    fn tx(&mut self, nonces: &mut BTreeMap<Address, u64>) -> VerifiedTx {
        let (name, action) = self.operation();
        let sender = address(name);
        let next =
            nonces.entry(sender).or_insert_with(|| self.world.state.account(&sender).nonce.0);
        let nonce = *next;
        *next += 1;
        let now = self.world.now;
        let fault = self.below(60);
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
        // What the mempool says never panics, and a certain refusal is one in the block, too.
        let _ = self.world.state.check(&tx);
        tx
    }

    fn operation(&mut self) -> (&'static str, Action) {
        let name = self.name();
        match self.below(100) {
            0..6 => (name, self.transfer()),
            6..20 => (name, self.purchase(name)),
            20..30 => (name, self.registration(name)),
            30..34 => (name, Action::BondProvider { amount: self.watt(name) }),
            34..37 => (name, Action::UnbondProvider),
            37..40 => (name, self.gateway(name)),
            40..53 => self.opening(name),
            53..59 => {
                let (channel, payer, _) = self.known_channel();
                let name = self.mostly(payer);
                (name, Action::TopUpChannel { channel, amount: self.credits(name) })
            }
            59..82 => self.redemption(),
            82..86 => {
                let (channel, payer, _) = self.known_channel();
                (self.mostly(payer), Action::RequestWithdraw { channel })
            }
            86..90 => {
                let (channel, payer, _) = self.known_channel();
                (self.mostly(payer), Action::FinalizeWithdraw { channel })
            }
            90..92 => {
                let (channel, _, receiver) = self.known_channel();
                (self.mostly(receiver), Action::CloseChannel { channel })
            }
            92..95 => {
                let name = ["vera", "vito", name][self.below(3) as usize];
                (name, Action::WithdrawRewards)
            }
            _ => (self.mostly("gov"), self.price()),
        }
    }

    fn transfer(&mut self) -> Action {
        let to = if self.below(10) == 0 {
            ledger::Module::ALL[self.below(5) as usize].address()
        } else {
            address(self.name())
        };
        let from = self.name();
        Action::Transfer { to, amount: self.watt(from) }
    }

    fn purchase(&mut self, name: &str) -> Action {
        Action::BuyCredits(if self.below(2) == 0 {
            CreditPurchase::Pay { watt: self.watt(name) }
        } else {
            let credits = Nusd(self.amount(Nusd::whole(300).0));
            CreditPurchase::Receive { credits, watt_max: self.watt(name) }
        })
    }

    fn registration(&mut self, name: &str) -> Action {
        let owner = if self.below(8) == 0 { self.name() } else { name };
        let moniker = if self.below(20) == 0 { "\u{7}".to_owned() } else { name.to_owned() };
        let bond = if self.below(2) == 0 { Watt::ZERO } else { self.watt(name) };
        Action::RegisterProvider { node_key: key(&format!("{owner}/node")), moniker, bond }
    }

    fn gateway(&mut self, name: &str) -> Action {
        let addr = if self.below(5) == 0 { "nowhere" } else { "127.0.0.1:1" };
        let node_key = key(&format!("{}/node", self.mostly_text(name)));
        let addrs = vec![addr.to_owned(); self.below(12) as usize];
        Action::RegisterGateway { node_key, moniker: name.to_owned(), addrs }
    }

    fn opening(&mut self, name: &'static str) -> (&'static str, Action) {
        let receiver = self.receiver();
        let payer = if self.below(20) == 0 { self.name() } else { name };
        let delay_ms = match self.below(20) {
            0 => 999,
            1 => 20_001,
            _ => 1_000 + self.below(19_001),
        };
        let terms = ChannelTerms {
            payer: address(payer),
            payer_key: payer_key(payer),
            receiver: address(receiver),
            salt: self.below(100),
            withdraw_delay_ms: delay_ms,
        };
        let known: Vec<ChannelTerms> = self
            .world
            .state
            .channels_of(address(name))
            .map(|(_, channel)| channel.terms.clone())
            .filter(|terms| terms.payer == address(name))
            .collect();
        if !known.is_empty() && self.below(20) == 0 {
            let terms = known[self.below(known.len() as u64) as usize].clone();
            return (name, Action::OpenChannel { terms, deposit: self.credits(name) });
        }
        let id = terms.id(&self.world.genesis.chain_id);
        self.channels.push((id, payer, receiver));
        (name, Action::OpenChannel { terms, deposit: self.credits(name) })
    }

    /// Mostly one of the registered providers.
    fn receiver(&mut self) -> &'static str {
        let providers: Vec<&'static str> = NAMES
            .into_iter()
            .filter(|name| self.world.state.provider(&address(name)).is_some())
            .collect();
        match providers.is_empty() {
            false if self.below(10) > 0 => self.pick(&providers),
            _ => self.name(),
        }
    }

    fn redemption(&mut self) -> (&'static str, Action) {
        let (_, _, receiver) = self.known_channel();
        let own: Vec<_> = self
            .channels
            .iter()
            .filter(|(id, _, to)| {
                *to == receiver && self.world.state.channel(id).is_some_and(|channel| channel.open)
            })
            .copied()
            .collect();
        let count = self.below(6);
        let claims = (0..count).map(|_| self.claim(&own)).collect();
        (self.mostly(receiver), Action::RedeemVouchers { claims })
    }

    fn claim(&mut self, own: &[(ChannelId, &'static str, &'static str)]) -> VoucherClaim {
        let (id, payer, _) = if own.is_empty() || self.below(30) == 0 {
            self.known_channel()
        } else {
            self.pick(own)
        };
        let lane = if self.below(40) == 0 { LANES_MAX } else { self.below(3) as u32 };
        let channel = self.world.state.channel(&id);
        let deposit = channel.map_or(Nusd::whole(1), |channel| channel.deposit).0;
        let total = Nusd(match self.below(30) {
            0 => self.amount(deposit),
            1..5 => deposit / 2,
            _ => u128::from(self.below(u64::try_from(deposit / 3).unwrap_or(u64::MAX).max(1))),
        });
        let signed = if self.below(40) == 0 { Nusd(total.0 / 2) } else { total };
        let signer = if self.below(40) == 0 { self.name() } else { payer };
        claim(signer, id, lane, signed, total)
    }

    fn price(&mut self) -> Action {
        let price = self.world.state.price().0;
        let factor = 850_000 + u128::from(self.below(self.price_range));
        Action::SetPrice { nusd_per_watt: Nusd(price * factor / 1_000_000) }
    }

    /// Mostly an open channel, sometimes one that closed or never opened, rarely none.
    fn known_channel(&mut self) -> (ChannelId, &'static str, &'static str) {
        let is_open = |(id, ..): &&(ChannelId, _, _)| {
            self.world.state.channel(id).is_some_and(|channel| channel.open)
        };
        let open: Vec<_> = self.channels.iter().filter(is_open).copied().collect();
        match self.below(50) {
            0 => (ChannelId([9; 32]), self.name(), self.name()),
            1..5 if !self.channels.is_empty() => self.pick(&self.channels.clone()),
            _ if !open.is_empty() => self.pick(&open),
            _ => (ChannelId([9; 32]), self.name(), self.name()),
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    fn name(&mut self) -> &'static str {
        self.pick(&NAMES)
    }

    fn mostly(&mut self, name: &'static str) -> &'static str {
        if self.below(12) == 0 { self.name() } else { name }
    }

    fn mostly_text(&mut self, name: &str) -> String {
        if self.below(12) == 0 { self.name().to_owned() } else { name.to_owned() }
    }

    /// Around what `name` has.
    fn watt(&mut self, name: &str) -> Watt {
        let balance = self.world.watt(name).0;
        Watt(self.amount(balance))
    }

    /// Up to four fifths of what `name` has, now and then more.
    fn credits(&mut self, name: &str) -> Nusd {
        let balance = self.world.credits(name).0;
        Nusd(self.amount(balance.saturating_mul(2)))
    }

    /// Mostly a part of `whole`, now and then an edge.
    fn amount(&mut self, whole: u128) -> u128 {
        match self.below(40) {
            0 => 0,
            1 => 1,
            2 => whole,
            3 => whole.saturating_add(1),
            4 => u128::MAX,
            _ => whole.saturating_mul(u128::from(self.below(400))) / 1_000,
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        let mut rng = Rng(self.rng);
        let value = rng.below(bound);
        self.rng = rng.0;
        value
    }
}

/// The bytes of the state after `blocks`.
fn run(mut state: State, blocks: &[(TimeMs, Vec<VerifiedTx>)]) -> Vec<u8> {
    for (time, txs) in blocks {
        state.execute_block(state.height().next(), *time, txs).unwrap();
        state.commit();
    }
    state.snapshot().unwrap()
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
