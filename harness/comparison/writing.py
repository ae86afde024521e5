"""A comparison as files: Markdown, one HTML page, pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.comparison.document import Block, to_html, to_markdown
from harness.comparison.grouping import configurations, without_repeats
from harness.comparison.measures import Measures, measure
from harness.comparison.pages import contents
from harness.comparison.reading import PAGE, LeftOut, collect
from harness.disk.files import write_text

TITLE = "Comparison of runs"
HTML = "comparison.html"


class Comparison(NamedTuple):
    """What the pages say."""

    measures: Measures
    left_out: list[LeftOut]
    blocks: list[Block]


def write_comparison(
    patterns: Sequence[str], folder: Path, command: str | None = None
) -> Comparison:
    """Compare the runs at or below `patterns`; the pages and pictures are in `folder` then.

    `command` is the command line that asked for it.
    """
    found, left_out = collect(patterns, own=folder)
    runs, again = without_repeats(found)
    measures = measure(configurations(runs))
    folder.mkdir(parents=True, exist_ok=True)
    blocks = contents(measures, [*left_out, *again], folder, command)
    for name, text in ((HTML, to_html(TITLE, blocks)), (PAGE, to_markdown(TITLE, blocks))):
        write_text(folder / name, text)
    return Comparison(measures, [*left_out, *again], blocks)
