"""The seven dashboards: what each asks. Run make.py to write them out."""

from parts import *

# since when a day is today, on the account's wall clock
TODAY = "(SELECT date_trunc('day', now(), time_zone) FROM grafana_account)"
SECONDS_OFF = "extract(epoch FROM now() - d.since)"

DTU_LINK = to("dtu", "DTU ${__data.fields.dtu}", "dtu=${__data.fields.dtu_id}")
METER_LINK = to("meter", "Meter ${__data.fields.meter}", "meter=${__data.fields.meter_id}")
GROUP_LINK = to("group", "Group ${__data.fields.group}", "group=${__data.fields.group_id}")

# a DTU that is away for more than its silence limit
OUTAGES = """
    SELECT ended_at AS time, next AS timeend, 'Outage' AS title, 'ended: ' || coalesce(cause, 'unknown') AS text, 'outage' AS tags
    FROM (SELECT dtu_id, ended_at, cause, lead(began_at, 1, now()) OVER (PARTITION BY dtu_id ORDER BY began_at) AS next
          FROM grafana_session WHERE dtu_id = {dtu} AND began_at <= $__timeTo()) s
    WHERE next - ended_at > interval '5 minutes' AND ended_at <= $__timeTo() AND next >= $__timeFrom()
    ORDER BY ended_at DESC LIMIT 200
"""
CHANGES = """
    SELECT time, action || ' by ' || actor AS text, object_kind AS tags FROM grafana_audit
    WHERE $__timeFilter(time) AND {where} ORDER BY time DESC LIMIT 200
"""
COMMANDS = """
    SELECT time, action || ': ' || state || ' by ' || actor AS text, 'command' AS tags FROM grafana_command_edge
    WHERE {where} AND $__timeFilter(time) AND state IN ('sent', 'confirmed', 'failed', 'unknown') ORDER BY time DESC LIMIT 200
"""


def fleet():
    sessions = """
        WITH change AS (
            SELECT greatest(began_at, $__timeFrom()) AS at, 1 AS by FROM grafana_session
            WHERE began_at <= $__timeTo() AND (ended_at IS NULL OR ended_at >= $__timeFrom())
            UNION ALL
            SELECT ended_at, -1 FROM grafana_session WHERE $__timeFilter(ended_at)
        ), bucket AS (
            SELECT $__timeGroup(at, $__interval) AS time, sum(by) AS by FROM change GROUP BY 1
        )
        SELECT time, sum(by) OVER (ORDER BY time) AS online FROM bucket ORDER BY time
    """
    panels = [
        stat("DTUs online", "DTUs with a session now, of all that are enabled.", sql("""
            SELECT count(*) FILTER (WHERE online) AS online, count(*) AS "of" FROM grafana_dtu WHERE enabled"""), width=5),
        stat("Online share", "Share of enabled DTUs that have a session now.", sql("""
            SELECT avg(online::int) AS share FROM grafana_dtu WHERE enabled"""), "percentunit", 4, thresholds=SHARE, decimals=1),
        stat("Collection today", "Slots of today (the account's day) that ended with a reading, on time or late, of all that ended.",
             sql(f"""
            SELECT sum(actual + late)::float8 / nullif(sum(due), 0) AS today FROM grafana_meter_day
            WHERE time >= {TODAY}"""), "percentunit", 4, thresholds=SHARE, decimals=1),
        stat("Collection, 7 days before", "The same over the seven days before today.", sql(f"""
            SELECT sum(actual + late)::float8 / nullif(sum(due), 0) AS "7 days" FROM grafana_meter_day
            WHERE time >= {TODAY} - interval '7 days' AND time < {TODAY}"""), "percentunit", 4, thresholds=SHARE, decimals=1),
        stat("Meters", "Meters of the account.", sql("SELECT count(*) AS meters FROM grafana_meter"), width=3),
        stat("Meters not read for a day", "Meters whose newest reading is older than 24 hours, or that never had one.", sql("""
            SELECT count(*) AS silent FROM grafana_meter
            WHERE last_read_at IS NULL OR last_read_at < now() - interval '24 hours'"""), width=4,
             thresholds=steps((None, GOOD), (1, FAIR), (10, BAD))),

        lines("DTUs online", "How many DTUs had a session, from the history of sessions.", sql(sessions, True), width=12, step=True,
              fill=15, low=0),
        barchart("Collection by hour: today and the seven days before",
                 "Slots that ended with a reading, by the hour of the day they were due; the bars that fall show when.", sql(f"""
            SELECT to_char(h.time AT TIME ZONE a.time_zone, 'HH24') AS hour,
                   (sum(actual + late) FILTER (WHERE h.time >= {TODAY}))::float8
                       / nullif(sum(due) FILTER (WHERE h.time >= {TODAY}), 0) AS today,
                   (sum(actual + late) FILTER (WHERE h.time < {TODAY}))::float8
                       / nullif(sum(due) FILTER (WHERE h.time < {TODAY}), 0) AS "7 days before"
            FROM grafana_meter_hour h, grafana_account a
            WHERE h.time >= {TODAY} - interval '7 days' GROUP BY 1 ORDER BY 1"""), "hour", "percentunit", high=1, low=0),

        table("DTUs, away the longest first", "Every DTU with its state. Since: of the present session, or of the last one's end. "
              "Click a name for the DTU.", sql(f"""
            SELECT d.dtu_id, d.dtu, d.sn, CASE WHEN NOT d.enabled THEN 'disabled' WHEN d.online THEN 'online' ELSE 'offline' END AS state,
                   {SECONDS_OFF} AS "since", d.last_cause, d.meters, c.rate AS "collection, 7 days", d.network, d.registration,
                   d.round_trip_ms
            FROM grafana_dtu d
            LEFT JOIN (SELECT m.dtu_id, sum(y.actual + y.late)::float8 / nullif(sum(y.due), 0) AS rate
                       FROM grafana_meter_day y JOIN grafana_meter m USING (meter_id)
                       WHERE y.time >= now() - interval '7 days' GROUP BY m.dtu_id) c USING (dtu_id)
            ORDER BY d.online, d.since NULLS FIRST LIMIT 1000"""), height=11, overrides=[
                *hidden("dtu_id"), linked("dtu", DTU_LINK, api("/dtus/${__data.fields.dtu_id}", "API")),
                by_name("state", custom__cellOptions=coloured(), custom__width=90,
                        mappings=texts(online=("online", GOOD), offline=("offline", BAD), disabled=("disabled", DIM))),
                by_name("since", unit="s", displayName="for", decimals=0),
                by_name("meters", custom__width=80), by_name("last_cause", displayName="last end"),
                by_name("collection, 7 days", unit="percentunit", decimals=1, thresholds=SHARE, custom__cellOptions=coloured()),
                by_name("round_trip_ms", unit="ms", displayName="round trip")]),

        barchart("By network of origin", "DTUs by the first half of their address, which tells mobile operators and sites apart.", sql("""
            SELECT coalesce(network, 'never seen') AS network, count(*) FILTER (WHERE online) AS online,
                   count(*) FILTER (WHERE NOT online) AS offline
            FROM grafana_dtu WHERE enabled GROUP BY 1 ORDER BY count(*) DESC LIMIT 12"""), "network", width=8, stack=True, horizontal=True,
                 overrides=[by_name("online", color={"mode": "fixed", "fixedColor": GOOD}),
                            by_name("offline", color={"mode": "fixed", "fixedColor": BAD})]),
        barchart("By registration", "DTUs by how they say who they are: as far as the recogniser learned it, this tells makes and "
                 "firmware apart.", sql("""
            SELECT coalesce(nullif(registration, ''), kind) AS registration, count(*) FILTER (WHERE online) AS online,
                   count(*) FILTER (WHERE NOT online) AS offline
            FROM grafana_dtu WHERE enabled GROUP BY 1 ORDER BY count(*) DESC LIMIT 12"""), "registration", width=8, stack=True,
                 horizontal=True, overrides=[by_name("online", color={"mode": "fixed", "fixedColor": GOOD}),
                                             by_name("offline", color={"mode": "fixed", "fixedColor": BAD})]),
        barchart("Why sessions ended", "Ends of sessions within the range, by cause.", sql("""
            SELECT coalesce(cause, 'unknown') AS cause, count(*) AS sessions FROM grafana_session
            WHERE $__timeFilter(ended_at) GROUP BY 1 ORDER BY 2 DESC LIMIT 12"""), "cause", width=8, horizontal=True),

        row("The whole server, over all accounts"),
        stat("DTUs online", "DTUs with a session, all accounts.", prom("polyphase_dtus_online", "online"), width=6, graph=True),
        stat("Unknown DTUs in quarantine", "Serial numbers that nobody has claimed; GET /quarantine lists them.",
             prom("polyphase_quarantined_dtus", "waiting"), width=6, thresholds=steps((None, GOOD), (1, FAIR)), graph=True),
        stat("Connections at the device port", "Open connections, registered or not.", prom("polyphase_connections", "open"), width=6,
             graph=True),
        stat("Sessions ended a minute", "Ends of sessions; a storm of them is a network or a firewall.",
             prom("sum(rate(polyphase_sessions_ended_total[5m])) * 60", "a minute"), width=6, decimals=1, graph=True),
    ]
    return board("fleet", "Fleet", "Who is online, since when, and do the readings come in?", panels,
                 [account(), prometheus(), api_address()],
                 [noted("Changes", CHANGES.format(where="object_kind IN ('dtu', 'account', 'quarantine')"), PLAIN, on=False)])


