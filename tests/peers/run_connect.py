"""Every way a line is reached, from outside: dialled converter, Modbus TCP, serial port, virtual DTU on TCP and on a
serial port, unknown SN through quarantine; takeover, far ends that restart, and what another account sees. The far ends
are pymodbus, or a small RTU responder behind a pseudo-terminal. Exit 1 on any fault; prints a JSON report.

usage: run_connect.py [--limit SECONDS]
"""

import argparse
import asyncio
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tty
from datetime import datetime, timezone
from pathlib import Path

from pymodbus.framer import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from field import crc
from headend import PROGRAM, Follower, HeadEnd, Problem, free_port

UNIT = 7
EVERY_S = 5
SCHEDULE = {"name": "quick", "cron": f"*/{EVERY_S} * * * * *", "time_zone": "UTC", "quantities": [], "spread_s": 0,
            "window_s": EVERY_S, "retry": {"attempts": 2, "backoff_s": 1, "deadline_s": EVERY_S}}


def registers(number):
    """An SDM120's input registers: every far end has values of its own, exact in binary."""
    words = [0] * 0x200
    for address, value in ((0x00, 200.5 + number), (0x46, 50.0), (0x48, 1000.25 * number)):
        words[address:address + 2] = struct.unpack(">2H", struct.pack(">f", value))
    return words


def expected(number):
    return {"voltage_l1": 200.5 + number, "frequency": 50.0, "active_energy_import": 1000.25 * number}


class PymodbusServer:
    """A pymodbus server in a thread of its own, on a port that stays the same over restarts."""

    def __init__(self, number, framer):
        self.number, self.framer, self.port = number, framer, free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.loop, ready = asyncio.new_event_loop(), threading.Event()

        async def serve():
            device = SimDevice(UNIT, simdata=[SimData(0, values=registers(self.number), datatype=DataType.REGISTERS)])
            self.server = ModbusTcpServer([device], framer=self.framer, address=("127.0.0.1", self.port))
            await self.server.listen()
            ready.set()

        def work():
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(serve())
            self.loop.run_forever()

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        assert ready.wait(20), "the pymodbus server does not start"

    def stop(self):
        asyncio.run_coroutine_threadsafe(self.server.shutdown(), self.loop).result(20)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(20)


def answer(request, words):
    """The RTU answer to a read of input registers; none to what is not for us or broken."""
    if len(request) != 8 or crc(request[:6]) != request[6:] or request[0] != UNIT:
        return None
    function, start, count = struct.unpack(">BHH", request[1:6])
    if function != 4 or start + count > len(words):
        body = bytes([UNIT, function | 0x80, 2])
    else:
        body = bytes([UNIT, function, 2 * count]) + struct.pack(f">{count}H", *words[start:start + count])
    return body + crc(body)


class SerialMeter:
    """A meter behind a pseudo-terminal. `path` is a link that stays the same when it is unplugged and plugged again."""

    def __init__(self, number, path):
        self.number, self.path = number, path
        self.start()

    def start(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        if os.path.islink(self.path):
            os.unlink(self.path)
        self.device = os.ttyname(self.slave)
        os.symlink(self.device, self.path)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.work, args=(self.master,), daemon=True)
        self.thread.start()

    def work(self, master):
        pending = b""
        while not self.ended.is_set():
            readable, _, _ = select.select([master], [], [], 0.05)
            if not readable:
                pending = b""
                continue
            try:
                pending += os.read(master, 256)
            except OSError:
                return
            if len(pending) >= 8:
                if reply := answer(pending[:8], registers(self.number)):
                    os.write(master, reply)
                pending = pending[8:]

    def stop(self):
        self.ended.set()
        self.thread.join(5)
        os.close(self.slave)
        os.close(self.master)


class InboundDtu:
    """A DTU of the test's own: dials, says its SN, answers as a meter, notes when it is closed."""

    def __init__(self, port, sn, number):
        self.requests, self.closed = 0, threading.Event()
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(sn.encode())
        threading.Thread(target=self.work, args=(registers(number),), daemon=True).start()

    def work(self, words):
        try:
            while data := self.socket.recv(256):
                if reply := answer(data, words):
                    self.requests += 1
                    self.socket.sendall(reply)
        except OSError:
            pass
        self.closed.set()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def virtual_dtu(head, sn, *device):
    return subprocess.Popen([PROGRAM, "virtual-dtu", "--connect", f"127.0.0.1:{head.device}", "--sn", sn, *device],
                            stdout=head.log, stderr=head.log, start_new_session=True)


