#!/usr/bin/env python3
"""Makes the recorded exchange of every DL/T 645 meter model, independently of the program.

Plans the reads, encodes self-chosen values and works out what they mean on its own, from the standard's annex A alone,
and rewrites the first `[[exchange]]` of each model file; captures that stand behind it are kept. Without arguments all
models are made anew.

    python3 tests/peers/record_dlt645.py [MODEL…]
"""

import re
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "config" / "meter-models" / "dlt645"
METER = "202611210042"
NOTE = "whole plan, values chosen by tests/peers/record_dlt645.py"

# what the meter shows, in the unit of the standard, by quantity; tariffs and phases add a little of their own
SHOWN = {
    "active_energy_import": "12021.80", "active_energy_export": "323.76", "active_energy_net": "-11698.04",
    "reactive_energy_q1": "1233.06", "reactive_energy_q2": "0.07", "reactive_energy_q3": "12.50", "reactive_energy_q4": "100.50",
    "reactive_energy_import": "1233.13", "reactive_energy_export": "113.00",
    "voltage": "230.2", "current": "5.120", "active_power": "1.1784", "reactive_power": "0.1205", "apparent_power": "1.1846",
    "power_factor": "0.995", "phase_angle": "7.2", "frequency": "49.98", "demand_active_import": "1.2003",
    "max_demand_active_import": "4.5678", "max_demand_active_export": "0.0300",
    "credit_balance": "198.56", "overdraft": "0.00", "purchase_count": "17", "price_now": "0.5283",
    "relay_state": "1", "status_word": "0",
}
CANONICAL = {"kW": 1000, "kvar": 1000, "kVA": 1000}


def form(di):
    """Bytes, decimals, signed and unit of an identifier, by the tables of the standard."""
    if len(di) == 8:
        d3, d2, d1, d0 = (int(di[i : i + 2], 16) for i in (0, 2, 4, 6))
        if d3 == 0:
            return (4, 2, d2 in (0, 3, 4), "kWh")
        if d3 == 1:
            return (8, 4, True, "kW")
        if d3 == 2 and d2 == 0x80:
            return {1: (3, 3, True, "A"), 2: (2, 2, False, "Hz"), 4: (3, 4, True, "kW"), 0x0B: (4, 4, False, "")}[d0]
        if d3 == 2:
            return {1: (2, 1, False, "V"), 2: (3, 3, True, "A"), 3: (3, 4, True, "kW"), 4: (3, 4, True, "kvar"),
                    5: (3, 4, False, "kVA"), 6: (2, 3, True, ""), 7: (2, 1, False, "deg")}[d2]
        if di == "03330201":
            return (2, 0, False, "")
        if di.startswith("040005"):
            return (2, None, False, "")
    else:
        if di[0] == "9":
            return (4, 2, False, "kWh")
        if di[0] == "A":
            return (3, 4, False, "kW")
        if di.startswith("B6"):
            return {"1": (2, 0, False, "V"), "2": (2, 2, False, "A"), "3": (3, 4, False, "kW"), "4": (2, 2, False, "kvar"),
                    "5": (2, 3, False, "")}[di[2]]
    raise SystemExit(f"no form for {di}")


def block_items(block):
    """The identifiers in a block, in their order; more tariffs than a meter has are left out."""
    if len(block) == 8:
        front, d1, d0 = block[:4], block[4:6], block[6:]
        if d1 == "FF" and front[:2] in ("00", "01"):
            return [f"{front}{tariff:02X}{d0}" for tariff in range(5)]
        if d1 == "FF":
            first = 0 if front in ("0203", "0204", "0205", "0206") else 1
            return [f"{front}{phase:02X}{d0}" for phase in range(first, 4)]
    if block.startswith("B6"):
        return [f"{block[:3]}{phase}" for phase in range(0 if block[2] in "345" else 1, 4)]
    return [f"{block[:3]}{tariff}" for tariff in range(5)]


