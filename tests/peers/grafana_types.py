"""Holds the dashboards against Grafana's published types (@grafana/schema, with tsc): the dashboard, and the options and
field settings of each kind of panel. A misspelled key, a wrong type or a value outside of a list is a fault.

usage: grafana_types.py     (needs node and npm; packages by tests/peers/grafana-schema/package-lock.json)
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from panels import ROOT, boards, panels

WORK = ROOT / "target/grafana-schema"
OURS = ROOT / "tests/peers/grafana-schema"
KINDS = {"stat": "stat", "timeseries": "timeseries", "barchart": "barchart", "table": "table", "state-timeline": "statetimeline"}
# What Grafana itself reads or writes and its published types leave out.
BEYOND = {
    "dashboard": {"annotations"},  # the query of an annotation is its data source's own
    "table": {"filterable", "hidden"},
}


def prepare():
    """The packages, as the lock file names them; once."""
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = (OURS / "package-lock.json").read_text()
    lock = WORK / "package-lock.json"
    if (WORK / "node_modules/.package-lock.json").exists() and lock.exists() and lock.read_text() == wanted:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copy(OURS / name, WORK / name)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], cwd=WORK, check=True)


def without(value, names):
    return {key: one for key, one in value.items() if key not in names}


def source():
    """One TypeScript file: each dashboard and each panel's own part as a constant of its published type."""
    base = "./node_modules/@grafana/schema/dist/types/raw"
    text = [f"import type {{ Dashboard }} from '{base}/dashboard/x/types.gen';"]
    text += [f"import type * as {folder} from '{base}/composable/{folder}/panelcfg/x/types.gen';" for folder in sorted(set(KINDS.values()))]
    text.append("""
// enumerations by their values, as JSON has them
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : T extends Array<infer I> ? Plain<I>[]
  : unknown extends T ? T : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
""")
    count = 0
    for uid, board in boards().items():
        plain = without(board, BEYOND["dashboard"])
        text.append(f"// {uid}\nexport const d{count}: Plain<Dashboard> = {json.dumps(plain)};")
        count += 1
        for panel in panels(board):
            kind = KINDS[panel["type"]]
            options = f"{kind}.Options"
            custom = without(panel["fieldConfig"]["defaults"].get("custom", {}), BEYOND.get(panel["type"], ()))
            text.append(f"// {uid}: {panel['title']}\nexport const o{count}: Partial<Plain<{options}>> = {json.dumps(panel['options'])};")
            if custom and panel["type"] != "stat":
                text.append(f"export const c{count}: Partial<Plain<{kind}.FieldConfig>> = {json.dumps(custom)};")
            count += 1
    return "\n".join(text) + "\n"


def main():
    if not shutil.which("npm"):
        sys.exit("npm is not there: run scripts/install.sh test")
    prepare()
    text = source()
    (WORK / "dashboards.ts").write_text(text)
    checked = subprocess.run(["node_modules/.bin/tsc", "--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution",
                              "bundler", "--target", "es2022", "--pretty", "false", "dashboards.ts"], cwd=WORK, capture_output=True, text=True)
    if checked.returncode:
        lines = text.split("\n")
        for line in checked.stdout.splitlines():
            print(line[:400])
            if line.startswith("dashboards.ts("):
                number = int(line.split("(")[1].split(",")[0])
                print("   in", next(l for l in reversed(lines[:number]) if l.startswith("// ")))
        sys.exit(1)
    print(f"{text.count('export const')} constants of published types, no fault")


main()
