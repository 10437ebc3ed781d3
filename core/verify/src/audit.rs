//! An audit: what a provider reported of each token beside the logits of a verifier that has the model, through
//! all levels at once, a token at a time.
//!
//! One [`Audit`] takes one set of responses against one model, and [`Audit::findings`] is what goes into evidence. Who
//! asks which model was served instead runs one for each candidate on the same tokens, and [`identified`] compares them.
//! Whoever runs the model, opens the leaves and posts the verdict is elsewhere.
//!
//! ```
//! use verify::{audit::{Audit, Means}, draw::{OneCandidate, Sampler}, eprocess::HonestMean};
//! use verify::{leaf::LeafToken, logits::Logits, profile::Profile};
//!
//! let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
//! let means = Means { l1: mean(70_000), l2: mean(21_000), projections: None };
//! let mut audit = Audit::new(&[Sampler::Llama(OneCandidate::Draws)], means);
//! let profile = Profile { temperature_micros: 1_000_000, top_k: 2, top_p_micros: 1_000_000, seed: 1_000 };
//! audit.begin(Some(&profile));
//! // Candidates of 62.5 and 37.5 %: the first number that seed 1000 gives is .2055.
//! let token = LeafToken::new(0, &[(0, -470_004), (1, -980_829)]).unwrap();
//! let logits = [0.0, -0.510_825_6];
//! audit.push(&token, Logits::new(&logits).as_ref());
//! let findings = audit.findings();
//! assert_eq!((findings.tokens, findings.replay.matched), (1, 1));
//! assert!(findings.ln_e().unwrap().0 < 0);
//! ```

mod trace;

#[cfg(test)]
mod tests;

use types::{ModelId, audit::together};

use self::trace::Trace;
pub use self::trace::{Point, TRACE_MAX};
use crate::{
    draw::{Draw, Sampler, Stream},
    eprocess::{ALONE, EProcess, FlooredEProcess, HonestMean, MilliNats},
    identify::{self, Identified, Reference, Worth},
    l0::{Check, Counts, Outcome, Replay, SAMPLERS_MAX},
    l1, l2,
    leaf::LeafToken,
    logits::{CANDIDATES_MAX, Candidates, Logits},
    profile::Profile,
    projection::{self, Signs},
    score::Score,
};

/// The honest means of a model and a kind of machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Means {
    pub l1: HonestMean,
    pub l2: HonestMean,
    /// Without it projections are not scored.
    pub projections: Option<HonestMean>,
}

/// An audit in the middle of a set of responses.
#[derive(Clone, Debug)]
pub struct Audit {
    means: Means,
    /// Of the response at hand, if it can be replayed.
    replay: Option<Replay>,
    /// Candidates that must be reported of each of its steps.
    top_k: usize,
    /// Of the response at hand, if it can be replayed.
    seed: Option<u32>,
    /// Of that seed, once a projection came.
    signs: Option<Signs>,
    /// Of the responses before.
    before: Counts,
    l1: Level,
    projections: Level,
    unprojected: u32,
    /// One for each way in which the engine may draw.
    tracks: Vec<Track>,
    ends: Ends,
    tokens: u32,
    unsound: u32,
    trace: Trace,
}

/// L2 as if the engine drew in one way.
#[derive(Clone, Debug)]
struct Track {
    sampler: Sampler,
    /// Of the response at hand.
    stream: Option<Stream>,
    level: Level,
    /// Of the steps alone that are said to have ended a response.
    ends: EProcess,
    ends_scored: bool,
}

/// The evidence of one level.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Level {
    process: EProcess,
    floored: FlooredEProcess,
    tokens: u32,
    /// Of the scores.
    sum: f64,
    most: MilliNats,
    floored_most: MilliNats,
    alone_at: Option<u32>,
}

/// How many responses that their model is said to have ended would have ended, by the verifier's logits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    pub held: u32,
    /// No noise explains that it ended.
    pub broken: u32,
    pub unknown: u32,
}

