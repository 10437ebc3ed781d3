//! An audit against the levels it is made of, and against providers that try to slip through between them.

use proptest::prelude::*;

use super::*;
use crate::{
    draw::{OneCandidate, Settings, gumbel},
    eprocess::ESCALATE,
};

const DRAWS: Sampler = Sampler::Llama(OneCandidate::Draws);
const SKIPS: Sampler = Sampler::Llama(OneCandidate::Skips);
const VOCABULARY: u32 = 48;
/// It ends a generation.
const END: u32 = 3;

fn means() -> Means {
    let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
    Means { l1: mean(30_000), l2: mean(20_000), projections: None }
}

fn profile(seed: u32) -> Profile {
    Profile { temperature_micros: 800_000, top_k: 20, top_p_micros: 950_000, seed }
}

/// Random logits of a model, with noise of a machine.
fn logits(model: u32, text: u32, step: u32, noise: f32) -> Vec<f32> {
    let uniform = |seed: u32, id| {
        let word = gumbel::word(seed ^ text.wrapping_mul(977), step, id) >> 40;
        word as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..VOCABULARY).map(|id| 9.0 * uniform(model, id) + noise * uniform(99, id)).collect()
}

/// What an honest provider of `model` says in `tokens` steps.
fn answer(sampler: Sampler, model: u32, seed: u32, tokens: u32) -> Vec<LeafToken> {
    let mut stream = Stream::new(sampler, profile(seed).settings(), seed);
    let step = |step| {
        let logits = logits(model, seed, step, 0.05);
        let logits = Logits::new(&logits).unwrap();
        let candidates = logits.candidates(20);
        let id = stream.draw(&candidates).id().unwrap();
        let micros = |id| (logits.logprob(id) * 1e6).round() as i32;
        let top: Vec<_> = candidates.as_slice().iter().map(|it| (it.id, micros(it.id))).collect();
        LeafToken::new(id, &top).unwrap()
    };
    (0..tokens).map(step).collect()
}

fn push(audit: &mut Audit, model: u32, seed: u32, tokens: &[LeafToken]) {
    for (step, token) in (0..).zip(tokens) {
        audit.push(token, Logits::new(&logits(model, seed, step, 0.0)).as_ref());
    }
}

fn audit(samplers: &[Sampler], model: u32, answers: &[(u32, Vec<LeafToken>)]) -> Audit {
    let mut audit = Audit::new(samplers, means());
    for (seed, tokens) in answers {
        audit.begin(Some(&profile(*seed)));
        push(&mut audit, model, *seed, tokens);
    }
    audit
}

#[test]
fn the_levels_are_those_of_their_modules() {
    let tokens = answer(DRAWS, 1, 7, 80);
    let findings = audit(&[DRAWS], 2, &[(7, tokens.clone())]).findings();
    let mut stream = Stream::new(DRAWS, profile(7).settings(), 7);
    let mut levels = [EProcess::default(); 2];
    for (step, token) in (0..).zip(&tokens) {
        let logits = logits(2, 7, step, 0.0);
        let logits = Logits::new(&logits).unwrap();
        let pairs: Vec<_> =
            token.candidates().iter().map(|it| (it.id, it.logprob.micros())).collect();
        levels[0].push(means().l1, l1::score(&pairs, &logits).unwrap());
        let draw = stream.draw(&logits.candidates(20));
        levels[1].push(means().l2, l2::score(&draw, token.id()).unwrap());
    }
    let (l1, l2) = (findings.l1.unwrap(), findings.l2.unwrap());
    assert_eq!([l1.ln_e, l2.ln_e], levels.map(|level| level.ln_e()));
    assert_eq!((findings.tokens, findings.replay.matched), (80, 80));
    assert!(l1.alone_at.unwrap() < 20 && l2.alone_at.unwrap() < 40, "{findings:?}");
    assert_eq!(findings.ln_e(), Some(MilliNats(l1.ln_e.max(l2.ln_e).0 - 694)));
}

#[test]
fn responses_add_up_and_honest_ones_speak_for_their_provider() {
    let answers: Vec<_> = (0..20).map(|seed| (seed, answer(DRAWS, 1, seed, 50))).collect();
    let audit = audit(&[SKIPS, DRAWS], 1, &answers);
    let findings = audit.findings();
    assert_eq!(findings.replay, Counts { matched: 1_000, ..Counts::default() });
    for level in [findings.l1.unwrap(), findings.l2.unwrap()] {
        assert_eq!((level.tokens, level.alone_at), (1_000, None));
        assert!(level.ln_e < MilliNats(-5_000) && level.most < MilliNats(3_000), "{level:?}");
        assert!(level.floored_most < ESCALATE, "{level:?}");
        assert!((1_000..30_000).contains(&level.mean_ppm), "{level:?}");
    }
    assert_eq!(audit.trace().len(), 1_000);
    assert_eq!(audit.trace().last().unwrap().l1, findings.l1.unwrap().ln_e);
}

