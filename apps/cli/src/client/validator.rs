//! `peerwatt validator register` and its like: a validator's entry on the ledger. Without such a
//! command `peerwatt validator` runs one.

use types::{
    sign::Sign,
    stake::{CommissionTerms, Role},
    tx::Action,
};
use wire::chain::ValidatorView;

use super::actor::{Actor, connect};
use crate::{
    args::{Common, TxArgs, ValidatorCommand},
    home::Home,
    output::{Output, percent, utc},
};

/// The key of a validator's operator.
pub(crate) const KEY: &str = "validator";

pub(crate) async fn run(
    common: &Common,
    command: ValidatorCommand,
    output: Output,
) -> anyhow::Result<()> {
    let home = Home::open(common)?;
    let open = |tx: &TxArgs| Actor::open(&home, tx, KEY);
    match command {
        ValidatorCommand::Register {
            consensus_key,
            moniker,
            stake,
            commission,
            commission_max,
            commission_change_max,
            tx,
        } => {
            let actor = open(&tx)?;
            let consensus_key = match consensus_key {
                Some(key) => key,
                None => home.key("consensus")?.public_key(),
            };
            let terms = CommissionTerms {
                rate: commission,
                rate_max: commission_max,
                change_max: commission_change_max,
            };
            let done = format!("{} is registered as a validator", actor.address());
            let action =
                Action::RegisterValidator { consensus_key, moniker, commission: terms, stake };
            actor.act(action, &done, output).await
        }
        ValidatorCommand::Commission { rate: Some(rate), withdraw: _, tx } => {
            let done = format!("the validator keeps {} of rewards", percent(rate));
            let action = Action::SetCommission { role: Role::Validator, rate };
            open(&tx)?.act(action, &done, output).await
        }
        ValidatorCommand::Commission { rate: None, withdraw: _, tx } => {
            let action = Action::WithdrawCommission { role: Role::Validator };
            open(&tx)?.act(action, "withdrew the commission", output).await
        }
        ValidatorCommand::Unjail(tx) => {
            let action = Action::Unjail { role: Role::Validator };
            open(&tx)?.act(action, "the validator is back from jail", output).await
        }
        ValidatorCommand::List(at) => {
            let validators = connect(&home, &at)?.validators().await?;
            let lines: Vec<String> = validators.iter().map(describe).collect();
            output.result(&validators, lines.join("\n"))
        }
    }
}

fn describe(validator: &ValidatorView) -> String {
    let ValidatorView { operator, moniker, power, missed, pool, .. } = validator;
    let seat = power.map_or("no seat".to_owned(), |power| format!("power {power}"));
    let mut line = format!(
        "{operator} {moniker}: {seat}, {} WATT staked, {} of them its own, keeps {}, missed {missed}",
        pool.tokens.to_decimal(),
        pool.own.to_decimal(),
        percent(pool.commission.rate)
    );
    match (pool.tombstoned, pool.jailed_until) {
        (true, _) => line.push_str(", removed for good"),
        (false, Some(until)) => line.push_str(&format!(", in jail until {}", utc(until))),
        (false, None) => {}
    }
    line
}
