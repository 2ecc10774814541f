"""The parts that dashboards are made of: panels, variables, links, annotations, as Grafana 11 and newer read them.

Colours are Grafana's named ones, which follow the theme, so that everything is readable in dark and light.
"""

import re

PG = {"type": "grafana-postgresql-datasource", "uid": "${account}"}
PROM = {"type": "prometheus", "uid": "${prometheus}"}
GRAFANA = {"type": "grafana", "uid": "-- Grafana --"}

GOOD, FAIR, BAD, PLAIN, DIM = "green", "orange", "red", "blue", "text"

# the length of the range, seconds
RANGE = "($__unixEpochTo() - $__unixEpochFrom())"
# up to here panels read raw rows, then hours, then days
RAW_S, HOUR_S = 3 * 86400, 40 * 86400


def steps(*pairs, mode="absolute"):
    """Thresholds: the first pair has no bound."""
    return {"mode": mode, "steps": [{"value": value, "color": colour} for value, colour in pairs]}


SHARE = steps((None, BAD), (0.95, FAIR), (0.98, GOOD))
NONE = steps((None, PLAIN))


def tidy(sql):
    """SQL as it is written here, without its indentation."""
    lines = sql.strip("\n").split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return "\n".join(line[margin:].rstrip() for line in lines).strip()


def sql(text, series=False, ref="A"):
    return {"refId": ref, "datasource": PG, "editorMode": "code", "rawQuery": True,
            "format": "time_series" if series else "table", "rawSql": tidy(text)}


def prom(expr, legend="", ref="A", instant=False):
    return {"refId": ref, "datasource": PROM, "editorMode": "code", "expr": expr, "legendFormat": legend or "__auto",
            "instant": instant, "range": not instant}


def by_name(name, **properties):
    """An override of one field: unit="s" or custom__width=90."""
    listed = [{"id": key.replace("__", "."), "value": value} for key, value in properties.items()]
    return {"matcher": {"id": "byName", "options": name}, "properties": listed}


def by_regex(pattern, **properties):
    return {**by_name("", **properties), "matcher": {"id": "byRegexp", "options": pattern}}


def hidden(*names):
    return [by_name(name, custom__hideFrom={"viz": True, "legend": True, "tooltip": True}, custom__hidden=True) for name in names]


def to(board, title, *variables, field=None):
    """A link to another dashboard, with the same range and data sources. variables: "dtu=${__data.fields.dtu_id}"."""
    query = "&".join(["${account:queryparam}", *[f"var-{v}" for v in variables], "${__url_time_range}"])
    return {"title": title, "url": f"/d/polyphase-{board}?{query}", "targetBlank": False}


UNIT_OF = """
    SELECT CASE WHEN ${quantity:sqlstring} LIKE 'reactive%' THEN 'suffix:kvarh' WHEN ${quantity:sqlstring} LIKE 'apparent%' THEN 'suffix:kVAh'
                WHEN ${quantity:sqlstring} LIKE 'volume%' OR ${quantity:sqlstring} = 'gas_volume' THEN 'm3'
                WHEN ${quantity:sqlstring} = 'operating_hours' THEN 'h' ELSE 'kwatth' END AS unit"""


def united(made, *fields):
    """Has a panel take the unit of its numbers from the chosen register: units take no variables, but a query can set them."""
    made["targets"].append(sql(UNIT_OF, ref="unit"))
    made["fieldConfig"]["defaults"].pop("unit", None)
    matcher = {"id": "byRegexp", "options": f"/^({'|'.join(fields)})$/"} if fields else {"id": "byType", "options": "number"}
    made.setdefault("transformations", []).append(
        {"id": "configFromData", "options": {"configRefId": "unit", "mappings": [{"fieldName": "unit", "handlerKey": "unit"}],
                                             "applyTo": matcher}})
    return made


def api(path, title):
    return {"title": title, "url": "${api}/api/v1" + path, "targetBlank": True}


def linked(name, *links):
    return by_name(name, links=list(links))


def panel(kind, title, description, targets, unit=None, width=6, height=8, thresholds=None, overrides=(), options=None,
          custom=None, decimals=None, low=None, high=None, mappings=None, no_value=None, colour=None, links=None,
          transformations=None, max_points=None, interval=None):
    defaults = {"thresholds": thresholds or NONE, "color": colour or {"mode": "thresholds"}}
    for key, value in (("unit", unit), ("decimals", decimals), ("min", low), ("max", high), ("mappings", mappings),
                       ("noValue", no_value), ("custom", custom), ("links", links)):
        if value is not None:
            defaults[key] = value
    targets = targets if isinstance(targets, list) else [targets]
    made = {"type": kind, "title": title, "description": description, "datasource": targets[0]["datasource"],
            "gridPos": {"x": 0, "y": 0, "w": width, "h": height},
            "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
            "options": options or {}, "targets": targets}
    if transformations:
        made["transformations"] = transformations
    if max_points:
        made["maxDataPoints"] = max_points
    if interval:
        made["interval"] = interval
    return made


