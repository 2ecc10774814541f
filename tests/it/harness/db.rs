//! Databases for tests: each test has its own, copied from a migrated template and dropped after.
//!
//! `POLYPHASE_TEST_PG` names a cluster by a superuser's URL; without it the test process starts a cluster of its own in
//! a temporary folder, and a watchdog process ends it when the test process is gone, however it went.

use polyphase::store::{Database, DatabaseSettings, MIGRATOR};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::fmt::Write as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::OnceCell;

/// A superuser's URL of the cluster, and the migrated template's name.
struct Cluster {
    url: String,
    template: String,
}

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A database of one test. Dropped with it.
pub struct TestDb {
    /// Its name.
    pub name: String,
    superuser: String,
    database: Option<Database>,
}

impl TestDb {
    /// An empty, migrated database.
    pub async fn new() -> Self {
        let cluster = CLUSTER.get_or_init(cluster).await;
        let mut db = Self::named(cluster, &format!("TEMPLATE {}", cluster.template)).await;
        db.database = Some(
            Database::connect(&db.settings())
                .await
                .expect("connect to the test database"),
        );
        db
    }

    /// A database without any of our tables.
    pub async fn blank() -> Self {
        let cluster = CLUSTER.get_or_init(cluster).await;
        Self::named(cluster, "").await
    }

    async fn named(cluster: &Cluster, options: &str) -> Self {
        let name = format!(
            "polyphase_test_{}_{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let mut admin = connect(&cluster.url).await;
        // a template in use by a connection that is just closing: a moment later it is free
        for attempt in 0.. {
            let made = admin
                .execute(AssertSqlSafe(format!("CREATE DATABASE {name} {options}")))
                .await;
            match made {
                Ok(_) => break,
                Err(error) if attempt < 50 && error.to_string().contains("being accessed by other users") => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("create database {name}: {error}"),
            }
        }
        Self {
            name,
            superuser: cluster.url.clone(),
            database: None,
        }
    }

    /// The pools, under the product's roles.
    pub fn database(&self) -> &Database {
        self.database.as_ref().expect("a blank database has no pools")
    }

    /// A superuser's URL of this database; the product gives it to `Database`, which takes its roles.
    pub fn url(&self) -> SecretString {
        with_database(&self.superuser, &self.name).into()
    }

    /// Settings with small pools.
    pub fn settings(&self) -> DatabaseSettings {
        DatabaseSettings {
            app_connections: 4,
            ingest_connections: 3,
            platform_connections: 3,
            ..DatabaseSettings::new(self.url())
        }
    }

    /// A superuser's connection, for preparing and for looking behind row level security.
    pub async fn superuser(&self) -> PgConnection {
        connect(self.url().expose_secret()).await
    }

    /// Runs a statement as superuser from another database, e.g. about this one.
    pub async fn outside(&self, statement: &str) {
        connect(&self.superuser)
            .await
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Runs a statement as superuser.
    pub async fn sql(&self, statement: &str) {
        self.superuser()
            .await
            .execute(AssertSqlSafe(statement.to_owned()))
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = self.superuser.clone();
        // drop cannot wait on the test's own runtime; a database that stays is named after this process and harmless
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let mut admin = PgConnection::connect(&url).await.map_err(std::io::Error::other)?;
                admin
                    .execute(AssertSqlSafe(statement))
                    .await
                    .map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(())
            })
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("test database {} was not dropped: {dropped:?}", self.name);
        }
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url)
        .await
        .unwrap_or_else(|error| panic!("connect to the test cluster: {error}"))
}

fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let scheme = base.find("://").expect("a URL has ://") + 3;
    let end = base[scheme..].find('/').map_or(base.len(), |at| scheme + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..end])
}

async fn cluster() -> Cluster {
    let url = match std::env::var("POLYPHASE_TEST_PG") {
        Ok(url) if !url.is_empty() => url,
        _ => tokio::task::spawn_blocking(start_cluster)
            .await
            .expect("start a cluster"),
    };
    let template = template(&url).await;
    Cluster { url, template }
}

