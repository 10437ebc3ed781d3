//! The way to the database: its address, TLS, a bounded pool of connections, limits of time.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_postgres::{
    Config, Row,
    config::{Host, SslMode},
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
    types::ToSql,
};

/// Connections of one gateway. A request needs one for about a millisecond at its beginning.
const CONNECTIONS_MAX: usize = 16;
/// For a free connection, and for a new one.
const CONNECT: Duration = Duration::from_secs(3);
/// For a statement, as the database is told, and as it is waited for.
const STATEMENT_MS: u32 = 4_000;
const CALL: Duration = Duration::from_secs(5);
/// A connection that says nothing is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where the database of a fleet is: `postgres://user:password@host/name`. Shown without the password.
#[derive(Clone)]
pub struct DatabaseUrl {
    config: Config,
    /// Who vouches for the server, instead of whom the system trusts.
    roots: Option<PathBuf>,
}

/// Why an address is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "a database's address is postgres://user:password@host/name, with ?sslmode=require for TLS"
)]
pub struct DatabaseUrlError {
    // Without a source: that could show a part of the address, and so of the password.
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
        let (text, roots) = without_roots(text);
        let mut config: Config = text.parse().map_err(|_| DatabaseUrlError {})?;
        if config.get_hosts().is_empty() {
            return Err(DatabaseUrlError {});
        }
        // Elsewhere, a password and every row would be read by whoever carries them.
        let mode = match config.get_ssl_mode() {
            SslMode::Prefer if config.get_hosts().iter().all(is_here) => SslMode::Disable,
            SslMode::Prefer => SslMode::Require,
            mode => mode,
        };
        config.ssl_mode(mode);
        Ok(DatabaseUrl { config, roots })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host_name).collect();
        let name = self.config.get_dbname().unwrap_or_default();
        write!(f, "postgres://{}/{name}", hosts.join(","))
    }
}

/// Takes `sslrootcert` out of an address: our client of the database does not know it.
fn without_roots(text: &str) -> (String, Option<PathBuf>) {
    let Some((start, question)) = text.split_once('?') else { return (text.to_owned(), None) };
    let (roots, rest): (Vec<&str>, Vec<&str>) =
        question.split('&').partition(|part| part.starts_with("sslrootcert="));
    let roots = roots.last().and_then(|part| part.split_once('=')).map(|(_, path)| path.into());
    (format!("{start}?{}", rest.join("&")), roots)
}

fn host_name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

/// Whether what is sent there stays on this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            name == "localhost" || address.is_ok_and(|address| address.is_loopback())
        }
    }
}

/// Why the database could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    // With their causes in one line: they are logged more often than printed.
    #[error("cannot connect to the database: {}", text(.cause))]
    Connect { cause: PoolError },
    #[error("the pool of connections to the database cannot be made")]
    Pool { source: deadpool_postgres::BuildError },
    #[error("there is no certificate to trust the database's by: {problem}")]
    Certificates { problem: String },
    #[error("the database does not {doing}: {}", text(.cause))]
    Statement { doing: &'static str, cause: tokio_postgres::Error },
    #[error("the database does not {doing} in time")]
    Late { doing: &'static str },
    #[error("the database was made by a later version of this program ({found}, not {known})")]
    Version { found: i32, known: i32 },
    #[error("the database says what this program does not understand: {what}")]
    Damaged { what: &'static str },
}

/// An error of the database's client with what it stands for, which its own text leaves out.
fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

impl DatabaseError {
    /// Whether the same statement can never succeed: its data is at fault, not the state of the database.
    pub(super) fn is_for_good(&self) -> bool {
        let DatabaseError::Statement { cause, .. } = self else { return false };
        // Classes of SQLSTATE: data exception, integrity constraint violation.
        cause.code().is_some_and(|code| ["22", "23"].iter().any(|it| code.code().starts_with(it)))
    }
}

/// Connections to the database.
pub(super) struct Database {
    pool: Pool,
    reached: AtomicBool,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").finish_non_exhaustive()
    }
}

impl Database {
    /// Connects with the first statement.
    pub(super) fn new(url: &DatabaseUrl) -> Result<Database, DatabaseError> {
        let mut config = url.config.clone();
        let options = config.get_options().unwrap_or_default();
        let options = format!("{options} -c statement_timeout={STATEMENT_MS}");
        config.options(options.trim().to_owned());
        config.application_name("peerwatt");
        config.connect_timeout(CONNECT).keepalives_idle(KEEPALIVE);
        let is_needed = config.get_ssl_mode() != SslMode::Disable;
        let tls = Tls::new(if is_needed { trusted(url.roots.as_deref())? } else { Vec::new() });
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, tls, how))
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|source| DatabaseError::Pool { source })?;
        Ok(Database { pool, reached: AtomicBool::new(true) })
    }

    pub(super) async fn client(&self) -> Result<Object, DatabaseError> {
        self.pool.get().await.map_err(|cause| DatabaseError::Connect { cause })
    }

    /// Whether it answered when it was last asked.
    pub(super) fn is_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// The rows of one statement.
    pub(super) async fn rows(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        let result = self.ask(doing, statement, parameters).await;
        let reached = result.is_ok();
        if self.reached.swap(reached, Ordering::Relaxed) != reached {
            match &result {
                Ok(_) => tracing::info!("fleet.database_is_back"),
                Err(error) => tracing::error!(%error, "fleet.database_is_away"),
            }
        }
        result
    }

    async fn ask(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        // The database is not part of paused time.
        #[cfg(test)]
        let _still = crate::tests::TimeStandsStill::new();
        let client = self.client().await?;
        let call = async {
            let prepared = client.prepare_cached(statement).await?;
            client.query(&prepared, parameters).await
        };
        match timeout(CALL, call).await {
            Ok(rows) => rows.map_err(|cause| DatabaseError::Statement { doing, cause }),
            Err(_) => {
                // The next user would wait for the same answer.
                drop(Object::take(client));
                Err(DatabaseError::Late { doing })
            }
        }
    }

    /// The only row of one statement.
    pub(super) async fn row(
        &self,
        doing: &'static str,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, DatabaseError> {
        let rows = self.rows(doing, statement, parameters).await?;
        rows.into_iter().next().ok_or(DatabaseError::Damaged { what: "no row" })
    }
}

