-- Readings, slot endings, consumption, evidence. Partitioned by day (UTC), made ahead by ensure_day.
--
-- One row per poll. ts is the due time for scheduled readings, the start for on-demand ones, the device's time stamp for
-- pushed and back-filled ones. source: 0 scheduled, 1 on demand, 2 back fill, 3 pushed, 4 manual, 5 imported. quality
-- names the exceptions only ({"voltage_l1": "suspect"}); what it does not name was measured. Registers are numeric,
-- instantaneous values real; what has no column or does not fit its type exactly is in reading_side. No foreign keys:
-- they would cost a look-up per row on the hottest path, and rows of meter and account are never deleted.
-- The key begins with the time: docs/decisions/0002-reading-key.md.

CREATE TABLE reading_electricity (
    ts timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    meter_time timestamptz,
    poll_id bigint NOT NULL,
    frame_first bigint NOT NULL,
    meter_id int NOT NULL,
    account_id int NOT NULL,
    source smallint NOT NULL CHECK (source BETWEEN 0 AND 5),
    frame_count smallint NOT NULL,
    quality jsonb,
    voltage_l1 real,
    voltage_l2 real,
    voltage_l3 real,
    voltage_l1_l2 real,
    voltage_l2_l3 real,
    voltage_l3_l1 real,
    current_l1 real,
    current_l2 real,
    current_l3 real,
    current_n real,
    active_power_total real,
    active_power_l1 real,
    active_power_l2 real,
    active_power_l3 real,
    reactive_power_total real,
    reactive_power_l1 real,
    reactive_power_l2 real,
    reactive_power_l3 real,
    apparent_power_total real,
    apparent_power_l1 real,
    apparent_power_l2 real,
    apparent_power_l3 real,
    power_factor_total real,
    power_factor_l1 real,
    power_factor_l2 real,
    power_factor_l3 real,
    frequency real,
    demand_active_import real,
    max_demand_active_import real,
    active_energy_total numeric,
    active_energy_total_t1 numeric,
    active_energy_total_t2 numeric,
    active_energy_total_t3 numeric,
    active_energy_total_t4 numeric,
    active_energy_import numeric,
    active_energy_import_t1 numeric,
    active_energy_import_t2 numeric,
    active_energy_import_t3 numeric,
    active_energy_import_t4 numeric,
    active_energy_import_l1 numeric,
    active_energy_import_l2 numeric,
    active_energy_import_l3 numeric,
    active_energy_export numeric,
    active_energy_export_t1 numeric,
    active_energy_export_t2 numeric,
    active_energy_export_t3 numeric,
    active_energy_export_t4 numeric,
    active_energy_export_l1 numeric,
    active_energy_export_l2 numeric,
    active_energy_export_l3 numeric,
    reactive_energy_total numeric,
    reactive_energy_import numeric,
    reactive_energy_export numeric,
    reactive_energy_q1 numeric,
    reactive_energy_q2 numeric,
    reactive_energy_q3 numeric,
    reactive_energy_q4 numeric,
    apparent_energy_import numeric,
    PRIMARY KEY (ts, meter_id, source)
) PARTITION BY RANGE (ts);

CREATE TABLE reading_fluid (
    ts timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    meter_time timestamptz,
    poll_id bigint NOT NULL,
    frame_first bigint NOT NULL,
    meter_id int NOT NULL,
    account_id int NOT NULL,
    source smallint NOT NULL CHECK (source BETWEEN 0 AND 5),
    frame_count smallint NOT NULL,
    quality jsonb,
    flow_rate real,
    thermal_power real,
    temperature real,
    temperature_flow real,
    temperature_return real,
    temperature_difference real,
    pressure real,
    volume_total numeric,
    volume_reverse numeric,
    volume_settlement numeric,
    heat_energy numeric,
    heat_energy_settlement numeric,
    cooling_energy numeric,
    gas_volume numeric,
    operating_hours numeric,
    PRIMARY KEY (ts, meter_id, source)
) PARTITION BY RANGE (ts);

