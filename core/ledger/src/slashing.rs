//! Punishment: what a fault costs, whose stake it takes, and who receives that (ECONOMICS E8).

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, Height, Ppm, Rounding, Watt, mul_div, stake::OperatorId, state::Shares};

use crate::{
    bank::{Burn, Module, add},
    error::TxError,
    event::{Event, Slashed},
    execute::Context,
    rewards,
    stake::{Delegation, RedelegationEntry},
    state::State,
};

/// What an operator did.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, BorshSerialize, BorshDeserialize)]
pub enum Fault {
    /// Signed too few blocks of its window.
    Downtime,
    /// Committed to two blocks of one height.
    DoubleSign,
    /// Charged two totals for one attempt.
    DoubleClaim,
    /// Gave too few good votes on the price.
    Oracle,
    /// Committed to a vote and kept it to itself, by which it chose one of two beacons.
    WithheldReveal,
    /// Served another, cheaper model than it was paid for.
    Audit,
    /// Opened no receipts for the verifiers of a round.
    AuditMissing,
    /// Passed a planted fault, as a verifier.
    PassedFault,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Fault::Downtime => "downtime",
            Fault::DoubleSign => "double_sign",
            Fault::DoubleClaim => "double_claim",
            Fault::Oracle => "oracle",
            Fault::WithheldReveal => "withheld_reveal",
            Fault::Audit => "audit",
            Fault::AuditMissing => "audit_missing",
            Fault::PassedFault => "passed_fault",
        }
    }

    /// Whether the operator can never come back.
    fn is_final(self) -> bool {
        match self {
            Fault::DoubleSign | Fault::DoubleClaim | Fault::Audit => true,
            Fault::Downtime
            | Fault::Oracle
            | Fault::WithheldReveal
            | Fault::AuditMissing
            | Fault::PassedFault => false,
        }
    }
}

/// A fault with all that its punishment depends on.
pub(crate) struct Case {
    pub(crate) operator: OperatorId,
    pub(crate) fault: Fault,
    /// The block at which it happened: stake that had left before is not touched.
    pub(crate) height: Height,
    pub(crate) reporter: Option<Address>,
    /// Who lost how much by it.
    pub(crate) harmed: Vec<(Address, Watt)>,
}

/// Punishes what the ledger found out by itself, as of now.
pub(crate) fn punish(
    state: &mut State,
    context: &mut Context,
    operator: OperatorId,
    fault: Fault,
) -> Result<(), TxError> {
    let height = context.height;
    let case = Case { operator, fault, height, reporter: None, harmed: Vec::new() };
    slash(state, context, case)
}

/// Takes the fault's share of what was staked behind the operator then, jails it, and for the worst
/// faults buries it. An operator that does not exist any more has nothing to take.
pub(crate) fn slash(state: &mut State, context: &mut Context, case: Case) -> Result<(), TxError> {
    let id = case.operator;
    let Some(operator) = state.operators.get(&id) else { return Ok(()) };
    if operator.tombstoned {
        return Ok(());
    }
    let at_stake = match case.fault {
        // When it happened is the provider's own word, and it would name a time with less stake.
        Fault::DoubleClaim => operator.tokens.max(state.stake_at(&id, case.height)),
        Fault::Downtime
        | Fault::DoubleSign
        | Fault::Oracle
        | Fault::WithheldReveal
        | Fault::Audit
        | Fault::AuditMissing
        | Fault::PassedFault => state.stake_at(&id, case.height),
    };
    let own = state.own_stake(&id);
    let fraction = fraction(state, case.fault);
    let wanted = Watt(fraction.of(at_stake.0, Rounding::Down));
    let taken = take_unbonding(state, &id, case.height, fraction, wanted)?;
    let rest = wanted.saturating_sub(taken);
    let moved = take_redelegated(state, context, &id, case.height, fraction, rest)?;
    let rest = rest.saturating_sub(moved);
    let from_pool = take_tokens(state, context, id, rest)?;
    let pool = state.pool_of(&id).address();
    state.pay(pool, Module::NotBonded.address(), from_pool)?;
    let amount = add(add(taken, moved, "the slash")?, from_pool, "the slash")?;
    jail(state, context, id, case.fault)?;
    let own_loss = own.saturating_sub(state.own_stake(&id));
    distribute(state, context, &case, amount, own_loss)
}

fn fraction(state: &State, fault: Fault) -> Ppm {
    let params = &state.params().slashing;
    match fault {
        Fault::Downtime => params.downtime,
        Fault::DoubleSign => params.double_sign,
        Fault::DoubleClaim => params.double_claim,
        Fault::Oracle => params.oracle,
        Fault::WithheldReveal => params.withheld_reveal,
        Fault::Audit => params.audit_failure,
        Fault::AuditMissing => params.audit_missing,
        Fault::PassedFault => params.passed_fault,
    }
}

