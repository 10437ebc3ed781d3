//! How well scores tell providers apart, and how soon evidence is enough.

use verify::{
    eprocess::{ALONE, EProcess, HonestMean},
    score::Score,
};

use crate::Random;

/// The mean over all tokens.
pub fn mean(responses: &[Vec<Score>]) -> f64 {
    let scores = || responses.iter().flatten();
    scores().map(|score| score.get()).sum::<f64>() / scores().count().max(1) as f64
}

/// Means of `count` buckets of so many tokens, of answers in random order, with replacement: few answers make many
/// buckets that are not independent.
pub fn buckets(responses: &[Vec<Score>], tokens: usize, count: u32) -> Vec<f64> {
    let bucket = |n| {
        let mut random = Random::new(11, n);
        let (mut sum, mut left) = (0.0, tokens);
        while left > 0 {
            let response = &responses[random.below(responses.len())];
            // From any token on, or short buckets would be made of first tokens alone.
            let from = random.below(response.len().max(1));
            let taken = response.iter().skip(from).take(left);
            let (part, some) = taken.fold((0.0, 0), |(sum, n), score| (sum + score.get(), n + 1));
            sum += part;
            left -= some;
        }
        sum / tokens as f64
    };
    (0..count).map(bucket).collect()
}

/// The probability that a bucket of a cheat has a higher mean than one of an honest provider.
pub fn auc(honest: &[f64], cheat: &[f64]) -> f64 {
    let mut sorted = honest.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |mean: &f64| {
        let below = sorted.partition_point(|it| it < mean);
        let up_to = sorted.partition_point(|it| it <= mean);
        (below + up_to) as f64 / 2.0
    };
    cheat.iter().map(rank).sum::<f64>() / (honest.len() * cheat.len()) as f64
}

/// The share of a cheat's buckets above all but this share of the honest.
pub fn tpr(honest: &[f64], cheat: &[f64], fpr: f64) -> f64 {
    let mut sorted = honest.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let threshold = sorted[((sorted.len() as f64 * fpr) as usize).min(sorted.len() - 1)];
    cheat.iter().filter(|mean| **mean > threshold).count() as f64 / cheat.len() as f64
}

/// Shares of the honest that are above a threshold, as a curve shows them: from one in a thousand to all.
pub fn curve(honest: &[f64], cheat: &[f64]) -> Vec<(f64, f64)> {
    let fprs = (0..30).map(|n| 10f64.powf(f64::from(n) / 10.0 - 3.0));
    // Below every score there is nothing: at the end all are above.
    fprs.map(|fpr| (fpr, tpr(honest, cheat, fpr))).chain([(1.0, 1.0)]).collect()
}

/// Tokens after which evidence is 10⁹, of `runs` runs through the answers in random order: the median and the 95th
/// percentile. `None` where so many of the runs have not reached it after `tokens_max`.
pub fn tokens_to_alone(
    mean: HonestMean,
    responses: &[Vec<Score>],
    runs: u32,
    tokens_max: u32,
) -> [Option<u32>; 2] {
    let run = |n| {
        let mut random = Random::new(13, n);
        let mut process = EProcess::default();
        let mut tokens = 0;
        while tokens < tokens_max {
            for score in &responses[random.below(responses.len())] {
                process.push(mean, *score);
                tokens += 1;
                if process.ln_e() >= ALONE {
                    return tokens;
                }
            }
        }
        u32::MAX
    };
    let mut counts: Vec<u32> = (0..runs).map(run).collect();
    counts.sort_unstable();
    [50, 95].map(|percent| {
        let at = (counts.len() * percent).div_ceil(100).saturating_sub(1);
        Some(counts[at]).filter(|count| *count < u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_those_of_the_textbook() {
        let honest = [0.1, 0.2, 0.3, 0.4];
        assert_eq!(auc(&honest, &[0.5, 0.6]), 1.0);
        assert_eq!(auc(&honest, &honest), 0.5);
        assert_eq!(auc(&honest, &[0.25]), 0.5);
        assert_eq!(tpr(&honest, &[0.35, 0.45], 0.25), 1.0);
        assert_eq!(tpr(&honest, &[0.35, 0.45], 0.0), 0.5);
        let curve = curve(&honest, &[0.35, 0.45]);
        assert_eq!((curve.len(), curve[0].1, curve[24].1), (31, 0.5, 1.0));
        assert!((curve[24].0 - 0.251).abs() < 0.001 && curve[30] == (1.0, 1.0));
    }

    #[test]
    fn evidence_is_enough_as_soon_as_a_process_says() {
        let scores = vec![vec![Score::MOST; 5]];
        let mean = HonestMean::of_ppm(70_000).unwrap();
        assert_eq!(tokens_to_alone(mean, &scores, 3, 100), [Some(11); 2]);
        assert_eq!(tokens_to_alone(mean, &[vec![Score::default(); 5]], 3, 100), [None; 2]);
        assert_eq!(buckets(&scores, 32, 2), [1.0, 1.0]);
    }
}
