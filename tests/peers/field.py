"""DTUs of the tests' own: they dial a head end, register in every mode, send heartbeats at random points and relay to
pymodbus slaves, whose replies they delay, drop, repeat, split and mix with foreign ones.

Every value says whose it is (DTU, unit, block) and when the slave gave it, so that a value under the wrong meter, the
wrong register or the wrong time is found by looking at it.
"""

import asyncio
import collections
import random
import struct
import time

from pymodbus.constants import ExcCodes  # noqa: F401  (an import that fails early when the peer is another version)
from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

BLOCKS = (0, 100, 200, 300)
# what a busy host may add to a delay before the frame is left out: the head end waits four time-outs (600 ms) for a late one
HOST_S = 0.1
PULSE_S = 0.005


class Pulse:
    """When this process was surely running last: a question that is read now may have waited since then, when the host gave
    the processor to others."""

    def __init__(self):
        self.last = self.before = time.monotonic()

    async def beat(self):
        while True:
            await asyncio.sleep(PULSE_S)
            # the one before the last: what came while the last was on its way is read behind it
            self.before, self.last = self.last, time.monotonic()


PULSE = Pulse()


def identity(dtu, unit, block):
    """What id_a … id_d hold."""
    return (dtu << 16 | unit << 8 | (0xA0 + block)) & 0xFFFFFFFF


def now_ms():
    """What time_a … time_d hold: milliseconds, the low 32 bits."""
    return int(time.time() * 1000) & 0xFFFFFFFF


def crc(data):
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0xA001 if value & 1 else 0)
    return struct.pack("<H", value)


def device(dtu, unit, counters):
    async def action(function, start, address, count, registers, written):
        counters["executed"] += 1
        for block, base in enumerate(BLOCKS):
            if base == address:
                offset = base - start
                words = struct.unpack(">4H", struct.pack(">II", identity(dtu, unit, block), now_ms()))
                registers[offset:offset + 4] = list(words)
        return None

    data = [SimData(base, values=[0] * 4, datatype=DataType.REGISTERS) for base in BLOCKS]
    return SimDevice(unit, simdata=data, action=action)


class Mode:
    """How a DTU says its SN. `sn` is what the head end shows."""

    def __init__(self, name, sn, hello, prefix=b"", heartbeat=b"HB", wrap=None, unwrap=None):
        self.name, self.sn, self.hello, self.prefix, self.heartbeat = name, sn, hello, prefix, heartbeat
        self.wrap = wrap or (lambda data: data)
        self.unwrap = unwrap or (lambda data: data)


def ddp(kind, ident, payload):
    return bytes([0x7B, kind]) + struct.pack(">H", len(payload) + 16) + ident + payload + b"\x7B"


def ddp_unwrap():
    pending = bytearray()

    def unwrap(data):
        pending.extend(data)
        out = b""
        while len(pending) >= 16 and pending[0] == 0x7B:
            length = struct.unpack(">H", pending[2:4])[0]
            if len(pending) < length:
                break
            if pending[1] == 0x89:
                out += bytes(pending[15:length - 1])
            del pending[:length]
        return out

    return unwrap


def prot_escape(data):
    return b"".join({0xFD: b"\xFD\xED", 0xFE: b"\xFD\xEE"}.get(byte, bytes([byte])) for byte in data)


def prot_unescape():
    escaped = [False]

    def unescape(data):
        out = bytearray()
        for byte in data:
            if escaped[0]:
                out.append({0xED: 0xFD, 0xEE: 0xFE}[byte])
                escaped[0] = False
            elif byte == 0xFD:
                escaped[0] = True
            elif byte != 0xFE:
                out.append(byte)
        return bytes(out)

    return unescape


def luhn(digits):
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str((10 - total % 10) % 10)


