//! Who holds what: WATT and free credits by account, the accounts of the ledger itself, and the
//! supply of both denominations.
//!
//! Double entry: WATT move between accounts and are made and destroyed in the vault only, each
//! unit with a reason. So the sum of all accounts is the total supply (L1, L2).

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, Nonce, Nusd, TimeMs, Watt};

use crate::{error::TxError, event::Event, execute::Context, state::State};

/// What one account holds. An account that was never used has all zeros and no entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Account {
    pub watt: Watt,
    /// Free credits; those in channels belong to the channels.
    pub credits: Nusd,
    /// Transactions it has made.
    pub nonce: Nonce,
    /// Fees that will be taken from its first redemptions, or from its bond when it leaves.
    pub fee_debt: Watt,
}

/// An account of the ledger itself. No key controls it and no transfer may name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Module {
    /// WATT paid for credits; settlements are paid from it. The only one that mints and burns.
    Vault,
    /// Fees and the stakers' share, until the end of the block distributes them.
    Stakers,
    /// What validators may withdraw.
    Rewards,
    Treasury,
    /// Bonds of providers.
    Bonds,
}

impl Module {
    pub const ALL: [Module; 5] =
        [Module::Vault, Module::Stakers, Module::Rewards, Module::Treasury, Module::Bonds];

    pub fn name(self) -> &'static str {
        match self {
            Module::Vault => "vault",
            Module::Stakers => "stakers",
            Module::Rewards => "rewards",
            Module::Treasury => "treasury",
            Module::Bonds => "bonds",
        }
    }

    pub fn address(self) -> Address {
        Address::of_module(self.name())
    }

    pub(crate) fn is_one(address: &Address) -> bool {
        Module::ALL.iter().any(|module| module.address() == *address)
    }
}

/// Minted WATT by reason. Never decreases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Minted {
    /// What the vault lacked when credits were settled.
    pub settlement: Watt,
}

impl Minted {
    pub fn total(&self) -> Watt {
        let Minted { settlement } = *self;
        settlement
    }
}

/// Burned WATT by reason. Never decreases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, BorshSerialize, BorshDeserialize)]
pub struct Burned {
    /// The burned share of settled payments.
    pub split: Watt,
}

impl Burned {
    pub fn total(&self) -> Watt {
        let Burned { split } = *self;
        split
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
    /// All credits there are, free and in channels: issued − settled.
    pub credits_outstanding: Nusd,
    pub credits_issued: Nusd,
    pub credits_settled: Nusd,
    /// WATT that purchases paid into the vault.
    pub vault_in: Watt,
    /// WATT that settlements took out of the vault, what was minted for them not counted.
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
    if Module::is_one(&to) {
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

    /// Moves WATT between two accounts, those of the ledger included.
    pub(crate) fn pay(&mut self, from: Address, to: Address, amount: Watt) -> Result<(), TxError> {
        if amount.is_zero() {
            return Ok(());
        }
        let mut payer = self.account(&from);
        payer.watt = payer.watt.checked_sub(amount).ok_or(TxError::InsufficientWatt {
            account: from,
            balance: payer.watt,
            needed: amount,
        })?;
        self.put_account(from, payer);
        let mut payee = self.account(&to);
        payee.watt = add(payee.watt, amount, "the receiver's balance")?;
        self.put_account(to, payee);
        Ok(())
    }

    /// Makes WATT in the vault because a settlement is short, within the reserve (L4).
    pub(crate) fn mint_for_settlement(&mut self, amount: Watt) -> Result<(), TxError> {
        let mut supply = *self.supply();
        let params = self.params();
        let minted = add(supply.minted.settlement, amount, "the minted supply")?;
        let total = add(supply.total, amount, "the supply")?;
        if minted > params.settlement_reserve || total > params.supply_max {
            let reserve = params.settlement_reserve.saturating_sub(supply.minted.settlement);
            let cap = params.supply_max.saturating_sub(supply.total);
            return Err(TxError::ReserveExhausted {
                shortfall: amount,
                reserve_left: reserve.min(cap),
            });
        }
        supply.minted.settlement = minted;
        supply.total = total;
        self.supply.set(supply);
        let vault = Module::Vault.address();
        let mut account = self.account(&vault);
        account.watt = add(account.watt, amount, "the vault's balance")?;
        self.put_account(vault, account);
        Ok(())
    }

    /// Destroys the burned share of a settlement; it is in the vault at that moment.
    pub(crate) fn burn_by_split(&mut self, amount: Watt) -> Result<(), TxError> {
        let vault = Module::Vault.address();
        let mut account = self.account(&vault);
        account.watt = account.watt.checked_sub(amount).ok_or(TxError::InsufficientWatt {
            account: vault,
            balance: account.watt,
            needed: amount,
        })?;
        self.put_account(vault, account);
        let mut supply = *self.supply();
        supply.burned.split = add(supply.burned.split, amount, "the burned supply")?;
        supply.total = supply.total.saturating_sub(amount);
        self.supply.set(supply);
        Ok(())
    }

    /// Takes free credits from an account, to be put into a channel.
    pub(crate) fn take_credits(&mut self, from: Address, amount: Nusd) -> Result<(), TxError> {
        let mut account = self.account(&from);
        account.credits =
            account.credits.checked_sub(amount).ok_or(TxError::InsufficientCredits {
                account: from,
                balance: account.credits,
                needed: amount,
            })?;
        self.put_account(from, account);
        Ok(())
    }

    /// Gives free credits to an account: newly issued, or back from its channel.
    pub(crate) fn give_credits(&mut self, to: Address, amount: Nusd) -> Result<(), TxError> {
        let mut account = self.account(&to);
        account.credits = account
            .credits
            .checked_add(amount)
            .ok_or(TxError::Overflow { what: "the account's credits" })?;
        self.put_account(to, account);
        Ok(())
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

    /// When the ledger next has something to do by itself: an unbonding that matures, or an
    /// unbonded provider that was idle for too long. In the past if one block was not enough.
    pub fn next_due(&self) -> Option<TimeMs> {
        self.due.first().map(|((time, _), ())| *time)
    }
}
