"""Writes the recorded exchange of the models in config/meter-models/gdw376: one question and one answer an item, by the
rules of Q/GDW 1376.1-2013 alone (see docs/protocols/gdw376.md), without anything of the server's own code. The values are
chosen so that every one of a model is different.

usage: record_gdw376.py   (from the project's folder; replaces what stands behind the first [[exchange]])
"""

import tomllib
from decimal import Decimal
from pathlib import Path

POINT, TERMINAL = 12, bytes(5)
#: format A.n: bytes, digits behind the point
SIZES = {14: (5, 4), 11: (4, 2), 9: (3, 4), 5: (2, 1), 7: (2, 1), 25: (3, 3)}
ENERGIES = {129: 14, 130: 11, 131: 14, 132: 11}
INSTANT = (
    [f"{kind}{phase}" for kind in ("active power", "reactive power", "power factor")
     for phase in ("", " phase A", " phase B", " phase C")]
    + [f"voltage phase {phase}" for phase in "ABC"] + [f"current phase {phase}" for phase in "ABC"]
    + ["neutral current"] + [f"apparent power{phase}" for phase in ("", " phase A", " phase B", " phase C")])


def bcd(value, form):
    size, behind = SIZES[form]
    digits = f"{int(value.scaleb(behind)):0{2 * size}d}"
    return bytes.fromhex(digits)[::-1]


def form_of(name):
    for start, form in (("power factor", 5), ("voltage", 7), ("current", 25), ("neutral", 25)):
        if name.startswith(start):
            return form
    return 9


def ident(item):
    group, bit = divmod(POINT - 1, 8)
    family, flag = divmod(item - 1, 8)
    return bytes([1 << bit, group + 1, 1 << flag, family])


def frame(control, function, data):
    body = bytes([control]) + TERMINAL + bytes([function, 0x60]) + data
    length = (len(body) << 2 | 2).to_bytes(2, "little")
    return bytes([0x68]) + length * 2 + bytes([0x68]) + body + bytes([sum(body) & 0xFF, 0x16])


def value(item, name, rate):
    """Different everywhere, and within every format."""
    if item == 25:
        place = INSTANT.index(name)
        base = {5: Decimal("61.5"), 7: Decimal("229.4"), 25: Decimal("3.125"), 9: Decimal("1.2051")}[form_of(name)]
        return base + Decimal(place).scaleb(-1)
    return Decimal(item * 31 + 7) + Decimal(rate * 100) + Decimal("0.25")


def answer(item):
    read_at = bytes.fromhex("0514211126")
    if item == 25:
        return read_at + b"".join(bcd(value(25, name, 0), form_of(name)) for name in INSTANT)
    return read_at + bytes([4]) + b"".join(bcd(value(item, "", rate), ENERGIES[item]) for rate in range(5))


def record(path):
    text = path.read_text().split("\n[[exchange]]")[0].rstrip() + "\n"
    model = tomllib.loads(text)
    points = [point for point in model["point"] if point.get("poll", True)]
    items = list(dict.fromkeys(int(point["item"].split("F")[1]) for point in points))
    pairs = [(frame(0x4B, 0x0C, ident(item)), frame(0x88, 0x0C, ident(item) + answer(item))) for item in items]
    scale = {"kW": 1000, "%": Decimal("0.01")}
    expect = []
    for point in points:
        item, name = int(point["item"].split("F")[1]), point.get("field", "")
        told = value(item, name, point.get("rate", 0))
        if item == 25:
            told *= {9: 1000, 5: Decimal("0.01")}.get(form_of(name), 1)
        expect.append((point["quantity"], format(told.normalize(), "f")))
    lines = ["", "[[exchange]]", 'note = "whole plan of point 12, values chosen by tests/peers/record_gdw376.py"', "frames = ["]
    lines += [f'    ["{asked.hex().upper()}", "{said.hex().upper()}"],' for asked, said in pairs]
    lines += ["]", "", "[exchange.expect]"] + [f'{name} = "{told}"' for name, told in expect]
    path.write_text(text + "\n".join(lines) + "\n")


for model in sorted((Path(__file__).resolve().parents[2] / "config/meter-models/gdw376").glob("*.toml")):
    record(model)
