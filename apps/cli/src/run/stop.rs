//! Ctrl-C and SIGTERM: the first asks everything to close its books, the second ends at once.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::Output;

/// Exit status after a second Ctrl-C, as shells expect it.
const INTERRUPTED: i32 = 130;

/// Wrappers such as `timeout` and `cargo run` pass on what the terminal has sent already: signals
/// this close together are one press.
const ONE_PRESS: Duration = Duration::from_secs(1);

/// A token that is cancelled when the process is asked to stop.
pub(crate) fn on_signal(output: Output) -> anyhow::Result<CancellationToken> {
    let mut first = Signals::listen().context("listening for Ctrl-C")?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    // Lives as long as the process: it ends with it or ends it.
    tokio::spawn(async move {
        first.either().await;
        output.progress("stopping: finishing requests, redeeming, closing the books …");
        asked.cancel();
        tokio::time::sleep(ONE_PRESS).await;
        // New listeners, which know nothing of signals that came until now.
        let Ok(mut second) = Signals::listen() else { return };
        second.either().await;
        output.progress("stopped at once; what was in flight is settled at the next start");
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn either(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
