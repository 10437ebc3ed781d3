//! Whether the tokens of a response are its text, and whether it repeats itself as long as Ollama allows.

use types::limits::{STOP_BYTES_MAX, TOKEN_BYTES_MAX};

use super::Check;

/// Bytes by which tokens may be ahead of the text or behind it: what an engine withholds is at most the
/// beginning of a stop sequence and a token.
const AHEAD_BYTES_MAX: usize = STOP_BYTES_MAX + TOKEN_BYTES_MAX;
/// Ollama ends an answer before it delivers the 31st repetition of a piece.
const REPEATS_MAX: u32 = 30;

/// Compares the bytes of the tokens with those of the text, as both arrive. Of what was compared nothing is
/// kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Concatenation {
    state: Check,
    /// What one of the two has and the other not yet.
    ahead: Vec<u8>,
    ahead_is_text: bool,
}

impl Default for Concatenation {
    fn default() -> Concatenation {
        Concatenation { state: Check::Holds, ahead: Vec::new(), ahead_is_text: false }
    }
}

impl Concatenation {
    /// The bytes of the next token, by the vocabulary; `None` if they are not known, which leaves the
    /// whole unknown.
    pub fn push_token(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.push(bytes, false),
            None if self.state == Check::Holds => self.state = Check::Unknown,
            None => {}
        }
    }

    /// The next bytes of the text.
    pub fn push_text(&mut self, bytes: &[u8]) {
        self.push(bytes, true);
    }

    fn push(&mut self, bytes: &[u8], is_text: bool) {
        if self.state != Check::Holds {
            return;
        }
        let mut rest = bytes;
        if self.ahead_is_text != is_text {
            let common = self.ahead.len().min(bytes.len());
            let (compared, left) = bytes.split_at_checked(common).unwrap_or((bytes, &[]));
            if !self.ahead.starts_with(compared) {
                self.state = Check::Broken;
                return;
            }
            self.ahead.drain(..common);
            rest = left;
        }
        if !rest.is_empty() {
            self.ahead_is_text = is_text;
            if self.ahead.len().saturating_add(rest.len()) > AHEAD_BYTES_MAX {
                self.state = Check::Broken;
                return;
            }
            self.ahead.extend_from_slice(rest);
        }
    }

    /// Whether the token with these bytes, drawn after the last one, would have ended the answer by a stop sequence, or would
    /// have gone on with one. The text ends where that sequence begins, which may be in the last token.
    pub fn goes_on_with(&self, stops: &[&[u8]], bytes: &[u8]) -> bool {
        let ahead = if self.ahead_is_text { &[][..] } else { self.ahead.as_slice() };
        let next = [ahead, bytes].concat();
        let meets = |stop: &&[u8]| stop.starts_with(&next) || next.starts_with(stop);
        !bytes.is_empty() && stops.iter().filter(|stop| !stop.is_empty()).any(meets)
    }

    /// Whether the tokens have begun one of `stops` that the text has not: then no other end explains the text.
    pub fn has_begun(&self, stops: &[&[u8]]) -> bool {
        let ahead = self.ahead.as_slice();
        !self.ahead_is_text && !ahead.is_empty() && stops.iter().any(|it| it.starts_with(ahead))
    }

    /// Whether the tokens are the text, and whether it was cut before one of `stops`. Tokens may have more
    /// bytes than the text: such a stop sequence and what came with it, the beginning of one, whose other tokens are not
    /// delivered, or a character that never came whole.
    pub fn finish(&self, stops: &[&[u8]]) -> (Check, bool) {
        let ahead = self.ahead.as_slice();
        let cut = !self.ahead_is_text
            && stops.iter().any(|stop| !stop.is_empty() && ahead.starts_with(stop));
        let begun = std::str::from_utf8(ahead)
            .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none());
        let begun = begun || self.has_begun(stops);
        let explained = ahead.is_empty() || (!self.ahead_is_text && (cut || begun));
        match self.state {
            Check::Holds if explained => (Check::Holds, cut),
            Check::Holds | Check::Broken => (Check::Broken, false),
            Check::Unknown => (Check::Unknown, false),
        }
    }
}

/// Counts repetitions as Ollama does: of delivered pieces without the white space around them, beginning
/// with an empty one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repeats {
    last: String,
    count: u32,
}

impl Repeats {
    pub fn push(&mut self, piece: &str) {
        let piece = piece.trim();
        if piece == self.last {
            self.count = self.count.saturating_add(1);
        } else {
            self.count = 0;
            self.last.clear();
            self.last.push_str(piece);
        }
    }

    /// Whether one more of them ends the answer.
    pub fn aborts(&self) -> bool {
        self.count >= REPEATS_MAX
    }
}
