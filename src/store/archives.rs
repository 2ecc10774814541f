//! The archives of concentrators as we want them, and the audit of what is written to concentrators.

use super::handles::{AccountHandle, PgStores};
use super::mesh;
use crate::base::ids::DtuId;
use crate::domain::archive::{ArchiveChange, ArchiveEntry};
use crate::port::archive::{ArchiveStore, BothSides};
use crate::port::scan::{WriteOutcome, WrittenPlace};
use crate::port::scope::{InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

fn stored(entry: &ArchiveEntry) -> Result<Value, StoreError> {
    serde_json::to_value(entry).map_err(|error| StoreError::Internal(error.to_string()))
}

/// Writes entries; those of the same points are replaced.
async fn put(tx: &mut PgConnection, account: i32, dtu: DtuId, entries: &[ArchiveEntry]) -> Result<(), StoreError> {
    let points: Vec<i32> = entries.iter().map(|entry| entry.point.into()).collect();
    let values: Vec<Value> = entries.iter().map(stored).collect::<Result<_, _>>()?;
    sqlx::query!(
        "INSERT INTO archive_entry (dtu_id, account_id, point, entry)
         SELECT DISTINCT ON (t.point) $1::int, $2::int, t.point, t.entry FROM unnest($3::int[], $4::jsonb[]) AS t (point, entry)
         ON CONFLICT (dtu_id, point) DO UPDATE SET entry = excluded.entry",
        dtu.0,
        account,
        &points,
        &values
    )
    .execute(tx)
    .await?;
    Ok(())
}

impl InAccount<dyn ArchiveStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ArchiveStore> {
        Box::new(self.account(scope))
    }
}

#[async_trait]
impl ArchiveStore for AccountHandle {
    async fn both(&self, dtu: DtuId) -> Result<BothSides, StoreError> {
        let mut tx = self.begin().await?;
        mesh::check(&mut tx, dtu).await?;
        let rows = sqlx::query_scalar!(
            "SELECT entry FROM archive_entry WHERE dtu_id = $1 ORDER BY point",
            dtu.0
        )
        .fetch_all(&mut *tx)
        .await?;
        let here: Result<Vec<ArchiveEntry>, _> = rows.into_iter().map(serde_json::from_value).collect();
        let places = mesh::places(&mut tx, dtu).await?;
        Ok(BothSides {
            here: here.map_err(|error| StoreError::Internal(error.to_string()))?,
            read_at: places.iter().map(|place| place.read_at).min(),
            there: places.iter().map(|place| place.entry().settled()).collect(),
        })
    }

    async fn want(&self, dtu: DtuId, entries: &[ArchiveEntry], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        mesh::check(&mut tx, dtu).await?;
        let before = sqlx::query!("DELETE FROM archive_entry WHERE dtu_id = $1", dtu.0)
            .execute(&mut *tx)
            .await?
            .rows_affected();
        put(&mut tx, self.account.0, dtu, entries).await?;
        let detail = json!({ "from": { "points": before }, "to": { "points": entries.len() } });
        self.audit(&mut tx, now, "archive.set", &format!("dtu/{dtu}"), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn adopt(&self, dtu: DtuId, entries: &[ArchiveEntry]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        mesh::check(&mut tx, dtu).await?;
        put(&mut tx, self.account.0, dtu, entries).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn begin_write(&self, dtu: DtuId, changes: &[ArchiveChange], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        mesh::check(&mut tx, dtu).await?;
        let detail = json!({ "changes": changes });
        self.audit(&mut tx, now, "archive.write", &format!("dtu/{dtu}"), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    async fn end_write(
        &self,
        dtu: DtuId,
        written: &[WrittenPlace],
        failure: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let count = |outcome: WriteOutcome| written.iter().filter(|place| place.outcome == outcome).count();
        let other: Vec<&WrittenPlace> = written
            .iter()
            .filter(|place| place.outcome != WriteOutcome::Written)
            .collect();
        let detail = json!({ "written": count(WriteOutcome::Written), "other": other, "failure": failure });
        self.audit(&mut tx, now, "archive.written", &format!("dtu/{dtu}"), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
