-- Integrations: webhooks and MQTT brokers that are told of readings and events, each from a cursor of its own.
--
-- feed: what happened, in the transaction of its cause, once, however many are told of it. Of readings it holds the keys
-- of a batch and not the values; of events what is told. Numbers are given out before the commit: a reader waits until
-- nobody can be writing a smaller one (domain/integration/horizon.rs). Nothing is written for an account without integrations.

CREATE TABLE integration (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    kind text NOT NULL CHECK (kind IN ('webhook', 'mqtt')),
    target text NOT NULL CHECK (length(target) BETWEEN 1 AND 2000),
    login text NOT NULL DEFAULT '' CHECK (length(login) <= 200),
    sealed bytea, -- the password of a broker, readable with the server's key alone
    topics text[] NOT NULL,
    group_id int,
    quantities text[] NOT NULL,
    options jsonb NOT NULL, -- port/integrations.rs: Options
    enabled boolean NOT NULL,
    -- a webhook's secret is derived from the server's key and this
    salt uuid NOT NULL DEFAULT gen_random_uuid(),
    old_salt uuid,
    old_salt_until timestamptz,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz,
    version int NOT NULL DEFAULT 1,
    UNIQUE (account_id, id),
    FOREIGN KEY (account_id, group_id) REFERENCES meter_group (account_id, id)
);
CREATE INDEX integration_account ON integration (account_id) WHERE deleted_at IS NULL;

-- How far it is. Everything up to (seq, part) has been delivered; sending is what is on its way now, under its id, so that
-- whoever comes after a kill sends the same again.
CREATE TABLE integration_state (
    integration_id int PRIMARY KEY,
    account_id int NOT NULL,
    seq bigint NOT NULL,
    part int NOT NULL,
    sending uuid,
    sending_seq bigint,
    sending_part int,
    delivered bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,       -- rows of the feed that went before they were delivered, ever
    lost_untold bigint NOT NULL DEFAULT 0, -- and since the last delivery
    attempts int NOT NULL DEFAULT 0,
    failing_since timestamptz,
    next_at timestamptz,
    last_error text,
    last_success_at timestamptz,
    stopped_at timestamptz, -- by the server, after days of failure
    cleared_at timestamptz NOT NULL, -- what was removed before this is gone at the broker too
    FOREIGN KEY (account_id, integration_id) REFERENCES integration (account_id, id)
);

CREATE TABLE feed (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    topic text NOT NULL CHECK (topic IN ('readings', 'slots', 'alarms', 'commands', 'sessions')),
    items int NOT NULL CHECK (items > 0),
    -- readings, in the order in which they are told
    times timestamptz[],
    meters int[],
    sources smallint[],
    -- events: an array of objects with id, meter_id, dtu_id
    events jsonb,
    CHECK ((topic = 'readings') = (events IS NULL)),
    CHECK (cardinality(times) = items AND cardinality(meters) = items AND cardinality(sources) = items
           OR jsonb_array_length(events) = items)
);
CREATE INDEX feed_account ON feed (account_id, seq);
CREATE INDEX feed_at ON feed (at);

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY['integration', 'integration_state', 'feed']) AS t;

GRANT SELECT, INSERT, UPDATE ON integration, integration_state TO polyphase_app, polyphase_platform;
GRANT SELECT ON feed TO polyphase_app, polyphase_platform;
GRANT SELECT ON integration TO polyphase_ingest;
GRANT SELECT, UPDATE ON integration_state TO polyphase_ingest;
GRANT SELECT, DELETE ON feed TO polyphase_ingest;

-- Whether anybody wants to hear of a topic. Who is switched off still wants it: what happens meanwhile waits.
CREATE FUNCTION feed_wanted(p_account int, p_topic text) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT EXISTS (SELECT FROM integration
                   WHERE account_id = p_account AND deleted_at IS NULL AND p_topic = ANY (topics))
$$;