/// An answer of our engine: with projections, but for the tokens in `without`.
fn projected(
    model: u32,
    seed: u32,
    tokens: u32,
    without: std::ops::Range<usize>,
) -> Vec<LeafToken> {
    let signs = Signs::new(seed, VOCABULARY as usize);
    let of = |(step, token): (u32, LeafToken)| {
        let projection = signs.project(&logits(model, seed, step, 0.05));
        token.projected(projection.filter(|_| !without.contains(&(step as usize))))
    };
    (0..).zip(answer(Sampler::Gumbel, model, seed, tokens)).map(of).collect()
}

fn with_projections(model: u32, answers: &[(u32, Vec<LeafToken>)]) -> Findings {
    let projections = HonestMean::of_ppm(30_000);
    let mut audit = Audit::new(&[Sampler::Gumbel], Means { projections, ..means() });
    for (seed, tokens) in answers {
        audit.begin(Some(&profile(*seed)));
        push(&mut audit, model, *seed, tokens);
    }
    audit.findings()
}

#[test]
fn projections_are_a_level_of_their_own() {
    let answers = [(7, projected(1, 7, 80, 0..0)), (8, projected(1, 8, 40, 10..14))];
    let honest = with_projections(1, &answers);
    let level = honest.projections.unwrap();
    assert_eq!((level.tokens, honest.unprojected, honest.tokens), (116, 4, 120));
    assert!(level.most < MilliNats(1_000) && level.mean_ppm < 20_000, "{level:?}");
    let levels = [honest.l1, honest.l2, honest.projections].map(|level| level.unwrap().ln_e.0);
    assert_eq!(honest.ln_e(), Some(MilliNats(levels.into_iter().max().unwrap() - 1_099)));
    let mut conceded = honest;
    conceded.concede(MilliNats(500));
    assert_eq!(conceded.projections.unwrap().ln_e.0, level.ln_e.0 - 500);

    let cheat = with_projections(2, &answers);
    assert!(cheat.projections.unwrap().alone_at.unwrap() < 20, "{cheat:?}");
    // Without a mean nothing is bet, and of what cannot be drawn again nothing is known.
    assert_eq!(audit(&[Sampler::Gumbel], 2, &answers).findings().projections, None);
    let mut unknown = Audit::new(&[], Means { projections: HonestMean::of_ppm(9_000), ..means() });
    unknown.begin(Some(&profile(7)));
    push(&mut unknown, 2, 7, &answers[0].1);
    assert_eq!((unknown.findings().projections, unknown.findings().unprojected), (None, 0));
}

#[test]
fn models_are_compared_by_projections_only_if_all_of_them_can_be() {
    use identify::Worth::Cheaper;
    let answers = [(7, projected(2, 7, 120, 0..0))];
    let [claimed, served] = [1, 2].map(|model| with_projections(model, &answers));
    let id = ModelId([2; 32]);
    let whole = identified(&claimed, &[(id, Cheaper, served)]).unwrap();
    assert_eq!(whole.model, id);
    // What projections say against the claimed model is not held against it beside one that has none.
    let without = Findings { projections: None, ..served };
    let partly = identified(&claimed, &[(id, Cheaper, without)]).unwrap();
    let by_others = Findings { projections: None, ..claimed }.ln_e().unwrap();
    assert_eq!(partly.ratio.0, by_others.0 - without.ln_e().unwrap().0);
}

/// Of several ways to draw the one counts that speaks least against the provider, whichever it has.
#[test]
fn not_knowing_the_sampler_accuses_nobody() {
    let all = [DRAWS, SKIPS, Sampler::Ollama, Sampler::Gumbel];
    for sampler in all {
        let findings = audit(&all, 1, &[(5, answer(sampler, 1, 5, 300))]).findings();
        assert_eq!(findings.replay.unexplained, 0, "{sampler:?}");
        assert!(findings.l2.unwrap().most < MilliNats(5_000), "{sampler:?} {findings:?}");
        let other = audit(&all, 2, &[(5, answer(sampler, 1, 5, 300))]).findings();
        assert!(other.l2.unwrap().alone_at.unwrap() < 60, "{sampler:?} {other:?}");
    }
}

