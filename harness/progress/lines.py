"""Lines that keep to a width: what must be said, then as many numbers as there is room for."""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*#"
GAP = "  "


def one_line(width: int, must: str, numbers: Iterable[str] = (), end: str = "") -> str:
    """`must`, then the first of `numbers` that fit, then `end`, in at most `width` columns; what
    must be said is cut only if it alone is wider.
    """
    room = width - len(must) - (len(GAP) + len(end) if end else 0)
    if room < 0:
        return must[:width]
    kept = [must]
    for number in numbers:
        room -= len(GAP) + len(number)
        if room < 0:
            break
        kept.append(number)
    return GAP.join([*kept, end] if end else kept)


def curve(values: Sequence[float], encoding: str, most: int = 8) -> str:
    """A small picture of a curve, a letter a value; of many values, the means of `most` stretches.
    Values that are not finite are left out; empty for fewer than two.
    """
    known = [value for value in values if math.isfinite(value)]
    if len(known) < 2:
        return ""
    count = min(most, len(known))
    edges = [i * len(known) // count for i in range(count + 1)]
    points = [sum(known[a:b]) / (b - a) for a, b in pairwise(edges)]
    letters = BLOCKS if can_show(BLOCKS, encoding) else PLAIN
    low, high = min(points), max(points)
    if high == low:
        return letters[len(letters) // 2] * count
    top = len(letters) - 1
    return "".join(letters[round((point - low) / (high - low) * top)] for point in points)


def bar(share: float, width: int, encoding: str) -> str:
    """A bar that is filled to `share` of its width."""
    full, empty = ("━", "╌") if can_show("━╌", encoding) else ("#", "-")
    filled = int(max(0.0, min(1.0, share)) * width)
    return full * filled + empty * (width - filled)


def can_show(text: str, encoding: str) -> bool:
    """Whether a stream of this encoding has these letters."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True
