//! An open file of the model disk.

use super::content::Change;
use super::{ModelDisk, Nature, Verdict, crashed, full};
use crate::port::disk::DiskFile;
use std::io;

#[derive(Debug)]
pub(super) struct ModelFile {
    pub(super) disk: ModelDisk,
    pub(super) file: u64,
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
        let spoilt = content.unreadable.as_ref();
        if spoilt.is_some_and(|spoilt| spoilt.start < offset + count && offset < spoilt.end) {
            return Err(io::Error::other("the model disk cannot read a sector"));
        }
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
