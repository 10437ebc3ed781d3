//! L0: whether the tokens of an answer are those that its seed draws from what was reported with them
//! (`docs/spec/verification.md`). Of every answer that can be replayed, while it streams, without a model. Others are asked
//! for with all candidates too if auditors can compare those later.

use types::{
    inference::{FinishReason, InferenceRequest, TokenPiece},
    limits,
    offer::ModelOffer,
};
use verify::{
    engines::Drawing,
    l0::{Check, Counts, Ending, Finding, Replay, Report},
    logits::Candidates,
    profile::{Drafting, Profile, Standing, is_comparable, standing},
};

/// How a request is asked so that its answer can be checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    way: Way,
    drawing: Drawing,
    /// Alternatives that the client itself wants to see.
    wanted: Option<u8>,
}

/// What is checked of an answer.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// How it is drawn, here; and all else, later.
    Replayed(Profile),
    /// What is reported, later. The seed is for a client that chose none.
    Compared { seed: u32 },
}

impl Plan {
    /// `None` if nothing can be checked: the client asks for what nobody can run again, or it may not be disclosed and not be
    /// replayed, or the engine's draws are not known. `seed` is nobody's choice.
    pub(crate) fn of(
        request: &InferenceRequest,
        offer: &ModelOffer,
        seed: u32,
        discloses: bool,
    ) -> Option<Plan> {
        let drawing = Drawing::of(&offer.engine_version)?;
        let can = offer.abilities.logprobs && offer.abilities.samplers;
        // The rest of an answer begins in the middle of its draws.
        if !can || request.begun.is_some() {
            return None;
        }
        let way = match standing(request, seed, Drafting::None) {
            Standing::Replayable(profile) => Way::Replayed(profile),
            Standing::Unreplayable(reasons) => {
                let is_hidden = reasons.iter().any(|it| it.hides_logprobs());
                let compares = discloses && drawing.tells_ids && is_comparable(request);
                (compares && !is_hidden).then_some(Way::Compared { seed })?
            }
            Standing::Unscorable => return None,
        };
        Some(Plan { way, drawing, wanted: request.logprobs })
    }

    /// Asks for what is checked.
    pub(crate) fn apply(&self, request: &mut InferenceRequest) {
        match self.way {
            Way::Replayed(profile) => request.sampling = profile.sampling(),
            Way::Compared { seed } => {
                request.sampling.seed.get_or_insert(seed.into());
            }
        }
        request.logprobs = Some(limits::TOP_LOGPROBS_MAX);
    }
}

/// A replay that goes on while its answer streams.
#[derive(Debug)]
pub(crate) struct Replaying {
    /// `None`: the answer is compared later.
    replay: Option<Replay>,
    wanted: Option<u8>,
    is_proven: bool,
    tokens: u32,
    /// A token is not what it is said to be, so how many were drawn before the next one nobody knows.
    is_lost: bool,
}

impl Replaying {
    pub(crate) fn begin(plan: &Plan) -> Replaying {
        let Drawing { samplers, is_proven, .. } = plan.drawing;
        let replay = match plan.way {
            Way::Replayed(profile) => Some(Replay::new(samplers, profile.settings(), profile.seed)),
            Way::Compared { .. } => None,
        };
        Replaying { replay, wanted: plan.wanted, is_proven, tokens: 0, is_lost: false }
    }

    /// Takes what has come, and leaves of it what the client wants to see.
    pub(crate) fn take(&mut self, pieces: &mut [TokenPiece]) {
        for piece in pieces {
            if let Some(replay) = &mut self.replay {
                // Text that no token is told for may be of several.
                let is_untold = piece.id.is_none() && piece.alternatives.is_empty();
                self.is_lost |= is_untold || hides_others(piece);
                let (id, candidates) = if self.is_lost { untold() } else { step(piece) };
                replay.push(id, &candidates);
            }
            self.tokens = self.tokens.saturating_add(1);
            match self.wanted {
                Some(count) => piece.alternatives.truncate(count.into()),
                None => {
                    piece.logprob_micros = None;
                    piece.alternatives = Vec::new();
                }
            }
        }
    }

