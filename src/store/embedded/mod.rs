//! The server's own PostgreSQL cluster in its data folder, made of the PostgreSQL installed on this host.
//!
//! Layout: `<data>/postgres/cluster` (PGDATA), `<data>/postgres/log` (a week of logs), `<data>/postgres.secret` (passwords, 0600), `<data>/postgres.port` (the port of last time),
//! `<data>/postgres.use` and `<data>/postgres.start` (locks). It listens on loopback TCP alone, with
//! SCRAM passwords. It outlives a killed server and is adopted by the next one; whoever uses it holds a shared lock,
//! and the last one out stops it, so `polyphase user add` works beside a running server and without one.

mod cluster;
mod install;
mod locks;
mod process;
mod run_as;
mod secret;

use crate::telemetry::storage::{EMBEDDED, EmbeddedUp};
use cluster::Cluster;
use locks::{StartLock, UseLock};
use secrecy::SecretString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the cluster lives and what it is made of.
#[derive(Clone, Debug)]
pub struct EmbeddedSettings {
    /// The server's data folder; the cluster is in `postgres` below it.
    pub data: PathBuf,
    /// The folder with PostgreSQL's programs; none: found.
    pub bin: Option<PathBuf>,
    /// The port on 127.0.0.1; none: the one of last time, else a free one.
    pub port: Option<u16>,
}

/// Why there is no cluster. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// No usable installation.
    #[error(
        "no PostgreSQL {} or newer is installed on this host (found: {}): install it (Debian: apt-get install postgresql), name its programs' folder in [database] embedded_bin, or set [database] url to use another server",
        install::MAJOR_MIN, list(.installed)
    )]
    NotInstalled {
        /// Major versions found.
        installed: Vec<u32>,
    },
    /// The cluster was made by another major version.
    #[error(
        "the cluster in {} was made by PostgreSQL {major}, which is not installed (installed: {}): install postgresql-{major}, or upgrade the cluster with pg_upgrade of the newer version, or restore a backup into a new data folder",
        .cluster.display(), list(.installed)
    )]
    OtherMajor {
        /// The cluster's folder.
        cluster: PathBuf,
        /// Its major version.
        major: u32,
        /// Major versions found.
        installed: Vec<u32>,
    },
    /// Root cannot run PostgreSQL and finds nobody who could.
    #[error(
        "PostgreSQL does not run as root, and this host has neither a user postgres nor nobody: run polyphase as another user"
    )]
    NoUser,
    /// A folder on the way is closed to the user that runs PostgreSQL.
    #[error(
        "the user {user}, who runs PostgreSQL for root, may not pass through {}: chmod o+x {}, or move the data folder ([data] folder) to where {user} may go, e.g. /var/lib/polyphase",
        .folder.display(), .folder.display()
    )]
    Closed {
        /// The folder.
        folder: PathBuf,
        /// The user.
        user: String,
    },
    /// The password file is lost while the cluster exists.
    #[error(
        "the cluster in {} is there, but its password file {} is not: bring it back from a backup, or move the cluster away to begin anew",
        .cluster.display(), .path.display()
    )]
    NoSecret {
        /// The cluster.
        cluster: PathBuf,
        /// Where the file should be.
        path: PathBuf,
    },
    /// The password file cannot be understood.
    #[error("the password file {} is damaged: bring it back from a backup", .path.display())]
    BadSecret {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(String),
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed: {said}")]
    Program {
        /// Its name.
        program: &'static str,
        /// What it said, and the end of its log.
        said: String,
    },
    /// Another polyphase has been starting or stopping the cluster for long.
    #[error("another polyphase has held {} for {waited_s} s; is one hanging?", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited_s: u64,
    },
    /// The cluster runs but cannot be set up.
    #[error("cannot set up the cluster: {0}")]
    SetUp(String),
}

fn list(majors: &[u32]) -> String {
    if majors.is_empty() {
        return "none".into();
    }
    majors.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

/// A running cluster that this process uses.
#[derive(Debug)]
pub struct Embedded {
    cluster: Cluster,
    port: u16,
    in_use: Option<UseLock>,
}

impl Embedded {
    /// Adopts the running cluster of this data folder, or starts it, or makes it first.
    ///
    /// # Errors
    /// [`EmbeddedError`] says what is in the way and what to do.
    pub async fn attach_or_start(settings: &EmbeddedSettings) -> Result<Self, EmbeddedError> {
        make_folder(&settings.data)?;
        let _starting = StartLock::wait(&settings.data).await?;
        let cluster = Cluster::prepare(settings).await?;
        let (port, adopted) = cluster.up(settings.port).await?;
        // shared: every user of the cluster holds it, and a killed one lets go by itself
        let in_use = UseLock::share(&settings.data)?;
        cluster.set_up(port).await?;
        EMBEDDED.set(1);
        EmbeddedUp {
            port,
            adopted,
            folder: &cluster.folder().display().to_string(),
        }
        .emit();
        Ok(Self {
            cluster,
            port,
            in_use: Some(in_use),
        })
    }

    /// The URL of the server's own database, with its password, for [`crate::store::Database`]. The login is no superuser.
    pub fn url(&self) -> SecretString {
        self.cluster.url(self.port)
    }

    /// The same database as the cluster's superuser, for what takes the right to make roles.
    pub fn superuser_url(&self) -> SecretString {
        self.cluster.superuser_url(self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the cluster (PGDATA).
    pub fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    /// Starts the cluster again if its postmaster is gone, on the same port. True when it had to.
    ///
    /// # Errors
    /// [`EmbeddedError`] when it does not come up.
    pub async fn ensure_running(&self) -> Result<bool, EmbeddedError> {
        if self.cluster.running().is_some() {
            return Ok(false);
        }
        EMBEDDED.set(0);
        let _starting = StartLock::wait(self.cluster.data()).await?;
        let (_, adopted) = self.cluster.up(Some(self.port)).await?;
        EMBEDDED.set(1);
        EmbeddedUp {
            port: self.port,
            adopted,
            folder: &self.cluster.folder().display().to_string(),
        }
        .emit();
        Ok(!adopted)
    }

    /// Looks after the cluster for as long as it is polled: a postmaster that died is started again.
    pub async fn keep_running(&self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.ensure_running().await {
                tracing::error!(%error, "the embedded postgresql does not come up");
            }
        }
    }

    /// Lets go of the cluster; stops it when nobody else uses it.
    ///
    /// # Errors
    /// [`EmbeddedError`] when it does not stop.
    pub async fn release(mut self) -> Result<(), EmbeddedError> {
        let _stopping = StartLock::wait(self.cluster.data()).await?;
        drop(self.in_use.take());
        if !UseLock::is_free(self.cluster.data())? {
            return Ok(());
        }
        self.cluster.stop().await?;
        EMBEDDED.set(0);
        Ok(())
    }
}

/// The data folder; one that we make is open enough for the user that runs PostgreSQL to pass through.
fn make_folder(data: &Path) -> Result<(), EmbeddedError> {
    use std::os::unix::fs::DirBuilderExt;
    if data.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(data)
        .map_err(|source| EmbeddedError::Io {
            what: "make",
            path: data.to_path_buf(),
            source,
        })
}