#[test]
fn a_candidate_that_is_named_twice_was_not_reported() {
    let genuine = answer(DRAWS, 1, 7, 60);
    let copies = |token: &LeafToken| LeafToken::new(token.id(), &[(token.id(), -50); 20]).unwrap();
    let forged: Vec<LeafToken> = genuine.iter().map(copies).collect();
    let findings = audit(&[DRAWS], 1, &[(7, forged)]).findings();
    assert_eq!(findings.replay, Counts { unreported: 60, ..Counts::default() });
    assert_eq!(findings.l1, None);
    assert_eq!(findings.l2.unwrap().tokens, 60);
}

/// Log-probabilities for one token do not make an audit of a thousand.
#[test]
fn what_is_scored_by_the_level_that_scores_least_counts() {
    let mut tokens = answer(DRAWS, 1, 7, 60);
    for token in &mut tokens[1..] {
        *token = LeafToken::new(token.id(), &[]).unwrap();
    }
    let findings = audit(&[DRAWS], 1, &[(7, tokens)]).findings();
    assert_eq!((findings.tokens, findings.replay.unreported), (1, 59));
    assert_eq!((findings.l1.unwrap().tokens, findings.l2.unwrap().tokens), (1, 60));
}

#[test]
fn what_cannot_be_replayed_is_compared_all_the_same() {
    for (samplers, profile) in [(&[DRAWS][..], None), (&[], Some(profile(7)))] {
        let mut audit = Audit::new(samplers, means());
        audit.begin(profile.as_ref());
        push(&mut audit, 2, 7, &answer(DRAWS, 1, 7, 40));
        let findings = audit.findings();
        assert_eq!((findings.replay, findings.l2), (Counts::default(), None));
        assert!(findings.l1.unwrap().alone_at.is_some());
        assert_eq!(audit.end(None, None, |_| true), Check::Unknown);
    }
}

#[test]
fn a_verifier_without_numbers_says_nothing() {
    let mut audit = Audit::new(&[DRAWS], means());
    audit.begin(Some(&profile(7)));
    let tokens = answer(DRAWS, 1, 7, 40);
    for token in &tokens {
        audit.push(token, None);
    }
    let findings = audit.findings();
    assert_eq!((findings.unsound, findings.tokens, findings.ln_e()), (40, 0, None));
    assert_eq!(findings.replay.matched, 40);
}

/// The step of the end is drawn as all others are: the generator has its number for it.
fn end(provider_draws_end: bool) -> (Check, Findings) {
    let tokens = answer(DRAWS, 1, 7, 30);
    let mut stream = Stream::new(DRAWS, profile(7).settings(), 7);
    for token in &tokens {
        stream.chance(&token.reported());
    }
    let mut audit = audit(&[DRAWS], 1, &[(7, tokens)]);
    let mut last = logits(1, 7, 30, 0.0);
    if provider_draws_end {
        let drawn = stream.draw(&Logits::new(&last).unwrap().candidates(20)).id().unwrap();
        last.swap(drawn as usize, END as usize);
    } else {
        last[END as usize] = -20.0;
    }
    let check = audit.end(None, Logits::new(&last).as_ref(), |id| id == END);
    (check, audit.findings())
}

#[test]
fn an_end_is_one_that_the_verifier_draws() {
    let (check, findings) = end(true);
    assert_eq!((check, findings.ends), (Check::Holds, Ends { held: 1, ..Ends::default() }));
    let (check, findings) = end(false);
    assert_eq!((check, findings.ends), (Check::Broken, Ends { broken: 1, ..Ends::default() }));
    assert_eq!(findings.l2.unwrap().tokens, 31);
}

/// One step in fifty is not seen among the others, but alone.
#[test]
fn answers_that_are_cut_are_found_by_their_ends() {
    let mut audit = Audit::new(&[DRAWS], means());
    let mut responses = 0;
    while audit.findings().l2.is_none_or(|level| level.ln_e < ALONE) {
        responses += 1;
        assert!(responses < 40, "{:?}", audit.findings());
        audit.begin(Some(&profile(responses)));
        push(&mut audit, 1, responses, &answer(DRAWS, 1, responses, 50));
        let next = logits(1, responses, 50, 0.0);
        let never = |id| id == END && next[END as usize] < 0.0;
        audit.end(None, Logits::new(&next).as_ref(), never);
    }
    assert_eq!(audit.findings().replay.unexplained, 0);
    assert!((5..20).contains(&responses), "{responses}");
}