-- Rare and vendor quantities, and values that a wide column would round. Exactly one of exact and approx is set.
CREATE TABLE reading_side (
    ts timestamptz NOT NULL,
    meter_id int NOT NULL,
    account_id int NOT NULL,
    approx double precision,
    source smallint NOT NULL CHECK (source BETWEEN 0 AND 5),
    quality smallint NOT NULL CHECK (quality BETWEEN 0 AND 3), -- 0 measured, 1 estimated, 2 substituted, 3 suspect
    quantity text COLLATE "C" NOT NULL,
    exact numeric,
    PRIMARY KEY (ts, meter_id, source, quantity),
    CHECK ((exact IS NULL) <> (approx IS NULL))
) PARTITION BY RANGE (ts);

-- Endings of slots other than the plain on-time reading. A later, different ending is a new version; none is changed.
CREATE TABLE slot_ending (
    due_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    meter_id int NOT NULL,
    schedule_id int NOT NULL,
    account_id int NOT NULL,
    version smallint NOT NULL CHECK (version >= 1),
    attempts smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('actual', 'late', 'estimated', 'missing')),
    reason text,
    detail text,
    PRIMARY KEY (due_at, meter_id, schedule_id, version),
    CHECK ((state = 'missing') OR reason IS NULL)
) PARTITION BY RANGE (due_at);

-- Before this instant every slot has an ending.
CREATE TABLE watermark (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    at timestamptz NOT NULL
);

-- Where a meter's newest reading of each set of quantities is: a pointer of some sixty bytes, updated in place, instead
-- of a copy of the values. shape is a hash of the set; family 0 electricity, 1 fluid.
CREATE TABLE latest_reading (
    meter_id int NOT NULL,
    shape int NOT NULL,
    account_id int NOT NULL,
    source smallint NOT NULL,
    family smallint NOT NULL,
    ts timestamptz NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (meter_id, shape)
) WITH (fillfactor = 60);

-- Another value under a key that was there already. Never written over the first one.
CREATE TABLE reading_conflict (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL,
    meter_id int NOT NULL,
    ts timestamptz NOT NULL,
    source smallint NOT NULL,
    found_at timestamptz NOT NULL,
    stored jsonb NOT NULL,
    offered jsonb NOT NULL,
    offered_hash bytea NOT NULL, -- a replay finds its own conflict again
    UNIQUE (meter_id, ts, source, offered_hash)
);

-- Records that the database refuses whatever we do, with the reason; the batch went on without them.
CREATE TABLE reading_rejected (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL,
    meter_id int NOT NULL,
    ts timestamptz NOT NULL,
    source smallint NOT NULL,
    found_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    reason text NOT NULL,
    record jsonb NOT NULL,
    record_hash bytea NOT NULL,
    UNIQUE (meter_id, ts, source, record_hash)
);

-- Raw frames of failures and strays, copied out of the recorder's ring.
CREATE TABLE frame_evidence (
    id bigint PRIMARY KEY,
    account_id int, -- null while the connection had no owner
    dtu_id int,
    connection_id bigint NOT NULL,
    meter_id int,
    poll_id bigint,
    at timestamptz NOT NULL,
    kind text NOT NULL,
    protocol text NOT NULL,
    bytes bytea NOT NULL
);
CREATE INDEX frame_evidence_at ON frame_evidence (at);
CREATE INDEX frame_evidence_dtu ON frame_evidence (dtu_id, id DESC);

-- Hours in which register readings of a meter came in and whose consumption is not computed anew yet. Whoever marks
-- shares the row of consumption_round and marks with its number; a roll-up first raises the number, which waits for
-- every mark under way, and then works off the smaller ones. So no mark is lost between the two.
CREATE TABLE consumption_round (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    round bigint NOT NULL
);
INSERT INTO consumption_round (round) VALUES (1);

CREATE TABLE consumption_dirty (
    meter_id int NOT NULL,
    hour timestamptz NOT NULL,
    round bigint NOT NULL,
    account_id int NOT NULL,
    PRIMARY KEY (meter_id, hour, round)
);

