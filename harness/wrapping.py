"""Lines broken between words; a terminal alone breaks them wherever it ends.

A word is never broken, be it a path or a number with its unit; nor what stands in backquotes or is
a shell's quoted word, such as a command. One that is longer than a line is left to the terminal, so
that it can be copied.
"""

import os
import re
from collections.abc import Sequence
from typing import TextIO

from rich.cells import cell_len

NARROWEST = 20
USUAL = 80
# Quoted words of a shell hold a path or an option; what else stands in quotes is a text.
WORD = re.compile(
    r"""(?: `[^`\n]{1,200}`
    | (?<!\w)'[^'\n]{0,200}[/=][^'\n]{0,200}' (?: "[^"\n]{0,200}" | '[^'\n]{0,200}' )*
    | \d\ (?:[KMGT]i?B|s|min|h)\b | \S )+""",
    re.VERBOSE,
)
# What a line begins with: its indent and, before a gap, the label of what follows.
LABEL = re.compile(r" *(?:\S+(?: \S+)* {2,})?")


def asked_columns() -> int | None:
    """The width that the variable COLUMNS asks for."""
    asked = os.environ.get("COLUMNS", "")
    return max(int(asked), NARROWEST) if asked.isdecimal() and int(asked) else None


def columns(stream: TextIO) -> int | None:
    """The width of the terminal that a stream leads to; None if it leads elsewhere."""
    if not stream.isatty():
        return None
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    return asked_columns() or max(width or USUAL, NARROWEST)


def wrapped(text: str, width: int | None, hang: int | None = None) -> str:
    """The text on lines of at most `width` columns where words allow it; None: as it is. `hang` as
    in `line_starts`.
    """
    if width is None:
        return text
    lines = []
    for line in text.expandtabs().split("\n"):
        starts, indent = line_starts(line, width, hang=hang)
        ends = [*starts[1:], len(line)]
        parts = [line[a:b].rstrip(" ") for a, b in zip(starts, ends, strict=True)]
        lines.append(f"\n{' ' * indent}".join(parts))
    return "\n".join(lines)


def line_starts(
    line: str, width: int, whole: Sequence[tuple[int, int]] = (), hang: int | None = None
) -> tuple[list[int], int]:
    """Where the parts of a line begin that fit into `width`, and by how much those after the first
    are indented: `hang`, or to behind its label if it has one. What is between two offsets in
    `whole` is a word.
    """
    label = len(LABEL.match(line)[0])
    indent = len(line) - len(line.lstrip(" "))
    if hang is None:
        hang = label if indent < label <= width // 3 else min(indent + 2, width // 3)
    starts, begun = [0], False
    for start, end in _words(line, whole):
        room = width - (hang if len(starts) > 1 else 0)
        fits = cell_len(line[starts[-1] : end]) <= room
        # Behind a label it begins on the label's line, unless another line has room for all of it.
        alone = start <= label and cell_len(line[start:end]) > width - hang
        if begun and not fits and not alone:
            starts.append(start)
        begun = True
    return starts, hang


def _words(line: str, whole: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where each word begins and ends."""
    words: list[tuple[int, int]] = []
    for word in WORD.finditer(line):
        start, end = word.span()
        if words and any(a < words[-1][1] and start < b for a, b in whole):
            start = words.pop()[0]
        words.append((start, end))
    return words
