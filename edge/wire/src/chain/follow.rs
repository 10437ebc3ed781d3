//! The stream of events, read from server-sent events (WHATWG HTML, section 9.2).
//!
//! Everything that comes is bounded: a line and a message by [`super::ANSWER_BYTES_MAX`].

use futures::{Stream, stream};
use reqwest::Response;
use types::Height;

use super::{ANSWER_BYTES_MAX, ChainError, EventPage, HttpChain};

impl HttpChain {
    /// Events of whole blocks from `from` upwards, or from the next block, as they come. One item
    /// per block that has events; take it up again with the `next_height` of the last item. It ends
    /// with the connection.
    pub async fn follow_events(
        &self,
        from: Option<Height>,
    ) -> Result<impl Stream<Item = Result<EventPage, ChainError>> + use<>, ChainError> {
        let query = from.map(|height| format!("?from_height={height}")).unwrap_or_default();
        let response = self.open_stream(&format!("/v1/events/stream{query}")).await?;
        let follow = Follow { chain: self.clone(), response, lines: Lines::default() };
        Ok(stream::unfold(Some(follow), |follow| async move {
            let mut follow = follow?;
            match follow.next().await {
                Ok(Some(page)) => Some((Ok(page), Some(follow))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }
}

struct Follow {
    chain: HttpChain,
    response: Response,
    lines: Lines,
}

impl Follow {
    async fn next(&mut self) -> Result<Option<EventPage>, ChainError> {
        loop {
            while let Some(message) = self.lines.message() {
                if !message.is_empty() {
                    let page = serde_json::from_str(&message);
                    return page.map(Some).map_err(|error| self.chain.unexpected(error));
                }
            }
            let chunk = self.response.chunk().await;
            match chunk.map_err(|error| self.chain.unreachable(error))? {
                None => return Ok(None),
                Some(chunk) => self
                    .lines
                    .push(&chunk)
                    .map_err(|TooLong| self.chain.unexpected("a message without an end"))?,
            }
        }
    }
}

/// Text that came, cut into messages.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// The `data` lines of the message that is being read.
    data: String,
}

#[derive(Debug)]
struct TooLong;

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<(), TooLong> {
        if self.bytes.len() + self.data.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(TooLong);
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The data of the next whole message, empty for one without data.
    fn message(&mut self) -> Option<String> {
        loop {
            let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                return Some(std::mem::take(&mut self.data));
            }
            if let Some(data) = line.strip_prefix("data:") {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let text = ": hello\n\nid: 3\nevent: block\ndata: {\"a\":1}\n\ndata:x\r\ndata: y\r\n\r\ndata: open";
        for size in [1, 2, 7, 100] {
            let mut lines = Lines::default();
            let mut messages = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                lines.push(chunk).unwrap();
                messages.extend(std::iter::from_fn(|| lines.message()));
            }
            assert_eq!(messages, ["", "{\"a\":1}", "x\ny"], "{size}");
        }
    }

    #[test]
    fn a_message_without_an_end_is_cut_off() {
        let mut lines = Lines::default();
        let chunk = vec![b'a'; ANSWER_BYTES_MAX / 2];
        lines.push(&chunk).unwrap();
        lines.push(&chunk).unwrap();
        assert!(lines.push(b"a").is_err());
    }
}
