"""Which responses of a row are kept, and why a row is left out."""

from collections.abc import Sequence

TIE, EMPTY, IDENTICAL, MALFORMED = "tie", "empty", "identical", "malformed"


def cleaned(
    question: str, responses: Sequence[str], ratings: Sequence[float]
) -> tuple[list[str], list[float], str]:
    """The distinct responses that have words, with their ratings; and why the row is left out, or
    "".

    Of responses that are repeated, the first stays. A row is "empty" if its question or all
    responses but one have no words, "identical" if its responses do not differ, a "tie" if its
    ratings do not.
    """
    rated = [(a, r) for a, r in zip(responses, ratings, strict=True) if a.strip()]
    first: dict[str, float] = {}
    for response, rating in rated:
        first.setdefault(response, rating)
    reason = ""
    if not question.strip() or len(rated) < 2:
        reason = EMPTY
    elif len(first) < 2:
        reason = IDENTICAL
    elif len(set(first.values())) < 2:
        reason = TIE
    return list(first), list(first.values()), reason
