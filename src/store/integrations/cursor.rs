//! How far each integration is, and what becomes of one that fails for days.

use super::{PgFeed, Row, positive};
use crate::base::ids::{AccountId, IntegrationId};
use crate::domain::integration::Position;
use crate::domain::notice::{Edge, Happening, Severity};
use crate::port::integrations::StoredIntegration;
use crate::port::scope::StoreError;
use crate::store::notices;
use chrono::{DateTime, Utc};
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The longest error that is kept, characters.
const ERROR_MAX: usize = 500;
/// Who stops an integration, in the audit.
const ACTOR: &str = "integrations";

impl PgFeed {
    pub(super) async fn read_active(
        &self,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<StoredIntegration>, StoreError> {
        sqlx::query_as!(
            Row,
            "SELECT i.id, i.account_id, i.name, i.kind, i.target, i.login, i.sealed, i.topics, i.group_id, i.quantities,
                    i.options, i.enabled, i.salt, i.old_salt, i.old_salt_until, i.created_at, i.version, s.seq, s.part,
                    s.sending, s.sending_seq, s.sending_part, s.delivered, s.lost, s.lost_untold, s.attempts,
                    s.failing_since, s.next_at, s.last_error, s.last_success_at, s.stopped_at, s.cleared_at
             FROM integration i JOIN integration_state s ON s.integration_id = i.id
             WHERE i.deleted_at IS NULL AND i.enabled AND s.stopped_at IS NULL
             ORDER BY i.id LIMIT $1",
            i64::from(limit)
        )
        .fetch_all(&self.pool)
        .await?
        .into_iter()
        .map(|row| row.stored(now))
        .collect()
    }

    pub(super) async fn write_intention(
        &self,
        id: IntegrationId,
        sending: Uuid,
        to: Position,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE integration_state SET sending = $2, sending_seq = $3, sending_part = $4 WHERE integration_id = $1",
            id.0,
            sending,
            to.seq,
            to.part
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn write_delivery(
        &self,
        id: IntegrationId,
        to: Position,
        items: u64,
        lost_told: u64,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        // never back: an edit or a restore may have moved it meanwhile
        let untold = sqlx::query_scalar!(
            "UPDATE integration_state
             SET seq = $2, part = $3, sending = NULL, sending_seq = NULL, sending_part = NULL,
                 delivered = delivered + $4, lost_untold = greatest(lost_untold - $5, 0), attempts = 0,
                 failing_since = NULL, next_at = NULL, last_error = NULL,
                 last_success_at = CASE WHEN $4 > 0 THEN $6 ELSE last_success_at END
             WHERE integration_id = $1 AND (seq, part) <= ($2, $3)
             RETURNING lost_untold",
            id.0,
            to.seq,
            to.part,
            number(items),
            number(lost_told),
            now
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(untold.map_or(0, positive))
    }

    pub(super) async fn write_failure(
        &self,
        id: IntegrationId,
        error: &str,
        next: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let error: String = error.chars().filter(|c| !c.is_control()).take(ERROR_MAX).collect();
        sqlx::query!(
            "UPDATE integration_state
             SET attempts = attempts + 1, failing_since = coalesce(failing_since, $4), next_at = $3, last_error = $2
             WHERE integration_id = $1",
            id.0,
            error,
            next,
            now
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn write_stop(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let stopped = sqlx::query!(
            "UPDATE integration_state s SET stopped_at = $2, next_at = NULL
             FROM integration i
             WHERE s.integration_id = $1 AND i.id = $1 AND s.stopped_at IS NULL AND i.deleted_at IS NULL
             RETURNING s.account_id, i.name, i.kind, s.failing_since, s.last_error",
            id.0,
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(row) = stopped else { return Ok(false) };
        let mut facts = BTreeMap::from([("note".to_owned(), row.name)]);
        facts.extend(row.failing_since.map(|since| ("since".to_owned(), since.to_rfc3339())));
        let object = format!("integration/{id}");
        let happening = Happening {
            account: AccountId(row.account_id),
            subject: object.clone(),
            edge: Edge::Raised,
            severity: Severity::Warning,
            kind: "integration_stopped".to_owned(),
            facts,
            groups: Vec::new(),
            at: now,
        };
        notices::enqueue(&mut tx, happening, false).await?;
        sqlx::query_scalar!(
            "SELECT audit_append($1, $2, $3, 'integration.stop', $4, $5)",
            row.account_id,
            now,
            ACTOR,
            object,
            json!({ "kind": row.kind, "failing_since": row.failing_since, "error": row.last_error })
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    pub(super) async fn write_cleared(&self, id: IntegrationId, at: DateTime<Utc>) -> Result<(), StoreError> {
        sqlx::query!(
            "UPDATE integration_state SET cleared_at = greatest(cleared_at, $2) WHERE integration_id = $1",
            id.0,
            at
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}
