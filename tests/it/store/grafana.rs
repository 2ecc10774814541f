//! Grafana logins: what one sees of another account, by whatever SQL; what it may do at all; how it is made.
//!
//! Account 2 is full of marks (`zebra`, 98765431) that no text, error or plan shown to account 1's login may
//! hold. Each attack is run as that login, on a session made as new.

use crate::harness::db::TestDb;
use polyphase::base::clock::{Clock, SystemClock};
use polyphase::base::ids::AccountId;
use polyphase::port::ledger::{Hours, ReadingStore};
use polyphase::store::grafana::{self, GrafanaLogin};
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Column, Connection, Executor, PgConnection, Row, TypeInfo, ValueRef};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tokio::sync::Mutex;

/// Two accounts with one of everything each; account 2 bears the marks.
const SEED: &str = "
    INSERT INTO account (name, created_at) VALUES ('acme', now()), ('zebra', now());
    SELECT audit_append(a, now(), CASE a WHEN 1 THEN 'me' ELSE 'zebra' END, 'dtu.create',
                        CASE a WHEN 1 THEN 'dtu/1' ELSE 'zebra/98765431' END, '{}') FROM generate_series(1, 2) a;
    INSERT INTO app_user (account_id, email, password_hash, roles, created_at)
    VALUES (1, 'a@x.org', 'h', '{admin}', now()), (2, 'zebra@x.org', 'zebra', '{admin}', now());
    INSERT INTO schedule (account_id, name, created_at) VALUES (1, 'quarter', now()), (2, 'zebra', now());
    INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, time_zone, spread_s, window_s, attempts,
                               backoff_s, deadline_s, missed_run)
    SELECT a, a, now() - interval '9 days', CASE a WHEN 1 THEN '*/15 * * * *' ELSE 'zebra' END, 'UTC', 0, 600, 2, 1, 60, 'skip'
    FROM generate_series(1, 2) a;
    INSERT INTO meter_group (account_id, name, created_at) VALUES (1, 'home', now()), (2, 'zebra', now());
    INSERT INTO dtu (account_id, sn, name, learned, created_at)
    VALUES (1, 'SN-A', 'a', '{}', now()), (2, 'zebra', 'zebra', '{\"registration\": \"zebra\"}', now());
    INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at, cause)
    VALUES (1, 1, 1, '10.0.0.1:5', now(), 'x'), (98765431, 2, 2, 'zebra', now(), 'zebra');
    INSERT INTO mesh_place (dtu_id, account_id, point, place, meter_address, meter_protocol, port, collector, tariffs, routed, read_at)
    VALUES (1, 1, 1, 1, '000000000001', 'm', 31, '', 4, false, now()), (2, 2, 1, 1, 'zebra', 'zebra', 31, 'zebra', 4, false, now());
    INSERT INTO metering_point (account_id, name, group_id, created_at) VALUES (1, 'p', 1, now()), (2, 'zebra', 2, now());
    INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, comment, group_id, created_at)
    VALUES (1, 1, 'modbus-rtu', '1', 'm', 'm', '', 1, now()), (2, 2, 'zebra', 'zebra', 'zebra', 'zebra', 'zebra', 2, now());
    INSERT INTO installation (account_id, point_id, meter_id, valid_from, ct_ratio, opening)
    VALUES (1, 1, 1, now() - interval '9 days', 1, '{}'), (2, 2, 2, now() - interval '9 days', 98765431, '{\"x\": \"zebra\"}');
    INSERT INTO meter_schedule (meter_id, schedule_id, account_id, valid_from) SELECT a, a, a, now() FROM generate_series(1, 2) a;
    INSERT INTO meter_own_schedule (meter_id, schedule_id, account_id) SELECT a, a, a FROM generate_series(1, 2) a;
    SELECT ensure_day(current_date), ensure_day(current_date - 1), ensure_day(current_date + 1);
    INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, voltage_l1,
                                     active_energy_import)
    SELECT date_trunc('hour', now()) - i * interval '15 min', now(), 1, 1, a, a, 0, 1, 100000 * a + i,
           CASE a WHEN 1 THEN 1 ELSE 98765431 END FROM generate_series(1, 2) a, generate_series(1, 40) i;
    INSERT INTO reading_fluid (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, volume_total)
    SELECT date_trunc('hour', now()), now(), 1, 1, a, a, 0, 1, CASE a WHEN 1 THEN 1 ELSE 98765431 END FROM generate_series(1, 2) a;
    INSERT INTO reading_side (ts, meter_id, account_id, source, quality, quantity, exact)
    SELECT date_trunc('hour', now()), a, a, 0, 0, CASE a WHEN 1 THEN 'x' ELSE 'zebra' END, 98765431 * (a - 1) FROM generate_series(1, 2) a;
    INSERT INTO latest_reading (meter_id, shape, account_id, source, family, ts, read_at)
    SELECT a, 98765431 * (a - 1), a, 0, 0, date_trunc('hour', now()) - interval '15 min', now() FROM generate_series(1, 2) a;
    INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state, reason, detail)
    SELECT now(), now(), a, a, a, 1, 1, 'missing', CASE a WHEN 1 THEN 'timeout' ELSE 'zebra' END, 'd' FROM generate_series(1, 2) a;
    INSERT INTO reading_conflict (account_id, meter_id, ts, source, found_at, stored, offered, offered_hash)
    SELECT a, a, now(), 0, now(), '\"zebra\"', '\"zebra\"', '' FROM generate_series(1, 2) a;
    INSERT INTO reading_rejected (account_id, meter_id, ts, source, found_at, sqlstate, reason, record, record_hash)
    SELECT a, a, now(), 0, now(), 'x', CASE a WHEN 1 THEN 'r' ELSE 'zebra' END, '\"zebra\"', '' FROM generate_series(1, 2) a;
    INSERT INTO frame_evidence (id, account_id, dtu_id, connection_id, meter_id, at, kind, protocol, bytes)
    SELECT CASE a WHEN 1 THEN 1 ELSE 98765431 END, a, a, 1, a, now(), CASE a WHEN 1 THEN 'stray' ELSE 'zebra' END, 'p', 'zebra'
    FROM generate_series(1, 2) a;
    INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
    SELECT date_trunc('hour', now()), now(), a, a, 0, false, false, 'active_energy_import', CASE a WHEN 1 THEN 1 ELSE 98765431 END
    FROM generate_series(1, 2) a;
    INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
    SELECT date_trunc('day', now()), now(), a, a, 0, false, false, 'active_energy_import', CASE a WHEN 1 THEN 1 ELSE 98765431 END
    FROM generate_series(1, 2) a;
    INSERT INTO command_batch (id, account_id, request_hash, created_at)
    SELECT ('00000000-0000-0000-0000-00000000000' || a)::uuid, a, 'zebra', now() FROM generate_series(1, 2) a;
    INSERT INTO command (account_id, meter_id, dtu_id, target, action, claims_relay, state, reason, requested_by, requested_as, batch_id,
                         requested_at, expires_at, version)
    SELECT a, a, a, CASE a WHEN 1 THEN '1' ELSE '\"zebra\"' END::jsonb, CASE a WHEN 1 THEN '{}' ELSE '{\"action\": \"zebra\"}' END::jsonb, true,
           'sent', CASE a WHEN 1 THEN 'r' ELSE 'zebra' END, a, CASE a WHEN 1 THEN 'me' ELSE 'zebra' END,
           ('00000000-0000-0000-0000-00000000000' || a)::uuid, now(), now() + interval '1 hour', 1 FROM generate_series(1, 2) a;
    INSERT INTO command_edge SELECT a, 1, a, now(), now(), 'sent', CASE a WHEN 1 THEN 'me' ELSE 'zebra' END, '\"zebra\"' FROM generate_series(2, 2) a;
    INSERT INTO command_edge SELECT 1, 1, 1, now(), now(), 'sent', 'me', '{}';
    INSERT INTO trip SELECT a, a, a, now() FROM generate_series(1, 2) a;
    INSERT INTO emergency_stop (account_id, reason, began_at, began_by)
    SELECT a, CASE a WHEN 1 THEN 'r' ELSE 'zebra' END, now(), 'zebra' FROM generate_series(1, 2) a WHERE a = 2;
    INSERT INTO emergency_stop (account_id, reason, began_at, began_by) VALUES (1, 'r', now(), 'me');
    INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing, reasons)
    SELECT date_trunc('hour', now()), a, a, 1, 1, 0, 0, CASE a WHEN 1 THEN 1 ELSE 98765431 END,
           CASE a WHEN 2 THEN '{\"zebra\": 1}'::jsonb END FROM generate_series(1, 2) a;
    INSERT INTO meter_day (day, meter_id, account_id, reads, actual, late, estimated, missing)
    SELECT date_trunc('day', now()), a, a, 1, 1, 0, 0, CASE a WHEN 1 THEN 1 ELSE 98765431 END FROM generate_series(1, 2) a;
    INSERT INTO alarm_rule (account_id, name, meter_id, enabled, severity, kind, judgement, created_at)
    SELECT a, CASE a WHEN 1 THEN 'r' ELSE 'zebra' END, a, true, 'info', CASE a WHEN 1 THEN 'clock_drift' ELSE 'zebra' END,
           CASE a WHEN 1 THEN '{}' ELSE '{\"over_s\": \"zebra\"}' END::jsonb, now() FROM generate_series(1, 2) a;
    INSERT INTO alarm (account_id, key, kind, severity, dtu_id, meter_id, detail, sentence, raised_at, cause_at, judged_at)
    SELECT a, CASE a WHEN 1 THEN 'k' ELSE 'zebra' END, CASE a WHEN 1 THEN 'clock_drift' ELSE 'zebra' END, 'info', a, a,
           CASE a WHEN 1 THEN '{}' ELSE '{\"value\": \"zebra\"}' END::jsonb, CASE a WHEN 1 THEN 's' ELSE 'zebra' END,
           now(), now(), now() FROM generate_series(1, 2) a;
    INSERT INTO alarm_edge (alarm_id, account_id, at, step, actor, note, quiet)
    SELECT a, a, now(), 'raised', CASE a WHEN 1 THEN 'alarms' ELSE 'zebra' END, CASE a WHEN 1 THEN 's' ELSE 'zebra' END, false
    FROM generate_series(1, 2) a;
    INSERT INTO alarm_victim (alarm_id, dtu_id, account_id, since) SELECT a, a, a, now() FROM generate_series(1, 2) a;
    INSERT INTO alarm_watch (meter_id, account_id, state, at)
    SELECT a, a, CASE a WHEN 1 THEN '{}' ELSE '\"zebra\"' END::jsonb, now() FROM generate_series(1, 2) a;
    INSERT INTO notice_recipient (account_id, name, language, time_zone, created_at)
    SELECT a, CASE a WHEN 1 THEN 'n' ELSE 'zebra' END, 'en', 'UTC', now() FROM generate_series(1, 2) a;
    INSERT INTO notice_channel (account_id, recipient_id, kind, address, created_at)
    SELECT a, a, 'email', CASE a WHEN 1 THEN 'x' ELSE 'zebra' END, now() FROM generate_series(1, 2) a;
    INSERT INTO notice_route (account_id, name, rule, created_at)
    SELECT a, CASE a WHEN 1 THEN 'r' ELSE 'zebra' END, '{}', now() FROM generate_series(1, 2) a;
    INSERT INTO notice (account_id, subject, edge, severity, kind, facts, groups, at)
    SELECT a, 's', 'raised', 'info', CASE a WHEN 1 THEN 'k' ELSE 'zebra' END, '{}', '{}', now() FROM generate_series(1, 2) a;
    INSERT INTO notice_message (id, account_id, recipient_id, channel_id, kind, address, subject, body, payload, critical, born_at,
                                created_at)
    SELECT gen_random_uuid(), a, a, a, 'email', CASE a WHEN 1 THEN 'x' ELSE 'zebra' END, CASE a WHEN 1 THEN 's' ELSE 'zebra' END,
           'b', '{}', false, now(), now() FROM generate_series(1, 2) a;
    INSERT INTO notice_item (account_id, notice_id, recipient_id, channel_id, route_id, step, due_at, reason)
    SELECT a, a, a, a, a, 0, now(), CASE a WHEN 1 THEN 'r' ELSE 'zebra' END FROM generate_series(1, 2) a;
    INSERT INTO watermark (at) VALUES (now());
    ANALYZE;
