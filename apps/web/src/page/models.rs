//! The models on offer, and how to call each.

use gateway::{ModelView, ProviderView};
use maud::{Markup, html};
use types::{
    Nusd,
    ability::{Abilities, EmbeddingAbility, ToolAbility},
    price::Price,
};

use super::{audits::link_of, document, empty, number, panel, table, text};
use crate::{page::Tab, show, source::Site};

/// Providers of a model that are named; a model may have hundreds.
const PROVIDERS_SHOWN: usize = 12;

/// `GET /models`
pub(crate) fn page(site: &Site, models: &[ModelView], providers: &[ProviderView]) -> Markup {
    let body = html! {
        @if models.is_empty() {
            (none())
        } @else {
            p.lead {
                "Point any OpenAI client at " code { (site.base_url) }
                " with the API key that the gateway printed when it started. A name is what providers "
                "call a model; the id is the model itself and works in its place."
            }
            div.stack {
                @for model in models { (card(site, model, providers)) }
            }
        }
    };
    document(site, Some(Tab::Models), "Models", &panel("models", "Models", &body))
}

fn card(site: &Site, model: &ModelView, all: &[ProviderView]) -> Markup {
    let id = model.model.to_string();
    html! {
        article.model {
            header {
                h3 { (show::foreign(&model.alias)) }
                p.muted {
                    (providers(model.providers))
                    @if model.resold { ", sold on from another service" }
                }
            }
            p.muted title="Model id" { code.value { (id) } }
            (super::facts(&[
                ("Prompt", per_million(model.price_min.prompt_nusd_per_mtok)),
                ("Completion", per_million(model.price_min.completion_nusd_per_mtok)),
                ("Per request", show::usd(model.price_min.request_nusd)),
                ("Context", html! { (show::count(model.context_tokens_max)) " tokens" }),
                ("Also", html! { (also(&model.abilities)) }),
                ("Audits of", offered_by(model, all)),
            ]))
            figure.command {
                figcaption { "In a terminal" button.quiet type="button" data-copy hidden { "Copy" } }
                pre tabindex="0" { code { (curl(&site.base_url, model, &id)) } }
            }
        }
    }
}

/// Who offers it, each with what its audits found.
fn offered_by(model: &ModelView, all: &[ProviderView]) -> Markup {
    let offers = |it: &&ProviderView| it.models.iter().any(|offer| offer.model == model.model);
    let mut rest = all.iter().filter(offers);
    let shown: Vec<&ProviderView> = rest.by_ref().take(PROVIDERS_SHOWN).collect();
    let more = rest.count();
    html! {
        @if shown.is_empty() { "–" }
        @for (index, provider) in shown.iter().enumerate() {
            @if index > 0 { ", " }
            a href=(link_of(provider.operator)) title=(provider.operator) { (show::foreign(&provider.moniker)) }
        }
        @if more > 0 { " and " (show::counted(more, "other", "others")) }
    }
}

/// What it does besides answering.
fn also(abilities: &Abilities) -> String {
    let Abilities { completions, embeddings, logprobs, json, tools, samplers: _ } = *abilities;
    if !completions {
        return "embeddings and nothing else".to_owned();
    }
    let has = [
        (embeddings != EmbeddingAbility::None, "embeddings"),
        (tools != ToolAbility::None, "tools"),
        (json, "JSON"),
        (logprobs, "log-probabilities"),
    ];
    let has: Vec<&str> = has.iter().filter(|(can, _)| *can).map(|(_, what)| *what).collect();
    if has.is_empty() { "–".to_owned() } else { has.join(", ") }
}

fn providers(count: u32) -> String {
    show::counted(usize::try_from(count).unwrap_or(usize::MAX), "provider", "providers")
}

/// The table of the overview.
pub(crate) fn short_table(models: &[ModelView]) -> Markup {
    if models.is_empty() {
        return none();
    }
    let columns = [text("Model"), number("Context"), number("$ / M tokens")];
    let rows: Vec<Vec<Markup>> = models
        .iter()
        .map(|model| {
            vec![
                html! {
                    a href="/models" title=(providers(model.providers)) {
                        (show::foreign(&model.alias))
                    }
                },
                html! { (show::count(model.context_tokens_max)) },
                price(&model.price_min),
            ]
        })
        .collect();
    table("slim", "Models on offer", &columns, &rows)
}

fn price(price: &Price) -> Markup {
    html! {
        span title="per million tokens of the prompt, of the answer" {
            (show::usd(price.prompt_nusd_per_mtok)) " → " (show::usd(price.completion_nusd_per_mtok))
        }
    }
}

fn per_million(price: Nusd) -> Markup {
    html! { (show::usd(price)) span.unit { " / M tokens" } }
}

fn none() -> Markup {
    empty(&html! {
        p { "No model is offered: no provider is connected and ready to be paid." }
        p {
            "Start one on any machine with " code { "peerwatt provide" }
            ". It finds Ollama and llama.cpp by itself and brings a small model of its own."
        }
    })
}

/// A command to paste into a shell. Aliases come from providers: one that is not made of plain
/// characters only is replaced by the model's id, so that nothing in it can end the quotes.
fn curl(base_url: &str, model: &ModelView, id: &str) -> String {
    let alias = model.alias.as_str();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:/+@".contains(c);
    let name = if !alias.is_empty() && alias.chars().all(plain) { alias } else { id };
    let (path, rest) = match model.abilities.completions {
        true => (
            "chat/completions",
            r#""stream": true,
       "messages": [{"role": "user", "content": "Hello!"}]"#,
        ),
        false => ("embeddings", r#""input": "Hello!""#),
    };
    format!(
        "curl {base_url}/{path} \\\n  \
         -H \"Authorization: Bearer $PEERWATT_API_KEY\" \\\n  \
         -H \"Content-Type: application/json\" \\\n  \
         -d '{{\"model\": \"{name}\", {rest}}}'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_a_strange_alias_by_its_id() {
        let free = Price {
            request_nusd: Nusd::ZERO,
            prompt_nusd_per_mtok: Nusd::ZERO,
            completion_nusd_per_mtok: Nusd::ZERO,
        };
        let model = ModelView {
            alias: String::new(),
            model: types::ModelId([1; 32]),
            providers: 1,
            price_min: free,
            context_tokens_max: 1,
            abilities: Abilities::default(),
            resold: false,
        };
        let named = |alias: &str| {
            let model = ModelView { alias: alias.to_owned(), ..model.clone() };
            let command = curl("http://127.0.0.1:1/v1", &model, "1d");
            let line = command.lines().find(|line| line.contains("model")).unwrap().to_owned();
            line.split('"').nth(3).unwrap().to_owned()
        };
        assert_eq!(named("llama3.1:8b-instruct-q4_K_M"), "llama3.1:8b-instruct-q4_K_M");
        for strange in ["", "a'; rm -rf ~; '", "a b", "$(id)", "a\nb", "a\"b", "\u{202e}a", "a\\"] {
            assert_eq!(named(strange), "1d", "{strange:?}");
        }
    }
}
