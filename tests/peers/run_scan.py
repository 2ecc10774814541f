"""A mixed line from outside: Modbus, DL/T 645 of both editions, CJ/T 188 and M-Bus meters behind one virtual DTU are
found by a scan, made into meters by one call, and read on schedule; each value must carry the unit and OBIS code of its
quantity, whatever the protocol. Exit 1 on any fault; prints a JSON report.

usage: run_scan.py [--limit SECONDS]
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from headend import PROGRAM, Follower, HeadEnd, Problem

# model → what a scan may call it besides (models that answer alike), and quantities with unit and OBIS code that must
# be stored
MIXED = {
    "eastron_sdm630": {
        "protocol": "modbus-rtu",
        "expect": {"active_energy_import": ("kWh", "1-0:1.8.0*255"), "voltage_l3": ("V", "1-0:72.7.0*255")},
    },
    "dlt645_2007_single_phase": {
        "protocol": "dlt645-2007",
        "expect": {"active_energy_import": ("kWh", "1-0:1.8.0*255"), "voltage_l1": ("V", "1-0:32.7.0*255")},
    },
    "dlt645_1997_single_phase": {
        "protocol": "dlt645-1997",
        "expect": {"active_energy_import": ("kWh", "1-0:1.8.0*255")},
    },
    "standard_cold_water_2004": {"protocol": "cjt188", "expect": {"volume_total": ("m³", "8-0:1.0.0*255")}},
    "generic_heat": {
        "protocol": "mbus",
        "expect": {"heat_energy": ("kWh", "6-0:1.0.0*255"), "temperature_flow": ("°C", "6-0:10.0.0*255")},
    },
}
SCHEDULE = {"name": "quick", "cron": "*/30 * * * * *", "time_zone": "UTC", "quantities": [], "spread_s": 0,
            "window_s": 30, "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": 28}}


def wait(what, limit, until, every=0.5):
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        found = until()
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"not within {limit} s: {what}")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--limit", type=float, default=240)
    options = options.parse_args()
    report, faults = {}, []
    with tempfile.TemporaryDirectory(prefix="polyphase-scan-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n')
        line = None
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            line = subprocess.Popen(
                [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", "1", "--meters",
                 str(len(MIXED)), "--models", ",".join(MIXED), "--sn-prefix", "MIX", "--baud", "9600"],
                stdout=subprocess.DEVNULL, stderr=open(f"{folder}/simulate.log", "wb"), start_new_session=True)
            sn = "MIX000001"
            wait("the DTU in quarantine", 60,
                 lambda: any(e["sn"] == sn for e in api.get("/api/v1/quarantine")["items"]))
            dtu = api.post(f"/api/v1/quarantine/{sn}/claim", {"name": "mixed line"})["id"]
            wait("the DTU online", 30, lambda: api.get(f"/api/v1/dtus/{dtu}")["online"])
            jobs = Follower(api, "jobs")
            jobs.start()
            begun = time.monotonic()
            scan = api.post(f"/api/v1/dtus/{dtu}/scan", {"units": [1, 20]})
            try:
                api.post(f"/api/v1/dtus/{dtu}/scan", {})
                faults.append("a second scan of the same line was let in")
            except Problem as problem:
                if problem.status != 409:
                    faults.append(f"a second scan of the same line: {problem}")
            scan = wait("the end of the scan", options.limit, lambda: ended(api, scan["id"]))
            report["scan_s"] = round(time.monotonic() - begun, 1)
            report["asked"] = scan["asked"]
            report["found"] = [f"{i['protocol']} {i['address']} {i['model']}" for i in scan["found"]]
            report["notes"] = scan["notes"]
            if scan["state"] != "done":
                faults.append(f"the scan ended as {scan['state']}: {scan['reason']}")
            for model, meter in MIXED.items():
                hits = [i for i in scan["found"] if i["protocol"] == meter["protocol"]]
                if len(hits) != 1 or model not in [hits[0]["model"], *hits[0]["others"]]:
                    faults.append(f"{model}: found as {hits}")
            if not any(event[1].get("kind") == "scan" for event in jobs.taken()):
                faults.append("the stream told nothing of the scan")
            schedule = api.post("/api/v1/schedules", SCHEDULE)["id"]
            adopted = api.post(f"/api/v1/scans/{scan['id']}/meters", {"schedule": schedule})
            report["adopted"] = [f"{m['protocol']} {m['address']} {m['model']}" for m in adopted["meters"]]
            if len(adopted["meters"]) != len(MIXED) or adopted["left_out"]:
                faults.append(f"adopted: {adopted}")
            again = api.post(f"/api/v1/scans/{scan['id']}/meters", {})
            if again["meters"] or len(again["left_out"]) != len(MIXED):
                faults.append(f"adopted again: {again}")
            for meter in adopted["meters"]:
                model = next(m for m, d in MIXED.items() if d["protocol"] == meter["protocol"])
                faults += check(api, meter, MIXED[model]["expect"], report)
        finally:
            if line:
                line.send_signal(signal.SIGTERM)
                line.wait(20)
            head.stop()
    report["faults"] = faults
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if faults else 0


def ended(api, scan):
    view = api.get(f"/api/v1/scans/{scan}")
    return view if view["state"] != "running" else None


def check(api, meter, expect, report):
    """Scheduled readings of a meter hold the expected quantities, twice at least."""
    path = f"/api/v1/meters/{meter['id']}/readings"

    def scheduled():
        items = [i for i in api.all(path) if i["source"] == "scheduled"]
        return items if len({i["due_at"] for i in items}) >= 2 else None

    try:
        items = wait(f"two scheduled readings of {meter['name']}", 150, scheduled, 2)
    except RuntimeError as error:
        slots = [(s["state"], s["reason"], s["detail"]) for s in api.all("/api/v1/slots", meter_id=meter["id"])][:4]
        return [f"{error}; slots {slots}"]
    stored = {i["quantity"]: (i["unit"], i["obis"]) for i in items}
    report.setdefault("stored", {})[meter["name"]] = {
        i["quantity"]: f"{i['value']} {i['unit']} {i['obis']}" for i in items}
    wrong = [f"{meter['name']}: {q} is {stored.get(q)}, expected {unit}" for q, unit in expect.items()
             if stored.get(q) != unit]
    if any(i["quality"] != "measured" for i in items):
        wrong.append(f"{meter['name']}: values of doubtful quality {[i for i in items if i['quality'] != 'measured'][:3]}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
