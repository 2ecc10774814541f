"""An independent DL/T 645-2007 meter (PyPI dlt645) behind a DTU, read through a whole server: a scan finds its address, one
call makes it a meter, a schedule reads it; each value must be what the peer was given, in the canonical unit and with its
OBIS code, from the stored reading and in `/latest`. What the meter refuses, a wrong password above all, is told in its own
words. Exit 1 on any fault; prints a JSON report.

usage: run_dlt645.py [--limit SECONDS]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from bridge import Bridge
from headend import HeadEnd, Problem

ADDRESS = "202611210837"
SN = "DLT6450001"
MODEL = "dlt645_2007_three_phase"
# identifier, what the peer is given → quantity, value in the canonical unit, unit, OBIS code
SHOWN = [
    ("00010000", "1234.56", "active_energy_import", "1234.56", "kWh", "1-0:1.8.0*255"),
    ("00010100", "1000.01", "active_energy_import_t1", "1000.01", "kWh", "1-0:1.8.1*255"),
    ("00020000", "0.07", "active_energy_export", "0.07", "kWh", "1-0:2.8.0*255"),
    ("00000000", "-12.34", "active_energy_net", "-12.34", "kWh", "1-0:16.8.0*255"),
    ("01010000", "4.5678@2026-11-20T18:45", "max_demand_active_import", "4567.8", "W", "1-0:1.6.0*255"),
    ("02010100", "230.2", "voltage_l1", "230.2", "V", "1-0:32.7.0*255"),
    ("02010200", "229.9", "voltage_l2", "229.9", "V", "1-0:52.7.0*255"),
    ("02010300", "231.4", "voltage_l3", "231.4", "V", "1-0:72.7.0*255"),
    ("02020100", "5.123", "current_l1", "5.123", "A", "1-0:31.7.0*255"),
    ("02030000", "-1.1784", "active_power_total", "-1178.4", "W", "1-0:16.7.0*255"),
    ("02060000", "0.995", "power_factor_total", "0.995", "1", "1-0:13.7.0*255"),
    ("02800002", "49.98", "frequency", "49.98", "Hz", "1-0:14.7.0*255"),
]
SLOW_S = 300
# the period of maximum demand, minutes: a parameter that takes a password (level 4, 123456) to write
PERIOD = "04000103"


def wait(what, limit, until, every=0.5):
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        found = until()
        if found:
            return found
        time.sleep(every)
    raise RuntimeError(f"not within {limit} s: {what}")


def noon_zone():
    """A zone where it is about noon: clocks are not looked at around midnight."""
    ahead = 12 - datetime.now(timezone.utc).hour
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT", timedelta(hours=ahead)


def peer(local):
    """The meter's process and its port; its clock stands at `local`."""
    given = [f"{di}={value}" for di, value, *_ in SHOWN]
    # the week day counts from Sunday
    given += [f"04000101={local:%y%m%d}{(local.weekday() + 1) % 7:02d}", f"04000102={local:%H%M%S}", "04000503=0010"]
    given += [f"04000401={ADDRESS}", f"{PERIOD}=15"]
    meter = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("dlt645_meter.py"), ADDRESS, *given],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return meter, int(meter.stdout.readline())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--limit", type=float, default=240)
    options = options.parse_args()
    report, faults = {}, []
    zone, ahead = noon_zone()
    stands = (datetime.now(timezone.utc) + ahead - timedelta(seconds=SLOW_S)).replace(microsecond=0, tzinfo=None)
    with tempfile.TemporaryDirectory(prefix="polyphase-dlt645-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n[control]\ndisconnects_dtu_percent = 100\n')
        meter = dtu = None
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            meter, port = peer(stands)
            dtu = Bridge(SN, head.device, port)
            dtu.start()
            wait("the DTU in quarantine", 60, lambda: any(e["sn"] == SN for e in api.get("/api/v1/quarantine")["items"]))
            line = api.post(f"/api/v1/quarantine/{SN}/claim", {"name": "peer"})["id"]
            wait("the DTU online", 60, lambda: api.get(f"/api/v1/dtus/{line}")["online"])
            found = scan(api, line, options.limit, report, faults)
            schedule = {"name": "quick", "cron": "*/30 * * * * *", "time_zone": zone, "spread_s": 0, "window_s": 30,
                        "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": 28}}
            made = api.post("/api/v1/meters", {
                "dtu_id": line, "protocol": "dlt645-2007", "address": found, "model": MODEL, "name": "peer",
                "schedule": schedule})
            # raw frames count as disconnections, of which a DTU bears as many as it has meters here
            for number in range(4):
                api.post("/api/v1/meters", {"dtu_id": line, "protocol": "dlt645-2007", "address": f"{number + 1:012}",
                                            "model": MODEL, "name": f"not there {number}"})
            read(api, made["id"], options.limit, stands - ahead, report, faults)
            refused(api, made["id"], report, faults)
            passwords(api, made["id"], report, faults)
            report["bytes"] = {"to the meter": dtu.down_bytes, "from it": dtu.up_bytes}
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            if dtu:
                dtu.end()
            if meter:
                meter.stdin.close()
                meter.wait(20)
            head.stop()
    report["faults"] = faults
    print(json.dumps(report, indent=1, ensure_ascii=False))
    return 1 if faults else 0


def scan(api, line, limit, report, faults):
    """The address, as the meter itself said it."""
    begun = api.post(f"/api/v1/dtus/{line}/scan", {"protocols": ["dlt645-2007"]})["id"]
    path = f"/api/v1/scans/{begun}"
    view = wait("the end of the scan", limit, lambda: (v := api.get(path))["state"] != "running" and v)
    report["found"] = [(i["protocol"], i["address"], i["model"], i["others"]) for i in view["found"]]
    if [(i["protocol"], i["address"]) for i in view["found"]] != [("dlt645-2007", ADDRESS)]:
        faults.append(f"the scan ended as {view['state']} ({view['reason']}) and found {view['found']}")
    return ADDRESS