def dtu():
    mine = "dtu_id = ${dtu:sqlstring}"
    meters = f"(SELECT meter_id FROM grafana_meter WHERE {mine})"
    panels = [
        stat("State", "Whether the DTU has a session now.", sql(f"""
            SELECT CASE WHEN online THEN 'online' ELSE 'offline' END AS state FROM grafana_dtu WHERE {mine}"""), "string", 3, fields="/.*/",
             mappings=texts(online=("Online", GOOD), offline=("Offline", BAD))),
        stat("For", "How long it has been so.", sql(f"""
            SELECT extract(epoch FROM now() - since) AS since FROM grafana_dtu WHERE {mine}"""), "s", 3, decimals=0),
        stat("Online in the range", "Share of the range in which it had a session.", sql(f"""
            SELECT coalesce(sum(extract(epoch FROM least(coalesce(ended_at, now()), $__timeTo()) - greatest(began_at, $__timeFrom()))), 0)
                   / extract(epoch FROM least(now(), $__timeTo()) - $__timeFrom()) AS share
            FROM grafana_session
            WHERE {mine} AND began_at < $__timeTo() AND coalesce(ended_at, now()) > $__timeFrom()"""), "percentunit", 4,
             thresholds=SHARE, decimals=1),
        stat("Collection in the range", "Slots of its meters that ended with a reading.", sql(f"""
            SELECT sum(actual + late)::float8 / nullif(sum(due), 0) AS rate FROM grafana_meter_hour
            WHERE $__timeFilter(time) AND meter_id IN {meters}"""), "percentunit", 4, thresholds=SHARE, decimals=1),
        stat("Meters", "Meters on its line.", sql(f"SELECT meters FROM grafana_dtu WHERE {mine}"), width=3),
        stat("Round trip", "Smoothed time from question to answer, at the end of the newest session that has ended.", sql(f"""
            SELECT round_trip_ms FROM grafana_session WHERE {mine} AND round_trip_ms IS NOT NULL
            ORDER BY began_at DESC LIMIT 1"""), "ms", 3, thresholds=steps((None, GOOD), (1000, FAIR), (3000, BAD))),
        stat("Silence", "Time since the newest reading of any of its meters.", sql(f"""
            SELECT extract(epoch FROM now() - max(last_read_at)) AS silence FROM grafana_meter WHERE {mine}"""), "s", 4, decimals=0),
        timeline("Sessions", "When the DTU had a session. Gaps are outages.", sql(f"""
            SELECT time, state FROM (
                SELECT $__timeFrom()::timestamptz AS time,
                       CASE WHEN EXISTS (SELECT FROM grafana_session WHERE {mine} AND began_at <= $__timeFrom()
                                         AND coalesce(ended_at, 'infinity') > $__timeFrom()) THEN 'online' ELSE 'offline' END AS state
                UNION ALL
                SELECT began_at, 'online' FROM grafana_session WHERE {mine} AND $__timeFilter(began_at)
                UNION ALL
                SELECT ended_at, 'offline' FROM (
                    SELECT ended_at, lead(began_at) OVER (ORDER BY began_at) AS next FROM grafana_session WHERE {mine}) s
                WHERE $__timeFilter(ended_at) AND (next IS NULL OR next > ended_at)
            ) e ORDER BY time"""), mappings=texts(online=("online", GOOD), offline=("offline", BAD))),
        bars("Slots of its meters", "How the due reads of all its meters ended, by the hour.", sql(f"""
            SELECT time, sum(actual) AS actual, sum(late) AS late, sum(estimated) AS estimated, sum(missing) AS missing
            FROM grafana_meter_hour WHERE $__timeFilter(time) AND meter_id IN {meters} GROUP BY time ORDER BY time"""),
             overrides=STATES, decimals=0),
        lines("From due to read", "Mean and longest time between the due time of a slot and its reading: a line that has too much to "
              "do grows here before it misses.", sql(f"""
            SELECT time, avg(delay_s) AS mean, max(delay_s) AS "slowest meter" FROM grafana_meter_hour
            WHERE $__timeFilter(time) AND meter_id IN {meters} GROUP BY time ORDER BY time"""), "s"),
        barchart("Missed, by reason", "Why reads of its meters were missed in the range.", sql(f"""
            SELECT r.key AS reason, sum(r.value::int) AS slots
            FROM grafana_meter_hour h CROSS JOIN LATERAL jsonb_each_text(h.reasons) r
            WHERE $__timeFilter(h.time) AND h.meter_id IN {meters} GROUP BY 1 ORDER BY 2 DESC"""), "reason", width=8, horizontal=True,
                 no_value="nothing missed"),
        lines("Round trip, session by session", "Smoothed round trip when each session ended.", sql(f"""
            SELECT ended_at AS time, round_trip_ms AS "round trip" FROM grafana_session
            WHERE {mine} AND $__timeFilter(ended_at) AND round_trip_ms IS NOT NULL ORDER BY ended_at"""), "ms", 8, points="always"),
        bars("Strays, noise and time-outs, session by session", "What went wrong on the line, counted when each session ended. Strays are "
             "valid frames that were nobody's answer; noise, on the right, is bytes that formed no frame.", sql(f"""
            SELECT ended_at AS time, timeouts AS "time-outs", strays, noise_bytes AS noise FROM grafana_session
            WHERE {mine} AND $__timeFilter(ended_at) ORDER BY ended_at"""), width=8, decimals=0, overrides=[
                by_name("noise", unit="bytes", min=0, custom__axisPlacement="right", custom__drawStyle="line", custom__showPoints="always",
                        custom__stacking={"mode": "none", "group": "A"}, custom__fillOpacity=0)]),
        table("Meters on the line", "Its meters, the worst first. Click a name for the meter.", sql(f"""
            SELECT m.meter_id, m.meter, m.address, m.protocol, m.model, m."group", extract(epoch FROM now() - m.last_read_at) AS "read ago",
                   c.rate, c.missing
            FROM grafana_meter m
            LEFT JOIN (SELECT meter_id, sum(actual + late)::float8 / nullif(sum(due), 0) AS rate, sum(missing) AS missing
                       FROM grafana_meter_hour WHERE $__timeFilter(time) AND meter_id IN {meters} GROUP BY meter_id) c USING (meter_id)
            WHERE m.{mine} ORDER BY c.rate NULLS FIRST, m.meter"""), height=9, overrides=[
                *hidden("meter_id"), linked("meter", METER_LINK, api("/meters/${__data.fields.meter_id}", "API")),
                by_name("read ago", unit="s", decimals=0),
                by_name("rate", unit="percentunit", decimals=1, thresholds=SHARE, custom__cellOptions=coloured())]),
        table("Mesh of a concentrator", "How it reaches its meters, as it said when its archive was read last; the farthest and the "
              "failing ones first. Phase and signal are the bytes that it has.", sql(f"""
            SELECT point, meter_id, meter, meter_address AS address, relays, phase_bits AS phase, signal_bits AS signal, failures,
                   last_success AS "last success, its clock", nullif(collector, '') AS collector, port, time AS "read at"
            FROM grafana_mesh WHERE {mine} ORDER BY failures DESC NULLS LAST, relays DESC NULLS LAST, point LIMIT 2040"""), height=9,
              no_value="no concentrator", overrides=[
                *hidden("meter_id"), linked("meter", METER_LINK, api("/meters/${__data.fields.meter_id}", "API")),
                by_name("relays", thresholds=steps((None, GOOD), (3, FAIR), (5, BAD)), custom__cellOptions=coloured()),
                by_name("failures", thresholds=steps((None, DIM), (1, FAIR), (3, BAD)), custom__cellOptions=coloured())]),
        table("Sessions", "Newest first. Counters are written when a session ends.", sql(f"""
            SELECT began_at AS began, ended_at AS ended, extract(epoch FROM coalesce(ended_at, now()) - began_at) AS lasted, cause, peer,
                   answers, timeouts, strays, noise_bytes, heartbeats, round_trip_ms, bytes_in, bytes_out
            FROM grafana_session WHERE {mine} AND began_at <= $__timeTo() AND coalesce(ended_at, now()) >= $__timeFrom()
            ORDER BY began_at DESC LIMIT 500"""), height=9, overrides=[
                by_name("lasted", unit="s", decimals=0), by_name("round_trip_ms", unit="ms", displayName="round trip"),
                by_name("noise_bytes", unit="bytes", displayName="noise"), by_regex("bytes_.*", unit="bytes")]),
        table("Frames kept as evidence", "Raw frames of failures and strays; the API shows their bytes and explains them.", sql(f"""
            SELECT f.time, f.frame_id, f.kind, f.protocol, m.meter FROM grafana_frame f LEFT JOIN grafana_meter m USING (meter_id)
            WHERE f.{mine} AND $__timeFilter(f.time) ORDER BY f.time DESC LIMIT 500"""), height=8, overrides=[
                linked("frame_id", api("/frames/${__data.fields.frame_id}", "Frame, explained"))]),
    ]
    variables = [account(), choice("dtu", "DTU", """
        SELECT dtu AS __text, dtu_id::text AS __value FROM grafana_dtu ORDER BY 1, 2"""), api_address()]
    return board("dtu", "DTU", "How is one DTU doing, and its line?", panels, variables,
                 [noted("Outages", OUTAGES.format(dtu="${dtu:sqlstring}"), BAD),
                  noted("Commands", COMMANDS.format(where="dtu_id = ${dtu:sqlstring}"), FAIR),
                  noted("Changes", CHANGES.format(where="object_kind = 'dtu' AND object_id = ${dtu:sqlstring}"), PLAIN)])


