"""What a checkpoint of a run holds: the policy's trained weights, and how far it got."""

from pathlib import Path

import torch
from torch import nn

from harness.errors import RunError


def load_trained(lm: nn.Module, checkpoint: Path) -> None:
    """Put the policy's trained weights of a checkpoint into `lm`; RunError if it lacks some."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")["state_dict"]
    prefix = "model.lm."
    weights = {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix)}
    missing = {n for n, p in lm.named_parameters() if p.requires_grad} - set(weights)
    if missing:
        raise RunError(f"{checkpoint}: lacks weights of the policy: {', '.join(sorted(missing))}")
    lm.load_state_dict(weights, strict=False)


def steps_done(checkpoint: Path | None) -> int:
    """How many training steps (iterations of a policy) a checkpoint has behind it."""
    if checkpoint is None:
        return 0
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return state["loops"]["fit_loop"]["epoch_loop.state_dict"]["_batches_that_stepped"]
