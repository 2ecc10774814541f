//! The frame recorder: gives raw frames their ids at once, writes them in the background, and finds them again.
//!
//! It never holds up a connection: when its queue is full, frames are dropped and counted, and their ids are absent.

use super::codec::decode_frame;
use super::files::segment_path;
use super::record::{FIRST_RECORD, Scanner, Step, read_one};
use super::recovery::SpoolError;
use super::ring::{Facts, Index, Lot, Ring, RingLimits, Spot, locked, tag_of};
use super::room::trouble;
use crate::base::clock::Clock;
use crate::base::ids::{DtuId, FrameId, FrameRange};
use crate::port::disk::{Disk, DiskFile, DiskLock, OpenMode};
use crate::port::frames::{FrameLog, FrameLogError, FrameRecorder, RawFrame, RecordedFrame};
use crate::telemetry::spool::{FRAMES_BYTES, FramesPassed};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ids of one second: the first id of a process is its start in seconds times this.
const IDS_PER_SECOND_BITS: u32 = 21;
/// How often age is looked at without traffic.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// What comes so soon after a frame is written along with it.
const GATHER: Duration = Duration::from_millis(10);
/// Who looks something up waits so long for what is being written.
const SETTLE_MAX: Duration = Duration::from_secs(1);
/// Frames written at once, at most.
const BATCH_FRAMES: usize = 2048;
/// Frames of a DTU that one look-up walks over, at most.
const WALK_MAX: usize = 100_000;

/// Sizes of the frame ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderSettings {
    /// All segments together, bytes.
    pub ring_bytes: u64,
    /// One segment, bytes; at least 4 KiB and at most half the ring.
    pub segment_bytes: u64,
    /// Frames older than this are removed, segment by segment.
    pub age: Duration,
    /// Frames that may wait for the writing thread.
    pub queue_frames: usize,
    /// Bytes of frames that may wait.
    pub queue_bytes: usize,
}

impl Default for RecorderSettings {
    fn default() -> Self {
        Self {
            ring_bytes: 2 << 30,
            segment_bytes: 16 << 20,
            age: Duration::from_secs(30 * 86_400),
            queue_frames: 16_384,
            queue_bytes: 16 << 20,
        }
    }
}

#[derive(Debug)]
struct Queue {
    /// As they were handed in, so that none is moved about while it waits.
    lots: VecDeque<Lot>,
    /// How many frames that is.
    frames: usize,
    bytes: usize,
    next_id: i64,
    /// The last frame that the writing thread took.
    taken: i64,
    /// The last one that it wrote.
    done: i64,
    /// It waits for a frame.
    asleep: bool,
    /// It waits for more frames.
    gathering: bool,
    /// So many wait until all is written.
    waiting: usize,
    stop: bool,
    ended: bool,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    settings: RecorderSettings,
    clock: Arc<dyn Clock>,
    queue: Mutex<Queue>,
    /// Something came, or it is time to stop. Told to a thread that sleeps only: telling costs a system call.
    came: Condvar,
    /// More need not be waited for.
    enough: Condvar,
    /// Some of the queue is written, and somebody waits for it.
    written: Condvar,
    index: Arc<Mutex<Index>>,
    _lock: Box<dyn DiskLock>,
}

/// The recorder. Clones share it; the thread ends with the last one.
#[derive(Clone, Debug)]
pub struct Recorder {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stop(&mut self.0.queue());
    }
}

