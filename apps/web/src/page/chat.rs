//! The chat box. It works with the script only; what it costs is paid by the gateway's playground
//! budget, so the page needs no key.

use gateway::{KeyView, ModelView};
use maud::{Markup, html};

use super::{document, empty};
use crate::{page::Tab, show, source::Site};

/// Whether the box can be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    /// The gateway is reached from elsewhere than its own machine.
    NotHere,
}

/// What the chat box needs to know.
pub(crate) struct ChatView {
    pub(crate) access: Access,
    pub(crate) models: Vec<ModelView>,
    pub(crate) playground: Option<KeyView>,
}

/// `GET /chat`
pub(crate) fn page(site: &Site, view: &ChatView) -> Markup {
    let main = html! { div.chat-page { (section(view)) } };
    document(site, Some(Tab::Chat), "Chat", &main)
}

pub(crate) fn section(view: &ChatView) -> Markup {
    html! {
        section.panel #chat aria-labelledby="chat-title" {
            div.panel-head {
                h2 #chat-title { "Chat" }
                @if view.access == Access::Open {
                    p.budget #chat-budget data-live { (budget(view.playground.as_ref())) }
                }
            }
            @match view.access {
                Access::Open => (self::form(&view.models)),
                Access::NotHere => (not_here()),
            }
        }
    }
}

fn budget(playground: Option<&KeyView>) -> Markup {
    html! {
        @match playground {
            Some(key) => {
                (show::usd(key.used))
                @if let Some(budget) = key.limits.budget { " of " (show::usd(budget)) }
                " used"
            }
            None => "no budget for this box",
        }
    }
}

fn not_here() -> Markup {
    empty(&html! {
        p { "The chat box spends the gateway's own credits, so it works only in a browser on the gateway's machine." }
        p { "From here, use the API with a key: see " a href="/models" { "Models" } "." }
    })
}

fn form(models: &[ModelView]) -> Markup {
    html! {
        noscript { p.notice { "The chat box needs JavaScript. Everything else on these pages works without." } }
        div #chat-log .log role="log" aria-live="polite" aria-label="Conversation" tabindex="0" {
            div.empty data-hint {
                @if !models.iter().any(|model| model.abilities.completions) {
                    p { "No model is offered at the moment. As soon as a provider connects, you can write here." }
                } @else {
                    p { "Ask something. The answer streams in, with what it cost." }
                }
            }
        }
        form #chat-form hidden {
            div.row {
                label for="chat-model" { "Model" }
                select #chat-model name="model" {
                    @for model in models.iter().filter(|model| model.abilities.completions) {
                        option value=(model.alias) { (model.alias) }
                    }
                }
                button.quiet #chat-new type="button" { "New chat" }
            }
            div.row.say {
                label.hidden for="chat-text" { "Message" }
                textarea #chat-text name="text" rows="2" maxlength="16000" required
                    placeholder="Write a message; Enter sends" enterkeyhint="send" {}
                button.primary #chat-send type="submit" { "Send" }
                button.quiet #chat-stop type="button" hidden { "Stop" }
            }
        }
    }
}
