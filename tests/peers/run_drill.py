"""Outages: server and database killed at random, the database away and hung for minutes, the spool's disk filled, under a
fleet that goes on; the database's disk filled. Prints what was due, how it ended, and what was lost, doubled, misattributed or left open; exit 1
when any of these is not zero, or when a write was taken while the database was away.

usage: run_drill.py [--kills N] [--crashes N] [--outage S] [--hang S] [--full S] [--fill S] [--small-disk] [--dtus N]
                    [--meters N] [--field-dtus N] [--every S] [--seed N]

Two fleets: `polyphase simulate` for numbers, and the DTUs of field.py, whose values say whose they are and when they
were given. What is due follows from the cron expression and the time alone, not from anything that the server says.
"""

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

import run_field
from disk import SmallDisk
from headend import PROGRAM, Follower, HeadEnd, Problem
from postgres import Cluster

#: Slots may be read so long after they were due.
WINDOW_S = 8
SEGMENT_BYTES = 262_144


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def utc():
    return datetime.now(timezone.utc)


def metrics(base, *names):
    """Sums over the labels of these metrics; none: the server does not answer."""
    try:
        with urllib.request.urlopen(base + "/metrics", timeout=3) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return None
    sums = dict.fromkeys(names, 0.0)
    for line in text.splitlines():
        name = line.split("{")[0].split(" ")[0]
        if name in sums:
            sums[name] += float(line.rsplit(" ", 1)[1])
    return sums


def readiness(base):
    """(status, {check: reason}) of /readyz; none: no answer."""
    try:
        with urllib.request.urlopen(base + "/readyz", timeout=5) as answer:
            status, body = answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        status, body = error.code, json.load(error)
    except (OSError, urllib.error.URLError):
        return None
    return status, {check["name"]: check.get("reason") for check in body["checks"] if check.get("reason")}


class Fleet:
    """Both fleets and their schedule."""

    def __init__(self, head, client, args):
        self.head, self.client, self.args = head, client, args
        self.counters = collections.Counter()
        self.end_field = None
        self.simulator = subprocess.Popen(
            [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", str(args.dtus), "--meters",
             str(args.meters), "--models", "eastron_sdm120", "--sn-prefix", "DRILL", "--baud", "38400", "--drop", "0.01"],
            stdout=head.log, stderr=head.log)
        self.meters, self.own = [], {}

    def build(self):
        args, client = self.args, self.client
        schedule = client.post("/api/v1/schedules", {
            "name": "drill", "cron": f"*/{args.every} * * * * *", "time_zone": "UTC", "spread_s": 1, "window_s": WINDOW_S,
            "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": WINDOW_S}, "missed_run": "once"})["id"]
        for index in range(args.dtus):
            dtu = client.post("/api/v1/dtus", {"sn": f"DRILL{index + 1:06}", "name": f"dtu {index}", "schedule": schedule})
            for unit in range(1, args.meters + 1):
                self.meters.append(client.post("/api/v1/meters", {
                    "dtu_id": dtu["id"], "protocol": "modbus-rtu", "address": str(unit), "model": "eastron_sdm120",
                    "name": f"{index}/{unit}"})["id"])
        field = argparse.Namespace(dtus=args.field_dtus, units=args.units, seed=args.seed)
        self.end_field = run_field.run_in_background(self.head.device, field, self.counters)
        for index, dtu in run_field.claim_all(client, args.field_dtus).items():
            client.call("PATCH", f"/api/v1/dtus/{dtu}", {"timeout_ms": 150, "pause_ms": 0}, headers={"If-Match": "*"})
            for unit in range(1, args.units + 1):
                meter = client.post("/api/v1/meters", {
                    "dtu_id": dtu, "protocol": "modbus-rtu", "address": str(unit), "model": "test_selfid",
                    "name": f"unit {unit}", "schedule": schedule})
                self.own[meter["id"]] = (index, unit)
        self.meters += self.own

    def end(self):
        if self.end_field:
            self.end_field()
            self.end_field = None
        self.simulator.terminate()
        self.simulator.wait(20)


