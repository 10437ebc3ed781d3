//! API keys, wherever they are: in this gateway's books, or in the database that a fleet shares.
//!
//! Each function is one question, asked of the one or the other; the answers are the same. In a gateway of its own
//! nothing here waits.

use std::{future::Future, pin::Pin, time::Duration};

use store::JournalError;
use tokio::time::timeout;
use types::{Nusd, RequestId};

use crate::{
    accounts::{
        Budget, Entry, KeyId, KeyLimits, NotAdmitted, check_format, check_key, key_id, prefix_of,
    },
    books::{Ended, Reserved, Settlement, member},
    dispatch::not_admitted,
    error::{KeyError, ReceiptLookupError, RequestFailure},
    fleet::{Beginning, Begun, DatabaseError, Fleet, Known, More},
    lanes::Ask,
    shared::Shared,
    views::{KeyView, StoredReceipt},
};

/// How long an end waits until it is booked, so that other gateways know of it before the client does. If it takes
/// longer, it is booked later.
const BOOKED_WAIT: Duration = Duration::from_secs(2);

/// Done when an attempt is booked, or when that has taken too long.
pub(crate) type Booked = Pin<Box<dyn Future<Output = ()> + Send>>;

fn away(error: &DatabaseError) -> RequestFailure {
    tracing::warn!(%error, "keyring.away");
    RequestFailure::KeysAway
}

/// Whether a key can be used.
pub(crate) async fn admits(shared: &Shared, id: &KeyId) -> Result<(), RequestFailure> {
    match &shared.fleet {
        None => {
            let admitted = shared.books.admits(id, shared.now());
            admitted.map_err(|why| not_admitted(why, "", ""))
        }
        Some(fleet) => usable(fleet, id).await.map(drop),
    }
}

/// Whether a key could be used not long ago: whoever spends with it is asked again.
pub(crate) async fn recognizes(shared: &Shared, id: &KeyId) -> Result<(), RequestFailure> {
    match &shared.fleet {
        Some(fleet) if fleet.was_known(id) => Ok(()),
        _ => admits(shared, id).await,
    }
}

/// What a key that can be used may use.
pub(crate) async fn limits_of(shared: &Shared, id: &KeyId) -> Result<KeyLimits, RequestFailure> {
    match &shared.fleet {
        None => {
            let limits = shared.books.limits_of(id, shared.now());
            limits.map_err(|why| not_admitted(why, "", ""))
        }
        Some(fleet) => Ok(usable(fleet, id).await?.view.limits),
    }
}

async fn usable(fleet: &Fleet, id: &KeyId) -> Result<Known, RequestFailure> {
    let known = fleet.key(id).await.map_err(|error| away(&error))?;
    match known {
        None => Err(not_admitted(NotAdmitted::Unknown, "", "")),
        Some(Known { expired: true, .. }) => Err(not_admitted(NotAdmitted::Expired, "", "")),
        Some(known) => Ok(known),
    }
}

/// The key of this name that is not revoked.
pub(crate) async fn named(shared: &Shared, name: &str) -> Result<Option<KeyId>, DatabaseError> {
    match &shared.fleet {
        None => Ok(shared.books.key_named(name)),
        Some(fleet) => Ok(fleet.key_named(name).await?.map(|known| known.id)),
    }
}

/// The keys of this name, revoked ones too.
pub(crate) async fn all_named(shared: &Shared, name: &str) -> Result<Vec<KeyId>, DatabaseError> {
    match &shared.fleet {
        None => Ok(shared.books.keys_named(name)),
        Some(fleet) => fleet.ids_of(name).await,
    }
}

/// What is known of a key, also of a revoked one.
pub(crate) async fn view(shared: &Shared, id: &KeyId) -> Result<Option<KeyView>, DatabaseError> {
    match &shared.fleet {
        None => Ok(shared.books.key_view(id, shared.now())),
        Some(fleet) => {
            until_booked(shared, fleet, id).await;
            Ok(fleet.keys(Some(id)).await?.pop().map(|known| known.view))
        }
    }
}

/// All keys, by age.
pub(crate) async fn views(shared: &Shared) -> Result<Vec<KeyView>, DatabaseError> {
    match &shared.fleet {
        None => Ok(shared.books.keys(shared.now())),
        Some(fleet) => {
            all_booked(shared).await;
            let keys = fleet.keys(None).await?;
            Ok(keys.into_iter().map(|known| known.view).collect())
        }
    }
}

/// Makes `key` known under `name`; neither may be in use.
pub(crate) async fn put(
    shared: &Shared,
    name: &str,
    key: &str,
    limits: KeyLimits,
) -> Result<(), KeyError> {
    let keys_max = shared.config.limits.keys_max;
    match &shared.fleet {
        None => shared.books.put_key(name, key, limits, shared.now(), keys_max),
        Some(fleet) => {
            check_format(key)?;
            check_key(name, &limits)?;
            fleet.put_key(&key_id(key), name, &prefix_of(key), &limits, keys_max).await
        }
    }
}

/// Changes the limits of a key. What was used stays used.
pub(crate) async fn limit(
    shared: &Shared,
    name: &str,
    change: impl FnOnce(&KeyLimits) -> Result<KeyLimits, KeyError>,
) -> Result<(), KeyError> {
    match &shared.fleet {
        None => shared.books.limit_key(name, change),
        Some(fleet) => fleet.limit_key(name, change).await,
    }
}

/// Ends a key. Requests in work end as they would have.
pub(crate) async fn revoke(shared: &Shared, name: &str) -> Result<(), KeyError> {
    match &shared.fleet {
        None => shared.books.revoke_key(name, shared.now()),
        Some(fleet) => fleet.revoke_key(name).await,
    }
}

