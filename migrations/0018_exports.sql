-- Exports: what somebody asked to have written into a file, and what became of it. The files lie in the data folder.

CREATE TABLE export_job (
    id uuid PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    kind text NOT NULL CHECK (kind IN ('readings', 'consumption', 'slots', 'alarms', 'audit')),
    format text NOT NULL CHECK (format IN ('csv', 'xlsx')),
    ask jsonb NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'running', 'done', 'failed', 'cancelled', 'expired')),
    rows bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    attempts smallint NOT NULL DEFAULT 0,
    reason text,
    sha256 text,
    requested_by text NOT NULL,
    user_id int,
    created_at timestamptz NOT NULL,
    began_at timestamptz,
    ended_at timestamptz,
    expires_at timestamptz
);
CREATE INDEX export_job_account ON export_job (account_id, id DESC);
CREATE INDEX export_job_open ON export_job (id) WHERE state IN ('waiting', 'running');
CREATE INDEX export_job_kept ON export_job (expires_at) WHERE state = 'done';
CREATE INDEX export_job_created ON export_job (created_at);

SELECT protect_account_table('export_job');
GRANT SELECT, INSERT, UPDATE ON export_job TO polyphase_app;
GRANT SELECT, UPDATE, DELETE ON export_job TO polyphase_platform;
