//! A small network to test against. Everybody has a name, from which keys and addresses follow.
//!
//! Every block that goes through [`World::block`] is executed, rolled back, executed again without
//! what was skipped, and committed; every invariant is checked on the way. So every test of an
//! action is a test of those too.
//!
//! Claims settle in the block that makes them, and a price stays fresh, unless a test says otherwise.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::Expect;
use ledger::{BlockInfo, BlockOutcome, Event, State, TxOutcome, TxResult, invariants};
use types::{
    Address, ChannelId, Hash32, Height, Lane, Nonce, Nusd, Ppm, PublicKey, Signature, TimeMs, Watt,
    channel::{ChannelTerms, Voucher},
    consensus::{ConsensusVote, VoteKind},
    genesis::{Genesis, GenesisAccount, GenesisValidator, Params},
    sha256,
    sign::{Sign, Signed, VerifySignature},
    stake::{CommissionTerms, Evidence, OperatorId, price_commitment},
    state::ProviderProfile,
    tx::{Action, CreditPurchase, SignedTx, Tx, VerifiedTx, VoucherClaim},
};

pub(crate) const MINUTE_MS: u64 = 60_000;
pub(crate) const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Everybody who appears in tests. `paul` and `pia` provide, `gina` runs a gateway and pays,
/// `vera` and `vito` validate, `dora` delegates, `poor` has nothing.
pub(crate) const NAMES: [&str; 9] =
    ["alice", "gina", "paul", "pia", "vera", "vito", "dora", "poor", "mallory"];

pub(crate) fn key(name: &str) -> PublicKey {
    PublicKey(sha256(&[name.as_bytes()]).0)
}

pub(crate) fn address(name: &str) -> Address {
    Address::of_key(&key(name))
}

pub(crate) fn consensus_key(name: &str) -> PublicKey {
    key(&format!("{name}/consensus"))
}

pub(crate) fn validator(name: &str) -> OperatorId {
    OperatorId::validator(address(name))
}

pub(crate) fn provider(name: &str) -> OperatorId {
    OperatorId::provider(address(name))
}

/// The key under which `name` signs vouchers.
pub(crate) fn payer_key(name: &str) -> PublicKey {
    key(&format!("{name}/vouchers"))
}

/// Signs with nothing: what signatures cover is the business of `types` and `keys`.
struct Signer(PublicKey);

impl Sign for Signer {
    fn public_key(&self) -> PublicKey {
        self.0
    }

    fn sign(&self, _message: &[u8]) -> Signature {
        Signature([0; 64])
    }
}

struct AnySignature;

impl VerifySignature for AnySignature {
    fn verify(&self, _key: &PublicKey, _message: &[u8], _signature: &Signature) -> bool {
        true
    }
}

pub(crate) fn verified(name: &str, tx: Tx) -> VerifiedTx {
    let chain_id = tx.chain_id.clone();
    SignedTx(Signed::new(tx, &chain_id, &Signer(key(name)))).verify(&AnySignature).unwrap()
}

pub(crate) const COMMISSION: CommissionTerms =
    CommissionTerms { rate: ppm(100_000), rate_max: ppm(500_000), change_max: ppm(50_000) };

/// Those of a provider that may share all of its income from one day to the next.
pub(crate) const FREE_TERMS: CommissionTerms =
    CommissionTerms { change_max: Ppm::ONE, ..CommissionTerms::ALL };

/// A genesis with 1000 WATT for everybody but `poor`, at 2 USD for one WATT. `vera` has twice the
/// power of `vito`.
pub(crate) fn genesis() -> Genesis {
    let funded = NAMES.into_iter().filter(|name| *name != "poor");
    let validator = |name: &str, stake| GenesisValidator {
        consensus_key: consensus_key(name),
        operator: address(name),
        moniker: name.to_owned(),
        stake: Watt::whole(stake),
        commission: COMMISSION,
    };
    let mut params = Params::standard();
    params.channels.holdback_ms = 0;
    params.audits.seal_ms = 0;
    params.oracle.max_age_ms = 400 * DAY_MS;
    Genesis {
        chain_id: "peerwatt-test".parse().unwrap(),
        time: TimeMs(1_000_000),
        params,
        nusd_per_watt: Nusd::whole(2),
        accounts: funded
            .map(|name| GenesisAccount { address: address(name), balance: Watt::whole(1_000) })
            .collect(),
        vesting: Vec::new(),
        validators: vec![validator("vera", 20_000), validator("vito", 10_000)],
    }
}

pub(crate) const fn ppm(ppm: u32) -> Ppm {
    Ppm::new(ppm).unwrap()
}

