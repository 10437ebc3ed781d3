//! `peerwatt wallet`: an account of one's own.

use anyhow::{Context, bail};
use keys::SecretKey;
use serde::Serialize;
use types::{
    Address, Nusd, Ppm, PublicKey, Rounding, Watt,
    sign::Sign,
    tx::{Action, CreditPurchase},
};
use wire::chain::{AccountView, Chain, ChannelView, HttpChain};

use super::actor::{Actor, connect, load};
use crate::{
    args::{Common, WalletArgs, WalletCommand, WalletFileArgs},
    home::Home,
    output::Output,
};

/// What a purchase of credits may cost above the price in force, for blocks between asking and buying.
const PRICE_SLACK: u32 = 50_000;

#[derive(Serialize)]
struct NewKey {
    address: Address,
    public_key: PublicKey,
    file: std::path::PathBuf,
    encrypted: bool,
}

#[derive(Serialize)]
struct Account {
    #[serde(flatten)]
    account: AccountView,
    channels: Vec<ChannelView>,
}

pub(crate) async fn run(common: Common, args: WalletArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        WalletCommand::New(file) => new(&home, &file, output),
        WalletCommand::Show { file, address, at } => {
            let address = match address {
                Some(address) => address,
                None => load(&home, &file.key, file.passphrase.as_deref())?.address(),
            };
            show(&connect(&home, &at)?, address, output).await
        }
        WalletCommand::Send { to, amount, tx } => {
            let done = format!("sent {} WATT to {to}", amount.to_decimal());
            let actor = Actor::open(&home, &tx, "wallet")?;
            actor.act(Action::Transfer { to, amount }, &done, output).await
        }
        WalletCommand::BuyCredits { usd, max, tx } => {
            let actor = Actor::open(&home, &tx, "wallet")?;
            let watt_max = match max {
                Some(watt_max) => watt_max,
                None => dearest(actor.chain(), usd).await?,
            };
            let purchase = CreditPurchase::Receive { credits: usd, watt_max };
            let done = format!("bought {} USD of credits", usd.to_decimal());
            actor.act(Action::BuyCredits(purchase), &done, output).await
        }
    }
}

fn new(home: &Home, file: &WalletFileArgs, output: Output) -> anyhow::Result<()> {
    let path = home.key_path(&file.key);
    if path.exists() {
        bail!("{} exists; choose another name with --key", path.display());
    }
    let key = SecretKey::generate().context("making a key")?;
    keys::save(&path, &key, file.passphrase.as_deref())?;
    let made = NewKey {
        address: key.address(),
        public_key: key.public_key(),
        encrypted: file.passphrase.is_some(),
        file: path,
    };
    if !made.encrypted {
        output
            .progress("the key is not encrypted; set PEERWATT_PASSPHRASE to make an encrypted one");
    }
    output.result(&made, format_args!("{}\nkept in {}", made.address, made.file.display()))
}

async fn show(chain: &HttpChain, address: Address, output: Output) -> anyhow::Result<()> {
    let account = chain.account(address).await?;
    let channels = chain.channels_of(address).await?;
    let mut text = format!(
        "{address}\n{} WATT\n{} USD of credits",
        account.watt.to_decimal(),
        account.credits.to_decimal()
    );
    if !account.fee_debt.is_zero() {
        let owed = account.fee_debt.to_decimal();
        text.push_str(&format!("\n{owed} WATT of fees are taken from the first income"));
    }
    for channel in &channels {
        let way = if channel.terms.payer == address { "to" } else { "from" };
        let other = if channel.terms.payer == address {
            channel.terms.receiver
        } else {
            channel.terms.payer
        };
        text.push_str(&format!(
            "\nchannel {} {way} {other}: {} of {} USD claimed{}",
            channel.id,
            channel.claimed.to_decimal(),
            channel.funds().to_decimal(),
            if channel.open { "" } else { ", closed" }
        ));
    }
    output.result(&Account { account, channels }, text)
}

/// What `usd` of credits cost now, and a little more.
pub(crate) async fn dearest(chain: &HttpChain, usd: Nusd) -> anyhow::Result<Watt> {
    let status = chain.status().await?;
    let spread = status.params.credits.spread.get();
    let gross = Watt::worth(usd, status.nusd_per_watt, Rounding::Up)
        .context("the price of WATT is zero")?;
    let slack = Ppm::new(spread.saturating_add(PRICE_SLACK)).unwrap_or(Ppm::ONE);
    Ok(gross.saturating_add(Watt(slack.of(gross.0, Rounding::Up))))
}
