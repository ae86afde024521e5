"""What your own files say of responses: ratings, how much better one of two is, thumbs."""

import math
import re
from collections.abc import Sequence
from typing import Any

from datamodules.records import DataError

BEST = ("highest", "lowest")
# Words in the name of a column that leave open whether 1 is the best or the worst.
LOWEST_WORDS = {"rank", "ranks", "ranked", "ranking", "rankings", "place", "places"}
LOWEST_WORDS |= {"position", "positions", "loss", "losses"}
OPEN_WORDS = LOWEST_WORDS | {"order", "ordering"}
RATING_WORDS = OPEN_WORDS | {"rating", "ratings", "score", "scores", "reward", "rewards"}
RATING_WORDS |= {"grade", "grades", "quality", "votes", "upvotes", "elo", "labels", "stars"}
RATING_WORDS |= {"overall", "helpfulness", "win", "wins", "preference", "preferences", "utility"}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
UNKNOWN = ("", "nan", "none", "null", "na", "n/a", "<na>")  # what tables have where nothing is said

# How a thumb is written.
UP = ("true", "1", "1.0", "+1", "yes", "up", "thumbs_up", "good", "like", "liked", "positive")
DOWN = ("false", "0", "0.0", "no", "down", "thumbs_down", "bad", "dislike", "disliked", "negative")
UP += ("desirable", "👍")
DOWN += ("undesirable", "👎", "-1", "-1.0")


def require_best(best: str | None) -> None:
    """Raise DataError unless the option data.best says which rating is the best, or nothing."""
    if best is not None and best not in BEST:
        raise DataError(f"data.best={best}: must be one of {', '.join(BEST)}, or null")


def oriented(ratings: Sequence[float], best: str | None) -> list[float]:
    """Ratings of which the highest is the best."""
    return [0.0 - rating for rating in ratings] if best == "lowest" else list(ratings)


def words(name: str) -> set[str]:
    """The words of a column's name: of "average_rank" and "averageRank" the same two."""
    return {word.lower() for word in WORD.findall(name)}


def are_ranks(ratings: Sequence[float]) -> bool:
    """Whether they may be ranks from 0 or from 1, in any order and with any of the ways in which
    ties are ranked, or the mean of several such ranks.

    Several zeros and ones are not: they say right or wrong.
    """
    count = len(ratings)
    if count > 2 and set(ratings) <= {0, 1}:
        return False
    dense = {value: place for place, value in enumerate(sorted(set(ratings)))}
    fewer = {value: sum(other < value for other in ratings) for value in ratings}
    up_to = {value: sum(other <= value for other in ratings) - 1 for value in ratings}
    for first in (0, 1):
        if any(all(r == first + place[r] for r in ratings) for place in (dense, fewer, up_to)):
            return True
        # The mean rank is the same whatever the ties; two that add up to one may be probabilities.
        middle = first + (count - 1) / 2
        within = first <= min(ratings) and max(ratings) <= first + count - 1
        if within and (first or count > 2) and math.isclose(sum(ratings) / count, middle):
            return True
    return False


def as_number(value: Any) -> float | None:
    """A finite number, which may be written as text; None for anything else."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def number(value: Any, where: str) -> float:
    """A finite number, which may be written as text; DataError otherwise."""
    found = as_number(value)
    if found is None:
        raise DataError(f"{where}: must be a finite number, not {value!r:.60}")
    return found


def liked(value: Any, where: str) -> bool | None:
    """Whether a thumb is up; None where nobody gave one. DataError for anything that is not clear,
    such as a number of stars.
    """
    if _is_unknown(value):
        return None
    word = str(value).strip().lower().replace("thumb_", "thumbs_").replace("thumbs ", "thumbs_")
    if word in (*UP, *DOWN):
        return word in UP
    raise DataError(
        f"{where}: must say whether the response was liked, true or false (or 1 and 0, up and down,"
        f" good and bad), not {value!r:.60}; of ratings write true for those that count as liked,"
        " or compare responses to one prompt by them ('responses' and 'ratings')"
    )


def strength(value: Any, where: str) -> float | None:
    """How much better the chosen response is; None where a table says that it is not known."""
    if _is_unknown(value):
        return None
    found = number(value, where)
    if found < 0:
        raise DataError(f"{where}: {value} says that the rejected response is better; swap the two")
    return found


def _is_unknown(value: Any) -> bool:
    """Whether a table says nothing here."""
    if isinstance(value, str):
        return value.strip().lower() in UNKNOWN
    return value is None or (isinstance(value, float) and math.isnan(value))
