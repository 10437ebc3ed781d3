//! L0, and what an auditor finds of each answer for itself.

use audit_lab::{
    provider::{Answer, Provider},
    scored,
    weights::Quantization::Q8_0,
};
use serde_json::{Value, json};
use verify::{
    audit::{Audit, Means},
    draw::Sampler,
    l0::{Counts, Finding, Outcome, Replay},
};

use crate::Cell;

/// What was found of one answer.
pub(crate) struct Found {
    counts: Counts,
    finding: Finding,
    /// The token that is the first that L0 does not explain.
    first_mismatch: Option<u32>,
    /// Tokens after which any level had evidence that is enough alone.
    alone_at: Option<u32>,
}

pub(crate) fn found(
    sampler: Sampler,
    means: Means,
    answer: &Answer,
    positions: &[Vec<f32>],
) -> Found {
    let mut audit = Audit::new(&[sampler], means);
    let end = scored::audit(&mut audit, answer, positions);
    let findings = audit.findings();
    let profile = answer.request.profile;
    let mut replay = Replay::of_leaves(&[sampler], profile.settings(), profile.seed);
    let mut outcomes = (1..).zip(&answer.tokens);
    let first = outcomes.find(|(_, it)| replay.push(it.id(), &it.reported()) == Outcome::Mismatch);
    let levels = [findings.l1, findings.l2, findings.projections].into_iter().flatten();
    Found {
        counts: findings.replay,
        finding: scored::report(answer, findings.replay, end).finding(),
        first_mismatch: first.map(|(at, _)| at),
        alone_at: levels.filter_map(|level| level.alone_at).min(),
    }
}

pub(crate) fn figures(cells: &[Cell]) -> Vec<Value> {
    let row = |cell: &Cell| {
        let sum =
            |of: fn(&Counts) -> u32| cell.replays.iter().map(|it| of(&it.counts)).sum::<u32>();
        let counted = |of: &dyn Fn(&Found) -> bool| cell.replays.iter().filter(|it| of(it)).count();
        let mut firsts: Vec<u32> =
            cell.replays.iter().map(|it| it.first_mismatch.unwrap_or(u32::MAX)).collect();
        firsts.sort_unstable();
        let first = Some(firsts[firsts.len() / 2]).filter(|at| *at < u32::MAX);
        let cheated = (0..).zip(&cell.answers).filter(|(n, _)| cell.provider.cheats_in(*n)).count();
        json!({
            "provider": cell.provider.name(),
            "is_honest": matches!(cell.provider, Provider::Honest | Provider::Elsewhere(Q8_0)),
            "answers": cell.answers.len(),
            // Of who cheats in some answers only.
            "cheated": matches!(cell.provider, Provider::Mixes(_)).then_some(cheated),
            "tokens": sum(Counts::replayed),
            "unexplained": sum(|it| it.unexplained),
            "excused": sum(|it| it.excused),
            "first_mismatch_p50": first,
            "audited": counted(&|it| it.finding >= Finding::Audit),
            "suspended": counted(&|it| it.finding == Finding::Suspend),
            "alone": counted(&|it| it.alone_at.is_some()),
            "audited_min": audited_min(cell.provider).map(|share| share * cell.answers.len() as f64),
            "first_mismatch_max": (cell.provider == Provider::Spoofs).then_some(8),
        })
    };
    cells.iter().map(row).collect()
}

/// The bars: of these, L0 must find so large a share of the answers; of honest ones, none. Some answers end after a
/// token or two, of which nothing can be told.
fn audited_min(provider: Provider) -> Option<f64> {
    match provider {
        Provider::Temperature(0) | Provider::Caches | Provider::Confuses | Provider::Spoofs => {
            Some(0.95)
        }
        Provider::Inflates => Some(1.0),
        Provider::Temperature(_) => Some(0.8),
        Provider::Truncates => Some(0.75),
        _ => None,
    }
}
