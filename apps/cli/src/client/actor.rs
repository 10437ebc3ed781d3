//! Who acts: the key that signs a command's transactions, the chain they go to, and what is printed
//! about them. A dry run asks the chain what a transaction would do and sends nothing.

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use keys::SecretKey;
use types::{Address, tx::Action};
use wire::chain::{Applied, Event, HttpChain, TxOutcome, TxResult, TxSender};

use crate::{
    args::{AtArgs, TxArgs, WhoseArgs},
    home::Home,
    output::Output,
};

/// An account that can act.
pub(crate) struct Actor {
    sender: TxSender,
    chain: Arc<HttpChain>,
    dry_run: bool,
}

impl Actor {
    /// The account of the key that the arguments name, else of the folder's key of this name.
    pub(crate) fn open(home: &Home, args: &TxArgs, key: &str) -> anyhow::Result<Actor> {
        let name = args.key.as_deref().unwrap_or(Path::new(key));
        let key = Arc::new(load(home, name, args.passphrase.as_deref())?);
        let chain = Arc::new(connect(home, &args.at)?);
        let sender = TxSender::new(chain.clone(), key);
        Ok(Actor { sender, chain, dry_run: args.dry_run })
    }

    pub(crate) fn address(&self) -> Address {
        self.sender.address()
    }

    pub(crate) fn chain(&self) -> &HttpChain {
        &self.chain
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// Does `action` and prints that it is `done`, or prints what it would do.
    pub(crate) async fn act(
        &self,
        action: Action,
        done: &str,
        output: Output,
    ) -> anyhow::Result<()> {
        if self.dry_run {
            return show_outcome(&self.simulate(action).await?, output);
        }
        report(&self.send(action).await?, done, output)
    }

    pub(crate) async fn send(&self, action: Action) -> anyhow::Result<Applied> {
        Ok(self.sender.send(action).await?)
    }

    /// What `action` would do in the next block.
    pub(crate) async fn simulate(&self, action: Action) -> anyhow::Result<TxOutcome> {
        let tx = self.sender.draft(action).await?;
        self.chain.simulate(&tx).await.context("trying the transaction out")
    }
}

/// Prints what a transaction did.
pub(crate) fn report(applied: &Applied, done: &str, output: Output) -> anyhow::Result<()> {
    let Applied { id, height, fee, events } = applied;
    let value = serde_json::json!({ "id": id, "height": height, "fee": fee, "events": events });
    let fee = fee.to_decimal();
    output
        .result(&value, format_args!("{done}\ntransaction {id} in block {height}, fee {fee} WATT"))
}

/// Prints what a transaction would do; fails if it would.
fn show_outcome(outcome: &TxOutcome, output: Output) -> anyhow::Result<()> {
    let TxOutcome { fee, result, .. } = outcome;
    match result {
        TxResult::Applied { events } => {
            let value = serde_json::json!({ "dry_run": true, "fee": fee, "events": events });
            let mut text = format!("nothing was sent; the fee would be {} WATT", fee.to_decimal());
            for event in events {
                text.push_str(&format!("\n  {}", describe(event)));
            }
            output.result(&value, text)
        }
        TxResult::Failed { code, message } => {
            bail!(
                "nothing was sent; the transaction would fail and cost {} WATT: {message} ({code})",
                fee.to_decimal()
            )
        }
    }
}

/// An event as one line. Amounts in it are base units, as the ledger writes them.
pub(crate) fn describe(event: &Event) -> String {
    let mut line = event.kind.clone();
    for (name, value) in &event.fields {
        line.push_str(&format!(" {name}={value}"));
    }
    line
}

/// The chain that the arguments name.
pub(crate) fn connect(home: &Home, at: &AtArgs) -> anyhow::Result<HttpChain> {
    Ok(HttpChain::new(&home.chain_url(at.chain.as_deref())?)?)
}

/// The account that the arguments name, else that of the folder's key of this name.
pub(crate) fn whose(home: &Home, args: &WhoseArgs, key: &str) -> anyhow::Result<Address> {
    match args.address {
        Some(address) => Ok(address),
        None => {
            let name = args.key.as_deref().unwrap_or(Path::new(key));
            Ok(load(home, name, args.passphrase.as_deref())?.address())
        }
    }
}

/// A key of the folder, or of a file elsewhere.
pub(crate) fn load(
    home: &Home,
    name: &Path,
    passphrase: Option<&str>,
) -> anyhow::Result<SecretKey> {
    let path = home.key_path(name);
    let hint = || format!("opening the key {}; `peerwatt wallet new` makes one", path.display());
    keys::load(&path, passphrase).with_context(hint)
}
