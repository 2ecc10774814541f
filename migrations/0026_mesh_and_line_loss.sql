-- How concentrators reach their meters, as they said when their archives were read last; and which point is the sum meter of a
-- group, so that line loss is a figure of the group and not of whoever looks at it.

CREATE TABLE mesh_place (
    dtu_id int NOT NULL,
    account_id int NOT NULL,
    point int NOT NULL CHECK (point BETWEEN 1 AND 65535), -- the measuring point: the address of our meter
    place int NOT NULL CHECK (place BETWEEN 0 AND 65535), -- in the concentrator's archive
    meter_address text NOT NULL, -- the meter's own
    meter_protocol text NOT NULL,
    port smallint NOT NULL,
    collector text NOT NULL, -- empty: none
    tariffs smallint NOT NULL,
    routed boolean NOT NULL, -- whether the concentrator says how it reaches the meter; what follows is null else
    relays smallint,
    phase_bits smallint,
    signal_bits smallint,
    failures smallint,
    last_success timestamp, -- by the concentrator's clock, whose zone it does not say
    read_at timestamptz NOT NULL,
    PRIMARY KEY (dtu_id, point),
    FOREIGN KEY (account_id, dtu_id) REFERENCES dtu (account_id, id)
);
SELECT protect_account_table('mesh_place');
GRANT SELECT, INSERT, UPDATE, DELETE ON mesh_place TO polyphase_app;
GRANT SELECT ON mesh_place TO polyphase_platform, polyphase_grafana;

ALTER TABLE meter_group ADD COLUMN sum_point_id int;
ALTER TABLE meter_group ADD FOREIGN KEY (account_id, sum_point_id) REFERENCES metering_point (account_id, id);

CREATE OR REPLACE VIEW grafana_group WITH (security_invoker = true) AS
WITH RECURSIVE tree AS (
    SELECT id, name, parent_id, name AS path, 1 AS depth, sum_point_id
    FROM meter_group WHERE parent_id IS NULL AND deleted_at IS NULL
    UNION ALL
    SELECT g.id, g.name, g.parent_id, tree.path || ' / ' || g.name, tree.depth + 1, g.sum_point_id
    FROM meter_group g JOIN tree ON g.parent_id = tree.id
    WHERE g.deleted_at IS NULL AND tree.depth < 32
)
SELECT id AS group_id, name AS "group", path, parent_id, depth, sum_point_id FROM tree;

-- The meters of concentrators, how they are reached, and which of ours they are.
CREATE VIEW grafana_mesh WITH (security_invoker = true) AS
SELECT p.read_at AS time, p.dtu_id, p.point, p.place, p.meter_address, p.meter_protocol, p.port, p.collector, p.routed, p.relays,
       p.phase_bits, p.signal_bits, p.failures, p.last_success, m.id AS meter_id, m.name AS meter
FROM mesh_place p
LEFT JOIN meter m ON m.dtu_id = p.dtu_id AND m.protocol = 'gdw376.1' AND m.address = p.point::text AND m.deleted_at IS NULL;
GRANT SELECT ON grafana_mesh TO polyphase_grafana;
