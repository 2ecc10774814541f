-- What dashboards read: views named grafana_*, which are part of the contract (a column is added, never changed or
-- taken away within a version), and logins of one account each.
--
-- Every view is security_invoker: it reads with the rights and the row policies of the Grafana login that asks, and
-- those go by current_user (0004_access.sql). A view gives nothing that the login could not read from the tables. Times are
-- named "time" where a panel draws by them. Long ranges read roll-ups: grafana_consumption_hour and _day.

-- What a login may see of three tables more: who did what, what was set aside, which frames are kept. Never the bytes,
-- the hashes, or the details of a change.
GRANT SELECT (id, account_id, at, actor, action, object) ON audit TO polyphase_grafana;
GRANT SELECT (id, account_id, meter_id, ts, source, found_at) ON reading_conflict TO polyphase_grafana;
GRANT SELECT (id, account_id, meter_id, ts, source, found_at, sqlstate, reason) ON reading_rejected TO polyphase_grafana;
GRANT SELECT (id, account_id, dtu_id, meter_id, at, kind, protocol) ON frame_evidence TO polyphase_grafana;

CREATE VIEW grafana_account WITH (security_invoker = true) AS
SELECT id AS account_id, name AS account, time_zone, currency FROM account;

-- Groups with their path from the root; a group that was deleted is gone.
CREATE VIEW grafana_group WITH (security_invoker = true) AS
WITH RECURSIVE tree AS (
    SELECT id, name, parent_id, name AS path, 1 AS depth FROM meter_group WHERE parent_id IS NULL AND deleted_at IS NULL
    UNION ALL
    SELECT g.id, g.name, g.parent_id, tree.path || ' / ' || g.name, tree.depth + 1
    FROM meter_group g JOIN tree ON g.parent_id = tree.id
    WHERE g.deleted_at IS NULL AND tree.depth < 32
)
SELECT id AS group_id, name AS "group", path, parent_id, depth FROM tree;

-- Which groups lie within which: a group holds itself and all below it.
CREATE VIEW grafana_group_within WITH (security_invoker = true) AS
WITH RECURSIVE within AS (
    SELECT id AS group_id, id AS within_id, 1 AS depth FROM meter_group WHERE deleted_at IS NULL
    UNION ALL
    SELECT within.group_id, g.id, within.depth + 1
    FROM within JOIN meter_group g ON g.parent_id = within.within_id
    WHERE g.deleted_at IS NULL AND within.depth < 32
)
SELECT group_id, within_id FROM within;

-- DTUs as they are now. network: the first half of the peer's address, which tells mobile operators apart; registration
-- and heartbeat: what the recogniser learned of the device. since: of the present session, else of the last one's end.
CREATE VIEW grafana_dtu WITH (security_invoker = true) AS
SELECT d.id AS dtu_id,
       d.name AS dtu,
       d.sn,
       d.connect ->> 'kind' AS kind,
       d.enabled,
       coalesce(d.profile, d.learned ->> 'registration') AS registration,
       d.learned ->> 'framing' AS framing,
       (d.learned ->> 'heartbeat_interval_s')::int AS heartbeat_s,
       d.silence_s,
       (SELECT count(*) FROM meter m WHERE m.dtu_id = d.id AND m.deleted_at IS NULL) AS meters,
       s.id IS NOT NULL AND s.ended_at IS NULL AS online,
       coalesce(s.ended_at, s.began_at) AS since,
       s.peer,
       coalesce(substring(s.peer FROM '^(\d+\.\d+)\.\d+\.\d+'), 'other') AS network,
       s.cause AS last_cause,
       (s.counters ->> 'round_trip_ms')::int AS round_trip_ms,
       d.created_at
FROM dtu d
LEFT JOIN LATERAL (
    SELECT id, peer, began_at, ended_at, cause, counters FROM dtu_session
    WHERE dtu_id = d.id ORDER BY began_at DESC LIMIT 1
) AS s ON true
WHERE d.deleted_at IS NULL;

-- Sessions; the counters are those of the end, so an open session has zeros.
CREATE VIEW grafana_session WITH (security_invoker = true) AS
SELECT s.id AS session_id,
       s.dtu_id,
       s.peer,
       s.began_at,
       s.ended_at,
       s.cause,
       coalesce((s.counters ->> 'bytes_in')::bigint, 0) AS bytes_in,
       coalesce((s.counters ->> 'bytes_out')::bigint, 0) AS bytes_out,
       coalesce((s.counters ->> 'answers')::bigint, 0) AS answers,
       coalesce((s.counters ->> 'timeouts')::bigint, 0) AS timeouts,
       coalesce((s.counters ->> 'strays')::bigint, 0) AS strays,
       coalesce((s.counters ->> 'noise_bytes')::bigint, 0) AS noise_bytes,
       coalesce((s.counters ->> 'heartbeats')::bigint, 0) AS heartbeats,
       (s.counters ->> 'round_trip_ms')::int AS round_trip_ms,
       (s.counters ->> 'last_heard_at')::timestamptz AS last_heard_at
