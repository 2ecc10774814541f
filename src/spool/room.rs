//! What the spool's two threads and its handles share: settings, the list of segments, the reserve, counts, the state.

use super::cursor::Place;
use super::files::{Damage, keep_damage, segment_path};
use crate::base::clock::Clock;
use crate::port::disk::{Disk, DiskFile, DiskLock, OpenMode, is_disk_full};
use crate::port::ledger::SinkError;
use crate::telemetry::spool as events;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

const RESERVE: &str = "reserve";

/// Sizes of a spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolSettings {
    /// A segment's size, bytes; at least 1 KiB. Disk space comes back segment by segment.
    pub segment_bytes: u64,
    /// All segments together, bytes; appends are refused above it.
    pub capacity_bytes: u64,
    /// A file that is given up when the disk is full, so that the drain and the database can go on; 0: none.
    pub reserve_bytes: u64,
    /// Records that may wait for the writing thread.
    pub queue_records: usize,
    /// Bytes of records that may wait.
    pub queue_bytes: u32,
    /// The largest group that one fsync covers, bytes.
    pub group_bytes: usize,
}

impl Default for SpoolSettings {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            capacity_bytes: 4 << 30,
            reserve_bytes: 64 << 20,
            queue_records: 16_384,
            queue_bytes: 64 << 20,
            group_bytes: 4 << 20,
        }
    }
}

/// How a spool fares. [`SpoolState::High`] and above ask the callers to shed, lowest priority first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolState {
    /// Below 80 % of its capacity.
    #[default]
    Normal,
    /// From 80 %.
    High,
    /// From 95 %, or the disk has little space left.
    Critical,
    /// At capacity, or the disk is full; appends are refused until there is space again.
    Full,
    /// The disk failed; nothing more is acknowledged until a restart.
    Failed,
    /// Closed in order.
    Closed,
}

impl SpoolState {
    /// The name in metrics and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::High => "high",
            Self::Critical => "critical",
            Self::Full => "full",
            Self::Failed => "failed",
            Self::Closed => "closed",
        }
    }
}

/// Counts of a spool since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// The state now.
    pub state: SpoolState,
    /// Durable records not yet committed.
    pub backlog_records: u64,
    /// Bytes of segments on the disk.
    pub bytes: u64,
    /// What they may take.
    pub capacity_bytes: u64,
    /// Bytes cut as a torn tail.
    pub torn_bytes: u64,
    /// Bytes skipped as damaged.
    pub bad_bytes: u64,
    /// Records missing in the numbering or unreadable.
    pub lost_records: u64,
    /// Groups made durable.
    pub groups: u64,
}

/// A segment on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Behind its last durable record.
    pub(super) end: u64,
    /// Whether nothing more is written to it.
    pub(super) sealed: bool,
}

/// Up to where the log is durable.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durable {
    pub(super) place: Place,
    pub(super) closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) torn_bytes: AtomicU64,
    pub(super) bad_bytes: AtomicU64,
    pub(super) lost_records: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) committed: AtomicU64,
}

/// The reserve file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserve {
    Held,
    /// Given up; appends wait until it can be made again.
    Spent,
    /// The file system cannot set blocks aside, or there is no reserve to be.
    None,
}

/// The shared part.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) settings: SpoolSettings,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) segments: Mutex<BTreeMap<u64, Segment>>,
    pub(super) durable: watch::Sender<Durable>,
    pub(super) tally: Tally,
    /// The holes of this segment's last group come from a crash: (segment, the group's first sequence).
    pub(super) unsure: Option<(u64, u64)>,
    reserve: Mutex<Reserve>,
    state: Mutex<SpoolState>,
    _lock: Box<dyn DiskLock>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What an opened folder brings along.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) durable: Place,
    pub(super) committed: u64,
    pub(super) unsure: Option<(u64, u64)>,
}

