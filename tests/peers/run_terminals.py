"""Terminals of DL/T 698.45 behind a real server, seen from outside. One is independent (PyPI dlt698): it logs in, is told
that it is known, its heartbeats are answered, and the meter behind it is read on schedule: each value must be what it was
given, and no other. The others are virtual, with many meters each, over a network that splits and joins their frames: each
slot of each meter ends once and `actual`, each value is its own meter's (a read of that meter alone says the same), a meter
that no terminal has spoils nobody else's, and the questions are hardly more than there have to be. The archive of one
terminal is read by a scan, its meters are adopted, and then it is the same on both sides. What the independent one reports of its own
accord, events and a freeze, is confirmed as it wants it, and is there then, once. Exit 1 on any
fault; prints a JSON report.

usage: run_terminals.py [--terminals N] [--meters N] [--rounds N] [--every SECONDS] [--limit SECONDS] [--seed N]
--every: a divisor of a minute, or a divisor of an hour in whole minutes.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from headend import PROGRAM, HeadEnd
from run_concentrators import instant, metric, slots, wait
from run_dlt698 import SHOWN

QUANTITIES = ["active_energy_import"] + [f"active_energy_import_t{tariff}" for tariff in range(1, 5)]
MODEL = "dlt698_three_phase"
PEER, PEER_METER = "112233445566", "202611210001"
#: meters that one question asks for
AT_ONCE = 16
#: no terminal here has such a meter
NOBODY = 9999999


def field(head, folder, options):
    return subprocess.Popen(
        [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--concentrators", str(options.terminals),
         "--concentrator-kind", "dlt698.45", "--meters", str(options.meters), "--heartbeat-s", "20",
         "--seed", str(options.seed), "--split", "0.2", "--glue", "0.2"],
        stdout=subprocess.DEVNULL, stderr=open(f"{folder}/simulate.log", "ab"), start_new_session=True)


def peer(head):
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("dlt698_peer.py"), "terminal", str(head.device)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def adopted(api, line, expected, options):
    """The archive of a terminal read by a scan, its meters adopted, and both sides compared; meters by address, and faults."""
    scan = api.post(f"/api/v1/dtus/{line}/scan", {})["id"]
    ended = lambda: (view := api.get(f"/api/v1/scans/{scan}"))["state"] != "running" and view
    view = wait("the end of the scan", options.limit, ended)
    faults = [] if view["state"] == "done" and not view["notes"] else [f"the scan: {view['state']} {view['notes']}"]
    found = {item["address"]: item for item in view["found"]}
    if set(found) != set(expected):
        faults.append(f"the archive has {sorted(found)}, not {sorted(expected)}")
    if any(item["model"] != MODEL or not item["values"] for item in found.values()):
        faults.append(f"a meter without model or values: {list(found.values())[:3]}")
    made = api.post(f"/api/v1/scans/{scan}/meters", {})
    # what was read is kept after the scan says that it is done
    kept = lambda: (both := api.get(f"/api/v1/dtus/{line}/archive"))["read_at"] and both
    both = wait("the archive kept", 60, kept)
    if made["left_out"] or both["same"] != len(expected) or both["only_here"] or both["only_there"] or both["different"]:
        faults.append(f"left out {made['left_out']}; the archives: {both}")
    mesh = api.all(f"/api/v1/dtus/{line}/mesh")
    ours = {meter["address"]: meter["id"] for meter in made["meters"]}
    if {place["meter_address"]: place["meter_id"] for place in mesh} != ours:
        faults.append(f"the mesh does not show whose meters they are: {mesh[:3]}")
    return ours, faults


def furnish(api, options, faults):
    """The terminals claimed, and their meters made or adopted; by meter its terminal and number."""
    names = [PEER] + [f"4403{number:08}" for number in range(1, options.terminals + 1)]
    seen = lambda: {entry["sn"] for entry in api.get("/api/v1/quarantine")["items"]} >= set(names)
    wait("the terminals in quarantine", options.limit, seen)
    meters, lines = {}, []
    for name in names:
        line = api.post(f"/api/v1/quarantine/{name}/claim", {"name": name})["id"]
        lines.append(line)
        wait("the terminal online", 60, lambda: api.get(f"/api/v1/dtus/{line}")["online"])
        of_line = [PEER_METER]
        if name == names[-1] and name != names[1]:
            numbers = range(1, options.meters + 1)
            ours, more = adopted(api, line, [f"{int(name[4:]):05}{number:07}" for number in numbers], options)
            meters.update({meter: (name, address) for address, meter in ours.items()})
            faults += more
            continue
        if name != PEER:
            numbers = [*range(1, options.meters + 1)] + ([NOBODY] if name == names[1] else [])
            of_line = [f"{int(name[4:]):05}{number:07}" for number in numbers]
        for address in of_line:
            meter = api.post("/api/v1/meters", {
                "dtu_id": line, "protocol": "dlt698.45", "address": address, "model": MODEL,
                "name": f"{name} {address}"})["id"]
            meters[meter] = (name, address)
    return lines, meters


def is_nobody(place):
    return place[1].endswith(f"{NOBODY:07}")


def scheduled(api, lines, options):
    """Energies of all of them; everything of the independent one. From when on the slots are looked at."""
    minutes, seconds = divmod(options.every, 60)
    cron = f"0 */{minutes} * * * *" if minutes > 1 else "0 * * * * *" if minutes else f"*/{seconds} * * * * *"
    for place, line in enumerate(lines):
        wanted = [row[0] for row in SHOWN] if place == 0 else QUANTITIES
        schedule = api.post("/api/v1/schedules", {
            "name": f"often {place}", "cron": cron, "time_zone": "UTC", "spread_s": 0, "quantities": wanted,
            "window_s": options.every - 1,
            "retry": {"attempts": 2, "backoff_s": 2, "deadline_s": options.every - 1}})["id"]
        api.call("PATCH", f"/api/v1/dtus/{line}", {"schedule": schedule}, headers={"If-Match": "*"})
    # the first slot behind the assignment may be missed or not; its reads ask for clocks, too
    periods = int(datetime.now(timezone.utc).timestamp()) // options.every
    return datetime.fromtimestamp((periods + 2) * options.every, timezone.utc)


def judge_slots(found, meters, options):
    faults, states, ended = [], Counter(), Counter()
    for slot in found:
        nobody = is_nobody(meters[slot["meter_id"]])
        states["nobody" if nobody else slot["state"]] += 1
        ended[(slot["meter_id"], slot["due_at"])] += 1
        right = slot["state"] == "missing" if nobody else slot["state"] == "actual"
        if not right and len(faults) < 20:
            faults.append(f"{meters[slot['meter_id']]}: {slot}")
    if any(count != 1 for count in ended.values()):
        faults.append("a slot has more than one ending")
    if len(ended) != len(meters) * options.rounds:
        faults.append(f"{len(ended)} slots; {len(meters)} meters times {options.rounds} rounds are due")
    return faults, states


def judge_values(api, meters, begin, end):
    """The independent meter's values are what it was given; the others' are their own."""
    faults, values = [], {}
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    for meter, place in meters.items():
        if is_nobody(place):
            continue
        by_due = {}
        for item in api.all(f"/api/v1/meters/{meter}/readings", **span):
            by_due.setdefault(item["due_at"], {})[item["quantity"]] = item
        for due, read in by_due.items():
            if place[0] == PEER:
                for quantity, value, unit, obis in SHOWN:
                    item = read.get(quantity, {})
                    if (item.get("unit"), item.get("obis"), item.get("quality")) != (unit, obis, "measured") \
                            or Decimal(item["value"]) != Decimal(value):
                        faults.append(f"{place} {due} {quantity}: {item}, expected {value} {unit}")
                continue
            if not all(name in read for name in QUANTITIES):
                faults.append(f"{place} {due}: only {sorted(read)}")
                continue
            total, *tariffs = [Decimal(read[name]["value"]) for name in QUANTITIES]
            # two tariffs that share the whole, each rounded
            if abs(sum(tariffs) - total) > Decimal("0.02"):
                faults.append(f"{place} {due}: {tariffs} are not {total}")
            item = read[QUANTITIES[0]]
            if item["quality"] != "measured" or item["source"] != "scheduled":
                faults.append(f"{place} {due}: {item}")
            values[meter] = total
    return faults, values


def judge_owners(api, meters, values):
    """One meter alone, some of each terminal: nobody else can have answered."""
    faults = []
    for meter, (name, address) in meters.items():
        if meter not in values or int(address[5:]) % 30 not in (1, 8, 9):
            continue
        read = api.post(f"/api/v1/meters/{meter}/read?wait_s=60", {"quantities": QUANTITIES[:1]})["items"][0]
        grown = Decimal(read["value"]) - values[meter]
        # at most some kilowatts for the minutes between
        if not 0 <= grown < 2:
            faults.append(f"{name} {address}: {values[meter]} by schedule and {read['value']} alone")
    if len(set(values.values())) < len(values) * 0.99:
        faults.append("meters share their values")
    return faults


def heartbeats(terminal, report, faults):
    """The independent terminal is content with what it is answered."""
    for command in ("heartbeat", "heartbeat"):
        terminal.stdin.write(command + "\n")
        terminal.stdin.flush()
        said = terminal.stdout.readline().strip()
        report.setdefault("heartbeats", []).append(said)
        if said != "done":
            faults.append(f"the answer to a heartbeat: {said}")


def reports(api, line, meters, terminal, report, faults):
    """What the independent terminal reports is there when it is content, and once."""
    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    # the second brings the records of the first again
    for command in (f"events {PEER_METER} 3", f"events {PEER_METER} 30", f"freeze {PEER_METER} {midnight:%Y-%m-%d} 987.65"):
        terminal.stdin.write(command + "\n")
        terminal.stdin.flush()
        said = terminal.stdout.readline().strip()
        report.setdefault("reports", []).append(said)
        if said != "done":
            faults.append(f"the confirmation of {command}: {said}")
    events = list(api.all(f"/api/v1/dtus/{line}/events"))
    numbers = sorted(event["detail"]["number"] for event in events)
    if numbers != list(range(30)) or {event["detail"]["device"] for event in events} != {PEER_METER}:
        faults.append(f"events {numbers}: {events[:2]}")
    meter = next(meter for meter, place in meters.items() if place[0] == PEER)
    span = {"from": (midnight - timedelta(seconds=1)).isoformat(), "to": (midnight + timedelta(days=1)).isoformat()}

    def stored():
        pushed = [item for item in api.all(f"/api/v1/meters/{meter}/readings", **span) if item["source"] == "pushed"]
        return {item["quantity"]: (item["value"], item["meter_time"]) for item in pushed}

    # durable is not yet shown
    found = wait("the freeze", 60, stored)
    value, at = found.get(QUANTITIES[0], ("0", ""))
    if Decimal(value) != Decimal("987.65") or not at.startswith(f"{midnight:%Y-%m-%dT00:00:00}"):
        faults.append(f"the freeze of {midnight}: {found}")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--terminals", type=int, default=2)
    options.add_argument("--meters", type=int, default=60)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--every", type=int, default=60)
    options.add_argument("--limit", type=float, default=300)
    options.add_argument("--seed", type=int, default=7)
    options = options.parse_args()
    report, faults = {}, []
    with tempfile.TemporaryDirectory(prefix="polyphase-terminals-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n')
        fleet = terminal = None
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            fleet, terminal = field(head, folder, options), peer(head)
            lines, meters = furnish(api, options, faults)
            heartbeats(terminal, report, faults)
            begin = scheduled(api, lines, options)
            end = begin + timedelta(seconds=options.every * options.rounds)
            time.sleep(max(0, (begin - datetime.now(timezone.utc)).total_seconds() - 1))
            before = metric(head, "polyphase_concentrator_frames_total")
            time.sleep(max(0, (end - datetime.now(timezone.utc)).total_seconds() - 1))
            frames = metric(head, "polyphase_concentrator_frames_total") - before
            all_ended = lambda: (found := slots(api, begin, end)) and not any(s["state"] == "open" for s in found) and found
            found = wait("an ending of every slot", options.limit, all_ended, 2)
            more, states = judge_slots(found, meters, options)
            faults += more
            more, values = judge_values(api, meters, begin, end)
            faults += more + judge_owners(api, meters, values)
            heartbeats(terminal, report, faults)
            reports(api, lines[0], meters, terminal, report, faults)
            least = options.rounds * (1 + options.terminals * math.ceil(options.meters / AT_ONCE))
            report |= {"meters": len(meters), "slots": dict(states), "frames": frames, "least": least,
                       "logins": metric(head, "polyphase_terminal_logins_total")}
            # the meter that nobody has may make one more of its terminal's questions, and is tried again
            retried = 6 * options.rounds
            if not least <= frames <= 1.2 * least + retried:
                faults.append(f"{frames} frames; {least} are the least, {retried} go to the meter that nobody has")
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            for process in (fleet,):
                if process and process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    process.wait(30)
            if terminal:
                terminal.stdin.close()
                terminal.wait(30)
            head.stop()
    report["faults"] = faults[:40]
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
