-- Control: commands with every edge of theirs, what people approved, what the brake counts, and the policy as data.
--
-- Commands are written by the desk alone (role ingest): the API can read them and cannot make one. Every edge is a row,
-- written with its audit entry in one transaction before its effect.

-- The account's policy (domain/command/policy.rs), and the outside temperature that its interlocks may ask for.
CREATE TABLE control_policy (
    account_id int PRIMARY KEY REFERENCES account (id),
    policy jsonb NOT NULL,
    celsius numeric,
    celsius_at timestamptz,
    version int NOT NULL DEFAULT 1
);

-- Meters whose supply is kept, whoever asks.
CREATE TABLE meter_protection (
    meter_id int PRIMARY KEY,
    account_id int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('life_support', 'protected')),
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 500),
    until timestamptz,
    created_at timestamptz NOT NULL,
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id)
);

-- One request of one person, for one meter or many. The key makes it happen once, over restarts too.
CREATE TABLE command_batch (
    id uuid PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    key text CHECK (length(key) BETWEEN 1 AND 200),
    request_hash bytea NOT NULL,
    refused jsonb NOT NULL DEFAULT '[]', -- meters for which there is no command, and why
    created_at timestamptz NOT NULL,
    UNIQUE (account_id, key)
);

-- The schedule of a command: street lamps, pump hours.
CREATE TABLE control_schedule (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    cron text NOT NULL,
    time_zone text NOT NULL,
    action jsonb NOT NULL,
    meters int[] NOT NULL DEFAULT '{}',
    group_id int,
    expires_in_s int NOT NULL CHECK (expires_in_s > 0),
    reason text NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    requested_by int NOT NULL,
    requested_as text NOT NULL,
    approved_by int,
    approved_at timestamptz,
    done_until timestamptz NOT NULL, -- runs due up to here are over
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, group_id) REFERENCES meter_group (account_id, id),
    CHECK (approved_by <> requested_by)
);

CREATE TABLE command (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    meter_id int NOT NULL,
    dtu_id int NOT NULL,
    target jsonb NOT NULL, -- the meter as it stood
    action jsonb NOT NULL,
    claims_relay boolean NOT NULL,
    state text NOT NULL CHECK (state IN ('requested', 'held', 'approved', 'sent', 'confirmed', 'failed', 'unknown',
                                         'rejected', 'cancelled', 'expired')),
    reason text NOT NULL CHECK (length(reason) <= 500),
    requested_by int NOT NULL REFERENCES app_user (id),
    requested_as text NOT NULL,
    batch_id uuid NOT NULL REFERENCES command_batch (id),
    schedule_id int,
    requested_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    holds jsonb NOT NULL DEFAULT '[]',
    needs smallint NOT NULL DEFAULT 0 CHECK (needs >= 0),
    sent_through bigint,
    sent_at timestamptz,
    ended_at timestamptz,
    outcome jsonb, -- what the last edge said
    version int NOT NULL,
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    FOREIGN KEY (account_id, schedule_id) REFERENCES control_schedule (account_id, id),
    CHECK (expires_at > requested_at)
);
-- at most one open command per relay
CREATE UNIQUE INDEX command_relay_open ON command (meter_id)
    WHERE claims_relay AND state IN ('requested', 'held', 'approved', 'sent', 'unknown');
CREATE INDEX command_open ON command (id) WHERE state IN ('requested', 'held', 'approved', 'sent', 'unknown');
CREATE INDEX command_account ON command (account_id, id DESC);
CREATE INDEX command_meter ON command (meter_id, id DESC);
CREATE INDEX command_batch_id ON command (batch_id);

-- Append only.
CREATE TABLE command_edge (
    command_id bigint NOT NULL REFERENCES command (id),
    version int NOT NULL,
    account_id int NOT NULL,
    at timestamptz NOT NULL, -- the clock that never goes back
    wall_at timestamptz NOT NULL,
    state text NOT NULL,
    actor text NOT NULL,
    detail jsonb NOT NULL,
    PRIMARY KEY (command_id, version)
);

CREATE TABLE command_approval (
    command_id bigint NOT NULL REFERENCES command (id),
    user_id int NOT NULL REFERENCES app_user (id),
    account_id int NOT NULL,
    at timestamptz NOT NULL,
    digest bytea NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (command_id, user_id)
);

-- What the brake counts: one row per permitted trip, written with the edge to sent.
CREATE TABLE trip (
    command_id bigint PRIMARY KEY REFERENCES command (id),
    account_id int NOT NULL,
    dtu_id int NOT NULL,
    at timestamptz NOT NULL
);
CREATE INDEX trip_at ON trip (at);

-- The high-water mark of time.
CREATE TABLE control_clock (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    mark timestamptz NOT NULL
);

-- Emergency stops; without an account: the whole server.
CREATE TABLE emergency_stop (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    reason text NOT NULL CHECK (length(reason) <= 500),
    began_at timestamptz NOT NULL,
    began_by text NOT NULL,
    ended_at timestamptz,
    ended_by text
);
CREATE UNIQUE INDEX emergency_stop_open ON emergency_stop (coalesce(account_id, 0)) WHERE ended_at IS NULL;

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY[
    'control_policy', 'meter_protection', 'command_batch', 'control_schedule', 'command', 'command_edge',
    'command_approval', 'trip', 'emergency_stop']) AS t;

GRANT SELECT, INSERT, UPDATE, DELETE ON control_policy, meter_protection, control_schedule
    TO polyphase_app, polyphase_platform;
GRANT SELECT ON command, command_batch, command_edge, command_approval, trip, emergency_stop
    TO polyphase_app, polyphase_platform;
GRANT SELECT ON control_policy, meter_protection, control_schedule, meter_group TO polyphase_ingest;
GRANT UPDATE (done_until) ON control_schedule TO polyphase_ingest;
GRANT UPDATE (refused) ON command_batch TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE ON command, emergency_stop, control_clock TO polyphase_ingest;
GRANT SELECT, INSERT ON command_batch, command_edge, command_approval, trip TO polyphase_ingest;
-- who asked and who approved are looked at anew before a command is sent
GRANT SELECT (id, account_id, roles, disabled_at) ON app_user TO polyphase_ingest;
GRANT SELECT ON command, command_edge, trip, emergency_stop TO polyphase_grafana;
