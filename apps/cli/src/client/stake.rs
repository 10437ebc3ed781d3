//! `peerwatt stake`: WATT behind validators and providers.

use types::{stake::OperatorId, tx::Action};
use wire::chain::{StakeView, UnbondingView};

use super::actor::{Actor, connect, whose};
use crate::{
    args::{Common, StakeArgs, StakeCommand},
    home::Home,
    output::{Output, utc},
};

const KEY: &str = "wallet";

pub(crate) async fn run(common: Common, args: StakeArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        StakeCommand::Delegate { operator, amount, tx } => {
            let done = format!("staked {} WATT behind {operator}", amount.to_decimal());
            let action = Action::Delegate { operator, amount };
            Actor::open(&home, &tx, KEY)?.act(action, &done, output).await
        }
        StakeCommand::Undelegate { operator, amount, tx } => {
            let done = format!(
                "took {} WATT back from {operator}; `peerwatt stake show` says when they are paid",
                amount.to_decimal()
            );
            let action = Action::Undelegate { operator, amount };
            Actor::open(&home, &tx, KEY)?.act(action, &done, output).await
        }
        StakeCommand::Redelegate { from, to, amount, tx } => {
            let done = format!("moved {} WATT from {from} to {to}", amount.to_decimal());
            let action = Action::Redelegate { from, to, amount };
            Actor::open(&home, &tx, KEY)?.act(action, &done, output).await
        }
        StakeCommand::Rewards { withdraw, tx } => {
            let actor = Actor::open(&home, &tx, KEY)?;
            match withdraw {
                None => rewards(&actor, output).await,
                Some(Some(operator)) => withdraw_from(&actor, operator, output).await,
                Some(None) => withdraw_all(&actor, output).await,
            }
        }
        StakeCommand::Show(args) => {
            let address = whose(&home, &args, KEY)?;
            let stakes = connect(&home, &args.at)?.stakes_of(address).await?;
            output.result(&stakes, describe(&stakes))
        }
    }
}

async fn rewards(actor: &Actor, output: Output) -> anyhow::Result<()> {
    let stakes = actor.chain().stakes_of(actor.address()).await?;
    let mut lines: Vec<String> = stakes
        .iter()
        .map(|stake| format!("{}  {} WATT", stake.operator, stake.rewards.to_decimal()))
        .collect();
    if lines.is_empty() {
        lines.push(format!("{} has nothing staked", actor.address()));
    }
    output.result(&stakes, lines.join("\n"))
}

async fn withdraw_from(actor: &Actor, operator: OperatorId, output: Output) -> anyhow::Result<()> {
    let done = format!("withdrew the rewards of {operator}");
    actor.act(Action::WithdrawRewards { operator }, &done, output).await
}

/// One transaction for each operator that owes something.
async fn withdraw_all(actor: &Actor, output: Output) -> anyhow::Result<()> {
    let stakes = actor.chain().stakes_of(actor.address()).await?;
    let due: Vec<OperatorId> =
        stakes.iter().filter(|it| !it.rewards.is_zero()).map(|it| it.operator).collect();
    if due.is_empty() {
        return output.result(&stakes, "there are no rewards to withdraw");
    }
    for operator in due {
        withdraw_from(actor, operator, output).await?;
    }
    Ok(())
}

fn describe(stakes: &[StakeView]) -> String {
    if stakes.is_empty() {
        return "nothing is staked".to_owned();
    }
    let mut lines = Vec::new();
    for StakeView { operator, stake, rewards, unbonding } in stakes {
        lines.push(format!(
            "{operator}  {} WATT staked, {} WATT of rewards",
            stake.to_decimal(),
            rewards.to_decimal()
        ));
        for UnbondingView { balance, matures_at } in unbonding {
            let when = utc(*matures_at);
            lines.push(format!("  {} WATT come back on {when}", balance.to_decimal()));
        }
    }
    lines.join("\n")
}
