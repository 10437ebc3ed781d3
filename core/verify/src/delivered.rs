//! What was delivered, in the form that a receipt's `transcript_root` digests: both sides write it, token by token.
//!
//! Of a response in profile NP-1 these are the leaves of a [`Transcript`], so that a provider has committed to all it
//! reported. Of any other it is one leaf per token, [`TokenPiece::transcript_leaf`].

use types::{
    Hash32,
    hash::merkle_root,
    inference::{InferenceRequest, TokenPiece},
};

use crate::{
    engines::Drawing, leaf::LeafToken, logits::CANDIDATES_MAX, profile, transcript::Transcript,
};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Delivered {
    Tokens(Vec<Hash32>),
    Leaves(Transcript),
}

impl Delivered {
    /// Nothing yet, of a response whose report names this profile.
    pub fn of(profile: &str) -> Delivered {
        match profile {
            profile::NAME => Delivered::Leaves(Transcript::default()),
            _ => Delivered::Tokens(Vec::new()),
        }
    }

    pub fn push(&mut self, piece: &TokenPiece) {
        match self {
            Delivered::Tokens(leaves) => leaves.push(piece.transcript_leaf()),
            Delivered::Leaves(transcript) => transcript.push(LeafToken::of_piece(piece)),
        }
    }

    /// Tokens, or vectors.
    pub fn len(&self) -> usize {
        match self {
            Delivered::Tokens(leaves) => leaves.len(),
            Delivered::Leaves(transcript) => transcript.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes back all but the first `count`.
    pub fn truncate(&mut self, count: usize) {
        match self {
            Delivered::Tokens(leaves) => leaves.truncate(count),
            Delivered::Leaves(transcript) => transcript.truncate(count),
        }
    }

    pub fn root(&self) -> Hash32 {
        match self {
            Delivered::Tokens(leaves) => merkle_root(leaves),
            Delivered::Leaves(transcript) => transcript.root(),
        }
    }
}

/// The profile that the report of an answer to `request` names: NP-1 if its seed is the derived one, nothing was
/// begun before, all candidates are to be reported, and the engine tells ids. Otherwise it is none.
pub fn profile_of(request: &InferenceRequest, seed: u32, engine_version: &str) -> &'static str {
    let tells_ids = Drawing::of(engine_version).is_some_and(|drawing| drawing.tells_ids);
    let is_reported = request.logprobs.is_some_and(|count| usize::from(count) >= CANDIDATES_MAX);
    let is_derived = request.sampling.seed == Some(seed.into());
    let is_np1 = tells_ids && is_reported && is_derived && request.begun.is_none();
    if is_np1 { profile::NAME } else { profile::NO_NAME }
}

#[cfg(test)]
mod tests {
    use types::inference::{Alternative, Begun, Prompt, Sampling};

    use super::*;

    fn piece(id: u32) -> TokenPiece {
        let alternative =
            |id: u32| Alternative { id: Some(id), bytes: vec![65], logprob_micros: -(id as i32) };
        TokenPiece {
            id: Some(id),
            bytes: vec![65],
            alternatives: (0..3).map(alternative).collect(),
            ..TokenPiece::default()
        }
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace() {
        for profile in [profile::NAME, profile::NO_NAME] {
            let mut all = Delivered::of(profile);
            let mut roots = vec![all.clone()];
            for id in 0..70 {
                all.push(&piece(id));
                roots.push(all.clone());
            }
            for count in (0..=70).rev() {
                all.truncate(count);
                assert_eq!((all.len(), all.root()), (count, roots[count].root()), "{profile}");
                assert_eq!(all, roots[count]);
            }
        }
    }

    #[test]
    fn a_profile_needs_everything() {
        let request = InferenceRequest {
            sampling: Sampling { seed: Some(7), ..Sampling::default() },
            logprobs: Some(20),
            ..InferenceRequest::of(Prompt::Text("x".into()))
        };
        let begun = Begun { text: "y".into(), ids: Vec::new() };
        let check = |request: &InferenceRequest, seed, version, expected| {
            assert_eq!(profile_of(request, seed, version), expected, "{version}");
        };
        check(&request, 7, "llama.cpp b1", profile::NAME);
        check(&request, 8, "llama.cpp b1", profile::NO_NAME);
        check(&request, 7, "ollama 0.30.0", profile::NO_NAME);
        let few = InferenceRequest { logprobs: Some(19), ..request.clone() };
        check(&few, 7, "llama.cpp b1", profile::NO_NAME);
        let rest = InferenceRequest { begun: Some(begun), ..request };
        check(&rest, 7, "llama.cpp b1", profile::NO_NAME);
    }
}
