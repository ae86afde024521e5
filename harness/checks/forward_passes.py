"""The start-up check of what models compute: passes repeat, ratios begin at 1, the KL at 0."""

import sys
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from harness.checks.audit import CheckError
from harness.checks.memory import vocabulary_size
from lightning_modules.forward.log_probs import are_many, chunked_head, whole_up_to
from lightning_modules.forward.token_outputs import TokenOutputs, response_outputs
from lightning_modules.objectives.divergences import k1, k3
from lightning_modules.objectives.masked import masked
from lightning_modules.policy import PolicyModule
from lightning_modules.rollouts.rollout import Rollout


def update_passes(
    module: PolicyModule, rollout: Rollout, order: torch.Generator
) -> Iterator[tuple[Rollout, TokenOutputs]]:
    """Each micro-batch of an epoch of updates, with what the forward pass says of it."""
    options = module.options
    for minibatch in rollout.minibatches(min(options.minibatches, len(rollout)), order):
        for part in minibatch.micro_batches(*module.micro_batches.limits):
            yield part, said_in_update(module, part)


@torch.enable_grad()
def said_in_update(module: PolicyModule, part: Rollout) -> TokenOutputs:
    """Without its graph: an update holds one at a time, and nothing here may hold more."""
    masks = (part.prompt_mask, part.response_mask)
    for new in module.passes(part.sequences, *masks, part.prompt_of):
        # The last of the passes has all.
        said = TokenOutputs(*(x if x is None else x.detach() for x in new))
        del new
    return said


def check_repeats(module: PolicyModule, rollout: Rollout) -> None:
    """Two forward passes of the update agree to the bit: nothing in them is random."""
    passes = [
        [
            x
            for _, new in update_passes(module, rollout, torch.Generator().manual_seed(0))
            for x in (new.logprobs, new.values)
            if x is not None
        ]
        for _ in range(2)
    ]
    gaps = [float((a - b).abs().max()) for a, b in zip(*passes, strict=True)]
    if any(gap != 0 for gap in gaps):
        raise CheckError(
            f"two forward passes of the same responses differ by up to {max(gaps):.2g}",
            "some dropout is active although the models are in evaluation mode; set it to 0 in the"
            " model's config",
        )


def check_ratio(
    module: PolicyModule, rollout: Rollout, order: torch.Generator, tolerance: float
) -> float:
    """The first update sees ratio 1: returns the mean over tokens of abs(log ratio)."""
    total, count, worst = 0.0, 0, 0.0
    for part, new in update_passes(module, rollout, order):
        gaps = masked((new.logprobs - part.old_logprobs).abs(), part.response_mask)
        total += float(gaps.sum())
        count += int(part.response_mask.sum())
        worst = max(worst, float(gaps.max()))
    mean = total / max(count, 1)
    if not mean <= tolerance:
        raise CheckError(
            f"before any step the log-ratio of update and rollout is {mean:.2g} a token on average,"
            f" {worst:.2g} at most, where {tolerance:g} is rounding",
            "sampling and updates differ in temperature, mask, position ids or model, so that"
            " importance weights are wrong from the start; use one temperature and one model",
        )
    return mean


def check_chunks(module: PolicyModule, rollout: Rollout, tolerance: float) -> list[str]:
    """Log-probabilities from chunks of logits are those from whole ones, on one row; returns what
    is to be said of it, nothing where a micro-batch has few enough logits to hold them all.
    """
    lm, options = module.model.lm, module.options
    rows = rollout.scored.nonzero()[:1, 0]
    longest = module.collector.vocabulary.max_response_tokens
    tokens = longest * (module.micro_batches.sequences_of(longest) or len(rollout))
    if not len(rows) or not are_many(tokens, vocabulary_size(lm), module.device):
        return []
    if chunked_head(lm, tokens) is None:
        return ["all logits of a micro-batch are held: how this model makes them is not known"]
    row = rollout.select(rows)
    inputs = (row.sequences, row.prompt_mask, row.response_mask, options.temperature)
    with torch.no_grad():
        with whole_up_to(0):
            in_chunks = response_outputs(lm, *inputs)[0].logprobs
        with whole_up_to(sys.maxsize):
            whole = response_outputs(lm, *inputs)[0].logprobs
    gap = float((in_chunks - whole).abs().sum() / row.response_mask.sum())
    if not gap <= tolerance:
        raise CheckError(
            f"log-probabilities from chunks of logits differ from those of whole ones by {gap:.2g}"
            f" a token on average, where {tolerance:g} is rounding",
            "the model's output head is not what it is taken for; please report which model it is",
        )
    return [f"log-probabilities from chunks of logits are those of whole ones within {gap:.1g}"]


def mean_kl(rollout: Rollout, k: Callable[[Tensor, Tensor], Tensor]) -> float | None:
    """The KL to the reference in nats a token, by this estimate of it; None if it is not known."""
    if rollout.ref_logprobs is None:
        return None
    tokens = rollout.response_mask.sum().clamp(min=1)
    of_tokens = masked(k(rollout.old_logprobs, rollout.ref_logprobs), rollout.response_mask)
    return float(of_tokens.sum() / tokens)


def check_reference(rollout: Rollout, tolerance: float) -> float | None:
    """An untrained policy is its reference: returns the larger of abs(k1) and k3 per token."""
    means = [mean_kl(rollout, k) for k in (k1, k3)]
    if None in means:
        return None
    worst = max(abs(means[0]), means[1])
    if not worst <= tolerance:
        raise CheckError(
            f"before any step the KL to the reference is {means[0]:.2g} nats a token (k1),"
            f" {means[1]:.2g} (k3), where {tolerance:g} is rounding",
            "the reference is another model than the one that the policy starts from, so that the"
            " penalty pulls away from the start; load both from the same folder and revision",
        )
    return worst
