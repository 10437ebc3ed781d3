//! One provider: how it stands with the auditors, its rounds, and per model the evidence that is kept.

use maud::{Markup, html};
use types::{
    ModelId, Ppm, TimeMs,
    audit::{Identified, KeptEvidence, MilliNats, ReplayCounts, Standing},
};
use wire::chain::{CommitmentView, ModelAuditsView, ProviderAuditsView};

use super::{Names, ProviderColumn, closed_table, open_table, plot, quality_again, round_link};
use crate::{
    page::{Tab, document, empty, facts, number, panel, problem, table, text},
    show,
    source::{LedgerView, Site, SourceError},
};

/// `GET /audits/{provider}`
pub(crate) fn page(
    site: &Site,
    view: &ProviderAuditsView,
    ledger: &Result<LedgerView, SourceError>,
    names: &Names,
) -> Markup {
    let main = html! {
        p.back { a href="/audits" { "← Audits" } }
        div.columns.even {
            div.column {
                section.panel #standing data-live aria-labelledby="standing-title" {
                    h2 #standing-title { "Audits of " (names.provider_text(view.provider)) }
                    (standing(view, ledger))
                }
            }
            div.column { (panel("again", "Look at it again", &again(ledger))) }
        }
        @for (index, model) in view.models.iter().enumerate() {
            (self::model(index, model, ledger, names))
        }
        @if view.models.is_empty() {
            (panel("evidence", "Evidence", &empty(&html! {
                p { "No verifier has said anything of a model of this provider, or it was too long ago." }
            })))
        }
        (panel("open", "Open rounds", &open(view, names)))
        (panel("closed", "Closed rounds", &closed(view, names)))
    };
    document(site, Some(Tab::Audits), "Audits of a provider", &main)
}

/// While the ledger does not answer; also for one round.
pub(crate) fn failed(site: &Site, error: &SourceError) -> Markup {
    let main = html! {
        p.back { a href="/audits" { "← Audits" } }
        (panel("standing", "Audits of a provider", &problem(error)))
    };
    document(site, Some(Tab::Audits), "Audits of a provider", &main)
}

fn standing(view: &ProviderAuditsView, ledger: &Result<LedgerView, SourceError>) -> Markup {
    let standing = &view.standing;
    html! {
        p.muted { code.value { (view.provider) } }
        (facts(&[
            ("Reputation", html! { (show::percent(view.reputation)) }),
            ("Receipts audited", html! { (show::percent(view.share)) }),
            ("Passes since a failure", html! { (show::count(standing.passes)) }),
            ("Waiting commitments", html! { (show::count(view.waiting.len() as u128)) }),
        ]))
        @match ledger {
            Ok(ledger) => (notices(standing, ledger)),
            Err(error) => (problem(error)),
        }
        @if *standing == Standing::default() {
            p.muted { "It was never audited: a stranger has a reputation of one half." }
        }
    }
}

/// What waits or is lost, as of the last block.
fn notices(standing: &Standing, ledger: &LedgerView) -> Markup {
    let Standing { escalated_until, held_until, missing_since, refund_until, .. } = *standing;
    let ahead = |at: &TimeMs| *at > ledger.status.time;
    let missing_ms = ledger.status.params.audits.missing_ms;
    html! {
        @if let Some(until) = escalated_until.filter(ahead) {
            p.notice.waiting { "Escalated: everything of it is audited; ends " (show::due(until)) "." }
        }
        @if let Some(until) = held_until.filter(ahead) {
            p.notice.waiting { "Held: its claims are not settled; ends " (show::due(until)) "." }
        }
        @if let Some(since) = missing_since {
            p.notice.problem {
                "Missing: it has given no opening since " (show::time(since)) ". Its claims wait, and go back to "
                "who paid if that takes longer than " (show::duration(missing_ms)) "."
            }
        }
        @match refund_until {
            None => {}
            Some(TimeMs(u64::MAX)) => p.notice.problem {
                "Slashed: what it claims goes back to who paid."
            },
            Some(until) => p.notice.problem {
                "Refunded: claims that were to be settled by " (show::due(until)) " go back to who paid."
            },
        }
    }
}