def mode(index):
    """The mode of the DTU at this index; they take turns."""
    number = 12060000 + index
    text = str(number)
    imei14 = f"86{number:012d}"
    imei = imei14 + luhn(imei14)
    iccid = f"8986{number:016d}"
    phone = f"139{number:08d}"
    mac = bytes([0xD4, 0xAD, 0x20, index >> 8, index & 255, 7])
    pattern = f"ZX{number}"
    binary = bytes([0x9A, 0xC3, index >> 8, index & 255, 0xF1])
    return [
        lambda: Mode("ascii", text, text.encode()),
        lambda: Mode("line", f"DTU-{number}", f"DTU-{number}\r\n".encode()),
        lambda: Mode("login", f"L{number}", f"LOGIN:L{number}".encode(), heartbeat=b"LOG"),
        lambda: Mode("imei", imei, imei.encode(), heartbeat=b"\xFE"),
        lambda: Mode("iccid", iccid, iccid.encode(), heartbeat=b"www.usr.cn"),
        lambda: Mode("mac", mac.hex().upper(), mac, heartbeat=b"\xFF\xFF\x80\x80"),
        lambda: Mode("every", f"E{number}", f"E{number}".encode(), prefix=f"E{number}".encode()),
        lambda: Mode("ddp", phone, ddp(1, phone.encode(), b"\x0A\x00\x00\x01\x1F\x40"),
                     heartbeat=ddp(1, phone.encode(), b"\x0A\x00\x00\x01\x1F\x40"),
                     wrap=lambda data: ddp(9, phone.encode(), data), unwrap=ddp_unwrap()),
        lambda: Mode("prefixed", pattern, f"SN={pattern}\r\n".encode()),
        lambda: Mode("hex", binary.hex().upper(), binary),
        lambda: Mode("inhand", phone, b"\xAA\x01" + phone.encode() + b"\x0D"),
        lambda: Mode("prot", phone, struct.pack("<I", number) + phone.encode() + b"\x00\xC0\xA8\x01\x42\x00",
                     heartbeat=b"\xFE", wrap=prot_escape, unwrap=prot_unescape()),
    ][index % 12]()


