"""Which sampler a run has, decided before its first iteration on prompts of its own."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.console import Console
from torch import Tensor, nn
from transformers import StaticCache
from transformers.cache_utils import StaticLayer, StaticSlidingWindowLayer

from harness.checks.selfcheck import few_prompts, tolerance_of
from lightning_modules.forward.passes import plain
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.collection import Collector
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.seeding import Stream, prompt_noise, uniforms
from lightning_modules.rollouts.static_cache import EXACT, FIXED

SAMPLES, TOKENS = 2, 8  # of the comparison
NO_STOP = -1  # an id of no token


class ChooseSampler(Callback):
    """Lets a run sample in buckets, if `option` (hardware.sampler) says so and its model can.

    What is decided depends on device and model alone, so a resumed run decides the same.
    """

    def __init__(self, option: str, console: Console):
        self.option = option
        self.console = console

    def on_train_start(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        ways = candidates(self.option, pl_module.device)
        if not ways:
            return
        batch, tolerance = few_prompts(trainer, pl_module), tolerance_of(trainer, pl_module)
        rows = trainer.datamodule.rows.values()
        longest = max(len(row.ids) for split in rows for row in split)
        with trainer.precision_plugin.train_step_context():
            reasons = [
                why_not(pl_module.model.lm, pl_module.collector, way, batch, longest, tolerance)
                for way in ways
            ]
        # All ranks sample in the same way.
        refused = torch.tensor([float(why is not None) for why in reasons])
        lines = choose(pl_module.collector, ways, reasons, pl_module.sum_over_ranks(refused))
        if trainer.is_global_zero:
            for line in lines:
                self.console.print(f"  {line}")


def candidates(option: str, device: torch.device) -> list[Sampler]:
    """Samplers in buckets for a device, the fastest first; none where the plain loop is meant.

    On a CPU, which has no graphs, the plain loop is about as fast (docs/performance.md).
    """
    if option == "plain" or (option == "auto" and device.type != "cuda"):
        return []
    return (
        [Sampler(FIXED, graphs=True), Sampler(FIXED)] if device.type == "cuda" else [Sampler(EXACT)]
    )


def choose(
    collector: Collector,
    ways: list[Sampler],
    reasons: list[str | None],
    refused: Tensor | None = None,
) -> list[str]:
    """Give `collector` the first of `ways` that there is no reason against, and that no rank has
    `refused`, or the plain loop; returns what to say where it is not the very first.
    """
    count = [why is not None for why in reasons] if refused is None else refused.tolist()
    chosen = next((i for i, no in enumerate(count) if not no), len(ways))
    collector.sampler = [*ways, Sampler()][chosen]
    if not chosen:
        return []
    instead = "in buckets, without graphs" if chosen < len(ways) else "by the plain loop"
    return [f"sampling {instead}: {reasons[chosen - 1] or 'another rank could not'}"]


def why_not(
    lm: nn.Module,
    collector: Collector,
    sampler: Sampler,
    batch: dict[str, Any],
    longest: int,
    tolerance: float,
) -> str | None:
    """Why `sampler` does not suit a model for prompts of up to `longest` tokens, in words; None if
    it does.

    A few responses are sampled, and their tokens' log-probabilities held against those of a forward
    pass, as rollout/sampler_gap_mean does at every iteration.
    """
    limit, device = collector.vocabulary.max_response_tokens, batch["prompt_ids"].device
    columns, kind = longest + limit, type(plain(lm)).__name__
    if not keeps_all(lm, columns):
        return (
            f"the cache of {kind} does not keep the keys and values of {columns} tokens (a sliding"
            " window, or states of another kind)"
        )
    if limit == 1:  # which no cache is read for
        return None
    noise = prompt_noise(0, Stream.SELFCHECK, range(len(batch["prompt_ids"])))
    drawn = uniforms(noise, len(noise), SAMPLES, min(TOKENS, limit)).to(device)
    try:
        gap = _gap(lm, sampler.for_columns(columns), batch, drawn, collector.temperature)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # every architecture has its own
        said = " ".join(str(error).split())
        return f"{kind} cannot do it ({type(error).__name__}: {said:.120})"
    if not gap <= tolerance:
        return f"log-probabilities of {kind} are off by {gap:.2g}, where {tolerance:g} is rounding"
    return None


def keeps_all(lm: nn.Module, tokens: int) -> bool:
    """Whether the model's own kind of cache is one of keys and values that forgets none of so many
    tokens: no sliding window is shorter, no layer has a state of another kind.
    """
    try:
        layers = StaticCache(config=plain(lm).config, max_cache_len=tokens).layers
    except Exception:  # every architecture has its own
        return False
    kinds = (StaticLayer, StaticSlidingWindowLayer)
    return all(type(layer) in kinds and layer.max_cache_len == tokens for layer in layers)


@torch.no_grad()
def _gap(
    lm: nn.Module, sampler: Sampler, batch: dict[str, Any], drawn: Tensor, temperature: float
) -> float:
    """The mean over tokens but the first ones, which no cache is read for."""
    given = (batch["prompt_ids"], batch["prompt_mask"], drawn)
    found = sampler(lm, *given, temperature=temperature, stop_id=NO_STOP, pad_id=0)
    prompt_mask = batch["prompt_mask"].repeat_interleave(SAMPLES, 0)
    said, _ = response_outputs(lm, found.sequences, prompt_mask, found.response_mask, temperature)
    return float((found.logprobs - said.logprobs)[:, 1:].abs().mean())
