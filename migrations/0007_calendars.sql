-- Calendars of working days and holidays, in dated versions, and schedules that heed them; intervals, settlement days,
-- overlap policy, budget and priority of schedules.

CREATE TABLE calendar (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id)
);
CREATE INDEX calendar_account ON calendar (account_id) WHERE deleted_at IS NULL;

-- What a calendar said when; each version in force over [valid_from, valid_to), at most one open. Never edited: what
-- was due in the past follows from them.
CREATE TABLE calendar_version (
    calendar_id int NOT NULL,
    account_id int NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to timestamptz,
    time_zone text NOT NULL,
    weekdays smallint[] NOT NULL, -- working ones, 1 Monday to 7 Sunday
    holidays date[] NOT NULL DEFAULT '{}',
    holiday_names text[] NOT NULL DEFAULT '{}', -- one for each of holidays, may be empty
    working_days date[] NOT NULL DEFAULT '{}', -- worked though the weekday is none
    PRIMARY KEY (calendar_id, valid_from),
    FOREIGN KEY (account_id, calendar_id) REFERENCES calendar (account_id, id),
    CHECK (valid_to > valid_from),
    CHECK (weekdays <@ ARRAY[1, 2, 3, 4, 5, 6, 7]::smallint[]),
    CHECK (cardinality(holidays) = cardinality(holiday_names)),
    EXCLUDE USING gist (int4range(calendar_id, calendar_id, '[]') WITH =, tstzrange(valid_from, valid_to) WITH &&)
);

ALTER TABLE schedule_rule
    ALTER COLUMN cron DROP NOT NULL,
    ADD COLUMN every_min smallint CHECK (every_min BETWEEN 1 AND 1440),
    ADD COLUMN settlement_day smallint CHECK (settlement_day BETWEEN 0 AND 28), -- 0: the last of the month
    ADD COLUMN settlement_hour smallint CHECK (settlement_hour BETWEEN 0 AND 23),
    ADD COLUMN settlement_minute smallint CHECK (settlement_minute BETWEEN 0 AND 59),
    ADD COLUMN calendar_id int,
    ADD COLUMN days text NOT NULL DEFAULT 'every_day'
        CHECK (days IN ('every_day', 'working_days', 'non_working_days', 'holidays')),
    ADD COLUMN overlap text NOT NULL DEFAULT 'queue_one' CHECK (overlap IN ('skip', 'queue_one')),
    ADD COLUMN priority text NOT NULL DEFAULT 'scheduled' CHECK (priority IN ('settlement', 'scheduled', 'back_fill')),
    ADD COLUMN budget smallint CHECK (budget BETWEEN 1 AND 1000),
    ADD FOREIGN KEY (account_id, calendar_id) REFERENCES calendar (account_id, id),
    -- one timing; a settlement has day, hour and minute
    ADD CHECK (num_nonnulls(cron, every_min, settlement_day) = 1),
    ADD CHECK (num_nonnulls(settlement_day, settlement_hour, settlement_minute) IN (0, 3)),
    ADD CHECK (calendar_id IS NOT NULL OR days = 'every_day');
CREATE INDEX schedule_rule_calendar ON schedule_rule (calendar_id) WHERE calendar_id IS NOT NULL AND valid_to IS NULL;

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY['calendar', 'calendar_version']) AS t;
GRANT SELECT, INSERT, UPDATE, DELETE ON calendar, calendar_version TO polyphase_app, polyphase_platform;
GRANT SELECT ON calendar, calendar_version TO polyphase_ingest, polyphase_grafana;
