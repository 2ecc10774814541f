-- Events that concentrators recorded: the record itself with the concentrator's own time. The same record is the same event,
-- however often and by whatever way it is told.

CREATE TABLE terminal_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    code smallint NOT NULL CHECK (code BETWEEN 0 AND 255), -- ERC, Q/GDW 1376.1 annex D
    data bytea NOT NULL CHECK (length(data) <= 255),
    important boolean NOT NULL,
    happened_at timestamp, -- by the concentrator's clock, whose zone it does not say; null: no time in it
    found_at timestamptz NOT NULL,
    UNIQUE (dtu_id, code, data),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);
CREATE INDEX terminal_event_of_dtu ON terminal_event (dtu_id, id);
CREATE INDEX terminal_event_found ON terminal_event (found_at) WHERE important;
SELECT protect_account_table('terminal_event');
GRANT SELECT, INSERT, DELETE ON terminal_event TO polyphase_ingest;
GRANT SELECT ON terminal_event TO polyphase_app, polyphase_platform;
