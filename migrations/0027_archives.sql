-- The archives of concentrators as we want them: which meter stands at which measuring point. What the concentrators say is in
-- mesh_place.

CREATE TABLE archive_entry (
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    point int NOT NULL CHECK (point BETWEEN 1 AND 65535),
    entry jsonb NOT NULL, -- as the API shows it: place, addresses, protocol, port, tariffs
    PRIMARY KEY (dtu_id, point),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);
SELECT protect_account_table('archive_entry');
GRANT SELECT, INSERT, UPDATE, DELETE ON archive_entry TO polyphase_app;
GRANT SELECT ON archive_entry TO polyphase_platform;
