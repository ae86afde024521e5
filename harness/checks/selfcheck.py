"""The start-up check: what silently ruins a run is found before its first iteration.

On a few prompts of the run's own data, with its own models and precision, and with noise of its
own, so that a run with and without the check has the same metrics to the bit.
"""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.seed import isolate_rng
from rich.console import Console
from torch import Tensor

from datamodules.tokenization.encoder import Encoder
from harness.checks.audit import CheckError, Sample, check_sequences, shown
from harness.checks.forward_passes import (
    check_chunks,
    check_ratio,
    check_reference,
    check_repeats,
    mean_kl,
)
from harness.checks.memory import estimate, reward_models, size, sizes_of
from harness.checks.modes_and_heads import check_evaluation_mode, check_reward_heads
from harness.checks.plain_pass import (
    check_causality,
    check_drawn_again,
    check_full_length,
    require_finite,
    sample_alone,
)
from harness.durations import duration
from harness.errors import USER_ERRORS
from lightning_modules.forward.free_memory import free_bytes
from lightning_modules.objectives.divergences import k3
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.rollout import Rollout
from lightning_modules.rollouts.seeding import Stream, generator, prompt_noise, uniforms

PROMPTS = 4
# Of mean log-probabilities. Float32 keeps 24 bits: logits of size 32 are off by 2e-6, which layers
# and sums make some 1e-4 of. Bfloat16 keeps 8: the same logits are off by up to 1/16.
FLOAT32_TOLERANCE = 1e-3
BFLOAT16_TOLERANCE = 0.1


