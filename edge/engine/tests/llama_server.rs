//! The engine for OpenAI's API against llama.cpp's own server, and the embedded engine's scores
//! against that server's log-probabilities. The server is a Python package with llama.cpp inside.

mod support;

use std::{io::Write as _, path::Path, time::Duration};

use engine::{
    EmbeddedEngine, EmbeddedOptions, Engine as _, EngineError, EngineEvent, OpenAiEngine,
    OpenAiOptions,
};
use support::{
    begun, chat,
    python::{Program, Python},
    run, text, tools,
};
use tokio_util::sync::CancellationToken;
use types::{
    ability::{EmbeddingAbility, Lacking, ToolAbility},
    inference::{
        CountMethod, FinishReason, InferenceRequest, Inputs, Prompt, Sampling, TokenPiece,
    },
};
use verify::logits::Logits;

/// Below the package's folder, in which cargo runs its tests.
const MODEL: &str = "../../models/ember-1m-f16.gguf";
const CONTEXT_TOKENS: u32 = 256;

/// Ends with its standard input, so also when the test is killed.
const SERVER: &str = "
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.n_ctx = int(sys.argv[3])
params.n_parallel = 1
params.cpuparams.n_threads = 1
if sys.argv[4] == 'embeddings':
    params.embedding = True
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
";

/// Tries to become ready, at one each 50 ms: loading takes a fraction of a second on a free machine.
const READY_TRIES_MAX: u32 = 1_200;

/// A server that answers, with the engine for it.
struct Server {
    engine: OpenAiEngine,
    _program: Program,
}

/// One that answers, or one that makes vectors.
async fn serve(what: &str) -> anyhow::Result<Server> {
    let python = Python::with("xllamacpp", &["xllamacpp"])?;
    // Free now; nothing else on a test machine takes it in the moment before the server does.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, context) = (port.to_string(), CONTEXT_TOKENS.to_string());
    let mut program = python.start(SERVER, &[MODEL, &port, &context, what]);
    let url = format!("http://127.0.0.1:{port}");
    let client = wire::http_client().unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..READY_TRIES_MAX {
        tick.tick().await;
        if let Some(status) = program.ended() {
            panic!("the server ended with {status}");
        }
        let health = client.get(format!("{url}/health")).send().await;
        if health.is_ok_and(|response| response.status().is_success()) {
            let engine = OpenAiEngine::connect(OpenAiOptions::at(&url)).await.unwrap();
            return Ok(Server { engine, _program: program });
        }
    }
    panic!("the server did not become ready");
}

#[tokio::test]
async fn llama_cpp_serves_and_agrees_with_the_embedded_engine() {
    let server = match serve("completions").await {
        Ok(server) => server,
        Err(reason) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "skipped: no llama.cpp server: {reason:#}").unwrap();
            return;
        }
    };
    describes_itself(&server).await;
    answers_a_chat(&server).await;
    names_tokens_with_log_probabilities(&server).await;
    goes_on_with_a_begun_answer(&server).await;
    stops_and_cancels(&server).await;
    refuses_a_prompt_that_does_not_fit(&server).await;
    tells_an_auditor_what_the_embedded_engine_tells(&server).await;
    agrees_with_the_embedded_engine(&server).await;
}

#[tokio::test]
async fn llama_cpp_makes_vectors() {
    let server = match serve("embeddings").await {
        Ok(server) => server,
        Err(reason) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "skipped: no llama.cpp server: {reason:#}").unwrap();
            return;
        }
    };
    let models = server.engine.models().await.unwrap();
    let [model] = models.as_slice() else { panic!("{models:?}") };
    assert_eq!(model.abilities.embeddings, EmbeddingAbility::Fixed);
    assert!(!model.abilities.completions);
    let ask = |texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        InferenceRequest::of(Prompt::Inputs(Inputs { texts, dimensions: None, truncate: false }))
    };
    let request = ask(&["a fox", "a hen and a fox", "a fox"]);
    let answer = run(&server.engine, model.id, request).await;
    assert_eq!(answer.finish(), FinishReason::Stop);
    let numbers = |piece: &TokenPiece| -> Vec<f32> {
        piece.bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
    };
    let vectors: Vec<Vec<f32>> = answer.pieces.iter().map(numbers).collect();
    assert_eq!((vectors.len(), vectors[0].len()), (3, 128));
    let near = |one: &[f32], other: &[f32]| {
        one.iter().zip(other).all(|(one, other)| (one - other).abs() < 1e-3)
    };
    assert!(near(&vectors[0], &vectors[2]) && !near(&vectors[0], &vectors[1]));
    let square: f32 = vectors[1].iter().map(|number| number * number).sum();
    assert!((square - 1.0).abs() < 1e-3, "{square}");
    let EngineEvent::Done { usage, .. } = &answer.last else { panic!("{answer:?}") };
    assert!(usage.prompt_tokens.is_some_and(|tokens| (6..40).contains(&tokens)), "{usage:?}");

    let refused = async |request| {
        let begun = server.engine.generate(model.id, request, CancellationToken::new()).await;
        begun.unwrap_err()
    };
    let long = refused(ask(&["a fox", &"fox ".repeat(600)])).await;
    assert!(matches!(long, EngineError::BadRequest { .. }), "{long:?}");
    let chat = refused(chat("Hello.")).await;
    assert!(matches!(chat, EngineError::Lacking { what: Lacking::Completions }), "{chat:?}");
}

