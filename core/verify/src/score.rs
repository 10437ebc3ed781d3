//! A score: how far one token is from what an honest provider would have given, from 0 to 1.

/// From 0, as if computed here, to 1, nothing like it. Invariant: within that, and not NaN.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default)]
pub struct Score(f64);

impl Score {
    pub const MOST: Score = Score(1.0);

    /// `distance / whole`, at most 1. `None` if that is no number: then nothing is known.
    pub fn of(distance: f64, whole: f64) -> Option<Score> {
        let score = distance / whole;
        (!score.is_nan()).then(|| Score(score.clamp(0.0, 1.0)))
    }

    pub fn get(self) -> f64 {
        self.0
    }

    pub fn min(self, other: Score) -> Score {
        Score(self.0.min(other.0))
    }
}