class Dtu:
    """One DTU with its line of slaves."""

    def __init__(self, index, server, slaves, faults, seed, counters):
        self.mode = mode(index)
        self.server, self.slaves = server, slaves
        self.faults, self.counters = faults, counters
        self.dice = random.Random(seed * 10007 + index)
        self.tasks = set()
        self.asked = collections.deque()

    async def run(self):
        while True:
            try:
                await self.session()
            except (OSError, asyncio.IncompleteReadError):
                pass
            await asyncio.sleep(self.dice.uniform(0.2, 1.0))

    async def session(self):
        line_in, line_out = await asyncio.open_connection("127.0.0.1", self.slaves)
        head_in, head_out = await asyncio.open_connection("127.0.0.1", self.server)
        self.counters["sessions"] += 1
        self.asked.clear()
        await self.send_hello(head_out)
        parts = [self.down(head_in, line_out), self.up(line_in, head_out), self.beat(head_out)]
        parts = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in (*parts, *self.tasks):
                part.cancel()
            self.tasks.clear()
            head_out.close()
            line_out.close()

    async def send_hello(self, out):
        """Whole, in two segments, or with a heartbeat right behind it."""
        hello, way = self.mode.hello, self.dice.randrange(3)
        if way == 1 and len(hello) > 2:
            cut = self.dice.randrange(1, len(hello))
            out.write(hello[:cut])
            await out.drain()
            await asyncio.sleep(0.05)
            out.write(hello[cut:])
        else:
            out.write(hello)
        await out.drain()

    async def down(self, head_in, line_out):
        """Questions, eight bytes each; the slaves answer them in order, however late."""
        pending = 0
        while data := await head_in.read(4096):
            data = self.mode.unwrap(data)
            if data:
                pending += len(data)
                self.asked.extend([PULSE.before] * (pending // 8))
                pending %= 8
                line_out.write(data)

    async def up(self, line_in, head_out):
        """Replies of the slaves; one frame at a time, since the head end asks one question at a time."""
        pending = b""
        while data := await line_in.read(4096):
            pending += data
            while len(pending) >= 5:
                length = 5 if pending[1] & 0x80 else 5 + pending[2]
                if len(pending) < length:
                    break
                frame, pending = pending[:length], pending[length:]
                self.counters["replies"] += 1
                asked_at = self.asked.popleft() if self.asked else PULSE.before
                task = asyncio.ensure_future(self.relay(frame, head_out, asked_at))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    def hit(self, name):
        hit = self.dice.random() < self.faults.get(name, 0)
        if hit:
            self.counters[name] += 1
        return hit

    def overdue(self, since):
        """Whether a busy host made it later than this field is meant to be; a frame that is says nothing of the head end."""
        late = time.monotonic() - since > self.faults.get("late_s", 0) + HOST_S
        self.counters["overdue"] += late
        return late

    async def relay(self, frame, out, asked_at):
        if self.hit("drop"):
            return
        if self.hit("late"):
            await asyncio.sleep(self.dice.uniform(0, self.faults["late_s"]))
        if self.hit("foreign_address"):
            self.counters["strays"] += 1
            out.write(self.packet(self.reseal(bytes([frame[0] ^ 0x40]) + frame[1:-2])))
        if self.hit("wrong_function"):
            self.counters["strays"] += 1
            out.write(self.packet(self.reseal(frame[:1] + b"\x04" + frame[2:-2])))
        if self.hit("noise"):
            out.write(self.packet(self.dice.randbytes(self.dice.randrange(1, 6))))
        broken = b""
        if self.hit("flip"):
            broken = bytearray(frame)
            broken[self.dice.randrange(len(broken))] ^= 1 << self.dice.randrange(8)
            frame = bytes(broken)
        if self.overdue(asked_at):
            return
        await self.pieces(frame, out)
        if self.hit("repeat"):
            said_at = time.monotonic()
            await asyncio.sleep(self.dice.uniform(0, self.faults["late_s"]))
            if not self.overdue(said_at):
                self.counters["strays"] += not broken
                await self.pieces(frame, out)

    @staticmethod
    def reseal(body):
        return body + crc(body)

    def packet(self, data):
        return self.mode.wrap(self.mode.prefix + data)

    async def pieces(self, frame, out):
        """The reply whole, split, or with a heartbeat before, inside or behind it."""
        framed = self.mode.name in ("ddp", "prot")
        heartbeat = self.mode.heartbeat
        if self.hit("heartbeat_glued"):
            data = self.packet(frame)
            out.write(heartbeat + data if self.dice.random() < 0.5 else data + heartbeat)
        elif self.hit("heartbeat_inside"):
            cut = self.dice.randrange(1, len(frame))
            if framed:
                out.write(self.packet(frame[:cut]) + heartbeat + self.packet(frame[cut:]))
            else:
                data = self.packet(frame)
                cut += len(self.mode.prefix)
                out.write(data[:cut] + heartbeat + data[cut:])
        elif self.hit("split"):
            data = self.packet(frame)
            cut = self.dice.randrange(1, len(data))
            out.write(data[:cut])
            await asyncio.sleep(self.dice.uniform(0.001, 0.03))
            out.write(data[cut:])
        else:
            out.write(self.packet(frame))
        await out.drain()

    async def beat(self, out):
        while True:
            await asyncio.sleep(self.dice.uniform(0.5, self.faults.get("heartbeat_s", 5)))
            self.counters["heartbeats"] += 1
            out.write(self.mode.heartbeat)
            await out.drain()


async def field(server, dtus, units, faults, seed, counters, ready=None):
    """Runs the whole field until it is cancelled."""
    servers = []
    for index in range(dtus):
        devices = [device(index, unit, counters) for unit in range(1, units + 1)]
        slave = ModbusTcpServer(devices, framer=FramerType.RTU, address=("127.0.0.1", 0))
        await slave.listen()
        port = slave.transport.sockets[0].getsockname()[1]
        servers.append((slave, port))
    running = [
        asyncio.ensure_future(Dtu(index, server, port, faults, seed, counters).run())
        for index, (_, port) in enumerate(servers)
    ]
    running.append(asyncio.ensure_future(PULSE.beat()))
    if ready:
        ready.set()
    try:
        await asyncio.gather(*running)
    finally:
        for slave, _ in servers:
            await slave.shutdown()
