//! Fingerprints are as far apart as the logits, and nothing that is said of them can do harm.

use proptest::prelude::*;

use super::*;
use crate::draw::gumbel::noise;

/// Logits of a made-up step: as spread as those of models, and the same for everybody.
fn logits(step: u32, count: u32) -> Vec<f32> {
    (0..count).map(|id| 3.0 * noise(1, step, id) as f32).collect()
}

/// The same by another machine, off by so much.
fn elsewhere(logits: &[f32], step: u32, by: f64) -> Vec<f32> {
    let off = |(id, logit): (u32, &f32)| logit + (by * (noise(2, step, id) - 0.577)) as f32;
    (0..).zip(logits).map(off).collect()
}

#[test]
fn the_same_logits_have_the_same_fingerprint_and_others_are_as_far_as_they_are() {
    // The deviation of the noise is π / √6, of the logits three times that.
    for (by, least, most) in [(0.0, 0.0, 0.0), (0.03, 0.015, 0.026), (0.3, 0.15, 0.26)] {
        let mut sum = 0.0;
        for step in 0..200 {
            let (ours, signs) = (logits(step, 1_000), Signs::new(step, 1_000));
            let theirs = elsewhere(&ours, step, by);
            let [ours, theirs] = [&ours, &theirs].map(|it| signs.project(it).unwrap());
            sum += score(&theirs, &ours).unwrap().get();
        }
        let mean = sum / 200.0;
        assert!((least..=most).contains(&mean), "{by}: {mean}");
    }
}

#[test]
fn other_logits_and_other_signs_are_far() {
    let signs = Signs::new(7, 1_000);
    let one = signs.project(&logits(1, 1_000)).unwrap();
    let other_step = signs.project(&logits(2, 1_000)).unwrap();
    assert_eq!(score(&other_step, &one), Some(Score::MOST));
    let other_signs = Signs::new(8, 1_000).project(&logits(1, 1_000)).unwrap();
    assert_eq!(score(&other_signs, &one), Some(Score::MOST));
}

#[test]
fn moving_and_scaling_all_logits_changes_nothing_and_what_cannot_be_does_not_count() {
    let signs = Signs::new(7, 100);
    let mut plain = logits(1, 100);
    plain[50] = f32::NEG_INFINITY;
    let moved: Vec<f32> = plain.iter().map(|logit| logit * 2.0 + 5.0).collect();
    let [one, other] = [&plain, &moved].map(|it| signs.project(it).unwrap());
    assert!(score(&one, &other).unwrap().get() < 1e-3);
    assert_eq!(signs.vocabulary(), 100);
}

#[test]
fn what_no_model_makes_has_no_fingerprint() {
    let signs = Signs::new(1, 3);
    let nan = [0.0, f32::NAN, 1.0];
    let endless = [0.0, f32::INFINITY, 1.0];
    let never = [f32::NEG_INFINITY; 3];
    for bad in [&[][..], &[1.0, 2.0], &[1.0; 3], &nan, &endless, &never] {
        assert_eq!(signs.project(bad), None, "{bad:?}");
    }
    assert_eq!(Signs::new(1, 0).project(&[]), None);
}

/// Pinned: signs and coding are part of the protocol.
#[test]
fn the_fingerprint_of_a_seed_is_this() {
    let signs = Signs::new(1_000, 20);
    let ramp: Vec<f32> = (0..20).map(|n| n as f32).collect();
    expect_test::expect!["[-794, -1271, 3336, 4765, 2383, -3812, 3177, -6195]"]
        .assert_eq(&format!("{:?}", signs.project(&ramp).unwrap().0));
}

proptest! {
    #[test]
    fn nothing_panics(
        seed in any::<u32>(),
        logits in prop::collection::vec(any::<f32>(), 0..40),
        reported in any::<[i16; PROJECTION_SUMS]>(),
    ) {
        if let Some(own) = Signs::new(seed, logits.len()).project(&logits) {
            let score = score(&Projection(reported), &own).unwrap().get();
            prop_assert!((0.0..=1.0).contains(&score));
        }
    }
}
