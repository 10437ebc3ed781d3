//! L0: the replay of a response from its seed and what was reported with it, without a model. It finds
//! tokens that were not drawn as the profile says (another temperature, greedy, a cached or made-up text, a
//! small model that decodes while a large one scores), answers that are cut, and counts that are too high.
//!
//! It takes a token at a time and does the work of at most 20 candidates for each, without allocating.

mod text;

pub use text::{Concatenation, Repeats};
pub use types::audit::{
    FAILED_PERCENT, FAILED_TOKENS_MIN, ReplayCounts as Counts, SUSPENDED_PERCENT, UNEXPLAINED_MAX,
};

use crate::{
    draw::{Chance, Draw, Miss, Sampler, Settings, Stream},
    logits::{CANDIDATES_MAX, Candidates},
};

/// A token other than the one drawn is excused if it was so near to being drawn that rounding explains it:
/// 10⁻⁵ of the distribution (no honest one of 7 680 was beyond, reported to four decimals).
pub const EXCUSED_SHARE: f64 = 1e-5;
/// The same where it is replayed from the leaves of a transcript: their codes move a log-probability that matters by up to
/// 10⁻⁴ (2 of 19 813 honest tokens of a real server were beyond 10⁻⁵, none beyond this).
pub const EXCUSED_SHARE_CODED: f64 = 1e-4;
/// The same for scores of the Gumbel sampler, in nats: what two log-probabilities lose where the step is 0.001.
pub const EXCUSED_NATS: f64 = 1e-3;
/// Samplers that one replay tries at most.
pub const SAMPLERS_MAX: usize = 4;

/// What came of one token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is what was drawn.
    Match,
    /// It is not, by no more than rounding.
    Excused,
    Mismatch,
    /// Less was reported than it could have been drawn from.
    Unreported,
}

fn add(counts: &mut Counts, outcome: Outcome) {
    let count = match outcome {
        Outcome::Match => &mut counts.matched,
        Outcome::Excused => &mut counts.excused,
        Outcome::Mismatch => &mut counts.unexplained,
        Outcome::Unreported => &mut counts.unreported,
    };
    *count = count.saturating_add(1);
}

/// A replay in the middle of a response.
#[derive(Clone, Debug)]
pub struct Replay {
    /// Candidates that must be reported of each step.
    top_k: usize,
    excused_share: f64,
    /// 1 to [`SAMPLERS_MAX`], unless none was given.
    tracks: Vec<(Stream, Counts)>,
}

impl Replay {
    /// `samplers`: all that the provider's engine may have, by its version; the one that explains most counts.
    /// More than [`SAMPLERS_MAX`] are not tried.
    pub fn new(samplers: &[Sampler], settings: Settings, seed: u32) -> Replay {
        let track = |sampler: &Sampler| (Stream::new(*sampler, settings, seed), Counts::default());
        let tracks = samplers.iter().take(SAMPLERS_MAX).map(track).collect();
        let top_k = settings.top_k.min(CANDIDATES_MAX);
        Replay { top_k, excused_share: EXCUSED_SHARE, tracks }
    }

    /// The same of what was reported as the leaves of a transcript hold it.
    pub fn of_leaves(samplers: &[Sampler], settings: Settings, seed: u32) -> Replay {
        let replay = Replay::new(samplers, settings, seed);
        Replay { excused_share: EXCUSED_SHARE_CODED, ..replay }
    }

    /// The next token and what was reported of its step. What came of it is said by the sampler that has
    /// explained most until now.
    pub fn push(&mut self, id: u32, candidates: &Candidates) -> Outcome {
        let mut best = (u32::MAX, Outcome::Unreported);
        let is_whole = candidates.as_slice().len() >= self.top_k;
        for (stream, counts) in &mut self.tracks {
            let chance = stream.chance(candidates);
            let outcome = match is_whole {
                true => outcome(stream, chance, candidates, id, self.excused_share),
                false => Outcome::Unreported,
            };
            add(counts, outcome);
            if counts.unexplained < best.0 {
                best = (counts.unexplained, outcome);
            }
        }
        best.1
    }

    /// The counts of the sampler that explains most.
    pub fn counts(&self) -> Counts {
        let counts = self.tracks.iter().map(|(_, counts)| *counts);
        counts.min_by_key(|counts| counts.unexplained).unwrap_or_default()
    }

