//! The desk: takes export jobs, runs a few at once and one of each account, keeps their files for a while.
//!
//! Jobs are written down before they are taken, so that a restart finds them: what was waiting or running then runs
//! anew from its beginning. A job that was begun several times and never ended is given up, because it may be what
//! ends the process.

use super::run::{Ran, Run};
use crate::base::clock::Clock;
use crate::base::ids::AccountId;
use crate::port::exports::{
    ExportAsk, ExportBook, ExportDesk, ExportEnd, ExportHouse, ExportJob, ExportKind, ExportRefused, ExportState,
};
use crate::port::live::{LiveFeed, Topic};
use crate::port::scope::{Actor, InAccount, Scope, StoreError, Stores};
use crate::telemetry::report::{ExportEnded, ExportSweepFailed, ExportsKept, ExportsOpen};
use async_trait::async_trait;
use chrono::TimeDelta;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Runs of one job over restarts, at most.
const RUNS_MAX: i16 = 3;
/// Between two sweeps of the folder.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How long a job is remembered whose file is gone.
const REMEMBERED: TimeDelta = TimeDelta::days(90);
/// Between two tries to write down how a job ended.
const END_AGAIN: Duration = Duration::from_secs(5);

/// Bounds of exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSettings {
    /// Where files lie.
    pub folder: PathBuf,
    /// Jobs that run at once, each of another account.
    pub at_once: usize,
    /// Jobs of one account that have not ended.
    pub account_open_max: usize,
    /// Jobs that have not ended, in all.
    pub open_max: usize,
    /// Rows of one file.
    pub rows_max: u64,
    /// Bytes of one file.
    pub bytes_max: u64,
    /// Bytes of all files.
    pub folder_bytes: u64,
    /// How long a file is kept.
    pub kept: TimeDelta,
}

/// A job that has not ended.
struct Open {
    account: AccountId,
    cancel: CancellationToken,
}

/// Runs exports. Cheap to clone.
#[derive(Clone)]
pub struct Exports {
    inner: Arc<Inner>,
}

struct Inner {
    stores: Arc<dyn Stores>,
    feed: Arc<dyn LiveFeed>,
    clock: Arc<dyn Clock>,
    settings: ExportSettings,
    /// Where jobs run: the runtime that the desk was opened on, which outlives every request.
    runtime: Handle,
    turns: Semaphore,
    open: Mutex<HashMap<Uuid, Open>>,
    lanes: Mutex<HashMap<AccountId, Arc<Semaphore>>>,
    /// Bytes of files that are kept.
    kept: AtomicU64,
    stop: CancellationToken,
}

