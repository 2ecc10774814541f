-- Roll-ups of a meter's polls by the hour and by the day of its account's wall clock, for questions over long ranges:
-- how many slots ended how, and the least, mean and greatest of what meters show. Consumption has its own (0003).
--
-- The storage path marks hours in which readings or endings came in (meter_hour_dirty, by the rounds of
-- consumption_round); the roll-up works the marks off. A day is made of its hours.

-- actual: scheduled readings on time; late, estimated, missing: the newest endings; reasons: {"timeout": 3} of the missing
-- ones. delay_s: mean time from due to read. Counted as GET /summary counts: slots that one reading ended count once.
CREATE TABLE meter_hour (
    hour timestamptz NOT NULL,
    meter_id int NOT NULL,
    account_id int NOT NULL,
    reads int NOT NULL,
    actual int NOT NULL,
    late int NOT NULL,
    estimated int NOT NULL,
    missing int NOT NULL,
    reasons jsonb,
    delay_s real,
    voltage_l1_min real, voltage_l1_mean real, voltage_l1_max real, voltage_l2_min real, voltage_l2_mean real,
    voltage_l2_max real, voltage_l3_min real, voltage_l3_mean real, voltage_l3_max real, current_l1_mean real,
    current_l1_max real, current_l2_mean real, current_l2_max real, current_l3_mean real, current_l3_max real,
    active_power_min real, active_power_mean real, active_power_max real, reactive_power_mean real,
    power_factor_mean real, frequency_min real, frequency_mean real, frequency_max real, flow_rate_mean real,
    flow_rate_max real, temperature_mean real, thermal_power_mean real, pressure_mean real,
    PRIMARY KEY (meter_id, hour)
);
CREATE INDEX meter_hour_hour ON meter_hour (hour);

CREATE TABLE meter_day (
    LIKE meter_hour
);
ALTER TABLE meter_day RENAME COLUMN hour TO day;
ALTER TABLE meter_day ADD PRIMARY KEY (meter_id, day);
CREATE INDEX meter_day_day ON meter_day (day);

CREATE TABLE meter_hour_dirty (
    meter_id int NOT NULL,
    hour timestamptz NOT NULL,
    round bigint NOT NULL,
    account_id int NOT NULL,
    PRIMARY KEY (meter_id, hour, round)
);

SELECT protect_account_table(t::regclass) FROM unnest(ARRAY['meter_hour', 'meter_day', 'meter_hour_dirty']) AS t;
GRANT SELECT ON meter_hour, meter_day TO polyphase_app, polyphase_platform, polyphase_ingest, polyphase_grafana;
GRANT SELECT, INSERT ON meter_hour_dirty TO polyphase_ingest;

-- what is there already
INSERT INTO meter_hour_dirty (meter_id, hour, round, account_id)
SELECT DISTINCT x.meter_id, date_trunc('hour', x.ts, 'UTC'), 0, x.account_id
FROM (SELECT meter_id, ts, account_id FROM reading_electricity
      UNION ALL SELECT meter_id, ts, account_id FROM reading_fluid
      UNION ALL SELECT meter_id, due_at, account_id FROM slot_ending) AS x;

