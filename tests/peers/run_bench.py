"""The benches of the whole server: ratios against limits and peers in the same run (docs/BENCHMARKS.md).

usage: run_bench.py [--only PART,...] [--rounds N] [--seconds S] [--report FILE]

Parts: polling, stored, peers, storage, memory, silent, storm, schedules, dead, crowd. What is compared takes turns, in as many rounds as
asked for (5), and the median counts; CPU time is that of the process alone, from /proc. POLYPHASE_PROGRAM and
POLYPHASE_BENCHES (a folder with `fleet` and `storage`) must be release builds: `make bench` makes them. Absolute rates are
those of this machine in this minute; the ratios are what is judged. Exit 1 when a ratio misses its limit.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from headend import PROGRAM, ROOT, HeadEnd, free_port
from postgres import Cluster

BENCHES = Path(os.environ.get("POLYPHASE_BENCHES", ROOT / "target/benches"))
HERE = Path(__file__).resolve().parent
#: Limits that a bench needs lifted; the others are the server's defaults.
LIFTED = "[limits]\naccept_per_s = 20000\nfirst_polls_per_s = 20000\nfirst_polls_burst = 20000\nflap_connects_per_min = 0\n"

#: Behind a start: sessions are written down, first slots are late, hours are looked at for the first time. What is measured is what a
#: server does all day.
STEADY_S = 20
#: What a host that has others beside us may take of our processors during a look, by what its kernel says ("steal").
STOLEN_MAX = 0.02
#: How often a look is had anew at most where it took more; the one during which it took least counts then.
LOOKS = 3


def processor_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def metrics(base):
    """{name: {labels: value}} of /metrics."""
    with urllib.request.urlopen(base + "/metrics", timeout=20) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            name, _, labels = series.partition("{")
            found.setdefault(name, {})[labels.rstrip("}")] = float(value)
    return found


def total(sample, name, having=""):
    return sum(value for labels, value in sample.get(name, {}).items() if having in labels)


def meek():
    """Devices are on other hosts: the process that stands for them does not cut in on the one that is measured whenever a packet wakes
    it. It gets its share of the processor all the same, and it is the same one for all that are compared."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Part:
    """A process that tells what it saw in lines of JSON."""

    def __init__(self, *command, simulates=False):
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True,
                                        preexec_fn=meek if simulates else None)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise RuntimeError(f"{self.process.args}: ended with {self.process.wait()}")
        return json.loads(text)

    def end(self):
        self.process.kill()
        self.process.wait()


def fleet(*words):
    return Part(BENCHES / "fleet", *words, simulates=words[0] in ("slaves", "listen"))


#: Fleets are made in SQL: ten thousand DTUs by the API take minutes and are not what is measured.
FLEET = """
INSERT INTO account (name, created_at) VALUES ('Bench', now() - interval '1 day');
INSERT INTO schedule (account_id, name, created_at) SELECT id, 'bench', now() FROM account;
INSERT INTO schedule_rule (schedule_id, account_id, valid_from, cron, time_zone, spread_s, window_s, attempts, backoff_s, deadline_s,
    missed_run)
SELECT id, account_id, now(), '{cron}', 'UTC', {spread}, {window}, 1, 0, {window}, 'skip' FROM schedule;
INSERT INTO dtu (account_id, sn, name, silence_s, timeout_ms, pause_ms, schedule_id, created_at)
SELECT s.account_id, 'BENCH' || lpad(i::text, 6, '0'), 'dtu ' || i, 86400, 1000, 0, {schedule}, now()
FROM schedule s, generate_series(1, {dtus}) i;
INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
SELECT d.account_id, d.id, 'modbus-rtu', u::text, '{model}', d.name || '/' || u, now()
FROM dtu d, generate_series(1, {meters}) u ORDER BY d.id, u;
INSERT INTO metering_point (account_id, name, created_at) SELECT account_id, name, now() FROM meter ORDER BY id;
INSERT INTO installation (account_id, point_id, meter_id, valid_from) SELECT account_id, id, id, now() FROM meter;
ANALYZE;
SELECT refresh_meter_schedules(id, NULL, NULL, now()) FROM account;
ANALYZE;
"""


