//! Which of the opened answers a model runs over.

use types::{
    Hash32,
    inference::{FinishReason, Prompt},
};
use verify::{engines::Drawing, leaf::LeafToken, profile::Profile};

use super::*;

fn opened(version: &str, tokens: usize, prompt_bytes: usize) -> Arc<Opened> {
    let answer = Answer {
        model: ModelId([1; 32]),
        engine_version: version.to_owned(),
        drawing: Drawing::of(version).unwrap(),
        profile: Some(Profile { temperature_micros: 1, top_k: 1, top_p_micros: 1, seed: 1 }),
        prompt: Prompt::Text("x".repeat(prompt_bytes)),
        text: Vec::new(),
        tokens: (0..tokens).map(|_| LeafToken::new(1, &[(1, -1)]).unwrap()).collect(),
        stated_tokens: 0,
        finish: FinishReason::Stop,
        tokens_max: None,
        stop: Vec::new(),
    };
    Arc::new(Opened { receipt: Hash32([3; 32]), answer })
}

#[test]
fn as_many_answers_are_scored_as_fit() {
    let ours = "embedded candle 0.11.1";
    let check = |opened: &[Arc<Opened>], tokens_max, expected| {
        assert_eq!(scored(opened, tokens_max).len(), expected, "{tokens_max}");
    };
    let three = [opened(ours, 10, 40), opened(ours, 10, 0), opened(ours, 10, 0)];
    check(&three, 100, 3);
    check(&three, 30, 2);
    check(&three, 29, 1);
    check(&three, 20, 1);
    check(&three, 19, 0);
    check(&[], 100, 0);
    // Engines that draw in different ways are not bet on together.
    let mixed = [opened(ours, 1, 0), opened(ours, 1, 0), opened("llama.cpp b6730", 1, 0)];
    check(&mixed, 100, 2);
}
