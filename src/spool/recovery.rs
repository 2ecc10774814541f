//! Opening a spool's folder: what is there, where reading and writing go on, and the torn tail cut off.
//!
//! Only the newest segment can have a torn tail, because a segment is begun when all before it is durable. Nothing is
//! ever appended to an old segment: writing begins a new one.

use super::cursor::{self, Cursor, Place};
use super::files::{Damage, keep_damage, segment_number, segment_path};
use super::record::{FIRST_RECORD, HeaderFault, Scanner, SegmentHeader, Stamp, Step};
use super::room::{Found, Segment, trouble};
use crate::port::disk::{Disk, DiskFile, OpenMode};
use crate::telemetry::spool::SpoolDamaged;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another server has it.
    #[error("the spool folder {} is in use by another process; stop the polyphase that runs on it, or give this one a data folder of its own", .0.display())]
    Locked(PathBuf),
    /// The disk said no.
    #[error("spool folder {}: {what}: {source}", .dir.display())]
    Disk {
        /// The folder.
        dir: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The answer.
        source: io::Error,
    },
    /// Written by another version of this program.
    #[error("spool file {} has format version {version}, which this program does not know", .path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// A setting is out of range.
    #[error("spool setting {name} is {value}, at least {min} is needed")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: u64,
        /// The least.
        min: u64,
    },
}

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) found: Found,
    pub(super) salt: u64,
    /// Where the drain begins.
    pub(super) start: Place,
    pub(super) next_segment: u64,
    pub(super) next_sequence: u64,
    pub(super) torn_bytes: u64,
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    segments: BTreeMap<u64, Segment>,
    cursor: Option<Cursor>,
    torn_bytes: u64,
}

/// Looks through the folder.
pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> Result<Recovered, SpoolError> {
    let cannot = |what| {
        move |source| SpoolError::Disk {
            dir: dir.to_path_buf(),
            what,
            source,
        }
    };
    let cursor = match Cursor::load(disk, dir).map_err(cannot("reading the cursor"))? {
        cursor::Found::Cursor(cursor) => Some(cursor),
        cursor::Found::Missing => None,
        cursor::Found::Version(version) => {
            let path = dir.join("cursor");
            return Err(SpoolError::Version { path, version });
        }
        cursor::Found::Damaged => {
            // all that is left is read again, which is harmless
            trouble("reading the cursor", &io::ErrorKind::InvalidData.into());
            None
        }
    };
    let mut segments = BTreeMap::new();
    for entry in disk.list(dir).map_err(cannot("listing"))? {
        if let Some(number) = segment_number(&entry.name) {
            let segment = Segment {
                end: entry.len,
                sealed: true,
            };
            segments.insert(number, segment);
        }
    }
    let recovery = Recovery {
        disk,
        dir,
        segments,
        cursor,
        torn_bytes: 0,
    };
    recovery.run()
}

/// What a scan of one segment says.
struct Tail {
    file: Box<dyn DiskFile>,
    header: Option<SegmentHeader>,
    /// Sequence and tag of the last record.
    last: Option<(u64, u64)>,
    /// Behind the last record.
    end: u64,
    /// Whether only zeros follow.
    zero: bool,
}

/// Sequence and tag of a segment's last record, where that ends, and whether only zeros follow.
type Scanned = (Option<(u64, u64)>, u64, bool);

/// Walks over a segment.
fn scan(file: &dyn DiskFile, stamp: Stamp, len: u64, lenient: bool) -> io::Result<Scanned> {
    let mut scanner = Scanner::new(file, stamp, FIRST_RECORD.min(len), len, None).lenient(lenient);
    let mut last = None;
    loop {
        match scanner.step()? {
            Step::Record { header, .. } => last = Some((header.sequence, header.tag)),
            Step::Hole { .. } => {}
            Step::End { at, zero } => return Ok((last, at, zero)),
        }
    }
}

