//! The rules on counts, text and endings; real transcripts are replayed in `tests/llama_server.rs`.

use proptest::prelude::*;

use super::*;
use crate::draw::OneCandidate;

const SETTINGS: Settings = Settings { temperature: 0.8, top_k: 20, top_p: 0.95 };
const SAMPLERS: [Sampler; 4] = [
    Sampler::Llama(OneCandidate::Skips),
    Sampler::Llama(OneCandidate::Draws),
    Sampler::Ollama,
    Sampler::Gumbel,
];

/// Steps of a made-up model: now one candidate is nearly certain, now many are likely.
fn steps(count: i32) -> Vec<Candidates> {
    let micros = |step: i32, n: i32| {
        let sharp = if step % 3 == 0 { 4_000_000 } else { 350_000 };
        -(n * sharp + (step * 7_919 + n * n * 104_729) % 300_000)
    };
    let step = |step| Candidates::reported((0..20).map(move |n| (n as u32, micros(step, n))));
    (0..count).map(step).collect()
}

fn honest(sampler: Sampler, settings: Settings, seed: u32, steps: &[Candidates]) -> Vec<u32> {
    let mut stream = Stream::new(sampler, settings, seed);
    steps.iter().map(|step| stream.draw(step).id().unwrap()).collect()
}

fn replay(samplers: &[Sampler], seed: u32, ids: &[u32], steps: &[Candidates]) -> Counts {
    let mut replay = Replay::new(samplers, SETTINGS, seed);
    for (id, step) in ids.iter().zip(steps) {
        replay.push(*id, step);
    }
    replay.counts()
}

#[test]
fn every_sampler_is_recognised_among_all() {
    let steps = steps(300);
    for sampler in SAMPLERS {
        let ids = honest(sampler, SETTINGS, 9, &steps);
        let counts = replay(&SAMPLERS, 9, &ids, &steps);
        assert_eq!(counts, Counts { matched: 300, ..Counts::default() }, "{sampler:?}");
    }
}

#[test]
fn other_seeds_settings_and_texts_are_found_within_a_leaf() {
    let steps = steps(32);
    let sampler = Sampler::Llama(OneCandidate::Draws);
    let hot = Settings { temperature: 1.3, ..SETTINGS };
    let greedy = Settings { temperature: 0.0, ..SETTINGS };
    for (name, ids) in [
        ("another seed, or a cached answer", honest(sampler, SETTINGS, 10, &steps)),
        ("greedy", honest(sampler, greedy, 9, &steps)),
        ("another sampler", honest(Sampler::Gumbel, SETTINGS, 9, &steps)),
        ("hotter", honest(sampler, hot, 9, &steps)),
        ("made up", vec![19; 32]),
    ] {
        let counts = replay(&[sampler], 9, &ids, &steps);
        assert!(counts.failed(), "{name}: {counts:?}");
    }
}

#[test]
fn only_what_rounding_explains_is_excused() {
    let mut stream = Stream::new(Sampler::Llama(OneCandidate::Draws), SETTINGS, 0);
    let Draw::Share { u, .. } = stream.draw(&steps(2)[1]) else { panic!("several candidates") };
    // Two candidates whose boundary lies `beyond` above what is drawn.
    let check = |beyond: f64, expected: Outcome| {
        let settings = Settings { temperature: 1.0, top_k: 2, top_p: 1.0 };
        let share = 1.0 - u - beyond;
        let likelier = u + beyond;
        let micros = |share: f64| (share.ln() * 1e6).round() as i32;
        let first = likelier > share;
        let step = Candidates::reported([(1, micros(likelier)), (2, micros(share))]);
        let mut replay = Replay::new(&[Sampler::Llama(OneCandidate::Draws)], settings, 0);
        assert!(first, "the first candidate is the likelier one");
        assert_eq!(replay.push(2, &step), expected, "{beyond}");
    };
    assert!(u > 0.5, "{u}");
    check(5e-6, Outcome::Excused);
    check(5e-5, Outcome::Mismatch);
}

