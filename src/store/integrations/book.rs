//! Integrations of an account, as the API edits them. Neither a target's path, which may hold a key of the far side, nor a
//! password stands in the audit.

use super::{Row, names, positive};
use crate::base::ids::{GroupId, IntegrationId};
use crate::port::integrations::{IntegrationBook, IntegrationSpec, Lag, NewPassword, StoredIntegration};
use crate::port::scope::{InAccount, Scope, StoreError};
use crate::store::handles::{AccountHandle, PgStores, lock_versioned};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// The most integrations of an account.
const INTEGRATIONS_MAX: i64 = 50;
/// Items of a lag are counted in so many rows; beyond, it is more.
const LAG_ROWS_MAX: i64 = 20_000;

impl InAccount<dyn IntegrationBook> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn IntegrationBook> {
        Box::new(self.account(scope))
    }
}

async fn rows(
    tx: &mut PgConnection,
    only: Option<IntegrationId>,
    after: Option<IntegrationId>,
    limit: u32,
    now: DateTime<Utc>,
) -> Result<Vec<(StoredIntegration, Lag)>, StoreError> {
    let found = sqlx::query_as!(
        Row,
        "SELECT i.id, i.account_id, i.name, i.kind, i.target, i.login, i.sealed, i.topics, i.group_id, i.quantities,
                i.options, i.enabled, i.salt, i.old_salt, i.old_salt_until, i.created_at, i.version, s.seq, s.part,
                s.sending, s.sending_seq, s.sending_part, s.delivered, s.lost, s.lost_untold, s.attempts,
                s.failing_since, s.next_at, s.last_error, s.last_success_at, s.stopped_at, s.cleared_at
         FROM integration i JOIN integration_state s ON s.integration_id = i.id
         WHERE i.deleted_at IS NULL AND ($1::int IS NULL OR i.id = $1) AND ($2::int IS NULL OR i.id > $2)
         ORDER BY i.id LIMIT $3",
        only.map(|id| id.0),
        after.map(|id| id.0),
        i64::from(limit)
    )
    .fetch_all(&mut *tx)
    .await?;
    let mut out = Vec::with_capacity(found.len());
    for row in found {
        let lag = lag(tx, &row).await?;
        out.push((row.stored(now)?, lag));
    }
    Ok(out)
}

async fn lag(tx: &mut PgConnection, row: &Row) -> Result<Lag, StoreError> {
    let found = sqlx::query!(
        "SELECT sum(w.items - CASE WHEN w.seq = $2 THEN least($3::int, w.items) ELSE 0 END)::bigint AS items, min(w.at) AS oldest
         FROM (SELECT f.seq, f.items, f.at FROM feed f
               WHERE f.account_id = $1 AND f.topic = ANY ($4) AND (f.seq > $2 OR f.seq = $2 AND f.items > $3::int)
               ORDER BY f.seq LIMIT $5) AS w",
        row.account_id,
        row.seq,
        row.part,
        &row.topics,
        LAG_ROWS_MAX
    )
    .fetch_one(tx)
    .await?;
    Ok(Lag {
        items: positive(found.items.unwrap_or(0)),
        oldest: found.oldest,
    })
}

async fn find(
    tx: &mut PgConnection,
    id: IntegrationId,
    now: DateTime<Utc>,
) -> Result<(StoredIntegration, Lag), StoreError> {
    let found = rows(tx, Some(id), None, 1, now).await?.pop();
    found.ok_or(StoreError::NotFound("integration"))
}

async fn lock(tx: &mut PgConnection, id: IntegrationId, version: Option<i32>) -> Result<(), StoreError> {
    lock_versioned!(tx, "integration", "integration", id, version)
}

async fn check_group(tx: &mut PgConnection, group: Option<GroupId>) -> Result<(), StoreError> {
    let Some(group) = group else { return Ok(()) };
    let there = sqlx::query_scalar!(
        "SELECT id FROM meter_group WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
        group.0
    )
    .fetch_optional(tx)
    .await?;
    there.map(|_| ()).ok_or_else(|| StoreError::Invalid {
        field: "group_id",
        message: format!("there is no group {group}"),
    })
}

fn to_json(spec: &IntegrationSpec) -> Result<Value, StoreError> {
    serde_json::to_value(&spec.options).map_err(|error| StoreError::Internal(error.to_string()))
}