-- The keys of readings that a batch has just stored. The transaction has its number before the feed's is given out: what
-- a reader takes for settled is.
CREATE FUNCTION feed_readings(p_times timestamptz[], p_meters int[], p_sources smallint[], p_accounts int[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT pg_current_xact_id();
    INSERT INTO feed (account_id, topic, items, times, meters, sources)
    SELECT account, 'readings', count(*), array_agg(ts ORDER BY place), array_agg(meter ORDER BY place),
           array_agg(source ORDER BY place)
    FROM (SELECT k.account, k.ts, k.meter, k.source, k.place,
                 (row_number() OVER (PARTITION BY k.account ORDER BY k.place) - 1) / 500 AS chunk
          FROM unnest(p_times, p_meters, p_sources, p_accounts) WITH ORDINALITY AS k (ts, meter, source, account, place)
          WHERE k.account IN (SELECT account_id FROM integration WHERE deleted_at IS NULL AND 'readings' = ANY (topics))
         ) AS keyed
    GROUP BY account, chunk
    ORDER BY account, chunk
$$;
GRANT EXECUTE ON FUNCTION feed_readings(timestamptz[], int[], smallint[], int[]) TO polyphase_ingest;

CREATE FUNCTION feed_event(p_account int, p_topic text, p_event jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF feed_wanted(p_account, p_topic) THEN
        PERFORM pg_current_xact_id();
        INSERT INTO feed (account_id, topic, items, events) VALUES (p_account, p_topic, 1, jsonb_build_array(p_event));
    END IF;
END
$$;

CREATE FUNCTION feed_alarm() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    -- the server's own alarms are of no account
    IF NEW.account_id IS NOT NULL AND feed_wanted(NEW.account_id, 'alarms') THEN
        PERFORM feed_event(NEW.account_id, 'alarms', (
            SELECT jsonb_build_object(
                'id', 'alarm-' || NEW.id, 'alarm_id', a.id, 'step', NEW.step, 'at', NEW.at, 'kind', a.kind,
                'severity', a.severity, 'sentence', a.sentence, 'dtu_id', a.dtu_id, 'meter_id', a.meter_id,
                'parent_id', a.parent_id, 'actor', NEW.actor, 'note', NEW.note, 'quiet', NEW.quiet)
            FROM alarm a WHERE a.id = NEW.alarm_id));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER feed AFTER INSERT ON alarm_edge FOR EACH ROW EXECUTE FUNCTION feed_alarm();

CREATE FUNCTION feed_command() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF feed_wanted(NEW.account_id, 'commands') THEN
        PERFORM feed_event(NEW.account_id, 'commands', (
            SELECT jsonb_build_object(
                'id', 'command-' || NEW.command_id || '-' || NEW.version, 'command_id', c.id, 'state', NEW.state,
                'at', NEW.wall_at, 'dtu_id', c.dtu_id, 'meter_id', c.meter_id, 'action', c.action, 'reason', c.reason,
                'requested_as', c.requested_as, 'actor', NEW.actor)
            FROM command c WHERE c.id = NEW.command_id));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER feed AFTER INSERT ON command_edge FOR EACH ROW EXECUTE FUNCTION feed_command();

CREATE FUNCTION feed_session() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF NOT feed_wanted(NEW.account_id, 'sessions') THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'INSERT' THEN
        PERFORM feed_event(NEW.account_id, 'sessions', jsonb_build_object(
            'id', 'session-' || NEW.id || '-began', 'session_id', NEW.id, 'state', 'began', 'at', NEW.began_at,
            'dtu_id', NEW.dtu_id, 'meter_id', NULL, 'peer', NEW.peer, 'cause', NULL));
    END IF;
    IF NEW.ended_at IS NOT NULL AND (TG_OP = 'INSERT' OR OLD.ended_at IS NULL) THEN
        PERFORM feed_event(NEW.account_id, 'sessions', jsonb_build_object(
            'id', 'session-' || NEW.id || '-ended', 'session_id', NEW.id, 'state', 'ended', 'at', NEW.ended_at,
            'dtu_id', NEW.dtu_id, 'meter_id', NULL, 'peer', NEW.peer, 'cause', NEW.cause));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER feed AFTER INSERT OR UPDATE ON dtu_session FOR EACH ROW EXECUTE FUNCTION feed_session();

-- Endings other than the plain on-time reading, a statement's at once: a lost fleet ends thousands of slots together.
CREATE FUNCTION feed_slots() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    PERFORM pg_current_xact_id();
    INSERT INTO feed (account_id, topic, items, events)
    SELECT account_id, 'slots', count(*), jsonb_agg(event ORDER BY place)
    FROM (SELECT f.account_id, row_number() OVER (PARTITION BY f.account_id ORDER BY f.due_at, f.meter_id) AS place,
                 jsonb_build_object(
                     'id', format('slot-%s-%s-%s-%s', f.meter_id,
                                  (extract(epoch FROM f.due_at) * 1000000)::bigint, f.schedule_id, f.version),
                     'meter_id', f.meter_id, 'dtu_id', m.dtu_id, 'schedule_id', f.schedule_id, 'due_at', f.due_at,
                     'state', f.state, 'reason', f.reason, 'detail', f.detail, 'attempts', f.attempts,
                     'ended_at', f.ended_at, 'version', f.version) AS event
          FROM fresh f JOIN meter m ON m.id = f.meter_id
          WHERE f.account_id IN (SELECT account_id FROM integration
                                 WHERE deleted_at IS NULL AND 'slots' = ANY (topics))) AS told
    GROUP BY account_id, (place - 1) / 500
    ORDER BY account_id, (place - 1) / 500;
    RETURN NULL;
END
$$;
CREATE TRIGGER feed AFTER INSERT ON slot_ending REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION feed_slots();
