//! A Python environment with packages from PyPI, kept between runs, for servers and clients that
//! exist nowhere else. Where it cannot be made, because there is no Python or no network, the tests
//! that need it say why and pass.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};

/// An environment with the packages asked for.
pub struct Python {
    interpreter: PathBuf,
}

impl Python {
    /// The environment called `name` with `packages`, made if it is not there; else why not.
    pub fn with(name: &str, packages: &[&str]) -> anyhow::Result<Python> {
        let root = cache_dir().context("neither XDG_CACHE_HOME nor HOME is set")?;
        let root = root.join("peerwatt").join("test-env").join(name);
        let interpreter = root.join("bin").join("python");
        // Written last, so that a half-made environment is made again.
        let complete = root.join("complete");
        let wanted = packages.join("\n");
        if std::fs::read_to_string(&complete).is_ok_and(|found| found == wanted) {
            return Ok(Python { interpreter });
        }
        let lock = lock(&root)?;
        if !std::fs::read_to_string(&complete).is_ok_and(|found| found == wanted) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&root))?;
            let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(&interpreter).args(install).args(packages))?;
            std::fs::write(&complete, wanted)?;
        }
        drop(lock);
        Ok(Python { interpreter })
    }

    /// Starts a program, to be stopped when it is dropped. Its standard input stays open as long as
    /// it runs, so that it can end with the test however that ends.
    pub fn start(&self, program: &str, args: &[&str]) -> Program {
        let mut command = Command::new(&self.interpreter);
        command.arg("-c").arg(program).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Program(command.spawn().expect("an interpreter that was just made"))
    }
}

/// A running program.
pub struct Program(Child);

impl Program {
    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cache_dir() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
}

/// Keeps other test processes out while the environment is made.
fn lock(root: &Path) -> anyhow::Result<std::fs::File> {
    let parent = root.parent().unwrap_or(root);
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    let file = std::fs::File::create(root.with_extension("lock"))?;
    file.lock()?;
    Ok(file)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("");
        bail!("{command:?} ended with {}: {last}", output.status);
    }
    Ok(())
}
