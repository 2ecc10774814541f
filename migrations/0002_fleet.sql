-- DTUs, meters, metering points, their dated installations, and dated schedules.
-- Rows that others refer to are never deleted; deleted_at hides them. Foreign keys carry the account, so that nothing
-- can point into another account, whatever the row policies say.

CREATE TABLE schedule (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id)
);

ALTER TABLE account ADD FOREIGN KEY (id, schedule_id) REFERENCES schedule (account_id, id);

-- Versions of a schedule's rule; each in force over [valid_from, valid_to), at most one open.
CREATE TABLE schedule_rule (
    schedule_id int NOT NULL,
    account_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    cron text NOT NULL,
    time_zone text NOT NULL,
    quantities text[] NOT NULL DEFAULT '{}', -- empty: all of the meter's model
    spread_s int NOT NULL CHECK (spread_s >= 0),
    window_s int NOT NULL CHECK (window_s > 0),
    attempts smallint NOT NULL CHECK (attempts BETWEEN 1 AND 10),
    backoff_s int NOT NULL CHECK (backoff_s >= 0),
    deadline_s int NOT NULL CHECK (deadline_s > 0),
    missed_run text NOT NULL CHECK (missed_run IN ('skip', 'once', 'all')),
    PRIMARY KEY (schedule_id, valid_from),
    FOREIGN KEY (account_id, schedule_id) REFERENCES schedule (account_id, id),
    CHECK (valid_to > valid_from),
    EXCLUDE USING gist (int4range(schedule_id, schedule_id, '[]') WITH =, tstzrange(valid_from, valid_to) WITH &&)
);

CREATE TABLE meter_group (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    parent_id int,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, parent_id) REFERENCES meter_group (account_id, id),
    CHECK (parent_id <> id)
);

CREATE TABLE dtu (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    sn text CHECK (length(sn) BETWEEN 1 AND 80), -- dialled gateways and serial ports may have none
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    connect jsonb NOT NULL DEFAULT '{"kind": "inbound"}',
    profile text,
    time_zone text,
    silence_s int NOT NULL DEFAULT 180 CHECK (silence_s BETWEEN 10 AND 86400),
    timeout_ms int NOT NULL DEFAULT 2000 CHECK (timeout_ms BETWEEN 10 AND 120000),
    pause_ms int NOT NULL DEFAULT 50 CHECK (pause_ms BETWEEN 0 AND 60000),
    enabled boolean NOT NULL DEFAULT true,
    schedule_id int,
    learned jsonb,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, schedule_id) REFERENCES schedule (account_id, id)
);
CREATE UNIQUE INDEX dtu_sn ON dtu (sn) WHERE deleted_at IS NULL;

-- Codes printed on devices, for claims = "code": who knows the code of an SN may claim it.
CREATE TABLE claim_code (
    sn text PRIMARY KEY,
    code_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    used_at timestamptz
);

CREATE TABLE dtu_session (
    id bigint PRIMARY KEY,
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    peer text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz,
    cause text,
    counters jsonb NOT NULL DEFAULT '{}',
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);
CREATE INDEX dtu_session_dtu ON dtu_session (dtu_id, began_at DESC);
CREATE INDEX dtu_session_open ON dtu_session (id) WHERE ended_at IS NULL;

CREATE TABLE metering_point (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    group_id int,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, group_id) REFERENCES meter_group (account_id, id)
);

CREATE TABLE meter (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    dtu_id int NOT NULL,
    protocol text NOT NULL,
    address text NOT NULL,
    model text NOT NULL,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    comment text NOT NULL DEFAULT '',
    group_id int,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id),
    FOREIGN KEY (account_id, group_id) REFERENCES meter_group (account_id, id)
);
CREATE UNIQUE INDEX meter_line_address ON meter (dtu_id, protocol, address) WHERE deleted_at IS NULL;
CREATE INDEX meter_account ON meter (account_id) WHERE deleted_at IS NULL;
CREATE INDEX meter_group_id ON meter (group_id) WHERE group_id IS NOT NULL;

-- Which meter stood at a point from when to when, with its ratios and its registers at both ends
-- ({"active_energy_import": "1234.56"}). Ranges of one meter, and of one point, never overlap.
CREATE TABLE installation (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    point_id int NOT NULL,
    meter_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    ct_ratio numeric NOT NULL DEFAULT 1 CHECK (ct_ratio > 0),
    vt_ratio numeric NOT NULL DEFAULT 1 CHECK (vt_ratio > 0),
    opening jsonb NOT NULL DEFAULT '{}',
    closing jsonb NOT NULL DEFAULT '{}',
    FOREIGN KEY (account_id, point_id) REFERENCES metering_point (account_id, id),
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    CHECK (valid_to > valid_from),
    CONSTRAINT installation_meter_once
        EXCLUDE USING gist (int4range(meter_id, meter_id, '[]') WITH =, tstzrange(valid_from, valid_to) WITH &&),
    CONSTRAINT installation_point_once
        EXCLUDE USING gist (int4range(point_id, point_id, '[]') WITH =, tstzrange(valid_from, valid_to) WITH &&)
);
CREATE INDEX installation_meter ON installation (meter_id, valid_from);
CREATE INDEX installation_point ON installation (point_id, valid_from);

