//! Whole audits of made-up providers: a model of random logits, quantizations of it that differ by Gaussian
//! noise as large as that of real ones (Llama-3-8B: Q8_0 .043, Q6_K .111, Q4_K_M .271), and cheats.

use types::{
    Hash32, ModelId,
    audit::{AuditOutcome, Evidence, Responses},
};
use verify::{
    draw::{OneCandidate, Sampler, Settings, Stream},
    eprocess::{ALONE, EProcess, HonestMean, MilliNats},
    identify::{Reference, Worth, identify},
    l0::{Counts, Replay},
    l1, l2,
    logits::Logits,
    score::Score,
    verdict::{Backend, outcome},
};

const VOCABULARY: u32 = 64;
const SETTINGS: Settings = Settings { temperature: 0.8, top_k: 20, top_p: 0.95 };
const LLAMA: Sampler = Sampler::Llama(OneCandidate::Draws);

/// A Gaussian number that depends on its arguments alone: the sum of twelve uniform ones.
fn gaussian(seed: u32, step: u32, id: u32) -> f32 {
    let word = |n| verify::draw::gumbel::word(seed, step, id * 16 + n) >> 40;
    (0..12).map(|n| word(n) as f32 / (1u32 << 24) as f32).sum::<f32>() - 6.0
}

/// A quantization: noise of its own on the logits of the model.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Quantization {
    seed: u32,
    sigma: f32,
}

const Q8_0: Quantization = Quantization { seed: 8, sigma: 0.043 };
const Q6_K: Quantization = Quantization { seed: 6, sigma: 0.111 };
const Q4_K_M: Quantization = Quantization { seed: 4, sigma: 0.271 };
const F16: Quantization = Quantization { seed: 16, sigma: 0.0 };
const OTHER_MODEL: Quantization = Quantization { seed: 1, sigma: 3.0 };

impl Quantization {
    fn logits(self, text: u32, step: u32) -> Vec<f32> {
        let logit =
            |id| 3.0 * gaussian(text, step, id) + self.sigma * gaussian(self.seed ^ text, step, id);
        (0..VOCABULARY).map(logit).collect()
    }

    /// As another machine computes it.
    fn logits_elsewhere(self, text: u32, step: u32) -> Vec<f32> {
        let noise = (0..).map(|id| 0.02 * gaussian(99 ^ text, step, id));
        self.logits(text, step).iter().zip(noise).map(|(logit, noise)| logit + noise).collect()
    }
}

/// What a provider gives: each token, and what it reports with it.
type Answer = Vec<Reported>;
type Reported = (u32, Vec<(u32, i32)>);

/// It decodes with one quantization and scores with another.
fn answer(
    sampler: Sampler,
    decodes: Quantization,
    scores: Quantization,
    seed: u32,
    tokens: u32,
) -> Answer {
    let mut stream = Stream::new(sampler, SETTINGS, seed);
    let step = |step| {
        let decoded = decodes.logits_elsewhere(seed, step);
        let id = stream.draw(&Logits::new(&decoded).unwrap().candidates(20)).id().unwrap();
        let scored = scores.logits_elsewhere(seed, step);
        let scored = Logits::new(&scored).unwrap();
        let micros = |id| (scored.logprob(id) * 1e6).round() as i32;
        let top = scored.candidates(20);
        (id, top.as_slice().iter().map(|it| (it.id, micros(it.id))).collect())
    };
    (0..tokens).map(step).collect()
}

fn replay(sampler: Sampler, answer: &Answer, seed: u32) -> Counts {
    let mut replay = Replay::new(&[sampler], SETTINGS, seed);
    for (id, reported) in answer {
        replay.push(*id, &verify::logits::Candidates::reported(reported.iter().copied()));
    }
    replay.counts()
}

/// The scores of L1 and L2 of each token, by a verifier that has this quantization.
fn scores(
    sampler: Sampler,
    answer: &Answer,
    seed: u32,
    reference: Quantization,
) -> Vec<(Score, Score)> {
    let mut stream = Stream::new(sampler, SETTINGS, seed);
    let score = |(step, (id, reported)): (u32, &Reported)| {
        let logits = reference.logits(seed, step);
        let logits = Logits::new(&logits).unwrap();
        let draw = stream.draw(&logits.candidates(20));
        (l1::score(reported, &logits).unwrap(), l2::score(&draw, *id).unwrap())
    };
    (0..).zip(answer).map(score).collect()
}

/// 1.5 times the mean of an honest provider.
fn calibrate(sampler: Sampler) -> (HonestMean, HonestMean) {
    let answer = answer(sampler, Q8_0, Q8_0, 1, 4_000);
    let scores = scores(sampler, &answer, 1, Q8_0);
    let mean = |of: fn(&(Score, Score)) -> Score| {
        let sum: f64 = scores.iter().map(|pair| of(pair).get()).sum();
        HonestMean::of_ppm((1.5e6 * sum / scores.len() as f64) as u32).unwrap()
    };
    (mean(|pair| pair.0), mean(|pair| pair.1))
}

/// The tokens after which each level has evidence of 10⁹, and the evidence after all.
struct Found {
    l1: Option<usize>,
    l2: Option<usize>,
    ln_e: (MilliNats, MilliNats),
}

