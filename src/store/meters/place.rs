//! Which meter stands where: installations are opened, closed and never overlap.

use crate::base::ids::{AccountId, MeterId, PointId};
use crate::port::meters::NewMeter;
use crate::port::scope::StoreError;
use crate::store::StoreError as Failure;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::PgConnection;

/// What a clash of addresses or places means.
pub(super) fn placed(error: sqlx::Error) -> StoreError {
    let failure = Failure::from(error);
    let (field, message) = match failure.unique() {
        Some("meter_line_address") => (
            "address",
            "another meter with this protocol and address is on that DTU's line already",
        ),
        Some("installation_point_once") => (
            "point_id",
            "another meter stands at that point; use its exchange, or delete it first",
        ),
        Some("installation_meter_once") => ("at", "the meter stands somewhere else at that time"),
        _ => return failure.into(),
    };
    StoreError::Conflict {
        field: Some(field),
        message: message.to_owned(),
    }
}

/// One line of the history of who stood where.
pub(super) struct Stand {
    pub(super) point: PointId,
    pub(super) meter: MeterId,
    pub(super) from: DateTime<Utc>,
    pub(super) ct_ratio: Decimal,
    pub(super) vt_ratio: Decimal,
    pub(super) opening: Value,
}

pub(super) async fn insert_installation(
    tx: &mut PgConnection,
    account: AccountId,
    stand: &Stand,
) -> Result<(), StoreError> {
    sqlx::query!(
        "INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio, vt_ratio, opening)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        account.0,
        stand.point.0,
        stand.meter.0,
        stand.from,
        stand.ct_ratio,
        stand.vt_ratio,
        stand.opening
    )
    .execute(&mut *tx)
    .await
    .map_err(placed)?;
    Ok(())
}

/// The point where a new meter will stand: the one that is named, else a new one.
pub(super) async fn place(
    tx: &mut PgConnection,
    account: AccountId,
    meter: &NewMeter,
    now: DateTime<Utc>,
) -> Result<PointId, StoreError> {
    let Some(point) = meter.point else {
        return sqlx::query_scalar!(
            "INSERT INTO metering_point (account_id, name, group_id, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
            account.0,
            meter.name,
            meter.group.map(|id| id.0),
            now
        )
        .fetch_one(&mut *tx)
        .await
        .map(PointId)
        .map_err(StoreError::from);
    };
    sqlx::query_scalar!(
        "SELECT id FROM metering_point WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",
        point.0
    )
    .fetch_optional(&mut *tx)
    .await?
    .map(PointId)
    .ok_or_else(|| StoreError::Invalid {
        field: "point_id",
        message: format!("there is no metering point {point}"),
    })
}

pub(super) struct OpenStand {
    id: i32,
    pub(super) point: PointId,
    pub(super) from: DateTime<Utc>,
    pub(super) ct_ratio: Decimal,
    pub(super) vt_ratio: Decimal,
}

pub(super) async fn open_stand(tx: &mut PgConnection, meter: MeterId) -> Result<Option<OpenStand>, StoreError> {
    let row = sqlx::query!(
        "SELECT id, point_id, valid_from, ct_ratio, vt_ratio FROM installation
         WHERE meter_id = $1 AND valid_to IS NULL FOR UPDATE",
        meter.0
    )
    .fetch_optional(&mut *tx)
    .await?;
    Ok(row.map(|row| OpenStand {
        id: row.id,
        point: PointId(row.point_id),
        from: row.valid_from,
        ct_ratio: row.ct_ratio,
        vt_ratio: row.vt_ratio,
    }))
}

/// Ends an installation; one that would end at or before its beginning never was.
pub(super) async fn close_stand(
    tx: &mut PgConnection,
    stand: &OpenStand,
    at: DateTime<Utc>,
    closing: &Value,
) -> Result<(), StoreError> {
    if at <= stand.from {
        sqlx::query!("DELETE FROM installation WHERE id = $1", stand.id)
            .execute(&mut *tx)
            .await?;
    } else {
        sqlx::query!(
            "UPDATE installation SET valid_to = $2, closing = $3 WHERE id = $1",
            stand.id,
            at,
            closing
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
