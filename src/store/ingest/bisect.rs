//! Finds the rows that the database refuses, by halving: good rows land, bad ones come back with the reason.

use crate::store::StoreError;
use sqlx::{Connection, PgConnection};

/// A statement over many rows.
pub(super) trait Rows<R: Copy + Send + Sync>: Sync {
    /// Writes all rows or fails as a whole.
    fn put(&self, connection: &mut PgConnection, rows: &[R]) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Runs `put` within a savepoint, so that a refusal does not end the transaction.
pub(super) async fn guarded<R: Copy + Send + Sync, S: Rows<R>>(
    connection: &mut PgConnection,
    rows: &S,
    all: &[R],
) -> Result<Result<(), StoreError>, StoreError> {
    let mut savepoint = connection.begin().await?;
    match rows.put(&mut savepoint, all).await {
        Ok(()) => {
            savepoint.commit().await?;
            Ok(Ok(()))
        }
        Err(error) if error.is_data() => {
            savepoint.rollback().await?;
            Ok(Err(error))
        }
        Err(error) => Err(error),
    }
}

/// Writes every row that can be written; returns the others, each with the server's reason.
pub(super) async fn put_all<R: Copy + Send + Sync, S: Rows<R>>(
    connection: &mut PgConnection,
    rows: &S,
    all: &[R],
) -> Result<Vec<(R, StoreError)>, StoreError> {
    let mut bad = Vec::new();
    // what is left to do; a part that fails is replaced by its halves, so the depth is log2 of the batch
    let mut parts = vec![all];
    while let Some(part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        match (guarded(connection, rows, part).await?, part) {
            (Ok(()), _) => {}
            (Err(error), [row]) => bad.push((*row, error)),
            (Err(_), _) => {
                let (left, right) = part.split_at(part.len() / 2);
                parts.push(right);
                parts.push(left);
            }
        }
    }
    Ok(bad)
}
