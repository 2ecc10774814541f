-- Alarms: the rules as data in dated versions, the alarms with every step of theirs, the DTUs that one alarm stands for,
-- and what of a judgement is under way, so that a restart neither raises nor forgets anything.

CREATE TABLE alarm_rule (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    group_id int, -- neither: the whole account
    meter_id int,
    enabled boolean NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    kind text NOT NULL,
    judgement jsonb NOT NULL, -- domain/alarm/rule.rs: Check
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, group_id) REFERENCES meter_group (account_id, id),
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    CHECK (group_id IS NULL OR meter_id IS NULL)
);
CREATE INDEX alarm_rule_account ON alarm_rule (account_id, id) WHERE deleted_at IS NULL;

-- What a rule said when: written with every edit, in force over [valid_from, valid_to), never changed.
CREATE TABLE alarm_rule_version (
    rule_id int NOT NULL,
    version int NOT NULL,
    account_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    actor text NOT NULL,
    name text NOT NULL,
    group_id int,
    meter_id int,
    enabled boolean NOT NULL,
    severity text NOT NULL,
    judgement jsonb NOT NULL,
    PRIMARY KEY (rule_id, version),
    FOREIGN KEY (account_id, rule_id) REFERENCES alarm_rule (account_id, id),
    CHECK (valid_to >= valid_from)
);

-- account_id is null for alarms of the server itself. key names what is wrong (kind[:variant]@subject).
CREATE TABLE alarm (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 300),
    kind text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    dtu_id int,
    meter_id int,
    rule_id int,
    parent_id bigint REFERENCES alarm (id), -- of what this is a consequence
    detail jsonb NOT NULL,
    sentence text NOT NULL,
    raised_at timestamptz NOT NULL,
    cause_at timestamptz NOT NULL, -- of the data that raised it
    judged_at timestamptz NOT NULL, -- of the newest data that said anything of it
    occurrences int NOT NULL DEFAULT 1,
    acknowledged_at timestamptz,
    acknowledged_by text,
    shelved_until timestamptz,
    shelved_by text,
    reminded_at timestamptz,
    cleared_at timestamptz,
    cleared_by text,
    version int NOT NULL DEFAULT 1,
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id),
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id),
    FOREIGN KEY (account_id, rule_id) REFERENCES alarm_rule (account_id, id)
);
-- of one key at most one is open, whatever happens
CREATE UNIQUE INDEX alarm_open ON alarm (coalesce(account_id, 0), key) WHERE cleared_at IS NULL;
CREATE INDEX alarm_key ON alarm (key, id DESC);
CREATE INDEX alarm_account ON alarm (account_id, id DESC);
CREATE INDEX alarm_meter ON alarm (meter_id, id DESC) WHERE meter_id IS NOT NULL;
CREATE INDEX alarm_dtu ON alarm (dtu_id, id DESC) WHERE dtu_id IS NOT NULL;
CREATE INDEX alarm_parent ON alarm (parent_id) WHERE parent_id IS NOT NULL;

-- Append only. quiet: not to be forwarded (shelved, flapping, a consequence of another alarm).
CREATE TABLE alarm_edge (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm_id bigint NOT NULL REFERENCES alarm (id),
    account_id int,
    at timestamptz NOT NULL,
    step text NOT NULL CHECK (step IN ('raised', 'reopened', 'reminded', 'acknowledged', 'commented', 'shelved',
                                       'unshelved', 'cleared')),
    actor text NOT NULL,
    note text NOT NULL DEFAULT '' CHECK (length(note) <= 2000),
    quiet boolean NOT NULL
);
CREATE INDEX alarm_edge_alarm ON alarm_edge (alarm_id, id);

-- The DTUs that one alarm stands for.
CREATE TABLE alarm_victim (
    alarm_id bigint NOT NULL REFERENCES alarm (id),
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    since timestamptz NOT NULL,
    back_at timestamptz,
    PRIMARY KEY (alarm_id, dtu_id),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);

-- Conditions that are on their way to an alarm or to its end, by meter.
CREATE TABLE alarm_watch (
    meter_id int PRIMARY KEY,
    account_id int NOT NULL,
    state jsonb NOT NULL,
    at timestamptz NOT NULL,
    FOREIGN KEY (account_id, meter_id) REFERENCES meter (account_id, id)
);

-- Readings received before this have been judged.
CREATE TABLE alarm_mark (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    at timestamptz NOT NULL
);

-- repeated take-overs are looked for by these
CREATE INDEX dtu_session_replaced ON dtu_session (ended_at) WHERE cause = 'replaced';
CREATE INDEX reading_conflict_found ON reading_conflict (found_at);

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY[
    'alarm_rule', 'alarm_rule_version', 'alarm', 'alarm_edge', 'alarm_victim', 'alarm_watch']) AS t;

GRANT SELECT, INSERT, UPDATE ON alarm_rule, alarm_rule_version TO polyphase_app, polyphase_platform;
GRANT SELECT ON alarm, alarm_edge, alarm_victim TO polyphase_app, polyphase_platform;
-- people acknowledge, comment, shelve and clear; they raise nothing
GRANT UPDATE (acknowledged_at, acknowledged_by, shelved_until, shelved_by, cleared_at, cleared_by, version) ON alarm
    TO polyphase_app, polyphase_platform;
GRANT INSERT ON alarm_edge TO polyphase_app, polyphase_platform;
GRANT SELECT ON alarm_rule, meter_group, dtu_session, slot_ending, reading_conflict TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE ON alarm, alarm_victim, alarm_mark TO polyphase_ingest;
GRANT SELECT, INSERT ON alarm_edge TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON alarm_watch TO polyphase_ingest;
GRANT SELECT ON alarm, alarm_edge, alarm_victim, alarm_rule TO polyphase_grafana;

-- Alarms as dashboards read them.
CREATE VIEW grafana_alarm WITH (security_invoker = true) AS
SELECT a.raised_at AS time, a.id AS alarm_id, a.kind, a.severity, a.sentence, a.dtu_id, a.meter_id, a.parent_id,
       a.occurrences, a.acknowledged_at, a.acknowledged_by, a.shelved_until, a.cleared_at, a.cleared_by,
       a.cleared_at IS NULL AS open,
       CASE WHEN a.cleared_at IS NOT NULL THEN 'cleared' WHEN a.shelved_until > now() THEN 'shelved'
            WHEN a.acknowledged_at IS NOT NULL THEN 'acknowledged' ELSE 'raised' END AS state,
       (SELECT count(*) FROM alarm_victim v WHERE v.alarm_id = a.id) AS victims
FROM alarm a;

CREATE VIEW grafana_alarm_edge WITH (security_invoker = true) AS
SELECT e.at AS time, e.alarm_id, e.step, e.actor, e.note, e.quiet, a.kind, a.severity, a.dtu_id, a.meter_id
FROM alarm_edge e JOIN alarm a ON a.id = e.alarm_id;

CREATE VIEW grafana_alarm_rule WITH (security_invoker = true) AS
SELECT id AS rule_id, name, kind, severity, enabled, group_id, meter_id, judgement::text AS judgement, created_at AS time
FROM alarm_rule WHERE deleted_at IS NULL;

GRANT SELECT ON grafana_alarm, grafana_alarm_edge, grafana_alarm_rule TO polyphase_grafana;
