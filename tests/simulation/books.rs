//! The database as a model: it keeps readings by key, endings as versions, sessions and the watermark, as PostgreSQL does;
//! and it is away, hangs, or loses the answer of a commit.

use super::world::World;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use polyphase::base::ids::{AccountId, DtuId, MeterId, ScheduleId, SessionId};
use polyphase::domain::device::DtuRecord;
use polyphase::domain::reading::{Reading, Source};
use polyphase::domain::slot::SlotEnding;
use polyphase::port::ledger::{
    DeviceDirectory, EndedSlot, Hours, PollRecord, ReadingStore, SessionRow, SlotLedger, StoreUnavailable, WriteReport,
};
use polyphase::port::live::{LiveFeed, Topic};
use polyphase::simulator::faults::Dice;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A statement's time-out.
const PATIENCE: Duration = Duration::from_secs(10);

/// A slot: meter, schedule, due time.
pub type Slot = (MeterId, ScheduleId, DateTime<Utc>);

/// What the database holds, and how it fares.
#[derive(Default)]
pub struct Rows {
    pub readings: BTreeMap<(DateTime<Utc>, MeterId, Source), Reading>,
    /// By version, oldest first.
    pub endings: BTreeMap<Slot, Vec<SlotEnding>>,
    pub watermark: Option<DateTime<Utc>>,
    /// Nothing was due before it: then the first start was done.
    pub begun: Option<DateTime<Utc>>,
    sessions: BTreeMap<SessionId, SessionRow>,
    pub dtus: BTreeMap<DtuId, DtuRecord>,
    pub away_until: u64,
    pub hangs_until: u64,
    pub answers_lost: u64,
}

/// See the file's head.
pub struct Books {
    world: Arc<World>,
    rows: Mutex<Rows>,
    dice: Mutex<Dice>,
}

fn away(message: &str) -> StoreUnavailable {
    StoreUnavailable {
        message: message.into(),
        passing: true,
        of_rows: false,
    }
}

impl Books {
    pub fn new(world: &Arc<World>, dtus: Vec<DtuRecord>) -> Self {
        let rows = Rows {
            dtus: dtus.into_iter().map(|dtu| (dtu.id, dtu)).collect(),
            ..Rows::default()
        };
        Self {
            world: Arc::clone(world),
            rows: Mutex::new(rows),
            dice: Mutex::new(world.dice(1)),
        }
    }

    pub fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    /// The way to the database and back, whatever is asked.
    async fn reach(&self) -> Result<(), StoreUnavailable> {
        let takes = self.dice.lock().unwrap().below(20);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        let now = self.world.clock.ms();
        let (away_until, hangs_until) = {
            let rows = self.rows();
            (rows.away_until, rows.hangs_until)
        };
        if now < away_until {
            return Err(away("connection refused"));
        }
        if now < hangs_until {
            tokio::time::sleep(PATIENCE).await;
            return Err(away("statement time-out"));
        }
        Ok(())
    }

    fn take_reading(&self, reading: &Reading, report: &mut WriteReport) {
        let key = (reading.ts, reading.meter, reading.source);
        let known = self.rows().readings.get(&key).map(|stored| stored.items.clone());
        match known {
            None => {
                self.world.trace(format_args!(
                    "stored meter {} {} {:?} {:?}",
                    reading.meter, reading.ts, reading.source, reading.items
                ));
                self.world.judge(reading);
                self.rows().readings.insert(key, reading.clone());
                report.inserted += 1;
            }
            Some(items) if items == reading.items => report.duplicates += 1,
            Some(items) => {
                report.conflicts += 1;
                self.world
                    .wrong(format_args!("read twice: {reading:?}, stored is {items:?}"));
            }
        }
    }

    /// A replay is no version, nor is what says the same as the newest.
    fn take_ending(&self, ending: &SlotEnding) {
        let mut rows = self.rows();
        let versions = rows
            .endings
            .entry((ending.meter, ending.schedule, ending.due_at))
            .or_default();
        let says = |other: &SlotEnding| (other.state, other.reason) == (ending.state, ending.reason);
        let replay = versions
            .iter()
            .any(|other| says(other) && other.ended_at == ending.ended_at);
        if replay || versions.last().is_some_and(says) {
            return;
        }
        versions.push(ending.clone());
        drop(rows);
        self.world.trace(format_args!(
            "ended meter {} schedule {} {} {:?} {:?}",
            ending.meter, ending.schedule, ending.due_at, ending.state, ending.reason
        ));
    }
}

#[async_trait]
impl ReadingStore for Books {
    async fn write(&self, records: &[PollRecord]) -> Result<WriteReport, StoreUnavailable> {
        self.reach().await?;
        let mut report = WriteReport::default();
        for record in records {
            if let Some(reading) = &record.reading {
                self.take_reading(reading, &mut report);
            }
            for ending in &record.endings {
                self.take_ending(ending);
            }
        }
        let lost = {
            let mut rows = self.rows();
            let lost = rows.answers_lost > 0;
            rows.answers_lost = rows.answers_lost.saturating_sub(1);
            lost
        };
        // a kill can come between the commit and its answer
        let takes = self.dice.lock().unwrap().below(5);
        tokio::time::sleep(Duration::from_millis(takes)).await;
        if lost {
            self.world.count("answer lost");
            return Err(away("the connection was lost during the commit"));
        }
        Ok(report)
    }