impl Exports {
    /// Opens the desk on the present runtime: makes the folder, takes up what the process before left, sweeps from
    /// now on until `stop`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(
        stores: Arc<dyn Stores>,
        feed: Arc<dyn LiveFeed>,
        clock: Arc<dyn Clock>,
        settings: ExportSettings,
        stop: CancellationToken,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&settings.folder)?;
        let inner = Inner {
            turns: Semaphore::new(settings.at_once.max(1)),
            stores,
            feed,
            clock,
            settings,
            runtime: Handle::current(),
            open: Mutex::default(),
            lanes: Mutex::default(),
            kept: AtomicU64::new(0),
            stop,
        };
        let desk = Self { inner: Arc::new(inner) };
        desk.inner.gauge();
        let keeper = desk.clone();
        desk.inner.runtime.spawn(async move { keeper.keep().await });
        Ok(desk)
    }

    async fn keep(self) {
        let stop = self.inner.stop.clone();
        let mut taken_up = false;
        loop {
            let round = async {
                if !taken_up {
                    self.take_up().await?;
                }
                self.inner.sweep().await
            };
            match round.await {
                Ok(()) => taken_up = true,
                Err(error) => ExportSweepFailed {
                    cause: &error.to_string(),
                }
                .emit(),
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(SWEEP_EVERY))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn take_up(&self) -> Result<(), StoreError> {
        let left = self.inner.house().unfinished().await?;
        for (account, job) in left {
            let scope = Scope {
                account,
                actor: Actor {
                    user: job.user_id,
                    name: job.requested_by.clone(),
                    ..Actor::command_line()
                },
            };
            self.start(scope, job);
        }
        Ok(())
    }

    /// Starts a job unless this process has it already.
    fn start(&self, scope: Scope, job: ExportJob) {
        let cancel = CancellationToken::new();
        {
            let mut open = self.inner.open();
            if open.contains_key(&job.id) {
                return;
            }
            let entry = Open {
                account: scope.account,
                cancel: cancel.clone(),
            };
            open.insert(job.id, entry);
        }
        self.inner.gauge();
        self.inner.tell(scope.account, &job);
        let inner = Arc::clone(&self.inner);
        self.inner.runtime.spawn(async move {
            let id = job.id;
            inner.run(&scope, job, &cancel).await;
            inner.open().remove(&id);
            inner.gauge();
        });
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge(&self) {
        ExportsOpen {
            open: self.open().len(),
            limit: self.settings.open_max,
        }
        .emit();
    }

    fn book(&self, scope: &Scope) -> Box<dyn ExportBook> {
        InAccount::<dyn ExportBook>::in_account(&*self.stores, scope.clone())
    }

    fn house(&self) -> Box<dyn ExportHouse> {
        crate::port::scope::AcrossAccounts::<dyn ExportHouse>::across_accounts(&*self.stores, Actor::export_desk())
    }

    /// The queue of an account, in which one job runs at a time.
    fn lane(&self, account: AccountId) -> Arc<Semaphore> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // nobody else holds the lane of an account without open jobs
        lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        Arc::clone(lanes.entry(account).or_insert_with(|| Arc::new(Semaphore::new(1))))
    }

    fn path(&self, job: &ExportJob) -> PathBuf {
        let name = format!("{}.{}", job.id, job.ask.format.as_str());
        self.settings.folder.join(name)
    }

    fn tell(&self, account: AccountId, job: &ExportJob) {
        // everybody of the account may follow the stream
        if job.ask.kind == ExportKind::Audit {
            return;
        }
        let data = serde_json::json!({ "kind": "export", "export": job });
        self.feed.publish(account, Topic::Jobs, None, None, data);
    }

    /// Waits for its turn, runs, writes down how it ended.
    async fn run(&self, scope: &Scope, mut job: ExportJob, cancel: &CancellationToken) {
        let lane = self.lane(scope.account);
        let turn = async {
            // semaphores of ours are never closed
            let lane = lane.acquire().await.ok()?;
            Some((lane, self.turns.acquire().await.ok()?))
        };
        let ended = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = self.stop.cancelled() => {}
            }
        };
        let _turn = tokio::select! {
            biased;
            () = ended => return,
            turn = turn => turn,
        };
        let book = self.book(scope);
        let ran = match self.begin(&*book, &mut job).await {
            Ok(()) => {
                self.tell(scope.account, &job);
                self.write(scope, &*book, &job, cancel).await
            }
            Err(ended) => ended,
        };
        let end = match ran {
            Ran::GivenUp | Ran::Stopped => return,
            Ran::Failed(reason) => failed(reason),
            Ran::Done(rows, written) => ExportEnd {
                state: ExportState::Done,
                reason: None,
                rows,
                bytes: i64::try_from(written.bytes).unwrap_or(i64::MAX),
                sha256: Some(written.sha256),
                expires_at: Some(self.clock.now() + self.settings.kept),
            },
        };
        self.end(scope, &*book, &job, end).await;
    }

    async fn begin(&self, book: &dyn ExportBook, job: &mut ExportJob) -> Result<(), Ran> {
        let now = self.clock.now();
        loop {
            match book.begin(job.id, now).await {
                Ok(Some(runs)) if runs > RUNS_MAX => {
                    let reason = format!("the server was restarted {RUNS_MAX} times while it was written");
                    return Err(Ran::Failed(reason));
                }
                Ok(Some(_)) => {
                    (job.state, job.began_at) = (ExportState::Running, Some(now));
                    return Ok(());
                }
                Ok(None) => return Err(Ran::GivenUp),
                Err(StoreError::Unavailable(_)) => {
                    let pause = tokio::time::sleep(END_AGAIN);
                    if self.stop.run_until_cancelled(pause).await.is_none() {
                        return Err(Ran::Stopped);
                    }
                }
                Err(error) => return Err(Ran::Failed(error.to_string())),
            }
        }
    }

    async fn write(&self, scope: &Scope, book: &dyn ExportBook, job: &ExportJob, cancel: &CancellationToken) -> Ran {
        let path = self.path(job);
        let run = Run {
            stores: &*self.stores,
            scope,
            job,
            path: &path,
            settings: &self.settings,
            room: self
                .settings
                .folder_bytes
                .saturating_sub(self.kept.load(Ordering::Relaxed)),
            cancel,
            stop: &self.stop,
            clock: &*self.clock,
        };
        let tell = |rows, bytes| {
            let job = ExportJob {
                rows,
                bytes,
                ..job.clone()
            };
            self.tell(scope.account, &job);
        };
        run.run(book, tell).await
    }

    /// Writes the end down, however long the database is away; the file waits with it.
    async fn end(&self, scope: &Scope, book: &dyn ExportBook, job: &ExportJob, end: ExportEnd) {
        let ended = loop {
            match book.end(job.id, &end, self.clock.now()).await {
                Ok(ended) => break ended,
                Err(error) => ExportSweepFailed {
                    cause: &error.to_string(),
                }
                .emit(),
            }
            // the next process runs it again
            if self
                .stop
                .run_until_cancelled(tokio::time::sleep(END_AGAIN))
                .await
                .is_none()
            {
                return;
            }
        };
        let Some(ended) = ended else {
            // given up while it came to its end
            std::fs::remove_file(self.path(job)).ok();
            return;
        };
        self.kept
            .fetch_add(u64::try_from(ended.bytes).unwrap_or(0), Ordering::Relaxed);
        ExportEnded {
            id: job.id,
            kind: job.ask.kind.as_str(),
            format: job.ask.format.as_str(),
            outcome: ended.state.as_str(),
            rows: ended.rows,
            bytes: ended.bytes,
            reason: ended.reason.as_deref(),
        }
        .emit();
        self.tell(scope.account, &ended);
    }

    /// Ends the life of what is too old, and removes files that belong to nothing.
    async fn sweep(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let marker = Uuid::now_v7();
        let before: Vec<Uuid> = self.open().keys().copied().collect();
        let kept = self.house().sweep(now, now - REMEMBERED).await?;
        let bytes = kept.iter().map(|(_, bytes)| u64::try_from(*bytes).unwrap_or(0)).sum();
        self.kept.store(bytes, Ordering::Relaxed);
        ExportsKept {
            bytes,
            limit: self.settings.folder_bytes,
        }
        .emit();
        let mut known: HashSet<Uuid> = kept.into_iter().map(|(id, _)| id).collect();
        known.extend(before);
        known.extend(self.open().keys().copied());
        remove_strangers(&self.settings.folder, &known, marker);
        Ok(())
    }
}

