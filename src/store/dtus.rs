//! DTUs in PostgreSQL, the history of their sessions, and frames kept as evidence.

use super::handles::{PgStores, Reach, check_version, unique};
use super::schedules::{ScheduleTarget, assign_schedule};
use crate::base::ids::{AccountId, ConnectionId, DtuId, FrameId, MeterId, PollId, ScheduleId, SessionId};
use crate::domain::device::{Connect, SerialNumber};
use crate::port::dtus::{Dtu, DtuEdit, DtuStore, NewDtu, PastSession};
use crate::port::frames::{FrameKind, RawFrame, RecordedFrame};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

impl InAccount<dyn DtuStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn DtuStore> {
        Box::new(Dtus(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn DtuStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn DtuStore> {
        Box::new(Dtus(Reach::Platform(self.platform(actor))))
    }
}

struct Dtus(Reach);

struct Row {
    id: i32,
    account_id: i32,
    sn: Option<String>,
    name: String,
    connect: Value,
    profile: Option<String>,
    time_zone: Option<String>,
    schedule_id: Option<i32>,
    silence_s: i32,
    timeout_ms: i32,
    pause_ms: i32,
    enabled: bool,
    learned: Option<Value>,
    meters: i64,
    online_share: f64,
    created_at: DateTime<Utc>,
    version: i32,
}

impl TryFrom<Row> for Dtu {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let wrong = |what: &str, cause: String| StoreError::Internal(format!("dtu {}: {what}: {cause}", row.id));
        let sn = row.sn.as_deref().map(SerialNumber::parse).transpose();
        Ok(Self {
            id: DtuId(row.id),
            account: AccountId(row.account_id),
            sn: sn.map_err(|error| wrong("sn", error.to_string()))?,
            name: row.name.clone(),
            connect: connect_of(&row.connect).map_err(|cause| wrong("connect", cause))?,
            profile: row.profile.clone(),
            time_zone: row.time_zone.clone(),
            schedule: row.schedule_id.map(ScheduleId),
            // check constraints keep them positive
            silence_s: row.silence_s.unsigned_abs(),
            timeout_ms: row.timeout_ms.unsigned_abs(),
            pause_ms: row.pause_ms.unsigned_abs(),
            enabled: row.enabled,
            learned: row.learned.clone(),
            meters: row.meters,
            online_share: row.online_share,
            created_at: row.created_at,
            version: row.version,
        })
    }
}

fn connect_of(stored: &Value) -> Result<Connect, String> {
    serde_json::from_value(stored.clone()).map_err(|error| error.to_string())
}

pub(super) fn connect_json(connect: &Connect) -> Result<Value, StoreError> {
    serde_json::to_value(connect).map_err(|error| StoreError::Internal(error.to_string()))
}

pub(super) fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn sn_taken(error: sqlx::Error) -> StoreError {
    unique(
        error,
        "dtu_sn",
        "sn",
        "a DTU with this serial number exists already on this server",
    )
}

/// The DTUs of these ids. The share is the union of the sessions' times, cut to the last 24 hours, over the time that
/// the DTU has existed in them; sessions overlap for a moment at a take-over.
pub(super) async fn rows(tx: &mut PgConnection, ids: &[i32], now: DateTime<Utc>) -> Result<Vec<Dtu>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT d.id, d.account_id, d.sn, d.name, d.connect, d.profile, d.time_zone, d.schedule_id, d.silence_s,
                  d.timeout_ms, d.pause_ms, d.enabled, d.learned, d.created_at, d.version,
                  (SELECT count(*) FROM meter m WHERE m.dtu_id = d.id AND m.deleted_at IS NULL) AS "meters!",
                  least(1, coalesce((
                      SELECT extract(epoch FROM sum(upper(r) - lower(r)))
                      FROM unnest((
                          SELECT range_agg(tstzrange(s.began_at, greatest(s.began_at, coalesce(s.ended_at, $2)))
                                           * tstzrange($2::timestamptz - interval '24 hours', $2))
                          FROM (
                              (SELECT began_at, ended_at FROM dtu_session
                               WHERE dtu_id = d.id AND began_at >= $2::timestamptz - interval '24 hours'
                                 AND began_at <= $2)
                              UNION ALL
                              (SELECT began_at, ended_at FROM dtu_session
                               WHERE dtu_id = d.id AND began_at < $2::timestamptz - interval '24 hours'
                               ORDER BY began_at DESC LIMIT 1)
                          ) AS s
                      )) AS r
                  ), 0) / greatest(1, least(86400, extract(epoch FROM $2 - d.created_at))))::float8 AS "online_share!"
           FROM dtu d WHERE d.id = ANY ($1) ORDER BY d.id"#,
        ids,
        now
    )
    .fetch_all(tx)
    .await?;
    rows.into_iter().map(Dtu::try_from).collect()
}

