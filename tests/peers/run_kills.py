"""kill -9 of the server under load, again and again. What the API or the stream had shown must still be there, once;
every slot gets its ending; the server comes back without a hand. Exit 1 when anything is lost, doubled or left open.

usage: run_kills.py [--kills N] [--dtus N] [--meters N] [--seed N]
"""

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

from headend import PROGRAM, Follower, HeadEnd

WINDOW_S = 4


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def build_fleet(client, dtus, meters):
    schedule = client.post("/api/v1/schedules", {
        "name": "kills", "cron": "*/2 * * * * *", "time_zone": "UTC", "spread_s": 1, "window_s": WINDOW_S,
        "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": WINDOW_S}, "missed_run": "once"})
    made = []
    for index in range(dtus):
        dtu = client.post("/api/v1/dtus", {"sn": f"KILL{index + 1:06}", "name": f"dtu {index}", "schedule": schedule["id"]})
        for unit in range(1, meters + 1):
            made.append(client.post("/api/v1/meters", {
                "dtu_id": dtu["id"], "protocol": "modbus-rtu", "address": str(unit), "model": "eastron_sdm120",
                "name": f"{index}/{unit}"})["id"])
    return made


def shown_by(follower):
    """(meter, due) → values, as the stream showed them."""
    shown = {}
    for event, data, _ in follower.taken():
        if event == "readings" and data["items"] and data["items"][0]["source"] == "scheduled":
            values = {item["quantity"]: item["value"] for item in data["items"]}
            shown[(data["meter_id"], data["items"][0]["due_at"])] = values
    return shown


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--dtus", type=int, default=20)
    parser.add_argument("--meters", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice = random.Random(args.seed)
    faults, recoveries, api_shown = [], [], {}
    with tempfile.TemporaryDirectory(prefix="polyphase-kills-") as folder:
        Path(folder).chmod(0o755)
        head = HeadEnd(folder)
        head.start()
        client = head.admin("kills@example.org", "Kills")
        simulator = subprocess.Popen(
            [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", str(args.dtus), "--meters",
             str(args.meters), "--models", "eastron_sdm120", "--sn-prefix", "KILL", "--baud", "38400", "--drop", "0.01"],
            stdout=head.log, stderr=head.log)
        follower = Follower(client, "readings,slots")
        try:
            meters = build_fleet(client, args.dtus, args.meters)
            begun = datetime.now(timezone.utc)
            follower.start()
            for _ in range(args.kills):
                time.sleep(dice.uniform(2.0, 6.0))
                # what the API shows right before the end counts as shown, too
                for meter in dice.sample(meters, min(10, len(meters))):
                    try:
                        for item in client.get(f"/api/v1/meters/{meter}/readings", limit=200)["items"]:
                            api_shown.setdefault((meter, item["due_at"]), {})[item["quantity"]] = item["value"]
                    except Exception as error:  # noqa: BLE001  the drill goes on; the fault is reported
                        faults.append(f"API before a kill: {error}")
                head.kill()
                time.sleep(dice.uniform(0.0, 5.0))
                recoveries.append(round(head.start(), 2))
            time.sleep(6)
            until = datetime.now(timezone.utc) - timedelta(seconds=WINDOW_S + 6)
            follower.ended.set()
            stored, doubled = collections.defaultdict(dict), 0
            for meter in meters:
                for item in client.all(f"/api/v1/meters/{meter}/readings"):
                    at = stored[(meter, item["due_at"])]
                    if item["quantity"] in at:
                        doubled += 1
                    at[item["quantity"]] = item["value"]
            lost = 0
            for source, shown in (("stream", shown_by(follower)), ("API", api_shown)):
                for key, values in shown.items():
                    if stored.get(key) != {**stored.get(key, {}), **values} or not stored.get(key):
                        lost += 1
                        faults.append(f"shown by the {source}, not stored so: {key} {values} {stored.get(key)}")
            slots, open_slots = collections.Counter(), 0
            due_instants = int((until - begun).total_seconds() // 2) - 1
            for meter in meters:
                seen = 0
                for slot in client.all("/api/v1/slots", meter_id=meter, to=until.isoformat()):
                    seen += 1
                    slots[slot["state"] + (f"/{slot['reason']}" if slot["reason"] else "")] += 1
                    read = stored.get((meter, slot["due_at"]))
                    if bool(read) != (slot["state"] in ("actual", "late")) and slot["reason"] != "partial":
                        faults.append(f"ledger and readings disagree: {slot}, stored: {bool(read)}")
                    if slot["state"] == "open":
                        open_slots += 1
                        faults.append(f"open past its window: {slot}")
                if seen < due_instants:
                    faults.append(f"meter {meter}: {seen} slots in the ledger, at least {due_instants} were due")
        except BaseException:
            print(head.tail(8000), file=sys.stderr)
            raise
        finally:
            simulator.terminate()
            head.stop()
    print(json.dumps({
        "kills": args.kills, "shown": len(shown_by(follower)) + len(api_shown), "stored": len(stored), "lost": lost,
        "doubled": doubled, "open": open_slots, "slots": slots, "ready_again_s": recoveries}, indent=1))
    for line in faults[:20]:
        print(line, file=sys.stderr)
    enough = len(api_shown) > 0 and len(stored) > args.kills * len(meters) // 4
    if not enough:
        print("too little was shown for a verdict", file=sys.stderr)
    sys.exit(1 if faults or lost or doubled or open_slots or not enough else 0)


if __name__ == "__main__":
    os.environ.setdefault("POLYPHASE__LOG__FILTER", "info")
    main()
