//! What the actor found, written down. The order of changes is kept; each is idempotent by key and by the instant of
//! its data, so that a replay writes nothing.

use super::{kind, open, steps, subject};
use crate::base::ids::{AccountId, AlarmId, DtuId, MeterId};
use crate::domain::alarm::{AlarmEdge, AlarmStep, BY_RULE, Change, Detail, Key, Raise, Severity};
use crate::port::alarms::{Settled, Settlement, WatchState};
use crate::store::StoreError;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

/// What comes again within this after it was right again is the same alarm.
const REOPENS: TimeDelta = TimeDelta::minutes(30);
/// From so many times on it flaps, and is not forwarded any more.
const FLAPS_FROM: i32 = 3;
/// Alarms that are reminded of at once.
const REMIND_MAX: i64 = 1_000;

/// The columns of an alarm that its steps are told by.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) account_id: Option<i32>,
    pub(super) kind: String,
    pub(super) severity: String,
    pub(super) dtu_id: Option<i32>,
    pub(super) meter_id: Option<i32>,
    pub(super) parent_id: Option<i64>,
    pub(super) detail: serde_json::Value,
    pub(super) raised_at: DateTime<Utc>,
    pub(super) occurrences: i32,
    pub(super) shelved_until: Option<DateTime<Utc>>,
    pub(super) victims: i64,
}

impl Row {
    /// Whether a step of now is not to be forwarded.
    pub(super) fn is_quiet(&self, now: DateTime<Utc>) -> bool {
        self.parent_id.is_some()
            || self.occurrences >= FLAPS_FROM
            || self.shelved_until.is_some_and(|until| until > now)
    }

    /// The step of this alarm.
    pub(super) fn edge(&self, step: AlarmStep, actor: &str, now: DateTime<Utc>) -> Result<AlarmEdge, StoreError> {
        Ok(AlarmEdge {
            alarm: AlarmId(self.id),
            account: self.account_id.map(AccountId),
            step,
            at: now,
            actor: actor.to_owned(),
            kind: kind(&self.kind)?,
            severity: Severity::by_name(&self.severity).unwrap_or_default(),
            subject: subject(self.account_id, self.dtu_id, self.meter_id),
            raised_at: self.raised_at,
            detail: serde_json::from_value(self.detail.clone()).unwrap_or_default(),
            victims: u64::try_from(self.victims).unwrap_or_default(),
            quiet: self.is_quiet(now),
        })
    }
}

/// An alarm's row as it stands in this transaction.
pub(super) async fn row(tx: &mut PgConnection, id: i64) -> Result<Row, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"SELECT id, account_id, kind, severity, dtu_id, meter_id, parent_id, detail, raised_at, occurrences, shelved_until,
                  (SELECT count(*) FROM alarm_victim v WHERE v.alarm_id = alarm.id) AS "victims!"
           FROM alarm WHERE id = $1"#,
        id
    )
    .fetch_one(tx)
    .await?)
}

fn account_of(key: &Key) -> i32 {
    key.account.map_or(0, |account| account.0)
}

fn to_json(detail: &Detail) -> serde_json::Value {
    // names and numbers alone: it always serialises
    serde_json::to_value(detail).unwrap_or_default()
}

/// Writes everything.
pub(super) async fn settle(
    tx: &mut PgConnection,
    settlement: &Settlement,
    now: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    let mut settled = Settled::default();
    let mut opened = Vec::new();
    for change in &settlement.changes {
        let edge = match change {
            Change::Raise(wanted) => {
                let edge = raise(tx, wanted, now).await?;
                opened.extend(edge.as_ref().map(|edge| edge.alarm.0));
                edge
            }
            Change::Clear { key, at } => {
                let edge = clear(tx, key, *at, now).await?;
                if edge.is_some() {
                    settled.closed.push((key.account, key.text.clone()));
                }
                edge
            }
            Change::Victims { key, joined, back, at } => {
                if let Some(alarm) = open_id(tx, key).await? {
                    join(tx, alarm, key.account, joined).await?;
                    leave(tx, alarm, back, *at).await?;
                }
                None
            }
        };
        settled.edges.extend(edge);
    }
    if !opened.is_empty() {
        settled.opened = open(tx, Some(&opened)).await?;
    }
    for (meter, account, state) in &settlement.watches {
        watch(tx, *meter, *account, state.as_ref(), now).await?;
    }
    if let Some(mark) = settlement.mark {
        sqlx::query!(
            "INSERT INTO alarm_mark AS m (at) VALUES ($1)
             ON CONFLICT (singleton) DO UPDATE SET at = excluded.at WHERE excluded.at > m.at",
            mark
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(settled)
}

async fn watch(
    tx: &mut PgConnection,
    meter: MeterId,
    account: AccountId,
    state: Option<&WatchState>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    match state {
        Some(state) => {
            sqlx::query!(
                "INSERT INTO alarm_watch (meter_id, account_id, state, at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (meter_id) DO UPDATE SET state = excluded.state, at = excluded.at",
                meter.0,
                account.0,
                state,
                now
            )
            .execute(tx)
            .await?;
        }
        None => {
            sqlx::query!("DELETE FROM alarm_watch WHERE meter_id = $1", meter.0)
                .execute(tx)
                .await?;
        }
    }
    Ok(())
}

async fn open_id(tx: &mut PgConnection, key: &Key) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "SELECT id FROM alarm WHERE coalesce(account_id, 0) = $1 AND key = $2 AND cleared_at IS NULL",
        account_of(key),
        key.text
    )
    .fetch_optional(tx)
    .await?)
}

