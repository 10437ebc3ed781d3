//! Whether a sender can pay for all its transactions that wait: for the mempool, not for blocks.
//!
//! A transaction that cannot pay has no place in a block and costs nothing. So one that waits behind
//! others must be paid for by the balance of today, together with them: otherwise a high tip would
//! push others out of the mempool and out of a block for free.

use std::borrow::Borrow;

use types::{
    Watt,
    stake::OperatorId,
    tx::{Action, VerifiedTx},
};

use crate::{credits, error::TxError, fees, state::State};

impl State {
    /// Whether the balance pays for the next transactions of one sender, in the order of their
    /// nonces: for every fee, and for what each action takes before the next fee is due. Only the
    /// first may owe its fee. Otherwise the place of the first that is not paid for, and why.
    pub fn check_queue<T: Borrow<VerifiedTx>>(
        &self,
        queue: &[T],
    ) -> Result<(), (usize, Box<TxError>)> {
        let mut needed = Watt::ZERO;
        for (place, tx) in queue.iter().map(Borrow::borrow).enumerate() {
            let account = self.account(&tx.sender());
            let fee = self.fee(tx.bytes_len()).saturating_add(tx.tx().tip);
            needed = needed.saturating_add(fee);
            if place == 0 {
                fees::payment(tx, &account, fee).map_err(|error| (place, Box::new(error)))?;
            } else if needed > account.watt {
                let (account, balance) = (tx.sender(), account.watt);
                let unpaid = TxError::QueueUnpaid { account, balance, needed };
                return Err((place, Box::new(unpaid)));
            }
            needed = needed.saturating_add(self.spent_by(tx));
        }
        Ok(())
    }

    /// The most that the action takes from its sender's balance.
    fn spent_by(&self, tx: &VerifiedTx) -> Watt {
        let sender = tx.sender();
        let audits = &self.params().audits;
        match &tx.tx().action {
            Action::Transfer { amount, .. } | Action::Delegate { amount, .. } => *amount,
            Action::BuyCredits(purchase) => credits::price_of(self, *purchase),
            Action::RegisterProvider { bond, .. } => bond.saturating_sub(self.bond_of(&sender)),
            Action::RegisterValidator { stake, .. } => {
                stake.saturating_sub(self.stake_of(&sender, &OperatorId::validator(sender)))
            }
            Action::Appeal { .. } => audits.appeal_deposit,
            Action::DemandAudit { .. } => audits.demand_deposit,
            Action::RefundCredits { .. }
            | Action::UnbondProvider
            | Action::Heartbeat
            | Action::RegisterGateway { .. }
            | Action::OpenChannel { .. }
            | Action::TopUpChannel { .. }
            | Action::RedeemVouchers { .. }
            | Action::ReturnDeposit { .. }
            | Action::RequestWithdraw { .. }
            | Action::FinalizeWithdraw { .. }
            | Action::CloseChannel { .. }
            | Action::SetCommission { .. }
            | Action::Undelegate { .. }
            | Action::Redelegate { .. }
            | Action::WithdrawRewards { .. }
            | Action::WithdrawCommission { .. }
            | Action::Unjail { .. }
            | Action::SubmitEvidence { .. }
            | Action::CommitPrice { .. }
            | Action::RevealPrice { .. }
            | Action::ClaimVested { .. }
            | Action::CommitReceipts { .. }
            | Action::CommitVerdict { .. }
            | Action::RevealVerdict { .. }
            | Action::PublishCalibration { .. }
            | Action::RegisterAuditor { .. }
            | Action::RevealPlanted { .. }
            | Action::ReportCanary { .. } => Watt::ZERO,
        }
    }
}