-- Computes one wall-clock hour of some meters of one time zone anew.
CREATE FUNCTION roll_up_meter_hour(p_zone text, p_hour timestamptz, p_meters int[], p_accounts int[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan
    AS $$
DECLARE
    -- where clocks jump by half an hour, an hour lasts up to an hour and a half
    until timestamptz := p_hour + interval '2 hours';
BEGIN
    INSERT INTO meter_hour AS m (hour, meter_id, account_id, reads, actual, late, estimated, missing, reasons, delay_s,
    voltage_l1_min, voltage_l1_mean, voltage_l1_max, voltage_l2_min, voltage_l2_mean, voltage_l2_max,
    voltage_l3_min, voltage_l3_mean, voltage_l3_max, current_l1_mean, current_l1_max, current_l2_mean,
    current_l2_max, current_l3_mean, current_l3_max, active_power_min, active_power_mean, active_power_max,
    reactive_power_mean, power_factor_mean, frequency_min, frequency_mean, frequency_max, flow_rate_mean,
    flow_rate_max, temperature_mean, thermal_power_mean, pressure_mean)
    WITH e AS MATERIALIZED (
        SELECT r.meter_id, count(*)::int AS reads, count(*) FILTER (WHERE r.source = 0)::int AS scheduled,
               avg(extract(epoch FROM r.read_at - r.ts)) FILTER (WHERE r.source = 0) AS delay_s,
               min(r.voltage_l1) AS voltage_l1_min, avg(r.voltage_l1) AS voltage_l1_mean,
               max(r.voltage_l1) AS voltage_l1_max, min(r.voltage_l2) AS voltage_l2_min,
               avg(r.voltage_l2) AS voltage_l2_mean, max(r.voltage_l2) AS voltage_l2_max,
               min(r.voltage_l3) AS voltage_l3_min, avg(r.voltage_l3) AS voltage_l3_mean,
               max(r.voltage_l3) AS voltage_l3_max, avg(r.current_l1) AS current_l1_mean,
               max(r.current_l1) AS current_l1_max, avg(r.current_l2) AS current_l2_mean,
               max(r.current_l2) AS current_l2_max, avg(r.current_l3) AS current_l3_mean,
               max(r.current_l3) AS current_l3_max, min(r.active_power_total) AS active_power_min,
               avg(r.active_power_total) AS active_power_mean, max(r.active_power_total) AS active_power_max,
               avg(r.reactive_power_total) AS reactive_power_mean,
               avg(r.power_factor_total) AS power_factor_mean, min(r.frequency) AS frequency_min,
               avg(r.frequency) AS frequency_mean, max(r.frequency) AS frequency_max
        FROM reading_electricity r
        WHERE r.ts >= p_hour AND r.ts < until AND r.meter_id = ANY (p_meters)
          AND date_trunc('hour', r.ts, p_zone) = p_hour
        GROUP BY r.meter_id
    ), f AS MATERIALIZED (
        SELECT r.meter_id, count(*)::int AS reads, count(*) FILTER (WHERE r.source = 0)::int AS scheduled,
               avg(extract(epoch FROM r.read_at - r.ts)) FILTER (WHERE r.source = 0) AS delay_s,
               avg(r.flow_rate) AS flow_rate_mean, max(r.flow_rate) AS flow_rate_max,
               avg(coalesce(r.temperature, r.temperature_flow)) AS temperature_mean,
               avg(r.thermal_power) AS thermal_power_mean, avg(r.pressure) AS pressure_mean
        FROM reading_fluid r
        WHERE r.ts >= p_hour AND r.ts < until AND r.meter_id = ANY (p_meters)
          AND date_trunc('hour', r.ts, p_zone) = p_hour
        GROUP BY r.meter_id
    ), ending AS MATERIALIZED (
        SELECT DISTINCT ON (s.due_at, s.meter_id, s.schedule_id) s.due_at, s.meter_id, s.state, s.reason
        FROM slot_ending s
        WHERE s.due_at >= p_hour AND s.due_at < until AND s.meter_id = ANY (p_meters)
          AND date_trunc('hour', s.due_at, p_zone) = p_hour
        ORDER BY s.due_at, s.meter_id, s.schedule_id, s.version DESC
    ), ended AS (
        SELECT n.meter_id, count(*) FILTER (WHERE n.state = 'actual')::int AS actual,
               count(*) FILTER (WHERE n.state = 'late')::int AS late,
               count(*) FILTER (WHERE n.state = 'estimated')::int AS estimated,
               count(*) FILTER (WHERE n.state = 'missing')::int AS missing
        FROM ending n GROUP BY n.meter_id
    ), why AS (
        SELECT c.meter_id, jsonb_object_agg(c.reason, c.slots) AS reasons
        FROM (SELECT meter_id, coalesce(reason, 'internal') AS reason, count(*)::int AS slots
              FROM ending WHERE state = 'missing' GROUP BY 1, 2) AS c
        GROUP BY c.meter_id
    ), both_ways AS (
        -- a reading whose slot has an ending of its own is counted by that
        SELECT d.meter_id, count(*)::int AS slots
        FROM (SELECT DISTINCT due_at, meter_id FROM ending WHERE state <> 'missing' OR reason = 'partial') AS d
        WHERE EXISTS (SELECT FROM reading_electricity r WHERE r.ts = d.due_at AND r.meter_id = d.meter_id AND r.source = 0)
           OR EXISTS (SELECT FROM reading_fluid r WHERE r.ts = d.due_at AND r.meter_id = d.meter_id AND r.source = 0)
        GROUP BY d.meter_id
    )
    SELECT p_hour, t.meter_id, t.account_id, coalesce(e.reads, 0) + coalesce(f.reads, 0),
           coalesce(e.scheduled, 0) + coalesce(f.scheduled, 0) + coalesce(x.actual, 0) - coalesce(b.slots, 0),
           coalesce(x.late, 0), coalesce(x.estimated, 0), coalesce(x.missing, 0), w.reasons, coalesce(e.delay_s, f.delay_s),
           e.voltage_l1_min, e.voltage_l1_mean, e.voltage_l1_max, e.voltage_l2_min, e.voltage_l2_mean,
           e.voltage_l2_max, e.voltage_l3_min, e.voltage_l3_mean, e.voltage_l3_max, e.current_l1_mean,
           e.current_l1_max, e.current_l2_mean, e.current_l2_max, e.current_l3_mean, e.current_l3_max,
           e.active_power_min, e.active_power_mean, e.active_power_max, e.reactive_power_mean,
           e.power_factor_mean, e.frequency_min, e.frequency_mean, e.frequency_max,
           f.flow_rate_mean, f.flow_rate_max, f.temperature_mean, f.thermal_power_mean, f.pressure_mean
    FROM unnest(p_meters, p_accounts) AS t (meter_id, account_id)
    LEFT JOIN e USING (meter_id) LEFT JOIN f USING (meter_id) LEFT JOIN ended x USING (meter_id)
    LEFT JOIN why w USING (meter_id) LEFT JOIN both_ways b USING (meter_id)
    WHERE coalesce(e.meter_id, f.meter_id, x.meter_id) IS NOT NULL
    ON CONFLICT (meter_id, hour) DO UPDATE SET
        reads = excluded.reads, actual = excluded.actual, late = excluded.late, estimated = excluded.estimated,
        missing = excluded.missing, reasons = excluded.reasons, delay_s = excluded.delay_s,
        voltage_l1_min = excluded.voltage_l1_min, voltage_l1_mean = excluded.voltage_l1_mean,
        voltage_l1_max = excluded.voltage_l1_max, voltage_l2_min = excluded.voltage_l2_min,
        voltage_l2_mean = excluded.voltage_l2_mean, voltage_l2_max = excluded.voltage_l2_max,
        voltage_l3_min = excluded.voltage_l3_min, voltage_l3_mean = excluded.voltage_l3_mean,
        voltage_l3_max = excluded.voltage_l3_max, current_l1_mean = excluded.current_l1_mean,
        current_l1_max = excluded.current_l1_max, current_l2_mean = excluded.current_l2_mean,
        current_l2_max = excluded.current_l2_max, current_l3_mean = excluded.current_l3_mean,
        current_l3_max = excluded.current_l3_max, active_power_min = excluded.active_power_min,
        active_power_mean = excluded.active_power_mean, active_power_max = excluded.active_power_max,
        reactive_power_mean = excluded.reactive_power_mean, power_factor_mean = excluded.power_factor_mean,
        frequency_min = excluded.frequency_min, frequency_mean = excluded.frequency_mean,
        frequency_max = excluded.frequency_max, flow_rate_mean = excluded.flow_rate_mean,
        flow_rate_max = excluded.flow_rate_max, temperature_mean = excluded.temperature_mean,
        thermal_power_mean = excluded.thermal_power_mean, pressure_mean = excluded.pressure_mean;
END
$$;

-- Computes one wall-clock day of some meters of one time zone from its hours.
CREATE FUNCTION roll_up_meter_day(p_zone text, p_day timestamptz, p_meters int[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET plan_cache_mode = force_custom_plan
    AS $$
BEGIN
    INSERT INTO meter_day AS m (day, meter_id, account_id, reads, actual, late, estimated, missing, reasons, delay_s,
    voltage_l1_min, voltage_l1_mean, voltage_l1_max, voltage_l2_min, voltage_l2_mean, voltage_l2_max,
    voltage_l3_min, voltage_l3_mean, voltage_l3_max, current_l1_mean, current_l1_max, current_l2_mean,
    current_l2_max, current_l3_mean, current_l3_max, active_power_min, active_power_mean, active_power_max,
    reactive_power_mean, power_factor_mean, frequency_min, frequency_mean, frequency_max, flow_rate_mean,
    flow_rate_max, temperature_mean, thermal_power_mean, pressure_mean)
    SELECT p_day, h.meter_id, min(h.account_id), sum(h.reads), sum(h.actual), sum(h.late), sum(h.estimated),
           sum(h.missing),
           (SELECT jsonb_object_agg(c.reason, c.slots)
            FROM (SELECT w.key AS reason, sum(w.value::int) AS slots
                  FROM meter_hour o CROSS JOIN LATERAL jsonb_each_text(o.reasons) AS w
                  WHERE o.meter_id = h.meter_id AND o.hour >= p_day AND o.hour < p_day + interval '26 hours'
                    AND date_trunc('day', o.hour, p_zone) = p_day
                  GROUP BY w.key) AS c),
           sum(h.delay_s * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.delay_s IS NOT NULL), 0),
           min(h.voltage_l1_min),
           sum(h.voltage_l1_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.voltage_l1_mean IS NOT NULL), 0),
           max(h.voltage_l1_max), min(h.voltage_l2_min),
           sum(h.voltage_l2_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.voltage_l2_mean IS NOT NULL), 0),
           max(h.voltage_l2_max), min(h.voltage_l3_min),
           sum(h.voltage_l3_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.voltage_l3_mean IS NOT NULL), 0),
           max(h.voltage_l3_max),
           sum(h.current_l1_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.current_l1_mean IS NOT NULL), 0),
           max(h.current_l1_max),
           sum(h.current_l2_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.current_l2_mean IS NOT NULL), 0),
           max(h.current_l2_max),
           sum(h.current_l3_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.current_l3_mean IS NOT NULL), 0),
           max(h.current_l3_max), min(h.active_power_min),
           sum(h.active_power_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.active_power_mean IS NOT NULL), 0),
           max(h.active_power_max),
           sum(h.reactive_power_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.reactive_power_mean IS NOT NULL), 0),
           sum(h.power_factor_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.power_factor_mean IS NOT NULL), 0),
           min(h.frequency_min),
           sum(h.frequency_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.frequency_mean IS NOT NULL), 0),
           max(h.frequency_max),
           sum(h.flow_rate_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.flow_rate_mean IS NOT NULL), 0),
           max(h.flow_rate_max),
           sum(h.temperature_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.temperature_mean IS NOT NULL), 0),
           sum(h.thermal_power_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.thermal_power_mean IS NOT NULL), 0),
           sum(h.pressure_mean * h.reads) / nullif(sum(h.reads) FILTER (WHERE h.pressure_mean IS NOT NULL), 0)
    FROM meter_hour h
    WHERE h.meter_id = ANY (p_meters) AND h.hour >= p_day AND h.hour < p_day + interval '26 hours'
      AND date_trunc('day', h.hour, p_zone) = p_day
    GROUP BY h.meter_id
    ON CONFLICT (meter_id, day) DO UPDATE SET
        reads = excluded.reads, actual = excluded.actual, late = excluded.late, estimated = excluded.estimated,
        missing = excluded.missing, reasons = excluded.reasons, delay_s = excluded.delay_s,
        voltage_l1_min = excluded.voltage_l1_min, voltage_l1_mean = excluded.voltage_l1_mean,
        voltage_l1_max = excluded.voltage_l1_max, voltage_l2_min = excluded.voltage_l2_min,
        voltage_l2_mean = excluded.voltage_l2_mean, voltage_l2_max = excluded.voltage_l2_max,
        voltage_l3_min = excluded.voltage_l3_min, voltage_l3_mean = excluded.voltage_l3_mean,
        voltage_l3_max = excluded.voltage_l3_max, current_l1_mean = excluded.current_l1_mean,
        current_l1_max = excluded.current_l1_max, current_l2_mean = excluded.current_l2_mean,
        current_l2_max = excluded.current_l2_max, current_l3_mean = excluded.current_l3_mean,
        current_l3_max = excluded.current_l3_max, active_power_min = excluded.active_power_min,
        active_power_mean = excluded.active_power_mean, active_power_max = excluded.active_power_max,
        reactive_power_mean = excluded.reactive_power_mean, power_factor_mean = excluded.power_factor_mean,
        frequency_min = excluded.frequency_min, frequency_mean = excluded.frequency_mean,
        frequency_max = excluded.frequency_max, flow_rate_mean = excluded.flow_rate_mean,
        flow_rate_max = excluded.flow_rate_max, temperature_mean = excluded.temperature_mean,
        thermal_power_mean = excluded.thermal_power_mean, pressure_mean = excluded.pressure_mean;
