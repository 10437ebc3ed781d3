//! The books of a gateway whose keys are in a database: purses of requests in work, and what is to be booked.

use store::{JournalError, RecordId};
use types::{Nusd, RequestId, TimeMs};

use super::{
    Books, Record, Settled, Settlement, seal::is_left, settlement_of, stored_receipt, usage_view,
};
use crate::{
    accounts::{Budget, KeyId, NotAdmitted},
    error::ReceiptLookupError,
    fleet::{Booking, Finished},
    purses::Filled,
    views::{KeyView, StoredReceipt, UsageView},
};

/// A settlement of the journal that the database may not have.
pub(super) fn unbooked(record: RecordId, settlement: &Settlement) -> Settled {
    let ack = &settlement.receipt.acknowledgement.value;
    Settled {
        record,
        request: ack.request_id,
        attempt: ack.attempt,
        key: settlement.key,
        tokens: 0,
        is_last: false,
        booked: None,
    }
}

impl Books {
    /// Counts a request in, within the bounds of this gateway. Its purse is empty.
    pub(crate) fn enter_member(
        &self,
        key: &KeyId,
        request: RequestId,
        per_key_max: u32,
        all_max: u32,
    ) -> Result<(), (NotAdmitted, &'static str)> {
        let mut state = self.lock();
        if state.in_flight >= all_max {
            return Err((NotAdmitted::TooMany, "on this gateway"));
        }
        let Some(member) = &mut state.member else { return Ok(()) };
        if member.purses.of_key(key) >= usize::try_from(per_key_max).unwrap_or(usize::MAX) {
            return Err((NotAdmitted::TooMany, "with this key"));
        }
        member.purses.enter(request, *key);
        state.in_flight += 1;
        Ok(())
    }

    /// A request that entered was refused by the database.
    pub(crate) fn never_began(&self, request: &RequestId) {
        let mut state = self.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        if let Some(member) = &mut state.member {
            member.purses.leave(request);
        }
    }

    pub(crate) fn fill_purse(&self, request: &RequestId, key: &KeyId, filled: Filled) {
        let mut state = self.lock();
        if let Some(member) = &mut state.member {
            member.purses.fill(request, &filled);
            member.names.insert(*key, filled.key_name);
        }
    }

    pub(crate) fn add_to_purse(&self, request: &RequestId, amount: Nusd, budget: Budget) {
        if let Some(member) = &mut self.lock().member {
            member.purses.add(request, amount, budget);
        }
    }

    /// What a request can still spend.
    pub(crate) fn purse_left(&self, request: &RequestId) -> Nusd {
        let state = self.lock();
        state.member.as_ref().map_or(Nusd::ZERO, |member| member.purses.left(request).1)
    }

    pub(crate) fn in_work(&self) -> Vec<RequestId> {
        self.lock().member.as_ref().map(|member| member.purses.requests()).unwrap_or_default()
    }

    /// What the database has still to be told.
    pub(crate) fn unbooked(&self) -> usize {
        self.lock().member.as_ref().map_or(0, |member| member.outbox.len())
    }

    /// Whether the database has all that concerns a key.
    pub(crate) fn is_booked(&self, key: &KeyId) -> bool {
        self.lock().member.as_ref().is_none_or(|member| member.outbox.is_done_with(key))
    }

    /// The oldest attempts that the database does not have, how many places in the outbox they take, and requests
    /// that have ended.
    pub(crate) fn to_book(&self, max: usize) -> (Vec<Booking>, usize, Vec<RequestId>) {
        let (places, ended) = {
            let state = self.lock();
            let Some(member) = &state.member else { return (Vec::new(), 0, Vec::new()) };
            let places: Vec<(RecordId, u64, bool)> =
                member.outbox.oldest(max).map(|it| (it.record, it.tokens, it.is_last)).collect();
            (places, member.outbox.ended(max))
        };
        let bookings = places.iter().filter_map(|(record, tokens, is_last)| {
            self.booking(*record, *tokens, *is_last)
                .inspect_err(|error| tracing::error!(%error, "books.unreadable"))
                .ok()?
        });
        (bookings.collect(), places.len(), ended)
    }

