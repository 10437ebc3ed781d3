//! Audits: what they are here, rounds that are open and those that were closed last, and whom gateways do not
//! choose because of them. What each page of audits says of a round is here too.

mod plot;
pub(crate) mod provider;
pub(crate) mod round;

use std::collections::BTreeMap;

use gateway::{ModelView, ProviderView};
use maud::{Markup, html};
use types::{
    Address, ModelId, Ppm,
    audit::{AuditOutcome, Beacon, ClosedRound, CommitmentId, Sanction},
    params::{AuditMode, AuditParams},
};
use wire::chain::{ExclusionView, PAGE_ENTRIES_MAX, RoundView, VerifierView};

use super::{Tab, document, empty, facts, number, panel, problem, table, text};
use crate::{
    show,
    source::{Audits, LedgerView, Site, SourceError},
};

/// What addresses and ids are called, where this gateway knows it. Whoever bears a name chose it: where two chose
/// the same, the address is shown too.
pub(crate) struct Names {
    providers: BTreeMap<Address, String>,
    validators: BTreeMap<Address, String>,
    models: BTreeMap<ModelId, String>,
}

impl Names {
    pub(crate) fn of(
        providers: &[ProviderView],
        models: &[ModelView],
        ledger: Option<&LedgerView>,
    ) -> Names {
        let validators = ledger.map_or(&[][..], |ledger| &ledger.validators);
        Names {
            providers: providers.iter().map(|it| (it.operator, it.moniker.clone())).collect(),
            validators: validators.iter().map(|it| (it.operator, it.moniker.clone())).collect(),
            models: models.iter().map(|it| (it.model, it.alias.clone())).collect(),
        }
    }

    /// With what is known of its audits behind it.
    fn provider(&self, provider: Address) -> Markup {
        html! { a.who href=(link_of(provider)) title=(provider) { (self.provider_text(provider)) } }
    }

    fn provider_text(&self, provider: Address) -> Markup {
        called(&self.providers, provider)
    }

    fn verifier(&self, verifier: Address) -> Markup {
        html! { span title=(verifier) { (called(&self.validators, verifier)) } }
    }

    fn model(&self, model: ModelId) -> Markup {
        match self.models.get(&model) {
            Some(alias) => html! { span title=(model) { (show::foreign(alias)) } },
            None => show::id(&model.to_string()),
        }
    }
}

fn called(names: &BTreeMap<Address, String>, address: Address) -> Markup {
    let short = show::short(&address.to_string());
    let Some(name) = names.get(&address) else { return html! { code.id { (short) } } };
    let is_shared = names.values().filter(|other| *other == name).count() > 1;
    html! { (show::foreign(name)) @if is_shared { " " code.id { (short) } } }
}

/// Where the audits of a provider are shown.
pub(crate) fn link_of(provider: Address) -> String {
    format!("/audits/{provider}")
}

/// All of the first page.
pub(crate) struct AuditsPage {
    pub(crate) ledger: Result<LedgerView, SourceError>,
    pub(crate) audits: Result<Audits, SourceError>,
    pub(crate) exclusions: Result<Vec<ExclusionView>, SourceError>,
    pub(crate) names: Names,
}

/// `GET /audits`
pub(crate) fn page(site: &Site, view: &AuditsPage) -> Markup {
    let names = &view.names;
    let params = view.ledger.as_ref().ok().map(|ledger| &ledger.status.params.audits);
    let rounds = |show: &dyn Fn(&Audits) -> Markup| match &view.audits {
        Ok(audits) => show(audits),
        Err(error) => problem(error),
    };
    let main = html! {
        div.columns.even {
            div.column { (panel("about", "Audits", &about(view))) }
            div.column { (panel("excluded", "Excluded now", &excluded(view))) }
        }
        (panel("open", "Open rounds", &rounds(&|audits| open(audits, params, names))))
        (panel("closed", "Closed rounds", &rounds(&|audits| closed(audits, names))))
    };
    document(site, Some(Tab::Audits), "Audits", &main)
}