impl Room {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: SpoolSettings,
        clock: Arc<dyn Clock>,
        lock: Box<dyn DiskLock>,
        found: Found,
    ) -> Self {
        let durable = Durable {
            place: found.durable,
            closed: false,
        };
        let tally = Tally::default();
        tally.committed.store(found.committed, Ordering::Relaxed);
        events::SPOOL_CAPACITY.set(gauge(settings.capacity_bytes));
        events::SPOOL_QUEUE_CAPACITY.set(i64::try_from(settings.queue_records).unwrap_or(i64::MAX));
        Self {
            disk,
            dir: dir.to_path_buf(),
            settings,
            clock,
            segments: Mutex::new(found.segments),
            durable: watch::Sender::new(durable),
            tally,
            unsure: found.unsure,
            reserve: Mutex::new(if settings.reserve_bytes == 0 {
                Reserve::None
            } else {
                Reserve::Spent
            }),
            state: Mutex::new(SpoolState::Normal),
            _lock: lock,
        }
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        locked(&self.segments)
    }

    /// Bytes of all segments.
    pub(super) fn used(&self) -> u64 {
        self.segments().values().map(|segment| segment.end).sum()
    }

    pub(super) fn state(&self) -> SpoolState {
        *locked(&self.state)
    }

    /// Changes the state; `Failed` stays, and `Closed` yields to nothing.
    pub(super) fn set_state(&self, state: SpoolState, detail: &str) {
        let mut now = locked(&self.state);
        if *now == state || *now >= SpoolState::Failed {
            return;
        }
        *now = state;
        drop(now);
        events::SpoolStateChanged {
            state: state.as_str(),
            detail,
        }
        .emit();
    }

    /// Sets the state by how full the spool is, and the gauges.
    pub(super) fn judge(&self) {
        let used = self.used();
        let capacity = self.settings.capacity_bytes.max(1);
        events::SPOOL_BYTES.set(gauge(used));
        events::SPOOL_BACKLOG.set(gauge(self.backlog()));
        let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        events::SPOOL_FREE.set(gauge(free));
        let percent = used.saturating_mul(100) / capacity;
        // the segment that is written has its place; the next one would find none
        let scarce = free < self.settings.segment_bytes;
        if self.short_of_space() {
            self.set_state(SpoolState::Full, "the disk is full");
        } else if percent >= 100 {
            self.set_state(SpoolState::Full, &format!("{used} of {capacity} bytes used"));
        } else if percent >= 95 {
            self.set_state(SpoolState::Critical, &format!("{used} of {capacity} bytes used"));
        } else if scarce {
            self.set_state(SpoolState::Critical, &format!("{free} bytes are free on the disk"));
        } else if percent >= 80 {
            self.set_state(SpoolState::High, &format!("{used} of {capacity} bytes used"));
        } else {
            self.set_state(SpoolState::Normal, "");
        }
    }

    /// Records durable and not committed.
    pub(super) fn backlog(&self) -> u64 {
        let durable = self.durable.borrow().place.sequence;
        durable.saturating_sub(self.tally.committed.load(Ordering::Relaxed))
    }

    pub(super) fn stats(&self) -> SpoolStats {
        SpoolStats {
            state: self.state(),
            backlog_records: self.backlog(),
            bytes: self.used(),
            capacity_bytes: self.settings.capacity_bytes,
            torn_bytes: self.tally.torn_bytes.load(Ordering::Relaxed),
            bad_bytes: self.tally.bad_bytes.load(Ordering::Relaxed),
            lost_records: self.tally.lost_records.load(Ordering::Relaxed),
            groups: self.tally.groups.load(Ordering::Relaxed),
        }
    }

    /// Whether the reserve is given up, so that appends have to wait.
    pub(super) fn short_of_space(&self) -> bool {
        *locked(&self.reserve) == Reserve::Spent
    }

    /// Gives up the reserve, so that the drain can finish.
    pub(super) fn spend_reserve(&self) {
        let mut reserve = locked(&self.reserve);
        *reserve = Reserve::Spent;
        if self.settings.reserve_bytes > 0
            && let Err(error) = self.disk.remove(&self.dir.join(RESERVE))
            && error.kind() != io::ErrorKind::NotFound
        {
            trouble("giving up the reserve", &error);
        }
        drop(reserve);
        self.set_state(SpoolState::Full, "the disk is full");
    }

    /// Makes the reserve (again). True when there is space to go on.
    pub(super) fn make_reserve(&self) -> bool {
        let mut reserve = locked(&self.reserve);
        if *reserve == Reserve::Held {
            return true;
        }
        if self.settings.reserve_bytes > 0 {
            match self.try_reserve() {
                Ok(()) => *reserve = Reserve::Held,
                Err(error) if is_disk_full(&error) => {
                    self.disk.remove(&self.dir.join(RESERVE)).ok();
                    *reserve = Reserve::Spent;
                    return false;
                }
                Err(error) => {
                    trouble("making the reserve", &error);
                    *reserve = Reserve::None;
                }
            }
        } else {
            *reserve = Reserve::None;
        }
        let free = self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX);
        if free < self.settings.segment_bytes {
            *reserve = Reserve::Spent;
            self.disk.remove(&self.dir.join(RESERVE)).ok();
            return false;
        }
        true
    }

    fn try_reserve(&self) -> io::Result<()> {
        let file = self.disk.open(&self.dir.join(RESERVE), OpenMode::Create)?;
        file.allocate(self.settings.reserve_bytes)
    }

    /// Keeps and counts a span of a segment that is no record. Returns whether a copy exists.
    pub(super) fn damaged(
        &self,
        segment: u64,
        file: &dyn DiskFile,
        span: std::ops::Range<u64>,
        damage: Damage,
    ) -> bool {
        let bytes = span.end.saturating_sub(span.start);
        let tally = match damage {
            Damage::Torn => &self.tally.torn_bytes,
            Damage::Bad => &self.tally.bad_bytes,
        };
        tally.fetch_add(bytes, Ordering::Relaxed);
        let offset = span.start;
        let kept = keep_damage(&*self.disk, &self.dir, segment, file, span, damage);
        events::SpoolDamaged {
            kind: damage.as_str(),
            segment,
            offset,
            bytes,
            kept: &kept.as_ref().map_or_else(ToString::to_string, ToString::to_string),
        }
        .emit();
        kept.is_ok()
    }

    /// Counts records that the numbering misses.
    pub(super) fn lost(&self, records: u64, sequence: u64, detail: &str) {
        self.tally.lost_records.fetch_add(records, Ordering::Relaxed);
        events::SpoolRecordsLost {
            records,
            sequence,
            detail,
        }
        .emit();
    }

    /// Opens a segment for reading.
    pub(super) fn open_segment(&self, number: u64) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&segment_path(&self.dir, number), OpenMode::Read)
    }
}

/// Logs what failed beside the durable path.
pub(super) fn trouble(what: &'static str, error: &io::Error) {
    events::SpoolTrouble {
        what,
        error: &error.to_string(),
    }
    .emit();
}

/// The error that callers see, by what the disk said.
pub(super) fn failed(what: &str, error: &io::Error) -> SinkError {
    SinkError::Failed(format!("{what}: {error}"))
}
