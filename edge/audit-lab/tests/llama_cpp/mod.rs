//! A real llama.cpp server, from a Python package with llama.cpp inside.

#![allow(dead_code, reason = "each test file compiles this module and uses some of it")]

#[path = "../../../engine/tests/support/python.rs"]
#[expect(unreachable_pub, reason = "it is shared with the tests of the engines")]
mod python;

use std::{io::Write as _, path::Path, time::Duration};

use engine::{OpenAiEngine, OpenAiOptions};

pub(crate) use self::python::Python;

/// Ends with its standard input, so also when the test is killed.
const SERVER: &str = "
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.n_ctx = 1024
params.n_parallel = 1
params.cpuparams.n_threads = 1
if sys.argv[3] != 'f16':
    kind = getattr(xllamacpp.ggml_type, 'GGML_TYPE_' + sys.argv[3].upper())
    params.cache_type_k = kind
    params.cache_type_v = kind
server = xllamacpp.Server(params)
sys.stdin.read()
os._exit(0)
";

/// Tries to become ready, at one each 50 ms: loading takes a fraction of a second on a free machine.
const READY_TRIES_MAX: u32 = 1_200;

pub(crate) struct Server {
    pub(crate) engine: OpenAiEngine,
    pub(crate) url: String,
    _program: python::Program,
}

/// The environment with the server; without one the test says why it is skipped.
pub(crate) fn python() -> Option<Python> {
    match Python::with("xllamacpp", &["xllamacpp"]) {
        Ok(python) => Some(python),
        Err(reason) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "skipped: no llama.cpp server: {reason:#}").unwrap();
            None
        }
    }
}

/// Serves a file with an attention cache of a kind.
pub(crate) async fn serve(python: &Python, model: &Path, cache: &str) -> Server {
    // Free now; nothing else on a test machine takes it in the moment before the server does.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut program = python.start(SERVER, &[model.to_str().unwrap(), &port.to_string(), cache]);
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
            return Server { engine, url, _program: program };
        }
    }
    panic!("the server did not become ready");
}
