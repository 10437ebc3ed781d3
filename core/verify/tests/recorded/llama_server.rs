//! Answers of a real llama.cpp server, replayed: from log-probabilities as it reported them and as leaves
//! hold them, and by rules that it does not follow.

use proptest::prelude::*;
use verify::{
    draw::{OneCandidate, Sampler},
    l0::{Check, Concatenation, Counts, Ending, Finding, Replay, Report},
    leaf::LeafToken,
    logits::Candidates,
    profile::Profile,
};

use crate::answers::{Answer, Step, answers};

const DRAWS: Sampler = Sampler::Llama(OneCandidate::Draws);
const SKIPS: Sampler = Sampler::Llama(OneCandidate::Skips);

fn replay(
    samplers: &[Sampler],
    answer: &Answer,
    candidates: impl Fn(&Step) -> Candidates,
) -> Counts {
    let mut replay = Replay::new(samplers, answer.profile.settings(), answer.profile.seed);
    for step in &answer.steps {
        replay.push(step.id, &candidates(step));
    }
    replay.counts()
}

fn as_reported(step: &Step) -> Candidates {
    Candidates::reported(step.reported.iter().copied())
}

fn all_match(answer: &Answer) -> Counts {
    Counts { matched: answer.steps.len() as u32, ..Counts::default() }
}

#[test]
fn every_token_is_drawn_again() {
    for (name, answer) in answers() {
        assert_eq!(replay(&[DRAWS], &answer, as_reported), all_match(&answer), "{name}");
        // As if the version were not known.
        let counts = replay(&[SKIPS, DRAWS, Sampler::Ollama], &answer, as_reported);
        assert_eq!(counts, all_match(&answer), "{name}");
    }
}

#[test]
fn every_token_is_drawn_again_from_the_leaves_of_the_transcript() {
    let coded = |step: &Step| LeafToken::new(step.id, &step.reported).unwrap().reported();
    for (name, answer) in answers() {
        assert_eq!(replay(&[DRAWS], &answer, coded), all_match(&answer), "{name}");
    }
}

#[test]
fn other_rules_do_not_explain_it() {
    for (name, answer) in answers() {
        // A text that the model knows by heart: whatever is drawn is the likeliest token.
        if name.ends_with("eog.txt") {
            continue;
        }
        for sampler in [Sampler::Ollama, Sampler::Gumbel] {
            let counts = replay(&[sampler], &answer, as_reported);
            assert!(counts.unexplained > 2, "{name} {sampler:?}: {counts:?}");
        }
        let other_seed = Answer { profile: Profile { seed: 5, ..answer.profile }, ..answer };
        let counts = replay(&[DRAWS, SKIPS], &other_seed, as_reported);
        assert!(counts.unexplained > 2, "{name}: {counts:?}");
    }
}

#[test]
fn what_was_recorded_is_clean_and_what_is_cut_is_not() {
    let finding = |answer: &Answer, tokens: usize| {
        let profile = answer.profile;
        let mut replay = Replay::new(&[DRAWS], profile.settings(), profile.seed);
        let mut concatenation = Concatenation::default();
        let ends = answer.ended && tokens == answer.steps.len();
        let written = if ends { tokens - 1 } else { tokens };
        for step in &answer.steps[..written] {
            replay.push(step.id, &as_reported(step));
            concatenation.push_token(Some(&step.bytes));
        }
        let text: usize = answer.steps[..written].iter().map(|step| step.bytes.len()).sum();
        concatenation.push_text(&answer.text[..text.min(answer.text.len())]);
        let (text, _) = concatenation.finish(&[]);
        let last = answer.steps.last().filter(|_| ends);
        let ending = match last.map(|step| (step.id, as_reported(step))) {
            Some((id, step)) => {
                Ending::EndOfGeneration(replay.push_end(Some((id, &step)), id == 2))
            }
            None => Ending::Length { tokens_max: answer.tokens_max },
        };
        let written = written as u32;
        Report::new(replay.counts(), written, written, text, ending)
    };
    for (name, answer) in answers() {
        let whole = finding(&answer, answer.steps.len());
        assert_eq!((whole.text, whole.ending), (Check::Holds, Check::Holds), "{name}");
        assert_eq!(whole.finding(), Finding::Clean, "{name}");
        let cut = finding(&answer, answer.steps.len() - 3);
        assert_eq!((cut.ending, cut.finding()), (Check::Broken, Finding::Audit), "{name}");
    }
}

proptest! {
    /// Any other token in one place is found there.
    #[test]
    fn a_token_that_was_not_drawn_is_found(
        at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
    ) {
        for (name, answer) in answers() {
            let at = at.index(answer.steps.len());
            let reported = &answer.steps[at].reported;
            let forged = reported[other.index(reported.len())].0;
            if forged == answer.steps[at].id {
                continue;
            }
            let mut replay = Replay::new(&[DRAWS], answer.profile.settings(), answer.profile.seed);
            for (index, step) in answer.steps.iter().enumerate() {
                let id = if index == at { forged } else { step.id };
                replay.push(id, &as_reported(step));
            }
            prop_assert_eq!(replay.counts().unexplained, 1, "{} {}", name, at);
        }
    }
}
