//! Making, starting, stopping and setting up one cluster.

use super::install::{self, Installation};
use super::run_as::{self, User};
use super::secret::Secret;
use super::{EmbeddedError, EmbeddedSettings, process};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// pg_ctl waits so long for a start: crash recovery reads all log since the last checkpoint.
const START_TIMEOUT_S: &str = "300";
/// Children of a killed postmaster need a moment to notice; PostgreSQL refuses to start beside them.
const HOLDERS_WAIT: Duration = Duration::from_secs(15);
const DATABASE: &str = "polyphase";
const LOGIN: &str = "polyphase";
const SUPERUSER: &str = "postgres";
const ROLES: [&str; 4] = [
    "polyphase_owner",
    "polyphase_app",
    "polyphase_ingest",
    "polyphase_platform",
];

/// A cluster in its folder, running or not.
#[derive(Debug)]
pub(super) struct Cluster {
    data: PathBuf,
    folder: PathBuf,
    installation: Installation,
    user: Option<User>,
    secret: Secret,
}

impl Cluster {
    /// Makes the cluster if it is missing. The start lock is held.
    pub(super) async fn prepare(settings: &EmbeddedSettings) -> Result<Self, EmbeddedError> {
        let data = std::fs::canonicalize(&settings.data).map_err(|source| EmbeddedError::Io {
            what: "look at",
            path: settings.data.clone(),
            source,
        })?;
        let home = data.join("postgres");
        let folder = home.join("cluster");
        let major = made_by(&folder);
        let found = install::find(settings.bin.as_deref()).await;
        let installation = install::choose(&found, major, &folder)?;
        let user = run_as::user()?;
        run_as::traversable(&data, user.as_ref())?;

        let secret_path = data.join("postgres.secret");
        let secret = match (Secret::read(&secret_path)?, major) {
            (Some(secret), _) => secret,
            (None, None) => Secret::create(&secret_path)?,
            (None, Some(_)) => {
                return Err(EmbeddedError::NoSecret {
                    cluster: folder,
                    path: secret_path,
                });
            }
        };
        let cluster = Self {
            data,
            folder,
            installation,
            user,
            secret,
        };
        if major.is_none() {
            cluster.create(&home).await?;
        }
        Ok(cluster)
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn url(&self, port: u16) -> SecretString {
        url(LOGIN, &self.secret.login, port, DATABASE)
    }

    pub(super) fn superuser_url(&self, port: u16) -> SecretString {
        url(SUPERUSER, &self.secret.superuser, port, DATABASE)
    }

    /// The port of the running postmaster; none when there is none.
    pub(super) fn running(&self) -> Option<u16> {
        let file = process::pid_file(&self.folder)?;
        let port = file.port?;
        process::is_ours(file.pid, &self.folder).then_some(port)
    }

    /// initdb into a folder that gets its name when it is whole: a cluster that a kill has left half made is none.
    async fn create(&self, home: &Path) -> Result<(), EmbeddedError> {
        let unfinished = home.join("cluster.new");
        let password = home.join("password");
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).map_err(|source| io("remove", &unfinished, source))?;
        }
        std::fs::create_dir_all(home).map_err(|source| io("make", home, source))?;
        std::fs::set_permissions(home, PermissionsExt::from_mode(0o700)).map_err(|source| io("close", home, source))?;
        run_as::give(home, self.user.as_ref())?;
        write_private(&password, self.secret.superuser.expose_secret(), self.user.as_ref())?;

