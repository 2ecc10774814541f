//! Events of concentrators in the database: once each, bounded, and their account's alone.

use super::ingest::at;
use super::two_accounts;
use crate::harness::db::TestDb;
use polyphase::base::ids::{AccountId, DtuId, TerminalEventId};
use polyphase::port::scope::{Actor, InAccount, Scope, StoreError};
use polyphase::port::terminal_events::{TerminalEvent, TerminalEventLog, TerminalEventStore, TerminalEventView};
use polyphase::store::PgStores;
use polyphase::store::terminal_events::PgTerminalEvents;
use sqlx::{Acquire, Executor};

fn event(code: u16, number: u8) -> TerminalEvent {
    TerminalEvent {
        important: code == 14,
        code,
        happened_at: (code != 33).then(|| "2026-03-01T11:45:00".parse().unwrap()),
        data: vec![0x45, 0x11, 0x01, 0x03, 0x26, number],
    }
}

async fn list(
    db: &TestDb,
    account: i32,
    dtu: i32,
    before: Option<TerminalEventId>,
) -> Result<Vec<TerminalEventView>, StoreError> {
    let scope = Scope {
        account: AccountId(account),
        actor: Actor::command_line(),
    };
    let events: Box<dyn TerminalEventStore> = PgStores::new(db.database().clone()).in_account(scope);
    events.list(DtuId(dtu), before, 3).await
}

#[tokio::test]
async fn a_record_is_kept_once_and_seen_by_its_account_alone() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    let log = PgTerminalEvents::new(db.database());
    let now = at("2026-11-21T10:00:00Z");
    assert_eq!(log.keep(DtuId(1), &[event(14, 1), event(33, 1)], now).await.unwrap(), 2);
    // the same again, beside a new one and twice in one list; of another code or concentrator it is another event
    let again = [event(14, 1), event(14, 2), event(14, 2), event(33, 1)];
    assert_eq!(log.keep(DtuId(1), &again, at("2026-11-21T11:00:00Z")).await.unwrap(), 1);
    assert_eq!(log.keep(DtuId(2), &[event(14, 1)], now).await.unwrap(), 1);
    assert_eq!(log.keep(DtuId(1), &[], now).await.unwrap(), 0);

    let seen = list(&db, 1, 1, None).await.unwrap();
    let shown: Vec<_> = seen
        .iter()
        .map(|event| (event.code, event.data.as_str(), event.important))
        .collect();
    assert_eq!(shown[0], (14, "451101032602", true), "the newest first");
    assert_eq!(shown.len(), 3);
    assert!(shown[1..].contains(&(33, "451101032601", false)) && shown[1..].contains(&(14, "451101032601", true)));
    assert_eq!((seen[0].found_at, seen[1].found_at), (at("2026-11-21T11:00:00Z"), now));
    assert_eq!(seen[0].name, "terminal lost or regained supply");
    let without = seen.iter().find(|event| event.code == 33).unwrap();
    assert_eq!(without.happened_at, None);
    let rest = list(&db, 1, 1, Some(seen[0].id)).await.unwrap();
    assert_eq!(rest, seen[1..]);

    assert_eq!(list(&db, 2, 2, None).await.unwrap().len(), 1);
    for (account, dtu) in [(1, 2), (2, 1), (1, 99)] {
        let foreign = list(&db, account, dtu, None).await;
        assert!(matches!(foreign, Err(StoreError::NotFound(_))), "{foreign:?}");
    }
    let mut transaction = db.database().scoped(AccountId(2)).begin().await.unwrap();
    let owners: Vec<i32> = sqlx::query_scalar("SELECT account_id FROM terminal_event")
        .fetch_all(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(owners, [2]);
    for forbidden in [
        "DELETE FROM terminal_event",
        "UPDATE terminal_event SET important = false",
        "INSERT INTO terminal_event (dtu_id, account_id, code, data, important, found_at) VALUES (2, 2, 1, '', true, now())",
    ] {
        let mut savepoint = transaction.begin().await.unwrap();
        let refused = savepoint
            .execute(forbidden)
            .await
            .map_err(polyphase::store::StoreError::from);
        assert!(
            matches!(refused, Err(polyphase::store::StoreError::Forbidden(_))),
            "{forbidden}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn of_each_concentrator_the_latest_ten_thousand_are_kept() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    db.sql(
        "INSERT INTO terminal_event (dtu_id, account_id, code, data, important, found_at)
         SELECT d, d, 3, int4send(n), false, '2026-01-01' FROM generate_series(1, 10000) n, generate_series(1, 2) d ORDER BY n, d",
    )
    .await;
    let log = PgTerminalEvents::new(db.database());
    let now = at("2026-11-21T10:00:00Z");
    assert_eq!(log.keep(DtuId(1), &[event(14, 1), event(14, 2)], now).await.unwrap(), 2);
    let rows: Vec<(i32, i64, String)> = sqlx::query_as(
        "SELECT dtu_id, count(*), min(encode(data, 'hex')) FILTER (WHERE code = 3) FROM terminal_event GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(&mut db.superuser().await)
    .await
    .unwrap();
    assert_eq!(
        rows,
        [(1, 10_000, "00000003".to_owned()), (2, 10_000, "00000001".to_owned())]
    );
}