class SelfCheck(Callback):
    """All ranks check; one prints. `resumed`: the policy has been trained already."""

    def __init__(self, encoder: Encoder, console: Console, resumed: bool = False):
        self.encoder = encoder
        self.console = console
        self.resumed = resumed

    def on_train_start(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        error, lines = None, []
        if trainer.is_global_zero:
            self.console.print("  selfcheck: of models, sampling, reward and memory")
        with isolate_rng(), trainer.precision_plugin.train_step_context():
            try:
                lines = self._check(trainer, pl_module)
            except USER_ERRORS as failed:
                error = failed
        # Every rank stops, or none: the others would wait for it for ever.
        failures = pl_module.sum_over_ranks(torch.tensor(float(error is not None)))
        if error:
            raise error
        if failures:
            raise CheckError(f"{int(failures)} other ranks failed", "one of them says why")
        if trainer.is_global_zero:
            for line in lines:
                self.console.print(f"  {line}")

    def _check(self, trainer: pl.Trainer, module: PolicyModule) -> list[str]:
        started = time.perf_counter()
        tolerance = tolerance_of(trainer, module)
        check_evaluation_mode(module)
        check_reward_heads(module)
        batch = few_prompts(trainer, module)
        lm, coarse = module.model.lm, tolerance > FLOAT32_TOLERANCE
        sample_alone(lm, self.encoder, batch["prompts"][:2])
        sample = take_sample(module, batch)
        said = check_sequences(sample, self.encoder)
        require_finite(lm, sample.rollout.old_logprobs[sample.rollout.response_mask])
        said += check_chunks(module, sample.rollout, tolerance)
        check_repeats(module, sample.rollout)
        order = generator(module.options.seed, Stream.SELFCHECK)
        ratio = check_ratio(module, sample.rollout, order, tolerance)
        agreed = check_drawn_again(lm, sample, module.options.temperature, tolerance, coarse)
        check_causality(lm, sample, tolerance)
        longest = batch["prompts"][int(batch["prompt_mask"].sum(1).argmax())]
        check_full_length(lm, self.encoder, longest, tolerance, coarse)
        kl = None if self.resumed else self._kl(sample.rollout, module, tolerance)
        said += check_scores(module, sample)
        memory = check_memory(trainer, module, self.resumed)
        return [
            f"selfcheck: passed in {duration(time.perf_counter() - started)}",
            f"  dropout off; first ratio 1 within {ratio:.1g}" + ("" if kl is None else f"; {kl}"),
            f"  sampled tokens that one plain forward pass draws as well: {agreed:.1%}",
            *(f"  {line}" for line in said),
            f"  memory: {memory}",
            *(f"  {line}" for line in shown(sample, self.encoder)),
        ]

    def _kl(self, rollout: Rollout, module: PolicyModule, tolerance: float) -> str | None:
        """The KL to the reference of a policy that is not trained yet, in words."""
        if module.options.policy_from:
            kl = mean_kl(rollout, k3)
            return None if kl is None else f"KL to the reference at the start {kl:.3g} nats a token"
        kl = check_reference(rollout, tolerance)
        return None if kl is None else f"KL to the reference 0 within {kl:.1g} nats a token"


def tolerance_of(trainer: pl.Trainer, module: PolicyModule) -> float:
    """What log-probabilities that should be equal may differ by, on average."""
    with module.collector.reference.active() as reference:
        models = (module.model, reference)
        dtypes = {p.dtype for model in models for p in model.parameters()}
    coarse = (
        "16" in str(trainer.precision)
        or bool(dtypes & {torch.bfloat16, torch.float16})
        or torch.get_float32_matmul_precision() != "highest"
    )
    return BFLOAT16_TOLERANCE if coarse else FLOAT32_TOLERANCE


def few_prompts(trainer: pl.Trainer, module: PolicyModule) -> dict[str, Any]:
    """A batch of the training data's first prompts and its longest one, past its sampler."""
    loader = trainer.train_dataloader
    data = loader.dataset
    longest = max(range(len(data)), key=lambda i: len(data[i].ids))
    places = list(dict.fromkeys([*range(min(PROMPTS - 1, len(data))), longest]))
    if len(places) < min(PROMPTS, len(data)):
        places.append(len(places))
    batch = loader.collate_fn([data[i] for i in places])
    return module.transfer_batch_to_device(batch, module.device, 0)


class Unasked(Reward):
    """Stands for a reward whose scores are not asked for."""

    def score(self, responses: Responses) -> Tensor:
        return torch.zeros(len(responses.sequences), device=responses.sequences.device)


def take_sample(module: PolicyModule, batch: dict[str, Any]) -> Sample:
    """Two responses to each prompt, with the noise that made them."""
    place = (module.options.seed, Stream.SELFCHECK, batch["places"])
    reward = module.collector.reward
    try:
        if reward.costly:
            module.collector.reward = Unasked()
        rollout, responses, _ = module.collector.collect(
            batch, prompt_noise(*place), samples=2, with_reference=module.beta > 0
        )
    finally:
        module.collector.reward = reward
    tokens = module.collector.vocabulary.max_response_tokens
    drawn = uniforms(prompt_noise(*place), len(batch["prompts"]), 2, tokens).to(module.device)
    return Sample(rollout, responses, list(responses.prompts), drawn)


def check_scores(module: PolicyModule, sample: Sample) -> list[str]:
    """Scores are finite or NaN, and tell responses apart; returns what is to be said of them."""
    if module.collector.reward.costly:
        return ["scores: none asked for, as they take people's time"]
    scores = sample.rollout.scores
    known = scores[~scores.isnan()]
    if known.isinf().any():
        raise CheckError(
            f"{int(known.isinf().sum())} of {len(scores)} scores are infinite",
            "means and advantages would be too; return a finite number, or None for what cannot be"
            " scored",
        )
    if not len(known):
        return [f"warning: the reward could score none of {len(scores)} responses"]
    low, high = float(known.min()), float(known.max())
    lines = [f"scores of {len(known)} responses: {low:.3g} to {high:.3g}"]
    if len(known) < len(scores):
        lines += [f"warning: {1 - len(known) / len(scores):.0%} of the responses have no score"]
    if len(set(sample.responses.texts)) > 1 and len(known) > 1 and low == high:
        found = f"{len(known)} responses, not all the same, have the same score {low:.3g}"
        if reward_models(module.collector.reward):
            raise CheckError(found, "the reward model's head is empty or does not see the response")
        lines += [f"warning: {found}; a reward that never differs teaches nothing"]
    return lines


def check_memory(trainer: pl.Trainer, module: PolicyModule, resumed: bool) -> str:
    """The estimate fits into what is free; returns both in words."""
    prompts = [row.ids for row in trainer.train_dataloader.dataset]
    found = estimate(module, sizes_of(module, prompts, trainer.world_size))
    # Weights are there, and so is what a checkpoint brought.
    needed = found.to_come - (found.optimizer if resumed else 0)
    free = free_bytes(module.device, trainer.num_devices)
    if free is not None and needed > free:
        raise CheckError(
            f"this run needs about {size(needed)} a device beside its weights, and"
            f" {size(free)} is free: {found.line()}",
            f"it would run out of memory; lower {found.remedy(module.limit)}",
        )
    return f"{found.line()}; free: {'unknown' if free is None else size(free)}"
