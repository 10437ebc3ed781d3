//! What follows from evidence, for models that are enforced: claims wait, go back to their payers, a model is
//! not chosen any more, stake is lost.
//!
//! Nothing that takes something is done on the word of one validator: two must have found against the
//! provider. And nothing is done twice for the same evidence.

use std::collections::BTreeSet;

use types::{
    Address, ChannelId, Height, ModelId, Nusd, Rounding, TimeMs, Watt,
    audit::{AuditOutcome, KeptEvidence, Round, Sanction, Standing},
    stake::OperatorId,
};

use super::{FOUND_MIN, sanction, saying};
use crate::{
    error::TxError,
    event::Event,
    execute::Context,
    settlement,
    slashing::{self, Case, Fault},
    state::State,
};

/// Claims that a sanction refunds at once; the rest goes back as it falls due.
const REFUNDS_AT_ONCE_MAX: usize = 1_000;
/// Channels whose payers share in a slash: those that had claims waiting.
const HARMED_MAX: usize = 64;
/// How long a held claim waits until it is looked at again.
const HOLD_MS: u64 = 60 * 60 * 1_000;

/// What becomes of a claim that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disposition {
    Settle,
    /// It is looked at again at this time.
    Hold(TimeMs),
    Refund,
}

/// Of a claim of `provider` that was to be settled at `settles_at` and has come up at `time`.
pub(crate) fn disposition(
    state: &State,
    provider: &Address,
    settles_at: TimeMs,
    time: TimeMs,
) -> Disposition {
    let Some(standing) = state.standings.get(provider) else { return Disposition::Settle };
    if standing.refund_until.is_some_and(|until| settles_at <= until) {
        return Disposition::Refund;
    }
    let missing_ms = state.params().audits.missing_ms;
    let given_up = standing.missing_since.map(|since| since.plus_ms(missing_ms));
    if given_up.is_some_and(|at| at <= time) {
        return Disposition::Refund;
    }
    let until = standing.held_until.max(given_up).filter(|until| *until > time);
    let again = |until: TimeMs| Disposition::Hold(until.min(time.plus_ms(HOLD_MS)));
    until.map_or(Disposition::Settle, again)
}

/// What all evidence on a provider and a model would justify if it were enforced, whoever gave it.
pub(super) fn would_be(state: &State, provider: Address, model: ModelId, time: TimeMs) -> Sanction {
    let oldest = state.oldest_evidence(time);
    let kept = state.model_standing(provider, model).evidence;
    sanction(kept.iter().filter(|piece| piece.found_at >= oldest).map(|piece| &piece.evidence))
}

/// What that justifies which counts. On the word of one validator no more than to look closer.
fn justified(kept: &[KeptEvidence], oldest: TimeMs) -> Sanction {
    let pieces = || kept.iter().filter(|piece| piece.counts && piece.found_at >= oldest);
    let against = pieces().filter(|piece| piece.evidence.fails()).map(|piece| piece.verifier);
    let justified = sanction(pieces().map(|piece| &piece.evidence));
    if against.collect::<BTreeSet<Address>>().len() < FOUND_MIN {
        return justified.min(Sanction::Escalate);
    }
    justified
}

/// Lets a closed round have its consequences. Returns what was done.
pub(super) fn apply(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    round: &Round,
    outcome: AuditOutcome,
) -> Result<Sanction, TxError> {
    let model = round.receipts.model;
    let binding = state.params().audits.is_enforced(&model) && !round.beacon.is_weak();
    if binding {
        note_opening(state, context, provider, round, outcome)?;
    }
    let kept = state.model_standing(provider, model).evidence;
    let oldest = state.oldest_evidence(context.time);
    let failed = outcome == AuditOutcome::Fail;
    let justified = if binding { justified(&kept, oldest) } else { Sanction::None };
    // Claims have waited already for what earlier rounds found.
    let counts = failed || justified > Sanction::Escalate;
    let done = if counts { justified } else { Sanction::None };
    // In the shadow too: it costs a provider nothing but opening more.
    if would_be(state, provider, model, context.time) >= Sanction::Escalate {
        escalate(state, context, provider, failed && done >= Sanction::Escalate);
    }
    if done >= Sanction::RefundAndDelist {
        let harmed = harmed(state, provider);
        let since = kept.iter().filter(|it| it.counts && it.evidence.fails()).map(|it| it.height);
        let since = since.min().unwrap_or(context.height);
        let forever = (done == Sanction::Slash).then_some(TimeMs(u64::MAX));
        refund(state, context, provider, forever)?;
        if state.providers.contains(&provider) {
            delist(state, context, provider, model);
        }
        if done == Sanction::Slash {
            slash(state, context, provider, since, harmed)?;
        }
    }
    Ok(done)
}

