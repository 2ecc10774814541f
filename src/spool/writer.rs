//! The writing half, without its thread: groups of records become durable, segment after segment.
//!
//! One group at a time: write, fsync, then publish. A group is durable as a whole or refused as a whole. When the disk
//! is full the half-written group is cut off and the reserve given up; any other failure of the disk ends the writer
//! for good, because nobody knows then what is on the disk (and a second fsync would lie).

use super::cursor::Place;
use super::files::segment_path;
use super::record::{FIRST_RECORD, RECORD_HEADER_BYTES, SegmentHeader, Stamp, put};
use super::room::{Durable, Room, Segment, SpoolState, failed, trouble};
use crate::port::disk::{DiskFile, OpenMode, is_descriptor_shortage, is_disk_full};
use crate::port::ledger::SinkError;
use crate::telemetry::spool::GroupSynced;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a full disk is looked at again, at most.
const SPACE_PROBE: Duration = Duration::from_secs(1);
/// What the buffer of a group may keep between groups, bytes.
const BUFFER_KEPT: usize = 256 << 10;

#[derive(Debug)]
struct Live {
    stamp: Stamp,
    file: Box<dyn DiskFile>,
    len: u64,
}

/// The writing half.
#[derive(Debug)]
pub(super) struct Writer {
    room: Arc<Room>,
    salt: u64,
    next_segment: u64,
    next_sequence: u64,
    live: Option<Live>,
    failure: Option<SinkError>,
    probed_at: Option<Instant>,
    /// When the last segment could not be opened for want of a descriptor.
    starved_at: Option<Instant>,
    buffer: Vec<u8>,
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Writer {
    pub(super) fn new(room: Arc<Room>, salt: u64, next_segment: u64, next_sequence: u64) -> Self {
        Self {
            room,
            salt,
            next_segment,
            next_sequence,
            live: None,
            failure: None,
            probed_at: None,
            starved_at: None,
            buffer: Vec::new(),
        }
    }

    /// The time by which it works.
    pub(super) fn now(&self) -> Instant {
        self.room.clock.monotonic()
    }

    /// Makes a group of bodies durable; the result is the sequence of the first.
    pub(super) fn write<'a>(&mut self, bodies: impl Iterator<Item = &'a [u8]> + Clone) -> Result<u64, SinkError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let began = self.room.clock.monotonic();
        let records = u64::try_from(bodies.clone().count()).unwrap_or(u64::MAX);
        let size: u64 = bodies.clone().map(|body| len_of(body) + RECORD_HEADER_BYTES).sum();
        let first = self.next_sequence;
        self.check_space(size, began)?;
        self.ensure_live(size, first)?;
        self.append(first, bodies)?;
        // behind the fsync: now it counts
        self.next_sequence += records;
        self.publish(false);
        self.room.tally.groups.fetch_add(1, Ordering::Relaxed);
        let took = self.room.clock.monotonic().saturating_duration_since(began);
        GroupSynced { records, took }.emit();
        Ok(first)
    }

    /// Ends writing; the drain sees the end.
    pub(super) fn close(&mut self) {
        self.seal();
        self.publish(true);
        self.room.set_state(SpoolState::Closed, "");
    }

    fn check_space(&mut self, size: u64, now: Instant) -> Result<(), SinkError> {
        if self.room.short_of_space() {
            let probed = self.probed_at.map(|at| now.saturating_duration_since(at));
            if probed.is_some_and(|ago| ago < SPACE_PROBE) {
                return Err(disk_full());
            }
            self.probed_at = Some(now);
            if !self.room.make_reserve() {
                return Err(disk_full());
            }
            self.room.judge();
        }
        let (used, capacity) = (self.room.used(), self.room.settings.capacity_bytes);
        if used.saturating_add(size) > capacity {
            let detail = format!("{used} of {capacity} bytes used");
            self.room.set_state(SpoolState::Full, &detail);
            return Err(SinkError::Full(detail));
        }
        Ok(())
    }

    /// A segment with room for `size` bytes; a group never spans two.
    fn ensure_live(&mut self, size: u64, first: u64) -> Result<(), SinkError> {
        let segment_bytes = self.room.settings.segment_bytes;
        if self
            .live
            .as_ref()
            .is_some_and(|live| live.len == FIRST_RECORD || live.len.saturating_add(size) <= segment_bytes)
        {
            return Ok(());
        }
        let now = self.room.clock.monotonic();
        if self
            .starved_at
            .is_some_and(|at| now.saturating_duration_since(at) < SPACE_PROBE)
        {
            return Err(no_descriptor());
        }
        self.seal();
        let stamp = Stamp {
            salt: self.salt,
            segment: self.next_segment,
        };
        // a number is never used twice, even when making its file fails half way
        self.next_segment += 1;
        match self.make_segment(stamp, first) {
            Ok(file) => {
                let segment = Segment {
                    end: FIRST_RECORD,
                    sealed: false,
                };
                self.room.segments().insert(stamp.segment, segment);
                self.live = Some(Live {
                    stamp,
                    file,
                    len: FIRST_RECORD,
                });
                Ok(())
            }
            // both pass, and the next try may find what is wanting
            Err(error) if is_disk_full(&error) || is_descriptor_shortage(&error) => {
                let path = segment_path(&self.room.dir, stamp.segment);
                if let Err(error) = self.room.disk.remove(&path)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    trouble("removing a segment that was not finished", &error);
                }
                if is_disk_full(&error) {
                    return Err(self.out_of_space());
                }
                trouble("making a segment", &error);
                self.starved_at = Some(now);
                Err(no_descriptor())
            }
            Err(error) => Err(self.fail("making a segment", &error)),
        }
    }

    fn make_segment(&self, stamp: Stamp, first: u64) -> io::Result<Box<dyn DiskFile>> {
        let room = &self.room;
        let path = segment_path(&room.dir, stamp.segment);
        let file = room.disk.open(&path, OpenMode::CreateNew)?;
        match file.allocate(room.settings.segment_bytes) {
            Err(error) if is_disk_full(&error) => return Err(error),
            // a file system that cannot set blocks aside serves as well, only slower
            Err(error) if error.kind() != io::ErrorKind::Unsupported => trouble("setting blocks aside", &error),
            _ => {}
        }
        let header = SegmentHeader {
            stamp,
            first,
            made_ms: room.clock.now().timestamp_millis(),
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        room.disk.sync_dir(&room.dir)?;
        Ok(file)
    }

    fn append<'a>(&mut self, first: u64, bodies: impl Iterator<Item = &'a [u8]>) -> Result<(), SinkError> {
        let Some(live) = &mut self.live else {
            return Err(SinkError::Failed("no segment to write to".into()));
        };
        self.buffer.clear();
        for (sequence, body) in (first..).zip(bodies) {
            put(&mut self.buffer, live.stamp, sequence, first, body);
        }
        if let Err(error) = live.file.write_all_at(&self.buffer, live.len) {
            // no remnant may stay behind what comes next
            let cut = live.file.set_len(live.len);
            return Err(match cut {
                Ok(()) if is_disk_full(&error) => self.out_of_space(),
                _ => self.fail("writing a segment", &error),
            });
        }
        if let Err(error) = live.file.sync_data() {
            return Err(self.fail("fsync of a segment", &error));
        }
        live.len += len_of(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        Ok(())
    }

    fn seal(&mut self) {
        let Some(live) = self.live.take() else {
            return;
        };
        // gives back blocks that were set aside; if it is lost, zeros stay, which are a clean end
        if let Err(error) = live.file.set_len(live.len) {
            trouble("cutting a full segment", &error);
        }
        if let Some(segment) = self.room.segments().get_mut(&live.stamp.segment) {
            segment.sealed = true;
        }
    }

    fn publish(&mut self, closed: bool) {
        if let Some(live) = &self.live {
            if let Some(segment) = self.room.segments().get_mut(&live.stamp.segment) {
                segment.end = live.len;
            }
            let place = Place {
                segment: live.stamp.segment,
                offset: live.len,
                sequence: self.next_sequence.saturating_sub(1),
            };
            self.room.durable.send_replace(Durable { place, closed });
        } else {
            self.room.durable.send_modify(|durable| durable.closed = closed);
        }
        self.room.judge();
    }

    fn out_of_space(&mut self) -> SinkError {
        self.room.spend_reserve();
        self.probed_at = Some(self.room.clock.monotonic());
        disk_full()
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> SinkError {
        let failure = failed(what, error);
        self.room.set_state(SpoolState::Failed, &failure.to_string());
        self.failure = Some(failure.clone());
        failure
    }
}

fn no_descriptor() -> SinkError {
    SinkError::Full("no file descriptor is left for a segment".into())
}

fn disk_full() -> SinkError {
    SinkError::Full("the disk is full".into())
}