        let mut initdb = run_as::command(&self.installation.program("initdb"), self.user.as_ref());
        initdb
            .arg("--pgdata")
            .arg(&unfinished)
            .arg("--pwfile")
            .arg(&password)
            .args(["--username", SUPERUSER, "--auth=scram-sha-256", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--data-checksums"]);
        let made = run("initdb", initdb).await;
        // the superuser's password stays in one place alone
        std::fs::remove_file(&password).map_err(|source| io("remove", &password, source))?;
        made?;
        std::fs::rename(&unfinished, &self.folder).map_err(|source| io("make", &self.folder, source))
    }

    /// The port of the running cluster, started if need be, and whether it ran already. The start lock is held.
    pub(super) async fn up(&self, wanted: Option<u16>) -> Result<(u16, bool), EmbeddedError> {
        if let Some(port) = self.running() {
            self.answers(port).await?;
            return Ok((port, true));
        }
        self.clear().await?;
        let before = self.port_before();
        let mut last = None;
        // a port that was free a moment ago can be taken: try another one, unless one was asked for
        for attempt in 0..3 {
            let port = match (wanted, before) {
                (Some(port), _) => port,
                (None, Some(port)) if attempt == 0 && is_free(port) => port,
                _ => free_port()?,
            };
            match self.start(port).await {
                Ok(()) => {
                    self.remember(port)?;
                    return Ok((port, false));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(EmbeddedError::SetUp("no port was tried".into())))
    }

    /// Makes way for a start: waits for the children of a killed postmaster, and removes a pid file whose number
    /// belongs to a stranger now, for which PostgreSQL itself would wait for ever.
    async fn clear(&self) -> Result<(), EmbeddedError> {
        let step = Duration::from_millis(100);
        let mut waited = Duration::ZERO;
        while !process::holders(&self.folder).is_empty() && waited < HOLDERS_WAIT {
            tokio::time::sleep(step).await;
            waited += step;
        }
        let path = self.folder.join("postmaster.pid");
        let free = process::holders(&self.folder).is_empty() && Path::new("/proc/self").exists();
        if free && path.exists() {
            tracing::warn!(path = %path.display(), "removing the pid file of a postmaster that is gone");
            std::fs::remove_file(&path).map_err(|source| io("remove", &path, source))?;
        }
        Ok(())
    }

    async fn start(&self, port: u16) -> Result<(), EmbeddedError> {
        // root never writes into a folder of the other user, who could have put a link there: settings go by argument
        let log = self.log();
        match std::fs::remove_file(&log) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", &log, source)),
            _ => {}
        }
        let mut start = run_as::command(&self.installation.program("pg_ctl"), self.user.as_ref());
        start
            .args(["start", "--wait", "--timeout", START_TIMEOUT_S, "--log"])
            .arg(&log)
            .arg("--options")
            .arg(options(port))
            .arg("--pgdata")
            .arg(&self.folder);
        let started = run("pg_ctl start", start).await;
        started.map_err(|error| match error {
            EmbeddedError::Program { program, said } => EmbeddedError::Program {
                program,
                said: format!("{said}\n{}: {}", log.display(), tail(&log)),
            },
            other => other,
        })
    }

    /// Fast shutdown: connections are ended, a checkpoint is written.
    pub(super) async fn stop(&self) -> Result<(), EmbeddedError> {
        if self.running().is_none() {
            return Ok(());
        }
        let mut stop = run_as::command(&self.installation.program("pg_ctl"), self.user.as_ref());
        stop.args(["stop", "--mode=fast", "--wait", "--timeout", "120", "--pgdata"])
            .arg(&self.folder);
        run("pg_ctl stop", stop).await
    }

    /// Waits until an adopted postmaster takes connections: it may be in crash recovery.
    async fn answers(&self, port: u16) -> Result<(), EmbeddedError> {
        let url = url(SUPERUSER, &self.secret.superuser, port, "postgres");
        let mut last = String::new();
        for _ in 0..300 {
            match PgConnection::connect(url.expose_secret()).await {
                Ok(connection) => {
                    // it answered; a failing good-bye changes nothing
                    connection.close().await.ok();
                    return Ok(());
                }
                Err(error) => last = error.to_string(),
            }
            if self.running().is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Err(EmbeddedError::SetUp(format!(
            "the running cluster does not answer: {last}"
        )))
    }

    /// Roles, login and database, as far as they are missing. The login is no superuser and may not make roles.
    pub(super) async fn set_up(&self, port: u16) -> Result<(), EmbeddedError> {
        let failed = |error: sqlx::Error| EmbeddedError::SetUp(error.to_string());
        let admin = url(SUPERUSER, &self.secret.superuser, port, "postgres");
        let mut connection = PgConnection::connect(admin.expose_secret()).await.map_err(failed)?;
        for role in ROLES.into_iter().chain(["polyphase_grafana"]) {
            if !exists(
                &mut connection,
                "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
                role,
            )
            .await
            .map_err(failed)?
            {
                execute(&mut connection, format!("CREATE ROLE {role} NOLOGIN"))
                    .await
                    .map_err(failed)?;
            }
        }
        if !exists(
            &mut connection,
            "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
            LOGIN,
        )
        .await
        .map_err(failed)?
        {
            // the password is hex
            let statement = format!(
                "CREATE ROLE {LOGIN} LOGIN PASSWORD '{}'",
                self.secret.login.expose_secret()
            );
            execute(&mut connection, statement).await.map_err(failed)?;
        }
        execute(&mut connection, format!("GRANT {} TO {LOGIN}", ROLES.join(", ")))
            .await
            .map_err(failed)?;
        if !exists(
            &mut connection,
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)",
            DATABASE,
        )
        .await
        .map_err(failed)?
        {
            execute(&mut connection, format!("CREATE DATABASE {DATABASE} OWNER {LOGIN}"))
                .await
                .map_err(failed)?;
        }
        connection.close().await.map_err(failed)
    }

    fn log(&self) -> PathBuf {
        self.folder.with_file_name("start.log")
    }

    /// The port of last time, so that a Grafana that was pointed at it finds it again.
    fn port_before(&self) -> Option<u16> {
        std::fs::read_to_string(self.port_file()).ok()?.trim().parse().ok()
    }

    fn remember(&self, port: u16) -> Result<(), EmbeddedError> {
        let path = self.port_file();
        std::fs::write(&path, format!("{port}\n")).map_err(|source| io("write", &path, source))
    }

    fn port_file(&self) -> PathBuf {
        self.data.join("postgres.port")
    }
}

/// What differs from PostgreSQL's own defaults.
const SETTINGS: [(&str, &str); 22] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("password_encryption", "scram-sha-256"),
    ("cluster_name", "polyphase"),
    ("max_connections", "60"),
    ("shared_buffers", "256MB"),
    // what is acknowledged is on the disk
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    // fewer checkpoints: after each, the first change of a page is logged as the whole page
    ("max_wal_size", "2GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "on"),
    // a query over all days takes a lock for each day's tables
    ("max_locks_per_transaction", "512"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    // a week of logs, a file a day
    ("logging_collector", "on"),
    ("log_directory", "../log"),
    ("log_filename", "postgres-%a.log"),
    ("log_truncate_on_rotation", "on"),
    ("log_rotation_age", "1d"),
    ("log_rotation_size", "0"),
];

fn options(port: u16) -> String {
    let mut options = format!("-c port={port}");
    for (name, value) in SETTINGS {
        options.push_str(&format!(" -c {name}='{value}'"));
    }
    options
}

fn url(login: &str, password: &SecretString, port: u16, database: &str) -> SecretString {
    let password = password.expose_secret();
    format!("postgres://{login}:{password}@127.0.0.1:{port}/{database}?sslmode=disable").into()
}

fn made_by(folder: &Path) -> Option<u32> {
    std::fs::read_to_string(folder.join("PG_VERSION"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

async fn exists(connection: &mut PgConnection, query: &'static str, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(query).bind(name).fetch_one(connection).await
}

async fn execute(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

async fn run(program: &'static str, mut command: tokio::process::Command) -> Result<(), EmbeddedError> {
    let output = command.output().await.map_err(|error| EmbeddedError::Program {
        program,
        said: error.to_string(),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stdout));
    Err(EmbeddedError::Program {
        program,
        said: said.trim().chars().take(2000).collect(),
    })
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

fn is_free(port: u16) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn free_port() -> Result<u16, EmbeddedError> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|error| EmbeddedError::SetUp(format!("no free port on 127.0.0.1: {error}")))
}

/// A new file that its owner alone can read; one that is there, or a link, is replaced and never followed.
fn write_private(path: &Path, text: &str, user: Option<&User>) -> Result<(), EmbeddedError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(io("remove", path, source)),
        _ => {}
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            match user {
                Some(user) => std::os::unix::fs::fchown(&file, Some(user.uid), Some(user.gid)),
                None => Ok(()),
            }
        });
    written.map_err(|source| io("write", path, source))
}

fn io(what: &'static str, path: &Path, source: std::io::Error) -> EmbeddedError {
    EmbeddedError::Io {
        what,
        path: path.to_path_buf(),
        source,
    }
}
