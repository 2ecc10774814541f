//! The slot ledger as an account looks at it: what was due follows from the dated schedules by the same plan that polls;
//! how it ended is the newest ending, else the scheduled reading itself, else it is open.

use super::handles::{AccountHandle, PgStores};
use super::rules::rules;
use super::{meters, slot_summary};
use crate::base::ids::{MeterId, ScheduleId};
use crate::domain::device::AppliedSchedule;
use crate::domain::slot::plan::{DueSlot, RuleShelf, due_slots};
use crate::domain::slot::{MissReason, SlotKind};
use crate::port::scope::{InAccount, Scope, StoreError};
use crate::port::slots::{
    ShownState, SlotItem, SlotPage, SlotQuery, SlotStore, SlotSummaryItem, SlotSummaryQuery, SlotTally,
};
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap};

/// Slots that one request looks at; a page that has to look at more ends early, with a place to go on from.
const LOOK_MAX: usize = 20_000;
/// Slots whose endings are fetched at once.
const CHUNK: usize = 5_000;
/// Meters whose schedules are fetched at once: few first, more while the page is not full.
const METERS: i64 = 20;
const METERS_MAX: i64 = 1_000;
/// Slots of a week that a tally counts: one every ten seconds.
const TALLY_MAX: usize = 61_000;

/// A slot's key over all meters, in the order of lists.
type Key = (MeterId, DateTime<Utc>, ScheduleId);

/// A slot that was due.
#[derive(Clone, Copy)]
struct Due {
    key: Key,
    kind: SlotKind,
}

impl Due {
    fn of(meter: MeterId, slot: &DueSlot) -> Self {
        Self {
            key: (meter, slot.due_at, slot.schedule),
            kind: slot.rule.kind,
        }
    }
}