fn weight(frame: &RawFrame) -> usize {
    frame.bytes.len() + frame.protocol.len() + size_of::<RawFrame>()
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self, queue: &mut Queue) {
        queue.stop = true;
        self.came.notify_all();
        self.enough.notify_all();
    }

    /// Whether as much waits as should be written now.
    fn is_plenty(&self, queue: &Queue) -> bool {
        let (frames, bytes) = (self.settings.queue_frames / 2, self.settings.queue_bytes / 2);
        queue.frames >= frames.min(BATCH_FRAMES) || queue.bytes >= bytes
    }

    /// Waits until what was recorded so far is written, at most so long.
    fn settle(&self, longest: Duration) {
        let mut queue = self.queue();
        let last = queue.lots.back().map_or(queue.taken, Lot::last);
        if queue.done >= last {
            return;
        }
        queue.waiting += 1;
        self.enough.notify_all();
        let mut queue = self
            .written
            .wait_timeout_while(queue, longest, |queue| queue.done < last && !queue.ended)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        queue.waiting -= 1;
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().timestamp_millis()
    }

    /// The next frames to write; none: stop.
    fn take(&self) -> Option<Vec<Lot>> {
        let mut queue = self.queue();
        queue.done = queue.taken;
        if queue.waiting > 0 {
            self.written.notify_all();
        }
        if queue.lots.is_empty() {
            if queue.stop {
                return None;
            }
            queue.asleep = true;
            queue = self
                .came
                .wait_timeout_while(queue, TIDY_EVERY, |queue| queue.lots.is_empty() && !queue.stop)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queue.asleep = false;
        }
        if !queue.lots.is_empty() {
            queue.gathering = true;
            queue = self
                .enough
                .wait_timeout_while(queue, GATHER, |queue| {
                    !queue.stop && queue.waiting == 0 && !self.is_plenty(queue)
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            queue.gathering = false;
        }
        // a batch stays far below a segment, so that the ring's size is kept closely
        let bytes_max = usize::try_from(self.settings.segment_bytes / 8).unwrap_or(usize::MAX);
        let (mut frames, mut bytes) = (0, 0);
        let mut batch = Vec::new();
        while frames < BATCH_FRAMES
            && bytes < bytes_max
            && let Some(mut lot) = queue.lots.pop_front()
        {
            let place = lot.frames.iter().position(|frame| {
                frames += 1;
                bytes += weight(frame);
                frames >= BATCH_FRAMES || bytes >= bytes_max
            });
            if let Some(rest) = place.and_then(|place| lot.split_off(place + 1)) {
                queue.lots.push_front(rest);
            }
            batch.push(lot);
        }
        queue.frames = queue.frames.saturating_sub(frames);
        queue.bytes = queue.bytes.saturating_sub(bytes);
        if let Some(last) = batch.last() {
            queue.taken = last.last();
        }
        Some(batch)
    }

    fn run(&self, mut ring: Ring) {
        let _ending = Ending(self);
        while let Some(batch) = self.take() {
            let count = batch.iter().map(|lot| lot.frames.len()).sum::<usize>();
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            if count > 0 {
                match ring.write(&batch, self.now_ms()) {
                    Ok(dropped) => FramesPassed {
                        recorded: count - dropped,
                        dropped,
                        reason: "too large",
                    },
                    Err(error) => {
                        trouble("recording frames", &error);
                        FramesPassed {
                            recorded: 0,
                            dropped: count,
                            reason: "disk",
                        }
                    }
                }
                .emit();
            }
            FRAMES_BYTES.set(i64::try_from(ring.tidy(self.now_ms())).unwrap_or(i64::MAX));
        }
        ring.seal(self.now_ms());
    }
}

/// Tells those who wait that the thread has ended, however it did.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.stop = true;
        queue.ended = true;
        self.0.written.notify_all();
    }
}

