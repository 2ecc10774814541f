//! The desk: takes files, judges and writes one of each account at a time, tells how far it is.
//!
//! A file is in memory while its job is open, and nowhere afterwards; a job that a process left behind is failed by the
//! next one, which has no file for it. As a file is written in one transaction with the end of its job, such a job has
//! written nothing, and the same file can be sent again.

use super::columns::Heading;
use super::judge::{Found, Names, Rules};
use super::{dtus, groups, meters};
use crate::api::ApiState;
use crate::base::clock::Clock;
use crate::base::ids::{AccountId, DtuId};
use crate::port::dtus::Dtu;
use crate::port::imports::{
    Applied, ImportAsk, ImportBook, ImportFault, ImportHouse, ImportJob, ImportKind, ImportPlan, ImportState,
    ImportTally, Known, KnownMeter, Sheet, SheetReader,
};
use crate::port::live::Topic;
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError, Stores};
use crate::telemetry::import::{ImportEnded, ImportHouseFailed, ImportsOpen};
use chrono::TimeDelta;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a plan is made anew because somebody changed meanwhile what it was made from.
const PLANS: usize = 4;
/// A request waits so long for a place.
const PLACE: Duration = Duration::from_secs(20);
/// Between two tries to write down how a job ended.
const END_AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at old jobs.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// How long a job is remembered.
const REMEMBERED: TimeDelta = TimeDelta::days(90);
const LEFT_BEHIND: &str = "the server was stopped while it ran; nothing was written, send the file again";
const RESTLESS: &str = "what the file names was changed again and again by others while it ran; send it again";

/// Bounds of imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSettings {
    /// Bytes of a file.
    pub bytes_max: usize,
    /// How long a file may take to arrive.
    pub arrival: Duration,
    /// Faults that a job lists.
    pub faults_max: usize,
    /// Imports that run at once.
    pub at_once: usize,
    /// Imports that may wait or run, each of another account.
    pub open_max: usize,
}

/// Why the desk takes no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportRefused {
    /// One at a time.
    #[error("an import of this account is under way; wait for it to end")]
    AccountBusy,
    /// The server has as many as it takes.
    #[error("{0} imports are under way on this server")]
    ServerFull(usize),
}

/// Runs imports. Cheap to clone.
#[derive(Clone)]
pub struct ImportDesk {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ImportSettings,
    sheets: Arc<dyn SheetReader>,
    turns: Semaphore,
    open: Mutex<BTreeSet<AccountId>>,
    /// A place is free again.
    freed: Notify,
    /// Where jobs run: the runtime that the desk was opened on, which outlives every request.
    runtime: Handle,
    stop: CancellationToken,
}

/// A place among the imports; dropped, it is free.
pub(super) struct Place {
    inner: Arc<Inner>,
    account: AccountId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.inner.open().remove(&self.account);
        self.inner.gauge();
        self.inner.freed.notify_waiters();
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, BTreeSet<AccountId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gauge(&self) {
        ImportsOpen {
            open: self.open().len(),
            limit: self.settings.open_max,
        }
        .emit();
    }
}

impl ImportDesk {
    /// Opens the desk on the present runtime; looks after old jobs until `stop`.
    pub fn open(
        stores: Arc<dyn Stores>,
        sheets: Arc<dyn SheetReader>,
        clock: Arc<dyn Clock>,
        settings: ImportSettings,
        stop: CancellationToken,
    ) -> Self {
        let inner = Arc::new(Inner {
            turns: Semaphore::new(settings.at_once.clamp(1, Semaphore::MAX_PERMITS)),
            settings,
            sheets,
            open: Mutex::default(),
            freed: Notify::new(),
            runtime: Handle::current(),
            stop: stop.clone(),
        });
        inner.gauge();
        inner.runtime.spawn(keep(stores, clock, stop));
        Self { inner }
    }

    pub(super) fn settings(&self) -> ImportSettings {
        self.inner.settings
    }

