"""Foreign texts on their way to a terminal: what would steer it is shown, not sent.

A prompt, a folder's name or an error message may hold escapes that clear the screen, set a title
or turn a line around. They are written as Python writes them: `\\x1b`, `\\u202e`.
"""

import io
import logging
import re
import sys
from collections.abc import Callable
from typing import TextIO

from harness.wrapping import columns, wrapped

# C0 but for tab and newline, DEL, C1; separators of lines and paragraphs; what turns the order of
# letters around and outlives its word; halves of surrogate pairs, which no encoding has.
# Letters from right to left, joiners of emoji and marks that hold for one place stay.
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text with its control characters, and what `encoding` lacks, as escapes."""
    text = STEERING.sub(lambda found: _escaped(found[0]), text)
    return text.encode(encoding, "backslashreplace").decode(encoding)


# Who else is told what `say` prints: the log of a run.
listeners: list[Callable[[str], None]] = []


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line of foreign text, at once; on standard output if no stream is given."""
    stream, text = stream or sys.stdout, printable(text)
    print(wrapped(text, columns(stream)), file=stream, flush=True)
    for listen in listeners:
        listen(text)


class Formatter(logging.Formatter):
    """For Hydra's own log lines, which repeat what was typed (conf/config.yaml)."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class PrintableStream(io.TextIOBase):
    """A stream for what others print, such as Hydra's errors: passed on without control."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        is_code = text.startswith("  ")  # of a traceback
        self.stream.write(wrapped(printable(text), None if is_code else columns(self.stream)))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()

    def isatty(self) -> bool:
        return self.stream.isatty()


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
