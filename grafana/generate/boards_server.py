"""The two dashboards that look at people's doings and at the server itself."""

from boards import CHANGES, METER_LINK, TODAY
from parts import *

QUARTER, P50, P95, P99 = "[5m]", 0.5, 0.95, 0.99


def quantiles(metric, unit_title, by=""):
    group = f"le{', ' + by if by else ''}"
    return [prom(f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket[$__rate_interval])))", name, ref)
            for q, name, ref in ((P50, "half below", "A"), (P95, "95 % below", "B"), (P99, "99 % below", "C"))]


def control():
    who = f"('0' IN (${{actor:sqlstring}}) OR actor IN (${{actor:sqlstring}}))"
    kind = f"('0' IN (${{kind:sqlstring}}) OR object_kind IN (${{kind:sqlstring}}))"
    states = texts(requested=("requested", PLAIN), held=("held", FAIR), approved=("approved", PLAIN), sent=("sent", PLAIN),
                   confirmed=("confirmed", GOOD), failed=("failed", BAD), unknown=("unknown", BAD), rejected=("rejected", DIM),
                   cancelled=("cancelled", DIM), expired=("expired", FAIR))
    severities = texts(info=("info", PLAIN), warning=("warning", FAIR), critical=("critical", BAD))
    alarm_states = texts(raised=("raised", BAD), acknowledged=("acknowledged", FAIR), shelved=("shelved", DIM), cleared=("cleared", GOOD))
    panels = [
        stat("Alarms open", "Without those that are a consequence of another one.", sql("""
            SELECT count(*) AS open FROM grafana_alarm WHERE open AND parent_id IS NULL"""), width=4, thresholds=steps((None, GOOD), (1, FAIR))),
        stat("Critical and not looked at", "Open, critical, and nobody has acknowledged or shelved them.", sql("""
            SELECT count(*) AS critical FROM grafana_alarm WHERE state = 'raised' AND severity = 'critical' AND parent_id IS NULL"""), width=4,
             thresholds=steps((None, GOOD), (1, BAD))),
        stat("Until somebody looked", "Half of the alarms of the range were acknowledged within this time.", sql("""
            SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM acknowledged_at - time)) AS seconds
            FROM grafana_alarm WHERE $__timeFilter(time) AND acknowledged_at IS NOT NULL"""), "s", 4, decimals=0, no_value="none yet"),
        bars("Alarms, by kind", "When they were raised.", sql("""
            SELECT $__timeGroup(time, $__interval) AS time, kind AS metric, count(*) AS alarms FROM grafana_alarm
            WHERE $__timeFilter(time) AND parent_id IS NULL GROUP BY 1, 2 ORDER BY 1, 2""", True), width=12, height=4, decimals=0,
             no_value="none in this range"),
        table("Alarms", "Open ones above, the newest first. One alarm stands for all DTUs that were lost together. Click one for every step of its "
              "life.", sql("""
            SELECT a.time AS raised, a.alarm_id, a.severity, a.kind, a.sentence AS "what", a.dtu_id, d.dtu, a.meter_id, m.meter, a.state, a.victims,
                   a.occurrences AS times, a.acknowledged_by AS "acknowledged by", a.cleared_at AS cleared, a.cleared_by AS "cleared by"
            FROM grafana_alarm a LEFT JOIN grafana_dtu d USING (dtu_id) LEFT JOIN grafana_meter m USING (meter_id)
            WHERE (a.open OR $__timeFilter(a.time)) AND a.parent_id IS NULL ORDER BY a.open DESC, a.time DESC LIMIT 500"""), 24, 9, overrides=[
                *hidden("meter_id", "dtu_id"), linked("alarm_id", api("/alarms/${__data.fields.alarm_id}", "Alarm and its history")),
                by_name("alarm_id", displayName="alarm"), linked("meter", METER_LINK),
                linked("dtu", to("dtu", "DTU ${__data.fields.dtu}", "dtu=${__data.fields.dtu_id}")),
                by_name("severity", custom__cellOptions=coloured(), mappings=severities),
                by_name("state", custom__cellOptions=coloured(), mappings=alarm_states)], no_value="none"),
        stat("Commands open", "Asked for and not ended.", sql("SELECT count(*) AS open FROM grafana_command WHERE open"), width=4),
        stat("Held for approval", "Beyond the policy or the brake: two people have to look.", sql("""
            SELECT count(*) AS held FROM grafana_command WHERE state = 'held'"""), width=4, thresholds=steps((None, GOOD), (1, FAIR))),
        stat("Outcome unknown", "Sent, and the switch is not read back yet.", sql("""
            SELECT count(*) AS unknown FROM grafana_command WHERE state = 'unknown'"""), width=4, thresholds=steps((None, GOOD), (1, BAD))),
        stat("Disconnections, 24 hours", "Permitted ones, as the brake counts them.", sql("""
            SELECT count(*) AS trips FROM grafana_trip WHERE time >= now() - interval '24 hours'"""), width=4),
        stat("Emergency stops in force", "Of the account; one of the whole server is under Alerts.", sql("""
            SELECT count(*) AS stops FROM grafana_emergency_stop WHERE ended_at IS NULL"""), width=4, thresholds=steps((None, GOOD), (1, BAD))),
        stat("Confirmed of those sent", "Commands of the range whose effect was read back.", sql("""
            SELECT avg((state = 'confirmed')::int) AS confirmed FROM grafana_command
            WHERE $__timeFilter(time) AND sent_at IS NOT NULL"""), "percentunit", 4, thresholds=SHARE, decimals=1, no_value="none sent"),
        bars("Commands, by state", "When they were asked for, and where they stand now.", sql("""
            SELECT $__timeGroup(time, $__interval) AS time, state AS metric, count(*) AS commands FROM grafana_command
            WHERE $__timeFilter(time) GROUP BY 1, 2 ORDER BY 1, 2""", True), width=8, decimals=0, no_value="none in this range"),
        table("Commands", "Newest first; open ones above. Click a command for its whole history, a meter for its dashboard.", sql("""
            SELECT c.time AS requested, c.command_id, c.action, m.meter_id, m.meter, c.state, c.requested_as AS "by", c.reason,
                   extract(epoch FROM c.sent_at - c.time) AS "until sent", extract(epoch FROM c.ended_at - c.sent_at) AS "until known",
                   c.expires_at AS expires
            FROM grafana_command c LEFT JOIN grafana_meter m USING (meter_id)
            WHERE c.open OR $__timeFilter(c.time) ORDER BY c.open DESC, c.time DESC LIMIT 500"""), 16, 8, overrides=[
                *hidden("meter_id"), linked("command_id", api("/commands/${__data.fields.command_id}", "Command and its history")),
                by_name("command_id", displayName="command"), linked("meter", METER_LINK),
                by_name("state", custom__cellOptions=coloured(), mappings=states), by_name("until sent", unit="s", decimals=1),
                by_name("until known", unit="s", decimals=1)], no_value="none in this range"),
        stat("Changes today", "Entries of the audit trail of today (the account's day).", sql(f"""
            SELECT count(*) AS changes FROM grafana_audit WHERE time >= {TODAY}"""), width=4),
        stat("People and keys at work", "Who changed something within the range.", sql("""
            SELECT count(DISTINCT actor) AS people FROM grafana_audit WHERE $__timeFilter(time)"""), width=4),
        stat("Readings set aside", "Conflicts and refusals within the range.", sql("""
            SELECT count(*) AS faults FROM grafana_reading_fault WHERE $__timeFilter(time)"""), width=4,
             thresholds=steps((None, GOOD), (1, FAIR))),
        stat("Outages open", "Enabled DTUs without a session for longer than five minutes.", sql("""
            SELECT count(*) AS outages FROM grafana_dtu WHERE enabled AND NOT online AND (since IS NULL OR since < now() - interval '5 minutes')
            """), width=4, thresholds=steps((None, GOOD), (1, FAIR), (10, BAD))),
        stat("Sign-ins refused", "Within the range, over the whole server.",
             prom('sum(increase(polyphase_sign_ins_total{outcome=~"refused|throttled"}[$__range]))', "refused", instant=True), width=4,
             thresholds=steps((None, GOOD), (10, FAIR), (100, BAD)), decimals=0),
        stat("Clones suspected", "Serial numbers that two devices seem to share, within the range, over the whole server.",
             prom("sum(increase(polyphase_clone_suspected_total[$__range]))", "suspected", instant=True), width=4,
             thresholds=steps((None, GOOD), (1, BAD)), decimals=0),
        bars("Changes", "Entries of the audit trail, by what was done.", sql(f"""
            SELECT $__timeGroup(time, $__interval) AS time, action AS metric, count(*) AS entries FROM grafana_audit
            WHERE $__timeFilter(time) AND {who} AND {kind} GROUP BY 1, 2 ORDER BY 1, 2""", True), decimals=0),
        barchart("By whom", "Entries within the range, by who did it; cli is the command line of the server.", sql(f"""
            SELECT actor, count(*) AS entries FROM grafana_audit WHERE $__timeFilter(time) AND {who} AND {kind}
            GROUP BY 1 ORDER BY 2 DESC LIMIT 12"""), "actor", width=6, horizontal=True),
        barchart("Of what", "Entries within the range, by what was changed.", sql(f"""
            SELECT object_kind, count(*) AS entries FROM grafana_audit WHERE $__timeFilter(time) AND {who} AND {kind}
            GROUP BY 1 ORDER BY 2 DESC LIMIT 12"""), "object_kind", width=6, horizontal=True),
        table("Who did what", "The audit trail, newest first; its details are behind the API. It is hash-chained: polyphase can prove that "
              "none was changed.", sql(f"""
            SELECT time, actor, action, object, CASE WHEN object_kind IN ('account', 'user', 'api-key', 'dtu', 'meter', 'point', 'schedule', 'group')
                   THEN replace(object, '/', 's/') ELSE 'audit' END AS path
            FROM grafana_audit WHERE $__timeFilter(time) AND {who} AND {kind} ORDER BY time DESC, audit_id DESC LIMIT 1000"""),
              height=11, overrides=[*hidden("path"), linked("object", api("/${__data.fields.path}", "API"))]),
        table("Outages", "DTUs that were away for more than five minutes within the range, the longest first.", sql("""
            SELECT d.dtu_id, d.dtu, s.ended_at AS "from", s.next AS "to", extract(epoch FROM coalesce(s.next, now()) - s.ended_at) AS lasted,
                   s.cause, d.meters
            FROM (SELECT dtu_id, ended_at, cause, lead(began_at) OVER (PARTITION BY dtu_id ORDER BY began_at) AS next
                  FROM grafana_session WHERE began_at <= $__timeTo()) s
            JOIN grafana_dtu d USING (dtu_id)
            WHERE s.ended_at <= $__timeTo() AND coalesce(s.next, now()) >= $__timeFrom()
              AND coalesce(s.next, now()) - s.ended_at > interval '5 minutes'
            ORDER BY lasted DESC LIMIT 500"""), 12, 10, overrides=[
                *hidden("dtu_id"), linked("dtu", to("dtu", "DTU ${__data.fields.dtu}", "dtu=${__data.fields.dtu_id}")),
                by_name("lasted", unit="s", decimals=0)], no_value="none in this range"),
        table("Readings set aside", "Another value under a key that was taken, or one that the database refused.", sql("""
            SELECT f.time, f.fault, m.meter_id, m.meter, f.reading_time AS "of", f.reason FROM grafana_reading_fault f
            LEFT JOIN grafana_meter m USING (meter_id) WHERE $__timeFilter(f.time) ORDER BY f.time DESC LIMIT 500"""), 12, 10, overrides=[
                *hidden("meter_id"), linked("meter", METER_LINK)], no_value="none in this range"),
        row("The whole server, over all accounts"),
        table("Alerts that fire", "Of the rules in Prometheus; those of Grafana are in its own list.", prom(
            'ALERTS{alertstate="firing"}', instant=True), 24, 6, transformations=[
                {"id": "labelsToFields", "options": {"mode": "columns"}}, {"id": "merge", "options": {}},
                {"id": "organize", "options": {"excludeByName": {"Value": True, "__name__": True, "alertstate": True, "job": True},
                                               "indexByName": {"alertname": 0, "severity": 1, "instance": 2}, "renameByName": {}}}],
              overrides=[by_name("severity", custom__cellOptions=coloured(), mappings=texts(critical=("critical", BAD), warning=("warning", FAIR)))],
              no_value="none fires"),
        lines("Sign-ins a minute", "Granted, refused and throttled.",
              prom("sum by (outcome) (rate(polyphase_sign_ins_total[$__rate_interval])) * 60", "{{outcome}}"), width=8),
        lines("Claims and quarantine", "Unknown serial numbers that wait, and claims of them in an hour.", [
            prom("polyphase_quarantined_dtus", "waiting"),
            prom("sum by (outcome) (increase(polyphase_claims_total[1h]))", "claims {{outcome}}", "B")], width=8),
        lines("Take-overs an hour", "Sessions that took over a live one of the same serial number; suspected clones among them.", [
            prom("increase(polyphase_session_takeovers_total[1h])", "take-overs"),
            prom("increase(polyphase_clone_suspected_total[1h])", "clones suspected", "B")], width=8),
    ]
    return board("control", "Control and alarms", "What was done, by whom, and what calls for somebody?", panels, [
        account(), prometheus(),
        choice("actor", "Who", """
            SELECT DISTINCT actor AS __text, actor AS __value FROM grafana_audit WHERE $__timeFilter(time) ORDER BY 1""", many=True,
               everything=True),
        choice("kind", "What", """
            SELECT DISTINCT object_kind AS __text, object_kind AS __value FROM grafana_audit WHERE $__timeFilter(time) ORDER BY 1""",
               many=True, everything=True), api_address()], since="now-7d", refresh="1m")


