//! The file that names a gateway's upstreams: services outside the network, their keys, models and prices.

use std::{fmt, path::Path, sync::Arc};

use anyhow::{Context, bail};
use engine::{ApiKey, EngineError, OpenAiEngine, OpenAiOptions};
use gateway::{ConnectUpstream, ConnectedUpstream, UpstreamConfig, UpstreamModel, UpstreamRole};
use serde::Deserialize;
use types::{Nusd, price::Price};

use crate::home::read_text;

/// A file is a few lines for each model.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamsFile {
    upstream: Vec<Upstream>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    name: String,
    url: String,
    key_env: Option<String>,
    key_file: Option<String>,
    #[serde(default)]
    when: When,
    #[serde(default = "some_slots")]
    slots: u32,
    models: Vec<Model>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum When {
    #[default]
    LastResort,
    Policy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    serves: String,
    /// As the service calls it; the same if it is not said.
    model: Option<String>,
    #[serde(default)]
    request_usd: Usd,
    prompt_usd_per_million: Usd,
    completion_usd_per_million: Usd,
    #[serde(default = "some_context")]
    context_tokens: u32,
}

fn some_slots() -> u32 {
    64
}

fn some_context() -> u32 {
    32_768
}

/// An amount as people write it: a number, or one in quotes.
#[derive(Clone, Copy, Default)]
struct Usd(Nusd);

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Usd;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in USD such as 0.15")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Usd, E> {
                let unexpected = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                Nusd::from_decimal(text).map(Usd).ok_or_else(unexpected)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Usd, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Usd, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// The upstreams that a file names; none without one.
pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<Vec<UpstreamConfig>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = read_text(path, FILE_BYTES_MAX)?;
    let file: UpstreamsFile =
        toml::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let upstreams = file.upstream.into_iter().map(|upstream| {
        let name = upstream.name.clone();
        configure(upstream).with_context(|| format!("the upstream `{name}` of {}", path.display()))
    });
    upstreams.collect()
}

fn configure(upstream: Upstream) -> anyhow::Result<UpstreamConfig> {
    let Upstream { name, url, key_env, key_file, when, slots, models } = upstream;
    let api_key = key(key_env.as_deref(), key_file.as_deref())?.map(ApiKey::new);
    let names: Vec<String> =
        models.iter().map(|it| it.model.clone().unwrap_or_else(|| it.serves.clone())).collect();
    let options = OpenAiOptions {
        base_url: url,
        api_key,
        slots,
        models: names,
        resold: true,
        ..OpenAiOptions::at("")
    };
    let contexts: Vec<u32> = models.iter().map(|model| model.context_tokens).collect();
    let served = models.into_iter().map(|model| UpstreamModel {
        serves: model.serves,
        price: Price {
            request_nusd: model.request_usd.0,
            prompt_nusd_per_mtok: model.prompt_usd_per_million.0,
            completion_nusd_per_mtok: model.completion_usd_per_million.0,
        },
    });
    Ok(UpstreamConfig {
        name,
        role: match when {
            When::LastResort => UpstreamRole::LastResort,
            When::Policy => UpstreamRole::Policy,
        },
        slots,
        models: served.collect(),
        connect: connect(options, contexts),
    })
}

#[expect(clippy::disallowed_methods, reason = "this is apps/cli, and the file names the variable")]
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("reading the variable {name}"))
}

fn key(env: Option<&str>, file: Option<&str>) -> anyhow::Result<Option<String>> {
    let text = match (env, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => bail!("give key_env or key_file, not both"),
        (Some(name), None) => variable(name)?,
        (None, Some(path)) => read_text(Path::new(path), FILE_BYTES_MAX)?,
    };
    let text = text.trim();
    if text.is_empty() {
        bail!("its key is empty");
    }
    Ok(Some(text.to_owned()))
}

