//! A sending half that resets its stream when it is dropped before its end: QUIC's own half would
//! end it as if all had been said.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use iroh::endpoint::SendStream;
use tokio::io::AsyncWrite;

use super::CODE;

#[derive(Debug)]
pub(super) struct IrohSend {
    stream: SendStream,
    finished: bool,
}

impl IrohSend {
    pub(super) fn new(stream: SendStream) -> IrohSend {
        IrohSend { stream, finished: false }
    }
}

impl AsyncWrite for IrohSend {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for IrohSend {
    fn drop(&mut self) {
        if !self.finished {
            // Fails only if the stream is gone already.
            let _ = self.stream.reset(CODE);
        }
    }
}
