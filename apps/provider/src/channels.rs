//! Channels to us, as the chain shows them: cached, read anew when asked for something unknown or too old. Anybody may open
//! any number of channels to us, so never all of them are asked for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::StreamExt;
use tokio::sync::Semaphore;
use types::{Address, ChannelId, TimeMs};
use wire::chain::{Chain, ChainError, ChannelView};

use crate::config::Clock;

/// A view this old is good enough to take an order by. Far below the shortest withdraw delay.
pub(crate) const FRESH_MS: u64 = 60_000;
/// When the chain does not answer, a view this old still is: a third of the shortest delay.
const USABLE_MS: u64 = 5 * 60_000;
/// A channel that is not there is not asked for again so soon.
const ABSENT_MS: u64 = 1_000;
/// Absent channels that are remembered.
const ABSENT_MAX: usize = 1_024;
/// Questions to the chain at once.
const LOOKUPS_MAX: usize = 8;
const LOOKUP_WAIT: Duration = Duration::from_secs(5);

/// The cache.
pub(crate) struct Channels {
    chain: Arc<dyn Chain>,
    operator: Address,
    clock: Arc<dyn Clock>,
    known: Mutex<BTreeMap<ChannelId, Known>>,
    lookups: Semaphore,
}

#[derive(Clone, Debug)]
struct Known {
    /// `None`: there is no such channel, or it is not to us.
    view: Option<ChannelView>,
    seen_at: TimeMs,
}

/// The chain could not be asked about a channel.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("cannot look up channel {id}")]
    Chain { id: ChannelId, source: ChainError },
    #[error("looking up channel {id} took too long")]
    Slow { id: ChannelId },
}

impl Channels {
    pub(crate) fn new(chain: Arc<dyn Chain>, operator: Address, clock: Arc<dyn Clock>) -> Channels {
        let lookups = Semaphore::new(LOOKUPS_MAX);
        Channels { chain, operator, clock, known: Mutex::default(), lookups }
    }

    /// The channel, as it was at most `age_ms_max` ago where the chain answers.
    pub(crate) async fn get(
        &self,
        id: ChannelId,
        age_ms_max: u64,
    ) -> Result<Option<ChannelView>, LookupError> {
        let fresh = |known: &Known, now: TimeMs| {
            let age_ms_max = if known.view.is_some() { age_ms_max } else { ABSENT_MS };
            now.ms_since(known.seen_at) <= age_ms_max
        };
        let cached = self.cached(id);
        if let Some(known) = cached.as_ref().filter(|known| fresh(known, self.clock.now())) {
            return Ok(known.view.clone());
        }
        match self.look_up(id).await {
            Ok(view) => Ok(view),
            Err(error) => match cached {
                Some(Known { view: Some(view), seen_at })
                    if self.clock.now().ms_since(seen_at) <= USABLE_MS =>
                {
                    tracing::warn!(%error, "provider.channels uses an older view");
                    Ok(Some(view))
                }
                _ => Err(error),
            },
        }
    }

    /// The channel as it is from now on: somebody may have added to it a moment ago. It is looked up at most every
    /// `apart_ms`, which is waited for.
    pub(crate) async fn renewed(
        &self,
        id: ChannelId,
        apart_ms: u64,
    ) -> Result<Option<ChannelView>, LookupError> {
        let asked = self.clock.now();
        if let Some(known) = self.cached(id) {
            let wait_ms = apart_ms.saturating_sub(asked.ms_since(known.seen_at));
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        }
        match self.cached(id) {
            Some(known) if known.seen_at > asked => Ok(known.view),
            _ => self.look_up(id).await,
        }
    }

    async fn look_up(&self, id: ChannelId) -> Result<Option<ChannelView>, LookupError> {
        let asking = async {
            let _permit = self.lookups.acquire().await;
            self.chain.channel(id).await
        };
        let answer = tokio::time::timeout(LOOKUP_WAIT, asking).await;
        let view = answer
            .map_err(|_| LookupError::Slow { id })?
            .map_err(|source| LookupError::Chain { id, source })?;
        let view = view.filter(|view| view.id == id && view.terms.receiver == self.operator);
        self.remember(id, view.clone());
        Ok(view)
    }

    /// Reads these channels anew. Returns those that are to us; one that cannot be read keeps no other back.
    pub(crate) async fn read(
        &self,
        ids: impl IntoIterator<Item = ChannelId>,
    ) -> (Vec<ChannelView>, Option<LookupError>) {
        let mut reading =
            futures::stream::iter(ids).map(|id| self.look_up(id)).buffer_unordered(LOOKUPS_MAX / 2);
        let (mut views, mut failure) = (Vec::new(), None);
        while let Some(read) = reading.next().await {
            match read {
                Ok(view) => views.extend(view),
                Err(error) => failure = Some(error),
            }
        }
        views.sort_unstable_by_key(|view| view.id);
        (views, failure)
    }

    /// A channel to us, as last seen.
    pub(crate) fn view(&self, id: ChannelId) -> Option<ChannelView> {
        self.cached(id).and_then(|known| known.view)
    }

    /// All channels to us, as last seen.
    pub(crate) fn views(&self) -> Vec<ChannelView> {
        self.lock().values().filter_map(|known| known.view.clone()).collect()
    }

    fn cached(&self, id: ChannelId) -> Option<Known> {
        self.lock().get(&id).cloned()
    }

    fn remember(&self, id: ChannelId, view: Option<ChannelView>) {
        let mut known = self.lock();
        let absent = known.values().filter(|known| known.view.is_none()).count();
        if view.is_none() && absent >= ABSENT_MAX {
            known.retain(|_, known| known.view.is_some());
        }
        known.insert(id, Known { view, seen_at: self.clock.now() });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ChannelId, Known>> {
        // Single inserts: never half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
