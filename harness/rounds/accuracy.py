"""How often a reward model is right about the answers of the policy that was trained on it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

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
    golds = torch.tensor([[gold(pair.prompt, text) for text in pair.texts] for pair in pairs])
    told = [i for i, (first, second) in enumerate(golds.tolist()) if first != second]
    if not told:
        return None
    reward = CheckpointReward(path=str(model), normalise=True)
    reward.bind(pipeline.reward_context())
    reward.to(pipeline.device)
    known = [pairs[i] for i in told]
    prompts = [pair.prompt for pair in known]
    first, second = (
        reward.score_texts(prompts, [p.texts[k] for p in known], [p.stopped[k] for p in known])
        for k in (0, 1)
    )
    won = outcomes(first, second)
    right = torch.where(golds[told, 0] > golds[told, 1], won, 1 - won)
    share = float(right.mean())
    return Accuracy(share, *wilson_interval(share, len(told)), len(told))