";
/// What nobody of account 1 may read.
const MARKS: [&str; 3] = ["zebra", "98765431", "7a65627261"];

struct Login {
    db: TestDb,
    url: String,
    name: String,
    other: String,
    connection: Mutex<Option<PgConnection>>,
}

/// A database with two accounts and a login for each; account 1's is the one that attacks.
async fn two_logins() -> Login {
    let db = TestDb::new().await;
    db.sql(SEED).await;
    let number = db.name.replace("polyphase_test_", "");
    let (name, other) = (format!("graf_{number}_1"), format!("graf_{number}_2"));
    for (login, account) in [(&name, 1), (&other, 2)] {
        grafana::make(&db.url(), &wanted(login, account), SystemClock.now())
            .await
            .unwrap();
    }
    let url = login_url(&db, &name);
    Login {
        db,
        url,
        name,
        other,
        connection: Mutex::default(),
    }
}

fn wanted(login: &str, account: i32) -> GrafanaLogin {
    GrafanaLogin {
        login: login.to_owned(),
        password: "correct-horse-42".to_owned().into(),
        account: AccountId(account),
        statement_timeout_s: 15,
        connections: 8,
    }
}

fn login_url(db: &TestDb, login: &str) -> String {
    let url = db.url();
    let (scheme, rest) = url.expose_secret().split_once("://").unwrap();
    let (_, place) = rest.rsplit_once('@').unwrap();
    format!("{scheme}://{login}:correct-horse-42@{place}")
}

