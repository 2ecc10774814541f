//! DTUs, meters and the schedules that apply to them, across accounts, as the front end needs them. With the `ingest`
//! role. A row that does not fit the program is left out with an error in the log: it must not stop the others.

use crate::base::hex;
use crate::base::ids::{AccountId, DtuId, MeterId, ScheduleId};
use crate::domain::device::{AppliedSchedule, Connect, DtuRecord, MeterRecord, SerialNumber};
use crate::port::ledger::{DeviceDirectory, StoreUnavailable};
use crate::port::outage::DatabaseCondition;
use crate::store::rules::{Rules, rules};
use crate::store::watch::patiently;
use crate::store::{Database, StoreError};
use async_trait::async_trait;
use rust_decimal::Decimal;
use sqlx::{Connection, PgConnection, PgPool};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// [`DeviceDirectory`] over PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgDirectory {
    pool: PgPool,
    condition: DatabaseCondition,
}

impl PgDirectory {
    /// Over the database's `ingest` pool.
    pub fn new(database: &Database) -> Self {
        Self {
            pool: database.ingest().clone(),
            condition: database.condition(),
        }
    }

    async fn records(&self, only: Option<DtuId>) -> Result<Vec<DtuRecord>, StoreError> {
        let only = only.map(|id| id.0);
        let mut connection = self.pool.acquire().await?;
        // one snapshot over all queries: a meter must not appear without its schedules
        let mut transaction = connection
            .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await?;
        let mut dtus = dtus(&mut transaction, only).await?;
        // the versions that still matter: those in force at or after the watermark
        let watermark = sqlx::query_scalar!("SELECT at FROM watermark")
            .fetch_optional(&mut *transaction)
            .await?;
        let rules = rules(&mut transaction, None, watermark).await?;
        let mut applied = applied(&mut transaction, only, &rules).await?;
        for (dtu, mut meter) in meters(&mut transaction, only).await? {
            meter.schedules = applied.remove(&meter.id).unwrap_or_default();
            if let Some(record) = dtus.get_mut(&dtu) {
                record.meters.push(meter);
            }
        }
        transaction.commit().await?;
        Ok(dtus.into_values().collect())
    }
}

#[async_trait]
impl DeviceDirectory for PgDirectory {
    async fn load_all(&self) -> Result<Vec<DtuRecord>, StoreUnavailable> {
        Ok(patiently(&self.condition, self.records(None)).await?)
    }

    async fn load(&self, dtu: DtuId) -> Result<Option<DtuRecord>, StoreUnavailable> {
        Ok(patiently(&self.condition, self.records(Some(dtu))).await?.pop())
    }
}

async fn dtus(connection: &mut PgConnection, only: Option<i32>) -> Result<BTreeMap<DtuId, DtuRecord>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT d.id, d.account_id, d.sn, d.connect, d.profile, d.silence_s, d.timeout_ms, d.pause_ms,
                  d.learned -> 'heartbeats_hex' AS "heartbeats",
                  d.enabled AND a.disabled_at IS NULL AS "enabled!"
           FROM dtu d JOIN account a ON a.id = d.account_id
           WHERE d.deleted_at IS NULL AND ($1::int IS NULL OR d.id = $1)"#,
        only
    )
    .fetch_all(connection)
    .await?;
    let mut records = BTreeMap::new();
    for row in rows {
        let sn = row.sn.as_deref().map(SerialNumber::parse).transpose();
        let connect = serde_json::from_value::<Connect>(row.connect);
        let (Ok(sn), Ok(connect)) = (sn, connect) else {
            tracing::error!(
                dtu.id = row.id,
                "dtu left out: its serial number or connect is not valid"
            );
            continue;
        };
        let id = DtuId(row.id);
        let record = DtuRecord {
            id,
            account: AccountId(row.account_id),
            sn,
            connect,
            profile: row.profile,
            silence_s: row.silence_s.unsigned_abs(),
            timeout_ms: row.timeout_ms.unsigned_abs(),
            pause_ms: row.pause_ms.unsigned_abs(),
            enabled: row.enabled,
            heartbeats: heartbeats(row.heartbeats),
            meters: Vec::new(),
        };
        records.insert(id, record);
    }
    Ok(records)
}

/// What was learned is only a help: what is not as this program writes it is as if it was never learned.
fn heartbeats(learned: Option<serde_json::Value>) -> Vec<Vec<u8>> {
    let hex: Vec<String> = learned
        .and_then(|list| serde_json::from_value(list).ok())
        .unwrap_or_default();
    hex.iter().filter_map(|package| hex::decode(package).ok()).collect()
}

async fn meters(connection: &mut PgConnection, only: Option<i32>) -> Result<Vec<(DtuId, MeterRecord)>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT m.id, m.account_id, m.dtu_id, m.protocol, m.address, m.model,
                  i.ct_ratio AS "ct_ratio?", i.vt_ratio AS "vt_ratio?"
           FROM meter m
           LEFT JOIN installation i ON i.meter_id = m.id AND i.valid_to IS NULL
           WHERE m.deleted_at IS NULL AND ($1::int IS NULL OR m.dtu_id = $1)
           ORDER BY m.id"#,
        only
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let dtu = DtuId(row.dtu_id);
            let meter = MeterRecord {
                id: MeterId(row.id),
                account: AccountId(row.account_id),
                dtu,
                protocol: row.protocol,
                address: row.address,
                model: row.model,
                ct_ratio: row.ct_ratio.unwrap_or(Decimal::ONE),
                vt_ratio: row.vt_ratio.unwrap_or(Decimal::ONE),
                schedules: Vec::new(),
            };
            (dtu, meter)
        })
        .collect())
}

async fn applied(
    connection: &mut PgConnection,
    only: Option<i32>,
    rules: &Rules,
) -> Result<HashMap<MeterId, Vec<AppliedSchedule>>, StoreError> {
    let rows = sqlx::query!(
        r#"SELECT ms.meter_id, ms.schedule_id, ms.valid_from, ms.valid_to
           FROM meter_schedule ms JOIN meter m ON m.id = ms.meter_id AND m.deleted_at IS NULL
           WHERE (ms.valid_to IS NULL OR ms.valid_to >= coalesce((SELECT at FROM watermark), '-infinity'))
             AND ($1::int IS NULL OR m.dtu_id = $1)
           ORDER BY ms.meter_id, ms.valid_from, ms.schedule_id"#,
        only
    )
    .fetch_all(connection)
    .await?;
    let mut applied: HashMap<MeterId, Vec<AppliedSchedule>> = HashMap::new();
    for row in rows {
        let schedule = ScheduleId(row.schedule_id);
        let Some(rules) = rules.get(&schedule) else {
            continue;
        };
        applied.entry(MeterId(row.meter_id)).or_default().push(AppliedSchedule {
            schedule,
            valid_from: row.valid_from,
            valid_to: row.valid_to,
            rules: Arc::clone(rules),
        });
    }
    Ok(applied)
}
