"""What is left of a row when answers that say nothing are taken out, and why it may be nothing."""

from collections.abc import Sequence

TIE, EMPTY, IDENTICAL, MALFORMED = "tie", "empty", "identical", "malformed"


def cleaned(
    question: str, answers: Sequence[str], ratings: Sequence[float]
) -> tuple[list[str], list[float], str]:
    """The distinct answers that have words, with their ratings; and why the row is left out, or "".

    Of answers that are repeated, the first stays. A row is "empty" if its question or all answers
    but one have no words, "identical" if its answers do not differ, a "tie" if its ratings do not.
    """
    rated = [(a, r) for a, r in zip(answers, ratings, strict=True) if a.strip()]
    first: dict[str, float] = {}
    for answer, rating in rated:
        first.setdefault(answer, rating)
    reason = ""
    if not question.strip() or len(rated) < 2:
        reason = EMPTY
    elif len(first) < 2:
        reason = IDENTICAL
    elif len(set(first.values())) < 2:
        reason = TIE
    return list(first), list(first.values()), reason
