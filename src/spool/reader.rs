//! The reading half, without its thread: durable records in order, and the cursor behind what is committed.

use super::codec::decode_poll;
use super::cursor::{Cursor, Place};
use super::files::{Damage, segment_path};
use super::record::{FIRST_RECORD, Scanner, SegmentHeader, Stamp, Step};
use super::room::{Room, trouble};
use crate::port::disk::{DiskFile, is_disk_full};
use crate::port::ledger::PollRecord;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A read that fails so often at one place is not tried again: what cannot be read is damage.
const ATTEMPTS: u32 = 3;
/// A batch stops behind this many bytes of bodies.
const BATCH_BYTES: usize = 8 << 20;

/// What one read brought.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<PollRecord>,
    /// Where the next read begins.
    pub(super) next: Place,
}

/// The reading half.
#[derive(Debug)]
pub(super) struct Reader {
    room: Arc<Room>,
    salt: u64,
    open: Option<(Stamp, Box<dyn DiskFile>)>,
    /// Reads that failed in a row.
    failures: u32,
}

impl Reader {
    pub(super) fn new(room: Arc<Room>, salt: u64) -> Self {
        Self {
            room,
            salt,
            open: None,
            failures: 0,
        }
    }

    /// Records from `at` on, as far as they are durable, at most `records_max`. A disk that cannot read is an error
    /// [`ATTEMPTS`] times, then damage that is stepped over.
    pub(super) fn read(&mut self, at: Place, records_max: usize) -> io::Result<Batch> {
        let read = self.try_read(at, records_max);
        match &read {
            Ok(_) => self.failures = 0,
            Err(error) => {
                trouble("reading a segment", error);
                self.failures += 1;
                self.open = None;
            }
        }
        read
    }

    fn try_read(&mut self, mut at: Place, records_max: usize) -> io::Result<Batch> {
        let durable = self.room.durable.borrow().place;
        let mut batch = Batch {
            records: Vec::new(),
            next: at,
        };
        let mut budget = BATCH_BYTES;
        while batch.records.len() < records_max && budget > 0 {
            let limit = if at.segment == durable.segment {
                Some(durable.offset)
            } else {
                self.room.segments().get(&at.segment).map(|segment| segment.end)
            };
            match limit.filter(|limit| at.offset < *limit) {
                Some(limit) => at = self.read_segment(at, limit, records_max, &mut budget, &mut batch.records)?,
                None => match self.following(at.segment, durable.segment) {
                    Some(segment) => {
                        at.segment = segment;
                        at.offset = FIRST_RECORD;
                    }
                    None => break,
                },
            }
        }
        batch.next = at;
        Ok(batch)
    }

    /// The next segment that exists, not behind the durable one.
    fn following(&self, segment: u64, durable: u64) -> Option<u64> {
        let segments = self.room.segments();
        let (number, _) = segments.range(segment.checked_add(1)?..).next()?;
        (*number <= durable).then_some(*number)
    }

    fn file(&mut self, number: u64) -> io::Result<(Stamp, &dyn DiskFile)> {
        let file = match self.open.take() {
            Some((stamp, file)) if stamp.segment == number => (stamp, file),
            _ => {
                let file = self.room.open_segment(number)?;
                let header = match SegmentHeader::read(&*file) {
                    Err(_) if self.failures >= ATTEMPTS => None,
                    header => header?.ok(),
                };
                let salt = header.map_or(self.salt, |header| header.stamp.salt);
                let stamp = Stamp { salt, segment: number };
                (stamp, file)
            }
        };
        let (stamp, file) = self.open.insert(file);
        Ok((*stamp, &**file))
    }

    fn read_segment(
        &mut self,
        mut at: Place,
        limit: u64,
        records_max: usize,
        budget: &mut usize,
        records: &mut Vec<PollRecord>,
    ) -> io::Result<Place> {
        let room = Arc::clone(&self.room);
        let lenient = self.failures >= ATTEMPTS;
        let (stamp, file) = self.file(at.segment)?;
        let last = (at.sequence > 0).then_some(at.sequence);
        let mut scanner = Scanner::new(file, stamp, at.offset, limit, last).lenient(lenient);
        let mut torn = false;
        while records.len() < records_max && *budget > 0 {
            match scanner.step()? {
                Step::Record { header, body, at: from } => {
                    let expected = at.sequence.saturating_add(1);
                    if at.sequence > 0 && header.sequence > expected && !torn {
                        let missing = header.sequence - expected;
                        room.lost(missing, expected, "missing in the numbering");
                    }
                    torn = false;
                    *budget = budget.saturating_sub(body.len());
                    at.sequence = header.sequence;
                    at.offset = scanner.offset();
                    match decode_poll(&body) {
                        Ok(record) => records.push(record),
                        Err(error) => {
                            room.damaged(stamp.segment, file, from..at.offset, Damage::Bad);
                            room.lost(1, header.sequence, &error.to_string());
                        }
                    }
                }
                Step::Hole { from, to, tag } => {
                    // the last group before a crash may have reached the disk in part; it was never acknowledged
                    torn = room.unsure == Some((stamp.segment, tag)) && tag <= at.sequence.saturating_add(1);
                    let damage = if torn { Damage::Torn } else { Damage::Bad };
                    room.damaged(stamp.segment, file, from..to, damage);
                    at.offset = to;
                }
                Step::End { at: end, zero } => {
                    if !zero {
                        room.damaged(stamp.segment, file, end..limit, Damage::Bad);
                    }
                    at.offset = limit;
                    break;
                }
            }
        }
        Ok(at)
    }

    /// Persists the cursor, then deletes the segments it covers.
    pub(super) fn commit(&mut self, place: Place) -> io::Result<()> {
        let cursor = Cursor { place, salt: self.salt };
        let room = &self.room;
        let saved = cursor.save(&*room.disk, &room.dir).or_else(|error| {
            if !is_disk_full(&error) {
                return Err(error);
            }
            // this is what the reserve is for
            room.spend_reserve();
            cursor.save(&*room.disk, &room.dir)
        });
        saved?;
        room.tally.committed.store(place.sequence, Ordering::Relaxed);
        let covered: Vec<u64> = room
            .segments()
            .iter()
            .filter(|(number, segment)| {
                segment.sealed
                    && (**number < place.segment || (**number == place.segment && place.offset >= segment.end))
            })
            .map(|(number, _)| *number)
            .collect();
        for number in covered {
            if self.open.as_ref().is_some_and(|(stamp, _)| stamp.segment == number) {
                self.open = None;
            }
            match self.room.disk.remove(&segment_path(&self.room.dir, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // it stays in the list, so the next commit tries again
                    trouble("deleting a covered segment", &error);
                }
                _ => {
                    self.room.segments().remove(&number);
                }
            }
        }
        self.room.judge();
        Ok(())
    }
}