FROM dtu_session s;

-- Meters with their place: DTU, group, the metering point where they stand or stood last.
CREATE VIEW grafana_meter WITH (security_invoker = true) AS
SELECT m.id AS meter_id,
       m.name AS meter,
       m.comment,
       m.protocol,
       m.address,
       m.model,
       m.dtu_id,
       d.name AS dtu,
       m.group_id,
       g.name AS "group",
       i.point_id,
       p.name AS point,
       i.ct_ratio,
       i.vt_ratio,
       l.read_at AS last_read_at,
       m.created_at
FROM meter m
JOIN dtu d ON d.id = m.dtu_id
LEFT JOIN meter_group g ON g.id = m.group_id
LEFT JOIN LATERAL (
    SELECT point_id, ct_ratio, vt_ratio FROM installation WHERE meter_id = m.id ORDER BY valid_from DESC LIMIT 1
) AS i ON true
LEFT JOIN metering_point p ON p.id = i.point_id
LEFT JOIN LATERAL (SELECT max(read_at) AS read_at FROM latest_reading WHERE meter_id = m.id) AS l ON true
WHERE m.deleted_at IS NULL;

CREATE VIEW grafana_point WITH (security_invoker = true) AS
SELECT p.id AS point_id, p.name AS point, p.group_id, g.name AS "group", i.meter_id
FROM metering_point p
LEFT JOIN meter_group g ON g.id = p.group_id
LEFT JOIN LATERAL (
    SELECT meter_id FROM installation WHERE point_id = p.id ORDER BY valid_from DESC LIMIT 1
) AS i ON true
WHERE p.deleted_at IS NULL;

-- Which meter stood where: an exchange is the end of one row and the beginning of the next.
CREATE VIEW grafana_installation WITH (security_invoker = true) AS
SELECT i.id AS installation_id, i.point_id, i.meter_id, m.name AS meter, i.valid_from, i.valid_to, i.ct_ratio, i.vt_ratio
FROM installation i JOIN meter m ON m.id = i.meter_id;

-- Polls of electricity meters, one row a poll. quality names the exceptions: {"voltage_l1": "suspect"}.
CREATE VIEW grafana_reading WITH (security_invoker = true) AS
SELECT ts AS time, meter_id, read_at, meter_time, source,
       CASE source WHEN 0 THEN 'scheduled' WHEN 1 THEN 'on_demand' WHEN 2 THEN 'back_fill' WHEN 3 THEN 'pushed'
                   WHEN 4 THEN 'manual' ELSE 'imported' END AS source_name,
       quality,
       voltage_l1, voltage_l2, voltage_l3, voltage_l1_l2, voltage_l2_l3, voltage_l3_l1,
       current_l1, current_l2, current_l3, current_n,
       active_power_total, active_power_l1, active_power_l2, active_power_l3,
       reactive_power_total, apparent_power_total,
       power_factor_total, power_factor_l1, power_factor_l2, power_factor_l3,
       frequency, demand_active_import, max_demand_active_import,
       active_energy_total, active_energy_import, active_energy_import_t1, active_energy_import_t2,
       active_energy_import_t3, active_energy_import_t4, active_energy_export, reactive_energy_import,
       reactive_energy_export, apparent_energy_import
FROM reading_electricity;

-- Polls of water, heat and gas meters.
CREATE VIEW grafana_reading_fluid WITH (security_invoker = true) AS
SELECT ts AS time, meter_id, read_at, meter_time, source,
       CASE source WHEN 0 THEN 'scheduled' WHEN 1 THEN 'on_demand' WHEN 2 THEN 'back_fill' WHEN 3 THEN 'pushed'
                   WHEN 4 THEN 'manual' ELSE 'imported' END AS source_name,
       quality,
       flow_rate, thermal_power, temperature, temperature_flow, temperature_return, temperature_difference, pressure,
       volume_total, volume_reverse, volume_settlement, heat_energy, heat_energy_settlement, cooling_energy, gas_volume,
       operating_hours
FROM reading_fluid;

-- Rare and vendor quantities, one row a value.
CREATE VIEW grafana_reading_side WITH (security_invoker = true) AS
SELECT ts AS time, meter_id, source, quantity, coalesce(exact, approx::numeric) AS value,
       (ARRAY['measured', 'estimated', 'substituted', 'suspect'])[quality + 1] AS quality
FROM reading_side;

