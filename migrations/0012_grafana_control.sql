-- Commands, their life, and emergency stops, as dashboards read them. Rights and row policies are those of the control
-- tables themselves (0011).

CREATE VIEW grafana_command WITH (security_invoker = true) AS
SELECT c.id AS command_id, c.requested_at AS time, c.meter_id, c.dtu_id, c.action ->> 'action' AS action, c.state, c.reason,
       c.requested_as, c.expires_at, c.sent_at, c.ended_at, c.needs, jsonb_array_length(c.holds) AS holds,
       c.state IN ('requested', 'held', 'approved', 'sent', 'unknown') AS open
FROM command c;

CREATE VIEW grafana_command_edge WITH (security_invoker = true) AS
SELECT e.at AS time, e.command_id, e.version, e.state, e.actor, c.meter_id, c.dtu_id, c.action ->> 'action' AS action
FROM command_edge e JOIN command c ON c.id = e.command_id;

-- Permitted disconnections, as the brake counts them.
CREATE VIEW grafana_trip WITH (security_invoker = true) AS
SELECT at AS time, command_id, dtu_id FROM trip;

CREATE VIEW grafana_emergency_stop WITH (security_invoker = true) AS
SELECT began_at AS time, id AS stop_id, reason, began_by, ended_at, ended_by FROM emergency_stop;

GRANT SELECT ON grafana_command, grafana_command_edge, grafana_trip, grafana_emergency_stop TO polyphase_grafana;
