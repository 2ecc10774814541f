-- The meters of DL/T 698.45 terminals are ours by their own addresses, not by a measuring point.

CREATE OR REPLACE VIEW grafana_mesh WITH (security_invoker = true) AS
SELECT p.read_at AS time, p.dtu_id, p.point, p.place, p.meter_address, p.meter_protocol, p.port, p.collector, p.routed, p.relays,
       p.phase_bits, p.signal_bits, p.failures, p.last_success, m.id AS meter_id, m.name AS meter
FROM mesh_place p
LEFT JOIN meter m ON m.dtu_id = p.dtu_id AND m.deleted_at IS NULL
                 AND (m.protocol = 'gdw376.1' AND m.address = p.point::text
                      OR m.protocol = 'dlt698.45' AND m.address = p.meter_address);
