//! The embedded engine with llama.cpp beside the same engine with candle: the same model, tokens and draws, and logits that differ
//! in their last digits. Needs the feature `llama`.

use std::{io::Cursor, path::Path};

use candle_core::{
    DType, Device, Tensor,
    quantized::{
        GgmlDType, QTensor,
        gguf_file::{self, Value},
    },
};
use engine::{
    EmbeddedEngine, EmbeddedOptions, Engine as _, EngineError, EngineEvent, Library, LlamaOptions,
    Load,
};
use tokio_util::sync::CancellationToken;
use types::{
    ModelId,
    inference::{
        Begun, ChatMessage, FinishReason, InferenceRequest, Prompt, Role, Sampling, TokenPiece,
    },
};
use verify::logits::Logits;

const EMBER: &str = "../../models/ember-1m-f16.gguf";

fn with(library: Library) -> EmbeddedOptions {
    EmbeddedOptions { library: Some(library), ..EmbeddedOptions::standard() }
}

fn llama_options() -> EmbeddedOptions {
    with(Library::Llama(LlamaOptions::standard()))
}

fn llama() -> EmbeddedEngine {
    EmbeddedEngine::load(Path::new(EMBER), llama_options()).unwrap()
}

/// candle and llama.cpp.
fn both(path: &Path) -> [EmbeddedEngine; 2] {
    [with(Library::Candle), llama_options()]
        .map(|options| EmbeddedEngine::load(path, options).unwrap())
}

fn text(prompt: &str) -> InferenceRequest {
    InferenceRequest {
        sampling: Sampling { temperature_micros: Some(0), ..Sampling::default() },
        tokens_max: Some(24),
        ..InferenceRequest::of(Prompt::Text(prompt.to_owned()))
    }
}

fn chat(content: &str) -> InferenceRequest {
    let message = ChatMessage::text(Role::User, content.to_owned());
    InferenceRequest { prompt: Prompt::Chat(vec![message]), ..text("") }
}

async fn answer(
    engine: &EmbeddedEngine,
    request: InferenceRequest,
) -> (Vec<TokenPiece>, FinishReason) {
    let cancel = CancellationToken::new();
    let mut generation = engine.generate(engine.model().id, request, cancel).await.unwrap();
    let mut pieces = Vec::new();
    loop {
        match generation.events.recv().await.unwrap() {
            EngineEvent::Token(piece) => pieces.push(piece),
            EngineEvent::Done { finish, usage } => {
                assert_eq!(usage.prompt_tokens, generation.prompt_tokens);
                return (pieces, finish);
            }
            EngineEvent::Failed { reason } => panic!("{reason}"),
        }
    }
}

fn ids(pieces: &[TokenPiece]) -> Vec<u32> {
    pieces.iter().map(|piece| piece.id.unwrap()).collect()
}

async fn logits(engine: &EmbeddedEngine, tokens: &[u32], from: usize) -> Vec<Vec<f32>> {
    let mut stream = engine.logits(engine.model().id, tokens, from).await.unwrap();
    let mut positions = Vec::new();
    while let Some(logits) = stream.recv().await {
        positions.push(logits.unwrap());
    }
    positions
}

/// Mean and greatest difference of log-probabilities, of the likelier tokens by how likely they are.
fn distance(one: &[Vec<f32>], other: &[Vec<f32>]) -> (f64, f64) {
    assert_eq!(one.len(), other.len());
    let (mut sum, mut most) = (0.0, 0.0f64);
    for (one, other) in one.iter().zip(other) {
        let [one, other] = [one, other].map(|logits| Logits::new(logits).unwrap());
        for token in one.candidates(20).as_slice() {
            let far = (one.logprob(token.id) - other.logprob(token.id)).abs();
            sum += far * one.logprob(token.id).exp();
            most = most.max(far);
        }
    }
    (sum / one.len() as f64, most)
}

