//! Honest answers in all the forms that engines give them: ended by the model, by a stop sequence wherever it begins and however
//! many tokens it takes, by a limit, by a full context. None is held against its provider. The same answers
//! changed afterwards: none passes, and nothing panics.

use std::{path::Path, sync::OnceLock};

use auditor::{
    answer::Answer,
    judge::{JudgeError, Judged, Reference, Sample, backend, judge},
};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine as _, EngineEvent};
use proptest::{prelude::*, sample::Index};
use tokio_util::sync::CancellationToken;
use types::{
    Hash32,
    audit::{AuditOutcome, MilliNats},
    inference::{FinishReason, InferenceRequest, Prompt, Sampling},
};
use verify::{
    audit::Means, engines::Drawing, eprocess::HonestMean, leaf::LeafToken, profile::Profile,
};

const TOKENS_MAX: u32 = 70;
/// Of a small context, which answers fill.
const SMALL: u32 = 24;
/// What the texts begin with.
const BEGINNINGS: [&str; 4] = ["The best way to", "In the morning", "A ", "Once upon a time"];

fn engine(context_tokens_max: u32) -> EmbeddedEngine {
    let options = EmbeddedOptions { context_tokens_max, ..EmbeddedOptions::standard() };
    EmbeddedEngine::load(Path::new("../../models/ember-1m-f16.gguf"), options).unwrap()
}

struct Bench {
    runtime: tokio::runtime::Runtime,
    engine: EmbeddedEngine,
    small: EmbeddedEngine,
}

fn bench() -> &'static Bench {
    static BENCH: OnceLock<Bench> = OnceLock::new();
    BENCH.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Bench { runtime, engine: engine(u32::MAX), small: engine(SMALL) }
    })
}

/// An answer as a provider gives it, in profile NP-1.
fn ask(engine: &EmbeddedEngine, number: u32, tokens_max: u32, stop: Vec<String>) -> Answer {
    let model = engine.model().id;
    let engine_version = engine.version();
    let beginning = BEGINNINGS[number as usize % BEGINNINGS.len()];
    let prompt = Prompt::Text(beginning.to_owned());
    let profile = Profile {
        temperature_micros: 800_000,
        top_k: 20,
        top_p_micros: 900_000,
        seed: 4_000 + number,
    };
    let mut request = InferenceRequest::of(prompt.clone());
    request.tokens_max = Some(tokens_max);
    request.stop = stop.clone();
    request.logprobs = Some(20);
    request.sampling = Sampling {
        temperature_micros: Some(profile.temperature_micros),
        top_p_micros: Some(profile.top_p_micros),
        seed: Some(profile.seed.into()),
        presence_penalty_micros: Some(0),
        frequency_penalty_micros: Some(0),
        top_k: Some(profile.top_k.into()),
        min_p_micros: Some(0),
        repeat_penalty_micros: Some(1_000_000),
    };
    let (mut tokens, mut text) = (Vec::new(), Vec::new());
    let finish = bench().runtime.block_on(async {
        let cancel = CancellationToken::new();
        let mut events = engine.generate(model, request, cancel).await.unwrap().events;
        loop {
            match events.recv().await.unwrap() {
                EngineEvent::Token(piece) => {
                    text.extend_from_slice(&piece.bytes);
                    tokens.push(LeafToken::of_piece(&piece));
                }
                EngineEvent::Done { finish, .. } => return finish,
                EngineEvent::Failed { reason } => panic!("{reason}"),
            }
        }
    });
    Answer {
        model,
        drawing: Drawing::of(&engine_version).unwrap(),
        engine_version,
        profile: Some(profile),
        prompt,
        text,
        stated_tokens: tokens.len() as u32,
        tokens,
        finish,
        tokens_max: Some(tokens_max),
        stop,
    }
}

fn judged(engine: &EmbeddedEngine, answer: &Answer) -> Result<Judged, JudgeError> {
    let mean = |ppm| HonestMean::of_ppm(ppm).unwrap();
    let means = Means { l1: mean(70_000), l2: mean(21_000), projections: None };
    let reference = Reference { engine, model: engine.model().id, backend: backend() };
    let sample = Sample { answer, receipt: Hash32([1; 32]) };
    let judged = bench().runtime.block_on(judge(&[sample], reference, &[], means));
    judged.map(|judged| judged.expect("there is one"))
}

/// Nothing is held against it.
fn check_honest(engine: &EmbeddedEngine, answer: &Answer) {
    let said = || format!("{:?} {:?} {:?}", answer.finish, answer.text_lossy(), answer.stop);
    let judged = judged(engine, answer).unwrap();
    assert_eq!(judged.finding, "clean", "{}", said());
    assert_ne!(judged.outcome, AuditOutcome::Fail, "{}", said());
    assert_eq!((judged.replay.unexplained, judged.replay.unreported), (0, 0), "{}", said());
    assert!(judged.ln_e.is_none_or(|ln_e| ln_e < MilliNats(2_000)), "{:?} {}", judged.ln_e, said());
}

trait Lossy {
    fn text_lossy(&self) -> String;
}

impl Lossy for Answer {
    fn text_lossy(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }
}

