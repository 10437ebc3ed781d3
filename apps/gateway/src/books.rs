//! The gateway's books: keys, channels and receipts in memory, every change of them in the journal.
//!
//! One lock covers the change and its record, so that the journal's order is the order in which
//! things happened. Replaying the journal gives the same books, less what was held for requests
//! that were in work.

mod index;
pub(crate) mod member;
mod record;
mod seal;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use store::{Journal, JournalConfig, JournalError, RecordId};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::oneshot;
use types::{
    Address, ChannelId, Lane, Nusd, RequestId, TimeMs, channel::Voucher, hash::to_hex, limits,
    sign::Sign,
};
use wire::chain::LaneView;

pub use self::record::Bought;
pub(crate) use self::record::Settlement;
pub(crate) use self::seal::unsigned;
use self::{
    index::Index,
    member::unbooked,
    record::{RECORD_BYTES_MAX, Record, settlement_of},
};
use crate::{
    accounts::{self, Accounts, Budget, KeyId, KeyLimits, KeyRecord, NotAdmitted, check_format},
    error::{GatewayError, KeyError, ReceiptLookupError},
    fleet::{Outbox, Settled},
    lanes::{Ask, ChannelTotals, Channels, Grant, Held, LaneClaim, Short},
    purses::Purses,
    views::{KeyView, RequestView, StoredReceipt, UsageView},
};

/// A segment of the journal is closed at this size, and the books restated in the next.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Finished requests that are shown without reading receipts back.
const RECENT_MAX: usize = 1_000;
/// How an attempt ended, as far as it concerns its key and not its receipt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// Delivered, against the rate.
    pub tokens: u64,
    /// The time of rates.
    pub steady: TimeMs,
    /// The request is over with it.
    pub is_last: bool,
}

#[derive(Default)]
struct State {
    accounts: Accounts,
    channels: Channels,
    receipts: Index,
    recent: VecDeque<RequestView>,
    in_flight: u32,
    /// Leases of lanes that may not be durable yet.
    leases: BTreeMap<(ChannelId, Lane), RecordId>,
    /// If keys are in a database: what stands in for `accounts`.
    member: Option<Member>,
}

/// What a gateway knows of its requests whose keys are in a database.
#[derive(Default)]
pub(crate) struct Member {
    purses: Purses,
    outbox: Outbox,
    names: HashMap<KeyId, String>,
    /// The journal says that keys are in a database.
    has_joined: bool,
}

impl Member {
    /// With the names of the keys, for requests that ended in an earlier run.
    pub(crate) fn new(names: HashMap<KeyId, String>) -> Member {
        Member { names, ..Member::default() }
    }
}

/// See the module.
pub(crate) struct Books {
    journal: Journal,
    state: Mutex<State>,
    /// Signs what was left to be signed when it is read.
    payer: Option<Arc<dyn Sign>>,
}

impl std::fmt::Debug for Books {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Books").finish_non_exhaustive()
    }
}

/// What of a key's budget is held for an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    pub request: RequestId,
    pub grant: Grant,
}

/// An attempt that may begin to spend in a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub reserved: Reserved,
    pub held: Held,
    /// Must be durable before anything is signed.
    pub lease: Option<RecordId>,
    /// What is left of the channel for other requests.
    pub room: Nusd,
}

/// Why a request cannot begin to spend.
#[derive(Debug)]
pub(crate) enum NotOpened {
    Short { short: Short, budget: Budget, left: Nusd },
    Journal(JournalError),
}

impl Books {
    #[cfg(test)]
    pub(crate) fn open(folder: &Path) -> Result<Books, GatewayError> {
        Books::open_as(folder, None)
    }