#[tokio::test]
async fn logits_agree_however_they_are_computed() {
    let [candle, llama] = both(Path::new(EMBER));
    let mut tokens = candle.prompt_tokens(&chat("Tell me a story.").prompt).unwrap();
    let from = tokens.len();
    let longer = InferenceRequest { tokens_max: Some(300), ..chat("Tell me a story.") };
    tokens.extend(ids(&answer(&candle, longer).await.0));
    let by_candle = logits(&candle, &tokens, from).await;
    let by_llama = logits(&llama, &tokens, from).await;
    assert_eq!(by_llama.len(), tokens.len() - from + 1);
    let (mean, most) = distance(&by_candle, &by_llama);
    assert!(mean < 1e-3 && most < 0.05, "{mean} {most}");
    // Where the answer begins changes nothing: it is the same pass.
    let all = logits(&llama, &tokens, 1).await;
    assert_eq!(all.len(), tokens.len());
    assert_eq!(all[from - 1..], by_llama);
    // A part of it is another shape.
    let part = logits(&llama, &tokens[..from], from).await;
    let (mean, _) = distance(&part, &by_llama[..1]);
    assert!(mean < 5e-3, "{mean}");
    let scores = llama.score(llama.model().id, &tokens).await.unwrap();
    let micros = |(logits, next): (&Vec<f32>, &u32)| {
        (Logits::new(logits).unwrap().logprob(*next) * 1e6).round() as i32
    };
    let expected: Vec<i32> = all.iter().zip(&tokens[1..]).map(micros).collect();
    assert_eq!(scores.len(), expected.len());
    // One pass is a token shorter than the other.
    assert!(scores.iter().zip(&expected).all(|(one, other)| one.abs_diff(*other) < 20_000));
}

const TEXTS: [&str; 18] = [
    "Hello!",
    "Once upon a time, there was a little girl.",
    "",
    " ",
    "  two  spaces ",
    "\ttabs\t\n\nand\r\nlines \n",
    "naïve café, señor",
    "日本語 한국어 العربية",
    "🙂👍🏽 e\u{301}",
    "<s>begin</s>end",
    "<unk> <s> </s><s>",
    "<|begin_of_text|>hi<|eot_id|>\n",
    "▁a ▁ b",
    "a\u{0}b",
    "3.14 12345 1,000",
    "don't WE'LL I'm",
    "<0x41><0xFF>",
    "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz qqqqq",
];

fn check_same_vocabulary(candle: &EmbeddedEngine, llama: &EmbeddedEngine) {
    assert_eq!(candle.model(), llama.model(), "one file is one model");
    for text in TEXTS {
        for prompt in [text.to_owned(), text.repeat(7)].map(Prompt::Text) {
            let tokens = [candle, llama]
                .map(|engine| engine.prompt_tokens(&prompt).map_err(|error| error.to_string()));
            assert_eq!(tokens[0], tokens[1], "{prompt:?}");
        }
    }
}

#[tokio::test]
async fn tokens_are_the_same_with_either_library() {
    let folder = tempfile::tempdir().unwrap();
    let bpe = folder.path().join("bpe.gguf");
    std::fs::write(&bpe, tiny(&byte_pairs(), &[])).unwrap();
    for path in [Path::new(EMBER), &bpe] {
        let [candle, llama] = both(path);
        check_same_vocabulary(&candle, &llama);
        let id = candle.model().id;
        let of_candle = candle.vocabulary(id).await.unwrap();
        assert_eq!(of_candle, llama.vocabulary(id).await.unwrap());
        let chat = chat("Hello <s>!").prompt;
        assert_eq!(
            candle.tokenize(id, &chat).await.unwrap(),
            llama.tokenize(id, &chat).await.unwrap()
        );
    }
}