/// What a level found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LevelFindings {
    pub ln_e: MilliNats,
    /// The highest that it was after any token.
    pub most: MilliNats,
    /// The same of a process that never stays below 1, which finds who cheats now and then: see
    /// [`crate::eprocess::FLOORED`].
    pub floored_most: MilliNats,
    /// Tokens that were scored.
    pub tokens: u32,
    /// The mean of their scores, in millionths, rounded up.
    pub mean_ppm: u32,
    /// After how many of them it reached [`ALONE`].
    pub alone_at: Option<u32>,
}

/// What an audit found, in whole numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Findings {
    /// Tokens that were scored, by the level that scored the fewest of those that scored any.
    pub tokens: u32,
    /// Tokens that were not, because the verifier's logits were no numbers: more than none, and the verifier is broken.
    pub unsound: u32,
    pub replay: Counts,
    pub ends: Ends,
    /// If log-probabilities were reported.
    pub l1: Option<LevelFindings>,
    /// If the responses can be replayed.
    pub l2: Option<LevelFindings>,
    /// If they have projections.
    pub projections: Option<LevelFindings>,
    /// Tokens of responses that can be replayed that have none.
    pub unprojected: u32,
}

impl Audit {
    /// `samplers`: all that the provider's engine may have, by its version. Those beyond [`SAMPLERS_MAX`] are not tried;
    /// with none there is neither L0 nor L2.
    pub fn new(samplers: &[Sampler], means: Means) -> Audit {
        Audit {
            means,
            replay: None,
            top_k: 0,
            seed: None,
            signs: None,
            before: Counts::default(),
            l1: Level::default(),
            projections: Level::default(),
            unprojected: 0,
            tracks: samplers.iter().take(SAMPLERS_MAX).map(|it| Track::new(*it)).collect(),
            ends: Ends::default(),
            tokens: 0,
            unsound: 0,
            trace: Trace::default(),
        }
    }

    /// The next response begins; without a profile it is one that cannot be replayed.
    pub fn begin(&mut self, profile: Option<&Profile>) {
        self.before = self.counts();
        let samplers: Vec<Sampler> = self.tracks.iter().map(|track| track.sampler).collect();
        let known = profile.filter(|_| !samplers.is_empty());
        self.replay = known.map(|it| Replay::of_leaves(&samplers, it.settings(), it.seed));
        self.top_k = known.map_or(0, |it| it.settings().top_k.min(CANDIDATES_MAX));
        (self.seed, self.signs) = (known.map(|it| it.seed), None);
        for track in &mut self.tracks {
            let stream = |it: &Profile| Stream::new(track.sampler, it.settings(), it.seed);
            track.stream = known.map(stream);
        }
    }

    /// The next token, and the verifier's logits of its step: those after the prompt and the tokens before it. `None`
    /// where these are no numbers.
    pub fn push(&mut self, token: &LeafToken, verifier: Option<&Logits<'_>>) -> Outcome {
        self.step(token, verifier, |draw| l2::score(draw, token.id()))
    }

    /// The end of a response that the model is said to have ended: whether the step after its last token draws, for
    /// the verifier, a token that ends a generation. `reported` is what the provider reported of that step, of engines that
    /// do. It counts as a token.
    pub fn end(
        &mut self,
        reported: Option<&LeafToken>,
        verifier: Option<&Logits<'_>>,
        is_end: impl Fn(u32) -> bool,
    ) -> Check {
        let candidates = verifier.map(|it| it.candidates(self.top_k)).unwrap_or_default();
        let ids = candidates.as_slice().iter().map(|it| it.id);
        let ends: Vec<u32> = ids.filter(|id| is_end(*id)).collect();
        // Whatever ends is as good: what is nearest to having been drawn counts.
        let nearest = |draw: &Draw| {
            draw.id()?;
            let scores = ends.iter().filter_map(|id| l2::score(draw, *id));
            Some(scores.fold(Score::MOST, Score::min))
        };
        let mut best: Option<Score> = None;
        for track in &mut self.tracks {
            let Some(mut stream) = track.stream.clone() else { continue };
            if let Some(score) = nearest(&stream.draw(&candidates)) {
                track.ends.push(self.means.l2, score);
                track.ends_scored = true;
                best = Some(best.map_or(score, |best| best.min(score)));
            }
        }
        match reported {
            Some(token) => {
                self.step(token, verifier, nearest);
            }
            None => self.score(None, verifier, nearest),
        }
        self.ends.count(best)
    }