    /// The books in `folder`; of a member of a fleet, if its keys are in a database.
    pub(crate) fn open_as(folder: &Path, member: Option<Member>) -> Result<Books, GatewayError> {
        let mut state = State { member, ..State::default() };
        let mut broken = None;
        let config = JournalConfig { folder: folder.to_owned() };
        let journal = Journal::open(&config, |id, bytes| {
            match limits::decode::<Record>(bytes, RECORD_BYTES_MAX) {
                Ok(record) => state.replay(id, record),
                Err(source) => {
                    broken.get_or_insert(source);
                }
            }
        })
        .map_err(|source| GatewayError::Journal { source })?;
        match broken {
            Some(source) => Err(GatewayError::Record { source }),
            None => Ok(Books { journal, state: Mutex::new(state), payer: None }),
        }
    }

    /// The same, with the key by which its gateway signs.
    pub(crate) fn signed_by(self, payer: Arc<dyn Sign>) -> Books {
        Books { payer: Some(payer), ..self }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under the lock leaves the state half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, record: &Record) -> Result<RecordId, JournalError> {
        // Writing to memory cannot fail; an empty record would be refused when it is replayed.
        let bytes = borsh::to_vec(record).unwrap_or_default();
        self.append_bytes(&bytes)
    }

    /// Appends a record. One that could not be read again would keep the gateway from starting.
    fn append_bytes(&self, bytes: &[u8]) -> Result<RecordId, JournalError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(JournalError::TooLong { bytes: bytes.len(), bytes_max: RECORD_BYTES_MAX });
        }
        self.journal.append(bytes)
    }

    /// Whether a request may begin: what cannot be written down would be given away.
    fn check_journal(&self) -> Result<(), NotOpened> {
        self.journal.check().map_err(NotOpened::Journal)
    }

    /// Waits until a record would survive a power cut.
    pub(crate) async fn sync(&self, id: RecordId) -> Result<(), JournalError> {
        // The disk is not part of paused time.
        #[cfg(test)]
        let _still = crate::tests::TimeStandsStill::new();
        self.journal.sync(id).await
    }

    // Keys.

    /// Makes `key` known under `name`; neither may be in use.
    pub(crate) fn put_key(
        &self,
        name: &str,
        key: &str,
        limits: KeyLimits,
        now: TimeMs,
        keys_max: usize,
    ) -> Result<(), KeyError> {
        check_format(key)?;
        let mut state = self.lock();
        let record = state.accounts.plan(key, name, limits, now, keys_max)?;
        self.restate_key(&mut state, record)
    }

    /// Changes the limits of a key. What was used stays used.
    pub(crate) fn limit_key(
        &self,
        name: &str,
        change: impl FnOnce(&KeyLimits) -> Result<KeyLimits, KeyError>,
    ) -> Result<(), KeyError> {
        self.change_key(name, |record| {
            record.limits = change(&record.limits)?;
            record.limits.check()
        })
    }

    /// Ends a key. Requests in work end as they would have.
    pub(crate) fn revoke_key(&self, name: &str, now: TimeMs) -> Result<(), KeyError> {
        self.change_key(name, |record| {
            record.revoked_at = Some(now);
            Ok(())
        })
    }

    fn change_key(
        &self,
        name: &str,
        change: impl FnOnce(&mut KeyRecord) -> Result<(), KeyError>,
    ) -> Result<(), KeyError> {
        let mut state = self.lock();
        let known = state.accounts.id_of(name).and_then(|id| state.accounts.record(&id).cloned());
        let mut record = known.ok_or_else(|| KeyError::Unknown { name: name.into() })?;
        change(&mut record)?;
        self.restate_key(&mut state, record)
    }

    fn restate_key(&self, state: &mut State, record: KeyRecord) -> Result<(), KeyError> {
        if state.accounts.record(&record.id) != Some(&record) {
            self.append(&Record::Key(Box::new(record.clone())))
                .map_err(|source| KeyError::Journal { source })?;
            state.accounts.restore(record);
        }
        Ok(())
    }

    pub(crate) fn key_named(&self, name: &str) -> Option<KeyId> {
        self.lock().accounts.id_of(name)
    }

    /// The keys of this name, revoked ones too.
    pub(crate) fn keys_named(&self, name: &str) -> Vec<KeyId> {
        self.lock().accounts.ids_of(name)
    }

    /// Whether the gateway may lose more for the sake of the broken answers of a request's key.
    pub(crate) fn may_lose(&self, key: &KeyId, request: &RequestId) -> bool {
        let state = self.lock();
        match &state.member {
            None => state.accounts.may_lose(key),
            Some(member) => member.purses.may_lose(request),
        }
    }

    /// What a key that can be used may use.
    pub(crate) fn limits_of(&self, id: &KeyId, now: TimeMs) -> Result<KeyLimits, NotAdmitted> {
        self.lock().accounts.admits(id, now).map(|record| record.limits.clone())
    }

    /// Whether a key can be used.
    pub(crate) fn admits(&self, id: &KeyId, now: TimeMs) -> Result<(), NotAdmitted> {
        self.lock().accounts.admits(id, now).map(drop)
    }

    pub(crate) fn key_view(&self, id: &KeyId, now: TimeMs) -> Option<KeyView> {
        self.lock().accounts.view(id, now)
    }

    pub(crate) fn keys(&self, now: TimeMs) -> Vec<KeyView> {
        self.lock().accounts.views(now)
    }

    /// Counts a request in, within the bounds per key and over all.
    pub(crate) fn enter(
        &self,
        key: &KeyId,
        entry: &accounts::Entry<'_>,
        per_key_max: u32,
        all_max: u32,
    ) -> Result<(), (NotAdmitted, &'static str)> {
        let mut state = self.lock();
        if state.in_flight >= all_max {
            return Err((NotAdmitted::TooMany, "on this gateway"));
        }
        state.accounts.enter(key, entry, per_key_max).map_err(|why| (why, "with this key"))?;
        state.in_flight += 1;
        Ok(())
    }

    /// Requests that were let in and are not done.
    pub(crate) fn in_flight(&self) -> u32 {
        self.lock().in_flight
    }

    /// Ends a request that entered with an estimate of its prompt.
    /// Whether its end must be told to the database.
    pub(crate) fn leave(&self, key: &KeyId, request: &RequestId, prompt_tokens: u32) -> bool {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        let Some(member) = &mut state.member else {
            state.accounts.leave(key, prompt_tokens);
            return false;
        };
        let is_news = member.purses.leave(request);
        if is_news {
            member.outbox.push_end(*request, *key);
        }
        is_news
    }

    // Channels.

    pub(crate) fn set_channel(&self, id: ChannelId, provider: Address, deposit: Nusd) {
        self.lock().channels.set(id, provider, deposit);
    }

    /// Takes over what the ledger has paid of a channel's lanes.
    pub(crate) fn set_claimed(&self, id: ChannelId, lanes: &[LaneView]) {
        let mut state = self.lock();
        for view in lanes {
            state.channels.claimed(id, view.lane, view.claimed);
        }
    }

    /// Takes over what the ledger says of a caller's own channel.
    pub(crate) fn set_own_channel(
        &self,
        id: ChannelId,
        provider: Address,
        deposit: Nusd,
        lanes: &[LaneView],
    ) {
        self.lock().channels.set_own(id, provider, deposit);
        self.set_claimed(id, lanes);
    }

    /// What of a channel's deposit is not promised.
    pub(crate) fn room(&self, id: ChannelId) -> Nusd {
        self.lock().channels.room(id)
    }

    /// The provider says that an idle lane is still in use.
    pub(crate) fn rest_lane(&self, id: ChannelId, lane: Lane) {
        self.lock().channels.rest(id, lane);
    }

    pub(crate) fn forget_channel(&self, id: ChannelId) {
        self.lock().channels.forget(id);
    }

    pub(crate) fn channel_of(&self, provider: &Address) -> Option<ChannelId> {
        self.lock().channels.of(provider)
    }

    pub(crate) fn channels(&self) -> Vec<ChannelTotals> {
        self.lock().channels.totals()
    }

    /// Takes over what a provider says of lanes. `complete`: it told all it holds. Whether it said something that cannot be.
    pub(crate) fn adopt(
        &self,
        channel: ChannelId,
        claims: &[LaneClaim],
        complete: bool,
    ) -> Result<bool, JournalError> {
        let mut state = self.lock();
        let mut is_untrue = false;
        for claim in claims {
            let adopted = state.channels.adopt(channel, claim);
            is_untrue |= adopted.is_untrue;
            if let Some(record) = adopted.record {
                self.append(&Record::Lane(record))?;
            }
        }
        if complete {
            state.channels.synced(channel);
        }
        Ok(is_untrue)
    }

    /// The provider of an order that has ended without a record may count something for it.
    pub(crate) fn uncertain(&self, channel: ChannelId, lane: Lane) {
        self.lock().channels.ended(channel, lane, false);
    }

    // Requests.

    /// Reserves the most a request can cost, in the key's budget and in the channel, and takes a
    /// lane. Undone by [`Books::cancel`], completed by [`Books::settle`].
    pub(crate) fn open_request(
        &self,
        (key, request): (&KeyId, RequestId),
        channel: ChannelId,
        ask: &Ask,
        now: TimeMs,
    ) -> Result<Opened, NotOpened> {
        self.check_journal()?;
        let mut state = self.lock();
        let (budget, left) = state.left(key, &request, now);
        let short = |short| NotOpened::Short { short, budget, left };
        let ask = Ask { budget_left: left.min(ask.budget_left), ..*ask };
        let (grant, held) = state.channels.hold(channel, &ask).map_err(short)?;
        let lane = (channel, held.lane);
        if let Some(lease) = held.lease {
            match self.append(&Record::Lane(lease)) {
                Ok(id) => drop(state.leases.insert(lane, id)),
                Err(error) => {
                    // Its lease is above what the journal has. But the journal takes nothing more, so that nobody gets it.
                    state.channels.release(channel, held.lane, held.total_before);
                    return Err(NotOpened::Journal(error));
                }
            }
        }
        // That of an order that was given up may not be durable yet.
        let lease = state.leases.get(&lane).copied().filter(|id| !self.journal.is_durable(*id));
        if lease.is_none() {
            state.leases.remove(&lane);
        }
        let reserved = state.reserve(key, request, grant);
        Ok(Opened { reserved, held, lease, room: state.channels.room(channel) })
    }

    /// Reserves the most a request can cost in the key's budget alone: nobody in the network is paid. Undone and
    /// completed as above.
    pub(crate) fn reserve(
        &self,
        (key, request): (&KeyId, RequestId),
        ask: &Ask,
        now: TimeMs,
    ) -> Result<Reserved, NotOpened> {
        self.check_journal()?;
        let mut state = self.lock();
        let (budget, left) = state.left(key, &request, now);
        let ask = Ask { budget_left: left.min(ask.budget_left), ..*ask };
        let grant = ask.grant(Nusd(u128::MAX));
        let grant = grant.map_err(|short| NotOpened::Short { short, budget, left })?;
        Ok(state.reserve(key, request, grant))
    }

    /// The next voucher of a held lane.
    pub(crate) fn voucher(&self, channel: ChannelId, lane: Lane, total: Nusd) -> Option<Voucher> {
        self.lock().channels.voucher(channel, lane, total)
    }

    /// Gives back what was reserved for a request of which nothing was delivered and nothing is
    /// to be recorded.
    pub(crate) fn cancel(
        &self,
        key: &KeyId,
        (channel, lane, total_before): (ChannelId, Lane, Nusd),
        reserved: &Reserved,
    ) {
        let mut state = self.lock();
        state.channels.release(channel, lane, total_before);
        state.unreserve(key, reserved);
    }

    /// Closes an attempt: receipt, lane and budget in one record, and its tokens against the key's rate. When
    /// this returns, a kill of the process cannot lose it. If keys are in a database, what is returned is told
    /// when that has booked it.
    pub(crate) fn settle(
        &self,
        reserved: &Reserved,
        settlement: Settlement,
        ended: Ended,
    ) -> Result<Option<oneshot::Receiver<()>>, JournalError> {
        let record = Record::Settled(Box::new(settlement));
        let bytes = borsh::to_vec(&record).unwrap_or_default();
        let Record::Settled(settlement) = record else { return Ok(None) };
        let mut state = self.lock();
        let appended = self.append_bytes(&bytes);
        let ack = &settlement.receipt.acknowledgement.value;
        // Whether or not it could be recorded: it is owed.
        state.channels.release(ack.channel, ack.lane, ack.lane_total);
        let stated = settlement.receipt.report.as_ref().map(|report| report.value.lane_total);
        state.channels.ended(ack.channel, ack.lane, stated == Some(ack.lane_total));
        state.unreserve(&settlement.key, reserved);
        let Some(member) = &mut state.member else {
            state.accounts.count_tokens(&settlement.key, ended.steady, ended.tokens);
            match appended {
                Ok(record) => state.settled(record, *settlement),
                Err(error) => {
                    state.bill(&settlement);
                    return Err(error);
                }
            }
            return Ok(None);
        };
        let lost = settlement.receipt.cost().saturating_sub(settlement.billed);
        member.purses.bill(&reserved.request, settlement.billed, lost, ended.is_last);
        let record = appended?;
        let (told, booked) = oneshot::channel();
        member.outbox.push(Settled {
            tokens: ended.tokens,
            is_last: ended.is_last,
            booked: Some(told),
            ..unbooked(record, &settlement)
        });
        state.settled(record, *settlement);
        Ok(Some(booked))
    }

    /// Whether an attempt at `id` was settled, as far back as receipts are known.
    pub(crate) fn has_settled(&self, id: &RequestId) -> bool {
        self.lock().receipts.contains(id)
    }

    pub(crate) fn recent(&self, n: usize) -> Vec<RequestView> {
        self.lock().recent.iter().rev().take(n).cloned().collect()
    }

    /// The receipt of `id`; of a request of certain keys only, if they are given.
    pub(crate) fn receipt(
        &self,
        id: RequestId,
        keys: Option<&[KeyId]>,
    ) -> Result<StoredReceipt, ReceiptLookupError> {
        let (earlier, last) = self.settlements(id, keys)?;
        let earlier = earlier.into_iter().map(|part| self.sealed(id, part));
        Ok(stored_receipt(earlier.collect::<Result<_, _>>()?, self.sealed(id, last)?))
    }

    /// The requests that gave something and ended at `from` or later, and before `to`, by age.
    pub(crate) fn ended_between(&self, from: TimeMs, to: TimeMs) -> Vec<RequestId> {
        self.lock().receipts.ended_between(from, to)
    }

    /// What `id` used; of a request of certain keys only, if they are given.
    pub(crate) fn usage(
        &self,
        id: RequestId,
        keys: Option<&[KeyId]>,
    ) -> Result<UsageView, ReceiptLookupError> {
        let (earlier, settlement) = self.settlements(id, keys)?;
        let name = self.lock().name_of(&settlement.key);
        Ok(usage_view(id, &earlier, &settlement, name))
    }

    /// Reads back how `id` was settled: the parts that were gone on with, and the last.
    fn settlements(
        &self,
        id: RequestId,
        keys: Option<&[KeyId]>,
    ) -> Result<(Vec<Settlement>, Settlement), ReceiptLookupError> {
        let unknown = || ReceiptLookupError::Unknown { id };
        let records = self.lock().receipts.records(&id).ok_or_else(unknown)?;
        let parts = records.into_iter().map(|record| self.settlement(id, record));
        let mut parts = parts.collect::<Result<Vec<Settlement>, _>>()?;
        if parts.iter().any(|part| keys.is_some_and(|keys| !keys.contains(&part.key))) {
            return Err(unknown());
        }
        let last = parts.pop().ok_or_else(unknown)?;
        Ok((parts, last))
    }

    fn settlement(
        &self,
        id: RequestId,
        record: RecordId,
    ) -> Result<Settlement, ReceiptLookupError> {
        let bytes = self.journal.read(record).map_err(|source| match source {
            JournalError::Pruned => ReceiptLookupError::Unknown { id },
            source => ReceiptLookupError::Journal { id, source },
        })?;
        match settlement_of(&bytes) {
            Ok(Some(settlement)) => Ok(settlement),
            Ok(None) => Err(ReceiptLookupError::Unknown { id }),
            Err(source) => Err(ReceiptLookupError::Damaged { id, source }),
        }
    }

    /// Restates the books in a new segment when the current one is full, and removes segments and
    /// index entries that are older than the retention. Blocks for the disk.
    pub(crate) fn tidy(&self, now: TimeMs, retention_ms: u64) -> Result<(), JournalError> {
        if self.journal.segment_bytes() > SEGMENT_BYTES_MAX {
            self.restate()?;
        }
        if let Some(before) = SystemTime::now().checked_sub(Duration::from_millis(retention_ms)) {
            self.journal.prune(before)?;
        }
        self.lock().receipts.forget(TimeMs(now.0.saturating_sub(retention_ms)));
        Ok(())
    }

    fn restate(&self) -> Result<(), JournalError> {
        let state = self.lock();
        let keys = state.accounts.records().cloned().map(|record| Record::Key(Box::new(record)));
        let lanes = state.channels.records().into_iter().map(Record::Lane);
        let has_joined = state.member.as_ref().is_some_and(|member| member.has_joined);
        let joined = has_joined.then_some(Record::Joined { is_new: false });
        let records: Vec<Vec<u8>> = std::iter::once(Record::Restated)
            .chain(joined)
            .chain(keys)
            .chain(lanes)
            .map(|record| borsh::to_vec(&record).unwrap_or_default())
            .collect();
        self.journal.rotate(&records).map(drop)
    }
}