impl Login {
    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Everything that running this SQL on a fresh session shows: rows as text, else the error with its detail and hint.
    async fn shown(&self, sql: &str) -> Result<String, String> {
        let mut kept = self.connection.lock().await;
        if kept.is_none() {
            *kept = Some(self.connect().await);
        }
        let connection = kept.as_mut().unwrap();
        let ran = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .fetch_all(&mut *connection)
            .await;
        let shown = match ran {
            Ok(rows) => {
                let mut text = String::new();
                for row in &rows {
                    for index in 0..row.len() {
                        let value = row.try_get_raw(index).unwrap();
                        let name = row.column(index).name();
                        let kind = value.type_info().name().to_owned();
                        // the simple protocol brings every value as text
                        let bytes = if value.is_null() {
                            "null"
                        } else {
                            value.as_str().unwrap_or("?")
                        };
                        write!(text, "{name}:{kind}={bytes} ").unwrap();
                    }
                    text.push('\n');
                }
                Ok(text)
            }
            Err(error) => Err(format!("{error:?}")),
        };
        // as new: role, settings, cursors, temporary tables
        for statement in ["ROLLBACK", "DISCARD ALL"] {
            connection.execute(statement).await.unwrap();
        }
        shown
    }

    async fn end(self) {
        for (login, account) in [(&self.name, 1), (&self.other, 2)] {
            grafana::remove(&self.db.url(), AccountId(account), login, SystemClock.now())
                .await
                .unwrap();
        }
    }
}

