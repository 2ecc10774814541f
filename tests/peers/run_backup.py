"""A backup of a database of a given size while a fleet writes to it, restored to a fresh one, and looked at from outside.

The resident memory of `backup` and of `restore` is sampled (/proc/PID/status); the tables of both databases are compared by
count and by a sum over every row that PostgreSQL makes itself; a flipped byte and a wrong key must be refused; the
restored server must start and its audit must hold. Exit 1 when anything differs.

usage: run_backup.py [--mib N]
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date, timedelta
from pathlib import Path

from headend import PROGRAM, HeadEnd
from postgres import Cluster
from run_exports import Sampler

METERS = 200
BEGIN = date(2026, 1, 1)

FLEET = """
INSERT INTO dtu (account_id, sn, name, created_at) VALUES ({account}, 'BACKUP-1', 'line', '2026-01-01');
INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
SELECT {account}, (SELECT id FROM dtu WHERE sn = 'BACKUP-1'), 'modbus-rtu', i::text, 'eastron_sdm630', 'Meter ' || i, '2026-01-01'
FROM generate_series(1, {meters}) i;
"""

DAY = """
SELECT ensure_day('{day}');
INSERT INTO reading_electricity (ts, read_at, poll_id, frame_first, meter_id, account_id, source, frame_count, voltage_l1, voltage_l2,
    voltage_l3, current_l1, current_l2, current_l3, active_power_total, frequency, active_energy_import, active_energy_export)
SELECT t.ts, t.ts + interval '2.3 s', 1, 1, m.id, {account}, 0, 1, 229 + random() * 3, 229 + random() * 3, 229 + random() * 3, random() * 16,
       random() * 16, random() * 16, random() * 9000, 50 + random() / 50, round((1000 + m.id + extract(epoch FROM t.ts) / 9e5)::numeric, 2), m.id
FROM generate_series('{day}T00:00:00Z'::timestamptz, '{day}T23:59:00Z'::timestamptz, interval '60 s') t (ts)
CROSS JOIN (SELECT id FROM meter WHERE account_id = {account}) m;
SELECT close_day('{day}');
"""

SUMS = """
SELECT c.relname, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I', c.relname), false, true, '')))[1]::text,
       (xpath('/row/n/text()', query_to_xml(format('SELECT sum(hashtextextended(t::text, 0)::numeric) AS n FROM %I t', c.relname), false, true, '')))[1]::text
FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> '_sqlx_migrations' ORDER BY 1
"""


def run(faults, *arguments, expect=0):
    """Runs the program; seconds, memory, what it said."""
    begun = time.monotonic()
    process = subprocess.Popen([PROGRAM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    sampler = Sampler(process.pid)
    sampler.before = 0
    sampler.start()
    said, _ = process.communicate(timeout=7200)
    sampler.ended.set()
    if process.returncode != expect:
        faults.append(f"{arguments[0]}: exit {process.returncode} instead of {expect}: {said[-500:]}")
    return {"seconds": round(time.monotonic() - begun, 1), "peak_kib": sampler.peak, "said": said.strip()[-300:]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    args = parser.parse_args()
    faults, seen = [], {}
    with tempfile.TemporaryDirectory(prefix="polyphase-backup-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        for name in ("pg", "old", "new"):
            (folder / name).mkdir()
        cluster = Cluster(folder / "pg", ["fsync=off", "max_locks_per_transaction=256", "max_wal_size=1GB"])
        cluster.start()
        heads = []
        try:
            for name in ("drill", "fresh"):
                cluster.sql(f"CREATE DATABASE {name}", database="postgres")
            old = HeadEnd(folder / "old", extra=f'[database]\nurl = "{cluster.url()}"\n')
            heads.append(old)
            old.start()
            old.admin("admin@backup.example", "Backup")
            account = int(cluster.sql("SELECT id FROM account WHERE name = 'Backup'"))
            cluster.sql(FLEET.format(account=account, meters=METERS))
            day, size = BEGIN, 0
            while size < args.mib << 20:
                cluster.sql(DAY.format(account=account, day=day))
                day += timedelta(days=1)
                size = int(cluster.sql("SELECT pg_database_size('drill')"))
            seen["database_mib"] = size >> 20
            seen["readings_rows"] = int(cluster.sql("SELECT count(*) FROM reading_electricity"))

            # people go on working while it is made: audited changes, which must be in it whole or not at all
            stop = threading.Event()

            def work():
                client = old.admin("second@backup.example", "Backup")
                number = 0
                while not stop.wait(0.05):
                    number += 1
                    client.post("/api/v1/groups", {"name": f"group {number}"})

            worker = threading.Thread(target=work)
            worker.start()
            key, file = folder / "key", folder / "all.backup"
            key.write_text("a key that is long enough\n")
            options = ["--key-file", key, "--config", old.config]
            seen["backup"] = run(faults, "backup", file, *options)
            stop.set()
            worker.join()
            seen["file_mib"] = file.stat().st_size >> 20

            new = HeadEnd(folder / "new", extra=f'[database]\nurl = "{cluster.url("fresh")}"\n')
            heads.append(new)
            options = ["--key-file", key, "--config", new.config]
            place = random.Random(1).randrange(file.stat().st_size)
            with open(file, "r+b") as damaged:
                damaged.seek(place)
                byte = damaged.read(1)
                damaged.seek(place)
                damaged.write(bytes([byte[0] ^ 1]))
            seen["flipped_byte"] = run(faults, "restore", file, *options, expect=1)
            with open(file, "r+b") as mended:
                mended.seek(place)
                mended.write(byte)
            wrong = folder / "wrong"
            wrong.write_text("another key of some length\n")
            seen["wrong_key"] = run(faults, "restore", file, "--key-file", wrong, "--config", new.config, expect=1)
            seen["restore"] = run(faults, "restore", file, *options)
            # what nobody changed meanwhile is the same by PostgreSQL's own count and sum
            before = dict(line.split("|", 1) for line in cluster.sql(SUMS).splitlines())
            after = dict(line.split("|", 1) for line in cluster.sql(SUMS, database="fresh").splitlines())
            moving = ("audit", "meter_group", "app_user", "api_key", "consumption", "watermark", "login", "alarm", "notice", "latest", "meter_",
                      "control_clock")
            compared = [name for name in before if not name.startswith(moving)]
            faults += [f"{name}: {before[name]} before, {after.get(name)} after" for name in compared if before[name] != after.get(name)]
            seen["tables_compared"] = len(compared)
            # each group has its entry in the audit, in the copy as well
            groups = int(cluster.sql("SELECT count(*) FROM meter_group", database="fresh"))
            entries = int(cluster.sql("SELECT count(*) FROM audit WHERE action = 'group.create'", database="fresh"))
            seen["groups_in_copy"] = groups
            if groups != entries:
                faults.append(f"the copy has {groups} groups and {entries} entries about them")
            new.start()
            seen["audit"] = run(faults, "audit", "verify", "--config", new.config)["said"]
            slack = 96 * 1024
            for name in ("backup", "restore"):
                if seen[name]["peak_kib"] > 64 * 1024 + slack:
                    faults.append(f"{name} took {seen[name]['peak_kib']} KiB")
        finally:
            for head in heads:
                head.stop()
            cluster.stop()
    print(json.dumps({**seen, "faults": faults[:20]}, indent=1))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
