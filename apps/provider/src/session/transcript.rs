//! What was delivered, as counts and digests.

use types::{
    Hash32,
    hash::StreamHash,
    inference::{CountMethod, TokenPiece},
};
use verify::delivered::Delivered;

/// Grows with every delivered token; goes back only over tokens whose sending failed.
pub(crate) struct Transcript {
    delivered: Delivered,
    response: StreamHash,
    /// The bytes themselves, where an auditor may ask for them.
    text: Vec<u8>,
    without_id: u32,
}

/// A point to go back to.
pub(crate) struct Point {
    tokens: usize,
    response: StreamHash,
    bytes: usize,
    without_id: u32,
}

impl Transcript {
    pub(crate) fn of(profile: &str) -> Transcript {
        Transcript {
            delivered: Delivered::of(profile),
            response: StreamHash::default(),
            text: Vec::new(),
            without_id: 0,
        }
    }

    pub(crate) fn push(&mut self, piece: &TokenPiece) {
        self.delivered.push(piece);
        self.response.update(&piece.bytes);
        if matches!(self.delivered, Delivered::Leaves(_)) {
            self.text.extend_from_slice(&piece.bytes);
        }
        self.without_id = self.without_id.saturating_add(u32::from(piece.id.is_none()));
    }

    /// Tokens delivered. At most `COMPLETION_TOKENS_MAX`, which the session sees to.
    pub(crate) fn delivered(&self) -> u32 {
        u32::try_from(self.delivered.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn response_hash(&self) -> Hash32 {
        self.response.finish()
    }

    pub(crate) fn root(&self) -> Hash32 {
        self.delivered.root()
    }

    pub(crate) fn counted(&self) -> CountMethod {
        if self.without_id == 0 { CountMethod::TokenIds } else { CountMethod::Chunks }
    }

    pub(crate) fn point(&self) -> Point {
        Point {
            tokens: self.delivered.len(),
            response: self.response.clone(),
            bytes: self.text.len(),
            without_id: self.without_id,
        }
    }

    pub(crate) fn go_back(&mut self, point: Point) {
        self.delivered.truncate(point.tokens);
        self.text.truncate(point.bytes);
        self.response = point.response;
        self.without_id = point.without_id;
    }

    /// What an auditor may ask for: the delivered bytes and the leaves. `None`: the answer is in no profile.
    pub(crate) fn disclosed(&self) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
        match &self.delivered {
            Delivered::Tokens(_) => None,
            Delivered::Leaves(transcript) => Some((self.text.clone(), transcript.leaves())),
        }
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Point(after {} tokens)", self.tokens)
    }
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transcript({} tokens)", self.delivered.len())
    }
}
