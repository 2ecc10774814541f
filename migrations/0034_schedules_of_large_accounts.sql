-- An account's schedules at once, however many meters it has. The rows wanted and the rows there are compared as sets: a planner
-- that knew nothing of the tables yet looked for each new row among those that the same statement had just written, which took
-- the square of their number (30,000 meters: 48 s, now 1).
CREATE OR REPLACE FUNCTION refresh_meter_schedules(p_account int, p_dtu int, p_meter int, p_at timestamptz) RETURNS int
    LANGUAGE plpgsql
    AS $$
DECLARE
    gone int;
    closed int;
    opened int;
BEGIN
    -- two edits of one account are put in order, else both could open the same row
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.meter_schedule'), p_account);

    -- a row that would be closed at or before its beginning was never in force
    WITH stale AS MATERIALIZED (
        SELECT ms.meter_id, ms.schedule_id FROM meter_schedule ms JOIN meter m ON m.id = ms.meter_id
        WHERE ms.valid_to IS NULL AND ms.valid_from >= p_at
          AND m.account_id = p_account AND (p_dtu IS NULL OR m.dtu_id = p_dtu) AND (p_meter IS NULL OR m.id = p_meter)
        EXCEPT
        SELECT w.meter_id, w.schedule_id FROM wanted_schedules(p_account, p_dtu, p_meter) w
    )
    DELETE FROM meter_schedule ms USING stale s
    WHERE ms.meter_id = s.meter_id AND ms.schedule_id = s.schedule_id AND ms.valid_to IS NULL AND ms.valid_from >= p_at;
    GET DIAGNOSTICS gone = ROW_COUNT;

    WITH stale AS MATERIALIZED (
        SELECT ms.meter_id, ms.schedule_id FROM meter_schedule ms JOIN meter m ON m.id = ms.meter_id
        WHERE ms.valid_to IS NULL
          AND m.account_id = p_account AND (p_dtu IS NULL OR m.dtu_id = p_dtu) AND (p_meter IS NULL OR m.id = p_meter)
        EXCEPT
        SELECT w.meter_id, w.schedule_id FROM wanted_schedules(p_account, p_dtu, p_meter) w
    )
    UPDATE meter_schedule ms SET valid_to = p_at FROM stale s
    WHERE ms.meter_id = s.meter_id AND ms.schedule_id = s.schedule_id AND ms.valid_to IS NULL;
    GET DIAGNOSTICS closed = ROW_COUNT;

    WITH missing AS MATERIALIZED (
        SELECT w.meter_id, w.schedule_id FROM wanted_schedules(p_account, p_dtu, p_meter) w
        EXCEPT
        SELECT ms.meter_id, ms.schedule_id FROM meter_schedule ms JOIN meter m ON m.id = ms.meter_id
        WHERE ms.valid_to IS NULL
          AND m.account_id = p_account AND (p_dtu IS NULL OR m.dtu_id = p_dtu) AND (p_meter IS NULL OR m.id = p_meter)
    )
    INSERT INTO meter_schedule (meter_id, schedule_id, account_id, valid_from)
    SELECT n.meter_id, n.schedule_id, p_account, p_at FROM missing n
    ON CONFLICT (meter_id, schedule_id, valid_from) DO UPDATE SET valid_to = NULL;
    GET DIAGNOSTICS opened = ROW_COUNT;
    RETURN gone + closed + opened;
END
$$;
