//! The clients and servers of others, installed once from their registries into a cache folder.
//!
//! A folder is named after the digest of what was asked for, made under another name and renamed
//! when complete, so a run that was cut short leaves nothing that looks complete.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, sync::Mutex};

use super::{process, quick, repository};

/// How long an installation may take; a registry that is far away needs minutes.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(400);
/// Where the scripts for the SDKs lie.
pub const SCRIPTS: &str = "apps/cli/tests/sdk";

/// Tests of one file run at once and may want the same folder.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// Why something of others cannot be used here.
pub type Reason = String;

/// The interpreter of a virtual environment that has what `requirements` lists.
pub async fn python(requirements: &str) -> Result<PathBuf, Reason> {
    let folder = cached("python", requirements, async |folder| {
        install("python3", ["-m", "venv"].map(OsStr::new).into_iter().chain([folder.as_os_str()]))
            .await?;
        let list = folder.join("requirements.txt");
        std::fs::write(&list, requirements).map_err(|error| error.to_string())?;
        let pip =
            ["-m", "pip", "install", "--quiet", "--retries=1", "--disable-pip-version-check", "-r"];
        let pip = pip.map(OsStr::new).into_iter().chain([list.as_os_str()]);
        install(folder.join("bin/python"), pip).await
    })
    .await?;
    Ok(folder.join("bin/python"))
}

/// A folder with the packages of `package-lock.json` and the scripts beside them: Node looks for
/// packages where the script lies.
pub async fn node() -> Result<PathBuf, Reason> {
    let read = |name: &str| std::fs::read_to_string(repository(SCRIPTS).join(name)).unwrap();
    let files =
        [("package.json", read("package.json")), ("package-lock.json", read("package-lock.json"))];
    let digest = format!("{}{}", files[0].1, files[1].1);
    let folder = cached("node", &digest, async |folder| {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        for (name, text) in &files {
            std::fs::write(folder.join(name), text).map_err(|error| error.to_string())?;
        }
        let npm = [
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
            "--fetch-retries=1",
            "--prefix",
        ];
        install("npm", npm.map(OsStr::new).into_iter().chain([folder.as_os_str()])).await
    })
    .await?;
    for entry in std::fs::read_dir(repository(SCRIPTS)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension() == Some(OsStr::new("mjs")) {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    Ok(folder)
}

/// Runs one of the scripts, which must find all well.
pub async fn script(interpreter: impl AsRef<OsStr>, script: &Path, arguments: &[&str]) {
    let name = script.display().to_string();
    let mut command = Command::new(interpreter);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args(arguments);
    let output = process::run(&name, &mut command).await;
    let (stdout, stderr) = (process::text(&output.stdout), process::text(&output.stderr));
    assert!(output.status.success(), "{name}\n{stdout}\n{stderr}");
}

/// The folder for `wanted`, made by `make` if it is not there.
async fn cached(
    kind: &str,
    wanted: &str,
    make: impl AsyncFnOnce(&Path) -> Result<(), Reason>,
) -> Result<PathBuf, Reason> {
    if quick() {
        return Err("only the quick tests were asked for".to_owned());
    }
    let _one_at_a_time = INSTALLING.lock().await;
    let root = cache_root().ok_or("there is no home folder to cache it in")?;
    let digest = types::sha256(&[wanted.as_bytes()]).to_string();
    let folder = root.join(format!("{kind}-{}", &digest[..16]));
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
    let draft = root.join(format!("{kind}-{}.{}", &digest[..16], std::process::id()));
    let made = make(&draft).await;
    // Fails if another run was quicker, whose folder serves as well.
    if made.is_err() || std::fs::rename(&draft, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&draft);
    }
    made.map(|()| folder)
}

fn cache_root() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join("peerwatt").join("test-env"))
}

/// Runs a step of an installation. Whatever goes wrong is a reason to skip: without a network, or
/// without the interpreter, there is nothing to test with.
async fn install<'a>(
    program: impl AsRef<OsStr>,
    arguments: impl Iterator<Item = &'a OsStr>,
) -> Result<(), Reason> {
    let program = program.as_ref();
    let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(INSTALL_TIMEOUT, command.output()).await {
        Err(_) => Err(format!("{name} did not finish in {INSTALL_TIMEOUT:?}")),
        Ok(Err(error)) => Err(format!("cannot start {name}: {error}")),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let stderr = process::text(&output.stderr);
            // The first complaint is the cause; what follows are its consequences and advice.
            let complains =
                |line: &&str| !line.starts_with("WARNING") && line.to_lowercase().contains("error");
            let cause = stderr.lines().find(complains);
            Err(format!("{name}: {}", cause.unwrap_or(stderr.trim())))
        }
    }
}
