//! What a model says of one position, as the verifier has it: a logit for each token of the vocabulary,
//! and the few likeliest of them, from which a sampler draws.

/// As many candidates as engines report and as profile NP-1 lets a sampler see (Ollama: `top_logprobs` up to 20).
pub const CANDIDATES_MAX: usize = 20;

/// A token that may be drawn.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Candidate {
    /// The id in the vocabulary; where the engine tells none, any number by which the caller tells the
    /// candidates of one step apart.
    pub id: u32,
    /// A logit, or a log-probability: samplers see only differences.
    pub logit: f32,
}

/// At most [`CANDIDATES_MAX`] candidates. Invariant: their logits are finite and descend.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Candidates {
    list: [Candidate; CANDIDATES_MAX],
    count: usize,
}

impl Candidates {
    /// The likeliest of what an engine reported, `(id, log-probability in millionths of a nat)`. Those that
    /// are equally likely keep their order.
    pub fn reported(pairs: impl IntoIterator<Item = (u32, i32)>) -> Candidates {
        let mut candidates = Candidates::default();
        for (id, micros) in pairs {
            candidates.insert(Candidate { id, logit: nats(micros) as f32 }, CANDIDATES_MAX);
        }
        candidates
    }

    pub fn as_slice(&self) -> &[Candidate] {
        self.list.get(..self.count).unwrap_or_default()
    }

    /// The first `count` of them.
    pub fn first(&self, count: usize) -> Candidates {
        Candidates { list: self.list, count: self.count.min(count) }
    }

    fn insert(&mut self, candidate: Candidate, count_max: usize) {
        let at = self.as_slice().partition_point(|held| held.logit >= candidate.logit);
        self.count = self.count.saturating_add(1).min(count_max).min(CANDIDATES_MAX);
        if let Some(rest) = self.list.get_mut(at..self.count)
            && !rest.is_empty()
        {
            rest.rotate_right(1);
            if let Some(place) = rest.first_mut() {
                *place = candidate;
            }
        }
    }
}

/// The logits of one position. Invariant: none is NaN or plus infinity, one at least is finite.
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a> {
    logits: &'a [f32],
    /// With those of tokens that are never drawn.
    all: &'a [f32],
    /// The natural logarithm of the sum of their exponentials.
    log_sum: f64,
}

impl<'a> Logits<'a> {
    /// `None` if they are not those of a sound model: then nothing can be said of whoever is checked.
    pub fn new(logits: &'a [f32]) -> Option<Logits<'a>> {
        if logits.iter().any(|logit| logit.is_nan() || *logit == f32::INFINITY) {
            return None;
        }
        let most = f64::from(logits.iter().copied().reduce(f32::max)?);
        if !most.is_finite() {
            return None;
        }
        let sum: f64 = logits.iter().map(|logit| libm::exp(f64::from(*logit) - most)).sum();
        Some(Logits { logits, all: logits, log_sum: most + libm::log(sum) })
    }

    /// The same, of which `all` are what the model said before those of tokens that are never drawn were left out.
    pub fn left_of(self, all: &'a [f32]) -> Logits<'a> {
        Logits { all, ..self }
    }

    /// All that the model said, by id.
    pub fn all(&self) -> &'a [f32] {
        self.all
    }

    /// Natural logarithm of the probability of `id`; minus infinity for one that is not in the vocabulary.
    pub fn logprob(&self, id: u32) -> f64 {
        let logit = usize::try_from(id).ok().and_then(|at| self.logits.get(at));
        logit.map_or(f64::NEG_INFINITY, |logit| f64::from(*logit) - self.log_sum)
    }

    /// The `top_k` likeliest, at most [`CANDIDATES_MAX`]; of equal ones those with the lower ids.
    pub fn candidates(&self, top_k: usize) -> Candidates {
        let count_max = top_k.min(CANDIDATES_MAX);
        let mut candidates = Candidates::default();
        for (id, logit) in (0..).zip(self.logits) {
            let last = candidates.as_slice().get(count_max.saturating_sub(1));
            if logit.is_finite() && last.is_none_or(|last| *logit > last.logit) {
                candidates.insert(Candidate { id, logit: *logit }, count_max);
            }
        }
        candidates
    }
}

/// From millionths of a nat. A log-probability above zero is none, and is taken for zero.
pub(crate) fn nats(micros: i32) -> f64 {
    f64::from(micros.min(0)) / 1e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(candidates: &Candidates) -> Vec<u32> {
        candidates.as_slice().iter().map(|candidate| candidate.id).collect()
    }

    #[test]
    fn candidates_are_sorted_and_equal_ones_keep_their_order() {
        let reported = Candidates::reported([(7, -3), (1, -1), (2, -3), (3, 0), (4, -1)]);
        assert_eq!(ids(&reported), [3, 1, 4, 7, 2]);
        assert_eq!(ids(&reported.first(2)), [3, 1]);
        let many = Candidates::reported((0..1_000).map(|n| (n as u32, -(n * 7 % 1_000))));
        assert_eq!(many.as_slice().len(), CANDIDATES_MAX);
        assert_eq!(ids(&many)[..3], [0, 143, 286]);
    }

    #[test]
    fn logits_that_no_model_makes_are_refused() {
        for bad in [&[][..], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[f32::NEG_INFINITY; 3]] {
            assert!(Logits::new(bad).is_none(), "{bad:?}");
        }
        let logits = Logits::new(&[f32::NEG_INFINITY, 2.0, 2.0, f32::MIN]).unwrap();
        assert_eq!(logits.logprob(0), f64::NEG_INFINITY);
        assert!((logits.logprob(1) + std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!(logits.logprob(9), f64::NEG_INFINITY);
        assert_eq!(ids(&logits.candidates(20)), [1, 2, 3]);
        assert_eq!(ids(&logits.candidates(1)), [1]);
        assert_eq!(ids(&logits.candidates(0)), []);
    }

    proptest! {
        #[test]
        fn the_likeliest_are_those_of_a_full_sort(
            logits in prop::collection::vec(-50.0f32..50.0, 1..200),
            top_k in 1usize..40,
        ) {
            let mut sorted: Vec<u32> = (0..logits.len() as u32).collect();
            sorted.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
            sorted.truncate(top_k.min(CANDIDATES_MAX));
            prop_assert_eq!(ids(&Logits::new(&logits).unwrap().candidates(top_k)), sorted);
        }
    }
}
