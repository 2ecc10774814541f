-- Signing in: second factors, the history of sign-ins, what a session knows of its client, scopes of keys.

-- Roles of the account whose people need a second factor to sign in.
ALTER TABLE account ADD COLUMN second_factor_roles text[] NOT NULL DEFAULT '{}'
    CHECK (second_factor_roles <@ ARRAY['admin', 'operator', 'billing', 'viewer']);

-- Null: whatever the key's person may.
ALTER TABLE api_key ADD COLUMN scopes text[];

ALTER TABLE login_session
    ADD COLUMN source text,
    ADD COLUMN agent text NOT NULL DEFAULT '' CHECK (length(agent) <= 300),
    ADD COLUMN place text,
    ADD COLUMN second_factor boolean NOT NULL DEFAULT false;

-- The secret is derived from the server's key and the salt; none is stored. Without confirmed_at it does not count yet.
CREATE TABLE second_factor (
    user_id int PRIMARY KEY REFERENCES app_user (id) ON DELETE CASCADE,
    account_id int REFERENCES account (id),
    salt uuid NOT NULL,
    enrolled_at timestamptz NOT NULL,
    confirmed_at timestamptz,
    last_step bigint NOT NULL DEFAULT 0, -- time step of the code used last: it and those before are worth nothing
    wrong_codes int NOT NULL DEFAULT 0,  -- since wrong_since
    wrong_since timestamptz
);

-- Each works once, in place of a code.
CREATE TABLE recovery_code (
    user_id int NOT NULL REFERENCES second_factor (user_id) ON DELETE CASCADE,
    account_id int REFERENCES account (id),
    hash bytea NOT NULL CHECK (length(hash) = 32),
    used_at timestamptz,
    PRIMARY KEY (user_id, hash)
);

-- Sign-ins of people, granted and refused; equal refusals of one minute are one row.
CREATE TABLE sign_in (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    user_id int NOT NULL REFERENCES app_user (id) ON DELETE CASCADE,
    at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    times int NOT NULL DEFAULT 1,
    outcome text NOT NULL CHECK (outcome IN ('granted', 'wrong_password', 'code_required', 'wrong_code')),
    source text,
    agent text NOT NULL CHECK (length(agent) <= 300),
    place text,
    throttled int NOT NULL DEFAULT 0 -- tries before this one that were not let through
);
CREATE INDEX sign_in_user ON sign_in (user_id, id DESC);
CREATE INDEX sign_in_source ON sign_in (user_id, source) WHERE outcome = 'granted';

-- It was never used: tries are counted in memory, and what outlives a restart is the history above.
DROP TABLE login_throttle;

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY['second_factor', 'recovery_code', 'sign_in']) AS t;

GRANT SELECT, INSERT, UPDATE, DELETE ON second_factor, recovery_code TO polyphase_app, polyphase_platform;
GRANT SELECT ON sign_in TO polyphase_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON sign_in TO polyphase_platform;
