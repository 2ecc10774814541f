//! What a batch writes beside its readings: pointers to the latest, marks for the roll-ups, endings, evidence, and the
//! two tables of what could not be taken.

use super::batch::{Conflict, Prepared, Reject, json, printable};
use super::bisect::{Rows, put_all};
use crate::domain::slot::{MissReason, SlotEnding, SlotState};
use crate::port::frames::{FrameKind, RecordedFrame};
use crate::store::StoreError;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Moves each meter's pointer for each set of quantities to its newest reading.
pub(super) async fn latest(connection: &mut PgConnection, readings: &[&Prepared<'_>]) -> Result<(), StoreError> {
    // one row per pointer, in one order, so that two writers never wait for each other in a ring
    let mut newest: Vec<((i32, i32), &Prepared<'_>)> =
        readings.iter().map(|row| ((row.key.1.0, row.shape), *row)).collect();
    newest.sort_by_key(|(pointer, row)| (*pointer, Reverse((row.key.0, row.reading.read_at))));
    newest.dedup_by_key(|(pointer, _)| *pointer);
    if newest.is_empty() {
        return Ok(());
    }
    let (mut meters, mut shapes, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sources, mut families, mut times, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((meter, shape), row) in newest {
        meters.push(meter);
        shapes.push(shape);
        accounts.push(row.reading.account.0);
        sources.push(row.key.2);
        families.push(row.laid.table.code());
        times.push(row.key.0);
        read.push(row.reading.read_at);
    }
    sqlx::query!(
        "INSERT INTO latest_reading AS l (meter_id, shape, account_id, source, family, ts, read_at)
         SELECT * FROM unnest($1::int[], $2::int[], $3::int[], $4::smallint[], $5::smallint[], $6::timestamptz[],
                              $7::timestamptz[])
         ON CONFLICT (meter_id, shape) DO UPDATE
         SET account_id = excluded.account_id, source = excluded.source, family = excluded.family, ts = excluded.ts,
             read_at = excluded.read_at
         WHERE (excluded.ts, excluded.read_at) > (l.ts, l.read_at)",
        &meters,
        &shapes,
        &accounts,
        &sources,
        &families,
        &times,
        &read
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Marks the hours that readings and endings of the batch lie in for the roll-ups: of meters' polls, and of consumption where
/// a register came. One row per account and hour, whatever the number of meters.
pub(super) async fn mark_hours(
    connection: &mut PgConnection,
    inserted: &[&Prepared<'_>],
    endings: impl Iterator<Item = &SlotEnding> + Send,
) -> Result<(), StoreError> {
    let hour = |at: DateTime<Utc>| at.duration_trunc(TimeDelta::hours(1)).ok();
    let mut marks: BTreeMap<(DateTime<Utc>, i32, i32), bool> = BTreeMap::new();
    for row in inserted {
        if let Some(hour) = hour(row.key.0) {
            *marks.entry((hour, row.reading.account.0, row.key.1.0)).or_default() |= row.has_register();
        }
    }
    for ending in endings {
        if let Some(hour) = hour(ending.due_at) {
            marks.entry((hour, ending.account.0, ending.meter.0)).or_default();
        }
    }
    if marks.is_empty() {
        return Ok(());
    }
    let hours: Vec<DateTime<Utc>> = marks.keys().map(|key| key.0).collect();
    let accounts: Vec<i32> = marks.keys().map(|key| key.1).collect();
    let meters: Vec<i32> = marks.keys().map(|key| key.2).collect();
    let registers: Vec<bool> = marks.values().copied().collect();
    sqlx::query!(
        "WITH now AS MATERIALIZED (SELECT round FROM consumption_round FOR SHARE)
         INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
         SELECT d.hour, now.round, d.account_id, d.registers, true, array_agg(d.meter_id)
         FROM now, unnest($1::timestamptz[], $2::int[], $3::int[], $4::bool[]) AS d (hour, account_id, meter_id, registers)
         GROUP BY d.hour, now.round, d.account_id, d.registers",
        &hours,
        &accounts,
        &meters,
        &registers
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts the keys of new readings into the feed of integrations, where the account has any; in this transaction, so that
/// they are told if they are stored. Endings do so by a trigger.
pub(super) async fn feed(connection: &mut PgConnection, inserted: &[&Prepared<'_>]) -> Result<(), StoreError> {
    if inserted.is_empty() {
        return Ok(());
    }
    let times: Vec<DateTime<Utc>> = inserted.iter().map(|row| row.key.0).collect();
    let meters: Vec<i32> = inserted.iter().map(|row| row.key.1.0).collect();
    let sources: Vec<i16> = inserted.iter().map(|row| row.key.2).collect();
    let accounts: Vec<i32> = inserted.iter().map(|row| row.reading.account.0).collect();
    sqlx::query!(
        "SELECT feed_readings($1, $2, $3, $4)",
        &times,
        &meters,
        &sources,
        &accounts
    )
    .execute(connection)
    .await?;
    Ok(())
}

struct Endings;

impl<'a> Rows<&'a SlotEnding> for Endings {
    async fn put(&self, connection: &mut PgConnection, endings: &[&'a SlotEnding]) -> Result<(), StoreError> {
        let due: Vec<DateTime<Utc>> = endings.iter().map(|e| e.due_at).collect();
        let ended: Vec<DateTime<Utc>> = endings.iter().map(|e| e.ended_at).collect();
        let meters: Vec<i32> = endings.iter().map(|e| e.meter.0).collect();
        let schedules: Vec<i32> = endings.iter().map(|e| e.schedule.0).collect();
        let accounts: Vec<i32> = endings.iter().map(|e| e.account.0).collect();
        let attempts: Vec<i16> = endings
            .iter()
            .map(|e| i16::try_from(e.attempts).unwrap_or(i16::MAX))
            .collect();
        let states: Vec<String> = endings.iter().map(|e| state_name(e.state).to_owned()).collect();
        let reasons: Vec<Option<String>> = endings.iter().map(|e| reason_name(e)).collect();
        let details: Vec<Option<String>> = endings
            .iter()
            .map(|e| e.detail.as_deref().map(|detail| printable(detail, 64)))
            .collect();
        // an ending that says the same as the newest version is a duplicate; one that equals any version to the
        // instant is a replay of that version, even when a later one followed it
        sqlx::query!(
            r#"INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state,
                                       reason, detail)
             SELECT n.due_at, n.ended_at, n.meter_id, n.schedule_id, n.account_id,
                    coalesce(last.version, 0) + 1, n.attempts, n.state, n.reason, n.detail
             FROM unnest($1::timestamptz[], $2::timestamptz[], $3::int[], $4::int[], $5::int[], $6::smallint[],
                         $7::text[], $8::text[], $9::text[])
                  AS n (due_at, ended_at, meter_id, schedule_id, account_id, attempts, state, reason, detail)
             LEFT JOIN LATERAL (
                 SELECT e.version, e.state, e.reason FROM slot_ending e
                 WHERE e.due_at = n.due_at AND e.meter_id = n.meter_id AND e.schedule_id = n.schedule_id
                 ORDER BY e.version DESC LIMIT 1
             ) AS last ON true
             WHERE (last.version IS NULL OR (last.state, last.reason) IS DISTINCT FROM (n.state, n.reason))
               AND NOT EXISTS (
                 SELECT FROM slot_ending e
                 WHERE e.due_at = n.due_at AND e.meter_id = n.meter_id AND e.schedule_id = n.schedule_id
                   AND e.ended_at = n.ended_at AND (e.state, e.reason) IS NOT DISTINCT FROM (n.state, n.reason))"#,
            &due,
            &ended,
            &meters,
            &schedules,
            &accounts,
            &attempts,
            &states,
            &reasons as &[Option<String>],
            &details as &[Option<String>]
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Writes endings as versions; returns those that the database will not take.
pub(super) async fn endings(
    connection: &mut PgConnection,
    rounds: &[Vec<&SlotEnding>],
) -> Result<Vec<Reject>, StoreError> {
    let mut rejects = Vec::new();
    for round in rounds {
        for (ending, error) in put_all(connection, &Endings, round).await? {
            rejects.push(Reject::ending(ending, "23000", &error.to_string()));
        }
    }
    Ok(rejects)
}

fn state_name(state: SlotState) -> &'static str {
    match state {
        SlotState::Actual => "actual",
        SlotState::Late => "late",
        SlotState::Estimated => "estimated",
        SlotState::Missing => "missing",
    }
}

fn reason_name(ending: &SlotEnding) -> Option<String> {
    ending.reason.map(MissReason::as_str).map(str::to_owned)
}

struct Evidence;

impl<'a> Rows<&'a RecordedFrame> for Evidence {
    async fn put(&self, connection: &mut PgConnection, frames: &[&'a RecordedFrame]) -> Result<(), StoreError> {
        let ids: Vec<i64> = frames.iter().map(|f| f.id.0).collect();
        let dtus: Vec<Option<i32>> = frames.iter().map(|f| f.frame.dtu.map(|id| id.0)).collect();
        let connections: Vec<i64> = frames.iter().map(|f| f.frame.connection.0.cast_signed()).collect();
        let meters: Vec<Option<i32>> = frames.iter().map(|f| f.frame.meter.map(|id| id.0)).collect();
        let polls: Vec<Option<i64>> = frames.iter().map(|f| f.frame.poll.map(|id| id.0)).collect();
        let times: Vec<DateTime<Utc>> = frames.iter().map(|f| f.frame.at).collect();
        let kinds: Vec<String> = frames.iter().map(|f| kind_name(f.frame.kind).to_owned()).collect();
        let protocols: Vec<String> = frames.iter().map(|f| printable(&f.frame.protocol, 40)).collect();
        let bytes: Vec<Vec<u8>> = frames.iter().map(|f| f.frame.bytes.to_vec()).collect();
        sqlx::query!(
            "INSERT INTO frame_evidence (id, account_id, dtu_id, connection_id, meter_id, poll_id, at, kind, protocol,
                                         bytes)
             SELECT n.id, d.account_id, n.dtu_id, n.connection_id, n.meter_id, n.poll_id, n.at, n.kind, n.protocol,
                    n.bytes
             FROM unnest($1::bigint[], $2::int[], $3::bigint[], $4::int[], $5::bigint[], $6::timestamptz[], $7::text[],
                         $8::text[], $9::bytea[])
                  AS n (id, dtu_id, connection_id, meter_id, poll_id, at, kind, protocol, bytes)
             LEFT JOIN dtu d ON d.id = n.dtu_id
             ON CONFLICT (id) DO NOTHING",
            &ids,
            &dtus as &[Option<i32>],
            &connections,
            &meters as &[Option<i32>],
            &polls as &[Option<i64>],
            &times,
            &kinds,
            &protocols,
            &bytes
        )
        .execute(connection)
        .await?;
        Ok(())
    }
}

fn kind_name(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Request => "request",
        FrameKind::Answer => "answer",
        FrameKind::Refusal => "refusal",
        FrameKind::Stray => "stray",
        FrameKind::Noise => "noise",
        FrameKind::Registration => "registration",
        FrameKind::Heartbeat => "heartbeat",
    }
}

/// Copies raw frames out of the recorder's ring. One that the database refuses is left there: evidence is a help, and
/// must not hold up readings.
pub(super) async fn evidence(connection: &mut PgConnection, frames: &[&RecordedFrame]) -> Result<(), StoreError> {
    for (frame, error) in put_all(connection, &Evidence, frames).await? {
        tracing::warn!(frame.id = frame.id.0, %error, "frame not kept as evidence");
    }
    Ok(())
}

/// Keeps what was offered under a taken key; a replay finds its row again.
pub(super) async fn conflicts(
    connection: &mut PgConnection,
    conflicts: &[Conflict],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for conflict in conflicts {
        let offered = json(&conflict.offered);
        sqlx::query!(
            "INSERT INTO reading_conflict (account_id, meter_id, ts, source, found_at, stored, offered, offered_hash)
             VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8) ON CONFLICT DO NOTHING",
            conflict.account.0,
            conflict.key.1.0,
            conflict.key.0,
            conflict.key.2,
            now,
            json(&conflict.stored),
            offered,
            hash(&offered)
        )
        .execute(&mut *connection)
        .await?;
        crate::telemetry::storage::ReadingConflicted {
            meter: conflict.key.1.0,
            source: conflict.key.2,
        }
        .emit();
    }
    Ok(())
}

/// Keeps what the database will not take, with the reason.
pub(super) async fn rejects(
    connection: &mut PgConnection,
    rejects: &[Reject],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    for reject in rejects {
        sqlx::query!(
            "INSERT INTO reading_rejected (account_id, meter_id, ts, source, found_at, sqlstate, reason, record,
                                           record_hash)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9) ON CONFLICT DO NOTHING",
            reject.account.0,
            reject.key.1.0,
            clamp(reject.key.0),
            reject.key.2,
            now,
            reject.sqlstate,
            reject.reason,
            reject.record,
            hash(&reject.record)
        )
        .execute(&mut *connection)
        .await?;
        crate::telemetry::storage::RecordRejected {
            meter: reject.key.1.0,
            reason: &reject.reason,
        }
        .emit();
    }
    Ok(())
}

fn hash(text: &str) -> Vec<u8> {
    Sha256::digest(text.as_bytes()).to_vec()
}

/// An instant that `timestamptz` can hold (4713 BC to 294276 AD), for rows that tell of an impossible one.
fn clamp(at: DateTime<Utc>) -> DateTime<Utc> {
    const LIMIT_S: i64 = 8_000_000_000_000;
    match at.timestamp() {
        s if s > LIMIT_S => DateTime::from_timestamp(LIMIT_S, 0).unwrap_or(at),
        s if s < -100_000_000_000 => DateTime::from_timestamp(-100_000_000_000, 0).unwrap_or(at),
        _ => at,
    }
}