#[tokio::test]
async fn answers_are_the_same_but_for_last_digits() {
    let [candle, llama] = both(Path::new(EMBER));
    let drawn = Sampling {
        temperature_micros: Some(800_000),
        top_k: Some(20),
        top_p_micros: Some(950_000),
        seed: Some(7),
        ..Sampling::default()
    };
    let stop = vec!["the".to_owned()];
    for request in [
        chat("Hello!"),
        InferenceRequest { logprobs: Some(20), ..text("Once upon a time") },
        InferenceRequest { stop, ..text("Once upon a time") },
        InferenceRequest { sampling: drawn, tokens_max: Some(60), ..text("The cat") },
        InferenceRequest { tokens_max: None, ..text("The end.") },
    ] {
        let (by_candle, finish) = answer(&candle, request.clone()).await;
        let (by_llama, same_finish) = answer(&llama, request).await;
        assert_eq!((ids(&by_candle), finish), (ids(&by_llama), same_finish));
        for (one, other) in by_candle.iter().zip(&by_llama) {
            assert_eq!(one.bytes, other.bytes);
            let [one, other] = [one, other].map(|piece| piece.logprob_micros.unwrap_or(0));
            assert!(one.abs_diff(other) < 50_000, "{one} {other}");
        }
    }
    assert_eq!(llama.kind(), candle.kind());
    assert_ne!(llama.version(), candle.version());
}

#[tokio::test]
async fn the_rest_of_a_begun_answer_is_that_of_one_without_a_break() {
    let engine = llama();
    let sampling = Sampling { seed: Some(7), ..Sampling::default() };
    let whole = InferenceRequest { sampling, ..chat("Tell me a story.") };
    let pieces = answer(&engine, whole.clone()).await.0;
    let (begun, rest) = pieces.split_at(10);
    let text: Vec<u8> = begun.iter().flat_map(|piece| piece.bytes.clone()).collect();
    let begun = Begun { text: String::from_utf8(text).unwrap(), ids: ids(begun) };
    let request = InferenceRequest { begun: Some(begun), tokens_max: Some(14), ..whole };
    assert_eq!(ids(&answer(&engine, request).await.0), ids(rest));
}

#[tokio::test]
async fn requests_at_once_do_not_see_each_other() {
    let engine = llama();
    let prompts = ["Hello!", "Tell me a story.", "A cat", "Why?", "The sun", "My dog"];
    let mut alone = Vec::new();
    for prompt in prompts {
        alone.push(ids(&answer(&engine, chat(prompt)).await.0));
    }
    let together = prompts.map(|prompt| answer(&engine, chat(prompt)));
    let together = futures::future::join_all(together).await;
    let together: Vec<_> = together.iter().map(|(pieces, _)| ids(pieces)).collect();
    assert_eq!(together, alone);
}

#[tokio::test]
async fn who_leaves_frees_a_slot() {
    let options = EmbeddedOptions { slots: 1, waiting_max: 0, ..llama_options() };
    let engine = EmbeddedEngine::load(Path::new(EMBER), options).unwrap();
    let id = engine.model().id;
    let free = async || {
        while engine.load() != (Load { slots: 1, active: 0 }) {
            tokio::task::yield_now().await;
        }
    };
    let endless = InferenceRequest { tokens_max: None, ..text("Once upon a time") };
    let cancel = CancellationToken::new();
    let mut generation = engine.generate(id, endless.clone(), cancel.clone()).await.unwrap();
    assert!(matches!(generation.events.recv().await, Some(EngineEvent::Token(_))));
    let busy = engine.generate(id, endless.clone(), CancellationToken::new()).await;
    assert!(matches!(busy, Err(EngineError::Busy { .. })));
    cancel.cancel();
    let mut last = None;
    while let Some(event) = generation.events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(EngineEvent::Done { .. })), "{last:?}");
    free().await;
    drop(engine.generate(id, endless, CancellationToken::new()).await.unwrap());
    free().await;
    let mut stream = engine.logits(id, &[1; 400], 1).await.unwrap();
    assert_eq!(stream.recv().await.unwrap().unwrap().len(), 1_024);
    drop(stream);
    free().await;
}