/// How a provider, or anybody, can look at a verdict again.
fn again(ledger: &Result<LedgerView, SourceError>) -> Markup {
    let params = ledger.as_ref().ok().map(|ledger| &ledger.status.params);
    html! {
        p {
            "Nobody has to believe a verdict. Whoever holds the API key of a request runs the model over its answer "
            "on a machine of their own, and a provider can let a payer do so:"
        }
        (super::command("peerwatt audit check REQUEST_ID"))
        p { "Who runs an auditor sees what it found in a round; the round's own page has its whole name:" }
        (super::command("peerwatt audit show ROUND"))
        @if let Some(params) = params {
            p.muted {
                "Evidence is kept for " (show::duration(params.slashing.evidence_age_ms))
                ". A model that is suspended is chosen again when its quality is "
                (show::percent(params.audits.quality_resume)) ", through rounds that pass; a delisted one after "
                (show::duration(params.audits.delist_ms)) "."
            }
        }
    }
}

fn open(view: &ProviderAuditsView, names: &Names) -> Markup {
    html! {
        @if view.open.is_empty() {
            (empty(&html! { p { "None of it is open." } }))
        } @else {
            (open_table(&view.open, names, ProviderColumn::LeftOut))
        }
        @if !view.waiting.is_empty() {
            h3 { "Commitments that wait for a beacon" }
            (waiting(&view.waiting, names))
        }
    }
}

fn waiting(commitments: &[CommitmentView], names: &Names) -> Markup {
    let row = |it: &CommitmentView| {
        vec![
            round_link(it.commitment),
            names.model(it.receipts.model),
            html! { (show::count(it.receipts.count)) },
            show::time(it.made_at),
            html! { "a beacon after period " (show::count(it.period)) },
        ]
    };
    let rows: Vec<Vec<Markup>> = commitments.iter().map(row).collect();
    let columns =
        [text("Round"), text("Model"), number("Receipts"), text("Made"), text("Waits for")];
    table("", "Commitments that wait", &columns, &rows)
}

fn closed(view: &ProviderAuditsView, names: &Names) -> Markup {
    if view.closed.is_empty() {
        return empty(&html! {
            p { "None of it is among the last rounds that the ledger keeps." }
        });
    }
    closed_table(&view.closed, names, ProviderColumn::LeftOut)
}

fn model(
    index: usize,
    view: &ModelAuditsView,
    ledger: &Result<LedgerView, SourceError>,
    names: &Names,
) -> Markup {
    let id = format!("model-{index}");
    html! {
        section.panel id=(id) data-live aria-labelledby={ (id) "-title" } {
            div.panel-head {
                h2 id={ (id) "-title" } { "Evidence on " (names.model(view.model)) }
                p { (model_state(view)) }
            }
            @if view.evidence.is_empty() {
                (facts(&model_facts(view, ledger)))
                (empty(&html! { p { "No piece of evidence is kept: nothing was scored, or it was too long ago." } }))
            } @else {
                div.seen {
                    (plot::svg(&format!("{id}-plot"), &view.evidence))
                    div.stack {
                        (facts(&model_facts(view, ledger)))
                        (legend())
                    }
                }
                (evidence_table(&view.evidence.iter().collect::<Vec<_>>(), view.model, names))
            }
        }
    }
}

fn model_state(view: &ModelAuditsView) -> Markup {
    html! {
        @if view.enforced { span.tag title="a failure has consequences" { "enforced" } }
        @else { span.tag.plain title="nobody loses anything" { "in the shadow" } }
        @if view.suspended { " " span.tag.bad { "suspended" } }
        @if view.delisted_until.is_some() { " " span.tag.bad { "delisted" } }
    }
}