impl Recovery<'_> {
    fn cannot(&self, what: &'static str, source: io::Error) -> SpoolError {
        SpoolError::Disk {
            dir: self.dir.to_path_buf(),
            what,
            source,
        }
    }

    fn run(mut self) -> Result<Recovered, SpoolError> {
        let salt = self.salt()?;
        let place = self.cursor.map(|cursor| cursor.place);
        let newest = self.segments.keys().next_back().copied().unwrap_or(0);
        let mut last_sequence = place.map_or(0, |place| place.sequence);
        let mut unsure = None;
        while let Some(number) = self.segments.keys().next_back().copied() {
            let tail = self.examine(number, salt)?;
            if let Some(header) = tail.header {
                last_sequence = last_sequence.max(header.first.saturating_sub(1));
            }
            match tail.last {
                Some((sequence, tag)) => {
                    last_sequence = last_sequence.max(sequence);
                    unsure = Some((number, tag));
                    self.cut(number, &tail);
                    break;
                }
                None => self.drop_empty(number, &tail),
            }
        }
        self.delete_covered();
        let start = match place {
            Some(place) => place,
            None => self.first_place()?,
        };
        let behind_last = self.segments.iter().next_back().map(|(number, segment)| Place {
            segment: *number,
            offset: segment.end,
            sequence: last_sequence,
        });
        let behind_cursor = Place {
            sequence: last_sequence,
            ..start
        };
        Ok(Recovered {
            found: Found {
                segments: self.segments,
                durable: behind_last.map_or(behind_cursor, |place| place.max(behind_cursor)),
                committed: start.sequence,
                unsure,
            },
            salt,
            start,
            next_segment: newest.max(start.segment).saturating_add(1),
            next_sequence: last_sequence.saturating_add(1),
            torn_bytes: self.torn_bytes,
        })
    }

    /// The salt of this spool: the cursor has it, and every segment's head.
    fn salt(&self) -> Result<u64, SpoolError> {
        if let Some(cursor) = self.cursor {
            return Ok(cursor.salt);
        }
        for number in self.segments.keys().rev() {
            if let Some(header) = self.header(*number)?.1 {
                return Ok(header.stamp.salt);
            }
        }
        Ok(rand::random())
    }

    fn header(&self, number: u64) -> Result<(Box<dyn DiskFile>, Option<SegmentHeader>), SpoolError> {
        let path = segment_path(self.dir, number);
        let file = self
            .disk
            .open(&path, OpenMode::Read)
            .map_err(|error| self.cannot("opening a segment", error))?;
        // an unreadable head is as good as a damaged one
        match SegmentHeader::read(&*file).unwrap_or(Err(HeaderFault::Damaged)) {
            Ok(header) => Ok((file, Some(header))),
            Err(HeaderFault::Damaged) => Ok((file, None)),
            Err(HeaderFault::Version(version)) => Err(SpoolError::Version { path, version }),
        }
    }

    fn first_place(&self) -> Result<Place, SpoolError> {
        let Some(segment) = self.segments.keys().next().copied() else {
            return Ok(Place::default());
        };
        let header = self.header(segment)?.1;
        Ok(Place {
            segment,
            offset: FIRST_RECORD,
            sequence: header.map_or(0, |header| header.first.saturating_sub(1)),
        })
    }

    fn examine(&self, number: u64, salt: u64) -> Result<Tail, SpoolError> {
        let (file, header) = self.header(number)?;
        let len = self.segments.get(&number).map_or(0, |segment| segment.end);
        let stamp = Stamp {
            salt: header.map_or(salt, |header| header.stamp.salt),
            segment: number,
        };
        // a sector that cannot be read must not keep the server from starting
        let (last, end, zero) = scan(&*file, stamp, len, false)
            .or_else(|_| scan(&*file, stamp, len, true))
            .map_err(|error| self.cannot("reading a segment", error))?;
        Ok(Tail {
            file,
            header,
            last,
            end,
            zero,
        })
    }

    /// Keeps what is no record at the end of a segment. True when it is safe elsewhere.
    fn keep(&mut self, number: u64, file: &dyn DiskFile, span: std::ops::Range<u64>) -> bool {
        let (offset, bytes) = (span.start, span.end.saturating_sub(span.start));
        let kept = keep_damage(self.disk, self.dir, number, file, span, Damage::Torn);
        self.torn_bytes += bytes;
        SpoolDamaged {
            kind: Damage::Torn.as_str(),
            segment: number,
            offset,
            bytes,
            kept: &kept.as_ref().map_or_else(ToString::to_string, ToString::to_string),
        }
        .emit();
        kept.is_ok()
    }

    /// Ends the newest segment behind its last record. On the disk too, unless the tail could not be copied.
    fn cut(&mut self, number: u64, tail: &Tail) {
        let len = self.segments.get(&number).map_or(0, |segment| segment.end);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.end = tail.end;
        }
        if tail.end >= len || (!tail.zero && !self.keep(number, &*tail.file, tail.end..len)) {
            return;
        }
        let cut = self
            .disk
            .open(&segment_path(self.dir, number), OpenMode::Write)
            .and_then(|file| {
                file.set_len(tail.end)?;
                file.sync_data()
            });
        if let Err(error) = cut {
            trouble("cutting a torn tail", &error);
        }
    }

    /// A segment without any record: the crash came before its first group was durable.
    fn drop_empty(&mut self, number: u64, tail: &Tail) {
        let len = self.segments.remove(&number).map_or(0, |segment| segment.end);
        let begin = if tail.header.is_some() {
            FIRST_RECORD.min(len)
        } else {
            0
        };
        let zero = tail.zero && (tail.header.is_some() || is_zero(&*tail.file));
        if !zero && begin < len && !self.keep(number, &*tail.file, begin..len) {
            return;
        }
        if let Err(error) = self.disk.remove(&segment_path(self.dir, number)) {
            trouble("removing an empty segment", &error);
        }
    }

    /// Deletes what the cursor covers: the unlink before the crash may not have survived it.
    fn delete_covered(&mut self) {
        let Some(place) = self.cursor.map(|cursor| cursor.place) else {
            return;
        };
        let covered: Vec<u64> = self
            .segments
            .iter()
            .filter(|(number, segment)| {
                **number < place.segment || (**number == place.segment && place.offset >= segment.end)
            })
            .map(|(number, _)| *number)
            .collect();
        for number in covered {
            match self.disk.remove(&segment_path(self.dir, number)) {
                Ok(()) => {
                    self.segments.remove(&number);
                }
                Err(error) => trouble("deleting a covered segment", &error),
            }
        }
    }
}

/// Whether the place of a segment's head holds nothing but zeros.
fn is_zero(file: &dyn DiskFile) -> bool {
    let mut head = [0u8; 64];
    matches!(file.read_at(&mut head, 0), Ok(count) if head.iter().take(count).all(|byte| *byte == 0))
}
