"""A year of 50 meters (or more), made in SQL: what the panels of the dashboards are asked of.

The raw rows of the last two weeks come every quarter of an hour, of sixty days every hour, the older ones every three;
roll-ups are made by the database's own functions where raw rows are dense, and from the rows themselves for the year.
"""

METERS, WATER, DTUS = 50, 6, 10
DENSE_DAYS = 14

# A day's shape for a meter, its growth over the years, and hours in which DTU 4 was away (one in forty, whole hours).
FLEET = """
UPDATE account SET time_zone = 'Europe/Berlin' WHERE id = {account};
INSERT INTO meter_group (account_id, name, created_at) VALUES ({account}, 'Harbour site', now() - interval '2 years');
INSERT INTO meter_group (account_id, name, parent_id, created_at)
SELECT {account}, n, (SELECT id FROM meter_group WHERE name = 'Harbour site'), now() - interval '2 years'
FROM unnest(ARRAY['Hall 1', 'Hall 2', 'Offices']) n;

INSERT INTO dtu (account_id, sn, name, learned, created_at)
SELECT {account}, 'YEAR-' || i, (ARRAY['Gate', 'Pump house', 'Hall 1 north', 'Hall 1 south', 'Hall 2 north', 'Hall 2 south', 'Office east',
                                  'Office west', 'Canteen', 'Boiler room'])[i],
       jsonb_build_object('framing', CASE i % 3 WHEN 0 THEN 'hongdian' ELSE 'plain' END,
                          'registration', (ARRAY['text', 'LOGIN:', 'IMEI'])[i % 3 + 1], 'heartbeat_interval_s', 60),
       now() - interval '2 years'
FROM generate_series(1, 10) i;
CREATE TABLE panel_dtu AS SELECT id, substring(sn FROM 6)::int AS i FROM dtu WHERE sn LIKE 'YEAR-%';

-- sessions of some days each; DTU 10 is away since yesterday
INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at, ended_at, cause, counters)
SELECT 900000 + row_number() OVER (), s.id, {account}, format('10.%s.7.%s:50000', 20 + s.i % 3, s.i), s.began,
       CASE WHEN next IS NULL AND s.i <> 10 THEN NULL ELSE coalesce(next, now() - interval '1 day') - make_interval(mins => 2 + (s.n * 7 + s.i) % 55) END,
       CASE WHEN next IS NULL AND s.i <> 10 THEN NULL ELSE (ARRAY['silence', 'peer_closed', 'replaced', 'peer_closed', 'io_error'])[(s.n + s.i) % 5 + 1] END,
       jsonb_build_object('bytes_in', 40000 * s.i, 'bytes_out', 9000 * s.i, 'answers', 5000 + s.n, 'timeouts', (s.n * s.i) % 40,
                          'strays', (s.n + s.i) % 5, 'noise_bytes', (s.n * 13) % 300, 'heartbeats', 1400, 'round_trip_ms', 150 + 40 * s.i + s.n % 60)
FROM (SELECT d.id, d.i, n, at AS began, lead(at) OVER (PARTITION BY d.id ORDER BY at) AS next
      FROM panel_dtu d, generate_series(0, 121) n, LATERAL (SELECT now() - interval '365 days' + make_interval(hours => n * 72 + d.i * 3)) AS t (at)
      WHERE at < now() - interval '2 days') s;

-- DTU 1 comes and goes
UPDATE dtu_session SET ended_at = now() - interval '25 hours', cause = 'silence' WHERE dtu_id = (SELECT id FROM panel_dtu WHERE i = 1) AND ended_at IS NULL;
INSERT INTO dtu_session (id, dtu_id, account_id, peer, began_at, ended_at, cause, counters)
SELECT 990000 + n, id, {account}, '10.21.7.1:50000', now() - make_interval(mins => 1490 - n * 240),
       CASE WHEN n < 6 THEN now() - make_interval(mins => 1490 - n * 240 - 200 - n * 5) END, CASE WHEN n < 6 THEN 'peer_closed' END,
       jsonb_build_object('bytes_in', 9000 * n, 'bytes_out', 2000 * n, 'answers', 400 + n, 'timeouts', n * 3, 'strays', n % 3, 'noise_bytes', n * 11,
                          'heartbeats', 200, 'round_trip_ms', 180 + n * 9)
FROM panel_dtu, generate_series(0, 6) n WHERE i = 1;

INSERT INTO metering_point (account_id, name, group_id, created_at)
SELECT {account}, CASE i WHEN 1 THEN 'Main meter' ELSE 'Point ' || i END,
       (SELECT id FROM meter_group WHERE account_id = {account} AND name = CASE WHEN i = 1 THEN 'Harbour site'
            ELSE (ARRAY['Hall 1', 'Hall 2', 'Offices'])[i % 3 + 1] END), now() - interval '2 years'
FROM generate_series(1, {meters}) i;
CREATE TABLE panel_meter AS
SELECT row_number() OVER (ORDER BY id)::int AS i, id AS point_id, group_id, NULL::int AS id FROM metering_point
WHERE account_id = {account} AND (name LIKE 'Point %' OR name = 'Main meter');
WITH made AS (
    INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, group_id, created_at)
    SELECT {account}, d.id, CASE WHEN m.i > {meters} - {water} THEN 'cjt188' ELSE 'modbus-rtu' END, (100 + m.i)::text,
           CASE WHEN m.i > {meters} - {water} THEN 'generic_water' ELSE 'eastron_sdm630' END,
           CASE WHEN m.i = 1 THEN 'Main meter' WHEN m.i > {meters} - {water} THEN 'Water ' || m.i ELSE 'Electricity ' || m.i END,
           m.group_id, now() - interval '2 years'
    FROM panel_meter m JOIN panel_dtu d ON d.i = (m.i - 1) % 10 + 1
    RETURNING id, address
)
UPDATE panel_meter p SET id = made.id FROM made WHERE made.address = (100 + p.i)::text;
INSERT INTO installation (account_id, point_id, meter_id, valid_from) SELECT {account}, point_id, id, now() - interval '2 years' FROM panel_meter;

UPDATE meter_group SET sum_point_id = (SELECT point_id FROM panel_meter WHERE i = 1) WHERE name = 'Harbour site';

-- behind the gate is a concentrator with a mesh
INSERT INTO mesh_place (dtu_id, account_id, point, place, meter_address, meter_protocol, port, collector, tariffs, routed, relays,
                        phase_bits, signal_bits, failures, last_success, read_at)
SELECT d.id, {account}, n, n, format('0000%s', 10000000 + n), 'DL/T 645-2007', 31, CASE WHEN n > 20 THEN '000000000007' ELSE '' END, 4, true, n / 8, 1 << n % 3, 15 - n / 4, n / 30,
       now() - interval '1 hour' * (n / 30 + 1), now() - interval '2 hours'
FROM panel_dtu d, generate_series(1, 40) n WHERE d.i = 1;
UPDATE meter m SET protocol = 'gdw376.1', model = 'gdw376_single_phase', address = (CASE p.i WHEN 21 THEN 40 WHEN 31 THEN 35 ELSE 12 END)::text
FROM panel_meter p WHERE p.id = m.id AND p.i IN (21, 31, 41);

INSERT INTO schedule (account_id, name, created_at) VALUES ({account}, 'Every quarter', now() - interval '2 years');
INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, time_zone, spread_s, window_s, attempts, backoff_s, deadline_s, missed_run)
SELECT id, {account}, now() - interval '2 years', '*/15 * * * *', 'Europe/Berlin', 60, 600, 2, 5, 60, 'skip' FROM schedule WHERE name = 'Every quarter';
"""

