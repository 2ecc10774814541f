//! A disk in memory with the crash semantics that POSIX allows, for tests: what was not synced may be lost, in part and
//! in any mixture, sector by sector; names likewise; faults come at a chosen operation.
//!
//! After a failed sync the unsynced bytes count as clean: they can be read, a further sync says yes, and they are gone
//! after the crash, as on Linux.

mod content;
mod file;

use content::{Change, Content, Random, survival};
use file::ModelFile;

use super::disk::{Disk, DiskEntry, DiskFile, DiskLock, OpenMode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What goes wrong, and at which operation (counted from 0 over all that change the disk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power goes during operation `at`; nothing works any more until [`ModelDisk::reboot`].
    Crash {
        /// The operation.
        at: u64,
    },
    /// Operations `from .. from + count` that need space find none; a write is done in part.
    Full {
        /// The first operation.
        from: u64,
        /// How many.
        count: u64,
    },
    /// Operation `at` fails if it is a sync of a file or folder; what it should have saved may be lost.
    Sync {
        /// The operation.
        at: u64,
    },
    /// Operation `at` fails with an I/O error.
    Broken {
        /// The operation.
        at: u64,
    },
}

/// The disk. Clones share it.
#[derive(Clone, Debug)]
pub struct ModelDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    unsynced_names: Vec<Renaming>,
    files: BTreeMap<u64, Content>,
    locks: BTreeSet<PathBuf>,
    starved: bool,
    operations: u64,
    faults: Vec<Fault>,
    crashed: bool,
    capacity: u64,
    random: Random,
}

/// One atomic change of names in a folder.
#[derive(Clone, Debug)]
struct Renaming {
    dir: PathBuf,
    now: Vec<(PathBuf, Option<u64>)>,
}

