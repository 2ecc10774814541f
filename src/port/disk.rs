//! The disk's seam: what the spool and the frame recorder ask of a file system, and no more, so that tests can put a
//! disk in its place that loses unsynced writes, tears records, fails and fills up ([`super::disk_model`]).
//!
//! The rules are those of POSIX, not of one file system: bytes are stable after [`DiskFile::sync_data`], names (made,
//! renamed, removed) after [`Disk::sync_dir`] of their folder. Until then a crash may keep or lose each of them.
//! Every call blocks; call from a thread that may.

use std::fmt::Debug;
use std::io;
use std::path::Path;

/// How a file is opened. All but `Read` can also read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Reads a file that exists.
    Read,
    /// Reads and writes a file that exists.
    Write,
    /// Makes a file; fails with `AlreadyExists` when it is there.
    CreateNew,
    /// Makes a file, or empties the one that is there.
    Create,
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskEntry {
    /// The file's name without its folder.
    pub name: String,
    /// Its length, bytes.
    pub len: u64,
}

/// Holds a lock until dropped.
pub trait DiskLock: Send + Sync + Debug {}

/// A file system, as far as logs need one.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Makes a folder and its parents, durably; one that exists is fine.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Opens a file.
    ///
    /// # Errors
    /// The operating system's.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// The files (not folders) of a folder, in no order.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>>;

    /// Renames within one folder; atomically replaces what is there.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the folder's names durable.
    ///
    /// # Errors
    /// The operating system's; names may then be durable or not.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that we may still write on the file system of `dir`.
    ///
    /// # Errors
    /// The operating system's.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;

    /// Takes an exclusive lock on a file, which is made when missing. The lock goes with the guard, or the process.
    ///
    /// # Errors
    /// `WouldBlock` when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Offsets are bytes from its begin.
pub trait DiskFile: Send + Sync + Debug {
    /// Fills `buffer` from `offset`; less only at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`. A failed write may have written any part.
    ///
    /// # Errors
    /// The operating system's; see [`is_disk_full`].
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Length, bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no byte.
    ///
    /// # Errors
    /// The operating system's.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Sets blocks aside for `len` bytes; a shorter file then reads as zeros up to there.
    ///
    /// # Errors
    /// Disk full; `Unsupported` where the file system cannot.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable. After an error nobody knows what is on the disk, and a second call may
    /// say yes although the first one lost bytes: never retry it.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_data(&self) -> io::Result<()>;
}

/// Whether the error says that there is no space (or no quota) left.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the error says that the process or the system has no file descriptor left. That passes.
pub fn is_descriptor_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}