fn failed(reason: String) -> ExportEnd {
    ExportEnd {
        state: ExportState::Failed,
        reason: Some(reason),
        rows: 0,
        bytes: 0,
        sha256: None,
        expires_at: None,
    }
}

/// Removes files of our naming whose job is not known and was asked for before `marker` was made: ids grow with time.
fn remove_strangers(folder: &Path, known: &HashSet<Uuid>, marker: Uuid) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if Uuid::parse_str(stem).is_ok_and(|id| id < marker && !known.contains(&id)) {
            // it is tried again at the next sweep
            std::fs::remove_file(&path).ok();
        }
    }
}

#[async_trait]
impl ExportDesk for Exports {
    async fn ask(&self, scope: Scope, ask: ExportAsk) -> Result<ExportJob, ExportRefused> {
        let inner = &self.inner;
        let settings = &inner.settings;
        let id = Uuid::now_v7();
        if inner.kept.load(Ordering::Relaxed) >= settings.folder_bytes {
            return Err(ExportRefused::FolderFull(settings.folder_bytes));
        }
        // the place is taken before the job is written down, so that two at once do not share the last one
        {
            let mut open = inner.open();
            if open.len() >= settings.open_max {
                return Err(ExportRefused::ServerFull(open.len()));
            }
            let mine = open.values().filter(|job| job.account == scope.account).count();
            if mine >= settings.account_open_max {
                return Err(ExportRefused::AccountFull(mine));
            }
            let entry = Open {
                account: scope.account,
                cancel: CancellationToken::new(),
            };
            open.insert(id, entry);
        }
        let place = Place { inner, id };
        let job = inner.book(&scope).create(id, &ask, inner.clock.now()).await?;
        drop(place);
        self.start(scope, job.clone());
        Ok(job)
    }

    async fn give_up(&self, scope: Scope, id: Uuid) -> Result<ExportJob, StoreError> {
        let job = self.inner.book(&scope).give_up(id, self.inner.clock.now()).await?;
        if let Some(open) = self.inner.open().get(&id) {
            open.cancel.cancel();
        }
        match job.state {
            ExportState::Cancelled => {
                ExportEnded {
                    id,
                    kind: job.ask.kind.as_str(),
                    format: job.ask.format.as_str(),
                    outcome: job.state.as_str(),
                    rows: job.rows,
                    bytes: job.bytes,
                    reason: None,
                }
                .emit();
            }
            ExportState::Expired => {
                // a file that stays goes with the next sweep
                std::fs::remove_file(self.inner.path(&job)).ok();
            }
            _ => {}
        }
        self.inner.tell(scope.account, &job);
        Ok(job)
    }

    fn file(&self, job: &ExportJob) -> PathBuf {
        self.inner.path(job)
    }
}

/// A place among the open jobs, given back when it goes.
struct Place<'a> {
    inner: &'a Inner,
    id: Uuid,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.inner.open().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_unknown_jobs_go_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (known, gone) = (Uuid::now_v7(), Uuid::now_v7());
        let names = [
            format!("{known}.csv"),
            format!("{gone}.xlsx"),
            format!("{gone}.part"),
            "notes.txt".into(),
        ];
        for name in &names {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let marker = Uuid::now_v7();
        let later = folder.path().join(format!("{}.part", Uuid::now_v7()));
        std::fs::write(&later, "x").unwrap();
        remove_strangers(folder.path(), &HashSet::from([known]), marker);
        assert!(later.exists(), "it was begun meanwhile");
        let left: Vec<bool> = names.iter().map(|name| folder.path().join(name).exists()).collect();
        assert_eq!(left, [true, false, false, true]);
    }
}