/// Whether the provider opened its receipts. The first time that two found that it did not costs it something, and
/// its claims wait until it does.
fn note_opening(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    round: &Round,
    outcome: AuditOutcome,
) -> Result<(), TxError> {
    let before = state.standing(&provider);
    let found = saying(round, &[AuditOutcome::Missing]) >= FOUND_MIN;
    let missing_since = match outcome {
        AuditOutcome::Missing => before.missing_since.or(found.then_some(context.time)),
        AuditOutcome::Pass | AuditOutcome::Fail | AuditOutcome::Inconclusive => None,
        AuditOutcome::Abstained => before.missing_since,
    };
    if missing_since == before.missing_since {
        return Ok(());
    }
    state.put_standing(provider, Standing { missing_since, ..before });
    if missing_since.is_none() {
        return Ok(());
    }
    slashing::punish(state, context, OperatorId::provider(provider), Fault::AuditMissing)
}

pub(super) fn escalate(state: &mut State, context: &mut Context, provider: Address, held: bool) {
    let until = context.time.plus_ms(state.params().audits.escalate_ms);
    let before = state.standing(&provider);
    let held_until = if held { Some(until) } else { before.held_until };
    let after = Standing { escalated_until: Some(until), held_until, ..before };
    state.put_standing(provider, after);
    context.events.push(Event::Escalated { provider, until, held });
}

/// All that the provider claimed and was not paid for yet goes back to who paid, and what is to be settled until
/// `until` too: after a slash all that it ever claims, or it would have paid to redeem late.
pub(super) fn refund(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    until: Option<TimeMs>,
) -> Result<(), TxError> {
    let claims: Vec<(TimeMs, ChannelId)> =
        state.claims_of(provider).take(REFUNDS_AT_ONCE_MAX).collect();
    for key in claims {
        settlement::refund_claim(state, context, key)?;
    }
    // Of more claims than that, all that wait now are to be settled by this time.
    let last = state.claims_of(provider).map(|(settles_at, _)| settles_at).max().max(until);
    let before = state.standing(&provider);
    // The last refund may have been what kept the entry of a provider that had left.
    if last > before.refund_until && state.providers.contains(&provider) {
        state.put_standing(provider, Standing { refund_until: last, ..before });
    }
    Ok(())
}

fn delist(state: &mut State, context: &mut Context, provider: Address, model: ModelId) {
    let until = context.time.plus_ms(state.params().audits.delist_ms);
    let mut standing = state.model_standing(provider, model);
    standing.delisted_until = Some(until);
    // Each piece has its consequence once.
    for piece in &mut standing.evidence {
        piece.counts = false;
    }
    state.put_model_standing(provider, model, standing);
    context.events.push(Event::ModelDelisted { provider, model, until });
}

/// Who pays the provider now, and what it has paid already, which no refund brings back.
fn harmed(state: &State, provider: Address) -> Vec<(Address, Watt)> {
    let mut seen: BTreeSet<ChannelId> = BTreeSet::new();
    for (_, channel) in state.claims_of(provider) {
        if seen.len() >= HARMED_MAX {
            break;
        }
        seen.insert(channel);
    }
    let loss = |channel: &ChannelId| {
        let channel = state.channels.get(channel)?;
        let paid: Nusd = channel.settled;
        let loss = Watt::worth(paid, state.price(), Rounding::Down)?;
        (!loss.is_zero()).then_some((channel.terms.payer, loss))
    };
    seen.iter().filter_map(loss).collect()
}

fn slash(
    state: &mut State,
    context: &mut Context,
    provider: Address,
    height: Height,
    harmed: Vec<(Address, Watt)>,
) -> Result<(), TxError> {
    let operator = OperatorId::provider(provider);
    let case = Case { operator, fault: Fault::Audit, height, reporter: None, harmed };
    slashing::slash(state, context, case)
}

impl State {
    /// What is as it is for a stranger has no entry.
    pub(super) fn put_standing(&mut self, provider: Address, after: Standing) {
        if after == Standing::default() {
            self.standings.remove(&provider);
        } else {
            self.standings.insert(provider, after);
        }
    }

    /// Pending claims of a provider, by when they are settled.
    pub(crate) fn claims_of(&self, provider: Address) -> impl Iterator<Item = (TimeMs, ChannelId)> {
        self.claims
            .iter_from((provider, TimeMs(0), ChannelId([0; 32])))
            .take_while(move |((whose, ..), ())| *whose == provider)
            .map(|((_, settles_at, channel), ())| (*settles_at, *channel))
    }
}
