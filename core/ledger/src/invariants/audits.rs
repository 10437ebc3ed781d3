//! Properties of audits: what is kept is bounded, belongs together, and has no consequence in the shadow.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    Address, ModelId, Watt,
    audit::{
        Calibration, CommitmentId, Demand, HONEST_MEAN_PPM_MIN, ModelStanding, Round, Said,
        Sanction, Standing,
    },
    limits::GATEWAY_ADDRS_MAX,
};

use super::{ensure, equal};
use crate::{
    audit::{CALIBRATIONS_MAX, CLOSED_MAX, DEMANDS_MAX, KEPT_MAX, MODELS_MAX},
    bank::Module,
    state::State,
};

pub(super) fn commitments_are_bounded(state: &State) -> Result<(), String> {
    let now = state.period(state.now());
    // By provider, and by the payer that demanded it.
    let mut open: BTreeMap<(Address, Option<Address>), usize> = BTreeMap::new();
    let mut demanded: BTreeMap<Address, usize> = BTreeMap::new();
    let mut count = |id: &CommitmentId, demand: &Option<Box<Demand>>| {
        let payer = demand.as_ref().map(|demand| demand.payer);
        let count = open.entry((id.provider, payer)).or_default();
        *count = count.saturating_add(1);
        let count = demanded.entry(id.provider).or_default();
        *count = count.saturating_add(usize::from(payer.is_some()));
    };
    for (id, commitment) in state.commitments() {
        count(id, &commitment.demand);
        let one = commitment.demand.is_none() || commitment.receipts.count == 1;
        let fresh = commitment.period <= now && commitment.receipts.is_bounded() && one;
        let alone = state.round(id).is_none() && state.provider(&id.provider).is_some();
        ensure(fresh && alone, || format!("commitment {id}: {commitment:?}"))?;
    }
    for (id, round) in state.rounds_after(None) {
        count(id, &round.demand);
        ensure(round.receipts.is_bounded(), || format!("round {id}: {round:?}"))?;
    }
    let max = usize::try_from(state.params().audits.open_max).unwrap_or(usize::MAX);
    let many = open.iter().find(|(_, count)| **count > max);
    ensure(many.is_none(), || format!("too many commitments, at most {max}: {many:?}"))?;
    let many = demanded.iter().find(|(_, count)| **count > DEMANDS_MAX);
    ensure(many.is_none(), || format!("too many demands, at most {DEMANDS_MAX}: {many:?}"))?;
    let beacon = state.beacon();
    ensure(beacon.period < now || beacon.reveals == 0, || {
        format!("{beacon:?} is of a period that is not over")
    })
}

pub(super) fn rounds_have_distinct_verifiers(state: &State) -> Result<(), String> {
    state.rounds_after(None).try_for_each(|(id, round)| {
        ensure(is_sound(state, id, round), || format!("round {id}: {round:?}"))
    })
}

fn is_sound(state: &State, id: &CommitmentId, round: &Round) -> bool {
    let verifiers: BTreeSet<Address> = round.seats.iter().map(|seat| seat.verifier).collect();
    let max = usize::try_from(state.params().audits.verifiers).unwrap_or(usize::MAX);
    let anew = round.appeal.iter().flat_map(|appeal| &appeal.without);
    let anew = anew.into_iter().all(|before| !verifiers.contains(before));
    let distinct =
        anew && verifiers.len() == round.seats.len() && !verifiers.contains(&id.provider);
    let in_order = round.opened_at <= round.commit_by
        && round.commit_by <= round.reveal_by
        && round.closes_at <= round.reveal_by;
    let revealed = round.seats.iter().filter_map(|seat| match &seat.said {
        Said::Revealed { verdict } => Some(verdict),
        Said::Nothing | Said::Committed { .. } => None,
    });
    let mut about = revealed.filter_map(|verdict| verdict.evidence.as_ref());
    let consistent = about.all(|evidence| evidence.model == round.receipts.model);
    distinct && in_order && consistent && (1..=max).contains(&round.seats.len())
}

pub(super) fn evidence_is_bounded_and_sorted(state: &State) -> Result<(), String> {
    let mut models: BTreeMap<Address, usize> = BTreeMap::new();
    for ((provider, model), standing) in state.model_standings.iter() {
        let count = models.entry(*provider).or_default();
        *count = count.saturating_add(1);
        let evidence = &standing.evidence;
        let sorted = evidence.is_sorted_by_key(|piece| piece.found_at);
        let about = evidence
            .iter()
            .all(|piece| piece.evidence.model == *model && piece.commitment.provider == *provider);
        let known = state.provider(provider).is_some() && *standing != ModelStanding::default();
        let bounded = evidence.len() <= KEPT_MAX;
        ensure(sorted && about && known && bounded, || format!("{provider}: {standing:?}"))?;
    }
    let many = models.iter().find(|(_, count)| **count > MODELS_MAX);
    ensure(many.is_none(), || format!("too many models: {many:?}"))
}

pub(super) fn names_are_bounded(state: &State) -> Result<(), String> {
    let params = &state.params().audits;
    let forgotten = u128::from(1_000_000u32.saturating_sub(params.memory.get()).max(1));
    let unit = u128::from(Standing::UNIT);
    // The sum of a geometric series.
    let most = unit.saturating_mul(1_000_000).checked_div(forgotten).unwrap_or(0);
    let worst = most.saturating_mul(params.failure_weight.into());
    for (provider, standing) in state.standings.iter() {
        let within = u128::from(standing.good) <= most && u128::from(standing.bad) <= worst;
        let known = state.provider(provider).is_some() && *standing != Standing::default();
        ensure(within && known, || format!("{provider}: {standing:?}"))?;
    }
    state.verifiers.iter().try_for_each(|(verifier, record)| {
        let graded = record.planted_right.saturating_add(record.planted_wrong);
        let asked = (record.canaries > 0) == record.canary_paid_at.is_some();
        let did = record.rounds > 0 || record.canaries > 0;
        let sound = record.missed.max(graded) <= record.rounds && asked && did;
        ensure(sound && state.validator(verifier).is_some(), || format!("{verifier}: {record:?}"))
    })
}

