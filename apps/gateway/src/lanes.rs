//! The payer's side of channels: per lane what is charged, what is promised, and how far it may sign.
//!
//! Pure. Invariants: a lane serves one request at a time; nothing is signed above the lane's lease,
//! which is in the journal before; what all lanes are promised or hold is never above the deposit.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use types::{
    Address, ChannelId, Lane, Nusd, channel::Voucher, limits, price::Price, price::WINDOW_TOKENS,
};

use crate::session::affordable_tokens;

/// Vouchers that a lease has numbers for. One lease lasts for days of steady streaming.
const LEASE_SEQUENCES: u64 = 1 << 20;
/// A lease reaches this many requests of the current size ahead, so that extending it is rare.
const LEASE_REQUESTS: u128 = 16;

/// Requests for which a lane is passed over after its provider said that it is still in use.
const RESTS: u32 = 16;

/// All channels of this payer.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    by_id: BTreeMap<ChannelId, Channel>,
    by_provider: BTreeMap<Address, ChannelId>,
}

#[derive(Debug, Default)]
struct Channel {
    provider: Option<Address>,
    deposit: Nusd,
    lanes: BTreeMap<u32, LaneBook>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LaneBook {
    charged: Nusd,
    /// The largest total signed in this run or shown by the provider.
    signed: Nusd,
    sequence: u64,
    /// In the journal: nothing above is signed.
    lease_total: Nusd,
    lease_sequence: u64,
    /// An earlier run may have signed up to here.
    earlier: Nusd,
    /// The most that the request in work can bring the total to.
    held: Option<Nusd>,
    /// The provider claims what no voucher backs: not used any more.
    retired: bool,
    /// The provider is not done with it: passed over this often.
    rests: u32,
    /// How its count was found.
    count: Count,
}

/// How the count of a lane was found, so far as this run knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Count {
    /// By us; the provider may have delivered more, which was lost on the way.
    #[default]
    Ours,
    /// The provider signed the same. No order was made of it since.
    Agreed,
    /// The provider counted more, which one of our vouchers backed.
    Believed,
}

/// What is made of what a provider says of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Adopted {
    /// What the journal must know.
    pub record: Option<LaneRecord>,
    /// It says what its own signature or all vouchers are against.
    pub is_untrue: bool,
}

impl LaneBook {
    fn promised(&self) -> Nusd {
        let held = self.held.unwrap_or(Nusd::ZERO);
        self.charged.max(self.signed).max(self.earlier).max(held)
    }
}

/// A lane as the journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, borsh::BorshSerialize, borsh::BorshDeserialize)]
pub(crate) struct LaneRecord {
    pub channel: ChannelId,
    pub lane: Lane,
    pub charged: Nusd,
    pub lease_total: Nusd,
    pub lease_sequence: u64,
    pub retired: bool,
}

/// What a request asks of a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub price: Price,
    pub prompt_tokens_max: u32,
    /// As the client gave it.
    pub tokens_max: Option<u32>,
    pub context_tokens: u32,
    /// What the key's budget has left; before that is known, the most that may be spent at all.
    pub budget_left: Nusd,
}

/// The longest answer that can be paid, and the most it can cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub tokens_max: u32,
    pub cost_max: Nusd,
}

/// Why a request cannot be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Short {
    Budget {
        needed: Nusd,
    },
    /// The channel's deposit; more can be added.
    Room {
        needed: Nusd,
    },
    NoLane,
    NoChannel,
}

/// A lane held for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub lane: Lane,
    pub total_before: Nusd,
    /// Signed before, so that the first voucher must not be below it.
    pub signed: Nusd,
    /// Must be in the journal, durably, before anything is signed.
    pub lease: Option<LaneRecord>,
}

/// What a provider says of a lane, its voucher checked to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneClaim {
    pub lane: Lane,
    pub charged: Nusd,
    pub voucher: Option<Voucher>,
}

