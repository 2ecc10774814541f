"""Storms from outside: sockets that never speak, at the device port and at HTTP; clients that dribble or do not read; a
serial number that connects again and again, or from two places; descriptors that run out. Meanwhile good DTUs register and
are read, and the API answers: its latencies are reported beside those of the same run without the storm. Exit 1 on a fault.

usage: run_storm.py [--silent N] [--dtus N] [--meters N] [--descriptors N] [--calm S]
"""

import argparse
import collections
import errno
import json
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from headend import PROGRAM, HeadEnd

#: What the server promises: a socket that says nothing is closed by then, seconds (and some slack for a loaded host).
REGISTRATION_S, HEAD_S, SLACK_S = 30, 15, 20
#: Conditions are waited for this long at most: a host may be busy with other tests. None of them is judged by how long it takes.
PATIENCE_S = 90


class Silent(threading.Thread):
    """Sockets that connect and then do nothing, or say half a request and dribble; notes when each is closed."""

    def __init__(self, port, count, says=b"", dribble=b""):
        super().__init__(daemon=True)
        self.port, self.count, self.says, self.dribble = port, count, says, dribble
        self.closed_after, self.refused, self.open = [], 0, {}
        self.ended = threading.Event()

    def run(self):
        poll = select.epoll()
        for number in range(self.count):
            try:
                one = socket.create_connection(("127.0.0.1", self.port), timeout=20)
                if self.says:
                    one.sendall(self.says)
            except OSError:
                self.refused += 1
                continue
            one.setblocking(False)
            self.open[one.fileno()] = (one, time.monotonic())
            poll.register(one.fileno(), select.EPOLLIN | select.EPOLLRDHUP)
            if number % 50 == 49:
                self.gather(poll, 0)
                time.sleep(0.01)
        spoke = time.monotonic()
        while self.open and not self.ended.is_set():
            self.gather(poll, 0.5)
            if self.dribble and time.monotonic() - spoke > 2:
                spoke = time.monotonic()
                for one, _ in self.open.values():
                    try:
                        one.send(self.dribble)
                    except OSError:
                        pass
        for one, _ in self.open.values():
            one.close()

    def gather(self, poll, timeout):
        for number, _ in poll.poll(timeout):
            one, since = self.open[number]
            try:
                if one.recv(4096):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            poll.unregister(number)
            del self.open[number]
            one.close()
            self.closed_after.append(time.monotonic() - since)

    def report(self):
        after = sorted(self.closed_after)
        return {"opened": self.count - self.refused, "refused": self.refused, "still_open": len(self.open),
                "closed": len(after), "closed_after_s": [round(after[0], 1), round(after[-1], 1)] if after else None}


