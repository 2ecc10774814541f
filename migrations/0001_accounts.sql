-- Accounts, people, keys, sessions, the audit trail and idempotency keys.
-- Roles exist before this file runs (store/roles.rs makes them); row level security and grants are in 0004_access.sql.

CREATE TABLE account (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    time_zone text NOT NULL DEFAULT 'UTC',
    currency text NOT NULL DEFAULT 'EUR' CHECK (currency ~ '^[A-Z]{3}$'),
    schedule_id int, -- the default schedule; foreign key in 0002_fleet.sql
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    version int NOT NULL DEFAULT 1
);

-- account_id is null for people of the platform alone
CREATE TABLE app_user (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    email text NOT NULL CHECK (length(email) BETWEEN 3 AND 254),
    name text NOT NULL DEFAULT '',
    password_hash text NOT NULL,
    roles text[] NOT NULL
        CHECK (roles <@ ARRAY['admin', 'operator', 'billing', 'viewer', 'platform'] AND cardinality(roles) >= 1),
    -- grows when every session of the user has to end: password or roles changed, disabled
    session_epoch int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    CHECK (account_id IS NOT NULL OR roles = ARRAY['platform'])
);
CREATE UNIQUE INDEX app_user_email ON app_user (lower(email));

CREATE TABLE api_key (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    user_id int NOT NULL REFERENCES app_user (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    hash bytea NOT NULL UNIQUE CHECK (length(hash) = 32), -- sha256 of the whole key
    prefix text NOT NULL, -- what may be shown of it
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_key_user ON api_key (user_id);

CREATE TABLE login_session (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int REFERENCES account (id),
    user_id int NOT NULL REFERENCES app_user (id),
    token_hash bytea NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    session_epoch int NOT NULL, -- the user's at log-in; a smaller one than the user's has ended
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX login_session_user ON login_session (user_id);

-- Failed log-ins by what was tried (an e-mail address or a peer address), for the throttle.
CREATE TABLE login_throttle (
    subject text PRIMARY KEY,
    failures int NOT NULL,
    blocked_until timestamptz,
    updated_at timestamptz NOT NULL
);

-- A client's key for one effect: the same key with the same request gives the same answer, with another it is refused.
CREATE TABLE idempotency_key (
    account_id int NOT NULL REFERENCES account (id),
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 200),
    request_hash bytea NOT NULL,
    status smallint, -- null: under way
    response jsonb,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, key)
);

-- Append only, hash-chained over the whole server; ids have no holes. Written by audit_append alone.
CREATE TABLE audit (
    id bigint PRIMARY KEY,
    account_id int REFERENCES account (id),
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    detail jsonb NOT NULL,
    prev_hash bytea NOT NULL,
    hash bytea NOT NULL
);
CREATE INDEX audit_account ON audit (account_id, id);

-- What the hash of a row covers, besides the hash before it.
CREATE FUNCTION audit_digest(prev bytea, p_id bigint, p_account int, p_at timestamptz, p_actor text, p_action text,
                             p_object text, p_detail jsonb) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$
    SELECT sha256(prev || convert_to(jsonb_build_array(p_id, p_account,
               (extract(epoch FROM p_at) * 1000000)::bigint, p_actor, p_action, p_object, p_detail)::text, 'UTF8'))
$$;

-- Appends one entry; whoever appends waits for an append that is not committed yet, so the chain has one order.
CREATE FUNCTION audit_append(p_account int, p_at timestamptz, p_actor text, p_action text, p_object text, p_detail jsonb)
    RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    scope int := nullif(current_setting('app.account', true), '')::int;
    last audit%ROWTYPE;
    next_id bigint;
    prev bytea;
BEGIN
    IF scope IS NOT NULL AND scope IS DISTINCT FROM p_account THEN
        RAISE EXCEPTION 'audit entry of account % within account %', p_account, scope USING ERRCODE = '42501';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.audit'));
    SELECT * INTO last FROM audit ORDER BY id DESC LIMIT 1;
    next_id := coalesce(last.id, 0) + 1;
    prev := coalesce(last.hash, sha256(''));
    INSERT INTO audit (id, account_id, at, actor, action, object, detail, prev_hash, hash)
    VALUES (next_id, p_account, p_at, p_actor, p_action, p_object, p_detail, prev,
            audit_digest(prev, next_id, p_account, p_at, p_actor, p_action, p_object, p_detail));
    RETURN next_id;
END
$$;

-- The first entry that does not fit the chain; null: the chain holds.
CREATE FUNCTION audit_verify() RETURNS bigint
    LANGUAGE sql STABLE
    AS $$
    SELECT min(id) FROM (
        SELECT id,
               id <> row_number() OVER w
               OR prev_hash <> lag(hash, 1, sha256('')) OVER w
               OR hash <> audit_digest(prev_hash, id, account_id, at, actor, action, object, detail) AS broken
        FROM audit WINDOW w AS (ORDER BY id)
    ) AS entry WHERE broken
$$;
