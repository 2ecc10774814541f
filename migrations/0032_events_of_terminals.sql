-- Events of DL/T 698.45 terminals stand beside those of concentrators: their code is the number of the event's object (3000 to
-- 32FF), and a record may be longer than an index takes.

ALTER TABLE terminal_event
    DROP CONSTRAINT terminal_event_code_check,
    DROP CONSTRAINT terminal_event_data_check,
    DROP CONSTRAINT terminal_event_dtu_id_code_data_key,
    ADD CONSTRAINT terminal_event_code_check CHECK (code >= 0), -- below 256 ERC of Q/GDW 1376.1, above OI of DL/T 698.45
    ADD CONSTRAINT terminal_event_data_check CHECK (length(data) <= 8192);
CREATE UNIQUE INDEX terminal_event_once ON terminal_event (dtu_id, code, sha256(data));
