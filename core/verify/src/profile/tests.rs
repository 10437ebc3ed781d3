//! Which requests can be replayed, with which seed, and which responses are audited.

use expect_test::{Expect, expect};
use types::inference::{AnswerForm, Inputs, Prompt};

use super::*;

fn text(sampling: Sampling) -> InferenceRequest {
    InferenceRequest { sampling, ..InferenceRequest::of(Prompt::Text("Once".into())) }
}

fn check(request: &InferenceRequest, drafting: Drafting, expected: Expect) {
    expected.assert_eq(&format!("{:?}", standing(request, 7, drafting)));
}

#[test]
fn a_plain_request_is_replayable() {
    check(
        &text(Sampling::default()),
        Drafting::None,
        expect![
            "Replayable(Profile { temperature_micros: 800000, top_k: 20, top_p_micros: 900000, seed: 7 })"
        ],
    );
    let asked = Sampling {
        temperature_micros: Some(0),
        seed: Some(1),
        top_k: Some(5),
        top_p_micros: Some(1_000_000),
        repeat_penalty_micros: Some(1_000_000),
        presence_penalty_micros: Some(0),
        ..Sampling::default()
    };
    check(
        &text(asked),
        Drafting::None,
        expect![
            "Replayable(Profile { temperature_micros: 0, top_k: 5, top_p_micros: 1000000, seed: 7 })"
        ],
    );
}

#[test]
fn each_reason_is_named() {
    let all = Sampling {
        seed: Some(1),
        frequency_penalty_micros: Some(-1),
        top_k: Some(21),
        min_p_micros: Some(50_000),
        ..Sampling::default()
    };
    let request = InferenceRequest { form: Some(AnswerForm::Json), ..text(all) };
    check(
        &request,
        Drafting::Some,
        expect!["Unreplayable([ClientSeed, Penalty, TopK, MinP, Form, Draft])"],
    );
    // Zero: among all.
    let unbounded = text(Sampling { top_k: Some(0), ..Sampling::default() });
    check(&unbounded, Drafting::None, expect!["Unreplayable([TopK])"]);
    let inputs = Inputs { texts: vec!["a".into()], dimensions: None, truncate: false };
    let vectors = InferenceRequest::of(Prompt::Inputs(inputs));
    check(&vectors, Drafting::None, expect!["Unscorable"]);
}

#[test]
fn a_profile_tells_the_sampler_what_json_tells_an_engine() {
    let profile =
        Profile { temperature_micros: 800_000, top_k: 20, top_p_micros: 950_000, seed: 0 };
    let expected = Settings { temperature: 0.8, top_k: 20, top_p: 0.95 };
    assert_eq!(profile.settings(), expected);
}

/// Recomputed with Python's `hashlib`.
#[test]
fn seeds_are_these() {
    let of = |n: u8| seed(&Hash32([n; 32]), &[n; 16], &Address([n; 20]), &RequestId([n; 16]));
    assert_eq!([of(0), of(1), of(2)], [915_056_749, 81_339_142, 1_351_909_725]);
}

#[test]
fn every_part_changes_the_seed() {
    let zero = (Hash32([0; 32]), [0; 16], Address([0; 20]), RequestId([0; 16]));
    let of = |(beacon, nonce, provider, request)| seed(&beacon, &nonce, &provider, &request);
    let first = of(zero);
    assert_ne!(of((Hash32([1; 32]), zero.1, zero.2, zero.3)), first);
    assert_ne!(of((zero.0, [1; 16], zero.2, zero.3)), first);
    assert_ne!(of((zero.0, zero.1, Address([1; 20]), zero.3)), first);
    assert_ne!(of((zero.0, zero.1, zero.2, RequestId([1; 16]))), first);
}
