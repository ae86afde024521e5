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
NAME = 18  # columns of a terminal for names


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
    with console.log.kept_in(folder, cfg):
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
    """The configurations, the best first, and the references, with as many numbers as `width`
    columns hold; the pages have everything. An interval is below its number.
    """
    configurations = [_cells(final_row(row)) for row in measures.rows[:ON_TERMINAL]]
    references = [_cells(reference_row(r)) for r in measures.references[:ON_TERMINAL]]
    table = WordTable(
        title="at the end of training, mean [95% interval]", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("configuration")
    shown: list[str] = []
    room = width - NAME
    for column in (*FINALS, TO_THRESHOLD):
        if all(row[column] == ABSENT for row in configurations):
            continue
        cells = [row[column] for row in (*configurations, *references)]
        needed = max(len(text) for cell in cells for text in cell.split("\n"))
        room -= needed + 1
        if room >= 0:
            table.add_column(column.removeprefix("val/"), min_width=needed)
            shown.append(column)
    for row in configurations:
        table.add_row(*(row[column] for column in (HEADER[0], *shown)))
    if (more := len(measures.rows) - ON_TERMINAL) > 0:
        table.add_row(f"and {more} more", *[""] * len(shown))
    table.add_section()
    for row in references:
        table.add_row(*(row[column] for column in (HEADER[0], *shown)))
    return table


def _cells(row: Sequence[str]) -> dict[str, str]:
    """A row of the page by HEADER, on several lines: seeds below names, intervals below numbers."""
    name, seeds, *numbers = row
    below = [number.replace(" [", "\n[").replace(" (", "\n(") for number in numbers]
    named = f"{name}\nseeds {seeds.partition(': ')[2]}"
    return dict(zip(HEADER, (named, seeds, *below), strict=True))