-- The newest value of every register of a meter. Ask for few meters at a time.
CREATE VIEW grafana_register WITH (security_invoker = true) AS
SELECT DISTINCT ON (l.meter_id, v.key)
       l.meter_id,
       v.key AS quantity,
       CASE WHEN v.key LIKE 'reactive_energy%' THEN 'kvarh' WHEN v.key LIKE 'apparent_energy%' THEN 'kVAh'
            WHEN v.key = 'operating_hours' THEN 'h'
            WHEN v.key LIKE 'volume%' OR v.key = 'gas_volume' THEN 'm³' ELSE 'kWh' END AS unit,
       v.value::numeric AS value,
       coalesce(r.quality ->> v.key, 'measured') AS quality,
       l.read_at,
       l.ts AS time
FROM latest_reading l
CROSS JOIN LATERAL (
    SELECT to_jsonb(e) AS laid, e.quality FROM reading_electricity e
    WHERE l.family = 0 AND e.ts = l.ts AND e.meter_id = l.meter_id AND e.source = l.source
    UNION ALL
    SELECT to_jsonb(f), f.quality FROM reading_fluid f
    WHERE l.family = 1 AND f.ts = l.ts AND f.meter_id = l.meter_id AND f.source = l.source
) AS r
CROSS JOIN LATERAL jsonb_each_text(r.laid) AS v
WHERE (v.key LIKE '%energy%' OR v.key LIKE 'volume%' OR v.key IN ('gas_volume', 'operating_hours'))
  AND v.value IS NOT NULL
ORDER BY l.meter_id, v.key, l.ts DESC;

-- Consumption of metering points by the hour and by the day of the account's wall clock, ratios included.
CREATE VIEW grafana_consumption_hour WITH (security_invoker = true) AS
SELECT start AS time, finish, point_id, quantity, value,
       (ARRAY['measured', 'estimated', 'substituted', 'suspect'])[quality + 1] AS quality, interpolated, incomplete
FROM consumption_hour;

CREATE VIEW grafana_consumption_day WITH (security_invoker = true) AS
SELECT start AS time, finish, point_id, quantity, value,
       (ARRAY['measured', 'estimated', 'substituted', 'suspect'])[quality + 1] AS quality, interpolated, incomplete
FROM consumption_day;

-- Endings of slots other than the plain on-time reading; the newest version of each.
CREATE VIEW grafana_slot_ending WITH (security_invoker = true) AS
SELECT DISTINCT ON (due_at, meter_id, schedule_id)
       due_at AS time, ended_at, meter_id, schedule_id, version, attempts, state, reason, detail
FROM slot_ending
ORDER BY due_at, meter_id, schedule_id, version DESC;

CREATE VIEW grafana_schedule WITH (security_invoker = true) AS
SELECT s.id AS schedule_id, s.name AS schedule, r.cron, r.time_zone, r.window_s, r.attempts, r.missed_run,
       (SELECT count(*) FROM meter_schedule ms WHERE ms.schedule_id = s.id AND ms.valid_to IS NULL) AS meters
FROM schedule s
LEFT JOIN schedule_rule r ON r.schedule_id = s.id AND r.valid_to IS NULL
WHERE s.deleted_at IS NULL;

-- Who did what, without the details. object_kind and object_id take "meter/12" apart.
CREATE VIEW grafana_audit WITH (security_invoker = true) AS
SELECT at AS time, id AS audit_id, actor, action, object, split_part(object, '/', 1) AS object_kind,
       substring(object FROM '^[a-z_-]+/(\d{1,9})$')::int AS object_id
FROM audit;

-- Readings that were kept aside: another value under a taken key, or refused by the database.
CREATE VIEW grafana_reading_fault WITH (security_invoker = true) AS
SELECT found_at AS time, 'conflict' AS fault, meter_id, ts AS reading_time,
       'another value under the same key' AS reason
FROM reading_conflict
UNION ALL
SELECT found_at, 'rejected', meter_id, ts, reason FROM reading_rejected;

-- Raw frames of failures and strays that are kept as evidence; their bytes are behind the API alone.
CREATE VIEW grafana_frame WITH (security_invoker = true) AS
SELECT at AS time, id AS frame_id, dtu_id, meter_id, kind, protocol FROM frame_evidence;

-- Up to where every slot has an ending.
CREATE VIEW grafana_watermark WITH (security_invoker = true) AS
SELECT at AS time FROM watermark;

GRANT SELECT ON
    grafana_account, grafana_group, grafana_group_within, grafana_dtu, grafana_session, grafana_meter, grafana_point,
    grafana_installation, grafana_reading, grafana_reading_fluid, grafana_reading_side, grafana_register,
    grafana_consumption_hour, grafana_consumption_day, grafana_slot_ending, grafana_schedule, grafana_audit,
    grafana_reading_fault, grafana_frame, grafana_watermark
    TO polyphase_grafana;
