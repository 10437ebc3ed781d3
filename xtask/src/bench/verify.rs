//! `cargo xtask bench verify`: how well audits tell providers apart, and what they cost.
//!
//! The measuring is an example of `audit-lab`, started as a process: it links an inference engine, which this program does
//! not, and candle reads how many threads to use from the environment.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail, ensure};

/// Measures, prints, and writes the figures into a document if asked to.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let document: Option<PathBuf> = match arguments {
        [] => None,
        ["--out", document] => Some(document.into()),
        other => bail!("bench verify has no options `{}`; see `cargo xtask help`", other.join(" ")),
    };
    let name = format!("peerwatt-measured-{}.md", std::process::id());
    let measured = std::env::temp_dir().join(name);
    let mut command = crate::test::cargo(&["run", "--release", "--package", "audit-lab"]);
    command.args(["--example", "measure", "--"]).arg(&measured);
    command.env("CANDLE_NUM_THREADS", "1").env("RAYON_NUM_THREADS", "1");
    let status = command.status().context("start cargo run")?;
    ensure!(status.success(), "the measurement failed");
    let tables = std::fs::read_to_string(&measured)
        .with_context(|| format!("read {}", measured.display()))?;
    std::fs::remove_file(&measured).with_context(|| format!("remove {}", measured.display()))?;
    print!("{tables}");
    if let Some(document) = &document {
        super::document::replace_in(document, "verify figures", &tables)?;
        eprintln!("wrote {}", document.display());
    }
    Ok(ExitCode::SUCCESS)
}
