//! From the tokens of an attempt to what its client is given: whole characters, and calls of tools.

use std::collections::VecDeque;

use bytes::Bytes;
use types::inference::{Span, TokenPiece};

use super::Event;
use crate::text::TextAssembler;

/// See the module.
#[derive(Default)]
pub(super) struct Delivery {
    /// To be given, the oldest first.
    pub(super) events: VecDeque<Event>,
    /// Something was given to the client.
    pub(super) delivered: bool,
    text: TextAssembler,
    /// What the last piece belonged to.
    span: Span,
    /// Some belonged to a call.
    calls: bool,
    /// Tokens whose last character is not complete.
    held: Vec<TokenPiece>,
    /// Those that have come, until all are there, if it is vectors that are asked for.
    vectors: Option<Vec<Bytes>>,
}

impl Delivery {
    pub(super) fn of(wants_vectors: bool) -> Delivery {
        Delivery { vectors: wants_vectors.then(Vec::new), ..Delivery::default() }
    }

    /// Takes tokens in, in order.
    pub(super) fn take(&mut self, pieces: Vec<TokenPiece>) {
        if let Some(vectors) = &mut self.vectors {
            vectors.extend(pieces.into_iter().map(|piece| Bytes::from(piece.bytes)));
            return;
        }
        if self.calls || pieces.iter().any(|piece| piece.span != Span::Text) {
            return self.take_calls(pieces);
        }
        self.take_text(pieces);
    }

    /// Tokens that were not given, because their last character is not complete.
    pub(super) fn held(&self) -> u32 {
        u32::try_from(self.held.len()).unwrap_or(u32::MAX)
    }

    /// Gives what was kept back of a whole answer: all vectors, or half a character as such.
    pub(super) fn finish(&mut self) {
        if let Some(vectors) = self.vectors.take() {
            return self.events.push_back(Event::Vectors(vectors));
        }
        let mut rest = String::new();
        self.text.finish(&mut rest);
        match self.span {
            Span::CallName | Span::Vector => {}
            Span::CallArguments => self.arguments(rest),
            Span::Text if rest.is_empty() => {}
            Span::Text => {
                self.delivered = true;
                let pieces = std::mem::take(&mut self.held);
                self.events.push_back(Event::Tokens { text: rest, pieces });
            }
        }
    }

    /// What may be a part of a call, in order.
    fn take_calls(&mut self, pieces: Vec<TokenPiece>) {
        self.calls = true;
        for piece in pieces {
            if piece.span != self.span {
                // Half a character at the end of a text or of arguments will not become one.
                self.finish();
                self.span = piece.span;
            }
            match piece.span {
                // The session lets none through.
                Span::Vector => {}
                Span::Text => self.take_text(vec![piece]),
                Span::CallName => {
                    let name = String::from_utf8_lossy(&piece.bytes).into_owned();
                    self.delivered = true;
                    self.events.push_back(Event::Call { name });
                }
                Span::CallArguments => {
                    let mut text = String::new();
                    self.text.push(&piece.bytes, &mut text);
                    self.arguments(text);
                }
            }
        }
    }

    fn arguments(&mut self, more: String) {
        if more.is_empty() {
            return;
        }
        match self.events.back_mut() {
            Some(Event::Arguments { text }) => *text += &more,
            _ => self.events.push_back(Event::Arguments { text: more }),
        }
    }

    fn take_text(&mut self, mut pieces: Vec<TokenPiece>) {
        let mut text = String::new();
        for piece in &pieces {
            self.text.push(&piece.bytes, &mut text);
        }
        if text.is_empty() {
            self.held.append(&mut pieces);
            return;
        }
        if !self.held.is_empty() {
            self.held.append(&mut pieces);
            pieces = std::mem::take(&mut self.held);
        }
        // Tokens that lie wholly in an unfinished character wait for its end.
        let (mut waiting, mut given) = (self.text.unfinished(), pieces.len());
        while let Some(last) = pieces[..given].last().filter(|last| last.bytes.len() <= waiting) {
            waiting -= last.bytes.len();
            given -= 1;
        }
        self.held = pieces.split_off(given);
        self.delivered = true;
        self.events.push_back(Event::Tokens { text, pieces });
    }
}
