"""An independent DL/T 698.45 meter (PyPI dlt698) behind a transparent DTU, read through a whole server: a schedule reads
it, with strays of other meters and other questions thrown in front of its answers; each value must be what the peer was
given, in the canonical unit and with its OBIS code, from the stored reading and in `/latest`, and none other. A quantity
that the meter does not have is told in the standard's own words. Exit 1 on any fault; prints a JSON report.

usage: run_dlt698.py [--limit SECONDS]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from bridge import Bridge
from headend import HeadEnd, Problem
from run_dlt645 import noon_zone, wait

ADDRESS = "112233445566"
SN = "DLT6980001"
MODEL = "dlt698_three_phase"
# quantity, what dlt698_peer.py was given in the canonical unit, unit, OBIS code
SHOWN = [
    ("active_energy_import", "1234.56", "kWh", "1-0:1.8.0*255"),
    ("active_energy_import_t1", "123.45", "kWh", "1-0:1.8.1*255"),
    ("active_energy_import_t2", "222.22", "kWh", "1-0:1.8.2*255"),
    ("active_energy_import_t3", "543.21", "kWh", "1-0:1.8.3*255"),
    ("active_energy_import_t4", "345.68", "kWh", "1-0:1.8.4*255"),
    ("voltage_l1", "230.1", "V", "1-0:32.7.0*255"),
    ("voltage_l2", "231.2", "V", "1-0:52.7.0*255"),
    ("voltage_l3", "232.3", "V", "1-0:72.7.0*255"),
    ("current_l1", "5.123", "A", "1-0:31.7.0*255"),
    ("current_l2", "6.234", "A", "1-0:51.7.0*255"),
    ("current_l3", "-7.345", "A", "1-0:71.7.0*255"),
    ("active_power_total", "1500", "W", "1-0:16.7.0*255"),
    ("active_power_l1", "500", "W", "1-0:36.7.0*255"),
    ("active_power_l2", "500", "W", "1-0:56.7.0*255"),
    ("active_power_l3", "-500", "W", "1-0:76.7.0*255"),
    ("power_factor_total", "0.987", "1", "1-0:13.7.0*255"),
    ("power_factor_l1", "0.991", "1", "1-0:33.7.0*255"),
    ("power_factor_l2", "0.985", "1", "1-0:53.7.0*255"),
    ("power_factor_l3", "-0.98", "1", "1-0:73.7.0*255"),
    ("frequency", "49.98", "Hz", "1-0:14.7.0*255"),
]


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return (value ^ 0xFFFF).to_bytes(2, "little")


def answer(address, apdu):
    """A meter's answer to client 1."""
    head = b"\xC3" + bytes([len(address) - 1]) + address[::-1] + b"\x01"
    head = (2 + len(head) + 2 + len(apdu) + 2).to_bytes(2, "little") + head
    body = head + crc(head) + apdu
    return b"\x68" + body + crc(body) + b"\x16"


class Noisy(Bridge):
    """A line on which others speak: whatever the meter says comes behind frames that answer no question of ours, each with a
    frequency of 11.11 Hz that must never be seen."""

    def strays(self):
        own, other = bytes.fromhex(ADDRESS), bytes.fromhex("112233445567")
        value = bytes.fromhex("120457")

        def single(number, oad):
            return b"\x85\x01" + bytes([number]) + bytes.fromhex(oad) + b"\x01" + value + b"\0\0"

        right = answer(own, single(1, "200F0200"))
        return [
            # another meter, another number, another attribute, bits that tipped, half a frame
            answer(other, single(1, "200F0200")),
            answer(own, single(33, "200F0200")),
            answer(own, single(1, "20000201")),
            right[:-3] + bytes([right[-3] ^ 1]) + right[-2:],
        ]

    def carry(self, data):
        # the rest of an answer that came in two goes on undisturbed
        return b"".join(self.strays()) + data if data[:1] in (b"\x68", b"\xFE") else data


def peer(local):
    """The meter's process and its port; its clock stands at `local`."""
    meter = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("dlt698_peer.py"), "line", local.isoformat()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return meter, int(meter.stdout.readline())


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--limit", type=float, default=240)
    options = options.parse_args()
    report, faults = {}, []
    zone, ahead = noon_zone()
    stands = (datetime.now(timezone.utc) + ahead).replace(microsecond=0, tzinfo=None)
    with tempfile.TemporaryDirectory(prefix="polyphase-dlt698-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra='[access]\nclaims = "open"\n')
        meter = dtu = None
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            meter, port = peer(stands)
            dtu = Noisy(SN, head.device, port)
            dtu.start()
            wait("the DTU in quarantine", 60, lambda: any(e["sn"] == SN for e in api.get("/api/v1/quarantine")["items"]))
            line = api.post(f"/api/v1/quarantine/{SN}/claim", {"name": "peer"})["id"]
            wait("the DTU online", 60, lambda: api.get(f"/api/v1/dtus/{line}")["online"])
            schedule = {"name": "quick", "cron": "*/30 * * * * *", "time_zone": zone, "spread_s": 0, "window_s": 30,
                        "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": 28}}
            made = api.post("/api/v1/meters", {
                "dtu_id": line, "protocol": "dlt698.45", "address": ADDRESS, "model": MODEL, "name": "peer",
                "schedule": schedule})
            read(api, made["id"], options.limit, stands - ahead, report, faults)
            refused(api, made["id"], report, faults)
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


def read(api, meter, limit, stands, report, faults):
    """What the schedule stored and what is newest."""
    path = f"/api/v1/meters/{meter}/readings"

    def stored():
        items = {}
        for item in api.all(path):
            if item["source"] == "scheduled":
                items.setdefault(item["due_at"], {})[item["quantity"]] = item
        whole = [poll for poll in items.values() if all(row[0] in poll for row in SHOWN)]
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
        for quantity, value, unit, obis in SHOWN:
            item = shown.get(quantity, {})
            said = (item.get("unit"), item.get("obis"), item.get("quality"))
            report["values"][quantity] = f"{item.get('value')} {said[0]} {said[1]}"
            if said != (unit, obis, "measured") or Decimal(item["value"]) != Decimal(value):
                faults.append(f"{quantity}: {item}, expected {value} {unit} {obis}")
        more = set(shown) - {row[0] for row in SHOWN} - {"clock_drift_s"}
        if more:
            faults.append(f"nobody gave the meter {sorted(more)}")
    report["polls"] = len(polls)
    # the peer's clock stands; how far it is off, seen with the first read of the day
    for item in drifts:
        at = datetime.fromisoformat(item["read_at"].replace("Z", "+00:00")).replace(tzinfo=None)
        off = (stands - at).total_seconds()
        report["drift_s"] = item["value"]
        if not -3 <= float(item["value"]) - off <= 3:
            faults.append(f"the drift is {item['value']} s, expected {off:.1f} s")


def refused(api, meter, report, faults):
    """A quantity that the model has and this meter does not."""
    try:
        answer = api.post(f"/api/v1/meters/{meter}/read?wait_s=60", {"quantities": ["reactive_energy_q1"]})
        faults.append(f"a meter without reactive energy has some: {answer}")
    except Problem as problem:
        said = json.loads(problem.body)
        report["refused"] = [problem.status, said.get("reason"), said.get("detail")]
        if said.get("reason") != "exception" or "object undefined (4)" not in said.get("detail", ""):
            faults.append(f"a refused read: {problem}")


if __name__ == "__main__":
    sys.exit(main())
