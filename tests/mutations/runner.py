"""Runs the tests of each row in a process of its own, in which the bug is there."""

import contextlib
import gc
import importlib
import io
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.mutations.mutation import DoesNotApply, Mutation, apply

ROOT = Path(__file__).parents[2]
OPTIONS = ("-q", "-p", "no:cacheprovider")
# What a test dies of when it has noticed something; anything else is a change that makes no sense.
NOTICED = (AssertionError, pytest.fail.Exception)


@dataclass(frozen=True)
class Verdict:
    """`killed` by the test named in `by`; `survived`; or `broken`, for the reason in `by`."""

    kind: str
    by: str = ""
    seconds: float = 0.0


def warm_up(tests: Iterable[str]) -> None:
    """Import what the tests need, pytest's plugins and the tests themselves: what is forked from
    here has it at once.
    """
    torch.set_num_threads(1)  # threads do not survive a fork
    for package in ("datamodules", "lightning_modules", "harness"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            importlib.import_module(name.removesuffix(".__init__"))
    for kind in ("llama", "gpt2"):
        importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main([*OPTIONS, "--collect-only", *in_tests(tests)])
    # What is there now is not looked through again by every garbage collection of every child.
    gc.collect()
    gc.freeze()


def in_tests(tests: Iterable[str]) -> list[str]:
    """Rows name tests by their place in the folder of tests."""
    return [f"tests/{test}" for test in tests]


class FirstFailure:
    """A plugin of pytest that keeps the first thing that went wrong."""

    def __init__(self) -> None:
        self.test: str | None = None
        self.error: BaseException | None = None
        self.when = ""

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        if self.test is None:
            self.test, self.error = node.nodeid, call.excinfo.value
            self.when = getattr(report, "when", "collect")


def run_tests(tests: Sequence[str], folder: Path) -> Verdict:
    """What pytest says of these tests in this process, stopped at the first failure."""
    first = FirstFailure()
    code = pytest.main([*OPTIONS, "-x", f"--basetemp={folder}", *tests], plugins=[first])
    if code == pytest.ExitCode.OK:
        return Verdict("survived")
    if first.test is None or code != pytest.ExitCode.TESTS_FAILED:
        return Verdict("broken", f"pytest ended with {code!r}: {first.test} {first.error!r:.300}")
    if first.when != "call" or not isinstance(first.error, NOTICED):
        return Verdict("broken", f"{first.test}, {first.when}: {first.error!r:.300}")
    return Verdict("killed", first.test)


def judge(row: Mutation, folder: Path) -> Verdict:
    """Put the bug in, then run the tests that should notice."""
    try:
        apply(row.changes)
    except DoesNotApply as error:
        return Verdict("broken", f"no longer applies: {error}")
    return run_tests(in_tests(row.tests), folder)


def judge_all(
    rows: Sequence[Mutation], jobs: int, report: Callable[[Mutation, Verdict], None]
) -> tuple[list[Verdict], list[str]]:
    """A verdict for each row, and which of the tests that noticed a bug fail without any, where
    none may.
    """
    verdicts = in_processes(
        [lambda folder, row=row: judge(row, folder) for row in rows],
        jobs,
        lambda index, verdict: report(rows[index], verdict),
    )
    files: dict[str, list[str]] = {}
    for test in dict.fromkeys(verdict.by for verdict in verdicts if verdict.kind == "killed"):
        files.setdefault(test.partition("::")[0], []).append(test)
    healthy = in_processes(
        [lambda folder, tests=tests: run_tests(tests, folder) for tests in files.values()],
        jobs,
        lambda *_: None,
    )
    return verdicts, [f"{v.kind}: {v.by}" for v in healthy if v.kind != "survived"]


def in_processes(
    work: Sequence[Callable[[Path], Verdict]], jobs: int, done: Callable[[int, Verdict], None]
) -> list[Verdict]:
    """Each piece of work in a forked process with a folder for its files, `jobs` at a time."""
    verdicts: dict[int, Verdict] = {}
    running: dict[int, tuple[int, int, float]] = {}
    waiting = iter(enumerate(work))
    with tempfile.TemporaryDirectory() as folder:
        while True:
            for index, piece in take(waiting, jobs - len(running)):
                pid, pipe = fork(piece, Path(folder) / str(index))
                running[pid] = (index, pipe, time.perf_counter())
            if not running:
                return [verdicts[i] for i in range(len(work))]
            pid, status = os.wait()
            index, pipe, started = running.pop(pid)
            with open(pipe, "rb") as response:
                said = response.read()
            fields = json.loads(said) if said else {"kind": "broken", "by": f"status {status}"}
            fields["seconds"] = time.perf_counter() - started
            verdicts[index] = Verdict(**fields)
            done(index, verdicts[index])


def take(items: Iterable, count: int) -> list:
    """The next `count` of an iterator, or what is left."""
    return [item for _, item in zip(range(count), items, strict=False)]


def fork(piece: Callable[[Path], Verdict], folder: Path) -> tuple[int, int]:
    """Start a process that does the work; returns its id, and a pipe that gives its verdict."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    if pid := os.fork():
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        silence()
        # The pool of threads does not survive a fork; made anew by two threads at once, it breaks.
        torch.set_num_threads(1)
        try:
            verdict = piece(folder)
        except BaseException:
            verdict = Verdict("broken", traceback.format_exc(limit=-3))
        os.write(writing, json.dumps(asdict(verdict)).encode())
    finally:
        with contextlib.suppress(BaseException):
            os.close(writing)
        # Nothing of the process that was forked is to be finished here a second time.
        os._exit(0)


def silence() -> None:
    """What pytest prints goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
