"""Preference pairs, for a reward model."""

import math
from collections import Counter
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.records import DataError, Preference
from datamodules.sources.source import Source, Split
from datamodules.supervised import SupervisedDataModule
from datamodules.tokenization import Encoder


class EncodedPreference(NamedTuple):
    """Two full conversations as ids; `longer` is 1, 0.5 or 0 as the chosen text is longer."""

    chosen: list[int]
    rejected: list[int]
    longer: float
    probability: float


class PreferenceDataModule(SupervisedDataModule):
    """Batches of pairs as one stack: `input_ids`, `attention_mask` (2B, S), chosen rows first.

    `longer` and `probability` are (B,): whether the chosen text is the longer one (the null model;
    a tie is a half), and the true probability of the preference, NaN where nobody knows it. Pairs
    that truncation has made identical carry no preference any more: they are left out and counted.
    """

    def __init__(self, source: Source, encoder: Encoder, batch_size: int, seed: int):
        self.counts: Counter[str] = Counter()
        super().__init__(source, encoder, batch_size, seed)

    def encode(self, source: Source, split: Split) -> list[EncodedPreference]:
        pairs = source.preferences(split)
        prompts = self.encoder.prompts([pair.prompt for pair in pairs])
        chosen = self.encoder.responses([pair.chosen for pair in pairs])
        rejected = self.encoder.responses([pair.rejected for pair in pairs])
        rows = [
            EncodedPreference(p + c, p + r, _longer(pair), _probability(pair))
            for pair, p, c, r in zip(pairs, prompts, chosen, rejected, strict=True)
            if c != r
        ]
        self.counts[f"{split} pairs identical after truncation"] = len(pairs) - len(rows)
        if not rows:
            raise DataError(
                f"data.max_response_tokens={self.encoder.max_response_tokens}: truncation leaves no"
                f" {split} pair whose answers differ; raise it"
            )
        return rows

    def length(self, row: EncodedPreference) -> int:
        return max(len(row.chosen), len(row.rejected))

    def collate(self, rows: list[EncodedPreference]) -> dict[str, Tensor]:
        sequences = [r.chosen for r in rows] + [r.rejected for r in rows]
        ids, mask = self.encoder.pad(sequences, "right")
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "longer": torch.tensor([r.longer for r in rows]),
            "probability": torch.tensor([r.probability for r in rows]),
        }


def _longer(pair: Preference) -> float:
    difference = len(pair.chosen) - len(pair.rejected)
    return 0.5 + 0.5 * ((difference > 0) - (difference < 0))


def _probability(pair: Preference) -> float:
    return math.nan if pair.probability is None else pair.probability