impl Recorder {
    /// Opens or makes the ring in `dir`, and starts its thread.
    ///
    /// # Errors
    /// [`SpoolError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: RecorderSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SpoolError> {
        let cannot = |what: &'static str| {
            move |source| SpoolError::Disk {
                dir: dir.to_path_buf(),
                what,
                source,
            }
        };
        for (name, value, min) in [
            ("segment_bytes", settings.segment_bytes, 4096),
            (
                "ring_bytes",
                settings.ring_bytes,
                settings.segment_bytes.saturating_mul(2),
            ),
        ] {
            if value < min {
                return Err(SpoolError::Setting { name, value, min });
            }
        }
        disk.create_dir(dir).map_err(cannot("making it"))?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                SpoolError::Locked(dir.to_path_buf())
            } else {
                cannot("locking it")(error)
            }
        })?;
        let limits = RingLimits {
            segment_bytes: settings.segment_bytes,
            ring_bytes: settings.ring_bytes,
            age_ms: i64::try_from(settings.age.as_millis()).unwrap_or(i64::MAX),
        };
        let now = clock.now();
        let (ring, index) = Ring::open(Arc::clone(&disk), dir, limits, now.timestamp_millis())?;
        let recorded = i64::try_from(ring.last_id()).unwrap_or(i64::MAX);
        let next_id = (now.timestamp().max(0) << IDS_PER_SECOND_BITS).max(recorded.saturating_add(1));
        let shared = Arc::new(Shared {
            disk,
            dir: dir.to_path_buf(),
            settings,
            clock,
            queue: Mutex::new(Queue {
                lots: VecDeque::new(),
                frames: 0,
                bytes: 0,
                next_id,
                taken: i64::MIN,
                done: i64::MIN,
                asleep: false,
                gathering: false,
                waiting: 0,
                stop: false,
                ended: false,
            }),
            came: Condvar::new(),
            enough: Condvar::new(),
            written: Condvar::new(),
            index,
            _lock: lock,
        });
        let thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("frame-record".to_owned())
            .spawn(move || thread.run(ring))
            .map_err(cannot("starting a thread"))?;
        Ok(Self {
            owner: Arc::new(Owner(shared)),
        })
    }

    /// Waits until what was recorded so far can be looked up. Blocks.
    pub fn flush(&self) {
        self.owner.0.settle(Duration::MAX);
    }

    /// Writes what waits and ends; frames recorded later are dropped. Blocks.
    pub fn close(&self) {
        let shared = &self.owner.0;
        let mut queue = shared.queue();
        shared.stop(&mut queue);
        drop(
            shared
                .written
                .wait_while(queue, |queue| !queue.ended)
                .unwrap_or_else(PoisonError::into_inner),
        );
    }
}

impl FrameRecorder for Recorder {
    fn record(&self, mut frames: Vec<RawFrame>) -> FrameRange {
        let shared = &self.owner.0;
        let settings = &shared.settings;
        let offered = frames.len();
        let count = u16::try_from(offered).unwrap_or(u16::MAX);
        if count == 0 {
            return FrameRange::EMPTY;
        }
        let mut queue = shared.queue();
        let first = queue.next_id;
        let (mut kept, mut bytes) = (0, queue.bytes);
        if !queue.stop {
            let room = settings.queue_frames.saturating_sub(queue.frames).min(count.into());
            for frame in frames.iter().take(room) {
                let more = bytes + weight(frame);
                if more > settings.queue_bytes {
                    break;
                }
                bytes = more;
                kept += 1;
            }
        }
        frames.truncate(kept);
        if kept > 0 {
            queue.bytes = bytes;
            queue.frames += kept;
            queue.lots.push_back(Lot { first, frames });
        }
        queue.next_id = first.saturating_add(i64::from(count));
        let told = if std::mem::take(&mut queue.asleep) {
            Some(&shared.came)
        } else if queue.gathering && shared.is_plenty(&queue) {
            queue.gathering = false;
            Some(&shared.enough)
        } else {
            None
        };
        drop(queue);
        if let Some(told) = told {
            told.notify_one();
        }
        if kept < offered {
            FramesPassed {
                recorded: 0,
                dropped: u64::try_from(offered - kept).unwrap_or(u64::MAX),
                reason: "queue",
            }
            .emit();
        }
        FrameRange {
            first: FrameId(first),
            count,
        }
    }
}

impl Shared {
    /// The segment that holds an id, while it is in the ring.
    fn segment_of(&self, id: u64) -> Option<(u64, Facts)> {
        let index = locked(&self.index);
        let mut behind = index.segments.iter().rev();
        behind
            .find(|(_, facts)| facts.first <= id)
            .map(|(number, facts)| (*number, *facts))
    }

