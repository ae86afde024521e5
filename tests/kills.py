"""kill -9 at random moments of a whole run, and what is different after it was resumed; or SIGTERM
or ctrl-c, with what the run says of it.

    python -m tests.kills --kills 20 --seed 0 --folder /tmp/kills
    python -m tests.kills --kills 20 --seed 0 --folder /tmp/stops --signal TERM
    python -m tests.kills --kills 20 --seed 0 --folder /tmp/rounds task=rounds rounds=2 pairs=24

Every run is the command line in a forked process, with stages of its own. Half of the kills come
after a random time; the others right before a random change of a file (open to write, rename,
remove, make a folder), as that is when something can be left half done. A run that was killed is
started again with resume=auto until it ends, and held against one that was never killed.
"""

import argparse
import csv
import importlib
import json
import os
import random
import re
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TINY = (
    "budget=smoke",
    "hardware=cpu",
    "logger=none",
    "model.vocab_size=400",
    "algo.iterations=6",
    "algo.prompts_per_iteration=8",
    "algo.micro_batch_size=8",
    "algo.val_prompts=8",
    "algo.max_grad_norm=1.0",
    "data.train_demonstrations=96",
    "data.train_pairs=96",
    "data.val_pairs=48",
    "callbacks.checkpoint.every_n_epochs=1",
    "callbacks.trace_every=2",
)
CLOCK = ("time/", "throughput/")
UNLIKE = ("commit", "folder", "/path", "/seconds", "/reused")  # the last three of stages
LEFT_OVER = (".unfinished", ".damaged", ".old")
TABLES = ("samples.jsonl", "traces.jsonl")
# A signal by its name, and how a run ends by it.
ENDS = {
    "KILL": (signal.SIGKILL, -signal.SIGKILL),
    "TERM": (signal.SIGTERM, 128 + signal.SIGTERM),
    "INT": (signal.SIGINT, 128 + signal.SIGINT),
}
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def changes(folder: Path, event: str, arguments: tuple) -> bool:
    """Whether an audit event is a change of a file below `folder`."""
    if event not in CHANGES and event != "open":
        return False
    path = arguments[0]
    if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(str(folder)):
        return False
    return event != "open" or bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))


def run(
    folder: Path,
    *overrides: str,
    change: int | None = None,
    seconds: float | None = None,
    number: int = signal.SIGKILL,
    setup: Callable[[], None] = lambda: None,
    notes: Path | None = None,
) -> tuple[int, int, str]:
    """One run of the command line in `folder`/run, sent the signal `number` before its `change`-th
    change of a file or after `seconds`; its exit status (-9: killed), how many changes it made,
    what it printed (kept in the folder `notes`).
    """
    notes = notes or folder
    for place in (folder, notes):
        place.mkdir(parents=True, exist_ok=True)
    output, counter = notes / "output.txt", notes / "changes.txt"
    pid = os.fork()
    if not pid:
        _child(folder, overrides, change, number, output, counter, setup)
    end = time.monotonic() + (seconds or float("inf"))
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, number)
            end = float("inf")
        time.sleep(0.01)
    made = int(counter.read_text(encoding="utf-8")) if counter.is_file() else 0
    return (
        os.waitstatus_to_exitcode(done[1]),
        made,
        output.read_text(errors="replace", encoding="utf-8"),
    )


def _child(folder, overrides, change, number, output, counter, setup) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & ignores it
    with open(output, "w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    made = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal made
        if changes(folder / "run", event, arguments) or changes(folder / "cache", event, arguments):
            made += 1
            if made == change:
                os.kill(os.getpid(), number)

    sys.addaudithook(watch)
    status = 1
    try:
        setup()
        sys.argv = ["run.py", *TINY, *overrides]
        sys.argv += [f"hydra.run.dir={folder}/run", f"cache_dir={folder}/cache"]
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        status = 0
    except SystemExit as ended:
        status = 0 if ended.code is None else ended.code if isinstance(ended.code, int) else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        counter.write_text(str(made), encoding="utf-8")
        os._exit(status)


def load_libraries() -> None:
    """What takes seconds, once for all forked runs."""
    sys.path.insert(0, str(ROOT))
    for name in ("harness.pipeline.rungs", "harness.reports.reward_report", "peft"):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)


def cells(folder: Path) -> Iterator[tuple[str, Any]]:
    """All that a run and its stages leave but for what depends on the clock or on where they are,
    by its place.
    """
    for run_folder in sorted((folder / "run").glob("round-*")) or [folder / "run"]:
        yield from _trained(run_folder.name, run_folder)
        yield from _told(run_folder)
    for file in (folder / "run").glob("[al]*s/*.jsonl"):  # answers and labels of rounds
        yield f"{file.parent.name} {file.name}", file.read_bytes()
    for stage in ("sft", "reward_model"):
        for marker in (folder / "cache" / stage).glob("*/stage.json"):
            yield from _trained(f"{stage} {marker.parent.name}", marker.parent)
    for key, value in json.loads(
        (folder / "run" / "summary.json").read_text(encoding="utf-8")
    ).items():
        if not key.startswith(CLOCK) and not key.endswith(UNLIKE):
            yield f"summary.json {key}", value
    for file in sorted((folder / "run").rglob("*")):
        if file.suffix in LEFT_OVER:
            yield f"left over: {file.name}", True


def _told(folder: Path) -> Iterator[tuple[str, Any]]:
    for table in TABLES:
        for i, line in enumerate((folder / table).read_text(encoding="utf-8").splitlines()):
            yield f"{folder.name} {table} {i}", line


def _trained(name: str, folder: Path) -> Iterator[tuple[str, Any]]:
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for column, value in row.items():
                if not column.startswith(CLOCK):
                    yield f"{name} metrics.csv {row['step']} {column}", value
    for file in sorted((folder / "model").iterdir()):
        yield f"{name} {file.name}", file.read_bytes()


def differing(whole: Path, broken: Path) -> list[str]:
    """Cells that are not the same in both."""
    a, b = dict(cells(whole)), dict(cells(broken))
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--signal", choices=list(ENDS), default="KILL")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    folder = options.folder.resolve()
    sys.exit(bool(kill(options.kills, options.seed, folder, options.overrides, options.signal)))


def kill(kills: int, seed: int, folder: Path, overrides: list[str], name: str = "KILL") -> int:
    """Cells that differ, over all kills; prints a line for each."""
    number, end = ENDS[name]
    load_libraries()
    chance = random.Random(seed)
    started = time.monotonic()
    status, made, output = run(folder / "whole", *overrides)
    took = time.monotonic() - started
    assert status == 0, output
    print(f"unbroken: {took:.1f} s, {made} changes of files")
    total = 0
    for i in range(kills):
        here = folder / f"kill-{i}"
        how = {"change": chance.randint(1, made)} if i % 2 else {"seconds": chance.random() * took}
        status, _, output = run(here, *overrides, **how, number=number)
        stopped = status == end
        if stopped:
            if name != "KILL":
                (how["told"],) = re.findall("stopped by .*", " ".join(output.split())) or [None]
                total += how["told"] is None
            status, _, output = run(here, *overrides, "resume=auto")
        different = differing(folder / "whole", here) if status == 0 else [f"exit {status}"]
        total += len(different)
        print(f"{i}: {how}, resumed: {stopped}: {len(different)} cells differ", different[:5])
        if status or "Traceback" in output:
            print(output[-3000:])
            total += 1
    print(f"{kills} kills: {total} differing cells")
    return total


if __name__ == "__main__":
    main()