    pub(super) fn sheets(&self) -> &dyn SheetReader {
        &*self.inner.sheets
    }

    /// A place for a file of an account, before the file is there. Who sends one file after the other waits a while for
    /// the one before.
    pub(super) async fn place(&self, account: AccountId) -> Result<Place, ImportRefused> {
        let mut refused = ImportRefused::AccountBusy;
        let found = async {
            loop {
                let freed = self.inner.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                match self.place_now(account) {
                    Ok(place) => return place,
                    Err(why) => refused = why,
                }
                freed.await;
            }
        };
        let found = tokio::time::timeout(PLACE, found).await;
        found.map_err(|_| refused)
    }

    fn place_now(&self, account: AccountId) -> Result<Place, ImportRefused> {
        {
            let mut open = self.inner.open();
            if open.contains(&account) {
                return Err(ImportRefused::AccountBusy);
            }
            if open.len() >= self.inner.settings.open_max {
                return Err(ImportRefused::ServerFull(open.len()));
            }
            open.insert(account);
        }
        self.inner.gauge();
        Ok(Place {
            inner: Arc::clone(&self.inner),
            account,
        })
    }

    /// Takes a file; it runs when its turn comes.
    pub(super) async fn take(
        &self,
        state: Arc<ApiState>,
        place: Place,
        scope: Scope,
        ask: ImportAsk,
        file: Vec<u8>,
    ) -> Result<ImportJob, StoreError> {
        let book = book(&state, &scope);
        let job = book.create(Uuid::now_v7(), &ask, state.clock.now()).await?;
        let run = Run {
            inner: Arc::clone(&self.inner),
            state,
            scope,
            job: job.clone(),
        };
        run.tell(&job);
        self.inner.runtime.spawn(async move {
            run.run(file).await;
            drop(place);
        });
        Ok(job)
    }
}

fn book(state: &ApiState, scope: &Scope) -> Box<dyn ImportBook> {
    InAccount::<dyn ImportBook>::in_account(&*state.stores, scope.clone())
}