def by_range(raw, hour, day, order="1"):
    """One question asked of raw rows, hours or days, as long as the range is; gaps become rows without values, so that
    they are drawn as gaps. Each part gives time and the same values; {gap} of them is said by the last."""
    names, raw_values, hour_values, day_values = raw["names"], raw["values"], hour, day
    empty = ", ".join(f"NULL::float8 AS {name}" for name in names)
    outer = ", ".join(names)

    def part(table, values, condition, step):
        listed = ", ".join(f"({value})::float8 AS {name}" for name, value in zip(names, values))
        return f"""SELECT time, {listed}, interval '{step}' AS step FROM {table}
    WHERE $__timeFilter(time) AND {raw["where"]} AND {condition}"""

    return f"""
WITH found AS (
    {part(raw["table"], raw_values, f"{RANGE} <= {RAW_S}", raw["step"])}
    UNION ALL
    {part("grafana_meter_hour", hour_values, f"{RANGE} > {RAW_S} AND {RANGE} <= {HOUR_S}", "2 hours")}
    UNION ALL
    {part("grafana_meter_day", day_values, f"{RANGE} > {HOUR_S}", "2 days")}
), next AS (
    SELECT *, lead(time) OVER (ORDER BY time) - time > step AS gap FROM found
)
SELECT time, {outer} FROM next
UNION ALL
SELECT time + step / 2, {empty.replace(" AS ", " AS ")} FROM next WHERE gap
ORDER BY {order}
"""


