//! A 4-bit quantization that is served as the 8-bit one: what it reports replays, and both levels of audit
//! find it.

use types::ModelId;
use verify::{
    audit::{Audit, LevelFindings, Means, identified},
    draw::{OneCandidate, Sampler, Stream},
    eprocess::{ALONE, EProcess, HonestMean},
    identify::{Reference, Worth, identify},
    l0::Replay,
    l1, l2,
    leaf::LeafToken,
    logits::{Candidates, Logits},
    profile::Profile,
};

const PROFILE: Profile =
    Profile { temperature_micros: 800_000, top_k: 20, top_p_micros: 950_000, seed: 1 };
const LLAMA: Sampler = Sampler::Llama(OneCandidate::Draws);
const VOCABULARY: usize = 512;

type Pairs = Vec<(u32, i32)>;

/// Of each token: its id, what the provider reported, what the verifier has.
fn steps() -> Vec<(u32, Pairs, Pairs)> {
    let pairs = |text: &str| -> Pairs {
        let pairs = text.split_whitespace().map(|pair| pair.split_once(':').unwrap());
        pairs.map(|(id, micros)| (id.parse().unwrap(), micros.parse().unwrap())).collect()
    };
    let file = include_str!("../golden/stories260k-q4_0-as-q8_0.txt");
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let steps = lines.map(|line| {
        let (id, rest) = line.split_once(' ').unwrap();
        let (reported, verifier) = rest.split_once('|').unwrap();
        (id.parse().unwrap(), pairs(reported), pairs(verifier))
    });
    steps.collect()
}

/// Those that were not recorded are too unlikely to matter.
fn logits(pairs: &Pairs) -> Vec<f32> {
    let mut logits = vec![f32::NEG_INFINITY; VOCABULARY];
    for (id, micros) in pairs {
        logits[*id as usize] = *micros as f32 / 1e6;
    }
    logits
}

/// The evidence after all tokens, and after how many each level reached 10⁹, against the model that says `of`.
fn audit(of: impl Fn(&(u32, Pairs, Pairs)) -> &Pairs) -> ([EProcess; 2], [Option<usize>; 2]) {
    // As measured across kernels: 1.5 times the worst honest mean.
    let means = [70_000, 21_000].map(|ppm| HonestMean::of_ppm(ppm).unwrap());
    let mut stream = Stream::new(LLAMA, PROFILE.settings(), PROFILE.seed);
    let mut processes = [EProcess::default(); 2];
    let mut found = [None; 2];
    for (count, step) in (1..).zip(steps()) {
        let (id, reported, _) = &step;
        let logits = logits(of(&step));
        let logits = Logits::new(&logits).unwrap();
        let draw = stream.draw(&logits.candidates(20));
        let scores = [l1::score(reported, &logits).unwrap(), l2::score(&draw, *id).unwrap()];
        for level in 0..2 {
            processes[level].push(means[level], scores[level]);
            if processes[level].ln_e() >= ALONE {
                found[level] = found[level].or(Some(count));
            }
        }
    }
    (processes, found)
}

#[test]
fn four_bits_sold_as_eight_are_found_and_named() {
    let mut replay = Replay::new(&[LLAMA], PROFILE.settings(), PROFILE.seed);
    for (id, reported, _) in steps() {
        replay.push(id, &Candidates::reported(reported));
    }
    assert_eq!(replay.counts().matched, 96);

    let (claimed, found) = audit(|(_, _, verifier)| verifier);
    // By L1, and by L2 that does not look at what was reported.
    assert_eq!(found, [Some(11), Some(61)]);
    let (served, found) = audit(|(_, reported, _)| reported);
    assert_eq!(found, [None, None]);

    let [claimed, served] = [claimed, served].map(|[l1, _]| l1.ln_e());
    let model = ModelId([4; 32]);
    let q4_0 = Reference { model, worth: Worth::Cheaper, ln_e: served };
    assert_eq!(identify(claimed, &[q4_0]).map(|found| found.model), Some(model));
}

/// The same through an audit, from the leaves of the transcript.
#[test]
fn an_audit_of_its_leaves_finds_it_as_soon() {
    let [l1, l2] = [70_000, 21_000].map(|ppm| HonestMean::of_ppm(ppm).unwrap());
    let findings = |of: fn(&(u32, Pairs, Pairs)) -> &Pairs| {
        let mut audit = Audit::new(&[LLAMA], Means { l1, l2, projections: None });
        audit.begin(Some(&PROFILE));
        for step in steps() {
            let token = LeafToken::new(step.0, &step.1).unwrap();
            audit.push(&token, Logits::new(&logits(of(&step))).as_ref());
        }
        audit.findings()
    };
    let claimed = findings(|(_, _, verifier)| verifier);
    let alone_at = |level: Option<LevelFindings>| level.and_then(|level| level.alone_at);
    assert_eq!((alone_at(claimed.l1), alone_at(claimed.l2)), (Some(11), Some(61)));
    assert_eq!((claimed.tokens, claimed.replay.matched), (96, 96));
    let served = findings(|(_, reported, _)| reported);
    let model = ModelId([4; 32]);
    let named = identified(&claimed, &[(model, Worth::Cheaper, served)]);
    assert_eq!(named.map(|found| found.model), Some(model));
}
