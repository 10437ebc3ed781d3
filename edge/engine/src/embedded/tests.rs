//! The embedded engine on the model that ships with the project.

mod scoring;

use std::io::Write as _;

use proptest::prelude::*;
use types::inference::{
    ChatMessage, CountMethod, FinishReason, InferenceRequest, Role, Sampling, TokenPiece,
};

use super::*;
use crate::Usage;

static EMBER: &[u8] = include_bytes!("../../../../models/ember-1m-f16.gguf");

fn engine() -> EmbeddedEngine {
    EmbeddedEngine::from_bytes(EMBER, "ember-1m-f16", EmbeddedOptions::standard()).unwrap()
}

fn text(prompt: &str) -> InferenceRequest {
    InferenceRequest {
        prompt: Prompt::Text(prompt.to_owned()),
        sampling: Sampling { temperature_micros: Some(0), ..Sampling::default() },
        tokens_max: Some(24),
        stop: Vec::new(),
        logprobs: None,
        begun: None,
        form: None,
        tools: None,
    }
}

fn chat(content: &str) -> InferenceRequest {
    let message = ChatMessage::text(Role::User, content.to_owned());
    InferenceRequest { prompt: Prompt::Chat(vec![message]), ..text("") }
}

struct Answer {
    pieces: Vec<TokenPiece>,
    finish: FinishReason,
    usage: Usage,
}

impl Answer {
    fn bytes(&self) -> Vec<u8> {
        self.pieces.iter().flat_map(|piece| piece.bytes.clone()).collect()
    }

    fn ids(&self) -> Vec<u32> {
        self.pieces.iter().map(|piece| piece.id.unwrap()).collect()
    }
}

async fn answer(engine: &EmbeddedEngine, request: InferenceRequest) -> Answer {
    let cancel = CancellationToken::new();
    let mut generation = engine.generate(engine.model().id, request, cancel).await.unwrap();
    let mut pieces = Vec::new();
    while let Some(event) = generation.events.recv().await {
        match event {
            EngineEvent::Token(piece) => pieces.push(piece),
            EngineEvent::Done { finish, usage } => {
                assert_eq!(generation.events.recv().await, None, "nothing after the end");
                assert_eq!(usage.prompt_tokens, generation.prompt_tokens);
                return Answer { pieces, finish, usage };
            }
            EngineEvent::Failed { reason } => panic!("{reason}"),
        }
    }
    panic!("the stream has no end");
}

