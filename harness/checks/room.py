"""What a training may hold in memory, chosen before it begins where options leave it open: how many
tokens go through the models at a time, and whether activations are computed again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from harness.checks.memory import (
    free_bytes,
    saved_bytes,
    sizes_of,
    states_per_weight,
    tensor_bytes,
    update_growth,
)
from lightning_modules.forward.checkpointing import can_checkpoint, set_checkpointing
from lightning_modules.manual import ManualModule
from lightning_modules.options.policies import AUTO
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.micro_batches import FEW_TOKENS
from lightning_modules.supervised import SupervisedModule

# Of what is free, an estimate may take as much: measured peaks were up to 1.34 times the estimate.
SHARE = 0.7
# More at a time than this keeps a GPU no busier.
MOST_TOKENS = 16384


def make_room(
    module: PolicyModule,
    trainer: pl.Trainer,
    prompts: Sequence[Sequence[int]],
    checkpointing: bool | str,
) -> None:
    """Choose for a policy, whose models go to their device; `prompts` are the ids of all.

    `algo.micro_batch_tokens=auto` is as many tokens as fit, from one response to MOST_TOKENS on a
    GPU and FEW_TOKENS on a CPU. `hardware.checkpointing=auto` is on where FEW_TOKENS, or as many as
    the option says, would not fit without.
    """
    set_checkpointing(module.model, checkpointing is True)
    limits, open_tokens = module.micro_batches, module.options.micro_batch_tokens == AUTO
    if not open_tokens and checkpointing != AUTO:
        return
    device = trainer.strategy.root_device
    module.to(device)
    module.collector.to(device)
    free = free_bytes(device, trainer.num_devices)
    if free is None:
        return
    sizes, room = sizes_of(module, prompts, trainer.world_size), _room(module, free)

    def fits() -> int:
        fixed, each = update_growth(module, sizes)
        return int((room - fixed) // each)

    with _as_in_training(trainer):
        rows = _checkpointed_if_needed(module.model, checkpointing, fits, sizes.micro_batch)
    if open_tokens:
        most = MOST_TOKENS if device.type == "cuda" else FEW_TOKENS
        limits.tokens = max(sizes.tokens, min(most, rows * sizes.tokens))


def make_room_for_supervised(
    module: SupervisedModule,
    trainer: pl.Trainer,
    largest: dict[str, Tensor],
    checkpointing: bool | str,
) -> None:
    """Choose whether SFT or a reward model computes activations again; `largest` is the micro-batch
    that takes the most memory.
    """
    set_checkpointing(module.model, checkpointing is True)
    device = trainer.strategy.root_device
    free = free_bytes(device, trainer.num_devices)
    if checkpointing != AUTO or free is None:
        return
    module.to(device)
    part, room = {name: x.to(device) for name, x in largest.items()}, _room(module, free)

    def fits() -> int:
        return int(saved_bytes(module.model, lambda: module.losses(part)) <= room)

    with _as_in_training(trainer):
        _checkpointed_if_needed(module.model, checkpointing, fits, 1)


def _room(module: ManualModule, free: int) -> float:
    """Bytes for activations: what is free less gradients and the optimiser's states."""
    trained = tensor_bytes(module.trained_parameters())
    return SHARE * free - trained * (1 + states_per_weight(module.options.optimizer))


@contextmanager
def _as_in_training(trainer: pl.Trainer) -> Iterator[None]:
    """With the run's precision, and none of its noise drawn."""
    with isolate_rng(), trainer.precision_plugin.train_step_context():
        yield


def _checkpointed_if_needed(
    model: nn.Module, option: Any, fits: Callable[[], int], wanted: int
) -> int:
    """How many sequences fit, after checkpointing was put on where `option` is AUTO and fewer than
    `wanted` do without. What cannot even be tried does not fit.
    """

    def tried() -> int:
        try:
            return fits()
        except torch.OutOfMemoryError:
            return 0

    rows = tried()
    if option == AUTO and rows < wanted and can_checkpoint(model):
        set_checkpointing(model, True)
        rows = tried()
    return rows
