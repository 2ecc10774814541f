//! The meters and DTUs that a broker is told of, and those that it is to forget.

use super::PgFeed;
use crate::base::ids::{DtuId, MeterId};
use crate::port::integrations::{DtuPlace, GoneMeter, MeterPlace, Places, StoredIntegration};
use crate::port::scope::StoreError;
use crate::store::StoreError as DatabaseError;
use crate::store::wide::Table;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::collections::BTreeSet;

/// What was deleted so long before the last clearing is looked at again: a deletion is stamped before it commits.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

impl PgFeed {
    pub(super) async fn read_places(&self, integration: &StoredIntegration) -> Result<Places, StoreError> {
        let account = integration.account.0;
        let since = integration.status.cleared_at - OVERLAP;
        let mut tx = self.pool.begin().await?;
        let mut places = Places::default();
        for row in sqlx::query!(
            "SELECT id, dtu_id, name, model, deleted_at FROM meter
             WHERE account_id = $1 AND (deleted_at IS NULL OR deleted_at > $2)",
            account,
            since
        )
        .fetch_all(&mut *tx)
        .await?
        {
            let (id, dtu) = (MeterId(row.id), DtuId(row.dtu_id));
            if row.deleted_at.is_some() {
                let quantities = last_quantities(&mut tx, row.id).await?;
                places.gone.push(GoneMeter { id, dtu, quantities });
            } else {
                let place = MeterPlace {
                    id,
                    dtu,
                    name: row.name,
                    model: row.model,
                };
                places.meters.insert(id, place);
            }
        }
        for row in sqlx::query!(
            r#"SELECT d.id, d.sn, d.deleted_at,
                      EXISTS (SELECT FROM dtu_session s WHERE s.dtu_id = d.id AND s.ended_at IS NULL) AS "online!"
               FROM dtu d
               WHERE d.account_id = $1 AND (d.deleted_at IS NULL OR d.deleted_at > $2
                     OR d.id IN (SELECT m.dtu_id FROM meter m WHERE m.account_id = $1 AND m.deleted_at > $2))"#,
            account,
            since
        )
        .fetch_all(&mut *tx)
        .await?
        {
            if row.deleted_at.is_some_and(|at| at > since) {
                places.gone_dtus.push(DtuId(row.id));
            }
            let place = DtuPlace {
                sn: row.sn,
                online: row.online,
            };
            places.dtus.insert(DtuId(row.id), place);
        }
        Ok(places)
    }
}

/// The quantities in a meter's newest readings.
async fn last_quantities(tx: &mut PgConnection, meter: i32) -> Result<Vec<String>, DatabaseError> {
    let pointers = sqlx::query!(
        "SELECT ts, source, family FROM latest_reading WHERE meter_id = $1",
        meter
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut names = BTreeSet::new();
    for pointer in pointers {
        if let Some(table) = Table::by_code(pointer.family) {
            names.extend(in_columns(tx, table, meter, pointer.ts, pointer.source).await?);
        }
        names.extend(
            sqlx::query_scalar!(
                "SELECT quantity FROM reading_side WHERE ts = $1 AND meter_id = $2 AND source = $3",
                pointer.ts,
                meter,
                pointer.source
            )
            .fetch_all(&mut *tx)
            .await?,
        );
    }
    Ok(names.into_iter().collect())
}

async fn in_columns(
    tx: &mut PgConnection,
    table: Table,
    meter: i32,
    ts: DateTime<Utc>,
    source: i16,
) -> Result<Vec<String>, DatabaseError> {
    // a row as an object of its columns that have a value; the header's are no quantities
    let statement = format!(
        "SELECT key FROM {} r, jsonb_object_keys(jsonb_strip_nulls(to_jsonb(r))) AS key \
         WHERE r.ts = $1 AND r.meter_id = $2 AND r.source = $3",
        table.name()
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(ts)
        .bind(meter)
        .bind(source)
        .fetch_all(tx)
        .await?;
    let mut names = Vec::new();
    for row in rows {
        let key: String = row.try_get("key")?;
        if table.quantities().iter().any(|quantity| quantity.name() == key) {
            names.push(key);
        }
    }
    Ok(names)
}