def meter():
    mine = "meter_id = ${meter:sqlstring}"
    point = f"(SELECT point_id FROM grafana_meter WHERE {mine})"
    quantity = "quantity = ${quantity:sqlstring}"

    def shown(names, raw, stem, table="grafana_reading", mean="{}_mean"):
        quoted = [f'"{name}"' for name in names]
        return sql(by_range({"table": table, "names": quoted, "values": raw, "where": mine, "step": "70 minutes"}, stem, stem), True)

    voltage = lines("Voltage", "Of each phase: readings, or over long ranges hourly and daily means, with the least and the greatest of "
                    "all phases. Limits are the nominal voltage and ten per cent of it.", [
                        shown(["L1", "L2", "L3", "least", "greatest"],
                              ["voltage_l1", "voltage_l2", "voltage_l3", "NULL", "NULL"],
                              ["voltage_l1_mean", "voltage_l2_mean", "voltage_l3_mean",
                               "least(voltage_l1_min, voltage_l2_min, voltage_l3_min)",
                               "greatest(voltage_l1_max, voltage_l2_max, voltage_l3_max)"]),
                        sql("""
                            SELECT v.time, 0.9 * ${nominal:sqlstring} AS "lower limit", 1.1 * ${nominal:sqlstring} AS "upper limit"
                            FROM (VALUES ($__timeFrom()::timestamptz), ($__timeTo()::timestamptz)) AS v (time) ORDER BY 1""", True, "B")],
                    "volt", 12, fill=0, decimals=1, overrides=[
                        by_regex(".* limit", custom__lineStyle={"fill": "dash", "dash": [6, 6]}, custom__lineWidth=1,
                                 color={"mode": "fixed", "fixedColor": BAD}),
                        by_regex("least|greatest", custom__lineWidth=1, custom__lineStyle={"fill": "dot", "dash": [2, 4]},
                                 color={"mode": "fixed", "fixedColor": DIM})])
    panels = [
        stat("Where", "Group, DTU and metering point of the meter.", sql(f"""
            SELECT coalesce("group", 'no group') AS "group", dtu, coalesce(point, 'no point') AS point FROM grafana_meter WHERE {mine}"""),
             "string", 8, fields="/.*/"),
        stat("Read", "Time since the newest reading.", sql(f"""
            SELECT extract(epoch FROM now() - last_read_at) AS ago FROM grafana_meter WHERE {mine}"""), "s", 3, decimals=0,
             thresholds=steps((None, GOOD), (7200, FAIR), (86400, BAD))),
        united(stat("Consumption in the range", "Of the metering point, over exchanges of the meter.", sql(f"""
            SELECT sum(value) AS consumption FROM grafana_consumption_hour
            WHERE $__timeFilter(time) AND point_id = {point} AND {quantity}"""), None, 4, decimals=1)),
        stat("Collection in the range", "Slots that ended with a reading.", sql(f"""
            SELECT sum(actual + late)::float8 / nullif(sum(due), 0) AS rate FROM grafana_meter_hour
            WHERE $__timeFilter(time) AND {mine}"""), "percentunit", 4, thresholds=SHARE, decimals=1),
        stat("Missed", "Slots of the range without a reading.", sql(f"""
            SELECT sum(missing) AS missed FROM grafana_meter_hour WHERE $__timeFilter(time) AND {mine}"""), width=2,
             thresholds=steps((None, GOOD), (1, FAIR))),
        stat("Flagged hours", "Hours of consumption in the range that are estimated, interpolated over a gap, suspect or incomplete.",
             sql(f"""
            SELECT count(*) AS flagged FROM grafana_consumption_hour
            WHERE $__timeFilter(time) AND point_id = {point} AND {quantity} AND (quality <> 'measured' OR incomplete)"""), width=3,
             thresholds=steps((None, GOOD), (1, FAIR))),

        lines("Power", "Active power: readings, or over long ranges hourly and daily means with the greatest.",
              shown(["power", "greatest"], ["active_power_total", "NULL"], ["active_power_mean", "active_power_max"]), "watt",
              overrides=[by_name("greatest", custom__lineWidth=1, custom__fillOpacity=0, color={"mode": "fixed", "fixedColor": DIM})]),
        voltage,
        lines("Current", "Of each phase and the neutral.", shown(
            ["L1", "L2", "L3", "N"], ["current_l1", "current_l2", "current_l3", "current_n"],
            ["current_l1_mean", "current_l2_mean", "current_l3_mean", "NULL"]), "amp", 8, fill=0),
        lines("Power factor", "Of all phases together.", shown(["power factor"], ["power_factor_total"], ["power_factor_mean"]), "none", 8,
              fill=0, low=0, high=1, decimals=2, thresholds=steps((None, BAD), (0.9, "transparent")), threshold_style="line"),
        lines("Frequency", "Of the mains.", shown(["frequency"], ["frequency"], ["frequency_mean"]), "hertz", 8, fill=0, decimals=2),

        united(bars("Consumption", "Of the metering point, by the hour; by the day over ranges longer than a week.", sql(f"""
            SELECT time, value AS consumption FROM grafana_consumption_hour
            WHERE $__timeFilter(time) AND point_id = {point} AND {quantity} AND {RANGE} <= 7 * 86400 + 3600
            UNION ALL
            SELECT time, value FROM grafana_consumption_day
            WHERE $__timeFilter(time) AND point_id = {point} AND {quantity} AND {RANGE} > 7 * 86400 + 3600
            ORDER BY time""", True), None, 12)),
        united(barchart("Consumption by day, and a year before", "The last 31 days beside the same days a year ago.", sql(f"""
            SELECT to_char(d.time AT TIME ZONE a.time_zone, 'DD Mon') AS day, d.value AS "this year", b.value AS "a year before"
            FROM grafana_account a CROSS JOIN grafana_consumption_day d
            LEFT JOIN grafana_consumption_day b ON b.point_id = d.point_id AND b.quantity = d.quantity
                AND b.time = ((d.time AT TIME ZONE a.time_zone) - interval '1 year') AT TIME ZONE a.time_zone
            WHERE d.point_id = {point} AND d.{quantity} AND d.time >= now() - interval '31 days' ORDER BY d.time"""), "day", None,
                 12)),
        united(barchart("Consumption by month, and a year before", "The last twelve months beside the twelve before them; the present month is as "
                 "far as it has come.", sql(f"""
            WITH month AS (
                SELECT date_trunc('month', d.time, a.time_zone) AT TIME ZONE a.time_zone AS month, sum(d.value) AS value
                FROM grafana_account a, grafana_consumption_day d
                WHERE d.point_id = {point} AND d.{quantity} AND d.time >= now() - interval '25 months' GROUP BY 1)
            SELECT to_char(m.month, 'Mon YY') AS month, m.value AS "this year", b.value AS "a year before"
            FROM month m LEFT JOIN month b ON b.month = m.month - interval '1 year'
            WHERE m.month >= now() - interval '12 months' ORDER BY m.month"""), "month", None, 12)),
        bars("Slots", "How its due reads ended, by the hour; by the day over ranges longer than a week.", sql(f"""
            SELECT time, actual, late, estimated, missing FROM grafana_meter_hour
            WHERE $__timeFilter(time) AND {mine} AND {RANGE} <= 7 * 86400 + 3600
            UNION ALL
            SELECT time, actual, late, estimated, missing FROM grafana_meter_day
            WHERE $__timeFilter(time) AND {mine} AND {RANGE} > 7 * 86400 + 3600
            ORDER BY time"""), width=12, overrides=STATES, decimals=0),

        row("Water, heat and gas",
            lines("Flow", "Readings, or over long ranges hourly and daily means.",
              shown(["flow"], ["flow_rate"], ["flow_rate_mean"], "grafana_reading_fluid"), "suffix:m³/h", 8,
              no_value="this meter shows no flow"),
        lines("Temperature", "Of the medium, or the flow of a heat meter.", shown(
            ["temperature"], ["coalesce(temperature, temperature_flow)"], ["temperature_mean"], "grafana_reading_fluid"), "celsius", 8,
              no_value="this meter shows no temperature"),
        lines("Thermal power", "Of heat and cooling meters.", shown(
            ["power"], ["thermal_power"], ["thermal_power_mean"], "grafana_reading_fluid"), "watt", 8,
                  no_value="this meter shows no thermal power")),

        row("What it shows, and how sure it is"),
        table("Registers", "The newest value of every register.", sql(f"""
            SELECT quantity, value, unit, quality, read_at AS "read at" FROM grafana_register WHERE {mine} ORDER BY quantity"""), 12, 9,
              overrides=[by_name("value", decimals=3)]),
        table("Flagged consumption", "Hours that are not plainly measured. interpolated: a boundary lies between two readings; "
              "incomplete: a part of the hour is not covered.", sql(f"""
            SELECT time, value, quality, interpolated, incomplete FROM grafana_consumption_hour
            WHERE $__timeFilter(time) AND point_id = {point} AND {quantity} AND (quality <> 'measured' OR incomplete)
            ORDER BY time DESC LIMIT 500"""), 12, 9, overrides=[
                by_name("value", decimals=3),
                by_name("quality", custom__cellOptions=coloured(), mappings=texts(
                    measured=("measured", GOOD), estimated=("estimated", "purple"), substituted=("substituted", FAIR),
                    suspect=("suspect", BAD)))], no_value="all of it measured"),
        table("Missed reads", "Slots of the range that ended otherwise than on time; over ranges up to 40 days.", sql(f"""
            SELECT e.time AS due, e.ended_at AS ended, e.state, e.reason, e.detail, e.attempts, s.schedule
            FROM grafana_slot_ending e LEFT JOIN grafana_schedule s USING (schedule_id)
            WHERE $__timeFilter(e.time) AND e.{mine} AND {RANGE} <= {HOUR_S} ORDER BY e.time DESC LIMIT 500"""), 12, 8, overrides=[
                by_name("state", custom__cellOptions=coloured(), mappings=texts(
                    actual=("actual", GOOD), late=("late", "yellow"), estimated=("estimated", "purple"), missing=("missing", BAD)))],
              no_value="none in this range"),
        table("Exceptional quality", "Readings of which a value is not plainly measured; over ranges up to 3 days.", sql(f"""
            SELECT time, source_name AS source, quality::text AS "values" FROM grafana_reading
            WHERE $__timeFilter(time) AND {mine} AND quality IS NOT NULL AND {RANGE} <= {RAW_S}
            UNION ALL
            SELECT time, source_name, quality::text FROM grafana_reading_fluid
            WHERE $__timeFilter(time) AND {mine} AND quality IS NOT NULL AND {RANGE} <= {RAW_S}
            ORDER BY time DESC LIMIT 500"""), 12, 8, no_value="none in this range"),
    ]
    variables = [
        account(),
        choice("group", "Group", "SELECT path AS __text, group_id::text AS __value FROM grafana_group ORDER BY 1", everything=True),
        choice("dtu", "DTU", "SELECT dtu AS __text, dtu_id::text AS __value FROM grafana_dtu ORDER BY 1", everything=True),
        choice("meter", "Meter", f"""
            SELECT meter AS __text, meter_id::text AS __value FROM grafana_meter
            WHERE {chosen('dtu_id', 'dtu')}
              AND ('0' IN (${{group:sqlstring}})
                   OR group_id IN (SELECT within_id FROM grafana_group_within WHERE group_id IN (${{group:sqlstring}})))
            ORDER BY 1, 2"""),
        choice("quantity", "Register", """
            SELECT replace(quantity, '_', ' ') AS __text, quantity AS __value FROM (
                SELECT DISTINCT quantity FROM grafana_consumption_day
                WHERE point_id = (SELECT point_id FROM grafana_meter WHERE meter_id = ${meter:sqlstring})
                  AND time > now() - interval '60 days') q
            ORDER BY quantity NOT IN ('active_energy_import', 'volume_total', 'heat_energy'), quantity"""),
        given("nominal", "Nominal voltage", "230", "The limits of the voltage are ten per cent beside it"),
        api_address(),
    ]
    dtu_of = f"(SELECT dtu_id FROM grafana_meter WHERE {mine})"
    made = board("meter", "Meter", "What does one meter show, and can it be trusted?", panels, variables, [
        noted("Outages of its DTU", OUTAGES.format(dtu=dtu_of), BAD),
        noted("Commands", COMMANDS.format(where=mine), FAIR),
        noted("Exchanges", f"""
            SELECT valid_from AS time, meter || ' installed' AS text, 'exchange' AS tags FROM grafana_installation
            WHERE point_id = {point} AND $__timeFilter(valid_from) ORDER BY 1""", "purple"),
        noted("Changes", CHANGES.format(where="object_kind = 'meter' AND object_id = ${meter:sqlstring}"), PLAIN)], "now-7d", "5m")
    made["links"] += [{"type": "link", "title": "DTU and line", "url": "/d/polyphase-dtu?${account:queryparam}&${__url_time_range}",
                       "icon": "dashboard", "tags": [], "asDropdown": False, "includeVars": False, "keepTime": False,
                       "targetBlank": False, "tooltip": ""},
                      {"type": "link", "title": "API", "url": "${api}/api/v1/meters/${meter}", "icon": "external link", "tags": [],
                       "asDropdown": False, "includeVars": False, "keepTime": False, "targetBlank": True, "tooltip": ""}]
    return made


