//! Who holds what: WATT and free credits by account, the accounts of the ledger itself, and the
//! supply of both denominations.
//!
//! Double entry: WATT move between accounts; they are made and destroyed with a reason, each in the
//! account of one module ([`Mint`], [`Burn`]). So the sum of all accounts is the total supply (L1, L2).

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, Nusd, TimeMs, Watt, params::CreditPolicy, state::Account};

use crate::{error::TxError, event::Event, execute::Context, state::State};

/// An account of the ledger itself. No key controls it and no transfer may name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Module {
    /// WATT paid for credits; settlements are paid from it.
    Vault,
    /// Fees and the stakers' share, until the end of the block distributes them.
    Stakers,
    /// What operators and delegators may withdraw.
    Rewards,
    Treasury,
    /// Stake of validators in the set and of providers that serve.
    Bonded,
    /// Stake of all other operators, and what is unbonding.
    NotBonded,
    /// What was slashed and neither burned nor given to anybody.
    Insurance,
}

impl Module {
    pub const ALL: [Module; 7] = [
        Module::Vault,
        Module::Stakers,
        Module::Rewards,
        Module::Treasury,
        Module::Bonded,
        Module::NotBonded,
        Module::Insurance,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Module::Vault => "vault",
            Module::Stakers => "stakers",
            Module::Rewards => "rewards",
            Module::Treasury => "treasury",
            Module::Bonded => "bonded",
            Module::NotBonded => "not-bonded",
            Module::Insurance => "insurance",
        }
    }

    pub const fn address(self) -> Address {
        Address::of_module(self.name())
    }
}

/// Why WATT are made. Each reason has one module that may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mint {
    /// What the vault lacks for settlements.
    Settlement,
    /// What the emission policy pays for an epoch's work.
    Emission,
    /// What has vested of a budget.
    Vesting,
}

/// Why WATT are destroyed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Burn {
    /// The burned share of payments.
    Split,
    /// What bought credits, under the emission policy.
    Purchase,
    /// The burned share of what was slashed.
    Slash,
}

/// Minted WATT by reason. Never decreases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Minted {
    pub settlement: Watt,
    pub emission: Watt,
    pub vesting: Watt,
}

impl Minted {
    pub fn total(&self) -> Watt {
        let Minted { settlement, emission, vesting } = *self;
        settlement.saturating_add(emission).saturating_add(vesting)
    }
}

/// Burned WATT by reason. Never decreases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Burned {
    pub split: Watt,
    pub purchase: Watt,
    pub slash: Watt,
}

impl Burned {
    pub fn total(&self) -> Watt {
        let Burned { split, purchase, slash } = *self;
        split.saturating_add(purchase).saturating_add(slash)
    }
}

/// Counters of both denominations. All but the totals only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Supply {
    /// All WATT there are: genesis + minted − burned.
    pub total: Watt,
    pub genesis: Watt,
    pub minted: Minted,
    pub burned: Burned,
    /// All credits there are: issued − settled − refunded.
    pub credits_outstanding: Nusd,
    pub credits_issued: Nusd,
    pub credits_settled: Nusd,
    pub credits_refunded: Nusd,
    /// Claims that went back to their payers. They are outstanding still.
    pub claims_refunded: Nusd,
    /// WATT that purchases paid into the vault.
    pub vault_in: Watt,
    /// WATT that settlements and refunds took out of the vault, what was minted for them not counted.
    pub vault_out: Watt,
}

/// Moves WATT to another account.
pub(crate) fn transfer(
    state: &mut State,
    context: &mut Context,
    to: Address,
    amount: Watt,
) -> Result<(), TxError> {
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the amount" });
    }
    if to.is_module() {
        return Err(TxError::ToModule { to });
    }
    state.pay(context.sender, to, amount)?;
    context.events.push(Event::Transferred { from: context.sender, to, amount });
    Ok(())
}

/// `left + right`, or the error that names what was added.
pub(crate) fn add(left: Watt, right: Watt, what: &'static str) -> Result<Watt, TxError> {
    left.checked_add(right).ok_or(TxError::Overflow { what })
}

/// The same for credits.
pub(crate) fn add_credits(left: Nusd, right: Nusd, what: &'static str) -> Result<Nusd, TxError> {
    left.checked_add(right).ok_or(TxError::Overflow { what })
}

impl State {
    /// All zeros for an account that was never used.
    pub fn account(&self, address: &Address) -> Account {
        self.accounts.get(address).copied().unwrap_or_default()
    }

    /// WATT held by a part of the ledger itself.
    pub fn module_balance(&self, module: Module) -> Watt {
        self.account(&module.address()).watt
    }

    pub fn supply(&self) -> &Supply {
        self.supply.get()
    }

    /// Accounts that hold something or made a transaction, those of the ledger itself included.
    pub fn accounts(&self) -> impl Iterator<Item = (&Address, &Account)> {
        self.accounts.iter()
    }

    pub(crate) fn put_account(&mut self, address: Address, account: Account) {
        if account == Account::default() {
            self.accounts.remove(&address);
        } else {
            self.accounts.insert(address, account);
        }
    }

    /// Changes an account in one search. On an error it is as before.
    pub(crate) fn change_account(
        &mut self,
        address: Address,
        change: impl FnOnce(&mut Account) -> Result<(), TxError>,
    ) -> Result<(), TxError> {
        self.accounts.change(address, change)
    }

    /// Moves WATT between two accounts, those of the ledger included.
    pub(crate) fn pay(&mut self, from: Address, to: Address, amount: Watt) -> Result<(), TxError> {
        if amount.is_zero() {
            return Ok(());
        }
        self.take(from, amount)?;
        self.give(to, amount)
    }

