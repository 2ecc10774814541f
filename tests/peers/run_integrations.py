"""Integrations seen from outside: a server with a simulated fleet, a mosquitto, a subscriber of another maker and a webhook
receiver that fails now and then. Server and broker are killed with -9 again and again. In the end every stored reading is
with the webhook's receiver, once or under the same id, in order per meter and rightly signed; and the newest value of every
meter stands at the broker. Exit 1 when anything is missing.

usage: run_integrations.py [--kills N] [--dtus N] [--meters N] [--seed N]
"""

import argparse
import base64
import collections
import hashlib
import hmac
import http.server
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from headend import PROGRAM, HeadEnd, free_port

LIMIT_S = 240


class Receiver:
    """Takes webhooks; refuses some, hangs on some after it has taken them."""

    def __init__(self, dice):
        self.dice, self.lock = dice, threading.Lock()
        self.secret, self.calm = None, False
        self.requests = collections.defaultdict(set)  # webhook-id → bodies
        self.readings = {}  # item id → what it said
        self.order = collections.defaultdict(list)  # meter → ids in the order of their first coming
        self.faults, self.taken, self.refused = [], 0, 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.take(self, body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook"

    def signed(self, request, body):
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        text = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
        return expected in request.headers["webhook-signature"].split(" ")

    def take(self, request, body):
        with self.lock:
            fate = 0.5 if self.calm else self.dice.random()
            if fate < 0.2:
                self.refused += 1
                status = 503
            else:
                status = 200
                if not self.signed(request, body):
                    self.faults.append("a request is not signed rightly")
                told = json.loads(body)
                self.requests[request.headers["webhook-id"]].add(hashlib.sha256(body).hexdigest())
                for item in told["items"]:
                    said = json.dumps(item["data"], sort_keys=True)
                    if self.readings.setdefault(item["id"], said) != said:
                        self.faults.append(f"{item['id']} says something else the second time")
                    elif item["id"] not in self.order[item["meter_id"]]:
                        self.order[item["meter_id"]].append(item["id"])
                        self.taken += 1
        if fate > 0.85:
            return  # taken, and nobody hears of it: the connection ends without an answer
        request.send_response(status)
        request.send_header("content-length", "0")
        request.end_headers()


class Broker:
    def __init__(self, folder):
        self.folder, self.port = Path(folder) / "broker", free_port()
        self.folder.mkdir()
        (self.folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\npersistence true\n"
            f"persistence_location {self.folder}/\nmax_queued_messages 0\n")
        self.start()

    def start(self):
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        self.process = subprocess.Popen([program, "-c", str(self.folder / "mosquitto.conf")],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Subscriber:
    """The newest value of each topic, and every id that it came under."""

    def __init__(self, port):
        self.newest, self.ids, self.lock = {}, collections.defaultdict(set), threading.Lock()
        script = Path(__file__).with_name("mqtt_reader.py")
        self.process = subprocess.Popen([sys.executable, str(script), str(port)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().strip():
            raise RuntimeError("the subscriber does not start")
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            message = json.loads(line)
            with self.lock:
                self.newest[message["topic"]] = message["payload"]
                if "ts" in message["properties"]:
                    key = (message["topic"].replace("/_past", ""), message["properties"]["ts"])
                    self.ids[key].add(message["properties"]["id"])

    def close(self):
        self.process.kill()
        self.process.wait()


def build_fleet(client, dtus, meters):
    schedule = client.post("/api/v1/schedules", {
        "name": "drill", "cron": "*/3 * * * * *", "time_zone": "UTC", "spread_s": 1, "window_s": 3, "missed_run": "skip"})
    made = {}
    for index in range(dtus):
        sn = f"HOOK{index + 1:06}"
        dtu = client.post("/api/v1/dtus", {"sn": sn, "name": f"dtu {index}", "schedule": schedule["id"]})
        for unit in range(1, meters + 1):
            meter = client.post("/api/v1/meters", {
                "dtu_id": dtu["id"], "protocol": "modbus-rtu", "address": str(unit), "model": "eastron_sdm120",
                "name": f"{index}/{unit}"})
            made[meter["id"]] = sn
    return made


def waited(holds, what, faults):
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > LIMIT_S:
            faults.append(f"not within {LIMIT_S} s: {what}")
            return
        time.sleep(0.5)


def stored_ids(client, meters):
    """meter → ids of its readings, as the feed makes them, with the newest value of its register."""
    from datetime import datetime, timezone
    epoch = datetime(1970, 1, 1, tzinfo=timezone.utc)
    found, newest = {}, {}
    for meter in meters:
        ids = {}
        for item in client.all(f"/api/v1/meters/{meter}/readings"):
            due = datetime.fromisoformat(item["due_at"].replace("Z", "+00:00"))
            micros = round((due - epoch).total_seconds() * 1_000_000)
            ids[f"reading-{meter}-{micros}-0"] = due
            if item["quantity"] == "active_energy_import" and due >= newest.get(meter, (epoch, None))[0]:
                newest[meter] = (due, item["value"])
        found[meter] = ids
    return found, newest


def judge(client, account, receiver, subscriber, meters, faults):
    stored, newest = stored_ids(client, meters)
    expected = {one for ids in stored.values() for one in ids}
    waited(lambda: expected <= set(receiver.readings), "every stored reading is with the receiver", faults)
    missing = expected - set(receiver.readings)
    faults += [f"{len(missing)} stored readings are not with the receiver, e.g. {sorted(missing)[:3]}"] if missing else []
    foreign = set(receiver.readings) - expected
    faults += [f"{len(foreign)} were told and are not stored, e.g. {sorted(foreign)[:3]}"] if foreign else []
    for meter, order in receiver.order.items():
        times = [int(one.split("-")[2]) for one in order]
        if times != sorted(times):
            faults.append(f"meter {meter} was told out of order")
    twice = [one for one, bodies in receiver.requests.items() if len(bodies) > 1]
    faults += [f"{len(twice)} requests said something else when they came again"] if twice else []

    def at_the_broker():
        with subscriber.lock:
            return all(
                subscriber.newest.get(f"polyphase/{account}/{sn}/{meter}/active_energy_import") == newest[meter][1]
                for meter, sn in meters.items() if meter in newest)

    waited(at_the_broker, "the newest value of every meter is with the subscriber", faults)
    with subscriber.lock:
        several = [key for key, ids in subscriber.ids.items() if len(ids) > 1]
    faults += [f"{len(several)} values came under several ids"] if several else []
    return len(expected)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--dtus", type=int, default=6)
    parser.add_argument("--meters", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    dice, faults, stored = random.Random(args.seed), [], 0
    with tempfile.TemporaryDirectory(prefix="polyphase-integrations-") as folder:
        Path(folder).chmod(0o755)
        head = HeadEnd(folder, extra="""
[notify]
private_targets = "127.0.0.0/8"
[integrations]
timeout_s = 5
retry_first_s = 1
retry_longest_s = 2
""")
        broker, receiver = Broker(folder), Receiver(random.Random(args.seed + 1))
        subscriber = simulator = None
        try:
            head.start()
            client = head.admin("hooks@example.org", "Hooks")
            account = client.get("/api/v1/session")["account"]["id"]
            hook = client.post("/api/v1/integrations", {
                "name": "hook", "kind": "webhook", "target": receiver.url(), "batch_max": 20})
            receiver.secret = hook["secret"]
            client.post("/api/v1/integrations", {
                "name": "broker", "kind": "mqtt", "target": f"mqtt://127.0.0.1:{broker.port}"})
            subscriber = Subscriber(broker.port)
            meters = build_fleet(client, args.dtus, args.meters)
            simulator = subprocess.Popen(
                [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", str(args.dtus), "--meters",
                 str(args.meters), "--models", "eastron_sdm120", "--sn-prefix", "HOOK", "--baud", "38400"],
                stdout=head.log, stderr=head.log)
            waited(lambda: receiver.taken > len(meters), "readings arrive", faults)
            for turn in range(args.kills):
                time.sleep(dice.uniform(2.0, 5.0))
                before = receiver.taken
                if turn % 2 == 0:
                    head.kill()
                    time.sleep(dice.uniform(0.0, 2.0))
                    head.start()
                else:
                    broker.kill()
                    time.sleep(dice.uniform(0.0, 2.0))
                    broker.start()
                waited(lambda: receiver.taken >= before + len(meters), "readings arrive again", faults)
            simulator.terminate()
            simulator.wait()
            time.sleep(4)  # what is under way is stored
            receiver.calm = True
            stored = judge(client, account, receiver, subscriber, meters, faults)
            if stored < args.kills * len(meters):
                faults.append(f"too little was stored for a verdict: {stored}")
        except BaseException:
            print(head.tail(8000), file=sys.stderr)
            raise
        finally:
            if subscriber:
                subscriber.close()
            if simulator and simulator.poll() is None:
                simulator.kill()
            head.stop()
            broker.kill()
    print(json.dumps({"kills": args.kills, "stored": stored, "taken": receiver.taken, "requests": len(receiver.requests),
                      "refused": receiver.refused}, indent=1))
    for line in faults[:20]:
        print(line, file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    os.environ.setdefault("POLYPHASE__LOG__FILTER", "info")
    main()