impl Ask {
    /// As much as the budget has.
    pub(crate) const ALL: Nusd = Nusd(u128::MAX);

    /// What it may cost: as little as will do, and as much as is asked for.
    pub(crate) fn bounds(&self) -> (Nusd, Nusd) {
        let (least, wanted) = self.lengths();
        let cost = |tokens| self.price.charge(self.prompt_tokens_max, tokens);
        (cost(least), cost(wanted))
    }

    /// Tokens of the answer that will do, and that are asked for. A client that named a length gets it whole or
    /// not at all; otherwise the answer may be as long as the money lasts, but not shorter than one window.
    fn lengths(&self) -> (u32, u32) {
        let context = self.context_tokens.clamp(1, limits::COMPLETION_TOKENS_MAX);
        let wanted = self.tokens_max.unwrap_or(context).min(context);
        match self.tokens_max {
            Some(_) => (wanted, wanted),
            None => (WINDOW_TOKENS.min(wanted), wanted),
        }
    }

    /// How much of what is asked for can be paid with `room` in the channel.
    pub(crate) fn grant(&self, room: Nusd) -> Result<Grant, Short> {
        let cost = |tokens| self.price.charge(self.prompt_tokens_max, tokens);
        let affordable = |amount| affordable_tokens(&self.price, self.prompt_tokens_max, amount);
        let (least, wanted) = self.lengths();
        let (by_budget, by_room) = (affordable(self.budget_left), affordable(room));
        if by_budget < least {
            return Err(Short::Budget { needed: cost(least) });
        }
        if by_room < least {
            return Err(Short::Room { needed: cost(least) });
        }
        let tokens_max = wanted.min(by_budget).min(by_room);
        Ok(Grant { tokens_max, cost_max: cost(tokens_max) })
    }
}

impl Channels {
    /// What the ledger says of a channel to `provider`. A provider has one channel in use.
    pub(crate) fn set(&mut self, id: ChannelId, provider: Address, deposit: Nusd) {
        let channel = self.by_id.entry(id).or_default();
        channel.provider = Some(provider);
        channel.deposit = deposit;
        self.by_provider.insert(provider, id);
    }

    /// What the ledger says of a channel that another account pays into, and this gateway signs for. It is used only
    /// for that account's requests.
    pub(crate) fn set_own(&mut self, id: ChannelId, provider: Address, deposit: Nusd) {
        let channel = self.by_id.entry(id).or_default();
        channel.provider = Some(provider);
        channel.deposit = deposit;
        // Nobody tells all lanes of such a channel. Its provider looks to it that no vouchers exceed the deposit.
        self.synced(id);
    }

    /// The channel is closed or closing: nothing more is promised in it.
    pub(crate) fn forget(&mut self, id: ChannelId) {
        self.by_provider.retain(|_, channel| *channel != id);
    }

    pub(crate) fn of(&self, provider: &Address) -> Option<ChannelId> {
        self.by_provider.get(provider).copied()
    }

    /// What of the deposit is not promised.
    pub(crate) fn room(&self, id: ChannelId) -> Nusd {
        self.room_for(id, None)
    }

    /// What of the deposit is not promised on other lanes than this, nor charged on it: what was promised on it and not
    /// charged can be spent.
    fn room_for(&self, id: ChannelId, lane: Option<Lane>) -> Nusd {
        let Some(channel) = self.by_id.get(&id) else { return Nusd::ZERO };
        let taken = channel.lanes.iter().map(|(number, book)| match lane {
            Some(Lane(ours)) if ours == *number => book.charged,
            _ => book.promised(),
        });
        channel.deposit.saturating_sub(taken.sum())
    }

