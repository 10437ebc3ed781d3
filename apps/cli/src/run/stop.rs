//! Ctrl-C and SIGTERM: the first asks everything to close its books, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::Output;

/// Exit status after a second Ctrl-C, as shells expect it.
const INTERRUPTED: i32 = 130;

/// A token that is cancelled when the process is asked to stop.
pub(crate) fn on_signal(output: Output) -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    // Lives as long as the process: it ends with it or ends it.
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        output.progress("stopping: finishing requests, redeeming, closing the books …");
        asked.cancel();
        either(&mut interrupt, &mut terminate).await;
        output.progress("stopped at once; what was in flight is settled at the next start");
        std::process::exit(INTERRUPTED);
    });
    Ok(stop)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
