//! The gateway's dealings with the ledger: registers it, buys credits, opens and tops up channels.
//!
//! One loop sends every transaction, one after another, far from any request. What it reads and
//! does follows from the ledger's state alone, so it can be cut off anywhere and start again.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::{
    Address, ChannelId, Nusd, Rounding, Watt,
    amount::mul_div,
    channel::ChannelTerms,
    receipt::{Acknowledgement, ServiceReport},
    sign::Signed,
    tx::{Action, CreditPurchase},
};
use wire::chain::{ChainError, ChainStatus, ChannelView, SendError, TxSender};

use crate::{shared::Shared, views::ChannelSummary};

/// How often the ledger is looked at, and how soon again after something failed.
const INTERVAL: Duration = Duration::from_secs(15);
const INTERVAL_FAILED: Duration = Duration::from_secs(2);
/// Wishes that may wait for the loop.
pub(crate) const COMMANDS_MAX: usize = 1_024;
/// What a purchase of credits may cost above the price that was read, for the price may move.
const SLIPPAGE_PPM: u128 = 50_000;

/// What the rest of the gateway wants of the treasury.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answers with the channel to a provider, opened if there is none.
    Ensure { provider: Address, answer: oneshot::Sender<Result<ChannelId, String>> },
    /// A request needs this much room in the channel to a provider.
    TopUp { provider: Address, needed: Nusd },
    /// A provider says that its channel is not what we think.
    Recheck { provider: Address },
    /// An answer is to be audited.
    Demand(Box<Demanded>),
}

/// What both sides said of the answer, signed.
#[derive(Debug)]
pub(crate) struct Demanded {
    report: Signed<ServiceReport>,
    acknowledgement: Signed<Acknowledgement>,
}

/// The channel to `provider`, once there is one.
pub(crate) async fn ensure_channel(
    shared: &Shared,
    provider: Address,
) -> Result<ChannelId, String> {
    if let Some(channel) = shared.books.channel_of(&provider) {
        return Ok(channel);
    }
    let closed = |_| "the gateway is shutting down".to_owned();
    let (answer, answered) = oneshot::channel();
    shared.treasury.send(Command::Ensure { provider, answer }).await.map_err(|_| closed(()))?;
    answered.await.map_err(|_| closed(()))?
}

/// A channel with less room than this is topped up.
pub(crate) fn room_min(shared: &Shared) -> Nusd {
    Nusd(shared.config.channels.deposit.0 / 2)
}

/// Asks for more room. Whoever needs it waits for `shared.freed`.
pub(crate) fn top_up(shared: &Shared, provider: Address, needed: Nusd) {
    // A full queue is full of such wishes; the regular round will serve this one.
    let _ = shared.treasury.try_send(Command::TopUp { provider, needed });
}

pub(crate) fn recheck(shared: &Shared, provider: Address) {
    let _ = shared.treasury.try_send(Command::Recheck { provider });
}

/// Has an answer audited. One that finds the queue full is not.
pub(crate) fn demand(
    shared: &Shared,
    report: Signed<ServiceReport>,
    acknowledgement: Signed<Acknowledgement>,
) {
    let demanded = Box::new(Demanded { report, acknowledgement });
    let _ = shared.treasury.try_send(Command::Demand(demanded));
}

/// Why the treasury could not do what it should.
#[derive(Debug, thiserror::Error)]
enum TreasuryError {
    #[error("the ledger cannot be read")]
    Read(#[from] ChainError),
    #[error("cannot {action}")]
    Send { action: &'static str, source: SendError },
    #[error(
        "the account {account} holds {watt} base units of WATT, {needed} are needed to buy credits; \
         send it WATT"
    )]
    Funds { account: Address, watt: Watt, needed: Watt },
}

/// Runs until the gateway stops.
pub(crate) async fn run(shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let sender =
        TxSender::new(Arc::clone(&shared.config.chain), Arc::clone(&shared.config.operator));
    let treasury = Treasury { shared, sender };
    let mut next_round = Instant::now();
    loop {
        let command = tokio::select! {
            () = treasury.shared.stop.cancelled() => return,
            command = commands.recv() => match command {
                Some(command) => Some(command),
                None => return,
            },
            () = tokio::time::sleep_until(next_round) => None,
        };
        let stop = treasury.shared.stop.clone();
        let is_round = command.is_none();
        let work = async {
            match command {
                Some(command) => treasury.obey(command).await,
                None => treasury.round().await,
            }
        };
        // A transaction that is cut off here is found done or not done at the next start.
        let result = tokio::select! {
            result = work => result,
            () = stop.cancelled() => return,
        };
        if is_round {
            let pause = if result.is_ok() { INTERVAL } else { INTERVAL_FAILED };
            next_round = Instant::now() + pause;
        }
        let problem = result.err().map(|error| {
            let text = chain_text(&error);
            tracing::warn!(error = %text, "treasury.failed");
            text
        });
        treasury.shared.update_account(|account| account.problem = problem);
    }
}

