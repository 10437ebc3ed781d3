//! What is owed: lanes, the attempts that were served, and where receipts lie. Rebuilt by applying
//! the journal's records in order; while running, every record is applied as it is appended, by the
//! same function.
//!
//! Invariants: on no lane is more charged than its best voucher promises, except by a payer's own
//! statement covered by that voucher; a lane's charge and voucher never fall, but for the end of a
//! request, which replaces an estimate by the count.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use borsh::{BorshDeserialize, BorshSerialize};
use store::RecordId;
use types::{
    ChannelId, Lane, Nusd, RequestId, TimeMs,
    channel::Voucher,
    receipt::{Acknowledgement, Receipt, ServiceReport},
    sign::Signed,
};
use wire::{chain::ChannelView, serve::LaneState};

use crate::{audits::Audits, record::Record};

/// One attempt to answer one request.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, BorshSerialize, BorshDeserialize,
)]
pub struct Attempt {
    pub request_id: RequestId,
    pub number: u16,
}

/// A receipt as the provider holds it: without an acknowledgement the payer never answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredReceipt {
    pub report: Signed<ServiceReport>,
    pub acknowledgement: Option<Signed<Acknowledgement>>,
}

impl StoredReceipt {
    /// What both sides signed, if both did.
    pub fn receipt(self, chain_id: types::ChainId) -> Option<Receipt> {
        let acknowledgement = self.acknowledgement.clone()?;
        Some(self.with(chain_id, acknowledgement))
    }

    /// With what the payer signed, wherever that is known from.
    pub(crate) fn with(
        self,
        chain_id: types::ChainId,
        acknowledgement: Signed<Acknowledgement>,
    ) -> Receipt {
        Receipt { chain_id, report: Some(self.report), acknowledgement }
    }
}

/// A lane of a channel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneKey {
    pub(crate) channel: ChannelId,
    pub(crate) lane: Lane,
}

impl LaneKey {
    pub(crate) fn of(voucher: &Voucher) -> LaneKey {
        LaneKey { channel: voucher.channel, lane: voucher.lane }
    }

    fn all_of(channel: ChannelId) -> RangeInclusive<LaneKey> {
        LaneKey { channel, lane: Lane(0) }..=LaneKey { channel, lane: Lane(u32::MAX) }
    }
}

/// What is known of one lane.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LaneBook {
    pub(crate) charged: Nusd,
    /// The largest.
    pub(crate) voucher: Option<Signed<Voucher>>,
    /// The record that holds the voucher; perhaps in an older segment, which is durable.
    pub(crate) record: Option<RecordId>,
    /// Whether a request runs on it. Not in the journal: nothing runs after a restart.
    pub(crate) busy: bool,
}

impl LaneBook {
    pub(crate) fn promised(&self) -> Nusd {
        self.voucher.as_ref().map_or(Nusd::ZERO, |voucher| voucher.value.total)
    }

