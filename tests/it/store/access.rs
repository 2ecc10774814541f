//! Who may do what: row level security and grants of every table, under the real roles and a login that is no superuser.

use super::ingest::{at, reading, record, store};
use super::two_accounts;
use crate::harness::db::TestDb;
use polyphase::base::ids::AccountId;
use polyphase::port::ledger::ReadingStore;
use polyphase::store::{Database, DatabaseSettings, StoreError};
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::collections::BTreeSet;

/// Tables without an account, each with the reason why none is needed.
const WITHOUT_ACCOUNT: &[(&str, &str)] = &[
    ("_sqlx_migrations", "the schema's own"),
    ("alarm_mark", "one instant for the whole server"),
    ("claim_code", "by SN, before an account has it; platform only"),
    ("consumption_round", "one number for the whole server"),
    ("control_clock", "the high-water mark of time is the server's"),
    ("watermark", "one instant for the whole server"),
];

async fn rows<T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>>(
    db: &TestDb,
    query: &'static str,
) -> Vec<T> {
    sqlx::query_scalar(query)
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn every_table_of_an_account_is_under_row_level_security() {
    let db = TestDb::new().await;
    let tables: BTreeSet<String> = rows(
        &db,
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition",
    )
    .await
    .into_iter()
    .collect();
    let protected: BTreeSet<String> = rows(
        &db,
        "SELECT c.relname::text FROM pg_class c
         WHERE c.relrowsecurity AND (
             SELECT count(*) FROM pg_policy p JOIN pg_roles r ON r.oid = ANY (p.polroles)
             WHERE p.polrelid = c.oid AND r.rolname = 'polyphase_app'
               AND pg_get_expr(p.polqual, p.polrelid) LIKE '%current_account()%'
               AND pg_get_expr(p.polwithcheck, p.polrelid) LIKE '%current_account()%') = 1",
    )
    .await
    .into_iter()
    .collect();
    let excused: BTreeSet<String> = WITHOUT_ACCOUNT
        .iter()
        .map(|(table, _)| (*table).to_owned())
        .chain(["grafana_login".to_owned()]) // under its own policy, by login
        .collect();
    let open: Vec<&String> = tables
        .difference(&protected)
        .filter(|table| !excused.contains(*table))
        .collect();
    assert!(open.is_empty(), "without row level security by account: {open:?}");
    let with_account: Vec<String> = rows(
        &db,
        "SELECT table_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND column_name = 'account_id' AND table_name NOT LIKE '%\\_2%'",
    )
    .await;
    let wrongly: Vec<&String> = with_account
        .iter()
        .filter(|table| excused.contains(*table) && *table != "grafana_login")
        .collect();
    assert!(wrongly.is_empty(), "has an account but is excused: {wrongly:?}");
}

#[tokio::test]
async fn nobody_but_the_owner_can_do_more_than_the_work_needs() {
    let db = TestDb::new().await;
    store(&db).await; // makes partitions
    let beyond: Vec<String> = rows(
        &db,
        "SELECT grantee || ' ' || privilege_type || ' ' || table_name FROM information_schema.role_table_grants
         WHERE table_schema = 'public' AND (
             -- history is appended to, never changed
             (table_name = 'audit' AND grantee <> 'polyphase_owner' AND privilege_type <> 'SELECT')
             OR (table_name IN ('slot_ending', 'reading_electricity', 'reading_fluid', 'reading_side',
                                'reading_conflict', 'reading_rejected')
                 AND grantee <> 'polyphase_owner' AND privilege_type NOT IN ('SELECT', 'INSERT'))
             -- the API does not write readings
             OR (table_name LIKE 'reading%' AND grantee IN ('polyphase_app', 'polyphase_platform')
                 AND privilege_type <> 'SELECT')
             OR (grantee = 'polyphase_grafana' AND privilege_type <> 'SELECT')
             OR (grantee = 'polyphase_grafana'
                 AND table_name IN ('app_user', 'api_key', 'login_session', 'audit', 'frame_evidence'))
             OR privilege_type IN ('TRUNCATE', 'TRIGGER', 'REFERENCES') AND grantee <> 'polyphase_owner'
             OR grantee = 'PUBLIC')",
    )
    .await;
    assert!(beyond.is_empty(), "{beyond:?}");
    // a partition has no policy, so only the storage path may touch it
    let partitions: Vec<String> = rows(
        &db,
        "SELECT g.grantee || ' ' || g.table_name FROM information_schema.role_table_grants g
         JOIN pg_class c ON c.relname = g.table_name AND c.relispartition
         WHERE g.grantee NOT IN ('polyphase_owner', 'polyphase_ingest')",
    )
    .await;
    assert!(partitions.is_empty(), "{partitions:?}");
    let roles: Vec<String> = rows(
        &db,
        "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'polyphase\\_%'
         AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb)",
    )
    .await;
    assert!(roles.is_empty(), "{roles:?}");
}

