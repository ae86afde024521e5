"""Who says which answer of a pair is better, as rows of a file that `data.more` reads."""

from collections.abc import Sequence

import numpy as np

from datamodules.sources.source import Source
from harness.feedback.pairs import Row, pair_row
from harness.rounds.pairs import Pair
from lightning_modules.rollouts.seeding import Stream


def by_gold(source: Source, pairs: Sequence[Pair], seed: int, number: int) -> list[Row]:
    """What the annotators say who make a world's own data, with their noise; another one in every
    round (`number`) and for every seed.
    """
    rng = np.random.default_rng([seed, number, Stream.LABELS])
    said = (source.annotate(pair.prompt, *pair.texts, rng) for pair in pairs)
    return [pair_row(a.prompt, a.chosen, a.rejected, annotators=["gold"]) for a in said]