    /// A step of which something was reported.
    fn step(
        &mut self,
        token: &LeafToken,
        verifier: Option<&Logits<'_>>,
        l2: impl Fn(&Draw) -> Option<Score>,
    ) -> Outcome {
        let reported = reported(token);
        let outcome = self.replay.as_mut().map(|replay| replay.push(token.id(), &reported));
        self.score(Some((token, &reported)), verifier, l2);
        outcome.unwrap_or(Outcome::Unreported)
    }

    fn score(
        &mut self,
        reported: Option<(&LeafToken, &Candidates)>,
        verifier: Option<&Logits<'_>>,
        l2: impl Fn(&Draw) -> Option<Score>,
    ) {
        self.tokens = self.tokens.saturating_add(1);
        let candidates = verifier.map(|verifier| verifier.candidates(self.top_k));
        if verifier.is_none() {
            self.unsound = self.unsound.saturating_add(1);
        }
        let whole = reported.map(|(_, reported)| reported);
        let whole = whole.filter(|it| it.as_slice().len() >= self.top_k);
        for track in &mut self.tracks {
            let Some(stream) = &mut track.stream else { continue };
            // Where the engine leaves its generator alone follows from what the provider saw, if that is known.
            let seen = whole.or(candidates.as_ref()).copied().unwrap_or_default();
            let chance = stream.chance(&seen);
            let draw = candidates.as_ref().map(|own| stream.draw_with(chance, own));
            if let Some(score) = draw.and_then(|draw| l2(&draw)) {
                track.level.push(self.means.l2, score);
            }
        }
        let pairs = reported.filter(|(_, reported)| !reported.as_slice().is_empty());
        if let (Some((token, _)), Some(verifier)) = (pairs, verifier) {
            let pairs: Vec<(u32, i32)> =
                token.candidates().iter().map(|it| (it.id, it.logprob.micros())).collect();
            if let Some(score) = l1::score(&pairs, verifier) {
                self.l1.push(self.means.l1, score);
            }
        }
        if let Some((token, _)) = reported {
            self.score_projection(token, verifier);
        }
        self.trace.push(Point {
            token: self.tokens,
            l1: self.l1.process.ln_e(),
            l2: self.l2().map_or(MilliNats(0), Track::ln_e),
            projections: self.projections.process.ln_e(),
        });
    }

    fn score_projection(&mut self, token: &LeafToken, verifier: Option<&Logits<'_>>) {
        let Some(seed) = self.seed else { return };
        let Some(reported) = token.projection() else {
            self.unprojected = self.unprojected.saturating_add(1);
            return;
        };
        let (Some(mean), Some(verifier)) = (self.means.projections, verifier) else { return };
        let logits = verifier.all();
        let signs = self.signs.get_or_insert_with(|| Signs::new(seed, logits.len()));
        let own = signs.project(logits);
        if let Some(score) = own.and_then(|own| projection::score(reported, &own)) {
            self.projections.push(mean, score);
        }
    }

    /// The way to draw that speaks least against the provider: so the evidence is below that of the one it has, and
    /// still evidence.
    fn l2(&self) -> Option<&Track> {
        let scored = self.tracks.iter().filter(|track| track.level.tokens > 0);
        scored.min_by_key(|track| track.ln_e())
    }

    fn counts(&self) -> Counts {
        self.replay.as_ref().map_or(self.before, |replay| self.before.plus(&replay.counts()))
    }

    /// What was found until now.
    pub fn findings(&self) -> Findings {
        let l1 = (self.l1.tokens > 0).then(|| self.l1.findings(self.l1.process.ln_e()));
        let l2 = self.l2().map(|track| track.level.findings(track.ln_e()));
        let projections = &self.projections;
        let projected = projections.tokens > 0;
        let tokens = [l1, l2].into_iter().flatten().map(|level| level.tokens).min();
        Findings {
            tokens: tokens.unwrap_or(0),
            unsound: self.unsound,
            replay: self.counts(),
            ends: self.ends,
            l1,
            l2,
            projections: projected.then(|| projections.findings(projections.process.ln_e())),
            unprojected: self.unprojected,
        }
    }