END
$$;

-- Works off at most p_limit marks of rounds before p_round, oldest hour first; returns how many there were.
CREATE FUNCTION roll_up_meters(p_round bigint, p_limit int) RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
DECLARE
    marks int;
    zones text[];
    hours timestamptz[];
    meters int[];
    accounts int[];
    part record;
BEGIN
    WITH chosen AS (
        SELECT DISTINCT meter_id, hour FROM (
            SELECT meter_id, hour FROM meter_hour_dirty WHERE round < p_round ORDER BY hour, meter_id LIMIT p_limit) AS first
    ), gone AS (
        DELETE FROM meter_hour_dirty d USING chosen c
        WHERE d.meter_id = c.meter_id AND d.hour = c.hour AND d.round < p_round
        RETURNING d.meter_id, d.hour, d.account_id
    ), touched AS (
        -- a mark is an hour of UTC, which may touch two hours of the wall clock
        SELECT DISTINCT a.time_zone AS zone, date_trunc('hour', v.at, a.time_zone) AS hour, g.meter_id, g.account_id
        FROM gone g JOIN account a ON a.id = g.account_id
        CROSS JOIN LATERAL (VALUES (g.hour), (g.hour + interval '59 minutes 59.999999 seconds')) AS v (at)
    )
    SELECT (SELECT count(*) FROM gone), array_agg(t.zone), array_agg(t.hour), array_agg(t.meter_id), array_agg(t.account_id)
    INTO marks, zones, hours, meters, accounts FROM touched t;
    FOR part IN
        SELECT t.zone, t.hour, array_agg(t.meter_id) AS meters, array_agg(t.account_id) AS accounts
        FROM unnest(zones, hours, meters, accounts) AS t (zone, hour, meter_id, account_id) GROUP BY 1, 2 ORDER BY 2
    LOOP
        PERFORM roll_up_meter_hour(part.zone, part.hour, part.meters, part.accounts);
    END LOOP;
    FOR part IN
        SELECT t.zone, date_trunc('day', t.hour, t.zone) AS day, array_agg(DISTINCT t.meter_id) AS meters
        FROM unnest(zones, hours, meters) AS t (zone, hour, meter_id) GROUP BY 1, 2 ORDER BY 2
    LOOP
        PERFORM roll_up_meter_day(part.zone, part.day, part.meters);
    END LOOP;
    RETURN marks;