fn about(view: &AuditsPage) -> Markup {
    html! {
        p {
            "A provider commits to the receipts of what it served; randomness that validators make together chooses "
            "some of them, and validators run the model over those answers to see whether it made them."
        }
        @match &view.ledger {
            Err(error) => (problem(error)),
            Ok(ledger) => {
                @let params = &ledger.status.params.audits;
                (mode(params, &view.names))
                (about_facts(params, view.audits.as_ref().ok().map(|audits| &audits.beacon)))
            }
        }
    }
}

/// Whether anything follows, in a sentence.
fn mode(params: &AuditParams, names: &Names) -> Markup {
    html! {
        p.notice #mode {
            @match (params.mode, params.enforced.as_slice()) {
                (AuditMode::Off, _) => {
                    strong { "Off." } " This network audits nothing: commitments are refused."
                }
                (AuditMode::Shadow, _) => {
                    strong { "In the shadow." }
                    " Everything is audited, judged and shown, and nobody loses anything."
                }
                (AuditMode::Enforced, []) => {
                    strong { "Enforced" } ", but for no model yet: all of them stay in the shadow, where nobody loses anything."
                }
                (AuditMode::Enforced, models) => {
                    strong { "Enforced" } " for "
                    @for (index, model) in models.iter().enumerate() {
                        @if index > 0 { ", " }
                        (names.model(*model))
                    }
                    ": there a failure has consequences. Other models stay in the shadow, where nobody loses anything."
                }
            }
        }
    }
}

fn about_facts(params: &AuditParams, beacon: Option<&Beacon>) -> Markup {
    let mut rows = vec![
        (
            "Receipts audited",
            html! {
                (show::percent(params.share_max)) " of a newcomer's, " (show::percent(params.share_min)) " at least"
            },
        ),
        ("Verifiers of a round", html! { (show::count(params.verifiers)) }),
        (
            "Time for verdicts",
            html! {
                (show::duration(params.commit_ms)) " to commit, " (show::duration(params.reveal_ms)) " to reveal"
            },
        ),
        ("Delisted for", html! { (show::duration(params.delist_ms)) }),
    ];
    rows.extend(beacon.map(|beacon| ("Newest beacon", newest(beacon))));
    facts(&rows)
}

fn newest(beacon: &Beacon) -> Markup {
    match beacon.reveals {
        0 => html! { "none yet" },
        1 => html! {
            span.tag { "weak" } " one validator made it alone: its rounds have no consequences"
        },
        more => html! {
            "made by " (show::count(more)) " validators, in period " (show::count(beacon.period))
        },
    }
}

fn excluded(view: &AuditsPage) -> Markup {
    let exclusions = match &view.exclusions {
        Ok(exclusions) => exclusions,
        Err(error) => return problem(error),
    };
    if exclusions.is_empty() {
        return empty(&html! {
            p { "Nobody is: gateways choose every provider for each of its models." }
        });
    }
    let resume = view.ledger.as_ref().ok().map(|it| it.status.params.audits.quality_resume);
    let row = |it: &ExclusionView| {
        let (provider, model) = (view.names.provider(it.provider), view.names.model(it.model));
        vec![provider, model, exclusion(it, resume)]
    };
    let rows: Vec<Vec<Markup>> = exclusions.iter().map(row).collect();
    let columns = [text("Provider"), text("Model"), text("Why, and until when")];
    html! {
        (table("", "Providers and models that gateways do not choose", &columns, &rows))
        p.muted { "Gateways do not choose these providers for these models." }
    }
}

fn exclusion(it: &ExclusionView, resume: Option<Ppm>) -> Markup {
    html! {
        ul.said {
            @if let Some(until) = it.delisted_until {
                li { span.tag.bad title="what audits found justified it" { "delisted" } " ends " (show::due(until)) }
            }
            @if it.suspended {
                li {
                    span.tag title="its quality is too low" { "suspended" } " until " (quality_again(resume))
                }
            }
        }
    }
}

/// When a suspension ends.
fn quality_again(resume: Option<Ppm>) -> Markup {
    html! {
        "its quality is "
        @match resume {
            Some(resume) => { (show::percent(resume)) " again" }
            None => "high enough again",
        }
    }
}

