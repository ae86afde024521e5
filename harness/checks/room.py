"""What a training may hold in memory, chosen before it begins where options leave it open: how many
tokens go through the models at a time, and whether activations are computed again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from datamodules.micro_batches import SupervisedDataModule
from harness.checks.memory import (
    sizes_of,
    states_per_weight,
    tensor_bytes,
    update_growth,
)
from lightning_modules.forward.checkpointing import (
    can_checkpoint,
    is_checkpointed,
    set_checkpointing,
)
from lightning_modules.forward.free_memory import free_bytes
from lightning_modules.forward.saved import saved_growth
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
    if module.options.samples_per_prompt > 1:
        module.collector.share_prompts()
    free = free_bytes(device, trainer.num_devices)
    if free is None:
        return
    sizes, room = sizes_of(module, prompts, trainer.world_size), _room(module, free)
    with _as_in_training(trainer):
        growth = update_growth(module, sizes)
    rows = [int((room - each.fixed) // each.each) for each in growth]
    on = _choose(module.model, checkpointing, rows[0] < sizes.micro_batch)
    if open_tokens:
        most = MOST_TOKENS if device.type == "cuda" else FEW_TOKENS
        limits.tokens = max(sizes.tokens, min(most, rows[on] * sizes.tokens))


def chosen(module: PolicyModule) -> dict[str, int | bool | None]:
    """What was chosen, or given, for a run's summary."""
    sequences, tokens = module.micro_batches.limits
    return {
        "micro_batch_size": sequences,
        "micro_batch_tokens": tokens,
        "checkpointing": is_checkpointed(module.model),
    }


def make_room_for_supervised(
    module: SupervisedModule,
    trainer: pl.Trainer,
    data: SupervisedDataModule,
    checkpointing: bool | str,
) -> int | None:
    """Choose whether SFT or a reward model computes activations again. Returns the bytes that the
    largest micro-batch then saves for its backward pass, if they were counted.
    """
    set_checkpointing(module.model, checkpointing is True)
    device = trainer.strategy.root_device
    free = free_bytes(device, trainer.num_devices)
    if checkpointing != AUTO or free is None:
        return None
    module.to(device)
    largest = data.largest()

    def forward(rows: int) -> Iterator[object]:
        part = data.collate(largest[-rows:])
        yield module.losses({name: x.to(device) for name, x in part.items()})

    with _as_in_training(trainer):
        growth = [each.of(len(largest)) for each in saved_growth(module.model, forward)]
    return growth[_choose(module.model, checkpointing, growth[0] > _room(module, free))]


def _room(module: ManualModule, free: int) -> float:
    """Bytes for activations: what is free less gradients and the optimiser's states."""
    trained = tensor_bytes(module.trained_parameters())
    return SHARE * free - trained * (1 + states_per_weight(module.options.optimizer))


@contextmanager
def _as_in_training(trainer: pl.Trainer) -> Iterator[None]:
    """With the run's precision, and none of its noise drawn."""
    with isolate_rng(), trainer.precision_plugin.train_step_context():
        yield


def _choose(model: nn.Module, checkpointing: bool | str, needed: bool) -> bool:
    """Whether `model` is checkpointed, now that AUTO knows whether that is needed."""
    on = checkpointing is True or (checkpointing == AUTO and needed and can_checkpoint(model))
    set_checkpointing(model, on)
    return on
