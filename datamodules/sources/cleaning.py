"""Which responses of a row are kept, why a row is left out, and what else is counted of rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import isnan

from datamodules.records import Comparison, Prompt, Ranking, Thumb

TIE, EMPTY, IDENTICAL, MALFORMED = "tie", "empty", "identical", "malformed"
NO_THUMB = "without a thumb"
REFUSED = "refused by the chat template"
# Counts of what is kept.
CUT_REPEATS = "responses that repeated their prompt, cut"
KEPT_REPEATS = "responses that begin with their prompt, kept"
CUT_TURNS = "responses with further turns, cut"
CUT_MARKERS = "responses that began with a marker of the assistant, cut"
CUT_ENDS = "responses that ended with a token of a chat format, cut"
TRANSCRIPTS = "prompts that were transcripts, read as turns"
TOLD = "prompts with a dialogue that ends with the assistant, kept as one turn"
CONTRADICTORY = "contradictory pairs"
REPEATED = "repeated pairs"
ADDED = "rows of data.more"
OF_MORE = "of data.more: "  # before what is counted of its rows
CONTRADICTORY_THUMBS = "contradictory thumbs"
REPEATED_THUMBS = "repeated thumbs"
NO_LOSS = (
    *("rows", "kept", ADDED),
    *(CUT_REPEATS, KEPT_REPEATS, CUT_TURNS, CUT_MARKERS, CUT_ENDS),
    *(TRANSCRIPTS, TOLD, CONTRADICTORY, REPEATED, CONTRADICTORY_THUMBS, REPEATED_THUMBS),
)


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


def why_no_thumb(question: str, response: str, rating: float) -> str:
    """Why a thumb (1 up, 0 down, NaN none) on a response is left out, or ""."""
    if not question.strip() or not response.strip():
        return EMPTY
    return NO_THUMB if isnan(rating) else ""


def agreement(comparisons: Iterable[Comparison]) -> Counter[str]:
    """How many pairs of responses are judged both ways, and how many are there once more.

    Both stay: people disagree, and what is said twice counts twice.
    """
    seen: Counter[tuple[Prompt, str, str]] = Counter(
        (pair.prompt, pair.chosen, pair.rejected)
        for comparison in comparisons
        for pair in (comparison.preferences() if isinstance(comparison, Ranking) else [comparison])
    )
    both_ways = sum((p, worse, better) in seen for p, better, worse in seen) // 2
    counts = {CONTRADICTORY: both_ways, REPEATED: seen.total() - len(seen)}
    return Counter({what: count for what, count in counts.items() if count})


def agreement_of_thumbs(thumbs: Iterable[Thumb]) -> Counter[str]:
    """How many responses got thumbs up and down, and how many thumbs are there once more."""
    seen = Counter((thumb.prompt, thumb.response, thumb.liked) for thumb in thumbs)
    both = sum((prompt, response, not up) in seen for prompt, response, up in seen) // 2
    counts = {CONTRADICTORY_THUMBS: both, REPEATED_THUMBS: seen.total() - len(seen)}
    return Counter({what: count for what, count in counts.items() if count})
