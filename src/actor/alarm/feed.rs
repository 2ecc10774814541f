//! What the alarm actor is fed with. Nobody waits for it: the queue is bounded by records, and what finds it full is read
//! again from the database, which is the truth in any case.

use crate::base::ids::{AccountId, DtuId, MeterId};
use crate::port::events::StoredPoll;
use crate::port::ledger::PollRecord;
use crate::port::live::{LiveFeed, Topic};
use crate::telemetry::alarm::{QueueFilled, RecordsDropped};
use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages that may wait, of whatever size; their records are bounded on their own.
const MESSAGES_MAX: usize = 1_024;

/// Something to look at.
#[derive(Debug)]
pub enum Input {
    /// The database has these now.
    Committed(Vec<Arc<StoredPoll>>),
    /// Two devices seem to use one serial number.
    CloneSuspected {
        /// Whose.
        account: AccountId,
        /// Which DTU.
        dtu: DtuId,
        /// From where the last one came.
        peer: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Sessions or commands changed: look soon.
    Look,
}

#[derive(Debug, Default)]
struct Fill {
    records: AtomicUsize,
    /// Since when records were missed.
    missed: Mutex<Option<DateTime<Utc>>>,
}

/// Hands things over; cheap to clone.
#[derive(Clone, Debug)]
pub struct AlarmFeed {
    queue: mpsc::Sender<Input>,
    fill: Arc<Fill>,
    records_max: usize,
}

/// The other end.
#[derive(Debug)]
pub struct AlarmInbox {
    queue: mpsc::Receiver<Input>,
    fill: Arc<Fill>,
    records_max: usize,
}

/// A queue that takes so many records.
pub fn queue(records_max: usize) -> (AlarmFeed, AlarmInbox) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let fill = Arc::new(Fill::default());
    let feed = AlarmFeed {
        queue: sender,
        fill: Arc::clone(&fill),
        records_max,
    };
    let inbox = AlarmInbox {
        queue: receiver,
        fill,
        records_max,
    };
    (feed, inbox)
}

/// When the oldest of these was received.
fn oldest(records: &[Arc<StoredPoll>]) -> Option<DateTime<Utc>> {
    let of = |record: &PollRecord| {
        let reading = record.reading.as_ref().map(|reading| reading.read_at);
        record.endings.iter().map(|ending| ending.ended_at).chain(reading).min()
    };
    records.iter().map(|poll| poll.record()).filter_map(of).min()
}

impl AlarmFeed {
    /// The database has these now.
    pub fn committed(&self, records: Vec<Arc<StoredPoll>>) {
        let count = records.len();
        let room = self
            .fill
            .records
            .fetch_add(count, Ordering::AcqRel)
            .saturating_add(count)
            <= self.records_max;
        let oldest = oldest(&records);
        if !room || self.queue.try_send(Input::Committed(records)).is_err() {
            self.fill.records.fetch_sub(count, Ordering::AcqRel);
            let mut missed = self.fill.missed.lock().unwrap_or_else(PoisonError::into_inner);
            let first = missed.is_none();
            *missed = [*missed, oldest].into_iter().flatten().min();
            RecordsDropped { records: count, first }.emit();
        }
    }

    /// Sessions or commands changed. Lost when the queue is full: it is looked at in a while anyway.
    pub fn look(&self) {
        let _full = self.queue.try_send(Input::Look);
    }

    fn clone_suspected(&self, account: AccountId, dtu: DtuId, peer: String, at: DateTime<Utc>) {
        // a clone goes on: what is lost to a full queue comes again
        let _full = self.queue.try_send(Input::CloneSuspected { account, dtu, peer, at });
    }
}

impl AlarmInbox {
    /// The next thing; none: nobody is left who could say anything.
    pub async fn next(&mut self) -> Option<Input> {
        let input = self.queue.recv().await?;
        if let Input::Committed(records) = &input {
            self.fill.records.fetch_sub(records.len(), Ordering::AcqRel);
        }
        QueueFilled {
            records: self.fill.records.load(Ordering::Acquire),
            records_max: self.records_max,
        }
        .emit();
        Some(input)
    }

    /// Since when records were missed, once.
    pub fn take_missed(&self) -> Option<DateTime<Utc>> {
        self.fill.missed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A live feed that alarms listen in on.
pub struct AlarmTap {
    inner: Arc<dyn LiveFeed>,
    feed: AlarmFeed,
}

impl AlarmTap {
    /// In front of `inner`.
    pub fn new(inner: Arc<dyn LiveFeed>, feed: AlarmFeed) -> Self {
        Self { inner, feed }
    }
}

impl LiveFeed for AlarmTap {
    fn is_wanted(&self, account: AccountId, topic: Topic) -> bool {
        self.inner.is_wanted(account, topic)
    }

    fn publish(
        &self,
        account: AccountId,
        topic: Topic,
        dtu: Option<DtuId>,
        meter: Option<MeterId>,
        data: serde_json::Value,
    ) {
        match (topic, dtu) {
            (Topic::Sessions, Some(dtu)) if data.get("state").is_some_and(|state| state == "clone_suspected") => {
                let peer = data
                    .get("peer")
                    .and_then(|peer| peer.as_str())
                    .unwrap_or_default()
                    .to_owned();
                if let Ok(at) = serde_json::from_value(data.get("at").cloned().unwrap_or_default()) {
                    self.feed.clone_suspected(account, dtu, peer, at);
                }
            }
            (Topic::Commands, _) => self.feed.look(),
            _ => {}
        }
        self.inner.publish(account, topic, dtu, meter, data);
    }

    fn publish_stored(&self, account: AccountId, dtu: Option<DtuId>, meter: MeterId, poll: Arc<StoredPoll>) {
        // readings and slots: what is judged of them comes by the other way
        self.inner.publish_stored(account, dtu, meter, poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{FrameRange, PollId};
    use crate::domain::reading::{Reading, Source};
    use chrono::TimeDelta;

    fn record(minute: i64) -> Arc<StoredPoll> {
        let at = DateTime::UNIX_EPOCH + TimeDelta::minutes(minute);
        Arc::new(StoredPoll::new(PollRecord {
            reading: Some(Reading {
                account: AccountId(1),
                meter: MeterId(1),
                ts: at,
                source: Source::Scheduled,
                read_at: at,
                meter_time: None,
                poll: PollId(1),
                frames: FrameRange::EMPTY,
                items: Vec::new(),
            }),
            ..PollRecord::default()
        }))
    }

    #[tokio::test]
    async fn what_finds_the_queue_full_is_remembered_by_its_time() {
        let (feed, mut inbox) = queue(3);
        feed.committed(vec![record(1), record(2)]);
        feed.committed(vec![record(4), record(3)]);
        feed.committed(vec![record(5)]);
        assert!(matches!(inbox.next().await, Some(Input::Committed(records)) if records.len() == 2));
        assert!(matches!(inbox.next().await, Some(Input::Committed(records)) if records.len() == 1));
        assert_eq!(inbox.take_missed(), Some(DateTime::UNIX_EPOCH + TimeDelta::minutes(3)));
        assert_eq!(inbox.take_missed(), None);
        feed.committed(vec![record(6), record(7), record(8)]);
        assert!(matches!(inbox.next().await, Some(Input::Committed(records)) if records.len() == 3));
    }
}
