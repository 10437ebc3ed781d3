//! Transactions and blocks: what enters the mempool, what a block does, what it leaves behind.
//!
//! A transaction ends in one of three ways. **Applied**: fee taken, action done. **Failed**: fee
//! taken, nonce used, nothing else happened. **Skipped**: it has no place in a block and left no
//! trace, so a block with it and the block without it lead to the same state. A proposer leaves
//! skipped ones out, everybody else refuses a block that has one.

use std::borrow::Borrow;

use types::{
    Address, Hash32, Height, Nonce, PublicKey, TimeMs, TxId, Watt,
    limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX, TX_BYTES_MAX},
    tx::{Action, VerifiedTx},
};

use crate::{
    audit, bank, channel, credits, emission,
    error::{BlockError, TxError},
    event::Event,
    evidence,
    fees::{self, Payment},
    gateway, oracle,
    provider::{self, Registration},
    rewards, settlement, signing, stake,
    state::State,
    validator, vesting,
};

/// How far ahead of its account's nonce a transaction may wait in the mempool.
pub const NONCES_AHEAD_MAX: u64 = 64;

/// What surrounds an action while it runs.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) height: Height,
    pub(crate) time: TimeMs,
    /// Who signed.
    pub(crate) sender: Address,
    /// What happened so far.
    pub(crate) events: Vec<Event>,
}

/// Which block is executed, and what is known about the one before it.
#[derive(Clone, Copy, Debug)]
pub struct BlockInfo<'a> {
    pub height: Height,
    /// Never earlier than the parent's.
    pub time: TimeMs,
    /// Consensus keys of seats whose signature is missing under the parent.
    pub absent: &'a [PublicKey],
}

/// That a transaction may enter the mempool, and when it can be included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// In the next block.
    Ready,
    /// After as many transactions of the same account, at most [`NONCES_AHEAD_MAX`]. Whether it
    /// can pay for all of them [`State::check_queue`] says.
    Ahead { by: u64 },
}

/// What became of one transaction of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TxResult {
    pub id: TxId,
    /// Taken, or written down as owed; zero if skipped.
    pub fee: Watt,
    pub outcome: TxOutcome,
}

/// See the head of this file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TxOutcome {
    Applied { events: Vec<Event> },
    Failed { error: TxError },
    Skipped { error: TxError },
}

/// What a block did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockOutcome {
    /// One per transaction, in order.
    pub results: Vec<TxResult>,
    /// Of the end of the block.
    pub events: Vec<Event>,
    /// The digest after the block.
    pub app_hash: Hash32,
}

impl BlockOutcome {
    /// Whether every transaction had a place in the block. One that others propose must.
    pub fn is_clean(&self) -> bool {
        !self.results.iter().any(|result| matches!(result.outcome, TxOutcome::Skipped { .. }))
    }
}

impl State {
    /// Whether a transaction may enter the mempool, judged by the present state and time. The
    /// answer may be another one by the time it is executed.
    pub fn check(&self, tx: &VerifiedTx) -> Result<Readiness, TxError> {
        let fee = self.check_form(tx, self.time())?;
        let account = self.account(&tx.sender());
        let (given, expected) = (tx.tx().nonce, account.nonce);
        if given < expected {
            return Err(TxError::NonceTooLow { account: tx.sender(), given, expected });
        }
        let by = given.0.saturating_sub(expected.0);
        if by > NONCES_AHEAD_MAX {
            return Err(TxError::NonceTooHigh { account: tx.sender(), given, expected });
        }
        if by > 0 {
            return Ok(Readiness::Ahead { by });
        }
        match fees::payment(tx, &account, fee)? {
            Payment::Now => {}
            Payment::Owed | Payment::FromIncome => fees::check_unpaid(self, tx, fee)?,
        }
        Ok(Readiness::Ready)
    }

    /// Applies a block and leaves it open: [`State::commit`] or [`State::rollback`] comes next.
    /// On an error the state is as before.
    pub fn execute_block<T: Borrow<VerifiedTx>>(
        &mut self,
        block: BlockInfo<'_>,
        txs: &[T],
    ) -> Result<BlockOutcome, BlockError> {
        let BlockInfo { height, time, absent } = block;
        self.check_block(height, time, txs)?;
        // The edges of a block act for nobody; the vault's address stands where a sender would.
        let sender = bank::Module::Vault.address();
        let mut context = Context { height, time, sender, events: Vec::new() };
        let defect = |source| BlockError::Defect { height, source };
        let begun = self.begin_block(&mut context, absent);
        if let Err(source) = begun {
            self.rollback();
            return Err(defect(source));
        }
        let results = txs.iter().map(|tx| self.execute_tx(height, time, tx.borrow())).collect();
        if let Err(source) = self.end_block(&mut context) {
            self.rollback();
            return Err(defect(source));
        }
        let app_hash = self.seal(height, time);
        Ok(BlockOutcome { results, events: context.events, app_hash })
    }

