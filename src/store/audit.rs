//! Reading the audit chain. Writing is `handles::append`, in each change's own transaction.

use super::handles::{PgStores, Reach};
use crate::base::hex;
use crate::base::ids::AccountId;
use crate::port::audit::{AuditEntry, AuditFilter, AuditStore};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;

impl InAccount<dyn AuditStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn AuditStore> {
        Box::new(Audit(Reach::Account(self.account(scope))))
    }
}

impl AcrossAccounts<dyn AuditStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn AuditStore> {
        Box::new(Audit(Reach::Platform(self.platform(actor))))
    }
}

struct Audit(Reach);

#[async_trait]
impl AuditStore for Audit {
    async fn list(&self, filter: &AuditFilter, before: Option<i64>, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
        let mut tx = self.0.begin().await?;
        let rows = sqlx::query!(
            "SELECT id, account_id, at, actor, action, object, detail, hash FROM audit
             WHERE ($1::timestamptz IS NULL OR at >= $1) AND ($2::timestamptz IS NULL OR at < $2)
               AND ($3::text IS NULL OR actor = $3) AND ($4::text IS NULL OR starts_with(action, $4))
               AND ($5::text IS NULL OR object = $5) AND ($6::bigint IS NULL OR id < $6)
             ORDER BY id DESC LIMIT $7",
            filter.from,
            filter.to,
            filter.actor,
            filter.action,
            filter.object,
            before,
            i64::from(limit)
        )
        .fetch_all(&mut *tx)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| AuditEntry {
                id: row.id,
                account_id: row.account_id.map(AccountId),
                at: row.at,
                actor: row.actor,
                action: row.action,
                object: row.object,
                detail: row.detail,
                hash: hex::encode(&row.hash).to_lowercase(),
            })
            .collect())
    }
}