    fn take(&mut self, from: Address, amount: Watt) -> Result<(), TxError> {
        self.change_account(from, |payer| {
            let (balance, needed) = (payer.watt, amount);
            let short = || TxError::InsufficientWatt { account: from, balance, needed };
            payer.watt = balance.checked_sub(amount).ok_or_else(short)?;
            Ok(())
        })
    }

    fn give(&mut self, to: Address, amount: Watt) -> Result<(), TxError> {
        self.change_account(to, |payee| {
            payee.watt = add(payee.watt, amount, "the receiver's balance")?;
            Ok(())
        })
    }

    /// What may still be minted for `reason` under its budget and the cap (L4).
    pub(crate) fn mint_room(&self, reason: Mint) -> Watt {
        let (supply, params) = (self.supply(), &self.params().supply);
        let cap = params.max.saturating_sub(supply.total);
        let budget = match reason {
            Mint::Settlement => params.settlement_reserve.saturating_sub(supply.minted.settlement),
            Mint::Emission => params.emission_budget.saturating_sub(supply.minted.emission),
            // Each bucket keeps its own account.
            Mint::Vesting => cap,
        };
        budget.min(cap)
    }

    /// Makes WATT in a module's account. Asking for more than [`State::mint_room`] is an error.
    pub(crate) fn mint(&mut self, reason: Mint, to: Module, amount: Watt) -> Result<(), TxError> {
        if amount.is_zero() {
            return Ok(());
        }
        let room = self.mint_room(reason);
        if amount > room {
            return Err(TxError::MintRoom { amount, room });
        }
        let mut supply = *self.supply();
        let counter = match reason {
            Mint::Settlement => &mut supply.minted.settlement,
            Mint::Emission => &mut supply.minted.emission,
            Mint::Vesting => &mut supply.minted.vesting,
        };
        *counter = add(*counter, amount, "the minted supply")?;
        supply.total = add(supply.total, amount, "the supply")?;
        self.supply.set(supply);
        self.give(to.address(), amount)
    }

    /// Destroys WATT that are in a module's account.
    pub(crate) fn burn(&mut self, reason: Burn, from: Module, amount: Watt) -> Result<(), TxError> {
        if amount.is_zero() {
            return Ok(());
        }
        self.take(from.address(), amount)?;
        let mut supply = *self.supply();
        let counter = match reason {
            Burn::Split => &mut supply.burned.split,
            Burn::Purchase => &mut supply.burned.purchase,
            Burn::Slash => &mut supply.burned.slash,
        };
        *counter = add(*counter, amount, "the burned supply")?;
        supply.total = supply.total.saturating_sub(amount);
        self.supply.set(supply);
        Ok(())
    }

    /// Takes free credits from an account, to be put into a channel.
    pub(crate) fn take_credits(&mut self, from: Address, amount: Nusd) -> Result<(), TxError> {
        self.change_account(from, |account| {
            let (balance, needed) = (account.credits, amount);
            let short = || TxError::InsufficientCredits { account: from, balance, needed };
            account.credits = balance.checked_sub(amount).ok_or_else(short)?;
            Ok(())
        })
    }

    /// Gives free credits to an account: newly issued, or back from its channel.
    pub(crate) fn give_credits(&mut self, to: Address, amount: Nusd) -> Result<(), TxError> {
        self.change_account(to, |account| {
            account.credits = add_credits(account.credits, amount, "the account's credits")?;
            Ok(())
        })
    }

    /// Takes as much of `income`, held by `from`, as `account` owes in fees. Returns the rest.
    pub(crate) fn collect_fee_debt(
        &mut self,
        context: &mut Context,
        account: Address,
        from: Module,
        income: Watt,
    ) -> Result<Watt, TxError> {
        let mut debtor = self.account(&account);
        let amount = debtor.fee_debt.min(income);
        if amount.is_zero() {
            return Ok(income);
        }
        debtor.fee_debt = debtor.fee_debt.saturating_sub(amount);
        self.put_account(account, debtor);
        self.pay(from.address(), Module::Stakers.address(), amount)?;
        context.events.push(Event::FeeDebtPaid { account, amount, debt: debtor.fee_debt });
        Ok(income.saturating_sub(amount))
    }

    /// When the ledger next has something to do by itself. In the past if one block was not enough.
    pub fn next_due(&self) -> Option<TimeMs> {
        // What cannot be done for lack of a price or of WATT waits for a transaction that changes that.
        let has_price = self.fresh_price(self.time()).is_ok();
        let vault = self.module_balance(Module::Vault);
        let refunds = has_price && !vault.is_zero();
        let settles = match self.params().credits.policy {
            CreditPolicy::Vault => {
                has_price && !vault.saturating_add(self.mint_room(Mint::Settlement)).is_zero()
            }
            CreditPolicy::Split | CreditPolicy::Emission => true,
        };
        let times = [
            self.due.first().map(|((time, _), ())| *time),
            self.pending.first().map(|((time, _), _)| *time).filter(|_| settles),
            self.refunds.first().map(|((time, _), _)| *time).filter(|_| refunds),
            self.can_pay_arrears().then_some(TimeMs(0)),
            self.maturing.first().map(|((time, ..), ())| *time),
            self.returning.first().map(|((time, ..), ())| *time),
            self.next_count_at(),
            self.next_payout_at().filter(|_| has_price),
            self.next_audit_at(),
        ];
        times.into_iter().flatten().min()
    }
}
