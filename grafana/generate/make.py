#!/usr/bin/env python3
"""Writes the dashboards out as JSON, one file each, in the folders that Grafana shows. --check: says whether they are fresh.

usage: make.py [--check]
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import boards
import boards_server

FOLDERS = {
    "Operations": [boards.fleet, boards.dtu, boards.meter, boards.group, boards.collection, boards_server.control],
    "Platform": [boards_server.server],
}


def files():
    """Path of each dashboard, below grafana/, with its text."""
    for folder, makers in FOLDERS.items():
        for maker in makers:
            made = maker()
            name = made["uid"].removeprefix("polyphase-")
            yield f"dashboards/{folder}/{name}.json", json.dumps(made, indent=2, ensure_ascii=False) + "\n"


def main():
    root, stale = Path(__file__).resolve().parents[1], []
    for path, text in files():
        file = root / path
        if "--check" in sys.argv:
            if not file.exists() or file.read_text() != text:
                stale.append(path)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if stale:
        sys.exit(f"not as grafana/generate makes them: {', '.join(stale)}; run grafana/generate/make.py")


main()
