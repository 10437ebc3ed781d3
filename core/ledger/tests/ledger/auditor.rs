//! Recounts every balance from results and events alone and compares with the state. It never asks
//! the ledger how much something was.

use std::collections::BTreeMap;

use ledger::{BlockOutcome, Event, Module, State, TxOutcome};
use types::{Address, ChannelId, genesis::Genesis, tx::VerifiedTx};

#[derive(Default)]
pub(crate) struct Auditor {
    watt: BTreeMap<Address, u128>,
    credits: BTreeMap<Address, u128>,
    bonds: BTreeMap<Address, u128>,
    held: BTreeMap<ChannelId, u128>,
    /// Debts that were announced as paid, before the payment they are taken from.
    debts: BTreeMap<Address, u128>,
    minted: u128,
    burned: u128,
}

impl Auditor {
    pub(crate) fn new(genesis: &Genesis) -> Auditor {
        let balance =
            |account: &types::genesis::GenesisAccount| (account.address, account.balance.0);
        Auditor { watt: genesis.accounts.iter().map(balance).collect(), ..Auditor::default() }
    }

    pub(crate) fn see(&mut self, txs: &[VerifiedTx], outcome: &BlockOutcome) {
        for (tx, result) in txs.iter().zip(&outcome.results) {
            let events: &[Event] = match &result.outcome {
                TxOutcome::Applied { events } => events,
                TxOutcome::Failed { .. } | TxOutcome::Skipped { .. } => &[],
            };
            if !events.iter().any(|event| event.kind() == "fee.owed") {
                self.pay(tx.sender(), Module::Stakers.address(), result.fee.0);
            }
            events.iter().for_each(|event| self.see_event(event));
        }
        outcome.events.iter().for_each(|event| self.see_event(event));
    }

    pub(crate) fn compare(&self, state: &State) {
        for (address, account) in state.accounts() {
            let counted = |amounts: &BTreeMap<Address, u128>| {
                amounts.get(address).copied().unwrap_or_default()
            };
            assert_eq!(account.watt.0, counted(&self.watt), "WATT of {address}");
            assert_eq!(account.credits.0, counted(&self.credits), "credits of {address}");
        }
        let total: u128 = self.watt.values().sum();
        let supply = state.supply();
        assert_eq!(supply.total.0, total);
        assert_eq!((supply.minted.total().0, supply.burned.total().0), (self.minted, self.burned));
        for (id, channel) in state.channels() {
            assert_eq!(channel.balance().0, self.held[id], "channel {id}");
        }
        for (operator, provider) in state.providers() {
            assert_eq!(provider.bond.0, self.bonds[operator], "bond of {operator}");
        }
    }

    fn pay(&mut self, from: Address, to: Address, amount: u128) {
        let payer = self.watt.entry(from).or_default();
        *payer = payer.checked_sub(amount).expect("nobody pays what they do not have");
        *self.watt.entry(to).or_default() += amount;
    }

    fn see_event(&mut self, event: &Event) {
        let vault = Module::Vault.address();
        let bonds = Module::Bonds.address();
        let stakers = Module::Stakers.address();
        match *event {
            Event::Transferred { from, to, amount } => self.pay(from, to, amount.0),
            Event::FeeDebtPaid { account, amount, .. } => {
                let before = self.debts.insert(account, amount.0);
                assert_eq!(before, None, "the debt before has been taken");
            }
            Event::CreditsBought { buyer, watt, credits, .. } => {
                self.pay(buyer, vault, watt.0);
                *self.credits.entry(buyer).or_default() += credits.0;
            }
            Event::ProviderRegistered { operator, bond, .. }
            | Event::ProviderUpdated { operator, bond, .. }
            | Event::ProviderBonded { operator, bond, .. } => {
                let before = self.bonds.insert(operator, bond.0).unwrap_or_default();
                self.pay(operator, bonds, bond.0 - before);
            }
            Event::ProviderUnbonded { operator, bond } => {
                let whole = self.bonds.insert(operator, 0).unwrap_or_default();
                let debt = self.take_debt(operator);
                assert_eq!(bond.0 + debt, whole);
                self.pay(bonds, operator, bond.0);
                self.pay(bonds, stakers, debt);
            }
            Event::ChannelOpened { channel, payer, deposit, .. } => {
                *self.credits.get_mut(&payer).expect("a buyer") -= deposit.0;
                self.held.insert(channel, deposit.0);
            }
            Event::ChannelToppedUp { channel, payer, amount, .. } => {
                *self.credits.get_mut(&payer).expect("a buyer") -= amount.0;
                *self.held.get_mut(&channel).expect("an open channel") += amount.0;
            }
            Event::ChannelRedeemed(redeemed) => self.see_redeemed(&redeemed),
            Event::ChannelClosed { channel, payer, returned, .. } => {
                let held = self.held.insert(channel, 0);
                assert_eq!(held, Some(returned.0));
                *self.credits.entry(payer).or_default() += returned.0;
            }
            Event::RewardsDistributed { amount, .. } => {
                self.pay(stakers, Module::Rewards.address(), amount.0);
            }
            Event::RewardsWithdrawn { operator, amount } => {
                self.pay(Module::Rewards.address(), operator, amount.0);
            }
            Event::FeeOwed { .. }
            | Event::ProviderLeaving { .. }
            | Event::ProviderRemoved { .. }
            | Event::GatewayRegistered { .. }
            | Event::WithdrawRequested { .. }
            | Event::PriceSet { .. } => {}
        }
    }

    fn see_redeemed(&mut self, redeemed: &ledger::Redeemed) {
        let vault = Module::Vault.address();
        let parts = redeemed.parts;
        let sum = parts.provider.0 + parts.stakers.0 + parts.burn.0 + parts.treasury.0;
        assert_eq!(sum, redeemed.watt.0);
        *self.held.get_mut(&redeemed.channel).expect("an open channel") -= redeemed.credits.0;
        *self.watt.entry(vault).or_default() += redeemed.minted.0;
        self.minted += redeemed.minted.0;
        self.burned += parts.burn.0;
        *self.watt.get_mut(&vault).expect("a vault") -= parts.burn.0;
        self.pay(vault, Module::Treasury.address(), parts.treasury.0);
        let debt = self.take_debt(redeemed.receiver);
        self.pay(vault, Module::Stakers.address(), parts.stakers.0 + debt);
        self.pay(vault, Module::Bonds.address(), redeemed.withheld.0);
        *self.bonds.entry(redeemed.receiver).or_default() += redeemed.withheld.0;
        let income = parts.provider.0 - redeemed.withheld.0 - debt;
        self.pay(vault, redeemed.receiver, income);
    }

    fn take_debt(&mut self, account: Address) -> u128 {
        self.debts.remove(&account).unwrap_or_default()
    }
}