pub(super) fn the_shadow_has_no_consequences(state: &State) -> Result<(), String> {
    let params = &state.params().audits;
    for ((provider, model), standing) in state.model_standings.iter() {
        let free = standing.delisted_until.is_none() && !standing.suspended;
        ensure(free || params.is_enforced(model), || {
            format!("{provider} suffers for {model}, which is not enforced")
        })?;
    }
    let any = params.enforced.iter().any(|model| params.is_enforced(model));
    for (provider, standing) in state.standings.iter() {
        let Standing { held_until, missing_since, refund_until, .. } = standing;
        let free = held_until.is_none() && missing_since.is_none() && refund_until.is_none();
        ensure(any || free, || format!("{provider} suffers in the shadow: {standing:?}"))?;
    }
    let refunded = state.supply().claims_refunded;
    ensure(any || refunded.is_zero(), || format!("{refunded:?} were refunded in the shadow"))
}

pub(super) fn closed_rounds_did_no_more_than_they_may(state: &State) -> Result<(), String> {
    let count = state.closed_rounds.len();
    ensure(count <= CLOSED_MAX, || format!("{count} closed rounds"))?;
    let useless = state.closed_rounds.iter().find(|(number, _)| !state.is_closed_kept(**number));
    ensure(useless.is_none(), || format!("kept for nothing: {useless:?}"))?;
    let params = &state.params().audits;
    state.closed_rounds().try_for_each(|round| {
        let binding = params.is_enforced(&round.receipts.model) && !round.beacon.is_weak();
        let allowed = if binding { round.would_be } else { Sanction::None };
        let harmless = !round.planted || round.sanction == Sanction::None;
        ensure(round.sanction <= allowed && harmless, || format!("{round:?}"))
    })
}

pub(super) fn calibrations_are_of_validators(state: &State) -> Result<(), String> {
    let mut counts: BTreeMap<Address, usize> = BTreeMap::new();
    for ((validator, model, _), calibration) in state.calibrations.iter() {
        let count = counts.entry(*validator).or_default();
        *count = count.saturating_add(1);
        let Calibration { l1, l2, projections, .. } = *calibration;
        let mut means = [Some(l1), Some(l2), projections].into_iter().flatten();
        let bounded = means.all(|it| (HONEST_MEAN_PPM_MIN..1_000_000).contains(&it.get()));
        let known = state.validator(validator).is_some();
        ensure(bounded && known, || format!("{validator} on {model}: {calibration:?}"))?;
    }
    let many: Option<(&Address, &usize)> =
        counts.iter().find(|(_, count)| **count > CALIBRATIONS_MAX);
    equal("validators with too many calibrations", many, None)
}

pub(super) fn auditors_are_of_validators(state: &State) -> Result<(), String> {
    state.auditors().try_for_each(|(operator, entry)| {
        let known = state.validator(operator).is_some();
        let reached = (1..=GATEWAY_ADDRS_MAX).contains(&entry.addrs.len());
        ensure(known && reached, || format!("auditor {operator}: {entry:?}"))
    })
}

pub(super) fn verifiers_are_paid_by_the_audited(state: &State) -> Result<(), String> {
    state.standings.iter().try_for_each(|(provider, standing)| {
        let (paid, most) = (standing.verifiers_paid, state.treasury_share(provider));
        ensure(paid <= most && standing.canaries_paid <= paid, || {
            format!("{paid:?} for audits of {provider}, at most {most:?}: {standing:?}")
        })
    })
}

pub(super) fn deposits_are_held(state: &State) -> Result<(), String> {
    let waiting = state.commitments().map(|(_, it)| (&it.appeal, &it.demand));
    let open = state.rounds_after(None).map(|(_, round)| (&round.appeal, &round.demand));
    let deposits = waiting.chain(open).flat_map(|(appeal, demand)| {
        let appeal = appeal.as_ref().map(|appeal| appeal.deposit);
        [appeal, demand.as_ref().map(|demand| demand.deposit)]
    });
    let deposits: Watt = deposits.flatten().sum();
    let held = state.module_balance(Module::Insurance);
    ensure(deposits <= held, || format!("{deposits:?} of deposits, of which {held:?} are held"))
}

/// Of a step: what takes something from a provider is taken for an enforced model only, and beacons go on.
pub(super) fn nothing_is_taken_in_the_shadow(before: &State, after: &State) -> Result<(), String> {
    let (old, new) = (before.beacon(), after.beacon());
    ensure(old == new || old.period < new.period || old.reveals == 0, || {
        format!("the beacon went from {old:?} to {new:?}")
    })?;
    let params = &after.params().audits;
    let is_shadow = |model: &ModelId| !params.is_enforced(model);
    if params.enforced.iter().all(is_shadow) {
        let refunded = |state: &State| state.supply().claims_refunded;
        equal("claims refunded in the shadow", refunded(after), refunded(before))?;
    }
    let shadow = after.model_standings.iter().filter(|((_, model), _)| is_shadow(model));
    shadow.into_iter().try_for_each(|(key, standing)| {
        let old = before.model_standings.get(key).and_then(|old| old.delisted_until);
        let until = standing.delisted_until;
        ensure(until.is_none() || until == old, || format!("{} was delisted in the shadow", key.0))
    })
}