/// Asks the service what it is. `contexts`: of each model, where the service does not tell a smaller one.
fn connect(options: OpenAiOptions, contexts: Vec<u32>) -> ConnectUpstream {
    Arc::new(move || {
        let (mut options, contexts) = (options.clone(), contexts.clone());
        options.context_tokens = contexts.iter().copied().max().unwrap_or(1);
        Box::pin(async move {
            let names = options.models.clone();
            let url = options.base_url.clone();
            let engine = OpenAiEngine::connect(options).await?;
            let mut models = Vec::new();
            for (name, context) in names.into_iter().zip(contexts) {
                let model = engine.model_named(&name);
                let url = url.clone();
                let mut model = model.ok_or(EngineError::Unlisted { url, name })?;
                model.context_tokens = model.context_tokens.min(context);
                models.push(model);
            }
            Ok(ConnectedUpstream { engine: Arc::new(engine), models })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(text: &str) -> anyhow::Result<Vec<UpstreamConfig>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("upstreams.toml");
        std::fs::write(&path, text)?;
        read(Some(&path))
    }

    #[test]
    fn a_file_is_read() -> anyhow::Result<()> {
        let upstreams = read_from(
            r#"
            [[upstream]]
            name = "cloud"
            url = "https://api.example.org/v1"
            [[upstream.models]]
            serves = "a"
            prompt_usd_per_million = 0.15
            completion_usd_per_million = 1
            [[upstream.models]]
            serves = "b"
            model = "bb"
            request_usd = "0.001"
            prompt_usd_per_million = "0"
            completion_usd_per_million = 0.6
            context_tokens = 8192
            [[upstream]]
            name = "other"
            url = "http://127.0.0.1:9/v1"
            when = "policy"
            slots = 3
            models = [{ serves = "a", prompt_usd_per_million = 0, completion_usd_per_million = 0 }]
            "#,
        )?;
        let [cloud, other] = &upstreams[..] else { bail!("two are expected") };
        assert_eq!((cloud.role, cloud.slots), (UpstreamRole::LastResort, 64));
        assert_eq!((other.role, other.slots), (UpstreamRole::Policy, 3));
        let prices: Vec<_> = cloud.models.iter().map(|it| (&*it.serves, it.price)).collect();
        let price = |request, prompt, completion| Price {
            request_nusd: Nusd(request),
            prompt_nusd_per_mtok: Nusd(prompt),
            completion_nusd_per_mtok: Nusd(completion),
        };
        let a = price(0, 150_000_000, 1_000_000_000);
        let b = price(1_000_000, 0, 600_000_000);
        assert_eq!(prices, [("a", a), ("b", b)]);
        assert!(read(None)?.is_empty());
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let with = |line: &str, model: &str| {
            let text = format!(
                "[[upstream]]\nname = \"cloud\"\nurl = \"http://127.0.0.1:9\"\n{line}\n[[upstream.models]]\nserves = \"a\"\ncompletion_usd_per_million = 1\n{model}"
            );
            format!(
                "{:#}",
                read_from(&text).err().unwrap_or_else(|| anyhow::anyhow!("it was read"))
            )
        };
        let price = "prompt_usd_per_million = 1";
        for (line, model, problem) in [
            ("", "", "missing field `prompt_usd_per_million`"),
            ("", "prompt_usd_per_million = -1", "an amount in USD such as 0.15"),
            ("", "prompt_usd_per_million = \"much\"", "an amount in USD such as 0.15"),
            ("when = \"never\"", price, "unknown variant `never`"),
            ("speed = 3", price, "unknown field `speed`"),
            (
                "key_env = \"PEERWATT_TEST_NO_SUCH\"",
                price,
                "reading the variable PEERWATT_TEST_NO_SUCH",
            ),
            ("key_env = \"A\"\nkey_file = \"b\"", price, "not both"),
        ] {
            let told = with(line, model);
            assert!(told.contains(problem), "{told}");
        }
    }
}
