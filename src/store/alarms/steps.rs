//! The one place where a step of an alarm is written, by the rules and by people alike, in the transaction of its cause.

use crate::domain::alarm::AlarmEdge;
use crate::store::{StoreError, notices};
use sqlx::PgConnection;

/// Characters of a note; longer ones are cut.
pub(super) const NOTE_MAX: usize = 2_000;

/// Writes a step down. Whatever has to follow from it with certainty (notices) belongs here, into the same transaction.
pub(super) async fn write(tx: &mut PgConnection, edge: &AlarmEdge, note: &str) -> Result<(), StoreError> {
    let note: String = note.chars().take(NOTE_MAX).collect();
    sqlx::query!(
        "INSERT INTO alarm_edge (alarm_id, account_id, at, step, actor, note, quiet) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        edge.alarm.0,
        edge.account.map(|account| account.0) as Option<i32>,
        edge.at,
        edge.step.as_str(),
        edge.actor,
        note,
        edge.quiet
    )
    .execute(&mut *tx)
    .await?;
    if edge.is_news() {
        notices::tell(tx, edge).await?;
    }
    Ok(())
}