/// Answers to twelve requests, and what part of a text each stop sequence is taken from.
fn plain() -> &'static [Answer] {
    static PLAIN: OnceLock<Vec<Answer>> = OnceLock::new();
    PLAIN.get_or_init(|| (0..12).map(|n| ask(&bench().engine, n, TOKENS_MAX, vec![])).collect())
}

/// Some characters of a text, so that it is a stop sequence of the answer that has it.
fn part(text: &str, from: Index, length: usize) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    let from = from.index(characters.len().max(1));
    let taken: String = characters.iter().skip(from).take(length).collect();
    (!taken.is_empty() && taken != "\u{fffd}").then_some(taken)
}

#[test]
fn an_empty_answer_and_one_of_a_single_token_are_honest() {
    let text = plain()[0].text_lossy();
    let first: String = text.chars().take(1).collect();
    let empty = ask(&bench().engine, 0, TOKENS_MAX, vec![first]);
    assert!(empty.tokens.is_empty() && empty.finish == FinishReason::Stop);
    check_honest(&bench().engine, &empty);
    // Whoever had something to say and gave nothing is not.
    let silent = Answer { stop: vec![], ..empty };
    assert_eq!(judged(&bench().engine, &silent).unwrap().finding, "audit");
    check_honest(&bench().engine, &ask(&bench().engine, 1, 1, vec![]));
}

/// An audit says that all is well of 50 tokens or more.
#[test]
fn long_answers_pass_and_those_that_were_cut_do_not() {
    let engine = &bench().engine;
    let long = |number| ask(engine, number, 60, vec![]);
    let whole = (0..64).map(long).find(|answer| answer.tokens.len() == 60).unwrap();
    let outcome = |answer: &Answer| judged(engine, answer).unwrap().outcome;
    assert_eq!(outcome(&whole), AuditOutcome::Pass);
    let vocabulary = bench().runtime.block_on(engine.vocabulary(whole.model)).unwrap();
    let last: usize =
        whole.tokens[55..].iter().map(|it| vocabulary.bytes(it.id()).unwrap().len()).sum();
    let mut cut = Answer { stated_tokens: 55, ..whole };
    cut.tokens.truncate(55);
    cut.text.truncate(cut.text.len() - last);
    for finish in [FinishReason::Length, FinishReason::Stop] {
        let cut = Answer { finish, ..cut.clone() };
        assert_eq!(outcome(&cut), AuditOutcome::Inconclusive, "{finish:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_stop_sequence_anywhere_is_honest(
        number in 0u32..12,
        from in any::<Index>(),
        length in 1usize..14,
        other in "[a-z ]{1,3}",
    ) {
        let text = plain()[number as usize].text_lossy();
        let Some(stop) = part(&text, from, length) else { return Ok(()) };
        let answer = ask(&bench().engine, number, TOKENS_MAX, vec![other, stop]);
        check_honest(&bench().engine, &answer);
    }

    #[test]
    fn any_limit_and_a_full_context_are_honest(number in 0u32..12, tokens_max in 1u32..40) {
        check_honest(&bench().engine, &ask(&bench().engine, number, tokens_max, vec![]));
        check_honest(&bench().small, &ask(&bench().small, number, tokens_max, vec![]));
    }

    #[test]
    fn what_was_changed_never_passes(
        number in 0u32..12,
        from in any::<Index>(),
        length in 1usize..14,
        kind in 0u8..9,
        place in any::<Index>(),
        byte in 1u8..=255,
    ) {
        let text = plain()[number as usize].text_lossy();
        let stop: Vec<String> = part(&text, from, length).filter(|_| byte % 2 == 0).into_iter().collect();
        let mut answer = ask(&bench().engine, number, TOKENS_MAX, stop);
        if answer.tokens.len() < 4 {
            return Ok(());
        }
        let at = place.index(answer.tokens.len());
        match kind {
            0 => {
                let at = place.index(answer.text.len());
                answer.text[at] ^= byte;
            }
            1 => drop(answer.text.pop()),
            2 => answer.text.push(byte),
            3 => answer.stated_tokens += u32::from(byte),
            4 => drop(answer.tokens.remove(at)),
            5 => answer.tokens.insert(at, answer.tokens[at].clone()),
            6 => answer.tokens[at] = LeafToken::new(u32::MAX >> 8, &[]).unwrap(),
            7 => {
                let silent = |it: &LeafToken| LeafToken::new(it.id(), &[]).unwrap();
                answer.tokens = answer.tokens.iter().map(silent).collect();
            }
            // Cut, and said to have been ended by the model. Where there is a stop sequence, its first token may be what
            // was drawn next, and of that nobody says more.
            _ => {
                answer.stop.clear();
                let half = answer.tokens.len() / 2;
                let whole = answer.text.len();
                answer.tokens.truncate(half);
                answer.stated_tokens = half as u32;
                answer.text.truncate(whole / 2);
                answer.finish = FinishReason::Stop;
            }
        }
        // An answer that names a token which its model does not have is not judged.
        if let Ok(judged) = judged(&bench().engine, &answer) {
            prop_assert!(judged.finding != "clean", "{kind} {:?}", judged.outcome);
            prop_assert_ne!(judged.outcome, AuditOutcome::Pass);
        }
    }
}