#[tokio::test]
async fn what_does_not_exist_is_refused() {
    let engine = llama();
    let id = engine.model().id;
    for (tokens, from) in
        [(&[1][..], 0), (&[1], 2), (&[], 0), (&[1, 1_024], 1), (&[u32::MAX], 1), (&[1; 513], 1)]
    {
        let refused = engine.logits(id, tokens, from).await;
        let expected = matches!(
            refused,
            Err(EngineError::BadRequest { .. } | EngineError::ContextFull { .. })
        );
        assert!(expected, "{refused:?}");
    }
    assert!(engine.score(id, &[1, u32::MAX]).await.is_err());
    assert_eq!(engine.score(id, &[]).await.unwrap(), Vec::<i32>::new());
    assert_eq!(engine.score(id, &[1]).await.unwrap(), Vec::<i32>::new());
    let other = engine.logits(ModelId([0; 32]), &[1], 1).await;
    assert!(matches!(other, Err(EngineError::UnknownModel { .. })));
    let long = text(&"word ".repeat(10_000));
    let long = engine.generate(id, long, CancellationToken::new()).await;
    assert!(matches!(long, Err(EngineError::ContextFull { .. })), "{long:?}");
    // It goes on.
    assert!(!answer(&engine, chat("Hello!")).await.0.is_empty());
}

#[tokio::test]
async fn a_model_that_candle_cannot_load_is_run_by_llama() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    // As Llama 3.1 and later have them.
    let factors = ("rope_freqs.weight".to_owned(), numbers(8, |_| 1.0));
    std::fs::write(&path, tiny(&byte_pairs(), &[factors])).unwrap();
    let refused = EmbeddedEngine::load(&path, with(Library::Candle)).unwrap_err();
    assert!(refused.to_string().contains("RoPE frequency factors"), "{refused}");
    let engine = EmbeddedEngine::load(&path, EmbeddedOptions::standard()).unwrap();
    assert!(engine.version().starts_with("embedded llama.cpp"), "{}", engine.version());
    assert_eq!(EmbeddedEngine::model_id(&path).unwrap(), engine.model().id);
    assert!(answer(&engine, text("hi")).await.0.len() <= 24);
    // What candle can load stays with it.
    let ember = EmbeddedEngine::load(Path::new(EMBER), EmbeddedOptions::standard()).unwrap();
    assert!(ember.version().starts_with("embedded candle"), "{}", ember.version());
}

#[test]
fn what_is_no_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    let ember = std::fs::read(EMBER).unwrap();
    for length in [0, 3, 100, 20_000, ember.len() / 2, ember.len() - 1] {
        std::fs::write(&path, &ember[..length]).unwrap();
        for options in [llama_options(), EmbeddedOptions::standard()] {
            let error = EmbeddedEngine::load(&path, options).unwrap_err();
            assert!(matches!(error, EngineError::Model { .. }), "{length} {error}");
        }
    }
    let built_in = EmbeddedEngine::from_bytes(b"GGUF", "built-in", llama_options()).unwrap_err();
    assert!(built_in.to_string().contains("from files alone"), "{built_in}");
}

#[test]
fn the_version_is_that_of_the_library() {
    let lock = include_str!("../../../Cargo.lock");
    let after = lock.split_once("name = \"llama-cpp-sys-2\"\nversion = \"").unwrap().1;
    let version = after.split_once('"').unwrap().0;
    let expected = format!("embedded llama.cpp (llama-cpp-sys-2 {version})");
    assert_eq!(llama().version(), expected);
}

const WIDTH: usize = 32;