def number(name, di):
    """What the meter shows for a point, at the resolution of the item."""
    size, decimals, signed, _ = form(di)
    stem, variation = name, 0
    if found := re.fullmatch(r"(.+)_(t|l)(\d)", name):
        stem, variation = found[1], int(found[3])
    elif name.endswith("_total"):
        stem = name.removesuffix("_total")
    value = Decimal(SHOWN[stem]) * (Decimal(1) - Decimal(variation) / 8)
    if signed and variation == 2:
        value = -value
    return value.quantize(Decimal(1).scaleb(-(decimals or 0)))


def bcd(value, size, signed):
    digits = str(abs(int(value))).zfill(size * 2)
    raw = bytearray(bytes.fromhex(digits)[::-1])
    if signed and value < 0:
        raw[-1] |= 0x80
    return bytes(raw)


def encode(value, di):
    size, decimals, signed, _ = form(di)
    if decimals is None:
        return int(value).to_bytes(size, "little")
    scaled = value.scaleb(decimals)
    if size == 8:
        # maximum demand with the minute when it was: 2026-11-20 18:45
        return bcd(scaled, 3, signed) + bytes.fromhex("4518201126")
    return bcd(scaled, size, signed)


def frame(control, data, wake):
    body = b"\x68" + bytes.fromhex(METER)[::-1] + b"\x68" + bytes([control, len(data)]) + bytes((b + 0x33) & 0xFF for b in data)
    return b"\xfe" * wake + body + bytes([sum(body) & 0xFF, 0x16])


def plan(points, blocks):
    wanted = list(dict.fromkeys(point["di"] for point in points))
    order, reads = {di: place for place, di in enumerate(wanted)}, []
    while True:
        best = max(blocks, key=lambda block: sum(di in wanted for di in block_items(block)), default=None)
        brought = [di for di in block_items(best) if di in wanted] if best else []
        if len(brought) < 2:
            break
        reads.append((min(order[di] for di in brought), best))
        wanted = [di for di in wanted if di not in block_items(best)]
    reads += [(order[di], di) for di in wanted]
    return [di for _, di in sorted(reads)]


def record(path):
    text = path.read_text()
    model = tomllib.loads(text)
    points = [point for point in model["point"] if point.get("poll", True)]
    old = model["edition"] == 1997
    meter, expect = {}, {}
    for point in points:
        name, di = point.get("quantity") or point["vendor"], point["di"]
        if point.get("bit") is not None:
            expect[name] = Decimal(1)
            meter.setdefault(di, Decimal(0))
            continue
        value = meter[di] = number(name, di)
        unit = form(di)[3]
        expect[name] = value * CANONICAL.get(unit, 1)
    pairs = []
    for read in plan(points, model["blocks"]):
        identifier = bytes.fromhex(read)[::-1]
        singles = block_items(read) if read in model["blocks"] else [read]
        data = identifier + b"".join(encode(meter[di], di) for di in singles if di in meter)
        pairs.append((frame(0x01 if old else 0x11, identifier, 4), frame(0x81 if old else 0x91, data, 4)))
    lines = ["[[exchange]]", f'note = "{NOTE}"', "frames = ["]
    lines += [f'    ["{asked.hex().upper()}", "{said.hex().upper()}"],' for asked, said in pairs]
    lines += ["]", "", "[exchange.expect]"]
    lines += [f'{name} = "{value:f}"' for name, value in expect.items()]
    made = "\n".join(lines) + "\n"
    before, *rest = text.split("[[exchange]]")
    kept = [part for part in rest if NOTE not in part]
    path.write_text(before.rstrip() + "\n\n" + made + "".join(f"\n[[exchange]]{part}".rstrip() + "\n" for part in kept))


def main():
    wanted = sys.argv[1:]
    for path in sorted(FOLDER.glob("*.toml")):
        if not wanted or path.stem in wanted:
            record(path)
            print(path.stem)


main()
