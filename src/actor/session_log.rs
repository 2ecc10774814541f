//! Writes the history of sessions to PostgreSQL, behind a bounded queue: a storm of sessions never waits for the
//! database, and a database that is away costs history rows only after the queue is full (counted).

use crate::base::clock::Clock;
use crate::port::ledger::{SessionRow, SlotLedger};
use crate::telemetry::actor::{SESSION_LOG_QUEUED, SessionRowDropped};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Rows that may wait.
const QUEUE_MAX: usize = 65_536;
const RETRY: Duration = Duration::from_secs(2);

/// Rows of one statement: a fleet that comes back must not ask for a transaction each.
const ROWS_AT_ONCE: usize = 500;

#[derive(Debug)]
enum Entry {
    Row(Box<SessionRow>),
    Flush(oneshot::Sender<()>),
}

/// Hands rows over; cheap to clone.
#[derive(Clone, Debug)]
pub struct SessionLog {
    queue: mpsc::Sender<Entry>,
}

impl SessionLog {
    /// The handle and the future that writes, which ends when every handle is gone and all is written, or when a write
    /// fails after `closing` was notified.
    pub fn new(
        ledger: Arc<dyn SlotLedger>,
        clock: Arc<dyn Clock>,
        mut closing: watch::Receiver<bool>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut rows) = mpsc::channel::<Entry>(QUEUE_MAX);
        let writer = async move {
            let mut entries = Vec::new();
            while rows.recv_many(&mut entries, ROWS_AT_ONCE).await > 0 {
                SESSION_LOG_QUEUED.set(i64::try_from(rows.len() + entries.len()).unwrap_or(i64::MAX));
                let mut waiting = Vec::new();
                let mut flushed = Vec::new();
                for entry in entries.drain(..) {
                    match entry {
                        Entry::Row(row) => waiting.push(*row),
                        // told a little later than it could be: behind all that came with it
                        Entry::Flush(done) => flushed.push(done),
                    }
                }
                if !write(&*ledger, &*clock, &mut closing, waiting).await {
                    return;
                }
                SESSION_LOG_QUEUED.set(i64::try_from(rows.len()).unwrap_or(i64::MAX));
                for done in flushed {
                    // who asked may have gone
                    let _gone = done.send(());
                }
            }
        };
        (Self { queue }, writer)
    }

    /// Queues a row; drops and counts it when the queue is full or nobody writes any more.
    pub fn save(&self, row: SessionRow) {
        let session = row.session.0;
        let why = match self.queue.try_send(Entry::Row(Box::new(row))) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(_)) => "the queue is full",
            Err(mpsc::error::TrySendError::Closed(_)) => "the server stops",
        };
        SessionRowDropped { session, why }.emit();
    }

    /// Waits until everything queued before is written, or the writer has given up.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.queue.send(Entry::Flush(done)).await.is_ok() {
            // an error means that the writer is gone: nothing is left to wait for
            let _gone = written.await;
        }
    }
}

/// Writes rows, waiting for the database, whatever is wrong with it; a row that is at fault itself is found by halving, dropped and
/// counted. False: the database is away and we are closing.
async fn write(
    ledger: &dyn SlotLedger,
    clock: &dyn Clock,
    closing: &mut watch::Receiver<bool>,
    rows: Vec<SessionRow>,
) -> bool {
    let mut parts = vec![rows.as_slice()];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        while let Err(error) = ledger.save_sessions(part).await {
            if error.of_rows {
                match part {
                    [row] => SessionRowDropped {
                        session: row.session.0,
                        why: &error.message,
                    }
                    .emit(),
                    _ => {
                        let (left, right) = part.split_at(part.len() / 2);
                        parts.extend([right, left]);
                    }
                }
                break;
            }
            tracing::warn!(%error, at = %clock.now(), "session rows wait for the database");
            if *closing.borrow_and_update() {
                return false;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::ids::{AccountId, DtuId, SessionId};
    use crate::port::field::LinkStats;
    use crate::port::ledger::{EndedSlot, StoreUnavailable};
    use async_trait::async_trait;
    use chrono::{DateTime, Utc};
    use std::sync::Mutex;

    /// Refuses session 13 for good; is away at the first call, and not to be logged in to at the second.
    #[derive(Default)]
    struct Books {
        kept: Mutex<Vec<Vec<i64>>>,
        asked: Mutex<u32>,
    }

    #[async_trait]
    impl SlotLedger for Books {
        async fn watermark(&self) -> Result<Option<DateTime<Utc>>, StoreUnavailable> {
            Ok(None)
        }

        async fn set_watermark(&self, _at: DateTime<Utc>) -> Result<(), StoreUnavailable> {
            Ok(())
        }

        async fn ended_since(&self, _since: DateTime<Utc>) -> Result<Vec<EndedSlot>, StoreUnavailable> {
            Ok(Vec::new())
        }

        async fn save_sessions(&self, rows: &[SessionRow]) -> Result<(), StoreUnavailable> {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            let ids: Vec<i64> = rows.iter().map(|row| row.session.0).collect();
            if *asked <= 2 || ids.contains(&13) {
                return Err(StoreUnavailable {
                    message: "no".into(),
                    passing: *asked == 1,
                    of_rows: *asked > 2,
                });
            }
            self.kept.lock().unwrap().push(ids);
            Ok(())
        }

        async fn end_orphan_sessions(&self, _at: DateTime<Utc>) -> Result<u64, StoreUnavailable> {
            Ok(0)
        }
    }

    fn row(id: i64) -> SessionRow {
        SessionRow {
            session: SessionId(id),
            dtu: DtuId(1),
            account: AccountId(1),
            peer: "192.0.2.1:1".into(),
            began_at: DateTime::UNIX_EPOCH,
            ended: None,
            stats: LinkStats::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rows_go_together_in_order_and_one_that_is_refused_for_good_holds_up_nobody() {
        let (books, (_close, closing)) = (Arc::new(Books::default()), watch::channel(false));
        let (log, writer) = SessionLog::new(Arc::clone(&books) as _, Arc::new(SystemClock), closing);
        for id in 0..1_000 {
            log.save(row(id));
        }
        let flushed = async {
            log.flush().await;
            books.kept.lock().unwrap().concat()
        };
        tokio::select! {
            () = writer => panic!("it ends with its handles alone"),
            kept = flushed => assert_eq!(kept, (0..1_000).filter(|id| *id != 13).collect::<Vec<_>>()),
        }
        // twice for now, once for good with all its halves, and the other five hundred
        let (asked, written) = (*books.asked.lock().unwrap(), books.kept.lock().unwrap().len());
        assert!(asked < 25 && written < 15, "{asked} questions, {written} statements");
    }
}