#[test]
fn what_was_served_is_named() {
    let tokens = answer(DRAWS, 1, 7, 100);
    let found =
        |model, tokens: &[LeafToken]| audit(&[DRAWS], model, &[(7, tokens.to_vec())]).findings();
    let reference =
        |model: u8, tokens| (ModelId([model; 32]), Worth::Cheaper, found(model.into(), tokens));
    let claimed = found(2, &tokens);
    let references = [reference(3, &tokens), reference(1, &tokens)];
    assert_eq!(identified(&claimed, &references).unwrap().model, ModelId([1; 32]));
    assert_eq!(identified(&claimed, &references[..1]), None);
    assert_eq!(identified(&claimed, &[reference(1, &tokens[..99])]), None, "other tokens");
    assert_eq!(identified(&found(1, &tokens), &references), None);
}

fn any_token() -> impl Strategy<Value = LeafToken> {
    let pair = (0u32..60, any::<i32>());
    (0u32..60, prop::collection::vec(pair, 0..21))
        .prop_map(|(id, pairs)| LeafToken::new(id, &pairs).unwrap())
}

proptest! {
    /// Whatever is reported and whatever the verifier has, nothing panics, nothing is counted twice, and numbers stay
    /// within their bounds.
    #[test]
    fn hostile_reports_break_nothing(
        tokens in prop::collection::vec((any_token(), prop::collection::vec(any::<f32>(), 0..60)), 0..40),
        temperature_micros in any::<u32>(),
        top_k in any::<u8>(),
        top_p_micros in any::<u32>(),
        seed in any::<u32>(),
        ends in any::<u8>(),
        replayable in any::<bool>(),
    ) {
        let profile = Profile { temperature_micros, top_k, top_p_micros, seed };
        let mut audit = Audit::new(&[DRAWS, SKIPS, Sampler::Ollama, Sampler::Gumbel, DRAWS], means());
        let mut ended = 0;
        for (n, (token, logits)) in (1u8..).zip(&tokens) {
            if n % 8 == 1 {
                audit.begin(replayable.then_some(&profile));
            }
            let logits = Logits::new(logits);
            audit.push(token, logits.as_ref());
            if n % 8 == 0 {
                audit.end((ends > n).then_some(token), logits.as_ref(), |id| id < ends.into());
                ended += 1;
            }
        }
        let Findings { replay, ends, tokens: scored, l1, l2, .. } = audit.findings();
        let count = tokens.len() as u32;
        prop_assert_eq!(ends.held + ends.broken + ends.unknown, ended);
        prop_assert!(replay.replayed() + replay.unreported <= count + ended);
        prop_assert!(scored <= count + ended);
        for level in l1.into_iter().chain(l2) {
            prop_assert!(level.mean_ppm <= 1_000_000 && level.most >= MilliNats(0));
        }
        prop_assert!(l2.is_none() || replayable);
    }

    /// No cut, seed, setting or way to draw makes an honest answer look like a cheat.
    #[test]
    fn the_honest_are_not_accused(
        temperature_micros in 0u32..2_000_000,
        top_k in 1u8..=20,
        top_p_micros in 0u32..=1_000_000,
        seed in any::<u32>(),
        sampler in prop::sample::select(vec![DRAWS, SKIPS, Sampler::Ollama, Sampler::Gumbel]),
    ) {
        let profile = Profile { temperature_micros, top_k, top_p_micros, seed };
        let settings: Settings = profile.settings();
        let mut stream = Stream::new(sampler, settings, seed);
        let mut audit = Audit::new(&[DRAWS, SKIPS, Sampler::Ollama, Sampler::Gumbel], means());
        audit.begin(Some(&profile));
        for step in 0..60 {
            let logits = logits(1, seed, step, 0.0);
            let logits = Logits::new(&logits).unwrap();
            let micros = |id| (logits.logprob(id) * 1e6).round() as i32;
            let top: Vec<_> = logits.candidates(20).as_slice().iter().map(|it| (it.id, micros(it.id))).collect();
            // As the gateway has it: what is drawn from is what is reported, coded.
            let token = LeafToken::new(0, &top).unwrap();
            let id = stream.draw(&token.reported()).id().unwrap();
            audit.push(&LeafToken::new(id, &top).unwrap(), Some(&logits));
        }
        let findings = audit.findings();
        prop_assert_eq!(findings.replay.unexplained, 0);
        prop_assert!(findings.ln_e().unwrap() < MilliNats(5_000), "{:?}", findings);
    }
}