def group():
    inside = """(SELECT p.point_id FROM grafana_point p JOIN grafana_group_within w ON w.within_id = p.group_id
                WHERE w.group_id = ${group:sqlstring})"""
    # sum meters of groups within count what their sub-meters count, too
    sums = """(SELECT g.sum_point_id FROM grafana_group g JOIN grafana_group_within w ON w.within_id = g.group_id
                WHERE w.group_id = ${group:sqlstring} AND g.sum_point_id IS NOT NULL)"""
    subs = f"c.point_id IN {inside} AND c.point_id NOT IN {sums} AND c.point_id <> ${{sum:sqlstring}}"
    quantity = "c.quantity = ${quantity:sqlstring}"
    total = f"""
        SELECT time, sum(value) AS value FROM grafana_consumption_{{}} c WHERE $__timeFilter(time) AND {subs} AND {quantity} GROUP BY time"""
    panels = [
        united(stat("Consumption in the range", "Of all metering points of the group and the groups within it; the sum meter is not counted.", sql(f"""
            SELECT sum(value) AS consumption FROM grafana_consumption_day c WHERE $__timeFilter(time) AND {subs} AND {quantity}"""),
             None, 5, decimals=1)),
        united(stat("Yesterday", "Of the account's yesterday.", sql(f"""
            SELECT sum(value) AS yesterday FROM grafana_consumption_day c
            WHERE time >= {TODAY} - interval '1 day' AND time < {TODAY} AND {subs} AND {quantity}"""), None, 4, decimals=1)),
        stat("Metering points", "In the group and the groups within it.", sql(f"SELECT count(*) AS points FROM {inside} p"), width=4),
        united(stat("Greatest hour", "Of the group as a whole, within the range.", sql(f"""
            SELECT max(value) AS greatest FROM ({total.replace('{}', 'hour')}) h"""), None, 4, decimals=1)),
        stat("Line loss", "What the sum meter counted and the sub-meters did not, over the days of the range that both have whole. Needs a "
             "sum meter.", sql(f"""
            SELECT 1 - sum(s.subs) / nullif(sum(c.value), 0) AS loss
            FROM grafana_consumption_day c
            JOIN (SELECT time, sum(value) AS subs FROM grafana_consumption_day c
                  WHERE $__timeFilter(time) AND {subs} AND {quantity} GROUP BY time HAVING NOT bool_or(incomplete)) s USING (time)
            WHERE $__timeFilter(time) AND c.point_id = ${{sum:sqlstring}} AND {quantity} AND NOT c.incomplete"""), "percentunit", 4,
             thresholds=steps((None, BAD), (-0.005, GOOD), (0.05, FAIR), (0.1, BAD)), decimals=1, no_value="no sum meter"),
        stat("Incomplete days", "Days of points within the range that are not covered whole.", sql(f"""
            SELECT count(*) AS incomplete FROM grafana_consumption_day c WHERE $__timeFilter(time) AND {subs} AND {quantity} AND incomplete"""),
             width=3, thresholds=steps((None, GOOD), (1, FAIR))),
        united(bars("Consumption", "Of the whole group, by the hour; by the day over ranges longer than a week.", sql(f"""
            SELECT time, value AS consumption FROM ({total.replace('{}', 'hour')}) h WHERE {RANGE} <= 7 * 86400 + 3600
            UNION ALL
            SELECT time, value FROM ({total.replace('{}', 'day')}) d WHERE {RANGE} > 7 * 86400 + 3600 ORDER BY time""", True), None, 12)),
        united(barchart("Top consumers", "The fifteen points with the greatest consumption in the range.", sql(f"""
            SELECT p.point, sum(c.value) AS consumption FROM grafana_consumption_day c JOIN grafana_point p USING (point_id)
            WHERE $__timeFilter(c.time) AND {subs} AND {quantity} GROUP BY p.point_id, p.point ORDER BY 2 DESC LIMIT 15"""), "point",
                 None, 12, horizontal=True)),
        united(lines("Balance: sum meter against sub-meters", "By the day. What lies between the lines is line loss, theft, or a meter that is not in "
              "the group.", sql(f"""
            SELECT time, sum(value) FILTER (WHERE c.point_id = ${{sum:sqlstring}}) AS "sum meter",
                   sum(value) FILTER (WHERE c.point_id <> ${{sum:sqlstring}}) AS "sub-meters",
                   sum(CASE WHEN c.point_id = ${{sum:sqlstring}} THEN value ELSE -value END)
                       FILTER (WHERE ${{sum:sqlstring}} <> '0') AS loss
            FROM grafana_consumption_day c
            WHERE $__timeFilter(time) AND {quantity} AND (c.point_id = ${{sum:sqlstring}} OR c.point_id IN {inside})
            GROUP BY time ORDER BY time"""), None, 12, fill=0)),
        lines("Line loss, and how many sub-meters are in it", "By the day, over what the sum meter counted whole. Below 100 % coverage, on the right, the loss holds "
              "what the missing sub-meters counted, too.", sql(f"""
            WITH day AS (
                SELECT time, sum(value) FILTER (WHERE c.point_id = ${{sum:sqlstring}}) AS supplied,
                       sum(value) FILTER (WHERE c.point_id <> ${{sum:sqlstring}}) AS sold,
                       count(*) FILTER (WHERE c.point_id <> ${{sum:sqlstring}}) AS covered
                FROM grafana_consumption_day c
                WHERE $__timeFilter(time) AND {quantity} AND NOT incomplete AND (c.point_id = ${{sum:sqlstring}} OR ({subs}))
                GROUP BY time)
            SELECT time, (1 - sold / nullif(supplied, 0))::float8 AS "line loss",
                   covered::float8 / nullif(max(covered) OVER (), 0) AS coverage
            FROM day WHERE supplied IS NOT NULL ORDER BY time"""), "percentunit", 12, fill=0, decimals=1, no_value="no sum meter", overrides=[
                by_name("coverage", min=0, decimals=0, custom__axisPlacement="right",
                        custom__lineStyle={"fill": "dash", "dash": [6, 6]}, custom__lineWidth=1)]),
        united(table("Line loss by the day", "What was supplied, sold and lost, the newest day first; how many sub-meters are in it.", sql(f"""
            SELECT to_char(time AT TIME ZONE a.time_zone, 'YYYY-MM-DD') AS day,
                   sum(value) FILTER (WHERE c.point_id = ${{sum:sqlstring}}) AS supplied,
                   sum(value) FILTER (WHERE c.point_id <> ${{sum:sqlstring}}) AS sold,
                   sum(CASE WHEN c.point_id = ${{sum:sqlstring}} THEN value ELSE -value END) AS loss,
                   (sum(CASE WHEN c.point_id = ${{sum:sqlstring}} THEN value ELSE -value END)
                    / nullif(sum(value) FILTER (WHERE c.point_id = ${{sum:sqlstring}}), 0))::float8 AS share,
                   count(*) FILTER (WHERE c.point_id <> ${{sum:sqlstring}}) AS "sub-meters"
            FROM grafana_account a, grafana_consumption_day c
            WHERE $__timeFilter(time) AND {quantity} AND NOT incomplete AND (c.point_id = ${{sum:sqlstring}} OR ({subs}))
            GROUP BY time, a.time_zone HAVING bool_or(c.point_id = ${{sum:sqlstring}}) ORDER BY time DESC LIMIT 800"""), 12, 8, overrides=[
                by_name("share", unit="percentunit", decimals=1,
                        thresholds=steps((None, BAD), (-0.005, GOOD), (0.05, FAIR), (0.1, BAD)), custom__cellOptions=coloured())]),
               "supplied", "sold", "loss"),
        united(barchart("By month, and a year before", "The last twelve months beside the twelve before them.", sql(f"""
            WITH month AS (
                SELECT date_trunc('month', c.time, a.time_zone) AT TIME ZONE a.time_zone AS month, sum(c.value) AS value
                FROM grafana_account a, grafana_consumption_day c
                WHERE {subs} AND {quantity} AND c.time >= now() - interval '25 months' GROUP BY 1)
            SELECT to_char(m.month, 'Mon YY') AS month, m.value AS "this year", b.value AS "a year before"
            FROM month m LEFT JOIN month b ON b.month = m.month - interval '1 year'
            WHERE m.month >= now() - interval '12 months' ORDER BY m.month"""), "month", None, 12)),
        united(barchart("The day's shape", "Mean consumption by hour of the day, of the range (at most the 40 newest days of it).", sql(f"""
            SELECT to_char(h.time AT TIME ZONE a.time_zone, 'HH24') AS hour, avg(h.value) AS mean, max(h.value) AS greatest
            FROM grafana_account a, (SELECT time, sum(value) AS value FROM grafana_consumption_hour c
                WHERE $__timeFilter(time) AND time > $__timeTo()::timestamptz - interval '40 days' AND {subs} AND {quantity} GROUP BY time) h
            GROUP BY 1 ORDER BY 1"""), "hour", None, 12)),
        united(barchart("Groups within", "Consumption of the groups directly within this one, and all below them.", sql(f"""
            SELECT g."group", sum(c.value) AS consumption
            FROM grafana_group g JOIN grafana_group_within w ON w.group_id = g.group_id
            JOIN grafana_point p ON p.group_id = w.within_id JOIN grafana_consumption_day c ON c.point_id = p.point_id
            WHERE g.parent_id = ${{group:sqlstring}} AND $__timeFilter(c.time) AND {quantity} AND c.point_id <> ${{sum:sqlstring}}
            GROUP BY g.group_id, g."group" ORDER BY 2 DESC"""), "group", None, 12, horizontal=True, no_value="no groups within")),
        united(table("Metering points", "With their share of the group. Click a name for the meter.", sql(f"""
            SELECT p.meter_id, p.point AS meter, p."group", x.consumption, x.consumption / nullif(sum(x.consumption) OVER (), 0) AS share,
                   x.days, x.incomplete, x.estimated
            FROM (SELECT c.point_id, sum(c.value) AS consumption, count(*) AS days, count(*) FILTER (WHERE incomplete) AS incomplete,
                         count(*) FILTER (WHERE quality <> 'measured') AS estimated
                  FROM grafana_consumption_day c WHERE $__timeFilter(c.time) AND {subs} AND {quantity} GROUP BY c.point_id) x
            JOIN grafana_point p USING (point_id) ORDER BY x.consumption DESC LIMIT 1000"""), height=10, overrides=[
                *hidden("meter_id"), linked("meter", METER_LINK, api("/meters/${__data.fields.meter_id}", "API")), by_name("consumption", decimals=1),
                by_name("share", unit="percentunit", decimals=1, custom__cellOptions={"type": "gauge", "mode": "basic"}, max=1, min=0),
                by_name("incomplete", thresholds=steps((None, DIM), (1, FAIR)), custom__cellOptions=coloured()),
                by_name("estimated", thresholds=steps((None, DIM), (1, FAIR)), custom__cellOptions=coloured())]), "consumption"),
    ]
    variables = [
        account(),
        choice("group", "Group", "SELECT path AS __text, group_id::text AS __value FROM grafana_group ORDER BY 1"),
        choice("quantity", "Register", """
            SELECT replace(quantity, '_', ' ') AS __text, quantity AS __value FROM (
                SELECT DISTINCT quantity FROM grafana_consumption_day WHERE time > now() - interval '3 days') q
            ORDER BY quantity NOT IN ('active_energy_import', 'volume_total', 'heat_energy'), quantity"""),
        choice("sum", "Sum meter", """
            SELECT 'none' AS __text, '0' AS __value, 1 AS place, '' AS point
            UNION ALL
            SELECT p.point, p.point_id::text, -1, p.point FROM grafana_group g JOIN grafana_point p ON p.point_id = g.sum_point_id
            WHERE g.group_id = ${group:sqlstring}
            UNION ALL
            SELECT p.point, p.point_id::text, CASE WHEN p.point ~* '(main|sum|total|总)' THEN 0 ELSE 2 END, p.point FROM grafana_point p
            JOIN grafana_group_within w ON w.within_id = p.group_id AND w.group_id = ${group:sqlstring}
            WHERE p.point_id IS DISTINCT FROM (SELECT g.sum_point_id FROM grafana_group g WHERE g.group_id = ${group:sqlstring})
            ORDER BY place, point""", description="The meter in front of the group; its own sum meter is offered first, then points named main, sum or total"),
        api_address()]
    return board("group", "Group", "What does a site use, who uses most, and does the balance close?", panels, variables, [
        noted("Exchanges", f"""
            SELECT valid_from AS time, meter || ' installed' AS text, 'exchange' AS tags FROM grafana_installation i
            WHERE i.point_id IN {inside} AND $__timeFilter(valid_from) ORDER BY 1""", "purple")], "now-30d", "15m")


