//! The draws of the samplers that providers run, done again: from a seed and the candidates of each step
//! to the token that an honest sampler takes, and how far another token is from having been taken.
//!
//! Three samplers are known: llama.cpp's `dist` ([`llama`]), the one that Ollama 0.12.11 to 0.29 has of its
//! own ([`ollama`]), and ours ([`gumbel`]). What they draw from is at most
//! [`CANDIDATES_MAX`] candidates, so that it can be reported whole. No step allocates.

pub mod gumbel;
pub mod llama;
pub mod mersenne;
pub mod ollama;
pub mod pcg;

#[cfg(test)]
mod tests;

use crate::logits::{CANDIDATES_MAX, Candidate, Candidates};
use gumbel::Scores;
use mersenne::Mersenne;
use pcg::Pcg;

/// How an engine draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sampler {
    /// llama.cpp, and Ollama from 0.30.0, which runs its server.
    Llama(OneCandidate),
    /// Models that Ollama 0.12.11 to 0.29 runs in its own engine; its others draw as llama.cpp does.
    Ollama,
    /// Our own engine.
    Gumbel,
}

/// What llama.cpp does where a single candidate is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OneCandidate {
    /// It draws a number that decides nothing, as it does since a device may sample.
    Draws,
    /// It takes the candidate and leaves the generator alone.
    Skips,
}

/// What a sampler is told, as the engine holds it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Zero takes the likeliest.
    pub temperature: f32,
    /// At most [`CANDIDATES_MAX`] can be honoured here.
    pub top_k: usize,
    /// 0 to 1; 1 leaves out nothing.
    pub top_p: f32,
}

/// A sampler in the middle of an answer.
#[derive(Clone, Debug)]
pub struct Stream {
    settings: Settings,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Llama(OneCandidate, Box<Mersenne>),
    Ollama(Pcg),
    Gumbel { seed: u32, position: u32 },
}

/// What a step has of randomness: the same for provider and verifier, whatever each of them draws from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Chance {
    /// A number from 0 to 1, 1 excluded.
    Uniform(f64),
    /// As above, of 24 bits.
    Uniform24(f32),
    /// The generator was left alone.
    None,
    /// Noise for each token, see [`gumbel::noise`].
    Noise { seed: u32, position: u32 },
}

impl Stream {
    /// As at the first token of an answer.
    pub fn new(sampler: Sampler, settings: Settings, seed: u32) -> Stream {
        let source = match sampler {
            Sampler::Llama(one) => Source::Llama(one, Box::new(Mersenne::new(seed))),
            Sampler::Ollama => Source::Ollama(Pcg::of_ollama(seed)),
            Sampler::Gumbel => Source::Gumbel { seed, position: 0 },
        };
        Stream { settings, source }
    }

    /// The next step's chance, taken as whoever draws from `candidates` takes it.
    pub fn chance(&mut self, candidates: &Candidates) -> Chance {
        match &mut self.source {
            Source::Llama(OneCandidate::Draws, generator) => Chance::Uniform(generator.uniform()),
            Source::Llama(OneCandidate::Skips, generator) => {
                if llama::kept(candidates, &self.settings).as_slice().len() == 1 {
                    Chance::None
                } else {
                    Chance::Uniform(generator.uniform())
                }
            }
            Source::Ollama(_) if self.settings.temperature <= 0.0 => Chance::None,
            Source::Ollama(generator) => Chance::Uniform24(generator.uniform24()),
            Source::Gumbel { seed, position } => {
                let chance = Chance::Noise { seed: *seed, position: *position };
                *position = position.saturating_add(1);
                chance
            }
        }
    }

    /// What is drawn from `candidates` with this chance.
    pub fn draw_with(&self, chance: Chance, candidates: &Candidates) -> Draw {
        let settings = &self.settings;
        if !settings.temperature.is_finite() || settings.top_p.is_nan() {
            return Draw::Nothing;
        }
        if settings.temperature <= 0.0 {
            let first = candidates.as_slice().first();
            return first.map_or(Draw::Nothing, |first| Draw::Only { id: first.id });
        }
        match chance {
            Chance::Uniform(u) => llama::draw(candidates, settings, u),
            Chance::Uniform24(u) => ollama::draw(candidates, settings, u),
            Chance::Noise { seed, position } => Scores::new(candidates, settings, seed, position)
                .map_or(Draw::Nothing, Draw::Scored),
            Chance::None => match llama::kept(candidates, settings).as_slice() {
                [only] => Draw::Only { id: only.id },
                // Whoever took the chance saw one candidate and the other sees more.
                _ => Draw::Nothing,
            },
        }
    }