    /// Takes an idle lane for a request.
    pub(crate) fn hold(&mut self, id: ChannelId, ask: &Ask) -> Result<(Grant, Held), Short> {
        let lane = self.idle_lane(id)?;
        let grant = ask.grant(self.room_for(id, Some(lane)))?;
        let cost_max = grant.cost_max;
        let channel = self.by_id.get_mut(&id).ok_or(Short::NoChannel)?;
        let book = channel.lanes.entry(lane.0).or_default();
        let end = book.charged.saturating_add(cost_max).max(book.signed);
        let used_up = end > book.lease_total
            || book.sequence.saturating_add(LEASE_SEQUENCES / 2) > book.lease_sequence;
        let lease = used_up.then(|| {
            let ahead = Nusd(cost_max.0.saturating_mul(LEASE_REQUESTS));
            book.lease_total = end.saturating_add(ahead);
            book.lease_sequence = book.sequence.saturating_add(LEASE_SEQUENCES);
            book.record(id, lane)
        });
        book.held = Some(end);
        Ok((grant, Held { lane, total_before: book.charged, signed: book.signed, lease }))
    }

    /// The next voucher of a lane. `None` if `total` is above its lease, which a held lane's cannot be.
    pub(crate) fn voucher(&mut self, id: ChannelId, lane: Lane, total: Nusd) -> Option<Voucher> {
        let book = self.by_id.get_mut(&id)?.lanes.get_mut(&lane.0)?;
        let total = total.max(book.signed);
        let sequence = book.sequence.checked_add(1)?;
        if total > book.lease_total || sequence > book.lease_sequence {
            return None;
        }
        (book.signed, book.sequence) = (total, sequence);
        Some(Voucher { channel: id, lane, sequence, total })
    }

    /// Gives a held lane back, charged up to `charged`.
    pub(crate) fn release(&mut self, id: ChannelId, lane: Lane, charged: Nusd) {
        if let Some(book) = self.lane_mut(id, lane) {
            book.held = None;
            book.charged = book.charged.max(charged);
        }
    }

    /// An order was made on a lane and has ended: whether its provider signed what we count, or may count more.
    pub(crate) fn ended(&mut self, id: ChannelId, lane: Lane, is_agreed: bool) {
        if let Some(book) = self.lane_mut(id, lane) {
            book.count = match (is_agreed, book.count) {
                (true, _) => Count::Agreed,
                (false, Count::Believed) => Count::Believed,
                (false, Count::Ours | Count::Agreed) => Count::Ours,
            };
        }
    }

    /// The provider is not done with an idle lane, so that another one is better.
    pub(crate) fn rest(&mut self, id: ChannelId, lane: Lane) {
        if let Some(book) = self.lane_mut(id, lane) {
            book.rests = RESTS;
        }
    }

    /// The ledger has paid this much of a lane, which one of our vouchers must have backed.
    pub(crate) fn claimed(&mut self, id: ChannelId, lane: Lane, amount: Nusd) {
        let Some(channel) = self.by_id.get_mut(&id) else { return };
        let book = channel.lanes.entry(lane.0).or_default();
        if book.held.is_none() {
            book.charged = book.charged.max(amount);
        }
    }

    /// Takes over what a provider says of one lane: a higher count if one of our vouchers backs it, once until the two
    /// agree again, and not if they agreed on the last order.
    /// A lane in work is left alone: its request knows better.
    /// A voucher never runs further ahead than one window, so neither does such a count. Any other retires the lane.
    pub(crate) fn adopt(&mut self, id: ChannelId, claim: &LaneClaim) -> Adopted {
        let nothing = Adopted { record: None, is_untrue: false };
        if claim.lane.0 >= limits::LANES_MAX {
            return nothing;
        }
        let Some(channel) = self.by_id.get_mut(&id) else { return nothing };
        let book = channel.lanes.entry(claim.lane.0).or_default();
        if book.held.is_some() {
            return nothing;
        }
        let before = book.record(id, claim.lane);
        if let Some(voucher) = &claim.voucher {
            book.signed = book.signed.max(voucher.total);
            book.sequence = book.sequence.max(voucher.sequence);
            book.lease_total = book.lease_total.max(voucher.total);
            book.lease_sequence = book.lease_sequence.max(voucher.sequence);
        }
        let backed = claim.voucher.map_or(Nusd::ZERO, |voucher| voucher.total);
        let is_untrue =
            claim.charged > book.charged && (claim.charged > backed || book.count != Count::Ours);
        if is_untrue {
            book.retired = true;
        } else if claim.charged > book.charged {
            book.charged = claim.charged;
            book.count = Count::Believed;
        }
        let record = book.record(id, claim.lane);
        Adopted { record: (record != before).then_some(record), is_untrue }
    }