fn set_names(names: &mut BTreeMap<PathBuf, u64>, change: &Renaming) {
    for (path, file) in &change.now {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

fn crashed() -> io::Error {
    io::Error::other("the model disk has crashed")
}

fn full() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}

fn folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// What an operation may do.
enum Verdict {
    Go,
    /// Do it, then report the crash.
    Crash,
    Full,
    SyncFails,
    Broken,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    Takes,
    Syncs,
    Other,
}

impl State {
    fn begin(&mut self, nature: Nature) -> io::Result<Verdict> {
        if self.crashed {
            return Err(crashed());
        }
        let now = self.operations;
        self.operations += 1;
        for fault in &self.faults {
            match *fault {
                Fault::Crash { at } if at == now => {
                    self.crashed = true;
                    return Ok(Verdict::Crash);
                }
                Fault::Full { from, count } if nature == Nature::Takes && now >= from && now - from < count => {
                    return Ok(Verdict::Full);
                }
                Fault::Sync { at } if at == now && nature == Nature::Syncs => return Ok(Verdict::SyncFails),
                Fault::Broken { at } if at == now => return Ok(Verdict::Broken),
                _ => {}
            }
        }
        Ok(Verdict::Go)
    }

    fn used(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        live.iter()
            .filter_map(|file| self.files.get(file))
            .map(|content| u64::try_from(content.seen.len()).unwrap_or(u64::MAX))
            .sum()
    }

    fn rename_names(&mut self, change: Renaming) {
        set_names(&mut self.names, &change);
        self.unsynced_names.push(change);
    }

    /// Runs a change that needs no space.
    fn run(&mut self, nature: Nature, action: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        match self.begin(nature)? {
            Verdict::Go => action(self),
            Verdict::Crash => {
                action(self).ok();
                Err(crashed())
            }
            Verdict::Full => Err(full()),
            Verdict::SyncFails | Verdict::Broken => Err(io::Error::other("the model disk fails")),
        }
    }

    fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        if self.crashed {
            return Err(crashed());
        }
        self.content_of(file)
    }

    fn content_of(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Default for ModelDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelDisk {
    /// An empty disk without faults and without end.
    pub fn new() -> Self {
        Self::with(BTreeMap::new(), BTreeMap::new(), 1)
    }

    fn with(names: BTreeMap<PathBuf, u64>, files: BTreeMap<u64, Content>, seed: u64) -> Self {
        let state = State {
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            files,
            locks: BTreeSet::new(),
            starved: false,
            operations: 0,
            faults: Vec::new(),
            crashed: false,
            capacity: u64::MAX,
            random: Random(seed),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a fault.
    pub fn inject(&self, fault: Fault) {
        self.lock_state().faults.push(fault);
    }

    /// Forgets planned faults.
    pub fn heal(&self) {
        self.lock_state().faults.clear();
    }

    /// Whether the process has no descriptor left: nothing can be opened then.
    pub fn set_starved(&self, starved: bool) {
        self.lock_state().starved = starved;
    }

    /// Limits the disk to `bytes` in all.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock_state().capacity = bytes;
    }

    /// How many operations that change the disk were begun.
    pub fn operations(&self) -> u64 {
        self.lock_state().operations
    }

    /// Whether the planned crash has come.
    pub fn has_crashed(&self) -> bool {
        self.lock_state().crashed
    }

    /// Pulls the plug now.
    pub fn crash(&self) {
        self.lock_state().crashed = true;
    }

    /// The disk as the next process finds it. Seed 0 loses all that was unsynced, seed 1 keeps it, the others mix.
    /// This disk is dead from now on, so that threads left over from before cannot reach the new one.
    #[must_use]
    pub fn reboot(&self, seed: u64) -> Self {
        self.lock_state().crashed = true;
        self.reboot_copy(seed)
    }

    /// What [`Self::reboot`] would give, while this disk lives on.
    #[must_use]
    pub fn reboot_copy(&self, seed: u64) -> Self {
        let state = self.lock_state();
        let chance = survival(seed);
        let mut random = Random(seed.wrapping_add(0x5EED));
        let mut names = state.durable_names.clone();
        for change in &state.unsynced_names {
            if random.percent(chance) {
                set_names(&mut names, change);
            }
        }
        let mut files = BTreeMap::new();
        for (file, content) in &state.files {
            let mut content = content.clone();
            content.lose(chance, &mut random);
            content.seen = content.durable.clone();
            files.insert(*file, content);
        }
        Self::with(names, files, seed)
    }

    /// The bytes of a file as a process sees them.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.lock_state();
        let file = state.names.get(path)?;
        state.files.get(file).map(|content| content.seen.clone())
    }

    /// Makes bytes of a file unreadable, as a bad sector does.
    pub fn spoil(&self, path: &Path, bytes: Range<usize>) {
        let mut state = self.lock_state();
        if let Some(file) = state.names.get(path).copied()
            && let Some(content) = state.files.get_mut(&file)
        {
            content.unreadable = Some(bytes);
        }
    }

    /// Puts a file there, durably, whatever was there before.
    pub fn plant(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock_state();
        let file = state.files.keys().next_back().map_or(0, |last| last + 1);
        state.names.insert(path.to_path_buf(), file);
        state.durable_names.insert(path.to_path_buf(), file);
        let content = Content {
            seen: bytes.clone(),
            durable: bytes,
            ..Content::default()
        };
        state.files.insert(file, content);
    }
}

impl Disk for ModelDisk {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        if self.lock_state().crashed {
            Err(crashed())
        } else {
            Ok(())
        }
    }

    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock_state();
        if state.crashed {
            return Err(crashed());
        }
        if state.starved {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        }
        let known = state.names.get(path).copied();
        let file = match (mode, known) {
            (OpenMode::Read | OpenMode::Write, Some(file)) => file,
            (OpenMode::Read | OpenMode::Write, None) => return Err(io::ErrorKind::NotFound.into()),
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::Create, Some(file)) => {
                state.run(Nature::Other, |state| {
                    state.content_of(file)?.change(Change::Length(0));
                    Ok(())
                })?;
                file
            }
            (OpenMode::Create | OpenMode::CreateNew, None) => {
                let file = state.files.keys().next_back().map_or(0, |last| last + 1);
                let change = Renaming {
                    dir: folder(path),
                    now: vec![(path.to_path_buf(), Some(file))],
                };
                state.run(Nature::Takes, |state| {
                    state.files.insert(file, Content::default());
                    state.rename_names(change);
                    Ok(())
                })?;
                file
            }
        };
        Ok(Box::new(ModelFile {
            disk: self.clone(),
            file,
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DiskEntry>> {
        let state = self.lock_state();
        if state.crashed {
            return Err(crashed());
        }
        let entries = state
            .names
            .iter()
            .filter(|(path, _)| path.parent() == Some(dir))
            .filter_map(|(path, file)| {
                Some(DiskEntry {
                    name: path.file_name()?.to_str()?.to_owned(),
                    len: u64::try_from(state.files.get(file)?.seen.len()).ok()?,
                })
            })
            .collect();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let file = state.names.get(from).copied().ok_or(io::ErrorKind::NotFound)?;
        let change = Renaming {
            dir: folder(to),
            now: vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(file))],
        };
        state.run(Nature::Other, |state| {
            state.rename_names(change);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        if !state.names.contains_key(path) {
            return Err(if state.crashed {
                crashed()
            } else {
                io::ErrorKind::NotFound.into()
            });
        }
        let change = Renaming {
            dir: folder(path),
            now: vec![(path.to_path_buf(), None)],
        };
        state.run(Nature::Other, |state| {
            state.rename_names(change);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let verdict = state.begin(Nature::Syncs)?;
        let State {
            unsynced_names,
            durable_names,
            random,
            ..
        } = &mut *state;
        let failed = match verdict {
            Verdict::Go => false,
            Verdict::Crash => return Err(crashed()),
            Verdict::Full | Verdict::SyncFails | Verdict::Broken => true,
        };
        unsynced_names.retain(|change| {
            if change.dir != dir {
                return true;
            }
            if !failed || random.percent(50) {
                set_names(durable_names, change);
            }
            false
        });
        if failed {
            Err(io::Error::other("the model disk fails to sync a folder"))
        } else {
            Ok(())
        }
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.lock_state();
        if state.crashed {
            return Err(crashed());
        }
        Ok(state.capacity.saturating_sub(state.used()))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        let mut state = self.lock_state();
        if state.crashed {
            return Err(crashed());
        }
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(ModelLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        }))
    }
}

#[derive(Debug)]
struct ModelLock {
    disk: ModelDisk,
    path: PathBuf,
}

impl DiskLock for ModelLock {}

impl Drop for ModelLock {
    fn drop(&mut self) {
        self.disk.lock_state().locks.remove(&self.path);
    }
}