async fn describes_itself(server: &Server) {
    assert!(server.engine.is_llama_server());
    assert!(server.engine.version().starts_with("llama.cpp "), "{}", server.engine.version());
    let models = server.engine.models().await.unwrap();
    let [model] = models.as_slice() else { panic!("{models:?}") };
    // Not the path that the server tells.
    assert_eq!(model.alias, "ember-1m-f16");
    assert_eq!(model.context_tokens, CONTEXT_TOKENS);
    assert!(model.abilities.logprobs && !model.weights_known);
    // Its template knows none, and the server would ignore them without a word.
    assert_eq!(model.abilities.tools, ToolAbility::None);
    let asked = server.engine.generate(model.id, tools(chat("Hi")), CancellationToken::new()).await;
    assert!(matches!(asked, Err(EngineError::Lacking { what: Lacking::Tools })), "{asked:?}");
    assert_eq!(server.engine.load().slots, 1);
}

async fn answers_a_chat(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let answer = run(&server.engine, model, chat("Hello!")).await;
    assert!(!answer.text().trim().is_empty());
    let EngineEvent::Done { usage, .. } = &answer.last else { panic!("{answer:?}") };
    assert_eq!(usage.counted, CountMethod::Chunks);
    let embedded = embedded();
    let prompt = embedded.prompt_tokens(&chat("Hello!").prompt).unwrap();
    assert_eq!(usage.prompt_tokens, Some(prompt.len() as u32), "both tokenize alike");
    let told = usage.completion_tokens.unwrap() as usize;
    // The token that ends the answer is counted by the server and not delivered.
    assert!(told == answer.pieces.len() || told == answer.pieces.len() + 1, "{told} {answer:?}");
    // Greedy, so the embedded engine says the same.
    let same = run(&embedded, embedded.model().id, chat("Hello!")).await;
    assert_eq!(same.text(), answer.text());
}

async fn names_tokens_with_log_probabilities(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let embedded = embedded();
    for (request, alternatives) in [
        (InferenceRequest { logprobs: Some(3), ..chat("Tell me a story.") }, 3),
        (InferenceRequest { logprobs: Some(0), ..chat("Tell me a story.") }, 0),
        (InferenceRequest { logprobs: Some(2), ..text("Once upon a time") }, 2),
    ] {
        let answer = run(&server.engine, model, request).await;
        let EngineEvent::Done { usage, .. } = &answer.last else { panic!("{answer:?}") };
        assert_eq!(usage.counted, CountMethod::TokenIds);
        for piece in &answer.pieces {
            assert_eq!(embedded.token_bytes(piece.id.unwrap()), piece.bytes);
            assert!(piece.logprob_micros.is_some());
            assert_eq!(piece.alternatives.len(), alternatives);
        }
    }
}

async fn goes_on_with_a_begun_answer(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    for request in [chat("Tell me a story."), text("Once upon a time")] {
        let whole = run(&server.engine, model, request.clone()).await;
        let half: String = whole.pieces[..whole.pieces.len() / 2]
            .iter()
            .map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned())
            .collect();
        let rest = run(&server.engine, model, begun(&half, request)).await;
        let (whole, rest) = (whole.text(), rest.text());
        // It was asked for as many tokens as the whole had, so it may go further.
        assert!(format!("{half}{rest}").starts_with(&whole), "{whole:?}: {half:?}, {rest:?}");
    }
}

async fn stops_and_cancels(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let whole = run(&server.engine, model, text("Once upon a time")).await;
    assert_eq!(whole.finish(), FinishReason::Length);
    let stop = whole.text()[4..8].to_owned();
    let expected = whole.text().split(&stop).next().unwrap().to_owned();
    let request = InferenceRequest { stop: vec![stop], ..text("Once upon a time") };
    let stopped = run(&server.engine, model, request).await;
    assert_eq!((stopped.text(), stopped.finish()), (expected, FinishReason::Stop));

    let cancel = CancellationToken::new();
    let endless = InferenceRequest { tokens_max: None, ..text("Once upon a time") };
    let mut cancelled = server.engine.generate(model, endless, cancel.clone()).await.unwrap();
    let first = cancelled.events.recv().await;
    assert!(matches!(first, Some(EngineEvent::Token(_))), "{first:?}");
    cancel.cancel();
    let mut last = None;
    while let Some(event) = cancelled.events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(EngineEvent::Done { .. })), "{last:?}");
    // The one slot is free again.
    assert!(!run(&server.engine, model, chat("Hello!")).await.pieces.is_empty());
}