/// A tensor of one row.
fn numbers(count: usize, value: impl FnMut(usize) -> f32) -> QTensor {
    let values: Vec<f32> = (0..count).map(value).collect();
    let tensor = Tensor::from_vec(values, count, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}

fn matrix(rows: usize, columns: usize) -> QTensor {
    // Any numbers do, as long as they differ.
    let value = |at: usize| ((at * 37 % 101) as f32 / 101.0 - 0.5) / (columns as f32).sqrt();
    let values: Vec<f32> = (0..rows * columns).map(value).collect();
    let tensor = Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap();
    assert_eq!(tensor.dtype(), DType::F32);
    QTensor::quantize(&tensor, GgmlDType::F32).unwrap()
}

/// A model of one small layer with this vocabulary.
fn tiny(vocabulary: &[(&str, Value)], more: &[(String, QTensor)]) -> Vec<u8> {
    let names = vocabulary.iter().find(|(key, _)| *key == "tokenizer.ggml.tokens").unwrap();
    let count = names.1.to_vec().unwrap().len();
    let ones = || numbers(WIDTH, |_| 1.0);
    let blk = |name: &str, tensor| (format!("blk.0.{name}.weight"), tensor);
    let tensors = [
        ("token_embd.weight".to_owned(), matrix(count, WIDTH)),
        ("output.weight".to_owned(), matrix(count, WIDTH)),
        ("output_norm.weight".to_owned(), ones()),
        blk("attn_norm", ones()),
        blk("ffn_norm", ones()),
        blk("attn_q", matrix(WIDTH, WIDTH)),
        blk("attn_k", matrix(WIDTH, WIDTH)),
        blk("attn_v", matrix(WIDTH, WIDTH)),
        blk("attn_output", matrix(WIDTH, WIDTH)),
        blk("ffn_gate", matrix(WIDTH, WIDTH)),
        blk("ffn_up", matrix(WIDTH, WIDTH)),
        blk("ffn_down", matrix(WIDTH, WIDTH)),
    ];
    let tensors: Vec<(&str, &QTensor)> =
        tensors.iter().chain(more).map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let number = Value::U32;
    let shape = [
        ("general.architecture", Value::String("llama".to_owned())),
        ("llama.block_count", number(1)),
        ("llama.context_length", number(512)),
        ("llama.embedding_length", number(WIDTH as u32)),
        ("llama.feed_forward_length", number(WIDTH as u32)),
        ("llama.attention.head_count", number(2)),
        ("llama.attention.head_count_kv", number(2)),
        ("llama.rope.dimension_count", number(WIDTH as u32 / 2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(10_000.0)),
        ("llama.vocab_size", number(count as u32)),
    ];
    let metadata: Vec<(&str, &Value)> =
        shape.iter().chain(vocabulary).map(|(key, value)| (*key, value)).collect();
    let mut file = Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    file.into_inner()
}

/// A vocabulary of bytes and a few pairs of them, as Llama 3 has it.
fn byte_pairs() -> Vec<(&'static str, Value)> {
    let merges = [
        "Ġ t", "h e", "i n", "Ġt he", "a n", "r e", "Ġ a", "Ġ Ġ", "1 2", "12 3", "z z", "zz zz",
        "Ċ Ċ", "ð Ł", "l l", "' t",
    ];
    // GPT-2's spelling: printable Latin-1 stands for itself, the others follow from U+0100 on.
    let printable = |code: &u32| matches!(code, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let others = 256 - (0..256).filter(printable).count() as u32;
    let codes = (0..256).filter(printable).chain(0x100..0x100 + others);
    let bytes = codes.filter_map(char::from_u32).map(String::from);
    let merged = merges.map(|merge| merge.replace(' ', ""));
    let special = ["<|begin_of_text|>", "<|eot_id|>"].map(str::to_owned);
    let names: Vec<String> = bytes.chain(merged).chain(special).collect();
    let count = names.len();
    let kinds = (0..count).map(|at| Value::I32(if at + 2 < count { 1 } else { 3 })).collect();
    let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    vec![
        ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
        ("tokenizer.ggml.pre", Value::String("llama-bpe".to_owned())),
        ("tokenizer.ggml.tokens", texts(names)),
        ("tokenizer.ggml.token_type", Value::Array(kinds)),
        ("tokenizer.ggml.merges", texts(merges.map(str::to_owned).to_vec())),
        ("tokenizer.ggml.bos_token_id", Value::U32(count as u32 - 2)),
        ("tokenizer.ggml.eos_token_id", Value::U32(count as u32 - 1)),
    ]
}
