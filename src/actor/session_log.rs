//! Writes the history of sessions to PostgreSQL, behind a bounded queue: a storm of sessions never waits for the
//! database, and a database that is away costs history rows only after the queue is full (counted).

use crate::base::clock::Clock;
use crate::port::ledger::{SessionRow, SlotLedger};
use crate::telemetry::actor::{SESSION_LOG_QUEUED, SessionRowDropped};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Rows that may wait.
const QUEUE_MAX: usize = 65_536;
const RETRY: Duration = Duration::from_secs(2);

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
        mut closing: tokio::sync::watch::Receiver<bool>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut rows) = mpsc::channel::<Entry>(QUEUE_MAX);
        let writer = async move {
            while let Some(entry) = rows.recv().await {
                let row = match entry {
                    Entry::Row(row) => row,
                    Entry::Flush(done) => {
                        // who asked may have gone
                        let _gone = done.send(());
                        continue;
                    }
                };
                SESSION_LOG_QUEUED.set(i64::try_from(rows.len()).unwrap_or(i64::MAX));
                while let Err(error) = ledger.save_session((*row).clone()).await {
                    tracing::warn!(%error, at = %clock.now(), "session row waits for the database");
                    if *closing.borrow_and_update() {
                        return;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        (Self { queue }, writer)
    }

    /// Queues a row; drops and counts it when the queue is full.
    pub fn save(&self, row: SessionRow) {
        let session = row.session;
        if self.queue.try_send(Entry::Row(Box::new(row))).is_err() {
            SessionRowDropped { session: session.0 }.emit();
        }
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
