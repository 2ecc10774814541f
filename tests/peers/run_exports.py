"""A million readings exported as CSV and as XLSX with memory that stays flat, and read again by independent readers.

The server's resident memory is sampled from outside (/proc/PID/status). Each format is exported small first (a tenth),
then whole, in one process: what the big one needs above the level before it may exceed what the small one needs by a
bounded amount only. The files are read by Python's csv and by openpyxl, compared with one another line by line, with
the database value by value (and by its own count and sum), and with the API item by item for some meters. Exit 1 on any difference.

usage: run_exports.py [--readings N] [--slack-mib N]
"""

import argparse
import csv
import hashlib
import json
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from headend import HeadEnd
from postgres import Cluster

BEGIN = datetime.fromisoformat("2026-01-01T00:00:00+00:00")
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
QUANTITIES = ("voltage_l1", "frequency", "active_energy_import", "active_energy_export")
VALUES = len(QUANTITIES)  # of one poll
METERS = 50
FORMULA = "=HYPERLINK(\"http://evil.example\",\"x\")"

FLEET = """
INSERT INTO dtu (account_id, sn, name, created_at) VALUES ({account}, 'EXPORT-1', 'line', '2026-01-01');
INSERT INTO meter (account_id, dtu_id, protocol, address, model, name, created_at)
SELECT {account}, (SELECT id FROM dtu WHERE sn = 'EXPORT-1'), 'modbus-rtu', i::text, 'eastron_sdm630',
       CASE WHEN i = 1 THEN '{formula}' ELSE 'Meter ' || i END, '2026-01-01'
FROM generate_series(1, {meters}) i;
SELECT count(ensure_day(day::date)) FROM generate_series('2026-01-01'::date, '{last}'::date, interval '1 day') day;
INSERT INTO reading_electricity (ts, read_at, meter_time, poll_id, frame_first, meter_id, account_id, source, frame_count,
    voltage_l1, frequency, active_energy_import, active_energy_export)
SELECT t.ts, t.ts + interval '2.345678 s', CASE WHEN m.id % 3 = 0 THEN t.ts + interval '1 s' END, 1, 1, m.id, {account}, 0, 1,
       (2300 + (n * 7 + m.id) % 90) / 10.0, 50 + ((n + m.id) % 11 - 5) / 100.0,
       1000 + m.id * 10 + n * 0.25,
       CASE WHEN m.id % 7 = 0 THEN 123456789012.345678 + n ELSE n / 1000.0 END
FROM generate_series(0, {polls} - 1) n
CROSS JOIN LATERAL (SELECT '2026-01-01T00:00:00Z'::timestamptz + n * interval '60 s' AS ts) t
CROSS JOIN (SELECT id FROM meter WHERE account_id = {account}) m;
ANALYZE;
"""


def resident_kib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