    /// Reads back what the database is to be told. `None`: too old, and removed.
    fn booking(
        &self,
        record: RecordId,
        tokens: u64,
        is_last: bool,
    ) -> Result<Option<Booking>, JournalError> {
        let bytes = match self.journal.read(record) {
            Ok(bytes) => bytes,
            Err(JournalError::Pruned) => {
                tracing::error!("books.too_old_to_book");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Ok(Some(settlement)) = settlement_of(&bytes) else { return Ok(None) };
        // From when this gateway kept its keys itself. What cannot be signed any more is booked as it is.
        let id = settlement.receipt.acknowledgement.value.request_id;
        let (settlement, bytes) =
            match is_left(&settlement).then(|| self.sealed(id, settlement.clone())) {
                Some(Ok(sealed)) => {
                    let record = Record::Settled(Box::new(sealed.clone()));
                    (sealed, borsh::to_vec(&record).unwrap_or_default())
                }
                Some(Err(_)) | None => (settlement, bytes),
            };
        let ack = &settlement.receipt.acknowledgement.value;
        Ok(Some(Booking {
            request: ack.request_id,
            attempt: ack.attempt,
            key: settlement.key,
            ended_at: ack.ended_at,
            answered: settlement.answered,
            billed: settlement.billed,
            lost: settlement.receipt.cost().saturating_sub(settlement.billed),
            tokens,
            is_last,
            record: bytes,
        }))
    }

    /// The database has so many of each.
    pub(crate) fn booked(&self, settled: usize, ended: usize) {
        let mut state = self.lock();
        let Some(member) = &mut state.member else { return };
        let Some((request, attempt)) = member.outbox.booked(settled, ended) else { return };
        // If this is lost, they are booked again, which changes nothing.
        if let Err(error) = self.append(&Record::Booked { request, attempt }) {
            tracing::error!(%error, "books.booked");
        }
    }

    /// Keys that this gateway kept in its journal before it joined a fleet, if it has just done so.
    pub(crate) fn own_keys(&self, now: TimeMs) -> Option<Vec<(KeyId, KeyView)>> {
        let state = self.lock();
        state.member.as_ref().filter(|member| !member.has_joined)?;
        let keys = state.accounts.records();
        Some(
            keys.filter(|record| record.revoked_at.is_none())
                .filter_map(|record| Some((record.id, state.accounts.view(&record.id, now)?)))
                .collect(),
        )
    }

    /// From here on keys are in a database.
    pub(crate) fn join(&self) -> Result<(), JournalError> {
        let mut state = self.lock();
        let Some(member) = &mut state.member else { return Ok(()) };
        self.append(&Record::Joined { is_new: true })?;
        member.has_joined = true;
        member.outbox.clear();
        Ok(())
    }
}

/// The receipt of a request, as any gateway of the fleet recorded it.
pub(crate) fn receipt_of(
    id: RequestId,
    records: &[Vec<u8>],
) -> Result<StoredReceipt, ReceiptLookupError> {
    let (earlier, last) = parts(id, records)?;
    Ok(stored_receipt(earlier, last))
}

/// What a request used, likewise.
pub(crate) fn usage_of(finished: &Finished) -> Result<UsageView, ReceiptLookupError> {
    let (earlier, last) = parts(finished.request, &finished.records)?;
    Ok(usage_view(finished.request, &earlier, &last, finished.key_name.clone()))
}

fn parts(
    id: RequestId,
    records: &[Vec<u8>],
) -> Result<(Vec<Settlement>, Settlement), ReceiptLookupError> {
    let unknown = || ReceiptLookupError::Unknown { id };
    let part = |bytes: &Vec<u8>| match settlement_of(bytes) {
        Ok(settlement) => settlement.ok_or_else(unknown),
        Err(source) => Err(ReceiptLookupError::Damaged { id, source }),
    };
    let mut parts = records.iter().map(part).collect::<Result<Vec<Settlement>, _>>()?;
    let last = parts.pop().ok_or_else(unknown)?;
    Ok((parts, last))
}