class Server:
    """A fleet in a database of its own, and a server over it."""

    def __init__(self, place, dtus, meters, model="test_one", cron="* * * * * *", spread=1, window=5, scheduled=True,
                 extra=LIFTED):
        self.place, self.dtus, self.meters = place, dtus, meters
        place.count += 1
        self.name = name = f"bench{place.count}"
        place.cluster.sql(f"CREATE DATABASE {name}", database="postgres")
        folder = place.folder / name
        folder.mkdir()
        self.head = HeadEnd(folder, models=HERE / "models", extra=f'[database]\nurl = "{place.cluster.url(name)}"\n{extra}')
        self.head.cli("migrate")
        place.cluster.sql(FLEET.format(cron=cron, spread=spread, window=window, dtus=dtus, meters=meters, model=model,
                                       schedule="s.id" if scheduled else "NULL"), database=name)
        self.slaves = None

    def start(self, silent=0, dead_unit=0):
        """The server is up, and its DTUs are online."""
        self.head.start(180)
        self.slaves = fleet("slaves", "--connect", f"127.0.0.1:{self.head.device}", "--dtus", self.dtus, "--prefix", "BENCH",
                            "--silent", silent, "--dead-unit", dead_unit)
        self.slaves.line()
        self.wait_online()

    def wait_online(self, count=None, wait_s=180):
        count, begun = self.dtus if count is None else count, time.monotonic()
        while (online := total(metrics(self.head.base), "polyphase_dtus_online")) != count:
            if time.monotonic() - begun > wait_s:
                raise RuntimeError(f"{online} of {count} DTUs online after {wait_s} s:\n{self.head.tail()}")
            # seldom enough that asking costs the server nothing that counts
            time.sleep(0.1)

    @property
    def pid(self):
        return self.head.process.pid

    def watch(self, seconds):
        """What the server did in this time, and what it cost its process."""
        before, spent, began = metrics(self.head.base), processor_s(self.pid), time.monotonic()
        time.sleep(seconds)
        spent, took, after = processor_s(self.pid) - spent, time.monotonic() - began, metrics(self.head.base)
        grown = lambda name, having="": total(after, name, having) - total(before, name, having)
        ended = grown("polyphase_slots_ended_total")
        stored = grown("polyphase_store_readings_total", "inserted")
        return {"round_trips": grown("polyphase_transactions_total", "answered"), "rows": stored, "seconds": round(took, 3),
                "cpu_s": round(spent, 3), "slots": ended,
                "actual": grown("polyphase_slots_ended_total", 'state="actual"'),
                "backlog": total(after, "polyphase_spool_backlog_records")}

    def stop(self):
        if self.slaves:
            self.slaves.end()
            self.slaves = None
        self.head.stop(120)

    def drop(self):
        """It is not needed any more, nor is its database, which would be vacuumed beside what is measured next."""
        self.stop()
        self.place.cluster.sql(f"DROP DATABASE {self.name} WITH (FORCE)", database="postgres")


class Place:
    """A folder and a cluster with the settings of the embedded one, fsync on."""

    def __init__(self, folder):
        self.folder, self.count = Path(folder), 0
        os.chmod(self.folder, 0o755)
        database = self.folder / "database"
        database.mkdir()
        self.cluster = Cluster(database, ["shared_buffers=256MB", "max_wal_size=2GB", "wal_compression=on"])
        self.cluster.start()


def each(sample):
    """CPU microseconds and rate of round trips."""
    if not sample["round_trips"]:
        raise RuntimeError(f"no round trips: {sample}")
    return sample["cpu_s"] * 1e6 / sample["round_trips"], sample["round_trips"] / sample["seconds"]


