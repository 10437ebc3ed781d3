//! Peerwatt as it is measured: once as `up`, all in one process, and once as three processes, so
//! that what the gateway itself uses is seen apart from provider and validator.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::Value;

use super::{
    Target,
    load::Load,
    process::{Children, Scratch, Started},
};

/// More than a run can spend at the default price.
const BUDGET_USD: &str = "1000";

/// Longest time until a provider is found and its channel is open.
const SERVED_TIMEOUT: Duration = Duration::from_secs(60);

/// Starts both forms of `binary`.
pub(super) fn start(
    binary: &Path,
    scratch: &Scratch,
    children: &mut Children,
) -> anyhow::Result<Vec<Target>> {
    let mut run = |folder: &str, arguments: &[&str], name| {
        let mut command = Command::new(binary);
        command.arg("--json").arg("--data-dir").arg(scratch.path().join(folder)).args(arguments);
        children.start(&mut command, name)
    };
    let any_port = "127.0.0.1:0";
    let up = run(
        "up",
        &["up", "--dummy-engine", "--key-budget", BUDGET_USD, "--listen", any_port]
            .into_iter()
            .chain(["--chain-listen", any_port, "--peer-listen", any_port])
            .collect::<Vec<_>>(),
        "peerwatt up",
    )?;
    let mut targets = vec![target("peerwatt up", &up, vec![up.pid])?];

    let validator = run("parts", &["validator", "--listen", any_port], "peerwatt validator")?;
    let chain = text(&validator.ready()?, "chain_url")?;
    let gateway = run(
        "parts",
        &["gateway", "--chain", &chain, "--key-budget", BUDGET_USD, "--listen", any_port]
            .into_iter()
            .chain(["--peer-listen", any_port])
            .collect::<Vec<_>>(),
        "peerwatt gateway",
    )?;
    let apart = target("gateway", &gateway, vec![gateway.pid])?;
    let provider =
        run("parts", &["provide", "--chain", &chain, "--dummy-engine"], "peerwatt provide")?;
    provider.ready()?;
    targets.push(apart);
    for target in &targets {
        until_served(target)?;
    }
    Ok(targets)
}

fn target(name: &'static str, process: &Started, pids: Vec<u32>) -> anyhow::Result<Target> {
    let ready = process.ready()?;
    let base_url = text(&ready, "base_url")?;
    let load = Load::new(addr_of(&base_url)?, "dummy/64", Some(&text(&ready, "api_key")?));
    Ok(Target { name, load: load.with_stream_model("dummy/paced"), pids })
}

/// Waits until the provider is found, has a channel, and answers.
fn until_served(target: &Target) -> anyhow::Result<()> {
    let deadline = Instant::now() + SERVED_TIMEOUT;
    loop {
        match target.load.plain(1, 1, Duration::ZERO) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{} does not serve", target.name)));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn text(ready: &Value, field: &str) -> anyhow::Result<String> {
    let text = ready[field].as_str().with_context(|| format!("no `{field}` in {ready}"))?;
    Ok(text.to_owned())
}

/// `http://127.0.0.1:8400/v1` → `127.0.0.1:8400`.
fn addr_of(url: &str) -> anyhow::Result<SocketAddr> {
    let host = url.strip_prefix("http://").unwrap_or(url).split('/').next().unwrap_or_default();
    host.parse().with_context(|| format!("{url} is no http address of this machine"))
}
