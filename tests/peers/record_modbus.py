#!/usr/bin/env python3
"""Records the exchange of every Modbus meter model with an independent peer.

Loads self-chosen plausible values into a pymodbus server, reads them with a pymodbus client in RTU framing, captures
the bytes of both directions, and rewrites the `[[exchange]]` at the end of each model file. Planning, encoding and the
expected values are worked out here on their own, so that the replay compares two implementations.

    scripts/install.sh test
    target/peers/bin/python tests/peers/record_modbus.py [MODEL…]
"""

import asyncio
import re
import struct
import sys
import tomllib
from decimal import Decimal
from pathlib import Path

import pymodbus
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

FOLDER = Path(__file__).parents[2] / "config" / "meter-models" / "modbus"
WORDS = {"u16": 1, "i16": 1, "bcd16": 1, "u32": 2, "i32": 2, "f32": 2, "bcd32": 2, "u64": 4, "i64": 4, "f64": 4, "bcd64": 4}
CANONICAL = {"k": Decimal(1000), "M": Decimal(1000000)}

# what the meter shows, in canonical units; by the beginning of the quantity's name, the first that fits
SHOWN = [
    ("voltage_l1_l2", "398.6"), ("voltage_l2_l3", "401.2"), ("voltage_l3_l1", "400.1"),
    ("voltage_thd_l1", "2.5"), ("voltage_thd_l2", "2.25"), ("voltage_thd_l3", "3.125"),
    ("voltage_l1", "230.2"), ("voltage_l2", "231.7"), ("voltage_l3", "229.4"), ("voltage_avg", "230.4"),
    ("current_unbalance", "4.5"), ("current_l1", "5.12"), ("current_l2", "12.34"), ("current_l3", "0.87"),
    ("current_n", "0.25"), ("current_total", "18.33"),
    ("active_power_l1", "1178.4"), ("active_power_l2", "-2859.1"), ("active_power_l3", "199.6"), ("active_power_total", "-1481.1"),
    ("reactive_power_l1", "120.5"), ("reactive_power_l2", "-340.2"), ("reactive_power_l3", "15.3"), ("reactive_power_total", "-204.4"),
    ("apparent_power_l1", "1184.6"), ("apparent_power_l2", "2879.3"), ("apparent_power_l3", "200.2"), ("apparent_power_total", "4264.1"),
    ("power_factor_l1", "0.995"), ("power_factor_l2", "0.993"), ("power_factor_l3", "0.997"), ("power_factor_total", "0.994"),
    ("frequency", "49.98"), ("phase_angle", "-7.25"), ("pt_ratio", "1"), ("ct_ratio", "40"),
    ("active_energy_total_t1", "8214.07"), ("active_energy_total_t2", "4131.49"),
    ("active_energy_total_l1", "4115.18"), ("active_energy_total_l2", "4120.2"), ("active_energy_total_l3", "4110.18"),
    ("active_energy_total", "12345.56"),
    ("active_energy_import_l1", "4007.3"), ("active_energy_import_l2", "4012.41"), ("active_energy_import_l3", "4002.09"),
    ("active_energy_import", "12021.8"),
    ("active_energy_export_l1", "107.88"), ("active_energy_export_l2", "107.79"), ("active_energy_export_l3", "108.09"),
    ("active_energy_export", "323.76"),
    ("reactive_energy_import_l", "411.02"), ("reactive_energy_export_l", "33.5"),
    ("reactive_energy_total", "1333.56"), ("reactive_energy_import", "1233.06"), ("reactive_energy_export", "100.5"),
    ("apparent_energy_import", "12110.4"),
]


def shown(name):
    for beginning, value in SHOWN:
        if name.startswith(beginning):
            return Decimal(value)
    raise SystemExit(f"no value chosen for {name}")


def shortest(bits, wide):
    """The shortest decimal that reads back as the same float."""
    code, most = (">d", 17) if wide else (">f", 9)
    (value,) = struct.unpack(code, bits)
    for digits in range(1, most + 1):
        text = f"{value:.{digits}g}"
        if struct.pack(code, float(text)) == bits:
            return Decimal(text)
    raise AssertionError(bits)


def factor(point):
    unit = point["unit"]
    scale = Decimal(str(point.get("scale", 1)))
    if unit.endswith(("Wh", "varh", "VAh")):
        return scale * {"k": Decimal(1), "M": Decimal(1000)}.get(unit[0], Decimal("0.001"))
    if unit[:1] in CANONICAL and len(unit) > 1:
        return scale * CANONICAL[unit[0]]
    if unit[:1] == "m" and len(unit) > 1:
        return scale * Decimal("0.001")
    return scale


