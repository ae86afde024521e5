"""Who says which answer of a pair is better."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.records import Preference
from datamodules.sources.source import Source
from harness.disk.files import write_text, writing
from harness.feedback.answers import prompt_written
from harness.rounds.pairs import Pair
from lightning_modules.rollouts.seeding import Stream


def by_gold(source: Source, pairs: Sequence[Pair], seed: int, number: int) -> list[Preference]:
    """What the annotators of a world say who make its data, with their noise; another one in every
    round (`number`) and for every seed.
    """
    rng = np.random.default_rng([seed, Stream.LABELS, number])
    return [source.annotate(pair.prompt, *pair.texts, rng) for pair in pairs]


def write_labels(path: Path, labels: Sequence[Preference], annotator: str) -> None:
    """A file that `data=files` and `data.more` read."""
    rows = (
        {
            "prompt": prompt_written(label.prompt),
            "chosen": label.chosen,
            "rejected": label.rejected,
            "annotator": annotator,
        }
        for label in labels
    )
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