/// From the pool itself: every share is worth less. Returns what was there to take; it is still in
/// the pool's module.
fn take_tokens(
    state: &mut State,
    context: &Context,
    id: OperatorId,
    wanted: Watt,
) -> Result<Watt, TxError> {
    let mut operator = state.known_operator(&id)?;
    let taken = wanted.min(operator.tokens);
    operator.tokens = operator.tokens.saturating_sub(taken);
    state.put_operator(context.height, id, operator);
    Ok(taken)
}

/// From stake that began to leave at or after `height`, at most `most`: of what came after the fault
/// and left again nobody knows which it was. It is in the account of what is not bonded.
fn take_unbonding(
    state: &mut State,
    id: &OperatorId,
    height: Height,
    fraction: Ppm,
    most: Watt,
) -> Result<Watt, TxError> {
    let delegators: Vec<Address> = state
        .unbondings
        .iter_from((*id, Address([0; 20])))
        .take_while(|((of, _), _)| of == id)
        .map(|((_, delegator), _)| *delegator)
        .collect();
    let mut taken = Watt::ZERO;
    for delegator in delegators {
        let rest = most.saturating_sub(taken);
        let part = take_from(state, (*id, delegator), height, fraction, rest)?;
        taken = add(taken, part, "the slash")?;
    }
    Ok(taken)
}

/// Takes a share of each entry's initial balance, no more than is left of it, and no more than
/// `most` in all.
fn take_from(
    state: &mut State,
    key: (OperatorId, Address),
    height: Height,
    fraction: Ppm,
    most: Watt,
) -> Result<Watt, TxError> {
    let mut entries = state.unbondings.get(&key).cloned().unwrap_or_default();
    let mut taken = Watt::ZERO;
    for entry in entries.iter_mut().filter(|entry| entry.created_at >= height) {
        let share = Watt(fraction.of(entry.initial.0, Rounding::Down));
        let part = share.min(entry.balance).min(most.saturating_sub(taken));
        entry.balance = entry.balance.saturating_sub(part);
        taken = add(taken, part, "the slash")?;
    }
    if !taken.is_zero() {
        state.unbondings.insert(key, entries);
    }
    Ok(taken)
}

/// From stake that moved elsewhere at or after `height`: from where it is now, and from there on
/// its way back, at most `most`. Returns what is in the account of what is not bonded.
fn take_redelegated(
    state: &mut State,
    context: &mut Context,
    id: &OperatorId,
    height: Height,
    fraction: Ppm,
    most: Watt,
) -> Result<Watt, TxError> {
    let first = (*id, Address([0; 20]), OperatorId::validator(Address([0; 20])));
    let moved: Vec<((OperatorId, Address, OperatorId), Vec<RedelegationEntry>)> = state
        .redelegations
        .iter_from(first)
        .take_while(|((from, ..), _)| from == id)
        .map(|(key, entries)| (*key, entries.clone()))
        .collect();
    let mut taken = Watt::ZERO;
    for ((_, delegator, to), entries) in moved {
        for entry in entries.iter().filter(|entry| entry.created_at >= height) {
            let share = Watt(fraction.of(entry.initial.0, Rounding::Down));
            let wanted = share.min(most.saturating_sub(taken));
            let part = take_arrived(state, context, to, delegator, entry, wanted)?;
            let rest = wanted.saturating_sub(part);
            let late = take_from(state, (to, delegator), entry.created_at, Ppm::ONE, rest)?;
            taken = add(taken, add(part, late, "the slash")?, "the slash")?;
        }
    }
    Ok(taken)
}

/// Unbonds what `wanted` is worth of a delegation, no more shares than the entry brought there, and
/// puts it into the account of what is not bonded.
fn take_arrived(
    state: &mut State,
    context: &mut Context,
    to: OperatorId,
    delegator: Address,
    entry: &RedelegationEntry,
    wanted: Watt,
) -> Result<Watt, TxError> {
    let (Some(operator), Some(delegation)) =
        (state.operators.get(&to).cloned(), state.delegations.get(&(to, delegator)).copied())
    else {
        return Ok(Watt::ZERO);
    };
    let overflow = TxError::Overflow { what: "the slash" };
    let shares = mul_div(wanted.0, operator.shares.0, operator.tokens.0, Rounding::Down)
        .unwrap_or(0)
        .min(delegation.shares.0)
        .min(entry.shares.0);
    if shares == 0 {
        return Ok(Watt::ZERO);
    }
    rewards::pay_delegation(state, context, to, delegator)?;
    let mut operator = state.known_operator(&to)?;
    let all = shares == operator.shares.0;
    let value = if all {
        operator.tokens
    } else {
        mul_div(shares, operator.tokens.0, operator.shares.0, Rounding::Down)
            .map(Watt)
            .ok_or(overflow.clone())?
    };
    operator.shares = Shares(operator.shares.0.checked_sub(shares).ok_or(overflow.clone())?);
    operator.tokens = operator.tokens.checked_sub(value).ok_or(overflow)?;
    let left = delegation.shares.0.saturating_sub(shares);
    let reward_index = operator.reward_index;
    let after = (left > 0).then_some(Delegation { shares: Shares(left), reward_index });
    state.put_delegation(to, delegator, after);
    state.put_operator(context.height, to, operator);
    let pool = state.pool_of(&to).address();
    rewards::sweep_if_empty(state, context, to)?;
    state.pay(pool, Module::NotBonded.address(), value)?;
    Ok(value)
}

