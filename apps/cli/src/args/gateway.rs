//! Arguments of the commands for those who run a gateway: its keys and what they used.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};
use types::Nusd;
use wire::otlp::{Collector, CollectorClient};

use super::{GatewayClientArgs, amount::parse_usd};
use crate::output::Output;

/// Who is told of requests.
#[derive(Args)]
pub(crate) struct OtlpArgs {
    /// Send traces of requests, without what was asked or answered, to this OpenTelemetry collector, such as
    /// http://127.0.0.1:4318 [default: nowhere]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp: Option<String>,
    /// Headers that the collector wants, as NAME=VALUE,…
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        hide_env_values = true,
        value_name = "HEADERS"
    )]
    otlp_headers: Option<String>,
}

impl OtlpArgs {
    /// A client for the collector, if there is one.
    pub(crate) fn collector(&self, output: Output) -> anyhow::Result<Option<CollectorClient>> {
        // A variable that is empty is as good as none.
        let Some(url) = self.otlp.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let collector = Collector::new(url, self.otlp_headers.as_deref()).context("--otlp")?;
        output.progress(format_args!("traces of requests go to {}", collector.host()));
        Ok(Some(collector.client()?))
    }
}

#[derive(Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) command: KeyCommand,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key and print it, once: the gateway keeps only its digest
    New {
        /// A name that tells it from the others
        name: String,
        /// Take over this key instead of making one: pw- and 17 to 125 letters, digits, - or _
        #[arg(long, value_name = "KEY")]
        import: Option<String>,
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        gateway: OperatorArgs,
    },
    /// List the keys with their limits and what they used
    List(OperatorArgs),
    /// Change limits of a key; what is not named stays
    Limit {
        /// The key's name
        name: String,
        #[command(flatten)]
        limits: LimitArgs,
        #[command(flatten)]
        gateway: OperatorArgs,
    },
    /// End a key; requests in work end as they would have
    Revoke {
        /// The key's name
        name: String,
        #[command(flatten)]
        gateway: OperatorArgs,
    },
}

/// A gateway as whoever runs it asks it.
#[derive(Args, Clone)]
pub(crate) struct OperatorArgs {
    /// Base URL of the gateway [default: the one that runs from this data folder]
    #[arg(long, env = "PEERWATT_BASE_URL", value_name = "URL")]
    pub(crate) base_url: Option<String>,
    /// Key of the gateway's operator [default: `admin-key` in the data folder]
    #[arg(long, env = "PEERWATT_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) admin_key: Option<String>,
}

/// What a key may use. Each takes a value, or `none` for no such limit.
#[derive(Args, Clone)]
pub(crate) struct LimitArgs {
    /// What it may spend in all, in USD
    #[arg(long, value_name = "USD", value_parser = usd)]
    budget: Option<Setting>,
    /// What it may spend a day, from midnight UTC, in USD
    #[arg(long, value_name = "USD", value_parser = usd)]
    daily: Option<Setting>,
    /// What it may spend in a calendar month, UTC, in USD
    #[arg(long, value_name = "USD", value_parser = usd)]
    monthly: Option<Setting>,
    /// Requests a minute
    #[arg(long, value_name = "COUNT", value_parser = count)]
    rpm: Option<Setting>,
    /// Tokens a minute, of prompts and answers together
    #[arg(long, value_name = "COUNT", value_parser = count)]
    tpm: Option<Setting>,
    /// Requests in work at once
    #[arg(long, value_name = "COUNT", value_parser = count)]
    at_once: Option<Setting>,
    /// When it stops to work: after a time, such as 30d, or at a date, such as 2027-01-31
    #[arg(long, value_name = "WHEN", value_parser = moment_setting)]
    expires: Option<Setting>,
    /// A model it may use, by name or id; may be repeated. `none`: it may use all
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
}

/// A limit's new value; `null` for none.
#[derive(Clone, Debug, PartialEq)]
struct Setting(Value);

impl LimitArgs {
    /// Whether some budget is said, be it that there is none.
    pub(crate) fn says_a_budget(&self) -> bool {
        [&self.budget, &self.daily, &self.monthly].iter().any(|budget| budget.is_some())
    }

