//! Paying by request, without an API key: a channel of one's own to a provider, and a signed payment for each request
//! (`docs/spec/x402.md`).

use anyhow::{Context, bail};
use keys::SecretKey;
use types::{
    Address, ChannelId, Hash32, Nusd, PublicKey, channel::ChannelTerms, payment::Payment,
    sign::Signed, tx::Action,
};
use wire::{
    api::x402::{self, Accepted, PaymentPayload, PaymentRequired, Requirements},
    chain::{Chain, ChannelView},
};

use super::{
    actor::{Actor, load},
    wallet,
};
use crate::{
    args::{PayArgs, TxArgs},
    home::Home,
    output::Output,
};

/// How long a payment is valid. Clocks may differ by a part of it.
const VALID_MS: u64 = 5 * 60 * 1_000;
/// The account that pays unless told otherwise.
const KEY: &str = "wallet";

/// Whose credits pay.
pub(crate) struct Purse {
    actor: Actor,
    key: SecretKey,
    deposit: Nusd,
    output: Output,
}

impl Purse {
    /// The purse that the arguments name, if they do.
    pub(crate) fn open(
        home: &Home,
        args: &PayArgs,
        output: Output,
    ) -> anyhow::Result<Option<Purse>> {
        if !args.x402 {
            return Ok(None);
        }
        let name = args.key.as_deref().unwrap_or(KEY.as_ref());
        let key = load(home, name, args.passphrase.as_deref())?;
        let tx = TxArgs {
            key: args.key.clone(),
            passphrase: args.passphrase.clone(),
            at: args.at.clone(),
            dry_run: false,
        };
        let actor = Actor::open(home, &tx, KEY)?;
        Ok(Some(Purse { actor, key, deposit: args.deposit, output }))
    }

    /// The header that pays for a request which was refused with this one. A channel is opened if there is none;
    /// `is_short`: the one that there is needs more. `has_length`: the answer is given as long as it was asked for, or
    /// not at all.
    pub(crate) async fn pay(
        &self,
        required: &str,
        (body, has_length): (&[u8], bool),
        is_short: bool,
    ) -> anyhow::Result<String> {
        let required: PaymentRequired =
            x402::decode(required.as_bytes()).context("reading how to pay")?;
        let request = Payment::request_hash(&required.resource.url, body);
        let chain = self.actor.chain().status().await?.chain_id;
        let is_ours = |way: &&Requirements| {
            way.scheme == x402::SCHEME
                && way.network == x402::network(&chain)
                && way.extra.request == request
        };
        let ways: Vec<&Requirements> = required.accepts.iter().filter(is_ours).collect();
        let first = ways.first().with_context(|| {
            format!("the gateway takes no payment for this request on the network {chain}")
        })?;
        if has_length && first.amount > self.deposit {
            bail!(
                "this answer may cost up to {} USD; allow that with --deposit, or lower --max-tokens",
                first.amount.to_decimal()
            );
        }
        let channels = self.actor.chain().channels_of(self.actor.address()).await?;
        let known = ways.iter().find_map(|way| {
            let leads = |view: &&ChannelView| self.leads(view, way);
            channels.iter().find(leads).map(|view| (*way, view.id))
        });
        let (way, channel) = match known {
            Some((way, channel)) => (way, channel),
            None => (*first, self.open_channel(first, &channels).await?),
        };
        if is_short && known.is_some() {
            add(&self.actor, channel, self.deposit).await?;
            self.output.progress(format_args!(
                "added {} USD to the channel {channel}",
                self.deposit.to_decimal()
            ));
        }
        let mut nonce = Hash32([0; 32]);
        getrandom::fill(&mut nonce.0).context("making a payment")?;
        let payment = Payment {
            channel,
            request,
            nonce,
            amount_max: way.amount.min(self.deposit),
            expires_at: gateway::system_clock()().plus_ms(VALID_MS),
        };
        Ok(x402::encode(&PaymentPayload {
            x402_version: x402::VERSION,
            accepted: Accepted { scheme: way.scheme.clone(), network: way.network.clone() },
            payload: Signed::new(payment, &chain, &self.key),
        }))
    }

    fn leads(&self, view: &ChannelView, way: &Requirements) -> bool {
        view.open
            && view.withdraw_at.is_none()
            && view.terms.payer == self.actor.address()
            && view.terms.payer_key == way.extra.payer_key
            && view.terms.receiver == way.pay_to
    }

    async fn open_channel(
        &self,
        way: &Requirements,
        channels: &[ChannelView],
    ) -> anyhow::Result<ChannelId> {
        let (provider, payer_key) = (way.pay_to, way.extra.payer_key);
        let delay_ms = way.extra.withdraw_delay_ms;
        self.output.progress(format_args!(
            "opening a channel of {} USD to {provider}; what is not used can be taken back in {} minutes \
             (peerwatt channel withdraw)",
            self.deposit.to_decimal(),
            delay_ms.div_ceil(60_000)
        ));
        let terms = terms(&self.actor, channels, provider, payer_key, delay_ms);
        open(&self.actor, terms, self.deposit).await
    }
}

/// Of a channel that differs from all that this payer ever had.
pub(crate) fn terms(
    actor: &Actor,
    channels: &[ChannelView],
    receiver: Address,
    payer_key: PublicKey,
    withdraw_delay_ms: u64,
) -> ChannelTerms {
    let salts = channels.iter().map(|view| view.terms.salt);
    let salt = salts.max().map_or(1, |salt| salt.saturating_add(1));
    ChannelTerms { payer: actor.address(), payer_key, receiver, salt, withdraw_delay_ms }
}

/// Opens a channel, and buys the credits for it first if they are missing.
pub(crate) async fn open(
    actor: &Actor,
    terms: ChannelTerms,
    deposit: Nusd,
) -> anyhow::Result<ChannelId> {
    let chain = actor.chain().status().await?.chain_id;
    let id = terms.id(&chain);
    have_credits(actor, deposit).await?;
    actor.send(Action::OpenChannel { terms, deposit }).await.context("opening the channel")?;
    Ok(id)
}

/// Adds to a channel's deposit, and buys the credits for it first if they are missing.
pub(crate) async fn add(actor: &Actor, channel: ChannelId, amount: Nusd) -> anyhow::Result<()> {
    have_credits(actor, amount).await?;
    let added = actor.send(Action::TopUpChannel { channel, amount }).await;
    added.map(drop).context("adding to the channel")
}

async fn have_credits(actor: &Actor, needed: Nusd) -> anyhow::Result<()> {
    let account = actor.chain().account(actor.address()).await?;
    let missing = needed.saturating_sub(account.credits);
    if missing.is_zero() {
        return Ok(());
    }
    let watt_max = wallet::dearest(actor.chain(), missing).await?;
    if account.watt < watt_max {
        bail!(
            "the account {} has {} WATT; {} USD of credits cost up to {}",
            actor.address(),
            account.watt.to_decimal(),
            missing.to_decimal(),
            watt_max.to_decimal()
        );
    }
    let purchase = types::tx::CreditPurchase::Receive { credits: missing, watt_max };
    actor.send(Action::BuyCredits(purchase)).await.map(drop).context("buying credits")
}