fn open(audits: &Audits, params: Option<&AuditParams>, names: &Names) -> Markup {
    let rounds = &audits.rounds.open;
    if rounds.is_empty() {
        return empty(&why_none(audits, params));
    }
    html! {
        @if rounds.len() >= PAGE_ENTRIES_MAX {
            p.muted { "The first " (PAGE_ENTRIES_MAX) ", by provider." }
        }
        (open_table(rounds, names, ProviderColumn::Shown))
    }
}

/// Why no round is open.
fn why_none(audits: &Audits, params: Option<&AuditParams>) -> Markup {
    let first = audits.rounds.closed.is_empty();
    html! {
        @if params.is_some_and(|params| params.mode == AuditMode::Off) {
            p { "None: this network audits nothing." }
        } @else if audits.beacon.reveals == 0 {
            p { "None: there was no beacon yet." }
            p {
                "A beacon is made when validators reveal their votes on the price, and the first one after a "
                "commitment opens its round."
            }
        } @else {
            p { @if first { "There was no round yet." } @else { "None is open." } }
            p {
                "A provider that has served something commits to its receipts, and the next beacon opens the round: "
                "nobody has, or what was committed to waits for it."
            }
        }
    }
}

/// Whether a table names the provider of each row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ProviderColumn {
    Shown,
    LeftOut,
}

/// Of open rounds.
fn open_table(rounds: &[RoundView], names: &Names, provider: ProviderColumn) -> Markup {
    let row = |round: &RoundView| {
        let mut row = Vec::new();
        if provider == ProviderColumn::Shown {
            row.push(names.provider(round.commitment.provider));
        }
        row.extend([
            round_link(round.commitment),
            names.model(round.receipts.model),
            html! { (show::count(round.receipts.count)) },
            html! { (show::percent(round.share)) },
            said(round.verifiers.iter().map(|it| (it.verifier, how_far(it))), names),
            show::due(round.commit_by),
            show::due(round.reveal_by),
        ]);
        row
    };
    let mut columns = vec![text("Provider")];
    if provider == ProviderColumn::LeftOut {
        columns.clear();
    }
    columns.extend([
        text("Round"),
        text("Model"),
        number("Receipts"),
        number("Share"),
        text("Verifiers"),
        text("Commit by"),
        text("Reveal by"),
    ]);
    let rows: Vec<Vec<Markup>> = rounds.iter().map(row).collect();
    table("wide rounds", "Rounds that are open", &columns, &rows)
}

fn closed(audits: &Audits, names: &Names) -> Markup {
    let rounds = &audits.rounds.closed;
    if rounds.is_empty() {
        return empty(&html! {
            p { "None yet." }
            p { "A round is closed when its verifiers have revealed what they found, or did not in time." }
        });
    }
    html! {
        p.lead {
            "Latest first. " em { "Would be" } " is what the evidence kept of provider and model justifies; "
            em { "done" } " is what followed."
        }
        (closed_table(rounds, names, ProviderColumn::Shown))
    }
}

/// Of closed rounds.
fn closed_table(rounds: &[ClosedRound], names: &Names, provider: ProviderColumn) -> Markup {
    let row = |round: &ClosedRound| {
        let mut row = vec![show::time(round.closed_at)];
        if provider == ProviderColumn::Shown {
            row.push(names.provider(round.commitment.provider));
        }
        row.extend([
            round_link(round.commitment),
            names.model(round.receipts.model),
            html! {
                span title={ (show::count(round.receipts.count)) " committed to, of which this share was chosen" } {
                    (show::count(round.receipts.count)) " · " (show::percent(round.share))
                }
            },
            outcome_of(round),
            said(round.verdicts.iter().map(|(verifier, it)| (*verifier, verdict(*it))), names),
            sanction(round.would_be),
            sanction(round.sanction),
        ]);
        row
    };
    let mut columns = vec![text("Closed")];
    if provider == ProviderColumn::Shown {
        columns.push(text("Provider"));
    }
    columns.extend([
        text("Round"),
        text("Model"),
        number("Receipts · share"),
        text("Outcome"),
        text("Verifiers said"),
        text("Would be"),
        text("Done"),
    ]);
    let rows: Vec<Vec<Markup>> = rounds.iter().map(row).collect();
    table("wide rounds", "Rounds that were closed last, latest first", &columns, &rows)
}

