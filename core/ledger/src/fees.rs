//! Fees: what a transaction costs, and who may owe it.
//!
//! A fee is taken before the action and stays taken if the action fails. It goes to the stakers.
//! So does the tip; below, `fee` is both.
//! Somebody without WATT can still begin: a registration as provider may owe its fee, a redemption
//! may pay its fee out of what it redeems, a commitment to receipts out of what was redeemed. Such a transaction has no place in a block unless it
//! succeeds, so nobody can make a block work for free.

use types::{
    Address, Nonce, Nusd, TimeMs, Watt,
    state::Account,
    tx::{Action, VerifiedTx},
};

use crate::{
    audit,
    bank::{Module, add},
    error::TxError,
    event::Event,
    execute::Context,
    provider::{self, Registration},
    settlement,
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
    /// Owed until the next settlement; counts only if what is claimed by then will cover it.
    FromIncome,
}

impl State {
    /// The fee of a transaction of this size, without its tip.
    pub fn fee(&self, bytes_len: usize) -> Watt {
        let bytes = u128::try_from(bytes_len).unwrap_or(u128::MAX);
        let fees = &self.params().fees;
        fees.tx.saturating_add(Watt(fees.byte.0.saturating_mul(bytes)))
    }
}

/// How `tx` can pay `fee` from its sender's account, or that it cannot.
pub(crate) fn payment(tx: &VerifiedTx, account: &Account, fee: Watt) -> Result<Payment, TxError> {
    let sender = tx.sender();
    if account.watt >= fee {
        return Ok(Payment::Now);
    }
    let unpaid = TxError::FeeUnpaid { account: sender, fee, balance: account.watt };
    // A tip buys a place in the queue, and nobody buys that on credit.
    if !tx.tx().tip.is_zero() {
        return Err(unpaid);
    }
    match &tx.tx().action {
        Action::RegisterProvider { .. } => {
            let debt = account.fee_debt.saturating_add(fee);
            let debt_max = Watt(fee.0.saturating_mul(DEBT_FEES_MAX));
            if debt > debt_max {
                return Err(TxError::FeeDebt { account: sender, debt, debt_max });
            }
            Ok(Payment::Owed)
        }
        Action::RedeemVouchers { .. } | Action::CommitReceipts { .. } => Ok(Payment::FromIncome),
        Action::Transfer { .. }
        | Action::BuyCredits(_)
        | Action::RefundCredits { .. }
        | Action::UnbondProvider
        | Action::Heartbeat
        | Action::RegisterGateway { .. }
        | Action::OpenChannel { .. }
        | Action::TopUpChannel { .. }
        | Action::ReturnDeposit { .. }
        | Action::RequestWithdraw { .. }
        | Action::FinalizeWithdraw { .. }
        | Action::CloseChannel { .. }
        | Action::RegisterValidator { .. }
        | Action::SetCommission { .. }
        | Action::Delegate { .. }
        | Action::Undelegate { .. }
        | Action::Redelegate { .. }
        | Action::WithdrawRewards { .. }
        | Action::WithdrawCommission { .. }
        | Action::Unjail { .. }
        | Action::SubmitEvidence { .. }
        | Action::CommitPrice { .. }
        | Action::RevealPrice { .. }
        | Action::ClaimVested { .. }
        | Action::CommitVerdict { .. }
        | Action::RevealVerdict { .. }
        | Action::PublishCalibration { .. }
        | Action::RegisterAuditor { .. }
        | Action::RevealPlanted { .. }
        | Action::Appeal { .. }
        | Action::ReportCanary { .. }
        | Action::DemandAudit { .. } => Err(unpaid),
    }
}

/// For the mempool: whether a transaction that cannot pay at once would be included. Which ones may
/// owe at all [`payment`] has decided.
pub(crate) fn check_unpaid(state: &State, tx: &VerifiedTx, fee: Watt) -> Result<(), TxError> {
    let sender = tx.sender();
    let account = state.account(&sender);
    if let Action::RegisterProvider { node_key, profile, commission, bond } = &tx.tx().action {
        let (node_key, commission, bond) = (*node_key, *commission, *bond);
        let registration = Registration { node_key, profile, commission, bond };
        provider::check_registration(state, sender, registration)?;
        let needed = bond.saturating_sub(state.bond_of(&sender));
        if needed > account.watt {
            let balance = account.watt;
            return Err(TxError::InsufficientWatt { account: sender, balance, needed });
        }
    }
    if let Action::RedeemVouchers { claims } = &tx.tx().action {
        let more = settlement::plan(state, sender, claims)?.credits();
        check_income(state, sender, more, account.fee_debt.saturating_add(fee), state.time())?;
    }
    if let Action::CommitReceipts { receipts, .. } = &tx.tx().action {
        audit::check_receipts(state, sender, receipts, state.time())?;
        let debt = account.fee_debt.saturating_add(fee);
        check_income(state, sender, Nusd::ZERO, debt, state.time())?;
    }
    Ok(())
}

/// Takes the fee, or writes it down as owed, and uses the nonce: `next` is the account's one then.
pub(crate) fn charge(
    state: &mut State,
    context: &mut Context,
    payment: Payment,
    next: Nonce,
    fee: Watt,
) -> Result<(), TxError> {
    let sender = context.sender;
    let mut debt = Watt::ZERO;
    state.change_account(sender, |account| {
        account.nonce = next;
        match payment {
            Payment::Now => {}
            Payment::Owed | Payment::FromIncome => {
                account.fee_debt = add(account.fee_debt, fee, "the owed fees")?;
                debt = account.fee_debt;
            }
        }
        Ok(())
    })?;
    match payment {
        Payment::Now => state.pay(sender, Module::Stakers.address(), fee),
        Payment::Owed | Payment::FromIncome => {
            context.events.push(Event::FeeOwed { account: sender, fee, debt });
            Ok(())
        }
    }
}

/// After the action: whether what a provider has claimed will pay what it owes.
pub(crate) fn check_covered(
    state: &State,
    payment: Payment,
    context: &Context,
) -> Result<(), TxError> {
    match payment {
        Payment::FromIncome => {
            let debt = state.account(&context.sender).fee_debt;
            check_income(state, context.sender, Nusd::ZERO, debt, context.time)
        }
        Payment::Now | Payment::Owed => Ok(()),
    }
}

fn check_income(
    state: &State,
    sender: Address,
    more: Nusd,
    debt: Watt,
    time: TimeMs,
) -> Result<(), TxError> {
    let income = state.expected_income(&sender, more, time)?;
    if income < debt {
        let balance = state.account(&sender).watt;
        return Err(TxError::FeeUnpaid { account: sender, fee: debt, balance });
    }
    Ok(())
}
