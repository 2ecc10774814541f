"""A daily slot that falls into a cut: the DTU of a DL/T 645 meter is away when the slot is due and comes back later. The
slot must end as missing first, then as late, filled from the meter's own freeze of that day's midnight; the reading must
say so: source, the meter's own time, and a value that is the register's at that midnight. API and device port only;
works at any time of day. Exit 1 on any fault; prints a JSON report.

The slot is due a few seconds after the cut, once a day: the first slot of its day, which is answered by the freeze of
the midnight before it, whenever that was.

usage: run_back_fill.py [--limit SECONDS]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from headend import PROGRAM, HeadEnd

SN = "CUT000001"
# models in the order in which `simulate` lets them take turns, its first meter has the second one; address; whether the
# meter keeps freezes
MODELS = ["dlt645_2007_three_phase", "dlt645_2007_single_phase", "eastron_sdm630"]
ADDRESSES = ["000000001003", "000000001001", "2"]
KEEPS = [True, True, False]
LEAD_S, WINDOW_S = 15, 10


def wait(what, limit, until, every=0.3):
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        found = until()
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"not within {limit} s: {what}")


def instant(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def field(head, folder):
    """A virtual DTU; the same seed makes the same meters each time."""
    return subprocess.Popen(
        [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", "1", "--meters", str(len(MODELS)),
         "--models", ",".join(MODELS), "--sn-prefix", "CUT", "--baud", "0", "--seed", "7"],
        stdout=subprocess.DEVNULL, stderr=open(f"{folder}/simulate.log", "ab"), start_new_session=True)


def end(dtu):
    if dtu.poll() is None:
        dtu.send_signal(signal.SIGTERM)
        dtu.wait(30)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--limit", type=float, default=240)
    options = options.parse_args()
    report, faults = {"meters": {}}, []
    with tempfile.TemporaryDirectory(prefix="polyphase-back-fill-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n')
        dtu = None
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            dtu = field(head, folder)
            wait("the DTU in quarantine", 60, lambda: any(e["sn"] == SN for e in api.get("/api/v1/quarantine")["items"]))
            line = api.post(f"/api/v1/quarantine/{SN}/claim", {"name": "cut"})["id"]
            online = f"/api/v1/dtus/{line}"
            wait("the DTU online", 60, lambda: api.get(online)["online"])
            meters = [api.post("/api/v1/meters", {
                "dtu_id": line, "protocol": "modbus-rtu" if address == "2" else "dlt645-2007", "address": address,
                "model": model, "name": model})["id"] for model, address in zip(MODELS, ADDRESSES)]
            end(dtu)
            wait("the DTU away", 60, lambda: not api.get(online)["online"])
            due = (datetime.now(timezone.utc) + timedelta(seconds=LEAD_S)).replace(microsecond=0)
            schedule = {
                "name": "daily", "cron": f"{due.second} {due.minute} {due.hour} * * *", "time_zone": "UTC", "spread_s": 0,
                "quantities": ["active_energy_import"], "window_s": WINDOW_S,
                "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": WINDOW_S}, "missed_run": "all"}
            schedule = api.post("/api/v1/schedules", schedule)["id"]
            for meter in meters:
                api.call("PATCH", f"/api/v1/meters/{meter}", {"schedule": schedule}, headers={"If-Match": "*"})
            for meter in meters:
                slot = wait("the slot's first ending", 120, lambda: ended(api, meter, due, "missing"))
                if slot["reason"] != "dtu_offline" or readings(api, meter):
                    faults.append(f"the cut ended as {slot} with {readings(api, meter)}")
            dtu = field(head, folder)
            wait("the DTU online again", 60, lambda: api.get(online)["online"])
            for meter, model, keeps in zip(meters, MODELS, KEEPS):
                faults += judge(api, meter, model, keeps, due, options.limit, report)
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            if dtu:
                end(dtu)
            head.stop()
    report["faults"] = faults
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if faults else 0


def slots(api, meter):
    now = datetime.now(timezone.utc)
    return list(api.all("/api/v1/slots", meter_id=meter, **{"from": (now - timedelta(hours=1)).isoformat()}))


def ended(api, meter, due, state):
    """The one slot that was due, if it ended so."""
    found = [slot for slot in slots(api, meter) if instant(slot["due_at"]) == due]
    return found[0] if len(found) == 1 and found[0]["state"] == state else None


def readings(api, meter):
    now = datetime.now(timezone.utc)
    return list(api.all(f"/api/v1/meters/{meter}/readings", **{"from": (now - timedelta(days=3)).isoformat()}))


def judge(api, meter, model, keeps, due, limit, report):
    """What filled the slot. A meter without memory is read late, and says the present."""
    try:
        slot = wait(f"{model}: the slot late", limit, lambda: ended(api, meter, due, "late"), 1)
    except RuntimeError as error:
        return [f"{error}; slots {slots(api, meter)}"]
    items = wait(f"{model}: its reading", 60, lambda: readings(api, meter))
    report["meters"][model] = {"slot": slot, "reading": items}
    faults = []
    midnight = due.replace(hour=0, minute=0, second=0)
    if slot["version"] < 2:
        faults.append(f"{model}: the first ending was lost: {slot}")
    if [i["quantity"] for i in items] != ["active_energy_import"]:
        faults.append(f"{model}: stored {items}")
    for item in items:
        said = (item["unit"], item["obis"], item["quality"])
        if said != ("kWh", "1-0:1.8.0*255", "measured"):
            faults.append(f"{model}: {item}")
        if not keeps:
            if item["source"] != "scheduled" or instant(item["due_at"]) != due:
                faults.append(f"{model}, without memory: {item}")
            continue
        if item["source"] != "back_fill" or not item["meter_time"] or instant(item["meter_time"]) != midnight:
            faults.append(f"{model}: not of the midnight before {due}: {item}")
        live = api.post(f"/api/v1/meters/{meter}/read?wait_s=60", {"quantities": ["active_energy_import"]})["items"][0]
        grown = Decimal(live["value"]) - Decimal(item["value"])
        hours = (instant(live["read_at"]) - midnight).total_seconds() / 3600
        report["meters"][model]["grown_kwh"] = [str(grown), round(hours, 2)]
        # these loads draw between some watts and some kilowatts
        if not Decimal("0.005") * Decimal(hours) - Decimal("0.01") <= grown <= 20 * Decimal(hours) + Decimal("0.01"):
            faults.append(f"{model}: {item['value']} at midnight and {live['value']} kWh {hours:.2f} h later")
    return faults


if __name__ == "__main__":
    sys.exit(main())
