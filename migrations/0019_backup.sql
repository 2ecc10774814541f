-- Retention waits for a backup: a day that is dropped while a backup reads would make either wait for the other with
-- locks on tables that everybody needs. The backup holds this advisory lock shared; a day that is not dropped now is
-- dropped at one of the next rounds.
CREATE OR REPLACE FUNCTION drop_day(p_parent text, p_day date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp
    AS $$
BEGIN
    IF p_parent NOT IN ('reading_electricity', 'reading_fluid', 'reading_side', 'slot_ending') THEN
        RAISE EXCEPTION 'no table % is kept by the day', p_parent USING ERRCODE = '22023';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('polyphase.backup')) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('polyphase.partitions'));
    EXECUTE format('DROP TABLE IF EXISTS %I', p_parent || '_' || to_char(p_day, 'YYYYMMDD'));
END
$$;