    /// The limits that are named, as the gateway's API takes them.
    pub(crate) fn named(self) -> Map<String, Value> {
        let LimitArgs { budget, daily, monthly, rpm, tpm, at_once, expires, model } = self;
        let models = match model.as_slice() {
            [] => None,
            [none] if none == NONE => Some(Setting(Value::Null)),
            _ => Some(Setting(json!(model))),
        };
        [
            ("budget", budget),
            ("budget_day", daily),
            ("budget_month", monthly),
            ("requests_per_minute", rpm),
            ("tokens_per_minute", tpm),
            ("requests_at_once", at_once),
            ("expires_at", expires),
            ("models", models),
        ]
        .into_iter()
        .filter_map(|(name, setting)| Some((name.to_owned(), setting?.0)))
        .collect()
    }
}

/// Takes a limit away.
const NONE: &str = "none";

fn setting(
    text: &str,
    parse: impl FnOnce(&str) -> Result<Value, String>,
) -> Result<Setting, String> {
    let value = if text == NONE { Ok(Value::Null) } else { parse(text) };
    value.map(Setting).map_err(|why| format!("{why}; or `{NONE}`"))
}

fn usd(text: &str) -> Result<Setting, String> {
    setting(text, |text| parse_usd(text).map(|usd: Nusd| json!(usd)))
}

fn count(text: &str) -> Result<Setting, String> {
    setting(text, |text| match text.parse::<u32>() {
        Ok(count) if count > 0 => Ok(json!(count)),
        _ => Err("a whole number of 1 or more".to_owned()),
    })
}

fn moment_setting(text: &str) -> Result<Setting, String> {
    let later = |text: &str| after_or_at(text, SystemTime::now(), SystemTime::checked_add);
    setting(text, |text| later(text).map(|ms| json!(ms)))
}

/// A moment in the past: so long ago, or a date. Milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    after_or_at(text, SystemTime::now(), SystemTime::checked_sub)
}

/// A time apart from now, or a date. Milliseconds since 1970.
fn after_or_at(
    text: &str,
    now: SystemTime,
    apart: fn(&SystemTime, Duration) -> Option<SystemTime>,
) -> Result<u64, String> {
    // A date without a time is its first moment.
    let is_date = text.len() == "2027-01-31".len() && !text.contains(':');
    let date = if is_date { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let moment = match humantime::parse_rfc3339_weak(&date) {
        Ok(moment) => Some(moment),
        Err(_) => humantime::parse_duration(text).ok().and_then(|time| apart(&now, time)),
    };
    let since = moment.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    let ms = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    ms.ok_or_else(|| {
        "a time such as 30d or 12h, or a moment in UTC such as 2027-01-31 or 2027-01-31T12:00:00"
            .to_owned()
    })
}

#[derive(Args)]
pub(crate) struct UsageArgs {
    /// Requests that ended at this moment or later: so long ago, such as 30d, or a date in UTC
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) from: Option<u64>,
    /// Requests that ended before this moment
    #[arg(long, value_name = "WHEN", value_parser = moment)]
    pub(crate) to: Option<u64>,
    /// Only requests of the key of this name; for whoever runs the gateway
    #[arg(long, value_name = "NAME")]
    pub(crate) key: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: UsageFormat,
    /// Key of the gateway's operator, to see the requests of all keys [default: `admin-key` in the data
    /// folder, unless --api-key is given]
    #[arg(long, env = "PEERWATT_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) admin_key: Option<String>,
    #[command(flatten)]
    pub(crate) gateway: GatewayClientArgs,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum UsageFormat {
    /// Comma-separated values with a line of names
    #[default]
    Csv,
    /// One document
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_taken_away_or_left() {
        assert_eq!(usd("0.5"), Ok(Setting(json!("500000000"))));
        assert_eq!(usd("none"), Ok(Setting(Value::Null)));
        assert!(usd("much").is_err_and(|why| why.ends_with("; or `none`")));
        assert_eq!(count("3"), Ok(Setting(json!(3))));
        assert!(count("0").is_err() && count("-1").is_err());
    }

    #[test]
    fn moments_are_dates_or_times_from_now() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let later = |text: &str| after_or_at(text, now, SystemTime::checked_add).ok();
        assert_eq!(later("2h"), Some(1_800_007_200_000));
        assert_eq!(later("2027-01-31"), Some(1_801_353_600_000));
        assert_eq!(later("2027-01-31T00:00:01Z"), Some(1_801_353_601_000));
        assert_eq!(later("soon"), None);
        let earlier = after_or_at("100000d", now, SystemTime::checked_sub);
        assert!(earlier.is_err(), "before 1970");
    }
}
