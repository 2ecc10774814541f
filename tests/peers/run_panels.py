"""Runs every query of every panel, variable, annotation and rule in grafana/ against a real PostgreSQL with a year of 50
meters and a real Prometheus that scrapes a running server. Exit 1 on an error, an empty answer where data are, a slow
one, a range that reads raw rows where it should read roll-ups, an unknown metric or an unknown unit.

With --meters the account has more of them; then every statement must end within the 15 s that a Grafana login has by default.

usage: run_panels.py [--keep FOLDER] [--pictures FOLDER] [--meters N]
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import psycopg
import yaml

import panels
import panels_seed
from headend import PROGRAM, free_port
from panels import ROOT, Prometheus, Range, Sql

# Panels whose answer may be empty, with the reason why: nothing of it has happened in the test.
MAY_BE_EMPTY = {
    ("polyphase-control", "Alerts that fire"): "no rule fires in the short life of the test's server",
    ("polyphase-meter", "Flow"): "an electricity meter",
    ("polyphase-meter", "Temperature"): "an electricity meter",
    ("polyphase-meter", "Thermal power"): "an electricity meter",
}
# What is looked at, where the first that a variable offers would show little.
CHOSEN = {"polyphase-dtu": {"dtu": "Gate"}, "polyphase-meter": {"meter": "Electricity 14"}, "polyphase-group": {"sum": "Main meter"}}
# Panels of another kind of meter: asked again for one.
OTHER = {"polyphase-meter": ({"meter": "Water {0}"}, {"Flow", "Temperature", "Thermal power", "Consumption", "Registers", "Where"})}
# Questions whose answer is empty over a range that is longer than they look at.
ONLY_SHORT = {("polyphase-meter", "Missed reads"), ("polyphase-meter", "Exceptional quality")}
SCRAPE_S = 1
# A panel may touch this many blocks of 8 kB over 50 meters: a measure that no neighbour on the machine changes; the widest takes half of it.
BLOCKS_MAX = 60_000
# What a server that has just begun has not counted yet, it counts within this time.
COUNTED_S = 60
# A meter's year is some 4,900 raw rows. A day's partition that still fits a few pages is cheaper read whole than by its index,
# for the newest reading of a meter: how many rows that are depends on the hour of the day.
RAW_ROWS_MAX = 1_000
YEAR = timedelta(days=365)


class Report:
    def __init__(self):
        self.faults, self.asked, self.slowest, self.widest = [], {"sql": 0, "promql": 0}, [], []

    def fault(self, where, what):
        self.faults.append(f"{where}: {what}")
        print(f"FAULT {where}: {what}", file=sys.stderr, flush=True)


class Stage:
    """A demo head end, its embedded PostgreSQL, a Prometheus; all gone in the end."""

    def __init__(self, folder, statement_s=60):
        self.folder, self.running, self.statement_s = Path(folder), [], statement_s
        self.http, self.device, self.prom = free_port(), free_port(), free_port()
        self.base = f"http://127.0.0.1:{self.http}"

    def start(self, name, command, **more):
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **more)
        self.running.append(process)
        return process

    def server(self):
        config = self.folder / "polyphase.toml"
        config.write_text(f'[http]\nbind = "127.0.0.1:{self.http}"\n[[listener]]\nbind = "127.0.0.1:{self.device}"\n'
                          f'[data]\nfolder = "{self.folder / "data"}"\n')
        self.config = config
        self.start("server", [PROGRAM, "demo", "--dtus", "3", "--meters", "3", "--data", str(self.folder / "data"), "--config", str(config)])
        self.wait("the server", lambda: self.answers(self.base + "/readyz"))

    def prometheus(self):
        for name in ("rules",):
            shutil.copytree(ROOT / "grafana/prometheus" / name, self.folder / name)
        config = yaml.safe_load((ROOT / "grafana/prometheus/prometheus.yml").read_text())
        config["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{self.http}"]}]
        for file in (self.folder / "rules").glob("*.yml"):
            file.write_text(re.sub(r"^( +)interval: \d+s", rf"\1interval: {SCRAPE_S}s", file.read_text(), flags=re.M))
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.start("prometheus", ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.folder / 'prometheus'}",
                                  f"--web.listen-address=127.0.0.1:{self.prom}", "--log.level=warn"])
        self.wait("prometheus", lambda: self.answers(f"http://127.0.0.1:{self.prom}/-/ready"))

    def answers(self, url):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def wait(self, what, ready, limit_s=180):
        begun = time.monotonic()
        while not ready():
            for process in self.running:
                if process.poll() is not None:
                    raise RuntimeError(f"{what}: a process ended with {process.returncode}; see {self.folder}")
            if time.monotonic() - begun > limit_s:
                raise RuntimeError(f"{what} is not there after {limit_s} s; see {self.folder}")
            time.sleep(0.2)

    def superuser(self):
        data = self.folder / "data"
        secret = dict(line.split("=", 1) for line in (data / "postgres.secret").read_text().split())
        port = (data / "postgres.port").read_text().strip()
        self.address = f"host=127.0.0.1 port={port} dbname=polyphase"
        return psycopg.connect(f"{self.address} user=postgres password={secret['superuser']}", autocommit=True)

    def login(self):
        """A login as the product makes it, for the account of the demo."""
        made = subprocess.run([PROGRAM, "grafana-login", "--account", "Demo", "--statement-timeout", str(self.statement_s), "--config", str(self.config)],
                              capture_output=True, text=True, timeout=120)
        if made.returncode != 0:
            raise RuntimeError(f"grafana-login: {made.stderr}")
        name = re.search(r"login (\w+) of account", made.stderr).group(1)
        return psycopg.connect(f"{self.address} user={name} password={made.stdout.strip()}", autocommit=True)

    def stop(self):
        for process in reversed(self.running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in reversed(self.running):
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def metrics_of(base):
    """Names of the metrics that the server has, those without a series yet too."""
    with urllib.request.urlopen(base + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    names = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    # a vector without a series is not written out: its name stands in the source
    for file in (ROOT / "src/telemetry").glob("*.rs"):
        names |= set(re.findall(r'"(polyphase_[a-z0-9_]+)"', file.read_text()))
    return names


def unknown_metrics(expr, known, recorded):
    named = set(re.findall(r"(?<![\w:])((?:polyphase|process|prometheus)[a-z0-9_:]+)", re.sub(r'"[^"]*"', "", expr)))
    for name in sorted(named):
        if name in recorded or name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known:
            continue
        yield name


def values_in(columns, rows):
    """Whether a row has anything beside its time."""
    return any(value is not None for row in rows for column, value in zip(columns, row) if column not in ("time", "metric"))


class Judge:
    def __init__(self, stage, report, sql, prometheus, blocks_max=BLOCKS_MAX):
        self.blocks_max = blocks_max
        self.report, self.sql, self.prometheus = report, sql, prometheus
        self.known = metrics_of(stage.base)
        rules = yaml.safe_load((ROOT / "grafana/prometheus/rules/polyphase.yml").read_text())
        self.rules = [rule for group in rules["groups"] for rule in group["rules"]]
        self.recorded = {rule["record"] for rule in self.rules if "record" in rule}
        self.units = set((ROOT / "tests/peers/grafana_units.txt").read_text().split())
        self.drawn = {}

    def sql_target(self, where, text, values, span, may_be_empty, series=False):
        expanded = panels.expand_macros(panels.expand_variables(text, values, span, SCRAPE_S), span)
        columns, rows, took = self.sql.ask(expanded)
        self.report.asked["sql"] += 1
        self.report.slowest.append((round(took, 3), where))
        blocks = self.sql.blocks(expanded)
        self.report.widest.append((blocks, where))
        if blocks > self.blocks_max:
            self.report.fault(where, f"slow: touches {blocks} blocks, limit {self.blocks_max}")
        if not may_be_empty and not values_in(columns, rows):
            self.report.fault(where, f"empty: {len(rows)} rows\n{expanded}")
        if series:
            if "time" not in columns:
                self.report.fault(where, f"a time series without a column time: {columns}")
            times = [row[columns.index("time")] for row in rows]
            if times != sorted(times):
                self.report.fault(where, "not in the order of time")
        return columns, rows, expanded

    def prom_target(self, where, target, span, values, may_be_empty):
        expr = panels.expand_variables(target["expr"], values, span, SCRAPE_S)
        for name in unknown_metrics(expr, self.known, self.recorded):
            self.report.fault(where, f"unknown metric {name}")
        found, begun = self.prometheus.ask(expr, span, target["instant"]), time.monotonic()
        self.report.asked["promql"] += 1
        while not found and not may_be_empty and time.monotonic() - begun < COUNTED_S:
            # a rate needs its counter scraped twice; the server has only just begun to count
            time.sleep(SCRAPE_S)
            found = self.prometheus.ask(expr, span.moved_to_now(), target["instant"])
        if not found and not may_be_empty:
            self.report.fault(where, f"empty: {expr}")
        return found

    def board(self, board, ranges, chosen=None, only=None):
        uid = board["uid"]
        values = panels.variables(board, self.sql, ranges[0], chosen or CHOSEN.get(uid, {}))
        if only is None:
            self.structure(board, values)
        for span in ranges:
            drawn = self.drawn.setdefault((uid, span.name, only is None), {})
            for panel in panels.panels(board):
                if only is not None and panel["title"] not in only:
                    continue
                where = f"{uid} / {panel['title']} / {span.name}"
                empty = only is None and (uid, panel["title"]) in MAY_BE_EMPTY
                answers = {}
                for target in panel["targets"]:
                    try:
                        if "expr" in target:
                            recent = span if span.since < timedelta(minutes=10) else Range(span.name, timedelta(minutes=5), span.to)
                            answers[target["refId"]] = self.prom_target(where, target, recent, values, empty)
                            continue
                        short = (uid, panel["title"]) in ONLY_SHORT and span.since > timedelta(days=2)
                        columns, rows, text = self.sql_target(where, target["rawSql"], values, span, empty or short,
                                                              target["format"] == "time_series")
                        answers[target["refId"]] = (columns, rows)
                        if target["refId"] == "unit":
                            self.unit(where, rows[0][0])
                        if span.since >= YEAR:
                            self.no_raw_rows(where, text)
                    except (psycopg.Error, ValueError, KeyError) as error:
                        self.report.fault(where, f"{type(error).__name__}: {error}")
                drawn[panel["id"]] = answers
            for note in board["annotations"]["list"]:
                if note["builtIn"]:
                    continue
                where = f"{uid} / annotation {note['name']} / {span.name}"
                try:
                    self.sql_target(where, note["target"]["rawSql"], values, span, True)
                except (psycopg.Error, ValueError, KeyError) as error:
                    self.report.fault(where, f"{type(error).__name__}: {error}")

    def no_raw_rows(self, where, text):
        for table, rows in self.sql.raw_rows(text).items():
            if rows > RAW_ROWS_MAX:
                self.report.fault(where, f"reads {rows:.0f} rows of {table} for a year")

    def unit(self, where, unit):
        if unit is not None and unit not in self.units and not unit.startswith(("suffix:", "currency:")):
            self.report.fault(where, f"unknown unit {unit}")

    def structure(self, board, values):
        """What JSON cannot say of itself: ids, units, descriptions, variables and links that lead somewhere."""
        uid, seen = board["uid"], set()
        text = json.dumps(board["panels"]) + json.dumps(board["annotations"]) + json.dumps(board["links"])
        text += json.dumps([v.get("query", "") for v in board["templating"]["list"]])
        for panel in board["panels"]:
            where = f"{uid} / {panel['title']}"
            if panel["id"] in seen:
                self.report.fault(where, f"id {panel['id']} twice")
            seen.add(panel["id"])
            if panel["type"] == "row":
                continue
            if len(panel.get("description", "")) < 10:
                self.report.fault(where, "no description")
            defaults = panel["fieldConfig"]["defaults"]
            self.unit(where, defaults.get("unit"))
            for override in panel["fieldConfig"]["overrides"]:
                for one in override["properties"]:
                    if one["id"] == "unit":
                        self.unit(where, one["value"])
            if panel["type"] in ("stat", "timeseries", "barchart") and not defaults.get("unit") \
                    and not any(target["refId"] == "unit" for target in panel["targets"]):
                self.report.fault(where, "no unit")
        for variable in values:
            if f"${{{variable}" not in text and f"${variable}" not in text:
                self.report.fault(uid, f"variable {variable} is not used")
        for link in re.findall(r"/d/([\w-]+)", text):
            if link not in self.uids:
                self.report.fault(uid, f"links to {link}, which is not there")

    def alert_rules(self):
        """Rules of Prometheus as it judged them, and those of Grafana as it would ask them."""
        for rule in self.rules:
            name = rule.get("record") or rule["alert"]
            for metric in unknown_metrics(rule["expr"], self.known, self.recorded):
                self.report.fault(f"rule {name}", f"unknown metric {metric}")
            found = self.prometheus.ask(rule["expr"], Range("now", timedelta(minutes=5)), True)
            self.report.asked["promql"] += 1
            if "record" in rule and not found:
                self.report.fault(f"rule {name}", "empty")
        judged = [rule for group in self.prometheus.get("rules")["groups"] for rule in group["rules"]]
        if len(judged) != len(self.rules):
            self.report.fault("rules", f"{len(judged)} of {len(self.rules)} loaded")
        for rule in judged:
            if rule["health"] != "ok":
                self.report.fault(f"rule {rule['name']}", f"{rule['health']}: {rule.get('lastError')}")
        for group in yaml.safe_load((ROOT / "grafana/provisioning/alerting/rules.yaml").read_text())["groups"]:
            for rule in group["rules"]:
                where = f"Grafana rule {rule['title']}"
                for query in rule["data"]:
                    model, span = query["model"], Range("rule", timedelta(seconds=query["relativeTimeRange"]["from"] or 60))
                    try:
                        if "rawSql" in model:
                            # provisioning reads $$ as $
                            self.sql_target(where, model["rawSql"].replace("$$", "$"), {}, span, False)
                        elif query["datasourceUid"] != "__expr__":
                            self.prom_target(where, model, span, {}, False)
                    except (psycopg.Error, ValueError, KeyError) as error:
                        self.report.fault(where, f"{type(error).__name__}: {error}")


def traffic(stage):
    """What the panels of API and sign-ins need to have happened."""
    for password in ("wrong one", "wrong two"):
        body = json.dumps({"email": "nobody@example.org", "password": password}).encode()
        request = urllib.request.Request(stage.base + "/api/v1/session", data=body, headers={"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=20)
        except urllib.error.HTTPError:
            pass
    # a session that says who it is and goes
    with socket.create_connection(("127.0.0.1", stage.device), timeout=10) as device:
        device.sendall(b"PANEL-UNKNOWN-1")
        time.sleep(0.5)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--keep", help="work in this folder and leave it")
    arguments.add_argument("--pictures", help="draw each dashboard from the answers into this folder")
    arguments.add_argument("--meters", type=int, default=panels_seed.METERS)
    arguments = arguments.parse_args()
    few = arguments.meters <= panels_seed.METERS
    folder = arguments.keep or tempfile.mkdtemp(prefix="polyphase-panels-")
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o755)  # PostgreSQL runs as another user when this is root
    begun, stage, report = time.monotonic(), Stage(folder, 60 if few else 15), Report()

    def say(text):
        print(f"{time.monotonic() - begun:6.1f} s  {text}", flush=True)

    try:
        stage.server()
        say("server ready")
        stage.prometheus()
        say("prometheus ready")
        with stage.superuser() as admin:
            stage.wait("the demo's meters", lambda: admin.execute("SELECT count(*) FROM meter").fetchone()[0] >= 9)
            account = admin.execute("SELECT id FROM account WHERE name = 'Demo'").fetchone()[0]
            panels_seed.seed(admin, account, say, arguments.meters)
        sql, prometheus = Sql(stage.login()), Prometheus(f"http://127.0.0.1:{stage.prom}")
        traffic(stage)
        stage.wait("scrapes of polls and batches", lambda: prometheus.ask(
            "sum(rate(polyphase_store_batch_seconds_count[10s])) > 0 and on () sum(rate(polyphase_poll_duration_seconds_count[10s])) > 0"
            " and on () polyphase:collection:ratio1h and on () polyphase:slots_ended:rate1h > 0", None, True))
        judge = Judge(stage, report, sql, prometheus, BLOCKS_MAX * max(1, arguments.meters // panels_seed.METERS))
        found = panels.boards()
        judge.uids = set(found)
        say("asking")
        for board in found.values():
            own = Range("its own range", panels.since(board["time"]["from"]))
            spans = [own] + ([Range("a year", YEAR)] if board["uid"] != "polyphase-server" else [])
            judge.board(board, spans)
            if board["uid"] in OTHER:
                chosen, titles = OTHER[board["uid"]]
                # among the last, which are water meters
                chosen = {name: text.format(arguments.meters - 2) for name, text in chosen.items()}
                judge.board(board, spans, chosen, titles)
        judge.alert_rules()
        say("asked")
        if arguments.pictures:
            import pictures
            pictures.draw(found, judge.drawn, Path(arguments.pictures))
            say("drawn")
    finally:
        stage.stop()
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps({"asked": report.asked, "faults": len(report.faults), "slowest": sorted(report.slowest, reverse=True)[:8],
                      "widest": sorted(report.widest, reverse=True)[:8],
                      "seconds": round(time.monotonic() - begun, 1)}, indent=2))
    sys.exit(1 if report.faults else 0)


if __name__ == "__main__":
    main()
