//! `peerwatt channel`: payment channels between gateways and providers.

use anyhow::{Context, bail};
use types::{ChannelId, tx::Action};
use wire::chain::{Chain, ChannelView};

use super::{
    actor::{Actor, connect, load},
    x402,
};
use crate::{
    args::{ChannelArgs, ChannelCommand, Common, TxArgs},
    home::Home,
    output::{Output, utc},
    run::gateway::withdraw_delay_ms as gateway_delay_ms,
};

/// Of whoever receives from channels, and of whoever pays into them.
const RECEIVER_KEY: &str = "provider";
const PAYER_KEY: &str = "gateway";
/// Of whoever pays by request.
const OWN_KEY: &str = "wallet";

pub(crate) async fn run(common: Common, args: ChannelArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        ChannelCommand::List { party, at } => {
            let party = match party {
                Some(party) => party,
                None => load(&home, PAYER_KEY.as_ref(), None)?.address(),
            };
            let channels = connect(&home, &at)?.channels_of(party).await?;
            let lines: Vec<String> = channels.iter().map(describe).collect();
            output.result(&channels, lines.join("\n"))
        }
        ChannelCommand::Open { provider, payer_key, deposit, withdraw_delay, tx } => {
            let actor = Actor::open(&home, &tx, OWN_KEY)?;
            let delay_ms = match withdraw_delay {
                Some(minutes) => minutes.saturating_mul(60_000),
                None => {
                    let params = actor.chain().status().await?.params.channels;
                    gateway_delay_ms(&params)
                }
            };
            let channels = actor.chain().channels_of(actor.address()).await?;
            let terms = x402::terms(&actor, &channels, provider, payer_key, delay_ms);
            if actor.is_dry_run() {
                return actor.act(Action::OpenChannel { terms, deposit }, "", output).await;
            }
            let id = x402::open(&actor, terms, deposit).await?;
            let made = serde_json::json!({ "channel": id, "deposit": deposit });
            output.result(&made, format_args!("{id}"))
        }
        ChannelCommand::Add { id, amount, tx } => {
            let actor = Actor::open(&home, &tx, OWN_KEY)?;
            if actor.is_dry_run() {
                let action = Action::TopUpChannel { channel: id, amount };
                return actor.act(action, "", output).await;
            }
            x402::add(&actor, id, amount).await?;
            let done = format!("added {} USD to channel {id}", amount.to_decimal());
            output.result(&serde_json::json!({ "channel": id, "added": amount }), done)
        }
        ChannelCommand::Close { id, tx } => {
            let action = Action::CloseChannel { channel: id };
            let done = format!("closed channel {id}");
            Actor::open(&home, &tx, RECEIVER_KEY)?.act(action, &done, output).await
        }
        ChannelCommand::Return { id, amount, tx } => {
            let action = Action::ReturnDeposit { channel: id, amount };
            let done = format!("gave {} USD of channel {id} back", amount.to_decimal());
            Actor::open(&home, &tx, RECEIVER_KEY)?.act(action, &done, output).await
        }
        ChannelCommand::Withdraw { id, tx } => withdraw(&home, id, &tx, output).await,
    }
}

/// Asks for the rest, or takes it when the delay is over.
async fn withdraw(
    home: &Home,
    channel: ChannelId,
    tx: &TxArgs,
    output: Output,
) -> anyhow::Result<()> {
    let actor = Actor::open(home, tx, PAYER_KEY)?;
    let view = actor.chain().channel(channel).await?;
    let view = view.with_context(|| format!("there is no channel {channel}"))?;
    match view.withdraw_at {
        None => {
            let done = format!(
                "asked for the rest of channel {channel}; take it with the same command after {} \
                 minutes",
                view.terms.withdraw_delay_ms.div_ceil(60_000)
            );
            actor.act(Action::RequestWithdraw { channel }, &done, output).await
        }
        // The ledger decides by its own clock; this spares a fee.
        Some(at) if at > gateway::system_clock()() => {
            bail!("the rest of channel {channel} can be taken from {} on", utc(at))
        }
        Some(_) => {
            let done = format!("took the rest of channel {channel}");
            actor.act(Action::FinalizeWithdraw { channel }, &done, output).await
        }
    }
}

fn describe(channel: &ChannelView) -> String {
    let state = match (channel.open, channel.withdraw_at) {
        (false, _) => ", closed".to_owned(),
        (true, None) => String::new(),
        (true, Some(at)) => format!(", the payer withdraws on {}", utc(at)),
    };
    format!(
        "{}{state}\n  from {} to {}\n  {} USD deposited, {} returned, {} claimed on {} lanes, {} of \
         them held back",
        channel.id,
        channel.terms.payer,
        channel.terms.receiver,
        channel.deposit.to_decimal(),
        channel.returned.to_decimal(),
        channel.claimed.to_decimal(),
        channel.lanes.len(),
        channel.pending().to_decimal()
    )
}
