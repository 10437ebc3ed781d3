//! What the end-to-end tests share: the program as child processes, waiting with a deadline, and
//! the programs of others. No test here knows more of Peerwatt than its output and its HTTP APIs.

#![expect(
    dead_code,
    unreachable_pub,
    reason = "every test file compiles this module and uses some of it"
)]

pub mod books;
pub mod clients;
pub mod figures;
pub mod network;
#[path = "../../../gateway/src/tests/postgres/server.rs"]
pub mod postgres;
pub mod process;
pub mod stream;
pub mod testnet;

use std::{
    fmt::Display,
    future::Future,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long anything that is waited for may take. Generous: the machine may be busy, and a test
/// that passes never waits this long.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// Between two looks at something that cannot tell by itself that it changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Waits until `look` gives a value, or fails and says what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let wait = async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    match tokio::time::timeout(DEADLINE, wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}

/// Says that `test` did not run, where `cargo xtask test` looks for it and on stderr.
pub fn skip(test: &str, reason: impl Display) {
    let line = format!("{test}: {reason}\n");
    // Straight to stderr, past the harness, so that it is seen without `--nocapture`.
    let _ = std::io::stderr().write_all(format!("skipped: {line}").as_bytes());
    if let Some(path) = std::env::var_os("PEERWATT_TEST_REPORT") {
        let report = std::fs::OpenOptions::new().create(true).append(true).open(path);
        report.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Whether tests with the programs of others are left out.
pub fn quick() -> bool {
    std::env::var_os("PEERWATT_TEST_QUICK").is_some()
}

/// A file of the repository that the tests are run in, which need not be the one they were built in.
pub fn repository(path: &str) -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../..").join(path)
}