-- A meter's own schedules, as its operator wants them now.
CREATE TABLE meter_own_schedule (
    meter_id int NOT NULL,
    schedule_id int NOT NULL,
    account_id int NOT NULL,
    PRIMARY KEY (meter_id, schedule_id),
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    FOREIGN KEY (account_id, schedule_id) REFERENCES schedule (account_id, id)
);

-- Which schedules applied to a meter when: its own, else its DTU's, else its account's. What was due at any instant of
-- the past follows from these rows and schedule_rule. Written by refresh_meter_schedules alone.
CREATE TABLE meter_schedule (
    meter_id int NOT NULL,
    schedule_id int NOT NULL,
    account_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    PRIMARY KEY (meter_id, schedule_id, valid_from),
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    FOREIGN KEY (account_id, schedule_id) REFERENCES schedule (account_id, id),
    CHECK (valid_to > valid_from)
);
CREATE UNIQUE INDEX meter_schedule_open ON meter_schedule (meter_id, schedule_id) WHERE valid_to IS NULL;
CREATE INDEX meter_schedule_schedule ON meter_schedule (schedule_id);

-- The schedules that should apply now, for the meters picked (null: does not restrict).
CREATE FUNCTION wanted_schedules(p_account int, p_dtu int, p_meter int) RETURNS TABLE (meter_id int, schedule_id int)
    LANGUAGE sql STABLE
    AS $$
    SELECT m.id, s.id
    FROM meter m
    JOIN dtu d ON d.id = m.dtu_id AND d.deleted_at IS NULL
    JOIN account a ON a.id = m.account_id
    CROSS JOIN LATERAL (
        SELECT own.schedule_id FROM meter_own_schedule own WHERE own.meter_id = m.id
        UNION ALL
        SELECT coalesce(d.schedule_id, a.schedule_id)
        WHERE NOT EXISTS (SELECT FROM meter_own_schedule own WHERE own.meter_id = m.id)
    ) AS pick
    JOIN schedule s ON s.id = pick.schedule_id AND s.deleted_at IS NULL
    WHERE m.deleted_at IS NULL
      AND m.account_id = p_account
      AND (p_dtu IS NULL OR m.dtu_id = p_dtu)
      AND (p_meter IS NULL OR m.id = p_meter)
$$;

-- Derives meter_schedule anew at p_at for one meter, one DTU's meters or an account's meters (null: does not restrict):
-- closes what no longer applies, opens what now does. Call it in the transaction that changed an assignment. Returns
-- how many rows changed.
CREATE FUNCTION refresh_meter_schedules(p_account int, p_dtu int, p_meter int, p_at timestamptz) RETURNS int
    LANGUAGE plpgsql
    AS $$
DECLARE
    gone int;
    closed int;
    opened int;
BEGIN
    -- two edits of one account are put in order, else both could open the same row
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.meter_schedule'), p_account);

    -- a row that would be closed at or before its beginning was never in force
    DELETE FROM meter_schedule ms USING meter m
    WHERE m.id = ms.meter_id AND ms.valid_to IS NULL AND ms.valid_from >= p_at
      AND m.account_id = p_account AND (p_dtu IS NULL OR m.dtu_id = p_dtu) AND (p_meter IS NULL OR m.id = p_meter)
      AND (ms.meter_id, ms.schedule_id) NOT IN (SELECT w.meter_id, w.schedule_id
                                                FROM wanted_schedules(p_account, p_dtu, p_meter) w);
    GET DIAGNOSTICS gone = ROW_COUNT;

    UPDATE meter_schedule ms SET valid_to = p_at FROM meter m
    WHERE m.id = ms.meter_id AND ms.valid_to IS NULL
      AND m.account_id = p_account AND (p_dtu IS NULL OR m.dtu_id = p_dtu) AND (p_meter IS NULL OR m.id = p_meter)
      AND (ms.meter_id, ms.schedule_id) NOT IN (SELECT w.meter_id, w.schedule_id
                                                FROM wanted_schedules(p_account, p_dtu, p_meter) w);
    GET DIAGNOSTICS closed = ROW_COUNT;

    INSERT INTO meter_schedule (meter_id, schedule_id, account_id, valid_from)
    SELECT w.meter_id, w.schedule_id, p_account, p_at FROM wanted_schedules(p_account, p_dtu, p_meter) w
    WHERE NOT EXISTS (SELECT FROM meter_schedule ms
                      WHERE ms.meter_id = w.meter_id AND ms.schedule_id = w.schedule_id AND ms.valid_to IS NULL)
    ON CONFLICT (meter_id, schedule_id, valid_from) DO UPDATE SET valid_to = NULL;
    GET DIAGNOSTICS opened = ROW_COUNT;
    RETURN gone + closed + opened;
END
$$;