    /// Whether what is found has consequences.
    pub(crate) fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// What came of it; `None` if nothing was drawn again. `stated`: the tokens that the provider bills, if it said; `tokens_max`: those that were asked
    /// for.
    pub(crate) fn end(
        &self,
        stated: Option<u32>,
        tokens_max: u32,
        finish: Option<FinishReason>,
    ) -> Option<(Counts, Finding)> {
        let ending = match finish {
            Some(FinishReason::Stop) => Ending::EndOfGeneration(Check::Unknown),
            // Fewer: the context was full, which is not seen from here.
            Some(FinishReason::Length) if self.tokens == tokens_max => {
                Ending::Length { tokens_max }
            }
            _ => Ending::Interrupted,
        };
        let (counts, tokens) = (self.replay.as_ref()?.counts(), self.tokens);
        let report = Report::new(counts, stated.unwrap_or(tokens), tokens, Check::Unknown, ending);
        Some((counts, report.finding()))
    }
}

/// Nothing is said of a step.
fn untold() -> (u32, Candidates) {
    (u32::MAX, Candidates::default())
}

/// Whether a token stands for several, of which only the last is named: llama.cpp's server tells a character of several tokens so. The
/// candidate of that name has other bytes then. (Of the last token of an answer a stop sequence may cut the end off.)
fn hides_others(piece: &TokenPiece) -> bool {
    let named = piece.alternatives.iter().find(|it| it.id.is_some() && it.id == piece.id);
    named.is_some_and(|named| !named.bytes.starts_with(&piece.bytes))
}

/// A token and what it was drawn from. Where the engine tells no ids, tokens are told apart by their bytes; if two have the
/// same, nothing is said of the step.
fn step(piece: &TokenPiece) -> (u32, Candidates) {
    let ids = piece.alternatives.iter().map(|it| Some((it.id?, it.logprob_micros)));
    if let (Some(id), Some(pairs)) = (piece.id, ids.collect::<Option<Vec<_>>>()) {
        return (id, Candidates::reported(pairs));
    }
    let has_twin = |at: usize| {
        let before = piece.alternatives.iter().take(at);
        before.map(|it| &it.bytes).any(|bytes| *bytes == piece.alternatives[at].bytes)
    };
    if (0..piece.alternatives.len()).any(has_twin) {
        return untold();
    }
    let labelled = (0..).zip(&piece.alternatives);
    let label = labelled.clone().find(|(_, it)| it.bytes == piece.bytes).map(|(at, _)| at);
    let pairs = labelled.map(|(at, it): (u32, _)| (at, it.logprob_micros));
    (label.unwrap_or(u32::MAX), Candidates::reported(pairs))
}

#[cfg(test)]
mod tests {
    use types::{
        ModelId, Nusd, ability::Abilities, inference::Alternative, inference::Prompt,
        inference::Sampling, offer::EngineKind, price::Price,
    };

    use super::*;

    fn offer(version: &str) -> ModelOffer {
        ModelOffer {
            model: ModelId([1; 32]),
            alias: "story".into(),
            price: Price {
                request_nusd: Nusd(0),
                prompt_nusd_per_mtok: Nusd(0),
                completion_nusd_per_mtok: Nusd(0),
            },
            context_tokens: 64,
            engine: EngineKind::Embedded,
            engine_version: version.into(),
            abilities: Abilities { logprobs: true, samplers: true, ..Abilities::default() },
        }
    }

    #[test]
    fn only_engines_whose_draws_are_known_are_replayed() {
        let request = InferenceRequest::of(Prompt::Text("x".into()));
        let is_planned = |offer: &ModelOffer| Plan::of(&request, offer, 7, true).is_some();
        assert!(is_planned(&offer("embedded candle 0.11.1")));
        assert!(!is_planned(&offer("dummy 1")));
        let blind =
            ModelOffer { abilities: Abilities::default(), ..offer("embedded candle 0.11.1") };
        assert!(!is_planned(&blind));
    }

    #[test]
    fn an_answer_that_cannot_be_drawn_again_is_asked_for_with_all_candidates() {
        let plain = InferenceRequest::of(Prompt::Text("x".into()));
        let check = |sampling: Sampling, version, discloses, expected: Option<u64>| {
            let mut request = InferenceRequest { sampling, ..plain.clone() };
            let plan = Plan::of(&request, &offer(version), 7, discloses);
            let asked = plan.map(|plan| {
                assert!(Replaying::begin(&plan).end(None, 1, None).is_none());
                plan.apply(&mut request);
                assert_eq!(request.logprobs, Some(20));
                request.sampling.seed.unwrap()
            });
            assert_eq!(asked, expected, "{version} {discloses}");
        };
        let (own, many) = (
            || Sampling { seed: Some(5), ..Sampling::default() },
            || Sampling { top_k: Some(40), ..Sampling::default() },
        );
        check(own(), "embedded candle 0.11.1", true, Some(5));
        check(many(), "llama.cpp b1", true, Some(7));
        check(own(), "llama.cpp b1", false, None);
        check(own(), "ollama 0.30.0", true, None);
    }