    /// The evidence after each token, for a picture; of many tokens every second, fourth, … of them, so that it has at
    /// most [`TRACE_MAX`] points.
    pub fn trace(&self) -> &[Point] {
        self.trace.points()
    }
}

/// What a token is drawn from; nothing, if a candidate is named twice, which no engine does: else twenty copies of any
/// token would be a draw that cannot fail.
fn reported(token: &LeafToken) -> Candidates {
    let mut ids: Vec<u32> = token.candidates().iter().map(|it| it.id).collect();
    ids.sort_unstable();
    if ids.array_windows().any(|[one, next]| one == next) {
        return Candidates::default();
    }
    token.reported()
}

impl Track {
    fn new(sampler: Sampler) -> Track {
        let (level, ends) = (Level::default(), EProcess::default());
        Track { sampler, stream: None, level, ends, ends_scored: false }
    }

    /// Of all steps, and of the ends among them, on which half is bet: one in each response is too few to be seen among
    /// the others.
    fn ln_e(&self) -> MilliNats {
        let all = self.level.process.ln_e();
        let ends = self.ends_scored.then(|| self.ends.ln_e());
        together([Some(all), ends, None]).unwrap_or(all)
    }
}

impl Ends {
    /// An end that is so far, for the way to draw to which it is nearest, from having been drawn.
    fn count(&mut self, score: Option<Score>) -> Check {
        let (count, check) = match score {
            Some(score) if score == Score::default() => (&mut self.held, Check::Holds),
            Some(Score::MOST) => (&mut self.broken, Check::Broken),
            Some(_) | None => (&mut self.unknown, Check::Unknown),
        };
        *count = count.saturating_add(1);
        check
    }
}

impl Level {
    fn push(&mut self, mean: HonestMean, score: Score) {
        self.process.push(mean, score);
        self.floored.push(mean, score);
        self.tokens = self.tokens.saturating_add(1);
        self.sum += score.get();
        let ln_e = self.process.ln_e();
        self.most = self.most.max(ln_e);
        self.floored_most = self.floored_most.max(self.floored.ln_e());
        if ln_e >= ALONE {
            self.alone_at = self.alone_at.or(Some(self.tokens));
        }
    }

    fn findings(&self, ln_e: MilliNats) -> LevelFindings {
        let mean = self.sum / f64::from(self.tokens.max(1));
        LevelFindings {
            ln_e,
            most: self.most,
            floored_most: self.floored_most,
            tokens: self.tokens,
            mean_ppm: libm::ceil(mean * 1e6) as u32,
            alone_at: self.alone_at,
        }
    }
}

impl Findings {
    /// Takes so much from the evidence of all levels, because what was looked at was chosen.
    pub fn concede(&mut self, choice: MilliNats) {
        let levels = [&mut self.l1, &mut self.l2, &mut self.projections];
        for level in levels.into_iter().flatten() {
            level.ln_e = MilliNats(level.ln_e.0.saturating_sub(choice.0));
        }
    }

    /// The evidence of all levels; `None` if nothing was scored.
    pub fn ln_e(&self) -> Option<MilliNats> {
        together([self.l1, self.l2, self.projections].map(|level| Some(level?.ln_e)))
    }
}

/// Which of the references explains the responses, if the claimed model does not: each with what an audit of the same
/// tokens against it found. Those of other tokens are not looked at, and projections only if all have them: a model with
/// another vocabulary has no logits to compare them with.
pub fn identified(
    claimed: &Findings,
    references: &[(ModelId, Worth, Findings)],
) -> Option<Identified> {
    let same = || references.iter().filter(|(_, _, findings)| findings.tokens == claimed.tokens);
    let projected = same().all(|(_, _, findings)| findings.projections.is_some());
    let ln_e = |findings: &Findings| {
        let projections = findings.projections.filter(|_| projected);
        Findings { projections, ..*findings }.ln_e()
    };
    let references: Vec<Reference> = same()
        .filter_map(|(model, worth, findings)| {
            Some(Reference { model: *model, worth: *worth, ln_e: ln_e(findings)? })
        })
        .collect();
    identify::identify(ln_e(claimed)?, &references)
}