/// Lets a request in that costs at least and at most so much.
pub(crate) async fn enter(
    shared: &Shared,
    (key, request): (&KeyId, RequestId),
    entry: &Entry<'_>,
    bounds: impl FnOnce() -> (Nusd, Nusd),
) -> Result<(), RequestFailure> {
    let limits = &shared.config.limits;
    let (per_key_max, all_max) = (limits.requests_per_key_max, limits.requests_max);
    let refused = |(why, whose)| not_admitted(why, whose, entry.model_name);
    let Some(fleet) = &shared.fleet else {
        return shared.books.enter(key, entry, per_key_max, all_max).map_err(refused);
    };
    shared.books.enter_member(key, request, per_key_max, all_max).map_err(refused)?;
    let mut entering = Entering { shared, key, request, is_over: false };
    until_booked(shared, fleet, key).await;
    let (least, most) = bounds();
    let asked = Beginning {
        request,
        key: *key,
        model_name: entry.model_name,
        model_id: &entry.model.to_string(),
        prompt_tokens: entry.prompt_tokens,
        least,
        most,
    };
    match fleet.begin(&asked).await.map_err(|error| away(&error))? {
        Begun::Filled(filled) => {
            shared.books.fill_purse(&request, key, filled);
            entering.is_over = true;
            Ok(())
        }
        Begun::NotAdmitted(why) => {
            entering.never_began();
            Err(not_admitted(why, "with this key", entry.model_name))
        }
        Begun::Short { budget, left } => {
            entering.never_began();
            Err(RequestFailure::Budget { budget, needed: least, left })
        }
    }
}

/// A request of which the database is asked. If nobody waits for the answer any more, or there is none, it may have
/// begun.
struct Entering<'a> {
    shared: &'a Shared,
    key: &'a KeyId,
    request: RequestId,
    is_over: bool,
}

impl Entering<'_> {
    fn never_began(&mut self) {
        self.shared.books.never_began(&self.request);
        self.is_over = true;
    }
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            leave(self.shared, self.key, self.request, 0);
        }
    }
}

/// Ends a request that entered with an estimate of its prompt.
pub(crate) fn leave(shared: &Shared, key: &KeyId, request: RequestId, prompt_tokens: u32) {
    let is_news = shared.books.leave(key, &request, prompt_tokens);
    if let Some(fleet) = shared.fleet.as_ref().filter(|_| is_news) {
        fleet.work.notify_one();
    }
}

/// Reserves more for a request whose next attempt costs more than what it has. What is left of which budget, if that is
/// not enough.
pub(crate) async fn more(
    shared: &Shared,
    (key, request): (&KeyId, RequestId),
    ask: &Ask,
    short: (Budget, Nusd),
) -> Result<Result<(), (Budget, Nusd)>, RequestFailure> {
    let Some(fleet) = &shared.fleet else { return Ok(Err(short)) };
    let (least, most) = ask.bounds();
    let has = shared.books.purse_left(&request);
    let missing = (least.saturating_sub(has), most.saturating_sub(has));
    let more = fleet.more(request, key, ask.prompt_tokens_max, missing).await;
    match more.map_err(|error| away(&error))? {
        More::Added { budget, amount } => {
            shared.books.add_to_purse(&request, amount, budget);
            Ok(Ok(()))
        }
        More::Short { budget, left } => Ok(Err((budget, left.saturating_add(has)))),
    }
}

/// Closes an attempt. If others must learn of it, what is returned waits for that.
pub(crate) fn settle(
    shared: &Shared,
    reserved: &Reserved,
    settlement: Settlement,
    ended: Ended,
) -> Result<Option<Booked>, JournalError> {
    let booked = shared.books.settle(reserved, settlement, ended)?;
    let (Some(fleet), Some(booked)) = (&shared.fleet, booked) else { return Ok(None) };
    fleet.work.notify_one();
    Ok(Some(Box::pin(async move {
        // Booked, too late, or the gateway stops: it is in the journal.
        let _ = timeout(BOOKED_WAIT, booked).await;
    })))
}

/// Waits until the database has all that this gateway knows of a key.
async fn until_booked(shared: &Shared, fleet: &Fleet, key: &KeyId) {
    until(fleet, || shared.books.is_booked(key)).await;
}

/// Waits until the database has all that this gateway knows.
pub(crate) async fn all_booked(shared: &Shared) {
    if let Some(fleet) = &shared.fleet {
        until(fleet, || shared.books.unbooked() == 0).await;
    }
}

/// Waits until something holds that follows from bookings, but not for a database that is away.
async fn until(fleet: &Fleet, holds: impl Fn() -> bool) {
    if holds() {
        return;
    }
    let all = async {
        loop {
            let booked = fleet.booked.notified();
            tokio::pin!(booked);
            booked.as_mut().enable();
            if holds() || !fleet.is_reached() {
                return;
            }
            booked.await;
        }
    };
    // Too late: then the answer is of what the database knows.
    let _ = timeout(BOOKED_WAIT, all).await;
}

/// The receipt of `id`; of a request of certain keys only, if they are given.
pub(crate) async fn receipt(
    shared: &Shared,
    id: RequestId,
    keys: Option<&[KeyId]>,
) -> Result<StoredReceipt, ReceiptLookupError> {
    match (shared.books.receipt(id, keys), &shared.fleet) {
        // Another gateway may have answered it.
        (Err(ReceiptLookupError::Unknown { .. }), Some(fleet)) => {
            let records = fleet.finished(id, keys).await;
            let records = records.map_err(|source| ReceiptLookupError::Database { id, source })?;
            member::receipt_of(id, &records.ok_or(ReceiptLookupError::Unknown { id })?)
        }
        (receipt, _) => receipt,
    }
}
