"""Scores from reward models: the run's own, or any checkpoint."""

from itertools import chain

import torch
from torch import Tensor

from lightning_modules.actor_critic import ScalarModel
from lightning_modules.backbone import check_scorer, frozen, load_scorer
from lightning_modules.options import require
from lightning_modules.rewards.reward import Answers, Reward, RewardContext


class LearnedReward(Reward):
    """The reward model that this run (or an earlier one) trained on the same preferences.

    It has the policy's tokenizer, so it scores the very ids that were sampled.
    """

    def __init__(self, *, name: str = "learned"):
        self.name = name

    def bind(self, context: RewardContext) -> None:
        self.path = context.reward_model()
        self.model = frozen(ScalarModel(load_scorer(self.path, dtype=context.dtype)))

    def to(self, device: torch.device) -> None:
        self.model.to(device)

    @torch.no_grad()
    def score(self, answers: Answers) -> Tensor:
        mask = torch.cat([answers.prompt_mask, answers.response_mask], dim=1)
        return self.model.score(answers.sequences, mask)


class CheckpointReward(Reward):
    """Any reward model with a scalar head, from a folder or the hub, with its own tokenizer.

    Text goes in: prompts by its chat template, then the decoded answer.
    """

    def __init__(self, *, name: str = "checkpoint", path: str | None):
        require(bool(path), "reward.path", path, "give the folder or hub id of a reward model")
        self.name = name
        self.path = path

    def check(self, context: RewardContext) -> None:
        check_scorer(self.path)

    def bind(self, context: RewardContext) -> None:
        self.encoder = context.encoder(self.path)
        self.model = frozen(ScalarModel(load_scorer(self.path, dtype=context.dtype)))

    def to(self, device: torch.device) -> None:
        self.device = device
        self.model.to(device)

    @torch.no_grad()
    def score(self, answers: Answers) -> Tensor:
        prompts = self.encoder.prompts(answers.prompts)
        responses = self.encoder.responses(answers.texts)
        rows = [list(chain(p, r)) for p, r in zip(prompts, responses, strict=True)]
        ids, mask = self.encoder.pad(rows, "right")
        return self.model.score(ids.to(self.device), mask.to(self.device))
