"""One response as a picture: a box a token, whose colour is its advantage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.printable import printable

Row = dict[str, Any]
LINE_WIDTH = 80  # characters of a picture's line
CHARACTER = 0.0836  # inches, of a monospaced font of 10 points
LINE_HEIGHT = 0.27  # inches
MARGIN, TOP, BOTTOM = 0.2, 0.5, 0.9  # inches
DPI = 110
LABEL = "advantage: blue tokens become likelier, red ones less likely"


def shown(text: str) -> str:
    """A token's text in one line."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))


def lay_out(texts: Sequence[str], width: int = LINE_WIDTH) -> list[tuple[int, int]]:
    """(line, column) of each text in reading order; one that is longer has a line of its own."""
    places, line, column = [], 0, 0
    for text in texts:
        if column and column + len(text) > width:
            line, column = line + 1, 0
        places.append((line, column))
        column += len(text)
    return places


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """A PNG of the response: each token a box whose colour is its advantage."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    texts = [shown(row["token"])[:LINE_WIDTH] or " " for row in rows]
    places = lay_out(texts)
    lines = places[-1][0] + 1
    height = lines * LINE_HEIGHT + TOP + BOTTOM
    width = LINE_WIDTH * CHARACTER + 2 * MARGIN
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes(
        (MARGIN / width, BOTTOM / height, 1 - 2 * MARGIN / width, lines * LINE_HEIGHT / height)
    )
    axes.set(xlim=(0, LINE_WIDTH), ylim=(lines, 0))
    axes.axis("off")
    largest = max(abs(row["advantage"]) for row in rows) or 1.0
    colours = ScalarMappable(Normalize(-largest, largest), "RdBu")
    for row, text, (line, column) in zip(rows, texts, places, strict=True):
        box = (column, line + 0.06), len(text), 0.88
        axes.add_patch(Rectangle(*box, fc=colours.to_rgba(row["advantage"]), ec="grey", lw=0.4))
        dark = abs(row["advantage"]) > 0.65 * largest
        style = {"family": "monospace", "fontsize": 10, "color": "white" if dark else "black"}
        axes.text(column, line + 0.5, text, va="center", **style)
    figure.text(MARGIN / width, 1 - 0.3 / height, printable(title), family="monospace", fontsize=9)
    bar = figure.add_axes((0.25, 0.5 / height, 0.5, 0.12 / height))
    figure.colorbar(colours, cax=bar, orientation="horizontal", label=LABEL)
    figure.savefig(path, dpi=DPI)
