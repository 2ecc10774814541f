//! What the actors made durable, and the audit of it: every due slot has exactly one first ending.

use super::field::{VirtualClock, World};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use polyphase::base::clock::Clock;
use polyphase::base::ids::{DtuId, MeterId, ScheduleId};
use polyphase::domain::device::{DtuRecord, MeterRecord};
use polyphase::domain::quantity::Quantity;
use polyphase::domain::reading::{Measurand, Reading, Source, Value};
use polyphase::domain::slot::plan::{RuleShelf, due_slots};
use polyphase::domain::slot::{MissReason, SlotState};
use polyphase::port::ledger::{
    DeviceDirectory, EndedSlot, PollRecord, ReadingSink, SessionRow, SinkError, SlotLedger, StoreUnavailable,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The durable path: takes records after a while, or refuses them.
pub struct Books {
    clock: Arc<VirtualClock>,
    pub refuses: AtomicBool,
    pub takes_ms: AtomicU64,
    pub refused: AtomicU64,
    records: Mutex<Vec<(DateTime<Utc>, PollRecord)>>,
}

/// How a slot ended at first, when, and whether a late reading followed.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    pub state: SlotState,
    pub reason: Option<MissReason>,
    pub at: DateTime<Utc>,
    pub late: bool,
}

pub type Slot = (MeterId, ScheduleId, DateTime<Utc>);

impl Books {
    pub fn new(clock: Arc<VirtualClock>) -> Self {
        Self {
            clock,
            refuses: AtomicBool::new(false),
            takes_ms: AtomicU64::new(3),
            refused: AtomicU64::new(0),
            records: Mutex::default(),
        }
    }

    pub fn records(&self) -> Vec<(DateTime<Utc>, PollRecord)> {
        self.records.lock().unwrap().clone()
    }

    pub fn readings(&self) -> Vec<Reading> {
        self.records()
            .into_iter()
            .filter_map(|(_, record)| record.reading)
            .collect()
    }

    /// As a start of the server finds it in the database.
    pub fn ended_since(&self, since: DateTime<Utc>) -> Vec<EndedSlot> {
        let mut ended = Vec::new();
        for (_, record) in self.records() {
            let scheduled = record.reading.filter(|reading| reading.source == Source::Scheduled);
            ended.extend(scheduled.map(|reading| EndedSlot {
                meter: reading.meter,
                due_at: reading.ts,
                schedule: None,
            }));
            ended.extend(record.endings.into_iter().map(|ending| EndedSlot {
                meter: ending.meter,
                due_at: ending.due_at,
                schedule: Some(ending.schedule),
            }));
        }
        ended.retain(|slot| slot.due_at >= since);
        ended
    }

