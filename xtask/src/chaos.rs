//! `cargo xtask chaos gateway`: the gateway's chaos test, longer than in the tests, with its report.

use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::test::cargo;

const REQUESTS: u64 = 5_000;

pub(crate) fn gateway(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    let requests = match arguments {
        [] => REQUESTS,
        ["--requests", value] => value.parse().context("--requests needs a number")?,
        _ => bail!("`chaos gateway` takes only `--requests N`; see `cargo xtask help`"),
    };
    let mut command = cargo(&["test", "--quiet", "--package", "gateway", "--lib"]);
    command.args(["tests::chaos::", "--", "--nocapture"]);
    command.env("PEERWATT_CHAOS_REQUESTS", requests.to_string());
    let status = command.status().context("start cargo test")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
