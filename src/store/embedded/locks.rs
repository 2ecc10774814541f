//! Two lock files beside the cluster: who is starting or stopping it, and who uses it. The kernel frees them when their
//! process ends, however it ends.

use super::EmbeddedError;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A start with crash recovery may take minutes.
const WAIT_S: u64 = 300;

fn open(path: &Path) -> Result<File, EmbeddedError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|source| io(path, source))
}

fn io(path: &Path, source: std::io::Error) -> EmbeddedError {
    EmbeddedError::Io {
        what: "lock",
        path: path.to_path_buf(),
        source,
    }
}

fn use_path(data: &Path) -> PathBuf {
    data.join("postgres.use")
}

/// Held while the cluster is made, started or stopped.
#[derive(Debug)]
pub(super) struct StartLock {
    _file: File,
}

impl StartLock {
    /// Waits for its turn.
    pub(super) async fn wait(data: &Path) -> Result<Self, EmbeddedError> {
        let path = data.join("postgres.start");
        let file = open(&path)?;
        let every = Duration::from_millis(100);
        for _ in 0..WAIT_S * 10 {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(every).await,
                Err(TryLockError::Error(source)) => return Err(io(&path, source)),
            }
        }
        Err(EmbeddedError::Locked { path, waited_s: WAIT_S })
    }
}

/// Held, shared, by every process that uses the cluster.
#[derive(Debug)]
pub(super) struct UseLock {
    _file: File,
}

impl UseLock {
    pub(super) fn share(data: &Path) -> Result<Self, EmbeddedError> {
        let path = use_path(data);
        let file = open(&path)?;
        // nobody holds it exclusively beyond the moment of `is_free`, and that one holds the start lock, as we do
        file.lock_shared().map_err(|source| io(&path, source))?;
        Ok(Self { _file: file })
    }

    /// Whether nobody uses the cluster. Ask with the start lock held.
    pub(super) fn is_free(data: &Path) -> Result<bool, EmbeddedError> {
        let path = use_path(data);
        match open(&path)?.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(source)) => Err(io(&path, source)),
        }
    }
}