-- Marks the hours of a meter from p_from to p_to (for edits of installations; readings are marked by the storage path).
CREATE FUNCTION mark_consumption(p_account int, p_meter int, p_from timestamptz, p_to timestamptz) RETURNS void
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
    INSERT INTO consumption_dirty (meter_id, hour, round, account_id)
    SELECT p_meter, hour, current_round, p_account
    FROM generate_series(date_trunc('hour', p_from, 'UTC'), p_to, interval '1 hour') AS hour
    ON CONFLICT DO NOTHING;
END
$$;

-- Consumption of a metering point over an hour or a day of its account's wall clock, [start, finish), ratios included,
-- written by the roll-ups. No row: nothing is known. quality as in reading_side (1: over a long gap or of a part only, 3:
-- the register went back or a suspect reading was left out); interpolated: a boundary lies between two readings;
-- incomplete: part of it is not covered.
CREATE TABLE consumption_hour (
    start timestamptz NOT NULL,
    finish timestamptz NOT NULL,
    point_id int NOT NULL,
    account_id int NOT NULL,
    quality smallint NOT NULL CHECK (quality BETWEEN 0 AND 3),
    interpolated boolean NOT NULL,
    incomplete boolean NOT NULL,
    quantity text COLLATE "C" NOT NULL,
    value numeric NOT NULL CHECK (value >= 0),
    PRIMARY KEY (point_id, quantity, start)
);

CREATE TABLE consumption_day (LIKE consumption_hour INCLUDING ALL);

-- Makes the partitions of one UTC day; harmless when they are there. The ingest role writes straight into them, because
-- COPY does not work on a table under row level security; everyone else sees the parents alone.
CREATE FUNCTION ensure_day(p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    parent text;
    child text;
    begins timestamptz := p_day::timestamp AT TIME ZONE 'UTC';
    ends timestamptz := (p_day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.partitions'));
    FOREACH parent IN ARRAY ARRAY['reading_electricity', 'reading_fluid', 'reading_side', 'slot_ending'] LOOP
        child := parent || '_' || to_char(p_day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(child) IS NOT NULL;
        -- made apart and attached: CREATE TABLE ... PARTITION OF would lock out every reader of the parent
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child, begins, ends);
        EXECUTE format('GRANT SELECT, INSERT ON %I TO polyphase_ingest', child);
    END LOOP;
END
$$;

-- Adds the index by meter to a day that has ended: within the open day it would cost ten times the log of a reading.
CREATE FUNCTION close_day(p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    parent text;
    child text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['reading_electricity', 'reading_fluid', 'reading_side', 'slot_ending'] LOOP
        child := parent || '_' || to_char(p_day, 'YYYYMMDD');
        CONTINUE WHEN to_regclass(child) IS NULL OR to_regclass(child || '_meter') IS NOT NULL;
        EXECUTE format('CREATE INDEX %I ON %I (meter_id, %I)', child || '_meter', child,
                       CASE parent WHEN 'slot_ending' THEN 'due_at' ELSE 'ts' END);
    END LOOP;
END
$$;

-- Drops one day of readings or of slot endings, when retention has ended it.
CREATE FUNCTION drop_day(p_parent text, p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF p_parent NOT IN ('reading_electricity', 'reading_fluid', 'reading_side', 'slot_ending') THEN
        RAISE EXCEPTION 'no table % is kept by the day', p_parent USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.partitions'));
    EXECUTE format('DROP TABLE IF EXISTS %I', p_parent || '_' || to_char(p_day, 'YYYYMMDD'));
END
$$;

-- The days that have partitions.
CREATE FUNCTION partition_days(p_parent text) RETURNS SETOF date
    LANGUAGE sql STABLE SET search_path = public, pg_temp
    AS $$
    SELECT to_date(right(c.relname, 8), 'YYYYMMDD')
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass(p_parent)
    ORDER BY 1
$$;
