//! The feed, read through an integration's filter.

use super::{PgFeed, names};
use crate::base::ids::{DtuId, GroupId, MeterId};
use crate::domain::integration::horizon::Look;
use crate::domain::integration::{FeedTopic, Position};
use crate::domain::quantity::Quantity;
use crate::domain::reading::{Measurand, Reading};
use crate::port::integrations::{FeedData, FeedItem, FeedPage, FeedQuery, StoredIntegration};
use crate::port::scope::StoreError;
use crate::store::StoreError as DatabaseError;
use crate::store::alarms::past::complete;
use crate::store::history::header;
use crate::store::wide::{self, Table};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::{HashMap, HashSet};

/// Rows of the feed that one look takes; each has at most 500 items.
const ROWS_MAX: i64 = 64;

/// The key of a reading.
type Key = (DateTime<Utc>, i32, i16);

/// An item before its values are there.
enum Raw {
    Reading(Key),
    Event(Value),
}

struct Entry {
    place: Position,
    topic: FeedTopic,
    raw: Raw,
}

impl Entry {
    fn meter(&self) -> Option<i32> {
        match &self.raw {
            Raw::Reading(key) => Some(key.1),
            Raw::Event(event) => id_in(event, "meter_id"),
        }
    }

    fn dtu(&self) -> Option<i32> {
        match &self.raw {
            Raw::Reading(_) => None,
            Raw::Event(event) => id_in(event, "dtu_id"),
        }
    }
}

fn id_in(event: &Value, field: &str) -> Option<i32> {
    event.get(field)?.as_i64().and_then(|id| i32::try_from(id).ok())
}

/// Which meters, and the DTUs in front of them.
struct Group {
    meters: HashSet<i32>,
    dtus: HashSet<i32>,
}

impl Group {
    fn has(&self, entry: &Entry) -> bool {
        match (entry.meter(), entry.dtu()) {
            (Some(meter), _) => self.meters.contains(&meter),
            (None, Some(dtu)) => self.dtus.contains(&dtu),
            (None, None) => false,
        }
    }
}

impl PgFeed {
    pub(super) async fn read_look(&self) -> Result<Look, StoreError> {
        let row = sqlx::query!(
            r#"SELECT (SELECT coalesce(max(seq), 0) FROM feed) AS "head!",
                      pg_snapshot_xmin(pg_current_snapshot())::text AS "xmin!",
                      pg_snapshot_xmax(pg_current_snapshot())::text AS "xmax!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| StoreError::Internal(format!("a transaction number is {text:?}")))
        };
        Ok(Look {
            head: row.head,
            xmin: number(&row.xmin)?,
            xmax: number(&row.xmax)?,
        })
    }

    pub(super) async fn read_page(
        &self,
        integration: &StoredIntegration,
        query: FeedQuery,
    ) -> Result<FeedPage, StoreError> {
        let mut tx = self.pool.begin().await?;
        let (entries, all) = entries(&mut tx, integration, query).await?;
        let group = match integration.spec.group {
            Some(id) => Some(group(&mut tx, integration.account.0, id).await?),
            None => None,
        };
        let mut reached = if all {
            query.to
        } else {
            entries.last().map_or(query.to, |last| last.place)
        };
        let mut taken = Vec::new();
        let limit = usize::try_from(query.limit.max(1)).unwrap_or(usize::MAX);
        let mut full = false;
        for entry in entries {
            if group.as_ref().is_some_and(|group| !group.has(&entry)) {
                continue;
            }
            if taken.len() == limit {
                full = true;
                break;
            }
            taken.push(entry);
        }
        if full {
            reached = taken.last().map_or(reached, |last| last.place);
        }
        let items = fill_in(&mut tx, taken, &integration.spec.quantities).await?;
        Ok(FeedPage {
            items,
            reached,
            end: all && !full,
        })
    }
}

/// The items of the rows in question, in order, and whether these are all.
async fn entries(
    tx: &mut PgConnection,
    integration: &StoredIntegration,
    query: FeedQuery,
) -> Result<(Vec<Entry>, bool), StoreError> {
    let rows = sqlx::query!(
        "SELECT seq, topic, times, meters, sources, events FROM feed
         WHERE account_id = $1 AND seq >= $2 AND seq <= $3 AND topic = ANY ($4)
         ORDER BY seq LIMIT $5",
        integration.account.0,
        query.from.seq,
        query.to.seq,
        &names(&integration.spec.topics),
        ROWS_MAX
    )
    .fetch_all(tx)
    .await?;
    let all = i64::try_from(rows.len()).unwrap_or(ROWS_MAX) < ROWS_MAX;
    let mut entries = Vec::new();
    for row in rows {
        let topic = FeedTopic::by_name(&row.topic)
            .ok_or_else(|| StoreError::Internal(format!("feed.topic is {:?}", row.topic)))?;
        let raws: Vec<Raw> = match row.events {
            Some(Value::Array(events)) => events.into_iter().map(Raw::Event).collect(),
            Some(other) => return Err(StoreError::Internal(format!("feed.events is {other}"))),
            None => {
                let (times, meters) = (row.times.unwrap_or_default(), row.meters.unwrap_or_default());
                let sources = row.sources.unwrap_or_default();
                let keys = times.into_iter().zip(meters).zip(sources);
                keys.map(|((ts, meter), source)| Raw::Reading((ts, meter, source)))
                    .collect()
            }
        };
        for (part, raw) in (1i32..).zip(raws) {
            let place = Position { seq: row.seq, part };
            if place > query.from && place <= query.to {
                entries.push(Entry { place, topic, raw });
            }
        }
    }
    Ok((entries, all))
}