/// SQL that somebody in a query editor might try. The other login's name is put for `{other}`.
const ATTACKS: &[&str] = &[
    // a setting that the API's policies go by
    "SELECT set_config('app.account', '2', false); SELECT * FROM dtu",
    "SET app.account = '2'; SELECT * FROM meter; SELECT * FROM reading_electricity",
    "BEGIN; SELECT set_config('app.account', '2', true); SELECT * FROM account; COMMIT",
    "SET row_security = off; SELECT * FROM dtu",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; UPDATE grafana_login SET account_id = 2; SELECT * FROM dtu",
    "SET default_transaction_read_only = off; INSERT INTO grafana_login VALUES (current_user, 2); SELECT * FROM dtu",
    // other roles
    "SET ROLE polyphase_owner; SELECT * FROM dtu",
    "SET ROLE polyphase_app; SET app.account = '2'; SELECT * FROM dtu",
    "SET ROLE polyphase_platform; SELECT * FROM dtu",
    "SET ROLE polyphase_ingest; SELECT * FROM dtu",
    "SET ROLE polyphase_grafana; SELECT * FROM dtu",
    "SET ROLE {other}; SELECT * FROM dtu",
    "SET SESSION AUTHORIZATION {other}; SELECT * FROM dtu",
    "SET ROLE postgres; SELECT * FROM dtu",
    "ALTER ROLE {other} PASSWORD 'mine-now-mine-now'",
    "ALTER ROLE CURRENT_USER BYPASSRLS",
    "GRANT {other} TO CURRENT_USER",
    "GRANT polyphase_platform TO CURRENT_USER",
    // past the parent
    "DO $$ BEGIN EXECUTE 'SELECT 1 FROM reading_electricity_' || to_char(current_date, 'YYYYMMDD'); END $$",
    "SELECT * FROM ONLY reading_electricity",
    "TABLE grafana_login",
    "COPY dtu TO STDOUT",
    "COPY (SELECT * FROM reading_electricity) TO PROGRAM 'cat'",
    "COPY dtu TO '/tmp/zebra-dtu'",
    // what has no grant at all
    "SELECT * FROM app_user",
    "SELECT * FROM api_key",
    "SELECT * FROM login_session",
    "SELECT * FROM frame_evidence",
    "SELECT bytes FROM frame_evidence",
    "SELECT detail FROM audit",
    "SELECT hash FROM audit",
    "SELECT stored, offered FROM reading_conflict",
    "SELECT record FROM reading_rejected",
    "SELECT * FROM claim_code",
    "SELECT * FROM consumption_dirty",
    "SELECT * FROM hour_mark",
    "SELECT * FROM meter_own_schedule",
    // functions
    "SELECT audit_verify()",
    "SELECT audit_append(2, now(), 'x', 'x', 'x', '{}')",
    "SELECT current_account()",
    "SELECT mark_consumption(2, 2, now(), now())",
    "SELECT * FROM wanted_schedules(2, NULL, NULL)",
    "SELECT refresh_meter_schedules(2, NULL, NULL, now())",
    "SELECT drop_day('reading_electricity', current_date)",
    "SELECT ensure_day('2099-01-01')",
    "SELECT * FROM partition_days('reading_electricity')",
    "CREATE FUNCTION pg_temp.peek(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS \
     $$ BEGIN RAISE NOTICE '%', $1; RAISE EXCEPTION 'saw %', $1; END $$; SELECT * FROM dtu WHERE pg_temp.peek(name, 'x')",
    "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE sql LEAKPROOF AS $$ SELECT true $$",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT query_to_xml('SELECT * FROM dtu', true, false, '')",
    "SELECT table_to_xml('meter', true, false, '')",
    "SELECT database_to_xml(true, false, '')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_ls_dir('.')",
    "SELECT * FROM dblink('dbname=' || current_database(), 'SELECT name FROM dtu') AS t(name text)",
    // errors that tell a value: the policy has to come before what can fail
    "SELECT * FROM dtu WHERE name::int = 1",
    "SELECT * FROM meter WHERE 1 / (CASE WHEN name LIKE 'zeb%' THEN 0 ELSE 1 END) = 1",
    "SELECT name::int FROM grafana_meter g (meter_id, name)",
    "SELECT * FROM grafana_meter WHERE meter::int > 0",
    "SELECT * FROM grafana_dtu WHERE CAST(sn AS inet) = '::1'",
    "SELECT * FROM reading_electricity WHERE 1 / (active_energy_import - 98765430.9 - 0.1)::int = 1 AND meter_id = 2",
    "SELECT quantity::int FROM grafana_reading_side",
    "SELECT xmlparse(DOCUMENT name) FROM dtu",
    "SELECT jsonb(name) FROM grafana_group t (id, name)",
    // statistics and catalogues
    "SELECT * FROM pg_stats",
    "SELECT * FROM pg_statistic",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename LIKE 'reading%' OR tablename = 'dtu'",
    "SELECT * FROM pg_stats_ext",
    "SELECT * FROM pg_statistic_ext_data",
    "SELECT * FROM pg_stat_activity",
    "SELECT query FROM pg_stat_statements",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT * FROM pg_roles",
    "SELECT * FROM pg_db_role_setting",
    "SELECT * FROM pg_hba_file_rules",
    "SELECT * FROM pg_user_mappings",
    "SELECT * FROM pg_largeobject",
    "SELECT * FROM pg_prepared_xacts; SELECT * FROM pg_cursors; SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_sequences",
    "SELECT last_value FROM meter_id_seq",
    "SELECT nextval('meter_id_seq')",
    "SELECT pg_get_viewdef(c.oid) FROM pg_class c WHERE relname LIKE 'grafana%'",
    "SELECT * FROM information_schema.columns WHERE column_default LIKE '%zeb%'",
    "SELECT * FROM pg_locks",
    "SELECT ctid, xmin, * FROM dtu",
    "EXPLAIN (ANALYZE, VERBOSE, COSTS OFF) SELECT * FROM dtu WHERE name = 'x'",
    "EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM grafana_reading WHERE voltage_l1 > 1",
    // joins and correlated looks from an own row to a foreign one
    "SELECT (SELECT d.name FROM dtu d WHERE d.id = 2)",
    "SELECT d.* FROM generate_series(1, 99) i JOIN LATERAL (SELECT * FROM dtu WHERE id = i) d ON true",
    "SELECT m.*, g.* FROM meter m FULL JOIN meter_group g ON true",
    "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t WHERE i < 9) SELECT * FROM t LEFT JOIN meter ON meter.id = i",
    "SELECT count(*), max(id), min(name) FROM dtu WHERE account_id = 2",
    "SELECT * FROM dtu TABLESAMPLE BERNOULLI (100)",
    "SELECT * FROM dtu FOR UPDATE",
    "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM dtu; FETCH ALL FROM c",
    "PREPARE p AS SELECT * FROM dtu; SET ROLE polyphase_grafana; EXECUTE p; RESET ROLE; EXECUTE p",
    // writing
    "SET default_transaction_read_only = off; UPDATE dtu SET account_id = 1",
    "SET default_transaction_read_only = off; DELETE FROM meter",
    "SET default_transaction_read_only = off; INSERT INTO reading_side SELECT * FROM reading_side",
    "SET default_transaction_read_only = off; CREATE TABLE mine (x int)",
    "SET default_transaction_read_only = off; CREATE VIEW mine AS SELECT * FROM dtu",
    "SET default_transaction_read_only = off; ALTER VIEW grafana_dtu SET (security_invoker = false)",
    "SET default_transaction_read_only = off; DROP POLICY grafana ON dtu",
    "SET default_transaction_read_only = off; CREATE POLICY all_of_it ON dtu USING (true)",
    "SET default_transaction_read_only = off; ALTER TABLE dtu DISABLE ROW LEVEL SECURITY",
    "SET default_transaction_read_only = off; CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = name, FUNCTION = nameeq)",
    "SET default_transaction_read_only = off; CREATE SCHEMA mine",
    "SET default_transaction_read_only = off; SET search_path = pg_temp, public; \
     CREATE TEMP TABLE grafana_login (login name, account_id int); INSERT INTO grafana_login VALUES (current_user, 2); SELECT * FROM dtu",
    "SET default_transaction_read_only = off; CREATE TEMP VIEW mine AS SELECT * FROM dtu; SELECT * FROM mine",
    "SET default_transaction_read_only = off; CREATE EXTENSION dblink",
    "LOCK TABLE dtu IN ACCESS EXCLUSIVE MODE",
    "TRUNCATE meter",
    "VACUUM FULL dtu",
    "NOTIFY x, 'y'; LISTEN x",
];

