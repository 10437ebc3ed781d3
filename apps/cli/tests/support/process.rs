//! `peerwatt` and other programs as child processes: started, listened to, stopped, killed.

use std::{
    collections::VecDeque,
    process::{ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::DEADLINE;

/// Lines of stderr that are kept to explain a failure.
const STDERR_LINES_KEPT: usize = 60;

/// A running child process. Killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<VecDeque<String>>>,
}

/// `peerwatt` with `arguments`, not started.
pub fn peerwatt<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    program(env!("CARGO_BIN_EXE_peerwatt"), arguments)
}

/// `peerwatt-gateway`, the same way.
pub fn peerwatt_gateway<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    program(env!("CARGO_BIN_EXE_peerwatt-gateway"), arguments)
}

fn program<S: AsRef<std::ffi::OsStr>>(
    path: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(path);
    command.args(arguments);
    // What the person who runs the tests has set must not steer them.
    for name in [
        "PEERWATT_DATA_DIR",
        "PEERWATT_CHAIN",
        "PEERWATT_BASE_URL",
        "PEERWATT_API_KEY",
        "PEERWATT_ADMIN_KEY",
        "PEERWATT_DATABASE",
    ] {
        command.env_remove(name);
    }
    command
}

impl Process {
    /// Starts `command`; `name` is for messages.
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = Arc::new(Mutex::new(VecDeque::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&stderr);
        // Ends with the pipe, which ends with the child.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap();
                if kept.len() == STDERR_LINES_KEPT {
                    kept.pop_front();
                }
                kept.push_back(line);
            }
        });
        Process { name: name.to_owned(), child, stdout, stderr }
    }

    /// The next line of stdout as JSON: how every part says that it serves.
    pub async fn ready(&mut self) -> Value {
        match timeout(DEADLINE, self.stdout.next_line()).await {
            Ok(Ok(Some(line))) => serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("{} printed `{line}`: {error}", self.name)),
            Ok(Ok(None)) => panic!("{} ended before it was ready\n{}", self.name, self.explain()),
            Ok(Err(error)) => panic!("{}: {error}\n{}", self.name, self.explain()),
            Err(_) => panic!("{} was not ready in time\n{}", self.name, self.explain()),
        }
    }

    /// What it last wrote on stderr.
    pub fn explain(&self) -> String {
        self.stderr.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Ends it as a power cut would: SIGKILL, no chance to write anything.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().expect("still running");
        let asked = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await.unwrap();
        assert!(asked.success(), "{} has ended already\n{}", self.name, self.explain());
        match timeout(DEADLINE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("{} did not stop\n{}", self.name, self.explain()),
        }
    }
}

/// Runs `command` to its end.
pub async fn run(name: &str, command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    match timeout(4 * DEADLINE, output).await {
        Ok(output) => output.unwrap_or_else(|error| panic!("cannot start {name}: {error}")),
        Err(_) => panic!("{name} did not end in time"),
    }
}

/// Runs a command of `peerwatt` that must succeed, and reads the JSON it prints.
pub async fn json(arguments: &[&str]) -> Value {
    let name = format!("peerwatt {}", arguments.join(" "));
    let output = run(&name, peerwatt(["--json"]).args(arguments)).await;
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
    serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{name}: {error}\n{stdout}"))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A whole network in one process, in a folder of its own.
pub struct Up {
    pub process: Process,
    pub home: TempDir,
    pub base_url: String,
    pub api_key: String,
    pub dashboard_url: String,
}

impl Up {
    /// Starts `peerwatt up` on free ports and waits until it serves.
    pub async fn start(arguments: &[&str]) -> Up {
        Up::start_in(tempfile::tempdir().unwrap(), arguments).await
    }

    pub async fn start_in(home: TempDir, arguments: &[&str]) -> Up {
        let any = "127.0.0.1:0";
        let mut command = peerwatt(["--json", "--data-dir"]);
        command.arg(home.path()).arg("up").args(["--listen", any, "--chain-listen", any]);
        command.args(["--peer-listen", any]).args(arguments);
        let mut process = Process::start("peerwatt up", &mut command);
        let ready = process.ready().await;
        let (base_url, api_key, dashboard_url) = (
            string(&ready, "base_url"),
            string(&ready, "api_key"),
            string(&ready, "dashboard_url"),
        );
        Up { process, home, base_url, api_key, dashboard_url }
    }

    /// Stops it, as Ctrl-C would, and checks the books of what it leaves.
    pub async fn stop_and_check(self) -> Value {
        let status = self.process.stop().await;
        assert!(status.success(), "peerwatt up: {status}");
        check_ledger(self.home.path()).await
    }
}

/// `peerwatt ledger check` of a stopped validator; fails unless the books close.
pub async fn check_ledger(home: &std::path::Path) -> Value {
    let report = json(&["--data-dir", home.to_str().unwrap(), "ledger", "check"]).await;
    assert_eq!(report["violations"], serde_json::json!([]), "{report}");
    report
}

/// A field of `value` that must be a string.
pub fn string(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no `{field}` in {value}")).to_owned()
}
