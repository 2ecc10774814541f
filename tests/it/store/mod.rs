//! The store against a real PostgreSQL, under the roles of production.

mod access;
mod alarms;
mod embedded;
mod fleet;
mod grafana;
mod ingest;
mod meter_hours;
mod pointers;
mod rollup;
mod slot_summary;
mod terminal_events;

use crate::harness::db::TestDb;
use polyphase::base::ids::AccountId;
use polyphase::store::{Database, StoreError};
use sqlx::Row;

async fn two_accounts(db: &TestDb) {
    db.sql(
        "INSERT INTO account (name, created_at) VALUES ('a', now()), ('b', now());
         INSERT INTO dtu (account_id, sn, name, created_at) VALUES (1, 'SN-A', 'a', now()), (2, 'SN-B', 'b', now())",
    )
    .await;
}

#[tokio::test]
async fn migrates_from_empty_and_again() {
    let db = TestDb::blank().await;
    Database::migrate(&db.url()).await.unwrap();
    Database::migrate(&db.url()).await.unwrap();
    let database = Database::connect(&db.settings()).await.unwrap();
    database.ping().await.unwrap();
    database.close().await;
}

#[tokio::test]
async fn an_account_sees_its_own_rows_alone() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    for (account, sn) in [(1, "SN-A"), (2, "SN-B")] {
        let mut transaction = db.database().scoped(AccountId(account)).begin().await.unwrap();
        let rows = sqlx::query("SELECT sn FROM dtu")
            .fetch_all(&mut *transaction)
            .await
            .unwrap();
        let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(seen, [sn]);
        let other = sqlx::query("INSERT INTO dtu (account_id, sn, name, created_at) VALUES ($1, 'X', 'x', now())")
            .bind(3 - account)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from);
        assert!(matches!(other, Err(StoreError::Forbidden(_))), "{other:?}");
    }
}