/// What a request used, by its parts: those that were gone on with, and the last.
pub(crate) fn usage_view(
    request_id: RequestId,
    earlier: &[Settlement],
    settlement: &Settlement,
    key: String,
) -> UsageView {
    let ack = &settlement.receipt.acknowledgement.value;
    let first = earlier.first().unwrap_or(settlement);
    let parts = || earlier.iter().chain([settlement]);
    let delivered = parts().map(|part| part.receipt.acknowledgement.value.delivered_tokens);
    UsageView {
        request_id,
        started_at: rfc3339(settlement.started_at),
        ended_at: rfc3339(ack.ended_at),
        key,
        model: settlement.model_name.clone(),
        model_id: ack.model,
        provider: ack.provider,
        prompt_tokens: first.receipt.acknowledgement.value.prompt_tokens,
        completion_tokens: delivered.fold(0, u32::saturating_add),
        counted: ack.counted,
        finish: ack.finish,
        upstream: settlement.bought.as_ref().map(|bought| bought.upstream.clone()),
        cost_nusd: parts().map(|part| part.billed).sum(),
        duration_ms: ack.ended_at.ms_since(settlement.started_at),
    }
}

/// The receipts of a request, by its parts.
fn stored_receipt(earlier: Vec<Settlement>, last: Settlement) -> StoredReceipt {
    let earlier = earlier.into_iter().map(|part| part.receipt).collect();
    let Settlement { receipt, salt, bought, .. } = last;
    StoredReceipt { receipt, earlier, salt: to_hex(&salt), bought }
}

