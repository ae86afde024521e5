"""task=compare: finished runs beside each other, as a page that needs no account and no network."""

from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.text import Text

from harness.comparison.measures import Measures
from harness.comparison.pages import HEADER, final_row
from harness.comparison.publishing import check_can_publish, publish
from harness.comparison.reading import PAGE, SCORE
from harness.comparison.writing import HTML, TITLE, Comparison, write_comparison
from harness.reports.console import draw, make_console
from harness.reports.plain_console import WHOLE, line
from harness.reports.word_table import WordTable
from harness.runs.command import keep_command
from harness.typed import from_here
from lightning_modules.options.require import require

ON_TERMINAL = 20  # configurations, and folders left out


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
    found = write_comparison(patterns, folder)
    keep_command(folder, cfg)
    console = make_console(alone=True)
    with console.log.kept_in(folder, cfg):
        table = partial(terminal_table, found.measures)
        draw(console, table, partial(_what_is_where, found, folder))
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
    places += [("PNG", path) for path in sorted(folder.glob("*.png"))]
    return [*lines, *(line(f"{name:8} ", (from_here(where), WHOLE)) for name, where in places)]


def terminal_table(measures: Measures) -> WordTable:
    """The table of configurations, the best first; seconds are on the pages."""
    table = WordTable(title="at the end of training, mean [95% interval]", show_lines=True)
    for name in HEADER[:-1]:
        table.add_column(name.removeprefix("val/"))
    for row in measures.rows[:ON_TERMINAL]:
        table.add_row(*final_row(row)[:-1])
    if (more := len(measures.rows) - ON_TERMINAL) > 0:
        table.add_row(f"and {more} more", *[""] * (len(HEADER) - 2))
    return table
