#!/usr/bin/env python3
"""An independent DL/T 645-2007 meter on a TCP port: PyPI dlt645. Prints the port and serves until its input ends.

    target/peers/bin/python tests/peers/dlt645_meter.py ADDRESS [DI=VALUE…]

Where that library departs from the standard it is set so that what is on the wire is right: its address is given low byte
first. It answers a question to another address with an error frame, knows no blocks, and keeps the wildcard in its
answers.
"""

import sys
from datetime import datetime

from loguru import logger

logger.remove()

from dlt645.model.types.dlt645_type import Demand  # noqa: E402
from dlt645.service.serversvc.server_service import MeterServerService  # noqa: E402


def main():
    address, *values = sys.argv[1:]
    meter = MeterServerService.new_tcp_server("127.0.0.1", 0)
    meter.set_address(bytes.fromhex(address)[::-1])
    # level 4, printed 123456
    meter.password_manager.set_password(bytearray.fromhex("04563412"))
    for pair in values:
        name, value = pair.split("=")
        di = int(name, 16)
        kind = di >> 24
        if kind == 0:
            done = meter.set_00(di, float(value))
        elif kind == 1:
            demand, at = value.split("@")
            done = meter.set_01(di, Demand(float(demand), datetime.fromisoformat(at)))
        elif kind == 2:
            done = meter.set_02(di, float(value))
        else:
            done = meter.set_04(di, value)
        if not done:
            raise SystemExit(f"{pair}: the peer does not take it")
    if not meter.start():
        raise SystemExit("the peer does not start")
    print(meter.server.port, flush=True)
    sys.stdin.read()
    meter.stop()


main()
