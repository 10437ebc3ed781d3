//! Tests with keys in a database: the server of this process, and tests that run with it once more.

mod server;

use std::{
    cell::Cell,
    io::Write,
    sync::{Mutex, OnceLock, PoisonError},
};

pub(crate) use self::server::Server;
use crate::DatabaseUrl;

thread_local! {
    /// Whether the gateways of the test on this thread keep their keys in a database.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

/// The server of this process.
pub(crate) fn server() -> Result<&'static Server, &'static str> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref().map_err(String::as_str)
}

/// An empty database, if the test on this thread is one for databases.
pub(crate) fn database() -> Option<DatabaseUrl> {
    CHOSEN.get().then(|| server().unwrap().database().parse().unwrap())
}

/// Runs a test once more, with keys in a database. Skipped, with a reason, where there is no PostgreSQL.
pub(crate) fn run(name: &str, test: fn()) {
    match server() {
        Ok(_) => {
            CHOSEN.set(true);
            test();
            CHOSEN.set(false);
        }
        Err(reason) => skip(name, reason),
    }
}

/// Says that a test was left out, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let line = format!("{test}: {reason}\n");
    // Straight to stderr, past the harness, so that it is seen without `--nocapture`.
    let _ = std::io::stderr().write_all(format!("skipped: {line}").as_bytes());
    if let Some(path) = std::env::var_os("PEERWATT_TEST_REPORT") {
        let report = std::fs::OpenOptions::new().create(true).append(true).open(path);
        report.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs tests of a module once more with keys in a database.
macro_rules! also_on_postgres {
    ($($name:ident)+) => {
        mod on_postgres {
            $(
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    crate::tests::postgres::run(test, super::$name);
                }
            )+
        }
    };
}
