"""The first five calls of docs/API.md, taken from the page as they stand there and run by curl, against a server with a
simulated DTU; what they answer is looked at. Exit 1 on any fault.

usage: run_first_calls.py
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from headend import PROGRAM, ROOT, HeadEnd

SECTION = "## The first five calls"


def lines_of_the_page():
    """The shell lines of the section, by the number of the call that they stand under."""
    text = (ROOT / "docs/API.md").read_text()
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0]
    calls, number = {}, None
    for line in section.splitlines():
        if not line.startswith("    "):
            continue
        line = line.strip()
        if line.startswith("#"):
            number = int(line.lstrip("# ").split(".", 1)[0])
            calls[number] = []
        else:
            calls[number].append(line)
    return calls


def run(line, env, timeout=120):
    done = subprocess.run(["bash", "-c", line], env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{line}: exit {done.returncode}: {done.stderr}")
    answer = json.loads(done.stdout)
    if str(answer.get("type", "")).startswith("/problems/"):
        raise RuntimeError(f"{line}: {done.stdout}")
    return answer


def wait(what, limit, until):
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        found = until()
        if found:
            return found
        time.sleep(0.3)
    raise RuntimeError(f"not within {limit} s: {what}")


def follow(line, env, until, limit):
    """Runs a line that does not end by itself until `until` says that enough came."""
    told = tempfile.TemporaryFile("w+")
    running = subprocess.Popen(["bash", "-c", line], env={**os.environ, **env}, stdout=told, start_new_session=True)

    def heard():
        told.seek(0)
        return told.read()

    try:
        return wait(f"events of {line}", limit, lambda: until(heard()) and heard())
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        running.wait(30)


def check(faults, holds, what, answer):
    if not holds:
        faults.append(f"{what}: {json.dumps(answer, ensure_ascii=False)[:600]}")


def main():
    calls = lines_of_the_page()
    faults = []
    if sorted(calls) != [1, 2, 3, 4, 5] or not all(line.startswith("curl ") for lines in calls.values() for line in lines):
        print(f"five calls by curl are wanted: {calls}")
        return 1
    with tempfile.TemporaryDirectory(prefix="polyphase-calls-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder)
        device = None
        try:
            head.start()
            api = head.admin("ann@example.org", "Main")
            env = {"H": f"{head.base}/api/v1", "A": f"Authorization: Bearer {api.key}"}
            who, summary = [run(line, env) for line in calls[1]]
            check(faults, who["email"] == "ann@example.org" and who["roles"] == ["admin"], "who am I", who)
            check(faults, "dtus" in summary and "open_alarms" in summary, "the counters of a front page", summary)
            dtu, meter = [run(line, env) for line in calls[2]]
            check(faults, (dtu["id"], dtu["sn"]) == (1, "DTU000001"), "the DTU", dtu)
            check(faults, (meter["id"], meter["dtu_id"]) == (1, 1), "the meter", meter)
            again = run(calls[2][0], env)
            check(faults, again["id"] == 1, "the same key makes no second DTU", again)
            check(faults, len(list(api.all("/api/v1/dtus"))) == 1, "one DTU", again)
            device = subprocess.Popen(
                [PROGRAM, "simulate", "--connect", f"127.0.0.1:{head.device}", "--dtus", "1", "--meters", "1", "--models",
                 "eastron_sdm630", "--sn-prefix", "DTU"],
                stdout=subprocess.DEVNULL, stderr=open(f"{folder}/simulate.log", "wb"), start_new_session=True)
            wait("the DTU online", 120, lambda: api.get("/api/v1/dtus/1")["online"])
            read = run(calls[3][0], env)
            names = {item["quantity"]: item for item in read["items"]}
            check(faults, read["state"] == "done" and set(names) == {"active_energy_import", "voltage_l1"}, "read now", read)
            check(faults, float(names["active_energy_import"]["value"]) >= 0, "a register", read)
            check(faults, names["voltage_l1"]["unit"] == "V", "a voltage", read)

            # at a full hour the schedule's own reading is there too
            def on_demand():
                return [item for item in run(calls[4][0], env)["items"] if item["source"] == "on_demand"]

            stored = wait("the reading stored", 120, on_demand)
            check(faults, stored[0]["value"] == names["active_energy_import"]["value"], "the same is stored", stored)
            check(faults, stored[0]["obis"] == "1-0:1.8.0*255", "what it is", stored)
            missing = run(calls[4][1], env)
            check(faults, isinstance(missing["items"], list), "missing slots", missing)

            # the stream tells what is read while it is followed
            def reads_until(text):
                run(calls[3][0], env)
                return "event: readings" in text and "\ndata: " in text

            told = follow(calls[5][0], env, reads_until, 120)
            check(faults, "id: " in told, "events have ids", told)
        finally:
            if device:
                device.send_signal(signal.SIGTERM)
                device.wait(30)
            head.stop()
    print(json.dumps({"calls": calls, "faults": faults}, indent=1, ensure_ascii=False))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
