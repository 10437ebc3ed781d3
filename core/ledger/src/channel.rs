//! Voucher channels (ECONOMICS E5a): opening, adding, withdrawing, closing. Claims are in
//! [`crate::settlement`].
//!
//! A closed channel keeps its entry and its claimed totals and holds nothing: its id can never be
//! used again, so a voucher cannot be replayed on a successor. The fee of opening pays for that.

use types::{Address, ChannelId, Nusd, channel::ChannelTerms, stake::OperatorId, state::Channel};

use crate::{bank::add_credits, error::TxError, event::Event, execute::Context, state::State};

/// Opens a channel from the signer to a registered provider.
pub(crate) fn open(
    state: &mut State,
    context: &mut Context,
    terms: &ChannelTerms,
    deposit: Nusd,
) -> Result<(), TxError> {
    let (payer, receiver) = (terms.payer, terms.receiver);
    if payer != context.sender {
        return Err(TxError::TermsPayer { payer, sender: context.sender });
    }
    check_delay(state, terms.withdraw_delay_ms)?;
    if deposit.is_zero() {
        return Err(TxError::Zero { what: "the deposit" });
    }
    let mut provider = state.active_provider(receiver)?;
    state.check_not_jailed(&OperatorId::provider(receiver))?;
    let id = terms.id(state.chain_id());
    if state.channels.contains(&id) {
        return Err(TxError::ChannelExists { channel: id });
    }
    state.take_credits(payer, deposit)?;
    provider.channels_open = provider
        .channels_open
        .checked_add(1)
        .ok_or(TxError::Overflow { what: "the provider's channels" })?;
    state.put_provider(receiver, Some(provider))?;
    state.parties.insert((payer, id), ());
    state.parties.insert((receiver, id), ());
    let channel = Channel {
        terms: terms.clone(),
        deposit,
        claimed: Nusd::ZERO,
        settled: Nusd::ZERO,
        refunded: Nusd::ZERO,
        returned: Nusd::ZERO,
        opened_at: context.height,
        withdraw_at: None,
        open: true,
    };
    state.channels.insert(id, channel);
    context.events.push(Event::ChannelOpened { channel: id, payer, receiver, deposit });
    Ok(())
}

fn check_delay(state: &State, delay_ms: u64) -> Result<(), TxError> {
    let params = &state.params().channels;
    let (min_ms, max_ms) = (params.withdraw_delay_ms_min, params.withdraw_delay_ms_max);
    if (min_ms..=max_ms).contains(&delay_ms) {
        return Ok(());
    }
    Err(TxError::WithdrawDelay { delay_ms, min_ms, max_ms })
}

/// Adds to the deposit. Only the payer may: credits do not move between owners.
pub(crate) fn top_up(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
    amount: Nusd,
) -> Result<(), TxError> {
    let mut channel = state.channel_of_payer(id, context.sender)?;
    if let Some(withdraw_at) = channel.withdraw_at {
        return Err(TxError::WithdrawPending { channel: id, withdraw_at });
    }
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the amount" });
    }
    state.take_credits(context.sender, amount)?;
    channel.deposit = add_credits(channel.deposit, amount, "the channel's deposit")?;
    let deposit = channel.deposit;
    state.channels.insert(id, channel);
    context.events.push(Event::ChannelToppedUp {
        channel: id,
        payer: context.sender,
        amount,
        deposit,
    });
    Ok(())
}

/// The receiver gives a part of the rest back and keeps the channel. Only what is neither claimed nor
/// returned can go, so vouchers that it still holds may be worth less afterwards: its own decision.
pub(crate) fn return_deposit(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
    amount: Nusd,
) -> Result<(), TxError> {
    let mut channel = state.channel_of_receiver(id, context.sender)?;
    if amount.is_zero() {
        return Err(TxError::Zero { what: "the amount" });
    }
    let balance = channel.balance();
    if amount > balance {
        return Err(TxError::ChannelShort { channel: id, needed: amount, balance });
    }
    let payer = channel.terms.payer;
    channel.returned = add_credits(channel.returned, amount, "the channel's returned total")?;
    state.channels.insert(id, channel);
    state.give_credits(payer, amount)?;
    context.events.push(Event::DepositReturned { channel: id, payer, amount });
    Ok(())
}

/// The payer asks for the rest: the delay begins, in which the receiver may still redeem.
pub(crate) fn request_withdraw(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
) -> Result<(), TxError> {
    let mut channel = state.channel_of_payer(id, context.sender)?;
    if let Some(withdraw_at) = channel.withdraw_at {
        return Err(TxError::WithdrawPending { channel: id, withdraw_at });
    }
    let withdraw_at = context.time.plus_ms(channel.terms.withdraw_delay_ms);
    channel.withdraw_at = Some(withdraw_at);
    state.channels.insert(id, channel);
    context.events.push(Event::WithdrawRequested { channel: id, withdraw_at });
    Ok(())
}

/// The payer takes the rest after the delay.
pub(crate) fn finalize_withdraw(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
) -> Result<(), TxError> {
    let channel = state.channel_of_payer(id, context.sender)?;
    let withdraw_at = channel.withdraw_at.ok_or(TxError::WithdrawNotRequested { channel: id })?;
    if context.time < withdraw_at {
        return Err(TxError::WithdrawEarly { channel: id, withdraw_at, time: context.time });
    }
    close(state, context, id, channel)
}

/// The receiver gives the rest back at once.
pub(crate) fn close_by_receiver(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
) -> Result<(), TxError> {
    let channel = state.channel_of_receiver(id, context.sender)?;
    close(state, context, id, channel)
}

fn close(
    state: &mut State,
    context: &mut Context,
    id: ChannelId,
    mut channel: Channel,
) -> Result<(), TxError> {
    let (payer, receiver) = (channel.terms.payer, channel.terms.receiver);
    let returned = channel.balance();
    state.give_credits(payer, returned)?;
    channel.returned = add_credits(channel.returned, returned, "the channel's returned total")?;
    channel.withdraw_at = None;
    channel.open = false;
    state.channels.insert(id, channel);
    context.events.push(Event::ChannelClosed { channel: id, payer, receiver, returned });
    state.count_closed_channel(context, receiver)
}

impl State {
    fn open_channel(&self, id: ChannelId) -> Result<&Channel, TxError> {
        let channel = self.channels.get(&id).ok_or(TxError::ChannelUnknown { channel: id })?;
        if !channel.open {
            return Err(TxError::ChannelClosed { channel: id });
        }
        Ok(channel)
    }

    fn channel_of_payer(&self, id: ChannelId, sender: Address) -> Result<Channel, TxError> {
        let channel = self.open_channel(id)?;
        let payer = channel.terms.payer;
        if payer != sender {
            return Err(TxError::NotPayer { channel: id, payer });
        }
        Ok(channel.clone())
    }

    pub(crate) fn channel_of_receiver(
        &self,
        id: ChannelId,
        sender: Address,
    ) -> Result<Channel, TxError> {
        let channel = self.open_channel(id)?;
        let receiver = channel.terms.receiver;
        if receiver != sender {
            return Err(TxError::NotReceiver { channel: id, receiver });
        }
        Ok(channel.clone())
    }
}