def bare(dtus, seconds, turn=0, every_s=1):
    """The bare tokio loop over as many DTUs: closed, or with so many questions to each every so many seconds."""
    port = free_port()
    pace = ["--round", turn, "--every-ms", every_s * 1000] if turn else []
    loop = fleet("poller", "--bind", f"127.0.0.1:{port}", "--dtus", dtus, "--warm", 2 + every_s, "--seconds", seconds, *pace)
    loop.line()
    slaves = fleet("slaves", "--connect", f"127.0.0.1:{port}", "--dtus", dtus, "--prefix", "BENCH")
    try:
        return robbed(loop.line)
    finally:
        slaves.end()
        loop.end()


def pooled(*samples):
    """Samples as one: of a loop before and behind the server, so that a drift of the machine falls on both."""
    return {**{name: sum(sample[name] for sample in samples) for name in ("cpu_s", "round_trips", "seconds")},
            "stolen": max(sample["stolen"] for sample in samples), "looks": sum(sample.get("looks", 1) for sample in samples)}


def ticks():
    """Of all processors since the host's start: (all, taken away by a host above it)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(fields), fields[7]


def robbed(look):
    """A look with the part of our processors that was taken away meanwhile."""
    had, lost = ticks()
    seen = look()
    had, lost = (now - then for now, then in zip(ticks(), (had, lost)))
    return dict(seen, stolen=round(lost / had, 4))


def calm(look):
    """A look while the host leaves us our processors. What it takes, it takes from each of two that are compared, but not at the same
    time; and what runs beside us then takes our caches, too."""
    looks = []
    while len(looks) < LOOKS and all(one["stolen"] > STOLEN_MAX for one in looks):
        looks.append(look())
    return dict(min(looks, key=lambda one: one["stolen"]), looks=len(looks))


def median(values):
    return statistics.median(list(values))


class Report:
    def __init__(self):
        self.lines, self.details, self.missed = [], {}, []

    def say(self, what, value, must, aim, below=True, more=""):
        """A line of the table. `below`: the value has to be at most the limit, else at least."""
        holds = (lambda limit: value <= limit) if below else (lambda limit: value >= limit)
        sign = "≤" if below else "≥"
        if not holds(must):
            self.missed.append(what)
        verdict = "aim" if holds(aim) else "must" if holds(must) else "**missed**"
        self.lines.append(f"| {what} | {value:.2f} | {sign} {must} | {sign} {aim} | {verdict} | {more} |")
        print(self.lines[-1], flush=True)


def polling(place, args, report):
    """CPU per round trip of the whole server, storage and all, over that of the bare loop at the same pace: one that never rests
    has its caches warm and finds many sockets ready at once, and costs half as much a round trip as one with pauses."""
    for dtus, meters, model, questions in [(1_000, 4, "test_one", 1), (1_000, 2, "test_eight", 8),
                                           (10_000, 1, "test_one", 1), (10_000, 1, "test_eight", 8)]:
        every_s = 1 if dtus == 1_000 else 4
        cron = f"*/{every_s} * * * * *"
        server, rounds = Server(place, dtus, meters, model, cron, spread=every_s, window=8), []
        for _ in range(args.rounds):
            closed = bare(dtus, args.seconds)
            before = bare(dtus, args.seconds, meters * questions, every_s)
            server.start()
            time.sleep(STEADY_S)
            subject = server.watch(args.seconds)
            server.stop()
            behind = bare(dtus, args.seconds, meters * questions, every_s)
            rounds.append({"bare": pooled(before, behind), "closed": closed, "server": subject})
        report.details[f"polling {dtus} x {meters} x {questions}"] = rounds
        ratio = median(each(one["server"])[0] / each(one["bare"])[0] for one in rounds)
        server_us, bare_us, closed_us = (median(each(one[who])[0] for one in rounds) for who in ("server", "bare", "closed"))
        actual = median(one["server"]["actual"] / max(one["server"]["slots"], 1) for one in rounds)
        rows = median(one["server"]["rows"] / one["server"]["seconds"] for one in rounds)
        report.say(f"whole server, CPU per round trip ÷ bare tokio loop at its pace; {dtus:,} DTUs × {meters}, {questions} question(s) a poll",
                   ratio, 2.0, 1.3, more=f"{server_us:.1f} µs ÷ {bare_us:.1f} µs (a loop without pauses: {closed_us:.1f}); "
                                         f"{rows:,.0f} polls/s stored, {actual:.1%} on time")


def saturated(place, args, dtus=1_000, meters=6):
    """More is due than can be done: what the server does then. Each look is at a fleet of its own: what a start behind such an hour
    has to make good (endings of slots, hours rolled up again, alarms) is not what is measured."""
    return Server(place, dtus, meters, "test_eight", "* * * * * *", spread=1, window=8)


def overloaded(place, args, mute=0):
    """A look at it."""
    server = saturated(place, args)
    server.start(mute)
    time.sleep(STEADY_S)
    seen = robbed(lambda: server.watch(args.seconds))
    server.drop()
    return seen


def closed(command, tcp, dtus, seconds):
    """A look at a peer that only polls."""
    port = free_port()
    slave = fleet("listen", "--bind", f"127.0.0.1:{port}", *tcp)
    slave.line()
    peer = Part(*command, "127.0.0.1", port, dtus, 2, seconds)
    seen = robbed(peer.line)
    peer.end()
    slave.end()
    return seen


def peers(place, args, report):
    """Round trips of a server that has more to do than it can, beside peers that only poll."""
    program = place.folder / "libmodbus_poller"
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libmodbus"], check=True, capture_output=True, text=True).stdout
    subprocess.run(["cc", "-O2", str(HERE / "libmodbus_poller.c"), "-o", str(program), *flags.split()], check=True)
    rounds, dtus = [], 1_000
    for _ in range(args.rounds):
        before = calm(lambda: bare(dtus, args.seconds))
        one = {"server": calm(lambda: overloaded(place, args))}
        one["bare"] = pooled(before, calm(lambda: bare(dtus, args.seconds)))
        for name, command, tcp in [
                ("libmodbus", [program], ["--tcp"]), ("pymodbus", [sys.executable, HERE / "pymodbus_poller.py"], [])]:
            one[name] = calm(lambda: closed(command, tcp, dtus, args.seconds))
        rounds.append(one)
    report.details["peers"] = rounds
    rate = lambda one, who: each(one[who])[1]
    for who, must, aim in [("bare", 0.5, 0.75), ("pymodbus", 4, 6), ("libmodbus", 1, 1.5)]:
        rates = tuple(median(rate(one, name) for one in rounds) for name in ("server", who))
        restless = sum(max(one["server"]["stolen"], one[who]["stolen"]) > STOLEN_MAX for one in rounds)
        report.say(f"round trips/s of the whole server ÷ {who}", median(rate(one, "server") / rate(one, who) for one in rounds),
                   must, aim, below=False, more="{:,.0f}/s ÷ {:,.0f}/s; the host took more than {:.0%} in {} of {} rounds".format(
                       *rates, STOLEN_MAX, restless, len(rounds)))


def storage(place, args, report):
    """The storage path over bare COPY, and disk and log of an aged table."""
    done = subprocess.run([str(BENCHES / "storage"), "--rounds", str(args.rounds), "--meters", "20000", "--sweeps", "10",
                           "--aged", str(args.aged)], check=True, stdout=subprocess.PIPE, text=True)
    *rounds, aged = map(json.loads, done.stdout.splitlines())
    report.details["storage"] = {"rounds": rounds, "aged": aged}
    rates = [median(one[name] for one in rounds) for name in ("new_rows_s", "copy_rows_s", "replay_rows_s")]
    report.say("durable storage of new rows ÷ bare binary COPY", median(one["new_ratio"] for one in rounds), 0.4, 0.8, below=False,
               more=f"{rates[0]:,.0f} ÷ {rates[1]:,.0f} rows/s of 12 quantities")
    report.say("replay of a full duplicate ÷ bare binary COPY", median(one["replay_ratio"] for one in rounds), 0.5, 0.8,
               below=False, more=f"{rates[2]:,.0f} rows/s")
    report.say("disk per reading, bytes", aged["disk_per_reading"], 24, 16, more=f"{aged['sweeps']} sweeps of {aged['meters']:,} meters")
    report.say("log per reading of a sweep behind a checkpoint, bytes", aged["log_per_reading"], 60, 35, more=str(aged["log_each"]))


def stored(place, args, report):
    """Server CPU per stored reading, poll to commit, over the bare parts of it."""
    server, rounds = Server(place, 1_000, 4, "test_one", "* * * * * *", spread=1, window=8), []
    copy = subprocess.run([str(BENCHES / "storage"), "--rounds", "3", "--meters", "20000", "--sweeps", "5", "--aged", "1"],
                          check=True, stdout=subprocess.PIPE, text=True)
    copy_us = median(json.loads(line)["copy_cpu_us"] for line in copy.stdout.splitlines()[:-1])
    for _ in range(args.rounds):
        before = bare(1_000, args.seconds, 4)
        server.start()
        time.sleep(STEADY_S)
        subject = server.watch(args.seconds)
        server.stop()
        rounds.append({"bare": pooled(before, bare(1_000, args.seconds, 4)), "server": subject})
    report.details["stored"] = {"rounds": rounds, "copy_cpu_us": copy_us}
    whole = median(one["server"]["cpu_s"] * 1e6 / one["server"]["rows"] for one in rounds)
    parts = median(each(one["bare"])[0] for one in rounds) + copy_us
    ratio = median(one["server"]["cpu_s"] * 1e6 / one["server"]["rows"] / (each(one["bare"])[0] + copy_us) for one in rounds)
    readings = median(one["server"]["rows"] * 12 / one["server"]["seconds"] for one in rounds)
    report.say("server CPU per stored poll ÷ (bare tokio round trip at its pace + bare COPY row)", ratio, 2.5, 1.5,
               more=f"{whole:.1f} µs ÷ {parts:.1f} µs for 12 readings; {readings:,.0f} readings/s")


def memory(place, args, report):
    """Resident memory per idle DTU with one meter, and per further meter."""
    rounds = []
    for _ in range(args.rounds):
        sizes = {}
        # what a start leaves behind is given back sooner or later: the median of several starts counts
        for dtus, meters in [(0, 0), (10_000, 1), (10_000, 5)]:
            server = Server(place, dtus, meters, cron="0 3 1 1 *")
            server.start()
            time.sleep(15)
            sizes[f"{dtus} x {meters}"] = resident_kib(server.pid)
            server.stop()
        rounds.append(sizes)
    report.details["memory"] = rounds
    empty, one, five = (median(sizes[name] for sizes in rounds) for name in rounds[0])
    report.say("resident memory per idle DTU with one meter, KiB; 10,000 DTUs", (one - empty) / 10_000, 16, 6,
               more=f"{empty:,.0f} KiB without, {one:,.0f} KiB with")
    report.say("resident memory per further meter, KiB", (five - one) / 40_000, 4, 2, more=f"{five:,.0f} KiB with 5 each")


def silent(place, args, report):
    """The healthy DTUs' rate while a tenth of the fleet does not answer."""
    rounds, dtus = [], 1_000
    for _ in range(args.rounds):
        one = {}
        for name, mute in [("without", 0), ("with", dtus // 10)]:
            one[name] = calm(lambda: overloaded(place, args, mute))
        rounds.append(one)
    report.details["silent"] = rounds
    # nine tenths of the DTUs are healthy in both, and all of them answer without
    ratio = median(each(one["with"])[1] / (each(one["without"])[1]) for one in rounds)
    report.say("healthy DTUs' rate with 10 % of the fleet silent ÷ without", ratio, 0.85, 0.97, below=False,
               more="rate of all answers; the silent tenth gives none")


def storm(place, args, report):
    """Ten thousand DTUs cut and back: until the last is registered, over a bare loop that accepts and reads."""
    dtus = 10_000
    server, rounds = Server(place, dtus, 1, cron="0 3 1 1 *"), []
    server.start()
    for _ in range(args.rounds):
        port = free_port()
        loop = fleet("accept", "--bind", f"127.0.0.1:{port}", "--dtus", dtus)
        loop.line()
        slaves = fleet("slaves", "--connect", f"127.0.0.1:{port}", "--dtus", dtus, "--prefix", "BENCH")
        reference = loop.line()["seconds"]
        slaves.end()
        loop.end()
        server.slaves.end()
        server.wait_online(0)
        time.sleep(2)
        began = time.monotonic()
        server.slaves = fleet("slaves", "--connect", f"127.0.0.1:{server.head.device}", "--dtus", dtus, "--prefix", "BENCH")
        server.wait_online()
        rounds.append({"bare_s": reference, "server_s": round(time.monotonic() - began, 3)})
    server.stop()
    report.details["storm"] = rounds
    report.say("10,000 DTUs cut and back, all registered ÷ bare accept loop", median(one["server_s"] / one["bare_s"] for one in rounds),
               3, 1.5, more=f"{median(one['server_s'] for one in rounds):.2f} s ÷ {median(one['bare_s'] for one in rounds):.2f} s")


def schedules(place, args, report):
    """A hundred thousand scheduled meters that have nothing to do, and the minute at which all are due."""
    idle = {}
    for name, scheduled in [("without", False), ("with", True)]:
        server = Server(place, 10_000, 10, cron="0 3 1 1 *", scheduled=scheduled)
        server.start()
        time.sleep(15)
        shares = [server.watch(20)["cpu_s"] / 20 for _ in range(3)]
        server.stop()
        idle[name] = median(shares)
    report.details["schedules idle, share of a core"] = idle
    report.say("100,000 scheduled meters, idle: CPU ÷ the same actors without schedules", idle["with"] / max(idle["without"], 1e-3),
               1.5, 1.1, more=f"{idle['with']:.2%} ÷ {idle['without']:.2%} of a core")
    server = Server(place, 10_000, 10, cron="*/2 * * * *", spread=60, window=110)
    server.start()
    before = metrics(server.head.base)
    # two whole herds, and until the second's windows are over
    time.sleep(120 - time.time() % 120 + 240)
    after = metrics(server.head.base)
    ended = {labels: after["polyphase_slots_ended_total"][labels] - before.get("polyphase_slots_ended_total", {}).get(labels, 0)
             for labels in after["polyphase_slots_ended_total"]}
    server.stop()
    report.details["herd"] = ended
    actual, every = sum(v for k, v in ended.items() if 'state="actual"' in k), sum(ended.values())
    report.say("a herd of 100,000 at a minute mark: slots inside their window, %", 100 * actual / every, 100, 100, below=False,
               more=f"{actual:,.0f} of {every:,.0f}")


def dead(place, args, report):
    """One dead meter of eight on each line, and a tenth of the DTUs dead: the slots of the living."""
    dtus, every = 200, 10
    server = Server(place, dtus, 8, cron=f"*/{every} * * * * *", spread=4, window=9)
    server.start(silent=dtus // 10, dead_unit=8)
    time.sleep(30)
    # slots due from now on, until their windows are over
    begin = (int(time.time()) // every + 1) * every
    end = begin + 30 * every
    time.sleep(end + 20 - time.time())
    living = f"m.address <> '8' AND right(d.sn, 6)::int <= {dtus - dtus // 10}"
    span = f">= to_timestamp({begin}) AND {{0}} < to_timestamp({end})"
    on_time = place.cluster.sql(
        f"SELECT count(*) FROM reading_electricity r JOIN meter m ON m.id = r.meter_id JOIN dtu d ON d.id = m.dtu_id WHERE {living} "
        f"AND r.source = 0 AND r.ts {span.format('r.ts')} AND NOT EXISTS (SELECT FROM slot_ending e WHERE e.meter_id = m.id AND e.due_at = r.ts)",
        database=server.name)
    reasons = place.cluster.sql(
        f"SELECT state, reason, count(*) FROM slot_ending e JOIN meter m ON m.id = e.meter_id JOIN dtu d ON d.id = m.dtu_id "
        f"WHERE {living} AND e.due_at {span.format('e.due_at')} GROUP BY 1, 2", database=server.name)
    server.stop()
    due = (dtus - dtus // 10) * 7 * 30
    report.details["dead"] = {"due": due, "on_time": int(on_time), "others": reasons}
    report.say("1 dead meter of 8 on each line, 10 % dead DTUs: slots of the living on time, %", 100 * int(on_time) / due, 99.9, 100,
               below=False, more=f"{int(on_time):,} of {due:,}")


def crowd(place, args, report):
    """18,000 DTUs of one simulator process, with the noise and the splits of real ones, at one server process."""
    dtus, every = 18_000, 60
    server = Server(place, dtus, 1, model="eastron_sdm120", cron="0 * * * * *", spread=40, window=58,
                    extra=LIFTED + "connections_max = 18500\n")
    # where 20,000 files may be open, the browsers' share has to be small
    server.head.env["POLYPHASE__HTTP__CONNECTIONS_MAX"] = "200"
    server.head.start(180)
    server.slaves = Part(PROGRAM, "simulate", "--connect", f"127.0.0.1:{server.head.device}", "--dtus", dtus, "--meters", 1, "--models",
                         "eastron_sdm120", "--sn-prefix", "BENCH", "--heartbeat-s", 60, "--split", "0.05", "--glue", "0.05")
    server.wait_online()
    begin = (int(time.time()) // every + 2) * every
    end = begin + 4 * every
    time.sleep(end + 75 - time.time())
    seen = metrics(server.head.base)
    on_time = place.cluster.sql(
        f"SELECT count(*) FROM reading_electricity r WHERE r.source = 0 AND r.ts >= to_timestamp({begin}) AND r.ts < to_timestamp({end}) "
        "AND NOT EXISTS (SELECT FROM slot_ending e WHERE e.meter_id = r.meter_id AND e.due_at = r.ts)", database=server.name)
    others = place.cluster.sql(f"SELECT state, reason, count(*) FROM slot_ending WHERE due_at >= to_timestamp({begin}) "
                               f"AND due_at < to_timestamp({end}) GROUP BY 1, 2", database=server.name)
    size = resident_kib(server.pid)
    server.stop()
    due = dtus * 4
    report.details["crowd"] = {"due": due, "on_time": int(on_time), "others": others, "online": total(seen, "polyphase_dtus_online")}
    report.say("18,000 DTUs of one simulator process: slots on time, %", 100 * int(on_time) / due, 99.9, 100, below=False,
               more=f"{int(on_time):,} of {due:,}; {size / 1024:,.0f} MiB resident")


PARTS = {"polling": polling, "stored": stored, "peers": peers, "storage": storage, "memory": memory, "silent": silent, "storm": storm,
         "schedules": schedules, "dead": dead, "crowd": crowd}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--aged", type=int, default=92, help="sweeps before those that are measured")
    parser.add_argument("--report", help="JSON of every round")
    args = parser.parse_args()
    report = Report()
    print("| what | ratio | must | aim | reached | seen |\n|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="polyphase-bench-") as folder:
        place = Place(folder)
        try:
            for name in args.only.split(","):
                PARTS[name](place, args, report)
        finally:
            place.cluster.stop()
    if args.report:
        Path(args.report).write_text(json.dumps(report.details, indent=1))
    if report.missed:
        sys.exit("missed: " + "; ".join(report.missed))


if __name__ == "__main__":
    main()
