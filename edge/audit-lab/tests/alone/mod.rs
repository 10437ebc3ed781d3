//! Tests that run in a process of their own, in which candle has one thread.

use std::{io::Write as _, process::Command};

use audit_lab::model::THREADS;

/// Whether this is such a process; if it is not, the test runs in one, and what it says of figures is said again. The
/// threads are told apart by the environment alone, and on busy cores they wait for each other for minutes.
pub(crate) fn is_alone(test: &str) -> bool {
    if THREADS.iter().all(|variable| std::env::var_os(variable).is_some()) {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).envs(THREADS.map(|variable| (variable, "1")));
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let mut out = std::io::stdout().lock();
    told.lines()
        .filter(|line| line.contains(": "))
        .for_each(|line| writeln!(out, "{line}").unwrap());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    false
}