    async fn maintain(&self, _now: DateTime<Utc>) -> Result<(), StoreUnavailable> {
        self.reach().await
    }

    async fn roll_up(&self, _now: DateTime<Utc>, _hours: Hours) -> Result<u64, StoreUnavailable> {
        self.reach().await.map(|()| 0)
    }
}

#[async_trait]
impl SlotLedger for Books {
    async fn watermark(&self) -> Result<Option<DateTime<Utc>>, StoreUnavailable> {
        self.reach().await?;
        Ok(self.rows().watermark)
    }

    async fn set_watermark(&self, at: DateTime<Utc>) -> Result<(), StoreUnavailable> {
        self.reach().await?;
        let mut rows = self.rows();
        rows.begun.get_or_insert(at);
        rows.watermark = Some(rows.watermark.map_or(at, |was| was.max(at)));
        drop(rows);
        self.world.trace(format_args!("watermark {at}"));
        Ok(())
    }

    async fn ended_since(&self, since: DateTime<Utc>) -> Result<Vec<EndedSlot>, StoreUnavailable> {
        self.reach().await?;
        let rows = self.rows();
        let read = rows
            .readings
            .keys()
            .filter(|(_, _, source)| *source == Source::Scheduled);
        let read = read.map(|(ts, meter, _)| (*meter, *ts, None));
        let ended = rows
            .endings
            .keys()
            .map(|(meter, schedule, due_at)| (*meter, *due_at, Some(*schedule)));
        let all = ended.chain(read).filter(|(_, due_at, _)| *due_at >= since);
        Ok(all
            .map(|(meter, due_at, schedule)| EndedSlot {
                meter,
                due_at,
                schedule,
            })
            .collect())
    }

    async fn save_sessions(&self, rows: &[SessionRow]) -> Result<(), StoreUnavailable> {
        self.reach().await?;
        for row in rows {
            self.world.trace(format_args!(
                "session {} of DTU {} {:?}",
                row.session,
                row.dtu,
                row.ended.as_ref().map(|(_, cause)| cause)
            ));
            let known = self.rows().sessions.get(&row.session).cloned();
            match known {
                Some(known) if (known.dtu, known.began_at) != (row.dtu, row.began_at) => {
                    self.world.wrong(format_args!(
                        "two sessions with one id: {} of DTU {} since {}, and of DTU {} since {}",
                        row.session, known.dtu, known.began_at, row.dtu, row.began_at
                    ))
                }
                Some(known) if known.ended.is_some() => {}
                _ => {
                    self.rows().sessions.insert(row.session, row.clone());
                }
            }
        }
        Ok(())
    }

    async fn end_orphan_sessions(&self, at: DateTime<Utc>) -> Result<u64, StoreUnavailable> {
        self.reach().await?;
        let mut ended = 0;
        for row in self.rows().sessions.values_mut().filter(|row| row.ended.is_none()) {
            row.ended = Some((row.began_at.max(at), "server_down".into()));
            ended += 1;
        }
        Ok(ended)
    }
}

#[async_trait]
impl DeviceDirectory for Books {
    async fn load_all(&self) -> Result<Vec<DtuRecord>, StoreUnavailable> {
        self.reach().await?;
        Ok(self.rows().dtus.values().cloned().collect())
    }

    async fn load(&self, dtu: DtuId) -> Result<Option<DtuRecord>, StoreUnavailable> {
        self.reach().await?;
        Ok(self.rows().dtus.get(&dtu).cloned())
    }
}

/// Whoever listens to the live stream: what he hears must be stored.
pub struct Listener(pub Arc<Books>);

impl LiveFeed for Listener {
    fn publish(
        &self,
        _account: AccountId,
        topic: Topic,
        dtu: Option<DtuId>,
        meter: Option<MeterId>,
        json: serde_json::Value,
    ) {
        let world = &self.0.world;
        world.trace(format_args!("live {} {dtu:?} {meter:?} {json}", topic.as_str()));
        let at = |name: &str| json[name].as_str().and_then(|text| text.parse::<DateTime<Utc>>().ok());
        if topic != Topic::Slots {
            return;
        }
        let (Some(meter), Some(due_at)) = (meter, at("due_at")) else {
            return world.wrong(format_args!("a slot of nobody was shown: {json}"));
        };
        let rows = self.0.rows();
        let stored = match json["schedule_id"].as_i64() {
            Some(schedule) => {
                let slot = (meter, ScheduleId(i32::try_from(schedule).unwrap()), due_at);
                rows.endings.get(&slot).is_some_and(|versions| {
                    versions
                        .iter()
                        .any(|ending| json["state"] == ending.state.as_str() && Some(ending.ended_at) == at("ended_at"))
                        // what says the same as the newest version is none
                        || versions.last().is_some_and(|last| json["state"] == last.state.as_str())
                })
            }
            None => rows.readings.contains_key(&(due_at, meter, Source::Scheduled)),
        };
        drop(rows);
        if !stored {
            world.wrong(format_args!("shown and not stored: {json}"));
        }
    }
}