END
$$;

-- Marks hours of meters; p_round is the present number of consumption_round, which the caller holds.
CREATE FUNCTION mark_meter_hours(p_meters int[], p_hours timestamptz[], p_accounts int[]) RETURNS void
    LANGUAGE sql
    AS $$
    WITH now AS MATERIALIZED (SELECT round FROM consumption_round FOR SHARE)
    INSERT INTO meter_hour_dirty (meter_id, hour, round, account_id)
    SELECT d.meter_id, d.hour, now.round, d.account_id
    FROM now, unnest(p_meters, p_hours, p_accounts) AS d (meter_id, hour, account_id)
    ON CONFLICT DO NOTHING
$$;

-- Ends what Grafana logins have running for longer than they may, whatever they set their own timeouts to, and whoever
-- of them holds or waits for an advisory lock: the server's own work goes by those.
CREATE FUNCTION end_grafana_excess(p_seconds int) RETURNS int
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
    SELECT count(pg_terminate_backend(a.pid))::int
    FROM pg_stat_activity a JOIN grafana_login g ON g.login = a.usename
    WHERE a.datname = current_database()
      AND (a.xact_start < clock_timestamp() - make_interval(secs => p_seconds)
           OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))
$$;

GRANT EXECUTE ON FUNCTION
    roll_up_meters(bigint, int), mark_meter_hours(int[], timestamptz[], int[]), end_grafana_excess(int) TO polyphase_ingest;

