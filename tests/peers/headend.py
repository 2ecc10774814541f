"""A head end under test, seen from outside only: its program, its files and its HTTP API."""

import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("POLYPHASE_PROGRAM", str(ROOT / "target/debug/polyphase"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Problem(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Client:
    """The REST API with one key."""

    def __init__(self, base, key):
        self.base, self.key = base, key

    def call(self, method, path, body=None, headers=None, timeout=90):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            raise Problem(error.code, error.read().decode(errors="replace")) from None

    def get(self, path, **query):
        query = {name: value for name, value in query.items() if value is not None}
        return self.call("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))

    def post(self, path, body, **kw):
        return self.call("POST", path, body, **kw)

    def all(self, path, **query):
        """Every item of a list, page by page."""
        cursor = None
        while True:
            page = self.get(path, cursor=cursor, limit=1000, **query)
            yield from page["items"]
            cursor = page["next"]
            if not cursor:
                return

    def stream(self, topics, on_event, stop):
        """Follows the stream until `stop` is set or the server goes; calls on_event(event, data, id)."""
        request = urllib.request.Request(f"{self.base}/api/v1/stream?topics={topics}")
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Accept", "text/event-stream")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                event, data, ident = None, [], None
                for raw in answer:
                    if stop.is_set():
                        return
                    line = raw.decode().rstrip("\r\n")
                    if line.startswith("event:"):
                        event = line[6:].strip()
                    elif line.startswith("id:"):
                        ident = line[3:].strip()
                    elif line.startswith("data:"):
                        data.append(line[5:].strip())
                    elif not line and data:
                        on_event(event, json.loads("\n".join(data)), ident)
                        event, data = None, []
        except (OSError, urllib.error.URLError, ValueError):
            return


class HeadEnd:
    """A server process on its own folder and ports."""

    def __init__(self, folder, models=None, extra=""):
        self.folder = Path(folder)
        self.http, self.device = free_port(), free_port()
        self.base = f"http://127.0.0.1:{self.http}"
        self.config = self.folder / "polyphase.toml"
        self.config.write_text(
            f"""
[data]
folder = "{self.folder / 'data'}"
meter_models = "{models or ''}"
[http]
bind = "127.0.0.1:{self.http}"
[[listener]]
bind = "127.0.0.1:{self.device}"
{extra}
"""
        )
        self.log = open(self.folder / "server.log", "ab")
        self.process = None
        #: soft and hard limit of its open files; none: as here
        self.limits = None
        self.env = {}

    def launch(self):
        """Starts the process; whether it works is another question."""
        bound = self.limits and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, self.limits))
        self.process = subprocess.Popen(
            [PROGRAM, "serve", "--config", str(self.config)], stdout=self.log, stderr=self.log, start_new_session=True,
            preexec_fn=bound, env={**os.environ, **self.env},
        )

    def start(self, ready_s=90):
        self.launch()
        return self.wait_ready(ready_s)

    def wait_ready(self, ready_s=90):
        begun = time.monotonic()
        while time.monotonic() - begun < ready_s:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.tail()}")
            try:
                with urllib.request.urlopen(self.base + "/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return time.monotonic() - begun
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.1)
        raise RuntimeError(f"not ready after {ready_s} s:\n{self.tail()}")

    def kill(self):
        """kill -9 of the server's own process; its database is not touched."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, wait_s=60):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(wait_s)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError(f"the server did not stop within {wait_s} s:\n{self.tail()}") from None
        return None

    def tail(self, count=4000):
        return (self.folder / "server.log").read_bytes()[-count:].decode(errors="replace")

    def cli(self, *arguments, stdin=None):
        done = subprocess.run(
            [PROGRAM, *arguments, "--config", str(self.config)], input=stdin, capture_output=True, text=True, timeout=120
        )
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def admin(self, email, account):
        """A client of a fresh admin of an account."""
        self.cli("user", "add", email, "--role", "admin", "--account", account, "--password-stdin",
                 stdin="correct horse battery staple\n")
        key = self.cli("api-key", "create", "--user", email, "--name", "test").strip()
        return Client(self.base, key)


class Follower(threading.Thread):
    """Follows the stream in the background and keeps what it showed; reconnects after the server comes back."""

    def __init__(self, client, topics):
        super().__init__(daemon=True)
        self.client, self.topics = client, topics
        self.events, self.lock, self.ended = [], threading.Lock(), threading.Event()

    def run(self):
        while not self.ended.is_set():
            self.client.stream(self.topics, self.keep, self.ended)
            time.sleep(0.2)

    def keep(self, event, data, ident):
        with self.lock:
            self.events.append((event, data, ident))

    def taken(self):
        with self.lock:
            return list(self.events)