class Caller(threading.Thread):
    """Calls the API on a new connection each time and keeps the latencies by phase."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client, self.phase = client, "calm"
        self.took, self.failed = collections.defaultdict(list), collections.Counter()
        self.ended = threading.Event()

    def run(self):
        while not self.ended.is_set():
            for path in ("/api/v1/summary", "/api/v1/dtus?limit=20"):
                begun, phase = time.monotonic(), self.phase
                try:
                    self.client.call("GET", path, timeout=PATIENCE_S)
                    self.took[phase].append(time.monotonic() - begun)
                except Exception as error:  # noqa: BLE001  whatever it is, the API did not answer
                    self.failed[f"{phase}: {error}"] += 1
            time.sleep(0.1)

    def report(self):
        result = {}
        for phase, took in self.took.items():
            took = sorted(took)
            result[phase] = {"calls": len(took), "p50_ms": round(statistics.median(took) * 1000, 1),
                             "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 1), "max_ms": round(took[-1] * 1000, 1)}
        return result


def metric(head, name):
    with urllib.request.urlopen(head.base + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


def until(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.2)
    return False


def simulate(head, prefix, args, meters=1):
    return subprocess.Popen(
        [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", str(args.dtus), "--meters", str(meters),
         "--models", "eastron_sdm120", "--sn-prefix", prefix, "--baud", "38400",
         # with an end of line: where a socket waits to be accepted, the heartbeat stands right behind the serial number
         "--registration", "line"], stdout=head.log, stderr=head.log)


def build(client, prefix, args):
    schedule = {"name": prefix, "cron": "*/4 * * * * *", "time_zone": "UTC", "spread_s": 2, "window_s": 4, "missed_run": "skip"}
    schedule = client.post("/api/v1/schedules", schedule)["id"]
    for index in range(args.dtus):
        dtu = client.post("/api/v1/dtus", {"sn": f"{prefix}{index + 1:06}", "name": f"{prefix} {index}", "schedule": schedule})
        for unit in range(1, args.meters + 1):
            client.post("/api/v1/meters", {"dtu_id": dtu["id"], "protocol": "modbus-rtu", "address": str(unit),
                                           "model": "eastron_sdm120", "name": f"{index}/{unit}"})


def online(client, prefix):
    return sum(dtu["online"] for dtu in client.all("/api/v1/dtus") if dtu["sn"].startswith(prefix))


def say(head, sn, source="127.0.0.1"):
    """A DTU that registers; the socket."""
    one = socket.create_connection(("127.0.0.1", head.device), timeout=10, source_address=(source, 0))
    one.sendall(sn.encode())
    return one


def ends(one, seconds):
    """Whether the far side closes within that time."""
    one.settimeout(seconds)
    try:
        while one.recv(4096):
            pass
        return True
    except (TimeoutError, socket.timeout):
        return False
    except OSError:
        return True


def silent_sockets(head, client, args, caller, faults):
    """Nobody speaks; good DTUs come meanwhile."""
    caller.phase = "calm"
    time.sleep(args.calm)
    caller.phase = "storm"
    head_only = b"GET /api/v1/summary HTTP/1.1\r\nHost: x\r\nX-Dribble: "
    dribbling = args.silent // 10
    storms = {"device": Silent(head.device, args.silent), "http": Silent(head.http, args.silent - dribbling),
              "http_dribbling": Silent(head.http, dribbling, says=head_only, dribble=b"a")}
    for storm in storms.values():
        storm.start()
    time.sleep(1)
    begun = time.monotonic()
    late = simulate(head, "LATE", args, args.meters)
    if not until(lambda: online(client, "LATE") == args.dtus, PATIENCE_S):
        faults.append(f"only {online(client, 'LATE')} of {args.dtus} DTUs registered during the storm")
    registered = time.monotonic() - begun
    for name, limit in (("device", REGISTRATION_S), ("http", HEAD_S), ("http_dribbling", HEAD_S)):
        storm = storms[name]
        storm.join(limit + SLACK_S + 20)
        storm.ended.set()
        after = sorted(storm.closed_after)
        if storm.open or storm.refused or not after or after[-1] > limit + SLACK_S:
            faults.append(f"{name}: {storm.report()}, the limit is {limit} s")
    caller.phase = "after"
    time.sleep(args.calm / 2)
    return late, {"registered_during_storm_s": round(registered, 2), **{name: storm.report() for name, storm in storms.items()}}


def flap_and_clone(head, client, faults):
    """One SN connects 20 times; another one lives in two places."""
    dtu = client.post("/api/v1/dtus", {"sn": "FLAP000001", "name": "flap"})["id"]
    sockets = [say(head, "FLAP000001") for _ in range(20)]
    view = lambda: client.get(f"/api/v1/dtus/{dtu}")  # noqa: E731
    if not until(lambda: view()["banned_until"], PATIENCE_S):
        faults.append(f"20 connects are no flapping: {view()}")
    if not ends(say(head, "FLAP000001"), PATIENCE_S):
        faults.append("a banned serial number is not refused")
    flap = {"banned_until": view()["banned_until"], "refused": metric(head, "polyphase_flap_refused_total")}
    twin = client.post("/api/v1/dtus", {"sn": "TWIN000001", "name": "twin"})["id"]
    for turn in range(7):
        sockets.append(say(head, "TWIN000001", source=f"127.0.0.{2 + turn % 2}"))
        time.sleep(0.3)
    if not until(lambda: client.get(f"/api/v1/dtus/{twin}")["clone_suspected"], PATIENCE_S):
        faults.append(f"take-overs from two addresses raise nothing: {client.get(f'/api/v1/dtus/{twin}')}")
    clones = metric(head, "polyphase_clone_suspected_total")
    for one in sockets:
        one.close()
    return {"flap": flap, "clone_suspected_total": clones}


def manners(head, client, faults):
    """A flood, a half-open session: each ends by its limit, and says so."""
    dtu = client.post("/api/v1/dtus", {"sn": "RUDE000001", "name": "rude", "silence_s": 10})["id"]
    cause = lambda: [row["cause"] for row in client.get(f"/api/v1/dtus/{dtu}/sessions")["items"]]  # noqa: E731
    one = say(head, "RUDE000001")
    until(lambda: client.get(f"/api/v1/dtus/{dtu}")["online"], PATIENCE_S)
    noise = bytes(range(1, 251)) * 256
    begun, sent = time.monotonic(), 0
    try:
        while time.monotonic() - begun < 20:
            sent += one.send(noise)
    except OSError:
        pass
    flooded = {"bytes_until_closed": sent, "seconds": round(time.monotonic() - begun, 1)}
    if not until(lambda: "flood" in cause(), PATIENCE_S):
        faults.append(f"a flood ends as {cause()}")
    begun = time.monotonic()
    two = say(head, "RUDE000001")
    if not ends(two, PATIENCE_S) or not until(lambda: "silence" in cause(), PATIENCE_S):
        faults.append(f"a session that went silent ends as {cause()}")
    return {"flood": flooded, "silent_session_closed_after_s": round(time.monotonic() - begun, 1)}


def descriptors(args, faults):
    """The process really runs out of descriptors, and comes back by itself."""
    limit = args.descriptors
    with tempfile.TemporaryDirectory(prefix="polyphase-emfile-") as folder:
        folder = Path(folder)
        folder.chmod(0o755)
        # more connections than descriptors, so that the limits do not hide the shortage
        head = HeadEnd(folder, extra=f"""