fn found(
    sampler: Sampler,
    means: (HonestMean, HonestMean),
    answer: &Answer,
    reference: Quantization,
    seed: u32,
) -> Found {
    let mut processes = (EProcess::default(), EProcess::default());
    let mut found = Found { l1: None, l2: None, ln_e: Default::default() };
    for (count, (one, two)) in (1..).zip(scores(sampler, answer, seed, reference)) {
        processes.0.push(means.0, one);
        processes.1.push(means.1, two);
        found.ln_e = (processes.0.ln_e(), processes.1.ln_e());
        found.l1 = found.l1.or((found.ln_e.0 >= ALONE).then_some(count));
        found.l2 = found.l2.or((found.ln_e.1 >= ALONE).then_some(count));
    }
    found
}

#[test]
fn the_honest_are_never_suspected() {
    for sampler in [LLAMA, Sampler::Ollama, Sampler::Gumbel] {
        let means = calibrate(sampler);
        for seed in 100..120 {
            let answer = answer(sampler, Q8_0, Q8_0, seed, 400);
            let Counts { unexplained, .. } = replay(sampler, &answer, seed);
            assert_eq!(unexplained, 0, "{sampler:?} {seed}");
            let Found { ln_e: (one, two), .. } = found(sampler, means, &answer, Q8_0, seed);
            assert!(
                one < MilliNats(5_000) && two < MilliNats(5_000),
                "{sampler:?} {seed} {one:?} {two:?}"
            );
        }
    }
}

#[test]
fn cheats_are_found_in_time() {
    for sampler in [LLAMA, Sampler::Ollama, Sampler::Gumbel] {
        let means = calibrate(sampler);
        for (served, l1_max, l2_max) in
            [(Q4_K_M, 32, 150), (OTHER_MODEL, 32, 32), (Q6_K, 100, 1_500)]
        {
            let answer = answer(sampler, served, served, 7, 1_500);
            // What it reports it did draw from: no replay shows anything.
            assert_eq!(replay(sampler, &answer, 7).unexplained, 0);
            let Found { l1, l2, .. } = found(sampler, means, &answer, Q8_0, 7);
            assert!(l1.is_some_and(|tokens| tokens <= l1_max), "{sampler:?} {served:?} L1 {l1:?}");
            assert!(l2.is_some_and(|tokens| tokens <= l2_max), "{sampler:?} {served:?} L2 {l2:?}");
        }
    }
}

/// Who decodes with a small model and reports what the claimed one says is found without any model.
#[test]
fn decoding_small_and_scoring_large_fails_the_replay() {
    for sampler in [LLAMA, Sampler::Gumbel] {
        let spoof = answer(sampler, Q4_K_M, Q8_0, 7, 200);
        let means = calibrate(sampler);
        assert!(replay(sampler, &spoof, 7).unexplained > 10, "{sampler:?}");
        let Found { l1, l2, .. } = found(sampler, means, &spoof, Q8_0, 7);
        assert_eq!(l1, None, "{sampler:?}: what it reports is genuine");
        assert!(l2.is_some(), "{sampler:?}");
    }
}

/// Who also makes the reported numbers fit the draw is found by what the verifier draws itself.
#[test]
fn forged_log_probabilities_do_not_deceive_l2() {
    let mut forged = answer(LLAMA, Q4_K_M, Q8_0, 7, 200);
    for (id, reported) in &mut forged {
        let others = reported.iter().filter(|(it, _)| it != id).take(19);
        *reported = others.map(|(it, _)| (*it, -15_000_000)).chain([(*id, -50)]).collect();
    }
    assert_eq!(replay(LLAMA, &forged, 7).matched, 200);
    assert!(found(LLAMA, calibrate(LLAMA), &forged, Q8_0, 7).l2.is_some());
}

fn evidence(served: Quantization, seed: u32, backend: Backend) -> Evidence {
    let means = calibrate(LLAMA);
    let answer = answer(LLAMA, served, served, seed, 400);
    let ln_e = |reference| found(LLAMA, means, &answer, reference, seed).ln_e;
    let (claimed, l2) = ln_e(Q8_0);
    let reference = |quantization: Quantization, worth| Reference {
        model: ModelId([quantization.seed as u8; 32]),
        worth,
        ln_e: ln_e(quantization).0,
    };
    let references = [
        reference(Q6_K, Worth::Cheaper),
        reference(Q4_K_M, Worth::Cheaper),
        reference(OTHER_MODEL, Worth::Cheaper),
        reference(F16, Worth::NotCheaper),
    ];
    Evidence {
        model: ModelId([Q8_0.seed as u8; 32]),
        responses: Responses::of([Hash32([seed as u8; 32])]).unwrap(),
        backend,
        tokens: 400,
        replay: replay(LLAMA, &answer, seed),
        l1: Some(claimed),
        l2: Some(l2),
        projections: None,
        identified: identify(claimed, &references),
    }
}

#[test]
fn what_was_served_is_identified_and_judged() {
    // A model that no reference explains, and what of the others is named.
    let unknown = Quantization { seed: 77, sigma: 0.271 };
    for (served, expected, named) in [
        (Q8_0, AuditOutcome::Pass, false),
        (Q6_K, AuditOutcome::Fail, true),
        (Q4_K_M, AuditOutcome::Fail, true),
        (OTHER_MODEL, AuditOutcome::Fail, true),
        (unknown, AuditOutcome::Fail, false),
    ] {
        let evidence = evidence(served, 21, Backend::CpuX86);
        assert_eq!(outcome(&evidence), expected, "{served:?} {evidence:?}");
        let model = named.then_some(ModelId([served.seed as u8; 32]));
        assert_eq!(evidence.cheaper(), model, "{served:?} {evidence:?}");
        // Enough from one set of responses.
        let alone = expected == AuditOutcome::Fail;
        assert_eq!(evidence.reaches(ALONE), alone, "{served:?} {evidence:?}");
    }
}
