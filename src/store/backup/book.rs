//! What is done with backups, in the audit.

use crate::port::backups::BackupBook;
use crate::port::scope::{AcrossAccounts, Actor, StoreError};
use crate::store::handles::{PgStores, PlatformHandle};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;

struct Book(PlatformHandle);

impl AcrossAccounts<dyn BackupBook> for PgStores {
    fn across_accounts(&self, actor: Actor) -> Box<dyn BackupBook> {
        Box::new(Book(self.platform(actor)))
    }
}

#[async_trait]
impl BackupBook for Book {
    async fn note(&self, action: &str, id: &str, detail: Value, now: DateTime<Utc>) -> Result<(), StoreError> {
        let mut tx = self.0.begin().await?;
        self.0
            .audit(&mut tx, None, now, action, &format!("backup/{id}"), detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }
}