fn model_facts(
    view: &ModelAuditsView,
    ledger: &Result<LedgerView, SourceError>,
) -> Vec<(&'static str, Markup)> {
    let resume: Option<Ppm> = ledger.as_ref().ok().map(|it| it.status.params.audits.quality_resume);
    let mut rows = vec![("Quality", html! { (show::percent(view.quality)) })];
    if view.suspended {
        rows.push(("Suspended until", quality_again(resume)));
    }
    rows.extend(view.delisted_until.map(|until| ("Delisted until", show::due(until))));
    rows
}

/// What the marks of the picture are.
fn legend() -> Markup {
    html! {
        ul.levels {
            li.l1 { "L1, by log-probabilities" }
            li.l2 { "L2, by draws" }
            li.projections { "P, by projections" }
            li.idle { "hollow: without consequence" }
        }
        p.muted {
            "Nats against the provider, over the tokens that were scored, piece after piece: each begins at 0 with "
            "its first token, and its mark is at its last. An arrow lies beyond the picture. From " em { "escalate" }
            " on it is worth a closer look; " em { "paired" }
            " is enough where two sets of answers reach it on two kinds of machine; " em { "alone" }
            " is reached by accident once in 10⁹ at most."
        }
    }
}

/// The figures of the picture, and what else a verifier found.
pub(super) fn evidence_table(evidence: &[&KeptEvidence], model: ModelId, names: &Names) -> Markup {
    let mut so_far = 0_u64;
    let mut rows: Vec<Vec<Markup>> = Vec::new();
    for (index, piece) in evidence.iter().enumerate() {
        so_far = so_far.saturating_add(piece.evidence.tokens.into());
        rows.push(evidence_row(index + 1, so_far, piece, names));
    }
    let columns = [
        number("Piece"),
        text("Found"),
        text("Round"),
        text("Verifier"),
        number("Tokens"),
        number("So far"),
        number("L1, nats"),
        number("L2, nats"),
        number("P, nats"),
        number("ln E"),
        text("Drawn again"),
        text("Explained by"),
        text("Counts"),
    ];
    let caption = format!("Evidence on {}, the oldest first", show::short(&model.to_string()));
    table("wide pieces", &caption, &columns, &rows)
}

fn evidence_row(number: usize, so_far: u64, piece: &KeptEvidence, names: &Names) -> Vec<Markup> {
    let evidence = &piece.evidence;
    vec![
        html! { (number) },
        show::time(piece.found_at),
        round_link(piece.commitment),
        html! { (names.verifier(piece.verifier)) " on " code { (evidence.backend.name()) } },
        html! { (show::count(evidence.tokens)) },
        html! { (show::count(so_far)) },
        nats(evidence.l1),
        nats(evidence.l2),
        nats(evidence.projections),
        nats(evidence.ln_e()),
        html! {
            (show::counted(evidence.responses.len(), "answer", "answers")) ": " (replay(&evidence.replay))
        },
        match &evidence.identified {
            None => html! { "–" },
            Some(identified) => explained(identified, names),
        },
        html! {
            @if piece.counts { "yes" }
            @else {
                span.muted title="it had its consequence, its beacon was weak, or the model is not calibrated for that kind of machine" {
                    "no"
                }
            }
        },
    ]
}

fn nats(value: Option<MilliNats>) -> Markup {
    match value {
        Some(value) => html! { (show::nats(value)) },
        None => html! { "–" },
    }
}

fn replay(counts: &ReplayCounts) -> Markup {
    let ReplayCounts { matched, excused, unexplained, unreported } = *counts;
    html! {
        (show::count(matched)) " match, " (show::count(excused)) " within rounding, "
        @if unexplained > 0 { strong { (show::count(unexplained)) " do not" } } @else { "0 do not" }
        @if unreported > 0 { ", " (show::count(unreported)) " unreported" }
        @if counts.failed() { " " span.tag.bad { "failed" } }
    }
}

fn explained(identified: &Identified, names: &Names) -> Markup {
    let worth = match identified.worth {
        types::audit::Worth::Cheaper => "cheaper",
        types::audit::Worth::NotCheaper => "not cheaper",
    };
    html! {
        (names.model(identified.model)) ", " (worth) ", by " (show::nats(identified.ratio)) " nats"
    }
}
