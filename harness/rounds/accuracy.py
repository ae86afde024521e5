"""How often a reward model is right about the answers of the policy that was trained on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from harness.pipeline.pipeline import Pipeline
from harness.rounds.pairs import Pair
from lightning_modules.metrics.evaluation import outcomes
from lightning_modules.metrics.intervals import wilson_interval
from lightning_modules.rewards.learned import CheckpointReward


class Accuracy(NamedTuple):
    """The share of `count` pairs that are in order, a tie being half, with its 95% interval."""

    share: float
    low: float
    high: float
    count: int


def accuracy(pipeline: Pipeline, model: Path, pairs: Sequence[Pair]) -> Accuracy | None:
    """That of the reward model in a folder on those of the pairs of which the data know the better
    answer; None where there is none.
    """
    gold = pipeline.source.gold
    golds = [tuple(gold(pair.prompt, text) for text in pair.texts) for pair in pairs]
    known = [place for place, (first, second) in enumerate(golds) if first != second]
    if not known:
        return None
    reward = CheckpointReward(path=str(model))
    reward.bind(pipeline.reward_context())
    reward.to(pipeline.device)
    told = [pairs[place] for place in known]
    prompts = [pair.prompt for pair in told]
    first, second = (
        reward.score_texts(prompts, [p.texts[k] for p in told], [p.stopped[k] for p in told])
        for k in (0, 1)
    )
    return in_order(first, second, torch.tensor([golds[place] for place in known]))


def in_order(first: Tensor, second: Tensor, golds: Tensor) -> Accuracy:
    """How often the scores (N,) of two answers are in the order of their `golds` (N, 2), none of
    which are equal.
    """
    won = outcomes(first, second)
    right = torch.where(golds[:, 0] > golds[:, 1], won, 1 - won)
    right = right[~right.isnan()]
    share = float(right.mean())
    return Accuracy(share, *wilson_interval(share, len(right)), len(right))
