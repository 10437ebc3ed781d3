//! Events as a stream of server-sent events that can be taken up again at any height.
//!
//! One message per block that has events: its id is the height, its data an [`EventPage`]. Whoever
//! comes back with `Last-Event-ID` goes on behind that block, so nothing is missed or repeated.

use std::{convert::Infallible, sync::Weak, time::Duration};

use axum::{
    extract::Query,
    extract::rejection::QueryRejection,
    http::HeaderMap,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use serde::Deserialize;
use types::Height;
use wire::chain::EventPage;

use super::{
    Api, Live, Turn,
    error::ApiError,
    read::{checked, parse, read_store},
};
use crate::views;

/// Blocks that are read at once while a stream catches up.
const CATCH_UP_BLOCKS: u64 = 20;
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamQuery {
    from_height: Option<u64>,
}

/// From `from_height`, from behind `Last-Event-ID`, or from the next block.
pub(super) async fn follow(
    Live(api): Live,
    turn: Turn,
    headers: HeaderMap,
    query: Result<Query<StreamQuery>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let StreamQuery { from_height } = checked(query)?;
    let last = headers.get("last-event-id").map(|id| {
        let text =
            id.to_str().map_err(|_| ApiError::bad_request("`Last-Event-ID`: use a height"))?;
        parse::<u64>("Last-Event-ID", text)
    });
    let from = match (last.transpose()?, from_height) {
        (Some(last), _) => Height(last).next(),
        (None, Some(from)) => Height(from.max(1)),
        (None, None) => api.state.read().await.height().next(),
    };
    let position = Position { api: std::sync::Arc::downgrade(&api), turn, next: from };
    let batches = stream::unfold(position, |position| async move { position.next_batch().await });
    let events = batches.flat_map(|batch| stream::iter(batch.into_iter().map(Ok)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

struct Position {
    /// Weak, so that an open stream keeps no store open once the validator has stopped.
    api: Weak<Api>,
    turn: Turn,
    next: Height,
}

impl Position {
    /// The messages of the next blocks, once there are any. `None` ends the stream.
    async fn next_batch(mut self) -> Option<(Vec<Event>, Position)> {
        loop {
            let mut status = self.api.upgrade()?.replica.watch();
            let api = self.api.upgrade()?;
            let tip = status.borrow_and_update().tip.height;
            if self.next <= tip {
                let (from, tip) =
                    (self.next, tip.0.min(self.next.0.saturating_add(CATCH_UP_BLOCKS - 1)));
                let pages = read_store(&self.turn, api, move |api| pages(api, from, Height(tip)))
                    .await
                    .ok()?;
                self.next = Height(tip).next();
                let events: Vec<Event> = pages.iter().filter_map(message).collect();
                if events.is_empty() {
                    continue;
                }
                return Some((events, self));
            }
            drop(api);
            status.changed().await.ok()?;
            if status.borrow().halted {
                return None;
            }
        }
    }
}

fn pages(api: &Api, from: Height, to: Height) -> Result<Vec<EventPage>, ApiError> {
    let mut pages = Vec::new();
    for height in (from.0..=to.0).map(Height) {
        let Some(block) = api.store.block(height)? else { break };
        let events = views::events(&block)?;
        if !events.is_empty() {
            pages.push(EventPage { events, next_height: height.next() });
        }
    }
    Ok(pages)
}

fn message(page: &EventPage) -> Option<Event> {
    let height = page.events.first()?.height;
    Event::default().id(height.to_string()).event("block").json_data(page).ok()
}