def stat(title, description, target, unit="short", width=4, height=4, thresholds=None, graph=False, text="auto", **rest):
    options = {"reduceOptions": {"values": False, "calcs": ["lastNotNull"], "fields": rest.pop("fields", "")},
               "orientation": "auto", "textMode": text, "wideLayout": True, "justifyMode": "auto", "showPercentChange": False,
               "percentChangeColorMode": "standard", "colorMode": "value", "graphMode": "area" if graph else "none"}
    return panel("stat", title, description, target, unit, width, height, thresholds, options=options, **rest)


LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}


def lines(title, description, targets, unit="short", width=12, height=8, fill=8, step=False, stack=False, legend=None,
          points="auto", thresholds=None, threshold_style="off", overrides=(), **rest):
    custom = {"drawStyle": "line", "lineInterpolation": "stepAfter" if step else "linear", "lineWidth": 2, "fillOpacity": fill,
              "gradientMode": "none", "showPoints": points, "pointSize": 4, "spanNulls": False, "insertNulls": False,
              "stacking": {"mode": "normal" if stack else "none", "group": "A"}, "axisPlacement": "auto", "axisLabel": "",
              "axisBorderShow": False, "scaleDistribution": {"type": "linear"},
              "thresholdsStyle": {"mode": threshold_style}}
    first = targets[0] if isinstance(targets, list) else targets
    if "expr" in first:
        rest.setdefault("low", 0)  # what the server counts is never below
    return panel("timeseries", title, description, targets, unit, width, height, thresholds, overrides,
                 {"legend": legend or LEGEND, "tooltip": {"mode": "multi", "sort": "desc", "hideZeros": False}}, custom,
                 colour={"mode": "palette-classic"}, **rest)


def bars(title, description, targets, unit="short", width=12, height=8, stack=True, **rest):
    made = lines(title, description, targets, unit, width, height, fill=70, stack=stack, points="never", **rest)
    made["fieldConfig"]["defaults"]["custom"].update(drawStyle="bars", barAlignment=1, barWidthFactor=0.8, lineWidth=1)
    return made


def barchart(title, description, target, x, unit="short", width=12, height=8, stack=False, horizontal=False, **rest):
    options = {"orientation": "horizontal" if horizontal else "vertical", "xField": x, "xTickLabelRotation": 0,
               "xTickLabelSpacing": 0 if horizontal else 40, "showValue": "auto", "stacking": "normal" if stack else "none",
               "groupWidth": 0.75, "barWidth": 0.9, "barRadius": 0, "fullHighlight": False, "legend": LEGEND,
               "tooltip": {"mode": "multi", "sort": "none", "hideZeros": False}}
    custom = {"lineWidth": 1, "fillOpacity": 75, "gradientMode": "none", "axisPlacement": "auto", "axisLabel": "",
              "thresholdsStyle": {"mode": "off"}, "scaleDistribution": {"type": "linear"}}
    return panel("barchart", title, description, target, unit, width, height, options=options, custom=custom,
                 colour={"mode": "palette-classic"}, **rest)


def table(title, description, target, width=24, height=10, sort=None, **rest):
    options = {"showHeader": True, "cellHeight": "sm"}
    if sort:
        options["sortBy"] = [{"displayName": sort[0], "desc": sort[1]}]
    custom = {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False}
    return panel("table", title, description, target, None, width, height, options=options, custom=custom, **rest)


def timeline(title, description, target, width=24, height=4, mappings=(), **rest):
    options = {"mergeValues": True, "showValue": "auto", "alignValue": "left", "rowHeight": 0.8,
               "legend": {**LEGEND}, "tooltip": {"mode": "single", "sort": "none", "hideZeros": False}}
    return panel("state-timeline", title, description, target, None, width, height, options=options,
                 custom={"lineWidth": 0, "fillOpacity": 75}, mappings=list(mappings), **rest)


