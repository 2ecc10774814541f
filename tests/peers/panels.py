"""Dashboards as Grafana would run them: variables and macros expanded, SQL and PromQL asked, answers judged.

Knows of Grafana what its documentation says: the macros of the PostgreSQL data source, the formats of variables, the
steps of ranges. It draws nothing.
"""

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# how many points a panel asks for, as wide as half a screen
POINTS = 300


def boards():
    """Every dashboard, by its uid."""
    found = [json.loads(file.read_text()) for file in sorted((ROOT / "grafana/dashboards").rglob("*.json"))]
    return {board["uid"]: board for board in found}


def panels(board):
    """Panels, those in rows too."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from panel.get("panels", [])


def spoken(at):
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Range:
    """From, to, and the step that a panel of that width would have."""
    name: str
    since: timedelta
    to: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def begin(self):
        return self.to - self.since

    def moved_to_now(self):
        return Range(self.name, self.since)

    @property
    def step(self):
        exact = self.since.total_seconds() / POINTS
        return next((s for s in (15, 30, 60, 300, 900, 1800, 3600, 10800, 21600, 43200, 86400) if s >= exact), 86400)


def since(text):
    """The length of now-24h and the like."""
    number, unit = re.fullmatch(r"now-(\d+)([mhdy])", text).groups()
    return timedelta(minutes=int(number) * {"m": 1, "h": 60, "d": 1440, "y": 525600}[unit])


def quoted(value):
    return "'" + str(value).replace("'", "''") + "'"


def expand_variables(text, values, span, scrape_s):
    """${name}, ${name:format} and $name; the built-in ones too."""
    built_in = {"__interval": f"{span.step}s", "__interval_ms": str(span.step * 1000),
                "__range": f"{int(span.since.total_seconds())}s", "__range_s": str(int(span.since.total_seconds())),
                "__rate_interval": f"{max(span.step + scrape_s, 4 * scrape_s)}s"}

    def put(match):
        name, how = match.group("braced") or match.group("plain"), match.group("format")
        if name in built_in:
            return built_in[name]
        if name not in values:
            if match.group("braced"):
                raise KeyError(f"unknown variable {match.group(0)}")
            return match.group(0)  # a macro
        chosen = values[name] if isinstance(values[name], list) else [values[name]]
        if how == "sqlstring":
            return ",".join(quoted(value) for value in chosen)
        if how is None:
            return ",".join(str(value) for value in chosen)
        raise KeyError(f"unknown format {match.group(0)}")

    return re.sub(r"\$\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|\$(?P<plain>\w+)", put, text)


def seconds(text):
    number, unit = re.fullmatch(r"'?(\d+)([smhd])'?", text.strip()).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def expand_macros(text, span):
    """The macros of the PostgreSQL data source."""
    begin, end = spoken(span.begin), spoken(span.to)

    def macro(match):
        name, inside = match.group(1), [part.strip() for part in match.group(2).split(",")]
        if name == "timeFilter":
            return f"{inside[0]} BETWEEN '{begin}' AND '{end}'"
        if name == "timeFrom":
            return f"'{begin}'"
        if name == "timeTo":
            return f"'{end}'"
        if name == "unixEpochFrom":
            return str(int(span.begin.timestamp()))
        if name == "unixEpochTo":
            return str(int(span.to.timestamp()))
        if name == "timeGroup":
            step = seconds(inside[1])
            return f"floor(extract(epoch from {inside[0]})/{step})*{step}"
        raise KeyError(f"unknown macro $__{name}")

    # an argument holds no parenthesis of its own but a simple call
    expanded = re.sub(r"\$__(\w+)\(((?:[^()]|\([^()]*\))*)\)", macro, text)
    if "$" in expanded.replace("$$", ""):
        raise KeyError(f"not expanded: {expanded[expanded.index('$'):][:40]}")
    return expanded


class Sql:
    """Asks PostgreSQL as a Grafana login."""

    def __init__(self, connection):
        self.connection = connection

    def ask(self, text):
        """Columns, rows, and how long it took."""
        begun = time.monotonic()
        answer = self.connection.execute(text)
        rows = answer.fetchall()
        return [column.name for column in answer.description], rows, time.monotonic() - begun

    def blocks(self, text):
        """How many blocks of tables and indices a statement touched, and of its sorts on disk."""
        plan = self.connection.execute("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + text).fetchone()[0][0]["Plan"]
        return sum(plan[kind] for kind in ("Shared Hit Blocks", "Shared Read Blocks", "Temp Read Blocks", "Temp Written Blocks"))

    def raw_rows(self, text):
        """How many rows of raw tables a statement read, by its plan as it ran."""
        plan = self.connection.execute("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + text).fetchone()[0]
        read = {}

        def walk(node):
            name = node.get("Relation Name", "")
            if re.match(r"(reading_(electricity|fluid|side)|slot_ending)(_\d+)?$", name) and node["Actual Loops"]:
                table = re.sub(r"_\d+$", "", name)
                rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
                read[table] = read.get(table, 0) + rows * node["Actual Loops"]
            for child in node.get("Plans", []):
                walk(child)

        walk(plan[0]["Plan"])
        return read


class Prometheus:
    """Asks a Prometheus server."""

    def __init__(self, base):
        self.base = base

    def get(self, path, **query):
        url = f"{self.base}/api/v1/{path}" + ("?" + urllib.parse.urlencode(query) if query else "")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{query.get('query', path)}: {error.read().decode(errors='replace')}") from None

    def ask(self, expr, span, instant, now=None):
        """Series of the answer, as Prometheus gives them."""
        if instant:
            return self.get("query", query=expr)["result"]
        return self.get("query_range", query=expr, start=span.begin.timestamp(), end=span.to.timestamp(), step=span.step)["result"]


def variables(board, sql, span, wanted):
    """A value for each variable: what the dashboard would choose when it opens, or what is wanted, by its text."""
    values = {}
    for variable in board["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "query":
            if variable.get("allValue"):
                values[name] = [variable["allValue"]]
            text = expand_macros(expand_variables(variable["query"], values, span, 15), span)
            columns, rows, _ = sql.ask(text)
            offered = [row[columns.index("__value")] for row in rows]
            if name in wanted:
                text = columns.index("__text")
                offered = [value for row, value in zip(rows, offered) if row[text] == wanted[name]]
            if not offered:
                raise ValueError(f"variable {name} offers nothing")
            if not all(isinstance(value, str) for value in offered):
                raise ValueError(f"variable {name} offers values that are no text: {offered[:3]}")
            if not variable.get("allValue"):
                values[name] = offered[0]
        else:
            values[name] = variable["current"]["value"]
    return values