/// A time of day as RFC 3339 has it, UTC.
fn rfc3339(at: TimeMs) -> String {
    let nanos = i128::from(at.0).saturating_mul(1_000_000);
    let date = OffsetDateTime::from_unix_timestamp_nanos(nanos);
    // A time after the year 9999 is no time of a clock.
    date.ok().and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_default()
}

impl State {
    /// What a request may spend, and which budget says so.
    fn left(&self, key: &KeyId, request: &RequestId, now: TimeMs) -> (Budget, Nusd) {
        match &self.member {
            None => self.accounts.left(key, now),
            Some(member) => member.purses.left(request),
        }
    }

    fn reserve(&mut self, key: &KeyId, request: RequestId, grant: Grant) -> Reserved {
        match &mut self.member {
            None => self.accounts.reserve(key, grant.cost_max),
            Some(member) => member.purses.hold(&request, grant.cost_max),
        }
        Reserved { request, grant }
    }

    fn unreserve(&mut self, key: &KeyId, reserved: &Reserved) {
        let Reserved { request, grant } = reserved;
        match &mut self.member {
            None => self.accounts.unreserve(key, grant.cost_max),
            Some(member) => member.purses.release(request, grant.cost_max),
        }
    }

    fn replay_settled(&mut self, id: RecordId, settlement: Settlement) {
        let ack = &settlement.receipt.acknowledgement.value;
        self.channels.release(ack.channel, ack.lane, ack.lane_total);
        if let Some(member) = &mut self.member {
            member.outbox.push(unbooked(id, &settlement));
        }
        self.settled(id, settlement);
    }