def row(title, *folded):
    """A row; panels that are given with it are folded away until somebody opens it."""
    return {"type": "row", "title": title, "collapsed": bool(folded), "panels": list(folded), "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}}


def texts(**mapped):
    """Mappings of values to texts and colours: texts(online=("Online", GOOD))."""
    return [{"type": "value", "options": {key: {"text": text, "color": colour, "index": index}
                                          for index, (key, (text, colour)) in enumerate(mapped.items())}}]


def coloured():
    """A table cell whose text has the colour of its threshold or mapping."""
    return {"type": "color-text"}


STATES = [by_name("actual", color={"mode": "fixed", "fixedColor": GOOD}),
          by_name("late", color={"mode": "fixed", "fixedColor": "yellow"}),
          by_name("estimated", color={"mode": "fixed", "fixedColor": "purple"}),
          by_name("missing", color={"mode": "fixed", "fixedColor": BAD})]


# variables

def account():
    return {"type": "datasource", "name": "account", "label": "Account", "query": "grafana-postgresql-datasource",
            "regex": "/^Polyphase/", "description": "One data source per account: its login sees that account alone",
            "hide": 0, "includeAll": False, "multi": False, "refresh": 1, "skipUrlSync": False, "options": [],
            "current": {"text": "Polyphase", "value": "polyphase-pg"}}


def prometheus():
    return {"type": "datasource", "name": "prometheus", "label": "Prometheus", "query": "prometheus", "regex": "",
            "description": "Figures of the whole server, over all accounts", "hide": 0, "includeAll": False, "multi": False,
            "refresh": 1, "skipUrlSync": False, "options": [],
            "current": {"text": "Polyphase Prometheus", "value": "polyphase-prometheus"}}


def api_address():
    return {"type": "textbox", "name": "api", "label": "API", "description": "Where links to the API go",
            "query": "http://127.0.0.1:8080", "current": {"text": "http://127.0.0.1:8080", "value": "http://127.0.0.1:8080"},
            "hide": 2, "skipUrlSync": True, "options": []}


def choice(name, label, text, many=False, everything=False, hide=0, description=""):
    made = {"type": "query", "name": name, "label": label, "description": description, "datasource": PG,
            "query": tidy(text), "refresh": 1, "regex": "", "sort": 0, "multi": many,
            "includeAll": everything, "hide": hide, "skipUrlSync": False, "options": []}
    if everything:
        made["allValue"] = "0"
        made["current"] = {"text": "All", "value": "$__all"}
    return made


def listed(name, label, values, description=""):
    options = [{"text": text, "value": value, "selected": index == 0} for index, (text, value) in enumerate(values)]
    return {"type": "custom", "name": name, "label": label, "description": description, "multi": False, "includeAll": False,
            "query": ", ".join(f"{text} : {value}" for text, value in values), "options": options, "hide": 0,
            "skipUrlSync": False, "current": {"text": values[0][0], "value": values[0][1]}}


def given(name, label, value, description=""):
    return {"type": "textbox", "name": name, "label": label, "description": description, "query": value, "hide": 0,
            "current": {"text": value, "value": value}, "skipUrlSync": False, "options": []}


def chosen(column, variable):
    """Whether a column is among what a variable with "All" has chosen."""
    return f"('0' IN (${{{variable}:sqlstring}}) OR {column} IN (${{{variable}:sqlstring}}))"


# annotations

def noted(name, text, colour, on=True):
    return {"name": name, "datasource": PG, "enable": on, "hide": False, "iconColor": colour, "builtIn": 0,
            "target": {"refId": "Anno", "format": "table", "rawQuery": True, "editorMode": "code", "rawSql": tidy(text)}}


BUILT_IN = {"name": "Annotations & Alerts", "type": "dashboard", "datasource": GRAFANA, "builtIn": 1, "enable": True, "hide": True,
            "iconColor": "rgba(0, 211, 255, 1)",
            "target": {"limit": 100, "matchAny": False, "tags": [], "type": "dashboard"}}


def board(uid, title, description, panels, variables, annotations=(), since="now-24h", refresh="1m"):
    """Lays panels out from left to right and top to bottom, and numbers them by their place, which stays."""
    x = y = tallest = number = 0
    for one in panels:
        place = one["gridPos"]
        if x + place["w"] > 24 or one["type"] == "row":
            x, y, tallest = 0, y + tallest, 0
        place["x"], place["y"] = x, y
        x, tallest = x + place["w"], max(tallest, place["h"])
        number += 1
        one["id"], across = number, 0
        for folded in one.get("panels", ()):
            number += 1
            folded["id"], folded["gridPos"]["x"], folded["gridPos"]["y"] = number, across, y + 1
            across += folded["gridPos"]["w"]
    links = [{"type": "dashboards", "title": "Polyphase", "tags": ["polyphase"], "asDropdown": True, "includeVars": False,
              "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": ""}]
    return {"uid": f"polyphase-{uid}", "title": title, "description": description, "tags": ["polyphase"], "editable": True,
            "graphTooltip": 1, "schemaVersion": 39, "version": 1, "refresh": refresh, "timezone": "browser", "weekStart": "",
            "fiscalYearStartMonth": 0, "time": {"from": since, "to": "now"}, "timepicker": {}, "links": links,
            "annotations": {"list": [BUILT_IN, *annotations]}, "templating": {"list": variables}, "panels": panels}