/// Ends what a process before this one left behind, and forgets what is old.
async fn keep(stores: Arc<dyn Stores>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let marker = Uuid::now_v7();
    let house = AcrossAccounts::<dyn ImportHouse>::across_accounts(&*stores, Actor::import_desk());
    let mut abandoned = false;
    loop {
        let now = clock.now();
        let round = async {
            if !abandoned {
                house.abandon(marker, LEFT_BEHIND, now).await?;
            }
            house.sweep(now - REMEMBERED).await
        };
        let pause = match round.await {
            Ok(()) => {
                abandoned = true;
                SWEEP_EVERY
            }
            Err(error) => {
                let cause = &error.to_string();
                ImportHouseFailed { cause }.emit();
                END_AGAIN
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// What rows are judged against.
enum Directory {
    Dtus(Names, Vec<Dtu>),
    Meters(Names, Vec<KnownMeter>),
    Groups(Known),
}

/// How a run ended without having written.
enum Halt {
    /// With this state and this reason.
    Ended(ImportState, Option<String>),
    /// Its job had ended before.
    Over,
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        let reason = match error {
            // the text of an inner fault is for the log
            StoreError::Internal(cause) => {
                tracing::error!(cause, "an import failed");
                "the server failed at it; its log has more".to_owned()
            }
            other => other.to_string(),
        };
        Self::Ended(ImportState::Failed, Some(reason))
    }
}

/// One job.
struct Run {
    inner: Arc<Inner>,
    state: Arc<ApiState>,
    scope: Scope,
    job: ImportJob,
}

impl Run {
    fn tell(&self, job: &ImportJob) {
        let told = ImportJob {
            tally: ImportTally {
                faults: Vec::new(),
                changes: Vec::new(),
                ..job.tally.clone()
            },
            ..job.clone()
        };
        let data = serde_json::json!({ "kind": "import", "import": told });
        self.state
            .feed
            .publish(self.scope.account, Topic::Jobs, None, None, data);
    }

    async fn run(mut self, file: Vec<u8>) {
        let inner = Arc::clone(&self.inner);
        let turn = inner.stop.run_until_cancelled(inner.turns.acquire());
        let Some(Ok(_turn)) = turn.await else { return };
        let stop = inner.stop.clone();
        let Some(ended) = stop.run_until_cancelled(self.work(file)).await else {
            return;
        };
        match ended {
            Ok(dtus) => {
                for dtu in dtus {
                    self.state.fleet.reload(dtu).await;
                }
                self.told_as_ended().await;
            }
            Err(Halt::Ended(state, reason)) => self.end(state, reason.as_deref()).await,
            Err(Halt::Over) => self.over().await,
        }
    }

    /// The job's end is written already; whether something was written with it is looked up.
    async fn over(&self) {
        let job = book(&self.state, &self.scope).get(self.job.id).await;
        if job.is_ok_and(|job| job.state == ImportState::Done) {
            self.state.fleet.reload_all().await;
        }
        self.told_as_ended().await;
    }

    /// Writes the end down, however long the database is away.
    async fn end(&self, state: ImportState, reason: Option<&str>) {
        let book = book(&self.state, &self.scope);
        loop {
            let now = self.state.clock.now();
            match book.end(self.job.id, state, reason, &self.job.tally, now).await {
                Ok(Some(_)) => return self.told_as_ended().await,
                // the answer to a commit can be lost with the database, and the commit not
                Ok(None) => return self.over().await,
                Err(error) => {
                    let cause = &error.to_string();
                    ImportHouseFailed { cause }.emit();
                }
            }
            let pause = tokio::time::sleep(END_AGAIN);
            if self.inner.stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn told_as_ended(&self) {
        let Ok(job) = book(&self.state, &self.scope).get(self.job.id).await else {
            return;
        };
        ImportEnded {
            id: job.id,
            kind: job.ask.kind.as_str(),
            dry_run: job.ask.dry_run,
            outcome: job.state.as_str(),
            rows: job.tally.rows,
            faults: job.tally.faults_total,
            reason: job.reason.as_deref(),
        }
        .emit();
        self.tell(&job);
    }

    /// Reads, judges and writes. The DTUs that are to be loaded anew.
    async fn work(&mut self, file: Vec<u8>) -> Result<Vec<DtuId>, Halt> {
        let book = book(&self.state, &self.scope);
        self.job.state = ImportState::Running;
        book.progress(self.job.id, &self.job.tally, self.state.clock.now())
            .await?;
        self.tell(&self.job);
        let sheet = Arc::new(self.read(file).await?);
        self.job.tally.rows = i64::try_from(sheet.rows.len()).unwrap_or(i64::MAX);
        book.progress(self.job.id, &self.job.tally, self.state.clock.now())
            .await?;
        self.tell(&self.job);
        for _ in 0..PLANS {
            let plan = self.judge(&*book, &sheet).await?;
            let faulty = self.job.tally.faults_total > 0;
            let dry = self.job.ask.dry_run || faulty;
            let now = self.state.clock.now();
            match book.apply(self.job.id, &plan, dry, &self.job.tally, now).await? {
                Applied::All(_) if faulty => return Err(Halt::Ended(ImportState::Faulty, None)),
                Applied::All(_) if dry => return Err(Halt::Ended(ImportState::Done, None)),
                Applied::All(dtus) => return Ok(dtus),
                Applied::Refused(refused) => {
                    self.note(&sheet, refused);
                    return Err(Halt::Ended(ImportState::Faulty, None));
                }
                Applied::Moved => {}
                Applied::Ended => return Err(Halt::Over),
            }
        }
        Err(Halt::Ended(ImportState::Failed, Some(RESTLESS.to_owned())))
    }

    async fn read(&mut self, file: Vec<u8>) -> Result<Sheet, Halt> {
        let (inner, ask) = (Arc::clone(&self.inner), self.job.ask.clone());
        let read = move || inner.sheets.read(&file, ask.format, ask.charset.as_deref());
        blocking(read).await?.map_err(|fault| {
            self.job.tally.faults_total = 1;
            self.job.tally.faults = vec![fault];
            Halt::Ended(ImportState::Faulty, None)
        })
    }

    /// Holds the rows against the rules and what is there now.
    async fn judge(&mut self, book: &dyn ImportBook, sheet: &Arc<Sheet>) -> Result<ImportPlan, Halt> {
        let rules = Rules {
            kind: self.job.ask.kind,
            numbers_as_text: self.job.ask.numbers_as_text,
            faults_max: self.inner.settings.faults_max,
        };
        let heading = Arc::new(Heading::read(rules.kind, &sheet.heading));
        let now = self.state.clock.now();
        let known = book.known().await?;
        let directory = match rules.kind {
            ImportKind::Groups => Directory::Groups(known),
            ImportKind::Dtus => {
                let (names, ids) = named(sheet, &heading, known, rules, dtus::named).await?;
                Directory::Dtus(names, book.dtus(&ids, now).await?)
            }
            ImportKind::Meters => {
                let (names, ids) = named(sheet, &heading, known, rules, meters::lines).await?;
                Directory::Meters(names, book.meters(&ids).await?)
            }
        };
        let (state, rows) = (Arc::clone(&self.state), Arc::clone(sheet));
        let (plan, tally) = blocking(move || {
            let mut found = Found::new(rules);
            found.tally.rows = i64::try_from(rows.rows.len()).unwrap_or(i64::MAX);
            for fault in &heading.faults {
                found.fault(fault.clone());
            }
            let plan = if heading.usable {
                match &directory {
                    Directory::Groups(known) => groups::judge(&rows, &heading, known, &mut found),
                    Directory::Dtus(names, known) => {
                        dtus::judge(&state, &rows, &heading, (names, known), &mut found, now)
                    }
                    Directory::Meters(names, known) => {
                        meters::judge(&state, &rows, &heading, (names, known), &mut found, now)
                    }
                }
            } else {
                ImportPlan::Groups(Vec::new())
            };
            found.tally.faults.sort();
            (plan, found.tally)
        })
        .await?;
        self.job.tally = tally;
        book.progress(self.job.id, &self.job.tally, now).await?;
        Ok(plan)
    }

    /// Notes what the database refused.
    fn note(&mut self, sheet: &Sheet, refused: Vec<(u32, &'static str, String)>) {
        let heading = Heading::read(self.job.ask.kind, &sheet.heading);
        let value = |number: u32, name: &str| {
            let row = sheet.rows.iter().find(|row| row.number == number)?;
            let (_, cell) = heading.cells(row).find(|(column, _)| column.name == name)?;
            Some(super::columns::shown(&cell.text))
        };
        let tally = &mut self.job.tally;
        for (row, column, problem) in refused {
            tally.faults_total += 1;
            tally.made = tally.made.saturating_sub(1);
            tally.faults.push(ImportFault {
                row: Some(row),
                column: Some(column.to_owned()),
                value: value(row, column),
                problem,
                remedy: super::columns::rule(self.job.ask.kind, column).to_owned(),
            });
        }
        tally.faults.sort();
        tally.faults.truncate(self.inner.settings.faults_max);
    }
}

/// The DTUs that a file names.
async fn named(
    sheet: &Arc<Sheet>,
    heading: &Arc<Heading>,
    known: Known,
    rules: Rules,
    look: fn(&Sheet, &Heading, &Names, Rules) -> Vec<DtuId>,
) -> Result<(Names, Vec<DtuId>), Halt> {
    let (sheet, heading) = (Arc::clone(sheet), Arc::clone(heading));
    blocking(move || {
        let names = Names::new(&known);
        let ids = look(&sheet, &heading, &names, rules);
        (names, ids)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Halt> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StoreError::Internal(format!("an import broke off: {error}")).into())
}
