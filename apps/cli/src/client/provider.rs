//! `peerwatt provider`: a provider's entry on the ledger. `peerwatt provide` runs one.

use anyhow::Context;
use types::{
    sign::Sign,
    stake::{OperatorId, Role},
    state::ProviderProfile,
    tx::Action,
};
use wire::chain::{Chain, ProviderView};

use super::{
    actor::{Actor, connect, whose},
    audit, why,
};
use crate::{
    args::{Common, ProviderArgs, ProviderCommand, TxArgs},
    home::Home,
    output::{Output, percent, utc},
};

const KEY: &str = "provider";

pub(crate) async fn run(common: Common, args: ProviderArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    let open = |tx: &TxArgs| Actor::open(&home, tx, KEY);
    match args.command {
        ProviderCommand::Register { moniker, region, class, bond, commission, tx } => {
            let actor = open(&tx)?;
            let listed = actor.chain().provider(actor.address()).await?;
            // `provide` lists the models that its engines have.
            let (models, price_max) =
                listed.map(|entry| (entry.models, entry.price_max)).unwrap_or_default();
            let profile = ProviderProfile { moniker, region, class, models, price_max };
            let node_key = home.key("provider-node")?.public_key();
            let done = format!("{} is registered as a provider", actor.address());
            let commission = commission.terms();
            let action = Action::RegisterProvider { node_key, profile, commission, bond };
            actor.act(action, &done, output).await
        }
        ProviderCommand::Bond { amount, tx } => {
            let actor = open(&tx)?;
            let operator = OperatorId::provider(actor.address());
            let done = format!("added {} WATT to the bond", amount.to_decimal());
            actor.act(Action::Delegate { operator, amount }, &done, output).await
        }
        ProviderCommand::Unbond(tx) => {
            let done = "the provider is leaving; its bond is paid back after the unbonding time";
            open(&tx)?.act(Action::UnbondProvider, done, output).await
        }
        ProviderCommand::Unjail(tx) => {
            let action = Action::Unjail { role: Role::Provider };
            open(&tx)?.act(action, "the provider is back from jail", output).await
        }
        ProviderCommand::Commission { rate, tx } => {
            let done = format!("the provider keeps {} of its income", percent(rate));
            let action = Action::SetCommission { role: Role::Provider, rate };
            open(&tx)?.act(action, &done, output).await
        }
        ProviderCommand::Show(args) => {
            let address = whose(&home, &args, KEY)?;
            let entry = connect(&home, &args.at)?.provider(address).await?;
            let entry = entry.with_context(|| format!("{address} is not a provider"))?;
            output.result(&entry, describe(&entry))
        }
        ProviderCommand::Audits(args) => {
            let address = whose(&home, &args, KEY)?;
            let audits = connect(&home, &args.at)?.audits_of(address).await?;
            output.result(&audits, audit::describe_provider(&audits))
        }
        ProviderCommand::Appeal { round, tx } => {
            let done = format!(
                "{round} waits for its second round; keep providing, so that it can be opened"
            );
            open(&tx)?.act(Action::Appeal { commitment: round }, &done, output).await
        }
        ProviderCommand::Why(args) => why::run(&home, args, output),
        ProviderCommand::List(at) => {
            let entries = connect(&home, &at)?.providers().await?;
            let lines: Vec<String> = entries.iter().map(describe).collect();
            output.result(&entries, lines.join("\n"))
        }
    }
}

fn describe(provider: &ProviderView) -> String {
    let ProviderView { operator, moniker, region, class, bond, bond_required, .. } = provider;
    let mut line = format!("{operator} {moniker}");
    for tag in [region, class] {
        if !tag.is_empty() {
            line.push_str(&format!(" {tag}"));
        }
    }
    let states = [(provider.leaving, "leaving"), (provider.jailed, "in jail")];
    for (_, state) in states.iter().filter(|(holds, _)| *holds) {
        line.push_str(&format!(", {state}"));
    }
    format!(
        "{line}\n  bond {} of {} WATT, {} WATT of others\n  earned {} WATT, {} USD held back\n  \
         {} models, {} open channels, seen in {} of 64 periods, newcomer until {}",
        bond.to_decimal(),
        bond_required.to_decimal(),
        provider.delegated.to_decimal(),
        provider.earned.to_decimal(),
        provider.pending.to_decimal(),
        provider.models.len(),
        provider.channels_open,
        provider.heartbeats,
        utc(provider.probation_until)
    )
}
