//! Audits of Ollama, whose tokens get their ids by their bytes: answers are compared by their log-probabilities alone.
//!
//! With `PEERWATT_TEST_OLLAMA_URL` a real server of the same machine is asked (it is given two small models, which are deleted
//! again). Without it a double is, which puts answers of a real llama.cpp server, the one that Ollama runs since 0.30, into
//! Ollama's words; bytes that are no text get lost in it as they do in Go.

mod served;

use std::{path::Path, sync::Arc};

use engine::{EmbeddedEngine, Engine as _, EngineModel, OllamaEngine, OllamaOptions};
use serde_json::{Value, json};
use served::{
    Answered, Files, Kind, ask_of, audits, calibrate, is_alone, python, say, say_l1, serve,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use types::hash::sha256;
use verify::{
    engines::Drawing,
    eprocess::{ESCALATE, MilliNats},
};

/// Honest answers of a real server: 20 000 tokens, those that end early aside; and of the double.
const REAL_ANSWERS: u32 = 220;
const DOUBLE_ANSWERS: u32 = 80;

/// Of the schema that is asked for, about.
const GRAMMAR: &str = r#"root ::= "{\"a\":\"" [a-z ]+ "\"}""#;

/// A server with the model that is claimed, and one with what a cheat serves.
struct World {
    honest: OllamaEngine,
    cheap: OllamaEngine,
    /// The names of the two models.
    names: [&'static str; 2],
    answers: u32,
}

fn digest(bytes: &[u8]) -> String {
    sha256(&[bytes]).to_string()
}

/// A folder as Ollama keeps it.
fn folder(files: &[&[u8]]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    std::fs::create_dir(&blobs).unwrap();
    for bytes in files {
        std::fs::write(blobs.join(format!("sha256-{}", digest(bytes))), bytes).unwrap();
    }
    folder
}

async fn connect(url: &str, models: Option<&Path>) -> OllamaEngine {
    let models = models.map(Path::to_owned);
    OllamaEngine::connect(OllamaOptions { models, ..OllamaOptions::at(url) }).await.unwrap()
}

async fn model(engine: &OllamaEngine, name: &str) -> EngineModel {
    let models = engine.models().await.unwrap();
    models.into_iter().find(|it| it.alias.starts_with(name)).unwrap()
}

/// All that is said of the double is said of the real one too.
async fn check(world: &World, verifier: &EmbeddedEngine, files: &Files) {
    let claimed = model(&world.honest, world.names[0]).await;
    assert_eq!(claimed.id, files.engine("Q8_0").model().id, "it is known by its file");
    let version = world.honest.version_of(claimed.id);
    let drawing = Drawing::of(&version).unwrap();
    assert!(drawing.tells_ids && !drawing.is_proven, "{version}");
    // The first answer shows that both read a prompt alike.
    let ask = |kind, n| ask_of(&world.honest, claimed.id, kind, n);
    assert!(ask(Kind::OwnSeed, 900).await.told().is_empty());
    let mut measured = Vec::new();
    for n in 1_000..1_020 {
        measured.push(ask(Kind::OwnSeed, n).await);
    }
    let means = calibrate(verifier, &measured).await;
    let kinds = [Kind::Profile, Kind::OwnSeed, Kind::Hot, Kind::Penalties, Kind::Chat, Kind::Json];
    let mut answers: Vec<Answered> = Vec::new();
    for (n, kind) in (0..world.answers).zip(kinds.iter().cycle()) {
        // Of a server whose draws nobody knows for sure none is held against it.
        answers.push(Answered { profile: None, ..ask(*kind, n).await });
    }
    let untold: usize = answers.iter().map(|it| it.tokens.len() - it.told().len()).sum();
    let found = audits(means, verifier, &answers).await;
    say_l1(&format!("{version}, honest, {untold} tokens not told"), &found);
    let l1 = found.l1.unwrap();
    assert!(l1.tokens > world.answers * 70, "{l1:?}");
    assert!(l1.most < MilliNats(5_000) && l1.floored_most < ESCALATE, "{l1:?}");
    let cheap = model(&world.cheap, world.names[1]).await;
    ask_of(&world.cheap, cheap.id, Kind::OwnSeed, 900).await;
    for kind in kinds {
        let answer = ask_of(&world.cheap, cheap.id, kind, 1).await;
        let answers = [Answered { profile: None, ..answer }];
        let found = audits(means, verifier, &answers).await;
        say_l1(&format!("{version}, {kind:?}, Q4_0"), &found);
        assert!(found.l1.unwrap().alone_at.is_some_and(|tokens| tokens <= 50), "{found:?}");
    }
}

#[tokio::test]
async fn an_ollama_is_cleared_and_cheats_are_not() {
    if !is_alone("an_ollama_is_cleared_and_cheats_are_not") {
        return;
    }
    let files = Files::new();
    let verifier = files.engine("elsewhere");
    let bytes = ["Q8_0", "Q4_0"].map(|name| std::fs::read(files.path(name)).unwrap());
    let folder = folder(&[&bytes[0], &bytes[1]]);
    if let Some(url) = std::env::var_os("PEERWATT_TEST_OLLAMA_URL") {
        let url = url.into_string().unwrap();
        let names = ["peerwatt-lab-q8", "peerwatt-lab-q4"];
        for (name, bytes) in names.iter().zip(&bytes) {
            create(&url, name, bytes).await;
        }
        let honest = connect(&url, Some(folder.path())).await;
        let cheap = connect(&url, Some(folder.path())).await;
        let world = World { honest, cheap, names, answers: REAL_ANSWERS };
        check(&world, &verifier, &files).await;
        for name in names {
            let gone = wire::http_client().unwrap().delete(format!("{url}/api/delete"));
            gone.json(&json!({ "model": name })).send().await.unwrap();
        }
        return;
    }
    say(
        "no real Ollama (PEERWATT_TEST_OLLAMA_URL): a double with a real llama.cpp server is asked",
    );
    let Some(python) = python() else { return };
    let servers =
        [serve(&python, &files.path("Q8_0")).await, serve(&python, &files.path("Q4_0")).await];
    let mut engines = Vec::new();
    for (server, bytes) in servers.iter().zip(&bytes) {
        let url = Double::start(server.url.clone(), digest(bytes)).await;
        engines.push(connect(&url, Some(folder.path())).await);
        // Without the folder nothing changes.
        let plain = connect(&url, None).await;
        let plain_model = model(&plain, "lab").await;
        assert!(!plain.version_of(plain_model.id).ends_with("ids"));
        let answer = ask_of(&plain, plain_model.id, Kind::OwnSeed, 1).await;
        assert!(answer.told().is_empty() && !answer.tokens.is_empty());
    }
    let [honest, cheap] = <[OllamaEngine; 2]>::try_from(engines).unwrap();
    let world = World { honest, cheap, names: ["lab", "lab"], answers: DOUBLE_ANSWERS };
    check(&world, &verifier, &files).await;
}

/// Gives a real server a model.
async fn create(url: &str, name: &str, bytes: &[u8]) {
    let client = wire::http_client().unwrap();
    let digest = format!("sha256:{}", digest(bytes));
    let blob = client.post(format!("{url}/api/blobs/{digest}")).body(bytes.to_vec()).send();
    blob.await.unwrap().error_for_status().unwrap();
    let body = json!({ "model": name, "files": { "lab.gguf": digest }, "stream": false });
    let made = client.post(format!("{url}/api/create")).json(&body).send().await.unwrap();
    made.error_for_status().unwrap();
}

/// Says what a llama.cpp server says in Ollama's words.
struct Double {
    llama: String,
    digest: String,
}

impl Double {
    /// Serves until the test's runtime ends. Returns its address.
    async fn start(llama: String, digest: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let double = Arc::new(Double { llama, digest });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let double = Arc::clone(&double);
                tokio::spawn(async move { double.serve(stream).await });
            }
        });
        url
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let (head, body) = loop {
            let mut part = [0; 4096];
            let count = stream.read(&mut part).await.unwrap();
            if count == 0 {
                return;
            }
            bytes.extend_from_slice(&part[..count]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            if body.len() >= length.unwrap_or(0_usize) {
                break (head.to_owned(), body.to_owned());
            }
        };
        let path = head.split(' ').nth(1).unwrap();
        let answer = match path {
            "/api/version" => json!({ "version": "0.32.0" }).to_string(),
            "/api/tags" => {
                json!({ "models": [{ "name": "lab:latest", "digest": self.digest }] }).to_string()
            }
            "/api/show" => json!({
                "modelfile": format!("FROM /models/blobs/sha256-{}\n", self.digest),
                "template": "{{ .Prompt }}",
                "model_info": { "llama.context_length": 1_024 },
                "capabilities": ["completion"],
            })
            .to_string(),
            "/api/generate" => self.generate(&serde_json::from_str(&body).unwrap()).await,
            other => panic!("{other} is not asked for"),
        };
        let head =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    async fn generate(&self, asked: &Value) -> String {
        let mut body = asked["options"].clone();
        let options = body.as_object_mut().unwrap();
        let tokens = options.remove("num_predict").unwrap();
        options.remove("num_ctx");
        for (name, value) in [
            ("prompt", asked["prompt"].clone()),
            ("n_predict", tokens),
            ("n_probs", asked["top_logprobs"].clone()),
            ("cache_prompt", true.into()),
        ] {
            options.insert(name.to_owned(), value);
        }
        assert_eq!(asked["raw"], true);
        if !asked["format"].is_null() {
            // Which it makes a grammar of.
            options.insert("grammar".to_owned(), GRAMMAR.into());
        }
        let client = wire::http_client().unwrap();
        let told = client.post(format!("{}/completion", self.llama)).json(&body).send();
        let told: Value =
            serde_json::from_slice(&told.await.unwrap().bytes().await.unwrap()).unwrap();
        let mut lines = Vec::new();
        // What is no character yet waits, and only the token that completes it is told.
        let mut held = Vec::new();
        for token in told["completion_probabilities"].as_array().into_iter().flatten() {
            let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
            held.extend(bytes);
            if let Ok(text) = std::str::from_utf8(&held) {
                let mut said = lossy(token);
                let tops = token["top_logprobs"].as_array().unwrap();
                said["top_logprobs"] = tops.iter().map(lossy).collect();
                let line = json!({ "response": text, "done": false, "logprobs": [said] });
                lines.push(line.to_string());
                held.clear();
            }
        }
        let reason = if told["stop_type"] == "limit" { "length" } else { "stop" };
        let last = json!({
            "response": "",
            "done": true,
            "done_reason": reason,
            "prompt_eval_count": told["tokens_evaluated"],
            "eval_count": told["tokens_predicted"],
        });
        lines.push(last.to_string());
        lines.join("\n") + "\n"
    }
}

/// A token as Go has it: bytes that are no text are cut off.
fn lossy(token: &Value) -> Value {
    let text = token["token"].as_str().unwrap();
    json!({ "token": text, "logprob": token["logprob"], "bytes": text.as_bytes() })
}
