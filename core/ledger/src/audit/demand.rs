//! Demands: a payer has one answer that it paid for audited, whatever its provider commits to.
//!
//! A provider chooses what it commits to, so without this a cheat would leave out what it cheated at. The payer has
//! the provider's report of the answer, signed, and that is a commitment to one receipt: it waits for a beacon like any
//! other, and gets a round over all of it. So that nobody has honest work done again for nothing, the demand costs a
//! deposit, which comes back unless the answer passes. It lies with the insurance meanwhile, as those of appeals do.

use types::{
    Address, Hash32, TimeMs,
    audit::{AuditOutcome, Commitment, CommitmentId, Demand, ReceiptsCommitment},
    channel::ChannelTerms,
    receipt::{self, Acknowledgement, FREE_PROFILE, ServiceReport, report_hash},
    sign::Signed,
};

use super::{DEMANDS_MAX, check_audited, drop_stale, open_of, usize_of};
use crate::{bank::Module, error::TxError, event::Event, execute::Context, state::State};

/// A payer demands an audit of the answer of these two statements, whose signatures were checked.
pub(crate) fn demand(
    state: &mut State,
    context: &mut Context,
    report: &Signed<ServiceReport>,
    acknowledgement: &Signed<Acknowledgement>,
) -> Result<(), TxError> {
    let payer = context.sender;
    check_statements(state, context, report, acknowledgement)?;
    let ServiceReport { provider, model, .. } = report.value;
    let digest = report_hash(report);
    let id = CommitmentId::demanded(provider, &digest);
    let is_known = state.commitments.contains(&id)
        || state.rounds.contains(&id)
        || state.closed_of(id).next().is_some();
    if is_known {
        return Err(TxError::DemandRepeated { commitment: id });
    }
    let receipts = ReceiptsCommitment::of(model, &[digest]);
    let receipts = receipts.ok_or(TxError::NotDemandable { why: "it is too large" })?;
    // What it signed a report of it has served: whoever is found out does not get away by offering it no more.
    check_audited(state, provider, &receipts)?;
    check_room(state, provider, payer, context.time)?;
    drop_stale(state, context, provider)?;
    let deposit = state.params().audits.demand_deposit;
    state.pay(payer, Module::Insurance.address(), deposit)?;
    let period = state.period(context.time);
    let demand = Demand { payer, deposit, acknowledgement: acknowledgement.clone() };
    let waiting = Commitment {
        receipts,
        // Nobody breaks a seal that has no salt.
        seal: Hash32::default(),
        height: context.height,
        made_at: context.time,
        period,
        appeal: None,
        demand: Some(Box::new(demand)),
    };
    state.put_commitment(id, Some(waiting));
    context.events.push(Event::AuditDemanded { commitment: id, payer, model, deposit, period });
    Ok(())
}

/// Whether one more demand of this payer is within what is kept of the provider. Each payer has room of its own, which an
/// accomplice of the provider cannot fill; and the model is whatever the provider wrote, so models are not counted.
fn check_room(
    state: &State,
    provider: Address,
    payer: Address,
    time: TimeMs,
) -> Result<(), TxError> {
    let payers: Vec<Address> = open_of(state, provider, time).filter_map(|(_, it)| it).collect();
    let max = usize_of(state.params().audits.open_max);
    if payers.iter().filter(|it| **it == payer).count() >= max {
        let whose = "of yours for audits of this provider";
        return Err(TxError::TooManyDemands { max, whose });
    }
    if payers.len() >= DEMANDS_MAX {
        let (max, whose) = (DEMANDS_MAX, "for audits of this provider");
        return Err(TxError::TooManyDemands { max, whose });
    }
    Ok(())
}

/// Whether the two are of one answer that the sender paid for, and that its provider can be asked to open.
fn check_statements(
    state: &State,
    context: &Context,
    report: &Signed<ServiceReport>,
    acknowledgement: &Signed<Acknowledgement>,
) -> Result<(), TxError> {
    let refused = |why| Err(TxError::NotDemandable { why });
    let stated = &report.value;
    if receipt::adds_up(Some(report), &acknowledgement.value).is_err() {
        return refused(
            "report and acknowledgement are not those of one answer, or its bill is wrong",
        );
    }
    let channel = stated.channel;
    let Some(entry) = state.channel(&channel) else {
        return Err(TxError::ChannelUnknown { channel });
    };
    let ChannelTerms { payer, payer_key, receiver, .. } = entry.terms;
    if payer != context.sender || receiver != stated.provider {
        return refused("its channel is not one from the sender to its provider");
    }
    if payer_key != acknowledgement.signer {
        return refused("it is not acknowledged with the key of its channel");
    }
    if stated.profile == FREE_PROFILE {
        return refused(
            "its report says that it cannot be replayed, so there is nothing to compare",
        );
    }
    if stated.completion_tokens == 0 {
        return refused("it has no tokens");
    }
    let age_ms = state.params().audits.demand_age_ms;
    // Its provider said when it ended. A time to come is nobody's loss but its own.
    if stated.ended_at.plus_ms(age_ms) < context.time {
        return refused("it is older than what providers have to keep");
    }
    Ok(())
}

/// The deposit goes back, or, if the answer passed, to the treasury, which pays verifiers.
pub(super) fn settle(
    state: &mut State,
    context: &mut Context,
    id: CommitmentId,
    demand: &Demand,
    outcome: Option<AuditOutcome>,
) -> Result<(), TxError> {
    let returned = outcome != Some(AuditOutcome::Pass);
    let &Demand { payer, deposit, .. } = demand;
    let to = if returned { payer } else { Module::Treasury.address() };
    state.pay(Module::Insurance.address(), to, deposit)?;
    context.events.push(Event::DemandEnded { commitment: id, payer, deposit, returned });
    Ok(())
}
