//! Alarms in PostgreSQL. The actor's side is [`PgAlarmLog`], with role ingest: what it found is written in one
//! transaction ([`settle`]), and of one key at most one alarm is open, which the database itself sees to. The API's side
//! is in [`view`] and [`rules`]. Every step of every alarm goes through [`steps::write`].

mod facts;
pub(super) mod past;
mod rules;
mod settle;
mod steps;
mod topology;
mod view;

use super::{Database, StoreError};
use crate::base::ids::{AccountId, AlarmId, AlarmRuleId, DtuId, MeterId, PointId};
use crate::domain::alarm::{AlarmEdge, AlarmKind, Subject};
use crate::port::alarms::{
    AlarmLog, CommandFact, ConflictFact, HourValue, HoursAsked, OpenAlarm, Resumed, Settled, Settlement, SlotShare,
    TerminalEventFact, Topology,
};
use crate::port::ledger::{PollRecord, StoreUnavailable};
use crate::port::outage::DatabaseCondition;
use crate::store::watch::patiently;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use std::collections::{BTreeSet, HashMap};

/// [`AlarmLog`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgAlarmLog {
    pool: PgPool,
    condition: DatabaseCondition,
}

impl PgAlarmLog {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
            condition: database.condition(),
        }
    }
}

/// A transaction that writes alarms. Each of its statements is after one row by a key, and is planned for good when a session has
/// run it a few times: in a quiet hour, over a table of one page, which is read whole with less effort than by its key. In the
/// storm behind it each alarm would then read all the others.
async fn writing(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    let mut tx = pool.begin().await?;
    sqlx::query!("SET LOCAL enable_seqscan = off").execute(&mut *tx).await?;
    Ok(tx)
}

/// What an alarm is about, by its columns.
fn subject(account: Option<i32>, dtu: Option<i32>, meter: Option<i32>) -> Subject {
    match (account, dtu, meter) {
        (_, Some(dtu), Some(meter)) => Subject::Meter {
            meter: MeterId(meter),
            dtu: DtuId(dtu),
        },
        (_, Some(dtu), None) => Subject::Dtu { dtu: DtuId(dtu) },
        (Some(_), None, _) => Subject::Account,
        (None, None, _) => Subject::Server,
    }
}

fn kind(name: &str) -> Result<AlarmKind, StoreError> {
    AlarmKind::by_name(name).ok_or_else(|| StoreError::Internal(format!("alarm.kind is {name:?}")))
}

/// The alarms that are open; `only`: of these ids.
async fn open(connection: &mut PgConnection, only: Option<&[i64]>) -> Result<Vec<OpenAlarm>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT a.id, a.account_id, a.key, a.kind, a.dtu_id, a.meter_id, a.rule_id, a.raised_at,
                  ARRAY(SELECT v.dtu_id FROM alarm_victim v WHERE v.alarm_id = a.id AND v.back_at IS NULL) AS "victims!"
           FROM alarm a
           WHERE a.cleared_at IS NULL AND a.id = ANY (coalesce($1, ARRAY(SELECT id FROM alarm WHERE cleared_at IS NULL)))
           ORDER BY a.id"#,
        only
    )
    .fetch_all(connection)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(OpenAlarm {
                id: AlarmId(row.id),
                account: row.account_id.map(AccountId),
                key: row.key,
                kind: kind(&row.kind)?,
                subject: subject(row.account_id, row.dtu_id, row.meter_id),
                rule: row.rule_id.map(AlarmRuleId),
                raised_at: row.raised_at,
                victims: row.victims.into_iter().map(DtuId).collect::<BTreeSet<_>>(),
            })
        })
        .collect()
}

#[async_trait]
impl AlarmLog for PgAlarmLog {
    async fn resume(&self) -> Result<Resumed, StoreUnavailable> {
        let read = async {
            let mut tx = self.pool.begin().await?;
            let watches = sqlx::query!("SELECT meter_id, state FROM alarm_watch")
                .fetch_all(&mut *tx)
                .await?
                .into_iter()
                .map(|row| (MeterId(row.meter_id), row.state))
                .collect();
            let mark = sqlx::query_scalar!("SELECT at FROM alarm_mark")
                .fetch_optional(&mut *tx)
                .await?;
            Ok(Resumed {
                open: open(&mut tx, None).await?,
                watches,
                mark,
                registers: facts::registers(&mut tx, mark).await?,
            })
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn topology(&self) -> Result<Topology, StoreUnavailable> {
        let read = async {
            let mut tx = self.pool.begin().await?;
            topology::read(&mut tx).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn open(&self) -> Result<Vec<OpenAlarm>, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            open(&mut connection, None).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn settle(&self, settlement: &Settlement, now: DateTime<Utc>) -> Result<Settled, StoreUnavailable> {
        let write = async {
            let mut tx = writing(&self.pool).await?;
            let settled = settle::settle(&mut tx, settlement, now).await?;
            tx.commit().await?;
            Ok(settled)
        };
        Ok(patiently(&self.condition, write).await?)
    }

    async fn remind(&self, before: DateTime<Utc>, now: DateTime<Utc>) -> Result<Vec<AlarmEdge>, StoreUnavailable> {
        let write = async {
            let mut tx = writing(&self.pool).await?;
            let edges = settle::remind(&mut tx, before, now).await?;
            tx.commit().await?;
            Ok(edges)
        };
        Ok(patiently(&self.condition, write).await?)
    }

    async fn judged_again(&self, since: DateTime<Utc>, max: u32) -> Result<Vec<PollRecord>, StoreUnavailable> {
        let read = async {
            let mut tx = self.pool.begin().await?;
            past::received(&mut tx, since, max).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn hours(&self, asked: &HoursAsked) -> Result<HashMap<PointId, Vec<HourValue>>, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            facts::hours(&mut connection, asked).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn slots(&self, account: AccountId, since: DateTime<Utc>) -> Result<SlotShare, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            facts::slots(&mut connection, account, since).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn commands(&self, since: DateTime<Utc>) -> Result<Vec<CommandFact>, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            facts::commands(&mut connection, since).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn conflicts(&self, since: DateTime<Utc>) -> Result<Vec<ConflictFact>, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            facts::conflicts(&mut connection, since).await
        };
        Ok(patiently(&self.condition, read).await?)
    }

    async fn terminal_events(&self, since: DateTime<Utc>) -> Result<Vec<TerminalEventFact>, StoreUnavailable> {
        let read = async {
            let mut connection = self.pool.acquire().await?;
            facts::terminal_events(&mut connection, since).await
        };
        Ok(patiently(&self.condition, read).await?)
    }
}