def encode(point):
    """The registers of a point and the value that they mean, in the canonical unit."""
    kind, by = point["type"], factor(point)
    words = WORDS[kind]
    value = shown(point["quantity"])
    if point.get("encoding") == "four_quadrant" and point["quantity"] != "power_factor_l1":
        raw = 2 - value  # leading
    else:
        raw = value / by
    if kind in ("u16", "u32", "u64"):
        raw = abs(raw)
    if kind in ("f32", "f64"):
        data = struct.pack(">f" if kind == "f32" else ">d", float(raw))
        meant = shortest(data, kind == "f64")
    else:
        meant = Decimal(round(raw))
        if kind.startswith("bcd"):
            data = bytes.fromhex(f"{int(meant):0{4 * words}d}")
        else:
            data = int(meant).to_bytes(2 * words, "big", signed=kind[0] == "i")
    meant *= by
    if point.get("encoding") == "four_quadrant" and meant > 1:
        meant = 2 - meant
    registers = list(struct.unpack(f">{words}H", data))
    if point["byte_order"] == "little":
        registers = [(r & 255) << 8 | r >> 8 for r in registers]
    if point["word_order"] == "little":
        registers.reverse()
    return registers, format(meant.normalize(), "f")


def blocks(points, limits):
    """Start and end (exclusive) of each read, by function: as many points as fit, across small gaps only."""
    out = []
    for point in sorted(points, key=lambda p: (p["function"], p["address"])):
        start, end = point["address"], point["address"] + WORDS[point["type"]]
        if out and out[-1][0] == point["function"]:
            _, first, last = out[-1]
            if start - last <= limits.get("max_gap", 0) and end - first <= limits.get("max_registers", 50):
                out[-1] = (point["function"], first, max(last, end))
                continue
        out.append((point["function"], start, end))
    return out


async def record(unit, reads, registers):
    """Reads every block from a fresh server; returns the frames as they went over the wire."""
    areas = {}
    for function in (3, 4):
        data = [
            SimData(start, values=[registers.get((function, a), 0) for a in range(start, end)], datatype=DataType.REGISTERS)
            for f, start, end in reads
            if f == function
        ]
        areas[function] = data or [SimData(0, values=0, datatype=DataType.REGISTERS)]
    bits = [SimData(0, values=False, datatype=DataType.BITS)]
    device = SimDevice(unit, simdata=(bits, bits, areas[3], areas[4]))
    server = ModbusTcpServer(device, framer=FramerType.RTU, address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    port = server.transport.sockets[0].getsockname()[1]
    wire = []

    def trace(sending, data):
        wire.append((sending, bytes(data)))
        return data

    client = AsyncModbusTcpClient("127.0.0.1", port=port, framer=FramerType.RTU, trace_packet=trace, timeout=2)
    await client.connect()
    frames = []
    for function, start, end in reads:
        wire.clear()
        read = client.read_holding_registers if function == 3 else client.read_input_registers
        answer = await read(start, count=end - start, device_id=unit)
        assert not answer.isError(), answer
        asked = b"".join(data for sending, data in wire if sending)
        heard = b"".join(data for sending, data in wire if not sending)
        assert len(heard) == 5 + 2 * (end - start), heard.hex()
        frames.append((asked.hex().upper(), heard.hex().upper()))
    client.close()
    await server.shutdown()
    return frames


def main():
    for file in sorted(FOLDER.glob("*.toml")):
        if len(sys.argv) > 1 and file.stem not in sys.argv[1:]:
            continue
        text = file.read_text()
        model = tomllib.loads(text)
        defaults = {"word_order": "big", "byte_order": "big", **model.get("defaults", {})}
        points = [{**defaults, **p} for p in model["point"] if p.get("poll", True)]
        registers, expect = {}, {}
        empty = next((p for p in points if p.get("invalid") and p["quantity"].startswith("power_factor")), None)
        for point in points:
            cells, meant = encode(point)
            if point is empty:
                cells = [int(point["invalid"][i : i + 4], 16) for i in range(0, len(point["invalid"]), 4)]
                meant = "none"
            registers.update({(point["function"], point["address"] + i): cell for i, cell in enumerate(cells)})
            expect[point["quantity"]] = meant
        reads = blocks(points, model.get("limits", {}))
        frames = asyncio.run(record(model["serial"].get("address", 1), reads, registers))
        lines = ["", "[[exchange]]"]
        lines.append(f'note = "self-chosen values in a pymodbus {pymodbus.__version__} server, read by its client in RTU framing"')
        lines.append("frames = [")
        lines += [f'    ["{asked}", "{heard}"],' for asked, heard in frames]
        lines += ["]", "", "[exchange.expect]"]
        lines += [f'{name} = "{value}"' for name, value in expect.items()]
        body = re.split(r"\n\[\[exchange\]\]", text)[0].rstrip("\n")
        file.write_text(body + "\n" + "\n".join(lines) + "\n")
        print(f"{file.stem}: {len(points)} points in {len(reads)} reads")


if __name__ == "__main__":
    main()
