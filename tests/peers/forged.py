"""Forty ways around the second person, over HTTP: none may bring a frame to a relay. And one that is in order, which does."""

import collections
import json
import time

from headend import Client, HeadEnd, Problem
from relays import Field

PASSWORD = "correct horse battery staple\n"
TWO = {"four_eyes": {"trip_from": 1}}


class Forger:
    def __init__(self, head, faults):
        self.head, self.faults, self.tried = head, faults, collections.Counter()
        self.admin = head.admin("admin@example.org", "Control")
        self.people = {}
        for name, role, account in (("ann", "operator", "Control"), ("bob", "operator", "Control"),
                                    ("vic", "viewer", "Control"), ("eve", "admin", "Another"),
                                    ("old", "operator", "Control"), ("was", "operator", "Control")):
            self.people[name] = self.person(f"{name}@example.org", role, account)
        self.ids = {item["email"].split("@")[0]: item["id"] for item in self.admin.all("/api/v1/users")}
        self.admin.call("PUT", "/api/v1/control/policy", TWO)
        self.field = Field(head, self.admin, "FRG", 8, 6)
        self.meters = iter(self.field.meters)

    def person(self, email, role, account):
        self.head.cli("user", "add", email, "--role", role, "--account", account, "--password-stdin", stdin=PASSWORD)
        return Client(self.head.base, self.head.cli("api-key", "create", "--user", email, "--name", "drill").strip())

    def ask(self, who="ann", meter=None, expires=300):
        meter = meter or next(self.meters)
        command = self.people[who].post(f"/api/v1/meters/{meter}/commands",
                                        {"action": "disconnect", "expires_in_s": expires, "reason": "forged"})
        if command["state"] != "held":
            self.faults.append(f"command {command['id']} is {command['state']}, not held")
        return meter, command

    def refused(self, kind, call, statuses):
        """One attempt, which must be refused so."""
        self.tried[kind] += 1
        try:
            answer = call()
        except Problem as problem:
            if problem.status not in statuses:
                self.faults.append(f"{kind}: {problem}")
            return
        self.faults.append(f"{kind}: it was taken: {answer}")

    def approve(self, who, command, digest=None):
        body = {"digest": digest or command["digest"]}
        return self.people[who].post(f"/api/v1/commands/{command['id']}/approve", body)

    def roles(self, name, roles):
        self.admin.call("PATCH", f"/api/v1/users/{self.ids[name]}", {"roles": roles}, headers={"If-Match": "*"})

    def away(self, meter, present):
        """The DTU of a meter goes or comes back, and the server knows."""
        dtu = self.field.meters[meter][0]
        (dtu.present.set if present else dtu.present.clear)()
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            there = self.admin.get(f"/api/v1/dtus/{self.field.ids[dtu]}")["online"]
            if there == present:
                return
            time.sleep(0.2)
        self.faults.append(f"DTU {dtu.sn} does not {'come' if present else 'go'}")

    def ended(self, kind, command, state, cause=None):
        """An attempt that was taken, and must end so by itself."""
        self.tried[kind] += 1
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            command = self.admin.get(f"/api/v1/commands/{command['id']}")
            if command["state"] not in ("requested", "held", "approved", "sent", "unknown"):
                break
            time.sleep(0.3)
        if command["state"] != state or (cause and command["outcome"].get("cause") != cause):
            self.faults.append(f"{kind}: {command['state']} {command['outcome']}, not {state} {cause}")

    # ---- the ways

    def by_oneself(self):
        for _ in range(6):
            _, command = self.ask()
            self.refused("self-approval", lambda: self.approve("ann", command), (409,))

    def by_others(self):
        for name, statuses in (("eve", (404,)), ("eve", (404,)), ("eve", (404,)), ("vic", (403,)), ("vic", (403,))):
            _, command = self.ask()
            self.refused("another's approver", lambda: self.approve(name, command), statuses)

    def another_target(self):
        for _ in range(5):
            meter, command = self.ask()
            self.away(meter, False)
            self.approve("bob", command)
            number = 100 + meter % 100
            self.admin.call("PATCH", f"/api/v1/meters/{meter}", {"address": str(number)}, headers={"If-Match": "*"})
            self.away(meter, True)
            self.ended("changed target", command, "rejected", "target_changed")

    def reused(self):
        _, first = self.ask()
        _, second = self.ask()
        for _ in range(3):
            self.refused("another command's approval", lambda: self.approve("bob", second, first["digest"]), (409,))
        self.people["bob"].post(f"/api/v1/commands/{first['id']}/reject", {})
        for _ in range(2):
            self.refused("approval of what was rejected", lambda: self.approve("bob", first), (409,))
        # asked for again with the same key: the old command, not a new one that is approved
        self.refused("approval of the old for the new", lambda: self.approve("bob", second, "00" * 32), (409,))

    def too_late(self):
        for _ in range(3):
            _, command = self.ask(expires=2)
            time.sleep(3)
            self.refused("expired", lambda: self.approve("bob", command), (409,))
        for _ in range(2):
            meter = next(self.meters)
            self.away(meter, False)
            _, command = self.ask(meter=meter, expires=15)
            self.approve("bob", command)
            time.sleep(15)
            self.away(meter, True)
            self.ended("approved and expired", command, "expired")

    def role_gone(self):
        for name, asks, approves, cause in (("old", "ann", "old", "approval_void"), ("was", "was", "bob", "requester_denied")):
            for _ in range(3):
                self.roles(name, ["operator"])
                meter, command = self.ask(asks)
                self.away(meter, False)
                self.approve(approves, command)
                self.roles(name, ["viewer"])
                self.away(meter, True)
                self.ended("role taken away", command, "rejected", cause)

    def directly(self):
        meter = next(self.meters)
        body = {"action": "disconnect", "expires_in_s": 60, "reason": "forged"}
        one = f"/api/v1/meters/{meter}/commands"
        _, held = self.ask()
        ann, vic, eve = (self.people[name] for name in ("ann", "vic", "eve"))
        # write coil 0 off at unit 1, as an operator
        raw = {**body, "action": "raw", "frame": "010500000000CDCA"}
        for client, method, path, sent, statuses in (
                (vic, "POST", one, body, (403,)),
                (Client(self.head.base, "ph_k_forged"), "POST", one, body, (401,)),
                (eve, "POST", one, body, (404,)),
                (eve, "POST", "/api/v1/commands", {**body, "meter_ids": [meter], "account_id": 1}, (400, 422)),
                (ann, "POST", one, raw, (403,)),
                (ann, "POST", one, {**body, "approved": True}, (400, 422)),
                (ann, "POST", one, {**body, "state": "approved"}, (400, 422)),
                (ann, "PATCH", f"/api/v1/commands/{held['id']}", {"state": "approved"}, (404, 405)),
                (vic, "PUT", "/api/v1/control/policy", {"four_eyes": {"trip_from": None}}, (403,))):
            self.refused("direct", lambda: client.call(method, path, sent), statuses)


def forged(folder, args, dice, faults):
    head = HeadEnd(folder, extra="[control]\ndisconnects_per_account = 10000\ndisconnects_total = 10000\n"
                                 "disconnects_dtu_percent = 100\n")
    head.start()
    try:
        forger = Forger(head, faults)
        for way in (forger.by_oneself, forger.by_others, forger.another_target, forger.reused, forger.too_late,
                    forger.role_gone, forger.directly):
            way()
        time.sleep(5)
        frames, attempts = forger.field.frames(), sum(forger.tried.values())
        if frames:
            faults.append(f"{frames} frames by {attempts} attempts")
        if attempts < 40:
            faults.append(f"only {attempts} attempts")
        # what is in order goes through: the drill can see frames
        meter, command = forger.ask()
        forger.approve("bob", command)
        forger.ended("in order", command, "confirmed")
        if forger.field.frames() - frames != 1:
            faults.append(f"{forger.field.frames() - frames} frames by a command in order")
        print(json.dumps({"attempts": attempts, "frames": frames, **forger.tried}), flush=True)
        forger.field.end()
    finally:
        head.stop()