pub(crate) fn profile(moniker: &str) -> ProviderProfile {
    ProviderProfile { moniker: moniker.to_owned(), ..ProviderProfile::default() }
}

pub(crate) fn register(name: &str, bond: Watt) -> Action {
    register_with(name, None, bond)
}

pub(crate) fn register_with(name: &str, commission: Option<CommissionTerms>, bond: Watt) -> Action {
    let node_key = key(&format!("{name}/node"));
    Action::RegisterProvider { node_key, profile: profile(name), commission, bond }
}

pub(crate) fn register_validator(name: &str, stake: Watt) -> Action {
    Action::RegisterValidator {
        consensus_key: consensus_key(name),
        moniker: name.to_owned(),
        commission: COMMISSION,
        stake,
    }
}

/// Where the auditor of `name` is reached.
pub(crate) fn auditor(name: &str) -> Action {
    let addrs = vec!["127.0.0.1:1".to_owned()];
    Action::RegisterAuditor { node_key: key(&format!("{name}/node")), addrs }
}

pub(crate) fn pay(watt: Watt) -> Action {
    Action::BuyCredits(CreditPurchase::Pay { watt })
}

pub(crate) fn claim(
    payer: &str,
    channel: ChannelId,
    lane: u32,
    signed: Nusd,
    total: Nusd,
) -> VoucherClaim {
    let value = Voucher { channel, lane: Lane(lane), sequence: 1, total: signed };
    VoucherClaim {
        voucher: Signed { value, signer: payer_key(payer), signature: Signature([0; 64]) },
        total,
    }
}

/// A vote of the first round for the block that `block` stands for.
pub(crate) fn precommit(height: Height, block: u8) -> ConsensusVote {
    let block = Some(Hash32([block; 32]));
    ConsensusVote { kind: VoteKind::Precommit, height, round: 0, block }
}

/// `name` committed to two blocks of one height.
pub(crate) fn double_sign(name: &str, height: Height) -> Action {
    let commit = |block| Signed {
        value: precommit(height, block),
        signer: consensus_key(name),
        signature: Signature([0; 64]),
    };
    Action::SubmitEvidence {
        evidence: Evidence::DoubleVote { first: commit(1), second: commit(2) },
    }
}

pub(crate) fn redeem(claims: Vec<VoucherClaim>) -> Action {
    Action::RedeemVouchers { claims }
}

/// One block as it was executed.
#[derive(Clone)]
pub(crate) struct Executed {
    pub(crate) time: TimeMs,
    pub(crate) absent: Vec<PublicKey>,
    pub(crate) txs: Vec<VerifiedTx>,
}

impl Executed {
    /// Executes it on top of `state` and commits.
    pub(crate) fn run(&self, state: &mut State) -> BlockOutcome {
        let block =
            BlockInfo { height: state.height().next(), time: self.time, absent: &self.absent };
        let outcome = state.execute_block(block, &self.txs).unwrap();
        state.commit();
        outcome
    }
}

