-- The roll-up of an hour looked for readings by a due time that the planner could not see, and so planned for, and locked,
-- every day that is kept. Now it says the hour.

-- Computes one wall-clock hour of some meters of one time zone anew.
CREATE OR REPLACE FUNCTION roll_up_meter_hour(p_zone text, p_hour timestamptz, p_meters int[], p_accounts int[]) RETURNS void
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
        WHERE EXISTS (SELECT FROM reading_electricity r
                      WHERE r.ts >= p_hour AND r.ts < until AND r.ts = d.due_at AND r.meter_id = d.meter_id AND r.source = 0)
           OR EXISTS (SELECT FROM reading_fluid r
                      WHERE r.ts >= p_hour AND r.ts < until AND r.ts = d.due_at AND r.meter_id = d.meter_id AND r.source = 0)
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