/// TLS as the rest of the program has it, with the certificates that the system trusts.
#[derive(Clone)]
struct Tls(Arc<rustls::ClientConfig>);

impl Tls {
    fn new(trusted: Vec<CertificateDer<'static>>) -> Tls {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(trusted);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions();
        // The provider has suites for the default versions: it was built for them.
        let config = config.unwrap_or_else(|error| unreachable!("TLS cannot be used: {error}"));
        Tls(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Those who may vouch for a server: of a file, or as the system has them.
fn trusted(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, DatabaseError> {
    let found = match file {
        Some(_) => rustls_native_certs::load_certs_from_paths(file, None),
        None => rustls_native_certs::load_native_certs(),
    };
    if found.certs.is_empty() {
        let problem = found.errors.first().map(ToString::to_string).unwrap_or_default();
        return Err(DatabaseError::Certificates { problem });
    }
    Ok(found.certs)
}

impl<S> MakeTlsConnect<S> for Tls
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type TlsConnect = Connecting;
    type Error = Infallible;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Connecting, Infallible> {
        // A socket in a folder has no name, and is not asked for one.
        let name = ServerName::try_from(domain).ok().map(|name| name.to_owned());
        Ok(Connecting { config: Arc::clone(&self.0), name })
    }
}

struct Connecting {
    config: Arc<rustls::ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl<S> TlsConnect<S> for Connecting
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Stream = Encrypted<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let connector = tokio_rustls::TlsConnector::from(self.config);
        Box::pin(async move {
            let name = self.name.ok_or_else(|| io::Error::other("the host is no name for TLS"))?;
            connector.connect(name, stream).await.map(Encrypted)
        })
    }
}

/// A stream under TLS.
struct Encrypted<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Encrypted<S> {
    fn channel_binding(&self) -> ChannelBinding {
        // The server's certificate is verified, so nobody is in between.
        ChannelBinding::none()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let url: DatabaseUrl = "postgres://me:secret@db.example.org/keys".parse().unwrap();
        assert_eq!(format!("{url:?}"), "postgres://db.example.org/keys");
        for text in ["postgres://me:secret@", "postgres://me:secret@host:port/x", "secret", ""] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted_unless_forbidden() {
        let check = |text: &str, mode: SslMode| {
            let url: DatabaseUrl = text.parse().unwrap();
            assert_eq!(url.config.get_ssl_mode(), mode, "{text}");
        };
        check("postgres://me@127.0.0.1/keys", SslMode::Disable);
        check("postgres://me@localhost/keys", SslMode::Disable);
        check("postgres:///keys?host=/run/postgresql", SslMode::Disable);
        check("postgres://me@db.example.org/keys", SslMode::Require);
        check("postgres://me@127.0.0.1,10.0.0.1/keys", SslMode::Require);
        check("postgres://me@10.0.0.1/keys?sslmode=disable", SslMode::Disable);
        check("postgres://me@127.0.0.1/keys?sslmode=require", SslMode::Require);
        let text = "postgres://me@db.example.org/keys?sslrootcert=/etc/roots.pem&sslmode=require";
        let url: DatabaseUrl = text.parse().unwrap();
        assert_eq!(url.roots.as_deref(), Some(Path::new("/etc/roots.pem")));
    }
}
