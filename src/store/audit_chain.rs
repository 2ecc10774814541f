//! The audit chain as a whole: its head, for checkpoints outside the database, and the check of every entry.

use super::{Database, StoreError};
use crate::base::hex;
use crate::port::audit::{ChainFault, ChainHead, Checkpoint};
use chrono::{DateTime, Utc};

/// Entries checked in one statement.
const PAGE: i64 = 5_000;

/// The chain of a database.
#[derive(Clone, Debug)]
pub struct AuditChain(Database);

impl AuditChain {
    /// Of this database.
    pub fn new(database: &Database) -> Self {
        Self(database.clone())
    }

    /// The newest entry; none: there is none yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn head(&self) -> Result<Option<ChainHead>, StoreError> {
        let mut tx = self.0.platform().begin().await?;
        let row = sqlx::query!("SELECT id, at, hash FROM audit ORDER BY id DESC LIMIT 1")
            .fetch_optional(&mut *tx)
            .await?;
        Ok(row.map(|row| head(row.id, row.at, &row.hash)))
    }

    /// Checks every entry against the one before and against its own hash, and the checkpoints against the entries.
    /// Answers the head, or the first fault.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn verify(
        &self,
        checkpoints: &[Checkpoint],
    ) -> Result<Result<Option<ChainHead>, ChainFault>, StoreError> {
        let mut tx = self.0.platform().begin().await?;
        let mut last: Option<ChainHead> = None;
        let mut previous: Option<Vec<u8>> = None;
        let mut expected = checkpoints.iter().peekable();
        loop {
            let after = last.as_ref().map_or(0, |head| head.id);
            let rows = sqlx::query!(
                r#"SELECT id, at, hash, prev_hash,
                          hash = audit_digest(prev_hash, id, account_id, at, actor, action, object, detail) AS "own!"
                   FROM audit WHERE id > $1 ORDER BY id LIMIT $2"#,
                after,
                PAGE
            )
            .fetch_all(&mut *tx)
            .await?;
            if rows.is_empty() {
                break;
            }
            for row in rows {
                let wanted = last.as_ref().map_or(1, |head| head.id + 1);
                if row.id != wanted {
                    return Ok(Err(ChainFault::Removed { id: wanted }));
                }
                let fits = previous.as_ref().is_none_or(|previous| *previous == row.prev_hash);
                if !row.own || !fits {
                    return Ok(Err(ChainFault::Edited { id: row.id }));
                }
                let entry = head(row.id, row.at, &row.hash);
                while let Some(checkpoint) = expected.next_if(|checkpoint| checkpoint.id <= entry.id) {
                    if checkpoint.id == entry.id && checkpoint.hash != entry.hash {
                        return Ok(Err(ChainFault::Rewritten { id: entry.id }));
                    }
                }
                previous = Some(row.hash);
                last = Some(entry);
            }
        }
        // what was written down outside and is not here any more was cut off
        match expected.next() {
            Some(checkpoint) => Ok(Err(ChainFault::Truncated {
                id: last.map_or(0, |head| head.id),
                known: checkpoints.last().map_or(checkpoint.id, |last| last.id),
            })),
            None => Ok(Ok(last)),
        }
    }
}

fn head(id: i64, at: DateTime<Utc>, hash: &[u8]) -> ChainHead {
    ChainHead {
        id,
        at,
        hash: hex::encode(hash).to_lowercase(),
    }
}
