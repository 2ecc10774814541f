-- Marks for the roll-ups in one row per batch, account and hour, with the meters in an array. A row per meter and hour, in two
-- tables with an index each, took the storage path more time than the readings themselves (docs/BENCHMARKS.md).
--
-- A roll-up spreads the oldest marks over the two tables of before, which are its work lists now: they are not logged, because
-- a mark stays here until what it says is computed.

CREATE TABLE hour_mark (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hour timestamptz NOT NULL, -- of UTC
    round bigint NOT NULL, -- of consumption_round, which whoever marks holds
    account_id int NOT NULL,
    registers boolean NOT NULL, -- consumption of the meters' points
    polls boolean NOT NULL, -- the meters' own hours
    meters int[] NOT NULL
);
CREATE INDEX hour_mark_hour ON hour_mark (hour);
SELECT protect_account_table('hour_mark');
GRANT SELECT ON hour_mark TO polyphase_app;
GRANT SELECT, INSERT, DELETE ON hour_mark TO polyphase_ingest;

INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
SELECT hour, round, account_id, true, false, array_agg(meter_id) FROM consumption_dirty GROUP BY 1, 2, 3;
INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
SELECT hour, round, account_id, false, true, array_agg(meter_id) FROM meter_hour_dirty GROUP BY 1, 2, 3;
TRUNCATE consumption_dirty, meter_hour_dirty;
ALTER TABLE consumption_dirty SET UNLOGGED;
ALTER TABLE meter_hour_dirty SET UNLOGGED;
DROP INDEX meter_hour_dirty_hour;
REVOKE SELECT ON consumption_dirty, meter_hour_dirty FROM polyphase_app;

CREATE OR REPLACE FUNCTION mark_consumption(p_account int, p_meter int, p_from timestamptz, p_to timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    scope int := nullif(current_setting('app.account', true), '')::int;
    current_round bigint;
BEGIN
    IF scope IS NOT NULL AND scope IS DISTINCT FROM p_account
       OR NOT EXISTS (SELECT FROM meter WHERE id = p_meter AND account_id = p_account) THEN
        RAISE EXCEPTION 'meter % is not of account %', p_meter, p_account USING ERRCODE = '42501';
    END IF;
    SELECT round INTO current_round FROM consumption_round FOR SHARE;
    INSERT INTO hour_mark (hour, round, account_id, registers, polls, meters)
    SELECT hour, current_round, p_account, true, false, ARRAY[p_meter]
    FROM generate_series(date_trunc('hour', p_from, 'UTC'), p_to, interval '1 hour') AS hour;
END
$$;

DROP FUNCTION mark_meter_hours(int[], timestamptz[], int[]);
