//! Recounts every balance from results and events alone and compares with the state. It never asks
//! the ledger how much something was. It also counts the votes on the price by itself.
//!
//! The two accounts that hold stake are one for it: which of the two holds whose is invariant ST1.

use std::collections::BTreeMap;

use ledger::{BlockOutcome, Event, Module, Slashed, State, TxOutcome};
use types::{
    Address, ChannelId, PublicKey, genesis::Genesis, params::CreditPolicy, split::Parts,
    tx::VerifiedTx,
};

const VAULT: Address = Module::Vault.address();
const STAKERS: Address = Module::Stakers.address();
const REWARDS: Address = Module::Rewards.address();
const TREASURY: Address = Module::Treasury.address();
const STAKE: Address = Module::Bonded.address();

pub(crate) struct Auditor {
    policy: CreditPolicy,
    watt: Sums<Address>,
    /// Free credits.
    credits: Sums<Address>,
    held: Sums<ChannelId>,
    pending: Sums<ChannelId>,
    refunding: i128,
    /// Announced before the payment that they are a part of: owed fees that were taken, income that
    /// was withheld, income that went to delegators.
    debts: Sums<Address>,
    withheld: Sums<Address>,
    shared: Sums<Address>,
    minted: i128,
    burned: i128,
    price: u128,
    /// Of each seat.
    powers: BTreeMap<PublicKey, (Address, u64)>,
    /// By period and voter.
    votes: BTreeMap<(u64, Address), u128>,
}

/// Amounts by name. A balance may be below zero inside a block, because events of one payment do not
/// stand in the order in which the money moves; at its end it is compared with the state's.
struct Sums<K>(BTreeMap<K, i128>);

