"""pymodbus polls Modbus RTU over TCP slaves with asyncio, a closed loop for each connection: a peer of run_bench.py.

usage: pymodbus_poller.py HOST PORT CONNECTIONS WARM_S SECONDS; prints one line of JSON.
"""

import asyncio
import json
import sys
import time

from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient

REGISTERS = 24


async def main():
    host, port, count, warm, seconds = sys.argv[1], *map(int, sys.argv[2:])
    done = 0

    async def loop(client):
        nonlocal done
        while True:
            answer = await client.read_holding_registers(0, count=REGISTERS, device_id=1)
            if answer.isError() or len(answer.registers) != REGISTERS:
                raise RuntimeError(f"read: {answer}")
            done += 1

    clients = [AsyncModbusTcpClient(host, port=port, framer=FramerType.RTU) for _ in range(count)]
    for client in clients:
        if not await client.connect():
            raise RuntimeError("no connection")
    tasks = [asyncio.create_task(loop(client)) for client in clients]
    await asyncio.sleep(warm)
    before, spent, began = done, time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    print(json.dumps({"round_trips": done - before, "seconds": round(time.monotonic() - began, 3),
                      "cpu_s": round(time.process_time() - spent, 3)}))
    for task in tasks:
        if task.done():
            task.result()
        task.cancel()


asyncio.run(main())