async fn one(tx: &mut PgConnection, id: DtuId, now: DateTime<Utc>) -> Result<Dtu, StoreError> {
    let there = sqlx::query_scalar!("SELECT id FROM dtu WHERE id = $1 AND deleted_at IS NULL", id.0)
        .fetch_optional(&mut *tx)
        .await?
        .ok_or(StoreError::NotFound("DTU"))?;
    rows(tx, &[there], now).await?.pop().ok_or(StoreError::NotFound("DTU"))
}

/// Locks a DTU for an edit, checks its version, gives its account.
async fn lock(tx: &mut PgConnection, id: DtuId, version: Option<i32>) -> Result<AccountId, StoreError> {
    let row = sqlx::query!(
        "SELECT account_id, version FROM dtu WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        id.0
    )
    .fetch_optional(tx)
    .await?
    .ok_or(StoreError::NotFound("DTU"))?;
    check_version("DTU", Some(row.version), version)?;
    Ok(AccountId(row.account_id))
}

/// Edits a DTU within a transaction: its account, what it is then, and what the audit says of it.
pub(super) async fn change(
    tx: &mut PgConnection,
    id: DtuId,
    edit: &DtuEdit,
    version: Option<i32>,
    now: DateTime<Utc>,
) -> Result<(AccountId, Dtu, Value), StoreError> {
    let account = lock(tx, id, version).await?;
    let connect = edit.connect.as_ref().map(connect_json).transpose()?;
    sqlx::query!(
        "UPDATE dtu SET version = version + 1, name = coalesce($2, name), connect = coalesce($3, connect),
                silence_s = coalesce($4, silence_s), timeout_ms = coalesce($5, timeout_ms),
                pause_ms = coalesce($6, pause_ms), enabled = coalesce($7, enabled),
                sn = CASE WHEN $8::boolean THEN $9 ELSE sn END,
                profile = CASE WHEN $10::boolean THEN $11 ELSE profile END,
                time_zone = CASE WHEN $12::boolean THEN $13 ELSE time_zone END
         WHERE id = $1",
        id.0,
        edit.name,
        connect,
        edit.silence_s.map(int),
        edit.timeout_ms.map(int),
        edit.pause_ms.map(int),
        edit.enabled,
        edit.sn.is_some(),
        edit.sn.as_ref().and_then(Option::as_ref).map(SerialNumber::as_str),
        edit.profile.is_some(),
        edit.profile.clone().flatten(),
        edit.time_zone.is_some(),
        edit.time_zone.clone().flatten()
    )
    .execute(&mut *tx)
    .await
    .map_err(sn_taken)?;
    if let Some(choice) = &edit.schedule {
        assign_schedule(tx, account, ScheduleTarget::Dtu(id), choice.as_ref(), now).await?;
    }
    let dtu = one(tx, id, now).await?;
    if dtu.sn.is_none() && matches!(dtu.connect, Connect::Inbound | Connect::Dial { .. }) {
        return Err(StoreError::Invalid {
            field: "sn",
            message: "a DTU that is reached this way needs a serial number".to_owned(),
        });
    }
    let detail = json!({"sn": edit.sn, "name": edit.name, "connect": edit.connect, "profile": edit.profile,
                        "time_zone": edit.time_zone, "schedule_id": edit.schedule.as_ref().map(|_| dtu.schedule),
                        "silence_s": edit.silence_s, "timeout_ms": edit.timeout_ms, "pause_ms": edit.pause_ms,
                        "enabled": edit.enabled});
    Ok((account, dtu, detail))
}

pub(super) fn object(id: DtuId) -> String {
    format!("dtu/{id}")
}

/// What the audit says of a new DTU.
pub(super) fn audited(made: &Dtu) -> Value {
    json!({"sn": made.sn, "name": made.name, "connect": made.connect, "profile": made.profile,
           "time_zone": made.time_zone, "schedule_id": made.schedule})
}

