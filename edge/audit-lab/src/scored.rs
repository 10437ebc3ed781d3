//! Answers audited: through [`Audit`] as an auditor does it, or score by score for statistics.

use candle_core::Result;
use verify::{
    audit::Audit,
    draw::{Sampler, Stream},
    l0::{Check, Counts, Ending, Report},
    l1, l2,
    logits::{CANDIDATES_MAX, Logits},
    projection::{self, Signs},
    score::Score,
};

use crate::model::Shelf;
use crate::{
    model::{Model, Position},
    provider::{Answer, Provider, Request, request},
    weights::{END, VOCABULARY},
};

/// What a verifier's model says of each step of an answer, and of the one after it.
pub fn positions(model: &Model, answer: &Answer) -> Result<Vec<Position>> {
    let (mut sequence, first) = model.begin(&answer.request.prompt)?;
    let rest = answer.tokens.iter().map(|token| sequence.read(&[token.id()]));
    std::iter::once(Ok(first)).chain(rest).collect()
}

/// Puts an answer into an audit. The check of its end: whether the model ended it, or the limit of tokens.
pub fn audit(audit: &mut Audit, answer: &Answer, positions: &[Position]) -> Check {
    audit.begin(Some(&answer.request.profile));
    for (token, logits) in answer.tokens.iter().zip(positions) {
        audit.push(token, Logits::new(logits).as_ref());
    }
    if answer.ended {
        let last = positions.last().and_then(|last| Logits::new(last));
        return audit.end(None, last.as_ref(), |id| id == END);
    }
    let is_full = answer.tokens.len() == answer.request.tokens_max as usize;
    if is_full { Check::Holds } else { Check::Broken }
}

/// What L0 says of an answer whose replay counted so, and whose end was found to be like this.
pub fn report(answer: &Answer, counts: Counts, end: Check) -> Report {
    let count = answer.tokens.len() as u32;
    let ending = match answer.ended {
        true => Ending::EndOfGeneration(end),
        false => Ending::Length { tokens_max: answer.request.tokens_max },
    };
    Report::new(counts, answer.stated_tokens, count, Check::Holds, ending)
}

/// The scores of the tokens of one answer.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    pub l1: Vec<Score>,
    /// The step of the end included.
    pub l2: Vec<Score>,
    /// Of engines of ours.
    pub projections: Vec<Score>,
}

/// The scores of an answer by a verifier that knows how the provider draws.
pub fn scores(sampler: Sampler, answer: &Answer, positions: &[Position]) -> Scores {
    let profile = answer.request.profile;
    let mut stream = Stream::new(sampler, profile.settings(), profile.seed);
    let signs = Signs::new(profile.seed, VOCABULARY);
    let mut scores = Scores::default();
    let ids = answer.tokens.iter().map(|token| token.id()).chain(answer.ended.then_some(END));
    for ((at, id), logits) in ids.enumerate().zip(positions) {
        let Some(logits) = Logits::new(logits) else { continue };
        let draw = stream.draw(&logits.candidates(CANDIDATES_MAX));
        scores.l2.extend(l2::score(&draw, id));
        let Some(token) = answer.tokens.get(at) else { continue };
        let pairs: Vec<(u32, i32)> =
            token.candidates().iter().map(|it| (it.id, it.logprob.micros())).collect();
        scores.l1.extend(l1::score(&pairs, &logits));
        let projections = token.projection().zip(signs.project(logits.all()));
        let projected = projections.and_then(|(said, own)| projection::score(said, &own));
        scores.projections.extend(projected);
    }
    scores
}

/// Answers of a provider to requests from `first` on, scored against what it claims.
pub fn collect(
    shelf: &Shelf,
    provider: Provider,
    sampler: Sampler,
    requests: impl IntoIterator<Item = Request>,
) -> Result<Vec<Scores>> {
    let scored = |(n, request)| {
        let answer = provider.answer(shelf, sampler, n, request)?;
        Ok(scores(sampler, &answer, &positions(shelf.claimed(), &answer)?))
    };
    (0..).zip(requests).map(scored).collect()
}

/// So many requests of a provider's life.
pub fn requests(seed: u32, count: u32, tokens_max: u32) -> impl Iterator<Item = Request> {
    (0..count).map(move |n| request(seed, n, tokens_max))
}