    /// The same with a `top_p` that is so much higher, if it cuts at all.
    pub(crate) fn with_top_p_moved(&self, by: f32) -> Stream {
        let mut moved = self.clone();
        if moved.settings.top_p < 1.0 {
            moved.settings.top_p = (moved.settings.top_p + by).min(1.0);
        }
        moved
    }

    /// Both of the above, for who draws from what it took the chance from.
    pub fn draw(&mut self, candidates: &Candidates) -> Draw {
        let chance = self.chance(candidates);
        self.draw_with(chance, candidates)
    }
}

/// What a step draws.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Draw {
    /// There is nothing to draw from, or nothing can be said.
    Nothing,
    /// Nothing else could have been drawn.
    Only { id: u32 },
    /// The first whose share of the total, added to those before it, reaches `u`.
    Share { shares: Shares, u: f64, id: u32 },
    /// The highest score.
    Scored(Scores),
}

/// How far a token is from having been drawn.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Miss {
    /// It was drawn.
    No,
    /// So far from its interval, 0 to 1.
    Share(f64),
    /// So many nats below the highest score.
    Nats(f64),
    /// It could not have been drawn.
    FilteredOut,
}

impl Draw {
    /// What was drawn.
    pub fn id(&self) -> Option<u32> {
        match self {
            Draw::Nothing => None,
            Draw::Only { id } | Draw::Share { id, .. } => Some(*id),
            Draw::Scored(scores) => Some(scores.best().id),
        }
    }

    /// How far `id` is from it; `None` if nothing was drawn.
    pub fn miss(&self, id: u32) -> Option<Miss> {
        let drawn = self.id()?;
        if drawn == id {
            return Some(Miss::No);
        }
        let miss = match self {
            Draw::Nothing | Draw::Only { .. } => None,
            Draw::Share { shares, u, .. } => shares.distance(*u, id).map(Miss::Share),
            Draw::Scored(scores) => scores.margin(id).map(Miss::Nats),
        };
        Some(miss.unwrap_or(Miss::FilteredOut))
    }
}

/// Candidates and, with each, the sum of its weight and those before it. Invariant: the sums do not
/// descend, and the last is above zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Shares {
    ids: [u32; CANDIDATES_MAX],
    sums: [f64; CANDIDATES_MAX],
    count: usize,
}

impl Shares {
    /// `None` if the weights do not add up to a number above zero.
    fn new(weighted: impl Iterator<Item = (u32, f64)>) -> Option<Shares> {
        let mut shares = Shares { ids: [0; CANDIDATES_MAX], sums: [0.0; CANDIDATES_MAX], count: 0 };
        let places = shares.ids.iter_mut().zip(&mut shares.sums);
        for ((id, sum), (from, to)) in places.zip(weighted) {
            (*id, *sum) = (from, to);
            shares.count = shares.count.saturating_add(1);
        }
        (shares.total() > 0.0 && shares.total().is_finite()).then_some(shares)
    }

    fn sums(&self) -> &[f64] {
        self.sums.get(..self.count).unwrap_or_default()
    }

    fn total(&self) -> f64 {
        self.sums().last().copied().unwrap_or(0.0)
    }

    /// The first whose sum is `target` or more; the last if there is none.
    fn reaching(&self, target: f64) -> u32 {
        let at = self.sums().partition_point(|sum| *sum < target);
        self.ids.get(at.min(self.count.saturating_sub(1))).copied().unwrap_or(0)
    }

    /// From `u` to the nearer end of the interval of `id`, as a share of the total.
    fn distance(&self, u: f64, id: u32) -> Option<f64> {
        let starts = std::iter::once(&0.0).chain(self.sums());
        let intervals = self.ids.iter().zip(starts.zip(self.sums()));
        let of_id = intervals.filter(|(held, _)| **held == id);
        let distances = of_id.map(|(_, (start, end))| {
            (start / self.total() - u).max(u - end / self.total()).max(0.0)
        });
        distances.reduce(f64::min)
    }
}

/// The exponential as engines have it in single precision: here rounded from double precision. Their C
/// libraries differ from that by one unit in the last place at most, and seldom.
fn exp32(value: f32) -> f32 {
    libm::exp(f64::from(value)) as f32
}

/// The probabilities of `candidates`, which descend, as multiples of the first's.
fn weights(
    candidates: &[Candidate],
    logit: impl Fn(&Candidate) -> f32,
) -> impl Iterator<Item = f32> {
    let most = candidates.first().map_or(0.0, &logit);
    candidates.iter().map(move |candidate| exp32(logit(candidate) - most))
}
