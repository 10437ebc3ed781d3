//! Measures what scoring an answer costs an auditor beside what making it cost the provider, with the embedded engine's libraries and the
//! threads that they take for one request: what `cargo xtask bench scoring` runs. The first argument names the file for the
//! figures, as JSON. Processor time, not time: the machine may be busy.

#[path = "../tests/support/mod.rs"]
#[expect(unreachable_pub, dead_code, reason = "it is shared with tests")]
mod support;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use audit_lab::weights::{self, Quantization, Size};
use engine::{EmbeddedEngine, EmbeddedOptions, Engine as _, Library, LlamaOptions};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use support::{Answered, Files, several};
use types::inference::Prompt;
use verify::leaf::LeafToken;

/// Too large for a core's own caches.
const LARGE: Size = Size { width: 1_024, feed_forward: 2_048, layers: 3 };
/// Too large for all of a processor's: its weights are read from memory anew for each token, as those of real models are.
const REAL: Size = Size { width: 2_048, feed_forward: 5_632, layers: 8 };

const QUANTIZATIONS: [Quantization; 4] =
    [Quantization::F16, Quantization::Q6K, Quantization::Q4K, Quantization::Q4_0];

const LIBRARIES: [(&str, Library); 2] =
    [("candle", Library::Candle), ("llama.cpp", Library::Llama(LlamaOptions::standard()))];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let path = std::env::args_os().nth(1).expect("name the file to write");
    let files = Files::new();
    let mut models = Vec::new();
    for (name, file, answers) in [
        ("the laboratory's, 1.4 million weights, Q8_0", files.path("Q8_0"), 60),
        ("one like it, 28 million weights, Q8_0", written(&files, LARGE, Quantization::Q8_0), 10),
        ("one like it, 400 million weights, Q8_0", written(&files, REAL, Quantization::Q8_0), 3),
    ] {
        let mut rows = Vec::new();
        for (library, how) in LIBRARIES {
            rows.push(row(library, how, &file, answers).await);
        }
        models.push(json!({ "model": name, "rows": rows }));
    }
    // The same model in other forms, for which llama.cpp has products of their own.
    for quantization in QUANTIZATIONS {
        let file = written(&files, REAL, quantization);
        let (library, how) = LIBRARIES[1];
        let rows = [row(library, how, &file, 3).await];
        let name = format!("the same, {}", quantization.name());
        models.push(json!({ "model": name, "rows": rows }));
    }
    let figures = json!({ "models": models });
    std::fs::write(path, figures.to_string()).expect("the file can be written");
}

/// The file of a model of a size.
fn written(files: &Files, size: Size, quantization: Quantization) -> PathBuf {
    let model = weights::generate_sized(1, size).expect("the model is made from a seed");
    let model = weights::quantized(&model, quantization).expect("it is quantized");
    let path = files.path(&format!("{}-{}", size.width, quantization.name()));
    std::fs::write(&path, model).expect("a folder of ours");
    path
}

async fn row(name: &str, library: Library, file: &Path, answers: u32) -> Value {
    let options =
        EmbeddedOptions { library: Some(library), slots: 1, ..EmbeddedOptions::standard() };
    let engine = EmbeddedEngine::load(file, options).expect("it can be loaded");
    // What is set up once is no cost of a token.
    several(&engine, 0..2, |_| {}).await;
    let started = cpu();
    let answers = several(&engine, 0..answers, |_| {}).await;
    let generated = cpu().saturating_sub(started);
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    score(&engine, &answers[..2]).await;
    let started = cpu();
    score(&engine, &answers).await;
    let scored = cpu().saturating_sub(started);
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / tokens as f64;
    json!({ "library": name, "generate_us": micros(generated), "score_us": micros(scored) })
}

/// The logits of each step, as an auditor asks for them.
async fn score(engine: &EmbeddedEngine, answers: &[Answered]) {
    let model = engine.model().id;
    for answer in answers {
        let prompt = Prompt::Text(answer.prompt.clone());
        let prompt = engine.tokenize(model, &prompt).await.expect("a short prompt");
        let ids = answer.tokens.iter().map(LeafToken::id);
        let tokens: Vec<u32> = prompt.iter().copied().chain(ids).collect();
        let positions = engine.logits(model, &tokens, prompt.len()).await;
        let mut positions = positions.expect("it made these tokens itself");
        while let Some(logits) = positions.recv().await {
            logits.expect("it computes");
        }
    }
}

/// Processor time of all threads of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