/// Those that would be a hole if they passed without an error, marks or not.
const MUST_FAIL: &[&str] = &[
    "SET ROLE polyphase_o",
    "SET ROLE polyphase_a",
    "SET ROLE polyphase_p",
    "SET ROLE polyphase_i",
    "SET ROLE {other}",
    "SET ROLE postgres",
    "SET SESSION AUTH",
    "ALTER ROLE",
    "GRANT",
    "COPY (",
    "COPY dtu TO '",
    "SELECT * FROM app_user",
    "SELECT * FROM api_key",
    "SELECT * FROM login_session",
    "SELECT * FROM frame_evidence",
    "SELECT bytes",
    "SELECT detail",
    "SELECT hash",
    "SELECT stored",
    "SELECT record",
    "SELECT * FROM claim_code",
    "SELECT * FROM consumption_dirty",
    "SELECT * FROM hour_mark",
    "SELECT audit_",
    "SELECT mark_",
    "SELECT * FROM wanted",
    "SELECT refresh",
    "SELECT drop_day",
    "SELECT ensure_day",
    "SELECT lo_import",
    "SELECT pg_read_file",
    "SELECT pg_ls_dir",
    "SELECT * FROM pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT last_value",
    "SELECT nextval",
    "SET default_transaction_read_only = off; UPDATE",
    "SET default_transaction_read_only = off; DELETE",
    "SET default_transaction_read_only = off; CREATE TABLE",
    "SET default_transaction_read_only = off; CREATE VIEW",
    "SET default_transaction_read_only = off; ALTER",
    "SET default_transaction_read_only = off; DROP",
    "SET default_transaction_read_only = off; CREATE POLICY",
    "SET default_transaction_read_only = off; CREATE SCHEMA",
    "SET default_transaction_read_only = off; INSERT",
    "LOCK",
    "TRUNCATE",
    "SET SESSION CHAR",
    "CREATE FUNCTION public",
];

