"""Writes the recorded exchange of the models in config/meter-models/dlt698: the whole plan as one list of attributes, asked
of an independent device (PyPI dlt698) by a question that is put together here, without anything of the server's own code.
The values are chosen so that every one of a model is different.

usage: record_dlt698.py   (from the project's folder; replaces what stands behind the first [[exchange]])
"""

import socket
import threading
import tomllib
from decimal import Decimal
from pathlib import Path

import dlt698 as d
from dlt698 import _native as n
from dlt698.expert import Engine, ObjectRegistry, register_standard_object

ADDRESS = bytes.fromhex("202611210042")
D = d.Data
#: object: type, power of ten and unit on the wire (annex E), canonical power of ten
KINDS = {0x0000: (D.int32, -2), 0x2000: (D.uint16, -1), 0x2001: (D.int32, -3), 0x2004: (D.int32, -1), 0x2005: (D.int32, -1),
         0x200A: (D.int16, -3), 0x200F: (D.uint16, -2)}


def kind(oi):
    return KINDS.get(oi, (D.uint32, -2))


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x8408 if value & 1 else 0)
    return (value ^ 0xFFFF).to_bytes(2, "little")


def question(oads, preambles):
    """GET of a list, number 1, from client 1."""
    apdu = bytes([5, 2, 1, len(oads)]) + b"".join(bytes.fromhex(oad) for oad in oads) + b"\0"
    head = b"\x43" + bytes([len(ADDRESS) - 1]) + ADDRESS[::-1] + b"\x01"
    head = (2 + len(head) + 2 + len(apdu) + 2).to_bytes(2, "little") + head
    body = head + crc(head) + apdu
    return b"\xFE" * preambles + b"\x68" + body + crc(body) + b"\x16"


def plan(points):
    """Attributes in the order of the file: whole where several of their values are wanted."""
    oads = [point["oad"] for point in points]
    several = [o for o in oads if sum(x[:6] == o[:6] for x in oads) > 1]
    return list(dict.fromkeys(o[:6] + "00" if o in several else o for o in oads))


def raw(oi, index):
    """Different everywhere, and plausible."""
    return {0x2000: 2291, 0x2001: 5123, 0x2004: 34567, 0x2005: 2345, 0x200A: 937, 0x200F: 4998}.get(oi, oi * 7919 + 51837) \
        + 11 * index


def device(points, phases):
    """What the device holds: every attribute with as many values as the standard gives it."""
    objects = ObjectRegistry()
    for oi in {int(point["oad"][:4], 16) for point in points}:
        make, _ = kind(oi)
        count = {0x2000: phases, 0x2001: phases, 0x200F: 0}.get(oi, 1 + phases if oi in KINDS else 5)
        held = n.MemoryObject()
        value = D.array([make(raw(oi, i)) for i in range(1, count + 1)]) if count else make(raw(oi, 0))
        held.set(2, value)
        register_standard_object(objects, oi, bytes([2]), held)
    return Engine(n.SessionOptions(server=n.ServerAddress(bytes=ADDRESS[::-1]), client_address=1), objects)


def ask(engine, wire):
    """The answer's bytes as they came."""
    port = engine.listen("127.0.0.1", 0, d.ConnectionProfile.local_preset)
    got = bytearray()

    def client():
        with socket.create_connection(("127.0.0.1", port), 10) as line:
            line.sendall(wire)
            line.settimeout(2)
            try:
                while chunk := line.recv(4096):
                    got.extend(chunk)
            except TimeoutError:
                pass

    asking = threading.Thread(target=client)
    asking.start()
    while asking.is_alive():
        engine.poll(0.02)
    engine.close()
    return bytes(got)


def record(path):
    text = path.read_text().split("\n[[exchange]]")[0].rstrip() + "\n"
    model = tomllib.loads(text)
    points = [point for point in model["point"] if point.get("poll", True)]
    wire = question(plan(points), 4)
    said = ask(device(points, model["phases"]), wire)
    lines = ["", "[[exchange]]", 'note = "whole plan, answered by PyPI dlt698 (tests/peers/record_dlt698.py)"', "frames = ["]
    lines += [f'    ["{wire.hex().upper()}", "{said.hex().upper()}"],', "]", "", "[exchange.expect]"]
    for point in points:
        oi, index = int(point["oad"][:4], 16), int(point["oad"][6:], 16)
        told = Decimal(raw(oi, index)).scaleb(kind(oi)[1])
        lines.append(f'{point["quantity"]} = "{told.normalize():f}"')
    path.write_text(text + "\n".join(lines) + "\n")


for model in sorted((Path(__file__).resolve().parents[2] / "config/meter-models/dlt698").glob("*.toml")):
    record(model)
