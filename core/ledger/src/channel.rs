//! Voucher channels (ECONOMICS E5a): opening, adding, withdrawing, closing. Claims are in
//! [`crate::settlement`].
//!
//! A closed channel keeps its entry and its claimed totals and holds nothing: its id can never be
//! used again, so a voucher cannot be replayed on a successor. The fee of opening pays for that.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{Address, ChannelId, Nusd, TimeMs, channel::ChannelTerms};

use crate::{error::TxError, event::Event, execute::Context, state::State};

/// One channel. `claimed + returned ≤ deposit`, and equal once it is closed.
#[derive(Clone, PartialEq, Eq, Debug, BorshSerialize, BorshDeserialize)]
pub struct Channel {
    pub terms: ChannelTerms,
    /// All that was ever deposited.
    pub deposit: Nusd,
    /// All that was ever claimed, over all lanes. What is claimed is settled at once.
    pub claimed: Nusd,
    /// What went back to the payer when it closed.
    pub returned: Nusd,
    /// When the payer may take the rest, if it asked to.
    pub withdraw_at: Option<TimeMs>,
    pub open: bool,
}

impl Channel {
    /// What it holds: nothing once it is closed.
    pub fn balance(&self) -> Nusd {
        self.deposit.saturating_sub(self.claimed).saturating_sub(self.returned)
    }
}

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
        returned: Nusd::ZERO,
        withdraw_at: None,
        open: true,
    };
    state.channels.insert(id, channel);
    context.events.push(Event::ChannelOpened { channel: id, payer, receiver, deposit });
    Ok(())
}

fn check_delay(state: &State, delay_ms: u64) -> Result<(), TxError> {
    let params = state.params();
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
    channel.deposit = channel
        .deposit
        .checked_add(amount)
        .ok_or(TxError::Overflow { what: "the channel's deposit" })?;
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
    channel.returned = returned;
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