fn jail(
    state: &mut State,
    context: &mut Context,
    id: OperatorId,
    fault: Fault,
) -> Result<(), TxError> {
    let params = &state.params().slashing;
    let jail_ms = match fault {
        Fault::Downtime => params.downtime_jail_ms,
        Fault::Oracle => params.oracle_jail_ms,
        Fault::DoubleSign | Fault::DoubleClaim | Fault::Audit => 0,
        // What they cost is all.
        Fault::WithheldReveal | Fault::AuditMissing | Fault::PassedFault => return Ok(()),
    };
    let Some(mut operator) = state.operators.get(&id).cloned() else { return Ok(()) };
    let until = context.time.plus_ms(jail_ms);
    operator.jailed_until = Some(operator.jailed_until.map_or(until, |before| before.max(until)));
    operator.tombstoned |= fault.is_final();
    let tombstoned = operator.tombstoned;
    state.put_operator(context.height, id, operator);
    context.events.push(Event::Jailed { operator: id, until, tombstoned });
    Ok(())
}

/// Who receives what was slashed: burned at least the share of the parameters, the reporter no more
/// than its share, who was harmed up to the loss, the rest insures the network. Reporter and harmed
/// together receive no more than the operator lost of its own: they may be its friends, and it must
/// not earn by robbing those who delegated to it.
fn distribute(
    state: &mut State,
    context: &mut Context,
    case: &Case,
    amount: Watt,
    own_loss: Watt,
) -> Result<(), TxError> {
    let params = &state.params().slashing;
    let burned = Watt(params.burn.of(amount.0, Rounding::Up));
    let bounty = Watt(params.reporter.of(amount.0, Rounding::Down));
    let bounty = if case.reporter.is_some() { bounty } else { Watt::ZERO };
    let bounty = bounty.min(amount.saturating_sub(burned)).min(own_loss);
    let rest = amount.saturating_sub(burned).saturating_sub(bounty);
    let most = rest.min(own_loss.saturating_sub(bounty));
    let harmed = shares_of(&case.harmed, most);
    let refunded: Watt = harmed.iter().map(|(_, part)| *part).sum();
    let insured = rest.saturating_sub(refunded);
    let from = Module::NotBonded;
    state.burn(Burn::Slash, from, burned)?;
    if let Some(reporter) = case.reporter {
        state.pay(from.address(), reporter, bounty)?;
    }
    for (harmed, part) in &harmed {
        state.pay(from.address(), *harmed, *part)?;
    }
    state.pay(from.address(), Module::Insurance.address(), insured)?;
    context.events.push(Event::Slashed(Slashed {
        operator: case.operator,
        fault: case.fault,
        height: case.height,
        amount,
        burned,
        reporter: case.reporter,
        bounty,
        harmed,
        refunded,
        insured,
    }));
    Ok(())
}

/// What each of those who were harmed receives of `most`: its loss, or its part of what there is in proportion
/// to the losses, rounded down; what that leaves insures the network.
fn shares_of(harmed: &[(Address, Watt)], most: Watt) -> Vec<(Address, Watt)> {
    let all: Watt = harmed.iter().map(|(_, loss)| *loss).sum();
    let part = |loss: Watt| {
        if all <= most {
            return loss;
        }
        mul_div(loss.0, most.0, all.0, Rounding::Down).map_or(Watt::ZERO, Watt)
    };
    harmed.iter().map(|(harmed, loss)| (*harmed, part(*loss))).collect()
}

impl State {
    /// What an operator itself has staked behind itself, on its way back included.
    fn own_stake(&self, id: &OperatorId) -> Watt {
        let entries = self.unbondings_of(&id.account, id);
        let unbonding: Watt = entries.iter().map(|entry| entry.balance).sum();
        self.stake_of(&id.account, id).saturating_add(unbonding)
    }
}
