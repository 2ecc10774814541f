"""Every value under the right meter, register and time: reads the field of field.py through a real server and judges
each stored value by what it says of itself. Exit 1 when one is wrong, when less than 95 % of the valid frames that were nobody's
answer are counted as strays, or when less reads are usable than `--usable` wants (a share; where lines have time enough).

usage: run_field.py [--transactions N] [--dtus N] [--units N] [--every SECONDS] [--limit SECONDS] [--usable SHARE]
"""

import argparse
import asyncio
import collections
import json
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import field
from headend import HeadEnd

BLOCK_NAMES = "abcd"
FAULTS = {
    "drop": 0.01, "late": 0.03, "late_s": 0.45, "repeat": 0.02, "foreign_address": 0.02, "wrong_function": 0.02,
    "noise": 0.02, "flip": 0.01, "split": 0.05, "heartbeat_glued": 0.03, "heartbeat_inside": 0.03, "heartbeat_s": 4,
}


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def run_in_background(server, args, counters):
    """The field in a thread of its own; returns a function that ends it."""
    loop = asyncio.new_event_loop()
    ready = threading.Event()
    task = loop.create_task(field.field(server, args.dtus, args.units, FAULTS, args.seed, counters, ready))

    def work():
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(60)

    def end():
        loop.call_soon_threadsafe(task.cancel)
        thread.join(20)

    return end


def claim_all(client, dtus):
    """Claims every SN out of quarantine as it appears; id by index of the DTU."""
    wanted = {field.mode(index).sn: index for index in range(dtus)}
    claimed = {}
    deadline = time.monotonic() + 60
    while len(claimed) < dtus and time.monotonic() < deadline:
        for entry in client.get("/api/v1/quarantine")["items"]:
            index = wanted.get(entry["sn"])
            if index is not None and index not in claimed:
                dtu = client.post(f"/api/v1/quarantine/{entry['sn']}/claim", {"name": f"field {index}"})
                claimed[index] = dtu["id"]
        time.sleep(0.2)
    missing = sorted(set(wanted) - {field.mode(index).sn for index in claimed})
    if missing:
        seen = [entry["sn"] for entry in client.get("/api/v1/quarantine")["items"]]
        raise SystemExit(f"these SNs never appeared in quarantine: {missing}; there are {seen}")
    return claimed


def judge(readings, dtu, unit, report):
    """Checks the items of one meter. A reading's items share due_at and read_at."""
    for item in readings:
        name, value = item["quantity"], int(item["value"].split(".")[0])
        kind, block = name.split("_")
        block = BLOCK_NAMES.index(block)
        read_at, due_at = instant(item["read_at"]), instant(item["due_at"])
        if kind == "id":
            report["values"] += 1
            expected = field.identity(dtu, unit, block)
            if value != expected:
                report["wrong"].append(f"dtu {dtu} unit {unit} {name} at {item['due_at']}: {value:#x} for {expected:#x}")
        else:
            stamp = value / 1000
            # the low 32 bits of milliseconds: put back what the read's own time has above them
            wrap = (1 << 32) / 1000
            stamp += round((read_at - stamp) / wrap) * wrap
            if not due_at - 0.05 <= stamp <= read_at + 0.05:
                report["wrong"].append(
                    f"dtu {dtu} unit {unit} {name} due {item['due_at']} read {item['read_at']}: "
                    f"the slave gave it {stamp - due_at:+.3f} s after the due time")


def strays(head):
    """Valid frames that were nobody's answer, as the server counts them."""
    with urllib.request.urlopen(head.base + "/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.split()[1])) for line in lines if line.startswith("polyphase_stray_frames_total"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--transactions", type=int, default=4000)
    parser.add_argument("--dtus", type=int, default=18)
    parser.add_argument("--units", type=int, default=6)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--limit", type=int, default=1800)
    parser.add_argument("--usable", type=float, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    models = Path(__file__).resolve().parent / "models"
    counters = collections.Counter()
    report = {"values": 0, "wrong": []}
    with tempfile.TemporaryDirectory(prefix="polyphase-field-") as folder:
        Path(folder).chmod(0o755)
        head = HeadEnd(folder, models=models)
        head.start()
        end = None
        try:
            client = head.admin("field@example.org", "Field")
            end = run_in_background(head.device, args, counters)
            claimed = claim_all(client, args.dtus)
            schedule = client.post("/api/v1/schedules", {
                "name": "field", "cron": f"*/{args.every} * * * * *", "time_zone": "UTC", "spread_s": 0,
                "window_s": args.every, "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": args.every},
                "missed_run": "skip"})
            meters = {}
            for index, dtu in claimed.items():
                client.call("PATCH", f"/api/v1/dtus/{dtu}", {"timeout_ms": 150, "pause_ms": 0}, headers={"If-Match": "*"})
                for unit in range(1, args.units + 1):
                    meter = client.post("/api/v1/meters", {
                        "dtu_id": dtu, "protocol": "modbus-rtu", "address": str(unit), "model": "test_selfid",
                        "name": f"unit {unit}", "schedule": schedule["id"]})
                    meters[meter["id"]] = (index, unit)
            begun = time.monotonic()
            first = time.time() + args.every
            while counters["replies"] < args.transactions and time.monotonic() - begun < args.limit:
                time.sleep(1)
            seconds = time.monotonic() - begun
            last = time.time() - args.every
            counted = strays(head)
            end()
            end = None
            time.sleep(args.every + 3)
            for meter, (index, unit) in meters.items():
                judge(client.all(f"/api/v1/meters/{meter}/readings"), index, unit, report)
            slots, reads = collections.Counter(), collections.Counter()
            for meter in meters:
                for slot in client.all("/api/v1/slots", meter_id=meter):
                    if first <= instant(slot["due_at"]) <= last - args.every:
                        reads[slot["state"] in ("actual", "late")] += 1
                    slots[slot["state"] + (f"/{slot['reason']}" if slot["reason"] else "")] += 1
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            if end:
                end()
            head.stop()
    usable = reads[True] / max(1, reads.total())
    told = counted / max(1, counters["strays"])
    print(json.dumps({
        "transactions": counters["replies"], "values": report["values"], "wrong": len(report["wrong"]),
        "usable": round(usable, 5), "strays_told": round(told, 4),
        "seconds": round(seconds, 1), "slots": slots, "field": counters}, indent=1))
    for line in report["wrong"][:20]:
        print(line, file=sys.stderr)
    enough = counters["replies"] >= args.transactions and report["values"] >= args.transactions * 0.5
    if not enough:
        print("too few values came for a verdict", file=sys.stderr)
    faults = bool(report["wrong"]) or not enough
    if usable < args.usable:
        print(f"{usable:.2%} of {reads.total()} reads are usable", file=sys.stderr)
        faults = True
    if told < 0.95:
        print(f"{counted} strays are counted of {counters['strays']}", file=sys.stderr)
        faults = True
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
