//! `cargo xtask bench verify`: how well audits tell providers apart, and what they cost.
//!
//! The measuring is an example of `audit-lab`, started as a process: it links an inference engine, which this program does
//! not, and candle reads how many threads to use from the environment. Here its figures are held against the
//! bars ([`bars`]) and put into tables ([`tables`]) and a picture ([`picture`]).

pub(crate) mod scoring;

mod bars;
mod picture;
mod tables;

use std::{
    path::{self, Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::document;

/// The picture, beside the document.
const PICTURE: &str = "figures/verify-roc.svg";

#[derive(Debug, Default, PartialEq)]
struct Options {
    json: bool,
    check: bool,
    out: Option<PathBuf>,
    dump: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = |what| {
                let value = arguments.next();
                value.with_context(|| format!("{argument} needs {what}"))
            };
            match *argument {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--out" => options.out = Some(value("a file")?.into()),
                // The example runs in a folder of its own.
                "--dump" => {
                    let folder = path::absolute(value("a folder")?);
                    options.dump = Some(folder.context("--dump needs a folder")?);
                }
                other => bail!("bench verify has no option `{other}`; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }
}

/// Measures, prints, and writes tables and picture if asked to.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let options = Options::parse(arguments)?;
    let figures = example("measure", &[], options.dump.as_deref())?;
    let bars = bars::of(&figures);
    let tables = tables::of(&figures, &bars);
    if options.json {
        println!("{figures}");
    } else {
        print!("{tables}");
    }
    if let Some(document) = &options.out {
        document::replace_in(document, "verify figures", &tables)?;
        let picture = document.parent().unwrap_or(Path::new("")).join(PICTURE);
        write(&picture, &picture::svg(&figures))?;
        eprintln!("wrote {} and {}", document.display(), picture.display());
    }
    let missed: Vec<&bars::Bar> = bars.iter().filter(|bar| !bar.met).collect();
    if !options.check || missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for bar in missed {
        eprintln!("missed: {}: {}, measured {}", bar.what, bar.limit, bar.measured);
    }
    Ok(ExitCode::FAILURE)
}

/// What an example of `audit-lab` measures, with one thread for candle.
fn example(name: &str, features: &[&str], dump: Option<&Path>) -> anyhow::Result<Value> {
    let measured = format!("peerwatt-measured-{}.json", std::process::id());
    let measured = std::env::temp_dir().join(measured);
    let mut command = crate::test::cargo(&["run", "--release", "--package", "audit-lab"]);
    command.args(features).args(["--example", name, "--"]).arg(&measured).args(dump);
    command.env("CANDLE_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
    let status = command.status().context("start cargo run")?;
    ensure!(status.success(), "the measurement failed");
    let figures = std::fs::read_to_string(&measured)
        .with_context(|| format!("read {}", measured.display()))?;
    std::fs::remove_file(&measured).with_context(|| format!("remove {}", measured.display()))?;
    serde_json::from_str(&figures).context("read the figures")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// What stands in a list.
fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A count of tokens that may not have been reached.
fn tokens(value: &Value) -> String {
    value.as_u64().map_or("never".to_owned(), |tokens| tokens.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--check", "--out", "a.md", "--json"]).unwrap();
        let expected = Options { json: true, check: true, out: Some("a.md".into()), dump: None };
        assert_eq!(options, expected);
        for bad in [&["--out"][..], &["--dump"], &["--fast"]] {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }

    /// Figures of one sampler that meet all bars, as the example writes them.
    pub(super) fn figures() -> Value {
        let row = |provider: &str, bar: Option<u32>| {
            json!({
                "provider": provider, "mean": 0.2, "auc": [0.9, 1.0, 1.0, 1.0],
                "tpr": [[0.1, 0.0], [0.9, 0.8], [1.0, 1.0], [1.0, 1.0]],
                "curves": [[[0.001, 0.0], [1.0, 1.0]], [[0.001, 0.8], [1.0, 1.0]], [], []],
                "tokens": { "p50": 13, "p95": 15 }, "tokens_max": bar,
            })
        };
        let level = |name: &str| {
            json!({
                "level": name, "honest_mean": 0.07, "lives": 1000, "life_tokens": 50000,
                "ln_e_max": 1.5, "ln_e_enough": 20.724, "floored_ln_e_max": 3.0,
                "floored_ln_e_enough": 27.632, "bucket_tokens": [8, 32, 128, 512],
                "rows": [row("honest", None), row("Q4_K", Some(32))],
            })
        };
        let replay = |provider: &str, unexplained: u32, audited: u32, bar: Option<f64>| {
            json!({
                "provider": provider, "answers": 60, "cheated": null, "tokens": 5900,
                "unexplained": unexplained, "excused": 0, "first_mismatch_p50": null,
                "audited": audited, "suspended": 0, "alone": 0, "audited_min": bar,
                "first_mismatch_max": null, "is_honest": provider == "honest",
            })
        };
        json!({
            "samplers": [{
                "sampler": "llama.cpp",
                "levels": [level("L1"), level("L2")],
                "replays": [replay("honest", 0, 0, None), replay("greedy", 3_000, 60, Some(60.0))],
            }],
            "costs": { "replay_us": 0.8, "generate_us": 300.0, "score_us": 290.0, "read_us": 60.0, "project_us": 500.0 },
        })
    }
}
