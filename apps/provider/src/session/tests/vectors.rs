//! Answers of vectors: what an engine must not make, and what they cost.

use types::inference::{Inputs, Prompt};

use super::*;

/// Of the prompt only: one nano-USD for each token.
const EMBED_PRICE: Price = Price { completion_nusd_per_mtok: Nusd::ZERO, ..PRICE };

/// A session for vectors of `count` texts, whose first voucher covers the estimated prompt.
fn session(count: usize, durable: Nusd) -> Session {
    let texts = vec!["a".to_owned(); count];
    let prompt = Prompt::Inputs(Inputs { texts, dimensions: None, truncate: false });
    let total = BEFORE.saturating_add(EMBED_PRICE.charge(ESTIMATE, 1));
    let opening = Opening {
        order: Order { price: EMBED_PRICE, ..order() },
        tokens_max: u32::try_from(count).ok(),
        vectors: prompt.vectors(),
        voucher: Voucher { total, ..voucher(1, 0).value },
        ..opening(0, durable)
    };
    Session::open(opening, NOW)
}

fn vectors(vectors: &[&[f32]]) -> Input {
    let piece = |numbers: &&[f32]| {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        EngineEvent::Token(TokenPiece { span: Span::Vector, bytes, ..TokenPiece::default() })
    };
    Input::Engine(vectors.iter().map(piece).collect())
}

fn check_vectors(count: usize, inputs: Vec<(u64, Input)>, expected: Expect) {
    let covered = BEFORE.saturating_add(EMBED_PRICE.charge(ESTIMATE, 1));
    expected.assert_eq(&play(&mut session(count, covered), inputs));
}

#[test]
fn vectors_cost_what_is_read() {
    check_vectors(
        3,
        vec![
            (0, durable()),
            (5, started()),
            (1, vectors(&[&[1.0, 2.0], &[3.0, 4.0]])),
            (1, vectors(&[&[5.0, 6.0]])),
            (1, acknowledged()),
        ],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                delta of 2
            Engine
                stop engine
                delta of 1
                report Stop: 100 + 3 tokens for +100
            Acknowledged
                persist 1 acknowledgement
                done: Acknowledged
        "#]],
    );
}

#[test]
fn the_first_vector_waits_for_its_cover_to_be_durable() {
    let mut session = session(1, BEFORE);
    let inputs = vec![(0, started()), (1, vectors(&[&[1.0]])), (1, durable())];
    expect![[r#"
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            sync 0
        Durable
            delta of 1
            report Stop: 100 + 1 tokens for +100
    "#]]
    .assert_eq(&play(&mut session, inputs));
}

#[test]
fn what_is_no_vector_ends_the_answer_as_failed() {
    let begin = || vec![(0, durable()), (0, started())];
    let made = |inputs: Vec<Input>| {
        begin().into_iter().chain(inputs.into_iter().map(|input| (1, input))).collect::<Vec<_>>()
    };
    check_vectors(
        2,
        made(vec![vectors(&[&[1.0], &[f32::NAN]])]),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            delta of 1
            report Failed: 100 + 1 tokens for +100
    "#]],
    );
    check_vectors(
        2,
        made(vec![vectors(&[&[1.0], &[1.0, 2.0]])]),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            delta of 1
            report Failed: 100 + 1 tokens for +100
    "#]],
    );
    check_vectors(
        2,
        made(vec![vectors(&[&[]])]),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            report Failed: 100 + 0 tokens for +0
    "#]],
    );
    check_vectors(
        2,
        made(vec![tokens(2)]),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            report Failed: 100 + 0 tokens for +0
    "#]],
    );
    let few = vec![vectors(&[&[1.0]]), done(FinishReason::Stop, Some(ESTIMATE))];
    check_vectors(
        2,
        made(few),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            delta of 1
        Engine
            report Failed: 100 + 1 tokens for +100
    "#]],
    );
    // In an answer of text there are none.
    check(
        64,
        made(vec![vectors(&[&[1.0]])]),
        expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            report Failed: 100 + 0 tokens for +0
    "#]],
    );
}
