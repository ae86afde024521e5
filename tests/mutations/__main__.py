"""python -m tests.mutations: puts every bug of the matrix in, and asks that a test notices."""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

from rich.console import Console
from rich.table import Table

from tests.mutations.matrix import NOT_APPLICABLE, ROWS, SECTIONS
from tests.mutations.mutation import Mutation
from tests.mutations.runner import ROOT, Verdict, judge_all, warm_up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", metavar="TEXT", default="", help="rows whose bug has this in it")
    parser.add_argument("--jobs", type=int, default=2, help="how many processes at a time")
    parser.add_argument("--write", metavar="FILE", type=Path, help="keep the table as Markdown")
    options = parser.parse_args()
    os.chdir(ROOT)
    rows = [row for row in ROWS if options.only.lower() in row.bug.lower()]
    if options.write and options.only:
        parser.error("--write keeps the whole table, which --only would cut")
    if not rows:
        parser.error(f"no row has {options.only!r} in it")

    console = Console()
    started = time.perf_counter()
    warm_up([test for row in rows for test in row.tests])

    def report(row: Mutation, verdict: Verdict) -> None:
        if verdict.kind != "killed":
            console.print(f"{verdict.kind}: {row.bug} ({row.target})", style="bold red")
            console.print(verdict.by, markup=False, highlight=False)

    verdicts, unhealthy = judge_all(rows, options.jobs, report)
    console.print(as_table(rows, verdicts))
    for line in unhealthy:
        console.print(f"fails without any bug: {line}", style="bold red")
    good = not unhealthy and all(v.kind == "killed" for v in verdicts)
    killed = sum(v.kind == "killed" for v in verdicts)
    console.print(
        f"{killed} of {len(rows)} bugs are noticed; {time.perf_counter() - started:.0f} s"
    )
    if options.write and good:
        options.write.write_text(
            as_markdown(dict(zip(rows, verdicts, strict=True))), encoding="utf-8"
        )
    return 0 if good else 1


def as_table(rows: list[Mutation], verdicts: list[Verdict]) -> Table:
    table = Table("bug", "first test that fails", "s", show_lines=True)
    for row, verdict in zip(rows, verdicts, strict=True):
        by = verdict.by.removeprefix("tests/") if verdict.kind == "killed" else verdict.kind
        table.add_row(row.bug, by, f"{verdict.seconds:.1f}")
    return table


def as_markdown(verdicts: dict[Mutation, Verdict]) -> str:
    lines = [
        "# Bugs that the tests notice",
        "",
        "Each row is a bug that RLHF code has had, or could have. `python -m tests.mutations` puts",
        "one after the other into the function named, each in a process of its own, and runs the",
        "tests that should notice; without any bug those that did pass. A bug that no test notices",
        "fails the suite. Written by `python -m tests.mutations --write docs/mutations.md`.",
    ]
    for title, rows in SECTIONS.items():
        lines += ["", f"## {title}", "", "| bug | seen in | put into | first test that fails |"]
        lines += ["|---|---|---|---|"]
        for row in rows:
            place = row.target.replace("lightning_modules.", "").replace(":", ".")
            test = verdicts[row].by.removeprefix("tests/").partition("[")[0]
            lines.append(f"| {row.bug} | {row.seen} | `{place}` | `{test}` |")
    lines += ["", "## Bugs that there is no place for", ""]
    lines += [f"- {bug}: {reason}." for bug, reason in NOT_APPLICABLE.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
