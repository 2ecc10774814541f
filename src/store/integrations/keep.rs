//! What is dropped from the feed, and what is counted of it.

use super::{PgFeed, positive};
use crate::port::integrations::{FeedFill, IntegrationKind};
use crate::port::scope::StoreError;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

impl PgFeed {
    pub(super) async fn drop_rows(&self, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        // what everybody has, what nobody waits for any more, and what is too old
        let doomed = sqlx::query_scalar!(
            "SELECT f.seq FROM feed f
             LEFT JOIN (SELECT i.account_id, min(s.seq) AS floor
                        FROM integration i JOIN integration_state s ON s.integration_id = i.id
                        WHERE i.deleted_at IS NULL GROUP BY i.account_id) AS behind ON behind.account_id = f.account_id
             WHERE f.at < $1 OR behind.floor IS NULL OR f.seq < behind.floor
             ORDER BY f.seq LIMIT $2",
            before,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        if doomed.is_empty() {
            return Ok(0);
        }
        sqlx::query!(
            "UPDATE integration_state s SET lost = s.lost + d.items, lost_untold = s.lost_untold + d.items
             FROM (SELECT c.integration_id,
                          sum(f.items - CASE WHEN f.seq = c.seq THEN least(c.part, f.items) ELSE 0 END)::bigint AS items
                   FROM feed f
                   JOIN integration_state c ON c.account_id = f.account_id AND f.seq >= c.seq
                   JOIN integration i ON i.id = c.integration_id AND i.deleted_at IS NULL AND f.topic = ANY (i.topics)
                   WHERE f.seq = ANY ($1)
                   GROUP BY c.integration_id) AS d
             WHERE d.integration_id = s.integration_id AND d.items > 0",
            &doomed
        )
        .execute(&mut *tx)
        .await?;
        let done = sqlx::query!("DELETE FROM feed WHERE seq = ANY ($1)", &doomed)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn count(&self) -> Result<FeedFill, StoreError> {
        let rows = sqlx::query_scalar!("SELECT count(*) FROM feed")
            .fetch_one(&self.pool)
            .await?;
        let found = sqlx::query!(
            r#"SELECT i.kind, count(*) FILTER (WHERE i.enabled AND s.stopped_at IS NULL AND s.attempts = 0) AS "working!",
                      count(*) FILTER (WHERE i.enabled AND s.stopped_at IS NULL AND s.attempts > 0) AS "failing!",
                      count(*) FILTER (WHERE i.enabled AND s.stopped_at IS NOT NULL) AS "stopped!",
                      count(*) FILTER (WHERE NOT i.enabled) AS "off!",
                      min(w.at) FILTER (WHERE i.enabled AND s.stopped_at IS NULL) AS oldest
               FROM integration i JOIN integration_state s ON s.integration_id = i.id
               LEFT JOIN LATERAL (
                   SELECT f.at FROM feed f
                   WHERE f.account_id = i.account_id AND f.topic = ANY (i.topics)
                     AND (f.seq > s.seq OR f.seq = s.seq AND s.part < f.items)
                   ORDER BY f.seq LIMIT 1) AS w ON true
               WHERE i.deleted_at IS NULL GROUP BY i.kind"#
        )
        .fetch_all(&self.pool)
        .await?;
        let mut by_kind: BTreeMap<&'static str, (IntegrationKind, [u64; 4])> = IntegrationKind::ALL
            .into_iter()
            .map(|kind| (kind.as_str(), (kind, [0; 4])))
            .collect();
        let mut oldest = Vec::new();
        for row in found {
            let Some(kind) = IntegrationKind::by_name(&row.kind) else {
                continue;
            };
            let counts = [row.working, row.failing, row.stopped, row.off].map(positive);
            by_kind.insert(kind.as_str(), (kind, counts));
            oldest.extend(row.oldest.map(|at| (kind, at)));
        }
        Ok(FeedFill {
            rows: positive(rows.unwrap_or(0)),
            integrations: by_kind.into_values().collect(),
            oldest,
        })
    }
}