class Sampler(threading.Thread):
    """The highest resident memory of a process, looked at every 20 ms."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.before, self.peak, self.ended = pid, resident_kib(pid), 0, threading.Event()

    def run(self):
        while not self.ended.wait(0.02):
            try:
                self.peak = max(self.peak, resident_kib(self.pid))
            except (OSError, RuntimeError):
                return  # the process has ended

    def stop(self):
        self.peak = max(self.peak, resident_kib(self.pid))
        self.ended.set()
        self.join()
        return {"before_kib": self.before, "peak_kib": self.peak, "grown_kib": self.peak - self.before}


def instant(at):
    return at.isoformat().replace("+00:00", "Z")


def export(head, client, kind_of_file, until, folder):
    """Exports, downloads; the path of the file and what it took."""
    sampler = Sampler(head.process.pid)
    sampler.start()
    begun = time.monotonic()
    job = client.post("/api/v1/exports", {"kind": "readings", "format": kind_of_file, "from": instant(BEGIN), "to": instant(until),
                                          "time_zone": "Asia/Kathmandu"})
    while job["state"] in ("waiting", "running"):
        time.sleep(0.1)
        job = client.get(f"/api/v1/exports/{job['id']}")
    written = time.monotonic() - begun
    if job["state"] != "done":
        raise RuntimeError(f"the export ended as {job['state']}: {job['reason']}")
    request = urllib.request.Request(client.base + job["file"], headers={"Authorization": f"Bearer {client.key}"})
    path, sum_of_file = folder / f"{job['id']}.{kind_of_file}", hashlib.sha256()
    with urllib.request.urlopen(request, timeout=300) as answer, open(path, "wb") as out:
        while block := answer.read(1 << 20):
            sum_of_file.update(block)
            out.write(block)
    took = sampler.stop()
    if sum_of_file.hexdigest() != job["sha256"] or path.stat().st_size != job["bytes"]:
        raise RuntimeError("the file that was fetched is not the one that was written")
    took.update(rows=job["rows"], bytes=job["bytes"], written_s=round(written, 1), fetched_s=round(time.monotonic() - begun - written, 1))
    # the comparison takes its time: what was seen by now
    print(kind_of_file, json.dumps(took), file=sys.stderr, flush=True)
    return path, took


def csv_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name in ("due_at", "read_at", "meter_time"):
                row[name] = datetime.fromisoformat(row[name]) if row[name] else None
            row["meter"] = row["meter"][1:] if row["meter"].startswith("'") else row["meter"]
            yield row


def xlsx_rows(path):
    """Rows in the form of the CSV file's; a date and the offset beside it make an instant."""
    import openpyxl

    for sheet in openpyxl.load_workbook(path, read_only=True).worksheets:
        rows = sheet.iter_rows(values_only=True)
        names = next(rows)
        for cells in rows:
            row = dict(zip(names, cells))
            for name in ("due_at", "read_at", "meter_time"):
                offset = row.pop(f"{name}_offset")
                if row[name] is not None:
                    row[name] = datetime.fromisoformat(row[name].isoformat() + offset)
            yield row


def same(text, sheet):
    """Whether a row of a workbook says what a row of a CSV file says."""
    for name in ("quantity", "obis", "unit", "quality", "source", "meter"):
        if text[name] != sheet[name]:
            return False
    if int(text["meter_id"]) != sheet["meter_id"]:
        return False
    value = sheet["value"]
    # a number of 15 digits comes back from its shortest text; one with more was written as text
    if Decimal(value if isinstance(value, str) else repr(value)) != Decimal(text["value"]):
        return False
    for name in ("due_at", "read_at", "meter_time"):
        if (text[name] is None) != (sheet[name] is None):
            return False
        if text[name] is not None and abs(text[name] - sheet[name]) > timedelta(milliseconds=1):
            return False
    return True


def compare_with_api(client, rows_by_meter, until, faults):
    for meter, rows in rows_by_meter.items():
        shown = client.all(f"/api/v1/meters/{meter}/readings", **{"from": instant(BEGIN), "to": instant(until)})
        count = 0
        for row, item in zip(rows, shown, strict=False):
            count += 1
            for name in ("quantity", "value", "unit", "quality", "source"):
                if row[name] != item[name]:
                    faults.append(f"meter {meter}: {name} is {row[name]!r} in the file, {item[name]!r} in the API")
            for name in ("due_at", "read_at", "meter_time"):
                told = item[name] and datetime.fromisoformat(item[name].replace("Z", "+00:00"))
                if row[name] != told:
                    faults.append(f"meter {meter}: {name} is {row[name]} in the file, {told} in the API")
        if count != len(rows) or next(shown, None) is not None:
            faults.append(f"meter {meter}: the file has {len(rows)} rows, the API another number")


def stored(cluster, until):
    """Every value that the database has: (meter, due) → when it was read, by whose clock, quantity → value."""
    rows = cluster.sql("SELECT meter_id, extract(epoch FROM ts), extract(epoch FROM read_at), extract(epoch FROM meter_time), voltage_l1, frequency, "
                       f"active_energy_import, active_energy_export FROM reading_electricity WHERE ts < '{instant(until)}'")
    found = {}
    for row in rows.splitlines():
        meter, due, read, own, *values = row.split("|")
        found[int(meter), Decimal(due)] = (Decimal(read), Decimal(own) if own else None, dict(zip(QUANTITIES, map(Decimal, values))))
    return found


