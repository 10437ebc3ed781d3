//! What the embedded engine tells an auditor.

use super::*;

async fn all(mut stream: LogitsStream) -> Vec<Vec<f32>> {
    let mut positions = Vec::new();
    while let Some(logits) = stream.recv().await {
        positions.push(logits.unwrap());
    }
    positions
}

/// The prompt is read at once and the answer token by token, as the provider did: the same numbers, bit by bit.
#[tokio::test]
async fn logits_are_those_that_an_answer_was_drawn_from() {
    let engine = engine();
    let id = engine.model().id;
    let hot = Sampling { temperature_micros: Some(900_000), seed: Some(3), ..Sampling::default() };
    let request = InferenceRequest { sampling: hot, logprobs: Some(5), ..chat("Tell me a story.") };
    let mut tokens = engine.tokenize(id, &request.prompt).await.unwrap();
    assert_eq!(tokens, engine.prompt_tokens(&request.prompt).unwrap());
    let from = tokens.len();
    let answer = answer(&engine, request).await;
    tokens.extend(answer.ids());
    let stream = engine.logits(id, &tokens, from).await.unwrap();
    assert_eq!(stream.left(), answer.pieces.len() + 1);
    let positions = all(stream).await;
    assert_eq!(positions.len(), answer.pieces.len() + 1);
    let vocabulary = engine.vocabulary(id).await.unwrap();
    for (piece, logits) in answer.pieces.iter().zip(&positions) {
        // Of the tokens that may be drawn.
        let mut logits = logits.clone();
        for (id, logit) in (0u32..).zip(&mut logits) {
            if vocabulary.bytes(id) == Some(&[]) && !vocabulary.is_end(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let logits = verify::logits::Logits::new(&logits).unwrap();
        let micros = |id| (logits.logprob(id) * 1e6).round() as i32;
        assert_eq!(Some(micros(piece.id.unwrap())), piece.logprob_micros);
        for told in &piece.alternatives {
            assert_eq!(micros(told.id.unwrap()), told.logprob_micros);
        }
    }
    // Where they begin changes only how the prompt is read.
    let last = all(engine.logits(id, &tokens[..from], from).await.unwrap()).await;
    assert_eq!(last, positions[..1]);
    let early = all(engine.logits(id, &tokens, 1).await.unwrap()).await;
    assert_eq!(early.len(), tokens.len());
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 0.01;
    assert!(!early[from - 1..].iter().flatten().zip(positions.iter().flatten()).any(far));
}

#[tokio::test]
async fn a_replayable_answer_comes_with_projections_of_what_it_was_drawn_from() {
    let engine = engine();
    let id = engine.model().id;
    let settings = verify::profile::Profile {
        temperature_micros: 800_000,
        top_k: 20,
        top_p_micros: 950_000,
        seed: 9,
    };
    let sampling = settings.sampling();
    let request = InferenceRequest { sampling, logprobs: Some(20), ..text("Once upon") };
    let said = answer(&engine, request.clone()).await;
    let mut tokens = engine.tokenize(id, &request.prompt).await.unwrap();
    let from = tokens.len();
    tokens.extend(said.ids());
    let positions = all(engine.logits(id, &tokens, from).await.unwrap()).await;
    let signs = verify::projection::Signs::new(9, positions[0].len());
    for (piece, logits) in said.pieces.iter().zip(&positions) {
        // Whatever may be drawn, it is of all.
        assert_eq!(piece.projection, signs.project(logits));
        assert!(piece.projection.is_some());
    }
    // What others cannot draw again, or is not reported whole, has none.
    let few = InferenceRequest { logprobs: Some(19), ..request.clone() };
    let wild = InferenceRequest {
        sampling: Sampling { min_p_micros: Some(50_000), ..settings.sampling() },
        ..request
    };
    for request in [few, wild] {
        let said = answer(&engine, request).await;
        assert!(said.pieces.iter().all(|piece| piece.projection.is_none()));
    }
}

#[tokio::test]
async fn a_vocabulary_says_what_ids_stand_for() {
    let engine = engine();
    let vocabulary = engine.vocabulary(engine.model().id).await.unwrap();
    assert_eq!(vocabulary.size(), 1_024);
    for id in 0..1_024 {
        assert_eq!(vocabulary.bytes(id), Some(engine.token_bytes(id)));
    }
    assert_eq!(vocabulary.bytes(1_024), None);
    assert_eq!(vocabulary.ends().collect::<Vec<_>>(), [2]);
    assert!(vocabulary.is_end(2) && !vocabulary.is_end(1));
}

#[tokio::test]
async fn what_does_not_exist_has_no_logits() {
    let engine = engine();
    let id = engine.model().id;
    let refused =
        async |tokens: &[u32], from| engine.logits(id, tokens, from).await.unwrap_err().to_string();
    let begins = "the request does not fit the model: ";
    for (tokens, from, reason) in [
        (&[1][..], 0, "there are no logits after 0 of 1 tokens"),
        (&[1], 2, "there are no logits after 2 of 1 tokens"),
        (&[], 0, "there are no logits after 0 of 0 tokens"),
        (&[1, u32::MAX], 1, "there is no token 4294967295"),
    ] {
        assert_eq!(refused(tokens, from).await, format!("{begins}{reason}"));
    }
    assert!(refused(&vec![1; 100_000], 1).await.contains("the model's context holds 512"));
    let other = engine.logits(ModelId([0; 32]), &[1], 1).await;
    assert!(matches!(other, Err(EngineError::UnknownModel { .. })));
    let dummy = crate::dummy::DummyEngine::new(crate::dummy::DummyOptions::all()).unwrap();
    let dummy = dummy.logits(id, &[1], 1).await;
    assert!(matches!(dummy, Err(EngineError::Unsupported { .. })), "{dummy:?}");
}

#[tokio::test]
async fn a_stream_of_logits_that_is_dropped_frees_its_slot() {
    let options = EmbeddedOptions { slots: 1, waiting_max: 0, ..EmbeddedOptions::standard() };
    let engine = EmbeddedEngine::from_bytes(EMBER, "ember", options).unwrap();
    let id = engine.model().id;
    let mut stream = engine.logits(id, &[1; 400], 1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().len(), 1_024);
    // The engine is a few positions ahead, and waits.
    assert!(matches!(engine.logits(id, &[1], 1).await, Err(EngineError::Busy { .. })));
    drop(stream);
    while engine.load().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(all(engine.logits(id, &[1], 1).await.unwrap()).await.len(), 1);
}

#[tokio::test]
async fn an_engine_that_is_dropped_says_that_it_broke_off() {
    let engine = engine();
    let mut stream = engine.logits(engine.model().id, &[1; 400], 1).await.unwrap();
    assert!(stream.recv().await.unwrap().is_ok());
    drop(engine);
    let mut last = None;
    while let Some(logits) = stream.recv().await {
        last = Some(logits);
    }
    let error = last.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("the engine failed: "), "{error}");
    assert!(stream.recv().await.is_none());
}
