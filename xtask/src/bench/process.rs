//! Child processes of a measurement: started with a deadline to become ready, ended with it, and
//! their processor time and memory as Linux tells them.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde_json::Value;

/// Longest time from start to readiness: LiteLLM takes half a minute, more on a busy machine.
const READY_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest time from being asked to stop to the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A folder for one run, removed with it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Scratch> {
        let path = super::memory_folder().join(format!("peerwatt-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Scratch(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// What this run started. All are ended when it is dropped.
#[derive(Default)]
pub(super) struct Children(Vec<Child>);

/// A started process.
pub(super) struct Started {
    pub(super) pid: u32,
    name: &'static str,
    lines: mpsc::Receiver<String>,
}

impl Children {
    /// Starts `command` with its stdout read; its stderr goes where ours goes.
    pub(super) fn start(
        &mut self,
        command: &mut Command,
        name: &'static str,
    ) -> anyhow::Result<Started> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        let output = child.stdout.take().context("the child's output is piped")?;
        let pid = child.id();
        self.0.push(child);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens once it is ready; the pipe must still be emptied.
                let _ = sender.send(line);
            }
        });
        Ok(Started { pid, name, lines })
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        // The last started depend on the first.
        for child in self.0.iter_mut().rev() {
            end(child);
        }
    }
}

/// Asks the process to stop, so that it ends its own children too (nginx its workers), and kills it
/// only if it does not.
fn end(child: &mut Child) {
    let asked = Command::new("kill").arg(child.id().to_string()).status();
    if asked.is_ok_and(|status| status.success()) {
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    // Fails if it has ended already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

impl Started {
    /// The JSON line by which the process says that it serves.
    pub(super) fn ready(&self) -> anyhow::Result<Value> {
        let line = self
            .lines
            .recv_timeout(READY_TIMEOUT)
            .with_context(|| format!("{} did not say that it is ready", self.name))?;
        serde_json::from_str(&line).with_context(|| format!("{} printed: {line}", self.name))
    }

    pub(super) fn ready_addr(&self, field: &str) -> anyhow::Result<SocketAddr> {
        let ready = self.ready()?;
        let addr = ready[field].as_str().with_context(|| format!("no `{field}` in {ready}"))?;
        addr.parse().with_context(|| format!("`{field}` of {} is no address: {addr}", self.name))
    }
}

/// Processor time that `pids` and their living descendants used so far.
pub(super) fn cpu(pids: &[u32]) -> anyhow::Result<Duration> {
    let of = |pid: u32| time_of(pid).with_context(|| format!("process {pid} has ended"));
    tree(pids).into_iter().map(of).sum()
}

/// By the clock of the process: `/proc/PID/stat` counts in ticks of 10 ms, a tenth of what a short scenario takes.
#[cfg(target_os = "linux")]
fn time_of(pid: u32) -> anyhow::Result<Duration> {
    use nix::{time::ClockId, unistd::Pid};
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid.try_into()?))?;
    Ok(clock.now()?.into())
}

#[cfg(not(target_os = "linux"))]
fn time_of(_pid: u32) -> anyhow::Result<Duration> {
    anyhow::bail!("processor time of other processes is read on Linux only")
}

/// Resident memory of `pids` and their living descendants.
pub(super) fn memory_kib(pids: &[u32]) -> u64 {
    let of = |pid: u32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    tree(pids).into_iter().filter_map(of).sum()
}

fn parent(pid: u32) -> Option<u32> {
    parent_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// proc(5): `pid (name) state ppid …`. The name may hold spaces and brackets, so fields are counted from the last bracket.
fn parent_in(text: &str) -> Option<u32> {
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// `roots` and all processes below them.
fn tree(roots: &[u32]) -> Vec<u32> {
    let mut members = roots.to_vec();
    let Ok(folder) = std::fs::read_dir("/proc") else { return members };
    let mut all: Vec<u32> =
        folder.flatten().filter_map(|it| it.file_name().to_string_lossy().parse().ok()).collect();
    // A child nearly always has a larger number; the repetition covers the rest.
    all.sort_unstable();
    for _ in 0..2 {
        for &pid in &all {
            let below = parent(pid).is_some_and(|parent| members.contains(&parent));
            if below && !members.contains(&pid) {
                members.push(pid);
            }
        }
    }
    members
}

/// Waits until something accepts connections at `addr`.
pub(super) fn wait_until_open(addr: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)) {
            Ok(_) => return Ok(()),
            Err(error) => {
                ensure!(Instant::now() < deadline, "nothing listens at {addr}: {error}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_brackets_in_its_name_is_read() {
        let text = "42 (a b) c) S 7 42 42 0 -1 4194304 1 2 3 4 100 23 0 0 20 0 1 0 5 6 7";
        assert_eq!(parent_in(text), Some(7));
    }
}