/// A login that owns its database and may make roles, as OPERATIONS.md asks for. Gone with the database's owner.
async fn own_login(db: &TestDb) -> secrecy::SecretString {
    let login = db.name.replace("polyphase_test", "login_polyphase");
    db.sql(&format!(
        "CREATE ROLE {login} LOGIN CREATEROLE PASSWORD 'x'; ALTER DATABASE {} OWNER TO {login}",
        db.name
    ))
    .await;
    let url = db.url();
    let (scheme, rest) = url.expose_secret().split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}://{login}:x@{place}").into()
}

#[tokio::test]
async fn one_login_that_is_no_superuser_is_enough() {
    let db = TestDb::blank().await;
    let url = own_login(&db).await;
    Database::migrate(&url).await.unwrap();
    Database::migrate(&url).await.unwrap();
    let settings = DatabaseSettings {
        app_connections: 2,
        ingest_connections: 2,
        platform_connections: 2,
        ..DatabaseSettings::new(url)
    };
    let database = Database::connect(&settings).await.unwrap();
    two_accounts(&db).await;
    let mut transaction = database.platform().begin().await.unwrap();
    let all: i64 = sqlx::query_scalar("SELECT count(*) FROM dtu")
        .fetch_one(&mut *transaction)
        .await
        .unwrap();
    assert_eq!(all, 2);
    drop(transaction);
    database.close().await;
    drop_login(&db).await;
}

async fn drop_login(db: &TestDb) {
    let login = db.name.replace("polyphase_test", "login_polyphase");
    db.sql(&format!(
        "ALTER DATABASE {} OWNER TO CURRENT_USER; DROP OWNED BY {login}; DROP ROLE {login}",
        db.name
    ))
    .await;
}