[limits]
connections_max = {limit}
reserved_descriptors = 16
""")
        head.limits = (limit, limit)
        head.env["POLYPHASE__HTTP__CONNECTIONS_MAX"] = str(limit)
        head.start()
        try:
            client = head.admin("emfile@example.org", "Emfile")
            build(client, "EMFILE", args)
            crowd, refused = [], collections.Counter()
            for number in range(limit * 2):
                try:
                    one = socket.create_connection(("127.0.0.1", (head.http, head.device)[number % 2]), timeout=5)
                    one.setblocking(False)
                    crowd.append(one)
                except OSError as error:
                    refused[errno.errorcode.get(error.errno, str(error))] += 1
            used = [len(list(Path(f"/proc/{head.process.pid}/fd").iterdir()))]
            answered = until(lambda: alive(head), HEAD_S + PATIENCE_S)
            if not answered:
                faults.append("no /healthz while descriptors are short, after the silent ones had to be closed")
            for one in crowd:
                one.close()
            begun = time.monotonic()
            fleet = simulate(head, "EMFILE", args, args.meters)
            try:
                until(lambda: online(client, "EMFILE") == args.dtus, PATIENCE_S)
                back = online(client, "EMFILE")
                waiting = [entry["sn"] for entry in client.get("/api/v1/quarantine")["items"]]
            finally:
                fleet.terminate()
                fleet.wait(20)
            took = time.monotonic() - begun
            if back != args.dtus:
                faults.append(f"only {back} of {args.dtus} DTUs came back after the shortage, in quarantine: {waiting}")
            paused = head.tail(200_000).count("Too many open files") + int(metric(head, "polyphase_accept_pauses_total"))
            return {"limit": limit, "crowd": len(crowd), "used": used[0], "refused": refused, "shortages_noticed": paused,
                    "all_back_after_s": round(took, 1)}
        finally:
            head.stop()


def alive(head):
    try:
        with urllib.request.urlopen(head.base + "/healthz", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def main():
    parser = argparse.ArgumentParser()
    for name, default in (("silent", 300), ("dtus", 20), ("meters", 2), ("descriptors", 220), ("calm", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    faults = []
    with tempfile.TemporaryDirectory(prefix="polyphase-storm-") as folder:
        Path(folder).chmod(0o755)
        head = HeadEnd(folder)
        head.start()
        fleets = []
        try:
            client = head.admin("storm@example.org", "Storm")
            build(client, "GOOD", args)
            build(client, "LATE", args)
            fleets.append(simulate(head, "GOOD", args, args.meters))
            if not until(lambda: online(client, "GOOD") == args.dtus, PATIENCE_S):
                faults.append("the fleet does not register in a calm")
            caller = Caller(client)
            caller.start()
            late, report = silent_sockets(head, client, args, caller, faults)
            fleets.append(late)
            caller.ended.set()
            caller.join()
            report["api"], report["api_failed"] = caller.report(), caller.failed
            if caller.failed:
                faults.append(f"the API did not answer: {dict(caller.failed)}")
            if online(client, "GOOD") != args.dtus:
                faults.append(f"{args.dtus - online(client, 'GOOD')} good DTUs lost their session")
            report.update(flap_and_clone(head, client, faults))
            report.update(manners(head, client, faults))
        except BaseException:
            print(head.tail(), file=sys.stderr)
            raise
        finally:
            for fleet in fleets:
                fleet.terminate()
                fleet.wait(20)
            head.stop()
    if args.descriptors:
        args.dtus = min(args.dtus, 20)
        report["descriptors"] = descriptors(args, faults)
    print(json.dumps(report, indent=1))
    for line in faults:
        print(line, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
