//! One round: what was committed to, who said what, what follows, and the picture that an auditor of this data
//! folder drew of it.

use maud::{Markup, html};
use types::{
    Ppm,
    audit::{Beacon, ClosedRound, CommitmentId, KeptEvidence, ReceiptsCommitment},
};
use wire::chain::{CommitmentView, ProviderAuditsView, RoundView};

use super::{Names, how_far, outcome_of, provider::evidence_table, said, sanction, verdict};
use crate::{
    page::{Tab, document, facts, panel},
    show,
    source::Site,
};

/// How far a round is.
enum Stage<'a> {
    Waiting(&'a CommitmentView),
    Open(&'a RoundView),
    Closed(&'a ClosedRound),
    /// The ledger keeps no more of it than evidence.
    Kept,
}

/// A round that is known.
pub(crate) struct RoundPage<'a> {
    id: CommitmentId,
    stage: Stage<'a>,
    /// What verifiers found in it.
    evidence: Vec<&'a KeptEvidence>,
}

impl RoundPage<'_> {
    /// `None` if nothing is known of that round.
    pub(crate) fn of(view: &ProviderAuditsView, id: CommitmentId) -> Option<RoundPage<'_>> {
        let evidence = view.models.iter().flat_map(|model| &model.evidence);
        let evidence: Vec<&KeptEvidence> = evidence.filter(|it| it.commitment == id).collect();
        let closed = view.closed.iter().find(|it| it.commitment == id).map(Stage::Closed);
        let open = || view.open.iter().find(|it| it.commitment == id).map(Stage::Open);
        let waiting = || view.waiting.iter().find(|it| it.commitment == id).map(Stage::Waiting);
        let kept = || (!evidence.is_empty()).then_some(Stage::Kept);
        let stage = closed.or_else(open).or_else(waiting).or_else(kept)?;
        Some(RoundPage { id, stage, evidence })
    }

    /// Before that, what one verifier found is nobody else's: another one could copy its verdict.
    pub(crate) fn is_over(&self) -> bool {
        match self.stage {
            Stage::Waiting(_) | Stage::Open(_) => false,
            Stage::Closed(_) | Stage::Kept => true,
        }
    }
}

/// `GET /audits/{provider}/{sequence}`
pub(crate) fn page(site: &Site, view: &RoundPage<'_>, names: &Names, has_picture: bool) -> Markup {
    let id = view.id;
    let main = html! {
        p.back {
            a href=(super::link_of(id.provider)) { "← Audits of " (names.provider_text(id.provider)) }
        }
        div.columns.even {
            div.column { (panel("round", &format!("Round {id}"), &stage(view, names))) }
            div.column { (panel("again", "Look at it again", &again(id))) }
        }
        @if has_picture { (panel("picture", "As this auditor saw it", &picture(id))) }
        @if let Some(first) = view.evidence.first() {
            (panel(
                "evidence",
                "Evidence kept of it",
                &evidence_table(&view.evidence, first.evidence.model, names),
            ))
        }
    };
    document(site, Some(Tab::Audits), "A round of audits", &main)
}

fn again(id: CommitmentId) -> Markup {
    html! {
        p { "What the auditor of a data folder found in it, where that auditor runs:" }
        (super::command(&format!("peerwatt audit show {id}")))
        p { "Any answer of it, by whoever holds the API key of its request:" }
        (super::command("peerwatt audit check REQUEST_ID"))
    }
}

fn picture(id: CommitmentId) -> Markup {
    html! {
        figure.drawn {
            img src={ "/audits/" (id) "/picture.svg" } width="640" height="320"
                alt="Evidence in nats after each token of the answers, by log-probabilities and by draws, with the thresholds as lines";
            figcaption { p { "Evidence after each token, as the auditor of this data folder drew it when it judged." } }
        }
    }
}

fn stage(view: &RoundPage<'_>, names: &Names) -> Markup {
    let provider = ("Provider", names.provider(view.id.provider));
    match &view.stage {
        Stage::Waiting(it) => html! {
            p.notice { "It waits for a beacon: the first one of a period after " (show::count(it.period)) " opens it." }
            (facts(&[
                provider,
                ("Model", names.model(it.receipts.model)),
                ("Receipts committed to", committed(&it.receipts)),
                ("Made", html! { (show::time(it.made_at)) ", block " (show::count(it.height.0)) }),
            ]))
        },
        Stage::Open(it) => html! {
            p.notice.waiting { "It is open: verifiers judge." }
            (facts(&[
                provider,
                ("Model", names.model(it.receipts.model)),
                ("Receipts committed to", committed(&it.receipts)),
                ("Share chosen", chosen(it.share)),
                ("Beacon", beacon(&it.beacon)),
                ("Opened", show::time(it.opened_at)),
                ("Commit by", show::due(it.commit_by)),
                ("Reveal by", show::due(it.reveal_by)),
                ("Verifiers", said(it.verifiers.iter().map(|it| (it.verifier, how_far(it))), names)),
            ]))
        },
        Stage::Closed(it) => closed(provider, it, names),
        Stage::Kept => html! {
            p.notice { "It was closed so long ago that the ledger keeps the evidence alone." }
            (facts(&[provider]))
        },
    }
}

fn closed(provider: (&'static str, Markup), it: &ClosedRound, names: &Names) -> Markup {
    let verdicts = it.verdicts.iter().map(|(verifier, said)| (*verifier, verdict(*said)));
    html! {
        (facts(&[
            ("Outcome", outcome_of(it)),
            ("Verifiers said", said(verdicts, names)),
            ("Would be", sanction(it.would_be)),
            ("Done", sanction(it.sanction)),
            ("Closed", show::time(it.closed_at)),
            provider,
            ("Model", names.model(it.receipts.model)),
            ("Receipts committed to", committed(&it.receipts)),
            ("Share chosen", chosen(it.share)),
            ("Beacon", beacon(&it.beacon)),
        ]))
    }
}

fn committed(receipts: &ReceiptsCommitment) -> Markup {
    html! { (show::count(receipts.count)) ", root " (show::id(&receipts.root.to_string())) }
}

fn chosen(share: Ppm) -> Markup {
    html! { (show::percent(share)) }
}

fn beacon(beacon: &Beacon) -> Markup {
    html! {
        (show::id(&beacon.value.to_string())) ", made by "
        (show::counted(beacon.reveals as usize, "validator", "validators"))
        @if beacon.is_weak() { " " span.tag title="a round under it has no consequences" { "weak" } }
    }
}
