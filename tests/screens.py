"""What a terminal shows of a whole run, as `tmux` emulates one: for a test, and for docs.

    python -m tests.screens --folder screens --write docs/figures

runs the smallest whole run on terminals of 80 and 120 columns and makes pictures of them.
"""

import argparse
import io
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

RUN = Path(__file__).parents[1] / "run.py"
SMOKE = ("budget=smoke", "logger=none", "cache_dir=cache")
WIDTHS = (80, 120)
LINES = 400  # of a screen that never scrolls; no test reads more


class Screen(NamedTuple):
    """What stands on a terminal at the end of a command."""

    status: int
    lines: list[str]  # as they were printed: those that only the terminal has broken are joined
    coloured: str  # with the terminal's own codes


def has_tmux() -> bool:
    return shutil.which("tmux") is not None


def screen_of(command: Sequence[str], columns: int, folder: Path, seconds: int = 300) -> Screen:
    """Run a command in `folder` on a terminal of so many columns, until it ends."""
    server = ("tmux", "-L", f"screens-{uuid.uuid4().hex[:8]}", "-f", "/dev/null")

    def tmux(*words: str) -> str:
        done = subprocess.run([*server, *words], capture_output=True, check=True, encoding="utf-8")
        return done.stdout

    told = folder / f".status-{columns}"
    told.unlink(missing_ok=True)
    line = f"{shlex.join(command)}; echo $? > {told.name}; sleep 1000"
    size = ("-x", str(columns), "-y", str(LINES))
    environment = ("env", "-u", "COLUMNS", "-u", "LINES", "-u", "NO_COLOR", "bash", "-c", line)
    tmux("new-session", "-d", *size, "-c", str(folder), *environment)
    try:
        until = time.monotonic() + seconds
        while not (told.exists() and told.read_text(encoding="utf-8").strip()):
            if time.monotonic() > until:
                raise TimeoutError(tmux("capture-pane", "-p"))
            time.sleep(0.3)
        lines = [line.rstrip() for line in tmux("capture-pane", "-p", "-J").splitlines()]
        coloured = tmux("capture-pane", "-p", "-e")
    finally:
        tmux("kill-server")
    while lines and not lines[-1]:
        lines.pop()
    return Screen(int(told.read_text(encoding="utf-8")), lines, coloured)


def words_of(lines: Sequence[str]) -> set[str]:
    """The words on some lines, without what tables are drawn with."""
    return set(re.sub("[\u2500-\u257f]", " ", "\n".join(lines)).split())


def draw(screen: Screen, columns: int, title: str, picture: Path) -> None:
    """An SVG of what the terminal shows."""
    console = Console(width=columns, record=True, file=io.StringIO(), force_terminal=True)
    for line in screen.coloured.rstrip().splitlines():
        console.print(Text.from_ansi(line), soft_wrap=True)
    console.save_svg(str(picture), title=title, theme=MONOKAI)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are made")
    parser.add_argument("--write", type=Path, help="a folder for the pictures")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for columns in WIDTHS:
        typed = (*SMOKE, f"hydra.run.dir=runs/{columns}")
        screen = screen_of([sys.executable, str(RUN), *typed], columns, options.folder)
        print("\n".join(screen.lines))
        if options.write:
            title = f"python run.py budget=smoke, on {columns} columns"
            draw(screen, columns, title, options.write / f"terminal-{columns}.svg")


if __name__ == "__main__":
    main()
