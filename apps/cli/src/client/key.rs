//! `peerwatt key`: API keys of a gateway, for whoever runs it.

use anyhow::{Context, bail};
use gateway::{KeyLimits, KeyView};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::{Nusd, TimeMs};

use super::api::Api;
use crate::{
    args::{Common, KeyArgs, KeyCommand, LimitArgs},
    home::Home,
    output::{Output, utc},
};

#[derive(Serialize, Deserialize)]
struct Made {
    api_key: String,
    key: KeyView,
}

#[derive(Deserialize)]
struct KeyList {
    data: Vec<KeyView>,
}

pub(crate) async fn run(common: Common, args: KeyArgs, output: Output) -> anyhow::Result<()> {
    let home = Home::open(&common)?;
    match args.command {
        KeyCommand::New { name, import, limits, gateway } => {
            if !limits.says_a_budget() {
                bail!(
                    "say what the key may spend: --budget, --daily or --monthly in USD, or --budget none"
                );
            }
            let mut body = json!({ "name": name, "limits": limits.named() });
            if let Some(key) = import {
                body["api_key"] = key.into();
            }
            let api = Api::operator(&home, &gateway)?;
            let made: Made = api
                .ask(Method::POST, "keys", Some(&body))
                .await?
                .json()
                .await
                .context("reading the new key")?;
            let text = format!(
                "{}\n\nkept nowhere in this form: copy it now. {}",
                made.api_key,
                describe(&made.key.limits)
            );
            output.result(&made, text)
        }
        KeyCommand::List(gateway) => {
            let api = Api::operator(&home, &gateway)?;
            let list: KeyList = api.get("keys").await?.json().await.context("reading the keys")?;
            for key in list.data {
                output.result(&key, line(&key))?;
            }
            Ok(())
        }
        KeyCommand::Limit { name, limits, gateway } => {
            let api = Api::operator(&home, &gateway)?;
            let key = limit(&api, &name, limits).await?;
            output.result(&key, line(&key))
        }
        KeyCommand::Revoke { name, gateway } => {
            let api = Api::operator(&home, &gateway)?;
            let key: KeyView = api
                .ask(Method::DELETE, &format!("keys/{}", segment(&name)), None)
                .await?
                .json()
                .await
                .context("reading the revoked key")?;
            output.result(&key, format_args!("`{name}` is revoked"))
        }
    }
}

async fn limit(api: &Api, name: &str, limits: LimitArgs) -> anyhow::Result<KeyView> {
    let limits = limits.named();
    if limits.is_empty() {
        bail!("name a limit to change; `peerwatt key limit --help` lists them");
    }
    let body = json!({ "limits": limits });
    let reply = api.ask(Method::PATCH, &format!("keys/{}", segment(name)), Some(&body)).await?;
    reply.json().await.context("reading the key")
}

/// A name as a segment of a path.
fn segment(name: &str) -> impl std::fmt::Display {
    utf8_percent_encode(name, NON_ALPHANUMERIC)
}

fn line(key: &KeyView) -> String {
    let state = match key.revoked_at {
        Some(at) => format!("revoked {}", utc(at)),
        None => describe(&key.limits),
    };
    format!(
        "{:<20} {}…  used {} USD, {} today, {} this month; {state}",
        key.name,
        key.prefix,
        key.used.to_decimal(),
        key.used_day.to_decimal(),
        key.used_month.to_decimal(),
    )
}

/// The limits in words.
fn describe(limits: &KeyLimits) -> String {
    let KeyLimits {
        budget,
        budget_day,
        budget_month,
        requests_per_minute,
        tokens_per_minute,
        requests_at_once,
        expires_at,
        models,
    } = limits;
    let usd = |of: &Option<Nusd>, when: &str| {
        of.map(|usd| format!("up to {} USD{when}", usd.to_decimal()))
    };
    let count = |of: &Option<u32>, what: &str| of.map(|count| format!("{count} {what}"));
    let parts = [
        usd(budget, ""),
        usd(budget_day, " a day"),
        usd(budget_month, " a month"),
        count(requests_per_minute, "requests a minute"),
        count(tokens_per_minute, "tokens a minute"),
        count(requests_at_once, "at once"),
        expires_at.map(|at: TimeMs| format!("until {}", utc(at))),
        (!models.is_empty()).then(|| format!("only {}", models.join(", "))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "without limits".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_and_limits_said_in_words() {
        assert_eq!(segment("a b/c-é").to_string(), "a%20b%2Fc%2D%C3%A9");
        let limits = KeyLimits {
            budget_day: Some(Nusd::whole(2)),
            requests_at_once: Some(3),
            models: vec!["ember".into(), "other".into()],
            ..KeyLimits::default()
        };
        assert_eq!(describe(&limits), "up to 2 USD a day, 3 at once, only ember, other");
        assert_eq!(describe(&KeyLimits::default()), "without limits");
    }
}