pub(crate) struct World {
    pub(crate) genesis: Genesis,
    pub(crate) state: State,
    /// Time of the next block.
    pub(crate) now: TimeMs,
    /// Seats whose signature is missing under the last block.
    pub(crate) absent: Vec<PublicKey>,
    /// In every how manieth block the slow properties are checked: those that build the whole tree
    /// and all indexes anew, and that a rollback restores every byte.
    pub(crate) slow_checks_every: u64,
    /// What the end of the last block did.
    pub(crate) ended: Vec<Event>,
    /// All blocks so far, for replay.
    pub(crate) blocks: Vec<Executed>,
    /// Texts that are replaced by names when results are shown.
    names: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Genesis)) -> World {
        let mut genesis = genesis();
        change(&mut genesis);
        let state = State::from_genesis(&genesis).unwrap();
        invariants::check_all(&state).unwrap();
        let mut names = BTreeMap::new();
        for name in NAMES {
            names.insert(address(name).to_string(), name.to_owned());
            for role in ["node", "vouchers", "consensus"] {
                let name = format!("{name}/{role}");
                names.insert(key(&name).to_string(), name);
            }
        }
        let now = genesis.time;
        let (absent, blocks, ended) = (Vec::new(), Vec::new(), Vec::new());
        World { genesis, state, now, absent, slow_checks_every: 1, ended, blocks, names }
    }

    /// `paul` provides with a full bond and `gina` has opened a channel to him with `deposit`.
    pub(crate) fn with_channel(deposit: Nusd) -> (World, ChannelId) {
        let mut world = World::new();
        world.apply("paul", register("paul", Watt::whole(10)));
        let channel = world.open("gina", "paul", 1, deposit);
        (world, channel)
    }

    pub(crate) fn terms(&self, payer: &str, receiver: &str, salt: u64) -> ChannelTerms {
        ChannelTerms {
            payer: address(payer),
            payer_key: payer_key(payer),
            receiver: address(receiver),
            salt,
            withdraw_delay_ms: self.genesis.params.channels.withdraw_delay_ms_min,
        }
    }

    /// Buys credits and opens a channel with them.
    pub(crate) fn open(
        &mut self,
        payer: &str,
        receiver: &str,
        salt: u64,
        deposit: Nusd,
    ) -> ChannelId {
        let purchase = CreditPurchase::Receive { credits: deposit, watt_max: Watt(u128::MAX) };
        self.apply(payer, Action::BuyCredits(purchase));
        let terms = self.terms(payer, receiver, salt);
        let id = terms.id(&self.genesis.chain_id);
        self.name(id.to_string(), &format!("{payer}>{receiver}/{salt}"));
        self.apply(payer, Action::OpenChannel { terms, deposit });
        id
    }

    /// Shows `text` as `name` from now on.
    pub(crate) fn name(&mut self, text: String, name: &str) {
        self.names.insert(text, name.to_owned());
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now.plus_ms(ms);
    }

    pub(crate) fn watt(&self, name: &str) -> Watt {
        self.state.account(&address(name)).watt
    }

    pub(crate) fn credits(&self, name: &str) -> Nusd {
        self.state.account(&address(name)).credits
    }

    /// With the right nonce and no limit on the fee.
    pub(crate) fn tx(&self, name: &str, action: Action) -> VerifiedTx {
        let nonce = self.state.account(&address(name)).nonce;
        self.tx_with(name, action, |tx| tx.nonce = nonce)
    }

    pub(crate) fn tx_with(
        &self,
        name: &str,
        action: Action,
        change: impl FnOnce(&mut Tx),
    ) -> VerifiedTx {
        let mut tx = Tx {
            chain_id: self.genesis.chain_id.clone(),
            nonce: Nonce(0),
            fee_max: Watt(u128::MAX),
            tip: Watt::ZERO,
            valid_until: None,
            action,
        };
        change(&mut tx);
        verified(name, tx)
    }

    /// One transaction in a block of its own.
    pub(crate) fn run(&mut self, name: &str, action: Action) -> TxResult {
        let tx = self.tx(name, action);
        let outcome = self.block(&[tx]);
        outcome.results.into_iter().next().unwrap()
    }

    /// One transaction that must be applied.
    pub(crate) fn apply(&mut self, name: &str, action: Action) {
        let result = self.run(name, action);
        assert!(matches!(result.outcome, TxOutcome::Applied { .. }), "{}", self.show(&result));
    }

    /// One transaction whose result must read as expected.
    pub(crate) fn check(&mut self, name: &str, action: Action, expected: Expect) {
        let result = self.run(name, action);
        expected.assert_eq(&self.show(&result));
    }

    /// One transaction in a block of its own: what it did and what the end of the block did.
    pub(crate) fn check_block(&mut self, name: &str, action: Action, expected: Expect) {
        let tx = self.tx(name, action);
        let outcome = self.block(&[tx]);
        let end = outcome.events.iter().filter(|event| event.kind() != "rewards.distributed");
        let end = self.show_events(&end.cloned().collect::<Vec<_>>());
        expected.assert_eq(&format!("{}\n-- end --\n{end}", self.show(&outcome.results[0])));
    }

    /// A block without transactions whose events must read as expected.
    pub(crate) fn check_end(&mut self, expected: Expect) {
        let outcome = self.block(&[]);
        expected.assert_eq(&self.show_events(&outcome.events));
    }

    /// `voters` vote for `price`: they commit, reveal and let it be counted. Takes two periods.
    pub(crate) fn vote(&mut self, voters: &[&str], price: Nusd) -> BlockOutcome {
        let period_ms = self.genesis.params.oracle.period_ms;
        let salt = Hash32([7; 32]);
        let commit = |voter: &str| {
            let chain_id = &self.genesis.chain_id;
            let commitment = price_commitment(chain_id, &address(voter), &salt.0, price);
            self.tx(voter, Action::CommitPrice { commitment })
        };
        let txs: Vec<VerifiedTx> = voters.iter().map(|voter| commit(voter)).collect();
        self.block_of_applied(&txs);
        self.wait(period_ms);
        let reveal =
            |voter: &&str| self.tx(voter, Action::RevealPrice { nusd_per_watt: price, salt });
        let txs: Vec<VerifiedTx> = voters.iter().map(reveal).collect();
        self.block_of_applied(&txs);
        self.wait(period_ms);
        self.block(&[])
    }

    /// Both validators vote for `price`, which must be within a step.
    pub(crate) fn set_price(&mut self, price: Nusd) {
        self.vote(&["vera", "vito"], price);
        assert_eq!(self.state.price(), price);
    }

    fn block_of_applied(&mut self, txs: &[VerifiedTx]) {
        let outcome = self.block(txs);
        for result in &outcome.results {
            assert!(matches!(result.outcome, TxOutcome::Applied { .. }), "{}", self.show(result));
        }
    }

    /// Executes and commits a block, with everything that must hold for any block.
    pub(crate) fn block(&mut self, txs: &[VerifiedTx]) -> BlockOutcome {
        let before = self.state.clone();
        let block = Executed { time: self.now, absent: self.absent.clone(), txs: txs.to_vec() };
        let info =
            BlockInfo { height: before.height().next(), time: block.time, absent: &block.absent };
        let is_slow = info.height.0.is_multiple_of(self.slow_checks_every);
        let outcome = self.state.execute_block(info, txs).unwrap();
        self.state.rollback();
        if is_slow {
            assert_eq!(self.state.snapshot(), before.snapshot(), "a rollback changed something");
        }

        let included = txs.iter().zip(&outcome.results).filter(|(_, result)| {
            let skipped = matches!(result.outcome, TxOutcome::Skipped { .. });
            assert!(!skipped || result.fee.is_zero());
            !skipped
        });
        let included: Vec<VerifiedTx> = included.map(|(tx, _)| tx.clone()).collect();
        let again = self.state.execute_block(info, &included).unwrap();
        assert_eq!(again.app_hash, outcome.app_hash, "a skipped transaction left a trace");
        assert!(again.is_clean());
        self.state.commit();

        for invariant in invariants::all() {
            if is_slow || !["CM1", "IX1"].contains(&invariant.number) {
                invariant.check(&self.state).unwrap();
            }
        }
        let signers: BTreeSet<Address> = included.iter().map(VerifiedTx::sender).collect();
        invariants::check_transition(&before, &self.state, &signers).unwrap();
        if let ([tx], [result]) = (&included[..], &again.results[..])
            && matches!(result.outcome, TxOutcome::Failed { .. })
            && again.events.iter().all(|event| event.kind() == "rewards.distributed")
        {
            assert_only_fee_taken(&before, &self.state, tx.sender(), result.fee);
        }
        self.blocks.push(Executed { txs: included, ..block });
        self.ended.clone_from(&outcome.events);
        outcome
    }

    /// A result as text, with names for keys and ids.
    pub(crate) fn show(&self, result: &TxResult) -> String {
        match &result.outcome {
            TxOutcome::Applied { events } => self.show_events(events),
            TxOutcome::Failed { error } => format!("failed {}: {error}", error.code()),
            TxOutcome::Skipped { error } => format!("skipped {}: {error}", error.code()),
        }
        .lines()
        .map(|line| self.with_names(line))
        .collect::<Vec<_>>()
        .join("\n")
    }

    fn show_events(&self, events: &[Event]) -> String {
        let show = |event: &Event| {
            let fields: Vec<String> =
                event.fields().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            self.with_names(&format!("{}: {}", event.kind(), fields.join(" ")))
        };
        events.iter().map(show).collect::<Vec<_>>().join("\n")
    }

    fn with_names(&self, text: &str) -> String {
        let replace = |text: String, (id, name): (&String, &String)| text.replace(id, name);
        self.names.iter().fold(text.to_owned(), replace)
    }
}

/// A failed transaction took its fee, used its nonce, and nothing else happened.
fn assert_only_fee_taken(before: &State, after: &State, sender: Address, fee: Watt) {
    let mut paid = before.account(&sender);
    paid.watt = paid.watt.checked_sub(fee).unwrap();
    paid.nonce = Nonce(paid.nonce.0 + 1);
    assert_eq!(after.account(&sender), paid);
    let rest = |state: &State| {
        let stakers = [ledger::Module::Stakers, ledger::Module::Rewards].map(|m| m.address());
        let others = state
            .accounts()
            .filter(|(address, _)| **address != sender && !stakers.contains(address));
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            others.collect::<Vec<_>>(),
            state.supply(),
            state.price(),
            state.providers().collect::<Vec<_>>(),
            state.gateways().collect::<Vec<_>>(),
            state.delegations().collect::<Vec<_>>(),
            state.unbondings().collect::<Vec<_>>(),
            state.pending().collect::<Vec<_>>(),
            (state.refunds().collect::<Vec<_>>(), state.arrears().collect::<Vec<_>>()),
            state
                .channels()
                .map(|(id, channel)| (channel, state.lanes_of(*id).collect::<Vec<_>>()))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(rest(before), rest(after));
}
