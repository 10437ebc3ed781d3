//! Runs models over what was opened of a round, and says what came of it.

use std::sync::Arc;

use types::{
    ModelId, Ppm,
    audit::{CommitmentId, ESCALATE},
};
use verify::{audit::Means, eprocess::HonestMean};

use super::{LookError, Shared, abstained, blank};
use crate::{
    answer::Answer,
    desk::{Extent, Opened, default_means, verdict},
    docket::Report,
    judge::{JudgeError, Judged, Reference, Sample, judge, judge_suspects},
};

/// Models that are tried in the place of one that does not explain an answer.
const CHEAPER_MAX: usize = 8;

/// Runs the model over what was opened of a round.
pub(super) async fn examine(
    shared: &Shared,
    commitment: CommitmentId,
) -> Result<Report, LookError> {
    let (model, extent, chosen, opened) = {
        let desk = shared.desk();
        // Its round is over.
        let Some(case) = desk.case(&commitment) else { return abstained(shared, commitment) };
        let opened: Vec<Arc<Opened>> = case.opened().cloned().collect();
        (case.round.receipts.model, case.extent(), case.chosen(), opened)
    };
    let scored = scored(&opened, shared.tokens_max);
    // What was opened is too much for us.
    if scored.is_empty() && !opened.is_empty() && extent == Extent::Whole {
        return abstained(shared, commitment);
    }
    let judged = match scored.is_empty() {
        true => None,
        false => match run(shared, model, scored).await? {
            Some(Ran::Judged(judged)) => Some(*judged),
            // Whatever it is, it is not an answer of this model: nothing was opened.
            Some(Ran::Foreign) => None,
            None => return abstained(shared, commitment),
        },
    };
    let levels = judged.as_ref().map(|it| (it.l1, it.l2, it.projections));
    let (l1, l2, projections) = levels.unwrap_or_default();
    let trace = judged.as_ref().map(|it| it.trace.clone()).unwrap_or_default();
    let l1_only = judged.as_ref().map_or(0, |it| it.l1_only);
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let verdict = verdict(judged, extent);
    let (opened, scored) = (count(opened.len()), count(scored.len()));
    Ok(Report {
        chosen,
        opened,
        scored,
        l1_only,
        l1,
        l2,
        projections,
        trace,
        ..blank(shared, commitment, verdict)?
    })
}

/// As many of the first answers as may be scored, all drawn by engines of one kind. None, if the first one alone is too long.
fn scored(opened: &[Arc<Opened>], tokens_max: u64) -> &[Arc<Opened>] {
    let mut tokens = 0_u64;
    let fits = |it: &&Arc<Opened>| {
        let prompt = it.answer.prompt_bytes() / 4;
        let cost = it.answer.tokens.len().saturating_add(prompt);
        tokens = tokens.saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
        tokens <= tokens_max
    };
    let same =
        |it: &&Arc<Opened>| opened.first().is_some_and(|first| is_alike(&first.answer, &it.answer));
    let count = opened.iter().take_while(same).take_while(fits).count();
    opened.get(..count).unwrap_or_default()
}

fn is_alike(one: &Answer, other: &Answer) -> bool {
    one.drawing == other.drawing
}

enum Ran {
    Judged(Box<Judged>),
    Foreign,
}

/// `None`: the model is not here, or does not run.
async fn run(
    shared: &Shared,
    model: ModelId,
    scored: &[Arc<Opened>],
) -> Result<Option<Ran>, LookError> {
    let Some(engine) = open(shared, model).await? else { return Ok(None) };
    let Some(means) = means(shared, model).await? else { return Ok(None) };
    let samples: Vec<Sample<'_>> =
        scored.iter().map(|it| Sample { answer: &it.answer, receipt: it.receipt }).collect();
    let claimed = Reference { engine: &*engine, model, backend: shared.shelf.backend(&model) };
    let judged = match judge(&samples, claimed, &[], means).await {
        Ok(Some(judged)) => judged,
        Ok(None) => return Ok(None),
        Err(JudgeError::ForeignToken { .. }) => return Ok(Some(Ran::Foreign)),
        Err(error) => {
            tracing::warn!(%model, %error, "auditor.model does not run");
            return Ok(None);
        }
    };
    let suspects = judged.suspects();
    let some: Vec<Sample<'_>> =
        suspects.iter().filter_map(|number| samples.get(*number).copied()).collect();
    let among = judge_suspects(&some, samples.len(), claimed, &[], means).await.ok().flatten();
    // Some of many honest answers look bad by chance: that alone is no reason to say less of all of them.
    let among = among.filter(|it| it.evidence.reaches(ESCALATE));
    if !judged.evidence.reaches(ESCALATE) && among.is_none() {
        return Ok(Some(Ran::Judged(Box::new(judged))));
    }
    // Which one was it?
    let mut cheaper = Vec::new();
    for id in shared.shelf.cheaper(&model).into_iter().take(CHEAPER_MAX) {
        cheaper.extend(open(shared, id).await?.map(|engine| (id, engine)));
    }
    let references: Vec<Reference<'_>> = cheaper
        .iter()
        .map(|(model, engine)| Reference {
            engine: &**engine,
            model: *model,
            backend: shared.shelf.backend(model),
        })
        .collect();
    let named = match among {
        Some(_) => judge_suspects(&some, samples.len(), claimed, &references, means).await,
        None => Ok(None),
    };
    let all = judge(&samples, claimed, &references, means).await;
    let found = [Some(judged), all.ok().flatten(), among, named.ok().flatten()];
    let worst = found.into_iter().flatten().max_by_key(Judged::severity);
    Ok(worst.map(|judged| Ran::Judged(Box::new(judged))))
}

pub(super) async fn open(
    shared: &Shared,
    model: ModelId,
) -> Result<Option<engine::SharedEngine>, LookError> {
    let shelf = Arc::clone(&shared.shelf);
    match tokio::task::spawn_blocking(move || shelf.open(model)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Ok(None),
    }
}

/// The honest means in force on the kind of machine that the model runs on.
pub(super) async fn means(shared: &Shared, model: ModelId) -> Result<Option<Means>, LookError> {
    let all = shared.chain.calibrations().await.map_err(|source| LookError::Read { source })?;
    let backend = shared.shelf.backend(&model);
    let ours = all.iter().find(|it| it.model == model && it.backend == backend);
    let Some(ours) = ours else { return Ok(default_means()) };
    let mean = |ppm: Ppm| HonestMean::of_ppm(ppm.get());
    let projections = ours.projections.and_then(mean);
    Ok(mean(ours.l1).zip(mean(ours.l2)).map(|(l1, l2)| Means { l1, l2, projections }))
}

#[cfg(test)]
mod tests;
