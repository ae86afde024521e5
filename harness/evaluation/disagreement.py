"""How far the heads of an ensemble of reward models disagree about what people shall label."""

from collections.abc import Sequence

import torch

from harness.feedback.items import Item
from harness.parts.score_scale import scoring_encoder
from lightning_modules.errors import OptionError
from lightning_modules.models.loading import FLOAT32
from lightning_modules.objectives.preference import disagreement
from lightning_modules.rewards.learned import CheckpointReward
from lightning_modules.rewards.reward import RewardContext


def disagreements(path: str, items: Sequence[Item]) -> list[float]:
    """Of each item, how far the heads of the reward model at `path` disagree about which response
    is better or, of single ones, about how good it is. OptionError if it has one head.
    """
    reward = CheckpointReward(path=path, normalise=False)
    context = RewardContext(
        reward_model=lambda: reward.options.path, gold=None, encoder=scoring_encoder, frozen=FLOAT32
    )
    prompts = [item.prompt for item in items for _ in item.responses]
    reward.check(context)
    reward.check_prompts(context, prompts)
    reward.bind(context)
    if reward.scorer.model.heads_count < 2:
        raise OptionError(
            f"reward_model={path}: has one head, which cannot disagree; train an ensemble with"
            " algo=reward_model algo.ensemble=4"
        )
    reward.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    scores = reward.raw_scores(prompts, [text for item in items for text in item.responses])
    # What a head adds to all scores says nothing.
    parts = (scores - scores.mean(0)).split([len(item.responses) for item in items])
    return [disagreement(part).item() if len(part) > 1 else part.std().item() for part in parts]