    /// Where the frame with this id lies, if it is in the ring and of this DTU.
    fn spot_of(&self, id: FrameId, dtu: DtuId) -> io::Result<Option<Spot>> {
        let Some((wanted, (number, facts))) = u64::try_from(id.0)
            .ok()
            .and_then(|wanted| Some((wanted, self.segment_of(wanted)?)))
        else {
            return Ok(None);
        };
        let file = match self.disk.open(&segment_path(&self.dir, number), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut scanner = Scanner::new(&*file, facts.stamp, FIRST_RECORD, facts.end, None);
        loop {
            scanner.skip_to(wanted)?;
            match scanner.step()? {
                Step::Record { header, at, .. } if header.sequence >= wanted => {
                    let found = header.sequence == wanted && header.tag == tag_of(Some(dtu));
                    return Ok(found.then_some((number, at)));
                }
                Step::End { .. } => return Ok(None),
                Step::Record { .. } | Step::Hole { .. } => {}
            }
        }
    }
}

/// Segments opened during one look-up.
struct Open<'a> {
    shared: &'a Shared,
    file: Option<(u64, Box<dyn DiskFile>)>,
}

impl Open<'_> {
    /// The frame at a spot with the spot of the one before it; none when it has left the ring.
    fn frame(&mut self, dtu: DtuId, spot: Spot) -> io::Result<Option<(RecordedFrame, Option<Spot>)>> {
        let facts = locked(&self.shared.index).segments.get(&spot.0).copied();
        let Some(facts) = facts else {
            return Ok(None);
        };
        let file = match self.file.take() {
            Some((number, file)) if number == spot.0 => file,
            _ => match self
                .shared
                .disk
                .open(&segment_path(&self.shared.dir, spot.0), OpenMode::Read)
            {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let found = read_one(&*file, facts.stamp, spot.1)?;
        self.file = Some((spot.0, file));
        Ok(found
            .filter(|(header, _)| header.tag == tag_of(Some(dtu)))
            .and_then(|(header, body)| {
                let linked = decode_frame(&body).ok()?;
                let id = FrameId(header.sequence.cast_signed());
                let frame = linked.frame;
                Some((RecordedFrame { id, frame }, linked.before))
            }))
    }
}

impl FrameLog for Recorder {
    fn walk(
        &self,
        dtu: DtuId,
        before: Option<FrameId>,
        each: &mut dyn FnMut(RecordedFrame) -> ControlFlow<()>,
    ) -> Result<(), FrameLogError> {
        let shared = &self.owner.0;
        shared.settle(SETTLE_MAX);
        let failed = |error: io::Error| FrameLogError(error.to_string());
        let mut spot = match before {
            // a frame that has left the ring has taken all older ones with it
            Some(before) => match shared.spot_of(before, dtu).map_err(failed)? {
                Some(spot) => Some(spot),
                None => locked(&shared.index).newest.get(&dtu).copied(),
            },
            None => locked(&shared.index).newest.get(&dtu).copied(),
        };
        let mut open = Open { shared, file: None };
        let mut walked = 0;
        while let Some(at) = spot
            && walked < WALK_MAX
        {
            walked += 1;
            let Some((frame, older)) = open.frame(dtu, at).map_err(failed)? else {
                break;
            };
            if before.is_none_or(|before| frame.id < before) && each(frame).is_break() {
                break;
            }
            // only ever backwards, whatever a damaged file says
            spot = older.filter(|older| *older < at);
        }
        Ok(())
    }

    fn get(&self, id: FrameId) -> Result<Option<RecordedFrame>, FrameLogError> {
        let shared = &self.owner.0;
        let failed = |error: io::Error| FrameLogError(error.to_string());
        let Ok(wanted) = u64::try_from(id.0) else {
            return Ok(None);
        };
        shared.settle(SETTLE_MAX);
        let Some((number, facts)) = shared.segment_of(wanted) else {
            return Ok(None);
        };
        let file = match shared.disk.open(&segment_path(&shared.dir, number), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut scanner = Scanner::new(&*file, facts.stamp, FIRST_RECORD, facts.end, None);
        loop {
            scanner.skip_to(wanted).map_err(failed)?;
            match scanner.step().map_err(failed)? {
                Step::Record { header, body, .. } if header.sequence == wanted => {
                    let frame = decode_frame(&body)
                        .map_err(|error| FrameLogError(error.to_string()))?
                        .frame;
                    return Ok(Some(RecordedFrame { id, frame }));
                }
                Step::Record { header, .. } if header.sequence > wanted => return Ok(None),
                Step::End { .. } => return Ok(None),
                Step::Record { .. } | Step::Hole { .. } => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
