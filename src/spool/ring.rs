//! The ring of segment files behind the frame recorder: written by one thread, read by many, the oldest segment goes
//! when the ring is too large or too old.
//!
//! Each frame's record says where the same DTU's frame before it lies, so that only the newest place per DTU is kept in
//! memory (about 40 bytes a DTU). These places are saved beside each full segment (`.idx`), so that opening reads little.
//! Not fsynced per frame: a power cut costs the last frames, nothing else.

use super::codec::{Newest, decode_newest, encode_frame, encode_newest};
use super::files::{segment_number, segment_path};
use super::record::{BODY_MAX, FIRST_RECORD, HeaderFault, Scanner, SegmentHeader, Stamp, Step, plain_crc, put};
use super::recovery::SpoolError;
use super::room::trouble;
use crate::base::ids::DtuId;
use crate::port::disk::{Disk, DiskFile, OpenMode, is_disk_full};
use crate::port::frames::RawFrame;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a frame lies.
pub(super) type Spot = (u64, u64);

/// Frames that were handed in together, with ids one behind the other.
#[derive(Debug)]
pub(super) struct Lot {
    /// The id of the first.
    pub(super) first: i64,
    pub(super) frames: Vec<RawFrame>,
}

impl Lot {
    /// The id of the last; of none, the one before the first.
    pub(super) fn last(&self) -> i64 {
        let count = i64::try_from(self.frames.len()).unwrap_or(i64::MAX);
        self.first.saturating_add(count).saturating_sub(1)
    }

    fn numbered(&self) -> impl Iterator<Item = (i64, &RawFrame)> {
        (self.first..).zip(&self.frames)
    }

    /// Takes all from that place on off, if there is any.
    pub(super) fn split_off(&mut self, place: usize) -> Option<Self> {
        if place >= self.frames.len() {
            return None;
        }
        let frames = self.frames.split_off(place);
        let first = self.last().saturating_add(1);
        Some(Self { first, frames })
    }
}

/// A segment of the ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) stamp: Stamp,
    /// The id of its first frame.
    pub(super) first: u64,
    /// Behind its last frame.
    pub(super) end: u64,
    /// No frame of it is newer, milliseconds of the Unix era; none: it is being written.
    until_ms: Option<i64>,
}

/// What readers look up.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) segments: BTreeMap<u64, Facts>,
    pub(super) newest: HashMap<DtuId, Spot>,
}

impl Index {
    fn bytes(&self) -> u64 {
        self.segments.values().map(|facts| facts.end).sum()
    }
}

#[derive(Debug)]
struct Live {
    stamp: Stamp,
    file: Box<dyn DiskFile>,
    len: u64,
    made_ms: i64,
}

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingLimits {
    pub(super) segment_bytes: u64,
    pub(super) ring_bytes: u64,
    pub(super) age_ms: i64,
}

/// The writing side.
#[derive(Debug)]
pub(super) struct Ring {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limits: RingLimits,
    index: Arc<Mutex<Index>>,
    salt: u64,
    next_segment: u64,
    last_id: u64,
    live: Option<Live>,
}

/// Locks an index; a panic elsewhere leaves it whole, because it is changed in single steps.
pub(super) fn locked(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

fn index_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.idx"))
}

/// The DTU as a record's tag; 0 is none.
pub(super) fn tag_of(dtu: Option<DtuId>) -> u64 {
    dtu.map_or(0, |dtu| u64::from(dtu.0.cast_unsigned()) + 1)
}

fn dtu_of(tag: u64) -> Option<DtuId> {
    let raw = u32::try_from(tag.checked_sub(1)?).ok()?;
    Some(DtuId(raw.cast_signed()))
}