    /// The first ending of every slot due in `[from, to)`. Panics where a slot has none or a second one, where anything
    /// ended that was not due, where a reading is not what its own meter said in that very visit.
    pub fn audit(
        &self,
        meters: &[MeterRecord],
        world: &World,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeMap<Slot, End> {
        self.audit_by(|reading| world.check(reading), meters, from, to)
    }

    /// The same with another check of readings.
    pub fn audit_by(
        &self,
        check: impl Fn(&Reading),
        meters: &[MeterRecord],
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> BTreeMap<Slot, End> {
        let mut due: BTreeSet<Slot> = BTreeSet::new();
        for meter in meters {
            let slots = due_slots(&meter.schedules, &mut RuleShelf::default(), from, to, usize::MAX);
            due.extend(slots.into_iter().map(|slot| (meter.id, slot.schedule, slot.due_at)));
        }
        let mut ends: BTreeMap<Slot, End> = BTreeMap::new();
        let mut read: BTreeSet<(MeterId, DateTime<Utc>)> = BTreeSet::new();
        for (at, record) in self.records() {
            if let Some(reading) = &record.reading {
                check(reading);
            }
            for ending in &record.endings {
                let slot = (ending.meter, ending.schedule, ending.due_at);
                let audited = meters.iter().any(|meter| meter.id == ending.meter);
                if !audited || !(from..to).contains(&ending.due_at) {
                    continue;
                }
                assert!(due.contains(&slot), "{slot:?} was not due, yet {ending:?}");
                match ends.get_mut(&slot) {
                    None => {
                        let (state, reason) = (ending.state, ending.reason);
                        let late = state == SlotState::Late;
                        ends.insert(
                            slot,
                            End {
                                state,
                                reason,
                                at,
                                late,
                            },
                        );
                    }
                    Some(end) => {
                        let reread = end.state == SlotState::Missing && ending.state == SlotState::Late && !end.late;
                        assert!(reread, "{slot:?} had {end:?}, then {ending:?}");
                        end.late = true;
                    }
                }
            }
            let Some(reading) = record.reading.filter(|reading| reading.source == Source::Scheduled) else {
                continue;
            };
            assert!(read.insert((reading.meter, reading.ts)), "read twice: {reading:?}");
            let served = due
                .iter()
                .filter(|(meter, _, due_at)| (*meter, *due_at) == (reading.meter, reading.ts));
            for slot in served {
                ends.entry(*slot).or_insert(End {
                    state: SlotState::Actual,
                    reason: None,
                    at,
                    late: false,
                });
            }
        }
        let without: Vec<_> = due.iter().filter(|slot| !ends.contains_key(slot)).collect();
        assert!(
            without.is_empty(),
            "{} slots without an ending: {without:?}",
            without.len()
        );
        ends
    }
}

/// What a reading says of the meter's energy.
pub fn energy(reading: &Reading) -> Option<rust_decimal::Decimal> {
    register(reading, Quantity::ActiveEnergyTotal)
}

/// What a reading says of a register.
pub fn register(reading: &Reading, quantity: Quantity) -> Option<rust_decimal::Decimal> {
    let measurand = Measurand::Standard(quantity);
    let item = reading.items.iter().find(|item| item.measurand == measurand)?;
    match item.value {
        Value::Decimal(value) => Some(value),
        Value::F32(_) | Value::F64(_) => None,
    }
}

/// How many of the slots that `which` picks ended how.
pub fn tally(
    ends: &BTreeMap<Slot, End>,
    which: impl Fn(&Slot) -> bool,
) -> BTreeMap<(&'static str, &'static str), usize> {
    let mut tally = BTreeMap::new();
    for (_, end) in ends.iter().filter(|(slot, _)| which(slot)) {
        let reason = end.reason.map_or("", MissReason::as_str);
        *tally.entry((end.state.as_str(), reason)).or_default() += 1;
    }
    tally
}

/// All that `which` picks were read in time, and there were some.
pub fn assert_actual(ends: &BTreeMap<Slot, End>, which: impl Fn(&Slot) -> bool) {
    let tally = tally(ends, which);
    assert_eq!(tally.keys().collect::<Vec<_>>(), [&("actual", "")], "{tally:?}");
}

/// The longest that an ending took from its due time.
pub fn slowest(ends: &BTreeMap<Slot, End>, which: impl Fn(&Slot) -> bool) -> TimeDelta {
    let took = ends
        .iter()
        .filter(|(slot, _)| which(slot))
        .map(|(slot, end)| end.at - slot.2);
    took.max().unwrap()
}

impl ReadingSink for Books {
    type Receipt = ();

    async fn append(&self, record: PollRecord) -> Result<(), SinkError> {
        tokio::time::sleep(Duration::from_millis(self.takes_ms.load(Ordering::Relaxed))).await;
        if self.refuses.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(SinkError::Full("injected".into()));
        }
        self.records.lock().unwrap().push((self.clock.now(), record));
        Ok(())
    }
}

/// Session history.
#[derive(Default)]
pub struct History {
    pub rows: Mutex<Vec<SessionRow>>,
}

impl History {
    /// Every session of a DTU with the causes of its ends, which must be one at most.
    pub fn sessions(&self, dtu: DtuId) -> Vec<Option<String>> {
        let mut sessions: BTreeMap<_, (u32, Vec<String>)> = BTreeMap::new();
        for row in self.rows.lock().unwrap().iter().filter(|row| row.dtu == dtu) {
            let (begun, ends) = sessions.entry(row.session).or_default();
            match &row.ended {
                None => *begun += 1,
                Some((_, cause)) => ends.push(cause.clone()),
            }
        }
        let one = |(begun, mut ends): (u32, Vec<String>)| {
            assert!(begun == 1 && ends.len() <= 1, "begun {begun} times, ended by {ends:?}");
            ends.pop()
        };
        sessions.into_values().map(one).collect()
    }
}

#[async_trait]
impl SlotLedger for History {
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
        self.rows.lock().unwrap().extend_from_slice(rows);
        Ok(())
    }

    async fn end_orphan_sessions(&self, _at: DateTime<Utc>) -> Result<u64, StoreUnavailable> {
        Ok(0)
    }
}

/// The directory as people edit it.
#[derive(Default)]
pub struct Directory(pub Mutex<BTreeMap<DtuId, DtuRecord>>);

#[async_trait]
impl DeviceDirectory for Directory {
    async fn load_all(&self) -> Result<Vec<DtuRecord>, StoreUnavailable> {
        Ok(self.0.lock().unwrap().values().cloned().collect())
    }

    async fn load(&self, dtu: DtuId) -> Result<Option<DtuRecord>, StoreUnavailable> {
        Ok(self.0.lock().unwrap().get(&dtu).cloned())
    }
}
