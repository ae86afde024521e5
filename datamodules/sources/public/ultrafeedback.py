"""UltraFeedback (Cui et al. 2023, arXiv:2310.01377): responses of 17 models, rated by GPT-4.

Two published forms, both at revision `main` unless data.revision says otherwise:

binarized  HuggingFaceH4/ultrafeedback_binarized, splits train_prefs and test_prefs: prompt,
           prompt_id, chosen and rejected (chat messages), messages, score_chosen, score_rejected.
           trl-lib/ultrafeedback_binarized, splits train and test, is the same without the prompt.
rated      openbmb/UltraFeedback, JSON lines, one split: source, instruction, models, completions
           (model, response, overall_score, fine-grained_score, annotations, critique, principle,
           custom_system_prompt), correct_answers, incorrect_answers.

Which form a local copy has is told by its columns.
"""

import functools
import math
from typing import Any

from datamodules.records import DataError
from datamodules.sources.messages import read_messages
from datamodules.sources.public.hub import HubSource
from datamodules.sources.public.normalising import Reader, Row, normalised
from datamodules.sources.public.repository import Published

FORMS = {
    "binarized": Published(
        "HuggingFaceH4/ultrafeedback_binarized",
        "main",
        ("data/train_prefs-*.parquet", "data/test_prefs-*.parquet"),
    ),
    "rated": Published("openbmb/UltraFeedback", "main", ("*.jsonl",)),
}
RATINGS = ("overall_score", "fine-grained_score")
OTHER_SPLITS = ("train_sft", "test_sft", "train_gen", "test_gen")


class UltraFeedback(HubSource):
    """Pairs with the difference of their scores, or rankings of up to four rated responses."""

    splits = {"train": ("train_prefs", "train"), "val": ("test_prefs", "test")}  # noqa: RUF012
    rated = True
    expected = (
        "chosen, rejected, score_chosen and score_rejected (binarized), or instruction and"
        " completions with response and overall_score (rated)"
    )

    def __init__(
        self,
        *,
        name: str = "ultrafeedback",
        form: str = "binarized",
        rating: str = "overall_score",
        **options: Any,
    ):
        for option, value, known in (("form", form, FORMS), ("rating", rating, RATINGS)):
            if value not in known:
                raise DataError(f"data.{option}={value}: must be one of {', '.join(known)}")
        self.rating = rating
        super().__init__(FORMS[form], name=name, **options)

    def reader(self, columns: set[str]) -> Reader | None:
        if columns >= {"chosen", "rejected", "score_chosen", "score_rejected"}:
            return read_binarized
        if columns >= {"instruction", "completions"}:
            return functools.partial(read_rated, rating=self.rating)
        return None

    def wants(self, parts: tuple[str, ...]) -> bool:
        return not parts[-1].startswith(OTHER_SPLITS)


def read_binarized(row: Row) -> dict[str, Any]:
    """Two conversations that are equal up to the last turn, and the score of each."""
    chosen, rejected = row["chosen"], row["rejected"]
    if chosen[:-1] != rejected[:-1] or {chosen[-1]["role"], rejected[-1]["role"]} != {"assistant"}:
        raise ValueError("the conversations differ before the last turn")
    prompt = chosen[:-1] or [{"role": "user", "content": row["prompt"]}]
    scores = [float(row["score_chosen"]), float(row["score_rejected"])]
    if not all(map(math.isfinite, scores)):
        raise ValueError("a response without a score")
    responses = [read_messages(a[-1:], "response")[0].content for a in (chosen, rejected)]
    return normalised(prompt, responses, scores)


def read_rated(row: Row, rating: str) -> dict[str, Any]:
    """The completions that have a rating; the system prompts they were made with are not used."""
    completions = [(c["response"], _number(c[rating])) for c in row["completions"]]
    rated = [(response, value) for response, value in completions if value is not None]
    prompt = [{"role": "user", "content": row["instruction"]}]
    return normalised(prompt, [a for a, _ in rated], [r for _, r in rated])


def _number(value: Any) -> float | None:
    """A rating, or None for what the set has in places of one: null, NaN, "N/A"."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