    /// What `tx` would do in a block at `time`, as if it were the next transaction of its sender.
    /// The state is as before afterwards.
    pub fn simulate(&mut self, time: TimeMs, tx: &VerifiedTx) -> Result<TxResult, BlockError> {
        self.check_block(self.height().next(), time, std::slice::from_ref(tx))?;
        let result = self.execute_tx(self.height().next(), time, tx);
        self.rollback();
        Ok(result)
    }

    fn check_block<T: Borrow<VerifiedTx>>(
        &self,
        height: Height,
        time: TimeMs,
        txs: &[T],
    ) -> Result<(), BlockError> {
        if let Some((open, _)) = &self.open {
            return Err(BlockError::Open { open: open.height });
        }
        if height != self.height().next() || height == self.height() {
            return Err(BlockError::Height { given: height, tip: self.height() });
        }
        if time < self.time() {
            return Err(BlockError::Time { given: time, tip: self.time() });
        }
        if txs.len() > BLOCK_TXS_MAX {
            return Err(BlockError::TooManyTxs { count: txs.len(), max: BLOCK_TXS_MAX });
        }
        let bytes = txs.iter().map(|tx| tx.borrow().bytes_len()).fold(0, usize::saturating_add);
        if bytes > BLOCK_BYTES_MAX {
            return Err(BlockError::TooLong { bytes, bytes_max: BLOCK_BYTES_MAX });
        }
        Ok(())
    }

    fn begin_block(&mut self, context: &mut Context, absent: &[PublicKey]) -> Result<(), TxError> {
        self.mark_time(context.height, context.time);
        oracle::begin_block(self, context)?;
        signing::begin_block(self, context, absent)?;
        audit::begin_block(self, context)
    }

    fn end_block(&mut self, context: &mut Context) -> Result<(), TxError> {
        audit::end_block(self, context)?;
        settlement::end_block(self, context)?;
        emission::end_block(self, context)?;
        credits::end_block(self, context)?;
        provider::end_block(self, context)?;
        stake::end_block(self, context)?;
        rewards::end_block(self, context)?;
        validator::end_block(self, context)
    }

    fn execute_tx(&mut self, height: Height, time: TimeMs, tx: &VerifiedTx) -> TxResult {
        let start = self.mark();
        let mut context = Context { height, time, sender: tx.sender(), events: Vec::new() };
        let (fee, payment) = match self.admit(&mut context, tx) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.rollback_to(&start);
                return TxResult {
                    id: tx.id(),
                    fee: Watt::ZERO,
                    outcome: TxOutcome::Skipped { error },
                };
            }
        };
        let paid = self.mark();
        let done = apply(self, &mut context, &tx.tx().action)
            .and_then(|()| fees::check_covered(self, payment, &context));
        match (done, payment) {
            (Ok(()), _) => {
                let outcome = TxOutcome::Applied { events: context.events };
                TxResult { id: tx.id(), fee, outcome }
            }
            (Err(error), Payment::Now) => {
                self.rollback_to(&paid);
                TxResult { id: tx.id(), fee, outcome: TxOutcome::Failed { error } }
            }
            (Err(error), Payment::Owed | Payment::FromIncome) => {
                self.rollback_to(&start);
                TxResult { id: tx.id(), fee: Watt::ZERO, outcome: TxOutcome::Skipped { error } }
            }
        }
    }

    /// What comes before the action: the transaction belongs here and now, its nonce is used and
    /// its fee charged.
    fn admit(
        &mut self,
        context: &mut Context,
        tx: &VerifiedTx,
    ) -> Result<(Watt, Payment), TxError> {
        let fee = self.check_form(tx, context.time)?;
        let account = self.account(&context.sender);
        let (given, expected) = (tx.tx().nonce, account.nonce);
        if given < expected {
            return Err(TxError::NonceTooLow { account: context.sender, given, expected });
        }
        if given > expected {
            return Err(TxError::NonceTooHigh { account: context.sender, given, expected });
        }
        let payment = fees::payment(tx, &account, fee)?;
        let next = Nonce(given.0.checked_add(1).ok_or(TxError::Overflow { what: "the nonce" })?);
        fees::charge(self, context, payment, next, fee)?;
        Ok((fee, payment))
    }

    /// What can be said without the sender's account. Returns the fee, the tip
    /// included.
    fn check_form(&self, tx: &VerifiedTx, time: TimeMs) -> Result<Watt, TxError> {
        let bytes = tx.bytes_len();
        if bytes > TX_BYTES_MAX {
            return Err(TxError::TooLong { bytes, bytes_max: TX_BYTES_MAX });
        }
        let expected = self.chain_id();
        let tx = tx.tx();
        if tx.chain_id != *expected {
            return Err(TxError::ChainId {
                given: tx.chain_id.clone(),
                expected: expected.clone(),
            });
        }
        if let Some(valid_until) = tx.valid_until
            && valid_until < time
        {
            return Err(TxError::Expired { valid_until, time });
        }
        let fee = self.fee(bytes).checked_add(tx.tip);
        let (fee, fee_max) = (fee.ok_or(TxError::Overflow { what: "the tip" })?, tx.fee_max);
        if fee > fee_max {
            return Err(TxError::FeeMax { fee, fee_max });
        }
        Ok(fee)
    }
}

