//! Opening a spool, its appending side, and the two workers behind it: threads of their own, unless the opener places them
//! elsewhere.

use super::codec::encode_poll;
use super::drain::{Ask, Drain, serve};
use super::reader::Reader;
use super::record::BODY_MAX;
use super::recovery::{SpoolError, recover};
use super::room::{Room, SpoolSettings, SpoolState, SpoolStats};
use super::writer::Writer;
use crate::base::clock::Clock;
use crate::port::disk::Disk;
use crate::port::ledger::{PollRecord, ReadingSink, SinkError};
use crate::telemetry::spool::{RecordsRefused, SPOOL_QUEUE, SpoolOpened};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// A group begins so long behind the one before at the earliest: under load it pays one fsync for many records, and what comes
/// alone does not wait.
const GATHER: Duration = Duration::from_millis(5);

/// The durable log.
#[derive(Clone, Copy, Debug)]
pub struct Spool;

/// Proof that a record is on stable storage: made behind the fsync that covers it, and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    sequence: u64,
}

impl Receipt {
    /// The record's number in the spool.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

struct Pending {
    body: Vec<u8>,
    reply: oneshot::Sender<Result<Receipt, SinkError>>,
    // held until the record is answered: bounds the bytes that wait
    _share: OwnedSemaphorePermit,
}

enum Command {
    Append(Pending),
    Close(oneshot::Sender<()>),
}

/// The appending side. Clones share the spool.
#[derive(Clone, Debug)]
pub struct SpoolHandle {
    commands: mpsc::Sender<Command>,
    bytes: Arc<Semaphore>,
    room: Arc<Room>,
}

impl Spool {
    /// Opens or makes the spool in `dir`: cuts a torn tail, takes the lock, starts the threads. Blocks while it reads
    /// the newest segment.
    ///
    /// # Errors
    /// [`SpoolError`]; a full disk is none, the spool then opens in [`SpoolState::Full`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: SpoolSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<(SpoolHandle, Drain), SpoolError> {
        Self::open_on(disk, dir, settings, clock, |worker| {
            // not joined: a thread ends when its channel does, and owns a share of the lock until then
            let thread = std::thread::Builder::new().name(worker.name().to_owned());
            thread.spawn(move || worker.block()).map(drop)
        })
    }

    /// The same with its two workers where `place` puts them, e.g. on the one thread of a simulation.
    ///
    /// # Errors
    /// Those of [`Spool::open`], and what `place` says.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        settings: SpoolSettings,
        clock: Arc<dyn Clock>,
        mut place: impl FnMut(Worker) -> io::Result<()>,
    ) -> Result<(SpoolHandle, Drain), SpoolError> {
        check(&settings)?;
        let cannot = |what: &'static str| {
            move |source| SpoolError::Disk {
                dir: dir.to_path_buf(),
                what,
                source,
            }
        };
        disk.create_dir(dir).map_err(cannot("making it"))?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                SpoolError::Locked(dir.to_path_buf())
            } else {
                cannot("locking it")(error)
            }
        })?;
        let recovered = recover(&*disk, dir)?;
        let segments = recovered.found.segments.len();
        let room = Arc::new(Room::new(disk, dir, settings, clock, lock, recovered.found));
        room.tally.torn_bytes.store(recovered.torn_bytes, Ordering::Relaxed);
        room.make_reserve();
        room.judge();
        SpoolOpened {
            dir: &dir.to_string_lossy(),
            segments,
            backlog: room.backlog(),
        }
        .emit();
        let writer = Writer::new(
            Arc::clone(&room),
            recovered.salt,
            recovered.next_segment,
            recovered.next_sequence,
        );
        let reader = Reader::new(Arc::clone(&room), recovered.salt);
        let (commands, queue) = mpsc::channel(settings.queue_records);
        let (asks, questions) = mpsc::channel::<Ask>(1);
        let group_bytes = settings.group_bytes;
        let scribe = Scribe {
            writer,
            queue,
            group_bytes,
            grouped_at: None,
            group: Vec::new(),
            closers: Vec::new(),
        };
        place(Worker(Work::Write(scribe))).map_err(cannot("starting a thread"))?;
        place(Worker(Work::Read(reader, questions))).map_err(cannot("starting a thread"))?;
        let handle = SpoolHandle {
            commands,
            bytes: Arc::new(Semaphore::new(
                usize::try_from(settings.queue_bytes).unwrap_or(usize::MAX),
            )),
            room: Arc::clone(&room),
        };
        Ok((handle, Drain::new(asks, room, recovered.start)))
    }
}

fn check(settings: &SpoolSettings) -> Result<(), SpoolError> {
    let body_max = u64::try_from(BODY_MAX).unwrap_or(u64::MAX);
    let to_u64 = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let least = [
        ("segment_bytes", settings.segment_bytes, 1024),
        ("capacity_bytes", settings.capacity_bytes, settings.segment_bytes),
        ("queue_records", to_u64(settings.queue_records), 1),
        ("queue_bytes", u64::from(settings.queue_bytes), body_max),
        ("group_bytes", to_u64(settings.group_bytes), 1),
    ];
    for (name, value, min) in least {
        if value < min {
            return Err(SpoolError::Setting { name, value, min });
        }
    }
    Ok(())
}

/// One of the two who work on the disk: the writing one or the reading one. Ends when nobody can ask it any more, or
/// when the spool was closed.
pub struct Worker(Work);