    /// Takes `voucher` if it promises more, or the same later.
    fn keep(&mut self, voucher: Signed<Voucher>, record: RecordId) {
        let rank = |voucher: &Voucher| (voucher.total, voucher.sequence);
        let better = |kept: &Signed<Voucher>| rank(&voucher.value) > rank(&kept.value);
        if self.voucher.as_ref().is_none_or(better) {
            self.voucher = Some(voucher);
            self.record = Some(record);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct ReceiptPlace {
    ended_at: TimeMs,
    report: RecordId,
    acknowledgement: Option<RecordId>,
}

/// All of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Books {
    lanes: BTreeMap<LaneKey, LaneBook>,
    guards: BTreeMap<Attempt, TimeMs>,
    receipts: BTreeMap<Attempt, ReceiptPlace>,
    audits: Audits,
}

impl Books {
    /// Applies a record that stands in the journal at `id`.
    pub(crate) fn apply(&mut self, id: RecordId, record: Record) {
        match record {
            Record::Opened { attempt, at, total_before, voucher } => {
                self.guards.insert(attempt, at);
                let lane = self.lanes.entry(LaneKey::of(&voucher.value)).or_default();
                lane.charged = lane.charged.max(total_before);
                lane.keep(voucher, id);
            }
            Record::Voucher { voucher } => {
                self.lanes.entry(LaneKey::of(&voucher.value)).or_default().keep(voucher, id);
            }
            Record::Progress { channel, lane, charged } => {
                let lane = self.lanes.entry(LaneKey { channel, lane }).or_default();
                lane.charged = lane.charged.max(charged);
            }
            Record::Ended { report } => {
                self.end(id, &report.value);
                self.audits.ended(&report);
            }
            Record::Acknowledged { acknowledgement } => {
                let ack = &acknowledgement.value;
                let attempt = Attempt { request_id: ack.request_id, number: ack.attempt };
                if let Some(place) = self.receipts.get_mut(&attempt) {
                    place.acknowledgement = Some(id);
                }
                self.audits.acknowledged(attempt);
            }
            Record::Lane { channel, lane, charged, voucher } => {
                let lane = self.lanes.entry(LaneKey { channel, lane }).or_default();
                lane.charged = charged;
                voucher.into_iter().for_each(|voucher| lane.keep(voucher, id));
            }
            Record::Guard { attempt, at } => {
                self.guards.insert(attempt, at);
            }
            Record::Committing { root, part } => self.audits.commit(root, part),
            Record::Uncommitted { root } => self.audits.uncommit(root),
        }
    }

    fn end(&mut self, id: RecordId, report: &ServiceReport) {
        let key = LaneKey { channel: report.channel, lane: report.lane };
        self.lanes.entry(key).or_default().charged = report.lane_total;
        let attempt = Attempt { request_id: report.request_id, number: report.attempt };
        let place = ReceiptPlace { ended_at: report.ended_at, report: id, acknowledgement: None };
        self.receipts.insert(attempt, place);
    }

    pub(crate) fn lane(&self, key: LaneKey) -> Option<&LaneBook> {
        self.lanes.get(&key)
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = (LaneKey, &LaneBook)> {
        self.lanes.iter().map(|(key, lane)| (*key, lane))
    }

    /// The lanes of one channel, as the payer may ask for them.
    pub(crate) fn lane_states(&self, channel: ChannelId) -> Vec<LaneState> {
        let lanes = self.lanes.range(LaneKey::all_of(channel));
        lanes.map(|(key, lane)| state_of(key.lane, lane)).collect()
    }

    pub(crate) fn lane_state(&self, key: LaneKey) -> LaneState {
        state_of(key.lane, self.lanes.get(&key).unwrap_or(&LaneBook::default()))
    }

    pub(crate) fn set_busy(&mut self, key: LaneKey, busy: bool) {
        self.lanes.entry(key).or_default().busy = busy;
    }

    /// For as long as its receipt is kept: whoever knows the id of somebody else's request could otherwise have an answer of its
    /// own stand in the place of that one and of what opens it.
    pub(crate) fn was_served(&self, attempt: Attempt) -> bool {
        self.guards.contains_key(&attempt) || self.receipts.contains_key(&attempt)
    }

    pub(crate) fn guards_count(&self) -> usize {
        self.guards.len()
    }

    /// Promised on all lanes of `channel`, counting `total` for the lane `key`. What the chain has
    /// seen claimed counts where our own books are behind.
    pub(crate) fn promised_with(&self, channel: &ChannelView, key: LaneKey, total: Nusd) -> Nusd {
        let mut totals: BTreeMap<Lane, Nusd> =
            channel.lanes.iter().map(|lane| (lane.lane, lane.claimed)).collect();
        let ours = self.lanes.range(LaneKey::all_of(channel.id));
        for (lane, promised) in ours.map(|(key, lane)| (key.lane, lane.promised())) {
            let entry = totals.entry(lane).or_default();
            *entry = (*entry).max(promised);
        }
        let entry = totals.entry(key.lane).or_default();
        *entry = (*entry).max(total);
        totals.into_values().sum()
    }

    /// Charged on all lanes.
    pub(crate) fn earned(&self) -> Nusd {
        self.lanes.values().map(|lane| lane.charged).sum()
    }

    /// Where the parts of a receipt stand in the journal.
    pub(crate) fn receipt(&self, attempt: Attempt) -> Option<(RecordId, Option<RecordId>)> {
        self.receipts.get(&attempt).map(|place| (place.report, place.acknowledgement))
    }

    /// The latest receipts first.
    pub(crate) fn latest_receipts(&self, count: usize) -> Vec<Attempt> {
        let mut latest: Vec<(TimeMs, Attempt)> =
            self.receipts.iter().map(|(attempt, place)| (place.ended_at, *attempt)).collect();
        latest.sort_unstable_by(|a, b| b.cmp(a));
        latest.into_iter().take(count).map(|(_, attempt)| attempt).collect()
    }

    /// What can be audited, and what of it was committed to.
    pub(crate) fn audits(&self) -> &Audits {
        &self.audits
    }

    /// Forgets guards from before `guards_since`, receipts from before `receipts_since`, and what auditors can ask for
    /// from before `openings_since`.
    pub(crate) fn forget_before(
        &mut self,
        guards_since: TimeMs,
        receipts_since: TimeMs,
        openings_since: TimeMs,
    ) {
        self.guards.retain(|_, at| *at >= guards_since);
        self.receipts.retain(|_, place| place.ended_at >= receipts_since);
        self.audits.forget_before(openings_since);
    }

    /// The channels in which anything was ever charged or promised, and that were not forgotten.
    pub(crate) fn channels(&self) -> BTreeSet<ChannelId> {
        self.lanes.keys().map(|key| key.channel).collect()
    }

    /// Forgets the idle lanes of a channel that is closed: nothing of it can be claimed any more.
    pub(crate) fn forget_channel(&mut self, channel: ChannelId) {
        self.lanes.retain(|key, lane| key.channel != channel || lane.busy);
    }

    /// Records that restate all that still counts, for the start of a new segment.
    pub(crate) fn checkpoint(&self) -> Vec<Record> {
        let lanes = self.lanes.iter().map(|(key, lane)| Record::Lane {
            channel: key.channel,
            lane: key.lane,
            charged: lane.charged,
            voucher: lane.voucher.clone(),
        });
        let guards =
            self.guards.iter().map(|(attempt, at)| Record::Guard { attempt: *attempt, at: *at });
        lanes.chain(guards).collect()
    }
}

fn state_of(lane: Lane, book: &LaneBook) -> LaneState {
    LaneState { lane, charged: book.charged, voucher: book.voucher.clone() }
}
