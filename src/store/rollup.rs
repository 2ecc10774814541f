//! Roll-ups (placeholder until domain::consumption lands).
use super::StoreError;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
pub(super) async fn run(_pool: &PgPool, _now: DateTime<Utc>) -> Result<u64, StoreError> {
    Ok(0)
}