PARTITIONS = """
SELECT count(ensure_day(day::date)) FROM generate_series(current_date - 366, current_date + 1, interval '1 day') day;
"""

# energy rises with the day's shape; its derivative is the power, so that registers, power and consumption agree
READINGS = """
CREATE FUNCTION pg_temp.load(i int, ts timestamptz) RETURNS float8 LANGUAGE sql STABLE AS $$
    -- kW: a base, a working day, a winter, and something of each meter's own
    SELECT CASE WHEN i = 1 THEN 1.0 ELSE (0.4 + (i % 7) * 0.25) *
        (0.35 + greatest(0, sin((extract(hour FROM ts) + extract(minute FROM ts) / 60 - 6) * pi() / 12))
              * CASE WHEN extract(isodow FROM ts) > 5 THEN 0.4 ELSE 1 END
              + 0.25 * cos(extract(doy FROM ts) * 2 * pi() / 365) + 0.05 * sin(i * 3 + extract(epoch FROM ts) / 1700)) END
$$;
CREATE TABLE panel_due AS
SELECT ts FROM generate_series(date_trunc('hour', now()) - interval '365 days', date_trunc('hour', now()) - interval '60 days', interval '3 hours') ts
UNION ALL
SELECT ts FROM generate_series(date_trunc('hour', now()) - interval '60 days' + interval '1 hour', date_trunc('hour', now()) - interval '{dense} days',
                               interval '1 hour') ts
UNION ALL
SELECT ts FROM generate_series(date_trunc('hour', now()) - interval '{dense} days' + interval '15 min', now(), interval '15 min') ts;

INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, quality, voltage_l1, voltage_l2,
    voltage_l3, current_l1, current_l2, current_l3, current_n, active_power_total, reactive_power_total, power_factor_total, frequency,
    active_energy_import, reactive_energy_import)
SELECT d.ts, d.ts + make_interval(secs => 2 + m.i % 9), 1, 1, m.id, {account}, 0, 2,
       CASE WHEN (extract(epoch FROM d.ts)::bigint / 900 + m.i) % 97 = 0 THEN '{{"voltage_l1": "suspect"}}'::jsonb END,
       v + 2 * sin(m.i), v - 1.5 + sin(m.i * 2), v + 0.7, a, a * 0.9, a * 1.1, a * 0.15, kw * 1000, kw * 310, 0.95 - 0.02 * (m.i % 4),
       50 + 0.02 * sin(extract(epoch FROM d.ts) / 600), round((1000 + m.i * 100 + e * 0.9)::numeric, 2), round((100 + e * 0.3)::numeric, 2)
FROM panel_due d JOIN panel_meter m ON m.i <= {meters} - {water}
CROSS JOIN LATERAL (SELECT pg_temp.load(m.i, d.ts) * CASE m.i WHEN 1 THEN 45 ELSE 1 END AS kw,
                           (extract(epoch FROM d.ts) - extract(epoch FROM now() - interval '366 days')) / 3600 * (0.4 + (m.i % 7) * 0.25) AS e) k
CROSS JOIN LATERAL (SELECT 231 - 3 * k.kw / (1 + k.kw) + 1.5 * sin(extract(epoch FROM d.ts) / 5000) AS v, k.kw * 1000 / 690 AS a) x
WHERE NOT ((m.i - 1) % 10 + 1 = 4 AND (extract(epoch FROM d.ts)::bigint / 3600) % 40 = 7)
  AND NOT ((m.i - 1) % 10 + 1 = 10 AND d.ts > now() - interval '1 day')
  AND (extract(epoch FROM d.ts)::bigint / 900 + m.i * 31) % 211 <> 0;

INSERT INTO reading_fluid (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, flow_rate, temperature, thermal_power,
    volume_total)
SELECT d.ts, d.ts + interval '4 s', 1, 1, m.id, {account}, 0, 1, 0.2 + pg_temp.load(m.i, d.ts) / 3, 14 + 4 * sin(extract(doy FROM d.ts) / 58.0),
       900 + 400 * pg_temp.load(m.i, d.ts), round((50 + (extract(epoch FROM d.ts) - extract(epoch FROM now() - interval '366 days')) / 36000)::numeric, 3)
FROM panel_due d JOIN panel_meter m ON m.i > {meters} - {water};

-- whatever was due and has no reading has an ending
INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state, reason)
SELECT d.ts, d.ts + interval '10 min', m.id, s.id, {account}, 1, 2, 'missing',
       CASE WHEN (m.i - 1) % 10 + 1 IN (4, 10) THEN 'dtu_offline' ELSE (ARRAY['timeout', 'timeout', 'line_busy', 'exception'])[m.i % 4 + 1] END
FROM panel_due d CROSS JOIN panel_meter m JOIN schedule s ON s.name = 'Every quarter'
WHERE d.ts < now() - interval '10 min'
  AND NOT EXISTS (SELECT FROM reading_electricity r WHERE r.ts = d.ts AND r.meter_id = m.id)
  AND NOT EXISTS (SELECT FROM reading_fluid r WHERE r.ts = d.ts AND r.meter_id = m.id);
-- some were read late
INSERT INTO slot_ending (due_at, ended_at, meter_id, schedule_id, account_id, version, attempts, state)
SELECT ts, ts + interval '20 min', meter_id, s.id, {account}, 1, 1, 'late' FROM reading_electricity r JOIN schedule s ON s.name = 'Every quarter'
WHERE ts > now() - interval '{dense} days' AND (extract(epoch FROM ts)::bigint / 900 + meter_id) % 173 = 0 AND r.account_id = {account};

INSERT INTO latest_reading (meter_id, shape, account_id, source, family, ts, read_at)
SELECT meter_id, 1, {account}, 0, 0, max(ts), max(read_at) FROM reading_electricity WHERE ts > now() - interval '2 days' GROUP BY meter_id
UNION ALL
SELECT meter_id, 1, {account}, 0, 1, max(ts), max(read_at) FROM reading_fluid WHERE ts > now() - interval '2 days' GROUP BY meter_id
ON CONFLICT DO NOTHING;
"""

