//! Evidence grows against cheats as fast as was computed, and hardly ever against the honest.

use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn mean(ppm: u32) -> HonestMean {
    HonestMean::of_ppm(ppm).unwrap()
}

fn score(value: f64) -> Score {
    Score::of(value, 1.0).unwrap()
}

/// Numbers from 0 to 1 that depend on `seed` alone.
fn noise(seed: u64) -> impl Iterator<Item = f64> {
    let word = move |n: u64| crate::draw::gumbel::word(seed as u32, (seed >> 32) as u32, n as u32);
    (0..).map(move |n| (word(n) >> 11) as f64 / (1u64 << 53) as f64)
}

#[test]
fn thresholds_are_logarithms_rounded_up() {
    for (threshold, power) in [(ESCALATE, 4), (PAIRED, 6), (ALONE, 9), (FLOORED, 12)] {
        assert_eq!(threshold.0, (10f64.powi(power).ln() * 1e3).ceil() as i64);
    }
    assert_eq!(EProcess::default().ln_e(), MilliNats(0));
}

#[test]
fn an_honest_mean_is_above_the_worst_that_was_measured() {
    let check = |means: &[u32], expected: Option<u32>| {
        assert_eq!(
            HonestMean::calibrated(means),
            expected.and_then(HonestMean::of_ppm),
            "{means:?}"
        );
    };
    check(&[14_000, 46_667, 42_000], Some(70_001));
    check(&[0], Some(4_000));
    check(&[], None);
    check(&[700_000], None);
    check(&[u32::MAX], None);
}

/// With one gambler this would be `Σ ln(1 + f/m · (x − m))`; the mean over four, by hand.
#[test]
fn evidence_is_the_mean_of_four_products() {
    let scores = [0.0, 0.02, 0.5, 1.0, 0.07];
    let mut process = EProcess::default();
    scores.iter().for_each(|value| process.push(mean(70_000), score(*value)));
    let product = |share: f64| -> f64 {
        scores.iter().map(|value| 1.0 + share / 0.07 * (value - 0.07)).product()
    };
    let expected = SHARES.iter().map(|share| product(*share)).sum::<f64>() / 4.0;
    assert_eq!(process.ln_e(), MilliNats((expected.ln() * 1e3).floor() as i64));
    expect!["MilliNats(1728)"].assert_eq(&format!("{:?}", process.ln_e()));
}

/// Tokens until E ≥ 10⁹ at a steady score: in the measurements a Q4_K_M served as Q8_0 has a mean L1
/// distance of .31, a score of .62, against an honest mean of .07, and took 13 tokens; Q6_K .117 and 27; another model, all scores 1, 11.
#[test]
fn cheats_are_found_as_fast_as_was_measured() {
    let tokens = |value: f64, ppm: u32| {
        let mut process = EProcess::default();
        (1..).find(|_| {
            process.push(mean(ppm), score(value));
            process.ln_e() >= ALONE
        })
    };
    assert_eq!(tokens(0.62, 70_000), Some(13));
    assert_eq!(tokens(0.234, 70_000), Some(26));
    assert_eq!(tokens(1.0, 70_000), Some(11));
}

#[test]
fn the_honest_stay_clear() {
    // Scores with a mean of two thirds of the honest mean, as calibration leaves it, and tails up to 1.
    let honest = |noise: f64| if noise < 0.02 { noise * 50.0 } else { 0.037 };
    let mut worst = MilliNats(0);
    for seed in 0..200 {
        let mut process = EProcess::default();
        let mut floored = FlooredEProcess::default();
        for value in noise(seed).take(5_000) {
            process.push(mean(70_000), score(honest(value)));
            floored.push(mean(70_000), score(honest(value)));
            worst = worst.max(process.ln_e());
            assert!(floored.ln_e() < ESCALATE, "{seed}");
        }
        assert!(process.ln_e() < MilliNats(0), "{seed}: {process:?}");
    }
    assert!(worst < MilliNats(5_000), "{worst:?}");
}

/// At the honest mean itself: of 4 000 runs at most one in ten may ever reach 10.
#[test]
fn false_alarms_are_as_rare_as_ville_says() {
    let alarms = (0..4_000u64).filter(|seed| {
        let mut process = EProcess::default();
        noise(*seed).take(400).any(|value| {
            process.push(mean(100_000), score(if value < 0.1 { 1.0 } else { 0.0 }));
            process.ln_e() >= MilliNats(2_303)
        })
    });
    let count = alarms.count();
    assert!((40..400).contains(&count), "{count}");
}

#[test]
fn an_honest_past_is_not_saved_up() {
    let (mut process, mut floored) = (EProcess::default(), FlooredEProcess::default());
    for _ in 0..10_000 {
        process.push(mean(70_000), score(0.0));
        floored.push(mean(70_000), score(0.0));
    }
    let tokens = (1..).find(|_| {
        process.push(mean(70_000), score(0.62));
        floored.push(mean(70_000), score(0.62));
        floored.ln_e() >= FLOORED
    });
    assert_eq!(tokens, Some(17));
    assert!(process.ln_e() < MilliNats(-100_000));
}

#[test]
fn a_process_is_stored_as_32_bytes() {
    let mut process = EProcess::default();
    process.push(mean(70_000), score(0.62));
    let bytes = borsh::to_vec(&process).unwrap();
    assert_eq!(bytes.len(), 32);
    assert_eq!(borsh::from_slice::<EProcess>(&bytes).unwrap(), process);
    expect!["[331357135, 579818495, 1211090272, 1742969305]"]
        .assert_eq(&format!("{:?}", process.0.0));
}

proptest! {
    #[test]
    fn nothing_overflows(
        ppm in 1u32..1_000_000,
        start in any::<[i64; 4]>(),
        values in prop::collection::vec(any::<f64>(), 0..50),
    ) {
        let (mut process, mut floored) = (EProcess(Wealth(start)), FlooredEProcess(Wealth(start)));
        for score in values.into_iter().filter_map(|value| Score::of(value, 1.0)) {
            process.push(mean(ppm), score);
            floored.push(mean(ppm), score);
        }
        let _ = (process.ln_e(), floored.ln_e());
    }

    /// More of a deviation is never less evidence.
    #[test]
    fn evidence_grows_with_the_score(ppm in 1u32..1_000_000, a in 0.0f64..1.0, b in 0.0f64..1.0) {
        let ln_e = |value| {
            let mut process = EProcess::default();
            process.push(mean(ppm), score(value));
            process.ln_e()
        };
        prop_assert!(ln_e(a.min(b)) <= ln_e(a.max(b)));
    }
}