#[tokio::test]
async fn no_sql_of_one_account_shows_another() {
    let login = two_logins().await;
    // the marks are there for whoever may see them
    let other = Login {
        db: TestDb::blank().await,
        url: login_url(&login.db, &login.other),
        name: String::new(),
        other: String::new(),
        connection: Mutex::default(),
    };
    assert!(
        other
            .shown("SELECT * FROM grafana_dtu")
            .await
            .unwrap()
            .contains("zebra")
    );

    let views: Vec<String> =
        sqlx::query_scalar("SELECT viewname::text FROM pg_views WHERE viewname LIKE 'grafana\\_%'")
            .fetch_all(&mut login.db.superuser().await)
            .await
            .unwrap();
    assert!(views.len() >= 20, "{views:?}");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE nspname IN ('public', 'pg_catalog', 'information_schema') AND relkind IN ('r', 'p', 'v')
           AND relname NOT IN ('pg_description')",
    )
    .fetch_all(&mut login.db.superuser().await)
    .await
    .unwrap();
    let mut attacks: Vec<String> = ATTACKS.iter().map(|sql| sql.replace("{other}", &login.other)).collect();
    // every table, partition, view and catalogue there is
    attacks.extend(tables.iter().map(|table| format!("SELECT * FROM {table} LIMIT 5000")));
    attacks.extend(
        tables
            .iter()
            .filter(|t| !t.starts_with("pg_"))
            .map(|table| format!("SET app.account = '2'; SELECT count(*), max(t::text), min(t::text) FROM {table} t")),
    );
    let (mut passed, mut refused) = (0, 0);
    for attack in &attacks {
        let shown = login.shown(attack).await;
        let text = match &shown {
            Ok(text) => {
                passed += 1;
                text
            }
            Err(text) => {
                refused += 1;
                text
            }
        };
        // what it wrote itself comes back in syntax errors and in pg_stat_activity
        let text = text.replace(attack, "");
        for mark in MARKS {
            let own = attack.contains(mark) && shown.is_err() && !text.contains(&format!("\"{mark}\""));
            let around = text
                .find(mark)
                .map(|at| text.chars().skip(at.saturating_sub(150)).take(300).collect::<String>());
            assert!(
                own || around.is_none(),
                "{attack}\nshowed {mark}: {}",
                around.unwrap_or_default()
            );
        }
    }
    for must in MUST_FAIL {
        let prefix = must.replace("{other}", &login.other);
        let tried: Vec<&String> = attacks.iter().filter(|sql| sql.starts_with(&prefix)).collect();
        assert!(!tried.is_empty(), "nothing begins with {prefix}");
        for sql in tried {
            let shown = login.shown(sql).await;
            assert!(shown.is_err(), "{sql}: {shown:?}");
        }
    }
    println!(
        "{} attacks: {passed} ran, {refused} refused, nothing foreign",
        attacks.len()
    );
    login.end().await;
}

