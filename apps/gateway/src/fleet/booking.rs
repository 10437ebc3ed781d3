//! The loop that tells the database what has ended, and that this gateway lives.
//!
//! What is settled is in the journal before it is in the outbox, and leaves the outbox when the database has it. So a
//! gateway that is killed, or a database that is away, loses nothing, and the database books each attempt once.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use types::RequestId;

use super::{BEAT, Booking, DatabaseError, Fleet};
use crate::{error::GatewayError, handle::PLAYGROUND_KEY, shared::Shared};

/// Attempts that are booked in one transaction.
const BATCH: usize = 64;
/// Between two tries while the database is away.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// Books what an earlier run could not, takes over keys of this gateway's own, and announces it.
pub(crate) async fn begin(shared: &Shared, fleet: &Fleet) -> Result<(), GatewayError> {
    let problem = |source| GatewayError::Database { source };
    if let Some(keys) = shared.books.own_keys(shared.now()) {
        for (id, view) in keys {
            // There is one for all.
            if view.name != PLAYGROUND_KEY {
                fleet.take_over(&id, &view).await.map_err(problem)?;
            }
        }
        shared.books.join().map_err(|source| GatewayError::Journal { source })?;
    }
    // First, so that what it held is never free before it is booked.
    book_all(shared, fleet).await.map_err(problem)?;
    fleet.announce().await.map_err(problem)
}

/// Runs until the gateway stops, and then until everything is booked or the database is away.
pub(crate) async fn run(shared: Arc<Shared>, fleet: Arc<Fleet>) {
    let mut next_beat = Instant::now() + BEAT;
    let mut pause = PAUSE_MIN;
    loop {
        let stops = shared.stop.is_cancelled();
        let booked = book_all(&shared, &fleet).await;
        // What is cut off at the end is settled too.
        if stops && (booked.is_err() || shared.books.in_flight() == 0) {
            if let Err(error) = booked {
                tracing::warn!(%error, waiting = shared.books.unbooked(), "fleet.unbooked");
            } else if let Err(error) = fleet.stop().await {
                tracing::warn!(%error, "fleet.stop");
            }
            return;
        }
        let is_away = booked.is_err();
        if is_away {
            // Whoever waits for a booking need not.
            fleet.booked.notify_waiters();
        }
        pause = if is_away { (pause * 2).min(PAUSE_MAX) } else { PAUSE_MIN };
        if next_beat <= Instant::now() {
            // If this fails, the next statement will say so too.
            let _ = fleet.beat(&shared.books.in_work()).await;
            next_beat = Instant::now() + BEAT;
        }
        tokio::select! {
            () = shared.stop.cancelled(), if !stops => {}
            () = fleet.work.notified(), if !is_away => {}
            () = tokio::time::sleep(pause), if is_away || stops => {}
            () = tokio::time::sleep_until(next_beat), if !is_away => {}
        }
    }
}

/// Books all there is.
async fn book_all(shared: &Shared, fleet: &Fleet) -> Result<(), DatabaseError> {
    loop {
        let (bookings, taken, ended) = shared.books.to_book(BATCH);
        if taken == 0 && ended.is_empty() {
            return Ok(());
        }
        match fleet.book(&bookings, &ended).await {
            Err(error) if error.is_for_good() => one_by_one(fleet, &bookings, &ended).await?,
            booked => booked?,
        }
        shared.books.booked(taken, ended.len());
        fleet.booked.notify_waiters();
    }
}

/// One of them cannot be booked, and must not hold back the others.
async fn one_by_one(
    fleet: &Fleet,
    bookings: &[Booking],
    ended: &[RequestId],
) -> Result<(), DatabaseError> {
    for booking in bookings {
        match fleet.book(std::slice::from_ref(booking), &[]).await {
            Err(error) if error.is_for_good() => {
                // The journal has it.
                let Booking { request, attempt, .. } = booking;
                tracing::error!(%request, attempt, %error, "fleet.not_booked");
            }
            booked => booked?,
        }
    }
    fleet.book(&[], ended).await
}
