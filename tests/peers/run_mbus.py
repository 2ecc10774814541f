"""An independent M-Bus master (pyMeterBus) asks our virtual meters through a virtual DTU, over real sockets: reset,
readout in one and in several telegrams, selection by secondary address, the wildcard search, silence of who is not
there. What it reads is held against what `polyphase decode` says of the same frames. Exit 1 on any fault; prints a
JSON report.

usage: run_mbus.py
"""

import json
import socket
import subprocess
import sys
from decimal import Decimal

import meterbus

from headend import PROGRAM, free_port

MODELS = ["generic_heat", "generic_water", "sensus_pollucom_e", "kamstrup_382", "ram_modularis"]
WAIT_S = 0.4
# pyMeterBus's names of units as ours
UNITS = {"Wh": "Wh", "m^3": "m³", "W": "W", "m^3/h": "m³/h", "C": "°C", "K": "K", "J": "J", "hours": "h", "V": "V", "A": "A"}


class Problem(Exception):
    """Something is not as it should be."""


class Line:
    """A socket with the face of a serial port."""

    def __init__(self, connection):
        self.connection = connection
        self.connection.settimeout(WAIT_S)

    def write(self, data):
        self.connection.sendall(bytes(data))

    def read(self, length):
        data = b""
        while len(data) < length:
            try:
                more = self.connection.recv(length - len(data))
            except TimeoutError:
                break
            if not more:
                raise Problem("the virtual DTU hung up")
            data += more
        return data


def check(fact, what):
    if not fact:
        raise Problem(what)


def acknowledged(line):
    return meterbus.recv_frame(line, 1) == b"\xe5"


def readout(line, address):
    """All telegrams of a readout, fetched as pyMeterBus's own tool does: with the frame count bit turned."""
    meterbus.send_request_frame_multi(line, address)
    frames, request = [], None
    while True:
        frame = meterbus.recv_frame(line, meterbus.FRAME_DATA_LENGTH)
        check(frame, f"no answer at {address} to telegram {len(frames) + 1}")
        telegram = meterbus.load(frame)
        check(isinstance(telegram, meterbus.TelegramLong), f"no long frame at {address}")
        frames.append((frame, telegram))
        if not telegram.more_records_follow or len(frames) > 20:
            return frames
        if request is None:
            request = meterbus.TelegramShort()
            request.header.aField.parts = [address]
            request.header.cField.parts = [0x7B]
        request.header.cField.parts[0] ^= 0x20
        meterbus.send_request_frame_multi(line, req=request)


def ours(frame):
    told = subprocess.run([PROGRAM, "decode", "--protocol", "mbus", frame.hex()], capture_output=True, text=True, check=True)
    return json.loads(told.stdout)


def number(text):
    try:
        return Decimal(str(text))
    except ArithmeticError:
        return None


def compare(frame, telegram):
    """Every number that both of them read must be the same."""
    ours_read = ours(frame)
    theirs = [record for record in telegram.records if record.dib.is_eoud is False]
    check(len(theirs) == len(ours_read["items"]), f"{len(theirs)} records there, {len(ours_read['items'])} here")
    same = 0
    for theirs_one, ours_one in zip(theirs, ours_read["items"]):
        unit = UNITS.get(theirs_one.unit)
        value = number(theirs_one.value)
        if unit is None or value is None or ours_one["value"].startswith("no value"):
            # pyMeterBus makes a number of digits that are none
            continue
        check(ours_one.get("unit") == unit, f"{ours_one} against {theirs_one.unit}")
        check(abs(Decimal(ours_one["value"]) - value) <= abs(value) * Decimal("1e-9"),
              f"{ours_one} against {theirs_one.value}")
        same += 1
    return same


def secondary(telegram):
    """The address as pyMeterBus writes it: digits, manufacturer, version, medium."""
    return telegram.secondary_address


def search(line, mask, found, probes):
    """The wildcard search of pyMeterBus's own scan tool."""
    position = mask.find("F")
    if position < 0:
        return
    for digit in "0123456789":
        narrowed = mask[:position] + digit + mask[position + 1:]
        probes[0] += 1
        meterbus.send_select_frame(line, narrowed)
        heard = meterbus.recv_frame(line, 1)
        if heard is None:
            continue
        if heard == b"\xe5":
            meterbus.send_request_frame_multi(line, meterbus.ADDRESS_NETWORK_LAYER)
            frame = meterbus.recv_frame(line, meterbus.FRAME_DATA_LENGTH)
            while line.read(256):
                pass
            try:
                found.add(secondary(meterbus.load(frame)))
                continue
            except (meterbus.MBusFrameDecodeError, TypeError):
                pass
        search(line, narrowed, found, probes)


def run():
    report = {"readouts": [], "same_values": 0}
    with socket.create_server(("127.0.0.1", free_port())) as server:
        port = server.getsockname()[1]
        dtu = subprocess.Popen([PROGRAM, "simulate", "--connect", f"127.0.0.1:{port}", "--dtus", "1",
                                "--meters", str(len(MODELS)), "--models", ",".join(MODELS), "--heartbeat-s", "0",
                                "--baud", "0"])
        try:
            server.settimeout(20)
            connection, _ = server.accept()
            line = Line(connection)
            check(line.read(64).startswith(b"SIM"), "the DTU does not say who it is")
            addresses = []
            for unit in range(1, len(MODELS) + 1):
                meterbus.send_ping_frame(line, unit)
                check(acknowledged(line), f"unit {unit} does not answer SND_NKE")
                frames = readout(line, unit)
                same = sum(compare(*frame) for frame in frames)
                check(same >= 2, f"unit {unit}: only {same} numbers to compare")
                report["same_values"] += same
                addresses.append(secondary(frames[0][1]))
                report["readouts"].append({"unit": unit, "secondary": addresses[-1], "telegrams": len(frames), "same": same})
            for address in addresses:
                meterbus.send_select_frame(line, address)
                check(acknowledged(line), f"{address} is not selected")
                frame, telegram = readout(line, meterbus.ADDRESS_NETWORK_LAYER)[0]
                check(secondary(telegram) == address, f"{address} selected, {secondary(telegram)} read")
            meterbus.send_ping_frame(line, 99)
            check(meterbus.recv_frame(line, 1) is None, "somebody answers at 99")
            found, probes = set(), [0]
            search(line, "FFFFFFFF" + "FFFFFFFF", found, probes)
            check(found == set(addresses), f"found {sorted(found)} of {sorted(addresses)}")
            report["search"] = {"found": len(found), "probes": probes[0]}
        finally:
            dtu.terminate()
            dtu.wait(10)
    return report


if __name__ == "__main__":
    try:
        print(json.dumps(run(), indent=1))
    except Problem as problem:
        print(f"run_mbus: {problem}", file=sys.stderr)
        sys.exit(1)