    fn replay(&mut self, id: RecordId, record: Record) {
        match record {
            Record::Restated => {
                self.accounts.clear();
                self.channels = Channels::default();
            }
            Record::OldKey(record) => self.accounts.restore(record.into()),
            Record::Key(record) => self.accounts.restore(*record),
            Record::Lane(record) => self.channels.restore(&record),
            Record::OldSettled(settlement) => self.replay_settled(id, (*settlement).into()),
            Record::Settled(settlement) => self.replay_settled(id, *settlement),
            Record::Joined { is_new } => {
                if let Some(member) = &mut self.member {
                    member.has_joined = true;
                    if is_new {
                        member.outbox.clear();
                    }
                }
            }
            Record::Booked { request, attempt } => {
                if let Some(member) = &mut self.member {
                    member.outbox.booked_before(request, attempt);
                }
            }
        }
    }

    fn name_of(&self, key: &KeyId) -> String {
        let name = match &self.member {
            None => self.accounts.record(key).map(|record| &record.name),
            Some(member) => member.names.get(key),
        };
        name.cloned().unwrap_or_default()
    }

    /// Takes what an answer costs from its key, and what it cost the gateway from what that may lose.
    fn bill(&mut self, settlement: &Settlement) {
        let ended_at = settlement.receipt.acknowledgement.value.ended_at;
        self.accounts.bill(&settlement.key, ended_at, settlement.billed);
        self.accounts
            .lose(&settlement.key, settlement.receipt.cost().saturating_sub(settlement.billed));
    }

    /// Bills the key and remembers where the receipt is.
    fn settled(&mut self, record: RecordId, settlement: Settlement) {
        self.bill(&settlement);
        let ack = &settlement.receipt.acknowledgement.value;
        self.receipts.add(ack.request_id, record, ack.ended_at, settlement.answered);
        if settlement.answered {
            self.recent.push_back(RequestView {
                id: ack.request_id,
                key: self.name_of(&settlement.key),
                model: settlement.model_name,
                model_id: ack.model,
                provider: ack.provider,
                upstream: settlement.bought.map(|bought| bought.upstream),
                prompt_tokens: ack.prompt_tokens,
                completion_tokens: ack.delivered_tokens,
                cost: settlement.billed,
                finish: ack.finish,
                started_at: settlement.started_at,
                duration_ms: settlement.duration_ms,
                attempt: ack.attempt,
            });
            if self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
        }
    }
}