/// A group's meters, those of the groups below it included, as they stand now.
async fn group(tx: &mut PgConnection, account: i32, id: GroupId) -> Result<Group, StoreError> {
    let rows = sqlx::query!(
        "WITH RECURSIVE below AS (
             SELECT g.id FROM meter_group g WHERE g.id = $1 AND g.account_id = $2
             UNION
             SELECT g.id FROM meter_group g JOIN below ON g.parent_id = below.id
         )
         SELECT m.id, m.dtu_id FROM meter m WHERE m.account_id = $2 AND m.group_id IN (SELECT below.id FROM below)",
        id.0,
        account
    )
    .fetch_all(tx)
    .await?;
    Ok(Group {
        meters: rows.iter().map(|row| row.id).collect(),
        dtus: rows.iter().map(|row| row.dtu_id).collect(),
    })
}

/// Values for keys. A reading that retention has dropped meanwhile, and one without a wanted quantity, is left out.
async fn fill_in(
    tx: &mut PgConnection,
    entries: Vec<Entry>,
    quantities: &[String],
) -> Result<Vec<FeedItem>, StoreError> {
    let keys: Vec<Key> = entries
        .iter()
        .filter_map(|entry| match &entry.raw {
            Raw::Reading(key) => Some(*key),
            Raw::Event(_) => None,
        })
        .collect();
    let mut readings = readings(tx, &keys).await?;
    let newest = newest(tx, &keys).await?;
    let dtus = dtus(tx, &keys).await?;
    let wanted: HashSet<Measurand> = quantities.iter().map(|name| measurand(name)).collect();
    let mut items = Vec::with_capacity(entries.len());
    for entry in entries {
        let (meter, dtu) = (entry.meter(), entry.dtu());
        let (id, data) = match entry.raw {
            Raw::Event(event) => {
                let id = event.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
                (id, FeedData::Event(event))
            }
            Raw::Reading(key) => {
                let Some(mut reading) = readings.remove(&key) else {
                    continue;
                };
                if !wanted.is_empty() {
                    reading.items.retain(|item| wanted.contains(&item.measurand));
                }
                if reading.items.is_empty() {
                    continue;
                }
                let id = format!("reading-{}-{}-{}", key.1, key.0.timestamp_micros(), key.2);
                let newest = newest.contains(&key);
                let reading = Box::new(reading);
                (id, FeedData::Reading { reading, newest })
            }
        };
        items.push(FeedItem {
            place: entry.place,
            id,
            topic: entry.topic,
            meter: meter.map(MeterId),
            dtu: dtu.or_else(|| dtus.get(&meter?).copied()).map(DtuId),
            data,
        });
    }
    Ok(items)
}

/// A quantity's name is of the closed list, or a vendor's.
fn measurand(name: &str) -> Measurand {
    Quantity::by_name(name).map_or_else(|| Measurand::Vendor(name.into()), Measurand::Standard)
}

async fn readings(tx: &mut PgConnection, keys: &[Key]) -> Result<HashMap<Key, Reading>, StoreError> {
    let (Some(first), Some(last)) = (keys.iter().map(|key| key.0).min(), keys.iter().map(|key| key.0).max()) else {
        return Ok(HashMap::new());
    };
    let times: Vec<DateTime<Utc>> = keys.iter().map(|key| key.0).collect();
    let meters: Vec<i32> = keys.iter().map(|key| key.1).collect();
    let sources: Vec<i16> = keys.iter().map(|key| key.2).collect();
    let mut headers = Vec::new();
    for table in Table::ALL {
        let statement = format!(
            "SELECT {} FROM {} JOIN unnest($1::timestamptz[], $2::int[], $3::smallint[]) AS k (ts, meter_id, source) \
             USING (ts, meter_id, source) WHERE ts BETWEEN $4 AND $5",
            table.columns(),
            table.name()
        );
        let found = sqlx::query(AssertSqlSafe(statement))
            .bind(&times)
            .bind(&meters)
            .bind(&sources)
            .bind(first)
            .bind(last)
            .fetch_all(&mut *tx)
            .await?;
        for row in &found {
            headers.push(header(row, table)?);
        }
    }
    let readings = complete(tx, headers).await.map_err(StoreError::from)?;
    Ok(readings
        .into_iter()
        .map(|reading| {
            let key = (reading.ts, reading.meter.0, wide::source_code(reading.source));
            (key, reading)
        })
        .collect())
}

/// Which of them a pointer to the latest names: nothing newer with the same quantities is stored.
async fn newest(tx: &mut PgConnection, keys: &[Key]) -> Result<HashSet<Key>, DatabaseError> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let times: Vec<DateTime<Utc>> = keys.iter().map(|key| key.0).collect();
    let meters: Vec<i32> = keys.iter().map(|key| key.1).collect();
    let sources: Vec<i16> = keys.iter().map(|key| key.2).collect();
    let rows = sqlx::query!(
        "SELECT l.ts, l.meter_id, l.source
         FROM unnest($1::timestamptz[], $2::int[], $3::smallint[]) AS k (ts, meter_id, source)
         JOIN latest_reading l ON l.meter_id = k.meter_id AND l.ts = k.ts AND l.source = k.source",
        &times,
        &meters,
        &sources
    )
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.ts, row.meter_id, row.source)).collect())
}

async fn dtus(tx: &mut PgConnection, keys: &[Key]) -> Result<HashMap<i32, i32>, DatabaseError> {
    let meters: HashSet<i32> = keys.iter().map(|key| key.1).collect();
    if meters.is_empty() {
        return Ok(HashMap::new());
    }
    let meters: Vec<i32> = meters.into_iter().collect();
    let rows = sqlx::query!("SELECT id, dtu_id FROM meter WHERE id = ANY ($1)", &meters)
        .fetch_all(tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.dtu_id)).collect())
}
