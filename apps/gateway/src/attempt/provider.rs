//! A provider at the other end of a stream: frames out and in, and what of them is believed.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use net::{ReceiveHalf, SendHalf};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;
use types::{
    Hash32,
    sign::{Signable, Signed},
};
use wire::{
    frame,
    serve::{TO_GATEWAY_FRAME_BYTES_MAX, ToGateway, ToProvider},
};

use crate::{
    providers::Slot,
    session::{Breach, Input},
    shared::Shared,
};

/// Room for reading: a few hundred tokens. Grows for larger frames.
const INBOX_BYTES: usize = 4 * 1024;
/// For the last frames to leave after the books are closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) struct ProviderLine {
    order: Hash32,
    slot: Slot,
    send: SendHalf,
    outbox: BytesMut,
    receive: ReceiveHalf,
    inbox: BytesMut,
}

impl ProviderLine {
    /// A stream to who has `slot`, and the order that is the first thing to be sent.
    pub(crate) fn new(
        slot: Slot,
        streams: (SendHalf, ReceiveHalf),
        order: Hash32,
        outbox: BytesMut,
    ) -> ProviderLine {
        let inbox = BytesMut::with_capacity(INBOX_BYTES);
        ProviderLine { order, slot, send: streams.0, outbox, receive: streams.1, inbox }
    }

    /// Puts a message behind those that wait to leave.
    pub(super) fn send(&mut self, message: &ToProvider) {
        match frame::encode(message) {
            Ok(bytes) => self.outbox.extend_from_slice(&bytes),
            Err(error) => tracing::error!(%error, "attempt.encode"),
        }
    }

    /// What it says next.
    pub(super) fn poll_input(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<Input> {
        loop {
            match frame::take::<ToGateway>(&mut self.inbox, TO_GATEWAY_FRAME_BYTES_MAX) {
                Ok(Some(message)) => return Poll::Ready(self.check(message, shared)),
                Err(error) => {
                    return Poll::Ready(Input::Breach(Breach::Frame(error.to_string())));
                }
                Ok(None) => self.inbox.reserve(INBOX_BYTES / 4),
            }
            match ready!(poll_read_buf(Pin::new(&mut self.receive), cx, &mut self.inbox)) {
                Ok(0) | Err(_) => return Poll::Ready(Input::Ended),
                Ok(_) => {}
            }
        }
    }

    /// From what a peer sent to what the session may believe.
    fn check(&self, message: ToGateway, shared: &Shared) -> Input {
        match message {
            ToGateway::Delta { pieces, prompt_tokens } => Input::Delta { pieces, prompt_tokens },
            ToGateway::Accepted(signed) if self.is_own(&signed, signed.value.order, shared) => {
                Input::Accepted { prompt_tokens: signed.value.prompt_tokens }
            }
            ToGateway::Refused(signed) if self.is_own(&signed, signed.value.order, shared) => {
                Input::Refused(signed.value.reason)
            }
            ToGateway::Accepted(_) | ToGateway::Refused(_) => Input::Breach(Breach::Signature),
            ToGateway::Final(report) => {
                let own = self.slot.is_operator_key(&report.signer);
                match report.verify(&shared.config.chain_id, self.slot.operator_key()) {
                    Ok(report) if own => Input::Final(Box::new(report)),
                    Ok(_) | Err(_) => Input::Breach(Breach::Signature),
                }
            }
            ToGateway::Lanes(_) | ToGateway::Opening { .. } => Input::Breach(Breach::OutOfOrder),
        }
    }

    fn is_own<T: Signable + Clone>(
        &self,
        signed: &Signed<T>,
        order: Hash32,
        shared: &Shared,
    ) -> bool {
        order == self.order
            && self.slot.is_operator_key(&signed.signer)
            && signed.clone().verify(&shared.config.chain_id, self.slot.operator_key()).is_ok()
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.outbox.is_empty() {
            match ready!(Pin::new(&mut self.send).poll_write(cx, &self.outbox)) {
                Ok(0) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Ok(written) => self.outbox.advance(written),
                Err(error) => {
                    self.outbox.clear();
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what is left and ends the stream; in the background if the provider is slow to take it.
    pub(super) fn say_farewell(&mut self, cx: &mut Context<'_>, shared: &Shared) {
        let flushed = self.poll_flush(cx).is_ready();
        if flushed && Pin::new(&mut self.send).poll_shutdown(cx).is_ready() {
            return;
        }
        let mut send = std::mem::replace(&mut self.send, Box::new(tokio::io::sink()));
        let mut outbox = std::mem::take(&mut self.outbox);
        shared.tasks.spawn(async move {
            use tokio::io::AsyncWriteExt;
            let farewell = async {
                send.write_all_buf(&mut outbox).await?;
                send.shutdown().await
            };
            // Whether or not the last words are heard, the books are closed.
            let _ = tokio::time::timeout(FAREWELL, pin!(farewell)).await;
        });
    }
}
