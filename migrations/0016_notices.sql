-- Notices: what people are told, from what happened to the message that went out.
--
-- notice: one happening, written in the transaction of its cause. notice_item: one channel that is to be told of it, due
-- at an instant. notice_message: the outbox, items bundled and written in the person's language; it keeps its id over
-- every attempt. All of it together is the history.

CREATE TABLE notice_recipient (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    user_id int REFERENCES app_user (id) ON DELETE SET NULL,
    language text NOT NULL CHECK (language IN ('en', 'zh', 'ja', 'ru')),
    time_zone text NOT NULL,
    quiet jsonb,
    digest jsonb,
    per_hour int CHECK (per_hour BETWEEN 1 AND 10000),
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id)
);

CREATE TABLE notice_channel (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL,
    recipient_id int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('email', 'telegram', 'sms', 'webhook')),
    address text NOT NULL CHECK (length(address) BETWEEN 1 AND 2000),
    enabled boolean NOT NULL DEFAULT true,
    -- a webhook's secret is derived from the server's key and this; no secret is stored
    salt uuid NOT NULL DEFAULT gen_random_uuid(),
    old_salt uuid,
    old_salt_until timestamptz,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, recipient_id) REFERENCES notice_recipient (account_id, id)
);
CREATE INDEX notice_channel_recipient ON notice_channel (recipient_id) WHERE deleted_at IS NULL;

CREATE TABLE notice_route (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    rule jsonb NOT NULL,
    enabled boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1
);

CREATE TABLE notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id), -- null: the server's own, until it is planned
    subject text NOT NULL,
    edge text NOT NULL CHECK (edge IN ('raised', 'reminded', 'acknowledged', 'cleared')),
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'critical')),
    kind text NOT NULL,
    facts jsonb NOT NULL,
    groups int[] NOT NULL,
    at timestamptz NOT NULL,
    planned_at timestamptz,
    outcome text
);
CREATE INDEX notice_unplanned ON notice (id) WHERE planned_at IS NULL;
CREATE INDEX notice_account ON notice (account_id, id DESC);
CREATE INDEX notice_subject ON notice (account_id, subject, id DESC);
CREATE INDEX notice_at ON notice (at);

CREATE TABLE notice_message (
    id uuid PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    recipient_id int NOT NULL REFERENCES notice_recipient (id),
    channel_id int NOT NULL REFERENCES notice_channel (id),
    kind text NOT NULL,
    address text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    payload jsonb NOT NULL,
    critical boolean NOT NULL,
    test boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'sent', 'dead')),
    attempts smallint NOT NULL DEFAULT 0,
    spent smallint NOT NULL DEFAULT 0, -- attempts of earlier lives
    born_at timestamptz NOT NULL,      -- of its present life
    next_at timestamptz,
    last_error text,
    reference text,
    maybe_twice boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    ended_at timestamptz
);
CREATE INDEX notice_message_due ON notice_message (kind, next_at) WHERE state = 'waiting';
CREATE INDEX notice_message_sending ON notice_message (channel_id) WHERE state = 'sending';
CREATE INDEX notice_message_open ON notice_message (kind) WHERE state IN ('waiting', 'sending');
CREATE INDEX notice_message_account ON notice_message (account_id, created_at DESC, id DESC);
CREATE INDEX notice_message_created ON notice_message (created_at);

CREATE TABLE notice_item (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL,
    notice_id bigint NOT NULL REFERENCES notice (id) ON DELETE CASCADE,
    recipient_id int NOT NULL REFERENCES notice_recipient (id),
    channel_id int NOT NULL REFERENCES notice_channel (id),
    route_id int NOT NULL REFERENCES notice_route (id),
    step smallint NOT NULL,
    due_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'bundled', 'cancelled')),
    reason text,
    message_id uuid
);
CREATE INDEX notice_item_due ON notice_item (due_at) WHERE state = 'waiting';
CREATE INDEX notice_item_waiting ON notice_item (account_id) WHERE state = 'waiting';
CREATE INDEX notice_item_notice ON notice_item (notice_id);

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY[
    'notice_recipient', 'notice_channel', 'notice_route', 'notice', 'notice_item', 'notice_message']) AS t;

GRANT SELECT, INSERT, UPDATE ON notice_recipient, notice_channel, notice_route TO polyphase_app, polyphase_platform;
GRANT SELECT ON notice, notice_item, notice_message TO polyphase_app, polyphase_platform;
-- test messages, and another life for the dead
GRANT INSERT ON notice_message TO polyphase_app, polyphase_platform;
GRANT UPDATE (state, attempts, spent, born_at, next_at, last_error, ended_at) ON notice_message
    TO polyphase_app, polyphase_platform;
GRANT UPDATE (state, reason) ON notice_item TO polyphase_app, polyphase_platform;
-- an alarm that a person acknowledges is news as well
GRANT INSERT ON notice TO polyphase_app, polyphase_platform;

GRANT SELECT ON notice_recipient, notice_channel, notice_route TO polyphase_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON notice, notice_item, notice_message TO polyphase_ingest;
