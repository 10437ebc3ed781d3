//! Bytes from a server, cut into lines and server-sent events, however the network split them.
//!
//! Everything is bounded: a line or an event longer than [`LINE_BYTES_MAX`] ends the stream.

use std::io::BufRead;

/// A chunk of an answer with 20 alternatives is about 3 KiB.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// A line or an event is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it sent a line of more than {LINE_BYTES_MAX} bytes")]
pub(crate) struct LineTooLong;

/// What stands before the first line feed of `bytes`, if there is one, and what stands after it.
fn split_line(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut rest = bytes;
    // From memory: cannot fail.
    let length = rest.skip_until(b'\n').unwrap_or_default();
    let line = bytes.get(..length).and_then(|line| line.strip_suffix(b"\n"));
    (line, if line.is_some() { rest } else { bytes })
}

/// A line without the carriage return before its line feed.
fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Cuts bytes at line feeds; a carriage return before one is not part of the line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// The lines that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, LineTooLong> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let (Some(part), after) = split_line(rest) {
            self.grow(part)?;
            lines.push(self.take());
            rest = after;
        }
        self.grow(rest)?;
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
        line.truncate(without_return(&line).len());
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
    /// Gives `take` the data of each event that `bytes` complete. What lies whole in `bytes`, as most does, is not copied.
    pub(crate) fn push<E: From<LineTooLong>>(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        // The data so far, if it is of one line in `bytes`. Then there is none in `self`.
        let mut whole: Option<&[u8]> = None;
        while let (Some(part), after) = split_line(rest) {
            rest = after;
            if !self.lines.begun.is_empty() {
                // The first of `bytes`.
                self.lines.grow(part)?;
                let line = self.lines.take();
                if let Some(data) = self.line(&line)? {
                    take(&data)?;
                }
                continue;
            }
            if part.len() > LINE_BYTES_MAX {
                return Err(LineTooLong.into());
            }
            let line = without_return(part);
            match (data_of(line), whole) {
                (Some(data), None) if self.data.is_none() => whole = Some(data),
                (Some(data), first) => {
                    first.into_iter().try_for_each(|first| self.append(first))?;
                    self.append(data)?;
                    whole = None;
                }
                (None, Some(data)) if line.is_empty() => {
                    take(data)?;
                    whole = None;
                }
                (None, None) if line.is_empty() => {
                    self.data.take().into_iter().try_for_each(|data| take(&data))?;
                }
                (None, _) => {}
            }
        }
        whole.into_iter().try_for_each(|data| self.append(data))?;
        Ok(self.lines.grow(rest)?)
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
        data_of(line).map_or(Ok(()), |data| self.append(data))?;
        Ok(None)
    }

    fn append(&mut self, value: &[u8]) -> Result<(), LineTooLong> {
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
        Ok(())
    }
}

/// What a line says, if it says something.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data:").or_else(|| line.strip_prefix(b"error:"))?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<String> {
        let mut machine = Events::default();
        let mut events = Vec::new();
        for chunk in chunks {
            let mut take = |event: &[u8]| {
                events.push(event.to_vec());
                Ok::<_, LineTooLong>(())
            };
            machine.push(chunk, &mut take).unwrap();
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
        let none = |_: &[u8]| -> Result<(), LineTooLong> { panic!("no event has ended") };
        assert_eq!(events.push(&line, none), Ok(()));
        assert_eq!(events.push(&line, none), Err(LineTooLong));
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
