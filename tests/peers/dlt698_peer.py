#!/usr/bin/env python3
"""An independent DL/T 698.45 device: PyPI dlt698, another people's reading of the standard.

    target/peers/bin/python tests/peers/dlt698_peer.py meter parts|blocks
        a meter that is dialled: prints its port and serves until its input ends; long answers in parts or in blocks
    target/peers/bin/python tests/peers/dlt698_peer.py line CLOCK
        the same as it hangs on a line: nobody has to connect to it first; its clock stands at CLOCK (2026-11-21T08:23:59),
        and it froze every day before
    target/peers/bin/python tests/peers/dlt698_peer.py terminal PORT [parts]
        a concentrator that dials in, logs in, and has one meter behind it, with small frames if wanted; each line `heartbeat` or `report` of its input
        has it send one, `freeze METER DAY KWH` (202611210001 2026-11-22 1234.56) the report of a meter's freeze, `events METER N`
        that of N records of its clock being off, in several frames where they do not fit one (an APDU of more than 1024 bytes only with small frames); `done` is printed when it was
        answered
"""

import select
import sys
import time
from datetime import datetime, timedelta

import dlt698 as d
from dlt698 import _native as n
from dlt698.expert import (
    AdvancedServiceOptions,
    Engine,
    MemoryRecords,
    ObjectRegistry,
    ProxyRouter,
    register_standard_object,
)

ADDRESS = bytes.fromhex("112233445566")
METER = bytes.fromhex("202611210001")
CLOCK = [0x07, 0xEA, 0x0B, 0x15, 8, 23, 59]
D = d.Data


def moment(at):
    """A local time as seven bytes."""
    return [at.year >> 8, at.year & 0xFF, at.month, at.day, at.hour, at.minute, at.second]


def registry(clock=None):
    """What the device has."""
    objects = ObjectRegistry()

    def have(oi, **attributes):
        held = n.MemoryObject()
        for number, value in attributes.items():
            held.set(int(number[1:]), value)
        register_standard_object(objects, oi, bytes(int(name[1:]) for name in attributes), held)

    def array(make, *values):
        return D.array([make(value) for value in values])

    have(0x0010, _2=array(D.uint32, 123456, 12345, 22222, 54321, 34568),
         _4=array(D.uint64, 12345678, 1234500, 2222200, 5432100, 3456878))
    have(0x2000, _2=array(D.uint16, 2301, 2312, 2323))
    have(0x2001, _2=array(D.int32, 5123, 6234, -7345))
    have(0x2004, _2=array(D.int32, 15000, 5000, 5000, -5000))
    have(0x200A, _2=array(D.int16, 987, 991, 985, -980))
    have(0x200F, _2=D.uint16(4998))
    have(0x4000, _2=D.date_time_s(moment(clock) if clock else CLOCK))
    have(0x4001, _2=D.octet_string(METER))
    have(0x1010, _2=D.array([D.structure([D.uint32(12345), D.date_time_s([7, 234, 11, 11, 18, 15, 0])])] * 5))
    writable = n.MemoryObject()
    writable.set(2, D.uint16(0))
    objects.register_object(
        n.ObjectSchema(
            oi=0x4500,
            attributes=[n.AttributeSchema(number=2, type=d.DataType.uint16, writable=True)],
        ),
        writable,
    )
    if clock:
        columns = [d.Oad(oi=oi, attribute=2) for oi in (0x2023, 0x2021, 0x0010, 0x0020)]
        days = MemoryRecords.create(0x5004, columns)
        midnight = clock.replace(hour=0, minute=0, second=0)
        days.replace_rows(
            [[D.uint32(100 - back), D.date_time_s(moment(midnight - timedelta(days=back))),
              array(D.uint32, *[frozen(back, place) for place in range(5)]), array(D.uint32, *[back] * 5)]
             for back in range(61, -1, -1)])
    else:
        columns = [d.Oad(oi=0x2023, attribute=2), d.Oad(oi=0x2021, attribute=2), d.Oad(oi=0x0010, attribute=2, index=1)]
        days = MemoryRecords.create(0x5004, columns)
        days.replace_rows(
            [[D.uint32(day), D.date_time_s([7, 234, 11, day, 0, 0, 0]), D.uint32(1000 + day)] for day in range(1, 21)]
        )
    register_standard_object(objects, 0x5004, b"\x02", days)
    return objects


def frozen(back, place):
    """What stood in register `place` at the midnight so many days ago, 0.01 kWh."""
    return 100000 - 10 * back + place


def options(**more):
    return n.SessionOptions(server=n.ServerAddress(bytes=ADDRESS[::-1]), client_address=1, request_timeout=30.0, **more)


