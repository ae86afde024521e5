"""Several rewards as one: their weighted sum."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_modules.options.rewards import CombinedRewardOptions
from lightning_modules.rewards.reward import Responses, Reward, RewardContext


class CombinedReward(Reward):
    """sum_i weights[i] * rewards[i], by name; a response that one of them cannot score has none."""

    def __init__(self, **options: Any):
        given = CombinedRewardOptions(**options)
        self.name = given.name
        self.rewards: Mapping[str, Reward] = given.rewards
        self.weights = given.weights
        self.costly = any(reward.costly for reward in self.rewards.values())

    def check(self, context: RewardContext) -> None:
        for reward in self.rewards.values():
            reward.check(context)

    def check_prompts(self, context: RewardContext, prompts: Sequence[Any]) -> None:
        for reward in self.rewards.values():
            reward.check_prompts(context, prompts)

    def bind(self, context: RewardContext) -> None:
        for reward in self.rewards.values():
            reward.bind(context)

    def to(self, device: torch.device) -> None:
        for reward in self.rewards.values():
            reward.to(device)

    def release(self) -> None:
        for reward in self.rewards.values():
            reward.release()

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return self.score_texts(prompts, texts)[:, None]

    def score_texts(
        self,
        prompts: Sequence[Any],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> Tensor:
        return self._sum(lambda reward: reward.score_texts(prompts, texts, stopped).cpu())

    def score(self, responses: Responses) -> Tensor:
        return self._sum(lambda reward: reward.score(responses))

    def counts(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for reward in self.rewards.values():
            found.update(reward.counts())
        return dict(found)

    def _sum(self, score: Callable[[Reward], Tensor]) -> Tensor:
        """The weighted sum of what each reward says."""
        return sum(self.weights[name] * score(reward) for name, reward in self.rewards.items())
