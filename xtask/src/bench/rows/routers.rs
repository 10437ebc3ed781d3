//! Routers for language models from PyPI, in a virtual environment each, which stays in cargo's target folder: what is
//! installed once is used again. The versions are pinned, because figures of others would be another comparison.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};

use super::{Row, Started, free_addr};
use crate::bench::{
    load::Models,
    process::{Children, Scratch, wait_until_open},
    target_dir,
};

const SGLANG_ROUTER: (&str, &str) = ("sglang-router", "sglang-router==0.3.2");
const LITELLM: (&str, &str) = ("litellm", "litellm[proxy]==1.106.2");

pub(super) fn sglang_router(
    children: &mut Children,
    upstream: SocketAddr,
) -> anyhow::Result<Started> {
    let program = installed(SGLANG_ROUTER)?;
    let addr = free_addr()?;
    let mut command = Command::new(program);
    command
        .args(["launch", "--policy", "round_robin", "--log-level", "error"])
        .args(["--max-concurrent-requests", "4096"])
        .args(["--worker-urls", &format!("http://{upstream}")])
        .args(["--host", &addr.ip().to_string(), "--port", &addr.port().to_string()])
        .args(["--prometheus-port", &free_addr()?.port().to_string()]);
    let started = children.start(&mut command, "sglang-router")?;
    wait_until_open(addr)?;
    Ok(Started::upstream(Row::SglangRouter, addr, started.pid))
}

pub(super) fn litellm(
    scratch: &Scratch,
    children: &mut Children,
    upstream: SocketAddr,
) -> anyhow::Result<Started> {
    let program = installed(LITELLM)?;
    let addr = free_addr()?;
    let file = scratch.path().join("litellm.yaml");
    std::fs::write(&file, litellm_configuration(upstream))?;
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(&file)
        .args(["--host", &addr.ip().to_string(), "--port", &addr.port().to_string()])
        .args(["--num_workers", "1", "--telemetry", "False"])
        // The table of prices that comes with it, instead of one from the network.
        .env("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        .env("LITELLM_LOG", "ERROR")
        // It does not start without a key of its own otherwise. Nobody else reaches it, and it has less to do so.
        .env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    let started = children.start(&mut command, "litellm")?;
    wait_until_open(addr)?;
    Ok(Started::upstream(Row::Litellm, addr, started.pid))
}

fn litellm_configuration(upstream: SocketAddr) -> String {
    let mut text = String::from("model_list:\n");
    for model in Models::Upstream.names() {
        text += &format!(
            "  - model_name: {model}\n    litellm_params:\n      model: openai/{model}\n      api_base: http://{upstream}/v1\n      api_key: none\n"
        );
    }
    text
}

/// The program of this name out of a virtual environment with this requirement, which is made if it is missing.
fn installed((name, requirement): (&str, &str)) -> anyhow::Result<PathBuf> {
    let folder = target_dir()?.join("bench-programs").join(requirement);
    let (program, done) = (folder.join("bin").join(name), folder.join("complete"));
    if done.is_file() && program.is_file() {
        return Ok(program);
    }
    eprintln!("installing {requirement} from PyPI …");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = folder.join("bin").join("pip");
    run(Command::new(pip).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        requirement,
    ]))?;
    ensure!(program.is_file(), "{requirement} has no program {name}");
    mark(&done)?;
    Ok(program)
}

/// Without this file the installation was cut off, and begins anew.
fn mark(file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, "").with_context(|| format!("write {}", file.display()))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{} failed", command.get_program().to_string_lossy());
    Ok(())
}
