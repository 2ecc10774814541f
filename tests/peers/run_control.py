"""Relays under lost replies, cut lines and kill -9 of the server: at most one frame a command, no final state that
contradicts the relay, every unknown found out within two minutes of its DTU's return; nothing to an absent DTU after its
expiry; no way around the second person; never more disconnections than the brake lets through; nothing after the
emergency stop. Exit 1 otherwise.

usage: run_control.py [--commands N] [--kills N] [--expiries N] [--forged] [--flood N] [--seed N] [--limit SECONDS]
"""

import argparse
import collections
import json
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
from pathlib import Path

from forged import forged
from headend import Client, HeadEnd, Problem
from relays import Field

FINAL = {"confirmed", "failed", "rejected", "cancelled", "expired"}
PASSWORD = "correct horse battery staple\n"


def patiently(call, seconds=600):
    """A call that outlives the death of its server."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Problem as problem:
            # 409: a request with this key is still being worked on, as far as the dead server could tell
            if problem.status not in (409, 503) or time.monotonic() > ends:
                raise
        except (OSError, urllib.error.URLError, ValueError):
            if time.monotonic() > ends:
                raise
        time.sleep(0.2)


def no_four_eyes(client):
    client.call("PUT", "/api/v1/control/policy", {"four_eyes": {"trip_from": None}})


# ---- commands under lost replies, cut lines and kills


class Outcomes:
    """Commands for one meter after another, in threads, while the server dies now and then."""

    def __init__(self, client, faults):
        self.client, self.faults = client, faults
        self.why = collections.Counter()
        self.tally, self.up, self.slowest = collections.Counter(), threading.Event(), 0.0
        self.up.set()

    def wait(self, command, dtu):
        """The command's end. Unknown for two minutes with DTU and server there is a fault."""
        since = None
        while command["state"] not in FINAL:
            time.sleep(0.3)
            command = patiently(lambda: self.client.get(f"/api/v1/commands/{command['id']}"))
            online = dtu.online_since
            if command["state"] != "unknown" or not online or not self.up.is_set():
                since = None
                continue
            since = max(since or time.monotonic(), online)
            waited = time.monotonic() - since
            self.slowest = max(self.slowest, waited)
            if waited > 120:
                self.faults.append(f"command {command['id']}: unknown for two minutes with its DTU there")
                return None
        return command

    def run(self, meter, dtu, relay, rounds):
        for number in range(rounds):
            before, frames = relay.on, relay.count()
            action = "disconnect" if before else "reconnect"
            command = patiently(lambda: self.client.post(
                f"/api/v1/meters/{meter}/commands", {"action": action, "expires_in_s": 120, "reason": "drill"},
                headers={"Idempotency-Key": f"drill-{meter}-{number}"}))
            command = self.wait(command, dtu)
            if command is None:
                return
            ident, state, sent = command["id"], command["state"], relay.count() - frames
            self.tally[state] += 1
            if state not in ("confirmed", "failed"):
                self.why[str(command["outcome"].get("last_obstacle") or command["outcome"])] += 1
            self.tally["frames"] += sent
            self.tally["were_unknown"] += any(edge["state"] == "unknown" for edge in command["history"])
            wanted = action == "reconnect"
            if sent > 1:
                self.faults.append(f"command {ident}: {sent} frames")
            if (state == "confirmed") != (relay.on == wanted):
                self.faults.append(f"command {ident}: {state}, and the relay is {'on' if relay.on else 'off'}")
            if state in ("expired", "rejected", "cancelled") and sent:
                self.faults.append(f"command {ident}: {state} with {sent} frames")


