-- Settings of terminals: profiles of what is wanted, runs that read, compare and write, and what each terminal said last.

CREATE TABLE terminal_profile (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    name text NOT NULL,
    protocol text NOT NULL,
    parameters jsonb NOT NULL, -- [{name, number, value}]
    version int NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX terminal_profile_account ON terminal_profile (account_id, id) WHERE deleted_at IS NULL;

CREATE TABLE parameter_run (
    id uuid PRIMARY KEY,
    account_id int NOT NULL REFERENCES account (id),
    protocol text NOT NULL,
    profile_id int REFERENCES terminal_profile (id),
    asks jsonb NOT NULL, -- as they were when the run began
    state text NOT NULL CHECK (state IN ('comparing', 'compared', 'writing', 'done', 'cancelled', 'interrupted')),
    requested_by text NOT NULL,
    written_by text,
    created_at timestamptz NOT NULL,
    compared_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX parameter_run_account ON parameter_run (account_id, id DESC);
CREATE INDEX parameter_run_open ON parameter_run (id) WHERE state IN ('comparing', 'writing');

CREATE TABLE parameter_run_entry (
    run_id uuid NOT NULL REFERENCES parameter_run (id) ON DELETE CASCADE,
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    state text NOT NULL,
    reason text,
    parameters jsonb NOT NULL DEFAULT '[]', -- as the API shows them
    ended_at timestamptz,
    PRIMARY KEY (run_id, dtu_id),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);
CREATE INDEX parameter_run_entry_dtu ON parameter_run_entry (dtu_id, run_id DESC);

CREATE TABLE terminal_parameter (
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    name text NOT NULL,
    number int NOT NULL,
    value jsonb NOT NULL,
    read_at timestamptz NOT NULL,
    PRIMARY KEY (dtu_id, name, number),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);

SELECT protect_account_table('terminal_profile');
SELECT protect_account_table('parameter_run');
SELECT protect_account_table('parameter_run_entry');
SELECT protect_account_table('terminal_parameter');
GRANT SELECT, INSERT, UPDATE ON terminal_profile TO polyphase_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON parameter_run, parameter_run_entry, terminal_parameter TO polyphase_app;
GRANT SELECT ON terminal_profile, terminal_parameter TO polyphase_platform;
GRANT SELECT, UPDATE ON parameter_run, parameter_run_entry TO polyphase_platform;
