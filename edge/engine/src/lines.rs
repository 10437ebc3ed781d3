//! Bytes from a server, cut into lines and server-sent events, however the network split them.
//!
//! Everything is bounded: a line or an event longer than [`LINE_BYTES_MAX`] ends the stream.

/// A chunk of an answer with 20 alternatives is about 3 KiB.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// A line or an event is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it sent a line of more than {LINE_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

/// Cuts bytes at line feeds; a carriage return before one is not part of the line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Vec::new();
        let mut parts = bytes.split(|byte| *byte == b'\n');
        let begun = parts.next_back().unwrap_or_default();
        for part in parts {
            self.grow(part)?;
            lines.push(self.take());
        }
        self.grow(begun)?;
        Ok(lines)
    }

    /// The last line, if the stream ended without a line feed.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        Some(self.take()).filter(|line| !line.is_empty())
    }

    fn grow(&mut self, part: &[u8]) -> Result<(), LineTooLong> {
        if self.begun.len().saturating_add(part.len()) > LINE_BYTES_MAX {
            return Err(LineTooLong);
        }
        self.begun.extend_from_slice(part);
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.begun);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        line
    }
}

/// The data of server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
///
/// Besides `data`, the field `error` is data too: older llama-servers report errors in it. An event
/// that the stream ends within counts, because some servers leave out the last empty line.
#[derive(Debug, Default)]
pub(crate) struct Events {
    lines: Lines,
    data: Option<Vec<u8>>,
}

impl Events {
    /// The data of the events that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut events = Vec::new();
        for line in self.lines.push(bytes)? {
            events.extend(self.line(&line)?);
        }
        Ok(events)
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> Result<Option<Vec<u8>>, LineTooLong> {
        if let Some(line) = self.lines.finish() {
            self.line(&line)?;
        }
        Ok(self.data.take())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Vec<u8>>, LineTooLong> {
        if line.is_empty() {
            return Ok(self.data.take());
        }
        let value = line.strip_prefix(b"data:").or_else(|| line.strip_prefix(b"error:"));
        if let Some(value) = value {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            let mut data = match self.data.take() {
                Some(mut data) => {
                    data.push(b'\n');
                    data
                }
                None => Vec::new(),
            };
            if data.len().saturating_add(value.len()) > LINE_BYTES_MAX {
                return Err(LineTooLong);
            }
            data.extend_from_slice(value);
            self.data = Some(data);
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut machine = Events::default();
        let mut events = Vec::new();
        for chunk in chunks {
            events.extend(machine.push(chunk).unwrap());
        }
        events.extend(machine.finish().unwrap());
        events.into_iter().map(|event| String::from_utf8_lossy(&event).into_owned()).collect()
    }

    fn check(stream: &str, expected: &[&str]) {
        assert_eq!(events(&[stream.as_bytes()]), expected, "{stream:?}");
    }

    #[test]
    fn events_are_what_the_standard_says() {
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data:a\r\n\r\n", &["a"]);
        check(": comment\nid: 3\nevent: x\ndata: a\nretry: 5\n\n", &["a"]);
        check("data: a\ndata:  b\n\n", &["a\n b"]);
        check("\n\n\ndata: a\n\n\n", &["a"]);
        check("error: {}\n\n", &["{}"]);
        check("data: a", &["a"]);
        check("", &[]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(&vec![b'x'; LINE_BYTES_MAX]), Ok(vec![]));
        assert_eq!(lines.push(b"x"), Err(LineTooLong));
        let mut events = Events::default();
        let line = [b"data:".as_slice(), &vec![b'x'; LINE_BYTES_MAX / 2], b"\n"].concat();
        assert_eq!(events.push(&line), Ok(vec![]));
        assert_eq!(events.push(&line), Err(LineTooLong));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            stream in "(data: ?|error: ?|: |[a{\u{e9}\u{1f980}]|\r?\n){0,40}",
            cuts in prop::collection::vec(0usize..120, 0..8),
        ) {
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&chunks), events(&[bytes]));
        }
    }
}
