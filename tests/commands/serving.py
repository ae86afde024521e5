"""Starts the server of tests/commands/warm.py."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def serving(path: Path, code: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The socket `path` of a server that has the libraries and the code of the checkout `code`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.commands.warm", str(path)],
        cwd=code,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield str(path)
    finally:
        process.communicate()  # closes its standard input