def outcomes(folder, args, dice, faults):
    # the brake is another drill's
    head = HeadEnd(folder, extra="[control]\ndisconnects_per_account = 10000\ndisconnects_total = 10000\n"
                                 "disconnects_dtu_percent = 100\ndisconnects_dtu_window_s = 60\n")
    head.start()
    try:
        client = head.admin("control@example.org", "Control")
        dtus, units = max(2, min(10, args.commands // 6)), 3
        field = Field(head, client, "OUT", dtus, units, dice, lose=0.08, cut=0.05, items=True, idle=12)
        drill = Outcomes(client, faults)
        rounds = -(-args.commands // len(field.meters))
        workers = [threading.Thread(target=drill.run, args=(meter, dtu, relay, rounds), daemon=True)
                   for meter, (dtu, relay) in field.meters.items()]
        for worker in workers:
            worker.start()
        kills, begun = 0, time.monotonic()
        while any(worker.is_alive() for worker in workers) and time.monotonic() - begun < args.limit:
            time.sleep(dice.uniform(0.5, 3.0) if kills < args.kills else 0.5)
            if kills < args.kills:
                drill.up.clear()
                head.kill()
                kills += 1
                head.start()
                # on a busy host a database may be taken for hung for a while; a server that is killed meanwhile shows nothing
                patiently(lambda: client.get("/api/v1/commands", limit=1))
                drill.up.set()
        tally = drill.tally
        if any(worker.is_alive() for worker in workers):
            faults.append(f"not done within {args.limit} s: {dict(tally)}")
        commands = sum(tally[state] for state in FINAL)
        if commands < args.commands and not faults:
            faults.append(f"only {commands} commands ended")
        if tally["frames"] == 0 or tally["confirmed"] == 0:
            faults.append(f"nothing was switched: {dict(tally)}")
        if kills < args.kills:
            faults.append(f"only {kills} kills before the commands were done; more commands are needed")
        verdict = head.cli("audit", "verify")
        if "audit holds" not in verdict:
            faults.append(verdict)
        print(json.dumps({"commands": commands, "kills": kills, "seconds": round(time.monotonic() - begun),
                          "longest_unknown_s": round(drill.slowest, 1), **tally, "not_sent": drill.why}), flush=True)
        field.end()
    finally:
        head.stop()


# ---- an absent DTU


def shim(folder):
    """The library that sets a server's wall clock off, and the file that says how far."""
    library, file = Path(folder) / "clock.so", Path(folder) / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    file.write_bytes(struct.pack("q", 0))
    return library, file


def expiries(folder, args, dice, faults):
    """Nothing in between; a kill; the clock set back an hour while it runs; the same while it is down."""
    head = HeadEnd(folder)
    library, clock = shim(folder)
    head.env = {"LD_PRELOAD": str(library), "POLYPHASE_TEST_CLOCK": str(clock)}
    offset = 0

    def set_back():
        nonlocal offset
        offset -= 3600
        with open(clock, "r+b") as file:
            file.write(struct.pack("q", offset))

    head.start()
    try:
        client = head.admin("expiry@example.org", "Control")
        no_four_eyes(client)
        for number, (kill, back) in enumerate(((False, False), (True, False), (False, True), (True, True))):
            # each its own account: the brake is another drill's
            client = head.admin(f"expiry{number}@example.org", f"Expiry {number}")
            field = Field(head, client, f"ABS{number}", args.expiries // 4, 1, present=False)
            asked = {}
            for meter in field.meters:
                command = client.post(f"/api/v1/meters/{meter}/commands",
                                      {"action": "disconnect", "expires_in_s": args.expires, "reason": "drill"})
                if command["state"] != "requested":
                    faults.append(f"a command that waits for its DTU is {command['state']}")
                asked[command["id"]] = time.monotonic()
            time.sleep(args.expires / 2)
            if kill:
                head.kill()
            if back:
                set_back()
            if kill:
                head.start()
            time.sleep(max(0, max(asked.values()) + args.expires - time.monotonic()))
            for dtu in field.dtus:
                dtu.present.set()
            ends = time.monotonic() + 90
            while not all(dtu.online_since for dtu in field.dtus) and time.monotonic() < ends:
                time.sleep(0.2)
            time.sleep(8)
            states = collections.Counter(client.get(f"/api/v1/commands/{ident}")["state"] for ident in asked)
            if field.frames():
                faults.append(f"{field.frames()} frames reached DTUs that came back after the expiry")
            if states != {"expired": len(asked)}:
                faults.append(f"commands to absent DTUs ended as {dict(states)}")
            # what is asked now is done: the field was there
            meter, (_, relay) = next(iter(field.meters.items()))
            Outcomes(client, faults).run(meter, field.dtus[0], relay, 1)
            if relay.count() != 1:
                faults.append(f"a fresh command to a DTU that is there: {relay.count()} frames")
            print(json.dumps({"absent": len(asked), "expires_s": args.expires, "killed": kill, "set_back": back,
                              "states": states}), flush=True)
            field.end()
    finally:
        head.stop()


# ---- the brake and the emergency stop


def most_in_window(times, window):
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def five_keys(head, meters):
    """The same disconnection five at a time, by five people."""
    def one_by_one(number, own):
        email = f"flood{number}@example.org"
        head.cli("user", "add", email, "--role", "operator", "--account", "Control", "--password-stdin", stdin=PASSWORD)
        key = head.cli("api-key", "create", "--user", email, "--name", "drill").strip()
        client = Client(head.base, key)
        for meter in own:
            client.post(f"/api/v1/meters/{meter}/commands",
                        {"action": "disconnect", "expires_in_s": 3600, "reason": "drill"})

    workers = [threading.Thread(target=one_by_one, args=(n, meters[n::5])) for n in range(5)]
    for worker in workers:
        worker.start()
    return workers


def ends_of(admin, asked, seconds):
    """How commands ended, by state; after so long those that have not stand with their state."""
    ends = time.monotonic() + seconds
    left, states = set(asked), collections.Counter()
    while left and time.monotonic() < ends:
        for ident in sorted(left):
            state = admin.get(f"/api/v1/commands/{ident}")["state"]
            if state in FINAL:
                states[state] += 1
                left.discard(ident)
        time.sleep(0.5)
    states["open"] += len(left)
    return +states


def flood(folder, args, dice, faults):
    head = HeadEnd(folder)
    head.start()
    try:
        admin = head.admin("flood@example.org", "Control")
        no_four_eyes(admin)
        units, spare = 20, 100 + max(100, args.flood // 10)
        field = Field(head, admin, "FLD", -(-(args.flood + spare) // units), units)
        meters = list(field.meters)
        # every DTU has some of each kind
        dice.shuffle(meters)
        reconnects, moving, rest = meters[:100], meters[100:spare], meters[spare:spare + args.flood]
        third = len(rest) // 3
        bulk, parallel, planned = rest[:third], rest[third:2 * third], rest[2 * third:]
        begun = time.monotonic()
        schedule = admin.post("/api/v1/control/schedules", {
            "name": "flood", "cron": "*/5 * * * * *", "time_zone": "UTC", "action": "disconnect",
            "meter_ids": planned, "expires_in_s": 3600, "reason": "drill"})
        workers = five_keys(head, parallel)
        many = admin.post("/api/v1/commands", {"action": "disconnect", "meter_ids": bulk, "expires_in_s": 3600,
                                               "reason": "drill"}, timeout=300)
        back = [admin.post(f"/api/v1/meters/{meter}/commands",
                           {"action": "reconnect", "expires_in_s": 600, "reason": "drill"})["id"] for meter in reconnects]
        reconnecting = time.monotonic()
        states = ends_of(admin, back, 240)
        took = time.monotonic() - reconnecting
        if states != {"confirmed": len(back)}:
            faults.append(f"reconnects ended as {dict(states)}")
        for worker in workers:
            worker.join()
        # whatever is going to move moves
        quiet, seen = time.monotonic(), -1
        while time.monotonic() - quiet < 10:
            if field.frames() != seen:
                quiet, seen = time.monotonic(), field.frames()
            time.sleep(0.5)
        by_schedule = sum(1 for item in admin.all("/api/v1/commands", state="held")
                          if item.get("schedule_id") == schedule["id"])
        held = sum(1 for _ in admin.all("/api/v1/commands", state="held"))
        off = field.times(False)
        most = most_in_window(off, 600)
        if not 10 <= most <= 20:
            faults.append(f"{len(off)} disconnections, {most} of them within ten minutes")
        if held < args.flood * 0.9 or many["commands"] != len(bulk):
            faults.append(f"{held} of {args.flood} disconnections are held")
        deadline, alarms = time.monotonic() + 60, []
        while not alarms and time.monotonic() < deadline:
            alarms = [alarm for alarm in admin.all("/api/v1/alarms") if alarm["kind"] == "brake_held"]
            time.sleep(0.5)
        told = len(alarms)
        if told != 1:
            faults.append(f"the brake raised {told} alarms")
        stopped = stop(admin, field, moving, rest, faults)
        print(json.dumps({"disconnects_asked": args.flood, "frames_off": len(off), "most_in_10_min": most, "held": held,
                          "held_of_schedule": by_schedule, "told": told, "reconnects": dict(states),
                          "reconnects_s": round(took, 1), "seconds": round(time.monotonic() - begun), **stopped}),
              flush=True)
        field.end()
    finally:
        head.stop()


def stop(admin, field, moving, rest, faults):
    """The emergency stop, with reconnections under way."""
    def moved():
        return len(field.times(True))

    before = moved()
    admin.post("/api/v1/commands", {"action": "reconnect", "meter_ids": moving, "expires_in_s": 600, "reason": "drill"},
               timeout=300)
    ends = time.monotonic() + 60
    while moved() < before + 5 and time.monotonic() < ends:
        time.sleep(0.02)
    pressed = time.monotonic()
    admin.post("/api/v1/commands/emergency-stop", {"reason": "drill"}, timeout=300)
    answered = time.monotonic()
    time.sleep(6)
    frames = sorted(field.times(True) + field.times(False))
    flowing = sum(1 for at in frames if pressed - 5 < at <= pressed)
    if not 5 <= flowing < len(moving):
        faults.append(f"{flowing} of {len(moving)} reconnections had begun when the stop came; the drill shows nothing")
    refused = 0
    for meter in rest[:10]:
        try:
            admin.post(f"/api/v1/meters/{meter}/commands", {"action": "disconnect", "expires_in_s": 60, "reason": "x"})
        except Problem as problem:
            refused += problem.status == 409
    if refused != 10:
        faults.append("a command was taken during the emergency stop")
    # what was pending is taken back, which takes a while with thousands
    ends = time.monotonic() + 300
    while admin.get("/api/v1/commands", state="requested,held,approved", limit=1)["items"]:
        if time.monotonic() > ends:
            faults.append("commands are pending after the emergency stop")
            break
        time.sleep(1)
    emptied = time.monotonic()
    frames = sorted(field.times(True) + field.times(False))
    late = [at for at in frames if at > answered + 1]
    if late:
        faults.append(f"{len(late)} frames began more than a second after the emergency stop, the last "
                      f"{max(late) - pressed:.1f} s after it")
    return {"moving_at_stop": flowing, "stop_answered_s": round(answered - pressed, 2),
            "pending_none_after_s": round(emptied - pressed, 1),
            "last_frame_after_stop_s": round(max(frames) - pressed, 2)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--expiries", type=int, default=0)
    parser.add_argument("--expires", type=int, default=60)
    parser.add_argument("--forged", action="store_true")
    parser.add_argument("--flood", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, default=3600)
    args = parser.parse_args()
    dice, faults = random.Random(args.seed), []
    for drill, wanted in ((outcomes, args.commands), (expiries, args.expiries), (forged, args.forged),
                          (flood, args.flood)):
        if wanted:
            with tempfile.TemporaryDirectory(prefix="polyphase-control-") as folder:
                Path(folder).chmod(0o755)
                drill(folder, args, dice, faults)
    for fault in faults[:20]:
        print("FAULT", fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
