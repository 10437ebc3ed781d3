//! Peerwatt as it is measured: as `up`, all in one process; as three processes, so that what the gateway itself uses is
//! seen apart from provider and validator; and as a gateway before the same HTTP upstream as the proxies.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{Row, Started};
use crate::bench::{
    DIST,
    load::{Ask, Load, Models},
    process::{self, Children, Scratch},
    target_dir,
};

/// More than a run can spend at the default price.
const BUDGET_USD: &str = "1000";
/// Keys of a gateway: each may have 256 requests in work.
const KEYS: usize = 5;
/// Providers of 256 requests each.
const PROVIDERS: usize = 5;
/// Longest time until a provider is found and its channel is open.
const SERVED_TIMEOUT: Duration = Duration::from_secs(60);
const ANY_PORT: &str = "127.0.0.1:0";

/// The programs, and where their data goes.
pub(super) struct Peerwatt<'a> {
    binary: PathBuf,
    /// A gateway alone.
    gateway_binary: PathBuf,
    scratch: &'a Scratch,
}

impl Peerwatt<'_> {
    pub(super) fn new(scratch: &Scratch) -> anyhow::Result<Peerwatt<'_>> {
        let folder = target_dir()?.join(DIST);
        let (binary, gateway_binary) = (folder.join("peerwatt"), folder.join("peerwatt-gateway"));
        Ok(Peerwatt { binary, gateway_binary, scratch })
    }

    fn command(&self, folder: &str, arguments: &[&str]) -> Command {
        self.command_of(&self.binary, folder, arguments)
    }

    fn command_of(&self, binary: &Path, folder: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command.arg("--json").arg("--data-dir").arg(self.scratch.path().join(folder));
        command.args(arguments);
        command
    }

    pub(super) fn up(&self, children: &mut Children) -> anyhow::Result<Started> {
        let arguments = ["up", "--key-budget", BUDGET_USD, "--listen", ANY_PORT];
        let mut command = self.command("up", &arguments);
        command.args(["--chain-listen", ANY_PORT, "--peer-listen", ANY_PORT]);
        command.args(dummy_engine());
        let up = children.start(&mut command, "peerwatt up")?;
        served(self.started(Row::Up, "up", Models::Dummy, &up)?)
    }

    /// A gateway with one provider.
    pub(super) fn gateway(&self, children: &mut Children) -> anyhow::Result<Started> {
        let chain = self.validator("parts", children)?;
        let gateway = self.start_gateway("parts", &chain, children, &[])?;
        let started = self.started(Row::Gateway, "parts", Models::Dummy, &gateway)?;
        self.provider("parts", &chain, children)?;
        served(Started { chain: Some(chain), ..started })
    }

    /// A gateway that asks `upstream` itself, if this version can.
    pub(super) fn gateway_http(
        &self,
        children: &mut Children,
        upstream: SocketAddr,
    ) -> anyhow::Result<Started> {
        let file = self.scratch.path().join("upstreams.toml");
        std::fs::write(&file, upstreams(upstream))?;
        let chain = self.validator("upstreams", children)?;
        let file = file.to_str().context("the scratch folder's name is not UTF-8")?;
        let arguments = ["--upstreams", file];
        let gateway = self.start_gateway("upstreams", &chain, children, &arguments)?;
        served(self.started(Row::GatewayHttp, "upstreams", Models::Upstream, &gateway)?)
    }

    /// As many providers as 1 000 streams need.
    pub(super) fn more_providers(
        &self,
        gateway: &Started,
        children: &mut Children,
    ) -> anyhow::Result<()> {
        let Some(chain) = &gateway.chain else { return Ok(()) };
        for number in 1..PROVIDERS {
            self.provider(&format!("provider-{number}"), chain, children)?;
        }
        let deadline = Instant::now() + SERVED_TIMEOUT;
        loop {
            let connected = gateway.load.get("/health")?;
            let connected: Value = serde_json::from_slice(&connected)?;
            if connected["providers"].as_u64() >= Some(PROVIDERS as u64) {
                // The first request to each opens a channel; some go to each of them.
                std::thread::sleep(Duration::from_secs(5));
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "more providers did not come: {connected}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn validator(&self, folder: &str, children: &mut Children) -> anyhow::Result<String> {
        let mut command = self.command(folder, &["validator", "--listen", ANY_PORT]);
        command.args(["--peer-listen", ANY_PORT]);
        let validator = children.start(&mut command, "peerwatt validator")?;
        text(&validator.ready()?, "chain_url")
    }

    fn start_gateway(
        &self,
        folder: &str,
        chain: &str,
        children: &mut Children,
        more: &[&str],
    ) -> anyhow::Result<process::Started> {
        let arguments = ["gateway", "--chain", chain, "--key-budget", BUDGET_USD];
        let mut command = self.command_of(&self.gateway_binary, folder, &arguments);
        command.args(["--listen", ANY_PORT, "--peer-listen", ANY_PORT]).args(more);
        children.start(&mut command, "peerwatt gateway")
    }

    fn provider(&self, folder: &str, chain: &str, children: &mut Children) -> anyhow::Result<()> {
        let mut command = self.command(folder, &["provide", "--chain", chain]);
        command.args(dummy_engine());
        children.start(&mut command, "peerwatt provide")?.ready().map(drop)
    }

    fn started(
        &self,
        row: Row,
        folder: &str,
        models: Models,
        process: &process::Started,
    ) -> anyhow::Result<Started> {
        let ready = process.ready()?;
        let addr = addr_of(&text(&ready, "base_url")?)?;
        let mut keys = vec![text(&ready, "api_key")?];
        for number in 1..KEYS {
            let name = format!("bench-{number}");
            let arguments = ["key", "new", &name, "--budget", BUDGET_USD];
            let made = self.command(folder, &arguments).output().context("make an API key")?;
            ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let made: Value = serde_json::from_slice(&made.stdout).context("read an API key")?;
            keys.push(text(&made, "api_key")?);
        }
        let load = Load::new(addr, models, keys);
        Ok(Started { row, load, pids: vec![process.pid], chain: None })
    }
}

fn dummy_engine() -> Vec<String> {
    let mut arguments = vec!["--dummy-engine".to_owned()];
    for name in Models::Dummy.unusual() {
        arguments.extend(["--dummy-model".to_owned(), name]);
    }
    arguments
}

fn upstreams(upstream: SocketAddr) -> String {
    let mut text = format!(
        "[[upstream]]\nname = \"bench\"\nurl = \"http://{upstream}/v1\"\nwhen = \"policy\"\nslots = 1024\n"
    );
    for model in Models::Upstream.names() {
        text += &format!(
            "[[upstream.models]]\nserves = \"{model}\"\nprompt_usd_per_million = 0.1\ncompletion_usd_per_million = 0.2\ncontext_tokens = 131072\n"
        );
    }
    text
}

/// Waits until whoever is behind it is found, has a channel, and answers.
fn served(started: Started) -> anyhow::Result<Started> {
    let deadline = Instant::now() + SERVED_TIMEOUT;
    loop {
        match started.load.closed(Ask::Plain, 1, Duration::ZERO) {
            Ok(_) => return Ok(started),
            Err(error) if Instant::now() > deadline => {
                return Err(error.context(format!("{} does not serve", started.row.name())));
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
