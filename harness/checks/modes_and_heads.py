"""The start-up check of models as they are: evaluation mode, and the reward model's own head."""

import torch

from harness.checks.audit import CheckError
from harness.checks.memory import reward_models
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import head_in_files
from lightning_modules.policy import PolicyModule


def check_evaluation_mode(module: PolicyModule) -> None:
    """No part of policy, critic, reference or reward is in training mode."""
    with module.collector.reference.active() as reference:
        models = [("policy", module.model), ("reference", reference)]
        models += [("reward", model) for model in reward_models(module.collector.reward)]
        training = [
            f"{owner}.{name} ({type(part).__name__})"
            for owner, model in models
            for name, part in model.named_modules()
            if part.training
        ]
    if training:
        raise CheckError(
            f"{len(training)} modules are in training mode, the first is {training[0]}",
            "dropout would make ratios differ from 1 and scores random; call eval() on the model"
            " where it is made",
        )


def check_reward_heads(module: PolicyModule) -> None:
    """A reward model's head is the one in its files."""
    for model in reward_models(module.collector.reward):
        if not isinstance(model, ScalarModel):
            continue
        head = model.head.weight.detach().cpu()
        path = model.config.name_or_path
        kept = head_in_files(path)
        if kept is not None and not torch.equal(kept.to(head.dtype), head):
            gap = float((kept.float() - head.float()).abs().max())
            raise CheckError(
                f"the reward model's head differs from the one in {path} by up to {gap:.2g}",
                "it was made anew after loading, so its scores mean nothing; load it by"
                " reward=learned or reward=checkpoint and do not initialise it again",
            )
