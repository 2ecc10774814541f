"""DTUs and meters with relays, on plain sockets, that know nothing of the server's code: Modbus RTU by the application
protocol V1.1b3, DL/T 645-2007 with its password, operator and deadline. Each meter counts every frame that could move it.
Lines lose what they are told to lose."""

import random
import socket
import struct
import threading
import time
from datetime import datetime, timezone

MODBUS, ITEMS = "polyphase_virtual", "dlt645_2007_single_phase"


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


class Relay:
    """A meter: its relay, and every frame that moved it or would have."""

    def __init__(self, number):
        self.number, self.on, self.frames, self.lock = number, True, [], threading.Lock()

    def write(self, on):
        with self.lock:
            self.on = on
            self.frames.append((time.monotonic(), on))

    def count(self):
        with self.lock:
            return len(self.frames)


class Unit(Relay):
    """Modbus, the model of the server's virtual meter."""

    protocol, model = "modbus-rtu", MODBUS

    def __init__(self, number, unit):
        super().__init__(number)
        self.address, self.key = str(unit), unit

    def reads(self, function, address, count):
        if (function, address) == (2, 0):
            return bytes([1, 1 if self.on else 0])
        if (function, address, count) == (3, 0x200, 2):
            return b"\x04" + struct.pack(">I", 0x00A00000 + self.number)
        if function == 4 and address + count <= 12:
            amps = 5.0 if self.on else 0.0
            whole = struct.pack(">5fI", 230.0, amps, 230.0 * amps, 1.0, 50.0, 123456)
            data = whole[address * 2:(address + count) * 2]
            return bytes([len(data)]) + data
        return None

    def answer(self, frame):
        """(whether it would move the relay, a call that does it and gives the answer)"""
        unit, function, address, word = struct.unpack(">BBHH", frame[:6])
        if function == 5 and address == 0:
            return True, lambda: self.moved(word == 0xFF00, frame[:6])
        body = self.reads(function, address, word) if function in (1, 2, 3, 4) else None
        answer = bytes([unit, function | 0x80, 2]) if body is None else bytes([unit, function]) + body
        return False, lambda: answer + crc(answer)

    def moved(self, on, echo):
        self.write(on)
        return echo + crc(echo)


class Item(Relay):
    """DL/T 645-2007."""

    protocol, model = "dlt645-2007", ITEMS

    def __init__(self, number, password="000000"):
        super().__init__(number)
        self.address = f"2026{number:08}"
        self.key = bytes.fromhex(self.address)[::-1]
        # high digits last
        self.password = bytes.fromhex(password)[::-1]

    def frame(self, control, data):
        body = b"\x68" + self.key + b"\x68" + bytes([control, len(data)]) + bytes((byte + 0x33) & 255 for byte in data)
        return b"\xfe" * 4 + body + bytes([sum(body) & 255, 0x16])

    def answer(self, frame):
        control, data = frame[8], bytes((byte - 0x33) & 255 for byte in frame[10:-2])
        if control == 0x1C and len(data) == 16:
            return True, lambda: self.control(data)
        known = {
            bytes.fromhex("01040004"): self.key,
            bytes.fromhex("03050004"): b"\x00\x00" if self.on else b"\x50\x00",
            # 1.1500 kW
            bytes.fromhex("00000302"): b"\x00\x15\x01" if self.on else b"\x00\x00\x00",
        }
        if control == 0x11 and data in known:
            return False, lambda: self.frame(0x91, data + known[data])
        return False, lambda: self.frame(control | 0xC0, b"\x02")

    def control(self, data):
        if data[1:4] != self.password:
            return self.frame(0xDC, b"\x04")
        second, minute, hour, day, month, year = (int(f"{byte:02x}") for byte in data[10:])
        if any(data[10:]):
            until = datetime(2000 + year, month, day, hour, minute, second, tzinfo=timezone.utc)
            if datetime.now(timezone.utc) > until:
                return self.frame(0xDC, b"\x01")
        if data[8] not in (0x1A, 0x1C):
            return self.frame(0xDC, b"\x01")
        self.write(data[8] == 0x1C)
        return self.frame(0x9C, b"")