#[test]
fn a_step_that_is_reported_in_part_is_not_replayed_and_takes_its_number() {
    let steps = steps(40);
    let sampler = Sampler::Llama(OneCandidate::Draws);
    let ids = honest(sampler, SETTINGS, 9, &steps);
    let partly = |at: usize| if at.is_multiple_of(10) { steps[at].first(19) } else { steps[at] };
    let partly: Vec<Candidates> = (0..40).map(partly).collect();
    let counts = replay(&[sampler], 9, &ids, &partly);
    assert_eq!(counts, Counts { matched: 36, unreported: 4, ..Counts::default() });
    let report = Report::new(counts, 40, 40, Check::Holds, Ending::Length { tokens_max: 40 });
    assert_eq!(report.finding(), Finding::Audit);
}

#[test]
fn findings_follow_from_counts() {
    let check = |matched, unexplained, expected: (Finding, bool)| {
        let counts = Counts { matched, unexplained, ..Counts::default() };
        let tokens = counts.replayed();
        let ending = Ending::Length { tokens_max: tokens };
        let report = Report::new(counts, tokens, tokens, Check::Holds, ending);
        assert_eq!((report.finding(), counts.failed()), expected, "{matched} {unexplained}");
    };
    check(100, 0, (Finding::Clean, false));
    check(10, 2, (Finding::Clean, false));
    check(97, 3, (Finding::Audit, false));
    check(57, 3, (Finding::Audit, false));
    check(56, 3, (Finding::Suspend, false));
    check(80, 20, (Finding::Suspend, false));
    check(80, 21, (Finding::Suspend, true));
    check(24, 7, (Finding::Suspend, false));
    check(25, 7, (Finding::Suspend, true));
    check(u32::MAX, u32::MAX, (Finding::Suspend, true));
}

#[test]
fn a_wrong_count_text_or_ending_is_audited() {
    let check = |stated, text, ending, expected| {
        let report = Report::new(Counts::default(), stated, 5, text, ending);
        assert_eq!(report.finding(), expected, "{report:?}");
    };
    let length = Ending::Length { tokens_max: 5 };
    check(5, Check::Holds, length, Finding::Clean);
    check(5, Check::Unknown, Ending::EndOfGeneration(Check::Unknown), Finding::Clean);
    check(6, Check::Holds, length, Finding::Audit);
    check(5, Check::Broken, length, Finding::Audit);
    check(5, Check::Holds, Ending::Length { tokens_max: 6 }, Finding::Audit);
    check(5, Check::Holds, Ending::EndOfGeneration(Check::Broken), Finding::Audit);
    check(5, Check::Holds, Ending::StopSequence { cut: false }, Finding::Audit);
    check(5, Check::Holds, Ending::Repeats { aborts: false }, Finding::Audit);
    check(5, Check::Holds, Ending::Interrupted, Finding::Clean);
}

#[test]
fn an_ending_is_shown_by_the_step_after_the_last_token() {
    let steps = steps(2);
    let sampler = Sampler::Llama(OneCandidate::Draws);
    let ids = honest(sampler, SETTINGS, 9, &steps);
    let check = |reported: Option<u32>, is_end, expected| {
        let mut replay = Replay::new(&[sampler], SETTINGS, 9);
        replay.push(ids[0], &steps[0]);
        assert_eq!(replay.push_end(reported.map(|id| (id, &steps[1])), is_end), expected);
    };
    check(Some(ids[1]), true, Check::Holds);
    check(Some(ids[1]), false, Check::Broken);
    check(Some(ids[1] + 1), true, Check::Broken);
    check(None, true, Check::Unknown);
}

fn concatenation(tokens: &[&[u8]], text: &[u8], stops: &[&[u8]]) -> (Check, bool) {
    let mut concatenation = Concatenation::default();
    tokens.iter().for_each(|token| concatenation.push_token(Some(token)));
    concatenation.push_text(text);
    concatenation.finish(stops)
}

