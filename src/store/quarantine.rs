//! Claims in PostgreSQL. The code and the new DTU are one transaction, across accounts: a serial number is unique over
//! the server, and its code is checked before anybody owns it.

use super::handles::{PgStores, PlatformHandle};
use crate::base::ids::{AccountId, DtuId};
use crate::domain::device::SerialNumber;
use crate::port::quarantine::{ClaimCodeStore, ClaimProof, ClaimStore};
use crate::port::scope::{AcrossAccounts, Actor, InAccount, Scope, StoreError};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::json;

impl InAccount<dyn ClaimStore> for PgStores {
    fn in_account(&self, scope: Scope) -> Box<dyn ClaimStore> {
        Box::new(Claims {
            account: scope.account,
            handle: self.platform(scope.actor),
        })
    }
}

impl AcrossAccounts<dyn ClaimCodeStore> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn ClaimCodeStore> {
        Box::new(Codes(self.platform(actor)))
    }
}

struct Claims {
    account: AccountId,
    handle: PlatformHandle,
}

struct Codes(PlatformHandle);

#[async_trait]
impl ClaimStore for Claims {
    async fn claim(
        &self,
        sn: &SerialNumber,
        name: &str,
        proof: &ClaimProof,
        now: DateTime<Utc>,
    ) -> Result<Option<DtuId>, StoreError> {
        let mut tx = self.handle.begin().await?;
        if let ClaimProof::Code(hash) = proof {
            let used = sqlx::query!(
                "UPDATE claim_code SET used_at = $3 WHERE sn = $1 AND code_hash = $2 AND used_at IS NULL",
                sn.as_str(),
                hash.as_slice(),
                now
            )
            .execute(&mut *tx)
            .await?;
            if used.rows_affected() == 0 {
                return Ok(None);
            }
        }
        let id = sqlx::query_scalar!(
            "INSERT INTO dtu (account_id, sn, name, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (sn) WHERE deleted_at IS NULL DO NOTHING RETURNING id",
            self.account.0,
            sn.as_str(),
            name,
            now
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(id) = id else {
            return match proof {
                ClaimProof::Code(_) => Ok(None),
                ClaimProof::NotNeeded => Err(StoreError::Conflict {
                    field: Some("sn"),
                    message: "the serial number belongs to a DTU already".to_owned(),
                }),
            };
        };
        let object = format!("dtu/{id}");
        let detail = json!({"sn": sn, "name": name, "by_code": matches!(proof, ClaimProof::Code(_))});
        self.handle
            .audit(&mut tx, Some(self.account), now, "dtu.claim", &object, detail)
            .await?;
        tx.commit().await?;
        Ok(Some(DtuId(id)))
    }
}

#[async_trait]
impl ClaimCodeStore for Codes {
    async fn set(&self, sn: &SerialNumber, hash: &[u8; 32], now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        let owned = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM dtu WHERE sn = $1 AND deleted_at IS NULL) AS "owned!""#,
            sn.as_str()
        )
        .fetch_one(&mut *tx)
        .await?;
        if owned {
            return Err(StoreError::Conflict {
                field: Some("sn"),
                message: "the serial number belongs to a DTU already".to_owned(),
            });
        }
        sqlx::query!(
            "INSERT INTO claim_code (sn, code_hash, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (sn) DO UPDATE SET code_hash = excluded.code_hash, created_at = excluded.created_at, used_at = NULL",
            sn.as_str(),
            hash.as_slice(),
            now
        )
        .execute(&mut *tx)
        .await?;
        let object = format!("quarantine/{sn}");
        self.0
            .audit(&mut tx, None, now, "claim_code.set", &object, json!({}))
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