def collection():
    where = f"""m.meter_id = h.meter_id AND {chosen('m.dtu_id', 'dtu')}
              AND ('0' IN (${{group:sqlstring}})
                   OR m.group_id IN (SELECT within_id FROM grafana_group_within WHERE group_id IN (${{group:sqlstring}})))"""

    def asked(columns, rest=""):
        """Of hours or, over more than 40 days, of days."""
        def part(table, condition):
            return f"""SELECT h.time, h.meter_id, m.meter, m.dtu_id, m.dtu, m."group", h.actual, h.late, h.estimated, h.missing, h.due, h.reasons
                FROM grafana_meter_{table} h JOIN grafana_meter m ON {where}
                WHERE $__timeFilter(h.time) AND {condition}"""
        return f"""
            WITH x AS (
                {part('hour', f'{RANGE} <= {HOUR_S}')}
                UNION ALL
                {part('day', f'{RANGE} > {HOUR_S}')}
            )
            SELECT {columns} FROM x {rest}"""

    rate = "sum(actual + late)::float8 / nullif(sum(due), 0)"
    time = f"CASE WHEN {RANGE} <= 7 * 86400 + 3600 THEN time ELSE date_trunc('day', time, (SELECT time_zone FROM grafana_account)) END"
    panels = [
        stat("Collection", "Slots of the range that ended with a reading, on time or late.", sql(asked(f"{rate} AS rate")), "percentunit", 4,
             thresholds=SHARE, decimals=2),
        stat("On time", "Slots that were read within their window.", sql(asked("sum(actual)::float8 / nullif(sum(due), 0) AS share")),
             "percentunit", 4, thresholds=SHARE, decimals=2),
        stat("Due", "Slots that have ended.", sql(asked("sum(due) AS due")), width=4),
        stat("Late", "Read, but begun after the window.", sql(asked("sum(late) AS late")), width=4, thresholds=steps((None, GOOD), (1, "yellow"))),
        stat("Missing", "Not read; the reasons are below.", sql(asked("sum(missing) AS missing")), width=4,
             thresholds=steps((None, GOOD), (1, BAD))),
        stat("Ends are known up to", "Age of the instant before which every slot has an ending.", sql("""
            SELECT extract(epoch FROM now() - max(time)) AS age FROM grafana_watermark"""), "s", 4, decimals=0,
             thresholds=steps((None, GOOD), (1800, FAIR), (7200, BAD))),
        bars("Slots by ending", "By the hour, or by the day over ranges longer than a week.", sql(asked(
            f"{time} AS time, sum(actual) AS actual, sum(late) AS late, sum(estimated) AS estimated, sum(missing) AS missing",
            "GROUP BY 1 ORDER BY 1")), overrides=STATES, decimals=0),
        lines("Collection rate", "Share of slots that ended with a reading.", sql(asked(
            f"{time} AS time, {rate} AS rate", "GROUP BY 1 ORDER BY 1")), "percentunit", high=1, fill=0,
              thresholds=steps((None, "transparent"), (0.98, GOOD)), threshold_style="dashed"),
        bars("Missing, by reason", "Why, over time.", sql(asked(
            f"{time} AS time, r.key AS metric, sum(r.value::int) AS slots",
            "CROSS JOIN LATERAL jsonb_each_text(reasons) r GROUP BY 1, 2 ORDER BY 1, 2"), True), width=12, decimals=0),
        barchart("Reasons", "Slots without a reading, by reason, in the range.", sql(asked(
            "r.key AS reason, sum(r.value::int) AS slots",
            "CROSS JOIN LATERAL jsonb_each_text(reasons) r GROUP BY 1 ORDER BY 2 DESC")), "reason", width=12, horizontal=True,
                 no_value="nothing missing"),
        table("DTUs, worst first", "Click a name for the DTU.", sql(asked(
            f"""dtu_id, dtu, sum(due) AS due, {rate} AS rate, sum(late) AS late, sum(missing) AS missing, count(DISTINCT meter_id) AS meters,
                (SELECT r.key FROM x o CROSS JOIN LATERAL jsonb_each_text(o.reasons) r WHERE o.dtu_id = x.dtu_id
                 GROUP BY r.key ORDER BY sum(r.value::int) DESC LIMIT 1) AS "most often\"""",
            "GROUP BY dtu_id, dtu ORDER BY 4 NULLS FIRST LIMIT 200")), 12, 10, overrides=[
                *hidden("dtu_id"), linked("dtu", DTU_LINK),
                by_name("rate", unit="percentunit", decimals=2, thresholds=SHARE, custom__cellOptions=coloured())]),
        table("Meters, worst first", "Click a name for the meter.", sql(asked(
            f'meter_id, meter, dtu, sum(due) AS due, {rate} AS rate, sum(late) AS late, sum(missing) AS missing',
            "GROUP BY meter_id, meter, dtu ORDER BY 5 NULLS FIRST LIMIT 200")), 12, 10, overrides=[
                *hidden("meter_id"),
                linked("meter", METER_LINK, api("/slots?meter_id=${__data.fields.meter_id}", "Its slots in the API")),
                by_name("rate", unit="percentunit", decimals=2, thresholds=SHARE, custom__cellOptions=coloured())]),
        table("Readings set aside", "Another value under a key that was taken, or one that the database refused; neither was lost. "
              "GET /audit and the log have more.", sql("""
            SELECT f.time, f.fault, m.meter_id, m.meter, f.reading_time AS "of", f.reason FROM grafana_reading_fault f
            LEFT JOIN grafana_meter m USING (meter_id) WHERE $__timeFilter(f.time) ORDER BY f.time DESC LIMIT 500"""), height=7, overrides=[
                *hidden("meter_id"), linked("meter", METER_LINK)], no_value="none in this range"),
    ]
    return board("collection", "Collection quality", "Which reads do not come in, why, and where is it worst?", panels, [
        account(),
        choice("group", "Group", "SELECT path AS __text, group_id::text AS __value FROM grafana_group ORDER BY 1", everything=True),
        choice("dtu", "DTU", "SELECT dtu AS __text, dtu_id::text AS __value FROM grafana_dtu ORDER BY 1", many=True, everything=True),
        api_address()], since="now-7d", refresh="5m")
