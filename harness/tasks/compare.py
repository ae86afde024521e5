"""task=compare: finished runs beside each other, as a page that needs no account and no network."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.text import Text

from harness.comparison.grouping import ABSENT
from harness.comparison.measures import FINALS, Measures
from harness.comparison.origins import command_line
from harness.comparison.pages import HEADER, PICTURES, TO_THRESHOLD, final_row, reference_row
from harness.comparison.publishing import check_can_publish, publish
from harness.comparison.reading import PAGE, SCORE
from harness.comparison.writing import HTML, TITLE, Comparison, write_comparison
from harness.reports.console import draw, make_console
from harness.reports.plain_console import WHOLE, line
from harness.reports.word_table import WordTable
from harness.runs.command import keep_command, typed_overrides
from harness.typed import from_here
from lightning_modules.options.require import require

ON_TERMINAL = 20  # configurations, and folders left out
# Columns of a terminal: for the names, and for a number with its interval.
NAME, NUMBER = 16, 14


def compare(cfg: DictConfig) -> dict[str, Any]:
    """Write comparison.md, comparison.html and pictures of the runs at or below `cfg.runs`.

    Returns the mean final score of each configuration by its name. DataError if there are no
    finished policy runs; OptionError if `runs` is empty, or `publish` is on and cannot be done.
    """
    patterns = [cfg.runs] if isinstance(cfg.runs, str) else list(cfg.runs or [])
    require(
        bool(patterns) and all(isinstance(p, str) for p in patterns),
        "runs",
        list(patterns),
        "give a folder of runs, a glob, or several: runs=outputs/sweeps/2026-01-31_12-00-00",
    )
    if cfg.publish:
        check_can_publish(cfg)
    folder = Path(HydraConfig.get().runtime.output_dir)
    found = write_comparison(patterns, folder, command_line(typed_overrides()))
    keep_command(folder, cfg)
    console = make_console(alone=True)
    draw(
        console,
        partial(terminal_table, found.measures, console.width),
        partial(_what_is_where, found, folder),
    )
    if cfg.publish:
        address = publish(cfg, TITLE, found.measures.configurations, found.blocks)
        console.print(line("W&B      ", (address, WHOLE)))
    return {row.configuration.name: row.finals[SCORE].value for row in found.measures.rows}


def _what_is_where(found: Comparison, folder: Path) -> list[Text]:
    """What is left out, and where everything is."""
    lines = [
        line("left out: ", (from_here(item.folder), WHOLE), f": {item.reason}")
        for item in found.left_out[:ON_TERMINAL]
    ]
    if (more := len(found.left_out) - ON_TERMINAL) > 0:
        lines.append(line(f"and {more} more; see the page"))
    places = [("page", folder / HTML), ("Markdown", folder / PAGE)]
    places += [("PNG", folder / name) for name in PICTURES if (folder / name).is_file()]
    return [*lines, *(line(f"{name:8} ", (from_here(where), WHOLE)) for name, where in places)]


def terminal_table(measures: Measures, width: int = 80) -> WordTable:
    """The configurations, the best first, and the references, as far as `width` columns hold them;
    the pages have everything. An interval is below its number.
    """
    rows = [dict(zip(HEADER, final_row(row), strict=True)) for row in measures.rows[:ON_TERMINAL]]
    references = [dict(zip(HEADER, reference_row(r), strict=True)) for r in measures.references]
    columns = (*FINALS, TO_THRESHOLD)
    known = [column for column in columns if any(row[column] != ABSENT for row in rows)]
    known = known[: max(1, (width - NAME) // (NUMBER + 2))]
    table = WordTable(
        title="at the end of training, mean [95% interval]",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("configuration")
    for column in known:
        table.add_column(column.removeprefix("val/"), min_width=NUMBER)
    for row in rows:
        table.add_row(*_cells(row, known))
    if (more := len(measures.rows) - ON_TERMINAL) > 0:
        table.add_row(f"and {more} more", *[""] * len(known))
    table.add_section()
    for row in references[:ON_TERMINAL]:
        table.add_row(*_cells(row, known))
    return table


def _cells(row: dict[str, str], columns: Sequence[str]) -> list[str]:
    name, seeds = (row[column] for column in HEADER[:2])
    numbers = (row[column].replace(" [", "\n[").replace(" (", "\n(") for column in columns)
    return [f"{name}\nseeds {seeds.partition(': ')[2]}", *numbers]