class Dtu(threading.Thread):
    """Dials, says its SN, and passes bytes. `lose` and `cut`: how often a byte stream ends there, with `dice`."""

    def __init__(self, port, sn, relays, dice=None, lose=0.0, cut=0.0):
        super().__init__(daemon=True)
        self.port, self.sn = port, sn
        self.relays = {relay.key: relay for relay in relays}
        self.dice, self.lose, self.cut = dice or random.Random(0), lose, cut
        self.present, self.ended = threading.Event(), threading.Event()
        self.present.set()
        self.online_since = None

    def run(self):
        while not self.ended.is_set():
            if not self.present.wait(0.2):
                continue
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as line:
                    line.settimeout(0.2)
                    line.sendall(self.sn.encode())
                    self.online_since = time.monotonic()
                    self.serve(line)
            except OSError:
                pass
            self.online_since = None
            time.sleep(self.dice.uniform(0.2, 1.0))

    def serve(self, line):
        pending = b""
        while self.present.is_set() and not self.ended.is_set():
            try:
                data = line.recv(512)
            except TimeoutError:
                continue
            if not data:
                return
            pending += data
            while True:
                frame, pending = self.next(pending)
                if frame is None:
                    break
                if not self.pass_on(line, frame):
                    return

    def next(self, pending):
        """One frame of either protocol, and what is left. A line has meters of one of them."""
        if any(isinstance(key, int) for key in self.relays):
            if len(pending) < 8:
                return None, pending
            if crc(pending[:6]) != pending[6:8]:
                raise OSError("no frame of ours")
            return pending[:8], pending[8:]
        pending = pending.lstrip(b"\xfe")
        if len(pending) < 12 or len(pending) < 12 + pending[9]:
            return None, pending
        end = 12 + pending[9]
        if pending[0] != 0x68 or sum(pending[:end - 2]) & 255 != pending[end - 2]:
            raise OSError("no frame of ours")
        return pending[:end], pending[end:]

    def pass_on(self, line, frame):
        key = frame[0] if frame[0] in self.relays else frame[1:7]
        relay = self.relays.get(key)
        if relay is None:
            return True
        moves, act = relay.answer(frame)
        fate = self.dice.random()
        if fate < self.lose:
            return True  # never arrives
        if fate < self.lose + self.cut:
            return False  # cut before it arrives
        answer = act()
        if moves and fate < 2 * self.lose + self.cut:
            return True  # the answer is lost
        if moves and fate < 2 * (self.lose + self.cut):
            return False  # cut behind it
        line.sendall(answer)
        return True


class Field:
    """DTUs with relays, and the meters that the server has for them."""

    def __init__(self, head, client, prefix, dtus, units, dice=None, lose=0.0, cut=0.0, present=True, items=False, idle=0):
        self.dtus, self.meters, self.ids = [], {}, {}
        for index in range(dtus):
            sn = f"{prefix}{index + 1:06}"
            made = client.post("/api/v1/dtus", {"sn": sn, "name": sn})
            # every other line is of DL/T 645, if asked for
            number = index * 256 + 1
            kind = (lambda n: Item(n)) if items and index % 2 else (lambda n: Unit(n, n - index * 256))
            relays = [kind(number + unit) for unit in range(units)]
            dtu = Dtu(head.device, sn, relays, random.Random(dice.random() if dice else 0), lose, cut)
            if not present:
                dtu.present.clear()
            self.dtus.append(dtu)
            self.ids[dtu] = made["id"]
            for relay in relays:
                meter = client.post("/api/v1/meters", {
                    "dtu_id": made["id"], "protocol": relay.protocol, "address": relay.address, "model": relay.model,
                    "name": f"{sn}/{relay.address}"})
                self.meters[meter["id"]] = (dtu, relay)
            # of which nobody asks anything; the brake's share of a DTU counts them
            for number in range(idle):
                client.post("/api/v1/meters", {
                    "dtu_id": made["id"], "protocol": "modbus-rtu", "address": str(200 + number), "model": MODBUS,
                    "name": f"{sn}/idle {number}"})
            dtu.start()

    def frames(self):
        return sum(relay.count() for _, relay in self.meters.values())

    def times(self, on):
        return sorted(at for _, relay in self.meters.values() for at, moved in list(relay.frames) if moved == on)

    def end(self):
        for dtu in self.dtus:
            dtu.ended.set()
