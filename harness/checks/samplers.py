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
        device = pl_module.device
        # On a CPU, which has no graphs, the plain loop is as fast (docs/performance.md).
        if self.option == "plain" or (self.option == "auto" and device.type != "cuda"):
            return
        ways = candidates(device)
        batch, tolerance = few_prompts(trainer, pl_module), tolerance_of(trainer, pl_module)
        with trainer.precision_plugin.train_step_context():
            reasons = [why_not(pl_module, way, batch, tolerance) for way in ways]
        # All ranks sample in the same way.
        refused = pl_module.sum_over_ranks(
            torch.tensor([float(why is not None) for why in reasons])
        )
        chosen = next((i for i, no in enumerate(refused.tolist()) if not no), len(ways))
        pl_module.collector.sampler = [*ways, Sampler()][chosen]
        if trainer.is_global_zero and chosen:
            instead = "in buckets, without graphs" if chosen < len(ways) else "by the plain loop"
            kind, why = type(plain(pl_module.model.lm)).__name__, reasons[chosen - 1]
            self.console.print(
                f"  sampling {instead}: of {kind}, {why or 'another rank could not'}"
            )


def candidates(device: torch.device) -> list[Sampler]:
    """Samplers in buckets that suit a device, the fastest first."""
    if device.type == "cuda":
        return [Sampler(FIXED, graphs=True), Sampler(FIXED)]
    return [Sampler(EXACT)]


def why_not(
    module: PolicyModule, sampler: Sampler, batch: dict[str, Any], tolerance: float
) -> str | None:
    """Why `sampler` does not suit the policy, in words; None if it does.

    A few responses are sampled, and their tokens' log-probabilities held against those of a forward
    pass, as rollout/sampler_gap_mean does at every iteration.
    """
    lm, limit = module.model.lm, module.collector.vocabulary.max_response_tokens
    longest = batch["prompt_ids"].shape[1] + limit
    if not keeps_all(lm, longest):
        return f"the cache does not keep the keys and values of all {longest} tokens of a sequence"
    if limit == 1:  # which no cache is read for
        return None
    noise = prompt_noise(module.options.seed, Stream.SELFCHECK, batch["places"])
    drawn = uniforms(noise, len(noise), SAMPLES, min(TOKENS, limit)).to(module.device)
    try:
        gap = _gap(lm, sampler.for_columns(longest), batch, drawn, module.options.temperature)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # every architecture has its own
        return f"{type(error).__name__}: {' '.join(str(error).split()):.120}"
    if not gap <= tolerance:
        return f"log-probabilities are off by {gap:.2g} a token, where {tolerance:g} is rounding"
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