/// The dated schedules of meters, as far as they touch `[from, to)`.
async fn applied(
    tx: &mut PgConnection,
    meters: &[i32],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<BTreeMap<MeterId, Vec<AppliedSchedule>>, StoreError> {
    let rows = sqlx::query!(
        "SELECT meter_id, schedule_id, valid_from, valid_to FROM meter_schedule
         WHERE meter_id = ANY($1) AND valid_from < $3 AND (valid_to IS NULL OR valid_to > $2)
         ORDER BY meter_id, schedule_id, valid_from",
        meters,
        from,
        to
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut ids: Vec<i32> = rows.iter().map(|row| row.schedule_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let rules = rules(tx, Some(&ids), None).await?;
    let mut meters: BTreeMap<MeterId, Vec<AppliedSchedule>> = BTreeMap::new();
    for row in rows {
        let schedule = ScheduleId(row.schedule_id);
        meters.entry(MeterId(row.meter_id)).or_default().push(AppliedSchedule {
            schedule,
            valid_from: row.valid_from,
            valid_to: row.valid_to,
            rules: rules.get(&schedule).cloned().unwrap_or_default(),
        });
    }
    Ok(meters)
}

/// Looks up how slots ended; the answer has one item per slot, in their order.
async fn resolve(tx: &mut PgConnection, slots: &[Due]) -> Result<Vec<SlotItem>, StoreError> {
    let (Some(first), Some(last)) = (
        slots.iter().map(|slot| slot.key.1).min(),
        slots.iter().map(|slot| slot.key.1).max(),
    ) else {
        return Ok(Vec::new());
    };
    let meters: Vec<i32> = slots.iter().map(|slot| slot.key.0.0).collect();
    let dues: Vec<DateTime<Utc>> = slots.iter().map(|slot| slot.key.1).collect();
    let schedules: Vec<i32> = slots.iter().map(|slot| slot.key.2.0).collect();
    // the span lets the planner leave out the other days; the pairs are found by the key
    let read: HashMap<(i32, DateTime<Utc>), DateTime<Utc>> = sqlx::query!(
        r#"SELECT r.meter_id AS "meter_id!", r.ts AS "ts!", r.read_at AS "read_at!"
           FROM unnest($1::int[], $2::timestamptz[]) AS due (meter_id, ts)
           JOIN (SELECT meter_id, ts, read_at FROM reading_electricity
                 WHERE source = 0 AND ts BETWEEN $3 AND $4
                 UNION ALL
                 SELECT meter_id, ts, read_at FROM reading_fluid
                 WHERE source = 0 AND ts BETWEEN $3 AND $4) r ON r.meter_id = due.meter_id AND r.ts = due.ts"#,
        &meters,
        &dues,
        first,
        last
    )
    .fetch_all(&mut *tx)
    .await?
    .into_iter()
    .map(|row| ((row.meter_id, row.ts), row.read_at))
    .collect();
    let mut ended: HashMap<(i32, DateTime<Utc>, i32), SlotItem> = HashMap::new();
    for row in sqlx::query!(
        "SELECT DISTINCT ON (e.due_at, e.meter_id, e.schedule_id)
                e.meter_id, e.due_at, e.schedule_id, e.state, e.reason, e.detail, e.attempts, e.ended_at, e.version
         FROM unnest($1::int[], $2::timestamptz[], $3::int[]) AS due (meter_id, due_at, schedule_id)
         JOIN slot_ending e ON e.meter_id = due.meter_id AND e.due_at = due.due_at AND e.schedule_id = due.schedule_id
         WHERE e.due_at BETWEEN $4 AND $5
         ORDER BY e.due_at, e.meter_id, e.schedule_id, e.version DESC",
        &meters,
        &dues,
        &schedules,
        first,
        last
    )
    .fetch_all(tx)
    .await?
    {
        let item = SlotItem {
            meter_id: MeterId(row.meter_id),
            due_at: row.due_at,
            schedule_id: ScheduleId(row.schedule_id),
            kind: SlotKind::Regular,
            state: state_of(&row.state)?,
            reason: row.reason.as_deref().map(reason_of).transpose()?,
            detail: row.detail,
            attempts: Some(i32::from(row.attempts)),
            ended_at: Some(row.ended_at),
            version: i32::from(row.version),
        };
        ended.insert((row.meter_id, row.due_at, row.schedule_id), item);
    }
    Ok(slots.iter().map(|slot| merge(*slot, &mut ended, &read)).collect())
}

/// An ending outranks the reading: it says `late` or `partial` of it. Neither: open.
fn merge(
    Due {
        key: (meter, due_at, schedule),
        kind,
    }: Due,
    ended: &mut HashMap<(i32, DateTime<Utc>, i32), SlotItem>,
    read: &HashMap<(i32, DateTime<Utc>), DateTime<Utc>>,
) -> SlotItem {
    if let Some(item) = ended.remove(&(meter.0, due_at, schedule.0)) {
        return SlotItem { kind, ..item };
    }
    let read_at = read.get(&(meter.0, due_at)).copied();
    SlotItem {
        meter_id: meter,
        due_at,
        schedule_id: schedule,
        kind,
        state: if read_at.is_some() {
            ShownState::Actual
        } else {
            ShownState::Open
        },
        reason: None,
        detail: None,
        attempts: None,
        ended_at: read_at,
        version: i32::from(read_at.is_some()),
    }
}

fn state_of(name: &str) -> Result<ShownState, StoreError> {
    match name {
        "actual" => Ok(ShownState::Actual),
        "late" => Ok(ShownState::Late),
        "estimated" => Ok(ShownState::Estimated),
        "missing" => Ok(ShownState::Missing),
        other => Err(StoreError::Internal(format!("slot_ending.state is {other:?}"))),
    }
}

fn reason_of(name: &str) -> Result<MissReason, StoreError> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|_| StoreError::Internal(format!("slot_ending.reason is {name:?}")))
}

/// Shares of slots that were read, over the last 24 hours and the last 7 days.
pub(super) async fn tallies(
    tx: &mut PgConnection,
    meter: MeterId,
    now: DateTime<Utc>,
) -> Result<[SlotTally; 2], StoreError> {
    let (week, day) = (now - TimeDelta::days(7), now - TimeDelta::days(1));
    let schedules = applied(tx, &[meter.0], week, now).await?;
    let mut shelf = RuleShelf::default();
    let mut keys: Vec<Due> = Vec::new();
    for schedules in schedules.values() {
        // the newer span first: should a week hold too many, the day is still whole
        for (from, to) in [(day, now), (week, day)] {
            let room = TALLY_MAX.saturating_sub(keys.len());
            let due = due_slots(schedules, &mut shelf, from, to, room);
            keys.extend(due.iter().map(|slot| Due::of(meter, slot)));
        }
    }
    let items = resolve(tx, &keys).await?;
    let count = |state, since| {
        let found = items
            .iter()
            .filter(|item| item.state == state && item.due_at >= since)
            .count();
        i64::try_from(found).unwrap_or(i64::MAX)
    };
    Ok([day, week].map(|since| {
        SlotTally::of(
            count(ShownState::Actual, since),
            count(ShownState::Late, since),
            count(ShownState::Estimated, since),
            count(ShownState::Missing, since),
        )
    }))
}

/// The next meters, by id, that had a schedule within the span.
async fn next_meters(
    tx: &mut PgConnection,
    query: &SlotQuery,
    from_id: i32,
    to: DateTime<Utc>,
    at_once: i64,
) -> Result<Vec<i32>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT m.id FROM meter m
         WHERE m.id >= $1 AND ($2::int IS NULL OR m.id = $2)
           AND EXISTS (SELECT FROM meter_schedule ms WHERE ms.meter_id = m.id
                       AND ms.valid_from < $4 AND (ms.valid_to IS NULL OR ms.valid_to > $3))
           AND (m.deleted_at IS NULL
                OR EXISTS (SELECT FROM installation x WHERE x.meter_id = m.id AND x.closing <> '{}'))
         ORDER BY m.id LIMIT $5",
        from_id,
        query.meter.map(|meter| meter.0),
        query.from,
        to,
        at_once
    )
    .fetch_all(tx)
    .await?)
}

