//! The cursor: up to where everything is committed elsewhere. Replaced as a whole, in an order that survives a crash at
//! any point: write beside, fsync, rename, fsync the folder.

use super::record::plain_crc;
use crate::base::bytes::{Reader, ShortRead};
use crate::port::disk::{Disk, OpenMode};
use crate::port::ledger::SpoolPosition;
use std::io;
use std::path::Path;

const MAGIC: [u8; 7] = *b"PPCURSO";
const VERSION: u8 = 1;
const SIZE: usize = 44;
const NAME: &str = "cursor";
const NEW: &str = "cursor.new";

/// A place between two records, and the sequence of the one before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) sequence: u64,
}

impl Place {
    pub(super) fn position(&self) -> SpoolPosition {
        SpoolPosition {
            segment: self.segment,
            offset: self.offset,
        }
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) place: Place,
    pub(super) salt: u64,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Cursor(Cursor),
    Missing,
    /// Not written by us, or rotten.
    Damaged,
    Version(u8),
}

impl Cursor {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SIZE);
        out.extend_from_slice(&MAGIC);
        out.push(VERSION);
        for number in [self.place.segment, self.place.offset, self.place.sequence, self.salt] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = plain_crc(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Found, ShortRead> {
        let mut reader = Reader::new(bytes);
        let covered = reader.take(SIZE - 4)?;
        let crc = u32::from_le_bytes(reader.array()?);
        let mut reader = Reader::new(covered);
        if crc != plain_crc(covered) || reader.array()? != MAGIC {
            return Ok(Found::Damaged);
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Ok(Found::Version(version));
        }
        let mut number = || reader.array().map(u64::from_le_bytes);
        let (segment, offset, sequence, salt) = (number()?, number()?, number()?, number()?);
        let place = Place {
            segment,
            offset,
            sequence,
        };
        Ok(Found::Cursor(Self { place, salt }))
    }

    /// Reads the cursor of a folder.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Found> {
        let file = match disk.open(&dir.join(NAME), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
            Err(error) => return Err(error),
        };
        let mut bytes = [0u8; SIZE];
        let count = file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(bytes.get(..count).unwrap_or_default()).unwrap_or(Found::Damaged))
    }

    /// Replaces the cursor; durable when this returns.
    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let new = dir.join(NEW);
        let file = disk.open(&new, OpenMode::Create)?;
        file.write_all_at(&self.encode(), 0)?;
        file.sync_data()?;
        disk.rename(&new, &dir.join(NAME))?;
        disk.sync_dir(dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::disk_model::{Fault, ModelDisk};

    fn cursor(sequence: u64) -> Cursor {
        Cursor {
            place: Place {
                segment: 3,
                offset: 99,
                sequence,
            },
            salt: 7,
        }
    }

    #[test]
    fn round_trip_damage_and_version() {
        let (disk, dir) = (ModelDisk::new(), Path::new("/d"));
        assert_eq!(Cursor::load(&disk, dir).unwrap(), Found::Missing);
        cursor(5).save(&disk, dir).unwrap();
        assert_eq!(Cursor::load(&disk, dir).unwrap(), Found::Cursor(cursor(5)));
        let bytes = disk.contents(&dir.join(NAME)).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            disk.plant(&dir.join(NAME), damaged);
            assert_eq!(Cursor::load(&disk, dir).unwrap(), Found::Damaged, "byte {at}");
            disk.plant(&dir.join(NAME), bytes[..at].to_vec());
            assert_eq!(Cursor::load(&disk, dir).unwrap(), Found::Damaged, "cut at {at}");
        }
    }

    #[test]
    fn a_crash_at_any_point_leaves_the_old_or_the_new_one() {
        for at in 0..10 {
            for seed in 0..20 {
                let (disk, dir) = (ModelDisk::new(), Path::new("/d"));
                cursor(1).save(&disk, dir).unwrap();
                disk.inject(Fault::Crash {
                    at: disk.operations() + at,
                });
                let saved = cursor(2).save(&disk, dir).is_ok();
                let found = Cursor::load(&disk.reboot(seed), dir).unwrap();
                let allowed = [Found::Cursor(cursor(1)), Found::Cursor(cursor(2))];
                assert!(
                    allowed[usize::from(saved)..].contains(&found),
                    "op {at} seed {seed}: {found:?}"
                );
            }
        }
    }
}