    #[test]
    fn after_text_that_no_token_is_told_for_nothing_is_held_against_anybody() {
        let request = InferenceRequest::of(Prompt::Text("x".into()));
        let plan = Plan::of(&request, &offer("llama.cpp b1"), 7, true).unwrap();
        let mut replay = Replaying::begin(&plan);
        // A token of several that were drawn, then others that do not fit the draws that are known of.
        let untold = TokenPiece { bytes: b"hm".to_vec(), ..TokenPiece::default() };
        let told = |id: u32| {
            let alternative = |id: u32| Alternative {
                id: Some(id),
                bytes: vec![b'a'],
                logprob_micros: -700_000 - i32::try_from(id).unwrap_or(0),
            };
            let alternatives = (0..20).map(alternative).collect();
            TokenPiece { id: Some(id), bytes: vec![b'a'], alternatives, ..TokenPiece::default() }
        };
        let mut pieces = vec![untold];
        pieces.extend((0..60).map(|_| told(19)));
        replay.take(&mut pieces);
        let (_, finding) = replay.end(None, 61, Some(FinishReason::Stop)).unwrap();
        assert_eq!(finding, Finding::Audit);
    }

    #[test]
    fn the_client_sees_what_it_asked_for() {
        let request = InferenceRequest {
            logprobs: Some(1),
            ..InferenceRequest::of(Prompt::Text("x".into()))
        };
        let plan = Plan::of(&request, &offer("embedded candle 0.11.1"), 7, true).unwrap();
        let mut asked = request.clone();
        plan.apply(&mut asked);
        assert_eq!((asked.logprobs, asked.sampling.seed), (Some(20), Some(7)));
        let alternative =
            |id: u32| Alternative { id: Some(id), bytes: vec![65], logprob_micros: -700_000 };
        let piece = TokenPiece {
            id: Some(1),
            bytes: vec![65],
            logprob_micros: Some(-700_000),
            alternatives: vec![alternative(1), alternative(2)],
            ..TokenPiece::default()
        };
        let mut seen = [piece.clone()];
        Replaying::begin(&plan).take(&mut seen);
        assert_eq!(seen[0].alternatives.len(), 1);
        let plan = Plan { wanted: None, ..plan };
        Replaying::begin(&plan).take(&mut seen);
        assert_eq!((seen[0].logprob_micros, seen[0].alternatives.len()), (None, 0));
    }

    #[test]
    fn tokens_without_ids_are_told_apart_by_their_bytes() {
        let piece = |bytes: &[u8], of: &[&[u8]]| TokenPiece {
            bytes: bytes.to_vec(),
            alternatives: of
                .iter()
                .map(|bytes| Alternative { id: None, bytes: bytes.to_vec(), logprob_micros: -1 })
                .collect(),
            ..TokenPiece::default()
        };
        assert_eq!(step(&piece(b"b", &[b"a", b"b"])).0, 1);
        assert_eq!(step(&piece(b"c", &[b"a", b"b"])).0, u32::MAX);
        assert_eq!(step(&piece(b"a", &[b"a", b"a"])).1, Candidates::default());
    }

    #[test]
    fn after_a_token_that_hides_others_nothing_is_drawn_again() {
        let request = InferenceRequest::of(Prompt::Text("x".into()));
        let plan = Plan::of(&request, &offer("llama.cpp b1"), 7, true).unwrap();
        let piece = |bytes: &[u8], named: &[u8]| TokenPiece {
            id: Some(1),
            bytes: bytes.to_vec(),
            alternatives: vec![Alternative {
                id: Some(1),
                bytes: named.to_vec(),
                logprob_micros: -1,
            }],
            ..TokenPiece::default()
        };
        let mut replaying = Replaying::begin(&plan);
        // Three tokens of one byte, told as one with the last of them.
        let whole = "\u{2603}".as_bytes();
        replaying.take(&mut [piece(b"a", b"a")]);
        assert!(!replaying.is_lost);
        replaying.take(&mut [piece(whole, &whole[2..]), piece(b"b", b"b")]);
        assert!(replaying.is_lost);
        let (counts, _) = replaying.end(None, 3, Some(FinishReason::Length)).unwrap();
        assert_eq!(counts.unexplained, 0);
        // What a stop sequence cuts off hides nothing.
        assert!(!hides_others(&piece(b"ab", b"ab.")));
    }
}