    /// The end of a response that the model ended: the step after its last token drew a token that ends a
    /// generation. Engines that stay silent about that step leave it unknown, for L2 to tell. It counts as a
    /// token.
    pub fn push_end(&mut self, reported: Option<(u32, &Candidates)>, is_end: bool) -> Check {
        let Some((id, candidates)) = reported else { return Check::Unknown };
        match self.push(id, candidates) {
            Outcome::Match | Outcome::Excused if is_end => Check::Holds,
            Outcome::Match | Outcome::Excused | Outcome::Mismatch => Check::Broken,
            Outcome::Unreported => Check::Unknown,
        }
    }
}

/// What came of a token: also if rounding has moved the last candidate that `top_p` keeps over its edge.
fn outcome(
    stream: &Stream,
    chance: Chance,
    candidates: &Candidates,
    id: u32,
    excused_share: f64,
) -> Outcome {
    match outcome_of(&stream.draw_with(chance, candidates), id, excused_share) {
        Outcome::Mismatch => {
            let cuts = [-excused_share, excused_share].map(|by| stream.with_top_p_moved(by as f32));
            let mut draws = cuts.iter().map(|stream| stream.draw_with(chance, candidates));
            let excused = draws.any(|draw| {
                outcome_of(&draw, id, excused_share) != Outcome::Mismatch && draw.id().is_some()
            });
            if excused { Outcome::Excused } else { Outcome::Mismatch }
        }
        outcome => outcome,
    }
}

fn outcome_of(draw: &Draw, id: u32, excused_share: f64) -> Outcome {
    match draw.miss(id) {
        None => Outcome::Unreported,
        Some(Miss::No) => Outcome::Match,
        Some(Miss::Share(far)) if far < excused_share => Outcome::Excused,
        Some(Miss::Nats(far)) if far < EXCUSED_NATS => Outcome::Excused,
        Some(Miss::Share(_) | Miss::Nats(_) | Miss::FilteredOut) => Outcome::Mismatch,
    }
}

/// Whether something is as it was stated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    Holds,
    Broken,
    Unknown,
}

/// Why a response ended, as stated, and what shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The model ended it: what [`Replay::push_end`] said.
    EndOfGeneration(Check),
    /// So many tokens were asked for, or had room in the context.
    Length { tokens_max: u32 },
    /// A stop sequence came: what [`Concatenation::finish`] said of the text.
    StopSequence { cut: bool },
    /// Ollama ends an answer that repeats a piece: what [`Repeats::aborts`] said.
    Repeats { aborts: bool },
    /// Consumer or gateway stopped it, or it failed: nothing to show.
    Interrupted,
}

/// What L0 found of one response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    pub counts: Counts,
    /// The stated count of tokens is that of the tokens that came.
    pub count: Check,
    /// The tokens' bytes are the text.
    pub text: Check,
    pub ending: Check,
}

/// What follows from a report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Finding {
    Clean,
    /// The response is audited.
    Audit,
    /// The provider is suspended until it is.
    Suspend,
}

impl Report {
    /// `stated_tokens` are those that the provider bills, `tokens` those that came.
    pub fn new(
        counts: Counts,
        stated_tokens: u32,
        tokens: u32,
        text: Check,
        ending: Ending,
    ) -> Report {
        let holds = |it: bool| if it { Check::Holds } else { Check::Broken };
        let ending = match ending {
            Ending::EndOfGeneration(check) => check,
            Ending::Length { tokens_max } => holds(tokens == tokens_max),
            Ending::StopSequence { cut } => holds(cut),
            Ending::Repeats { aborts } => holds(aborts),
            Ending::Interrupted => Check::Unknown,
        };
        Report { counts, count: holds(stated_tokens == tokens), text, ending }
    }

    /// Of what cannot be known nothing follows.
    pub fn finding(&self) -> Finding {
        let unexplained = self.counts.unexplained > UNEXPLAINED_MAX;
        if unexplained && self.counts.exceeds(SUSPENDED_PERCENT) {
            return Finding::Suspend;
        }
        let silent = self.counts.unreported > UNEXPLAINED_MAX;
        let broken = [self.count, self.text, self.ending].contains(&Check::Broken);
        if unexplained || silent || broken { Finding::Audit } else { Finding::Clean }
    }
}

#[cfg(test)]
mod tests;