/// Scheme and host of a target.
fn site(target: &str) -> String {
    let (scheme, rest) = target.split_once("://").unwrap_or(("", target));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

fn audited(spec: &IntegrationSpec) -> Value {
    json!({ "name": spec.name, "kind": spec.kind, "site": site(&spec.target), "topics": spec.topics,
            "group_id": spec.group, "quantities": spec.quantities, "options": spec.options, "enabled": spec.enabled })
}

#[async_trait]
impl IntegrationBook for AccountHandle {
    async fn list(
        &self,
        after: Option<IntegrationId>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<Vec<(StoredIntegration, Lag)>, StoreError> {
        let mut tx = self.begin().await?;
        rows(&mut tx, None, after, limit, now).await
    }

    async fn get(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<(StoredIntegration, Lag), StoreError> {
        let mut tx = self.begin().await?;
        find(&mut tx, id, now).await
    }

    async fn add(
        &self,
        spec: &IntegrationSpec,
        sealed: Option<Vec<u8>>,
        now: DateTime<Utc>,
    ) -> Result<StoredIntegration, StoreError> {
        let mut tx = self.begin().await?;
        check_group(&mut tx, spec.group).await?;
        let present = sqlx::query_scalar!("SELECT count(*) FROM integration WHERE deleted_at IS NULL")
            .fetch_one(&mut *tx)
            .await?;
        if present.unwrap_or(0) >= INTEGRATIONS_MAX {
            return Err(StoreError::Conflict {
                field: None,
                message: format!("there can be at most {INTEGRATIONS_MAX} integrations; delete some first"),
            });
        }
        let id = sqlx::query_scalar!(
            "INSERT INTO integration (account_id, name, kind, target, login, sealed, topics, group_id, quantities, options,
                                      enabled, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING id",
            self.account.0,
            spec.name,
            spec.kind.as_str(),
            spec.target,
            spec.login,
            sealed as Option<Vec<u8>>,
            &names(&spec.topics),
            spec.group.map(|group| group.0) as Option<i32>,
            &spec.quantities,
            to_json(spec)?,
            spec.enabled,
            now
        )
        .fetch_one(&mut *tx)
        .await?;
        // from now on: behind everything that is there
        sqlx::query!(
            "INSERT INTO integration_state (integration_id, account_id, seq, part, cleared_at)
             SELECT $1, $2, coalesce((SELECT max(seq) FROM feed WHERE account_id = $2), 0), 2147483647, $3",
            id,
            self.account.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        let (made, _) = find(&mut tx, IntegrationId(id), now).await?;
        self.commit_audited(tx, now, ("integration", "create", &id), audited(spec))
            .await?;
        Ok(made)
    }

    async fn set(
        &self,
        id: IntegrationId,
        spec: &IntegrationSpec,
        password: NewPassword,
        version: Option<i32>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        let (before, _) = find(&mut tx, id, now).await?;
        if spec.group != before.spec.group {
            check_group(&mut tx, spec.group).await?;
        }
        let changed = password != NewPassword::Keep;
        let sealed = match password {
            NewPassword::Keep => before.sealed,
            NewPassword::Remove => None,
            NewPassword::Sealed(sealed) => Some(sealed),
        };
        sqlx::query!(
            "UPDATE integration SET name = $2, target = $3, login = $4, sealed = $5, topics = $6, group_id = $7,
                    quantities = $8, options = $9, enabled = $10, version = version + 1
             WHERE id = $1",
            id.0,
            spec.name,
            spec.target,
            spec.login,
            sealed as Option<Vec<u8>>,
            &names(&spec.topics),
            spec.group.map(|group| group.0) as Option<i32>,
            &spec.quantities,
            to_json(spec)?,
            spec.enabled
        )
        .execute(&mut *tx)
        .await?;
        // what was on its way is put together anew, and nobody waits for the next attempt of what may be right now
        sqlx::query!(
            "UPDATE integration_state SET sending = NULL, sending_seq = NULL, sending_part = NULL, next_at = NULL
             WHERE integration_id = $1",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        let detail = json!({ "from": audited(&before.spec), "to": audited(spec), "password_changed": changed });
        self.commit_audited(tx, now, ("integration", "update", &id), detail)
            .await
    }

    async fn new_salt(
        &self,
        id: IntegrationId,
        old_until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, None).await?;
        sqlx::query!(
            "UPDATE integration SET old_salt = salt, old_salt_until = $2, salt = gen_random_uuid(), version = version + 1
             WHERE id = $1",
            id.0,
            old_until
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("integration", "secret", &id), json!({}))
            .await
    }

    async fn resume(&self, id: IntegrationId, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, None).await?;
        sqlx::query!(
            "UPDATE integration_state SET stopped_at = NULL, attempts = 0, failing_since = NULL, next_at = NULL
             WHERE integration_id = $1",
            id.0
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!("UPDATE integration SET version = version + 1 WHERE id = $1", id.0)
            .execute(&mut *tx)
            .await?;
        self.commit_audited(tx, now, ("integration", "resume", &id), json!({}))
            .await
    }

    async fn remove(&self, id: IntegrationId, version: Option<i32>, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        lock(&mut tx, id, version).await?;
        sqlx::query!(
            "UPDATE integration SET deleted_at = $2, sealed = NULL, version = version + 1 WHERE id = $1",
            id.0,
            now
        )
        .execute(&mut *tx)
        .await?;
        self.commit_audited(tx, now, ("integration", "delete", &id), json!({}))
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audit_has_the_host_alone() {
        assert_eq!(site("https://a.example:8443/hook/KEY?x=1"), "https://a.example:8443");
        assert_eq!(site("mqtts://broker.example"), "mqtts://broker.example");
        assert_eq!(site("https://a.example?key=1"), "https://a.example");
    }
}
