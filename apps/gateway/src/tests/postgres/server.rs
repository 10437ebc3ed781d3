//! A PostgreSQL server for tests: the system's, on a socket in a temporary folder. It ends with the process that
//! started it, however that ends. The end-to-end tests use this file too.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// How it is installed, for whoever reads that a test was left out.
const HOW_TO_INSTALL: &str = "install PostgreSQL, e.g. `apt-get install postgresql`";

/// Keeps a server until nobody writes to it any more. PostgreSQL refuses to be run by root.
const KEEPER: &str = r#"
trap '' INT TERM HUP
bin=$1 folder=$2 more=$3
as_user() {
    if [ "$(id -u)" = 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
start() {
    as_user "$bin/pg_ctl" -w -D "$folder/data" -l "$folder/log" -o "-k $folder -h '' -F \
        -c full_page_writes=off -c synchronous_commit=off -c shared_buffers=32MB $more" start
}
{
    if [ "$(id -u)" = 0 ]; then chown -R postgres "$folder"; fi
    as_user "$bin/initdb" -D "$folder/data" -U postgres -A trust -N -E UTF8 --locale=C && start
} </dev/null >&2 && echo done
while read -r command name; do
    case $command in
        create) as_user "$bin/createdb" -h "$folder" -U postgres "$name" ;;
        stop) as_user "$bin/pg_ctl" -w -D "$folder/data" -m fast stop ;;
        start) start ;;
    esac </dev/null >&2
    echo done
done
as_user "$bin/pg_ctl" -w -D "$folder/data" -m immediate stop </dev/null >&2
rm -rf "$folder"
"#;

/// A running server.
pub(crate) struct Server {
    folder: PathBuf,
    keeper: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    databases: AtomicU32,
    _process: Child,
}

impl Server {
    /// The error is why there is none here.
    pub(crate) fn start() -> Result<Server, String> {
        Server::start_with("", |_| ())
    }

    /// With more options, and with files that they name.
    pub(crate) fn start_with(options: &str, prepare: impl FnOnce(&Path)) -> Result<Server, String> {
        if std::env::var_os("PEERWATT_TEST_QUICK").is_some() {
            return Err("only the quick tests were asked for".to_owned());
        }
        let bin = programs().ok_or(HOW_TO_INSTALL)?;
        // The keeper removes it.
        let folder = tempfile::Builder::new().prefix("pw-pg-").tempdir().unwrap().keep();
        prepare(&folder);
        let log = std::fs::File::create(folder.join("keeper.log")).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&bin, &folder])
            .arg(options.replace("FOLDER", &folder.display().to_string()))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let (stdin, stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let keeper = Mutex::new((stdin, BufReader::new(stdout)));
        let server = Server { folder, keeper, databases: AtomicU32::new(0), _process: process };
        server.answer(&mut server.keeper.lock().unwrap().1);
        Ok(server)
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `stop`, `start` or `create NAME`.
    pub(crate) fn tell(&self, command: &str) {
        let mut keeper = self.keeper.lock().unwrap();
        writeln!(keeper.0, "{command}").unwrap();
        self.answer(&mut keeper.1);
    }

    fn answer(&self, said: &mut BufReader<ChildStdout>) {
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        if line.trim() != "done" {
            let log = std::fs::read_to_string(self.folder.join("keeper.log")).unwrap_or_default();
            panic!("the server does not start:\n{log}");
        }
    }

    /// The address of a new, empty database.
    pub(crate) fn database(&self) -> String {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.tell(&format!("create {name}"));
        format!("postgres://postgres@/{name}?host={}", self.folder.display())
    }
}

/// The folder of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = versions.filter_map(|entry| Some(entry.ok()?.path()));
    let versions = versions.filter(|path| path.join("bin/initdb").exists());
    Some(versions.max_by_key(|path| version(path))?.join("bin"))
}