enum Work {
    Write(Scribe),
    Read(Reader, mpsc::Receiver<Ask>),
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.name()).finish()
    }
}

impl Worker {
    /// The name of its thread.
    pub fn name(&self) -> &'static str {
        match self.0 {
            Work::Write(_) => "spool-write",
            Work::Read(..) => "spool-read",
        }
    }

    /// Works until its end. Blocks; not within a runtime.
    pub fn block(self) {
        match self.0 {
            Work::Write(mut scribe) => {
                while let Some(command) = scribe.queue.blocking_recv() {
                    if let Some(wait) = scribe.gathers_for() {
                        std::thread::sleep(wait);
                    }
                    scribe.group(command);
                }
                scribe.end();
            }
            Work::Read(mut reader, mut questions) => {
                while let Some(ask) = questions.blocking_recv() {
                    serve(&mut reader, ask);
                }
            }
        }
    }

    /// Works until its end, waiting as a future. The disk's calls block all the same.
    pub async fn run(self) {
        match self.0 {
            Work::Write(mut scribe) => {
                while let Some(command) = scribe.queue.recv().await {
                    if let Some(wait) = scribe.gathers_for() {
                        tokio::time::sleep(wait).await;
                    }
                    scribe.group(command);
                }
                scribe.end();
            }
            Work::Read(mut reader, mut questions) => {
                while let Some(ask) = questions.recv().await {
                    serve(&mut reader, ask);
                }
            }
        }
    }
}

/// The writing worker: whatever waits becomes one group with one fsync, and while that runs the next group gathers; for
/// [`GATHER`] at least.
struct Scribe {
    writer: Writer,
    queue: mpsc::Receiver<Command>,
    group_bytes: usize,
    /// When the last group began.
    grouped_at: Option<Instant>,
    group: Vec<Pending>,
    closers: Vec<oneshot::Sender<()>>,
}

impl Scribe {
    /// How long what came waits for more.
    fn gathers_for(&self) -> Option<Duration> {
        let since = self.writer.now().saturating_duration_since(self.grouped_at?);
        GATHER.checked_sub(since).filter(|wait| !wait.is_zero())
    }

    fn group(&mut self, command: Command) {
        self.grouped_at = Some(self.writer.now());
        let queued = |queue: &mpsc::Receiver<Command>| i64::try_from(queue.len()).unwrap_or(i64::MAX);
        SPOOL_QUEUE.set(queued(&self.queue).saturating_add(1));
        let mut size = 0;
        let mut next = Some(command);
        while let Some(command) = next.take() {
            match command {
                Command::Append(pending) => {
                    size += pending.body.len();
                    self.group.push(pending);
                }
                Command::Close(done) => {
                    self.queue.close();
                    self.closers.push(done);
                }
            }
            if size < self.group_bytes {
                next = self.queue.try_recv().ok();
            }
        }
        if !self.group.is_empty() {
            let bodies = self.group.iter().map(|pending| pending.body.as_slice());
            let result = self.writer.write(bodies);
            answer(&mut self.group, &result);
        }
        SPOOL_QUEUE.set(queued(&self.queue));
    }

    fn end(mut self) {
        self.writer.close();
        for done in self.closers {
            // who asked may have gone
            done.send(()).ok();
        }
    }
}

fn answer(group: &mut Vec<Pending>, result: &Result<u64, SinkError>) {
    if let Err(error) = result {
        RecordsRefused {
            records: u64::try_from(group.len()).unwrap_or(u64::MAX),
            reason: if matches!(error, SinkError::Full(_)) {
                "full"
            } else {
                "failed"
            },
        }
        .emit();
    }
    for (offset, pending) in (0u64..).zip(group.drain(..)) {
        let receipt = match result {
            Ok(first) => Ok(Receipt {
                sequence: first.saturating_add(offset),
            }),
            Err(error) => Err(error.clone()),
        };
        // who asked may have gone; the record is durable all the same
        pending.reply.send(receipt).ok();
    }
}

impl SpoolHandle {
    /// How it fares.
    pub fn state(&self) -> SpoolState {
        self.room.state()
    }

    /// The counts now.
    pub fn stats(&self) -> SpoolStats {
        self.room.stats()
    }

    /// Makes what waits durable, then refuses appends with [`SinkError::Closed`] and lets the drain come to its end.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // an error means that the thread has ended, which is what we wait for
            closed.await.ok();
        }
    }
}

impl ReadingSink for SpoolHandle {
    type Receipt = Receipt;

    async fn append(&self, record: PollRecord) -> Result<Receipt, SinkError> {
        let body = encode_poll(&record);
        drop(record);
        let bytes = body.len();
        let share = u32::try_from(bytes).ok().filter(|_| bytes <= BODY_MAX);
        let Some(share) = share else {
            RecordsRefused {
                records: 1,
                reason: "too_large",
            }
            .emit();
            return Err(SinkError::TooLarge {
                bytes,
                bytes_max: BODY_MAX,
            });
        };
        let share = Arc::clone(&self.bytes).acquire_many_owned(share).await;
        let share = share.map_err(|_| SinkError::Closed)?;
        let (reply, receipt) = oneshot::channel();
        let pending = Pending {
            body,
            reply,
            _share: share,
        };
        self.commands
            .send(Command::Append(pending))
            .await
            .map_err(|_| SinkError::Closed)?;
        receipt
            .await
            .unwrap_or_else(|_| Err(SinkError::Failed("the spool's thread has ended".into())))
    }
}
