//! A disk in memory with the crash semantics that POSIX allows, for tests: what was not synced may be lost, in part and
//! in any mixture, sector by sector; names likewise; faults come at a chosen operation.
//!
//! After a failed sync the unsynced bytes count as clean: they can be read, a further sync says yes, and they are gone
//! after the crash, as on Linux.

use super::disk::{Disk, DiskEntry, DiskFile, DiskLock, OpenMode};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a crash keeps or loses in one piece.
const SECTOR: usize = 512;

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

#[derive(Clone, Debug, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

/// `SplitMix64`; a seed reproduces every choice.
#[derive(Clone, Copy, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % bound).unwrap_or(0)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.next() % 100 < chance
    }
}

/// How much of the unsynced survives a crash, percent.
fn survival(seed: u64) -> u64 {
    match seed {
        0 => 0,
        1 => 100,
        _ => [50, 10, 90, 30, 70]
            .get(usize::try_from(seed % 5).unwrap_or(0))
            .copied()
            .unwrap_or(50),
    }
}

fn overlay(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    if let Some(place) = content.get_mut(offset..end) {
        place.copy_from_slice(bytes);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overlay(content, *offset, bytes),
            Self::Length(len) => content.resize(*len, 0),
        }
    }

    /// Keeps a random part of the change.
    fn apply_partly(&self, content: &mut Vec<u8>, chance: u64, random: &mut Random) {
        let (offset, bytes) = match self {
            Self::Write { offset, bytes } => (*offset, bytes.as_slice()),
            Self::Length(_) => {
                if random.percent(chance) {
                    self.apply(content);
                }
                return;
            }
        };
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done;
            let in_sector = (SECTOR - at % SECTOR).min(bytes.len() - done);
            let piece = bytes.get(done..done + in_sector).unwrap_or_default();
            if random.percent(chance) {
                // now and then a sector is torn as well
                let kept = if random.percent(5) {
                    random.below(piece.len())
                } else {
                    piece.len()
                };
                overlay(content, at, piece.get(..kept).unwrap_or_default());
            } else if random.percent(chance / 2) && content.len() < at + in_sector {
                // the length got there, the bytes did not
                content.resize(at + in_sector, 0);
            }
            done += in_sector;
        }
    }
}

impl Content {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A crash or a failed sync: a part reaches the disk, the rest never will.
    fn lose(&mut self, chance: u64, random: &mut Random) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply_partly(&mut self.durable, chance, random);
        }
    }
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

    /// Puts a file there, durably, whatever was there before.
    pub fn plant(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.lock_state();
        let file = state.files.keys().next_back().map_or(0, |last| last + 1);
        state.names.insert(path.to_path_buf(), file);
        state.durable_names.insert(path.to_path_buf(), file);
        let content = Content {
            seen: bytes.clone(),
            durable: bytes,
            unsynced: Vec::new(),
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

#[derive(Debug)]
struct ModelFile {
    disk: ModelDisk,
    file: u64,
}

impl ModelFile {
    /// A change that needs space up to `end`; in a full disk only the part that fits is done.
    fn grow(&self, change: Change, end: u64) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let verdict = state.begin(Nature::Takes)?;
        let len = u64::try_from(state.content_of(self.file).map_or(0, |content| content.seen.len())).unwrap_or(0);
        let beyond = end.saturating_sub(len) > state.capacity.saturating_sub(state.used());
        let state = &mut *state;
        let content = state.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        match verdict {
            Verdict::Go if !beyond => {
                content.change(change);
                Ok(())
            }
            Verdict::Crash => {
                content.change(change);
                Err(crashed())
            }
            Verdict::Go | Verdict::Full => {
                if let Change::Write { offset, mut bytes } = change {
                    bytes.truncate(state.random.below(bytes.len()));
                    let room = usize::try_from(state.capacity).unwrap_or(usize::MAX);
                    if room > offset.saturating_add(bytes.len()) {
                        content.change(Change::Write { offset, bytes });
                    }
                }
                Err(full())
            }
            Verdict::SyncFails | Verdict::Broken => Err(io::Error::other("the model disk fails to write")),
        }
    }
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl DiskFile for ModelFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = to_usize(offset)?;
        let mut state = self.disk.lock_state();
        let content = state.content(self.file)?;
        let rest = content.seen.get(offset..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let change = Change::Write {
            offset: to_usize(offset)?,
            bytes: bytes.to_vec(),
        };
        self.grow(change, end)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.lock_state();
        let content = state.content(self.file)?;
        Ok(u64::try_from(content.seen.len()).unwrap_or(u64::MAX))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        self.disk.lock_state().run(Nature::Other, |state| {
            state.content_of(self.file)?.change(Change::Length(len));
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let seen = self.len()?;
        if len <= seen {
            return Ok(());
        }
        self.grow(Change::Length(to_usize(len)?), len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        let verdict = state.begin(Nature::Syncs)?;
        let state = &mut *state;
        let content = state.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        match verdict {
            Verdict::Go => {
                content.sync();
                Ok(())
            }
            Verdict::Crash => Err(crashed()),
            Verdict::Full | Verdict::SyncFails | Verdict::Broken => {
                content.lose(50, &mut state.random);
                Err(io::Error::other("the model disk fails to sync"))
            }
        }
    }
}