ROLLED = """
-- consumption: hour by hour of fifty days, and of two meters of two years; by the day of all two years, so that a year
-- before is there; the main meter is the sum and three per cent
CREATE TABLE panel_register AS
SELECT m.i, m.point_id, q.quantity, q.factor FROM panel_meter m
JOIN (VALUES ('active_energy_import', 1.0, false), ('volume_total', 0.1, true)) AS q (quantity, factor, water) ON q.water = (m.i > {meters} - {water})
WHERE m.i <> 1;
INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
SELECT h, h + interval '1 hour', m.point_id, {account}, CASE WHEN off THEN 1 ELSE 0 END, off, false, m.quantity,
       round((m.factor * k * (1 + 0.06 * extract(year FROM h - interval '7 months')::int % 2))::numeric, 3)
FROM generate_series(date_trunc('hour', now()) - interval '760 days', date_trunc('hour', now()) - interval '1 hour', interval '1 hour') h
JOIN panel_register m ON h > now() - interval '50 days' OR m.i IN (2, 14)
CROSS JOIN LATERAL (SELECT pg_temp.load(m.i, h) AS k, m.i % 10 = 4 AND (extract(epoch FROM h)::bigint / 3600) % 40 = 7 AS off) x;
INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
SELECT date_trunc('day', start, 'Europe/Berlin') AS d, date_trunc('day', start, 'Europe/Berlin') + interval '1 day', point_id, {account},
       max(quality), bool_or(interpolated), count(*) < 22 AND max(start) > now() - interval '1 day', quantity, sum(value)
FROM consumption_hour WHERE account_id = {account} AND point_id IN (SELECT point_id FROM panel_register) GROUP BY d, 2, point_id, quantity;
INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
SELECT date_trunc('day', ts, 'Europe/Berlin'), date_trunc('day', ts, 'Europe/Berlin') + interval '1 day', m.point_id, {account}, 0, false, false,
       m.quantity, round((6 * sum(m.factor * (1 + 0.06 * extract(year FROM ts - interval '7 months')::int % 2) * pg_temp.load(m.i, ts)))::numeric, 3)
FROM generate_series(date_trunc('day', now(), 'Europe/Berlin') - interval '760 days' + interval '3 hours', now() - interval '48 days', interval '6 hours') ts
CROSS JOIN panel_register m GROUP BY 1, m.point_id, m.quantity
ON CONFLICT DO NOTHING;
INSERT INTO consumption_day (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
SELECT start, max(finish), (SELECT point_id FROM panel_meter WHERE i = 1), {account}, 0, false, bool_or(incomplete), quantity,
       round(sum(value) * (1.03 + 0.01 * sin(extract(doy FROM start) / 9.0))::numeric, 3)
FROM consumption_day WHERE quantity = 'active_energy_import' AND point_id IN (SELECT point_id FROM panel_meter WHERE i <> 1) GROUP BY start, quantity;
INSERT INTO consumption_hour (start, finish, point_id, account_id, quality, interpolated, incomplete, quantity, value)
SELECT start, max(finish), (SELECT point_id FROM panel_meter WHERE i = 1), {account}, 0, false, false, quantity, round(sum(value) * 1.03, 3)
FROM consumption_hour WHERE quantity = 'active_energy_import' AND start > now() - interval '50 days' AND account_id = {account}
  AND point_id IN (SELECT point_id FROM panel_meter WHERE i <> 1) GROUP BY start, quantity;

-- meters' hours: dense days by the database's own function, the older ones in one statement
INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing, reasons, delay_s, voltage_l1_min, voltage_l1_mean,
    voltage_l1_max, voltage_l2_min, voltage_l2_mean, voltage_l2_max, voltage_l3_min, voltage_l3_mean, voltage_l3_max, current_l1_mean,
    current_l2_mean, current_l3_mean, active_power_min, active_power_mean, active_power_max, power_factor_mean, frequency_mean)
SELECT ts, meter_id, account_id, 1, 1, 0, 0, 0, NULL, extract(epoch FROM read_at - ts), voltage_l1 - 1, voltage_l1, voltage_l1 + 1, voltage_l2 - 1,
       voltage_l2, voltage_l2 + 1, voltage_l3 - 1, voltage_l3, voltage_l3 + 1, current_l1, current_l2, current_l3, active_power_total * 0.8,
       active_power_total, active_power_total * 1.3, power_factor_total, frequency
FROM reading_electricity WHERE account_id = {account} AND ts <= now() - interval '{dense} days' AND meter_id IN (SELECT id FROM panel_meter);
INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing, delay_s, flow_rate_mean, flow_rate_max,
    temperature_mean, thermal_power_mean)
SELECT ts, meter_id, account_id, 1, 1, 0, 0, 0, 4, flow_rate, flow_rate, temperature, thermal_power
FROM reading_fluid WHERE account_id = {account} AND ts <= now() - interval '{dense} days' AND meter_id IN (SELECT id FROM panel_meter);
INSERT INTO meter_hour (hour, meter_id, account_id, reads, actual, late, estimated, missing, reasons)
SELECT due_at, meter_id, account_id, 0, 0, 0, 0, 1, jsonb_build_object(reason, 1)
FROM slot_ending WHERE account_id = {account} AND due_at <= now() - interval '{dense} days' ON CONFLICT DO NOTHING;
SELECT roll_up_meter_hour('Europe/Berlin', h, (SELECT array_agg(id) FROM panel_meter), (SELECT array_agg({account}) FROM panel_meter))
FROM generate_series(date_trunc('hour', now()) - interval '{dense} days', now(), interval '1 hour') h;
SELECT roll_up_meter_day('Europe/Berlin', d, (SELECT array_agg(id) FROM panel_meter))
FROM generate_series(date_trunc('day', now(), 'Europe/Berlin') - interval '365 days', now(), interval '1 day') d;
"""

