"""Virtual concentrators of Q/GDW 1376.1 behind a real server, seen from outside: they log in and wait in quarantine, are
claimed, their archives are read, compared and adopted, and every measuring point is an ordinary meter on an ordinary
schedule. Judged: each slot of each meter ends once and `actual`; each value is its own point's (a read of that point alone says the same), the tariffs add up, the time is the
concentrator's own; a point that the concentrator does not have is refused by name and spoils nobody else's. Read are, as an hourly schedule
would, the energy with its tariffs and the present currents and power; and once, with the concentrators away when it was due, the
daily freeze of energy and tariffs out of their memories. The frames that a meter costs on a day of 24 such rounds and one such
freeze are hardly more than there have to be. Exit 1 on any fault; prints a JSON report.

usage: run_concentrators.py [--concentrators N] [--points N] [--rounds N] [--every SECONDS] [--limit SECONDS] [--seed N]
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
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from headend import PROGRAM, HeadEnd, Problem

ENERGIES = ["active_energy_import"] + [f"active_energy_import_t{tariff}" for tariff in range(1, 5)]
QUANTITIES = ENERGIES + ["current_l1", "active_power_total"]
MODEL = "gdw376_single_phase"
#: eight neighbours share an identifier of four bytes; F129 with four tariffs: when, number of tariffs, five registers;
#: F25: when, four powers, four reactive ones, four factors, three voltages, four currents, four apparent powers
POINT_BYTES, ANSWER_BYTES = (0.5 + 5 + 1 + 5 * 5) + (0.5 + 5 + 12 + 12 + 8 + 6 + 12 + 12), 4096
#: F161 with four tariffs: of which day, when, number of tariffs, five registers
FREEZE_BYTES = 0.5 + 3 + 5 + 1 + 5 * 5
#: hourly rounds of a day
ROUNDS_OF_A_DAY = 24
#: how soon behind its making the daily slot is due, and how long it may be read
LEAD_S, WINDOW_S = 20, 10
#: at once, from here
HANDS = 8
#: concentrators whose archives are adopted; rows of a file
SCANNED, FILE_ROWS = 6, 15_000
#: no concentrator here has so many points
NOBODY = 2000


def wait(what, limit, until, every=0.5):
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        found = until()
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"not within {limit} s: {what}")


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def metric(head, name):
    with urllib.request.urlopen(head.base + "/metrics", timeout=30) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line.split(" ")[0].split("{")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def field(head, folder, options):
    return subprocess.Popen(
        [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--concentrators", str(options.concentrators),
         "--meters", str(options.points), "--heartbeat-s", "20", "--seed", str(options.seed), "--split", "0.2",
         "--glue", "0.2", "--events", "0.1"],
        stdout=subprocess.DEVNULL, stderr=open(f"{folder}/simulate.log", "ab"), start_new_session=True)


def archive(api, line, options):
    """The archive of a concentrator, read to its end."""
    scan = api.post(f"/api/v1/dtus/{line}/scan", {})["id"]
    view = lambda: (found := api.get(f"/api/v1/scans/{scan}"))["state"] != "running" and found
    return wait("the archive", options.limit, view)


def judge_archive(view, name, options, known, absent):
    """Every point with its meter's address, what it shows and how it is reached; which are meters and which are not."""
    faults = []
    found = {item["address"]: item for item in view["found"]}
    if view["state"] != "done" or set(found) != {str(point) for point in range(1, options.points + 1)}:
        return [f"{name}: the archive is {view['state']} with {sorted(found)[:5]} … {len(found)}: {view['reason']}"]
    terminal = int(name.split("-")[1])
    for address, item in found.items():
        place, values = item["archive"], {value["quantity"]: value["value"] for value in item["values"]}
        right = place["place"] == int(address) and place["meter_address"] == f"{terminal:05}{int(address):07}"
        if not right or item["model"] != "gdw376_three_phase" or "active_energy_import" not in values:
            faults.append(f"{name} p{address}: {item}")
        if not place["route"] or place["route"]["relays"] != min(int(address) // 100, 5):
            faults.append(f"{name} p{address}: reached by {place['route']}")
        if (item["meter_id"] is not None) != known:
            faults.append(f"{name} p{address} is meter {item['meter_id']}")
    if view["absent"] != absent:
        faults.append(f"{name}: {view['absent']} are not in the archive, {absent} should be")
    return faults[:10]


def judge_mesh(api, line, view, name, options, adopted):
    """What the archive said of each place is kept, with the meters that were made of them."""
    mesh = lambda: (kept := list(api.all(f"/api/v1/dtus/{line}/mesh"))) and len(kept) == options.points and kept
    kept = {str(item["point"]): item for item in wait("the mesh", options.limit, mesh)}
    meters = {meter["address"]: meter["id"] for meter in adopted}
    faults = []
    for item in view["found"]:
        place = kept[item["address"]]
        said = {field: place[field] for field in item["archive"]}
        if said != item["archive"] or place["meter_id"] != meters[item["address"]] or not place["read_at"]:
            faults.append(f"{name} p{item['address']}: the mesh says {place}")
    return faults[:10]


def judge_writing(api, line, name, options):
    """The archive as we want it differs in a meter's address, a port that the concentrator does not have, a place more and a
    place less: all of it is written but what is denied, which is named, and the comparison says the same."""
    path = f"/api/v1/dtus/{line}/archive"
    before = api.get(path)
    if before["same"] != options.points or before["only_there"] or before["only_here"] or before["different"]:
        return [f"{name}: adopted and not the same: {before}"]
    terminal = int(name.split("-")[1])
    entry = lambda point: {"point": point, "meter_address": f"{terminal:05}{point:07}"}
    wanted = [entry(point) for point in range(1, options.points)] + [entry(options.points + 7)]
    wanted[1]["meter_address"], wanted[2]["port"] = "000000424242", 9
    compared = api.call("PUT", path, {"meters": wanted})
    scan = api.post(path, {"remove": True})["id"]
    view = wait("the archive written", options.limit,
                lambda: (found := api.get(f"/api/v1/scans/{scan}"))["state"] != "running" and found)
    became = {place["point"]: (place["outcome"], place["removed"]) for place in view["written"]}
    right = {2: ("written", False), 3: ("denied", False), options.points: ("written", True), options.points + 7: ("written", False)}
    faults = [] if became == right else [f"{name}: written {view['written']}, {right} should be; {view['reason']}"]
    after = wait("the mesh read back", options.limit, lambda: (found := api.get(path))["read_at"] != compared["read_at"] and found)
    different = [pair["fields"] for pair in after["different"]]
    if after["same"] != options.points - 1 or different != [["port"]] or after["only_here"] or after["only_there"]:
        faults.append(f"{name}: after writing {after}")
    # as it was, for what is read later
    api.call("PUT", path, {"meters": [entry(point) for point in range(1, options.points + 1)]})
    scan = api.post(path, {"remove": True})["id"]
    wait("the archive as it was", options.limit, lambda: api.get(f"/api/v1/scans/{scan}")["state"] == "done")
    restored = wait("the comparison", options.limit, lambda: (found := api.get(path))["same"] == options.points and found)
    if restored["different"] or restored["only_here"] or restored["only_there"]:
        faults.append(f"{name}: not as it was: {restored}")
    return faults


def furnish(api, options):
    """The concentrators claimed and their points as meters: those of the first by hand, with one that nobody has, those of
    some more out of their archives, the others by files. By meter: its concentrator and point."""
    names = [f"4403-{number:05}" for number in range(1, options.concentrators + 1)]
    seen = lambda: {entry["sn"] for entry in api.all("/api/v1/quarantine")} >= set(names)
    wait("the concentrators in quarantine", options.limit, seen)

    def furnished(name):
        meters, faults = {}, []
        line = api.post(f"/api/v1/quarantine/{name}/claim", {"name": name})["id"]
        wait("the concentrator online", 60, lambda: api.get(f"/api/v1/dtus/{line}")["online"])
        if name != names[0]:
            view = archive(api, line, options)
            faults += judge_archive(view, name, options, known=False, absent=[])
            adopted = api.post(f"/api/v1/scans/{view['id']}/meters", {})
            meters |= {meter["id"]: (name, int(meter["address"])) for meter in adopted["meters"]}
            faults += judge_mesh(api, line, view, name, options, adopted["meters"])
            if name == names[1]:
                faults += judge_writing(api, line, name, options)
            return line, meters, faults
        for point in [*range(1, options.points + 1), NOBODY]:
            meter = api.post("/api/v1/meters", {
                "dtu_id": line, "protocol": "gdw376.1", "address": str(point), "model": MODEL,
                "name": f"{name} p{point}"})["id"]
            meters[meter] = (name, point)
        nobody = [meter for meter, (_, point) in meters.items() if point == NOBODY]
        faults += judge_archive(archive(api, line, options), name, options, known=True, absent=nobody)
        return line, meters, faults

    lines, meters, faults = [], {}, []
    for name in names[:SCANNED]:
        line, found, bad = furnished(name)
        lines.append(line)
        meters |= found
        faults += bad
        progress(f"{name} furnished")
    rest = {api.post(f"/api/v1/quarantine/{name}/claim", {"name": name})["id"]: name for name in names[SCANNED:]}
    lines += rest
    for begin in range(SCANNED, len(names), FILE_ROWS // options.points):
        of_file = names[begin:begin + FILE_ROWS // options.points]
        imported(api, of_file, options)
        progress(f"{of_file[0]} to {of_file[-1]} imported")
    for meter in api.all("/api/v1/meters"):
        if meter["dtu_id"] in rest:
            meters[meter["id"]] = (rest[meter["dtu_id"]], int(meter["address"]))
    if len(meters) != options.points * len(names) + 1:
        faults.append(f"{len(meters)} meters")
    return lines, meters, faults


def imported(api, names, options):
    """The points of some concentrators as meters, by a file."""
    rows = [f"{name},gdw376.1,{point},{MODEL},{name} p{point}" for name in names for point in range(1, options.points + 1)]
    text = "\n".join(["dtu_sn,protocol,address,model,name", *rows]).encode()
    request = urllib.request.Request(f"{api.base}/api/v1/imports?kind=meters", data=text, method="POST")
    request.add_header("Authorization", f"Bearer {api.key}")
    request.add_header("Content-Type", "text/csv")
    with urllib.request.urlopen(request, timeout=90) as answer:
        job = json.loads(answer.read())["id"]
    view = wait("an import", options.limit, lambda: (found := api.get(f"/api/v1/imports/{job}"))["state"] not in (
        "waiting", "running") and found, 1)
    if view["state"] != "done" or view["made"] != len(rows):
        raise RuntimeError(f"the import came to {view}")


def progress(text):
    print(datetime.now(timezone.utc).strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def scheduled(api, lines, options):
    """A schedule for all of them; from when on its slots are looked at."""
    minutes, seconds = divmod(options.every, 60)
    cron = f"0 */{minutes} * * * *" if minutes > 1 else "0 * * * * *" if minutes else f"*/{seconds} * * * * *"
    schedule = api.post("/api/v1/schedules", {
        "name": "often", "cron": cron, "time_zone": "UTC", "spread_s": options.every // 5,
        "quantities": QUANTITIES, "window_s": options.every - 1,
        "retry": {"attempts": 2, "backoff_s": 2, "deadline_s": options.every - 1}})["id"]
    for line in lines:
        api.call("PATCH", f"/api/v1/dtus/{line}", {"schedule": schedule}, headers={"If-Match": "*"})
    # the first slot behind the assignment may be missed or not; its reads ask for clocks, too
    periods = int(datetime.now(timezone.utc).timestamp()) // options.every
    return datetime.fromtimestamp((periods + 2) * options.every, timezone.utc)


def slots(api, begin, end):
    span = {"from": begin.isoformat(), "to": end.isoformat()}
    return [slot for slot in api.all("/api/v1/slots", **span) if begin <= instant(slot["due_at"]) < end]


def judge_slots(found, meters, options):
    faults, states = [], Counter()
    ended = Counter()
    for slot in found:
        nobody = meters[slot["meter_id"]][1] == NOBODY
        states["nobody" if nobody else slot["state"]] += 1
        ended[(slot["meter_id"], slot["due_at"])] += 1
        right = ("missing", "exception") if nobody else ("actual", None)
        if (slot["state"], slot["reason"]) != right and len(faults) < 20:
            faults.append(f"{meters[slot['meter_id']]}: {slot}")
    if any(count != 1 for count in ended.values()):
        faults.append("a slot has more than one ending")
    if len(ended) != len(meters) * options.rounds:
        faults.append(f"{len(ended)} slots; {len(meters)} meters times {options.rounds} rounds are due")
    return faults, states


def each_of(judge, meters):
    """The faults of every meter, some at once, and what else is found of each."""
    faults, found = [], {}
    with ThreadPoolExecutor(HANDS) as hands:
        for meter, (bad, value) in zip(meters, hands.map(judge, meters)):
            faults += bad
            if value is not None:
                found[meter] = value
    return faults, found


def judge_values(api, meters, begin, end):
    """Of each meter: the tariffs add up, the currents are there, the time is the concentrator's."""
    span = {"from": begin.isoformat(), "to": end.isoformat()}

    def judge(meter):
        place, faults, value = meters[meter], [], None
        by_due = {}
        for item in api.all(f"/api/v1/meters/{meter}/readings", **span):
            by_due.setdefault(item["due_at"], {})[item["quantity"]] = item
        for due, read in by_due.items():
            if not all(name in read for name in QUANTITIES):
                faults.append(f"{place} {due}: only {sorted(read)}")
                continue
            total, *tariffs = [Decimal(read[name]["value"]) for name in ENERGIES]
            if sum(tariffs) != total:
                faults.append(f"{place} {due}: {tariffs} are not {total}")
            item = read[QUANTITIES[0]]
            said, at = item["meter_time"], instant(item["read_at"])
            quarter = at - timedelta(minutes=at.minute % 15, seconds=at.second, microseconds=at.microsecond)
            if not said or abs(instant(said) - quarter) > timedelta(minutes=15):
                faults.append(f"{place} {due}: of {said}, read {item['read_at']}")
            if item["quality"] != "measured" or item["source"] != "scheduled":
                faults.append(f"{place} {due}: {item}")
            value = total
        return faults, value

    return each_of(judge, [meter for meter, (_, point) in meters.items() if point != NOBODY])


def judge_owners(api, meters, values):
    """One point alone, some of each concentrator: nobody else can have answered."""

    def judge(meter):
        name, point = meters[meter]
        read = api.post(f"/api/v1/meters/{meter}/read?wait_s=60", {"quantities": QUANTITIES[:1]})["items"][0]
        grown = Decimal(read["value"]) - values[meter]
        # at most some kilowatts for the quarter hours between
        wrong = not 0 <= grown < 5
        return [f"{name} p{point}: {values[meter]} by schedule and {read['value']} alone"] if wrong else [], None

    few = 40 if len(meters) < 10_000 else 160
    faults, _ = each_of(judge, [meter for meter in values if meters[meter][1] % few in (1, 8, 9)])
    if len(set(values.values())) < len(values) * 0.99:
        faults.append("points share their values")
    return faults


def relay_moved(api, meters):
    """The relay of one meter behind a concentrator: off, read back from the meter itself, allowed to close, on. What nobody
    placed cannot be commanded."""
    faults = []
    by_place = {place: meter for meter, place in meters.items()}
    placed = next((by_place[(name, 5)] for name, point in by_place if point == 5 and not name.endswith("-00001")), None)
    if placed is None:
        return faults

    def commanded(meter, action):
        command = api.post(f"/api/v1/meters/{meter}/commands", {"action": action, "expires_in_s": 120, "reason": "drill"})
        ended = lambda: (found := api.get(f"/api/v1/commands/{command['id']}"))["state"] in (
            "confirmed", "failed", "expired", "rejected", "cancelled") and found
        return wait(f"the end of {action}", 200, ended)

    for action, wanted in (("disconnect", "relay open"), ("arm", "closing allowed"), ("reconnect", "relay closed")):
        view = commanded(placed, action)
        if view["state"] != "confirmed" or wanted not in view["outcome"]["read_back"]:
            faults.append(f"{action} behind a concentrator: {view}")
    try:
        faults.append(f"a meter in no archive was commanded: {commanded(by_place[('4403-00001', NOBODY)], 'disconnect')}")
    except Problem as problem:
        if "does not name one meter" not in str(problem):
            faults.append(f"a meter in no archive: {problem}")
    return faults


def frozen(head, api, lines, meters, values, fleets, options):
    """The daily slot is due while no concentrator is there: every one ends as missing, then as late by the freeze of its day's
    midnight. Faults, and the frames that the freezes cost; the new fleet is the last of the fleets."""
    faults = []
    due = (datetime.now(timezone.utc) + timedelta(seconds=LEAD_S + options.concentrators // 2)).replace(microsecond=0)
    midnight = due.replace(hour=0, minute=0, second=0)
    schedule = api.post("/api/v1/schedules", {
        "name": "daily", "cron": f"{due.second} {due.minute} {due.hour} * * *", "time_zone": "UTC", "spread_s": 0,
        "quantities": ENERGIES, "window_s": WINDOW_S,
        "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": WINDOW_S}, "missed_run": "all"})["id"]
    fleets[-1].send_signal(signal.SIGTERM)
    fleets[-1].wait(30)
    with ThreadPoolExecutor(HANDS) as hands:
        assign = lambda line: api.call("PATCH", f"/api/v1/dtus/{line}", {"schedule": schedule}, headers={"If-Match": "*"})
        list(hands.map(assign, lines))
    away = lambda: not any(line["online"] for line in api.all("/api/v1/dtus"))
    wait("the concentrators away", 60, away)
    if datetime.now(timezone.utc) >= due:
        raise RuntimeError("the schedule was not assigned in time; give the host more of it")
    day = lambda: slots(api, due, due + timedelta(seconds=1))
    time.sleep(max(0, (due - datetime.now(timezone.utc)).total_seconds() + WINDOW_S))
    ended = lambda state: lambda: (found := day()) and len(found) == len(meters) and not any(
        slot["state"] != state and meters[slot["meter_id"]][1] != NOBODY for slot in found) and found
    missed = wait("an ending of every daily slot", options.limit, ended("missing"), 5)
    reasons = Counter(slot["reason"] for slot in missed)
    if set(reasons) != {"dtu_offline"}:
        faults.append(f"nobody was there and the slots ended as {reasons}")
    before = metric(head, "polyphase_concentrator_frames_total")
    fleets.append(field(head, options.folder, options))
    try:
        wait("every daily slot filled", options.limit, ended("late"), 5)
    except RuntimeError:
        faults.append(f"not every freeze came: {Counter((slot['state'], slot['reason']) for slot in day())}")
    frames = metric(head, "polyphase_concentrator_frames_total") - before

    def judge(meter):
        span = {"from": (midnight - timedelta(hours=1)).isoformat(), "to": datetime.now(timezone.utc).isoformat()}
        read = {item["quantity"]: item for item in api.all(f"/api/v1/meters/{meter}/readings", **span)
                if item["source"] == "back_fill"}
        if set(read) != set(ENERGIES):
            return [f"{meters[meter]} froze {sorted(read)}"], None
        total, *tariffs = [Decimal(read[name]["value"]) for name in ENERGIES]
        first = read[ENERGIES[0]]
        grown = values[meter] - total
        right = sum(tariffs) == total and instant(first["meter_time"]) == midnight and 0 <= grown < 24 * 20
        return ([] if right else [f"{meters[meter]} froze {total} of {tariffs}, {values[meter]} later: {first}"]), total

    bad, totals = each_of(judge, list(values))
    if len(totals) == len(values) and len(set(totals.values())) < len(totals) * 0.99:
        faults.append("points share their freezes")
    return faults + bad, frames


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--concentrators", type=int, default=3)
    options.add_argument("--points", type=int, default=120)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--every", type=int, default=30)
    options.add_argument("--limit", type=float, default=300)
    options.add_argument("--seed", type=int, default=7)
    options = options.parse_args()
    report, faults = {}, []
    with tempfile.TemporaryDirectory(prefix="polyphase-concentrators-") as folder:
        os.chmod(folder, 0o755)
        options.folder = folder
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n')
        fleets = []
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            fleets.append(field(head, folder, options))
            lines, meters, of_archives = furnish(api, options)
            begin = scheduled(api, lines, options)
            progress(f"rounds from {begin} on")
            end = begin + timedelta(seconds=options.every * options.rounds)
            time.sleep(max(0, (begin - datetime.now(timezone.utc)).total_seconds() - 1))
            before = metric(head, "polyphase_concentrator_frames_total")
            time.sleep(max(0, (end - datetime.now(timezone.utc)).total_seconds() - 1))
            frames = metric(head, "polyphase_concentrator_frames_total") - before
            all_ended = lambda: (found := slots(api, begin, end)) and not any(s["state"] == "open" for s in found) and found
            found = wait("an ending of every slot", options.limit, all_ended, 2 + len(meters) // 5000)
            faults, states = judge_slots(found, meters, options)
            progress(f"{dict(states)} in {frames} frames")
            faults += of_archives
            more, values = judge_values(api, meters, begin, end)
            faults += more + judge_owners(api, meters, values) + relay_moved(api, meters)
            each = math.ceil(options.points * POINT_BYTES / ANSWER_BYTES)
            least = each * options.concentrators * options.rounds
            # whose point nobody has is tried again, alone, within its window, ever more seldom: both items, then each
            retried = 3 * (1 + math.ceil(math.log2(options.every / 2))) * options.rounds
            if not least <= frames <= 1.2 * least + retried:
                faults.append(f"{frames} frames; {least} are the least, {retried} go to the point that nobody has")
            progress(f"values judged: {faults[:3]}")
            of_freezes, freezing = frozen(head, api, lines, meters, values, fleets, options)
            faults += of_freezes
            least_freezing = math.ceil(options.points * FREEZE_BYTES / ANSWER_BYTES) * options.concentrators
            asked = options.points * options.concentrators
            of_a_day = lambda rounds, freezes: (ROUNDS_OF_A_DAY * rounds / options.rounds + freezes) / asked
            daily, least_daily = of_a_day(frames, freezing), of_a_day(least, least_freezing)
            if freezing < least_freezing or daily > 1.2 * least_daily + of_a_day(retried, retried / options.rounds):
                faults.append(f"{daily} frames a meter and day, {freezing} for the freezes; {least_daily} and {least_freezing} "
                              "are the least")
            report = {"meters": len(meters), "slots": dict(states), "frames": frames, "least": least,
                      "frames_of_freezes": freezing, "least_of_freezes": least_freezing,
                      "frames_a_meter_and_day": round(daily, 4), "least_a_meter_and_day": round(least_daily, 4),
                      "unfit": metric(head, "polyphase_concentrator_unfit_frames_total"),
                      "events": metric(head, "polyphase_concentrator_events_total")}
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            for fleet in fleets:
                if fleet.poll() is None:
                    fleet.send_signal(signal.SIGTERM)
                    fleet.wait(30)
            head.stop()
    report["faults"] = faults[:40]
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