/// The keys of slots behind `after`, at most `room`; and whether there was room for all.
fn keys_of(
    schedules: &BTreeMap<MeterId, Vec<AppliedSchedule>>,
    shelf: &mut RuleShelf,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    after: Option<Key>,
    room: usize,
) -> (Vec<Due>, bool) {
    let mut keys = Vec::new();
    for (meter, schedules) in schedules {
        let begin = match after {
            Some((id, due, _)) if id == *meter => due.max(from),
            _ => from,
        };
        // slots at the very instant of `after` are listed again and left out here
        let due = due_slots(schedules, shelf, begin, to, room.saturating_add(schedules.len()));
        keys.extend(
            due.iter()
                .map(|slot| Due::of(*meter, slot))
                .filter(|slot| after.is_none_or(|after| slot.key > after)),
        );
        if keys.len() > room {
            keys.truncate(room);
            return (keys, false);
        }
    }
    (keys, true)
}

impl InAccount<dyn SlotStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn SlotStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl SlotStore for AccountHandle {
    async fn slots(&self, query: &SlotQuery, now: DateTime<Utc>) -> Result<SlotPage, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(meter) = query.meter {
            meters::check(&mut tx, meter).await?;
        }
        // a slot that is due this very second is listed
        let to = query.to.min(now + TimeDelta::nanoseconds(1));
        let mut shelf = RuleShelf::default();
        let mut page = SlotPage::default();
        let mut after = query.after;
        let (mut looked, mut at_once) = (0, METERS);
        loop {
            let from_id = after.map_or(0, |(meter, _, _)| meter.0);
            let meters = next_meters(&mut tx, query, from_id, to, at_once).await?;
            let Some(last) = meters.last().copied() else {
                return Ok(page);
            };
            let schedules = applied(&mut tx, &meters, query.from, to).await?;
            loop {
                let (keys, all) = keys_of(&schedules, &mut shelf, (query.from, to), after, CHUNK);
                looked += keys.len();
                for item in resolve(&mut tx, &keys).await? {
                    let key = (item.meter_id, item.due_at, item.schedule_id);
                    if query.state.is_none_or(|state| state == item.state) {
                        if page.items.len() >= query.limit {
                            page.next = after;
                            return Ok(page);
                        }
                        page.items.push(item);
                    }
                    after = Some(key);
                }
                if all {
                    break;
                }
                if looked >= LOOK_MAX {
                    page.next = after;
                    return Ok(page);
                }
            }
            // behind everything of the last meter
            after = Some((MeterId(last), to, ScheduleId(i32::MAX)));
            let done = query.meter.is_some() || i64::try_from(meters.len()).unwrap_or(at_once) < at_once;
            if done {
                return Ok(page);
            }
            at_once = (at_once * 4).min(METERS_MAX);
            if looked >= LOOK_MAX {
                page.next = after;
                return Ok(page);
            }
            after = Some((MeterId(last.saturating_add(1)), DateTime::<Utc>::MIN_UTC, ScheduleId(0)));
        }
    }

    async fn summary(&self, query: &SlotSummaryQuery) -> Result<Vec<SlotSummaryItem>, StoreError> {
        let mut tx = self.begin().await?;
        if let Some(meter) = query.meter {
            meters::check(&mut tx, meter).await?;
        }
        if let Some(dtu) = query.dtu {
            sqlx::query_scalar!("SELECT id FROM dtu WHERE id = $1 AND deleted_at IS NULL", dtu.0)
                .fetch_optional(&mut *tx)
                .await?
                .ok_or(StoreError::NotFound("dtu"))?;
        }
        slot_summary::summary(&mut tx, query).await
    }
}