CREATE VIEW grafana_meter_hour WITH (security_invoker = true) AS
SELECT hour AS time, meter_id, reads, actual, late, estimated, missing, actual + late + estimated + missing AS due, reasons,
       delay_s,
       voltage_l1_min, voltage_l1_mean, voltage_l1_max, voltage_l2_min, voltage_l2_mean, voltage_l2_max,
       voltage_l3_min, voltage_l3_mean, voltage_l3_max, current_l1_mean, current_l1_max, current_l2_mean,
       current_l2_max, current_l3_mean, current_l3_max, active_power_min, active_power_mean, active_power_max,
       reactive_power_mean, power_factor_mean, frequency_min, frequency_mean, frequency_max, flow_rate_mean,
       flow_rate_max, temperature_mean, thermal_power_mean, pressure_mean
FROM meter_hour;

CREATE VIEW grafana_meter_day WITH (security_invoker = true) AS
SELECT day AS time, meter_id, reads, actual, late, estimated, missing, actual + late + estimated + missing AS due, reasons,
       delay_s,
       voltage_l1_min, voltage_l1_mean, voltage_l1_max, voltage_l2_min, voltage_l2_mean, voltage_l2_max,
       voltage_l3_min, voltage_l3_mean, voltage_l3_max, current_l1_mean, current_l1_max, current_l2_mean,
       current_l2_max, current_l3_mean, current_l3_max, active_power_min, active_power_mean, active_power_max,
       reactive_power_mean, power_factor_mean, frequency_min, frequency_mean, frequency_max, flow_rate_mean,
       flow_rate_max, temperature_mean, thermal_power_mean, pressure_mean
FROM meter_day;

GRANT SELECT ON grafana_meter_hour, grafana_meter_day TO polyphase_grafana;
