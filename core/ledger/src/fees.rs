//! Fees: what a transaction costs, and who may owe it.
//!
//! A fee is taken before the action and stays taken if the action fails. It goes to the stakers.
//! Somebody without WATT can still begin: a registration as provider may owe its fee, a redemption
//! may pay its fee out of what it redeems. Such a transaction has no place in a block unless it
//! succeeds, so nobody can make a block work for free.

use types::{
    Address, Watt,
    tx::{Action, VerifiedTx},
};

use crate::{
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    provider, settlement,
    state::State,
};

/// An account may owe this many times the fee of the transaction it sends: enough to register,
/// change its mind a few times and come back after it expired.
pub(crate) const DEBT_FEES_MAX: u128 = 8;

/// How a transaction pays its fee.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Payment {
    /// From the sender's balance, whatever becomes of the action.
    Now,
    /// Owed; the transaction counts only if its action succeeds.
    Owed,
    /// Owed and paid by the same redemption; counts only if that covers it.
    FromIncome,
}

impl State {
    /// The fee of a transaction of this size.
    pub fn fee(&self, bytes_len: usize) -> Watt {
        let bytes = u128::try_from(bytes_len).unwrap_or(u128::MAX);
        let params = self.params();
        params.fee_tx.saturating_add(Watt(params.fee_byte.0.saturating_mul(bytes)))
    }
}

/// How `tx` can pay `fee`, or that it cannot.
pub(crate) fn payment(state: &State, tx: &VerifiedTx, fee: Watt) -> Result<Payment, TxError> {
    let sender = tx.sender();
    let account = state.account(&sender);
    if account.watt >= fee {
        return Ok(Payment::Now);
    }
    let unpaid = TxError::FeeUnpaid { account: sender, fee, balance: account.watt };
    match &tx.tx().action {
        Action::RegisterProvider { .. } => {
            let debt = account.fee_debt.saturating_add(fee);
            let debt_max = Watt(fee.0.saturating_mul(DEBT_FEES_MAX));
            if debt > debt_max {
                return Err(TxError::FeeDebt { account: sender, debt, debt_max });
            }
            Ok(Payment::Owed)
        }
        Action::RedeemVouchers { .. } => Ok(Payment::FromIncome),
        Action::Transfer { .. }
        | Action::BuyCredits(_)
        | Action::BondProvider { .. }
        | Action::UnbondProvider
        | Action::RegisterGateway { .. }
        | Action::OpenChannel { .. }
        | Action::TopUpChannel { .. }
        | Action::RequestWithdraw { .. }
        | Action::FinalizeWithdraw { .. }
        | Action::CloseChannel { .. }
        | Action::WithdrawRewards
        | Action::SetPrice { .. } => Err(unpaid),
    }
}

/// For the mempool: whether a transaction that cannot pay at once would be included.
pub(crate) fn check_unpaid(state: &State, tx: &VerifiedTx, fee: Watt) -> Result<(), TxError> {
    let sender = tx.sender();
    match &tx.tx().action {
        Action::RegisterProvider { node_key, moniker, bond } => {
            provider::check_registration(state, sender, *node_key, moniker, *bond)?;
            let bonded = state.provider(&sender).map_or(Watt::ZERO, |provider| provider.bond);
            let (needed, balance) = (bond.saturating_sub(bonded), state.account(&sender).watt);
            if needed > balance {
                return Err(TxError::InsufficientWatt { account: sender, balance, needed });
            }
            Ok(())
        }
        Action::RedeemVouchers { claims } => {
            let account = state.account(&sender);
            let income = settlement::plan(state, sender, claims)?.provider_income(state);
            if income < account.fee_debt.saturating_add(fee) {
                return Err(TxError::FeeUnpaid { account: sender, fee, balance: account.watt });
            }
            Ok(())
        }
        Action::Transfer { .. }
        | Action::BuyCredits(_)
        | Action::BondProvider { .. }
        | Action::UnbondProvider
        | Action::RegisterGateway { .. }
        | Action::OpenChannel { .. }
        | Action::TopUpChannel { .. }
        | Action::RequestWithdraw { .. }
        | Action::FinalizeWithdraw { .. }
        | Action::CloseChannel { .. }
        | Action::WithdrawRewards
        | Action::SetPrice { .. } => Ok(()),
    }
}

/// Takes the fee, or writes it down as owed.
pub(crate) fn charge(
    state: &mut State,
    context: &mut Context,
    payment: Payment,
    fee: Watt,
) -> Result<(), TxError> {
    let sender = context.sender;
    match payment {
        Payment::Now => state.pay(sender, Module::Stakers.address(), fee),
        Payment::Owed | Payment::FromIncome => {
            let mut account = state.account(&sender);
            account.fee_debt = add(account.fee_debt, fee, "the owed fees")?;
            state.put_account(sender, account);
            let debt = account.fee_debt;
            context.events.push(Event::FeeOwed { account: sender, fee, debt });
            Ok(())
        }
    }
}

/// After the action: whether a redemption really paid what its sender owed.
pub(crate) fn check_covered(
    state: &State,
    payment: Payment,
    sender: Address,
    fee: Watt,
) -> Result<(), TxError> {
    let account = state.account(&sender);
    match payment {
        Payment::FromIncome if !account.fee_debt.is_zero() => {
            Err(TxError::FeeUnpaid { account: sender, fee, balance: account.watt })
        }
        Payment::Now | Payment::Owed | Payment::FromIncome => Ok(()),
    }
}
