//! One direction of a stream: chunks through a bounded queue, each readable after a delay.
//!
//! An end that is said (`shutdown`) is a chunk of its own; a sender that vanishes without it is a
//! reset.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Sleep},
};
use tokio_util::sync::{PollSender, WaitForCancellationFutureOwned};

use super::{Link, PeerHalves, Side};

/// Bytes of one chunk and chunks on their way: together as much as a QUIC stream buffers.
const CHUNK_BYTES_MAX: usize = 16 * 1024;
const CHUNKS_MAX: usize = 64;

#[derive(Debug)]
struct Chunk {
    /// Empty: the end.
    bytes: Vec<u8>,
    readable_at: Instant,
}

/// What a half keeps alive.
#[derive(Debug)]
#[expect(dead_code, reason = "held for their `Drop`")]
pub(super) enum StreamEnd {
    /// The place of the stream among those that may be open.
    Permit(Arc<OwnedSemaphorePermit>),
    /// The connection.
    Side(Arc<Side>),
}

/// Shows a stream to the peer when its first byte is written.
#[derive(Debug)]
pub(super) struct Announce {
    opened: mpsc::UnboundedSender<PeerHalves>,
    halves: Box<PeerHalves>,
}

impl Announce {
    pub(super) fn new(opened: mpsc::UnboundedSender<PeerHalves>, halves: PeerHalves) -> Announce {
        Announce { opened, halves: Box::new(halves) }
    }
}

/// A direction of a stream on `link`.
pub(super) fn pipe(delay: Duration, link: &Link) -> (PipeSend, PipeReceive) {
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let cut = || Cut { link: link.clone(), ended: Box::pin(link.ended.clone().cancelled_owned()) };
    let send = PipeSend {
        sender: PollSender::new(sender),
        delay,
        cut: cut(),
        announce: None,
        _held: Vec::new(),
    };
    let receive = PipeReceive {
        receiver,
        arrived: VecDeque::new(),
        waiting: None,
        ended: false,
        cut: cut(),
        _held: Vec::new(),
    };
    (send, receive)
}

/// Fails a half as soon as its connection has ended.
#[derive(Debug)]
struct Cut {
    link: Link,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Cut {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.ended.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::NotConnected, self.link.error())),
        }
    }
}

#[derive(Debug)]
pub(super) struct PipeSend {
    sender: PollSender<Chunk>,
    delay: Duration,
    cut: Cut,
    announce: Option<Announce>,
    _held: Vec<StreamEnd>,
}

impl PipeSend {
    pub(super) fn held_by(mut self, end: StreamEnd) -> PipeSend {
        self._held.push(end);
        self
    }

    pub(super) fn announcing(mut self, announce: Announce) -> PipeSend {
        self.announce = Some(announce);
        self
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<()>> {
        self.cut.check(cx)?;
        let stopped = || io::Error::from(io::ErrorKind::BrokenPipe);
        if ready!(self.sender.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(stopped()));
        }
        if let Some(Announce { opened, halves }) = self.announce.take()
            && opened.send(*halves).is_err()
        {
            return Poll::Ready(Err(stopped()));
        }
        let chunk = Chunk { bytes: bytes.to_vec(), readable_at: Instant::now() + self.delay };
        Poll::Ready(self.sender.send_item(chunk).map_err(|_| stopped()))
    }
}

impl AsyncWrite for PipeSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let taken = bytes.len().min(CHUNK_BYTES_MAX);
        ready!(self.poll_chunk(cx, &bytes[..taken]))?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_chunk(cx, &[]))?;
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

#[derive(Debug)]
pub(super) struct PipeReceive {
    receiver: mpsc::Receiver<Chunk>,
    arrived: VecDeque<u8>,
    waiting: Option<(Pin<Box<Sleep>>, Vec<u8>)>,
    ended: bool,
    cut: Cut,
    _held: Vec<StreamEnd>,
}

impl PipeReceive {
    pub(super) fn held_by(mut self, end: StreamEnd) -> PipeReceive {
        self._held.push(end);
        self
    }

    /// The next chunk once its delay is over; `None` for a reset.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        loop {
            if let Some((sleep, bytes)) = &mut self.waiting {
                ready!(sleep.as_mut().poll(cx));
                let bytes = std::mem::take(bytes);
                self.waiting = None;
                return Poll::Ready(Some(bytes));
            }
            let Some(Chunk { bytes, readable_at }) = ready!(self.receiver.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            if readable_at <= Instant::now() {
                return Poll::Ready(Some(bytes));
            }
            self.waiting = Some((Box::pin(tokio::time::sleep_until(readable_at)), bytes));
        }
    }
}

impl AsyncRead for PipeReceive {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        self.cut.check(cx)?;
        if self.arrived.is_empty() {
            match ready!(self.poll_chunk(cx)) {
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(bytes) if bytes.is_empty() => {
                    self.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Some(bytes) => self.arrived.extend(bytes),
            }
        }
        let taken = self.arrived.len().min(buf.remaining());
        let bytes: Vec<u8> = self.arrived.drain(..taken).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}
