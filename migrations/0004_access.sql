-- Who may do what. Roles (store/roles.rs): polyphase_owner owns everything and runs migrations; polyphase_app serves the
-- API within one account; polyphase_ingest is the front end and the storage path; polyphase_platform works across
-- accounts; polyphase_grafana is the group of the Grafana logins, one login per account.
--
-- Every table with an account_id (and account itself) is under row level security; tests/it/store.rs enumerates them.
-- A table that comes later calls protect_account_table in its own migration.

-- Which account a Grafana login sees. Its policies go by current_user: a setting could be changed by whoever writes SQL.
CREATE TABLE grafana_login (
    login name PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id)
);

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;


-- The account that the transaction of a scoped handle works for; null: none, and then no row is seen.
CREATE FUNCTION current_account() RETURNS int
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.account', true), '')::int;
GRANT EXECUTE ON FUNCTION current_account() TO polyphase_app, polyphase_platform;

-- Puts a table under row level security by the given account expression.
CREATE FUNCTION protect_account_table(p_table regclass, p_account text DEFAULT 'account_id') RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    EXECUTE format('CREATE POLICY app ON %1$s TO polyphase_app USING (%2$I = (SELECT current_account())) '
                   'WITH CHECK (%2$I = (SELECT current_account()))', p_table, p_account);
    EXECUTE format('CREATE POLICY ingest ON %s TO polyphase_ingest USING (true) WITH CHECK (true)', p_table);
    EXECUTE format('CREATE POLICY platform ON %s TO polyphase_platform USING (true) WITH CHECK (true)', p_table);
    EXECUTE format('CREATE POLICY grafana ON %1$s FOR SELECT TO polyphase_grafana USING (%2$I = '
                   '(SELECT g.account_id FROM grafana_login g WHERE g.login = current_user))', p_table, p_account);
END
$$;

SELECT protect_account_table('account', 'id');
SELECT protect_account_table(t::regclass) FROM unnest(ARRAY[
    'app_user', 'api_key', 'login_session', 'idempotency_key', 'audit',
    'schedule', 'schedule_rule', 'meter_group', 'dtu', 'dtu_session', 'metering_point', 'meter', 'installation',
    'meter_own_schedule', 'meter_schedule',
    'reading_electricity', 'reading_fluid', 'reading_side', 'slot_ending', 'latest_reading', 'reading_conflict',
    'reading_rejected', 'frame_evidence', 'consumption_dirty', 'consumption_hour', 'consumption_day']) AS t;

ALTER TABLE grafana_login ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON grafana_login FOR SELECT TO polyphase_grafana USING (login = current_user);
CREATE POLICY platform ON grafana_login TO polyphase_platform USING (true) WITH CHECK (true);

-- the API within an account
GRANT SELECT, UPDATE ON account TO polyphase_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    app_user, api_key, login_session, idempotency_key, schedule, schedule_rule, meter_group, dtu, metering_point, meter,
    installation, meter_own_schedule, meter_schedule TO polyphase_app;
GRANT SELECT ON
    audit, dtu_session, reading_electricity, reading_fluid, reading_side, slot_ending, latest_reading, reading_conflict,
    reading_rejected, frame_evidence, consumption_dirty, consumption_hour, consumption_day, watermark TO polyphase_app;

-- across accounts: log-in, people, accounts, claims
GRANT SELECT, INSERT, UPDATE, DELETE ON
    account, app_user, api_key, login_session, login_throttle, idempotency_key, claim_code, grafana_login,
    schedule, schedule_rule, meter_group, dtu, metering_point, meter, installation, meter_own_schedule, meter_schedule
    TO polyphase_platform;
GRANT SELECT ON
    audit, dtu_session, reading_electricity, reading_fluid, reading_side, slot_ending, latest_reading, reading_conflict,
    reading_rejected, frame_evidence, consumption_hour, consumption_day, watermark TO polyphase_platform;

-- the front end and the storage path
GRANT SELECT ON
    account, schedule, schedule_rule, dtu, metering_point, meter, installation, meter_schedule TO polyphase_ingest;
GRANT UPDATE (learned) ON dtu TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE ON dtu_session, watermark, consumption_round TO polyphase_ingest;
GRANT SELECT, INSERT ON
    reading_electricity, reading_fluid, reading_side, slot_ending, reading_conflict, reading_rejected TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON
    latest_reading, consumption_dirty, consumption_hour, consumption_day, frame_evidence TO polyphase_ingest;

-- dashboards: no keys, no password hashes, no raw frames
GRANT SELECT (id, name, time_zone, currency) ON account TO polyphase_grafana;
GRANT SELECT ON
    grafana_login, schedule, schedule_rule, meter_group, dtu, dtu_session, metering_point, meter, installation,
    meter_schedule, reading_electricity, reading_fluid, reading_side, slot_ending, latest_reading, consumption_hour,
    consumption_day, watermark TO polyphase_grafana;

GRANT EXECUTE ON FUNCTION ensure_day(date), close_day(date), drop_day(text, date), partition_days(text)
    TO polyphase_ingest;
GRANT EXECUTE ON FUNCTION
    wanted_schedules(int, int, int), refresh_meter_schedules(int, int, int, timestamptz),
    audit_append(int, timestamptz, text, text, text, jsonb), audit_verify(),
    mark_consumption(int, int, timestamptz, timestamptz),
    audit_digest(bytea, bigint, int, timestamptz, text, text, text, jsonb)
    TO polyphase_app, polyphase_platform;
GRANT EXECUTE ON FUNCTION audit_append(int, timestamptz, text, text, text, jsonb) TO polyphase_ingest;
