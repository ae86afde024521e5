"""What a run is about to learn, shown before it begins: how the data were read, and one pair."""

from collections.abc import Iterator, Sequence

from rich.cells import chop_cells
from rich.console import Console

from datamodules.records import Comparison, Message, Ranking, Thumb
from datamodules.sources.source import Source, Split
from harness.reports.console import say, warn
from harness.wrapping import wrapped

WIDTH = 80  # columns at most
LABEL = 11  # columns for who speaks
LINES = 4  # of one text
MOST = 1000  # characters, of which so many lines are made
TURNS = 6  # of one conversation


def say_lessons(console: Console, source: Source, split: Split = "train") -> None:
    """How many rows were read and what became of them, what was not read, what must not be missed,
    and the first pair, and the first thumb, as they will be taught.
    """
    if counts := [f"{n:,} {what}" for what, n in source.counts.items() if n]:
        say(console, ["data: " + ", ".join(counts)])
    say(console, source.notes)
    warn(console, source.cautions)
    pairs = (told for told in source.taught(split) if not isinstance(told, Thumb))
    comparison = next(filter(_has_pair, pairs), None)
    what = "as it will be taught" if split == "train" else "as it is read"
    if comparison:
        lines = pair_lines(comparison, source.best, min(console.width, WIDTH))
        say(console, [f"the first pair, {what}:", *lines])
    if thumbs := source.thumbs(split):
        lines = thumb_lines(thumbs[0], min(console.width, WIDTH))
        say(console, [f"the first of the thumbs, {what}:", *lines])


def pair_lines(comparison: Comparison, best: str | None = None, width: int = WIDTH) -> list[str]:
    """A comparison's prompt, all its turns with their roles, and its best and its worst response;
    with ratings in the words of the source, or how much better the preferred one is.

    Lines of at most `width` columns, a few for each text; a word that is longer is parted.
    """
    turns = _turns(comparison.prompt.messages)
    rated = sorted(zip(comparison.ratings, comparison.responses, strict=True), key=lambda r: -r[0])
    (high, preferred), (low, other) = rated[0], rated[-1]
    texts = [*turns, ("preferred", preferred), ("other", other)]
    lines = [line for label, text in texts for line in _lines(label, text, width)]
    if isinstance(comparison, Ranking):
        high, low = (0.0 - r if best == "lowest" else r for r in (high, low))
        count = len(comparison.responses)
        return [*lines, f"  {'ratings':{LABEL}}{high:g} and {low:g}, of {count} responses"]
    if comparison.strength is not None:
        lines.append(f"  {'strength':{LABEL}}{comparison.strength:g}")
    return lines


def thumb_lines(thumb: Thumb, width: int = WIDTH) -> list[str]:
    """The same of a response that was liked or not."""
    said = "up" if thumb.liked else "down"
    texts = [*_turns(thumb.prompt.messages), ("response", thumb.response), ("thumb", said)]
    return [line for label, text in texts for line in _lines(label, text, width)]


def _turns(messages: Sequence[Message]) -> list[tuple[str, str]]:
    """Who says what, without the middle of a long conversation."""
    turns = [(m.role, m.content) for m in messages]
    if (left_out := len(turns) - TURNS) > 0:
        turns = [*turns[:2], ("...", f"{left_out} more turns"), *turns[2 + left_out :]]
    return turns


def _has_pair(comparison: Comparison) -> bool:
    return len(set(comparison.ratings)) > 1


def _lines(label: str, text: str, width: int) -> Iterator[str]:
    """A text beside its label; of a long one, its beginning and its end."""
    begins, ends = text[:MOST], text[-MOST:] if len(text) > MOST else ""
    room = width - LABEL - 2
    rows = _wrapped(begins, room)
    if ends or len(rows) > LINES:
        rows = [*rows[: LINES - 2], "...", _wrapped(ends or begins, room)[-1]]
    for i, row in enumerate(rows):
        yield f"  {label if i == 0 else '':{LABEL}}{row}".rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines broken between words, and where one is longer, within it."""
    rows = wrapped(text, width, hang=0).split("\n")
    return [part for row in rows for part in chop_cells(row, width) or [""]]