def commands():
    """The lines that stand in the input; nothing when none does, `None` at its end."""
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    if not ready:
        return ""
    line = sys.stdin.readline()
    return line.strip() if line else None


def small(how):
    """parts: small frames around large APDUs; blocks: small APDUs"""
    parameters = n.AssociationParameters(apdu_bytes=128 if how == "blocks" else 4096, send_frame_bytes=128)
    parameters.protocol = n.SessionOptions().parameters.protocol
    return parameters


def meter(how):
    engine = Engine(options(parameters=small(how), prefer_get_blocks=how == "blocks"), registry())
    print(engine.listen("127.0.0.1", 0, d.ConnectionProfile.local_public), flush=True)
    while commands() is not None:
        engine.poll(0.01)
    engine.close()


def line(clock):
    """A meter on a line: the association is there before anybody asks."""
    engine = Engine(options(), registry(datetime.fromisoformat(clock)))
    print(engine.listen("127.0.0.1", 0, d.ConnectionProfile.local_preset), flush=True)
    while commands() is not None:
        engine.poll(0.01)
    engine.close()


def behind():
    """A meter, and the terminal's session to it."""
    server = Engine(n.SessionOptions(), registry())
    client = Engine(n.SessionOptions())
    port = server.listen("127.0.0.1", 0, d.ConnectionProfile.local_preset)
    token = client.connect_tcp("127.0.0.1", port, d.ConnectionProfile.local_preset)
    for _ in range(6000):
        server.poll(0.005)
        if any(event.token == token for event in client.poll(0.005)):
            return server, client
    raise SystemExit("the meter behind the terminal is not reached")


def oad(oi, attribute=2):
    return d.Oad(oi=oi, attribute=attribute)


def tsa(meter):
    of = bytes.fromhex(meter)
    return D.tsa(bytes([len(of) - 1]) + of)


def freeze(meter, day, kwh):
    """The report of what a task brought: the freeze of a meter at the midnight that began a day."""
    frozen = n.Road(attribute=oad(0x5004), associated=[oad(0x2021), oad(0x0010)])
    energies = D.array([D.uint32(round(float(kwh) * 100))] * 5)
    values = D.structure([D.date_time_s(moment(datetime.fromisoformat(day))), energies])
    result = n.RecordResult(attribute=oad(0x6012, 3), columns=[oad(0x202A), frozen], result=[[tsa(meter), values]])
    return n.ReportNotification(payload=[result])


def events(meter, count):
    """The report of records of an event: the clock of a meter is off, minute by minute."""
    columns = [oad(oi) for oi in (0x2022, 0x201E, 0x2020, 0x2024, 0x3300)]
    began = datetime(2026, 11, 22, 8, 0, 0)
    rows = [[D.uint32(number), D.date_time_s(moment(began + timedelta(minutes=number))), D.null(), tsa(meter), D.array([])]
            for number in range(int(count))]
    return n.ReportNotification(payload=[n.RecordResult(attribute=oad(0x3105), columns=columns, result=rows)])


def terminal(port, how=None):
    server, client = behind()
    router = ProxyRouter()
    router.bind(n.Tsa(value=bytes([len(METER) - 1]) + METER), client.session_at())
    more = {"parameters": small(how)} if how else {}
    engine = Engine(options(heartbeat_seconds=300, **more), registry(), advanced=AdvancedServiceOptions(proxy=router))
    engine.connect_tcp("127.0.0.1", port, d.ConnectionProfile.remote_public, role=n.Role.server)
    waiting = {}
    while (command := commands()) is not None:
        if command == "heartbeat":
            waiting[engine.link(n.LinkRequestType.heartbeat, 300)] = command
        elif command == "report":
            result = n.AttributeResult(attribute=d.Oad(oi=0x200F, attribute=2), result=D.uint16(4998))
            waiting[engine.exchange(n.ReportNotification(payload=[result]))] = command
        elif command.startswith("freeze "):
            waiting[engine.exchange(freeze(*command.split()[1:]))] = command
        elif command.startswith("events "):
            waiting[engine.exchange(events(*command.split()[1:]))] = command
        for event in engine.poll(0.01):
            if event.token in waiting:
                del waiting[event.token]
                print("done" if event.error is None else f"failed: {event.error}", flush=True)
        server.poll(0.002)
        client.poll(0.002)
    engine.close()


if __name__ == "__main__":
    if sys.argv[1] == "meter":
        meter(sys.argv[2])
    elif sys.argv[1] == "line":
        line(sys.argv[2])
    else:
        terminal(int(sys.argv[2]), *sys.argv[3:])
