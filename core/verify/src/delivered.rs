//! What was delivered, in the form that a receipt's `transcript_root` digests: both sides write it, token by token.
//!
//! Of a response in profile NP-1, or that is audited by its log-probabilities, these are the leaves of a [`Transcript`], so
//! that a provider has committed to all it reported. Of any other it is one leaf per token, [`TokenPiece::transcript_leaf`].

use types::{
    Hash32,
    hash::merkle_root,
    inference::{InferenceRequest, TokenPiece},
};

use crate::{
    engines::Drawing,
    leaf::LeafToken,
    logits::CANDIDATES_MAX,
    profile::{self, Drafting, Standing, standing},
    transcript::Transcript,
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
            name if profile::is_audited(name) => Delivered::Leaves(Transcript::default()),
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

/// The profile that the report of an answer to `request` names, if its client lets it be disclosed and the engine tells ids
/// and is asked for all candidates: NP-1 if every setting is said as the profile has it and answers of such an engine were
/// drawn again; audited by log-probabilities if these can be compared ([`profile::is_comparable`]); otherwise none.
pub fn profile_of(
    request: &InferenceRequest,
    seed: u32,
    discloses: bool,
    engine_version: &str,
) -> &'static str {
    let is_reported = request.logprobs.is_some_and(|count| usize::from(count) >= CANDIDATES_MAX);
    let is_comparable = profile::is_comparable(request);
    let drawing = Drawing::of(engine_version).filter(|drawing| drawing.tells_ids);
    let Some(drawing) = drawing.filter(|_| discloses && is_reported && is_comparable) else {
        return profile::NO_NAME;
    };
    match standing(request, seed, Drafting::None) {
        Standing::Replayable(profile)
            if drawing.is_proven && request.sampling == profile.sampling() =>
        {
            profile::NAME
        }
        Standing::Replayable(_) => profile::L1_NAME,
        Standing::Unreplayable(reasons) if reasons.iter().any(|it| it.hides_logprobs()) => {
            profile::NO_NAME
        }
        Standing::Unreplayable(_) => profile::L1_NAME,
        Standing::Unscorable => profile::NO_NAME,
    }
}

#[cfg(test)]
mod tests {
    use types::{
        inference::{Alternative, AnswerForm, Begun, ChatMessage, Prompt, Role, Sampling},
        tools::{ToolChoice, Tools},
    };

    use super::*;
    use crate::profile::Profile;

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
        for profile in [profile::NAME, profile::L1_NAME, profile::NO_NAME] {
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

    fn request() -> InferenceRequest {
        let profile =
            Profile { temperature_micros: 800_000, top_k: 20, top_p_micros: 900_000, seed: 7 };
        InferenceRequest {
            sampling: profile.sampling(),
            logprobs: Some(20),
            ..InferenceRequest::of(Prompt::Text("x".into()))
        }
    }

    fn check(request: &InferenceRequest, version: &str, expected: &str) {
        assert_eq!(profile_of(request, 7, true, version), expected, "{version} {request:?}");
        assert_eq!(profile_of(request, 7, false, version), profile::NO_NAME, "{version}");
    }

    #[test]
    fn a_profile_needs_everything() {
        let llama = "llama.cpp b1";
        check(&request(), llama, profile::NAME);
        check(&request(), "ollama 0.30.0", profile::NO_NAME);
        // Nobody has drawn answers of a real one again yet.
        check(&request(), "ollama 0.30.0 ids", profile::L1_NAME);
        let few = InferenceRequest { logprobs: Some(19), ..request() };
        check(&few, llama, profile::NO_NAME);
        let begun = Begun { text: "y".into(), ids: Vec::new() };
        let rest = InferenceRequest { begun: Some(begun), ..request() };
        check(&rest, llama, profile::NO_NAME);
        let call = ChatMessage {
            call_id: Some("c1".into()),
            ..ChatMessage::text(Role::Tool, "42".into())
        };
        let called = InferenceRequest { prompt: Prompt::Chat(vec![call]), ..request() };
        check(&called, llama, profile::NO_NAME);
        for change in [
            |it: &mut Sampling| it.temperature_micros = Some(1_000_001),
            |it: &mut Sampling| it.presence_penalty_micros = Some(-1_500_001),
            |it: &mut Sampling| it.repeat_penalty_micros = Some(1_300_001),
        ] {
            let mut wild = request();
            change(&mut wild.sampling);
            check(&wild, llama, profile::NO_NAME);
        }
    }

    #[test]
    fn what_cannot_be_drawn_again_is_audited_by_its_log_probabilities() {
        let changed = |change: fn(&mut InferenceRequest)| {
            let mut request = request();
            change(&mut request);
            request
        };
        let changes: [fn(&mut InferenceRequest); 7] = [
            |it| it.sampling.seed = Some(8),
            |it| it.sampling.top_k = Some(40),
            |it| it.sampling.min_p_micros = Some(50_000),
            |it| it.sampling.presence_penalty_micros = Some(1),
            |it| it.form = Some(AnswerForm::Json),
            // What is not said, the engine decides.
            |it| it.sampling.top_k = None,
            |it| it.sampling.seed = None,
        ];
        for change in changes {
            check(&changed(change), "embedded candle 0.11.1", profile::L1_NAME);
        }
        let tools = changed(|it| {
            it.tools = Some(Tools { list: Vec::new(), choice: ToolChoice::Auto, parallel: true });
        });
        check(&tools, "llama.cpp b1", profile::NO_NAME);
    }
}
