"""Which pairs of responses a judge is asked about, and what of its verdicts is kept."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from datamodules.prompts import spread
from datamodules.sources.source import Source, Split
from harness.feedback.answers import Answer, AnsweredPrompt, prompt_written
from harness.feedback.pairs import LabelledPair
from harness.judging.both_orders import Judged, Pair


@dataclass(frozen=True)
class Asked:
    """The pairs that a judge is asked about. `labelled`: the first response of each is the one that
    the data say is better. `left_out` counts what is not asked, by the reason.
    """

    pairs: list[Pair]
    labelled: bool
    left_out: Mapping[str, int] = field(default_factory=dict)


def pairs_of_data(source: Source, splits: Sequence[Split], most: int | None) -> Asked:
    """The pairs of a data set, at most so many, spread over all of them."""
    records = [record for split in splits for record in source.preferences(split)]
    chosen = records if most is None else spread(records, most)
    return Asked([Pair(r.prompt, r.chosen, r.rejected) for r in chosen], labelled=True)


def pairs_of_answers(
    rows: Sequence[AnsweredPrompt], per_prompt: int | None, most: int | None, seed: int
) -> Asked:
    """Every two answers to a prompt that differ, or of each prompt `per_prompt` of these, drawn by
    `seed` and the prompt alone.
    """
    pairs, same = [], 0
    for row in rows:
        two = list(combinations(row.answers, 2))
        differing = [(a, b) for a, b in two if a.text.strip() != b.text.strip()]
        same += len(two) - len(differing)
        if per_prompt is not None and len(differing) > per_prompt:
            differing = random.Random(f"{seed}/{row.id}").sample(differing, per_prompt)
        pairs += [_pair(row, a, b) for a, b in differing]
    chosen = pairs if most is None else spread(pairs, most)
    left_out = {"pairs of answers that say the same": same} if same else {}
    return Asked(chosen, labelled=False, left_out=left_out)


def _pair(row: AnsweredPrompt, first: Answer, second: Answer) -> Pair:
    return Pair(row.prompt, first.text, second.text, (first.policy, second.policy))


def labels(judged: Sequence[Judged], annotator: str) -> Iterator[LabelledPair]:
    """The pairs that have a winner; by how much is the mean of what both orders say."""
    for each in judged:
        texts = each.pair.first, each.pair.second
        if each.winner in ("first", "second"):
            chosen, rejected = texts if each.winner == "first" else texts[::-1]
            strength = abs(each.read_first + each.read_second - 1)
            yield LabelledPair(each.pair.prompt, chosen, rejected, strength, annotator)


def verdict_lines(judged: Sequence[Judged]) -> Iterator[str]:
    """Every pair with what was said of it in either order."""
    for each in judged:
        pair: dict[str, Any] = {
            "prompt": prompt_written(each.pair.prompt),
            "first": each.pair.first,
            "second": each.pair.second,
        }
        if each.pair.origins:
            pair["policies"] = each.pair.origins
        yield json.dumps(pair | each.row(), ensure_ascii=False) + "\n"
