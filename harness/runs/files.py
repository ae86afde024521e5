"""The names of what lies in a run's folder, and how it is written: whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

STATE = "run.json"
LOCK = ".lock"
CONFIG = "config.yaml"
SUMMARY = "summary.json"
# Of the jobs of a sweep.
JOB = "job.json"
FAILED = "failed.json"
SKIPPED = "skipped.json"
OUTPUT = "output.txt"
TRACEBACK = "traceback.txt"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file that is never seen half written."""
    write_text(path, json.dumps(content, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file that is never seen half written, in UTF-8."""
    draft = path.with_name(f".{path.name}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