/// Does what the sender asks for. On an error the caller undoes what was begun.
fn apply(state: &mut State, context: &mut Context, action: &Action) -> Result<(), TxError> {
    match action {
        Action::Transfer { to, amount } => bank::transfer(state, context, *to, *amount),
        Action::BuyCredits(purchase) => credits::buy(state, context, *purchase),
        Action::RefundCredits { credits } => credits::request_refund(state, context, *credits),
        Action::RegisterProvider { node_key, profile, commission, bond } => {
            let (node_key, commission, bond) = (*node_key, *commission, *bond);
            let registration = Registration { node_key, profile, commission, bond };
            provider::register(state, context, registration)
        }
        Action::UnbondProvider => provider::unbond(state, context),
        Action::Heartbeat => provider::heartbeat(state, context),
        Action::RegisterGateway { node_key, moniker, addrs } => {
            gateway::register(state, context, *node_key, moniker, addrs)
        }
        Action::OpenChannel { terms, deposit } => channel::open(state, context, terms, *deposit),
        Action::TopUpChannel { channel, amount } => {
            channel::top_up(state, context, *channel, *amount)
        }
        Action::RedeemVouchers { claims } => settlement::redeem(state, context, claims),
        Action::ReturnDeposit { channel, amount } => {
            channel::return_deposit(state, context, *channel, *amount)
        }
        Action::RequestWithdraw { channel } => channel::request_withdraw(state, context, *channel),
        Action::FinalizeWithdraw { channel } => {
            channel::finalize_withdraw(state, context, *channel)
        }
        Action::CloseChannel { channel } => channel::close_by_receiver(state, context, *channel),
        Action::RegisterValidator { consensus_key, moniker, commission, stake } => {
            validator::register(state, context, *consensus_key, moniker, *commission, *stake)
        }
        Action::SetCommission { role, rate } => stake::set_commission(state, context, *role, *rate),
        Action::Delegate { operator, amount } => {
            stake::delegate(state, context, *operator, *amount)
        }
        Action::Undelegate { operator, amount } => {
            stake::undelegate(state, context, *operator, *amount)
        }
        Action::Redelegate { from, to, amount } => {
            stake::redelegate(state, context, *from, *to, *amount)
        }
        Action::WithdrawRewards { operator } => rewards::withdraw(state, context, *operator),
        Action::WithdrawCommission { role } => rewards::withdraw_commission(state, context, *role),
        Action::Unjail { role } => validator::unjail(state, context, *role),
        Action::SubmitEvidence { evidence } => evidence::submit(state, context, evidence),
        Action::CommitPrice { commitment } => oracle::commit(state, context, *commitment),
        Action::RevealPrice { nusd_per_watt, salt } => {
            oracle::reveal(state, context, *nusd_per_watt, *salt)
        }
        Action::ClaimVested { bucket } => vesting::claim(state, context, *bucket),
        Action::CommitReceipts { receipts, seal } => {
            audit::commit(state, context, *receipts, *seal)
        }
        Action::CommitVerdict { commitment, hash } => {
            audit::commit_verdict(state, context, *commitment, *hash)
        }
        Action::RevealVerdict { commitment, verdict, salt } => {
            audit::reveal_verdict(state, context, *commitment, verdict, salt)
        }
        Action::PublishCalibration { model, backend, calibration } => {
            audit::publish_calibration(state, context, *model, *backend, *calibration)
        }
        Action::RegisterAuditor { node_key, addrs } => {
            audit::register_auditor(state, context, *node_key, addrs)
        }
        Action::RevealPlanted { commitment, salt } => {
            audit::reveal_planted(state, context, *commitment, salt)
        }
        Action::Appeal { commitment } => audit::appeal(state, context, *commitment),
        Action::ReportCanary { provider, verdict } => {
            audit::report_canary(state, context, *provider, verdict)
        }
        Action::DemandAudit { report, acknowledgement } => {
            audit::demand(state, context, report, acknowledgement)
        }
    }
}
