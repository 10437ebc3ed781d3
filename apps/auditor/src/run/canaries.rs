//! Sends canaries, and tells the ledger what they found.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use types::tx::Action;

use super::{
    LookError, Shared,
    examine::{means, open},
    note,
};
use crate::{
    canary::{self, CanaryError, Consumer, Found},
    judge::{Reference, Sample, judge},
};

/// Sends canaries at drawn times, until it is told to stop.
pub(super) async fn send(
    shared: Arc<Shared>,
    consumer: Option<(Duration, Consumer)>,
    stop: CancellationToken,
) {
    let Some((every, consumer)) = consumer else { return };
    loop {
        // From half to one and a half times as long.
        let percent = canary::draw(50..150).unwrap_or(100);
        let wait = every.saturating_mul(percent) / 100;
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            sent = send_one(&shared, &consumer) => note(sent),
        }
    }
}

/// One of them.
async fn send_one(shared: &Shared, consumer: &Consumer) -> Result<(), LookError> {
    let failed = |source| LookError::Canary { source };
    let plan = consumer.plan(|model| shared.shelf.has(model)).await.map_err(failed)?;
    let Some(plan) = plan else { return Ok(()) };
    let model = plan.model;
    let Some(engine) = open(shared, model).await? else { return Ok(()) };
    let Some(means) = means(shared, model).await? else { return Ok(()) };
    let run = |source| failed(CanaryError::Model { model, source });
    let vocabulary = engine.vocabulary(model).await.map_err(run)?;
    let prompt = canary::prompt(&engine, model).await.map_err(failed)?;
    let asked = consumer.ask(&plan, &prompt, &vocabulary).await.map_err(failed)?;
    let Some((report, answer)) = asked else { return Ok(()) };
    let Found { provider, receipt } = Found::of(&report);
    let sample = Sample { answer: &answer, receipt };
    let claimed = Reference { engine: &*engine, model, backend: shared.shelf.backend(&model) };
    let judged = judge(&[sample], claimed, &[], means).await;
    let judged = judged.map_err(|source| failed(CanaryError::Judge { source }))?;
    let Some(verdict) = judged.and_then(|it| canary::verdict(it, answer.finish)) else {
        tracing::debug!(%provider, %model, "auditor.canary says too little");
        return Ok(());
    };
    let outcome = verdict.outcome.name();
    let action = Action::ReportCanary { provider, verdict: Box::new(verdict) };
    let sent = shared.sender.send(action).await;
    let sent = sent.map_err(|source| LookError::Report { provider, source })?;
    tracing::info!(%provider, %model, outcome, tx = %sent.id, "auditor.canary");
    Ok(())
}
