//! Answers that end because they are as long as was ordered.

use super::*;

#[test]
fn an_engine_that_tells_the_prompt_last_is_heard() {
    let check = |inputs: Vec<(u64, Input)>, expect: Expect| {
        let mut opening = opening(64, voucher(1, 64).value.total);
        opening.tokens_max = Some(3);
        let mut session = Session::open(opening, NOW);
        let begin = vec![(0, durable()), (0, Input::Started { prompt_tokens: None })];
        expect.assert_eq(&play(&mut session, begin.into_iter().chain(inputs).collect()));
    };
    let length = || done(FinishReason::Length, Some(60));
    check(
        vec![(0, tokens(3)), (1, length())],
        expect![[r#"
        Durable
        Started
            accept, prompt None
        Engine
            delta of 3
        Engine
            delta of 0, prompt 60
            report Length: 60 + 3 tokens for +3060
    "#]],
    );
    // One that says no more, or too much, or breaks, has made what was ordered all the same.
    check(
        vec![(0, tokens(3)), (LAST_WORD_WAIT_MS, Input::Tick)],
        expect![[r#"
        Durable
        Started
            accept, prompt None
        Engine
            delta of 3
        Tick
            stop engine
            report Length: 100 + 3 tokens for +3100
    "#]],
    );
    check(
        vec![(0, tokens(4))],
        expect![[r#"
        Durable
        Started
            accept, prompt None
        Engine
            stop engine
            delta of 3
            report Length: 100 + 3 tokens for +3100
    "#]],
    );
    check(
        vec![(0, tokens(3)), (1, Input::EngineGone)],
        expect![[r#"
        Durable
        Started
            accept, prompt None
        Engine
            delta of 3
        EngineGone
            report Length: 100 + 3 tokens for +3100
    "#]],
    );
}

#[test]
fn a_token_too_many_or_too_long_is_not_delivered() {
    let mut opening = opening(64, voucher(1, 64).value.total);
    opening.tokens_max = Some(3);
    let mut session = Session::open(opening, NOW);
    let text = play(&mut session, vec![(0, durable()), (0, started()), (0, tokens(9))]);
    expect![[r#"
        Durable
        Started
            accept, prompt Some(100)
        Engine
            stop engine
            delta of 3
            report Length: 100 + 3 tokens for +3100
    "#]]
    .assert_eq(&text);
    let long = piece(&"x".repeat(limits::TOKEN_BYTES_MAX + 1));
    let events = vec![
        EngineEvent::Token(piece("ok")),
        EngineEvent::Token(piece("")),
        EngineEvent::Token(long),
    ];
    check(
        64,
        vec![(0, durable()), (0, started()), (0, Input::Engine(events))],
        expect![[r#"
            Durable
            Started
                accept, prompt Some(100)
            Engine
                stop engine
                delta of 1
                report Failed: 100 + 1 tokens for +1100
        "#]],
    );
}
