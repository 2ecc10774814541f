//! One job, from its first page to a whole file under its name.

use super::desk::ExportSettings;
use super::file::{Draft, Written};
use super::rows::{self, RowSource};
use super::table::Row;
use crate::base::clock::Clock;
use crate::port::exports::{ExportBook, ExportJob};
use crate::port::scope::{Scope, StoreError, Stores};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The least time between two words about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often a page is asked for again when the database does not answer, and the first wait; it doubles.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug)]
pub(super) enum Ran {
    /// The file is there.
    Done(i64, Written),
    /// It came to no end, and why.
    Failed(String),
    /// Somebody gave it up.
    GivenUp,
    /// The server stops; the next one runs it again.
    Stopped,
}

/// What a run works with.
pub(super) struct Run<'a> {
    pub(super) stores: &'a dyn Stores,
    pub(super) scope: &'a Scope,
    pub(super) job: &'a ExportJob,
    pub(super) path: &'a Path,
    pub(super) settings: &'a ExportSettings,
    /// Bytes that the folder has left.
    pub(super) room: u64,
    pub(super) cancel: &'a CancellationToken,
    pub(super) stop: &'a CancellationToken,
    pub(super) clock: &'a dyn Clock,
}

enum Halt {
    Failed(String),
    GivenUp,
    Stopped,
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("the file cannot be written: {error}"))
    }
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match error {
            // the text of an inner fault is for the log
            StoreError::Internal(cause) => {
                tracing::error!(cause, "an export failed");
                Self::Failed("the server failed at it; its log has more".to_owned())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Run<'_> {
    /// Runs it. `tell` hears of rows and bytes.
    pub(super) async fn run(&self, book: &dyn ExportBook, tell: impl Fn(i64, i64)) -> Ran {
        match self.write(book, tell).await {
            Ok((rows, written)) => Ran::Done(rows, written),
            Err(Halt::Failed(reason)) => Ran::Failed(reason),
            Err(Halt::GivenUp) => Ran::GivenUp,
            Err(Halt::Stopped) => Ran::Stopped,
        }
    }

    async fn write(&self, book: &dyn ExportBook, tell: impl Fn(i64, i64)) -> Result<(i64, Written), Halt> {
        let ask = self.job.ask.clone();
        let mut source = self.open().await?;
        let (path, columns) = (self.path.to_owned(), source.columns());
        let mut draft = blocking(move || Draft::begin(&path, &ask, columns)).await?;
        let mut count = 0i64;
        let mut told = self.clock.monotonic();
        while let Some(page) = self.page(&mut *source).await? {
            count = count.saturating_add(i64::try_from(page.len()).unwrap_or(i64::MAX));
            if u64::try_from(count).unwrap_or(0) > self.settings.rows_max {
                return Err(Halt::Failed(format!(
                    "it has more than {} rows (exports.rows_max); ask for less at once",
                    self.settings.rows_max
                )));
            }
            draft = append(draft, page).await?;
            self.check_room(draft.bytes())?;
            if self.clock.monotonic().saturating_duration_since(told) >= TELL_EVERY {
                let bytes = i64::try_from(draft.bytes()).unwrap_or(i64::MAX);
                tell(count, bytes);
                // a word about progress may be lost with the database; the work goes on
                if matches!(book.progress(self.job.id, count, bytes).await, Ok(false)) {
                    return Err(Halt::GivenUp);
                }
                told = self.clock.monotonic();
            }
        }
        let written = blocking(move || draft.finish()).await?;
        if let Err(full) = self.check_room(written.bytes) {
            std::fs::remove_file(self.path).ok();
            return Err(full);
        }
        Ok((count, written))
    }

    fn check_room(&self, bytes: u64) -> Result<(), Halt> {
        let most = self.settings.bytes_max;
        if bytes > most {
            return Err(Halt::Failed(format!(
                "it has more than {most} bytes (exports.bytes_max); ask for less at once"
            )));
        }
        if bytes > self.room {
            return Err(Halt::Failed(format!(
                "the exports that are kept fill their {} bytes (exports.folder_bytes); delete some",
                self.settings.folder_bytes
            )));
        }
        Ok(())
    }

    async fn page(&self, source: &mut dyn RowSource) -> Result<Option<Vec<Row>>, Halt> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.unless_ended(source.page()).await? {
                Err(StoreError::Unavailable(_)) => self.unless_ended(tokio::time::sleep(wait)).await?,
                page => return Ok(page?),
            }
            wait = wait.saturating_mul(2);
        }
        Ok(self.unless_ended(source.page()).await??)
    }

    async fn open(&self) -> Result<Box<dyn RowSource>, Halt> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match self.unless_ended(self.open_once()).await? {
                Err(StoreError::Unavailable(_)) => self.unless_ended(tokio::time::sleep(wait)).await?,
                source => return Ok(source?),
            }
            wait = wait.saturating_mul(2);
        }
        Ok(self.unless_ended(self.open_once()).await??)
    }

    async fn open_once(&self) -> Result<Box<dyn RowSource>, StoreError> {
        rows::open(self.stores, self.scope, &self.job.ask, self.clock.now()).await
    }

    /// Does it, unless the job or the server ends meanwhile.
    async fn unless_ended<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Halt::GivenUp),
            () = self.stop.cancelled() => Err(Halt::Stopped),
            done = work => Ok(done),
        }
    }
}

async fn append(mut draft: Draft, page: Vec<Row>) -> Result<Draft, Halt> {
    if page.is_empty() {
        return Ok(draft);
    }
    blocking(move || {
        draft.rows(&page)?;
        Ok(draft)
    })
    .await
}

/// Work on files, beside the threads that serve.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Halt> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        // the library that writes workbooks panics when its disk is full
        Err(error) => Err(Halt::Failed(format!("the file cannot be written: {error}"))),
    }
}