/// An error with everything that caused it.
fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

struct Treasury {
    shared: Arc<Shared>,
    sender: TxSender,
}

impl Treasury {
    async fn obey(&self, command: Command) -> Result<(), TreasuryError> {
        match command {
            Command::Ensure { provider, answer } => {
                let result = self.ensure(provider).await;
                let told = result.as_ref().map(|channel| *channel).map_err(|e| chain_text(e));
                // Whoever asked may be gone; the channel is there all the same.
                let _ = answer.send(told);
                result.map(drop)
            }
            Command::TopUp { provider, needed } => self.top_up(provider, needed).await,
            Command::Recheck { provider } => self.recheck(provider).await,
            Command::Demand(demanded) => {
                self.demand(*demanded).await;
                Ok(())
            }
        }
    }

    /// Brings the ledger to where the policy wants it.
    async fn round(&self) -> Result<(), TreasuryError> {
        let status = self.shared.config.chain.status().await?;
        // Providers that know us are paid whether or not others can find us.
        let registered = self.register().await;
        self.read_exclusions().await?;
        self.read_channels().await?;
        self.buy_credits(&status, Nusd::ZERO).await?;
        for provider in self.shared.directory.connected() {
            self.top_up(provider, room_min(&self.shared)).await?;
        }
        self.read_account().await?;
        registered
    }

    /// Who is not chosen for what, by what audits found.
    async fn read_exclusions(&self) -> Result<(), TreasuryError> {
        let listed = self.shared.config.chain.exclusions().await?;
        let excluded = listed.into_iter().map(|it| (it.provider, it.model)).collect();
        self.shared.directory.exclude(excluded);
        Ok(())
    }

    async fn register(&self) -> Result<(), TreasuryError> {
        let config = &self.shared.config;
        let node_key = config.endpoint.node_key();
        let addrs = match config.advertise.is_empty() {
            true => config.endpoint.addrs().iter().map(ToString::to_string).collect(),
            false => config.advertise.clone(),
        };
        let entries = config.chain.gateways().await?;
        let ours = entries.iter().find(|entry| entry.operator == self.shared.operator);
        let current = ours.is_some_and(|entry| {
            entry.node_key == node_key && entry.addrs == addrs && entry.moniker == config.moniker
        });
        if !current {
            let moniker = config.moniker.clone();
            let action = Action::RegisterGateway { node_key, moniker, addrs };
            self.send("register the gateway", action).await?;
        }
        self.shared.update_account(|account| account.registered = true);
        Ok(())
    }

    /// Buys when the account is below the policy's mark, or below `needed`.
    async fn buy_credits(&self, status: &ChainStatus, needed: Nusd) -> Result<(), TreasuryError> {
        let policy = self.shared.config.credits;
        let account = self.shared.config.chain.account(self.shared.operator).await?;
        if account.credits >= policy.below.max(needed) {
            return Ok(());
        }
        let credits = policy.amount.max(needed.saturating_sub(account.credits));
        let cost = purchase_cost(credits, status);
        if account.watt < cost {
            let watt = account.watt;
            let account = self.shared.operator;
            return Err(TreasuryError::Funds { account, watt, needed: cost });
        }
        let slack = mul_div(cost.0, SLIPPAGE_PPM, 1_000_000, Rounding::Up).unwrap_or_default();
        let watt_max = cost.saturating_add(Watt(slack)).min(account.watt);
        let purchase = CreditPurchase::Receive { credits, watt_max };
        self.send("buy credits", Action::BuyCredits(purchase)).await
    }

    /// The channel to `provider`: the one on the ledger, or a new one.
    async fn ensure(&self, provider: Address) -> Result<ChannelId, TreasuryError> {
        if let Some(channel) = self.shared.books.channel_of(&provider) {
            return Ok(channel);
        }
        let views = self.read_channels().await?;
        if let Some(channel) = self.shared.books.channel_of(&provider) {
            return Ok(channel);
        }
        let config = &self.shared.config;
        let deposit = config.channels.deposit;
        let status = config.chain.status().await?;
        self.buy_credits(&status, deposit).await?;
        let terms = ChannelTerms {
            payer: self.shared.operator,
            payer_key: config.payer.public_key(),
            receiver: provider,
            // Differs from every channel to this provider that ever was.
            salt: views.iter().map(|view| view.terms.salt).max().map_or(1, |salt| salt + 1),
            withdraw_delay_ms: config.channels.withdraw_delay_ms,
        };
        let channel = terms.id(&config.chain_id);
        self.send("open a channel", Action::OpenChannel { terms, deposit }).await?;
        self.shared.books.set_channel(channel, provider, deposit);
        tracing::info!(%provider, %channel, %deposit, "treasury.channel_opened");
        self.read_account().await?;
        Ok(channel)
    }

