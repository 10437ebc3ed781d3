//! What the database has still to be told: settled attempts, which the journal holds until then, and ends of
//! requests. Pure.

use std::collections::VecDeque;

use store::RecordId;
use tokio::sync::oneshot;
use types::RequestId;

use crate::accounts::KeyId;

/// A settled attempt that the database does not know of.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Where the journal has it.
    pub record: RecordId,
    pub request: RequestId,
    pub attempt: u16,
    pub key: KeyId,
    /// To be counted against the key's rate. None after a restart: the minute is over.
    pub tokens: u64,
    /// The request is over with it.
    pub is_last: bool,
    /// Told when it is booked.
    pub booked: Option<oneshot::Sender<()>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    settled: VecDeque<Settled>,
    ended: VecDeque<(RequestId, KeyId)>,
}

impl Outbox {
    pub(crate) fn push(&mut self, settled: Settled) {
        self.settled.push_back(settled);
    }

    pub(crate) fn push_end(&mut self, request: RequestId, key: KeyId) {
        self.ended.push_back((request, key));
    }

    /// Whether the database has all that concerns a key.
    pub(crate) fn is_done_with(&self, key: &KeyId) -> bool {
        self.settled.iter().all(|settled| settled.key != *key)
            && self.ended.iter().all(|(_, of)| of != key)
    }

    pub(crate) fn len(&self) -> usize {
        self.settled.len().saturating_add(self.ended.len())
    }

    /// The oldest attempts that are to be booked.
    pub(crate) fn oldest(&self, max: usize) -> impl Iterator<Item = &Settled> {
        self.settled.iter().take(max)
    }

    pub(crate) fn ended(&self, max: usize) -> Vec<RequestId> {
        self.ended.iter().take(max).map(|(request, _)| *request).collect()
    }

    /// So many of each are booked. The last attempt among them.
    pub(crate) fn booked(&mut self, settled: usize, ended: usize) -> Option<(RequestId, u16)> {
        let mut last = None;
        for settled in self.settled.drain(..settled.min(self.settled.len())) {
            last = Some((settled.request, settled.attempt));
            if let Some(booked) = settled.booked {
                // Whoever waited may have left.
                let _ = booked.send(());
            }
        }
        self.ended.drain(..ended.min(self.ended.len()));
        last
    }

    /// Everything up to this attempt was booked by an earlier run.
    pub(crate) fn booked_before(&mut self, request: RequestId, attempt: u16) {
        let is_it = |it: &Settled| (it.request, it.attempt) == (request, attempt);
        // One that is not here was removed with its segment of the journal, and all before it.
        if let Some(at) = self.settled.iter().rposition(is_it) {
            self.settled.drain(..=at);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.settled.clear();
        self.ended.clear();
    }
}
