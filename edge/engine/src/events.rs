//! The events of an answer, from a task that makes them or from a response that is read as they are asked for.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use crate::EngineEvent;

/// The events of an answer, in order. Dropped before the last one, they stop the engine.
pub struct Events(Source);

enum Source {
    Channel(mpsc::Receiver<EngineEvent>),
    Polled(Pin<Box<dyn PollEvents>>),
}

/// Makes events when it is polled, in the task of whoever reads them.
pub(crate) trait PollEvents: Send {
    /// Appends what is ready, at least one event and at most `max`; 0 after the last.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut Vec<EngineEvent>,
        max: usize,
    ) -> Poll<usize>;

    /// Whether the last poll took all that there was, so that its task is woken when there is more.
    fn is_waiting(&self) -> bool;
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events(…)")
    }
}

impl From<mpsc::Receiver<EngineEvent>> for Events {
    fn from(events: mpsc::Receiver<EngineEvent>) -> Events {
        Events(Source::Channel(events))
    }
}

impl Events {
    pub(crate) fn polled(source: impl PollEvents + 'static) -> Events {
        Events(Source::Polled(Box::pin(source)))
    }

    /// The next event; none after the last.
    pub async fn recv(&mut self) -> Option<EngineEvent> {
        let mut one = Vec::with_capacity(1);
        self.recv_many(&mut one, 1).await;
        one.pop()
    }

    /// Appends all events that are ready, at least one and at most `max`; 0 after the last. Nothing is lost if the
    /// future is dropped.
    pub async fn recv_many(&mut self, into: &mut Vec<EngineEvent>, max: usize) -> usize {
        poll_fn(|cx| self.poll_recv_many(cx, into, max)).await
    }

    /// Whether nothing is ready, and whoever polled last is woken when something is. Where that is not known, `false`.
    pub fn are_waited_for(&self) -> bool {
        match &self.0 {
            Source::Channel(_) => false,
            Source::Polled(source) => source.is_waiting(),
        }
    }

    /// The same for whoever polls.
    pub fn poll_recv_many(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<EngineEvent>,
        max: usize,
    ) -> Poll<usize> {
        match &mut self.0 {
            Source::Channel(events) => events.poll_recv_many(cx, into, max),
            Source::Polled(source) => source.as_mut().poll(cx, into, max),
        }
    }
}