#[async_trait]
impl DtuStore for Dtus {
    async fn list(
        &self,
        text: Option<&str>,
        after: Option<DtuId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<(Vec<Dtu>, u64), StoreError> {
        let mut tx = self.0.begin().await?;
        let total = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM dtu WHERE deleted_at IS NULL
               AND ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR strpos(lower(sn), lower($1)) > 0)"#,
            text
        )
        .fetch_one(&mut *tx)
        .await?;
        let ids = sqlx::query_scalar!(
            "SELECT id FROM dtu WHERE deleted_at IS NULL AND id > $2
             AND ($1::text IS NULL OR strpos(lower(name), lower($1)) > 0 OR strpos(lower(sn), lower($1)) > 0)
             ORDER BY id LIMIT $3",
            text,
            after.map_or(0, |id| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok((rows(&mut tx, &ids, now).await?, total.unsigned_abs()))
    }

    async fn get(&self, id: DtuId, now: DateTime<Utc>) -> Result<Dtu, StoreError> {
        let mut tx = self.0.begin().await?;
        one(&mut tx, id, now).await
    }

    async fn owns(&self, id: DtuId) -> Result<bool, StoreError> {
        let mut tx = self.0.begin().await?;
        let found = sqlx::query_scalar!("SELECT id FROM dtu WHERE id = $1", id.0)
            .fetch_optional(&mut *tx)
            .await?;
        Ok(found.is_some())
    }

    async fn create(&self, dtu: &NewDtu, now: DateTime<Utc>) -> Result<Dtu, StoreError> {
        let account = self.0.account().ok_or(StoreError::Invalid {
            field: "account",
            message: "a DTU belongs to an account: add ?account=ID".to_owned(),
        })?;
        let mut tx = self.0.begin().await?;
        let id = sqlx::query_scalar!(
            "INSERT INTO dtu (account_id, sn, name, connect, profile, time_zone, silence_s, timeout_ms, pause_ms, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, coalesce($7, 180), coalesce($8, 2000), coalesce($9, 50), $10) RETURNING id",
            account.0,
            dtu.sn.as_ref().map(SerialNumber::as_str),
            dtu.name,
            connect_json(&dtu.connect)?,
            dtu.profile,
            dtu.time_zone,
            dtu.silence_s.map(int),
            dtu.timeout_ms.map(int),
            dtu.pause_ms.map(int),
            now
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(sn_taken)?;
        let id = DtuId(id);
        if let Some(choice) = &dtu.schedule {
            assign_schedule(&mut tx, account, ScheduleTarget::Dtu(id), Some(choice), now).await?;
        }
        let made = one(&mut tx, id, now).await?;
        self.0
            .audit(&mut tx, Some(account), now, "dtu.create", &object(id), audited(&made))
            .await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn update(
        &self,
        id: DtuId,
        edit: &DtuEdit,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<Dtu, StoreError> {
        let mut tx = self.0.begin().await?;
        let (account, dtu, detail) = change(&mut tx, id, edit, version, now).await?;
        self.0
            .audit(&mut tx, Some(account), now, "dtu.update", &object(id), detail)
            .await?;
        tx.commit().await?;
        Ok(dtu)
    }

    async fn delete(&self, id: DtuId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let account = lock(&mut tx, id, version).await?;
        let meters = sqlx::query_scalar!(
            r#"SELECT count(*) AS "count!" FROM meter WHERE dtu_id = $1 AND deleted_at IS NULL"#,
            id.0
        )
        .fetch_one(&mut *tx)
        .await?;
        if meters > 0 {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("the DTU still has {meters} meters: delete or move them first"),
            });
        }
        sqlx::query!(
            "UPDATE dtu SET deleted_at = $2, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.0
            .audit(&mut tx, Some(account), now, "dtu.delete", &object(id), json!({}))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn sessions(
        &self,
        id: DtuId,
        before: Option<(DateTime<Utc>, SessionId)>,
        limit: u32,
    ) -> Result<Vec<PastSession>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            "SELECT id, peer, began_at, ended_at, cause, counters FROM dtu_session
             WHERE dtu_id = $1 AND ($2::timestamptz IS NULL OR (began_at, id) < ($2, $3))
             ORDER BY began_at DESC, id DESC LIMIT $4",
            id.0,
            before.map(|(at, _)| at),
            before.map_or(0, |(_, id)| id.0),
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| PastSession {
                id: SessionId(row.id),
                peer: row.peer,
                began_at: row.began_at,
                ended_at: row.ended_at,
                cause: row.cause,
                counters: row.counters,
            })
            .collect())
    }

    async fn evidence(&self, id: FrameId) -> Result<Option<RecordedFrame>, StoreError> {
        let mut tx = self.0.begin().await?;
        let row = sqlx::query!(
            "SELECT id, dtu_id, connection_id, meter_id, poll_id, at, kind, protocol, bytes FROM frame_evidence WHERE id = $1",
            id.0
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let kind: FrameKind = serde_json::from_value(Value::String(row.kind))
            .map_err(|error| StoreError::Internal(format!("frame {id}: {error}")))?;
        Ok(Some(RecordedFrame {
            id,
            frame: RawFrame {
                at: row.at,
                dtu: row.dtu_id.map(DtuId),
                connection: ConnectionId(row.connection_id.unsigned_abs()),
                meter: row.meter_id.map(MeterId),
                poll: row.poll_id.map(PollId),
                kind,
                protocol: row.protocol.into(),
                bytes: row.bytes.into(),
                turn: None,
            },
        }))
    }
}