class Drill:
    def __init__(self, head, client, limit):
        self.head, self.client, self.limit = head, client, limit
        self.faults, self.report = [], {}

    def expect(self, what, holds, detail=""):
        if not holds:
            self.faults.append(f"{what}: {detail}")
        return holds

    def until(self, what, test, seconds=None):
        """Waits until `test` holds; how long it took."""
        begun, last = time.monotonic(), None
        while time.monotonic() - begun < (seconds or self.limit):
            try:
                if test():
                    return round(time.monotonic() - begun, 1)
            except Problem as problem:
                last = problem
            time.sleep(0.25)
        self.faults.append(f"{what}: not within {seconds or self.limit} s {last or ''}")
        return None

    def judge(self, what, items, number):
        values = {item["quantity"]: item["value"] for item in items}
        for quantity, value in expected(number).items():
            shown = values.get(quantity)
            self.expect(f"{what} {quantity}", shown is not None and float(shown) == value, f"{shown}, not {value}")

    def make(self, kind, connect, sn=None, protocol="modbus-rtu"):
        body = {"name": kind, "connect": connect, "schedule": self.schedule}
        if sn:
            body["sn"] = sn
        dtu = self.client.post("/api/v1/dtus", body)
        return dtu["id"], self.meter(dtu["id"], kind, protocol)

    def meter(self, dtu, name, protocol="modbus-rtu"):
        return self.client.post("/api/v1/meters", {"dtu_id": dtu, "protocol": protocol, "address": str(UNIT),
                                                   "model": "eastron_sdm120", "name": name})["id"]

    def online(self, dtu):
        return self.client.get(f"/api/v1/dtus/{dtu}")["online"]

    def read(self, what, meter, number):
        try:
            read = self.client.post(f"/api/v1/meters/{meter}/read", {})
        except Problem as problem:
            return self.faults.append(f"{what}: read on demand: {problem}")
        self.expect(f"{what}: state", read["state"] == "done", read["state"])
        return self.judge(f"{what}: on demand", read["items"], number)

    def scheduled(self, meter, after):
        """Scheduled readings of a meter that were due after an instant."""
        page = self.client.get(f"/api/v1/meters/{meter}/readings", **{"from": after.isoformat(), "limit": 500})
        return [item for item in page["items"] if item["source"] == "scheduled"]

    def wait_scheduled(self, what, meter, number, after):
        took = self.until(f"{what}: by schedule", lambda: self.scheduled(meter, after))
        if took is not None:
            items = self.scheduled(meter, after)
            first = items[0]["due_at"]
            self.judge(f"{what}: scheduled", [item for item in items if item["due_at"] == first], number)
        return took

    def causes(self, dtu):
        return [session["cause"] for session in self.client.get(f"/api/v1/dtus/{dtu}/sessions")["items"]]

    def line(self, kind, number, dtu, meter, far):
        """One line: up, read both ways, far end away and back, read again."""
        report = self.report[kind] = {}
        report["online_s"] = self.until(f"{kind}: online", lambda: self.online(dtu))
        self.read(kind, meter, number)
        report["scheduled_s"] = self.wait_scheduled(kind, meter, number, datetime.now(timezone.utc))
        if far is None:
            return
        far.stop()
        self.until(f"{kind}: a slot misses while the far end is away", lambda: [
            slot for slot in self.client.get("/api/v1/slots", meter_id=meter, state="missing")["items"]])
        far.start()
        if kind == "serial":
            self.follow_device(dtu, far.device)
        back = datetime.now(timezone.utc)
        report["recovered_s"] = self.wait_scheduled(f"{kind}: after the restart", meter, number, back)
        self.read(f"{kind}: after the restart", meter, number)
        slots = self.client.get("/api/v1/slots", meter_id=meter, limit=200)["items"]
        report["reasons"] = sorted({slot["reason"] for slot in slots if slot["state"] == "missing"})
        report["causes"] = self.causes(dtu)

    def follow_device(self, dtu, device):
        """The API takes devices below /dev only, and a new pseudo-terminal may have a new name."""
        connect = self.client.get(f"/api/v1/dtus/{dtu}")["connect"]
        if connect["device"] != device:
            self.client.call("PATCH", f"/api/v1/dtus/{dtu}", {"connect": {**connect, "device": device}},
                             headers={"If-Match": "*"})

    def lines(self, folder):
        self.schedule = self.client.post("/api/v1/schedules", SCHEDULE)["id"]
        rtu, tcp = PymodbusServer(1, FramerType.RTU), PymodbusServer(2, FramerType.SOCKET)
        serial = SerialMeter(3, str(folder / "ttyA"))
        behind_tcp, behind_serial = PymodbusServer(4, FramerType.RTU), SerialMeter(5, str(folder / "ttyB"))
        self.virtual = {
            "virtual-dtu --tcp": virtual_dtu(self.head, "VDTU000004", "--tcp", behind_tcp.address),
            "virtual-dtu --serial": virtual_dtu(self.head, "VDTU000005", "--serial", behind_serial.path,
                                                "--baud", "9600", "--parity", "none"),
        }
        made = {
            "dial": (1, *self.make("dial", {"kind": "dial", "address": rtu.address}, "CONV0001"), rtu),
            "modbus_tcp": (2, *self.make("modbus_tcp", {"kind": "modbus_tcp", "address": tcp.address},
                                         protocol="modbus-tcp"), tcp),
            "serial": (3, *self.make("serial", {"kind": "serial", "device": serial.device, "baud": 9600,
                                                "parity": "none"}), serial),
            "virtual-dtu --tcp": (4, *self.make("tcp dtu", {"kind": "inbound"}, "VDTU000004"), behind_tcp),
            "virtual-dtu --serial": (5, *self.make("serial dtu", {"kind": "inbound"}, "VDTU000005"), behind_serial),
        }
        threads = [threading.Thread(target=self.guarded, args=(kind, self.line, kind, number, dtu, meter, far))
                   for kind, (number, dtu, meter, far) in made.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for kind, process in self.virtual.items():
            _, dtu, meter, _ = made[kind]
            self.guarded(kind, self.kill_virtual, kind, process, dtu, meter)
        return made

    def guarded(self, what, work, *arguments):
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001  one line's fault must not hide the others'
            self.faults.append(f"{what}: {type(error).__name__}: {error}")

    def kill_virtual(self, kind, process, dtu, meter):
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.until(f"{kind}: offline when killed", lambda: not self.online(dtu), 10)
        self.until(f"{kind}: its session has an end with a cause", lambda: self.causes(dtu)[0] in (
            "peer_closed", "socket_error"), 10)
        self.until(f"{kind}: slots missing / dtu_offline", lambda: [
            slot for slot in self.client.get("/api/v1/slots", meter_id=meter, state="missing")["items"]
            if slot["reason"] == "dtu_offline"], EVERY_S * 4)
        try:
            self.client.post(f"/api/v1/meters/{meter}/read?wait_s=5", {})
            self.faults.append(f"{kind}: a read through a dead DTU answered")
        except Problem as problem:
            self.expect(f"{kind}: the refusal names the reason", "dtu_offline" in problem.body, problem.body)

    def quarantine(self):
        sn = "QUAR20260001"
        first = InboundDtu(self.head.device, sn, 6)
        seen = lambda: [e for e in self.client.get("/api/v1/quarantine")["items"] if e["sn"] == sn]  # noqa: E731
        self.until("quarantine: the SN appears", seen)
        entry = seen()[0]
        self.expect("quarantine: shows the first bytes", sn.encode().hex() in json.dumps(entry).lower(), entry)
        dtu = self.client.post(f"/api/v1/quarantine/{sn}/claim", {"name": "claimed"})
        dtu = dtu.get("id") or dtu.get("dtu_id")
        self.until("claim: online on the same socket", lambda: self.online(dtu), 5)
        meter = self.meter(dtu, "claimed meter")
        self.read("claimed", meter, 6)
        self.expect("claim: no reconnect was needed", first.requests > 0 and not first.closed.is_set(), first.requests)
        self.expect("claim: gone from quarantine", not seen(), seen())
        second = InboundDtu(self.head.device, sn, 7)
        self.expect("takeover: the first socket is closed", first.closed.wait(5))
        self.read("takeover", meter, 7)
        self.until("takeover: cause `replaced`", lambda: "replaced" in self.causes(dtu), 10)
        causes = self.causes(dtu)
        self.expect("takeover: one session is open", causes[0] is None and causes.count(None) == 1, causes)
        self.report["takeover"] = {"causes": causes}
        return dtu, meter, second

    def strangers(self, dtu, meter):
        """Another account's admin sees nothing of the first."""
        other = self.head.admin("other@example.org", "Other")
        follower = Follower(other, "readings,sessions,slots")
        follower.start()
        waiting = InboundDtu(self.head.device, "QUAR20260002", 8)
        time.sleep(1)
        refused = {}

        def nothing(method, path, body=None, allowed=(404,)):
            try:
                got = other.call(method, path, body, headers={"If-Match": "*"})
                self.faults.append(f"another account: {method} {path} answered {str(got)[:200]}")
            except Problem as problem:
                refused[f"{method} {path}"] = problem.status
                self.expect(f"another account: {method} {path}", problem.status in allowed, problem)

        for path in (f"/dtus/{dtu}", f"/dtus/{dtu}/sessions", f"/dtus/{dtu}/frames", f"/meters/{meter}",
                     f"/meters/{meter}/readings", f"/meters/{meter}/latest",
                     f"/meters/{meter}/consumption?from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z&per=day",
                     f"/stream?dtu_id={dtu}", f"/stream?meter_id={meter}", f"/schedules/{self.schedule}",
                     f"/series?meter_id={meter}&quantity=voltage_l1&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z"):
            nothing("GET", "/api/v1" + path)
        nothing("GET", f"/api/v1/slots?meter_id={meter}", allowed=(404, 422, 400))
        nothing("POST", f"/api/v1/meters/{meter}/read", {})
        nothing("PATCH", f"/api/v1/dtus/{dtu}", {"name": "mine"})
        nothing("DELETE", f"/api/v1/dtus/{dtu}")
        nothing("DELETE", f"/api/v1/meters/{meter}")
        nothing("POST", "/api/v1/meters", {"dtu_id": dtu, "protocol": "modbus-rtu", "address": "9",
                                           "model": "eastron_sdm120", "name": "x"}, allowed=(404, 422))
        nothing("GET", "/api/v1/quarantine", allowed=(403, 404))
        nothing("POST", "/api/v1/quarantine/QUAR20260002/claim", {"name": "mine"}, allowed=(403, 404, 422))
        for path in ("/dtus", "/meters", "/points", "/schedules", "/groups"):
            items = other.get("/api/v1" + path)["items"]
            self.expect(f"another account: {path}", not items, items)
        summary = other.get("/api/v1/summary")
        self.expect("another account: summary", summary["dtus"]["total"] == 0 and summary["meters"] == 0, summary)
        frames = self.client.get(f"/api/v1/dtus/{dtu}/frames")["items"]
        self.expect("frames: the first account sees its own", frames)
        if frames:
            nothing("GET", f"/api/v1/frames/{frames[0]['id']}")
        self.client.post(f"/api/v1/meters/{meter}/read", {})
        time.sleep(EVERY_S + 2)
        follower.ended.set()
        self.expect("another account: stream", not follower.taken(), follower.taken()[:2])
        self.report["another_account"] = sorted(set(refused.values()))
        waiting.close()


    def restart(self, dtus, meter):
        """An orderly stop ends every session for that reason; a start finds everything and goes on."""
        kept = len(list(self.client.all(f"/api/v1/meters/{meter}/readings")))
        self.report["stop"] = self.head.stop()
        self.expect("SIGTERM: exit code", self.report["stop"] == 0, self.report["stop"])
        self.report["ready_again_s"] = round(self.head.start(), 1)
        for dtu in dtus:
            causes = self.causes(dtu)
            self.expect(f"restart: DTU {dtu} ended with the stop", "shutdown" in causes[:2], causes)
            self.until(f"restart: DTU {dtu} is back", lambda dtu=dtu: self.online(dtu), 15)
        found = len(list(self.client.all(f"/api/v1/meters/{meter}/readings")))
        self.expect("restart: readings", found >= kept > 0, f"{found} of {kept}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=float, default=60, help="patience for each step, seconds")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="polyphase-connect-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        head = HeadEnd(folder)
        drill = None
        try:
            head.start()
            client = head.admin("connect@example.org", "Connect")
            drill = Drill(head, client, args.limit)
            made = drill.lines(folder)
            dtu, meter, second = drill.quarantine()
            drill.strangers(made["dial"][1], made["dial"][2])
            second.close()
            drill.until("a DTU that hangs up is offline", lambda: not drill.online(dtu), 10)
            drill.restart([made[kind][1] for kind in ("dial", "modbus_tcp", "serial")], made["dial"][2])
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            for process in getattr(drill, "virtual", {}).values():
                if process.poll() is None:
                    process.kill()
            head.stop()
        if drill.faults:
            print(head.tail(6000), file=sys.stderr)
    print(json.dumps({"faults": len(drill.faults), **drill.report}, indent=1))
    for fault in drill.faults:
        print(fault, file=sys.stderr)
    sys.exit(1 if drill.faults else 0)


if __name__ == "__main__":
    main()