def epoch(at):
    """Seconds, to the microsecond and without a rounding."""
    return None if at is None else Decimal((at - EPOCH) // timedelta(microseconds=1)) / 1_000_000


def take(kept, row):
    """Whether the database has this very value, and it was not in the file before."""
    poll = kept.get((int(row["meter_id"]), epoch(row["due_at"])))
    if poll is None:
        return False
    read, own, values = poll
    value = values.pop(row["quantity"], None)
    return value == Decimal(row["value"]) and read == epoch(row["read_at"]) and own == epoch(row["meter_time"])


def check(client, cluster, text, sheet, until, faults):
    """The files against one another, the database (every value once, and no other) and the API."""
    count, total, some, kept = 0, Decimal(0), {}, stored(cluster, until)
    sheets = xlsx_rows(sheet)
    for row in csv_rows(text):
        other = next(sheets, None)
        if other is None or not same(row, other):
            faults.append(f"row {count + 1}: {row} in CSV, {other} in XLSX")
            if len(faults) > 20:
                return count
        if not take(kept, row):
            faults.append(f"row {count + 1}: {row} is not so in the database")
            if len(faults) > 20:
                return count
        count += 1
        total += Decimal(row["value"])
        if int(row["meter_id"]) in (1, 7, 14):
            some.setdefault(int(row["meter_id"]), []).append(row)
    if next(sheets, None) is not None:
        faults.append("the workbook has more rows than the CSV file")
    left = sum(len(values) for _, _, values in kept.values())
    if left:
        faults.append(f"{left} values of the database are not in the file")
    told = cluster.sql("SELECT 4 * count(*), sum(voltage_l1::text::numeric + frequency::text::numeric + active_energy_import + "
                       f"active_energy_export) FROM reading_electricity WHERE ts < '{instant(until)}'").strip().split("|")
    if (int(told[0]), Decimal(told[1])) != (count, total):
        faults.append(f"the files have {count} rows with a sum of {total}, the database {told}")
    few = {meter: rows[: 4 * 250] for meter, rows in some.items()}
    last = max((rows[-1]["due_at"] for rows in few.values()), default=BEGIN) + timedelta(seconds=1)
    compare_with_api(client, few, last, faults)
    return count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--readings", type=int, default=1_000_000)
    parser.add_argument("--slack-mib", type=int, default=24)
    args = parser.parse_args()
    polls = args.readings // VALUES // METERS
    faults, seen = [], {"readings": polls * VALUES * METERS}
    with tempfile.TemporaryDirectory(prefix="polyphase-exports-") as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "pg").mkdir()
        (folder / "head").mkdir()
        cluster = Cluster(folder / "pg", ["fsync=off"])
        cluster.start()
        head = None
        try:
            cluster.sql("CREATE DATABASE drill", database="postgres")
            head = HeadEnd(folder / "head", extra=f'[database]\nurl = "{cluster.url()}"\n')
            head.start()
            client = head.admin("admin@export.example", "Export")
            account = int(cluster.sql("SELECT id FROM account WHERE name = 'Export'").strip())
            until = BEGIN + timedelta(minutes=polls)
            small = BEGIN + timedelta(minutes=polls // 10)
            cluster.sql(FLEET.format(account=account, formula=FORMULA.replace("'", "''"), meters=METERS, polls=polls,
                                     last=(until + timedelta(days=1)).date()))
            # the process reaches its level before anything is measured
            export(head, client, "xlsx", BEGIN + timedelta(minutes=max(1, polls // 50)), folder)
            files = {}
            for form in ("csv", "xlsx"):
                _, seen[f"{form}_tenth"] = export(head, client, form, small, folder)
                files[form], seen[form] = export(head, client, form, until, folder)
                more = seen[form]["grown_kib"] - max(0, seen[f"{form}_tenth"]["grown_kib"])
                seen[form]["more_than_a_tenth_kib"] = more
                if more > args.slack_mib * 1024:
                    faults.append(f"{form}: ten times the rows took {more} KiB more memory")
            begun = time.monotonic()
            seen["compared"] = check(client, cluster, files["csv"], files["xlsx"], until, faults)
            seen["compared_s"] = round(time.monotonic() - begun, 1)
            if seen["compared"] != seen["readings"]:
                faults.append(f"{seen['compared']} rows of {seen['readings']}")
        finally:
            if head:
                head.stop()
            cluster.stop()
    print(json.dumps({**seen, "faults": faults[:20]}, indent=1))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
