-- Imports: what somebody sent to be taken over from a file, and what was found in it. The files themselves are not kept.

CREATE TABLE import_job (
    id uuid PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    kind text NOT NULL CHECK (kind IN ('dtus', 'meters', 'groups')),
    ask jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'faulty', 'failed')),
    reason text,
    -- counters, and the first faults and changes
    tally jsonb NOT NULL,
    requested_by text NOT NULL,
    user_id int,
    created_at timestamptz NOT NULL,
    began_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX import_job_account ON import_job (account_id, id DESC);
CREATE INDEX import_job_open ON import_job (id) WHERE state IN ('waiting', 'running');
CREATE INDEX import_job_created ON import_job (created_at);

SELECT protect_account_table('import_job');
GRANT SELECT, INSERT, UPDATE ON import_job TO polyphase_app;
GRANT SELECT, UPDATE, DELETE ON import_job TO polyphase_platform;