def read(api, meter, limit, stands, report, faults):
    """What the schedule stored and what is newest."""
    path = f"/api/v1/meters/{meter}/readings"

    def stored():
        items = {}
        for item in api.all(path):
            if item["source"] == "scheduled":
                items.setdefault(item["due_at"], {})[item["quantity"]] = item
        whole = [poll for poll in items.values() if all(row[2] in poll for row in SHOWN)]
        # a poll that a busy host cut short may be the one that brought the clock
        clocks = [poll["clock_drift_s"] for poll in items.values() if "clock_drift_s" in poll]
        return len(whole) >= 2 and clocks and (whole, clocks)

    try:
        polls, drifts = wait("two scheduled readings of everything, with the clock", limit, stored, 2)
    except RuntimeError as error:
        slots = [(s["state"], s["reason"], s["detail"]) for s in api.all("/api/v1/slots", meter_id=meter)][:6]
        names = sorted({item["quantity"] for item in api.all(path)})
        faults.append(f"{error}; slots {slots}; stored {names}")
        return
    latest = {item["quantity"]: item for item in api.get(f"/api/v1/meters/{meter}/latest")["items"]}
    report["values"] = {}
    for shown in [*polls, latest]:
        for _, _, quantity, value, unit, obis in SHOWN:
            item = shown.get(quantity, {})
            said = (item.get("unit"), item.get("obis"), item.get("quality"))
            report["values"][quantity] = f"{item.get('value')} {said[0]} {said[1]}"
            if said != (unit, obis, "measured") or Decimal(item["value"]) != Decimal(value):
                faults.append(f"{quantity}: {item}, expected {value} {unit} {obis}")
    # how far the clock is off, seen with the first read of the day and only then
    report["drift_s"] = [item["value"] for item in drifts]
    if len(drifts) != 1:
        faults.append(f"the clock's drift is stored {len(drifts)} times")
    for item in drifts:
        at = datetime.fromisoformat(item["read_at"].replace("Z", "+00:00")).replace(tzinfo=None)
        off = (stands - at).total_seconds()
        if not -3 <= float(item["value"]) - off <= 3:
            faults.append(f"the drift is {item['value']} s, expected {off:.1f} s")


def refused(api, meter, report, faults):
    """A quantity that the model has and this meter does not: the meter's own error, in words."""
    api.call("PATCH", f"/api/v1/meters/{meter}", {"model": "dlt645_2007_three_phase_ct"}, headers={"If-Match": "*"})
    try:
        answer = api.post(f"/api/v1/meters/{meter}/read?wait_s=60", {"quantities": ["ct_ratio"]})
        faults.append(f"a meter without transformers has a ratio: {answer}")
    except Problem as problem:
        said = json.loads(problem.body)
        report["refused"] = [problem.status, said.get("reason"), said.get("detail")]
        if said.get("reason") != "exception" or "no requested data (error word 02)" not in said.get("detail", ""):
            faults.append(f"a refused read: {problem}")


def frame(control, data):
    """A question of ours, built by the standard's own words (annex of DL/T 645-2007, 5.2)."""
    address = bytes.fromhex(ADDRESS)[::-1]
    body = b"\x68" + address + b"\x68" + bytes([control, len(data)]) + bytes((byte + 0x33) & 0xFF for byte in data)
    return (body + bytes([sum(body) & 0xFF, 0x16])).hex()


def command(api, meter, question):
    """A raw frame by the rails of control, and how it ended."""
    made = api.post(f"/api/v1/meters/{meter}/commands", {
        "action": "raw", "frame": question, "expires_in_s": 120, "reason": "what the meter says to a password"})
    path = f"/api/v1/commands/{made['id']}"
    ended = ("confirmed", "failed", "rejected", "expired", "cancelled", "unknown", "held")
    return wait("the command's end", 150, lambda: (c := api.get(path))["state"] in ended and c)


def passwords(api, meter, report, faults):
    """A write with a wrong password fails with the meter's own words and changes nothing; the right one writes."""
    di = bytes.fromhex(PERIOD)[::-1]
    read = frame(0x11, di)

    def write(password, value):
        # level 4, the password's digits low byte first, the operator
        return frame(0x14, di + b"\x04" + bytes.fromhex(password)[::-1] + b"\x01\x00\x00\x00" + bytes([value]))

    report["passwords"] = {}
    for name, question, state, words in [
        ("wrong", write("654321", 0x30), "failed", "wrong password or not authorised (error word 04)"),
        ("read behind it", read, "confirmed", "15"),
        ("right", write("123456", 0x30), "confirmed", ""),
        ("read at the end", read, "confirmed", "30"),
    ]:
        ended = command(api, meter, question)
        said = ended["history"][-1]["detail"]
        report["passwords"][name] = [ended["state"], said]
        value = str(said.get("said", ""))
        if words.isdigit():
            # the last byte of the answer's data, in clear
            raw = bytes.fromhex(value) if value else b""
            at = raw.rfind(b"\x16") - 2
            words, value = f"{int(words, 16):02x}", f"{(raw[at] - 0x33) & 0xFF:02x}" if raw else ""
        else:
            value = json.dumps(said)
        if ended["state"] != state or words not in value:
            faults.append(f"{name} password: {ended['state']} {said}")


if __name__ == "__main__":
    sys.exit(main())
