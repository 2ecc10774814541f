//! The operating system's disk.

use crate::port::disk::{Disk, DiskEntry, DiskFile, DiskLock, OpenMode};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Files of the host. Files it makes are readable by the owner alone: readings are personal data.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

#[derive(Debug)]
struct OsFile(File);

#[derive(Debug)]
struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}

fn private() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_dir(parent)?;
            std::fs::create_dir(dir).or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })?;
            return self.sync_dir(parent);
        }
        std::fs::create_dir(dir).or_else(|error| if dir.is_dir() { Ok(()) } else { Err(error) })
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = private();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::Write => options.write(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Create => options.write(true).create(true).truncate(true),
        };
        Ok(Box::new(OsFile(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                entries.push(DiskEntry {
                    name,
                    len: metadata.len(),
                });
            }
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let facts = statvfs(dir)?;
        Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let file = private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0usize;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(u64::try_from(done).unwrap_or(u64::MAX));
            match self.0.read_at(rest, at) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        Ok(fallocate(&self.0, FallocateFlags::empty(), 0, len)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_what_the_seam_says() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/b");
        OsDisk.create_dir(&dir).unwrap();
        OsDisk.create_dir(&dir).unwrap();
        let path = dir.join("f");
        assert_eq!(
            OsDisk.open(&path, OpenMode::Read).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let file = OsDisk.open(&path, OpenMode::CreateNew).unwrap();
        assert_eq!(
            OsDisk.open(&path, OpenMode::CreateNew).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        file.write_all_at(b"hello", 3).unwrap();
        file.allocate(100).unwrap();
        assert_eq!(file.len().unwrap(), 100);
        file.set_len(8).unwrap();
        file.sync_data().unwrap();
        let mut buffer = [9; 16];
        assert_eq!(file.read_at(&mut buffer, 2).unwrap(), 6);
        assert_eq!(&buffer[..6], b"\0hello");
        OsDisk.rename(&path, &dir.join("g")).unwrap();
        OsDisk.sync_dir(&dir).unwrap();
        assert_eq!(
            OsDisk.list(&dir).unwrap(),
            [DiskEntry {
                name: "g".into(),
                len: 8
            }]
        );
        assert!(OsDisk.free_bytes(&dir).unwrap() > 0);
        let lock = OsDisk.lock(&dir.join("lock")).unwrap();
        assert_eq!(
            OsDisk.lock(&dir.join("lock")).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(lock);
        OsDisk.lock(&dir.join("lock")).unwrap();
        OsDisk.remove(&dir.join("g")).unwrap();
    }
}
