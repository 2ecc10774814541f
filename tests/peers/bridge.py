"""A transparent DTU of the tests' own: dials the head end's device port, says its SN, and carries bytes to and from a meter
that stands on a TCP port. It can be cut off, and comes back when it is told to."""

import select
import socket
import threading
import time


class Bridge(threading.Thread):
    """Redials until it is ended; counts the bytes both ways."""

    def __init__(self, sn, server, meter, heartbeat_s=5):
        super().__init__(daemon=True)
        self.sn, self.server, self.meter, self.heartbeat_s = sn.encode(), server, meter, heartbeat_s
        self.up, self.ended = threading.Event(), threading.Event()
        self.down_bytes = self.up_bytes = 0
        self.up.set()

    def run(self):
        while not self.ended.is_set():
            if self.up.wait(0.2):
                try:
                    self.session()
                except OSError:
                    pass
                time.sleep(0.3)

    def session(self):
        with socket.create_connection(("127.0.0.1", self.meter), 10) as line, \
                socket.create_connection(("127.0.0.1", self.server), 10) as head:
            head.sendall(self.sn)
            beat = time.monotonic() + self.heartbeat_s
            while self.up.is_set() and not self.ended.is_set():
                for ready in select.select([line, head], [], [], 0.1)[0]:
                    data = ready.recv(4096)
                    if not data:
                        return
                    if ready is head:
                        self.down_bytes += len(data)
                        line.sendall(data)
                    else:
                        self.up_bytes += len(data)
                        head.sendall(self.carry(data))
                if time.monotonic() > beat:
                    head.sendall(b"HB")
                    beat = time.monotonic() + self.heartbeat_s

    def carry(self, data):
        """What the head end gets of what the meter said."""
        return data

    def cut(self):
        self.up.clear()

    def come_back(self):
        self.up.set()

    def end(self):
        self.ended.set()
        self.up.set()
        self.join(20)