/// A round is named by its provider and a number.
fn round_link(round: CommitmentId) -> Markup {
    html! { a href={ "/audits/" (round) } title={ "round " (round) } { "…/" (round.sequence) } }
}

fn said(verifiers: impl Iterator<Item = (Address, Markup)>, names: &Names) -> Markup {
    html! {
        ul.said {
            @for (verifier, said) in verifiers { li { (names.verifier(verifier)) " " (said) } }
        }
    }
}

fn how_far(it: &VerifierView) -> Markup {
    match (it.outcome, it.committed) {
        (Some(said), _) => outcome(said),
        (None, Some(_)) => {
            html! { span.tag.plain title="to a verdict that is not revealed yet" { "committed" } }
        }
        (None, None) => html! { span.muted { "nothing yet" } },
    }
}

fn verdict(said: Option<AuditOutcome>) -> Markup {
    match said {
        Some(said) => outcome(said),
        None => html! { span.muted { "revealed nothing" } },
    }
}

/// A word and its colour.
/// With what makes the round another than most.
fn outcome_of(round: &ClosedRound) -> Markup {
    let notes = [
        (
            round.planted,
            "planted",
            "the provider made these answers wrong, to see who looks; nothing followed for it",
        ),
        (round.commitment.is_demanded(), "demanded", "one answer, which its payer wants audited"),
        (round.is_appeal, "appeal", "all receipts of a failed round, audited again by others"),
        (round.appealed, "appealed", "its provider had it audited again"),
    ];
    html! {
        (outcome(round.outcome))
        @for (_, note, title) in notes.iter().filter(|(holds, ..)| *holds) {
            " " span class="tag plain" title=(title) { (note) }
        }
    }
}

fn outcome(outcome: AuditOutcome) -> Markup {
    let (class, title) = match outcome {
        AuditOutcome::Pass => ("tag good", "this is what the model says"),
        AuditOutcome::Fail => ("tag bad", "this is not what the model says"),
        AuditOutcome::Inconclusive => ("tag", "it cannot be told, which costs nobody anything"),
        AuditOutcome::Abstained => ("tag plain", "nobody looked; held against nobody"),
        AuditOutcome::Missing => ("tag bad outlined", "the provider opened nothing in time"),
    };
    html! { span class=(class) title=(title) { (outcome.name()) } }
}

fn sanction(sanction: Sanction) -> Markup {
    match sanction {
        Sanction::None => html! { span.muted { "nothing" } },
        Sanction::Escalate => html! {
            span.tag title="everything of the provider is audited for a while" { "escalate" }
        },
        Sanction::RefundAndDelist => html! {
            span.tag.bad title="claims go back to who paid, and gateways do not choose the provider for the model" {
                "refund, delist"
            }
        },
        Sanction::Slash => html! {
            span.tag.bad title="refunded, delisted, and a part of the stake is lost" { "slash" }
        },
    }
}

/// To copy into a terminal.
fn command(text: &str) -> Markup {
    html! { pre.line tabindex="0" { code { (text) } } }
}

/// What the overview says of audits, if any round was closed.
pub(crate) fn line(
    audits: &Result<Audits, SourceError>,
    ledger: &Result<LedgerView, SourceError>,
) -> Option<Markup> {
    let closed = &audits.as_ref().ok()?.rounds.closed;
    let last = closed.first()?;
    let passed = closed.iter().filter(|it| it.outcome == AuditOutcome::Pass).count();
    let mode = ledger.as_ref().ok().map(|it| it.status.params.audits.mode);
    Some(html! {
        p.more {
            a href="/audits" { "Audits" } ": "
            (passed) " of the last " (show::counted(closed.len(), "round", "rounds")) " passed, the latest one "
            (show::time(last.closed_at)) ": " (outcome(last.outcome))
            @if mode == Some(AuditMode::Shadow) { " In the shadow: nobody loses anything." }
        }
    })
}