class Drill:
    def __init__(self, args, head, database, disk, fleet):
        self.args, self.head, self.database, self.disk, self.fleet = args, head, database, disk, fleet
        self.dice = random.Random(args.seed)
        self.faults, self.ready_s, self.api_shown = [], [], {}
        self.done = collections.Counter()
        self.refusals, self.reasons = collections.Counter(), collections.Counter()
        self.drains, self.retried = [], []

    # ---- what happens

    def plan(self):
        events = ["kill"] * self.args.kills + ["crash"] * self.args.crashes
        self.dice.shuffle(events)
        for name in ("outage", "hang", "full", "fill"):
            if getattr(self.args, name):
                # somewhere in the middle, so that there is a before and an after
                low, high = len(events) // 4, 3 * len(events) // 4
                events.insert(self.dice.randint(low, max(low, high)), name)
        return events

    def run(self):
        for number, event in enumerate(self.plan()):
            self.pause()
            print(f"{utc():%H:%M:%S} {number + 1}: {event}", file=sys.stderr, flush=True)
            getattr(self, event)()
            self.done[event] += 1
        self.pause()

    def pause(self):
        time.sleep(self.dice.uniform(*self.args.gap))

    def kill(self):
        self.look()
        self.head.kill()
        time.sleep(self.dice.uniform(0.0, 4.0))
        self.up()

    def up(self):
        self.ready_s.append(round(self.head.start(), 2))

    def crash(self):
        """A backend or the whole database dies; now and then the server with it."""
        self.look()
        both = self.dice.random() < 0.25
        if self.dice.random() < 0.5 and not both and self.database.crash():
            return
        self.database.kill()
        if both:
            self.head.kill()
            self.head.launch()
        time.sleep(self.dice.uniform(0.0, 3.0))
        self.database.start()
        if both:
            self.ready_s.append(round(self.head.wait_ready(), 2))

    def outage(self):
        """No database for a long time; the server is killed in the middle of it, too, when there is time for that."""
        self.look()
        self.database.kill()
        seconds = self.args.outage
        if seconds < 60:
            self.refused_for(seconds)
        else:
            self.refused_for(seconds * 0.8)
            self.head.kill()
            self.head.launch()
            # it cannot know its fleet without the database; what is in the spool waits
            time.sleep(seconds * 0.2)
        self.database.start()
        if seconds >= 60:
            self.ready_s.append(round(self.head.wait_ready(), 2))
        self.drained()

    def hang(self):
        self.look()
        self.database.hang()
        self.refused_for(self.args.hang)
        self.database.resume()
        self.drained()

    def full(self):
        """The database's disk has no space left: it answers, and takes nothing; nobody has to do more than make space."""
        self.look()
        self.database.disk.fill()
        if not self.until(lambda: self.database_says().startswith("full"), self.args.full):
            self.faults.append(f"the database does not count as full: {readiness(self.head.base)}")
        self.refused_for(3)
        try:
            self.fleet.client.get("/api/v1/dtus", limit=1)
        except Exception as error:  # noqa: BLE001  whatever it is, reading does not work
            self.faults.append(f"reading from a full database: {error}")
        self.database.disk.free()
        if not self.until(lambda: self.database_says() == "", 30):
            self.faults.append(f"the database has space again and counts as {readiness(self.head.base)}")
        self.drained()

    def database_says(self):
        return (readiness(self.head.base) or (0, {"database": "no answer"}))[1].get("database") or ""

    def fill(self):
        """The spool's disk is full while the database is away; then there is space, then the database."""
        self.look()
        self.database.kill()
        self.disk.fill(leave_bytes=2 * SEGMENT_BYTES)
        full = self.until(lambda: "takes nothing" in (self.spool_says() or ""), self.args.fill)
        time.sleep(self.args.fill / 4)
        # a start on a full disk is the harder case
        self.head.kill()
        self.database.start()
        self.head.launch()
        answered = self.until(lambda: readiness(self.head.base), 60)
        time.sleep(2)
        self.disk.free()
        if not full:
            self.faults.append("the spool did not become full: fill longer")
        if not answered:
            self.faults.append("the server does not start on a full disk")
        self.ready_s.append(round(self.head.wait_ready(), 2))
        if not self.until(lambda: self.spool_says() == "", 60):
            self.faults.append(f"the spool has space again and says {readiness(self.head.base)}")

    def spool_says(self):
        """Its reason in the health; empty when it is well, none when there is no answer."""
        ready = readiness(self.head.base)
        return ready and (ready[1].get("spool") or "")

    @staticmethod
    def until(condition, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(0.3)
        return False

    # ---- what is seen meanwhile

    def look(self):
        """What the API shows right before something happens counts as shown."""
        # a database that is just back is noticed within a second or two
        self.until(lambda: self.database_says() == "", 10)
        for meter in self.dice.sample(self.fleet.meters, min(10, len(self.fleet.meters))):
            try:
                for item in self.fleet.client.get(f"/api/v1/meters/{meter}/readings", limit=200)["items"]:
                    self.api_shown.setdefault((meter, item["due_at"]), {})[item["quantity"]] = item["value"]
            except Exception as error:  # noqa: BLE001  the drill goes on; the fault is reported
                self.faults.append(f"API before an event: {error}")

    def refused_for(self, seconds):
        """Writes while the database is away: refused with 503, quickly. The health says why."""
        deadline = time.monotonic() + seconds
        grace = time.monotonic() + 5
        while time.monotonic() < deadline:
            begun = time.monotonic()
            try:
                self.fleet.client.call("POST", "/api/v1/groups", {"name": f"outage {begun}"}, timeout=40)
                status = "taken"
            except Problem as problem:
                status = str(problem.status)
            except OSError as error:
                status = f"no answer: {error}"
            took = time.monotonic() - begun
            self.refusals[status] += 1
            if status != "503":
                self.faults.append(f"a write without a database: {status}")
            if took > 10 or (took > 2 and begun > grace):
                self.faults.append(f"a write without a database was answered after {took:.1f} s")
            ready = readiness(self.head.base)
            if ready is None:
                self.faults.append("no health during an outage")
            else:
                self.reasons[ready[1].get("database") or "nothing"] += 1
            time.sleep(max(0.0, min(1.0, deadline - time.monotonic())))

    def drained(self):
        """Waits for an empty spool; how much faster it drains than the fleet fills it."""
        names = ("polyphase_spool_backlog_records", "polyphase_spool_records_total")
        first = self.until_metrics(names)
        last, seen = first, [(time.monotonic(), *first.values())]
        deadline = time.monotonic() + 300
        # what a moment of the running fleet leaves there is no backlog
        while last[names[0]] > self.live_rate() and time.monotonic() < deadline:
            time.sleep(0.1)
            last = metrics(self.head.base, *names) or last
            seen.append((time.monotonic(), *last.values()))
        if last[names[0]] > self.live_rate():
            self.faults.append(f"the spool does not drain: {last}, health: {readiness(self.head.base)}")
            self.faults.append(f"its processes: {self.database.states()}")
            doing = self.database.sql("SELECT pid, application_name, state, wait_event, now() - state_change, left(query, 60) "
                                      "FROM pg_stat_activity WHERE state IS NOT NULL", check=False)
            self.faults.append(f"what it does: {doing}")
        # from the moment that it began to fall
        falling = next((index for index in range(1, len(seen)) if seen[index][1] < seen[index - 1][1]), None)
        if falling is None:
            return
        (t0, backlog, total), (t1, left, total1) = seen[falling - 1], seen[-1]
        written = backlog - left + total1 - total
        self.drains.append({"records": int(written), "seconds": round(t1 - t0, 2), "per_s": int(written / max(t1 - t0, 0.01)),
                            "times_live_rate": round(written / max(t1 - t0, 0.01) / self.live_rate(), 1)})

    def until_metrics(self, names):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = metrics(self.head.base, *names)
            if found:
                return found
            time.sleep(0.1)
        raise RuntimeError(f"no metrics:\n{self.head.tail()}")

    def live_rate(self):
        """Records a second that the fleet makes."""
        return len(self.fleet.meters) / self.args.every

    # ---- the verdict

    def all(self, path, **query):
        """A whole list, for the verdict: a host that is busy with other things may cost a try, not the drill."""
        for _ in range(8):
            begun = time.monotonic()
            try:
                return list(self.fleet.client.all(path, **query))
            except (Problem, OSError) as problem:
                self.retried.append(f"{path} after {time.monotonic() - begun:.1f} s: {problem}")
                time.sleep(5)
        raise RuntimeError(f"no answer: {self.retried[-1]}")

    def judge(self, follower, begun, until):
        fleet, report = self.fleet, {"values": 0, "wrong": []}
        shown = {"stream": by_meter(shown_by(follower)), "API": by_meter(self.api_shown)}
        due_at = due_instants(begun, until, self.args.every)
        due, endings, doubled, lost, open_slots, without = 0, collections.Counter(), 0, 0, 0, 0
        for meter in fleet.meters:
            stored = collections.defaultdict(dict)
            items = self.all(f"/api/v1/meters/{meter}/readings")
            for item in items:
                at = stored[item["due_at"]]
                doubled += item["quantity"] in at
                at[item["quantity"]] = item["value"]
            for source, readings in shown.items():
                for when, values in readings[meter].items():
                    if when not in stored or stored[when] != {**stored[when], **values}:
                        lost += 1
                        self.faults.append(f"shown by the {source}, not stored so: {meter} {when} {values} {stored.get(when)}")
            if meter in fleet.own:
                run_field.judge(items, *fleet.own[meter], report)
            slots = collections.Counter()
            for slot in self.all("/api/v1/slots", meter_id=meter, to=until.isoformat(), **{"from": begun.isoformat()}):
                at = instant(slot["due_at"])
                slots[at] += 1
                endings[slot["state"] + (f"/{slot['reason']}" if slot["reason"] else "")] += at in due_at
                if bool(stored.get(slot["due_at"])) != (slot["state"] in ("actual", "late")) and slot["reason"] != "partial":
                    self.faults.append(f"ledger and readings disagree: {slot}, stored: {stored.get(slot['due_at'])}")
                if slot["state"] == "open":
                    open_slots += 1
                    self.faults.append(f"open past its window: {slot}")
            due += len(due_at)
            doubled += sum(count - 1 for count in slots.values())
            gone = due_at - set(slots)
            without += len(gone)
            for at in sorted(gone)[:2]:
                self.faults.append(f"meter {meter}: due at {at}, not in the ledger")
        # they come first: nothing weighs more
        self.faults = report["wrong"] + self.faults
        endings = {"actual": endings.pop("actual", 0), "late": endings.pop("late", 0),
                   "missing": sum(endings.values()), "missing_by_reason": dict(endings)}
        return {"due": due, **endings, "no_ending": without, "open": open_slots, "lost": lost, "doubled": doubled,
                "misattributed": len(report["wrong"]), "identities_judged": report["values"],
                "shown": sum(len(readings) for meters in shown.values() for readings in meters.values())}


def due_instants(begun, until, every):
    """What a cron of `*/every` seconds means between two instants."""
    first = int(begun.timestamp()) // every * every + 2 * every
    return {datetime.fromtimestamp(at, timezone.utc) for at in range(first, int(until.timestamp()), every)}


def by_meter(shown):
    grouped = collections.defaultdict(dict)
    for (meter, due), values in shown.items():
        grouped[meter][due] = values
    return grouped


def shown_by(follower):
    """(meter, due) → values, as the stream showed them."""
    shown = {}
    for event, data, _ in follower.taken():
        if event == "readings" and data["items"] and data["items"][0]["source"] == "scheduled":
            shown[(data["meter_id"], data["items"][0]["due_at"])] = {
                item["quantity"]: item["value"] for item in data["items"]}
    return shown


def arguments():
    parser = argparse.ArgumentParser()
    for name, default in (("kills", 3), ("crashes", 2), ("outage", 12), ("hang", 8), ("full", 0), ("fill", 0), ("dtus", 12),
                          ("meters", 3), ("field-dtus", 12), ("units", 2), ("every", 4), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--small-disk", action="store_true", help="the spool on a 64 MB file system of its own")
    parser.add_argument("--gap", type=float, nargs=2, default=(3.0, 7.0), help="seconds between events, at random")
    args = parser.parse_args()
    if 60 % args.every:
        parser.error("--every has to divide 60")
    return args


def work(args, folder, head, database, disk):
    head.start()
    client = head.admin("drill@example.org", "Drill")
    fleet = Fleet(head, client, args)
    follower = Follower(client, "readings")
    try:
        fleet.build()
        drill = Drill(args, head, database, disk, fleet)
        begun = utc()
        follower.start()
        drill.run()
        time.sleep(WINDOW_S + 4)
        until = utc() - timedelta(seconds=WINDOW_S + 4)
        follower.ended.set()
        drill.drained()
        fleet.end()
        verdict = drill.judge(follower, begun, until)
    finally:
        fleet.end()
    log = (folder / "server.log").read_bytes()
    if drill.faults:
        # what the server said of it, for whoever looks into the faults
        kept = Path(tempfile.gettempdir()) / f"drill-{os.getpid()}.log"
        kept.write_bytes(log)
        print(f"the server's log: {kept}", file=sys.stderr)
    return drill, {
        "events": dict(drill.done), "meters": len(fleet.meters), "seconds": round((until - begun).total_seconds()), **verdict,
        "writes_without_database": dict(drill.refusals), "health_without_database": dict(drill.reasons),
        "drains": drill.drains, "verdict_retried": drill.retried[:5], "ready_again_s": drill.ready_s, "panics": log.count(b"panicked at"),
        "field": dict(fleet.counters)}


def main():
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="polyphase-drill-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        (folder / "pg").mkdir()
        (folder / "data" / "spool").mkdir(parents=True)
        disk = SmallDisk(folder, folder / "data" / "spool") if args.small_disk else None
        database = Cluster(folder / "pg")
        head = HeadEnd(folder, models=Path(__file__).resolve().parent / "models", extra=f"""
[database]
url = "{database.url()}"
[limits]
{f"spool_segment_bytes = {SEGMENT_BYTES}" if disk else ""}
""")
        try:
            database.start()
            where = database.small_disk(folder / "pgdisk") if args.full else ""
            database.sql(f"CREATE DATABASE drill {where}", database="postgres")
            drill, report = work(args, folder, head, database, disk)
        except BaseException:
            print(head.tail(8000), file=sys.stderr)
            raise
        finally:
            head.stop()
            database.stop()
            if database.disk:
                database.disk.remove()
            if disk:
                report_disk = disk.kind
                disk.remove()
    if disk:
        report["spool_disk"] = report_disk
    print(json.dumps(report, indent=1))
    for line in drill.faults[:20]:
        print(line, file=sys.stderr)
    if len(drill.faults) > 20:
        print(f"… {len(drill.faults)} faults", file=sys.stderr)
    enough = report["shown"] > 0 and report["identities_judged"] > 0 and report["actual"] > report["due"] // 5
    if not enough:
        print("too little came for a verdict", file=sys.stderr)
    zero = ("lost", "doubled", "misattributed", "open", "no_ending", "panics")
    sys.exit(1 if drill.faults or not enough or any(report[name] for name in zero) else 0)


if __name__ == "__main__":
    os.environ.setdefault("POLYPHASE__LOG__FILTER", "info,sqlx=warn")
    threading.excepthook = lambda hook: None if isinstance(hook.exc_value, OSError) else threading.__excepthook__(hook)
    main()