fn len_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Ring {
    /// Opens the ring in `dir`, which must exist and be locked. The last recorded id is [`Self::last_id`].
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        limits: RingLimits,
        now_ms: i64,
    ) -> Result<(Self, Arc<Mutex<Index>>), SpoolError> {
        let cannot = |source| SpoolError::Disk {
            dir: dir.to_path_buf(),
            what: "reading the frame ring",
            source,
        };
        let mut index = Index::default();
        let (mut highest, mut salt) = (0, None);
        for entry in disk.list(dir).map_err(cannot)? {
            let Some(number) = segment_number(&entry.name) else {
                continue;
            };
            highest = highest.max(number);
            let path = segment_path(dir, number);
            let file = disk.open(&path, OpenMode::Read).map_err(cannot)?;
            match SegmentHeader::read(&*file).map_err(cannot)? {
                Ok(header) => {
                    salt = Some(header.stamp.salt);
                    let facts = Facts {
                        stamp: header.stamp,
                        first: header.first,
                        end: entry.len,
                        until_ms: Some(header.made_ms),
                    };
                    index.segments.insert(number, facts);
                }
                Err(HeaderFault::Version(version)) => return Err(SpoolError::Version { path, version }),
                // frames are not durable: what cannot be read any more makes place
                Err(HeaderFault::Damaged) => disk
                    .remove(&path)
                    .unwrap_or_else(|error| trouble("removing a frame segment", &error)),
            }
        }
        // no frame of a segment is newer than the begin of the next
        let mut until = now_ms;
        for facts in index.segments.values_mut().rev() {
            until = facts.until_ms.replace(until).unwrap_or(now_ms);
        }
        let index = Arc::new(Mutex::new(index));
        let mut ring = Self {
            disk,
            dir: dir.to_path_buf(),
            limits,
            index: Arc::clone(&index),
            salt: salt.unwrap_or_else(rand::random),
            next_segment: highest.saturating_add(1),
            last_id: 0,
            live: None,
        };
        ring.load().map_err(cannot)?;
        Ok((ring, index))
    }

    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// Fills the newest places: from the newest saved index, then from the segments behind it.
    fn load(&mut self) -> io::Result<()> {
        let index = Arc::clone(&self.index);
        let mut index = locked(&index);
        let numbers: Vec<u64> = index.segments.keys().copied().collect();
        let saved = numbers
            .iter()
            .rev()
            .find_map(|number| Some((*number, self.read_index(*number)?)));
        let mut from = 0;
        if let Some((number, (last_id, newest))) = saved {
            from = number + 1;
            self.last_id = last_id;
            index.newest = newest
                .into_iter()
                .filter(|(_, spot)| index.segments.contains_key(&spot.0))
                .collect();
        }
        for number in numbers.into_iter().filter(|number| *number >= from) {
            let Some(facts) = index.segments.get(&number).copied() else {
                continue;
            };
            let file = self.disk.open(&segment_path(&self.dir, number), OpenMode::Read)?;
            let mut scanner = Scanner::new(&*file, facts.stamp, FIRST_RECORD, facts.end, None);
            let end = loop {
                match scanner.step()? {
                    Step::Record { header, at, .. } => {
                        self.last_id = self.last_id.max(header.sequence);
                        if let Some(dtu) = dtu_of(header.tag) {
                            index.newest.insert(dtu, (number, at));
                        }
                    }
                    Step::Hole { .. } => {}
                    Step::End { at, .. } => break at,
                }
            };
            if let Some(facts) = index.segments.get_mut(&number) {
                facts.end = end;
            }
        }
        Ok(())
    }

    fn read_index(&self, number: u64) -> Option<Newest> {
        let file = self.disk.open(&index_path(&self.dir, number), OpenMode::Read).ok()?;
        // 24 bytes a DTU at most: a million DTUs
        let len = usize::try_from(file.len().ok()?).ok().filter(|len| *len <= 32 << 20)?;
        let mut bytes = vec![0; len];
        file.read_at(&mut bytes, 0).ok()?;
        let (crc, body) = bytes.split_first_chunk::<4>()?;
        (u32::from_le_bytes(*crc) == plain_crc(body))
            .then(|| decode_newest(body).ok())
            .flatten()
    }

    fn write_index(&self, number: u64) -> io::Result<()> {
        let newest: Newest = {
            let index = locked(&self.index);
            let oldest = index.segments.keys().next().copied().unwrap_or(0);
            let places = index.newest.iter().filter(|(_, spot)| spot.0 >= oldest);
            (self.last_id, places.map(|(dtu, spot)| (*dtu, *spot)).collect())
        };
        let body = encode_newest(&newest);
        let mut bytes = plain_crc(&body).to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        let file = self.disk.open(&index_path(&self.dir, number), OpenMode::Create)?;
        file.write_all_at(&bytes, 0)
    }

    /// Writes frames with growing ids; the result is how many were dropped because they are too large.
    pub(super) fn write(&mut self, lots: &[Lot], now_ms: i64) -> io::Result<u64> {
        let Some(first) = lots.first() else {
            return Ok(0);
        };
        self.turn(first.first.cast_unsigned(), now_ms)?;
        let Some(live) = &self.live else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (mut buffer, mut body) = (Vec::new(), Vec::new());
        let mut places: HashMap<DtuId, Spot> = HashMap::new();
        let (mut dropped, mut last_id) = (0, self.last_id);
        {
            let index = locked(&self.index);
            for (id, frame) in lots.iter().flat_map(Lot::numbered) {
                let spot = (live.stamp.segment, live.len + len_of(&buffer));
                let dtu = frame.dtu;
                let before = dtu.and_then(|dtu| places.get(&dtu).or_else(|| index.newest.get(&dtu)).copied());
                encode_frame(before, frame, &mut body);
                if body.len() > BODY_MAX {
                    dropped += 1;
                    continue;
                }
                last_id = id.cast_unsigned();
                put(&mut buffer, live.stamp, last_id, tag_of(dtu), &body);
                if let Some(dtu) = dtu {
                    places.insert(dtu, spot);
                }
            }
        }
        self.append(&buffer)?;
        self.last_id = last_id;
        locked(&self.index).newest.extend(places);
        Ok(dropped)
    }

    fn append(&mut self, buffer: &[u8]) -> io::Result<()> {
        let Some(live) = &mut self.live else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut written = live.file.write_all_at(buffer, live.len);
        while let Err(error) = &written
            && is_disk_full(error)
            && remove_oldest(&*self.disk, &self.dir, &self.index, live.stamp.segment)
        {
            written = live.file.write_all_at(buffer, live.len);
        }
        if let Err(error) = written {
            // what is half written must not stand before what comes next
            if live.file.set_len(live.len).is_err() {
                self.live = None;
            }
            return Err(error);
        }
        live.len += len_of(buffer);
        if let Some(facts) = locked(&self.index).segments.get_mut(&live.stamp.segment) {
            facts.end = live.len;
        }
        Ok(())
    }

    /// Begins a new segment where one is due.
    fn turn(&mut self, first: u64, now_ms: i64) -> io::Result<()> {
        if self
            .live
            .as_ref()
            .is_some_and(|live| live.len >= self.limits.segment_bytes)
        {
            self.seal(now_ms);
        }
        if self.live.is_some() {
            return Ok(());
        }
        let stamp = Stamp {
            salt: self.salt,
            segment: self.next_segment,
        };
        self.next_segment += 1;
        let header = SegmentHeader {
            stamp,
            first,
            made_ms: now_ms,
        };
        let file = loop {
            match self.make_segment(&header) {
                Ok(file) => break file,
                Err(error)
                    if is_disk_full(&error) && remove_oldest(&*self.disk, &self.dir, &self.index, stamp.segment) => {}
                Err(error) => return Err(error),
            }
        };
        let facts = Facts {
            stamp,
            first,
            end: FIRST_RECORD,
            until_ms: None,
        };
        locked(&self.index).segments.insert(stamp.segment, facts);
        self.live = Some(Live {
            stamp,
            file,
            len: FIRST_RECORD,
            made_ms: now_ms,
        });
        Ok(())
    }

    fn make_segment(&self, header: &SegmentHeader) -> io::Result<Box<dyn DiskFile>> {
        let file = self
            .disk
            .open(&segment_path(&self.dir, header.stamp.segment), OpenMode::Create)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        Ok(file)
    }

    /// Ends the segment that is being written, and saves the index beside it.
    pub(super) fn seal(&mut self, now_ms: i64) {
        let Some(live) = self.live.take() else {
            return;
        };
        if let Some(facts) = locked(&self.index).segments.get_mut(&live.stamp.segment) {
            facts.until_ms = Some(now_ms);
        }
        if let Err(error) = live.file.sync_data() {
            trouble("fsync of a frame segment", &error);
        }
        if let Err(error) = self.write_index(live.stamp.segment) {
            // opening then reads the segment instead
            trouble("saving the frame index", &error);
        }
    }

    /// Ends an old segment, and removes what is beyond the ring's size or age. Returns the ring's bytes.
    pub(super) fn tidy(&mut self, now_ms: i64) -> u64 {
        let old = |since: i64, age: i64| now_ms.saturating_sub(since) > age;
        if self
            .live
            .as_ref()
            .is_some_and(|live| live.len > FIRST_RECORD && old(live.made_ms, self.limits.age_ms / 8))
        {
            self.seal(now_ms);
        }
        let live = self.live.as_ref().map_or(0, |live| live.stamp.segment);
        loop {
            let (bytes, oldest) = {
                let index = locked(&self.index);
                (index.bytes(), index.segments.values().next().copied())
            };
            let aged = oldest
                .and_then(|facts| facts.until_ms)
                .is_some_and(|until| old(until, self.limits.age_ms));
            if !(aged || bytes > self.limits.ring_bytes) || !remove_oldest(&*self.disk, &self.dir, &self.index, live) {
                return bytes;
            }
        }
    }
}

/// Removes the oldest segment unless it is the live one; false when nothing could go.
fn remove_oldest(disk: &dyn Disk, dir: &Path, index: &Mutex<Index>, live: u64) -> bool {
    let oldest = locked(index).segments.keys().next().copied();
    let Some(number) = oldest.filter(|number| *number != live) else {
        return false;
    };
    if let Err(error) = disk.remove(&segment_path(dir, number))
        && error.kind() != io::ErrorKind::NotFound
    {
        trouble("removing a frame segment", &error);
        return false;
    }
    if let Err(error) = disk.remove(&index_path(dir, number))
        && error.kind() != io::ErrorKind::NotFound
    {
        trouble("removing a frame index", &error);
    }
    let mut index = locked(index);
    index.segments.remove(&number);
    // DTUs that have not been heard since then are forgotten
    index.newest.retain(|_, spot| spot.0 > number);
    true
}
