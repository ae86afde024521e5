"""Numbers of your own files: ratings of responses, and how much better one of two is."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from datamodules.records import DataError

BEST = ("highest", "lowest")
# Columns whose name leaves open whether 1 is the best or the worst.
RANK_NAMES = ("rank", "ranks", "ranking", "rankings", "position", "positions", "place", "order")
RATING_NAMES = ("rating", "score", "scores", "reward", "rewards", *RANK_NAMES)
UNKNOWN = ("", "nan", "none", "null", "na", "n/a", "<na>")  # what tables have where nothing is said


def require_best(best: str | None) -> None:
    """Raise DataError unless the option data.best says which rating is the best, or nothing."""
    if best is not None and best not in BEST:
        raise DataError(f"data.best={best}: must be one of {', '.join(BEST)}, or null")


def oriented(ratings: Sequence[float], best: str | None) -> list[float]:
    """Ratings of which the highest is the best."""
    return [0.0 - rating for rating in ratings] if best == "lowest" else list(ratings)


def are_ranks(ratings: Sequence[float]) -> bool:
    """Whether they are 0 to k - 1 or 1 to k, in any order."""
    ordered = sorted(ratings)
    return ordered[0] in (0, 1) and all(b - a == 1 for a, b in pairwise(ordered))


def number(value: Any, where: str) -> float:
    """A finite number, which may be written as text; DataError otherwise."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise DataError(f"{where}: must be a finite number, not {value!r:.60}")
    return found


def strength(value: Any, where: str) -> float | None:
    """How much better the chosen response is; None where a table says that it is not known."""
    unknown = value is None or (isinstance(value, float) and math.isnan(value))
    if unknown or (isinstance(value, str) and value.strip().lower() in UNKNOWN):
        return None
    found = number(value, where)
    if found < 0:
        raise DataError(f"{where}: {value} says that the rejected response is better; swap the two")
    return found