#[tokio::test]
async fn every_view_shows_the_accounts_own_rows() {
    let login = two_logins().await;
    let views: Vec<(String, Option<Vec<String>>)> = sqlx::query_as(
        "SELECT relname::text, reloptions FROM pg_class WHERE relkind = 'v' AND relname LIKE 'grafana\\_%'",
    )
    .fetch_all(&mut login.db.superuser().await)
    .await
    .unwrap();
    for (view, options) in views {
        assert_eq!(options.unwrap_or_default(), ["security_invoker=true"], "{view}");
        let shown = login.shown(&format!("SELECT * FROM {view}")).await.unwrap();
        assert!(!shown.is_empty(), "{view} shows nothing");
    }
    login.end().await;
}

#[tokio::test]
async fn a_login_of_no_account_sees_nothing() {
    let login = two_logins().await;
    login
        .db
        .sql(&format!("DELETE FROM grafana_login WHERE login = '{}'", login.name))
        .await;
    for view in [
        "grafana_dtu",
        "grafana_reading",
        "grafana_audit",
        "dtu",
        "reading_electricity",
    ] {
        assert_eq!(
            login.shown(&format!("SELECT * FROM {view}")).await.unwrap(),
            "",
            "{view}"
        );
    }
    login.db.sql(&format!("DROP ROLE {}", login.name)).await;
    grafana::remove(&login.db.url(), AccountId(2), &login.other, SystemClock.now())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_login_is_bounded_and_read_only() {
    let login = two_logins().await;
    let role: (i32, bool, bool, bool, bool) = sqlx::query_as(
        "SELECT rolconnlimit, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = $1",
    )
    .bind(&login.name)
    .fetch_one(&mut login.db.superuser().await)
    .await
    .unwrap();
    assert_eq!(role, (8, false, false, false, false));
    let settings =
        "SELECT name, setting FROM pg_settings WHERE name IN ('statement_timeout', 'default_transaction_read_only',
                    'idle_in_transaction_session_timeout', 'lock_timeout') ORDER BY name";
    let shown = login.shown(settings).await.unwrap();
    for (name, setting) in [
        ("statement_timeout", "15000"),
        ("default_transaction_read_only", "on"),
        ("idle_in_transaction_session_timeout", "60000"),
        ("lock_timeout", "5000"),
    ] {
        assert!(
            shown
                .lines()
                .any(|line| line.contains(name) && line.contains(&format!("={setting} "))),
            "{shown}"
        );
    }
    let privileges: BTreeSet<String> = sqlx::query_scalar(
        "SELECT DISTINCT privilege_type::text FROM information_schema.role_table_grants WHERE grantee = 'polyphase_grafana'",
    )
    .fetch_all(&mut login.db.superuser().await)
    .await
    .unwrap()
    .into_iter()
    .collect();
    assert_eq!(privileges, BTreeSet::from(["SELECT".to_owned()]));
    login.end().await;
}

