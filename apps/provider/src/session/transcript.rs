//! What was delivered, as counts and digests.

use types::{
    Hash32,
    hash::{StreamHash, merkle_root},
    inference::{CountMethod, TokenPiece},
};

/// Grows with every delivered token; goes back only over tokens whose sending failed.
#[derive(Clone, Default)]
pub(crate) struct Transcript {
    leaves: Vec<Hash32>,
    response: StreamHash,
    without_id: u32,
}

/// A point to go back to.
pub(crate) struct Point {
    leaves: usize,
    response: StreamHash,
    without_id: u32,
}

impl Transcript {
    pub(crate) fn push(&mut self, piece: &TokenPiece) {
        self.leaves.push(piece.transcript_leaf());
        self.response.update(&piece.bytes);
        self.without_id = self.without_id.saturating_add(u32::from(piece.id.is_none()));
    }

    /// Tokens delivered. At most `COMPLETION_TOKENS_MAX`, which the session sees to.
    pub(crate) fn delivered(&self) -> u32 {
        u32::try_from(self.leaves.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn response_hash(&self) -> Hash32 {
        self.response.finish()
    }

    pub(crate) fn root(&self) -> Hash32 {
        merkle_root(&self.leaves)
    }

    pub(crate) fn counted(&self) -> CountMethod {
        if self.without_id == 0 { CountMethod::TokenIds } else { CountMethod::Chunks }
    }

    pub(crate) fn point(&self) -> Point {
        let (leaves, without_id) = (self.leaves.len(), self.without_id);
        Point { leaves, response: self.response.clone(), without_id }
    }

    pub(crate) fn go_back(&mut self, point: Point) {
        self.leaves.truncate(point.leaves);
        self.response = point.response;
        self.without_id = point.without_id;
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Point(after {} tokens)", self.leaves)
    }
}

impl std::fmt::Debug for Transcript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transcript({} tokens)", self.leaves.len())
    }
}
