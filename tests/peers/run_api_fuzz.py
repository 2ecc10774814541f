"""schemathesis over the whole API of a running server with objects of every kind: nothing answers 5xx, every answer is as
the OpenAPI description says, what the description forbids is refused. Exit 1 on any fault.

usage: run_api_fuzz.py [--examples N] [--seed N] [--phases examples,coverage,fuzzing] [--only OPERATION]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from headend import HeadEnd

HERE = Path(__file__).resolve().parent
# operations that end what the run stands on, or never end
LEFT_OUT = {
    "get_stream": "an answer without end; tests/it/api_metering/stream.rs",
    "sign_in": "guesses are throttled; tests/it/api_identity.rs",
    "sign_out": "ends the session of the run",
    "change_password": "guesses are throttled",
    "edit_user": "may take the role from the person of the run",
    "delete_user": "may delete the person of the run",
    "edit_account": "may disable the account of the run",
    "revoke_api_key": "may revoke the key of the run",
    "claim": "guesses are throttled; tests/it/api_identity.rs",
    "emergency_stop": "ends all that may be commanded",
}
# 502: a meter that does not answer; 503: a bound, which a machine that does much else may meet
CONFIG = """
hooks = "fuzz_hooks"
[checks]
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 502, 503]
negative_data_rejection.expected-statuses = ["4xx", 502, 503]
missing_required_header.expected-statuses = ["4xx", 503]
# the description cannot say what makes a cron expression or a time zone
positive_data_acceptance.enabled = false
# a body of text/csv: whatever is made up for it is text, and the job that takes it tells what is wrong with it
[[operations]]
include-operation-id = "create_import"
checks.negative_data_rejection.enabled = false
"""


def seed(api, document):
    """One object of every kind that can be made, by the examples of the description. Kind → id."""
    paths = document["paths"]

    def example(path, method="post"):
        return paths[f"/api/v1{path}"][method]["requestBody"]["content"]["application/json"]["example"]

    ids = {}

    def make(kind, path, **changes):
        body = {name: value for name, value in {**example(path), **changes}.items() if value is not None}
        ids[kind] = api.post("/api/v1" + path, body)["id"]

    make("schedules", "/schedules")
    make("calendars", "/calendars")
    # its sum meter is of the meter that is made after it
    make("groups", "/groups", sum_point_id=None)
    make("dtus", "/dtus", schedule=ids["schedules"])
    make("meters", "/meters", dtu_id=ids["dtus"], group_id=ids["groups"])
    ids["points"] = api.get(f"/api/v1/meters/{ids['meters']}")["point_id"]
    make("recipients", "/notices/recipients")
    make("channels", "/notices/channels", recipient_id=ids["recipients"])
    make("routes", "/notices/routes",
         rule={"min_severity": "critical", "steps": [{"recipients": [ids["recipients"]]}]})
    make("alarm-rules", "/alarm-rules")
    make("control/schedules", "/control/schedules", meter_ids=[ids["meters"]])
    make("users", "/users")
    ids["commands"] = api.post(f"/api/v1/meters/{ids['meters']}/commands", example("/meters/{id}/commands"))["id"]
    return ids


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--examples", type=int, default=10)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--phases", default="examples,coverage,fuzzing")
    options.add_argument("--only")
    options.add_argument("--extra", default="[limits]\nrequests_per_s = 0\n")
    options.add_argument("--document", help="another description than the server's own")
    options = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="polyphase-api-fuzz-") as folder:
        os.chmod(folder, 0o755)
        head = HeadEnd(folder, extra=options.extra)
        try:
            head.start()
            api = head.admin("admin@first.example", "First")
            document = api.get("/api/openapi.json")
            if options.document:
                document = json.loads(Path(options.document).read_text())
            ids = seed(api, document)
            Path(folder, "ids.json").write_text(json.dumps(ids))
            Path(folder, "openapi.json").write_text(json.dumps(document))
            Path(folder, "schemathesis.toml").write_text(CONFIG)
            known = [o["operationId"] for item in document["paths"].values() for o in item.values()]
            unknown = [name for name in LEFT_OUT if name not in known]
            command = [
                sys.executable, "-m", "schemathesis.cli", "--config-file", f"{folder}/schemathesis.toml", "run",
                f"{folder}/openapi.json", "--url", head.base, "-H", f"Authorization: Bearer {api.key}",
                "--seed", str(options.seed), "--generation-deterministic",
                "--phases", options.phases, "--max-examples", str(options.examples), "--no-shrink",
                "--suppress-health-check", "all", "--workers", "1", "--continue-on-failure",
                "--request-timeout", "120", "--warnings", "off", "--output-truncate", "false",
                "--report", "ndjson", "--report-ndjson-path", f"{folder}/report.ndjson",
            ]
            for name in LEFT_OUT:
                command += ["--exclude-operation-id", name]
            if options.only:
                command += ["--include-operation-id", options.only]
            done = subprocess.run(
                command, cwd=folder, text=True, capture_output=True,
                env={**os.environ, "PYTHONPATH": str(HERE), "FUZZ_IDS": f"{folder}/ids.json", "COLUMNS": "160",
                     "PYTHONHASHSEED": "0"},
            )
            print(re.sub(r"ph_k_\w+", "KEY", done.stdout))
            print(done.stderr, file=sys.stderr)
            if unknown:
                print(f"no such operations: {unknown}")
            return 1 if done.returncode or unknown else 0
        finally:
            head.stop()


if __name__ == "__main__":
    sys.exit(main())