#[tokio::test]
async fn a_login_is_made_changed_and_taken_away_in_order() {
    let login = two_logins().await;
    let url = login.db.url();
    // the same again: a new password and other limits
    let mut again = wanted(&login.name, 1);
    again.statement_timeout_s = 3;
    let address = grafana::make(&url, &again, SystemClock.now()).await.unwrap();
    assert_eq!(address.database, login.db.name);
    login.connection.lock().await.take();
    let shown = login.shown("SHOW statement_timeout").await.unwrap();
    assert!(shown.contains("=3s"), "{shown}");
    // somebody else's
    for (name, account) in [
        (&login.other, 1),
        (&"polyphase_app".to_owned(), 1),
        (&"postgres".to_owned(), 1),
    ] {
        let refused = grafana::make(&url, &wanted(name, account), SystemClock.now()).await;
        assert!(refused.is_err(), "{name}");
    }
    assert!(
        grafana::remove(&url, AccountId(1), &login.other, SystemClock.now())
            .await
            .is_err()
    );
    let actions: Vec<String> =
        sqlx::query_scalar("SELECT action FROM audit WHERE object = 'grafana-login/' || $1 ORDER BY id")
            .bind(&login.name)
            .fetch_all(&mut login.db.superuser().await)
            .await
            .unwrap();
    assert_eq!(actions, ["grafana_login.create", "grafana_login.change"]);
    // removed: its open connection ends, and it does not come back
    let mut open = login.connect().await;
    grafana::remove(&url, AccountId(1), &login.name, SystemClock.now())
        .await
        .unwrap();
    assert!(open.execute("SELECT 1").await.is_err());
    assert!(PgConnection::connect(&login.url).await.is_err());
    grafana::remove(&url, AccountId(2), &login.other, SystemClock.now())
        .await
        .unwrap();
}

/// A timeout is a setting, which whoever writes SQL may lift, and locks outlive it: the server ends both.
#[tokio::test]
async fn what_runs_too_long_or_holds_locks_is_ended_by_the_server() {
    let login = two_logins().await;
    let storage = super::ingest::store(&login.db).await;
    let mut harmless = login.connect().await;
    harmless.execute("SELECT count(*) FROM grafana_reading").await.unwrap();
    let mut locker = login.connect().await;
    locker
        .execute("SET statement_timeout = 0; SELECT pg_advisory_lock(hashtext('polyphase.audit'))")
        .await
        .unwrap();
    storage.roll_up(super::ingest::now(), Hours::All).await.unwrap();
    // the lock is free and the work goes on
    login.db.sql("SELECT audit_append(1, now(), 'x', 'x', 'x', '{}')").await;
    assert!(locker.execute("SELECT 1").await.is_err());
    harmless.execute("SELECT count(*) FROM grafana_reading").await.unwrap();
    // an old transaction: the limit is 60 s, here 0
    harmless.execute("BEGIN").await.unwrap();
    harmless.execute("SET LOCAL statement_timeout = 0").await.unwrap();
    let ended: i32 = sqlx::query_scalar("SELECT end_grafana_excess(0)")
        .fetch_one(&mut login.db.superuser().await)
        .await
        .unwrap();
    assert_eq!(ended, 1);
    assert!(harmless.execute("SELECT 1").await.is_err());
    login.end().await;
}

/// The right to make roles is all that it takes; the server's own login has it on a database of the operator.
#[tokio::test]
async fn a_login_that_may_make_roles_is_enough() {
    let db = TestDb::new().await;
    db.sql(SEED).await;
    let number = db.name.replace("polyphase_test_", "");
    let maker = format!("maker_{number}");
    db.sql(&format!(
        "CREATE ROLE {maker} LOGIN CREATEROLE PASSWORD 'correct-horse-42'"
    ))
    .await;
    for role in [
        "polyphase_owner",
        "polyphase_app",
        "polyphase_ingest",
        "polyphase_platform",
    ] {
        db.sql(&format!("GRANT {role} TO {maker}")).await;
    }
    // PostgreSQL 16 and newer: whoever made polyphase_grafana has this
    db.sql(&format!(
        "GRANT polyphase_grafana, polyphase_owner TO {maker} WITH ADMIN OPTION"
    ))
    .await;
    let url = login_url(&db, &maker).into();
    let name = format!("graf_{number}");
    grafana::make(&url, &wanted(&name, 1), SystemClock.now()).await.unwrap();
    grafana::remove(&url, AccountId(1), &name, SystemClock.now())
        .await
        .unwrap();
    db.sql(&format!("DROP OWNED BY {maker}; DROP ROLE {maker}")).await;
}