/// What came before under a key.
struct Former {
    id: i64,
    judged_at: DateTime<Utc>,
    cleared_at: Option<DateTime<Utc>>,
    cleared_by: Option<String>,
    shelved_until: Option<DateTime<Utc>>,
    shelved_by: Option<String>,
}

/// Raises, opens again, or notes that it still is so. The step, if there is one.
async fn raise(tx: &mut PgConnection, wanted: &Raise, now: DateTime<Utc>) -> Result<Option<AlarmEdge>, StoreError> {
    let former = sqlx::query_as!(
        Former,
        "SELECT id, judged_at, cleared_at, cleared_by, shelved_until, shelved_by FROM alarm
         WHERE coalesce(account_id, 0) = $1 AND key = $2 ORDER BY id DESC LIMIT 1 FOR UPDATE",
        account_of(&wanted.key),
        wanted.key.text
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(former) = former else {
        return Ok(Some(insert(tx, wanted, None, now).await?));
    };
    if wanted.cause_at <= former.judged_at {
        return Ok(None);
    }
    let Some(cleared_at) = former.cleared_at else {
        again(tx, former.id, wanted).await?;
        join(tx, former.id, wanted.key.account, &wanted.victims).await?;
        return Ok(None);
    };
    let by_rule = former.cleared_by.as_deref() == Some(BY_RULE);
    if by_rule && now.signed_duration_since(cleared_at) < REOPENS && wanted.victims.is_empty() {
        return Ok(Some(reopen(tx, former.id, wanted, now).await?));
    }
    Ok(Some(insert(tx, wanted, Some(&former), now).await?))
}

/// An open alarm has been seen again; of one that a person has to clear the newest cause counts.
async fn again(tx: &mut PgConnection, id: i64, wanted: &Raise) -> Result<(), StoreError> {
    let stays = wanted.kind.stays();
    sqlx::query!(
        "UPDATE alarm SET judged_at = $2, occurrences = occurrences + CASE WHEN $3 THEN 1 ELSE 0 END,
                detail = CASE WHEN $3 THEN $4 ELSE detail END, sentence = CASE WHEN $3 THEN $5 ELSE sentence END
         WHERE id = $1",
        id,
        wanted.cause_at,
        stays,
        to_json(&wanted.detail),
        wanted.detail.sentence(wanted.kind)
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn reopen(tx: &mut PgConnection, id: i64, wanted: &Raise, now: DateTime<Utc>) -> Result<AlarmEdge, StoreError> {
    let parent = match &wanted.parent {
        Some(key) => open_id(tx, key).await?,
        None => None,
    };
    sqlx::query!(
        "UPDATE alarm SET cleared_at = NULL, cleared_by = NULL, occurrences = occurrences + 1, cause_at = $2, judged_at = $2,
                detail = $3, sentence = $4, parent_id = $5, version = version + 1
         WHERE id = $1",
        id,
        wanted.cause_at,
        to_json(&wanted.detail),
        wanted.detail.sentence(wanted.kind),
        parent
    )
    .execute(&mut *tx)
    .await?;
    tell(tx, id, AlarmStep::Reopened, now).await
}

async fn insert(
    tx: &mut PgConnection,
    wanted: &Raise,
    former: Option<&Former>,
    now: DateTime<Utc>,
) -> Result<AlarmEdge, StoreError> {
    let parent = match &wanted.parent {
        Some(key) => open_id(tx, key).await?,
        None => None,
    };
    // who put it aside until a time does not want it back before, whether it went away in between or not
    let shelved = former.filter(|former| former.shelved_until.is_some_and(|until| until > now));
    let id = sqlx::query_scalar!(
        "INSERT INTO alarm (account_id, key, kind, severity, dtu_id, meter_id, rule_id, parent_id, detail, sentence, raised_at,
                            cause_at, judged_at, shelved_until, shelved_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14) RETURNING id",
        wanted.key.account.map(|account| account.0) as Option<i32>,
        wanted.key.text,
        wanted.kind.as_str(),
        wanted.severity.as_str(),
        wanted.subject.dtu().map(|dtu| dtu.0) as Option<i32>,
        wanted.subject.meter().map(|meter| meter.0) as Option<i32>,
        wanted.rule.map(|rule| rule.0) as Option<i32>,
        parent,
        to_json(&wanted.detail),
        wanted.detail.sentence(wanted.kind),
        now,
        wanted.cause_at,
        shelved.and_then(|former| former.shelved_until) as Option<DateTime<Utc>>,
        shelved.and_then(|former| former.shelved_by.clone()) as Option<String>
    )
    .fetch_one(&mut *tx)
    .await?;
    join(tx, id, wanted.key.account, &wanted.victims).await?;
    tell(tx, id, AlarmStep::Raised, now).await
}

async fn clear(
    tx: &mut PgConnection,
    key: &Key,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Option<AlarmEdge>, StoreError> {
    let cleared = sqlx::query_scalar!(
        "UPDATE alarm SET cleared_at = greatest($3, raised_at), cleared_by = $4, judged_at = $5, version = version + 1
         WHERE coalesce(account_id, 0) = $1 AND key = $2 AND cleared_at IS NULL AND judged_at <= $5
         RETURNING id",
        account_of(key),
        key.text,
        now,
        BY_RULE,
        at
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(id) = cleared else { return Ok(None) };
    sqlx::query!(
        "UPDATE alarm_victim SET back_at = $2 WHERE alarm_id = $1 AND back_at IS NULL",
        id,
        now
    )
    .execute(&mut *tx)
    .await?;
    Ok(Some(tell(tx, id, AlarmStep::Cleared, now).await?))
}

async fn join(
    tx: &mut PgConnection,
    alarm: i64,
    account: Option<AccountId>,
    victims: &[(DtuId, DateTime<Utc>)],
) -> Result<(), StoreError> {
    let Some(account) = account.filter(|_| !victims.is_empty()) else {
        return Ok(());
    };
    let ids: Vec<i32> = victims.iter().map(|(dtu, _)| dtu.0).collect();
    let since: Vec<DateTime<Utc>> = victims.iter().map(|(_, since)| *since).collect();
    sqlx::query!(
        "INSERT INTO alarm_victim AS v (alarm_id, dtu_id, account_id, since)
         SELECT $1, n.dtu_id, $2, n.since FROM unnest($3::int[], $4::timestamptz[]) AS n (dtu_id, since)
         ON CONFLICT (alarm_id, dtu_id) DO UPDATE SET back_at = NULL",
        alarm,
        account.0,
        &ids,
        &since
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn leave(tx: &mut PgConnection, alarm: i64, back: &[DtuId], at: DateTime<Utc>) -> Result<(), StoreError> {
    if back.is_empty() {
        return Ok(());
    }
    let ids: Vec<i32> = back.iter().map(|dtu| dtu.0).collect();
    sqlx::query!(
        "UPDATE alarm_victim SET back_at = $3 WHERE alarm_id = $1 AND dtu_id = ANY($2) AND back_at IS NULL",
        alarm,
        &ids,
        at
    )
    .execute(tx)
    .await?;
    Ok(())
}

async fn tell(tx: &mut PgConnection, id: i64, step: AlarmStep, now: DateTime<Utc>) -> Result<AlarmEdge, StoreError> {
    let row = row(tx, id).await?;
    let edge = row.edge(step, BY_RULE, now)?;
    steps::write(tx, &edge, &edge.detail.sentence(edge.kind)).await?;
    Ok(edge)
}

/// Critical alarms that nobody looked at since `before`, once in that span.
pub(super) async fn remind(
    tx: &mut PgConnection,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<Vec<AlarmEdge>, StoreError> {
    let due = sqlx::query_scalar!(
        "UPDATE alarm SET reminded_at = $2 WHERE id IN (
             SELECT id FROM alarm
             WHERE cleared_at IS NULL AND acknowledged_at IS NULL AND parent_id IS NULL AND severity = 'critical'
               AND (shelved_until IS NULL OR shelved_until <= $2) AND coalesce(reminded_at, raised_at) <= $1
             ORDER BY id LIMIT $3 FOR UPDATE)
         RETURNING id",
        before,
        now,
        REMIND_MAX
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut edges = Vec::new();
    for id in due {
        edges.push(tell(tx, id, AlarmStep::Reminded, now).await?);
    }
    Ok(edges)
}
