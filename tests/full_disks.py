"""Runs on disks that fill up, and what is different after space was freed and they were resumed.

    python -m tests.full_disks --folder /tmp/full

Each disk is a tmpfs of its size, if one may be mounted, which holds the run and its stages; then
come limits on the size of a file (as `ulimit -f` sets). A run must end with one line that names a
file, without a traceback; resumed, it must equal a run that always had room.
"""

import argparse
import functools
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.kills import differing, load_libraries, run

DISKS = ("24k", "60k", "1m", "3m", "5m", "9m", "12m", "20m")
LARGEST_FILES = (2_000, 5_000, 30_000, 100_000, 3_000_000)
ROOM = "200m"


def mount(folder: Path, size: str) -> bool:
    """A new tmpfs, if this user may mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    return subprocess.run(command, capture_output=True).returncode == 0


def limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def broken_and_resumed(
    here: Path, whole: Path, overrides: list[str], setup: Callable[[], None], free: Callable
) -> list[str]:
    """What is wrong with a run that had not enough room in `here`."""
    notes = whole.parent / "notes" / here.name
    status, _, output = run(here, *overrides, setup=setup, notes=notes)
    wrong = []
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    print(f"{here.name}: exit {status}", *errors)
    if status not in (0, 1) or "Traceback" in output:
        wrong.append(output[-2000:])
    if status == 1 and (len(errors) != 1 or str(here) not in errors[0]):
        wrong.append(f"no one error that names a file: {output[-500:]}")
    free()
    status, _, output = run(here, *overrides, "resume=auto", notes=notes)
    return wrong + ([f"exit {status}: {output[-2000:]}"] if status else differing(whole, here))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--disks", nargs="*", default=DISKS)
    parser.add_argument("--largest-files", nargs="*", type=int, default=LARGEST_FILES)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    folder, overrides = options.folder.resolve(), options.overrides
    load_libraries()
    whole = folder / "whole"
    status, _, output = run(whole, *overrides)
    assert status == 0, output
    wrong = []
    for size in options.disks:
        here = folder / f"disk-{size}"
        if not mount(here, size):
            print("no tmpfs can be mounted")
            break
        enlarge = ["mount", "-o", f"remount,size={ROOM}", here]
        free = functools.partial(subprocess.run, enlarge, check=True)
        try:
            wrong += broken_and_resumed(here, whole, overrides, lambda: None, free)
        finally:
            subprocess.run(["umount", "--lazy", here], check=True)
    for size in options.largest_files:
        here, setup = folder / f"limit-{size}", functools.partial(limit, size)
        wrong += broken_and_resumed(here, whole, overrides, setup, lambda: None)
    print(*wrong, sep="\n")
    print(f"full disks: {len(wrong)} differences")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