#[tokio::test]
async fn a_login_without_rights_is_told_what_it_lacks() {
    let db = TestDb::blank().await;
    let url = own_login(&db).await;
    let login = db.name.replace("polyphase_test", "login_polyphase");
    db.sql(&format!(
        "ALTER ROLE {login} NOCREATEROLE; ALTER DATABASE {} OWNER TO CURRENT_USER",
        db.name
    ))
    .await;
    let refused = Database::migrate(&url).await.unwrap_err();
    let StoreError::Setup(text) = &refused else {
        panic!("{refused:?}")
    };
    assert!(
        text.contains(&login) && text.contains("GRANT polyphase_owner"),
        "{text}"
    );
    drop_login(&db).await;
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_refused() {
    let db = TestDb::new().await;
    db.sql("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'future', true, '\\x00', 0)")
        .await;
    let refused = Database::migrate(&db.url()).await.unwrap_err().to_string();
    assert!(refused.contains("9999") && refused.contains("newer"), "{refused}");
}

#[tokio::test]
async fn readings_are_seen_by_their_account_alone_and_written_by_no_one_else() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    let store = store(&db).await;
    let ts = at("2026-11-21T10:00:00Z");
    let mut foreign = reading(2, ts, "2");
    foreign.account = AccountId(2);
    store
        .write(&[record(reading(1, ts, "1")), record(foreign)])
        .await
        .unwrap();

    for table in ["reading_electricity", "reading_side", "latest_reading", "hour_mark"] {
        for account in [1, 2] {
            let mut transaction = db.database().scoped(AccountId(account)).begin().await.unwrap();
            let seen: Vec<i32> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT account_id FROM {table}")))
                .fetch_all(&mut *transaction)
                .await
                .unwrap();
            assert_eq!(seen, [account], "{table}");
        }
    }
    let mut transaction = db.database().scoped(AccountId(1)).begin().await.unwrap();
    for forbidden in [
        "SELECT * FROM reading_electricity_20261121",
        "DELETE FROM reading_electricity",
        "UPDATE slot_ending SET state = 'actual'",
        "INSERT INTO audit VALUES (1, 1, now(), '', '', '', '{}', '', '')",
        "SELECT ensure_day('2030-01-01')",
        "SELECT audit_append(2, now(), 'me', 'x', 'y', '{}')",
        "INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters) VALUES (now(), 1, 1, true, true, '{1}')",
        "SELECT mark_consumption(2, 1, now(), now())",
        "CREATE TABLE mine ()",
    ] {
        let mut savepoint = transaction.begin().await.unwrap();
        let refused = savepoint.execute(forbidden).await.map_err(StoreError::from);
        assert!(
            matches!(refused, Err(StoreError::Forbidden(_))),
            "{forbidden}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn without_an_account_nothing_is_seen() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    let mut connection = db.superuser().await;
    connection.execute("SET ROLE polyphase_app").await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM dtu")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(seen, 0);
    // the setting of one transaction does not stay for the next one on the same connection
    let scoped = db.database().scoped(AccountId(1));
    for _ in 0..5 {
        scoped.begin().await.unwrap().commit().await.unwrap();
    }
    connection
        .execute("BEGIN; SELECT set_config('app.account', '1', true); COMMIT")
        .await
        .unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM dtu")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_grafana_login_sees_its_account_and_cannot_choose_another() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    let login = db.name.replace("polyphase_test", "login_polyphase");
    db.sql(&format!(
        "CREATE ROLE {login} LOGIN IN ROLE polyphase_grafana; INSERT INTO grafana_login VALUES ('{login}', 2)"
    ))
    .await;
    let mut connection: PgConnection = db.superuser().await;
    connection
        .execute(AssertSqlSafe(format!(
            "SET SESSION AUTHORIZATION {login}; SET app.account = '1'"
        )))
        .await
        .unwrap();
    let seen: Vec<String> = sqlx::query_scalar("SELECT sn FROM dtu")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(seen, ["SN-B"]);
    let refused = connection.execute("SELECT password_hash FROM app_user").await;
    assert!(refused.is_err());
    drop(connection);
    db.sql(&format!("DROP OWNED BY {login}; DROP ROLE {login}")).await;
}

#[tokio::test]
async fn the_audit_chain_shows_a_change_a_gap_and_a_cut() {
    let db = TestDb::new().await;
    two_accounts(&db).await;
    for account in [1, 2, 1] {
        let mut transaction = db.database().scoped(AccountId(account)).begin().await.unwrap();
        sqlx::query("SELECT audit_append($1, now(), 'a@example.org', 'dtu.create', 'dtu/1', '{\"name\": \"ü\"}')")
            .bind(account)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
    }
    let verify = "SELECT coalesce(audit_verify(), 0)";
    assert_eq!(rows::<i64>(&db, verify).await, [0]);
    db.sql("UPDATE audit SET actor = 'somebody else' WHERE id = 2").await;
    assert_eq!(rows::<i64>(&db, verify).await, [2]);
    db.sql("UPDATE audit SET actor = 'a@example.org' WHERE id = 2").await;
    assert_eq!(rows::<i64>(&db, verify).await, [0]);
    db.sql("DELETE FROM audit WHERE id = 2").await;
    assert_eq!(rows::<i64>(&db, verify).await, [3]);
}

#[tokio::test]
async fn columns_of_the_wide_tables_are_those_of_the_program() {
    use polyphase::store::wide::{HEADER, Table};
    let db = TestDb::new().await;
    for table in Table::ALL {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT column_name::text, data_type::text FROM information_schema.columns WHERE table_name = $1
             ORDER BY ordinal_position",
        )
        .bind(table.name())
        .fetch_all(&mut db.superuser().await)
        .await
        .unwrap();
        let expected: Vec<(String, &str)> = table
            .quantities()
            .iter()
            .map(|quantity| {
                let kind = match quantity.kind() {
                    polyphase::domain::quantity::Kind::Register => "numeric",
                    _ => "real",
                };
                (quantity.name().to_owned(), kind)
            })
            .collect();
        let (header, quantities) = columns.split_at(HEADER.len());
        assert_eq!(header.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), HEADER);
        assert_eq!(
            quantities
                .iter()
                .map(|(name, kind)| (name.clone(), kind.as_str()))
                .collect::<Vec<_>>(),
            expected
        );
    }
}
