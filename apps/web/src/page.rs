//! The frame around every page, and the parts that several pages use.

pub(crate) mod action;
pub(crate) mod audits;
pub(crate) mod chat;
pub(crate) mod ledger;
pub(crate) mod models;
pub(crate) mod overview;
pub(crate) mod receipt;
pub(crate) mod requests;

use maud::{DOCTYPE, Markup, html};

use crate::{
    assets,
    source::{Site, SourceError},
};

/// A page of the navigation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tab {
    Overview,
    Chat,
    Models,
    Requests,
    Audits,
    Ledger,
}

const TABS: [(Tab, &str, &str); 6] = [
    (Tab::Overview, "/", "Overview"),
    (Tab::Chat, "/chat", "Chat"),
    (Tab::Models, "/models", "Models"),
    (Tab::Requests, "/requests", "Requests"),
    (Tab::Audits, "/audits", "Audits"),
    (Tab::Ledger, "/ledger", "Ledger"),
];

/// A whole document around `main`.
pub(crate) fn document(site: &Site, tab: Option<Tab>, title: &str, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Peerwatt" }
                link rel="icon" type="image/svg+xml" href=(assets::LOGO.url());
                link rel="stylesheet" href=(assets::STYLE.url());
                script type="module" src=(assets::SCRIPT.url()) {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (header(site, tab))
                main #main tabindex="-1" {
                    h1.hidden { (title) }
                    p #stale .notice.problem role="status" hidden {
                        "The gateway does not answer; this is what it showed last."
                    }
                    (main)
                }
                footer {
                    p {
                        "Peerwatt " (site.version) " · API at " code { (site.base_url) }
                    }
                    p { "Times are when the gateway saw them. Hover an amount for its exact value." }
                }
            }
        }
    }
}

fn header(site: &Site, tab: Option<Tab>) -> Markup {
    html! {
        header.top {
            a.brand href="/" aria-label="Peerwatt, overview" {
                img src=(assets::LOGO.url()) alt="" width="28" height="28";
                span { "Peerwatt" }
            }
            nav aria-label="Pages" {
                @for (of, href, label) in TABS {
                    a href=(href) aria-current=[(tab == Some(of)).then_some("page")] { (label) }
                }
            }
            code.base.wide-only title="Base URL for OpenAI clients" { (site.base_url) }
        }
    }
}

/// A titled part of a page. A live one is replaced when the page refreshes itself.
pub(crate) fn panel(id: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section.panel id=(id) data-live aria-labelledby={ (id) "-title" } {
            h2 id={ (id) "-title" } { (title) }
            (body)
        }
    }
}

/// There is nothing yet, and what to do about it.
pub(crate) fn empty(body: &Markup) -> Markup {
    html! { div.empty { (body) } }
}

/// Something could not be shown; in its place, why.
pub(crate) fn problem(error: &SourceError) -> Markup {
    html! { p.notice.problem role="status" { (error.chain_text()) } }
}

/// A column of a table.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    label: &'static str,
    numeric: bool,
}

pub(crate) const fn text(label: &'static str) -> Column {
    Column { label, numeric: false }
}

pub(crate) const fn number(label: &'static str) -> Column {
    Column { label, numeric: true }
}

/// A table that becomes a stack of cards where it does not fit. The roles are spelled out because
/// browsers drop them from a table that is laid out as cards.
pub(crate) fn table(
    class: &str,
    caption: &str,
    columns: &[Column],
    rows: &[Vec<Markup>],
) -> Markup {
    html! {
        table class=(class) role="table" {
            caption.hidden { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for column in columns {
                        th scope="col" role="columnheader" .number[column.numeric] { (column.label) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (column, cell) in columns.iter().zip(row) {
                            td role="cell" data-label=(column.label) .number[column.numeric] {
                                span.cell { (cell) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Names and values side by side.
pub(crate) fn facts(rows: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in rows {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}

/// A page that holds one message.
pub(crate) fn message(site: &Site, title: &str, text: &str) -> Markup {
    let main = html! {
        section.panel.message {
            h2 { (title) }
            p { (text) }
            p { a href="/" { "To the overview" } }
        }
    };
    document(site, None, title, &main)
}