#[test]
fn tokens_are_the_text() {
    let check = |tokens: &[&[u8]], text: &[u8], stops: &[&[u8]], expected| {
        assert_eq!(concatenation(tokens, text, stops), expected, "{tokens:?} {text:?}");
    };
    check(&[], b"", &[], (Check::Holds, false));
    check(&[b"a", b"bc"], b"abc", &[], (Check::Holds, false));
    check(&[b"a", b"bc"], b"abd", &[], (Check::Broken, false));
    check(&[b"a", b"bc"], b"abcd", &[], (Check::Broken, false));
    check(&[b"a", b"bc"], b"ab", &[], (Check::Broken, false));
    // Cut before a stop sequence that ends within a token.
    check(&[b"a", b"bc"], b"a", &[b"x", b"b"], (Check::Holds, true));
    check(&[b"a", b"bc"], b"a", &[b""], (Check::Broken, false));
    // Before one whose other tokens are not delivered.
    check(&[b"a", b"bc"], b"a", &[b"bcd"], (Check::Holds, false));
    check(&[b"a", b"bc"], b"a", &[b"bd"], (Check::Broken, false));
    // The first two bytes of a character of three.
    check(&[b"a", &[0xe2, 0x82]], b"a", &[], (Check::Holds, false));
    check(&[b"a", &[0xff]], b"a", &[], (Check::Broken, false));
    check(&[&[0; AHEAD], &[0]], b"", &[&[0]], (Check::Broken, false));
    let mut unknown = Concatenation::default();
    unknown.push_token(None);
    unknown.push_text(b"abc");
    assert_eq!(unknown.finish(&[]), (Check::Unknown, false));
}

/// What the step after the last token must draw, if it is a stop sequence that ended the answer.
#[test]
fn a_stop_sequence_is_gone_on_with_where_it_was_begun() {
    let check = |tokens: &[&[u8]], text: &[u8], next: &[u8], expected| {
        let mut concatenation = Concatenation::default();
        tokens.iter().for_each(|token| concatenation.push_token(Some(token)));
        concatenation.push_text(text);
        let goes_on = concatenation.goes_on_with(&[b"", b"bcd", b"x"], next);
        assert_eq!(goes_on, expected, "{tokens:?} {next:?}");
    };
    check(&[b"a"], b"a", b"b", true);
    check(&[b"a"], b"a", b"bcde", true);
    check(&[b"a"], b"a", b"xy", true);
    check(&[b"a"], b"a", b"c", false);
    check(&[b"a"], b"a", b"", false);
    check(&[b"ab"], b"a", b"cd", true);
    check(&[b"ab"], b"a", b"x", false);
    check(&[], b"", b"bc", true);
}

const AHEAD: usize = types::limits::STOP_BYTES_MAX + types::limits::TOKEN_BYTES_MAX;

#[test]
fn the_31st_repetition_is_not_delivered() {
    let mut repeats = Repeats::default();
    repeats.push("no");
    for piece in [" no", "no\n"].into_iter().cycle().take(29) {
        repeats.push(piece);
        assert!(!repeats.aborts());
    }
    repeats.push("no");
    assert!(repeats.aborts());
    repeats.push("yes");
    assert!(!repeats.aborts());
}

proptest! {
    #[test]
    fn however_the_text_is_split_it_is_the_text(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        token_lengths in prop::collection::vec(0usize..9, 300),
        piece_lengths in prop::collection::vec(0usize..9, 300),
        change in any::<prop::sample::Index>(),
    ) {
        let run = |text: &[u8]| {
            let mut concatenation = Concatenation::default();
            let (mut tokens, mut pieces) = (&bytes[..], text);
            for (token, piece) in token_lengths.iter().zip(&piece_lengths) {
                let (token, rest) = tokens.split_at((*token).min(tokens.len()));
                tokens = rest;
                concatenation.push_token(Some(token));
                let (piece, rest) = pieces.split_at((*piece).min(pieces.len()));
                pieces = rest;
                concatenation.push_text(piece);
            }
            concatenation.push_token(Some(tokens));
            concatenation.push_text(pieces);
            concatenation.finish(&[]).0
        };
        prop_assert_eq!(run(&bytes), Check::Holds);
        if !bytes.is_empty() {
            let mut other = bytes.clone();
            other[change.index(bytes.len())] ^= 1;
            prop_assert_eq!(run(&other), Check::Broken);
        }
    }

    #[test]
    fn no_report_panics(
        reported in prop::collection::vec((any::<u32>(), any::<i32>()), 0..40),
        ids in prop::collection::vec(any::<u32>(), 0..40),
        seed in any::<u32>(),
    ) {
        let step = Candidates::reported(reported);
        let mut replay = Replay::new(&SAMPLERS, SETTINGS, seed);
        for id in &ids {
            replay.push(*id, &step);
        }
        let counts = replay.counts();
        prop_assert_eq!((counts.replayed() + counts.unreported) as usize, ids.len());
    }
}