    /// Adds to the channel to `provider` until at least `needed` is free.
    async fn top_up(&self, provider: Address, needed: Nusd) -> Result<(), TreasuryError> {
        let books = &self.shared.books;
        let Some(totals) = books.channels().into_iter().find(|c| c.provider == provider) else {
            return Ok(());
        };
        let room = totals.deposit.saturating_sub(totals.promised);
        if room >= needed {
            self.shared.freed.notify_waiters();
            return Ok(());
        }
        let config = &self.shared.config;
        let amount = config.channels.deposit.max(needed.saturating_sub(room));
        let status = config.chain.status().await?;
        self.buy_credits(&status, amount).await?;
        let action = Action::TopUpChannel { channel: totals.id, amount };
        self.send("top up a channel", action).await?;
        books.set_channel(totals.id, provider, totals.deposit.saturating_add(amount));
        tracing::info!(%provider, channel = %totals.id, %amount, "treasury.channel_topped_up");
        self.shared.freed.notify_waiters();
        self.read_account().await
    }

    /// A channel that the ledger does not have any more is replaced.
    async fn recheck(&self, provider: Address) -> Result<(), TreasuryError> {
        self.read_channels().await?;
        self.ensure(provider).await?;
        self.shared.freed.notify_waiters();
        Ok(())
    }

    /// Has an answer audited. That it cannot be is no problem of the account: others are served all the same.
    async fn demand(&self, demanded: Demanded) {
        let Demanded { report, acknowledgement } = demanded;
        let ServiceReport { provider, request_id, .. } = report.value;
        let (report, acknowledgement) = (Box::new(report), Box::new(acknowledgement));
        let action = Action::DemandAudit { report, acknowledgement };
        match self.sender.send(action).await {
            Ok(applied) => {
                tracing::warn!(%provider, request = %request_id, tx = %applied.id, "treasury.audit_demanded");
            }
            Err(error) => {
                let error = chain_text(&error);
                tracing::warn!(%provider, request = %request_id, %error, "treasury.demand_refused");
            }
        }
    }

    /// Takes over what the ledger says of our channels. Returns all of them, closed ones too.
    async fn read_channels(&self) -> Result<Vec<ChannelView>, TreasuryError> {
        let Shared { config, books, operator, .. } = &*self.shared;
        let views = config.chain.channels_of(*operator).await?;
        let usable = |view: &&ChannelView| {
            view.open
                && view.withdraw_at.is_none()
                && view.terms.payer == *operator
                && view.terms.payer_key == config.payer.public_key()
        };
        let in_use = books.channels();
        for totals in &in_use {
            if !views.iter().filter(usable).any(|view| view.id == totals.id) {
                books.forget_channel(totals.id);
            }
        }
        for view in views.iter().filter(usable) {
            let current = books.channel_of(&view.terms.receiver);
            if current.is_none_or(|current| current == view.id) {
                books.set_channel(view.id, view.terms.receiver, view.funds());
                books.set_claimed(view.id, &view.lanes);
            }
        }
        Ok(views)
    }

    async fn read_account(&self) -> Result<(), TreasuryError> {
        let account = self.shared.config.chain.account(self.shared.operator).await?;
        let now = self.shared.now();
        self.shared.update_account(|summary| {
            summary.watt = account.watt;
            summary.credits = account.credits;
            summary.read_at = Some(now);
        });
        Ok(())
    }

    async fn send(&self, action: &'static str, what: Action) -> Result<(), TreasuryError> {
        match self.sender.send(what).await {
            Ok(applied) => {
                tracing::info!(tx = %applied.id, height = %applied.height, action, "treasury.applied");
                Ok(())
            }
            Err(source) => Err(TreasuryError::Send { action, source }),
        }
    }
}

/// What `credits` cost at the price in force, with the spread.
fn purchase_cost(credits: Nusd, status: &ChainStatus) -> Watt {
    let whole = 1_000_000_u128;
    let kept = whole.saturating_sub(status.params.credits.spread.get().into()).max(1);
    let gross = mul_div(credits.0, whole, kept, Rounding::Up).unwrap_or(u128::MAX);
    Watt::worth(Nusd(gross), status.nusd_per_watt, Rounding::Up).unwrap_or(Watt(u128::MAX))
}

/// The channels in use, for people.
pub(crate) fn channel_summaries(shared: &Shared) -> Vec<ChannelSummary> {
    let summary = |totals: crate::lanes::ChannelTotals| ChannelSummary {
        id: totals.id,
        provider: totals.provider,
        deposit: totals.deposit,
        promised: totals.promised,
        charged: totals.charged,
        lanes: totals.lanes,
    };
    shared.books.channels().into_iter().map(summary).collect()
}