async fn refuses_a_prompt_that_does_not_fit(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let request = chat(&"word ".repeat(1_000));
    let refused = server.engine.generate(model, request, CancellationToken::new()).await;
    match refused.unwrap_err() {
        EngineError::ContextFull { prompt_tokens, context_tokens } => {
            assert!(prompt_tokens > 1_000);
            assert_eq!(context_tokens, CONTEXT_TOKENS);
        }
        other => panic!("{other}"),
    }
}

async fn tells_an_auditor_what_the_embedded_engine_tells(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let (embedded, engine) = (embedded(), &server.engine);
    let own = embedded.model().id;
    let vocabulary = engine.vocabulary(model).await.unwrap();
    assert_eq!(vocabulary, embedded.vocabulary(own).await.unwrap());
    let sampling =
        Sampling { temperature_micros: Some(800_000), seed: Some(5), ..Sampling::default() };
    let story = chat("Tell me a story.");
    for request in [story, chat("Hallo, Füchse!"), text("Once upon a time"), text("  two\n")] {
        let request = InferenceRequest { sampling: sampling.clone(), logprobs: Some(3), ..request };
        let mut tokens = engine.tokenize(model, &request.prompt).await.unwrap();
        assert_eq!(tokens, embedded.tokenize(own, &request.prompt).await.unwrap());
        let from = tokens.len();
        let answer = run(engine, model, request).await;
        tokens.extend(answer.ids().into_iter().map(Option::unwrap));
        let mut logits = engine.logits(model, &tokens, from).await.unwrap();
        let mut embedded = embedded.logits(own, &tokens, from).await.unwrap();
        for piece in &answer.pieces {
            let logits = logits.recv().await.unwrap().unwrap();
            let others = embedded.recv().await.unwrap().unwrap();
            let [logits, others] = [&logits, &others].map(|it| Logits::new(it).unwrap());
            // The same program on the same tokens; how much of the prompt it reads at once differs.
            let told = f64::from(piece.logprob_micros.unwrap()) / 1e6;
            let off = (logits.logprob(piece.id.unwrap()) - told).abs();
            assert!(off < 0.02, "{off}");
            for id in 0..vocabulary.size() as u32 {
                let (logprob, other) = (logits.logprob(id), others.logprob(id));
                assert!((logprob - other).abs() < 0.2, "{id}: {logprob}, {other}");
            }
        }
        assert_eq!((logits.left(), embedded.left()), (1, 1));
    }
}

/// The difference that both implementations may have: 100 times what was measured as the mean
/// (see `docs/spec/engines.md`), and far below what another quantization makes.
const MEAN_DIFFERENCE_MICROS_MAX: f64 = 5_000.0;
const DIFFERENCE_MICROS_MAX: u32 = 100_000;

async fn agrees_with_the_embedded_engine(server: &Server) {
    let model = server.engine.models().await.unwrap()[0].id;
    let embedded = embedded();
    let mut differences = Vec::new();
    for seed in 0..4 {
        let sampling =
            Sampling { temperature_micros: Some(800_000), seed: Some(seed), ..Sampling::default() };
        let tokens_max = Some(64);
        let request = InferenceRequest {
            sampling,
            tokens_max,
            logprobs: Some(0),
            ..chat("Tell me a story.")
        };
        let mut tokens = embedded.prompt_tokens(&request.prompt).unwrap();
        let from = tokens.len() - 1;
        let answer = run(&server.engine, model, request).await;
        tokens.extend(answer.ids().into_iter().map(Option::unwrap));
        let scores = embedded.score(embedded.model().id, &tokens).await.unwrap();
        let told = answer.pieces.iter().map(|piece| piece.logprob_micros.unwrap());
        differences.extend(told.zip(&scores[from..]).map(|(told, score)| told.abs_diff(*score)));
    }
    let sum: f64 = differences.iter().copied().map(f64::from).sum();
    let mean = sum / differences.len() as f64;
    let max = differences.iter().copied().max().unwrap();
    let figures = format!("mean {mean:.0}, max {max} millionths over {}", differences.len());
    assert!(mean <= MEAN_DIFFERENCE_MICROS_MAX && max <= DIFFERENCE_MICROS_MAX, "{figures}");
    writeln!(std::io::stdout().lock(), "llama.cpp and candle differ by {figures} tokens").unwrap();
}

fn embedded() -> EmbeddedEngine {
    EmbeddedEngine::load(Path::new(MODEL), EmbeddedOptions::standard()).unwrap()
}