/// The template is named after the migrations, so that a changed schema gets a new one.
async fn template(url: &str) -> String {
    let mut name = String::from("polyphase_template_");
    let sum = MIGRATOR.iter().flat_map(|m| m.checksum.iter()).fold(0u64, |sum, byte| {
        sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(*byte) + 1)
    });
    write!(name, "{sum:016x}").expect("a string takes text");

    let mut admin = connect(&with_database(url, "postgres")).await;
    // several test processes may share the cluster: one of them migrates
    admin
        .execute("SELECT pg_advisory_lock(7219001)")
        .await
        .expect("lock the template");
    let there: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1 AND datistemplate)")
            .bind(&name)
            .fetch_one(&mut admin)
            .await
            .expect("look for the template");
    if !there {
        let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
        admin
            .execute(AssertSqlSafe(drop))
            .await
            .expect("drop a half-made template");
        let create = format!("CREATE DATABASE {name}");
        admin.execute(AssertSqlSafe(create)).await.expect("create the template");
        Database::migrate(&with_database(url, &name).into())
            .await
            .expect("migrate the template");
        let mark = format!("ALTER DATABASE {name} IS_TEMPLATE true");
        admin.execute(AssertSqlSafe(mark)).await.expect("mark the template");
    }
    admin.close().await.expect("release the template");
    name
}

/// The newest installed PostgreSQL's programs.
pub fn postgres_bin() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|entry| entry.path().join("bin")).collect())
        .unwrap_or_default();
    found.retain(|bin| bin.join("postgres").exists());
    found.sort();
    found
        .pop()
        .expect("PostgreSQL is installed (Debian: apt-get install postgresql)")
}

/// A command as the user that may run PostgreSQL: root may not.
pub fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(Stdio::null());
    if rustix::process::geteuid().is_root() {
        let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let ids = ["postgres", "nobody"].iter().find_map(|user| {
            let line = passwd.lines().find(|line| line.starts_with(&format!("{user}:")))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        });
        let (uid, gid): (u32, u32) = ids.expect("user postgres or nobody");
        command.uid(uid).gid(gid);
    }
    command
}

fn start_cluster() -> String {
    let folder = tempfile::Builder::new()
        .prefix("polyphase-test-")
        .tempdir()
        .expect("a temporary folder")
        .keep();
    let bin = postgres_bin();
    if rustix::process::geteuid().is_root() {
        let mut chown = Command::new("chown");
        let user = if std::fs::read_to_string("/etc/passwd")
            .unwrap_or_default()
            .contains("\npostgres:")
        {
            "postgres"
        } else {
            "nobody"
        };
        assert!(chown.arg(user).arg(&folder).status().expect("chown").success());
    }
    let data = folder.join("data");
    let made = as_postgres(&bin.join("initdb"))
        .args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-D",
        ])
        .arg(&data)
        .output()
        .expect("initdb");
    assert!(
        made.status.success(),
        "initdb: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    let options = format!(
        "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories='' -c fsync=off \
         -c max_connections=200 -c max_locks_per_transaction=256"
    );
    let started = as_postgres(&bin.join("pg_ctl"))
        .args(["-w", "-o", &options, "-l"])
        .arg(folder.join("log"))
        .arg("-D")
        .arg(&data)
        .arg("start")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("pg_ctl");
    assert!(
        started.success(),
        "pg_ctl start failed, see {}",
        folder.join("log").display()
    );
    // ends the cluster when this process is gone
    let script = format!(
        "while kill -0 {pid} 2>/dev/null || [ -d /proc/{pid} ]; do sleep 0.5; done; '{ctl}' -D '{data}' -m immediate stop; rm -rf '{folder}'",
        pid = std::process::id(),
        ctl = bin.join("pg_ctl").display(),
        data = data.display(),
        folder = folder.display(),
    );
    let watchdog = as_postgres(Path::new("/bin/sh"))
        .args(["-c", &script])
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the watchdog");
    // it outlives this process by design; nobody waits for it
    drop(watchdog);
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}
