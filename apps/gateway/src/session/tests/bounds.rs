//! What is believed of a service outside the network, and what an answer may hold, whoever gives it.

use super::*;

/// What a service outside the network is billed for: chunks of so many bytes arrived, and `end` came.
fn bought(chunks: &[usize], end: Input) -> (u32, u32, CountMethod, Ending) {
    let promised = Nusd(u128::MAX);
    let mut session = Session::new(Terms { bought: true, promised, ..terms() });
    let chunk = |bytes: &usize| TokenPiece { bytes: vec![b'a'; *bytes], ..TokenPiece::default() };
    let pieces = chunks.iter().map(chunk).collect();
    let mut effects = Vec::new();
    for input in [accepted(None), Input::Delta { pieces, prompt_tokens: None }, end] {
        session.step(0, input, &mut effects);
    }
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Promise { .. })));
    let Some(Effect::Close(closing)) = effects.pop() else { panic!("it is over") };
    assert_eq!(closing.response_hash, sha256(&[&vec![b'a'; chunks.iter().sum()]]));
    assert_eq!(closing.transcript_root, merkle_root(&[]));
    let Closing { prompt_tokens, delivered, counted, ending, charge, .. } = *closing;
    assert_eq!(charge, PRICE.charge(prompt_tokens, delivered));
    (prompt_tokens, delivered, counted, ending)
}

#[test]
fn a_service_is_believed_about_its_tokens_as_far_as_it_is_possible() {
    use CountMethod::{Chunks, Told};
    let done = |prompt_tokens, completion_tokens| Input::Done {
        finish: FinishReason::Stop,
        prompt_tokens,
        completion_tokens,
    };
    let finished = Ending::Finished(FinishReason::Stop);
    for (chunks, end, expected) in [
        (&[30, 30][..], done(Some(7), Some(15)), (7, 15, Told)),
        // No fewer than chunks, no more than bytes, and no more of the prompt than is possible.
        (&[30, 30], done(Some(9_999), Some(1)), (60, 2, Told)),
        (&[3, 3], done(None, Some(5_000)), (ESTIMATE, 6, Told)),
        (&[], done(Some(7), Some(5)), (7, 0, CountMethod::TokenIds)),
        // Nor more than was paid for.
        (&[1_000], done(Some(7), Some(999)), (7, TOKENS_MAX, Told)),
        // It says nothing: at least a token for every eight bytes.
        (&[30, 31], done(Some(7), None), (7, 7, Chunks)),
        (&[2, 2], done(Some(7), None), (7, 2, Chunks)),
    ] {
        let (prompt_tokens, delivered, counted, ending) = bought(chunks, end);
        assert_eq!((prompt_tokens, delivered, counted), expected);
        assert_eq!(ending, finished);
    }
    let cut = bought(&[64], Input::Ended);
    assert_eq!(cut, (ESTIMATE, 8, Chunks, Ending::Failed(Failure::Died)));
}

#[test]
fn what_an_answer_may_hold_is_bounded() {
    let ending = |bought: bool, tokens_max: u32, pieces: Vec<TokenPiece>| {
        let promised = Nusd(u128::MAX);
        let mut session = Session::new(Terms { bought, promised, tokens_max, ..terms() });
        let mut effects = Vec::new();
        session.step(0, accepted(None), &mut effects);
        session.step(0, Input::Delta { pieces, prompt_tokens: None }, &mut effects);
        match effects.pop() {
            Some(Effect::Close(closing)) => Some(closing.ending),
            _ => None,
        }
    };
    let breach = |breach| Some(Ending::Failed(Failure::Breach(breach)));
    let told = |bytes: usize| {
        let alternative = Alternative { id: None, bytes: vec![b'a'; bytes], logprob_micros: -1 };
        let alternatives = vec![alternative; 20];
        vec![TokenPiece { bytes: vec![b'a'], alternatives, ..TokenPiece::default() }]
    };
    assert_eq!(ending(false, 1, told(limits::TOKEN_BYTES_MAX)), None);
    assert_eq!(ending(false, 1, told(limits::TOKEN_BYTES_MAX + 1)), breach(Breach::Alternatives));
    let long = |bytes: usize| {
        let piece =
            TokenPiece { bytes: vec![b'a'; limits::TOKEN_BYTES_MAX], ..TokenPiece::default() };
        vec![piece; bytes / limits::TOKEN_BYTES_MAX]
    };
    assert_eq!(ending(true, 10_000, long(ANSWER_BYTES_MAX)), None);
    let more = ANSWER_BYTES_MAX + limits::TOKEN_BYTES_MAX;
    assert_eq!(ending(true, 10_000, long(more)), breach(Breach::TooManyBytes));
}
