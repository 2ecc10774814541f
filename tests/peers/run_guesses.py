"""Guessing passwords from everywhere at once, through a proxy that the server trusts: guesses come from thousands of
addresses, as fast as the server answers, while the owner signs in and others work. Seen from outside only.

A fault is: more guesses that reached the password than ten a minute; an owner with the browser or the address used before
who does not get in; a stranger with the right password who does, while guesses go on; an answer that is neither 401, 429
nor 503; another's request that fails. The server is killed in the middle (--kill) and must know the owner afterwards.
A second factor is tried with codes that this script computes itself (RFC 6238 by hashlib).

Prints a JSON report; exit 1 on any fault.

usage: run_guesses.py [--guesses N] [--sources N] [--threads N] [--kill]
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import json
import os
import random
import struct
import sys
import tempfile
import threading
import time

from headend import HeadEnd

PASSWORD = "correct horse battery staple"
OFFICE, NOWHERE = "203.0.113.5", "192.0.2.99"


def code(secret, at):
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start:start + 4])[0] & 0x7FFFFFFF) % 1_000_000:06}"


class Web:
    """One kept connection, made anew when it is gone."""

    def __init__(self, port):
        self.port, self.line = port, None

    def call(self, method, path, body=None, headers=None):
        headers = {"Content-Type": "application/json", **(headers or {})}
        data = None if body is None else json.dumps(body)
        for last in (False, True):
            try:
                if self.line is None:
                    self.line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.line.request(method, "/api/v1" + path, data, headers)
                answer = self.line.getresponse()
                text = answer.read()
                return answer.status, answer.headers, json.loads(text) if text else None
            except (OSError, http.client.HTTPException):
                self.line = None
                if last:
                    raise
        return None

    def sign_in(self, email, password, source, cookie=None, **more):
        headers = {"X-Forwarded-For": f"10.9.9.9, {source}"}
        if cookie:
            headers["Cookie"] = cookie
        return self.call("POST", "/session", {"email": email, "password": password, **more}, headers)


class Flood:
    """Guesses until so many are answered."""

    def __init__(self, port, email, count, sources, threads):
        self.port, self.email, self.sources = port, email, sources
        self.left, self.lock, self.seen, self.lost = count, threading.Lock(), {}, 0
        self.paused = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(threads)]
        self.begun = time.monotonic()
        for thread in self.threads:
            thread.start()

    def run(self, number):
        web, chance = Web(self.port), random.Random(number)
        while True:
            with self.lock:
                if self.left <= 0:
                    return
                self.left -= 1
                guess = self.left
            while self.paused.is_set():
                time.sleep(0.05)
            n = chance.randrange(self.sources)
            email = self.email.upper() if guess % 2 else self.email
            try:
                status = web.sign_in(email, f"guess {guess}", f"198.18.{n // 250}.{n % 250}")[0]
            except (OSError, http.client.HTTPException):
                with self.lock:
                    self.lost += 1
                continue
            with self.lock:
                self.seen[status] = self.seen.get(status, 0) + 1

    def running(self):
        return any(thread.is_alive() for thread in self.threads)


class Bystander(threading.Thread):
    """Somebody else, who works; remembers how long each answer took."""

    def __init__(self, head, client):
        super().__init__(daemon=True)
        self.head, self.client, self.took, self.failed = head, client, [], []
        self.stopped, self.paused = threading.Event(), threading.Event()

    def run(self):
        web = Web(self.head.http)
        while not self.stopped.wait(0.05):
            if self.paused.is_set():
                continue
            begun = time.monotonic()
            try:
                status = web.call("GET", "/summary", headers={"Authorization": f"Bearer {self.client.key}"})[0]
            except (OSError, http.client.HTTPException) as error:
                status = repr(error)
            if status == 200:
                self.took.append(time.monotonic() - begun)
            elif not self.paused.is_set():
                self.failed.append(status)


def memory(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def middle(values):
    return sorted(values)[len(values) // 2] if values else 0.0


def device_cookie(headers):
    for value in headers.get_all("Set-Cookie") or []:
        if value.startswith("polyphase_device="):
            return value.split(";")[0]
    return None


def second_factor(head, faults):
    """Enrols and signs in with codes of our own making."""
    head.cli("user", "add", "tess@tess.example", "--role", "admin", "--account", "Tess", "--password-stdin", stdin=PASSWORD)
    web = Web(head.http)
    token = web.sign_in("tess@tess.example", PASSWORD, "203.0.113.60")[2]["token"]
    bearer = {"Authorization": f"Bearer {token}"}
    made = web.call("POST", "/session/second-factor", {"password": PASSWORD}, bearer)[2]
    first = code(made["secret"], time.time())
    status, _, codes = web.call("POST", "/session/second-factor/confirm", {"code": first}, bearer)
    if status != 200 or len(codes["recovery_codes"]) != 10:
        faults.append(f"a right code does not confirm: {status} {codes}")
        return
    again = lambda **more: web.sign_in("tess@tess.example", PASSWORD, "203.0.113.60", **more)[0]
    # the next step's code is taken already, as a clock ahead of ours would send it
    ahead = code(made["secret"], time.time() + 30)
    for what, wanted, got in [
        ("without a code", 401, again()),
        ("the code that confirmed", 401, again(code=first)),
        ("the next code", 201, again(code=ahead)),
        ("the next code again", 401, again(code=ahead)),
        ("a recovery code", 201, again(code=codes["recovery_codes"][0])),
        ("a recovery code again", 401, again(code=codes["recovery_codes"][0])),
    ]:
        if wanted != got:
            faults.append(f"{what}: {got}, not {wanted}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--guesses", type=int, default=10_000)
    parser.add_argument("--sources", type=int, default=5_000)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--kill", action="store_true")
    arguments = parser.parse_args()
    faults = []
    with tempfile.TemporaryDirectory(prefix="polyphase-guesses-") as folder:
        if os.geteuid() == 0:
            os.chmod(folder, 0o755)
        head = HeadEnd(folder)
        head.env["POLYPHASE__HTTP__TRUSTED_PROXIES"] = "127.0.0.0/8, 10.0.0.0/8"
        head.start()
        try:
            report = drill(head, arguments, faults)
            second_factor(head, faults)
        finally:
            head.stop()
    report["faults"] = faults
    print(json.dumps(report, indent=1))
    sys.exit(1 if faults else 0)


def drill(head, arguments, faults):
    ann, bob = "ann@ann.example", head.admin("bob@bob.example", "Bob")
    head.cli("user", "add", ann, "--role", "admin", "--account", "Ann", "--password-stdin", stdin=PASSWORD)
    owner = Web(head.http)
    status, headers, _ = owner.sign_in(ann, PASSWORD, OFFICE)
    cookie = device_cookie(headers)
    if status != 201 or not cookie:
        raise RuntimeError(f"the owner's first sign-in: {status}, {cookie}")

    bystander = Bystander(head, bob)
    bystander.start()
    time.sleep(3)
    calm, bystander.took = bystander.took, []
    memory_before = memory(head.process.pid)
    flood = Flood(head.http, ann, arguments.guesses, arguments.sources, arguments.threads)
    half, killed = arguments.guesses // 2, not arguments.kill
    owner_in = {"browser": 0, "office": 0}
    stranger_kept_out = owner_waited = 0
    while flood.running():
        if not killed and flood.left < half:
            killed = True
            bystander.paused.set()
            flood.paused.set()
            time.sleep(0.5)
            head.kill()
            head.start()
            flood.paused.clear()
            bystander.paused.clear()
        for how, source, sent in [("browser", f"192.0.2.{random.randrange(1, 90)}", cookie), ("office", OFFICE, None)]:
            for _ in range(5):
                status = owner.sign_in(ann, PASSWORD, source, sent)[0]
                # a busy host: the server says when to come back
                if status != 503:
                    break
                owner_waited += 1
                time.sleep(2)
            if status == 201:
                owner_in[how] += 1
            else:
                faults.append(f"the owner ({how}) got {status}")
        # ten guesses have passed by then
        if sum(flood.seen.values()) > 200 and not flood.paused.is_set():
            status = Web(head.http).sign_in(ann, PASSWORD, NOWHERE)[0]
            if status in (429, 503):
                stranger_kept_out += 1
        time.sleep(0.7)
    lasted = time.monotonic() - flood.begun
    bystander.stopped.set()
    bystander.join()

    passed = flood.seen.get(401, 0)
    # one more span of ten for each server that lived
    bound = 10 * (int(lasted // 60) + 1 + (1 if arguments.kill else 0))
    if passed > bound:
        faults.append(f"{passed} guesses reached the password in {lasted:.0f} s; at most {bound}")
    strange = {status: count for status, count in flood.seen.items() if status not in (401, 429, 503)}
    if strange:
        faults.append(f"answers of another kind: {strange}")
    if len(bystander.failed) * 20 > len(bystander.took):
        faults.append(f"others' requests failed: {bystander.failed[:5]} of {len(bystander.failed)}")
    if not bystander.took:
        faults.append("nobody else was served")
    if not all(owner_in.values()):
        faults.append(f"the owner never tried: {owner_in}")
    told = bob_cannot_see(bob, faults)
    return {
        "guesses": arguments.guesses,
        "seconds": round(lasted, 1),
        "answers": {str(status): count for status, count in sorted(flood.seen.items())},
        "without_answer": flood.lost,
        "reached_the_password": passed,
        "at_most": bound,
        "owner_in": owner_in,
        "owner_told_to_wait": owner_waited,
        "strangers_with_the_password_kept_out": stranger_kept_out,
        "others_served": len(bystander.took),
        "others_failed": len(bystander.failed),
        "others_median_ratio": round(middle(bystander.took) / middle(calm), 2) if calm and bystander.took else None,
        "server_grew_kb": memory(head.process.pid) - memory_before if not arguments.kill else None,
        "others_see_of_it": told,
    }


def bob_cannot_see(bob, faults):
    audit = bob.get("/api/v1/audit", action="session.")["items"]
    if any("ann" in json.dumps(entry) for entry in audit):
        faults.append("another account sees the guesses")
    return len(audit)


if __name__ == "__main__":
    main()