    /// The provider has told all it holds: an earlier run's leases bind nothing more.
    pub(crate) fn synced(&mut self, id: ChannelId) {
        for book in self.by_id.get_mut(&id).into_iter().flat_map(|c| c.lanes.values_mut()) {
            book.earlier = Nusd::ZERO;
        }
    }

    /// Restores a lane from the journal.
    pub(crate) fn restore(&mut self, record: &LaneRecord) {
        let channel = self.by_id.entry(record.channel).or_default();
        let book = channel.lanes.entry(record.lane.0).or_default();
        *book = LaneBook {
            charged: record.charged,
            signed: record.charged,
            sequence: record.lease_sequence,
            lease_total: record.lease_total,
            lease_sequence: record.lease_sequence,
            earlier: record.lease_total,
            held: None,
            retired: record.retired,
            rests: 0,
            count: Count::Ours,
        };
    }

    /// Everything the journal must restate.
    pub(crate) fn records(&self) -> Vec<LaneRecord> {
        self.by_id
            .iter()
            .flat_map(|(&id, channel)| {
                channel.lanes.iter().map(move |(&lane, book)| book.record(id, Lane(lane)))
            })
            .collect()
    }

    /// Deposit, promised, charged and used lanes of each channel in use.
    pub(crate) fn totals(&self) -> Vec<ChannelTotals> {
        self.by_provider
            .iter()
            .filter_map(|(&provider, &id)| {
                let channel = self.by_id.get(&id)?;
                Some(ChannelTotals {
                    id,
                    provider,
                    deposit: channel.deposit,
                    promised: channel.lanes.values().map(LaneBook::promised).sum(),
                    charged: channel.lanes.values().map(|lane| lane.charged).sum(),
                    lanes: u32::try_from(channel.lanes.len()).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }

    /// The lowest lane that is not in use, retired or resting; a resting one if there is no other.
    fn idle_lane(&mut self, id: ChannelId) -> Result<Lane, Short> {
        let lanes = &mut self.by_id.get_mut(&id).ok_or(Short::NoChannel)?.lanes;
        let mut resting = None;
        for lane in 0..limits::LANES_MAX {
            let Some(book) = lanes.get_mut(&lane) else { return Ok(Lane(lane)) };
            if book.held.is_some() || book.retired {
                continue;
            }
            if book.rests == 0 {
                return Ok(Lane(lane));
            }
            book.rests -= 1;
            resting.get_or_insert(Lane(lane));
        }
        resting.ok_or(Short::NoLane)
    }

    fn lane_mut(&mut self, id: ChannelId, lane: Lane) -> Option<&mut LaneBook> {
        self.by_id.get_mut(&id)?.lanes.get_mut(&lane.0)
    }
}

/// A channel's sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelTotals {
    pub id: ChannelId,
    pub provider: Address,
    pub deposit: Nusd,
    pub promised: Nusd,
    pub charged: Nusd,
    pub lanes: u32,
}

impl LaneBook {
    fn record(&self, channel: ChannelId, lane: Lane) -> LaneRecord {
        LaneRecord {
            channel,
            lane,
            charged: self.charged,
            lease_total: self.lease_total,
            lease_sequence: self.lease_sequence,
            retired: self.retired,
        }
    }
}
