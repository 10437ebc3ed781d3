//! Stop sequences: ends an answer before the first of them, whatever the boundaries of the tokens.
//!
//! Works on bytes. Text that may turn out to begin a stop sequence is held back until it is clear
//! that it does not. The answer depends on the bytes alone: any split of them into pieces delivers
//! the same text. To make that so, the first stop sequence *to be complete* ends the answer, and of
//! those complete at one byte the longest.

use std::collections::VecDeque;

use types::inference::TokenPiece;

/// Cuts a stream of pieces before the first stop sequence.
#[derive(Debug)]
pub(crate) struct StopMachine {
    stops: Vec<Vec<u8>>,
    held: VecDeque<TokenPiece>,
    /// The bytes of `held`, in order. Its length is below the longest stop sequence plus one piece.
    tail: Vec<u8>,
}

/// What may be delivered now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Continue(Vec<TokenPiece>),
    /// The answer ends after these.
    Stopped(Vec<TokenPiece>),
}

impl StopMachine {
    /// Empty stop sequences are ignored.
    pub(crate) fn new(stops: &[String]) -> StopMachine {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        StopMachine {
            stops: stops.map(|stop| stop.clone().into_bytes()).collect(),
            held: VecDeque::new(),
            tail: Vec::new(),
        }
    }

    /// Nothing is held back.
    pub(crate) fn has_none(&self) -> bool {
        self.stops.is_empty()
    }

    /// Takes the next piece, which is not empty.
    pub(crate) fn push(&mut self, piece: TokenPiece) -> Step {
        if self.stops.is_empty() {
            return Step::Continue(vec![piece]);
        }
        let seen = self.tail.len();
        self.tail.extend_from_slice(&piece.bytes);
        self.held.push_back(piece);
        match self.first_match(seen) {
            Some(start) => Step::Stopped(self.release_cut(start)),
            None => Step::Continue(self.release_whole(self.tail.len() - self.undecided())),
        }
    }

    /// The answer ended otherwise: everything held back belongs to it.
    pub(crate) fn finish(&mut self) -> Vec<TokenPiece> {
        self.tail.clear();
        self.held.drain(..).collect()
    }

    /// Where the stop sequence starts that is complete first, at a byte after `seen`.
    fn first_match(&self, seen: usize) -> Option<usize> {
        (seen + 1..=self.tail.len()).find_map(|end| {
            let done = self.tail.get(..end)?;
            let longest = self.stops.iter().filter(|stop| done.ends_with(stop)).map(Vec::len).max();
            longest.map(|length| end - length)
        })
    }

    /// Bytes at the end of the tail that may begin a stop sequence.
    fn undecided(&self) -> usize {
        let may_begin = |suffix: &[u8]| {
            self.stops.iter().any(|stop| suffix.len() < stop.len() && stop.starts_with(suffix))
        };
        let longest = self.stops.iter().map(Vec::len).max().unwrap_or(0);
        let from = self.tail.len().saturating_sub(longest.saturating_sub(1));
        (from..self.tail.len())
            .find(|start| self.tail.get(*start..).is_some_and(may_begin))
            .map_or(0, |start| self.tail.len() - start)
    }

    /// The pieces that lie wholly within the first `bytes`.
    fn release_whole(&mut self, bytes: usize) -> Vec<TokenPiece> {
        let mut released = Vec::new();
        let mut end = 0;
        while let Some(piece) = self.held.front()
            && end + piece.bytes.len() <= bytes
        {
            end += piece.bytes.len();
            released.extend(self.held.pop_front());
        }
        self.tail.drain(..end);
        released
    }

    /// Exactly the first `bytes`, the last piece cut; drops the rest.
    fn release_cut(&mut self, bytes: usize) -> Vec<TokenPiece> {
        let mut released = self.release_whole(bytes);
        let whole: usize = released.iter().map(|piece| piece.bytes.len()).sum();
        if let Some(mut piece) = self.held.pop_front()
            && bytes > whole
        {
            piece.bytes.truncate(bytes - whole);
            released.push(piece);
        }
        self.held.clear();
        self.tail.clear();
        released
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(bytes: &[u8]) -> TokenPiece {
        TokenPiece { bytes: bytes.to_vec(), ..TokenPiece::default() }
    }

    /// Feeds `pieces`; what was delivered, joined per step with `|`, and whether a stop came.
    fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut machine = StopMachine::new(&stops);
        let mut delivered = Vec::new();
        for bytes in pieces {
            match machine.push(piece(bytes)) {
                Step::Continue(pieces) => delivered.extend(pieces),
                Step::Stopped(pieces) => {
                    delivered.extend(pieces);
                    return (delivered.into_iter().map(|piece| piece.bytes).collect(), true);
                }
            }
        }
        delivered.extend(machine.finish());
        (delivered.into_iter().map(|piece| piece.bytes).collect(), false)
    }

    fn check(stops: &[&str], pieces: &[&str], delivered: &[&str], stopped: bool) {
        let bytes: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let (got, got_stopped) = run(stops, &bytes);
        let got: Vec<String> = got.into_iter().map(|b| String::from_utf8(b).unwrap()).collect();
        assert_eq!(
            (got, got_stopped),
            (delivered.iter().map(|s| s.to_string()).collect(), stopped)
        );
    }

    #[test]
    fn a_stop_sequence_is_never_delivered() {
        check(&["END"], &["one ", "END", " two"], &["one "], true);
        check(&["END"], &["one E", "N", "D two"], &["one "], true);
        check(&["END"], &["one EN", "d"], &["one EN", "d"], false);
        check(&["END"], &["EN"], &["EN"], false);
        check(&[], &["END"], &["END"], false);
        check(&["\n\n"], &["a\n", "\nb"], &["a"], true);
        check(&["aab"], &["a", "a", "a", "b"], &["a"], true);
    }

    #[test]
    fn the_stop_that_is_complete_first_wins() {
        check(&["abc", "b"], &["abc"], &["a"], true);
        check(&["abc", "b"], &["a", "b", "c"], &["a"], true);
        check(&["bc", "abc"], &["xabc"], &["x"], true);
    }

    #[test]
    fn text_is_held_back_only_while_it_may_begin_a_stop() {
        let mut machine = StopMachine::new(&["END".to_owned()]);
        assert_eq!(machine.push(piece(b"a")), Step::Continue(vec![piece(b"a")]));
        assert_eq!(machine.push(piece(b"bE")), Step::Continue(vec![]));
        assert_eq!(machine.push(piece(b"x")), Step::Continue(vec![piece(b"bE"), piece(b"x")]));
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_delivers_the_same_text(
            text in "[ab\u{e9}]{0,24}",
            stops in prop::collection::vec("[ab\u{e9}]{1,4}", 0..4),
            cuts in prop::collection::vec(0usize..25, 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).filter(|piece| !piece.is_empty());
            let pieces: Vec<&[u8]> = pieces.collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let (split, split_stopped) = run(&stops, &pieces);
            let (one_by_one, stopped) = run(&stops, &single);
            prop_assert_eq!(split.concat(), one_by_one.concat());
            prop_assert_eq!(split_stopped, stopped);
            let delivered = split.concat();
            prop_assert!(bytes.starts_with(&delivered));
            for stop in stops {
                prop_assert!(!delivered.windows(stop.len()).any(|window| window == stop.as_bytes()));
            }
        }
    }
}
