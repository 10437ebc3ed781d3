//! A PostgreSQL server for tests: the system's, on a socket in a temporary folder. It ends with the process that
//! started it, however that ends.

use std::{
    cell::Cell,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio_postgres::NoTls;

use crate::DatabaseUrl;

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
while read -r command; do
    case $command in
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
        server.answer();
        Ok(server)
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `stop` or `start`.
    pub(crate) fn tell(&self, command: &str) {
        writeln!(self.keeper.lock().unwrap().0, "{command}").unwrap();
        self.answer();
    }

    fn answer(&self) {
        let mut line = String::new();
        self.keeper.lock().unwrap().1.read_line(&mut line).unwrap();
        if line.trim() != "done" {
            let log = std::fs::read_to_string(self.folder.join("keeper.log")).unwrap_or_default();
            panic!("the server does not start:\n{log}");
        }
    }

    /// A new, empty database.
    pub(crate) fn database(&self) -> DatabaseUrl {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let address =
            |name: &str| format!("postgres://postgres@/{name}?host={}", self.folder.display());
        let (all, sql) = (address("postgres"), format!("CREATE DATABASE {name}"));
        // On a runtime of its own: that of the test has a clock that runs ahead.
        std::thread::spawn(move || execute(&all, &sql)).join().unwrap();
        address(&name).parse().unwrap()
    }
}

fn execute(address: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
    });
}

/// The folder of the newest version that is installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = versions.filter_map(|entry| Some(entry.ok()?.path()));
    let versions = versions.filter(|path| path.join("bin/initdb").exists());
    Some(versions.max_by_key(|path| version(path))?.join("bin"))
}

thread_local! {
    /// Whether the gateways of the test on this thread keep their keys in a database.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

/// The server of this process.
pub(crate) fn server() -> Result<&'static Server, &'static str> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref().map_err(String::as_str)
}

/// An empty database, if the test on this thread is one for databases.
pub(crate) fn database() -> Option<DatabaseUrl> {
    CHOSEN.get().then(|| server().unwrap().database())
}

/// Runs a test once more, with keys in a database. Skipped, with a reason, where there is no PostgreSQL.
pub(crate) fn run(name: &str, test: fn()) {
    match server() {
        Ok(_) => {
            CHOSEN.set(true);
            test();
            CHOSEN.set(false);
        }
        Err(reason) => skip(name, reason),
    }
}

/// Says that a test was left out, and why.
pub(crate) fn skip(test: &str, reason: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let line = format!("{test}: {reason}\n");
    // Straight to stderr, past the harness, so that it is seen without `--nocapture`.
    let _ = std::io::stderr().write_all(format!("skipped: {line}").as_bytes());
    if let Some(path) = std::env::var_os("PEERWATT_TEST_REPORT") {
        let report = std::fs::OpenOptions::new().create(true).append(true).open(path);
        report.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// Runs tests of a module once more with keys in a database.
macro_rules! also_on_postgres {
    ($($name:ident)+) => {
        mod on_postgres {
            $(
                #[test]
                fn $name() {
                    let test = concat!(module_path!(), "::", stringify!($name));
                    crate::tests::postgres::run(test, super::$name);
                }
            )+
        }
    };
}