EXTRAS = """
INSERT INTO reading_conflict (account_id, meter_id, ts, source, found_at, stored, offered, offered_hash)
SELECT {account}, id, now() - interval '3 hours', 0, now() - interval '2 hours', '1', '2', '' FROM panel_meter WHERE i IN (5, 9);
INSERT INTO reading_rejected (account_id, meter_id, ts, source, found_at, sqlstate, reason, record, record_hash)
SELECT {account}, id, now() - interval '5 hours', 0, now() - interval '4 hours', '22003', 'numeric field overflow', '1', '' FROM panel_meter WHERE i = 7;
INSERT INTO frame_evidence (id, account_id, dtu_id, connection_id, meter_id, at, kind, protocol, bytes)
SELECT 800000 + n, {account}, d.id, 1, m.id, now() - make_interval(mins => n * 37), (ARRAY['stray', 'failure'])[n % 2 + 1], 'modbus-rtu', '\\x00'
FROM generate_series(1, 30) n, panel_dtu d, panel_meter m WHERE d.i = 1 AND m.i = 1;
SELECT count(audit_append({account}, now() - make_interval(hours => n * 5), (ARRAY['ada@example.org', 'ben@example.org', 'cli'])[n % 3 + 1],
       (ARRAY['meter.update', 'dtu.update', 'schedule.update', 'group.create'])[n % 4 + 1],
       (ARRAY['meter/', 'dtu/', 'schedule/', 'group/'])[n % 4 + 1] || n, '{{}}')) FROM generate_series(1, 60) n;
INSERT INTO command_batch (id, account_id, request_hash, created_at)
VALUES ('00000000-0000-0000-0000-000000000001', {account}, '\\x00', now() - interval '6 days');
INSERT INTO command (account_id, meter_id, dtu_id, target, action, claims_relay, state, reason, requested_by, requested_as, batch_id, requested_at,
                     expires_at, sent_at, ended_at, version)
SELECT {account}, m.id, d.id, '{{}}', jsonb_build_object('action', CASE n % 3 WHEN 0 THEN 'disconnect' WHEN 1 THEN 'reconnect' ELSE 'sync_clock' END), n % 3 < 2,
       s, CASE n % 3 WHEN 2 THEN 'clock off' ELSE 'moved out' END, u.id, (ARRAY['ada@example.org', 'ben@example.org'])[n % 2 + 1],
       '00000000-0000-0000-0000-000000000001', t, t + interval '1 hour',
       CASE WHEN s IN ('confirmed', 'failed', 'unknown') THEN t + interval '4 s' END,
       CASE WHEN s IN ('confirmed', 'failed', 'rejected', 'expired') THEN t + make_interval(secs => 9 + n % 7) END, 3
FROM generate_series(1, 36) n, (SELECT min(id) AS id FROM app_user WHERE account_id = {account}) u, panel_meter m, panel_dtu d,
     LATERAL (SELECT CASE WHEN n = 36 THEN 'unknown' WHEN n = 35 THEN 'held' WHEN n = 34 THEN 'requested' WHEN n % 11 = 0 THEN 'failed'
                          WHEN n % 13 = 0 THEN 'rejected' WHEN n % 9 = 0 THEN 'expired' ELSE 'confirmed' END AS s,
                     now() - make_interval(mins => (37 - n) * 220) AS t) x
WHERE m.i = n + 2 AND d.i = (m.i - 1) % 10 + 1;
INSERT INTO command_edge (command_id, version, account_id, at, wall_at, state, actor, detail)
SELECT id, 1, account_id, requested_at, requested_at, 'requested', requested_as, '{{}}'::jsonb FROM command
UNION ALL SELECT id, 2, account_id, sent_at, sent_at, 'sent', 'desk', '{{}}'::jsonb FROM command WHERE sent_at IS NOT NULL
UNION ALL SELECT id, 3, account_id, ended_at, ended_at, state, 'desk', '{{}}'::jsonb FROM command WHERE ended_at IS NOT NULL;
INSERT INTO trip (command_id, account_id, dtu_id, at)
SELECT id, account_id, dtu_id, sent_at FROM command WHERE action ->> 'action' = 'disconnect' AND sent_at IS NOT NULL;
INSERT INTO alarm (account_id, key, kind, severity, dtu_id, meter_id, detail, sentence, raised_at, cause_at, judged_at, occurrences,
                   acknowledged_at, acknowledged_by, cleared_at, cleared_by)
SELECT {account}, 'panel:' || n || '@meter/' || m.id, k, (ARRAY['info', 'warning', 'critical'])[n % 3 + 1], d.id, m.id, '{{}}', 'as seeded', t, t, t,
       n % 4 + 1, CASE WHEN n % 2 = 0 THEN t + interval '7 min' END, CASE WHEN n % 2 = 0 THEN 'ada@example.org' END,
       CASE WHEN n < 31 THEN t + make_interval(mins => 20 + n * 3) END,
       CASE WHEN n < 31 THEN (ARRAY['alarms', 'ben@example.org'])[n % 2 + 1] END
FROM generate_series(1, 36) n, panel_meter m, panel_dtu d,
     LATERAL (SELECT (ARRAY['deviation', 'meter_offline', 'clock_drift', 'voltage_quality', 'phase_loss'])[n % 5 + 1] AS k,
                     now() - make_interval(mins => (37 - n) * 200) AS t) x
WHERE m.i = n % 30 + 1 AND d.i = (m.i - 1) % 10 + 1;
INSERT INTO alarm_edge (alarm_id, account_id, at, step, actor, note, quiet)
SELECT id, account_id, raised_at, 'raised', 'alarms', sentence, false FROM alarm
UNION ALL SELECT id, account_id, acknowledged_at, 'acknowledged', acknowledged_by, '', false FROM alarm WHERE acknowledged_at IS NOT NULL
UNION ALL SELECT id, account_id, cleared_at, 'cleared', cleared_by, '', false FROM alarm WHERE cleared_at IS NOT NULL;
INSERT INTO watermark (at) VALUES (now()) ON CONFLICT DO NOTHING;
"""


def seed(connection, account, say, meters=METERS):
    """Fills the account; the connection is the superuser's."""
    values = {"account": account, "meters": meters, "water": WATER, "dense": DENSE_DAYS}
    # what the roll-ups of the running server would do meanwhile is done here
    connection.execute("SET synchronous_commit = off; SET work_mem = '64MB'; SET timezone = 'UTC'")
    for name, text in (("fleet", FLEET), ("partitions", PARTITIONS), ("readings", READINGS), ("roll-ups", ROLLED), ("extras", EXTRAS)):
        connection.execute(text.format(**values))
        say(f"seeded {name}")
    connection.execute("SELECT count(close_day(day::date)) FROM generate_series(current_date - 366, current_date - 2, interval '1 day') day")
    connection.execute("DROP TABLE panel_due")
    connection.execute("ANALYZE")
    readings = connection.execute("SELECT (SELECT count(*) FROM reading_electricity) + (SELECT count(*) FROM reading_fluid)").fetchone()[0]
    say(f"{readings} readings of {meters} meters over a year")