def server():
    up = 'up{job="polyphase"}'
    panels = [
        stat("Server", "Whether Prometheus reaches /metrics.", prom(up, "{{instance}}"), "string", 3,
             mappings=texts(**{"1": ("Up", GOOD), "0": ("Down", BAD)})),
        stat("Running for", "Time since the process began.", prom("time() - process_start_time_seconds{job=\"polyphase\"}", ""), "s", 3, decimals=0),
        stat("DTUs online", "All accounts.", prom("polyphase_dtus_online", "online"), width=3, graph=True),
        stat("Readings a second", "New rows in PostgreSQL.", prom('rate(polyphase_store_readings_total{outcome="inserted"}[5m])', ""), width=3,
             decimals=2, graph=True),
        stat("Spool", "Bytes of segments, of what they may take.", prom("polyphase_spool_bytes / polyphase_spool_capacity_bytes", ""),
             "percentunit", 3, thresholds=steps((None, GOOD), (0.5, FAIR), (0.8, BAD)), decimals=1, graph=True),
        stat("Not yet stored", "Polls that are durable in the spool and not yet in PostgreSQL.", prom("polyphase_spool_backlog_records", ""),
             width=3, thresholds=steps((None, GOOD), (5000, FAIR), (100000, BAD)), graph=True),
        stat("Oldest open slot", "Age of the oldest due slot without an ending.", prom("polyphase_slot_oldest_open_seconds", ""), "s", 3,
             thresholds=steps((None, GOOD), (3600, FAIR), (7200, BAD))),
        stat("Memory", "Resident memory of the process.", prom('process_resident_memory_bytes{job="polyphase"}', ""), "bytes", 3, graph=True),

        row("Actors and lines"),
        lines("Actors", "Live actors, by kind.", prom("sum by (kind) (polyphase_actors)", "{{kind}}"), width=8),
        lines("Actors built anew, a minute", "An actor that died is built anew alone; a kind that keeps dying is a fault to report.",
              prom("sum by (kind) (rate(polyphase_actor_restarts_total[$__rate_interval])) * 60", "{{kind}}"), width=8,
              no_value="none has died"),
        lines("Visits to meters", "Time from the wish to read to its end, waiting for the line included.",
              quantiles("polyphase_poll_duration_seconds", "s"), "s", 8),
        lines("Visits a second, by outcome", "read, partial, or why not.",
              prom("sum by (outcome) (rate(polyphase_poll_duration_seconds_count[$__rate_interval]))", "{{outcome}}"), "ops", 8, stack=True,
              fill=30),
        lines("Transactions on lines a second", "One question and its answer.",
              prom("sum by (result) (rate(polyphase_transactions_total[$__rate_interval]))", "{{result}}"), "ops", 8, stack=True, fill=30),
        lines("Strays and noise a second", "Valid frames that were nobody's answer; bytes that formed no frame.", [
            prom("rate(polyphase_stray_frames_total[$__rate_interval])", "stray frames"),
            prom("rate(polyphase_noise_bytes_total[$__rate_interval])", "noise, bytes", "B")], "short", 8),
        lines("Slots ended a minute", "By how, and why missing.",
              prom("sum by (state, reason) (rate(polyphase_slots_ended_total[$__rate_interval])) * 60", "{{state}} {{reason}}"), width=12,
              stack=True, fill=30),
        lines("Sessions ended a minute", "Ends of sessions, by cause.", prom(
            "sum by (cause) (rate(polyphase_sessions_ended_total[$__rate_interval])) * 60", "{{cause}}"), width=12, stack=True, fill=30,
              no_value="none has ended"),

        row("Spool and storage"),
        lines("Spool", "Segments on the disk, what they may take, and what is free there.", [
            prom("polyphase_spool_bytes", "used"), prom("polyphase_spool_capacity_bytes", "may take", "B"),
            prom("polyphase_spool_disk_free_bytes", "free on the disk", "C")], "bytes", 8, fill=0),
        lines("Mailbox of the spool, and what waits for the database", "Records waiting for the spool's thread, and durable ones that are not yet "
              "committed.", [prom("polyphase_spool_queue_records", "wait for the spool"),
                             prom("polyphase_spool_backlog_records", "wait for the database", "B"),
                             prom("polyphase_session_log_queued_rows", "session rows", "C")], width=8),
        lines("Write and fsync of the spool", "What a poll waits for before it is acknowledged.", quantiles("polyphase_spool_fsync_seconds", "s"),
              "s", 8),
        lines("Batches into PostgreSQL", "Time to write one.", quantiles("polyphase_store_batch_seconds", "s"), "s", 8),
        lines("Readings stored a second", "By outcome; conflicts and rejected ones are kept aside.",
              prom("sum by (outcome) (rate(polyphase_store_readings_total[$__rate_interval]))", "{{outcome}}"), "ops", 8),
        lines("Refused and lost", "Batches that PostgreSQL could not take, records that the spool refused, records lost or cut.", [
            prom("rate(polyphase_store_batches_failed_total[$__rate_interval])", "batches failed"),
            prom("sum(rate(polyphase_spool_refused_total[$__rate_interval]))", "refused by the spool", "B"),
            prom("rate(polyphase_spool_lost_records_total[$__rate_interval])", "lost", "C"),
            prom("sum(rate(polyphase_spool_damage_bytes_total[$__rate_interval]))", "damaged bytes", "D")], "ops", 8),

        row("API"),
        lines("Answers", "Time until the head of the answer, all routes.", quantiles("polyphase_http_request_duration_seconds", "s"), "s", 8),
        lines("Requests a second", "By status.", prom(
            "sum by (status) (rate(polyphase_http_requests_total[$__rate_interval]))", "{{status}}"), "reqps", 8, stack=True, fill=30),
        table("Slowest routes", "95 % of answers within the range were faster.", prom(
            "topk(12, histogram_quantile(0.95, sum by (le, route) (increase(polyphase_http_request_duration_seconds_bucket[$__range]))))",
            "{{route}}", instant=True), 8, 8, transformations=[
                {"id": "labelsToFields", "options": {"mode": "columns"}}, {"id": "merge", "options": {}},
                {"id": "organize", "options": {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {"Value": "95 % below"}}}],
              overrides=[by_regex("Value.*|95.*", unit="s", decimals=3)]),
        lines("Live streams", "Open streams, and events that passed slow listeners by.", [
            prom("polyphase_live_listeners", "listeners"),
            prom("rate(polyphase_live_missed_events_total[$__rate_interval])", "missed a second", "B")], width=8),
        lines("Process", "Cores in use.", prom('rate(process_cpu_seconds_total{job="polyphase"}[$__rate_interval])', "cores"), width=8),
        lines("Descriptors", "Open, of what the process may have.", [
            prom('process_open_fds{job="polyphase"}', "open"), prom('process_max_fds{job="polyphase"}', "at most", "B")], width=8, fill=0),

        row("Database"),
        stat("Size", "Of the whole database.", sql("SELECT pg_database_size(current_database()) AS size"), "bytes", 4),
        stat("Days of readings", "Daily partitions that are there.", sql("""
            SELECT count(*) AS days FROM pg_inherits WHERE inhparent = 'reading_electricity'::regclass"""), width=4),
        stat("Connections", "Of Polyphase and of Grafana's logins.", sql("""
            SELECT count(*) AS connections FROM pg_stat_activity WHERE datname = current_database()"""), width=4),
        stat("Grafana sessions ended", "By the server, because they ran too long or held locks; within the range.",
             prom("increase(polyphase_grafana_sessions_ended_total[$__range])", "ended", instant=True), width=4, decimals=0,
             thresholds=steps((None, GOOD), (1, FAIR))),
        stat("Hours rolled up a minute", "Hours of consumption that were computed.", prom("rate(polyphase_rollup_hours_total[5m]) * 60", ""),
             width=4, decimals=1, graph=True),
        stat("Frame ring", "Raw frames on the disk.", prom("polyphase_frames_bytes", ""), "bytes", 4, graph=True),
        table("Largest tables", "With their indexes; daily partitions are summed up.", sql("""
            SELECT coalesce(p.relname, c.relname) AS "table", sum(pg_total_relation_size(c.oid))::bigint AS size, count(*) AS parts,
                   sum(greatest(c.reltuples, 0))::bigint AS rows
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
            WHERE n.nspname = 'public' AND c.relkind = 'r' GROUP BY 1 ORDER BY 2 DESC LIMIT 15"""), height=8, overrides=[
                by_name("size", unit="bytes")]),
    ]
    return board("server", "Server", "Is the server well: actors, spool, storage, API, database?", panels,
                 [prometheus(), account()], since="now-6h", refresh="30s")