#[tokio::test]
async fn a_chat_is_answered_and_counted_by_token_ids() {
    let engine = engine();
    let answer = answer(&engine, chat("Hello!")).await;
    assert!(!answer.pieces.is_empty());
    let bytes: Vec<u8> =
        answer.ids().iter().flat_map(|id| engine.token_bytes(*id).to_vec()).collect();
    assert_eq!(bytes, answer.bytes(), "the ids' bytes are the answer");
    let count = u32::try_from(answer.pieces.len()).unwrap();
    let prompt = engine.prompt_tokens(&chat("Hello!").prompt).unwrap();
    let usage = Usage {
        prompt_tokens: Some(prompt.len() as u32),
        completion_tokens: Some(count),
        counted: CountMethod::TokenIds,
    };
    assert_eq!(answer.usage, usage);
    assert_eq!(engine.load(), Load { slots: 4, active: 0 });
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_another_changes_it() {
    let engine = engine();
    let drawn = |seed| {
        let sampling = Sampling { seed: Some(seed), ..Sampling::default() };
        answer(&engine, InferenceRequest { sampling, ..text("Once upon a time") })
    };
    let first = drawn(7).await.ids();
    assert_eq!(first, drawn(7).await.ids());
    let mut others = Vec::new();
    for seed in 0..8 {
        others.push(drawn(seed).await.ids());
    }
    assert!(others.iter().any(|other| *other != first));
}

#[tokio::test]
async fn the_rest_of_a_begun_answer_is_that_of_one_without_a_break() {
    let engine = engine();
    let greedy = Sampling { temperature_micros: Some(0), ..Sampling::default() };
    let drawn = Sampling {
        seed: Some(7),
        presence_penalty_micros: Some(500_000),
        frequency_penalty_micros: Some(500_000),
        ..Sampling::default()
    };
    for sampling in [greedy, drawn] {
        let whole = InferenceRequest { sampling, ..chat("Tell me a story.") };
        let pieces = answer(&engine, whole.clone()).await.pieces;
        assert!(pieces.len() > 8, "{}", pieces.len());
        for cut in [1, 2, pieces.len() / 2, pieces.len() - 1] {
            let (begun, rest) = pieces.split_at(cut);
            let bytes: Vec<u8> = begun.iter().flat_map(|piece| piece.bytes.clone()).collect();
            let text = String::from_utf8(bytes).unwrap();
            let ids = begun.iter().map(|piece| piece.id.unwrap()).collect();
            let left = whole.tokens_max.unwrap() - u32::try_from(cut).unwrap();
            let request = InferenceRequest {
                tokens_max: Some(left),
                begun: Some(Begun { text, ids }),
                ..whole.clone()
            };
            let continued = answer(&engine, request).await;
            assert_eq!(continued.pieces, rest, "cut after {cut}");
        }
    }
}

#[tokio::test]
async fn what_was_begun_without_known_ids_is_read_as_text() {
    let engine = engine();
    let whole = answer(&engine, text("Once upon a time")).await;
    let begun = Begun { text: " there was".into(), ids: Vec::new() };
    let as_text = InferenceRequest { begun: Some(begun), ..text("Once upon a time") };
    let joined = answer(&engine, text("Once upon a time there was")).await;
    assert_eq!(answer(&engine, as_text.clone()).await.pieces, joined.pieces);
    // Ids of another text, or of no token, are not believed.
    let known = engine.prompt_tokens(&Prompt::Text(" there was".into())).unwrap();
    let special = known.into_iter().find(|id| engine.token_bytes(*id).is_empty());
    let unseen = special.into_iter().chain(whole.ids()).take(2).collect();
    for ids in [whole.ids()[..4].to_vec(), vec![u32::MAX], unseen] {
        let begun = Some(Begun { text: " there was".into(), ids });
        let request = InferenceRequest { begun, ..as_text.clone() };
        assert_eq!(answer(&engine, request).await.pieces, joined.pieces);
    }
}

#[tokio::test]
async fn a_token_that_is_no_text_and_no_end_is_never_drawn() {
    let engine = engine();
    let vocabulary = engine.vocabulary(engine.model().id).await.unwrap();
    let silent = |id: u32| vocabulary.bytes(id) == Some(&[]) && !vocabulary.is_end(id);
    let size = u32::try_from(vocabulary.size()).unwrap();
    let count = (0..size).filter(|id| silent(*id)).count();
    assert!(count > 0, "the model has such tokens");
    // Of all candidates, as many as are told, none is one of them.
    let request = InferenceRequest { logprobs: Some(20), ..text("Once upon a time") };
    for piece in answer(&engine, request).await.pieces {
        assert!(!piece.bytes.is_empty());
        assert!(piece.alternatives.iter().all(|it| !it.id.is_some_and(silent)), "{piece:?}");
    }
}

#[tokio::test]
async fn a_limit_on_tokens_ends_the_answer_as_length() {
    let engine = engine();
    for tokens in [1, 5] {
        let request = InferenceRequest { tokens_max: Some(tokens), ..text("Once upon a time") };
        let answer = answer(&engine, request).await;
        assert_eq!(answer.finish, FinishReason::Length);
        assert_eq!(answer.usage.completion_tokens, Some(tokens));
    }
}

#[tokio::test]
async fn an_answer_stops_before_a_stop_sequence() {
    let engine = engine();
    let whole = answer(&engine, text("Once upon a time")).await;
    let whole_text = String::from_utf8(whole.bytes()).unwrap();
    // From the middle of a word to the middle of a later one, across token boundaries.
    let (at, _) = whole_text.char_indices().nth(whole_text.chars().count() / 2).unwrap();
    let stop: String = whole_text[at..].chars().take(3).collect();
    let expected = &whole_text[..whole_text.find(&stop).unwrap()];
    let request = InferenceRequest { stop: vec![stop], ..text("Once upon a time") };
    let stopped = answer(&engine, request).await;
    assert_eq!(String::from_utf8(stopped.bytes()).unwrap(), expected);
    assert_eq!(stopped.finish, FinishReason::Stop);
}

#[tokio::test]
async fn an_answer_ends_with_the_context() {
    let context_tokens_max = 16;
    let options = EmbeddedOptions { context_tokens_max, ..EmbeddedOptions::standard() };
    let engine = EmbeddedEngine::from_bytes(EMBER, "ember", options).unwrap();
    let request = InferenceRequest { tokens_max: None, ..text("Once upon") };
    let prompt = engine.prompt_tokens(&request.prompt).unwrap().len() as u32;
    let answer = answer(&engine, request).await;
    assert_eq!(answer.finish, FinishReason::Length);
    // The last token needs no place of its own: nothing is read after it.
    assert_eq!(answer.usage.completion_tokens, Some(context_tokens_max - prompt + 1));
}

#[tokio::test]
async fn a_prompt_that_leaves_no_room_is_refused() {
    let engine = engine();
    let context_tokens = engine.model().context_tokens;
    for words in [context_tokens as usize, 800_000] {
        let request = text(&"word ".repeat(words));
        let refused = engine.generate(engine.model().id, request, CancellationToken::new()).await;
        match refused.unwrap_err() {
            EngineError::ContextFull { prompt_tokens, context_tokens: told } => {
                assert!(prompt_tokens >= context_tokens);
                assert_eq!(told, context_tokens);
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn log_probabilities_are_the_models_own_at_any_temperature() {
    let engine = engine();
    let hot =
        Sampling { temperature_micros: Some(1_900_000), seed: Some(3), ..Sampling::default() };
    for sampling in [text("").sampling, hot] {
        let request = InferenceRequest { sampling, logprobs: Some(5), ..text("Once upon a time") };
        let mut tokens = engine.prompt_tokens(&request.prompt).unwrap();
        let answer = answer(&engine, request).await;
        for piece in &answer.pieces {
            let own = piece.logprob_micros.unwrap();
            assert_eq!(piece.alternatives.len(), 5);
            let logprobs: Vec<i32> = piece.alternatives.iter().map(|a| a.logprob_micros).collect();
            assert!(logprobs.is_sorted_by(|a, b| a >= b) && own <= logprobs[0]);
            let sum: f64 = logprobs.iter().map(|l| (f64::from(*l) / 1e6).exp()).sum();
            assert!(sum <= 1.0 + 1e-4, "{sum}");
        }
        let from = tokens.len() - 1;
        tokens.extend(answer.ids());
        let scores = engine.score(engine.model().id, &tokens).await.unwrap();
        assert_eq!(scores.len(), tokens.len() - 1);
        for (piece, score) in answer.pieces.iter().zip(&scores[from..]) {
            let told = piece.logprob_micros.unwrap();
            // The prompt was read in one pass there and token by token here, and there tokens that are no text have a share.
            assert!(told.abs_diff(*score) <= 2_000, "{told} told, {score} scored");
        }
    }
}

#[tokio::test]
async fn a_cancelled_request_ends_and_frees_its_slot() {
    let options = EmbeddedOptions { slots: 1, waiting_max: 1, ..EmbeddedOptions::standard() };
    let engine = EmbeddedEngine::from_bytes(EMBER, "ember", options).unwrap();
    let id = engine.model().id;
    let endless = || InferenceRequest {
        tokens_max: None,
        sampling: Sampling { temperature_micros: Some(2_000_000), ..Sampling::default() },
        ..text("Once")
    };
    let cancel = CancellationToken::new();
    let mut running = engine.generate(id, endless(), cancel.clone()).await.unwrap();
    let waiting = engine.generate(id, endless(), CancellationToken::new()).await.unwrap();
    assert_eq!(engine.load(), Load { slots: 1, active: 2 });
    let refused = engine.generate(id, endless(), CancellationToken::new()).await;
    assert!(matches!(refused.unwrap_err(), EngineError::Busy { waiting_max: 1 }));
    // A stream that was dropped before it began takes no slot.
    drop(waiting);
    cancel.cancel();
    let mut last = None;
    while let Some(event) = running.events.recv().await {
        last = Some(event);
    }
    let cancelled = |finish| finish == FinishReason::Cancelled || finish == FinishReason::Stop;
    assert!(
        matches!(last, Some(EngineEvent::Done { finish, .. }) if cancelled(finish)),
        "{last:?}"
    );
    assert!(!answer(&engine, text("Once upon a time")).await.pieces.is_empty());
}

#[tokio::test]
async fn an_engine_that_is_dropped_ends_its_streams() {
    let engine = engine();
    let id = engine.model().id;
    let mut generation =
        engine.generate(id, text("Once upon a time"), CancellationToken::new()).await.unwrap();
    drop(engine);
    let mut last = None;
    while let Some(event) = generation.events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(EngineEvent::Done { .. })), "{last:?}");
}

#[tokio::test]
async fn what_does_not_exist_cannot_be_scored() {
    let engine = engine();
    let id = engine.model().id;
    let unknown = engine.score(id, &[1, u32::MAX]).await.unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "the request does not fit the model: there is no token 4294967295"
    );
    assert!(matches!(
        engine.score(id, &vec![1; 100_000]).await,
        Err(EngineError::ContextFull { .. })
    ));
    assert!(engine.score(id, &[1]).await.unwrap().is_empty());
    let other = ModelId([0; 32]);
    assert!(matches!(engine.score(other, &[1]).await, Err(EngineError::UnknownModel { .. })));
}

#[test]
fn text_and_bytes_outside_the_vocabulary_come_back() {
    let engine = engine();
    for prompt in ["Hello, world", "  two  spaces\n", "naïve 日本語 🦀", "\u{0}\u{1}"] {
        let tokens = engine.prompt_tokens(&Prompt::Text(prompt.to_owned())).unwrap();
        let bytes: Vec<u8> =
            tokens.iter().flat_map(|token| engine.token_bytes(*token).to_vec()).collect();
        assert_eq!(String::from_utf8(bytes).unwrap(), format!(" {prompt}"));
    }
}

#[test]
fn a_file_and_its_bytes_are_the_same_model() {
    let mut file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    file.write_all(EMBER).unwrap();
    let loaded = EmbeddedEngine::load(file.path(), EmbeddedOptions::standard()).unwrap();
    assert_eq!(loaded.model().id, engine().model().id);
    assert!(loaded.model().weights_known);
}

/// What loading `bytes` says; `None` if it loads.
fn problem(bytes: &[u8]) -> Option<String> {
    let loaded = read_model(&mut Cursor::new(bytes), bytes.len() as u64);
    loaded.err().map(|error| error.to_string())
}

/// The shipped file with the bytes after `key` replaced.
fn with_field(key: &str, value: &[u8]) -> Vec<u8> {
    let mut bytes = EMBER.to_vec();
    let found = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    // After the name stands the type of the value, in four bytes.
    let from = found + key.len() + 4;
    bytes[from..from + value.len()].copy_from_slice(value);
    bytes
}

#[test]
fn a_bad_file_is_refused_with_the_reason() {
    let check = |bytes: &[u8], expected: &str| {
        let problem = problem(bytes).unwrap();
        assert!(problem.starts_with(expected), "{problem}");
    };
    check(b"", "it is not a complete GGUF file: ");
    check(b"not a model", "it is not a complete GGUF file: ");
    check(&EMBER[..1_000], "it is not a complete GGUF file: ");
    check(&EMBER[..EMBER.len() / 2], "its tensors do not make a model: ");
    let name = [5u64.to_le_bytes().as_slice(), b"gemma"].concat();
    check(&with_field("general.architecture", &name), "it is a model of the family `gemma`");
    for (key, value) in [
        ("llama.block_count", u32::MAX),
        ("llama.block_count", 0),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count_kv", u32::MAX),
        ("llama.embedding_length", u32::MAX),
        ("llama.rope.dimension_count", 1 << 30),
        ("llama.context_length", 0),
    ] {
        let expected = format!("its field `{key}` is missing or outside");
        check(&with_field(key, &value.to_le_bytes()), &expected);
    }
    let missing = EmbeddedEngine::load(Path::new("/nonexistent.gguf"), EmbeddedOptions::standard());
    let missing = missing.unwrap_err().to_string();
    assert!(
        missing.starts_with("the model file /nonexistent.gguf cannot be used: it cannot be read")
    );
}

#[test]
fn the_version_is_that_of_the_library() {
    let lock = include_str!("../../../../Cargo.lock");
    let after = lock.split_once("name = \"candle-transformers\"\nversion = \"").unwrap().1;
    let version = after.split_once('"').unwrap().0;
    assert_eq!(CANDLE_VERSION, format!("embedded candle {version}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_damaged_header_never_panics(
        at in 0usize..30_000,
        bytes in prop::collection::vec(any::<u8>(), 1..9),
    ) {
        let mut damaged = EMBER.to_vec();
        damaged[at..at + bytes.len()].copy_from_slice(&bytes);
        // Damage to a score or a name may go unseen; what matters is an answer, not a panic.
        problem(&damaged);
    }
}