impl<K> Default for Sums<K> {
    fn default() -> Sums<K> {
        Sums(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Sums<K> {
    fn add(&mut self, key: K, amount: u128) {
        *self.0.entry(key).or_default() += i128::try_from(amount).unwrap();
    }

    fn sub(&mut self, key: K, amount: u128) {
        *self.0.entry(key).or_default() -= i128::try_from(amount).unwrap();
    }

    fn get(&self, key: &K) -> i128 {
        self.0.get(key).copied().unwrap_or_default()
    }

    fn take(&mut self, key: &K) -> u128 {
        u128::try_from(self.0.remove(key).unwrap_or_default()).unwrap()
    }

    fn total(&self) -> i128 {
        self.0.values().sum()
    }
}

impl Auditor {
    pub(crate) fn new(genesis: &Genesis) -> Auditor {
        let mut auditor = Auditor {
            policy: genesis.params.credits.policy,
            watt: Sums::default(),
            credits: Sums::default(),
            held: Sums::default(),
            pending: Sums::default(),
            refunding: 0,
            debts: Sums::default(),
            withheld: Sums::default(),
            shared: Sums::default(),
            minted: 0,
            burned: 0,
            price: genesis.nusd_per_watt.0,
            powers: BTreeMap::new(),
            votes: BTreeMap::new(),
        };
        for account in &genesis.accounts {
            auditor.watt.add(account.address, account.balance.0);
        }
        for validator in &genesis.validators {
            auditor.watt.add(STAKE, validator.stake.0);
            let power = u64::try_from(validator.stake.0 / 1_000_000_000).unwrap();
            auditor.powers.insert(validator.consensus_key, (validator.operator, power));
        }
        auditor
    }

    pub(crate) fn see(&mut self, txs: &[VerifiedTx], outcome: &BlockOutcome) {
        // Votes are counted at the beginning of a block, by the powers of the block before.
        for event in outcome.events.iter().filter(|event| event.kind() == "oracle.counted") {
            self.see_count(event);
        }
        for (tx, result) in txs.iter().zip(&outcome.results) {
            let events: &[Event] = match &result.outcome {
                TxOutcome::Applied { events } => events,
                TxOutcome::Failed { .. } | TxOutcome::Skipped { .. } => &[],
            };
            if !events.iter().any(|event| event.kind() == "fee.owed") {
                self.pay(tx.sender(), STAKERS, result.fee.0);
            }
            for event in events {
                match *event {
                    Event::Delegated { delegator, amount, .. } => {
                        self.pay(delegator, STAKE, amount.0);
                    }
                    _ => self.see_event(event),
                }
            }
        }
        for event in &outcome.events {
            match *event {
                // Only income is staked at the end of a block; its payment follows.
                Event::Delegated { delegator, amount, .. } => {
                    self.withheld.add(delegator, amount.0);
                }
                _ => self.see_event(event),
            }
        }
        assert_eq!(self.debts.total() + self.withheld.total() + self.shared.total(), 0);
    }

    pub(crate) fn compare(&self, state: &State) {
        let stake = [Module::Bonded, Module::NotBonded];
        let staked: u128 = stake.iter().map(|module| state.module_balance(*module).0).sum();
        assert_eq!(self.watt.get(&STAKE), i128::try_from(staked).unwrap(), "stake");
        let is_stake = |address: &Address| stake.iter().any(|it| it.address() == *address);
        let accounts = self.watt.0.keys().chain(self.credits.0.keys());
        for address in accounts.filter(|address| !is_stake(address)) {
            let account = state.account(address);
            let counted = (self.watt.get(address), self.credits.get(address));
            let found = (account.watt.0.cast_signed(), account.credits.0.cast_signed());
            assert_eq!(found, counted, "WATT and credits of {address}");
        }
        let supply = state.supply();
        assert_eq!(supply.total.0.cast_signed(), self.watt.total());
        let counters = (supply.minted.total().0, supply.burned.total().0);
        assert_eq!(
            (counters.0.cast_signed(), counters.1.cast_signed()),
            (self.minted, self.burned)
        );
        let outstanding = supply.credits_outstanding.0.cast_signed();
        let credits = self.credits.total() + self.held.total() + self.pending.total();
        assert_eq!(outstanding, credits + self.refunding, "credits");
        for (id, channel) in state.channels() {
            let counted = (self.held.get(id), self.pending.get(id));
            let found = (channel.balance().0.cast_signed(), channel.pending().0.cast_signed());
            assert_eq!(found, counted, "channel {id}");
        }
        let seats = state.active_validators();
        let seats = seats.map(|(key, seat)| (*key, (seat.operator, seat.power))).collect();
        assert_eq!(self.powers, seats);
        assert_eq!(state.price().0, self.price);
    }

    fn pay(&mut self, from: Address, to: Address, amount: u128) {
        self.watt.sub(from, amount);
        self.watt.add(to, amount);
    }

    fn mint(&mut self, to: Address, amount: u128) {
        self.watt.add(to, amount);
        self.minted += i128::try_from(amount).unwrap();
    }

    fn burn(&mut self, from: Address, amount: u128) {
        self.watt.sub(from, amount);
        self.burned += i128::try_from(amount).unwrap();
    }

    fn see_event(&mut self, event: &Event) {
        match event {
            Event::Transferred { from, to, amount } => self.pay(*from, *to, amount.0),
            Event::FeeDebtPaid { account, amount, .. } => self.debts.add(*account, amount.0),
            Event::CreditsBought { buyer, watt, credits, .. } => {
                self.pay(*buyer, VAULT, watt.0);
                self.credits.add(*buyer, credits.0);
                if self.policy == CreditPolicy::Emission {
                    self.burn(VAULT, watt.0);
                }
            }
            Event::RefundRequested { owner, credits, .. } => {
                self.credits.sub(*owner, credits.0);
                self.refunding += credits.0.cast_signed();
            }
            Event::CreditsRefunded { owner, credits, watt } => {
                self.refunding -= credits.0.cast_signed();
                self.pay(VAULT, *owner, watt.0);
            }
            Event::ChannelOpened { channel, payer, deposit: amount, .. }
            | Event::ChannelToppedUp { channel, payer, amount, .. } => {
                self.credits.sub(*payer, amount.0);
                self.held.add(*channel, amount.0);
            }
            Event::ChannelClaimed { channel, credits, .. } => {
                self.held.sub(*channel, credits.0);
                self.pending.add(*channel, credits.0);
            }
            Event::ChannelWorked { channel, credits, .. } => self.pending.sub(*channel, credits.0),
            Event::ChannelSettled(settled) => {
                self.pending.sub(settled.channel, settled.credits.0);
                self.mint(VAULT, settled.minted.0);
                let watt = settled.watt.0;
                self.see_paid(settled.receiver, watt, &settled.parts, settled.withheld.0);
            }
            Event::EpochPaid { operator, watt, parts, withheld, .. } => {
                self.mint(VAULT, watt.0);
                self.see_paid(*operator, watt.0, parts, withheld.0);
            }
            Event::ClaimRefunded { channel, payer, credits, .. } => {
                self.pending.sub(*channel, credits.0);
                self.credits.add(*payer, credits.0);
            }
            Event::DepositReturned { channel, payer, amount }
            | Event::ChannelClosed { channel, payer, returned: amount, .. } => {
                self.held.sub(*channel, amount.0);
                self.credits.add(*payer, amount.0);
            }
            Event::Vested { beneficiary, amount, .. } => self.mint(*beneficiary, amount.0),
            Event::Unbonded { delegator, amount, .. } => {
                let debt = self.debts.take(delegator);
                self.pay(STAKE, STAKERS, debt);
                self.pay(STAKE, *delegator, amount.0);
            }
            Event::AppealMade { commitment, deposit, .. } => {
                self.pay(commitment.provider, Module::Insurance.address(), deposit.0);
            }
            Event::AppealEnded { commitment, deposit, returned } => {
                let to = if *returned { commitment.provider } else { TREASURY };
                self.pay(Module::Insurance.address(), to, deposit.0);
            }
            Event::AuditDemanded { payer, deposit, .. } => {
                self.pay(*payer, Module::Insurance.address(), deposit.0);
            }
            Event::DemandEnded { payer, deposit, returned, .. } => {
                let to = if *returned { *payer } else { TREASURY };
                self.pay(Module::Insurance.address(), to, deposit.0);
            }
            Event::CanaryPaid { validator: verifier, amount, .. }
            | Event::VerifierPaid { verifier, amount, .. } => {
                self.pay(TREASURY, *verifier, amount.0);
            }
            Event::Slashed(slashed) => self.see_slashed(slashed),
            Event::IncomeShared { operator, amount } => {
                self.shared.add(operator.account, amount.0);
            }
            Event::RewardsDistributed { amount, .. } => self.pay(STAKERS, REWARDS, amount.0),
            Event::RewardsSwept { amount, .. } => self.pay(REWARDS, TREASURY, amount.0),
            Event::RewardsWithdrawn { delegator, amount, .. } => {
                self.pay(REWARDS, *delegator, amount.0);
            }
            Event::CommissionWithdrawn { operator, amount } => {
                self.pay(REWARDS, operator.account, amount.0);
            }
            Event::ValidatorPower { operator, consensus_key, power } => {
                self.powers.insert(*consensus_key, (*operator, *power));
            }
            Event::ValidatorUnseated { consensus_key, .. } => {
                self.powers.remove(consensus_key);
            }
            Event::PriceRevealed { voter, period, nusd_per_watt } => {
                let before = self.votes.insert((*period, *voter), nusd_per_watt.0);
                assert_eq!(before, None, "one vote per voter and period");
            }
            Event::Delegated { .. } => unreachable!("who paid depends on where it stands"),
            Event::FeeOwed { .. }
            | Event::BreakerMoved { .. }
            | Event::ProviderRegistered { .. }
            | Event::ProviderUpdated { .. }
            | Event::ProviderSeen { .. }
            | Event::ProviderLeaving { .. }
            | Event::ProviderUnbonded { .. }
            | Event::ProviderRemoved { .. }
            | Event::GatewayRegistered { .. }
            | Event::RefundDeferred { .. }
            | Event::WithdrawRequested { .. }
            | Event::EpochEnded { .. }
            | Event::ValidatorRegistered { .. }
            | Event::CommissionSet { .. }
            | Event::Undelegated { .. }
            | Event::Redelegated { .. }
            | Event::EvidenceAccepted { .. }
            | Event::Jailed { .. }
            | Event::Unjailed { .. }
            | Event::PriceCommitted { .. }
            | Event::PriceCounted { .. }
            | Event::PriceNotCounted { .. }
            | Event::BeaconDrawn { .. }
            | Event::ReceiptsCommitted { .. }
            | Event::AuditOpened { .. }
            | Event::AuditDropped { .. }
            | Event::VerdictCommitted { .. }
            | Event::VerdictRevealed { .. }
            | Event::AuditClosed { .. }
            | Event::Escalated { .. }
            | Event::ModelDelisted { .. }
            | Event::QualityMoved { .. }
            | Event::CalibrationPublished { .. }
            | Event::PlantedRevealed { .. }
            | Event::CanaryReported { .. }
            | Event::VerifierGraded { .. }
            | Event::AuditorRegistered { .. }
            | Event::AuditorWithdrawn { .. }
            | Event::ClaimHeld { .. } => {}
        }
    }

    /// `watt` were paid from the vault for work of `operator`.
    fn see_paid(&mut self, operator: Address, watt: u128, parts: &Parts, withheld: u128) {
        let sum = parts.provider.0 + parts.stakers.0 + parts.burn.0 + parts.treasury.0;
        assert_eq!(sum, watt);
        assert_eq!(self.withheld.take(&operator), withheld);
        let (debt, shared) = (self.debts.take(&operator), self.shared.take(&operator));
        self.burn(VAULT, parts.burn.0);
        self.pay(VAULT, TREASURY, parts.treasury.0);
        self.pay(VAULT, STAKERS, parts.stakers.0 + debt);
        self.pay(VAULT, STAKE, withheld);
        self.pay(VAULT, REWARDS, shared);
        self.pay(VAULT, operator, parts.provider.0 - debt - withheld - shared);
    }

    fn see_slashed(&mut self, slashed: &Slashed) {
        let Slashed { amount, burned, bounty, refunded, insured, reporter, .. } = *slashed;
        // SL1, and at least half is burned.
        assert_eq!(amount.0, burned.0 + bounty.0 + refunded.0 + insured.0);
        assert!(burned.0 * 2 >= amount.0);
        self.burn(STAKE, burned.0);
        self.pay(STAKE, reporter.unwrap_or(TREASURY), bounty.0);
        assert_eq!(slashed.harmed.iter().map(|(_, part)| part.0).sum::<u128>(), refunded.0);
        for (harmed, part) in &slashed.harmed {
            self.pay(STAKE, *harmed, part.0);
        }
        self.pay(STAKE, Module::Insurance.address(), insured.0);
    }

    /// The lower median by power, found by a sort.
    fn see_count(&mut self, event: &Event) {
        let Event::PriceCounted { period, before, after, median, .. } = *event else { return };
        let power = |voter: &Address| {
            self.powers.values().find(|(operator, _)| operator == voter).map(|(_, power)| *power)
        };
        let mut votes: Vec<(u128, u64)> = self
            .votes
            .iter()
            .filter(|((voted_in, _), _)| *voted_in == period)
            .filter_map(|((_, voter), price)| Some((*price, power(voter)?)))
            .collect();
        votes.sort_unstable();
        let total: u64 = votes.iter().map(|(_, power)| power).sum();
        let mut below = 0;
        let middle = votes.iter().find(|(_, power)| {
            below += power;
            below * 2 >= total
        });
        assert_eq!(middle.map(|(price, _)| *price), Some(median.0));
        assert_eq!(before.0, self.price);
        self.price = after.0;
    }
}
